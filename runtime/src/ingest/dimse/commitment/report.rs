//! The result: an N-EVENT-REPORT (PS3.4 section J.3.3), and the association of its own that carries it.

use std::net::{IpAddr, SocketAddr};

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use dicom_ul::pdu::RequestorRoles;

use super::super::Shared;
use super::super::negotiate;
use crate::dimse::client::{Client, Limits, Peer, Service};
use crate::dimse::command::{Command, N_EVENT_REPORT_RQ};
use crate::dimse::wire::Broken;
use crate::store::{CommitmentItem, CommitmentReport};

/// Storage Commitment Request Successful, and Failures Exist.
const ALL_COMMITTED: u16 = 1;
const FAILURES_EXIST: u16 = 2;

/// The only message of an association of its own.
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
    let caller = shared.callers.iter().find(|(caller, _)| negotiate::is_caller(caller, &report.ae_title, address));
    // Without its entry nobody knows whether it must be TLS.
    let (_, tls) = caller.ok_or(Broken::Unexpected("dimse.callers has no longer an entry for it"))?;
    let peer = Peer {
        address: &SocketAddr::new(address, port).to_string(),
        called: &report.ae_title,
        calling: &config.ae_title,
        tls: tls.as_ref(),
    };
    let service = Service {
        abstract_syntax: uids::STORAGE_COMMITMENT_PUSH_MODEL,
        transfer_syntaxes: &[uids::IMPLICIT_VR_LITTLE_ENDIAN],
        roles: Some(RequestorRoles { scu: false, scp: true }),
    };
    let mut client = Client::associate(&peer, Limits::new(config), &service).await?;
    let said = say(&mut client, report).await;
    client.end(said).await
}

async fn say(client: &mut Client, report: &CommitmentReport) -> Result<(), Broken> {
    let data = data_set(report, client.transfer_syntax()).map_err(Broken::Malformed)?;
    client.send(&command(MESSAGE, report), &data).await?;
    match client.receive(0).await? {
        (answer, _) if answer.answers(N_EVENT_REPORT_RQ, MESSAGE) && answer.status == Some(0) => Ok(()),
        _ => Err(Broken::Unexpected("the peer refuses the result")),
    }
}
