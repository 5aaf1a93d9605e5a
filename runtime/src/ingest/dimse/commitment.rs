//! Storage commitment, push model (PS3.4 annex J): a promise to keep, answered from the journal.
//!
//! The result is journalled before the request is accepted. It goes on the association on which it was asked for; where
//! that is gone, on one of its own to the caller's port, until the peer has it or the attempts are used up.

mod references;
mod report;

use std::sync::Arc;
use std::time::Duration;

use dicom_dictionary_std::uids;

use self::references::References;
use super::Shared;
use super::association::Association;
use super::negotiate::{self, Context};
use crate::audit::{Action, Event};
use crate::config::DimseConfig;
use crate::dimse::command::{Command, Status};
use crate::dimse::promise::{REPORT_MAX_BYTES, REQUEST_COMMITMENT, Report};
use crate::dimse::wire::Broken;
use crate::ingest::{Intake, blocking};
use crate::store::{CommitmentFailure, CommitmentItem, CommitmentReport, Due, StoreError, now_ms};

/// Of PS3.7 annex C.
const PROCESSING_FAILURE: u16 = 0x0110;
const NO_SUCH_INSTANCE: u16 = 0x0112;
const INVALID_ARGUMENT: u16 = 0x0115;
const NO_SUCH_ACTION: u16 = 0x0123;
const RESOURCE_LIMITATION: u16 = 0x0213;

/// An item of the request: two UIDs, their headers, and room for what else there may be.
const BYTES_PER_INSTANCE: usize = 512;

/// Results that are read from the journal at once.
const DUE_AT_ONCE: u32 = 16;

/// The pause between two attempts grows up to `1 << DOUBLINGS_MAX` times `dimse.commitment_retry_ms`.
const DOUBLINGS_MAX: u32 = 6;

/// How long the journal is left alone after it failed.
const JOURNAL_PAUSE: Duration = Duration::from_secs(10);

/// Answers an N-ACTION, and sends the result on the same association.
///
/// # Errors
/// The association cannot go on.
pub(super) async fn action(
    association: &mut Association,
    id: u8,
    context: &Context,
    command: &Command,
) -> Result<(), Broken> {
    let asked = ask(association, id, context, command).await?;
    let accepted = match asked {
        Ok(references) => accept(association, references).await,
        Err(status) => Err(status),
    };
    let report = match accepted {
        Ok(report) => report,
        Err(status) => return association.respond(id, command, &status).await,
    };
    association.respond(id, command, &Status::success()).await?;
    let message_id = association.next_message_id();
    let data = report::data_set(&report, context.transfer_syntax.as_str()).map_err(Broken::Malformed)?;
    association.reports.insert(message_id, report.id);
    association.send(id, &report::command(message_id, &report), &data).await
}

/// Reads the request, whatever becomes of it.
async fn ask(
    association: &mut Association,
    id: u8,
    context: &Context,
    command: &Command,
) -> Result<Result<References, Status>, Broken> {
    let failure = match (command.kind, command.instance.as_str()) {
        (Some(REQUEST_COMMITMENT), uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE) => None,
        (Some(REQUEST_COMMITMENT), _) => Some(Status::failure(NO_SUCH_INSTANCE, "not the well-known SOP Instance")),
        _ => Some(Status::failure(NO_SUCH_ACTION, "Action Type ID (0000,1008) must be 1")),
    };
    if !command.has_data_set {
        let missing = || Status::failure(INVALID_ARGUMENT, "the request is without a data set");
        return Ok(Err(failure.unwrap_or_else(missing)));
    }
    if let Some(failure) = failure {
        return association.discard(id).await.map(|()| Err(failure));
    }
    let most = association.shared().config.commitment_instances_max;
    let too_many = || Status::failure(RESOURCE_LIMITATION, &format!("dimse.commitment_instances_max = {most}"));
    let mut bytes = Vec::new();
    loop {
        let piece = association.data(id).await?;
        bytes.extend_from_slice(&piece.data);
        if bytes.len() > (most + 8) * BYTES_PER_INSTANCE {
            if !piece.is_last {
                association.discard(id).await?;
            }
            return Ok(Err(too_many()));
        }
        if piece.is_last {
            break;
        }
    }
    let explicit = context.transfer_syntax.as_str() == uids::EXPLICIT_VR_LITTLE_ENDIAN;
    Ok(match References::parse(&bytes, explicit) {
        Ok(references) if references.instances.len() > most => Err(too_many()),
        Ok(references) => Ok(references),
        Err(unsound) => Err(Status::failure(INVALID_ARGUMENT, &unsound.to_string())),
    })
}

/// Journals the result; from here it will be said.
async fn accept(association: &Association, references: References) -> Result<CommitmentReport, Status> {
    let failed = |e: StoreError| {
        tracing::error!("storage commitment cannot be answered: {e}");
        Status::failure(PROCESSING_FAILURE, "the journal cannot be read or written; ask later")
    };
    let shared = association.shared();
    let (title, from) = &association.peer;
    let mut report = CommitmentReport {
        id: 0,
        transaction_uid: references.transaction.to_string(),
        ae_title: title.clone(),
        address: from.ip().to_canonical().to_string(),
        port: negotiate::caller(&shared.config, title, from.ip()).and_then(|caller| caller.port),
        attempts: 0,
        items: there(shared.intake.clone(), shared.store.commitment(&references.instances).await.map_err(failed)?)
            .await,
    };
    // Until then it is this association's.
    let later = now_ms().saturating_add(milliseconds(shared.config.idle_timeout_ms));
    let events = events(association, &report).await.map_err(failed)?;
    report.id = shared.store.add_report(&report, later, &events).await.map_err(failed)?;
    tell(shared, &report).await.map_err(failed)?;
    let failures = report.items.iter().filter(|item| item.failure.is_some()).count();
    tracing::info!(instances = report.items.len(), failures, "storage commitment asked for");
    Ok(report)
}

/// Promises nothing whose file is gone or cut: the sender may hold the only good copy.
async fn there(intake: Intake, items: Vec<(CommitmentItem, Option<(String, u64)>)>) -> Vec<CommitmentItem> {
    let there = move |(mut item, file): (CommitmentItem, Option<(String, u64)>)| {
        let Some((path, bytes)) = file else { return item };
        if std::fs::metadata(intake.path(&path)).is_ok_and(|file| file.len() == bytes) {
            return item;
        }
        let sop_instance_uid = &item.sop_instance_uid;
        tracing::error!(%sop_instance_uid, path, "the file of an instance is gone or cut; send the instance again, and check the disk");
        item.failure = Some(CommitmentFailure::NoSuchInstance);
        item
    };
    blocking(move || items.into_iter().map(there).collect()).await
}

/// What the audit log says of an answer: a row for each study of which something is promised, or one that nothing is.
async fn events(association: &Association, report: &CommitmentReport) -> Result<Vec<Event>, StoreError> {
    let kept = report.items.iter().filter(|item| item.failure.is_none());
    let promised: Vec<&str> = kept.map(|item| item.sop_instance_uid.as_str()).collect();
    let mut studies = association.shared().store.studies_of(&promised).await?;
    if studies.is_empty() {
        studies.push((String::new(), 0));
    }
    let event = |(study_instance_uid, instances)| Event {
        study_instance_uid,
        object: report.transaction_uid.clone(),
        detail: format!("{instances} instances promised of {} asked for", report.items.len()),
        correlation: association.arrival().correlation.clone(),
        ..Event::new(&report.ae_title, Action::InstancesCommitted)
    };
    Ok(studies.into_iter().map(event).collect())
}

/// What a sender wants to be kept is what it has sent: evidence of what a study should have, where all of the list that is
/// here is of one study. Of a list over several studies nobody can say whose the missing ones are.
async fn tell(shared: &Shared, report: &CommitmentReport) -> Result<(), StoreError> {
    let listed: Vec<&str> = report.items.iter().map(|item| item.sop_instance_uid.as_str()).collect();
    if let [(study, _)] = shared.store.studies_of(&listed).await?.as_slice() {
        shared.completion.committed(study, listed.into_iter().map(str::to_owned).collect()).await;
    }
    Ok(())
}

/// Takes what a destination promises to keep of what we sent it.
///
/// # Errors
/// The association cannot go on.
pub(super) async fn promised(
    association: &mut Association,
    id: u8,
    context: &Context,
    command: &Command,
) -> Result<Status, Broken> {
    if !command.has_data_set {
        return Ok(Status::failure(INVALID_ARGUMENT, "the report is without a data set"));
    }
    let mut bytes = Vec::new();
    loop {
        let piece = association.data(id).await?;
        bytes.extend_from_slice(&piece.data);
        if bytes.len() > REPORT_MAX_BYTES {
            if !piece.is_last {
                association.discard(id).await?;
            }
            return Ok(Status::failure(RESOURCE_LIMITATION, "more than was asked for"));
        }
        if piece.is_last {
            break;
        }
    }
    let report = match Report::parse(&bytes, context.transfer_syntax.as_str()) {
        Ok(report) => report,
        Err(flaw) => return Ok(Status::failure(INVALID_ARGUMENT, &flaw.to_string())),
    };
    Ok(match association.shared().promises.reported(&report).await {
        Ok(true) => Status::success(),
        Ok(false) => Status::failure(INVALID_ARGUMENT, "nothing waits under this Transaction UID"),
        Err(e) => {
            tracing::error!("a report of storage commitment cannot be recorded: {e}");
            Status::failure(PROCESSING_FAILURE, "the journal cannot be read or written; report later")
        }
    })
}

/// The peer answered an N-EVENT-REPORT of ours.
pub(super) async fn answered(association: &mut Association, command: &Command) -> Result<(), Broken> {
    let Some(id) = association.reports.remove(&command.message_id) else {
        return Err(Broken::Unexpected("a response came to what was not asked"));
    };
    let store = &association.shared().store;
    let noted = match command.status {
        Some(0) => store.report_sent(id).await,
        _ => store.report_again(id, false, now_ms()).await,
    };
    noted.unwrap_or_else(|e| tracing::error!("a result of storage commitment will be sent twice: {e}"));
    association.shared().reports.notify_one();
    Ok(())
}

/// The association ended before the peer answered: the results are due.
pub(super) async fn unanswered(association: &Association) {
    let shared = association.shared();
    for id in association.reports.values() {
        if let Err(e) = shared.store.report_again(*id, false, now_ms()).await {
            tracing::error!("a result of storage commitment is sent later than it could be: {e}");
        }
    }
    shared.reports.notify_one();
}

/// Sends what is due on associations of its own, until the node stops.
pub(super) async fn deliver(shared: Arc<Shared>) {
    loop {
        let pause = tokio::select! {
            () = shared.stop.cancelled() => return,
            pause = send_due(&shared) => pause,
        };
        let pause = pause.unwrap_or_else(|e| {
            tracing::error!("results of storage commitment wait: {e}");
            Some(JOURNAL_PAUSE)
        });
        let paused = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.reports.notified() => {}
            () = paused => {}
        }
    }
}

/// One round; how long nothing is due after it.
async fn send_due(shared: &Shared) -> Result<Option<Duration>, StoreError> {
    for report in shared.store.due_reports(due(&shared.config), DUE_AT_ONCE).await? {
        attempt(shared, &report).await?;
    }
    let next = shared.store.next_report_ms(due(&shared.config)).await?;
    Ok(next.map(|at| Duration::from_millis(at.saturating_sub(now_ms()).max(0).unsigned_abs())))
}

/// A result waits for the association on which it was asked for, and then between two attempts.
fn due(config: &DimseConfig) -> Due {
    Due::now(config.idle_timeout_ms.max(config.commitment_retry_ms << DOUBLINGS_MAX))
}

async fn attempt(shared: &Shared, report: &CommitmentReport) -> Result<(), StoreError> {
    let (store, config) = (&shared.store, &shared.config);
    let (title, transaction) = (crate::printable(&report.ae_title), &report.transaction_uid);
    let Some(port) = report.port else {
        tracing::warn!(
            title,
            transaction,
            "a result of storage commitment cannot be sent: the caller left, and dimse.callers has no port for it"
        );
        return store.report_failed(report.id).await;
    };
    let why = match report::send(shared, report, port).await {
        Ok(()) => return store.report_sent(report.id).await,
        Err(why) => why,
    };
    if report.attempts + 1 >= config.commitment_attempts_max {
        let most = config.commitment_attempts_max;
        tracing::warn!(title, transaction, "given up after dimse.commitment_attempts_max = {most} attempts: {why}");
        return store.report_failed(report.id).await;
    }
    tracing::warn!(title, transaction, "a result of storage commitment was not taken, and is sent again later: {why}");
    let pause = milliseconds(config.commitment_retry_ms).saturating_mul(1 << report.attempts.min(DOUBLINGS_MAX));
    store.report_again(report.id, true, now_ms().saturating_add(pause)).await
}

fn milliseconds(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
