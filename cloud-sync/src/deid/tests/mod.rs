//! What comes out of instances that were made for it, and of real files.

mod actions;
mod excused;
mod guard;
mod image;
mod real;
mod results;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};

use super::parse::{self, DataSet, Element, Encoding, Item, Syntax, Value, ascii, find};
use super::{Deidentifier, Held, Instance, Profile, Secret, write};

const EXPLICIT: &str = "1.2.840.10008.1.2.1";

fn profile(name: &str) -> Profile {
    Profile::preset(name).expect("a preset")
}

fn with(profile: Profile) -> Deidentifier {
    Deidentifier::new(profile, Secret::new(&[7; 32]).expect("a key"))
}

fn text(tag: Tag, vr: VR, value: &str) -> Element<'static> {
    Element::text(tag, vr, value)
}

fn sequence(tag: Tag, items: Vec<DataSet<'static>>) -> Element<'static> {
    let items = items.into_iter().map(|elements| Item { elements, defined: false }).collect();
    Element { tag, vr: VR::SQ, value: Value::Items(items, false) }
}

fn us(tag: Tag, value: u16) -> Element<'static> {
    Element::new(tag, VR::US, value.to_le_bytes().to_vec())
}

/// A CT slice of 4 × 4 voxels of Erika Mustermann.
fn ct() -> DataSet<'static> {
    vec![
        text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
        text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL"),
        text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
        text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4.1"),
        text(tags::STUDY_DATE, VR::DA, "20230310"),
        text(tags::SERIES_DATE, VR::DA, "20230311"),
        text(tags::CONTENT_DATE, VR::DA, "20230312"),
        text(tags::ACQUISITION_DATE_TIME, VR::DT, "20230310101112.5+0100"),
        text(tags::STUDY_TIME, VR::TM, "101112"),
        text(tags::ACCESSION_NUMBER, VR::SH, "ACC-77123"),
        text(tags::MODALITY, VR::CS, "CT"),
        text(tags::MANUFACTURER, VR::LO, "Siemens"),
        text(tags::INSTITUTION_NAME, VR::LO, "Sankt Gallus Spital"),
        text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Quincke^Heinrich"),
        text(tags::STATION_NAME, VR::SH, "CTROOM7"),
        text(tags::STUDY_DESCRIPTION, VR::LO, "CT chest Mustermann, Dr. Quincke"),
        text(tags::SERIES_DESCRIPTION, VR::LO, "Thorax 1.0 mm"),
        sequence(
            tags::REFERENCED_IMAGE_SEQUENCE,
            vec![vec![
                text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
                text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.3.4.2"),
            ]],
        ),
        text(tags::PATIENT_NAME, VR::PN, "Mustermann^Erika=山田^花子"),
        text(tags::PATIENT_ID, VR::LO, "PAT-4471199"),
        text(tags::PATIENT_BIRTH_DATE, VR::DA, "19310812"),
        text(tags::PATIENT_SEX, VR::CS, "F"),
        text(tags::PATIENT_AGE, VR::AS, "091Y"),
        text(tags::PATIENT_WEIGHT, VR::DS, "61"),
        text(tags::BODY_PART_EXAMINED, VR::CS, "CHEST"),
        text(tags::DEVICE_SERIAL_NUMBER, VR::LO, "SN0060064"),
        text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.4"),
        text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.5"),
        text(tags::FRAME_OF_REFERENCE_UID, VR::UI, "1.2.3.6"),
        us(tags::SAMPLES_PER_PIXEL, 1),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        us(tags::ROWS, 4),
        us(tags::COLUMNS, 4),
        us(tags::BITS_ALLOCATED, 16),
        us(tags::BITS_STORED, 12),
        us(tags::HIGH_BIT, 11),
        us(tags::PIXEL_REPRESENTATION, 0),
        Element::new(tags::PIXEL_DATA, VR::OW, (0u8..32).collect::<Vec<_>>()),
    ]
}

/// The CT with these elements instead of its own, or besides them.
fn ct_with(elements: Vec<Element<'static>>) -> DataSet<'static> {
    let mut set = ct();
    elements.into_iter().for_each(|e| super::pixels::put(&mut set, e));
    set
}

fn file_in(set: &DataSet<'_>, syntax: &str) -> Vec<u8> {
    let syntax = Syntax::of(syntax).expect("known");
    let of = |tag| ascii(find(set, tag)).to_owned();
    let pieces = write::file(set, &syntax, &of(tags::SOP_CLASS_UID), &of(tags::SOP_INSTANCE_UID), &[]);
    pieces.expect("it can be written").join(Vec::new()).0
}

fn file(set: &DataSet<'_>) -> Vec<u8> {
    file_in(set, EXPLICIT)
}

/// The file of [`ct`], for tests of what comes after.
pub(crate) fn ct_for_tests() -> Vec<u8> {
    file(&ct())
}

/// What came out, read again.
struct Out {
    bytes: Vec<u8>,
    encoding: Encoding,
}

impl Out {
    fn of(instance: &super::Deidentified<Instance>) -> Self {
        let limits = super::Limits::default();
        let (meta, _) = parse::meta(instance.as_bytes(), &limits).expect("meta");
        let syntax = Syntax::of(ascii(find(&meta, tags::TRANSFER_SYNTAX_UID))).expect("known");
        Self { bytes: instance.as_bytes().to_vec(), encoding: syntax.encoding }
    }

    fn set(&self) -> DataSet<'_> {
        let limits = super::Limits::default();
        let (_, start) = parse::meta(&self.bytes, &limits).expect("meta");
        parse::data_set(&self.bytes, start, self.encoding, &limits).expect("a data set")
    }

    /// The value of an attribute of the data set itself; nothing where it is not there.
    fn text(&self, tag: Tag) -> Option<String> {
        find(&self.set(), tag).map(|e| String::from_utf8_lossy(e.bytes()).trim_matches([' ', '\0']).to_owned())
    }

    /// Whether these bytes are anywhere.
    fn holds(&self, needle: &str) -> bool {
        self.bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
    }
}

fn out(profile: Profile, set: &DataSet<'_>) -> Out {
    Out::of(&with(profile).deidentify_bytes(file(set)).expect("released"))
}

fn held(profile: Profile, set: &DataSet<'_>) -> Held {
    with(profile).deidentify_bytes(file(set)).expect_err("held")
}
