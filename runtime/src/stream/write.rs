//! The result of a stream: a report that refers to frames, and `result.json`, as those of studies.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::report::{AnsweredFrame, StreamRecord, StreamReport};
use super::view::Played;
use crate::findings::{Classification, Measurement};
use crate::outputs::result::{Input, InputFile, InputSeries, JobResult, Model, Module, SCHEMA, Stated, Status};
use crate::outputs::{self, OutputKind, OutputUids, REPORT_FILE, RESULT_FILE, Source, Stamp, Transaction};
use crate::pipeline::{RunError, grant_names, module_info};
use crate::sandbox::PreparedStream;
use crate::study::{Cine, ReadError};

/// SHA-256 of a file that is about to be played.
pub(super) fn digest(path: &Path) -> Result<[u8; 32], ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let (mut hash, mut file, mut bytes) = (Sha256::new(), File::open(path).map_err(io)?, vec![0; 1 << 16]);
    loop {
        match file.read(&mut bytes).map_err(io)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&bytes[..read]),
        }
    }
}

/// Writes what a module said of a stream that was played to its end.
pub(super) fn write(
    mut transaction: Transaction,
    (prepared, cine, played_digest): (&PreparedStream, &Cine, [u8; 32]),
    played: &Played,
    report: &StreamReport,
    stamp: &Stamp,
) -> Result<(), RunError> {
    let failed = |e: &dyn std::fmt::Display| RunError::Write(e.to_string());
    if digest(cine.path())? != played_digest {
        return Err(ReadError::Changed(cine.path().to_owned()).into());
    }
    let source = Source::new(&cine.study, (0, 0)).ok_or_else(|| failed(&"the image is gone"))?;
    let (info, grants) = (module_info(prepared.package()), grant_names(prepared.grants()));
    let summary = &played.closed.summary;
    // What was said depends on which frames were dropped, so another answer is another object.
    let said = serde_json::to_vec(summary).map_err(|e| failed(&e))?;
    let mut circumstances = grants.clone();
    circumstances.push(format!("gantry {}", env!("CARGO_PKG_VERSION")));
    circumstances.push(format!("summary {}", crate::hex(&Sha256::digest(said))));
    let uids = OutputUids::new(&source, &[played_digest], &info.identity, &circumstances);
    if !summary.conclusions.is_empty() || !summary.quantities.is_empty() {
        let object = outputs::frames_report(summary, &source, &info, &uids, stamp).map_err(|e| failed(&e))?;
        transaction.dicom(REPORT_FILE, OutputKind::Report, &object)?;
        outputs::conforms(transaction.staged(), &outputs::Inputs::new(&cine.study, &[0])).map_err(|e| failed(&e))?;
    }
    let module = Module::new(&info, &prepared.package().component_digest(), grants);
    let mut result = result(cine, played_digest, played, module, stamp);
    result.warnings.clone_from(&report.warnings);
    result.outputs = transaction.written().to_vec();
    transaction.bytes(RESULT_FILE, OutputKind::Result, &result.to_bytes())?;
    transaction.commit()?;
    Ok(())
}

fn result(cine: &Cine, digest: [u8; 32], played: &Played, module: Module, stamp: &Stamp) -> JobResult {
    let closed = &played.closed;
    let instances = cine.study.series.iter().flat_map(|series| &series.instances);
    let uids: Vec<String> = instances.map(|instance| instance.sop_instance_uid.clone()).collect();
    let decoded = uids.iter().map(|uid| InputFile { sop_instance_uid: uid.clone(), sha256: crate::hex(&digest) });
    let decoded: Vec<_> = decoded.collect();
    let series = cine.study.series.iter().map(|series| InputSeries {
        series_instance_uid: series.uid.clone(),
        // It was told none.
        pseudonym: String::new(),
        modality: series.modality.clone(),
        decoded: decoded.clone(),
    });
    let classifications = closed.summary.conclusions.iter();
    let measurements = closed.summary.quantities.iter();
    let answers = played.answers.iter();
    JobResult {
        schema: SCHEMA,
        status: Status::Done,
        runtime_version: env!("CARGO_PKG_VERSION"),
        date: stamp.date.clone(),
        time: stamp.time.clone(),
        correlation: None,
        module,
        models: closed.models.iter().map(|model| Model::from(model.as_ref())).collect(),
        input: Input {
            study_instance_uid: cine.study.uid.clone(),
            series: series.collect(),
            upstream: Vec::new(),
            priors: Vec::new(),
        },
        findings: Stated {
            segments: Vec::new(),
            probabilities: Vec::new(),
            measurements: measurements
                .map(|q| Measurement {
                    quantity: q.quantity.clone(),
                    value: q.value,
                    unit: q.unit.clone(),
                    segment: None,
                })
                .collect(),
            classifications: classifications
                .map(|c| Classification { finding: c.finding.clone(), probability: c.probability })
                .collect(),
            triage: Vec::new(),
            unfit: None,
            heatmap: None,
            marks: Vec::new(),
        },
        stream: Some(StreamRecord {
            sop_instance_uid: uids.into_iter().next().unwrap_or_default(),
            told: played.told.clone(),
            answers: answers.map(|(frame, answer)| AnsweredFrame { frame: *frame, answer: answer.clone() }).collect(),
        }),
        outputs: Vec::new(),
        predecessor: None,
        phases: Vec::new(),
        host_memory_peak_bytes: Some(closed.host_memory_peak),
        warnings: Vec::new(),
        log: closed.log.clone(),
    }
}
