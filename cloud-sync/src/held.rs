//! Why an object stays, in words that can be kept and shown: a kind, what it means, and what can be done about it.
//!
//! The de-identifier holds, the verifier finds, and policies refuse; a journal keeps all of it as a [`Reason`], which has
//! tags, kinds and limits in it and never a value.

use serde::Serialize;

use crate::deid::{Excuse, Excuses, Held};
use crate::known::Stays;
use crate::verify::{FalseAlarm, NotProven, Unproven, Unverifiable};

/// Places that a person looks at. Where there are more, something else is wrong.
const LOOKED_AT_MAX: usize = 32;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $remedy:literal;)*) => {
        /// Kinds of reasons. Names are in journals: one never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ReasonKind {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl ReasonKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// In journals, and for commands.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, for people.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)* }
            }

            /// What can be done about it.
            #[must_use]
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

kinds! {
    /// Its file cannot be read.
    Unreadable = "unreadable",
        "mend the disk or the permissions; it is tried again";
    /// It is no DICOM file.
    NotDicom = "not-dicom",
        "it cannot be released: discard it, or have its source send it anew";
    /// Its data set is not well-formed, so nobody can say where values end.
    Damaged = "damaged",
        "it cannot be released: discard it, or have its source send it anew";
    /// It exceeds a limit of the profile.
    Limit = "limit",
        "it cannot be released as it is: raise the limit in the profile, or discard it";
    /// Its transfer syntax is not known, so nobody can say where values end.
    TransferSyntax = "transfer-syntax",
        "it cannot be released: have it transcoded where it comes from, or discard it";
    /// Objects of its kind are never released, since what they hold cannot be cleaned: documents, raw data, sound, video.
    Kind = "kind",
        "it cannot be released: send images of it instead (secondary captures), or discard it";
    /// An attribute without which nothing can be decided is missing, repeated or unreadable.
    Attribute = "attribute",
        "it cannot be released: correct the attribute where it comes from and send it again, or discard it";
    /// Its pixel data may show text, and nothing masks or looks for it.
    BurnedIn = "burned-in",
        "look at every frame: release it where nothing in them identifies; discard it, or give the profile a mask for the \
         device or a text detector, where something does";
    /// A text detector found text in its pixel data, and the profile holds such objects.
    TextInPixels = "text-in-pixels",
        "read the text in every frame: release it where none of it identifies; discard it, or set `pixels.risky = \"mask\"`, \
         where some does";
    /// Its pixel data must be masked and cannot be.
    Mask = "mask",
        "it cannot be released as it is: use a profile without pixel data, have it decompressed where it comes from, or discard it";
    /// Its pixel data may show text and cannot be decoded, so nothing can look at it.
    Undecoded = "undecoded",
        "it cannot be released as it is: use a profile without pixel data, have it decompressed where it comes from, or discard it";
    /// The text detector failed on its pixel data.
    Unsearched = "unsearched",
        "mend the detector or its engine: with another profile, or sent again, it is looked at anew; or discard it";
    /// A face could be rendered from it.
    Recognizable = "recognizable",
        "release it where a face may leave by your agreements; otherwise discard it. `pixels.head` decides for all";
    /// Words in a text are neither known to identify nor of the field.
    Text = "text",
        "read the attribute: release it where its words name nobody; discard it, or set `unclear_text = \"drop\"`, where they may";
    /// Whose result it is cannot be known, so neither what identifies in it.
    Patient = "patient",
        "it cannot be released: it needs instances of one patient in its study; discard it, or correct the study";
    /// Its JSON cannot be read.
    Json = "json",
        "it cannot be released: discard it, or have the module run again";
    /// An identifier of its source was found in what was to be released.
    Leak = "leak",
        "look at the places: release it where all of it is something else that only reads alike; discard it, and report the \
         mistake, where it is an identifier";
    /// That it is clean cannot be proven.
    Unverifiable = "unverifiable",
        "it cannot be released: what cannot be proven stays; discard it";
}

impl ReasonKind {
    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl Serialize for ReasonKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Why an object is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Which kind.
    pub kind: ReasonKind,
    /// What exactly, for people; no value.
    pub detail: String,
    /// What a person says who releases it; empty where nobody can.
    pub excuses: Excuses,
}

impl From<&Held> for Reason {
    fn from(held: &Held) -> Self {
        let (kind, excuse) = match held {
            Held::Io(_) => (ReasonKind::Unreadable, None),
            Held::NotDicom => (ReasonKind::NotDicom, None),
            Held::Damaged { .. } => (ReasonKind::Damaged, None),
            Held::Limit { .. } => (ReasonKind::Limit, None),
            Held::TransferSyntax => (ReasonKind::TransferSyntax, None),
            Held::Kind(_) => (ReasonKind::Kind, None),
            Held::Attribute(_) => (ReasonKind::Attribute, None),
            Held::BurnedIn(_) => (ReasonKind::BurnedIn, Some(Excuse::NoTextSeen)),
            Held::TextInPixels => (ReasonKind::TextInPixels, Some(Excuse::FoundTextRead)),
            Held::Mask(_) => (ReasonKind::Mask, None),
            Held::Undecoded(_) => (ReasonKind::Undecoded, None),
            Held::Unsearched(_) => (ReasonKind::Unsearched, None),
            Held::Recognizable => (ReasonKind::Recognizable, Some(Excuse::FaceAllowed)),
            Held::Text(tag) => (ReasonKind::Text, Some(Excuse::TextRead(*tag))),
            Held::Patient => (ReasonKind::Patient, None),
            Held::Json => (ReasonKind::Json, None),
        };
        Self { kind, detail: held.to_string(), excuses: excuse.into_iter().collect() }
    }
}

impl From<&Unproven> for Reason {
    fn from(unproven: &Unproven) -> Self {
        let Unproven::Leaks(leaks) = unproven else { return Self::unverifiable(unproven) };
        if leaks.len() > LOOKED_AT_MAX {
            let first = leaks.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let many =
                format!("{} places or more have what identifies in the source; the first are: {first}", leaks.len());
            return Self::unverifiable(&many);
        }
        let alarm = |leak: &crate::verify::Leak| Excuse::FalseAlarm(FalseAlarm::of(leak));
        Self { kind: ReasonKind::Leak, detail: unproven.to_string(), excuses: leaks.iter().map(alarm).collect() }
    }
}

impl From<&Unverifiable> for Reason {
    fn from(why: &Unverifiable) -> Self {
        Self::unverifiable(why)
    }
}

impl From<&NotProven> for Reason {
    fn from(why: &NotProven) -> Self {
        Self::unverifiable(why)
    }
}

impl From<&Stays> for Reason {
    fn from(why: &Stays) -> Self {
        match why {
            Stays::Held(held) => held.into(),
            Stays::Unproven(unproven) => unproven.into(),
            Stays::Unverifiable(why) => why.into(),
            Stays::NotProven(why) => why.into(),
            Stays::Unknown => Self::unverifiable(why),
        }
    }
}

impl Reason {
    fn unverifiable(why: &dyn std::fmt::Display) -> Self {
        Self { kind: ReasonKind::Unverifiable, detail: why.to_string(), excuses: Excuses::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Kind, Leak, Place};

    #[test]
    fn every_kind_has_a_name_of_its_own_and_says_what_to_do() {
        let names: std::collections::BTreeSet<_> = ReasonKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), ReasonKind::ALL.len());
        for &kind in ReasonKind::ALL {
            assert_eq!(ReasonKind::named(kind.name()), Some(kind));
            assert!(!kind.meaning().starts_with(' ') && kind.meaning().ends_with('.'), "{}", kind.meaning());
        }
    }

    /// What says that it cannot be released has no excuse, and the other way round.
    #[test]
    fn what_can_be_excused_says_so() {
        let leak = Leak { kind: Kind::Name, place: Place::Offset(7), encoding: "ASCII" };
        let reasons = [
            Reason::from(&Held::NotDicom),
            Reason::from(&Held::Kind("documents")),
            Reason::from(&Held::BurnedIn(crate::deid::Doubt::Kind)),
            Reason::from(&Held::TextInPixels),
            Reason::from(&Held::Mask("why")),
            Reason::from(&Held::Recognizable),
            Reason::from(&Held::Text(dicom_core::Tag(8, 8))),
            Reason::from(&Held::Patient),
            Reason::from(&Unproven::Leaks(vec![leak.clone(), leak.clone()])),
            Reason::from(&Unproven::Leaks(vec![leak; LOOKED_AT_MAX + 1])),
            Reason::from(&Unverifiable::NothingToSeek),
            Reason::from(&NotProven::OtherBytes),
        ];
        for reason in reasons {
            let cannot = reason.kind.remedy().starts_with("it cannot be released");
            assert_eq!(cannot, reason.excuses.is_empty(), "{reason:?}");
        }
    }
}
