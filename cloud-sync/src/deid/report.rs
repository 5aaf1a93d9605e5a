//! What was done to an instance, in numbers.

use std::collections::BTreeMap;

use dicom_core::Tag;

use super::excuse::{Excuse, Excuses};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// What was done to an attribute: the letters of PS3.15 E.1.1, and what goes beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// X: it is gone.
    Removed,
    /// Z: it is empty, or holds a pseudonym.
    Emptied,
    /// D: it holds a value of its VR that says nothing.
    Dummy,
    /// U: another UID, the same wherever the old one stood.
    Uid,
    /// C: a date or time moved by the patient's own number of days.
    Shifted,
    /// C: what identifies was taken out of its text.
    Cleaned,
    /// A pseudonym derived from it.
    Pseudonym,
    /// An age of 90 years or more became 90.
    Capped,
    /// A characteristic of the patient became that of its band.
    Generalized,
    /// K, though the Basic Profile says otherwise: an option keeps it.
    Retained,
    /// Pixels were blacked out.
    Masked,
    /// It states what was done.
    Stated,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Emptied => "emptied",
            Self::Dummy => "dummy",
            Self::Uid => "uid",
            Self::Shifted => "shifted",
            Self::Cleaned => "cleaned",
            Self::Pseudonym => "pseudonym",
            Self::Capped => "capped",
            Self::Generalized => "generalized",
            Self::Retained => "retained",
            Self::Masked => "masked",
            Self::Stated => "stated",
        }
    }
}

/// How often which action met which attribute, and what a person excused. Attributes that were kept as they were are not in it.
/// It holds no values; tags of private attributes are those of their group and element, without a creator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    counts: BTreeMap<(Tag, Action), u32>,
    excused: Excuses,
}

impl Report {
    pub(super) fn note(&mut self, tag: Tag, action: Action) {
        let count = self.counts.entry((tag, action)).or_default();
        *count = count.saturating_add(1);
    }

    /// Every attribute and action with how often it happened, in the order of tags.
    pub fn counts(&self) -> impl Iterator<Item = (Tag, Action, u32)> + '_ {
        self.counts.iter().map(|(&(tag, action), &count)| (tag, action, count))
    }

    /// How often this happened to this attribute, at any depth.
    #[must_use]
    pub fn count(&self, tag: Tag, action: Action) -> u32 {
        self.counts.get(&(tag, action)).copied().unwrap_or_default()
    }

    pub(super) fn excuse(&mut self, excuses: impl IntoIterator<Item = Excuse>) {
        self.excused.extend(excuses);
    }

    /// What would have held the instance, had a person not excused it; and what the verifier is told to pass over.
    #[must_use]
    pub fn excused(&self) -> &Excuses {
        &self.excused
    }

    /// Adds the counts and excuses of another.
    pub fn add(&mut self, other: &Self) {
        self.excuse(other.excused.iter().cloned());
        for (&key, &count) in &other.counts {
            let sum = self.counts.entry(key).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

/// `{"(0010,0010)": {"pseudonym": 1}, …, "excused": ["face-allowed"]}`; the last one only where something was.
impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tags: BTreeMap<Tag, BTreeMap<&str, u32>> = BTreeMap::new();
        for (tag, action, count) in self.counts() {
            tags.entry(tag).or_default().insert(action.name(), count);
        }
        let mut map = serializer.serialize_map(None)?;
        for (tag, actions) in &tags {
            map.serialize_entry(&format!("({:04X},{:04X})", tag.0, tag.1), actions)?;
        }
        if !self.excused.is_empty() {
            map.serialize_entry("excused", &self.excused)?;
        }
        map.end()
    }
}
