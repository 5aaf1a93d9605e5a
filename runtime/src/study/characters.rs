//! Text in character sets that have the byte of a backslash within characters.
//!
//! The parser splits values at that byte (PS3.5 section 6.2) before it makes characters of bytes, and so breaks 誠 of GB18030 (D5 5C) in two.
//! A data set in such a set is read without its Specific Character Set: then each byte is a character of its own, and none is lost. What these
//! bytes say, and where values end, is told afterwards.

use std::borrow::Cow;

use dicom_core::header::Header;
use dicom_core::value::Value;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use dicom_object::InMemDicomObject;

use super::scan::{self, Encoding, Window};

/// As the library calls them: GB18030 and GBK, and those that it decodes as Shift JIS and as JIS X 0208. Others of PS3.3 section C.12.1.1.2
/// have no such characters, and Big5 is none of them.
const WITH_BACKSLASHES: [&str; 4] = ["GB18030", "GBK", "ISO_IR 13", "ISO_IR 87"];
/// Specific Character Set is among the first elements of a data set.
const WITHIN_BYTES: usize = 1024;

/// A Specific Character Set that was taken out.
pub(super) struct Taken {
    set: SpecificCharacterSet,
    stated: String,
}

/// Takes the Specific Character Set (0008,0005) out of a data set that was walked, where characters may hold backslashes.
pub(super) fn take(dataset: &mut Cow<'_, [u8]>, encoding: Encoding) -> Option<Taken> {
    let mut window = Window::new(dataset.get(..WITHIN_BYTES.min(dataset.len()))?);
    let mut at = 0;
    loop {
        let (header, value) = scan::element(&mut window, at, encoding).ok()?;
        let end = value.checked_add(header.len.get()? as usize)?;
        if header.tag < tags::SPECIFIC_CHARACTER_SET {
            at = end;
            continue;
        }
        if header.tag != tags::SPECIFIC_CHARACTER_SET {
            return None;
        }
        let stated = std::str::from_utf8(dataset.get(value..end)?).ok()?.trim_matches([' ', '\0']).to_owned();
        let set = SpecificCharacterSet::from_code(stated.split('\\').next()?.trim())?;
        if !WITH_BACKSLASHES.contains(&set.name().as_ref()) {
            return None;
        }
        dataset.to_mut().drain(at..end);
        return Some(Taken { set, stated });
    }
}

impl Taken {
    /// Makes texts of the bytes that were read, and puts the Specific Character Set back.
    pub(super) fn give_back(self, object: &mut InMemDicomObject) {
        self.decode(object);
        let values: Vec<_> = self.stated.split('\\').map(str::to_owned).collect();
        object.put(DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, PrimitiveValue::Strs(values.into())));
    }

    fn decode(&self, object: &mut InMemDicomObject) {
        let elements: Vec<(Tag, VR)> = object.iter().map(|element| (element.tag(), element.vr())).collect();
        for (tag, vr) in elements {
            match vr {
                VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT => {
                    object.update_value(tag, |value| {
                        if let Some(text) = value.primitive().and_then(|value| self.text(value)) {
                            *value = Value::Primitive(text);
                        }
                    });
                }
                VR::SQ => {
                    object.update_value(tag, |value| {
                        // An item may have a set of its own, and was read in it.
                        let items = value.items_mut().into_iter().flatten();
                        items
                            .filter(|item| item.get(tags::SPECIFIC_CHARACTER_SET).is_none())
                            .for_each(|item| self.decode(item));
                    });
                }
                _ => {}
            }
        }
    }

    /// A value of which each character is a byte; nothing where all are ASCII, or it is none in this set.
    fn text(&self, value: &PrimitiveValue) -> Option<PrimitiveValue> {
        let (bytes, several) = match value {
            PrimitiveValue::Str(text) => (text.clone(), false),
            PrimitiveValue::Strs(texts) => (texts.join("\\"), true),
            _ => return None,
        };
        if bytes.bytes().all(|byte| byte.is_ascii() && byte != 0x1b) {
            return None;
        }
        let bytes: Vec<u8> = bytes.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<_>>()?;
        let text = self.set.decode(&bytes).ok()?;
        Some(match several {
            true => PrimitiveValue::Strs(text.split('\\').map(str::to_owned).collect()),
            false => PrimitiveValue::Str(text),
        })
    }
}
