//! What all outputs have in common: identity copied from the source, equipment, and how elements are put.

use std::collections::{BTreeMap, BTreeSet};

use dicom_core::header::HasLength;
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids as dictionary};
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::{ModuleInfo, Source, Stamp};
use crate::study::Instance;

/// What demonstration modules say wherever a person reads.
pub(super) const DEMONSTRATION: &str = "demonstration, not for clinical use";
/// Manufacturer (0008,0070) of outputs.
pub(super) const MANUFACTURER: &str = "Gantry";

/// Patient, Patient Study and General Study attributes of which an output repeats what the source has (PS3.3 C.7.1.1,
/// C.7.2.1, C.7.2.2), and whether an output has them even when empty (type 2).
const COPIED: [(Tag, VR, bool); 25] = [
    (tags::PATIENT_NAME, VR::PN, true),
    (tags::PATIENT_ID, VR::LO, true),
    (tags::ISSUER_OF_PATIENT_ID, VR::LO, false),
    (tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE, VR::SQ, false),
    (tags::TYPE_OF_PATIENT_ID, VR::CS, false),
    (tags::OTHER_PATIENT_I_DS_SEQUENCE, VR::SQ, false),
    (tags::PATIENT_BIRTH_DATE, VR::DA, true),
    (tags::PATIENT_BIRTH_TIME, VR::TM, false),
    (tags::PATIENT_SEX, VR::CS, true),
    (tags::PATIENT_IDENTITY_REMOVED, VR::CS, false),
    (tags::DEIDENTIFICATION_METHOD, VR::LO, false),
    (tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE, VR::SQ, false),
    (tags::PATIENT_AGE, VR::AS, false),
    (tags::PATIENT_SIZE, VR::DS, false),
    (tags::PATIENT_WEIGHT, VR::DS, false),
    (tags::STUDY_DATE, VR::DA, true),
    (tags::STUDY_TIME, VR::TM, true),
    (tags::STUDY_ID, VR::SH, true),
    (tags::ACCESSION_NUMBER, VR::SH, true),
    (tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE, VR::SQ, false),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN, true),
    (tags::STUDY_DESCRIPTION, VR::LO, false),
    (tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, false),
    (tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::CS, false),
    (tags::TIMEZONE_OFFSET_FROM_UTC, VR::SH, false),
];

/// Puts an element of one value or of text.
pub(super) fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
    object.put(DataElement::new(tag, vr, value.into()));
}

/// Puts an element without a value.
pub(super) fn put_empty(object: &mut InMemDicomObject, tag: Tag, vr: VR) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::Empty));
}

/// Puts a sequence.
pub(super) fn sequence(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

/// A data set that belongs to the patient and study of `source`: Patient, Patient Study and General Study modules and
/// the Specific Character Set that they are in.
pub(super) fn in_study_of(source: &Source<'_>) -> InMemDicomObject {
    let mut object = InMemDicomObject::new_empty();
    let header = &source.series.header;
    // One that is not known for what it is (UN) was not read in either.
    let characters = known(header, tags::SPECIFIC_CHARACTER_SET);
    if let Some(element) = characters {
        object.put(element.clone());
    }
    let set = characters.and_then(|e| e.to_str().ok()).unwrap_or_default();
    let set = set.split('\\').next().and_then(|term| SpecificCharacterSet::from_code(term.trim_matches([' ', '\0'])));
    let of = |vr| match vr {
        VR::PN | VR::LO | VR::SH => set.clone().unwrap_or_default(),
        _ => SpecificCharacterSet::ISO_IR_6,
    };
    for (tag, vr, even_empty) in COPIED {
        match header.get(tag) {
            Some(element) if element.vr() == VR::UN && even_empty => {
                let text = element.to_bytes().ok().and_then(|bytes| of(vr).decode(&bytes).ok());
                put(&mut object, tag, vr, text.unwrap_or_default().trim_end_matches([' ', '\0']));
            }
            Some(element) if element.vr() == VR::UN => {}
            Some(element) if even_empty || !element.is_empty() => {
                object.put(element.clone());
            }
            _ if even_empty => put_empty(&mut object, tag, vr),
            _ => {}
        }
    }
    put(&mut object, tags::STUDY_INSTANCE_UID, VR::UI, source.study.uid.as_str());
    object
}

/// What a source states, but for what some archive on its way did not know (UN, PS3.5 section 6.2.2): an object that we write
/// has the value representations of PS3.6.
fn known(header: &InMemDicomObject, tag: Tag) -> Option<&InMemElement> {
    header.get(tag).filter(|element| element.vr() != VR::UN)
}

/// Changes the character set to UTF-8 where one of `texts` needs it. What the source says in another single character
/// set stays the same text. With code extensions it is kept in bytes that only its own character set explains: then
/// characters beyond ASCII become `?` in `texts` instead.
pub(super) fn fit_characters<'a>(object: &mut InMemDicomObject, texts: impl IntoIterator<Item = &'a mut String>) {
    let mut texts: Vec<&mut String> = texts.into_iter().filter(|text| !text.is_ascii()).collect();
    if texts.is_empty() {
        return;
    }
    let stated = object.get(tags::SPECIFIC_CHARACTER_SET);
    let stated = stated.and_then(|e| e.to_str().ok()).unwrap_or_default().trim_matches([' ', '\0']).to_owned();
    let extended = stated.contains('\\') || stated.contains("2022");
    let understood = stated.is_empty() || SpecificCharacterSet::from_code(&stated).is_some();
    if !extended && understood {
        put(object, tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    } else {
        for text in &mut texts {
            **text = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        }
    }
}

/// SOP Common module and when the content was made (PS3.3 C.12.1).
pub(super) fn put_instance(object: &mut InMemDicomObject, class: &str, instance: &str, stamp: &Stamp) {
    put(object, tags::SOP_CLASS_UID, VR::UI, class);
    put(object, tags::SOP_INSTANCE_UID, VR::UI, instance);
    put(object, tags::INSTANCE_NUMBER, VR::IS, "1");
    for (date, time) in [
        (tags::INSTANCE_CREATION_DATE, tags::INSTANCE_CREATION_TIME),
        (tags::CONTENT_DATE, tags::CONTENT_TIME),
        (tags::SERIES_DATE, tags::SERIES_TIME),
    ] {
        put(object, date, VR::DA, stamp.date.as_str());
        put(object, time, VR::TM, stamp.time.as_str());
    }
}

/// General Series module of a series of its own (PS3.3 C.7.3.1). Its number follows the source's: `100 · n + place`.
pub(super) fn put_series(
    object: &mut InMemDicomObject,
    source: &Source<'_>,
    modality: &str,
    uid: &str,
    description: &str,
    place: u32,
) {
    put(object, tags::MODALITY, VR::CS, modality);
    put(object, tags::SERIES_INSTANCE_UID, VR::UI, uid);
    let number = source.series.attribute("SeriesNumber").and_then(|n| n.trim().parse::<u32>().ok()).unwrap_or(0);
    // A number that is out of line says nothing worth continuing.
    let number = if number > 1_000_000 { 0 } else { number };
    put(object, tags::SERIES_NUMBER, VR::IS, (number * 100 + place).to_string());
    put(object, tags::SERIES_DESCRIPTION, VR::LO, description);
}

/// Parts of the body of which there is one (PS3.16 annex L), of those that images are mostly of.
const UNPAIRED: [&str; 20] = [
    "ABDOMEN", "AORTA", "BLADDER", "BRAIN", "CHEST", "COCCYX", "COLON", "CSPINE", "HEAD", "HEART", "LIVER", "LSPINE",
    "NECK", "PELVIS", "PROSTATE", "SKULL", "SPINE", "SSPINE", "TSPINE", "UTERUS",
];

/// Body Part Examined of a series, as the source says (PS3.3 C.7.3.1).
pub(super) fn put_body_part(object: &mut InMemDicomObject, source: &Source<'_>) {
    copy(object, source, tags::BODY_PART_EXAMINED);
}

/// Which side of the body a series of images is of (type 2C): as the source says; unknown where it should and does not.
pub(super) fn put_side(object: &mut InMemDicomObject, source: &Source<'_>) {
    let part = source.series.attribute("BodyPartExamined").unwrap_or_default();
    if !copy(object, source, tags::LATERALITY) && !UNPAIRED.contains(&part.trim()) {
        put_empty(object, tags::LATERALITY, VR::CS);
    }
}

/// Whether the source states it.
fn copy(object: &mut InMemDicomObject, source: &Source<'_>, tag: Tag) -> bool {
    let stated = known(&source.series.header, tag).filter(|element| !element.is_empty());
    stated.map(|element| object.put(element.clone())).is_some()
}

/// General and Enhanced General Equipment modules (PS3.3 C.7.5.1, C.7.5.2): the runtime made the object, with the
/// module as its model; the serial number is the module's identity.
pub(super) fn put_equipment(object: &mut InMemDicomObject, module: &ModuleInfo) {
    let versions = [text(&module.version), format!("{MANUFACTURER} {}", env!("CARGO_PKG_VERSION"))];
    put(object, tags::MANUFACTURER, VR::LO, MANUFACTURER);
    put(object, tags::MANUFACTURER_MODEL_NAME, VR::LO, text(&module.name));
    put(object, tags::DEVICE_SERIAL_NUMBER, VR::LO, crate::hex(&module.identity));
    put(object, tags::SOFTWARE_VERSIONS, VR::LO, PrimitiveValue::Strs(versions.into_iter().collect()));
}

/// What a picture must say of itself where a person reads it.
pub(super) fn label(module: &ModuleInfo) -> &'static str {
    if module.demonstration { "DEMONSTRATION - not for clinical use" } else { "For review" }
}

/// `title`, and that it is a demonstration where it is one: 64 characters at most.
pub(super) fn described(title: &str, module: &ModuleInfo) -> String {
    if !module.demonstration {
        return text(title);
    }
    let room = 64 - DEMONSTRATION.len() - 2;
    format!("{}: {DEMONSTRATION}", text(title).chars().take(room).collect::<String>().trim_end())
}

/// Text that fits an LO: 64 characters at most, without what would end or split a value.
pub(super) fn text(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '\\').take(64).collect::<String>().trim().to_owned()
}

/// What was lost in the source is lost in what is made of it (PS3.3 C.7.6.1.1.5).
pub(super) fn put_lossy(object: &mut InMemDicomObject, source: &Source<'_>) {
    let header = &source.series.header;
    let stated = source.series.attribute("LossyImageCompression").is_some_and(|v| v == "01");
    let always_lossy = [dictionary::JPEG_BASELINE8_BIT, dictionary::JPEG_EXTENDED12_BIT];
    let lossy =
        stated || source.series.instances.iter().any(|i| always_lossy.contains(&i.transfer_syntax_uid.as_str()));
    put(object, tags::LOSSY_IMAGE_COMPRESSION, VR::CS, if lossy { "01" } else { "00" });
    if lossy {
        for tag in [tags::LOSSY_IMAGE_COMPRESSION_RATIO, tags::LOSSY_IMAGE_COMPRESSION_METHOD] {
            if let Some(element) = known(header, tag) {
                object.put(element.clone());
            }
        }
    }
}

/// Items that refer to instances (PS3.3 10.8): those of all slices of the volume, each once.
pub(super) fn slice_references(source: &Source<'_>) -> Vec<InMemDicomObject> {
    let mut seen = BTreeSet::new();
    let instances = source.layout.slices.iter().filter_map(|&i| source.series.instances.get(i));
    let once = instances.filter(|instance| seen.insert(instance.sop_instance_uid.as_str()));
    once.map(|i| reference(&i.sop_class_uid, &i.sop_instance_uid)).collect()
}

/// Items that refer to images (PS3.3 10.3), one for each instance: of an instance of several frames to those of the images.
pub(super) fn image_references<'a>(images: impl IntoIterator<Item = &'a Instance>) -> Vec<InMemDicomObject> {
    let mut of: Vec<(&Instance, Vec<String>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for image in images {
        let place = *places.entry(&image.sop_instance_uid).or_insert(of.len());
        let frame = image.frame.map(|frame| frame.to_string());
        match of.get_mut(place) {
            Some((_, frames)) => frames.extend(frame),
            None => of.push((image, frame.into_iter().collect())),
        }
    }
    let item = |(image, frames): (&Instance, Vec<String>)| {
        let mut item = reference(&image.sop_class_uid, &image.sop_instance_uid);
        if !frames.is_empty() {
            put(&mut item, tags::REFERENCED_FRAME_NUMBER, VR::IS, PrimitiveValue::Strs(frames.into()));
        }
        item
    };
    of.into_iter().map(item).collect()
}

/// One item that refers to an image: an instance, or one of its frames (PS3.3 10.3).
pub(super) fn image_reference(image: &Instance) -> InMemDicomObject {
    let mut item = reference(&image.sop_class_uid, &image.sop_instance_uid);
    if let Some(frame) = image.frame {
        put(&mut item, tags::REFERENCED_FRAME_NUMBER, VR::IS, frame.to_string());
    }
    item
}

/// One item that refers to an instance.
pub(super) fn reference(class: &str, instance: &str) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::REFERENCED_SOP_CLASS_UID, VR::UI, class);
    put(&mut item, tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance);
    item
}

/// A number as a decimal string: the most digits that fit 16 bytes (PS3.5 table 6.2-1).
pub(super) fn decimal(value: f64) -> String {
    let plain = format!("{value}");
    if plain.len() <= 16 {
        return if plain == "-0" { "0".into() } else { plain };
    }
    let fixed = (0..=15).rev().map(|digits| format!("{value:.digits$}")).find(|s| s.len() <= 16);
    // Fixed digits would lose what is far below or above 1.
    let small = value != 0.0 && value.abs() < 1e-4;
    match fixed {
        Some(fixed) if !small => fixed,
        _ => (0..=10).rev().map(|d| format!("{value:.d$e}")).find(|s| s.len() <= 16).unwrap_or_else(|| "0".into()),
    }
}

/// Several numbers as decimal strings.
pub(super) fn decimals(values: &[f64]) -> PrimitiveValue {
    PrimitiveValue::Strs(values.iter().map(|v| decimal(*v)).collect())
}
