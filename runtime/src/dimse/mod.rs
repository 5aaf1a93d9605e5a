//! DICOM's upper layer and messages (PS3.7, PS3.8), for both sides of an association.
//!
//! ```text
//! TCP ─ TLS ─▶ guard ─▶ wire ─┬▶ ingest::dimse: we are asked
//!            every PDU   PDUs └▶ client: we ask ─┬▶ C-FIND of an archive (completion)
//!            is bounded                          └▶ N-EVENT-REPORT to a caller (ingest::dimse)
//! ```
//!
//! Read in this order: `guard`, `wire`, `command`, `client`, `elements`, `promise`, `stored`.

pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod elements;
pub mod guard;
pub(crate) mod promise;
pub(crate) mod stored;
pub(crate) mod wire;

use dicom_dictionary_std::uids;
use dicom_ul::pdu::{AssociationRJ, AssociationRJSource, UserVariableItem};

pub use self::command::{Command, Status, Unsound};

pub(crate) const APPLICATION_CONTEXT: &str = uids::DICOM_APPLICATION_CONTEXT;
/// Protocol version 1 is bit 0.
pub(crate) const PROTOCOL_VERSION: u16 = 1;

/// Ours: under 2.25, from a UUID made once.
pub(crate) const IMPLEMENTATION_CLASS_UID: &str = "2.25.156006781093459909648847103334666732402";
pub(crate) const IMPLEMENTATION_VERSION_NAME: &str = concat!("GANTRY_", env!("CARGO_PKG_VERSION"));

/// What we say of ourselves on either side (PS3.7 annexes D.3.3.1 and D.3.3.2).
pub(crate) fn own_variables(pdu_max_bytes: u32) -> Vec<UserVariableItem> {
    vec![
        UserVariableItem::MaxLength(pdu_max_bytes),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.into()),
        UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.into()),
    ]
}

/// What a peer takes in one PDU; 0 is no limit.
pub(crate) fn takes(variables: &[UserVariableItem]) -> u32 {
    let last = variables.iter().rev().find_map(|variable| match variable {
        UserVariableItem::MaxLength(bytes) => Some(*bytes),
        _ => None,
    });
    last.unwrap_or(0)
}

/// Why an association is rejected, for people.
pub(crate) fn reason(rejection: &AssociationRJ) -> String {
    match &rejection.source {
        AssociationRJSource::ServiceUser(reason) => reason.to_string(),
        AssociationRJSource::ServiceProviderASCE(reason) => reason.to_string(),
        AssociationRJSource::ServiceProviderPresentation(reason) => reason.to_string(),
    }
}
