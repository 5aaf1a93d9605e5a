//! The result: an N-EVENT-REPORT (PS3.4 section J.3.3), and the association of its own that carries it.

use std::net::{IpAddr, SocketAddr};

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use dicom_ul::pdu::{
    AssociationRQ, PDataValueType, Pdu, PresentationContextProposed, PresentationContextResultReason, RequestorRoles,
    UserVariableItem,
};
use tokio::net::TcpStream;

use super::super::Shared;
use super::super::command::Command;
use super::super::negotiate::{IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME};
use super::super::wire::{Broken, Next, Prompt, Wire, Within};
use crate::store::{CommitmentItem, CommitmentReport};

/// Storage Commitment Request Successful, and Failures Exist.
const ALL_COMMITTED: u16 = 1;
const FAILURES_EXIST: u16 = 2;

/// The only context and message of an association of its own.
const CONTEXT: u8 = 1;
const MESSAGE: u16 = 1;

/// The command set.
pub(super) fn command(message_id: u16, report: &CommitmentReport) -> Vec<u8> {
    let failures = report.items.iter().any(|item| item.failure.is_some());
    let event = if failures { FAILURES_EXIST } else { ALL_COMMITTED };
    let (class, instance) = (uids::STORAGE_COMMITMENT_PUSH_MODEL, uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE);
    Command::event_report(message_id, class, instance, event)
}

/// The data set, in a transfer syntax that was negotiated.
///
/// # Errors
/// Says what cannot be written.
pub(super) fn data_set(report: &CommitmentReport, transfer_syntax: &str) -> Result<Vec<u8>, String> {
    let (committed, failed): (Vec<_>, Vec<_>) = report.items.iter().partition(|item| item.failure.is_none());
    let mut data = InMemDicomObject::new_empty();
    data.put(InMemElement::new(tags::TRANSACTION_UID, VR::UI, report.transaction_uid.as_str()));
    for (tag, items) in [(tags::FAILED_SOP_SEQUENCE, failed), (tags::REFERENCED_SOP_SEQUENCE, committed)] {
        if !items.is_empty() {
            let items: Vec<_> = items.into_iter().map(item).collect();
            data.put(InMemElement::new(tag, VR::SQ, DataSetSequence::from(items)));
        }
    }
    let syntax = TransferSyntaxRegistry.get(transfer_syntax).ok_or("an unknown transfer syntax was negotiated")?;
    let mut bytes = Vec::new();
    data.write_dataset_with_ts(&mut bytes, syntax).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn item(item: &CommitmentItem) -> InMemDicomObject {
    let mut object = InMemDicomObject::from_element_iter([
        DataElement::new(tags::REFERENCED_SOP_CLASS_UID, VR::UI, item.sop_class_uid.as_str()),
        DataElement::new(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, item.sop_instance_uid.as_str()),
    ]);
    if let Some(failure) = item.failure {
        object.put(DataElement::new(tags::FAILURE_REASON, VR::US, PrimitiveValue::from(failure.code())));
    }
    object
}

/// Sends it on an association of its own. The roles are the other way round: we ask for the association and stay the
/// provider (PS3.4 section J.3.3.1.3, PS3.7 annex D.3.3.4).
pub(super) async fn send(shared: &Shared, report: &CommitmentReport, port: u16) -> Result<(), Broken> {
    let config = &shared.config;
    let unknown = |_| Broken::Malformed("the journal has no sound address".into());
    let address: IpAddr = report.address.parse().map_err(unknown)?;
    let associate = Within { limit: "dimse.associate_timeout_ms", ms: config.associate_timeout_ms };
    let message = Within { limit: "dimse.dimse_timeout_ms", ms: config.dimse_timeout_ms };
    let connect = async { Ok(TcpStream::connect(SocketAddr::new(address, port)).await?) };
    let stream = Prompt::new(associate.run(connect).await?);
    let mut wire = Wire::new(Box::new(stream), config.pdu_max_bytes, message);
    let sent = async {
        wire.write(&Pdu::AssociationRQ(request(&config.ae_title, &report.ae_title, config.pdu_max_bytes))).await?;
        accepted(associate.run(wire.read()).await?, &mut wire)?;
        let data = data_set(report, uids::IMPLICIT_VR_LITTLE_ENDIAN).map_err(Broken::Malformed)?;
        wire.send(CONTEXT, &command(MESSAGE, report), Some(&data)).await?;
        message.run(response(&mut wire, config.command_max_bytes)).await
    };
    match sent.await {
        Ok(()) => {
            // The result is there, however they part.
            if wire.write(&Pdu::ReleaseRQ).await.is_ok() {
                let _ = message.run(wire.read()).await;
            }
            wire.close().await;
            Ok(())
        }
        Err(broken) => {
            wire.abort(&broken).await;
            Err(broken)
        }
    }
}

fn request(calling: &str, called: &str, pdu_max_bytes: u32) -> AssociationRQ {
    let class = uids::STORAGE_COMMITMENT_PUSH_MODEL.to_owned();
    AssociationRQ {
        protocol_version: 1,
        calling_ae_title: calling.into(),
        called_ae_title: called.into(),
        application_context_name: uids::DICOM_APPLICATION_CONTEXT.into(),
        presentation_contexts: vec![PresentationContextProposed {
            id: CONTEXT,
            abstract_syntax: class.clone(),
            transfer_syntaxes: vec![uids::IMPLICIT_VR_LITTLE_ENDIAN.into()],
        }],
        user_variables: vec![
            UserVariableItem::MaxLength(pdu_max_bytes),
            UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.into()),
            UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.into()),
            UserVariableItem::ScuScpRoleSelectionSubItem(class, RequestorRoles { scu: false, scp: true }),
        ],
    }
}

fn accepted(pdu: Pdu, wire: &mut Wire) -> Result<(), Broken> {
    let answer = match pdu {
        Pdu::AssociationAC(answer) => answer,
        Pdu::AssociationRJ(_) => return Err(Broken::Unexpected("the peer rejects the association")),
        Pdu::AbortRQ { .. } => return Err(Broken::Aborted),
        _ => return Err(Broken::Unexpected("the peer does not answer the request for an association")),
    };
    let takes = answer.user_variables.iter().find_map(|variable| match variable {
        UserVariableItem::MaxLength(bytes) => Some(*bytes),
        _ => None,
    });
    wire.peer_takes(takes.unwrap_or(0));
    let context = answer.presentation_contexts.iter().find(|context| context.id == CONTEXT);
    match context {
        Some(context) if context.reason == PresentationContextResultReason::Acceptance => Ok(()),
        _ => Err(Broken::Unexpected("the peer does not take results of storage commitment on an association of ours")),
    }
}

/// Waits for the N-EVENT-REPORT-RSP.
async fn response(wire: &mut Wire, command_max_bytes: u32) -> Result<(), Broken> {
    let mut bytes = Vec::new();
    loop {
        let Next::Value(mut value) = wire.next().await? else {
            return Err(Broken::Unexpected("the peer releases an association that is not its own"));
        };
        bytes.append(&mut value.data);
        if value.value_type != PDataValueType::Command || bytes.len() as u64 > u64::from(command_max_bytes) {
            return Err(Broken::Unexpected("the peer does not answer with a command"));
        }
        if value.is_last {
            break;
        }
    }
    match Command::parse(&bytes).map_err(|e| Broken::Malformed(e.to_string()))? {
        answer if answer.is_response() && answer.message_id == MESSAGE && answer.status == Some(0) => Ok(()),
        _ => Err(Broken::Unexpected("the peer refuses the result")),
    }
}
