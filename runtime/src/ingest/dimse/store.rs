//! C-STORE (PS3.7 section 9.1.1, PS3.4 annex B): a data set streams into the intake, and its fate becomes a status.

use super::association::Association;
use super::negotiate::Context;
use crate::dimse::command::{Command, Status};
use crate::dimse::wire::Broken;
use crate::ingest::{Form, Incoming, Refused, Uid};

/// Refused: SOP Class not supported (PS3.7 annex C.5.13).
const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
/// Invalid SOP Instance (PS3.7 annex C.5.8).
const INVALID_SOP_INSTANCE: u16 = 0x0117;
/// Error: Cannot understand, Cxxx (PS3.4 table B.2-1).
const NO_DATA_SET: u16 = 0xC002;

/// As a reason in the log, beside those of [`Refused`].
const BAD_COMMAND: &str = "bad-command";

/// Takes the data set of one C-STORE to its end, whatever becomes of it.
///
/// # Errors
/// The association cannot go on. The instance leaves nothing then.
pub(super) async fn receive(
    association: &mut Association,
    id: u8,
    context: &Context,
    command: &Command,
) -> Result<Status, Broken> {
    if !command.has_data_set {
        let status = Status::failure(NO_DATA_SET, "the C-STORE request is without a data set");
        association.refused(BAD_COMMAND, &status.comment);
        return Ok(status);
    }
    let form = match form(context, command) {
        Ok(form) => form,
        Err(status) => {
            association.refused(BAD_COMMAND, &status.comment);
            return association.discard(id).await.map(|()| status);
        }
    };
    let mut incoming = match association.intake().begin(association.arrival(), form) {
        Ok(incoming) => incoming,
        Err(refused) => {
            let status = refuse(association, &refused);
            return association.discard(id).await.map(|()| status);
        }
    };
    loop {
        let piece = association.data(id).await?;
        if let Err(refused) = incoming.write(&piece.data).await {
            drop(incoming);
            let status = refuse(association, &refused);
            if !piece.is_last {
                association.discard(id).await?;
            }
            return Ok(status);
        }
        if piece.is_last {
            return Ok(finish(association, incoming).await);
        }
    }
}

async fn finish(association: &mut Association, incoming: Incoming) -> Status {
    match incoming.finish().await {
        Ok(stored) => {
            tracing::debug!(sop_instance_uid = %stored.sop_instance_uid, outcome = ?stored.outcome, "instance kept");
            Status::success()
        }
        Err(refused) => refuse(association, &refused),
    }
}

fn refuse(association: &mut Association, refused: &Refused) -> Status {
    association.refused(refused.reason(), refused);
    status(refused)
}

/// What the command announces; the instance is named by nothing that was not checked.
fn form(context: &Context, command: &Command) -> Result<Form, Status> {
    let class = Uid::parse(&command.class);
    let Some(sop_class_uid) = class.filter(|class| *class == context.abstract_syntax) else {
        let comment = "the SOP Class is not that of the presentation context";
        return Err(Status::failure(SOP_CLASS_NOT_SUPPORTED, comment));
    };
    let Some(sop_instance_uid) = Uid::parse(&command.instance) else {
        let comment = "Affected SOP Instance UID (0000,1000) is no UID";
        return Err(Status::failure(INVALID_SOP_INSTANCE, comment));
    };
    Ok(Form::DataSet { sop_class_uid, sop_instance_uid, transfer_syntax_uid: context.transfer_syntax.clone() })
}

/// What each refusal is to a sender, in the 64 characters of an Error Comment (0000,0902).
fn status(refused: &Refused) -> Status {
    let comment = match refused {
        Refused::OutOfSpace { .. } => "less space than node.disk_free_min_mib; send later".into(),
        // Says paths and the system's words, which are nothing to a peer.
        Refused::Disk(_) => "the disk cannot be written to; send later".into(),
        Refused::TooLarge { file_max_mib } => format!("more than limits.file_max_mib = {file_max_mib}"),
        Refused::Stopping => "the node is stopping; send later".into(),
        Refused::NotAnnounced(what) => format!("not as announced: {what}"),
        Refused::Unreadable(why) => why.clone(),
        Refused::OtherPatient(what) => format!("study of another patient: {what} differs"),
        Refused::OtherStudy(_) => "this SOP Instance UID is kept in another study".into(),
        Refused::Conflict | Refused::SentMeanwhile => "another instance with this SOP Instance UID is kept".into(),
    };
    Status::failure(refused.code(), &comment)
}
