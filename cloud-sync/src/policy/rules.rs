//! `[[rules]]`: which studies may go. The first that matches decides; where none does, the study stays.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Candidate, PolicyError};
use crate::deid::{Attribute, Secret, Values};

pub(super) const RULES_MAX: usize = 256;
const WORDS_MAX: usize = 256;
const HOURS_MAX: u32 = 8760;

/// What a person said of a result. Words as in verdicts of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is so.
    Accepted,
    /// It is not so.
    Rejected,
    /// It is otherwise.
    Corrected,
}

/// How urgent a study was at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words are those of the routing rules")]
pub enum Priority {
    #[default]
    Routine,
    Prompt,
    Urgent,
    Critical,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobEnd {
    /// With a result.
    Done,
    /// Without one, for a cause that does not pass.
    Failed,
    /// Without one, as often as it was tried.
    Dead,
    /// Somebody, or a later version of the study, cancelled it.
    Cancelled,
    /// What it depends on was not found.
    Skipped,
}

/// A word with `*` for any characters and `?` for one, as in queries of PS3.4 C.2.2.2.4, without regard to case. The empty one
/// stands for instances that say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// Whether a value is meant.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let fold = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
        glob(&fold(&self.0), &fold(value))
    }
}

/// Each `*` is tried at its shortest first, and only the last one is gone back to: no value makes it slow.
fn glob(pattern: &[char], value: &[char]) -> bool {
    let (mut p, mut v) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while v < value.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, v));
                p += 1;
            }
            Some('?') => (p, v) = (p + 1, v + 1),
            Some(c) if *c == value[v] => (p, v) = (p + 1, v + 1),
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, v) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// A rule: it matches where each key that it names has a value that it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For people: 1 to 64 characters.
    pub name: String,
    /// Modality (0008,0060) of any instance.
    #[serde(default)]
    pub modalities: Option<Vec<Pattern>>,
    /// Body Part Examined (0018,0015) of any instance.
    #[serde(default)]
    pub body_parts: Option<Vec<Pattern>>,
    /// SOP Class UID (0008,0016) of any instance.
    #[serde(default)]
    pub sop_classes: Option<Vec<Pattern>>,
    /// Manufacturer (0008,0070) of any instance.
    #[serde(default)]
    pub manufacturers: Option<Vec<Pattern>>,
    /// Manufacturer's Model Name (0008,1090) of any instance.
    #[serde(default)]
    pub models: Option<Vec<Pattern>>,
    /// AE title of any who sent instances of it.
    #[serde(default)]
    pub calling_ae_titles: Option<Vec<Pattern>>,
    /// Name of any module that had a job.
    #[serde(default)]
    pub modules: Option<Vec<Pattern>>,
    /// What was said of any of its results.
    #[serde(default)]
    pub verdicts: Option<Vec<Verdict>>,
    /// How urgent it was.
    #[serde(default)]
    pub priorities: Option<Vec<Priority>>,
    /// How any of its jobs ended.
    #[serde(default)]
    pub jobs: Option<Vec<JobEnd>>,
    /// Whether it may go.
    pub send: bool,
    /// Which part of them goes, 0 to 1.
    #[serde(default = "all", deserialize_with = "number")]
    pub sample: f64,
    /// How long a study waits for somebody's verdict once its jobs are over, 1 to 8760 h. With `verdicts` the rule does not match after
    /// that; without, the study goes without one. Without this key nothing waits.
    #[serde(default)]
    pub wait_for_verdict_max_h: Option<u32>,
}

fn all() -> f64 {
    1.0
}

/// Also one without a point.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number from 0 to 1")]
    enum Number {
        Whole(i32),
        Part(f64),
    }
    Ok(match Number::deserialize(deserializer)? {
        Number::Whole(number) => number.into(),
        Number::Part(number) => number,
    })
}

/// `[sampling]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Of what a part goes.
    pub by: SampleBy,
}

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleBy {
    /// Patients, each with all studies.
    #[default]
    Patient,
    /// Studies, each for itself.
    Study,
}

/// What a rule says of a study.
pub(super) enum Match {
    No,
    Yes,
    /// It would with a verdict, which may come until then.
    Awaits(DateTime<Utc>),
}

/// The attributes that rules look at.
pub(super) struct Looked {
    modality: Attribute,
    body_part: Attribute,
    sop_class: Attribute,
    manufacturer: Attribute,
    model: Attribute,
}

impl Looked {
    pub(super) fn new() -> Self {
        let named = |keyword: &str| keyword.parse().expect("a keyword of PS3.6");
        Self {
            modality: named("Modality"),
            body_part: named("BodyPartExamined"),
            sop_class: named("SOPClassUID"),
            manufacturer: named("Manufacturer"),
            model: named("ManufacturerModelName"),
        }
    }

    pub(super) fn all(self) -> [Attribute; 5] {
        [self.modality, self.body_part, self.sop_class, self.manufacturer, self.model]
    }
}

impl Rule {
    pub(super) fn matches(&self, study: &Candidate, now: DateTime<Utc>) -> Match {
        if !self.fits(study) {
            return Match::No;
        }
        let said = study.verdicts.iter().any(|v| self.verdicts.as_ref().is_none_or(|wanted| wanted.contains(v)));
        // Without a result nobody can judge it.
        let waits = study.verdicts.is_empty() && study.jobs.contains(&JobEnd::Done);
        let until = self.wait_for_verdict_max_h.map(|hours| study.settled + TimeDelta::hours(hours.into()));
        match (said || self.verdicts.is_none(), until.filter(|until| waits && now < *until)) {
            (_, Some(until)) => Match::Awaits(until),
            (true, None) => Match::Yes,
            (false, None) => Match::No,
        }
    }

    /// Whether it matches but for verdicts.
    fn fits(&self, study: &Candidate) -> bool {
        let looked = Looked::new();
        let said = [
            (&self.modalities, &looked.modality),
            (&self.body_parts, &looked.body_part),
            (&self.sop_classes, &looked.sop_class),
            (&self.manufacturers, &looked.manufacturer),
            (&self.models, &looked.model),
        ];
        let known = [(&self.calling_ae_titles, &study.calling_ae_titles), (&self.modules, &study.modules)];
        said.into_iter()
            .all(|(wanted, attribute)| wanted.as_ref().is_none_or(|wanted| any_says(&study.values, attribute, wanted)))
            && known.into_iter().all(|(wanted, known)| wanted.as_ref().is_none_or(|wanted| any_of(known, wanted)))
            && self.priorities.as_ref().is_none_or(|wanted| wanted.contains(&study.priority))
            && self.jobs.as_ref().is_none_or(|wanted| study.jobs.iter().any(|end| wanted.contains(end)))
    }

    pub(super) fn check(&self) -> Result<(), PolicyError> {
        let key = |key: &str| format!("rules.{key} of rule {:?}", self.name);
        if !(1..=64).contains(&self.name.chars().count()) || self.name.chars().any(char::is_control) {
            return Err(PolicyError::range("rules.name", "1 to 64 characters, and say what the rule is for"));
        }
        let lists = [
            ("modalities", self.modalities.as_ref().map(Vec::len)),
            ("body_parts", self.body_parts.as_ref().map(Vec::len)),
            ("sop_classes", self.sop_classes.as_ref().map(Vec::len)),
            ("manufacturers", self.manufacturers.as_ref().map(Vec::len)),
            ("models", self.models.as_ref().map(Vec::len)),
            ("calling_ae_titles", self.calling_ae_titles.as_ref().map(Vec::len)),
            ("modules", self.modules.as_ref().map(Vec::len)),
            ("verdicts", self.verdicts.as_ref().map(Vec::len)),
            ("priorities", self.priorities.as_ref().map(Vec::len)),
            ("jobs", self.jobs.as_ref().map(Vec::len)),
        ];
        if let Some((name, _)) = lists.into_iter().find(|(_, n)| n.is_some_and(|n| !(1..=WORDS_MAX).contains(&n))) {
            return Err(PolicyError::range(key(name), "a list of 1 to 256, or left out where anything will do"));
        }
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(PolicyError::range(key("sample"), "0 to 1"));
        }
        if !self.wait_for_verdict_max_h.is_none_or(|hours| (1..=HOURS_MAX).contains(&hours)) {
            return Err(PolicyError::range(key("wait_for_verdict_max_h"), "1 to 8760"));
        }
        Ok(())
    }
}

/// Whether an instance says what one of these means; the empty pattern means those that say nothing.
fn any_says(values: &Values, attribute: &Attribute, wanted: &[Pattern]) -> bool {
    let Some(lists) = values.lists(attribute) else { return false };
    let says = |list: &Vec<String>| match list.is_empty() {
        true => wanted.iter().any(|pattern| pattern.0.is_empty()),
        false => list.iter().any(|value| wanted.iter().any(|pattern| pattern.matches(value))),
    };
    lists.iter().any(says)
}

fn any_of(known: &BTreeSet<String>, wanted: &[Pattern]) -> bool {
    match known.is_empty() {
        true => wanted.iter().any(|pattern| pattern.0.is_empty()),
        false => known.iter().any(|value| wanted.iter().any(|pattern| pattern.matches(value))),
    }
}

/// Whether it is among the part that goes: the same under one key whenever and wherever it is asked, and who is in a small part is
/// in every larger one.
pub(super) fn is_drawn(secret: &Secret, by: SampleBy, study: &Candidate, part: f64) -> bool {
    let of = match by {
        SampleBy::Patient => study.patient.pseudonym(),
        SampleBy::Study => &study.study_instance_uid,
    };
    let [a, b, c, d, e, f, g, h, ..] = secret.digest("sample", of.as_bytes());
    // The 53 bits that a number has: always below 1.
    let drawn = (u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11) as f64 / (1_u64 << 53) as f64;
    drawn < part
}
