//! What was measured, beside what is wanted.

use std::fmt;

use serde_json::{Value, json};

/// Slices of the study that targets are meant for.
pub(crate) const TARGET_SLICES: usize = 300;

/// What a number should not pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// Past this is over.
    pub(crate) most: f64,
    /// What we would rather have.
    pub(crate) aim: Option<f64>,
}

/// One number.
#[derive(Debug, Clone)]
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
    target: Option<Target>,
    /// How it was measured, or what it is made of.
    note: String,
}

/// All numbers of a run.
#[derive(Debug)]
pub(crate) struct Report {
    slices: usize,
    processors: usize,
    load: String,
    rows: Vec<Row>,
    skipped: Vec<String>,
}

impl Report {
    /// Nothing measured yet.
    pub(crate) fn begin(slices: usize, processors: usize) -> Self {
        Self { slices, processors, load: load(), rows: Vec::new(), skipped: Vec::new() }
    }

    /// A number that has no target.
    pub(crate) fn told(&mut self, name: &str, value: f64, unit: &'static str, note: impl Into<String>) {
        self.row(name, value, unit, None, note.into());
    }

    /// A number that should be at most `most`, better `aim`.
    pub(crate) fn wanted(
        &mut self,
        name: &str,
        value: f64,
        unit: &'static str,
        (most, aim): (f64, Option<f64>),
        note: impl Into<String>,
    ) {
        self.row(name, value, unit, Some(Target { most, aim }), note.into());
    }

    /// A number from before.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).map(|row| row.value)
    }

    /// Something that could not be measured here.
    pub(crate) fn skip(&mut self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("skipped: {what}");
        self.skipped.push(what);
    }

    fn row(&mut self, name: &str, value: f64, unit: &'static str, target: Option<Target>, note: String) {
        eprintln!("{name}: {value:.3} {unit}");
        self.rows.push(Row { name: name.into(), value, unit, target, note });
    }

    /// For scripts.
    pub(crate) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "name": row.name, "value": row.value, "unit": row.unit,
                "target": row.target.map(|t| t.most), "aim": row.target.and_then(|t| t.aim),
                "verdict": row.verdict(), "note": row.note,
            })
        });
        json!({
            "slices": self.slices, "processors": self.processors, "load_before": self.load,
            "rows": rows.collect::<Vec<_>>(), "skipped": self.skipped,
        })
    }
}

impl Row {
    fn verdict(&self) -> Option<&'static str> {
        let target = self.target?;
        Some(if self.value <= target.most { "ok" } else { "over" })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} slices on {} processors; load before: {}", self.slices, self.processors, self.load)?;
        writeln!(f, "{:<40} {:>10} {:<4} {:>7} {:>7}       how", "", "measured", "", "target", "aim")?;
        for row in &self.rows {
            let number = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n}"));
            let (most, aim) = (number(row.target.map(|t| t.most)), number(row.target.and_then(|t| t.aim)));
            let (name, unit, verdict) = (&row.name, row.unit, row.verdict().unwrap_or(""));
            let decimals = if row.value < 10.0 { 3 } else { 1 };
            writeln!(
                f,
                "{name:<40} {:>10.decimals$} {unit:<4} {most:>7} {aim:>7} {verdict:<4}  {}",
                row.value, row.note
            )?;
        }
        if self.slices != TARGET_SLICES {
            writeln!(f, "targets are those of {TARGET_SLICES} slices")?;
        }
        self.skipped.iter().try_for_each(|what| writeln!(f, "skipped: {what}"))
    }
}

/// The middle value; of an even number, the lower of both.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// How busy the machine is: the load average of the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
