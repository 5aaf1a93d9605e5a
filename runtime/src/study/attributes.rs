//! Attributes of one file, checked as they are read.

use std::path::Path;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::header::Header;
use dicom_core::value::Value;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;
use dicom_object::InMemDicomObject;

use super::ReadError;

/// The attributes of one file.
pub(super) struct Attributes<'a> {
    pub(super) path: &'a Path,
    pub(super) object: &'a InMemDicomObject,
}

impl Attributes<'_> {
    /// Text without padding, several values joined with `\`; empty when absent, binary or a sequence.
    pub(super) fn text(&self, tag: Tag) -> String {
        text(self.object, tag).unwrap_or_default()
    }

    /// A UID; empty when absent or empty.
    pub(super) fn uid(&self, tag: Tag) -> Result<String, ReadError> {
        let uid = self.text(tag);
        if is_uid(&uid) { Ok(uid) } else { Err(self.fault(tag, NO_UID)) }
    }

    /// `N` finite numbers, or `None` when absent or empty.
    pub(super) fn numbers<const N: usize>(&self, tag: Tag) -> Result<Option<[f64; N]>, ReadError> {
        let Some(element) = self.object.get(tag) else { return Ok(None) };
        let value = element.value();
        if text(self.object, tag).is_none() {
            return Ok(None);
        }
        let numbers = value.to_multi_float64().map_err(|_| self.fault(tag, "is not a number"))?;
        let numbers: [f64; N] =
            numbers.try_into().map_err(|n: Vec<f64>| self.fault(tag, format!("has {} values, not {N}", n.len())))?;
        if !numbers.iter().all(|n| n.is_finite()) {
            return Err(self.fault(tag, "is not finite"));
        }
        Ok(Some(numbers))
    }

    /// As [`numbers`](Self::numbers), of an attribute without which there is no volume.
    pub(super) fn needed<const N: usize>(&self, tag: Tag) -> Result<[f64; N], ReadError> {
        self.numbers(tag)?.ok_or_else(|| self.missing(tag))
    }

    /// A whole number of 16 bits, or `None` when absent or empty.
    pub(super) fn small(&self, tag: Tag) -> Result<Option<u16>, ReadError> {
        match self.numbers::<1>(tag)? {
            None => Ok(None),
            Some([n]) if n.fract() == 0.0 && (0.0..=65535.0).contains(&n) => Ok(Some(n as u16)),
            Some(_) => Err(self.fault(tag, "is no whole number of 16 bits")),
        }
    }

    /// As [`small`](Self::small), of an attribute without which there are no pixels.
    pub(super) fn needed_small(&self, tag: Tag) -> Result<u16, ReadError> {
        self.small(tag)?.ok_or_else(|| self.missing(tag))
    }

    /// Whether it is there with a value or with items.
    pub(super) fn present(&self, tag: Tag) -> bool {
        match self.object.get(tag).map(|e| e.value()) {
            None => false,
            Some(Value::Sequence(sequence)) => !sequence.items().is_empty(),
            Some(_) => true,
        }
    }

    pub(super) fn missing(&self, tag: Tag) -> ReadError {
        self.fault(tag, "is missing or empty, and a volume needs it; send the images again from their source")
    }

    pub(super) fn fault(&self, tag: Tag, problem: impl Into<String>) -> ReadError {
        ReadError::attribute(self.path, tag, problem)
    }
}

/// What is wrong with what [`is_uid`] denies.
pub(super) const NO_UID: &str = "is no UID (at most 64 digits and dots)";

/// Whether nothing but a UID is there, or nothing at all: what may be printed and recorded.
pub(super) fn is_uid(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Whether `text` is a code string of PS3.5 section 6.2 (VR CS), one value and not empty. Anything else may be
/// anything, also a name, and is not for messages, records and guests.
#[must_use]
pub fn is_code(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'_');
    (1..=16).contains(&text.len()) && text.bytes().all(plain) && !text.trim_matches(' ').is_empty()
}

/// Gives elements whose VR is unknown in the file, and known to the standard, that VR: who turned implicit VR into explicit
/// without a dictionary wrote them so, in little endian (PS3.5 section 6.2.2). Text is left unless it is ASCII.
pub(super) fn know(object: &mut InMemDicomObject) {
    let unknown: Vec<Tag> = object.iter().filter(|element| element.vr() == VR::UN).map(Header::tag).collect();
    for tag in unknown {
        let Some(vr) = StandardDataDictionary.by_tag(tag).map(|entry| entry.vr().relaxed()) else { continue };
        let Some(Value::Primitive(PrimitiveValue::U8(bytes))) = object.get(tag).map(|element| element.value()) else {
            continue;
        };
        if let Some(value) = known(vr, bytes) {
            object.put(DataElement::new(tag, vr, value));
        }
    }
}

/// The value that these bytes are.
fn known(vr: VR, bytes: &[u8]) -> Option<PrimitiveValue> {
    match vr {
        VR::AE | VR::AS | VR::CS | VR::DA | VR::DS | VR::DT | VR::IS | VR::LO | VR::PN | VR::SH | VR::TM | VR::UI => {
            let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?;
            Some(PrimitiveValue::Strs(text.split('\\').map(str::to_owned).collect()))
        }
        VR::US if bytes.len().is_multiple_of(2) => {
            let words = bytes.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]));
            Some(PrimitiveValue::U16(words.collect()))
        }
        _ => None,
    }
}

/// Text of an attribute without padding, several values joined with `\`; `None` when absent, empty, binary or a
/// sequence.
pub(super) fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let element = object.get(tag)?;
    let Value::Primitive(value) = element.value() else { return None };
    let values: Vec<String> = match value {
        PrimitiveValue::Empty | PrimitiveValue::U8(_) => return None,
        PrimitiveValue::Str(_) | PrimitiveValue::Strs(_) => {
            value.to_multi_str().iter().map(|s| s.trim_matches([' ', '\0']).to_owned()).collect()
        }
        _ if matches!(element.vr(), dicom_core::VR::OW | dicom_core::VR::OL | dicom_core::VR::OV) => return None,
        _ if matches!(element.vr(), dicom_core::VR::OF | dicom_core::VR::OD) => return None,
        _ => value.to_multi_str().to_vec(),
    };
    let text = values.join("\\");
    (!text.trim_matches(['\\', ' ']).is_empty()).then_some(text)
}
