//! What a source says at attributes that somebody asks for: so that a study can be judged before anything is done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::charset::Charset;
use super::parse::{DataSet, Element, Encoding, Value};
use super::subject::charset_of;

/// Sequences that an attribute may lie in.
const DEPTH_MAX: usize = 8;
/// Different values of one attribute that are kept; instances with more are not known.
const KEPT_MAX: usize = 1024;
/// Characters of a value that are looked at.
const CHARACTERS_MAX: usize = 1024;

/// An attribute as people name it: a keyword of PS3.6 (`ClinicalTrialProtocolID`), a tag (`(0012,0020)`), or a private one by its
/// creator (`(0099,xx01) ACME CONSENT`); before it and a `.` each sequence that it lies in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attribute {
    written: String,
    path: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    Standard(u16, u16),
    Private { group: u16, element: u8, creator: String },
}

impl FromStr for Attribute {
    type Err = &'static str;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        const REMEDY: &str = "an attribute is a keyword of PS3.6, a tag as (0012,0020), or a private one as (0099,xx01) CREATOR, \
                              after at most 8 sequences, each with a dot behind it";
        let path: Option<Vec<Step>> = steps(written).into_iter().map(Step::read).collect();
        let path = path.filter(|path| path.len() <= DEPTH_MAX + 1).ok_or(REMEDY)?;
        Ok(Self { written: written.to_owned(), path })
    }
}

/// What stands between dots; those of a creator's name separate nothing.
fn steps(written: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    let mut rest = written;
    while let Some((step, more)) = rest.split_once('.').filter(|(step, _)| !step.contains(' ')) {
        steps.push(step);
        rest = more;
    }
    steps.push(rest);
    steps
}

impl Step {
    fn read(text: &str) -> Option<Self> {
        let Some(inner) = text.strip_prefix('(') else {
            let Tag(group, element) = StandardDataDictionary.by_name(text)?.tag();
            return Some(Self::Standard(group, element));
        };
        let (tag, creator) = inner.split_once(')')?;
        let (group, element) = tag.split_once(',')?;
        let hex = |text: &str, digits| {
            let all = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
            all.then(|| u16::from_str_radix(text, 16).ok()).flatten()
        };
        let group = hex(group, 4)?;
        if creator.is_empty() {
            return (group % 2 == 0).then_some(Self::Standard(group, hex(element, 4)?));
        }
        let creator = creator.strip_prefix(' ').filter(|creator| (1..=64).contains(&creator.trim().len()))?.trim();
        let element = u8::try_from(hex(element.strip_prefix("xx")?, 2)?).ok()?;
        (group % 2 == 1).then(|| Self::Private { group, element, creator: creator.to_owned() })
    }

    /// Where it stands in this data set.
    fn find<'s, 'a>(&self, set: &'s DataSet<'a>, charset: &Charset) -> Option<&'s Element<'a>> {
        let at = match self {
            Self::Standard(group, element) => Tag(*group, *element),
            Self::Private { group, element, creator } => {
                let is_creator = |e: &&Element<'_>| {
                    e.tag.0 == *group
                        && (0x10..=0xFF).contains(&e.tag.1)
                        && charset.guess(e.bytes()).trim_matches([' ', '\0']) == creator
                };
                Tag(*group, set.iter().find(is_creator)?.tag.1 << 8 | u16::from(*element))
            }
        };
        super::parse::find(set, at)
    }
}

impl Attribute {
    /// Its tag, where it is one of the standard's and lies in no sequence.
    pub(super) fn tag(&self) -> Option<Tag> {
        match *self.path.as_slice() {
            [Step::Standard(group, element)] => Some(Tag(group, element)),
            _ => None,
        }
    }

    /// Its values in a data set, without padding; none where it is not there or empty.
    fn values(&self, set: &DataSet<'_>, encoding: Encoding) -> Vec<String> {
        let mut values = Vec::new();
        gather(&self.path, set, &charset_of(set, &Charset::default()), encoding, &mut values);
        values
    }
}

fn gather(path: &[Step], set: &DataSet<'_>, charset: &Charset, encoding: Encoding, values: &mut Vec<String>) {
    let Some((step, further)) = path.split_first() else { return };
    let Some(element) = step.find(set, charset) else { return };
    match &element.value {
        Value::Items(items, _) if !further.is_empty() => {
            for item in items {
                gather(further, &item.elements, &charset_of(&item.elements, charset), encoding, values);
            }
        }
        Value::Bytes(_) if further.is_empty() => values.extend(texts(element, charset, encoding)),
        _ => {}
    }
}

fn texts(element: &Element<'_>, charset: &Charset, encoding: Encoding) -> Vec<String> {
    let bytes = element.bytes();
    if element.vr == VR::US {
        return bytes.chunks_exact(2).map(|pair| encoding.u16([pair[0], pair[1]]).to_string()).collect();
    }
    let text = charset.guess(bytes.get(..4 * CHARACTERS_MAX).unwrap_or(bytes));
    let parts = text.split('\\').map(|part| part.trim_matches([' ', '\0']));
    parts.filter(|part| !part.is_empty()).map(|part| part.chars().take(CHARACTERS_MAX).collect()).collect()
}

/// What the instances of a study say at attributes that were asked for. It shows nothing of it.
#[derive(Clone, Default)]
pub struct Values {
    /// By attribute, what single instances say: an empty list stands for those that say nothing.
    said: BTreeMap<Attribute, BTreeSet<Vec<String>>>,
    instances: u64,
    too_many: bool,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values of {} instances", self.instances)
    }
}

impl Values {
    /// Of one instance.
    pub(super) fn of(set: &DataSet<'_>, encoding: Encoding, attributes: &[Attribute]) -> Self {
        let said = attributes.iter().map(|a| (a.clone(), BTreeSet::from([a.values(set, encoding)]))).collect();
        Self { said, instances: 1, too_many: false }
    }

    /// Adds what other instances say.
    pub fn add(&mut self, other: Self) {
        for (attribute, said) in other.said {
            let mine = self.said.entry(attribute).or_default();
            mine.extend(said);
            self.too_many |= mine.len() > KEPT_MAX;
            while mine.len() > KEPT_MAX {
                mine.pop_last();
            }
        }
        self.instances += other.instances;
        self.too_many |= other.too_many;
    }

    /// What single instances say, each different list of values once, an empty one where an instance says nothing. `None` where
    /// that is not known: no instance was asked, or they say too many different things.
    #[must_use]
    pub fn lists(&self, attribute: &Attribute) -> Option<&BTreeSet<Vec<String>>> {
        self.said.get(attribute).filter(|_| !self.too_many)
    }

    /// What this one says, as if an instance did: for tests, and for what is known from elsewhere.
    #[must_use]
    pub fn stated(values: impl IntoIterator<Item = (Attribute, Vec<String>)>) -> Self {
        let said = values.into_iter().map(|(attribute, values)| (attribute, BTreeSet::from([values]))).collect();
        Self { said, instances: 1, too_many: false }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Serialize for Attribute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for Attribute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::Item;
    use super::*;

    fn attribute(text: &str) -> Attribute {
        text.parse().expect("an attribute")
    }

    #[test]
    fn an_attribute_is_found_by_keyword_tag_creator_and_path() {
        let item = vec![Element::text(Tag(0x0012, 0x0085), VR::CS, "YES")];
        let set = vec![
            Element::text(Tag(0x0012, 0x0020), VR::LO, "TRIAL 1\\TRIAL 2"),
            Element {
                tag: Tag(0x0012, 0x0083),
                vr: VR::SQ,
                value: Value::Items(vec![Item { elements: item, defined: true }], true),
            },
            Element::text(Tag(0x0099, 0x0010), VR::LO, "OTHER"),
            Element::text(Tag(0x0099, 0x0011), VR::LO, "A. C. Consent"),
            Element::text(Tag(0x0099, 0x1001), VR::CS, "NO"),
            Element::text(Tag(0x0099, 0x1101), VR::UN, "GIVEN "),
        ];
        let values = |text: &str| attribute(text).values(&set, Encoding::EXPLICIT);
        assert_eq!(values("ClinicalTrialProtocolID"), ["TRIAL 1", "TRIAL 2"]);
        assert_eq!(values("(0012,0020)"), ["TRIAL 1", "TRIAL 2"]);
        assert_eq!(values("(0099,xx01) A. C. Consent"), ["GIVEN"]);
        assert_eq!(values("ConsentForClinicalTrialUseSequence.ConsentForDistributionFlag"), ["YES"]);
        assert!(values("(0099,xx02) A. C. Consent").is_empty());
        assert!(values("(0099,xx01) Nobody").is_empty());
        assert!(values("ConsentForClinicalTrialUseSequence").is_empty());
    }

    #[test]
    fn what_names_no_attribute_is_refused() {
        for wrong in
            ["", "Consent", "(0012)", "(0012,00200)", "(0099,1001)", "(0099,xx01)", "(0012,xx20) A", "PatientID."]
        {
            assert!(wrong.parse::<Attribute>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn instances_are_told_apart_and_too_many_values_are_unknown() {
        let id = attribute("ClinicalTrialProtocolID");
        let of = |values: Vec<String>| Values::stated([(id.clone(), values)]);
        let mut all = of(vec!["a".into()]);
        all.add(of(vec!["a".into()]));
        all.add(of(Vec::new()));
        assert_eq!(all.lists(&id).expect("known").len(), 2);
        assert!(all.lists(&attribute("Modality")).is_none(), "nobody asked");
        (0..2000).for_each(|n| all.add(of(vec![n.to_string()])));
        assert!(all.lists(&id).is_none());
        assert!(!format!("{all:?}").contains("1999"));
    }
}
