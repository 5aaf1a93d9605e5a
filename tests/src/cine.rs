//! An ultrasound cine of small grey frames, whose pixels say to a test's module what to do.

use std::path::{Path, PathBuf};

use anyhow::Result;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// Columns and rows.
pub const SIZE: [u16; 2] = [32, 24];

/// Writes `cine.dcm` into a folder: a frame for each of `greys`, all of its pixels of that grey, 25 a second. It is changed before
/// it is written.
pub fn write_cine(folder: &Path, greys: &[u8], change: impl FnOnce(&mut InMemDicomObject)) -> Result<PathBuf> {
    let mut cine = InMemDicomObject::new_empty();
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE.to_owned()),
        (tags::SOP_INSTANCE_UID, VR::UI, "2.25.71".into()),
        (tags::STUDY_INSTANCE_UID, VR::UI, "2.25.72".into()),
        (tags::SERIES_INSTANCE_UID, VR::UI, "2.25.73".into()),
        (tags::PATIENT_NAME, VR::PN, "Secret^Person".into()),
        (tags::PATIENT_ID, VR::LO, "SECRET-ID".into()),
        (tags::STUDY_DATE, VR::DA, "20240102".into()),
        (tags::STUDY_TIME, VR::TM, "030405".into()),
        (tags::MODALITY, VR::CS, "US".into()),
        (tags::SERIES_NUMBER, VR::IS, "1".into()),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2".into()),
        (tags::NUMBER_OF_FRAMES, VR::IS, greys.len().to_string()),
        (tags::FRAME_TIME, VR::DS, "40".into()),
    ] {
        cine.put_str(tag, vr, value);
    }
    let [columns, rows] = SIZE;
    for (tag, value) in [
        (tags::ROWS, rows),
        (tags::COLUMNS, columns),
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::BITS_ALLOCATED, 8),
        (tags::BITS_STORED, 8),
        (tags::HIGH_BIT, 7),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        cine.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    let pixels = usize::from(columns) * usize::from(rows);
    let bytes: Vec<u8> = greys.iter().flat_map(|grey| std::iter::repeat_n(*grey, pixels)).collect();
    cine.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(bytes)));
    change(&mut cine);
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let path = folder.join("cine.dcm");
    cine.with_meta(meta)?.write_to_file(&path)?;
    Ok(path)
}
