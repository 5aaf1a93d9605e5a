//! What was measured, beside what is wanted.

use std::fmt;

use serde_json::{Value, json};

/// What a number should keep to.
#[derive(Debug, Clone, Copy)]
struct Target {
    bound: Bound,
    /// What we would rather have.
    aim: Option<f64>,
}

/// Where a number misses its target.
#[derive(Debug, Clone, Copy)]
enum Bound {
    /// Above this.
    Most(f64),
    /// Below this.
    Least(f64),
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
    /// What all of it is about.
    subject: String,
    processors: usize,
    load: String,
    rows: Vec<Row>,
    skipped: Vec<String>,
}

impl Report {
    /// Nothing measured yet.
    pub(crate) fn begin(subject: String, processors: usize) -> Self {
        Self { subject, processors, load: load(), rows: Vec::new(), skipped: Vec::new() }
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
        self.row(name, value, unit, Some(Target { bound: Bound::Most(most), aim }), note.into());
    }

    /// A number that should be at least `least`.
    pub(crate) fn at_least(&mut self, name: &str, value: f64, unit: &'static str, least: f64, note: impl Into<String>) {
        self.row(name, value, unit, Some(Target { bound: Bound::Least(least), aim: None }), note.into());
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
                "target": row.target.map(|t| t.bound.limit()), "aim": row.target.and_then(|t| t.aim),
                "verdict": row.verdict(), "note": row.note,
            })
        });
        json!({
            "subject": self.subject, "processors": self.processors, "load_before": self.load,
            "rows": rows.collect::<Vec<_>>(), "skipped": self.skipped,
        })
    }
}

impl Row {
    fn verdict(&self) -> Option<&'static str> {
        Some(match self.target?.bound {
            Bound::Most(most) if self.value <= most => "ok",
            Bound::Most(_) => "over",
            Bound::Least(least) if self.value >= least => "ok",
            Bound::Least(_) => "under",
        })
    }
}

impl Bound {
    fn limit(self) -> f64 {
        match self {
            Self::Most(limit) | Self::Least(limit) => limit,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {} processors; load before: {}", self.subject, self.processors, self.load)?;
        writeln!(f, "{:<44} {:>10} {:<4} {:>7} {:>7}        how", "", "measured", "", "target", "aim")?;
        for row in &self.rows {
            let number = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n}"));
            let (limit, aim) = (number(row.target.map(|t| t.bound.limit())), number(row.target.and_then(|t| t.aim)));
            let (name, unit, verdict) = (&row.name, row.unit, row.verdict().unwrap_or(""));
            let decimals = if row.value < 10.0 { 3 } else { 1 };
            writeln!(
                f,
                "{name:<44} {:>10.decimals$} {unit:<4} {limit:>7} {aim:>7} {verdict:<5}  {}",
                row.value, row.note
            )?;
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

/// The 99th percentile: a value that occurred.
pub(crate) fn percentile(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// How busy the machine is: the load average of the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}
