//! The proof that an output carries no identifier of its source.
//!
//! ```text
//!  sources ─▶ walk ─▶ identifiers: names and their parts, IDs, dates, UIDs, … in Unicode
//!                          │
//!                          ▼
//!                     lexicon: every spelling × every encoding, as patterns ─▶ search: an index of them
//!                                                                                 │
//!  output, every byte of it ───────────────────────────────────────────────────▶ scan ─▶ Proof (of these very bytes) or Leaks
//! ```
//!
//! It shares no code with the cleaner: neither a DICOM parser nor a table, so that no mistake can be in both. It knows
//! nothing of what a cleaner does either: it takes what identifies in the source and looks for it in the output, preamble,
//! file meta information, private elements and pixel data included. What it cannot follow it does not prove.
//!
//! # What counts as found
//!
//! An identifier of seven letters or more counts wherever its bytes stand; the shorter it is, the more of the following
//! must hold, since random bytes and ordinary words spell short ones. `patterns.rs` has this as code.
//!
//! | identifier | counts |
//! | --- | --- |
//! | 5 or 6 characters | with a boundary at one end; in code strings at both |
//! | 3 or 4 characters | as a whole word, in text, names, or a printable run of bytes |
//! | part of a name with 1 or 2 letters, or that is a word of the field ("Head", "Siemens") | alone only in a person name; elsewhere with another part of the name |
//! | 8 digits or more | as a whole number, anywhere |
//! | 6 or 7 digits | as a whole number, not in pixel data |
//! | 4 or 5 digits | as a whole number in text and names; not in numeric strings, dates or UIDs |
//! | anything in pixel data | from 6 letters or 8 digits, as a whole word and in a plausible case; from 8 bytes beyond ASCII |
//! | a time of day | as TM or DT value, with colons, or with 4 digits of a fraction |
//! | 1 or 2 characters, 1 to 3 digits, placeholders ("ANONYMOUS") | never |
//!
//! Not seen: identifiers drawn into pixels (the cleaner's text detector looks for those), compressed inside pixel data,
//! written backwards, or misspelt.

mod alarms;
mod attributes;
mod charset;
mod identifiers;
mod lexicon;
mod patterns;
mod release;
mod runs;
mod scan;
mod search;
mod spellings;
mod walk;

pub use alarms::FalseAlarm;
pub use lexicon::Lexicons;
pub use release::{Bytes, NotProven, Released, Unreleased, release};
pub use scan::Scanner;

use std::collections::BTreeSet;

use identifiers::Identifiers;

/// What an identifier identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The patient, or who is responsible for them.
    Name,
    /// Who ordered, performed, read or typed.
    Staff,
    /// The patient, a visit, an order, a specimen, by a number of somebody's.
    Id,
    /// Address, telephone, mail, position.
    Contact,
    /// An organization that no option of a profile retains.
    Organization,
    /// The institution that acquired.
    Institution,
    /// One device.
    Device,
    /// An object of DICOM.
    Uid,
    /// A day.
    Date,
    /// The day the patient was born.
    BirthDate,
    /// A time of day.
    Time,
    /// A text of a private element.
    Private,
    /// A long number in free text.
    Number,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Name,
        Self::Staff,
        Self::Id,
        Self::Contact,
        Self::Organization,
        Self::Institution,
        Self::Device,
        Self::Uid,
        Self::Date,
        Self::BirthDate,
        Self::Time,
        Self::Private,
        Self::Number,
    ];

    /// In one word: journals keep it, and it never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Name => "name",
            Kind::Staff => "staff",
            Kind::Id => "id",
            Kind::Contact => "contact",
            Kind::Organization => "organization",
            Kind::Institution => "institution",
            Kind::Device => "device",
            Kind::Uid => "uid",
            Kind::Date => "date",
            Kind::BirthDate => "birth-date",
            Kind::Time => "time",
            Kind::Private => "private",
            Kind::Number => "number",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Name => "patient's name",
            Kind::Staff => "name of staff",
            Kind::Id => "ID",
            Kind::Contact => "address or number of a person",
            Kind::Organization => "organization",
            Kind::Institution => "institution",
            Kind::Device => "device",
            Kind::Uid => "UID",
            Kind::Date => "date",
            Kind::BirthDate => "date of birth",
            Kind::Time => "time",
            Kind::Private => "private text",
            Kind::Number => "number in a text",
        })
    }
}

/// What becomes of days and times (PS3.15, Retain Longitudinal Temporal Information).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dates {
    /// None is left.
    #[default]
    Removed,
    /// Moved: no day may stand where it stood, and none in a text. Times of day stay.
    Modified,
    /// All stay but the date of birth.
    Full,
}

/// What the options of a profile retain. Each excuses its own kind, and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retain {
    /// Retain UIDs.
    pub uids: bool,
    /// Retain Device Identity.
    pub device: bool,
    /// Retain Institution Identity.
    pub institution: bool,
    /// Retain Safe Private.
    pub safe_private: bool,
    /// Retain Longitudinal Temporal Information.
    pub dates: Dates,
}

impl Retain {
    fn excuses(self, kind: Kind) -> bool {
        match kind {
            Kind::Uid => self.uids,
            Kind::Device => self.device,
            Kind::Institution => self.institution,
            Kind::Private => self.safe_private,
            Kind::Date => self.dates == Dates::Full,
            Kind::Time => self.dates != Dates::Removed,
            Kind::Name
            | Kind::Staff
            | Kind::Id
            | Kind::Contact
            | Kind::Organization
            | Kind::BirthDate
            | Kind::Number => false,
        }
    }
}

/// Bounds on what is read, sought and reported.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Elements, items and fragments of one file.
    pub elements_max: usize,
    /// Sequences within each other.
    pub depth_max: usize,
    /// A deflated data set, inflated.
    pub inflated_max_bytes: usize,
    /// Identifiers of all sources together.
    pub identifiers_max: usize,
    /// Bytes of all patterns together.
    pub patterns_max_bytes: usize,
    /// Leaks that are reported of one output.
    pub leaks_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            elements_max: 4_000_000,
            depth_max: 64,
            inflated_max_bytes: 1 << 30,
            identifiers_max: 100_000,
            patterns_max_bytes: 256 << 20,
            leaks_max: 100,
        }
    }
}

/// Why nothing can be proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverifiable {
    /// The bytes could not be followed to the last one.
    #[error("cannot be followed to its end: {what} at byte {offset}")]
    Malformed {
        /// From the beginning of the file, or of what was inflated.
        offset: usize,
        /// In words.
        what: &'static str,
    },
    /// A bound was met.
    #[error("more than {name} = {limit}")]
    Limit {
        /// The field of [`Limits`].
        name: &'static str,
        /// Its value.
        limit: usize,
    },
    /// Not even a SOP Instance UID was found in the sources: a proof would say nothing.
    #[error("the source has no identifier that could be sought")]
    NothingToSeek,
}

/// Where an identifier was found: never what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// What it identifies.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// How its bytes are written.
    pub encoding: &'static str,
}

/// A place in an output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The tags of sequences and of the element, outermost first.
    Element(Vec<u32>),
    /// Outside of any value, or in what is no DICOM.
    Offset(usize),
}

impl std::fmt::Display for Leak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of the source ({}) at {}", self.kind, self.encoding, self.place)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Offset(offset) => write!(f, "byte {offset}"),
            Place::Element(tags) => {
                for (depth, tag) in tags.iter().enumerate() {
                    let dot = if depth == 0 { "" } else { "." };
                    write!(f, "{dot}({:04X},{:04X})", tag >> 16, tag & 0xFFFF)?;
                }
                Ok(())
            }
        }
    }
}

/// What an output was not proven for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// Identifiers are in it.
    #[error("{}", leaks(.0))]
    Leaks(Vec<Leak>),
    /// It cannot be read as what it should be.
    #[error("the output {0}")]
    Output(Unverifiable),
}

fn leaks(found: &[Leak]) -> String {
    found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// That none of the sources' identifiers is in the bytes of this digest. Only a [`Scanner`] makes one.
///
/// ```compile_fail
/// let forged = gantry_cloud_sync::verify::Proof {
///     output_sha256: [0; 32],
///     identifiers: 1,
///     retain: Default::default(),
///     passed: Default::default(),
/// };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    output_sha256: [u8; 32],
    identifiers: usize,
    retain: Retain,
    passed: BTreeSet<FalseAlarm>,
}

impl Proof {
    /// SHA-256 of the bytes that it is about.
    #[must_use]
    pub fn output_sha256(&self) -> &[u8; 32] {
        &self.output_sha256
    }

    /// How many identifiers were sought.
    #[must_use]
    pub fn identifiers(&self) -> usize {
        self.identifiers
    }

    /// What was excused.
    #[must_use]
    pub fn retain(&self) -> Retain {
        self.retain
    }

    /// What was found and passed over, since a person says that it is no identifier.
    pub fn passed(&self) -> impl Iterator<Item = &FalseAlarm> {
        self.passed.iter()
    }
}

/// Gathers what identifies in one or more sources: those of a study, or one file.
pub struct Verifier {
    retain: Retain,
    limits: Limits,
    identifiers: Identifiers,
    lexicons: Option<Lexicons>,
}

/// How much is sought, not what.
impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sought = self.identifiers.len();
        f.debug_struct("Verifier").field("sought", &sought).field("retain", &self.retain).finish_non_exhaustive()
    }
}

impl Verifier {
    /// One that has no source yet.
    #[must_use]
    pub fn new(retain: Retain, limits: Limits) -> Self {
        Verifier { retain, limits, identifiers: Identifiers::default(), lexicons: None }
    }

    /// The same, with spellings that were made for other sources where they serve. It seeks the same, sooner.
    #[must_use]
    pub fn sharing(self, lexicons: &Lexicons) -> Self {
        Verifier { lexicons: Some(lexicons.clone()), ..self }
    }

    /// Takes the identifiers of a DICOM file, as it was before it was de-identified.
    ///
    /// # Errors
    /// When it cannot be followed to its last byte, or at a limit.
    pub fn add_source(&mut self, file: &[u8]) -> Result<(), Unverifiable> {
        let walked = walk::walk(file, &self.limits)?;
        self.identifiers.collect(&walked);
        self.within_limit()
    }

    /// Takes the identifiers of an object that our software made of sources: it repeats what they say of staff and devices, and names
    /// itself as such.
    ///
    /// # Errors
    /// When it cannot be followed to its last byte, or at a limit.
    pub fn add_made(&mut self, file: &[u8]) -> Result<(), Unverifiable> {
        let mut made = Identifiers::default();
        made.collect(&walk::walk(file, &self.limits)?);
        self.identifiers.extend_with_made(made);
        self.within_limit()
    }

    /// Takes an identifier that is known from elsewhere: an order, a worklist, the name of a file. Dates as YYYYMMDD, times
    /// as HHMMSS, names as PN or as plain text.
    ///
    /// # Errors
    /// At the limit of identifiers.
    pub fn add_known(&mut self, kind: Kind, text: &str) -> Result<(), Unverifiable> {
        self.identifiers.add(kind, text, None);
        self.within_limit()
    }

    /// Makes what seeks them.
    ///
    /// # Errors
    /// When there is nothing to seek, or too much.
    pub fn scanner(&self) -> Result<Scanner, Unverifiable> {
        if self.identifiers.is_empty() {
            return Err(Unverifiable::NothingToSeek);
        }
        Scanner::new(&self.identifiers, self.retain, self.lexicons.as_ref(), &self.limits)
    }

    fn within_limit(&self) -> Result<(), Unverifiable> {
        let limit = self.limits.identifiers_max;
        match self.identifiers.len() > limit {
            true => Err(Unverifiable::Limit { name: "identifiers_max", limit }),
            false => Ok(()),
        }
    }
}
