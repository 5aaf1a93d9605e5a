//! What an archive says that it did with an instance that it was sent over HTTP: the Store Instances Response (PS3.18 section
//! 10.5.3), with the status codes of C-STORE.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

/// What became of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Stored, with Warning Reason (0008,1196) where there is one.
    Yes(Option<u16>),
    /// Not stored, with Failure Reason (0008,1197) where there is one.
    No(Option<u16>),
    /// Nothing is said of it.
    Unsaid,
}

/// What `answer` says of `instance`, a SOP Instance UID. A failure counts where both are said.
pub(crate) fn kept(answer: &InMemDicomObject, instance: &str) -> Kept {
    let find = |sequence: Tag| {
        let items = answer.element(sequence).ok().and_then(|element| element.items()).unwrap_or_default();
        items.iter().find(|item| {
            let uid = item.element(tags::REFERENCED_SOP_INSTANCE_UID).ok().and_then(|uid| uid.to_str().ok());
            uid.is_some_and(|uid| uid.trim_end_matches(['\0', ' ']) == instance)
        })
    };
    let number = |item: &InMemDicomObject, tag: Tag| item.element(tag).ok().and_then(|e| e.to_int::<u16>().ok());
    if let Some(item) = find(tags::FAILED_SOP_SEQUENCE) {
        return Kept::No(number(item, tags::FAILURE_REASON));
    }
    find(tags::REFERENCED_SOP_SEQUENCE).map_or(Kept::Unsaid, |item| Kept::Yes(number(item, tags::WARNING_REASON)))
}

#[cfg(test)]
mod tests {
    use dicom_core::value::DataSetSequence;
    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_object::mem::InMemElement;

    use super::*;

    fn item(instance: &str, reason: Option<(Tag, u16)>) -> InMemDicomObject {
        let uid = DataElement::new(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance);
        let mut item = InMemDicomObject::from_element_iter([uid]);
        if let Some((tag, reason)) = reason {
            item.put(DataElement::new(tag, VR::US, PrimitiveValue::from(reason)));
        }
        item
    }

    #[test]
    fn an_answer_says_of_each_instance_what_became_of_it() {
        let stored = vec![item("1.1", None), item("1.2", Some((tags::WARNING_REASON, 0xB000))), item("1.3", None)];
        let failed = vec![item("1.3", Some((tags::FAILURE_REASON, 0xA700))), item("1.5", None)];
        let answer = InMemDicomObject::from_element_iter([
            InMemElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, DataSetSequence::from(stored)),
            InMemElement::new(tags::FAILED_SOP_SEQUENCE, VR::SQ, DataSetSequence::from(failed)),
        ]);
        let says = ["1.1", "1.2", "1.3", "1.5", "1.6"].map(|instance| kept(&answer, instance));
        let expected = [Kept::Yes(None), Kept::Yes(Some(0xB000)), Kept::No(Some(0xA700)), Kept::No(None), Kept::Unsaid];
        assert_eq!(says, expected);
    }
}
