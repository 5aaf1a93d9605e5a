//! The data set of an N-ACTION, read flat: what is nested deeper than its two levels is skipped or refused, never followed.

use dicom_dictionary_std::tags;

use crate::dimse::elements::{Flaw, ITEM, ITEM_END, Reader, SEQUENCE_END, UNDEFINED};
use crate::ingest::Uid;

/// What is to be committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct References {
    /// Transaction UID (0008,1195).
    pub(super) transaction: Uid,
    /// Class and instance of each item of Referenced SOP Sequence (0008,1199).
    pub(super) instances: Vec<(String, String)>,
}

/// The peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsound {
    #[error(transparent)]
    Flaw(#[from] Flaw),
    #[error("Transaction UID (0008,1195) is missing or no UID")]
    Transaction,
    #[error("Referenced SOP Sequence (0008,1199) is missing or empty")]
    Empty,
    #[error("a referenced SOP Class or Instance UID is none")]
    Reference,
}

impl References {
    /// Reads implicit or explicit VR little endian.
    pub(super) fn parse(bytes: &[u8], explicit: bool) -> Result<Self, Unsound> {
        let mut reader = Reader::new(bytes, explicit);
        let mut transaction = None;
        let mut instances = Vec::new();
        while let Some((tag, length)) = reader.header()? {
            match tag {
                tags::TRANSACTION_UID => transaction = uid(&mut reader, length)?,
                tags::REFERENCED_SOP_SEQUENCE if length == UNDEFINED => items(&mut reader, &mut instances, true)?,
                tags::REFERENCED_SOP_SEQUENCE => items(&mut reader.part(length)?, &mut instances, false)?,
                _ => drop(reader.take(length)?),
            }
        }
        let transaction = transaction.ok_or(Unsound::Transaction)?;
        if instances.is_empty() {
            return Err(Unsound::Empty);
        }
        Ok(Self { transaction, instances })
    }
}

fn uid(reader: &mut Reader<'_>, length: u32) -> Result<Option<Uid>, Flaw> {
    Ok(std::str::from_utf8(reader.take(length)?).ok().and_then(Uid::parse))
}

/// Items to the end, or to the delimiter.
fn items(reader: &mut Reader<'_>, instances: &mut Vec<(String, String)>, delimited: bool) -> Result<(), Unsound> {
    while let Some((tag, length)) = reader.header()? {
        match tag {
            ITEM if length == UNDEFINED => instances.push(item(reader, true)?),
            ITEM => instances.push(item(&mut reader.part(length)?, false)?),
            SEQUENCE_END if delimited => return Ok(()),
            _ => return Err(Flaw::Cut.into()),
        }
    }
    if delimited { Err(Flaw::Cut.into()) } else { Ok(()) }
}

fn item(reader: &mut Reader<'_>, delimited: bool) -> Result<(String, String), Unsound> {
    let (mut class, mut instance, mut ended) = (None, None, !delimited);
    while let Some((tag, length)) = reader.header()? {
        match tag {
            tags::REFERENCED_SOP_CLASS_UID => class = uid(reader, length)?,
            tags::REFERENCED_SOP_INSTANCE_UID => instance = uid(reader, length)?,
            ITEM_END if delimited => {
                ended = true;
                break;
            }
            _ => drop(reader.take(length)?),
        }
    }
    match (class, instance) {
        _ if !ended => Err(Flaw::Cut.into()),
        (Some(class), Some(instance)) => Ok((class.to_string(), instance.to_string())),
        _ => Err(Unsound::Reference),
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, VR};
    use dicom_dictionary_std::uids;
    use dicom_object::InMemDicomObject;
    use dicom_object::mem::InMemElement;
    use dicom_transfer_syntax_registry::entries;

    use super::*;

    fn request() -> InMemDicomObject {
        let items = ["1.2.3", "1.2.4"].map(|instance| {
            InMemDicomObject::from_element_iter([
                DataElement::new(tags::REFERENCED_SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
                DataElement::new(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance),
            ])
        });
        let sequence = dicom_core::value::DataSetSequence::from(items.to_vec());
        InMemDicomObject::from_element_iter([
            InMemElement::new(tags::TRANSACTION_UID, VR::UI, "1.2.99"),
            InMemElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, sequence),
        ])
    }

    #[test]
    fn both_encodings_are_read_and_cuts_refused() {
        let (mut implicit, mut explicit) = (Vec::new(), Vec::new());
        request().write_dataset_with_ts(&mut implicit, &entries::IMPLICIT_VR_LITTLE_ENDIAN.erased()).expect("written");
        request().write_dataset_with_ts(&mut explicit, &entries::EXPLICIT_VR_LITTLE_ENDIAN.erased()).expect("written");
        for (bytes, is_explicit) in [(implicit, false), (explicit, true)] {
            let references = References::parse(&bytes, is_explicit).expect("sound");
            assert_eq!(references.transaction.as_str(), "1.2.99");
            let instances: Vec<_> = references.instances.iter().map(|(_, instance)| instance.as_str()).collect();
            assert_eq!(instances, ["1.2.3", "1.2.4"]);
            for cut in 0..bytes.len() {
                References::parse(&bytes[..cut], is_explicit).expect_err("cut");
            }
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_following_it() {
        let mut bytes = Vec::new();
        for _ in 0..100_000 {
            bytes.extend([
                0x08, 0x00, 0x99, 0x11, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF,
            ]);
        }
        let refused = References::parse(&bytes, false).expect_err("refused");
        assert!(refused == Unsound::Flaw(Flaw::Nested), "{refused}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, explicit: bool) {
            let _ = References::parse(&bytes, explicit);
        }
    }
}
