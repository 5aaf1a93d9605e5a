//! One question by C-FIND (PS3.4 annex C, study root): how many instances a study has.

use dicom_core::{DataElement, PrimitiveValue, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::transfer_syntax::{TransferSyntax, TransferSyntaxIndex};
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::{TransferSyntaxRegistry, entries};
use dicom_ul::Pdu;
use dicom_ul::association::client::{AsyncClientAssociation, ClientAssociationOptions};
use dicom_ul::pdu::{PDataValue, PDataValueType};
use tokio::net::TcpStream;

/// Answers of one question, commands included: one study needs a few hundred bytes.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// Answers to one question.
const ANSWERS_MAX: usize = 16;

/// Pending (PS3.4 table C.4-1).
const PENDING: [u16; 2] = [0xFF00, 0xFF01];

/// Whom to ask, and who asks.
pub(super) struct Peer<'a> {
    pub(super) address: &'a str,
    pub(super) called: &'a str,
    pub(super) calling: &'a str,
}

/// Number of Study Related Instances (0020,1208); 0 for a study that the peer does not have, nothing when it does not
/// say. Takes as long as the peer does: bound it.
///
/// # Errors
/// What went wrong, for people.
pub(super) async fn count(peer: &Peer<'_>, study_instance_uid: &str) -> Result<Option<u64>, String> {
    let options = ClientAssociationOptions::new()
        .calling_ae_title(peer.calling)
        .called_ae_title(peer.called)
        .with_presentation_context(
            uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            vec![uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN],
        );
    let mut association = options.establish_async(peer.address).await.map_err(|e| said(&e))?;
    let context = association.presentation_contexts().first().ok_or("it takes no C-FIND")?;
    let (id, syntax) = (context.id, context.transfer_syntax.clone());
    let syntax = TransferSyntaxRegistry.get(&syntax).ok_or("it chose a transfer syntax that was not offered")?;
    for (kind, data) in question(study_instance_uid, syntax)? {
        let value = PDataValue { presentation_context_id: id, value_type: kind, is_last: true, data };
        association.send(&Pdu::PData { data: vec![value] }).await.map_err(|e| said(&e))?;
    }
    let answers = answers(&mut association, syntax).await?;
    // The answer is here, however the peer takes leave.
    if let Err(e) = association.release().await {
        tracing::debug!("a PACS does not release its association: {e}");
    }
    let of_study =
        |answer: &&InMemDicomObject| text(answer, tags::STUDY_INSTANCE_UID).as_deref() == Some(study_instance_uid);
    match answers.iter().find(of_study) {
        Some(answer) => Ok(text(answer, tags::NUMBER_OF_STUDY_RELATED_INSTANCES).and_then(|n| n.parse().ok())),
        None => Ok(Some(0)),
    }
}

/// The command (PS3.7 section 9.3.2.1) and the identifier.
fn question(study_instance_uid: &str, syntax: &TransferSyntax) -> Result<[(PDataValueType, Vec<u8>); 2], String> {
    let command = InMemDicomObject::command_from_element_iter([
        DataElement::new(
            tags::AFFECTED_SOP_CLASS_UID,
            VR::UI,
            dicom_value!(Str, uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND),
        ),
        DataElement::new(tags::COMMAND_FIELD, VR::US, dicom_value!(U16, [0x0020])),
        DataElement::new(tags::MESSAGE_ID, VR::US, dicom_value!(U16, [1])),
        DataElement::new(tags::PRIORITY, VR::US, dicom_value!(U16, [0])),
        DataElement::new(tags::COMMAND_DATA_SET_TYPE, VR::US, dicom_value!(U16, [1])),
    ]);
    let identifier = InMemDicomObject::from_element_iter([
        DataElement::new(tags::QUERY_RETRIEVE_LEVEL, VR::CS, dicom_value!(Str, "STUDY")),
        DataElement::new(tags::STUDY_INSTANCE_UID, VR::UI, dicom_value!(Str, study_instance_uid)),
        DataElement::new(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, PrimitiveValue::Empty),
    ]);
    let written = |object: &InMemDicomObject, syntax: &TransferSyntax| {
        let mut bytes = Vec::new();
        object.write_dataset_with_ts(&mut bytes, syntax).map_err(|e| said(&e))?;
        Ok::<_, String>(bytes)
    };
    let command = written(&command, &entries::IMPLICIT_VR_LITTLE_ENDIAN.erased())?;
    Ok([(PDataValueType::Command, command), (PDataValueType::Data, written(&identifier, syntax)?)])
}

/// The identifiers of all answers.
async fn answers(
    association: &mut AsyncClientAssociation<TcpStream>,
    syntax: &TransferSyntax,
) -> Result<Vec<InMemDicomObject>, String> {
    let implicit = entries::IMPLICIT_VR_LITTLE_ENDIAN.erased();
    let (mut command, mut identifier) = (Vec::new(), Vec::new());
    let (mut received, mut found) = (0, Vec::new());
    loop {
        let values = match association.receive().await.map_err(|e| said(&e))? {
            Pdu::PData { data } => data,
            _ => return Err("it ended the association before it answered".into()),
        };
        for value in values {
            received += value.data.len();
            if received > ANSWER_MAX_BYTES {
                return Err(format!("it answers with more than {ANSWER_MAX_BYTES} bytes"));
            }
            let (buffer, syntax) = match value.value_type {
                PDataValueType::Command => (&mut command, &implicit),
                PDataValueType::Data => (&mut identifier, syntax),
            };
            buffer.extend_from_slice(&value.data);
            if !value.is_last {
                continue;
            }
            let bytes = std::mem::take(buffer);
            let object = InMemDicomObject::read_dataset_with_ts(bytes.as_slice(), syntax).map_err(|e| said(&e))?;
            if value.value_type == PDataValueType::Data {
                if found.len() >= ANSWERS_MAX {
                    return Err(format!("it answers with more than {ANSWERS_MAX} studies"));
                }
                found.push(object);
                continue;
            }
            match object.element(tags::STATUS).ok().and_then(|e| e.to_int::<u16>().ok()) {
                Some(0) => return Ok(found),
                Some(status) if PENDING.contains(&status) => {}
                Some(status) => return Err(format!("it answers with status {status:04X}H")),
                None => return Err("it answers without a status".into()),
            }
        }
    }
}

fn text(object: &InMemDicomObject, tag: dicom_core::Tag) -> Option<String> {
    let text = object.element(tag).ok()?.to_str().ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned())
}

/// The chain of reasons on one line; none of a peer's data is in it.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(reason) = source {
        text = format!("{text}: {reason}");
        source = reason.source();
    }
    crate::printable(&text)
}
