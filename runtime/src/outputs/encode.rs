//! A file as it is encoded, without a second copy of what is in it.
//!
//! dicom-object clones each element before it writes it. Of outputs, nearly all is in two elements: what is said of each frame, and
//! pixel data. These are written here, an item or a piece at a time; everything else is small and left to dicom-object.

use std::io::{self, BufWriter, Write};

use dicom_core::value::Value;
use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_encoding::text::SpecificCharacterSet;
use dicom_object::mem::InMemElement;
use dicom_object::{FileDicomObject, InMemDicomObject};
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;
use rayon::prelude::*;

/// What is written at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Items that are encoded at once, on all threads.
const ITEMS: usize = 512;
/// Of a length that is not stated (PS3.5 section 7.5.1).
const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// Writes a file (PS3.10 section 7.1) in Explicit VR Little Endian, the transfer syntax of all outputs: the bytes are those of
/// [`FileDicomObject::write_all`].
///
/// # Errors
/// The writer's, and those of an object that cannot be encoded: ours to repair.
pub fn write_file(object: &FileDicomObject<InMemDicomObject>, to: impl Write) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(BUFFER_BYTES, to);
    to.write_all(&[0; 128])?;
    to.write_all(b"DICM")?;
    object.meta().write(&mut to).map_err(|e| unencoded(&e))?;
    let mut characters = SpecificCharacterSet::default();
    for element in &**object {
        let (tag, vr) = (element.header().tag, Some(element.vr()));
        match element.value() {
            Value::Sequence(items) => {
                header(&mut to, tag, Some(VR::SQ), UNDEFINED)?;
                for some in items.items().chunks(ITEMS) {
                    let encoded = some.par_iter().map(|item| encoded_item(item, &characters));
                    encoded.collect::<io::Result<Vec<_>>>()?.iter().try_for_each(|item| to.write_all(item))?;
                }
                header(&mut to, SEQUENCE_END, None, 0)?;
            }
            Value::Primitive(PrimitiveValue::U8(bytes)) if tag == tags::PIXEL_DATA => {
                header(&mut to, tag, vr, length(bytes.len())?)?;
                to.write_all(bytes)?;
                to.write_all(&[0; 1][..bytes.len() % 2])?;
            }
            Value::Primitive(PrimitiveValue::F32(values)) if tag == tags::FLOAT_PIXEL_DATA => {
                header(&mut to, tag, vr, length(size_of_val(&values[..]))?)?;
                values.iter().try_for_each(|value| to.write_all(&value.to_le_bytes()))?;
            }
            _ => {
                if tag == tags::SPECIFIC_CHARACTER_SET {
                    let stated = element.value().to_multi_str().ok().and_then(|stated| stated.first().cloned());
                    characters = stated.and_then(|s| SpecificCharacterSet::from_code(&s)).unwrap_or_default();
                }
                data_set(&mut to, &alone(element.clone()), &characters)?;
            }
        }
    }
    to.flush()
}

fn encoded_item(item: &InMemDicomObject, characters: &SpecificCharacterSet) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    header(&mut bytes, ITEM, None, UNDEFINED)?;
    data_set(&mut bytes, item, characters)?;
    header(&mut bytes, ITEM_END, None, 0)?;
    Ok(bytes)
}

fn alone(element: InMemElement) -> InMemDicomObject {
    InMemDicomObject::from_element_iter([element])
}

/// In the character set of what it is in, unless it says otherwise.
fn data_set(to: impl Write, object: &InMemDicomObject, characters: &SpecificCharacterSet) -> io::Result<()> {
    let written = object.write_dataset_with_ts_cs(to, &EXPLICIT_VR_LITTLE_ENDIAN.erased(), characters.clone());
    written.map_err(|e| unencoded(&e))
}

/// Tag, VR and length, of an element that may be long (PS3.5 table 7.1-1), or of an item, which has no VR (PS3.5 table 7.5-3).
fn header(to: &mut impl Write, tag: Tag, vr: Option<VR>, length: u32) -> io::Result<()> {
    to.write_all(&tag.group().to_le_bytes())?;
    to.write_all(&tag.element().to_le_bytes())?;
    if let Some(vr) = vr {
        to.write_all(&vr.to_bytes())?;
        to.write_all(&[0; 2])?;
    }
    to.write_all(&length.to_le_bytes())
}

/// Of so many bytes, with the one that makes them even.
fn length(bytes: usize) -> io::Result<u32> {
    let even = u32::try_from(bytes).ok().and_then(|n| n.checked_next_multiple_of(2)).filter(|n| *n != UNDEFINED);
    even.ok_or_else(|| io::Error::other("pixel data of 4 GiB or more"))
}

/// An error and its causes. Encoders name tags, not values.
fn unencoded(error: &dyn std::error::Error) -> io::Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    io::Error::other(text)
}

#[cfg(test)]
mod tests {
    use dicom_core::DataElement;
    use dicom_core::value::DataSetSequence;
    use dicom_object::FileMetaTableBuilder;

    use super::*;

    fn text(tag: Tag, vr: VR, text: &str) -> InMemElement {
        DataElement::new(tag, vr, text)
    }

    fn items(tag: Tag, items: Vec<InMemDicomObject>) -> InMemElement {
        DataElement::new(tag, VR::SQ, DataSetSequence::from(items))
    }

    /// With everything that is written in a way of its own, and text beyond ASCII outside and inside of items.
    fn object(characters: Option<&str>, pixels: Vec<InMemElement>) -> FileDicomObject<InMemDicomObject> {
        let inner = alone(text(tags::CODE_MEANING, VR::LO, "Größe"));
        let item = InMemDicomObject::from_element_iter([
            text(tags::CODE_VALUE, VR::SH, "1"),
            text(tags::CODE_MEANING, VR::LO, "Länge"),
            items(tags::CONCEPT_CODE_SEQUENCE, vec![inner, InMemDicomObject::new_empty()]),
        ]);
        let elements = [
            text(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.66.4"),
            text(tags::SOP_INSTANCE_UID, VR::UI, "2.25.1"),
            text(tags::PATIENT_NAME, VR::PN, "Müller^Test"),
            text(tags::ACCESSION_NUMBER, VR::SH, ""),
            items(tags::SEGMENT_SEQUENCE, vec![]),
            items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, vec![item.clone(), item]),
        ];
        let characters = characters.map(|set| text(tags::SPECIFIC_CHARACTER_SET, VR::CS, set));
        let object = InMemDicomObject::from_element_iter(elements.into_iter().chain(characters).chain(pixels));
        object.with_meta(FileMetaTableBuilder::new().transfer_syntax("1.2.840.10008.1.2.1")).expect("meta")
    }

    #[test]
    fn the_bytes_are_those_that_dicom_object_writes() {
        let bits = |bytes: Vec<u8>| DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(bytes.into()));
        let values = PrimitiveValue::F32(vec![1.5, -0.25, f32::MAX].into());
        for pixels in [
            vec![],
            vec![bits(vec![1, 2, 3, 4])],
            vec![bits(vec![1, 2, 3])],
            vec![DataElement::new(tags::FLOAT_PIXEL_DATA, VR::OF, values)],
        ] {
            for characters in [None, Some("ISO_IR 100"), Some("ISO_IR 192"), Some("unknown")] {
                let object = object(characters, pixels.clone());
                let (mut theirs, mut ours) = (Vec::new(), Vec::new());
                object.write_all(&mut theirs).expect("written");
                write_file(&object, &mut ours).expect("written");
                assert_eq!(ours, theirs, "{characters:?}, {} elements of pixels", pixels.len());
            }
        }
    }

    #[test]
    fn a_length_is_even_and_never_that_of_no_length() {
        assert_eq!(length(3).expect("short"), 4);
        assert_eq!(length(u32::MAX as usize - 1).expect("the most"), u32::MAX - 1);
        assert!(length(u32::MAX as usize).is_err());
    }
}
