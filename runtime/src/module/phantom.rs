//! Studies that are made up: what cases run on where no patient's images may be shipped, and what `gantry module check` runs a module on.
//!
//! The same description gives the same files to the byte. Coordinates are those of DICOM patients (x to the left, y to the back, z to
//! the head), in mm from the middle of the volume.

use std::collections::BTreeMap;
use std::path::Path;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::manifest::{Accepts, Contrast, Orientation};
use crate::geometry::Vec3;

/// The most columns, rows or slices.
const SIDE_MAX: usize = 4096;
/// The most voxels: half a GiB as stored.
const VOXELS_MAX: usize = 1 << 28;
/// The most shapes: each voxel is held against all of them, and a description may come from anybody.
const SHAPES_MAX: usize = 64;

/// A series of one study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phantom {
    /// (0008,0060).
    pub modality: String,
    /// Columns, rows and slices.
    pub size: [usize; 3],
    /// Between columns, rows and slices.
    pub spacing_mm: [f64; 3],
    /// How the slices lie.
    #[serde(default = "axial")]
    pub orientation: Orientation,
    /// The value of what no shape covers: HU in CT.
    pub background: f64,
    /// Values differ from what they should be by up to so much, the same way each time.
    #[serde(default)]
    pub noise: f64,
    /// (0008,0016); the one of the modality when not set.
    #[serde(default)]
    pub sop_class: Option<String>,
    /// More attributes of every image, text by keyword.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// What is in it; a later one covers an earlier one.
    #[serde(default)]
    pub shapes: Vec<Shape>,
}

/// Something in a phantom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// What expectations call it; several may be one.
    #[serde(default)]
    pub name: String,
    /// Its form.
    pub kind: Kind,
    /// Its middle.
    pub centre_mm: [f64; 3],
    /// From its middle to its surface along x, y and z.
    pub radii_mm: [f64; 3],
    /// HU in CT.
    pub value: f64,
}

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Or a ball.
    Ellipsoid,
    /// Along the axes.
    Box,
}

fn axial() -> Orientation {
    Orientation::Axial
}

impl Shape {
    fn covers(&self, at: Vec3) -> bool {
        let apart = [0, 1, 2].map(|i| (at[i] - self.centre_mm[i]) / self.radii_mm[i]);
        match self.kind {
            Kind::Ellipsoid => apart.iter().map(|d| d * d).sum::<f64>() <= 1.0,
            Kind::Box => apart.iter().all(|d| d.abs() <= 1.0),
        }
    }
}

impl Phantom {
    /// What cannot be made.
    ///
    /// # Errors
    /// Which key, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        if !crate::study::is_code(&self.modality) {
            return Err("phantom.modality: a code such as \"CT\"".into());
        }
        let voxels = self.size.iter().try_fold(1_usize, |all, side| all.checked_mul(*side));
        let sides = self.size.iter().all(|side| (1..=SIDE_MAX).contains(side));
        if !sides || voxels.is_none_or(|voxels| voxels > VOXELS_MAX) {
            return Err(format!("phantom.size: each from 1 to {SIDE_MAX}, and at most {VOXELS_MAX} voxels"));
        }
        if self.shapes.len() > SHAPES_MAX {
            return Err(format!("phantom.shapes: at most {SHAPES_MAX}"));
        }
        let fits = |mm: &f64| (0.01..=1000.0).contains(mm);
        if !self.spacing_mm.iter().all(fits) {
            return Err("phantom.spacing_mm: each from 0.01 to 1000".into());
        }
        let sound = |shape: &Shape| {
            shape.radii_mm.iter().all(|mm| *mm > 0.0) && shape.centre_mm.iter().all(|mm| mm.is_finite())
        };
        if !self.shapes.iter().all(sound) {
            return Err("phantom.shapes: radii_mm above 0, and centre_mm a number".into());
        }
        let (low, high) = (self.intercept(), self.intercept() + f64::from(u16::MAX));
        let values = self.shapes.iter().map(|shape| shape.value).chain([self.background]);
        if !(self.noise >= 0.0 && values.into_iter().all(|v| v - self.noise >= low && v + self.noise <= high)) {
            return Err(format!("phantom: values with their noise from {low} to {high} in {}", self.modality));
        }
        self.attributes.iter().try_for_each(|(keyword, value)| attribute(keyword, value).map(drop))
    }

    /// The one that counts where several cover it.
    #[must_use]
    pub fn shape_at(&self, at: Vec3) -> Option<&Shape> {
        self.shapes.iter().rev().find(|shape| shape.covers(at))
    }

    /// What is added to stored values.
    fn intercept(&self) -> f64 {
        if self.modality == "CT" { -1024.0 } else { 0.0 }
    }

    /// Directions of a row, of a column and from slice to slice.
    fn axes(&self) -> [Vec3; 3] {
        match self.orientation {
            Orientation::Axial => [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            Orientation::Coronal => [[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]],
            Orientation::Sagittal => [[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]],
        }
    }

    /// The middle of a voxel.
    fn position(&self, [x, y, z]: [usize; 3]) -> Vec3 {
        let axes = self.axes();
        let from_middle =
            |axis: usize, at: usize| (at as f64 - (self.size[axis] - 1) as f64 / 2.0) * self.spacing_mm[axis];
        let along = [from_middle(0, x), from_middle(1, y), from_middle(2, z)];
        [0, 1, 2].map(|i| (0..3).map(|axis| along[axis] * axes[axis][i]).sum())
    }

    /// Writes its images into a folder, a file each.
    ///
    /// # Errors
    /// It cannot be made, or not written.
    pub fn write(&self, folder: &Path) -> Result<(), String> {
        self.check()?;
        let description = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        let uid = |what: &str| {
            let digest = Sha256::new().chain_update(&description).chain_update(what).finalize();
            let number = digest.iter().take(16).fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
            format!("2.25.{number}")
        };
        (0..self.size[2]).into_par_iter().try_for_each(|z| {
            let object = self.image(z, &uid)?;
            let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
            let file = object.with_meta(meta).map_err(|e| e.to_string())?;
            file.write_to_file(folder.join(format!("{z:04}.dcm"))).map_err(|e| format!("{}: {e}", folder.display()))
        })
    }

    fn image(&self, z: usize, uid: &dyn Fn(&str) -> String) -> Result<InMemDicomObject, String> {
        let [columns, rows, _] = self.size;
        let mut image = InMemDicomObject::new_empty();
        let decimals = |values: &[f64]| values.iter().map(|v| decimal(*v)).collect::<Vec<_>>().join("\\");
        let axes = self.axes();
        let class = self.sop_class.clone().or_else(|| class_of(&self.modality).map(str::to_owned));
        for (tag, vr, value) in [
            (tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL".to_owned()),
            (tags::SOP_CLASS_UID, VR::UI, class.unwrap_or_else(|| uids::SECONDARY_CAPTURE_IMAGE_STORAGE.into())),
            (tags::SOP_INSTANCE_UID, VR::UI, uid(&format!("image {z}"))),
            (tags::STUDY_INSTANCE_UID, VR::UI, uid("study")),
            (tags::SERIES_INSTANCE_UID, VR::UI, uid("series")),
            (tags::FRAME_OF_REFERENCE_UID, VR::UI, uid("frame of reference")),
            (tags::STUDY_DATE, VR::DA, "20260101".into()),
            (tags::STUDY_TIME, VR::TM, "120000".into()),
            (tags::ACCESSION_NUMBER, VR::SH, String::new()),
            (tags::MODALITY, VR::CS, self.modality.clone()),
            (tags::MANUFACTURER, VR::LO, "Phantom".into()),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN, String::new()),
            (tags::PATIENT_NAME, VR::PN, "Phantom".into()),
            (tags::PATIENT_ID, VR::LO, "PHANTOM".into()),
            (tags::PATIENT_BIRTH_DATE, VR::DA, String::new()),
            (tags::PATIENT_SEX, VR::CS, String::new()),
            (tags::PATIENT_POSITION, VR::CS, "HFS".into()),
            (tags::STUDY_ID, VR::SH, "1".into()),
            (tags::SERIES_NUMBER, VR::IS, "1".into()),
            (tags::INSTANCE_NUMBER, VR::IS, (z + 1).to_string()),
            (tags::POSITION_REFERENCE_INDICATOR, VR::LO, String::new()),
            (tags::IMAGE_POSITION_PATIENT, VR::DS, decimals(&self.position([0, 0, z]))),
            (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, decimals(&[axes[0], axes[1]].concat())),
            (tags::PIXEL_SPACING, VR::DS, decimals(&[self.spacing_mm[1], self.spacing_mm[0]])),
            (tags::SLICE_THICKNESS, VR::DS, decimal(self.spacing_mm[2])),
            (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2".into()),
            (tags::RESCALE_INTERCEPT, VR::DS, decimal(self.intercept())),
            (tags::RESCALE_SLOPE, VR::DS, "1".into()),
        ] {
            image.put_str(tag, vr, value);
        }
        if self.modality == "CT" {
            image.put_str(tags::KVP, VR::DS, "120");
            image.put_str(tags::RESCALE_TYPE, VR::LO, "HU");
        }
        for (keyword, value) in &self.attributes {
            let (tag, vr) = attribute(keyword, value)?;
            image.put_str(tag, vr, value.as_str());
        }
        let side = |side: usize| u16::try_from(side).map_err(|e| e.to_string());
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 1),
            (tags::ROWS, side(rows)?),
            (tags::COLUMNS, side(columns)?),
            (tags::BITS_ALLOCATED, 16),
            (tags::BITS_STORED, 16),
            (tags::HIGH_BIT, 15),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            image.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        }
        image.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(self.pixels(z).into())));
        Ok(image)
    }

    fn pixels(&self, z: usize) -> Vec<u16> {
        let [columns, rows, _] = self.size;
        let mut pixels = Vec::with_capacity(columns * rows);
        for y in 0..rows {
            for x in 0..columns {
                let value = self.shape_at(self.position([x, y, z])).map_or(self.background, |shape| shape.value);
                let stored = value + self.noise * noise(((z * rows + y) * columns + x) as u64) - self.intercept();
                // `check` made sure that it fits.
                pixels.push(stored.round().clamp(0.0, f64::from(u16::MAX)) as u16);
            }
        }
        pixels
    }

    /// One that a module accepts: a head, a trunk or, of what is no volume, a picture.
    ///
    /// # Errors
    /// Why there is none.
    pub fn fitting(accepts: &Accepts) -> Result<Self, String> {
        let modality = accepts.modality.first().cloned().ok_or("accepts.modality is empty")?;
        let flat = matches!(modality.as_str(), "CR" | "DX" | "MG" | "RF" | "XA" | "US" | "OP" | "XC");
        let part = accepts.body_part.as_ref().and_then(|parts| parts.first()).cloned();
        let head = part.as_deref().is_some_and(|part| ["HEAD", "BRAIN", "SKULL"].contains(&part));
        let sop_class = match &accepts.sop_class {
            None => None,
            Some(classes) => {
                let known = |class: &&String| SINGLE_FRAME.iter().any(|(_, single)| class.as_str() == *single);
                let known = classes.iter().find(known).ok_or("it accepts no SOP class of single frames")?;
                Some(known.clone())
            }
        };
        let (pixel_mm, slice_mm) = if flat { (0.5, 1.0) } else { (2.5, 5.0) };
        let pixel_mm = accepts.pixel_spacing_max_mm.unwrap_or(pixel_mm).min(pixel_mm).max(0.01);
        let slice_mm = accepts.spacing_max_mm.unwrap_or(slice_mm).min(slice_mm).max(0.01);
        // 256 mm of pictures, 320 mm of bodies, 160 mm of slices.
        let side = ((if flat || head { 256.0 } else { 320.0 } / pixel_mm) as usize).clamp(64, 512);
        let wanted = if flat { 1 } else { (160.0 / slice_mm) as usize };
        let slices = wanted.clamp(accepts.slices_min, accepts.slices_max.unwrap_or(SIDE_MAX).max(accepts.slices_min));
        let mut attributes = BTreeMap::new();
        attributes.extend(part.map(|part| ("BodyPartExamined".to_owned(), part)));
        if accepts.contrast == Some(Contrast::With) {
            attributes.insert("ContrastBolusAgent".into(), "Agent".into());
        }
        for (keyword, patterns) in [("Manufacturer", &accepts.manufacturer), ("ManufacturerModelName", &accepts.model)]
        {
            let first = patterns.as_ref().and_then(|patterns| patterns.first());
            attributes.extend(first.map(|text| (keyword.to_owned(), text.replace('*', "").replace('?', "X"))));
        }
        let phantom = Self {
            size: [side, side, slices],
            spacing_mm: [pixel_mm, pixel_mm, slice_mm],
            orientation: accepts
                .orientation
                .as_ref()
                .and_then(|all| all.first())
                .copied()
                .unwrap_or(Orientation::Axial),
            background: if modality == "CT" { -1000.0 } else { 0.0 },
            noise: if modality == "CT" { 8.0 } else { 0.0 },
            sop_class,
            attributes,
            shapes: shapes(&modality, head),
            modality,
        };
        phantom.check().map(|()| phantom)
    }
}

/// Name, form, middle, radii, and values in CT and elsewhere.
type Row = (&'static str, Kind, [f64; 3], [f64; 3], f64, f64);

const HEAD: [Row; 4] = [
    ("skull", Kind::Ellipsoid, [0.0, 0.0, -10.0], [75.0, 92.0, 85.0], 900.0, 50.0),
    ("csf", Kind::Ellipsoid, [0.0, 0.0, -10.0], [68.0, 85.0, 78.0], 8.0, 150.0),
    ("brain", Kind::Ellipsoid, [0.0, 0.0, -10.0], [66.0, 83.0, 76.0], 34.0, 600.0),
    ("ventricles", Kind::Ellipsoid, [0.0, 0.0, -5.0], [18.0, 35.0, 15.0], 8.0, 150.0),
];

const TRUNK: [Row; 7] = [
    ("body", Kind::Ellipsoid, [0.0, 0.0, 0.0], [150.0, 105.0, 4000.0], 35.0, 300.0),
    ("lung", Kind::Ellipsoid, [75.0, 0.0, 60.0], [48.0, 62.0, 75.0], -850.0, 20.0),
    ("lung", Kind::Ellipsoid, [-75.0, 0.0, 60.0], [48.0, 62.0, 75.0], -850.0, 20.0),
    ("liver", Kind::Ellipsoid, [-65.0, -10.0, -45.0], [70.0, 65.0, 55.0], 60.0, 500.0),
    ("kidney", Kind::Ellipsoid, [60.0, 45.0, -60.0], [25.0, 25.0, 45.0], 30.0, 400.0),
    ("kidney", Kind::Ellipsoid, [-60.0, 55.0, -70.0], [22.0, 22.0, 40.0], 30.0, 400.0),
    ("spine", Kind::Box, [0.0, 65.0, 0.0], [16.0, 18.0, 4000.0], 500.0, 100.0),
];

fn shapes(modality: &str, head: bool) -> Vec<Shape> {
    let rows: &[Row] = if head { &HEAD } else { &TRUNK };
    let shape = |(name, kind, centre_mm, radii_mm, hu, value): &Row| Shape {
        name: (*name).to_owned(),
        kind: *kind,
        centre_mm: *centre_mm,
        radii_mm: *radii_mm,
        value: if modality == "CT" { *hu } else { *value },
    };
    rows.iter().map(shape).collect()
}

/// SOP classes of images of one frame each.
const SINGLE_FRAME: [(&str, &str); 9] = [
    ("CT", uids::CT_IMAGE_STORAGE),
    ("MR", uids::MR_IMAGE_STORAGE),
    ("PT", uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE),
    ("CR", uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE),
    ("DX", uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION),
    ("MG", uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION),
    ("US", uids::ULTRASOUND_IMAGE_STORAGE),
    ("XA", uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE),
    ("OT", uids::SECONDARY_CAPTURE_IMAGE_STORAGE),
];

fn class_of(modality: &str) -> Option<&'static str> {
    SINGLE_FRAME.iter().find(|(of, _)| *of == modality).map(|(_, class)| *class)
}

/// Tag and VR of a text that a case may set.
fn attribute(keyword: &str, value: &str) -> Result<(dicom_core::Tag, VR), String> {
    let wrong = |why: &str| {
        Err(format!(
            "phantom.attributes: {}: {why}",
            keyword.chars().take(64).flat_map(char::escape_debug).collect::<String>()
        ))
    };
    let Some(entry) = StandardDataDictionary.by_name(keyword) else { return wrong("no keyword of PS3.6") };
    let (tag, vr) = (entry.tag(), entry.vr().relaxed());
    let text = [VR::AS, VR::CS, VR::DA, VR::DS, VR::IS, VR::LO, VR::LT, VR::SH, VR::ST, VR::TM, VR::PN];
    let own = [tags::MODALITY, tags::IMAGE_POSITION_PATIENT, tags::IMAGE_ORIENTATION_PATIENT, tags::PIXEL_SPACING];
    let own = own.iter().chain(&[tags::RESCALE_INTERCEPT, tags::RESCALE_SLOPE, tags::PHOTOMETRIC_INTERPRETATION]);
    if !text.contains(&vr) || tag.group() == 0x0002 {
        return wrong("only texts can be set");
    }
    if own.into_iter().any(|own| *own == tag) {
        return wrong("follows from the other keys");
    }
    if value.chars().count() > 256 || value.chars().any(char::is_control) {
        return wrong("at most 256 characters on one line");
    }
    Ok((tag, vr))
}

/// A decimal string of DICOM: 16 characters at most.
fn decimal(value: f64) -> String {
    let text = format!("{value:.4}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        "-0" => "0".into(),
        text => text.into(),
    }
}

/// From -1 to 1, by place.
fn noise(at: u64) -> f64 {
    let mut state = at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    f64::from((state >> 40) as u32) / f64::from(1 << 23) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Region;
    use crate::memory::Budget;
    use crate::routing::accepts;
    use crate::study::{self, ReadOptions};

    fn read(phantom: &Phantom) -> study::Study {
        let folder = tempfile::tempdir().expect("a folder");
        phantom.write(folder.path()).expect("written");
        // Read to its voxels, since the folder is gone afterwards.
        let study =
            study::read(&[folder.path().to_owned()], &ReadOptions::new(&crate::config::Limits::default(), true));
        let study = study.expect("a study");
        let volume = study.series[0].decode(0, &Budget::unlimited(), &ReadOptions::default()).expect("decoded").volume;
        let (grid, size) = (volume.geometry().clone(), volume.geometry().size());
        let voxels = volume.read(Region { start: [0; 3], size }).expect("all");
        for (i, voxel) in voxels.iter().enumerate() {
            let at = [i % size[0], (i / size[0]) % size[1], i / size[0] / size[1]].map(|n| n as f64);
            let expected = phantom.shape_at(grid.to_patient(at)).map_or(phantom.background, |shape| shape.value);
            assert!((f64::from(*voxel) - expected).abs() <= phantom.noise + 0.5, "{at:?}: {voxel}, not {expected}");
        }
        study
    }

    fn small(orientation: Orientation) -> Phantom {
        let shape = |name: &str, x: f64, y: f64, z: f64, value: f64| Shape {
            name: name.into(),
            kind: if x > 0.0 { Kind::Box } else { Kind::Ellipsoid },
            centre_mm: [x, y, z],
            radii_mm: [6.0, 5.0, 8.0],
            value,
        };
        Phantom {
            modality: "CT".into(),
            size: [16, 20, 8],
            spacing_mm: [2.0, 1.5, 4.25],
            orientation,
            background: -1000.0,
            noise: 3.0,
            sop_class: None,
            attributes: BTreeMap::from([("PatientSex".to_owned(), "F".to_owned())]),
            shapes: vec![shape("left", 7.0, -4.0, 5.0, 300.0), shape("right", -7.0, 3.0, -5.0, 40.0)],
        }
    }

    #[test]
    fn voxels_lie_where_shapes_do_whichever_way_the_slices_lie() {
        for orientation in [Orientation::Axial, Orientation::Coronal, Orientation::Sagittal] {
            let study = read(&small(orientation));
            assert_eq!(study.series[0].attribute("PatientSex").as_deref(), Some("F"));
            assert_eq!(study.warnings, [""; 0]);
        }
    }

    #[test]
    fn the_same_description_is_the_same_files() {
        let files = || {
            let folder = tempfile::tempdir().expect("a folder");
            small(Orientation::Axial).write(folder.path()).expect("written");
            (0..8).map(|z| std::fs::read(folder.path().join(format!("{z:04}.dcm"))).expect("read")).collect::<Vec<_>>()
        };
        assert_eq!(files(), files());
    }

    #[test]
    fn there_is_one_that_a_module_accepts() {
        for keys in [
            "modality = [\"CT\"]",
            "modality = [\"CT\"]\nslices_min = 100\nspacing_max_mm = 1.0",
            "modality = [\"CT\"]\nbody_part = [\"HEAD\"]\norientation = [\"coronal\"]\ncontrast = \"without\"",
            "modality = [\"MR\"]\nslices_max = 3\npixel_spacing_max_mm = 1.0\ncontrast = \"with\"",
            "modality = [\"DX\"]\nsop_class = [\"1.2.840.10008.5.1.4.1.1.1.1\"]",
            "modality = [\"CT\"]\nmanufacturer = [\"SIE*\"]\nmodel = [\"Sensation 6?\"]",
        ] {
            let accepted: Accepts = toml::from_str(keys).expect("keys");
            let phantom = Phantom::fitting(&accepted).unwrap_or_else(|e| panic!("{keys}: {e}"));
            let study = read(&phantom);
            assert_eq!(accepts::refusal(&accepted, &study.series[0]), None, "{keys}");
        }
        let multi: Accepts = toml::from_str("modality = [\"CT\"]\nsop_class = [\"1.2.3\"]").expect("keys");
        assert!(Phantom::fitting(&multi).expect_err("none").contains("single frames"));
    }

    #[test]
    fn what_cannot_be_made_is_refused_by_its_key() {
        let refused = |change: fn(&mut Phantom)| {
            let mut phantom = small(Orientation::Axial);
            change(&mut phantom);
            phantom.check().expect_err("refused")
        };
        assert!(refused(|p| p.size = [4097, 1, 1]).contains("phantom.size"));
        assert!(refused(|p| p.size = [4096, 4096, 17]).contains("phantom.size"));
        assert!(refused(|p| p.spacing_mm[2] = 0.0).contains("phantom.spacing_mm"));
        assert!(refused(|p| p.background = -1023.0).contains("from -1024"));
        assert!(refused(|p| p.noise = f64::NAN).contains("noise"));
        assert!(refused(|p| p.shapes[0].radii_mm[1] = 0.0).contains("radii_mm"));
        let attribute = |keyword: &str| attribute(keyword, "1").expect_err(keyword);
        assert!(attribute("Telepathy").contains("no keyword"));
        assert!(attribute("SOPInstanceUID").contains("only texts"));
        assert!(attribute("PixelSpacing").contains("follows from"));
    }
}
