//! Run, finding and verdict rows, from released JSON: `gantry.result/1`, `gantry.verdict/1` and `gantry.timing/1`.

use serde_json::Value;

use super::rows::{Cell, Row, Rows};
use super::tables::Table;
use crate::batch::{Digest, Kind};

/// No larger document is read for its rows; no result of Gantry is.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Rows in the making.
#[derive(Default)]
pub(super) struct Results {
    runs: Vec<Row>,
    findings: Vec<Row>,
    verdicts: Vec<Row>,
    timings: Vec<Value>,
}

impl Results {
    pub(super) fn count(&self) -> usize {
        self.runs.len() + self.findings.len() + self.verdicts.len()
    }

    pub(super) fn add(&mut self, kind: Kind, sha256: Digest, content: &[u8]) {
        let document = match content.len() <= DOCUMENT_BYTES_MAX {
            true => serde_json::from_slice(content).unwrap_or(Value::Null),
            false => Value::Null,
        };
        let schema = document.get("schema").and_then(Value::as_str).unwrap_or_default();
        match (kind, schema) {
            (Kind::Result, "gantry.result/1") => self.result(sha256, &document),
            // It is there all the same, by its digest.
            (Kind::Result, _) => {
                let mut row = Row::of(Table::Run);
                row.set(Table::Run, "result_sha256", sha256);
                self.runs.push(row);
            }
            (Kind::Verdict, "gantry.verdict/1") => self.verdicts(&document),
            (Kind::Timing, "gantry.timing/1") => self.timings.push(document),
            _ => {}
        }
    }

    fn result(&mut self, sha256: Digest, document: &Value) {
        const HERE: Table = Table::Run;
        let mut row = Row::of(HERE);
        row.set(HERE, "study_instance_uid", text(document, "/input/study_instance_uid"));
        module(&mut row, HERE, document);
        row.set(HERE, "result_sha256", sha256);
        for (column, pointer) in [
            ("component_sha256", "/module/component_sha256"),
            ("status", "/status"),
            ("runtime_version", "/runtime_version"),
            ("engine", "/models/0/engine"),
        ] {
            row.set(HERE, column, text(document, pointer));
        }
        row.set(HERE, "run_date", day(document.get("date")));
        row.set(HERE, "demonstration", document.pointer("/module/demonstration").and_then(Value::as_bool));
        let models = list(document, "/models");
        let on = |device| models.iter().any(|model| model.get("device").and_then(Value::as_str) == Some(device));
        let device = ["gpu", "cpu"].into_iter().find(|device| on(device));
        row.set(HERE, "device", device);
        row.set(HERE, "models", models.len() as u64);
        let series = list(document, "/input/series");
        row.set(HERE, "series_seen", series.len() as u64);
        row.set(
            HERE,
            "instances_decoded",
            series.iter().map(|series| list(series, "/decoded").len() as u64).sum::<u64>(),
        );
        row.set(HERE, "outputs", list(document, "/outputs").len() as u64);
        row.set(HERE, "compute_milliseconds", sum(models, "compute_milliseconds"));
        let phases = list(document, "/phases");
        let analysis = phases.iter().find(|phase| phase.get("name").and_then(Value::as_str) == Some("analysis"));
        row.set(HERE, "analysis_milliseconds", analysis.and_then(|phase| number(phase, "/milliseconds")));
        row.set(HERE, "phases_milliseconds", sum(phases, "milliseconds"));
        row.set(HERE, "host_memory_peak_bytes", whole(document, "/host_memory_peak_bytes"));
        let before = self.findings.len();
        self.findings(sha256, document);
        row.set(HERE, "findings", (self.findings.len() - before) as u64);
        self.runs.push(row);
    }

    fn findings(&mut self, sha256: Digest, document: &Value) {
        const HERE: Table = Table::Finding;
        let mut about = Row::of(HERE);
        about.set(HERE, "study_instance_uid", text(document, "/input/study_instance_uid"));
        module(&mut about, HERE, document);
        about.set(HERE, "result_sha256", sha256);
        let findings = document.get("findings").unwrap_or(&Value::Null);
        for (list_of, kind, code_in) in [
            ("segments", "segment", Some("kind")),
            ("probabilities", "probability", None),
            ("measurements", "measurement", Some("quantity")),
            ("classifications", "classification", Some("finding")),
            ("triage", "triage", Some("finding")),
            ("marks", "mark", Some("label")),
        ] {
            for (place, stated) in findings.get(list_of).and_then(Value::as_array).into_iter().flatten().enumerate() {
                let mut row = about.clone();
                row.set(HERE, "finding", format!("{list_of}/{place}").as_str());
                row.set(HERE, "kind", kind);
                if let Some(code_in) = code_in {
                    code(&mut row, HERE, "code", stated.get(code_in));
                }
                finding(&mut row, kind, stated);
                self.findings.push(row);
            }
        }
        for (name, code_in) in [("unfit", Some("reason")), ("heatmap", None)] {
            let Some(stated) = findings.get(name).filter(|stated| stated.is_object()) else {
                continue;
            };
            let mut row = about.clone();
            row.set(HERE, "finding", name);
            row.set(HERE, "kind", name);
            if let Some(code_in) = code_in {
                code(&mut row, HERE, "code", stated.get(code_in));
            }
            finding(&mut row, name, stated);
            self.findings.push(row);
        }
    }

    fn verdicts(&mut self, document: &Value) {
        const HERE: Table = Table::Verdict;
        let mut about = Row::of(HERE);
        about.set(HERE, "study_instance_uid", text(document, "/study_instance_uid"));
        module(&mut about, HERE, document);
        about.set(HERE, "result_sha256", text(document, "/result/object_sha256"));
        for said in list(document, "/verdicts") {
            let mut row = about.clone();
            for (column, pointer) in [
                ("finding", "/finding"),
                ("verdict", "/verdict"),
                ("corrected_unit", "/correction/unit"),
                ("corrected_level", "/correction/level"),
            ] {
                row.set(HERE, column, text(said, pointer));
            }
            row.set(HERE, "given", day(said.get("given")));
            row.set(HERE, "corrected_value", number(said, "/correction/value"));
            row.set(HERE, "corrected_present", said.pointer("/correction/present").and_then(Value::as_bool));
            code(&mut row, HERE, "corrected_code", said.pointer("/correction/code"));
            self.verdicts.push(row);
        }
    }

    /// A timing goes to the run that it is of; where the job left no result here, it is a run by itself.
    fn timing(&mut self, document: &Value) {
        const HERE: Table = Table::Run;
        for job in list(document, "/jobs") {
            let result = Cell::from(text(job, "/result/object_sha256"));
            let same = |row: &Row| result != Cell::Null && *row.get(HERE, "result_sha256") == result;
            let place = self.runs.iter().position(same).unwrap_or_else(|| {
                let mut row = Row::of(HERE);
                row.set(HERE, "study_instance_uid", text(document, "/study_instance_uid"));
                module(&mut row, HERE, job);
                row.set(HERE, "result_sha256", text(job, "/result/object_sha256"));
                row.set(HERE, "status", text(job, "/state"));
                self.runs.push(row);
                self.runs.len() - 1
            });
            let row = &mut self.runs[place];
            row.set(HERE, "priority", text(job, "/priority"));
            row.set(HERE, "attempts", whole(job, "/attempts"));
            for column in ["receive_milliseconds", "close_milliseconds"] {
                row.set(HERE, column, document.get(column).and_then(Value::as_f64));
            }
            for of in ["queue", "wait", "run", "deliver", "turnaround"] {
                let column = format!("{of}_milliseconds");
                row.set(HERE, &column, job.get(&column).and_then(Value::as_f64));
            }
        }
    }

    pub(super) fn finish(mut self, rows: &mut Rows) {
        for document in std::mem::take(&mut self.timings) {
            self.timing(&document);
        }
        rows.run = self.runs;
        rows.finding = self.findings;
        rows.verdict = self.verdicts;
    }
}

/// What a finding of this kind says, but for its code.
fn finding(row: &mut Row, kind: &str, stated: &Value) {
    const HERE: Table = Table::Finding;
    match kind {
        "segment" => {
            row.set(HERE, "label", text(stated, "/name"));
            row.set(HERE, "value", number(stated, "/millilitres"));
            row.set(HERE, "unit", "mL");
            row.set(HERE, "probability", number(stated, "/confidence"));
            row.set(HERE, "segment", whole(stated, "/value"));
            row.set(HERE, "voxels", whole(stated, "/voxels"));
        }
        "probability" => {
            row.set(HERE, "segment", whole(stated, "/segment"));
            row.set(HERE, "probability", number(stated, "/maximum"));
        }
        "measurement" => {
            row.set(HERE, "value", number(stated, "/value"));
            row.set(HERE, "unit", text(stated, "/unit"));
            row.set(HERE, "segment", whole(stated, "/segment"));
        }
        "heatmap" => row.set(HERE, "value", number(stated, "/maximum")),
        _ => {
            row.set(HERE, "probability", number(stated, "/probability"));
            row.set(HERE, "level", text(stated, "/level"));
            for (place, axis) in ["x", "y", "z"].into_iter().enumerate() {
                row.set(HERE, &format!("start_{axis}"), whole(stated, &format!("/start/{place}")));
                row.set(HERE, &format!("size_{axis}"), whole(stated, &format!("/size/{place}")));
            }
        }
    }
}

fn module(row: &mut Row, table: Table, document: &Value) {
    row.set(table, "module", text(document, "/module/name"));
    row.set(table, "module_version", text(document, "/module/version"));
    row.set(table, "module_sha256", text(document, "/module/identity_sha256"));
}

fn code(row: &mut Row, table: Table, column: &str, code: Option<&Value>) {
    let Some(code) = code else { return };
    for part in ["value", "scheme", "meaning"] {
        row.set(table, &format!("{column}_{part}"), code.get(part).and_then(Value::as_str));
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}

fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer)?.as_f64()
}

fn whole(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer)?.as_i64()
}

fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Nothing where there is nothing to add up.
fn sum(all: &[Value], field: &str) -> Option<f64> {
    let numbers: Vec<f64> = all.iter().filter_map(|one| one.get(field)?.as_f64()).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum())
}

/// A day, written `YYYYMMDD` or at the start of what RFC 3339 wants, as `YYYY-MM-DD`.
fn day(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    let form = if text.len() == 8 { "%Y%m%d" } else { "%Y-%m-%d" };
    let day = text.get(..10).unwrap_or(text);
    chrono::NaiveDate::parse_from_str(day, form).ok().map(|day| day.format("%Y-%m-%d").to_string())
}
