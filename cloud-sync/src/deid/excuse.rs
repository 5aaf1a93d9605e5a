//! What a person looked at and takes responsibility for.
//!
//! An excuse is of one object, and of one thing in it: everything else is checked as before, and what appears then holds the
//! object again. What cannot be excused is mended at its source, or stays.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use dicom_core::Tag;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::held::Held;
use super::report::Report;
use crate::verify::{FalseAlarm, Kind, Place};

/// One thing that a person excused in one object. As text, it is what journals keep: `no-text-seen`,
/// `text-read (0008,103E)`, `false-alarm name (0040,A730).(0040,A160)`, `false-alarm number byte 123`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Excuse {
    /// Excuses [`Held::BurnedIn`]: somebody looked at every frame, and nothing in them identifies.
    NoTextSeen,
    /// Excuses [`Held::TextInPixels`]: somebody read what a detector found, and none of it identifies.
    FoundTextRead,
    /// Excuses [`Held::Recognizable`]: a face may leave. The output goes on saying that one can be seen.
    FaceAllowed,
    /// Excuses [`Held::Text`] of this attribute: somebody read it, and its doubtful words are nobody's. What is
    /// known to identify is taken out all the same.
    TextRead(Tag),
    /// Excuses what the verifier finds of one kind at one place: somebody looked, and it is something else.
    FalseAlarm(FalseAlarm),
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTextSeen => f.write_str("no-text-seen"),
            Self::FoundTextRead => f.write_str("found-text-read"),
            Self::FaceAllowed => f.write_str("face-allowed"),
            Self::TextRead(tag) => write!(f, "text-read {tag}"),
            Self::FalseAlarm(FalseAlarm { kind, place }) => write!(f, "false-alarm {} {place}", kind.name()),
        }
    }
}

/// It is no excuse that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no excuse that this version knows")]
pub struct UnknownExcuse;

impl FromStr for Excuse {
    type Err = UnknownExcuse;

    fn from_str(text: &str) -> Result<Self, UnknownExcuse> {
        match text {
            "no-text-seen" => return Ok(Self::NoTextSeen),
            "found-text-read" => return Ok(Self::FoundTextRead),
            "face-allowed" => return Ok(Self::FaceAllowed),
            _ => {}
        }
        if let Some(attribute) = text.strip_prefix("text-read ") {
            let number = tag(attribute).ok_or(UnknownExcuse)?;
            let halves = [number >> 16, number & 0xFFFF].map(u16::try_from);
            let [Ok(group), Ok(element)] = halves else { return Err(UnknownExcuse) };
            return Ok(Self::TextRead(Tag(group, element)));
        }
        let rest = text.strip_prefix("false-alarm ").ok_or(UnknownExcuse)?;
        let (kind, place) = rest.split_once(' ').ok_or(UnknownExcuse)?;
        let kind = Kind::ALL.into_iter().find(|k| k.name() == kind).ok_or(UnknownExcuse)?;
        let place = match place.strip_prefix("byte ") {
            Some(offset) => Place::Offset(offset.parse().map_err(|_| UnknownExcuse)?),
            None => Place::Element(place.split('.').map(tag).collect::<Option<_>>().ok_or(UnknownExcuse)?),
        };
        Ok(Self::FalseAlarm(FalseAlarm { kind, place }))
    }
}

/// `(gggg,eeee)`.
fn tag(text: &str) -> Option<u32> {
    let (group, element) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let half = |hex: &str| u16::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 4);
    Some(u32::from(half(group)?) << 16 | u32::from(half(element)?))
}

impl Serialize for Excuse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Excuse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a person excused in one object; nothing in most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Excuses(BTreeSet<Excuse>);

impl Excuses {
    /// Whether this is excused.
    #[must_use]
    pub fn has(&self, excuse: &Excuse) -> bool {
        self.0.contains(excuse)
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in one order.
    pub fn iter(&self) -> impl Iterator<Item = &Excuse> {
        self.0.iter()
    }

    /// Lets something through that this excuses, and notes it in the report; otherwise it is held.
    pub(super) fn pass(&self, excuse: Excuse, held: Held, report: &mut Report) -> Result<(), Held> {
        if !self.has(&excuse) {
            return Err(held);
        }
        report.excuse([excuse]);
        Ok(())
    }

    /// What the verifier is told to pass over.
    pub fn false_alarms(&self) -> impl Iterator<Item = &FalseAlarm> {
        self.0.iter().filter_map(|excuse| match excuse {
            Excuse::FalseAlarm(alarm) => Some(alarm),
            _ => None,
        })
    }

    /// They change nothing in what comes out, so they are noted whether or not the verifier will find anything.
    pub(super) fn note_false_alarms(&self, report: &mut Report) {
        report.excuse(self.false_alarms().cloned().map(Excuse::FalseAlarm));
    }
}

impl FromIterator<Excuse> for Excuses {
    fn from_iter<I: IntoIterator<Item = Excuse>>(excuses: I) -> Self {
        Self(excuses.into_iter().collect())
    }
}

impl Extend<Excuse> for Excuses {
    fn extend<I: IntoIterator<Item = Excuse>>(&mut self, excuses: I) {
        self.0.extend(excuses);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excuse_reads_back_as_it_was_written() {
        let alarm = |place| Excuse::FalseAlarm(FalseAlarm { kind: Kind::BirthDate, place });
        let all = [
            Excuse::NoTextSeen,
            Excuse::FoundTextRead,
            Excuse::FaceAllowed,
            Excuse::TextRead(Tag(0x0008, 0x103E)),
            alarm(Place::Element(vec![0x0040_A730, 0x0040_A160])),
            alarm(Place::Offset(123)),
        ];
        for excuse in &all {
            assert_eq!(excuse.to_string().parse().as_ref(), Ok(excuse));
        }
        for wrong in ["", "all", "text-read", "text-read (8,103E)", "false-alarm name", "false-alarm what byte 1"] {
            assert_eq!(wrong.parse::<Excuse>(), Err(UnknownExcuse), "{wrong}");
        }
        let excuses: Excuses = all.into_iter().collect();
        let text = serde_json::to_string(&excuses).expect("JSON");
        assert_eq!(serde_json::from_str::<Excuses>(&text).expect("JSON"), excuses);
    }
}
