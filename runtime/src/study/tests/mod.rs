//! Synthetic files, one kind of trouble at a time, and real ones.

mod characters;
mod directory;
mod frames;
mod fuzzed;
mod geometry;
mod hostile;
mod identity;
mod inspect;
mod pixels;
mod real;
mod retrieve;
mod split;

use std::path::{Path, PathBuf};

use dicom_core::value::{C, PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use tempfile::TempDir;

pub(crate) use self::frames::two_echoes;
use super::decode::Voxels;
use super::*;
use crate::memory::Budget;

const COLUMNS: u16 = 4;
const ROWS: u16 = 3;
const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
const AXIAL: &str = "1\\0\\0\\0\\1\\0";

/// A folder of the assets, or `None`, said so, where it is not fetched; that is an error in CI.
pub(crate) fn assets(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GANTRY_ASSETS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/assets"), PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: run `cargo xtask assets`", path.display());
    eprintln!("skipped: no {name}; run `cargo xtask assets`");
    None
}

/// A folder of synthetic files.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// `count` slices of one series, 2.5 mm apart, named against their order.
    fn of_slices(count: usize) -> Self {
        let folder = Self::new();
        for i in 0..count {
            folder.add(&format!("s{}.dcm", count - i), &slice(i));
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn add(&self, name: &str, object: &InMemDicomObject) -> PathBuf {
        self.add_as(name, object, EXPLICIT)
    }

    fn add_as(&self, name: &str, object: &InMemDicomObject, transfer_syntax: &str) -> PathBuf {
        let path = self.path().join(name);
        let meta = FileMetaTableBuilder::new()
            .transfer_syntax(transfer_syntax)
            .media_storage_sop_class_uid(uids::CT_IMAGE_STORAGE)
            .media_storage_sop_instance_uid(text(object, tags::SOP_INSTANCE_UID).unwrap_or("2.25.99".into()));
        object.clone().with_meta(meta).expect("a whole file meta table").write_to_file(&path).expect("a written file");
        path
    }

    fn add_bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).expect("a written file");
        path
    }

    fn read(&self) -> Result<Study, ReadError> {
        read(&[self.path().to_owned()], &options())
    }

    /// What reading the folder fails with.
    fn refusal(&self) -> String {
        self.read().expect_err("refused").to_string()
    }

    /// Voxels of the only series.
    fn values(&self) -> Vec<f32> {
        let study = self.read().expect("a study");
        assert_eq!(study.series.len(), 1);
        values(&study.series[0])
    }
}

fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    attributes::text(object, tag)
}

fn options() -> ReadOptions {
    ReadOptions { file_max_mib: 64, files_max: 1000, volume_max_mib: 64, ..ReadOptions::default() }
}

/// What the threads that decode `slices` slices of native pixels pay for beside the volume: the pixels of one each.
fn scratch(slices: usize) -> u64 {
    let pixels = u64::from(ROWS) * u64::from(COLUMNS) * 2;
    rayon::current_num_threads().min(slices) as u64 * pixels
}

fn values(series: &Series) -> Vec<f32> {
    let (_, voxels, digests) = series.voxels(0, &Budget::unlimited(), &options()).expect("voxels");
    assert_eq!(digests.len(), series.instances.len());
    match voxels {
        Voxels::I16 { values, slope, intercept } => {
            values.into_iter().map(|v| slope * f32::from(v) + intercept).collect()
        }
        Voxels::F32(values) => values,
    }
}

/// What decoding the only series of a folder fails with.
fn decode_refusal(folder: &Folder) -> String {
    let study = folder.read().expect("readable headers");
    let refused = study.series[0].voxels(0, &Budget::unlimited(), &options()).expect_err("refused");
    refused.to_string()
}

/// Slice `i` of an axial CT at z = 2.5 i - 10; pixel p has the stored value 100 i + p.
fn slice(i: usize) -> InMemDicomObject {
    let mut object = InMemDicomObject::new_empty();
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
        (tags::SOP_INSTANCE_UID, VR::UI, format!("2.25.1000{i}").as_str()),
        (tags::STUDY_INSTANCE_UID, VR::UI, "2.25.1"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "2.25.2"),
        (tags::FRAME_OF_REFERENCE_UID, VR::UI, "2.25.3"),
        (tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL"),
        (tags::MODALITY, VR::CS, "CT"),
        (tags::PATIENT_ID, VR::LO, "SECRET-ID"),
        (tags::PATIENT_NAME, VR::PN, "Secret^Name"),
        (tags::SERIES_NUMBER, VR::IS, "3"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        (tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("-20\\-30\\{}", 2.5 * i as f64 - 10.0)),
        (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, AXIAL),
        (tags::PIXEL_SPACING, VR::DS, "0.5\\0.75"),
        (tags::SLICE_THICKNESS, VR::DS, "3"),
        (tags::RESCALE_SLOPE, VR::DS, "1"),
        (tags::RESCALE_INTERCEPT, VR::DS, "-1024"),
    ] {
        set(&mut object, tag, vr, value);
    }
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, ROWS),
        (tags::COLUMNS, COLUMNS),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 1),
    ] {
        set_us(&mut object, tag, value);
    }
    let pixels: Vec<u16> = (0..ROWS * COLUMNS).map(|p| 100 * i as u16 + p).collect();
    words(&mut object, pixels);
    object
}

/// With values separated by backslashes; empty when `value` is.
fn set(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    let value = match value {
        "" => PrimitiveValue::Empty,
        _ => PrimitiveValue::Strs(value.split('\\').map(str::to_owned).collect()),
    };
    object.put(DataElement::new(tag, vr, value));
}

fn set_us(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, dicom_value!(U16, value)));
}

fn words(object: &mut InMemDicomObject, pixels: Vec<u16>) {
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(pixels.into())));
}

/// Encapsulated pixel data.
fn encapsulate(object: &mut InMemDicomObject, fragments: &[&[u8]]) {
    let fragments: C<Vec<u8>> = fragments.iter().map(|f| f.to_vec()).collect();
    let value = Value::PixelSequence(PixelFragmentSequence::new(C::<u32>::new(), fragments));
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, value));
}

/// Slice 0, changed.
fn changed(change: impl FnOnce(&mut InMemDicomObject)) -> InMemDicomObject {
    let mut object = slice(0);
    change(&mut object);
    object
}

/// What reading a folder of slice 0, changed, fails with.
fn refusal_of(change: impl FnOnce(&mut InMemDicomObject)) -> String {
    let folder = Folder::new();
    folder.add("a.dcm", &changed(change));
    let refusal = folder.refusal();
    assert!(refusal.contains("a.dcm"), "names the file: {refusal}");
    assert!(!refusal.to_lowercase().contains("secret"), "no patient data: {refusal}");
    refusal
}

/// Asserts that `text` has all `parts`.
#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}
