//! `[expect]` of a case: what findings must be. What is not mentioned is not looked at.

use serde::{Deserialize, Serialize};

use crate::findings::{Code, Segmentation, Urgency};
use crate::geometry::Region;
use crate::module::phantom::Phantom;
use crate::outputs::result::{JobResult, StatedSegment, Status};
use crate::pipeline::RunError;

/// Least and most.
type Between<T> = [T; 2];

/// What a run must come to.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// How it ends.
    pub status: Ends,
    /// The code's value with which the module calls the input unfit.
    pub unfit: Option<String>,
    /// What the error says, among else.
    pub failure: Option<String>,
    /// Segments that there must be.
    pub segments: Vec<ExpectSegment>,
    /// Measurements that there must be.
    pub measurements: Vec<ExpectMeasurement>,
    /// Classifications that there must be.
    pub classifications: Vec<ExpectClassification>,
    /// Whether the study moves up: whether a triage statement is above routine.
    pub raised: Option<bool>,
    /// Triage statements that there must be.
    pub triage: Vec<ExpectTriage>,
    /// How many boxes.
    pub marks: Option<Between<usize>>,
    /// The most of the heatmap.
    pub heatmap_maximum: Option<Between<f64>>,
    /// Files that must be written.
    pub outputs: Vec<String>,
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ends {
    /// With findings, or none.
    #[default]
    Done,
    /// Called unfit.
    Unfit,
    /// Without a result: failed, or refused.
    Failure,
}

impl Ends {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unfit => "unfit",
            Self::Failure => "failure",
        }
    }
}

/// A segment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectSegment {
    /// Segment Label.
    name: String,
    /// Its volume.
    millilitres: Option<Between<f64>>,
    /// As stated by the module.
    confidence: Option<Between<f64>>,
    /// The shapes of the phantom that it should be.
    shape: Option<String>,
    /// How well it is these, at least: twice what both have, by what each has.
    dice_min: Option<f64>,
}

/// A measurement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectMeasurement {
    /// Code value or meaning.
    quantity: String,
    /// The name of the segment that it is of.
    segment: Option<String>,
    value: Between<f64>,
    unit: Option<String>,
}

/// A classification.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectClassification {
    /// Code value or meaning.
    finding: String,
    probability: Between<f64>,
}

/// A triage statement.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectTriage {
    /// Code value or meaning.
    finding: String,
    level: Option<Urgency>,
    probability: Option<Between<f64>>,
}

/// Where a result is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Of what.
    pub what: String,
    /// What was to be.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl Expect {
    pub(super) fn check(&self, shapes: &[&str]) -> Result<(), String> {
        let of_failure = self.failure.is_some() && self.status != Ends::Failure;
        if of_failure || (self.unfit.is_some() && self.status != Ends::Unfit) {
            return Err("status: `unfit` needs status = \"unfit\", and `failure` status = \"failure\"".into());
        }
        for segment in &self.segments {
            match (&segment.shape, segment.dice_min) {
                (Some(shape), Some(_)) if !shapes.contains(&shape.as_str()) => {
                    return Err(format!("segments: no shape of the phantom is called {shape:?}"));
                }
                (Some(_), Some(least)) if !(0.0..=1.0).contains(&least) => {
                    return Err("segments.dice_min: from 0 to 1".into());
                }
                (Some(_), None) | (None, Some(_)) => {
                    return Err("segments: shape and dice_min come together".into());
                }
                _ => {}
            }
        }
        let ranges = self.segments.iter().flat_map(|s| [s.millilitres, s.confidence]).flatten();
        let ranges = ranges.chain(self.measurements.iter().map(|m| m.value));
        let ranges = ranges.chain(self.classifications.iter().map(|c| c.probability));
        let ranges = ranges.chain(self.triage.iter().filter_map(|t| t.probability)).chain(self.heatmap_maximum);
        match ranges.into_iter().find(|[least, most]| least.partial_cmp(most).is_none_or(std::cmp::Ordering::is_gt)) {
            Some([least, most]) => Err(format!("[{least}, {most}]: the least comes first")),
            None => Ok(()),
        }
    }

    /// Where a run is not what was expected; nothing where all is.
    #[must_use]
    pub fn differences(
        &self,
        result: &Result<JobResult, RunError>,
        segmentation: Option<&Segmentation>,
        phantom: Option<&Phantom>,
    ) -> Vec<Difference> {
        let mut differ = Differ::default();
        match result {
            Err(error) if self.status == Ends::Failure => {
                let text = error.to_string();
                let wanted = self.failure.as_deref().unwrap_or_default();
                differ.unless(text.contains(wanted), "failure", wanted, &text);
            }
            Err(error) => differ.push("status", self.status.name(), format!("failure: {error}")),
            Ok(result) => {
                let ended = if result.status == Status::Unfit { Ends::Unfit } else { Ends::Done };
                let detail = result.findings.unfit.as_ref().map(|unfit| format!("unfit: {}", code(&unfit.reason)));
                differ.unless(
                    ended == self.status,
                    "status",
                    self.status.name(),
                    detail.as_deref().unwrap_or(ended.name()),
                );
                if let (Some(wanted), Some(unfit)) = (&self.unfit, &result.findings.unfit) {
                    differ.unless(unfit.reason.value == *wanted, "unfit", wanted, &code(&unfit.reason));
                }
                self.findings(result, &mut differ);
                for segment in &self.segments {
                    if let Some(dice) = segment.dice(result, segmentation, phantom) {
                        let (least, what) =
                            (segment.dice_min.unwrap_or(0.0), format!("segment {}, Dice", segment.name));
                        differ.unless(dice >= least, &what, &format!("at least {least}"), &format!("{dice:.3}"));
                    }
                }
            }
        }
        differ.0
    }

    fn findings(&self, result: &JobResult, differ: &mut Differ) {
        let stated = &result.findings;
        for segment in &self.segments {
            let what = format!("segment {}", segment.name);
            let names = || list(stated.segments.iter().map(|s| s.name.as_str()));
            let Some(found) = stated.segments.iter().find(|s| s.name == segment.name) else {
                differ.push(&what, "there", names());
                continue;
            };
            differ.within(segment.millilitres, &format!("{what}, mL"), Some(found.millilitres));
            differ.within(segment.confidence, &format!("{what}, confidence"), found.confidence.map(f64::from));
        }
        for wanted in &self.measurements {
            let name =
                |value: Option<u32>| stated.segments.iter().find(|s| Some(s.value) == value).map(|s| s.name.as_str());
            let is = |m: &&crate::findings::Measurement| {
                named(&m.quantity, &wanted.quantity)
                    && wanted.segment.as_ref().is_none_or(|segment| name(m.segment) == Some(segment.as_str()))
            };
            let found = stated.measurements.iter().find(is);
            let what = format!("measurement {} {}", wanted.quantity, wanted.segment.as_deref().unwrap_or_default());
            differ.within(Some(wanted.value), what.trim_end(), found.map(|m| m.value));
            if let (Some(unit), Some(found)) = (&wanted.unit, found) {
                differ.unless(*unit == found.unit, &format!("{}, unit", what.trim_end()), unit, &found.unit);
            }
        }
        for wanted in &self.classifications {
            let found = stated.classifications.iter().find(|c| named(&c.finding, &wanted.finding));
            let what = format!("classification {}", wanted.finding);
            differ.within(Some(wanted.probability), &what, found.map(|c| f64::from(c.probability)));
        }
        let highest = stated.triage.iter().map(|t| t.level).max();
        if let Some(raised) = self.raised {
            let found = highest.map_or("no triage", Urgency::name);
            let is = highest.is_some_and(|level| level > Urgency::Routine);
            differ.unless(is == raised, "triage", if raised { "raised" } else { "not raised" }, found);
        }
        for wanted in &self.triage {
            let what = format!("triage {}", wanted.finding);
            let Some(found) = stated.triage.iter().find(|t| named(&t.finding, &wanted.finding)) else {
                differ.push(&what, "there", list(stated.triage.iter().map(|t| t.finding.value.as_str())));
                continue;
            };
            if let Some(level) = wanted.level {
                differ.unless(found.level == level, &what, level.name(), found.level.name());
            }
            differ.within(wanted.probability, &format!("{what}, probability"), Some(f64::from(found.probability)));
        }
        if let Some([least, most]) = self.marks {
            let found = stated.marks.len();
            let fits = (least..=most).contains(&found);
            differ.unless(fits, "boxes", &format!("{least} to {most}"), &found.to_string());
        }
        let maximum = stated.heatmap.as_ref().map(|heatmap| f64::from(heatmap.maximum));
        differ.within(self.heatmap_maximum, "heatmap, maximum", maximum);
        for file in &self.outputs {
            let there = result.outputs.iter().any(|written| written.file == *file);
            differ.unless(there, "outputs", file, &list(result.outputs.iter().map(|written| written.file.as_str())));
        }
    }
}

impl ExpectSegment {
    /// How well the segment is the phantom's shapes of this name, which both lie on the grid of the labels.
    fn dice(&self, result: &JobResult, segmentation: Option<&Segmentation>, phantom: Option<&Phantom>) -> Option<f64> {
        let (shape, phantom) = (self.shape.as_ref()?, phantom?);
        let value = |s: &StatedSegment| (s.name == self.name).then_some(s.value);
        let value = result.findings.segments.iter().find_map(value)? as f32;
        let labels = &segmentation?.labels;
        let (grid, [columns, rows, slices]) = (labels.geometry(), labels.geometry().size());
        let (mut both, mut either) = (0_u64, 0_u64);
        for z in 0..slices {
            let region = Region { start: [0, 0, z], size: [columns, rows, 1] };
            for (i, voxel) in labels.read(region).ok()?.into_iter().enumerate() {
                let at = grid.to_patient([i % columns, i / columns, z].map(|n| n as f64));
                let should = phantom.shape_at(at).is_some_and(|covering| covering.name == *shape);
                let is = voxel == value;
                both += u64::from(should && is);
                either += u64::from(should) + u64::from(is);
            }
        }
        Some(if either == 0 { 1.0 } else { 2.0 * both as f64 / either as f64 })
    }
}

/// Differences, as they are found.
#[derive(Default)]
struct Differ(Vec<Difference>);

impl Differ {
    fn push(&mut self, what: &str, expected: &str, found: String) {
        let [what, expected, found] = [what, expected, found.as_str()].map(crate::printable);
        self.0.push(Difference { what, expected, found });
    }

    fn unless(&mut self, fits: bool, what: &str, expected: &str, found: &str) {
        if !fits {
            self.push(what, expected, found.to_owned());
        }
    }

    /// Nothing is expected without a range.
    fn within(&mut self, range: Option<Between<f64>>, what: &str, found: Option<f64>) {
        let Some([least, most]) = range else { return };
        let fits = found.is_some_and(|found| (least..=most).contains(&found));
        let found = found.map_or("none".to_owned(), |found| format!("{found:.4}"));
        self.unless(fits, what, &format!("{least} to {most}"), &found);
    }
}

fn named(code: &Code, name: &str) -> bool {
    code.value == name || code.meaning == name
}

fn code(code: &Code) -> String {
    format!("{} ({})", code.value, code.meaning)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".into() } else { format!("only {}", names.join(", ")) }
}
