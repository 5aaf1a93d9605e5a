//! Documents that are made of the journal, as `docs/sync.md` has them: what people said of a result, and how long things took.
//!
//! They hold original UIDs, dates and comments, and pass the de-identifier as results do. Who looked is not in them.

use chrono::DateTime;
use gantry_cloud_sync::batch::{Digest, Kind};
use serde_json::{Map, Value, json};

use super::sources::{Made, Ran, Source, Times, document, of_job};
use crate::store::{HeldKind, HeldObject, SyncDue};

/// What people said of a result, if anything; with the digest of that result as it leaves, if it does.
pub(super) fn verdict(due: &SyncDue, ran: &Ran, released: Option<Digest>) -> Option<Source> {
    let made = ran.result.as_ref().filter(|made| !made.reviewed.verdicts.is_empty())?;
    let said = made.reviewed.verdicts.iter().map(|row| {
        let day = DateTime::from_timestamp_millis(row.given_ms).map(|at| at.format("%Y-%m-%d").to_string());
        let mut said = Map::new();
        said.insert("finding".into(), row.finding.clone().into());
        said.insert("verdict".into(), row.verdict.name().into());
        said.insert("stated".into(), row.stated.clone());
        if let Some(correction) = &row.correction {
            said.insert("correction".into(), json!(correction));
        }
        if !row.comment.is_empty() {
            said.insert("comment".into(), row.comment.clone().into());
        }
        said.insert("given".into(), json!(day));
        Value::Object(said)
    });
    let text = json!({
        "schema": "gantry.verdict/1",
        "study_instance_uid": due.study_instance_uid,
        "module": module(made),
        "result": { "object_sha256": released.map(|digest| digest.to_string()) },
        "verdicts": said.collect::<Vec<_>>(),
    });
    let object = of_job(HeldKind::Verdict, &ran.job, [0; 32]);
    Some(document(Kind::Verdict, object, Some(&made.module), text.to_string().into_bytes()))
}

/// How long the jobs of a study took; `released` has the digest of a job's result as it leaves.
pub(super) fn timing(due: &SyncDue, times: Times, jobs: &[Ran], released: impl Fn(i64) -> Option<Digest>) -> Source {
    // What a clock that jumped makes negative is not known.
    let span = |from: Option<i64>, to: Option<i64>| to?.checked_sub(from?).filter(|ms| *ms >= 0);
    let of = |ran: &Ran| {
        let job = &ran.job;
        let mut about = Map::new();
        about.insert(
            "module".into(),
            ran.result.as_ref().map_or_else(
                || {
                    json!({
                        "name": job.module, "identity_sha256": job.module_identity,
                    })
                },
                module,
            ),
        );
        about.insert("result".into(), json!({ "object_sha256": released(job.id).map(|digest| digest.to_string()) }));
        about.insert("state".into(), job.state.name().into());
        about.insert("priority".into(), job.priority.name().into());
        about.insert("attempts".into(), job.attempts.into());
        let (closed, last) = (Some(times.closed_ms), Some(times.last_received_ms));
        for (key, ms) in [
            ("queue_milliseconds", span(closed, Some(job.created_ms))),
            ("wait_milliseconds", span(Some(job.created_ms), job.started_ms)),
            ("run_milliseconds", span(job.started_ms, job.ended_ms)),
            ("deliver_milliseconds", span(job.ended_ms, ran.delivered_ms)),
            ("turnaround_milliseconds", span(last, job.ended_ms)),
        ] {
            about.insert(key.into(), json!(ms));
        }
        Value::Object(about)
    };
    let text = json!({
        "schema": "gantry.timing/1",
        "study_instance_uid": due.study_instance_uid,
        "receive_milliseconds": span(Some(times.first_received_ms), Some(times.last_received_ms)),
        "close_milliseconds": span(Some(times.last_received_ms), Some(times.closed_ms)),
        "jobs": jobs.iter().map(of).collect::<Vec<_>>(),
    });
    let object = HeldObject {
        kind: HeldKind::Timing,
        series_instance_uid: String::new(),
        sop_instance_uid: String::new(),
        job: None,
        sha256: [0; 32],
    };
    document(Kind::Timing, object, None, text.to_string().into_bytes())
}

/// As `result.json` has it.
fn module(made: &Made) -> Value {
    json!({
        "name": made.module.name,
        "version": made.module.version,
        "identity_sha256": made.module.digest.to_string(),
    })
}
