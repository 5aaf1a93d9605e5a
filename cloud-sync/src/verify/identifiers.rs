//! What identifies in a source, as text.

use std::collections::{BTreeMap, BTreeSet};

use super::Kind;
use super::attributes::{Meaning, is_birth, is_time, meaning};
use super::walk::{Leaf, Walked};

/// Content Creator's Name (0070,0084), and who stands there in what our modules found: no person, and outputs state it elsewhere.
const CONTENT_CREATOR: u32 = 0x0070_0084;
const PROGRAM: &[u8] = b"Gantry^";

/// Identifiers by kind and text, days with the tags at which they stood.
#[derive(Default)]
pub(super) struct Identifiers {
    found: BTreeMap<Kind, BTreeMap<String, BTreeSet<u32>>>,
    /// Texts of standard attributes, as long as private ones that are sought: the same in a private one is no secret of it.
    standard: BTreeSet<String>,
}

impl Identifiers {
    pub(super) fn len(&self) -> usize {
        self.found.values().map(BTreeMap::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Kind, text, and of days the tags at which it stood.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Kind, &str, &BTreeSet<u32>)> {
        let secret = |kind: Kind, text: &str| kind != Kind::Private || !self.standard.contains(text);
        let all = self.found.iter().flat_map(|(kind, all)| all.iter().map(|(text, tags)| (*kind, text.as_str(), tags)));
        all.filter(move |(kind, text, _)| secret(*kind, text))
    }

    pub(super) fn add(&mut self, kind: Kind, text: &str, tag: Option<u32>) {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if text.is_empty() {
            return;
        }
        let tag = tag.filter(|_| kind == Kind::Date);
        let all = self.found.entry(kind).or_default();
        match all.get_mut(text) {
            Some(tags) => tags.extend(tag),
            None if is_placeholder(text) => {}
            None => _ = all.insert(text.to_owned(), tag.into_iter().collect()),
        }
    }

    /// Adds those of an object that was made of sources: what it says of staff and devices is theirs, or whose who made it.
    pub(super) fn extend_with_made(&mut self, made: Self) {
        let of_maker = |kind: &Kind| matches!(kind, Kind::Staff | Kind::Device);
        for (kind, all) in made.found.into_iter().filter(|(kind, _)| !of_maker(kind)) {
            let known = self.found.entry(kind).or_default();
            all.into_iter().for_each(|(text, tags)| known.entry(text).or_default().extend(tags));
        }
        self.standard.extend(made.standard);
    }

    pub(super) fn collect(&mut self, walked: &Walked<'_>) {
        for leaf in &walked.leaves {
            self.leaf(walked, leaf);
        }
    }

    fn leaf(&mut self, walked: &Walked<'_>, leaf: &Leaf) {
        let bytes = walked.bytes(leaf);
        let tag = leaf.tag;
        if bytes.is_empty() || tag == 0x7FE0_0010 {
            return;
        }
        let means = meaning(tag, walked.around(leaf));
        if means == Some(Meaning::Nobodys) || tag == CONTENT_CREATOR && bytes.trim_ascii_end() == PROGRAM {
            return;
        }
        let private = tag >> 16 & 1 == 1;
        if private && (0x10..=0xFF).contains(&(tag & 0xFFFF)) {
            return;
        }
        let Some(form) = form(leaf.vr, bytes) else {
            return self.runs(tag, bytes);
        };
        // Most values are these, and say nothing.
        let sought = matches!(means, Some(Meaning::Sought(_)));
        if form == Form::Number && !sought && !bytes.iter().any(u8::is_ascii_alphabetic) {
            return;
        }
        let text = walked.text(leaf);
        if let (Some(Meaning::Sought(kind)), Form::Text | Form::Name | Form::Free | Form::Number) = (means, form) {
            return values(&text, form).for_each(|value| self.add(kind, value, Some(tag)));
        }
        for value in values(&text, form) {
            let value = value.trim_matches([' ', '\0']);
            match form {
                Form::Name => self.add(Kind::Staff, value, Some(tag)),
                Form::Temporal => self.temporal(tag, value),
                Form::Uid => self.uid(tag, value),
                Form::Text if is_uid(value) => self.uid(tag, value),
                Form::Text if leaf.vr.is_none() && (is_time(tag) || is_moment(value)) => self.temporal(tag, value),
                Form::Text | Form::Free | Form::Number => {}
            }
        }
        let prose = matches!(form, Form::Text | Form::Free) && (private || means == Some(Meaning::Text));
        if prose {
            self.prose(tag, &text);
        }
        if private && matches!(form, Form::Text | Form::Free) {
            for value in values(&text, Form::Text).filter(|value| is_telling(value)) {
                self.add(Kind::Private, value, Some(tag));
            }
        } else if !private {
            for value in values(&text, Form::Text).filter(|value| is_telling(value)) {
                let value = value.trim_matches([' ', '\0']);
                if !self.standard.contains(value) {
                    self.standard.insert(value.to_owned());
                }
            }
        }
    }

    fn uid(&mut self, tag: u32, value: &str) {
        if is_uid(value) && !REGISTERED.iter().any(|root| value.starts_with(root)) {
            self.add(Kind::Uid, value, Some(tag));
        }
    }

    /// DA, TM or DT, told by their shape; ranges of DA are two of them.
    fn temporal(&mut self, tag: u32, value: &str) {
        let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        let dotted = value.replace('.', "");
        if let (10, Some(day)) = (value.len(), date(&dotted)) {
            return self.day(tag, &day);
        }
        let time = match date(value.get(..8).unwrap_or_default()) {
            Some(day) if digits >= 8 => {
                self.day(tag, &day);
                value.get(8..).unwrap_or_default()
            }
            _ => value,
        };
        let time = time.split(['+', '-']).next().unwrap_or_default().replace(':', "");
        let whole = time.get(..6).is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()) && t != "000000");
        if whole {
            self.add(Kind::Time, &time, Some(tag));
        }
    }

    fn day(&mut self, tag: u32, day: &str) {
        let kind = if is_birth(tag) { Kind::BirthDate } else { Kind::Date };
        self.add(kind, day, Some(tag));
    }

    /// Numbers, days, UIDs and mail addresses within a text.
    fn prose(&mut self, tag: u32, text: &str) {
        for word in text.split(|c: char| {
            c.is_whitespace()
                || matches!(
                    c,
                    '<' | '>' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ';' | '"' | '\'' | '=' | '|' | '\\'
                )
        }) {
            let word = word.trim_matches(['.', ':', '!', '?']);
            if word.contains('@') && word.contains('.') && word.len() >= 6 {
                self.add(Kind::Contact, word, Some(tag));
            } else if is_uid(word) && word.len() >= 12 {
                self.uid(tag, word);
            }
        }
        for run in text.split(|c: char| !matches!(c, '0'..='9' | ' ' | '-' | '.' | '/' | '(' | ')' | '+')) {
            let run = run.trim_matches([' ', '-', '.', '/', '(', ')', '+']);
            let mut is_number = true;
            for day in run.split(' ').filter_map(spelt_day) {
                self.day(tag, &day);
                is_number = false;
            }
            let digits = run.bytes().filter(u8::is_ascii_digit).count();
            // Measurements have a decimal point, and numbers of somebody have none alone.
            is_number &= !(run.contains('.') && run.parse::<f64>().is_ok());
            if is_number && (7..=20).contains(&digits) && !is_uid(run) && !run.contains("  ") {
                self.add(Kind::Number, run, Some(tag));
            }
        }
    }

    /// The same in printable runs of a binary value.
    fn runs(&mut self, tag: u32, bytes: &[u8]) {
        let private = tag >> 16 & 1 == 1;
        if !private || bytes.len() > LARGEST_PROSE {
            return;
        }
        for run in bytes.split(|b| !(0x20..0x7F).contains(b)).filter(|run| run.len() >= 7) {
            let run = String::from_utf8_lossy(run);
            if is_uid(&run) {
                self.uid(tag, &run);
            } else if let Some(day) = spelt_day(run.trim()) {
                self.day(tag, &day);
            } else if run.bytes().all(|b| b.is_ascii_digit()) && run.len() <= 20 {
                self.add(Kind::Number, &run, Some(tag));
            }
        }
    }
}

/// Binary private values beyond this hold images and tables.
const LARGEST_PROSE: usize = 1 << 20;

/// How a value is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Name,
    Text,
    /// One value with backslashes in it.
    Free,
    Number,
    Temporal,
    Uid,
}

/// `None` for binary values.
fn form(vr: Option<[u8; 2]>, bytes: &[u8]) -> Option<Form> {
    match vr.as_ref() {
        Some(b"PN") => Some(Form::Name),
        Some(b"LO" | b"SH" | b"CS" | b"AE" | b"UC") => Some(Form::Text),
        Some(b"ST" | b"LT" | b"UT" | b"UR") => Some(Form::Free),
        Some(b"DS" | b"IS" | b"AS") => Some(Form::Number),
        Some(b"DA" | b"TM" | b"DT") => Some(Form::Temporal),
        Some(b"UI") => Some(Form::Uid),
        None | Some(b"UN" | b"OB") => is_text(bytes).then_some(Form::Text),
        Some(_) => None,
    }
}

/// Without control characters but those of text, up to padding.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let padding = bytes.iter().rev().take_while(|&&b| b == 0).count();
    let value = &bytes[..bytes.len() - padding];
    !value.is_empty()
        && bytes.len() <= LARGEST_PROSE
        && value.iter().all(|&b| b >= 0x20 && b != 0x7F || b"\t\r\n\x0C\x1B".contains(&b))
}

fn values(text: &str, form: Form) -> impl Iterator<Item = &str> {
    text.split(move |c| c == '\\' && form != Form::Free)
}

/// Roots under which the standard and its registries number things, and makers number software.
const REGISTERED: [&str; 4] =
    ["1.2.840.10008.", "2.16.840.1.113883.", "1.2.276.0.7230010.3.0.", "1.2.826.0.1.3680043.8.498.1"];

fn is_uid(text: &str) -> bool {
    let text = text.trim_end_matches('\0');
    let shaped = (5..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    shaped && text.split('.').count() >= 4 && text.split('.').all(|part| !part.is_empty())
}

/// Begins with a day, and goes on with digits at most: DA or DT.
pub(super) fn is_moment(text: &str) -> bool {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b".+-".contains(&b));
    digits && text.len() <= 26 && date(text.get(..8).unwrap_or_default()).is_some()
}

/// YYYYMMDD of a plausible day that is no dummy.
pub(super) fn date(text: &str) -> Option<String> {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_digit()) || text == "19000101" {
        return None;
    }
    let (year, month, day) =
        (text[..4].parse::<u16>().ok()?, text[4..6].parse::<u8>().ok()?, text[6..].parse::<u8>().ok()?);
    let plausible = (1870..=2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    plausible.then(|| text.to_owned())
}

/// A day as people write it in digits: with its year first, or else its day first unless that cannot be.
fn spelt_day(run: &str) -> Option<String> {
    if let Some(day) = date(run) {
        return Some(day);
    }
    let separator = run.find(['-', '/', '.']).and_then(|at| run[at..].chars().next())?;
    let parts: Vec<&str> = run.split(separator).collect();
    let [a, b, c] = parts.as_slice() else { return None };
    let number = |text: &str| text.parse::<u16>().ok();
    let (year, month, day) = match (a.len(), b.len(), c.len()) {
        (4, 1..=2, 1..=2) => (number(a)?, number(b)?, number(c)?),
        (1..=2, 1..=2, 4) if separator == '/' && number(b)? > 12 => (number(c)?, number(a)?, number(b)?),
        (1..=2, 1..=2, 4) if number(a)? > 12 || separator != '/' => (number(c)?, number(b)?, number(a)?),
        (1..=2, 1..=2, 4) => (number(c)?, number(a)?, number(b)?),
        _ => return None,
    };
    date(&format!("{year:04}{month:02}{day:02}"))
}

/// Long enough to be found again, and words.
fn is_telling(value: &str) -> bool {
    let value = value.trim_matches([' ', '\0']);
    (8..=256).contains(&value.chars().count()) && value.chars().any(char::is_alphabetic) && !is_uid(value)
}

/// What stands where an identity was taken away before, or never was.
fn is_placeholder(text: &str) -> bool {
    const PLACEHOLDERS: [&str; 24] = [
        "anon",
        "anonym",
        "anonymous",
        "anonymized",
        "anonymised",
        "anonymize",
        "deidentified",
        "de-identified",
        "unknown",
        "none",
        "removed",
        "n/a",
        "null",
        "no name",
        "noname",
        "not specified",
        "unspecified",
        "patient",
        "test",
        "hidden",
        "redacted",
        "withheld",
        "other",
        "default",
    ];
    let text = text.to_lowercase();
    PLACEHOLDERS.contains(&text.trim_matches(|c: char| !c.is_alphanumeric() && c != '/'))
}
