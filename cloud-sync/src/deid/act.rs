//! What is done to each element of a data set, at any depth.

use std::borrow::Cow;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::charset::Charset;
use super::excuse::{Excuse, Excuses};
use super::held::Held;
use super::iod::Iod;
use super::parse::{DataSet, Element, Encoding, Item, Value, dictionary_vr, is_text, is_uid, pad};
use super::profile::{Dates, Profile, Unclear};
use super::report::{Action, Report};
use super::subject::{Subject, charset_of};
use super::table::{self, Basic, Row, option};
use super::text::{Cleaned, Rigour, clean, fold, is_common, names, words};
use super::{Deidentifier, dates, generalize, private};

mod dummy;

pub(super) use dummy::code;

/// UIDs of these name kinds and schemes, not things of a patient.
const CLASS_UIDS: [Tag; 14] = [
    tags::SOP_CLASS_UID,
    tags::REFERENCED_SOP_CLASS_UID,
    tags::SOP_CLASSES_IN_STUDY,
    tags::SOP_CLASSES_SUPPORTED,
    Tag(0x0008, 0x001A),
    Tag(0x0008, 0x001B),
    Tag(0x0008, 0x010C),
    Tag(0x0008, 0x0117),
    Tag(0x0008, 0x0118),
    Tag(0x0008, 0x115A),
    Tag(0x0002, 0x0002),
    Tag(0x0002, 0x0010),
    Tag(0x0004, 0x1510),
    Tag(0x0400, 0x0010),
];
/// Bulk values of VR OB and OW, or US, that are numbers without letters: colour tables, profiles, waveforms, pixel data.
const BULK: [Tag; 21] = [
    tags::ICC_PROFILE,
    tags::LUT_DATA,
    tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::ALPHA_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::SEGMENTED_ALPHA_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    tags::BLENDING_LOOKUP_TABLE_DATA,
    tags::WAVEFORM_DATA,
    tags::WAVEFORM_PADDING_VALUE,
    tags::CHANNEL_MINIMUM_VALUE,
    tags::CHANNEL_MAXIMUM_VALUE,
    tags::PIXEL_DATA,
    tags::EXTENDED_OFFSET_TABLE,
    tags::EXTENDED_OFFSET_TABLE_LENGTHS,
    tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH,
    tags::FLOAT_PIXEL_DATA,
    tags::DOUBLE_FLOAT_PIXEL_DATA,
];
/// How much of a bulk value is searched for names.
const SEARCHED_BYTES_MAX: usize = 1 << 20;
const ADDED_BY_STATEMENTS: [Tag; 4] = [
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
];

/// One instance on its way.
pub(super) struct Work<'w> {
    pub(super) by: &'w Deidentifier,
    pub(super) excuses: &'w Excuses,
    pub(super) subject: &'w Subject,
    /// By how many days its dates move.
    pub(super) days: i32,
    pub(super) iod: Iod,
    pub(super) encoding: Encoding,
    pub(super) report: Report,
}

/// Where an element stands.
#[derive(Debug, Clone)]
struct Place {
    nested: bool,
    charset: Charset,
    /// Everything that could say anything becomes a dummy: within a sequence whose action is D.
    stripped: bool,
}

/// What the profile makes of a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Basic,
    Keep,
    Clean,
}

fn choice(row: &Row, profile: &Profile, dated: bool) -> Choice {
    let keeps = [
        (profile.retain_uids, option::UIDS_K),
        (profile.retain_device_identity && !dated, option::DEVICE_K),
        (profile.retain_institution_identity, option::INSTITUTION_K),
        (profile.retain_patient_characteristics, option::PATIENT_K),
        (profile.dates == Dates::Keep, option::FULL_DATES_K),
    ];
    let cleans = [
        (profile.dates == Dates::Shift, option::MODIFIED_DATES_C),
        (profile.retain_device_identity, option::DEVICE_C),
        (profile.retain_patient_characteristics, option::PATIENT_C),
        (profile.clean_descriptors, option::DESCRIPTORS_C),
        (profile.clean_structured_content, option::STRUCTURED_C),
        (profile.clean_graphics, option::GRAPHICS_C),
    ];
    if keeps.iter().any(|&(on, cell)| on && row.has(cell)) {
        Choice::Keep
    } else if cleans.iter().any(|&(on, cell)| on && row.has(cell)) {
        Choice::Clean
    } else {
        Choice::Basic
    }
}

impl<'w> Work<'w> {
    /// The whole data set.
    pub(super) fn data_set<'a>(&mut self, set: DataSet<'a>) -> Result<DataSet<'a>, Held> {
        let place = Place { nested: false, charset: charset_of(&set, &Charset::default()), stripped: false };
        self.elements(set, &place)
    }

    fn elements<'a>(&mut self, set: DataSet<'a>, place: &Place) -> Result<DataSet<'a>, Held> {
        let safe = match self.by.profile.retain_safe_private {
            true => private::safe(&set, self.encoding),
            false => Default::default(),
        };
        let mut kept = DataSet::with_capacity(set.len() + 8);
        for element in set {
            let tag = element.tag;
            // Group lengths (retired) would be wrong.
            if tag.1 == 0 && tag.0 != 2 {
                continue;
            }
            let done = match tag.0 % 2 {
                // Groups of messages, files and directories have no place in a data set.
                _ if tag.0 < 8 => self.remove(tag),
                1 if !safe.contains(&tag) => self.remove(tag),
                1 => self.private(element, place)?,
                _ => self.standard(element, place)?,
            };
            kept.extend(done);
        }
        Ok(kept)
    }

    fn items<'a>(&mut self, items: Vec<Item<'a>>, place: &Place) -> Result<Vec<Item<'a>>, Held> {
        items
            .into_iter()
            .map(|item| {
                let charset = charset_of(&item.elements, &place.charset);
                let place = Place { nested: true, charset, stripped: place.stripped };
                Ok(Item { elements: self.elements(item.elements, &place)?, defined: item.defined })
            })
            .collect()
    }

    fn remove<'a>(&mut self, tag: Tag) -> Option<Element<'a>> {
        self.report.note(tag, Action::Removed);
        None
    }

    fn standard<'a>(&mut self, mut element: Element<'a>, place: &Place) -> Result<Option<Element<'a>>, Held> {
        let tag = element.tag;
        if !place.nested && ADDED_BY_STATEMENTS.contains(&tag) {
            return Ok(None);
        }
        if tag == tags::ENCAPSULATED_DOCUMENT {
            return Err(Held::Kind("an encapsulated document"));
        }
        // What the standard does not know, nothing can be said of.
        let Some(vr) = dictionary_vr(tag) else { return Ok(self.remove(tag)) };
        if element.vr == VR::UN {
            element.vr = vr.relaxed();
        }
        if !fits(&element, vr.relaxed()) {
            return Ok(self.remove(tag));
        }
        let Some(row) = table::row(tag) else { return self.keep(element, place, Rigour::Coded) };
        let dated = matches!(element.vr, VR::DA | VR::DT | VR::TM);
        match choice(row, &self.by.profile, dated) {
            Choice::Keep => {
                self.report.note(tag, Action::Retained);
                match self.coarse(element) {
                    Some(element) => self.keep(element, place, Rigour::Retained),
                    None => Ok(None),
                }
            }
            Choice::Clean => self.keep(element, place, Rigour::Written),
            Choice::Basic => self.basic(element, row, place),
        }
    }

    fn basic<'a>(&mut self, element: Element<'a>, row: &Row, place: &Place) -> Result<Option<Element<'a>>, Held> {
        let tag = element.tag;
        if let Some(pseudonym) = self.pseudonym(&element, place) {
            self.report.note(tag, Action::Pseudonym);
            return Ok(Some(Element::text(tag, element.vr, &pseudonym)));
        }
        match self.iod.resolve(tag, row.basic, place.nested) {
            Basic::U => self.keep(element, place, Rigour::Coded),
            Basic::Z => Ok(Some(self.empty(element))),
            // Where there was nothing, nothing has to be replaced.
            Basic::D if element.is_empty() => Ok(Some(element)),
            Basic::D => self.dummy(element, place).map(Some),
            _ => Ok(self.remove(tag)),
        }
    }

    fn empty<'a>(&mut self, element: Element<'a>) -> Element<'a> {
        self.report.note(element.tag, Action::Emptied);
        let value = match element.value {
            Value::Items(_, defined) => Value::Items(Vec::new(), defined),
            _ => Value::Bytes(Cow::Borrowed(&[])),
        };
        Element { value, ..element }
    }

    /// What stands for patient and order, so that results and later studies still go together.
    fn pseudonym(&self, element: &Element<'_>, place: &Place) -> Option<String> {
        match element.tag {
            tags::PATIENT_ID | tags::PATIENT_NAME if !place.nested => Some(self.patient()),
            tags::ACCESSION_NUMBER if !element.is_empty() => {
                let value = place.charset.guess(element.bytes());
                Some(self.by.secret.pseudonym("accession", value.trim_matches([' ', '\0'])))
            }
            _ => None,
        }
    }

    /// The pseudonym of the patient.
    pub(super) fn patient(&self) -> String {
        self.by.secret.pseudonym("patient", self.subject.patient.as_deref().unwrap_or_default())
    }

    fn private<'a>(&mut self, element: Element<'a>, place: &Place) -> Result<Option<Element<'a>>, Held> {
        let tag = element.tag;
        if tag.1 <= 0xFF || element.vr == VR::UN && element.bytes().len() <= 64 {
            // A creator, or a short value of which only its creator knows the form.
            let hit = self.holds_name(element.bytes(), place);
            return Ok(if hit { self.remove(tag) } else { Some(element) });
        }
        self.keep(element, place, Rigour::Written)
    }

    /// An element that stays: without what identifies, whatever its attribute.
    fn keep<'a>(&mut self, element: Element<'a>, place: &Place, rigour: Rigour) -> Result<Option<Element<'a>>, Held> {
        let tag = element.tag;
        let Element { vr, value, .. } = element;
        let bytes = match value {
            Value::Items(items, defined) => {
                let items = self.items(items, place)?;
                return Ok(Some(Element { tag, vr, value: Value::Items(items, defined) }));
            }
            Value::Fragments(_) => {
                return Ok(if tag == tags::PIXEL_DATA && !place.nested {
                    Some(Element { tag, vr, value })
                } else {
                    self.remove(tag)
                });
            }
            Value::Bytes(bytes) => bytes,
        };
        let element = Element { tag, vr, value: Value::Bytes(bytes) };
        if element.is_empty() {
            return Ok(Some(element));
        }
        if place.stripped && is_text(vr) && !matches!(vr, VR::UI | VR::CS | VR::DS | VR::IS) {
            return self.dummy(element, place).map(Some);
        }
        match vr {
            VR::UI => Ok(Some(self.uids(element))),
            VR::DA | VR::DT | VR::TM => Ok(self.date(element)),
            VR::AS => Ok(self.age(element)),
            VR::PN => Ok(Some(self.empty(element))),
            VR::UR => Ok(self.uri(element)),
            VR::LT | VR::ST | VR::UT if rigour == Rigour::Coded => self.text(element, place, Rigour::Written),
            VR::LO | VR::SH | VR::UC | VR::LT | VR::ST | VR::UT => self.text(element, place, rigour),
            VR::AE | VR::CS | VR::DS | VR::IS => Ok(self.coded(element, place)),
            VR::UN => Ok(self.remove(tag)),
            // Overlays of the object itself were looked at; nobody looks at those within sequences.
            VR::OB | VR::OW
                if !BULK.contains(&tag) && tag.0.is_multiple_of(2) && (tag.0 & 0xFF00 != 0x6000 || place.nested) =>
            {
                Ok(self.remove(tag))
            }
            _ => Ok(self.numbers(element, place)),
        }
    }

    fn uids<'a>(&mut self, element: Element<'a>) -> Element<'a> {
        let tag = element.tag;
        let text = String::from_utf8_lossy(element.bytes()).into_owned();
        let class = CLASS_UIDS.contains(&tag);
        let mapped: Vec<Cow<'_, str>> = text
            .split('\\')
            .map(|uid| uid.trim_matches([' ', '\0']))
            .map(|uid| match uid.is_empty() || class && is_uid(uid) && !self.subject.uids.contains(uid) {
                true => Cow::Borrowed(uid),
                false => Cow::Owned(self.by.uid(uid)),
            })
            .collect();
        if mapped.iter().zip(text.split('\\')).all(|(new, old)| new == old.trim_matches([' ', '\0'])) {
            return element;
        }
        self.report.note(tag, Action::Uid);
        Element::text(tag, VR::UI, &mapped.join("\\"))
    }

    fn date<'a>(&mut self, element: Element<'a>) -> Option<Element<'a>> {
        let (tag, vr) = (element.tag, element.vr);
        let text = std::str::from_utf8(element.bytes()).unwrap_or("?");
        let one = |part: &str| match (self.by.profile.dates, vr) {
            _ if part.is_empty() => Some(String::new()),
            (Dates::Remove, _) => None,
            (_, VR::TM) => dates::is_tm(part).then(|| part.to_owned()),
            (Dates::Shift, VR::DA) => dates::shift_da(part, self.days),
            (Dates::Shift, _) => dates::shift_dt(part, self.days),
            (Dates::Keep, VR::DA) => dates::days(part).map(|_| part.to_owned()),
            (Dates::Keep, _) => dates::shift_dt(part, 0),
        };
        let parts: Option<Vec<String>> =
            text.trim_matches([' ', '\0']).split('\\').map(|part| one(part.trim())).collect();
        match parts {
            Some(parts) if self.by.profile.dates == Dates::Shift => {
                self.report.note(tag, Action::Shifted);
                Some(Element::text(tag, vr, &parts.join("\\")))
            }
            Some(_) => Some(element),
            // An attribute that is not in the table, or no date.
            None if self.by.profile.dates == Dates::Remove => self.remove(tag),
            None => Some(self.empty(element)),
        }
    }

    fn age<'a>(&mut self, element: Element<'a>) -> Option<Element<'a>> {
        let tag = element.tag;
        let text = std::str::from_utf8(element.bytes()).unwrap_or_default().trim_matches([' ', '\0']);
        match generalize::age(&self.by.profile, text) {
            Some((_, None)) => Some(element),
            Some((age, Some(action))) => {
                self.report.note(tag, action);
                Some(Element::text(tag, VR::AS, &age))
            }
            None => self.remove(tag),
        }
    }

    /// A size or weight that is retained, as coarse as the profile says.
    fn coarse<'a>(&mut self, element: Element<'a>) -> Option<Element<'a>> {
        let tag = element.tag;
        if element.vr != VR::DS || element.is_empty() {
            return Some(element);
        }
        let text = std::str::from_utf8(element.bytes()).unwrap_or_default();
        match generalize::characteristic(&self.by.profile, tag, text) {
            Some((_, None)) => Some(element),
            Some((value, Some(action))) => {
                self.report.note(tag, action);
                Some(Element::text(tag, VR::DS, &value))
            }
            None => self.remove(tag),
        }
    }

    fn uri<'a>(&mut self, element: Element<'a>) -> Option<Element<'a>> {
        // Others name hosts.
        let text = String::from_utf8_lossy(element.bytes());
        let stays = text.starts_with("urn:") && !text.starts_with("urn:uuid") && !names(&text, self.subject);
        if stays { Some(element) } else { self.remove(element.tag) }
    }

    fn text<'a>(&mut self, element: Element<'a>, place: &Place, rigour: Rigour) -> Result<Option<Element<'a>>, Held> {
        let (tag, vr) = (element.tag, element.vr);
        let most = self.by.profile.limits.text_max_kib << 10;
        let decoded = (element.bytes().len() as u64 <= most).then(|| place.charset.decode(element.bytes())).flatten();
        let Some(decoded) = decoded else {
            // What nobody can decode goes, also where a person read it.
            if self.by.profile.unclear_text == Unclear::Hold {
                self.excuses.pass(Excuse::TextRead(tag), Held::Text(tag), &mut self.report)?;
            }
            return self.dummy(element, place).map(Some);
        };
        let several = matches!(vr, VR::LO | VR::SH | VR::UC);
        let parts: Vec<&str> = if several { decoded.split('\\').collect() } else { vec![&decoded] };
        let cleaned = |rigour| -> Vec<Cleaned> {
            parts.iter().map(|part| clean(part.trim_matches('\0'), self.subject, rigour)).collect()
        };
        let mut cleaned_text = cleaned(rigour);
        if cleaned_text.iter().any(|c| c.doubtful) && self.by.profile.unclear_text == Unclear::Hold {
            self.excuses.pass(Excuse::TextRead(tag), Held::Text(tag), &mut self.report)?;
            // The words that a person read stay; what is known to identify, or looks like it, goes.
            cleaned_text = cleaned(Rigour::Coded);
        }
        let cleaned = cleaned_text;
        if cleaned.iter().all(|c| !c.changed) {
            return Ok(Some(element));
        }
        let joined = cleaned.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join("\\");
        let encoded = place.charset.encode(&joined).filter(|bytes| !bytes.is_empty());
        let Some(mut bytes) = encoded else { return self.dummy(element, place).map(Some) };
        self.report.note(tag, Action::Cleaned);
        pad(&mut bytes, vr);
        Ok(Some(Element::new(tag, vr, bytes)))
    }

    /// Codes, titles of application entities and numbers in characters: as they are, or gone.
    fn coded<'a>(&mut self, element: Element<'a>, place: &Place) -> Option<Element<'a>> {
        let (tag, vr) = (element.tag, element.vr);
        let text = String::from_utf8_lossy(element.bytes());
        let number = |c: char| c.is_ascii_digit() || "+-.eE\\ \0".contains(c);
        let right = match vr {
            VR::DS | VR::IS => text.chars().all(number) && !self.is_number_of_somebody(&text),
            _ if tag == tags::SPECIFIC_CHARACTER_SET => text.is_ascii(),
            // A code of the standard is no name, also where somebody is called so, and whatever codes stand beside it.
            VR::CS => {
                let others: Vec<&str> = words(&text).filter(|word| !is_common(&fold(word))).collect();
                text.is_ascii() && !names(&others.join(" "), self.subject)
            }
            _ => text.is_ascii() && !self.holds_name(element.bytes(), place),
        };
        if right {
            return Some(element);
        }
        // A type 1 code that is a name stays none.
        self.remove(tag)
    }

    /// Whether a number in characters is an identifier, and long enough to be no coincidence.
    fn is_number_of_somebody(&self, text: &str) -> bool {
        const DIGITS_MIN: usize = 6;
        text.split('\\').map(|part| part.trim_matches([' ', '\0', '+', '-'])).any(|part| {
            part.len() >= DIGITS_MIN && part.bytes().all(|b| b.is_ascii_digit()) && self.subject.words.contains(part)
        })
    }

    fn holds_name(&self, bytes: &[u8], place: &Place) -> bool {
        names(&place.charset.guess(bytes), self.subject)
    }

    /// Numbers and bulk values, unless there are letters in them that name somebody.
    fn numbers<'a>(&mut self, element: Element<'a>, place: &Place) -> Option<Element<'a>> {
        if element.tag.0 == 0x7FE0 {
            return if place.nested { self.remove(element.tag) } else { Some(element) };
        }
        let bytes = element.bytes();
        let searched = bytes.get(..SEARCHED_BYTES_MAX).unwrap_or(bytes);
        let spaced: Vec<u8>;
        let letters = if searched.len() > 8 {
            spaced = printable(searched);
            &spaced
        } else {
            searched
        };
        match letters.len() >= 4
            && letters.iter().any(u8::is_ascii_alphanumeric)
            && names(&String::from_utf8_lossy(letters), self.subject)
        {
            true => self.remove(element.tag),
            false => Some(element),
        }
    }
}

/// Runs of four or more printable characters, in one or two bytes each, one after the other.
fn printable(bytes: &[u8]) -> Vec<u8> {
    const RUN_MIN: usize = 4;
    let mut found = Vec::new();
    for step in [1, 2] {
        for start in 0..step {
            let mut run = Vec::new();
            for chunk in bytes.get(start..).unwrap_or_default().chunks(step).map(|chunk| match *chunk {
                [a] => a,
                [a, 0] | [0, a] => a,
                _ => 0,
            }) {
                if chunk.is_ascii_graphic() || chunk == b' ' || chunk >= 0x80 && step == 1 {
                    run.push(chunk);
                } else {
                    if run.len() >= RUN_MIN {
                        found.extend_from_slice(&run);
                        found.push(b'\n');
                    }
                    run.clear();
                }
            }
            if run.len() >= RUN_MIN {
                found.extend_from_slice(&run);
                found.push(b'\n');
            }
        }
    }
    found
}

/// Whether an element has the form that its attribute has in PS3.6.
fn fits(element: &Element<'_>, dictionary: VR) -> bool {
    let sequence = matches!(element.value, Value::Items(..));
    if sequence || dictionary == VR::SQ {
        return sequence && dictionary == VR::SQ || element.is_empty();
    }
    let wide = |vr| matches!(vr, VR::OB | VR::OW | VR::OD | VR::OF | VR::OL | VR::OV | VR::US | VR::SS);
    let (text, number) = (is_text(dictionary), wide(dictionary));
    element.vr == dictionary || text && is_text(element.vr) || number && wide(element.vr)
}
