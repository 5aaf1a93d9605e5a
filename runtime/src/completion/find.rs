//! One question by C-FIND (PS3.4 annex C, study root): how many instances a study has.

use dicom_core::{DataElement, PrimitiveValue, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::dimse::Command;
use crate::dimse::client::{Client, Limits, Peer, Service};
use crate::dimse::command::C_FIND_RQ;
use crate::dimse::elements::{Flaw, Reader};
use crate::dimse::wire::Broken;

/// One answer: what is asked for takes some hundred bytes.
const ANSWER_MAX_BYTES: usize = 64 << 10;
/// Answers to one question.
const ANSWERS_MAX: usize = 16;

/// Pending (PS3.4 table C.4-1).
const PENDING: [u16; 2] = [0xFF00, 0xFF01];

/// The only question of an association.
const MESSAGE: u16 = 1;

/// Number of Study Related Instances (0020,1208); 0 for a study that the peer does not have, nothing when it does not
/// say.
///
/// # Errors
/// The peer cannot be asked, or does not answer as it should.
pub(super) async fn count(peer: &Peer<'_>, limits: Limits, study_instance_uid: &str) -> Result<Option<u64>, Broken> {
    let service = Service {
        abstract_syntax: uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
        transfer_syntaxes: &[uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN],
        roles: None,
    };
    let mut client = Client::associate(peer, limits, &service).await?;
    let found = ask(&mut client, service.abstract_syntax, study_instance_uid).await;
    client.end(found).await
}

async fn ask(client: &mut Client, class: &str, study_instance_uid: &str) -> Result<Option<u64>, Broken> {
    let syntax = client.transfer_syntax().to_owned();
    let identifier = identifier(study_instance_uid, &syntax).map_err(Broken::Malformed)?;
    client.send(&Command::find(MESSAGE, class), &identifier).await?;
    let mut count = Some(0);
    for _ in 0..=ANSWERS_MAX {
        let (answer, data) = client.receive(ANSWER_MAX_BYTES).await?;
        if !answer.answers(C_FIND_RQ, MESSAGE) {
            return Err(Broken::Unexpected("a message came that is no answer to the question"));
        }
        match answer.status {
            Some(0) => return Ok(count),
            Some(status) if PENDING.contains(&status) => {}
            Some(status) => return Err(Broken::Malformed(format!("the answer has status {status:04X}H"))),
            None => return Err(Broken::Unexpected("an answer is without a status")),
        }
        let explicit = syntax == uids::EXPLICIT_VR_LITTLE_ENDIAN;
        let study = Study::read(&data, explicit).map_err(|flaw| Broken::Malformed(flaw.to_string()))?;
        if study.uid == study_instance_uid {
            count = study.instances;
        }
    }
    Err(Broken::Malformed(format!("there are more than {ANSWERS_MAX} answers")))
}

/// What is asked for: of the study level, by its UID.
fn identifier(study_instance_uid: &str, syntax: &str) -> Result<Vec<u8>, String> {
    let identifier = InMemDicomObject::from_element_iter([
        DataElement::new(tags::QUERY_RETRIEVE_LEVEL, VR::CS, dicom_value!(Str, "STUDY")),
        DataElement::new(tags::STUDY_INSTANCE_UID, VR::UI, dicom_value!(Str, study_instance_uid)),
        DataElement::new(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, PrimitiveValue::Empty),
    ]);
    let syntax = TransferSyntaxRegistry.get(syntax).ok_or("an unknown transfer syntax was negotiated")?;
    let mut bytes = Vec::new();
    identifier.write_dataset_with_ts(&mut bytes, syntax).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// What an answer says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Study {
    uid: String,
    instances: Option<u64>,
}

impl Study {
    fn read(data: &[u8], explicit: bool) -> Result<Self, Flaw> {
        let (mut reader, mut study) = (Reader::new(data, explicit), Self::default());
        while let Some((tag, length)) = reader.header()? {
            let text = String::from_utf8_lossy(reader.take(length)?);
            let text = text.trim_matches(['\0', ' ']);
            match tag {
                tags::STUDY_INSTANCE_UID => study.uid = text.to_owned(),
                tags::NUMBER_OF_STUDY_RELATED_INSTANCES => study.instances = text.parse().ok(),
                _ => {}
            }
        }
        Ok(study)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_reads_back_and_nesting_is_not_followed() {
        for (syntax, explicit) in [(uids::EXPLICIT_VR_LITTLE_ENDIAN, true), (uids::IMPLICIT_VR_LITTLE_ENDIAN, false)] {
            let mut bytes = identifier("1.2.3", syntax).expect("written");
            assert_eq!(Study::read(&bytes, explicit), Ok(Study { uid: "1.2.3".into(), instances: None }));
            bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF].repeat(100_000));
            assert_eq!(Study::read(&bytes, explicit), Err(Flaw::Nested));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, explicit: bool) {
            let _ = Study::read(&bytes, explicit);
        }
    }
}
