//! Whose an instance is, and what identifies there: the dictionary by which free text is cleaned.

use std::collections::HashSet;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::charset::Charset;
use super::parse::{DataSet, Element, Value, ascii, find};
use super::patient::{AROUND_IDS, BY_ID};
use super::profile::Profile;
use super::table::{self, Basic, option};
use super::text::{fold, is_common, spelled, words};

/// Fewer characters are no identifier: they would match everywhere.
const IDENTIFIER_CHARACTERS_MIN: usize = 4;
/// Who stands as Content Creator's Name (0070,0084) in what our modules found.
const PROGRAM: &[u8] = b"Gantry^";
/// Words that stand beside names.
const BESIDE_NAMES: [&str; 24] = [
    "anonymous",
    "anonymized",
    "anonymised",
    "and",
    "das",
    "del",
    "der",
    "des",
    "doctor",
    "dos",
    "herr",
    "frau",
    "jun",
    "miss",
    "mrs",
    "prof",
    "professor",
    "sen",
    "the",
    "und",
    "unknown",
    "van",
    "von",
    "removed",
];

/// A patient, and every identifier that the instances about them hold. It shows nothing of it.
#[derive(Clone, Default)]
pub struct Subject {
    /// What the patient's pseudonym and days derive from.
    pub(super) patient: Option<String>,
    /// Folded words and numbers without separators: name parts, ids.
    pub(super) words: HashSet<String>,
    /// Those of them that count also within longer words.
    pub(super) within: HashSet<String>,
    /// Several folded words in a row: institutions, addresses.
    pub(super) phrases: HashSet<Vec<String>>,
    /// UIDs of instances, series, studies and the like.
    pub(super) uids: HashSet<String>,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subject(..)")
    }
}

impl Subject {
    /// Whether both are one patient, for all that their instances say.
    #[must_use]
    pub fn is_same_patient(&self, other: &Self) -> bool {
        self.patient == other.patient
    }

    /// Adds what another instance of the same patient says. Whose it is stays what it was.
    pub fn add(&mut self, other: &Self) {
        self.patient = self.patient.take().or_else(|| other.patient.clone());
        self.words.extend(other.words.iter().cloned());
        self.within.extend(other.within.iter().cloned());
        self.phrases.extend(other.phrases.iter().cloned());
        self.uids.extend(other.uids.iter().cloned());
    }

    /// Adds the UIDs of an object that our software made of instances: whatever else identifies there is theirs.
    pub fn add_made(&mut self, made: &Self) {
        self.uids.extend(made.uids.iter().cloned());
    }

    /// Adds a name of a person, in any order and with any separators.
    pub fn add_name(&mut self, name: &str) {
        for group in name.split(['=', '\\']) {
            let parts: Vec<String> =
                words(group).map(fold).filter(|part| !BESIDE_NAMES.contains(&part.as_str())).collect();
            // Letters of ASCII have one spelling.
            let spellings: &[fn(&str) -> String] = match group.is_ascii() {
                true => &[str::to_owned],
                false => &[str::to_owned, spelled, unmarked],
            };
            for spelling in spellings {
                let parts: Vec<String> = parts.iter().map(|part| spelling(part)).collect();
                parts.iter().for_each(|part| self.name_part(part));
                for (n, one) in parts.iter().enumerate().take(4) {
                    for other in parts.iter().take(4).skip(n + 1) {
                        self.identify(format!("{one}{other}"));
                        self.identify(format!("{other}{one}"));
                    }
                }
            }
        }
    }

    fn name_part(&mut self, part: &str) {
        let characters = part.chars().count();
        let latin = part.is_ascii();
        // One character of another script is too common a word; a number is a person's number.
        if characters < 2
            || latin && characters < 3 && is_common(part)
            || part.bytes().all(|b| b.is_ascii_digit()) && characters < 4
        {
            return;
        }
        if !latin || characters >= 5 {
            self.within.insert(part.to_owned());
        }
        self.words.insert(part.to_owned());
    }

    /// Adds a number, a code or the name of a place.
    pub fn add_identifier(&mut self, identifier: &str) {
        for line in identifier.split(['\\', '\n', '\r', '^']) {
            let parts: Vec<String> = words(line).map(fold).collect();
            let joined: String = parts.concat();
            if joined.bytes().any(|b| b.is_ascii_digit()) {
                // Also without the letters before it.
                let numbers =
                    joined.split(|c: char| !c.is_ascii_digit()).filter(|n| n.len() > IDENTIFIER_CHARACTERS_MIN);
                numbers.for_each(|number| self.identify(number.to_owned()));
                self.identify(joined);
            } else if parts.len() > 1 {
                parts.iter().filter(|part| !is_common(part)).for_each(|part| self.identify(part.clone()));
                self.identify(joined);
                self.phrases.insert(parts);
            } else if !is_common(&joined) && !BESIDE_NAMES.contains(&joined.as_str()) {
                self.identify(joined);
            }
        }
    }

    fn identify(&mut self, word: String) {
        let characters = word.chars().count();
        if characters < IDENTIFIER_CHARACTERS_MIN {
            return;
        }
        if characters > IDENTIFIER_CHARACTERS_MIN {
            self.within.insert(word.clone());
        }
        self.words.insert(word);
    }

    /// What an instance says.
    pub(super) fn of(meta: &DataSet<'_>, set: &DataSet<'_>, profile: &Profile) -> Self {
        let mut subject = Self::default();
        let charset = charset_of(set, &Charset::default());
        // Source, sending and receiving application entities.
        for element in meta.iter().filter(|e| (0x16..=0x18).contains(&e.tag.1)) {
            subject.add_identifier(&charset.guess(element.bytes()));
        }
        subject.collect(set, &charset, profile);
        subject.patient = patient(set, &charset);
        subject
    }

    fn collect(&mut self, set: &DataSet<'_>, charset: &Charset, profile: &Profile) {
        for element in set {
            if let Value::Items(items, _) = &element.value {
                for item in items {
                    self.collect(&item.elements, &charset_of(&item.elements, charset), profile);
                }
                continue;
            }
            if element.bytes().len() > 10_240 {
                continue;
            }
            self.collect_value(element, charset, profile);
        }
    }

    fn collect_value(&mut self, element: &Element<'_>, charset: &Charset, profile: &Profile) {
        let row = table::row(element.tag);
        let vr = match element.vr {
            VR::UN => super::parse::dictionary_vr(element.tag).map_or(VR::UN, |vr| vr.relaxed()),
            vr => vr,
        };
        match vr {
            // What our modules found was made by a program.
            VR::PN if element.tag == tags::CONTENT_CREATOR_NAME && element.bytes().trim_ascii_end() == PROGRAM => {}
            VR::PN => self.add_name(&charset.guess(element.bytes())),
            VR::UI if row.is_some_and(|row| row.basic == Basic::U) => {
                let uids = charset.guess(element.bytes());
                let uids = uids.split('\\').map(|uid| uid.trim_matches([' ', '\0']));
                self.uids
                    .extend(uids.filter(|uid| !uid.is_empty() && !uid.starts_with("1.2.840.10008.")).map(Into::into));
            }
            VR::LO | VR::SH | VR::UC | VR::ST | VR::LT | VR::UT | VR::AE => {
                // Descriptions describe; what a site retains need not be hidden.
                let describes = option::DESCRIPTORS_C | option::PATIENT_K | option::PATIENT_C | option::FULL_DATES_K;
                let retained = |row: &table::Row| {
                    profile.retain_device_identity && row.has(option::DEVICE_K)
                        || profile.retain_institution_identity && row.has(option::INSTITUTION_K)
                };
                let identifies = row.is_some_and(|row| row.basic != Basic::U && !row.has(describes) && !retained(row));
                if identifies {
                    self.add_identifier(&charset.guess(element.bytes()));
                }
            }
            _ => {}
        }
    }
}

/// A folded word without the marks of German letters.
fn unmarked(folded: &str) -> String {
    folded.replace('ä', "a").replace('ö', "o").replace('ü', "u").replace('ß', "s")
}

/// The character set of a data set within one of that `outer` set.
pub(super) fn charset_of(set: &DataSet<'_>, outer: &Charset) -> Charset {
    match find(set, tags::SPECIFIC_CHARACTER_SET) {
        Some(element) => Charset::of(ascii(Some(element))),
        None => outer.clone(),
    }
}

/// What the patient's pseudonym derives from: the Patient ID, else name and birth date, else the study.
fn patient(set: &DataSet<'_>, charset: &Charset) -> Option<String> {
    let text = |tag: Tag| {
        let bytes = find(set, tag).map(Element::bytes).unwrap_or_default();
        charset.guess(bytes).trim_matches(AROUND_IDS).to_owned()
    };
    let (id, name, birth) = (text(tags::PATIENT_ID), text(tags::PATIENT_NAME), text(tags::PATIENT_BIRTH_DATE));
    let study = text(tags::STUDY_INSTANCE_UID);
    if !id.is_empty() {
        Some(format!("{BY_ID}{id}"))
    } else if !name.is_empty() {
        Some(format!("name {name} {birth}"))
    } else {
        (!study.is_empty()).then(|| format!("study {study}"))
    }
}
