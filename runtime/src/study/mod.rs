//! Files on disk become studies, series and volumes.
//!
//! ```text
//! paths ─ files ─▶ candidates ─ header (scan, attributes) ─▶ objects ─ identity ─▶ one study
//!                                                                         │
//!             decode (codec, pixels) ◀─ Series::decode ◀─ Series ◀─ stack ┘
//! ```
//!
//! [`read`] looks at headers only, in parallel, and keeps nothing of a file but what a slice needs. It fails on
//! what concerns the whole input: damaged files, mixed patients, mixed studies. What concerns one series is kept in
//! [`Series::refused`] and becomes an error when its voxels are asked for. [`Series::decode`] reads each file once,
//! checks that it is the file whose header was read, hashes it, and decodes it into its place.
//!
//! Read in this order: `read` below, `header`, `scan`, `frames`, `identity`, `series`, `split`, `stack`, `decode`,
//! `multiframe`, `straighten`, `codec`.

mod attributes;
mod characters;
mod cine;
mod codec;
mod colour;
mod decode;
mod directory;
mod error;
mod facts;
mod files;
mod frames;
mod gaps;
mod header;
mod identity;
mod inspect;
mod jpeg;
mod jpeg12;
mod jpegls;
mod jpegxl;
mod labels;
mod lut;
mod multiframe;
mod pixels;
mod retrieve;
mod rewrite;
mod scan;
mod series;
mod split;
mod stack;
mod straighten;
mod suv;
#[cfg(test)]
pub(crate) mod tests;
mod unplaced;
pub mod voi;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_core::VR;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::InMemDicomObject;

pub use self::attributes::is_code;
pub use self::cine::{Cine, Picture, Timing, cines};
pub use self::codec::CompressedFrame;
pub use self::error::ReadError;
pub use self::gaps::gap;
pub use self::inspect::{Entry, PatientEntry, SeriesEntry, StudyEntry, character_set, inspect, same_data_set};
pub use self::labels::{Labels, labels};
pub use self::pixels::{decodes, readable_syntax};
pub use self::retrieve::{Frame, Kept, Shown, keep};
pub use self::rewrite::{Rewrite, rewrite};
use self::voi::Voi;
use crate::config::Limits;
use crate::geometry::{Geometry, Vec3};
use crate::memory::Budget;
use crate::volumes::{Volume, VolumeError};
use crate::worker::Decoders;

/// Of so many volumes of a file [`Series::volume_attributes`] tells at once, and of others than the one that was asked about
/// only while what it tells is no larger.
const SAID_AT_ONCE: usize = 64;
const SAID_MAX_BYTES: usize = 1 << 20;

/// One study of one patient.
#[derive(Debug)]
pub struct Study {
    /// Study Instance UID (0020,000D).
    pub uid: String,
    /// Whose it is: what any of its files says, as nothing in them contradicts it.
    pub patient: PatientEntry,
    /// In order of acquisition (Series Number, then time, then UID).
    pub series: Vec<Series>,
    /// What was repaired or left out, for people; no patient data.
    pub warnings: Vec<String>,
}

/// One series.
#[derive(Debug)]
pub struct Series {
    /// Series Instance UID (0020,000E).
    pub uid: String,
    /// Modality (0008,0060): a code, or empty where the files have none or [something else](is_code).
    pub modality: String,
    /// Dataset of the first image without pixel data, repaired: what outputs copy patient, study and
    /// frame of reference from. Of an object of several frames, as if that frame were alone in it.
    pub header: InMemDicomObject,
    /// Every image, in the order of the volumes' slices: an instance, or a frame of one. Where the series is refused, every
    /// instance.
    pub instances: Vec<Instance>,
    /// The volumes that the instances form; none when [`refused`](Self::refused) says why.
    pub volumes: Vec<VolumeLayout>,
    /// Why the instances form no volume.
    pub refused: Option<Arc<ReadError>>,
}

/// One image: an instance, or a frame of one (PS3.3 C.7.6.16).
#[derive(Debug, Clone, Default)]
pub struct Instance {
    /// Where it lies.
    pub path: PathBuf,
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: String,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: String,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax_uid: String,
    /// Which frame of the instance, from 1; `None`: the instance is one image, or its series is refused.
    pub frame: Option<u32>,
    /// How many frames the instance has; 1 of one image.
    pub frames: u32,
    /// Image Position (Patient) (0020,0032): centre of the first pixel, mm; `None` where the image lies nowhere or the series
    /// is refused.
    pub position: Option<Vec3>,
    /// It lies nowhere in the patient, as a projection or a photograph: its grid is its own plane, from 0, and says nothing of
    /// where the patient is.
    pub unplaced: bool,
    /// Which of its grey values are shown; nothing where the series is refused.
    pub voi: Voi,
    /// The file when its header was read.
    source: header::Source,
    /// How to decode it; `None` where the series is refused.
    pixels: Option<pixels::Pixels>,
}

impl Instance {
    /// SHA-256 of what comes before the pixel data, of which the file must still consist when it is decoded.
    #[must_use]
    pub fn header_digest(&self) -> [u8; 32] {
        self.source.header_digest
    }

    /// Slope and intercept of the modality LUT (PS3.3 C.11.1); `None` where it is a table, pixels are colours or the series
    /// is refused.
    #[must_use]
    pub fn rescale(&self) -> Option<(f64, f64)> {
        let pixels = self.pixels.as_ref().filter(|pixels| pixels.samples == 1 && pixels.lut.is_none());
        pixels.map(|pixels| (pixels.slope, pixels.intercept))
    }

    /// Columns and rows of the image; `None` where the series is refused.
    #[must_use]
    pub fn size(&self) -> Option<[usize; 2]> {
        self.pixels.as_ref().map(|pixels| [pixels.columns, pixels.rows].map(usize::from))
    }
}

/// Values of attributes, by keyword.
pub type Said = BTreeMap<String, String>;

/// A volume: which instances are its slices, from the first along the grid's z axis.
#[derive(Debug, Clone)]
pub struct VolumeLayout {
    /// The grid. Its z axis is the normal of the slices, row × column.
    pub geometry: Geometry,
    /// Index into [`Series::instances`] of each slice.
    pub slices: Vec<usize>,
    /// Which of its spacings are no measure.
    pub unstated: Unstated,
    /// How its slices were moved to lie above one another; `None`: they did.
    pub tilt: Option<Tilt>,
    /// What tells it from the other volumes of its series, for people and without patient data: attributes and their
    /// values.
    pub told_by: Vec<(String, String)>,
}

impl VolumeLayout {
    /// Of slices that lie above one another, and the only one of its series.
    #[must_use]
    pub fn new(geometry: Geometry, slices: Vec<usize>) -> Self {
        Self { geometry, slices, unstated: Unstated::default(), tilt: None, told_by: Vec::new() }
    }
}

/// Spacings of a grid that nothing states: 1 mm stands for them, and no length follows from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unstated {
    /// How far apart pixels lie.
    pub pixels: bool,
    /// How far apart slices would lie, or how thick the only one is.
    pub slices: bool,
}

/// A stack whose slices are parallel and do not lie above one another (gantry tilt), and how they were moved, each in its
/// plane, so that they do.
#[derive(Debug, Clone, PartialEq)]
pub struct Tilt {
    /// Between the line through the slices and their normal.
    pub degrees: f64,
    /// Where in the grid the first pixel of each slice's image lies: column and row, with their fractions.
    pub shifts: Vec<[f64; 2]>,
}

/// The header of a file that a volume begins in. Holds a patient's identity: no `Debug`.
pub struct VolumeHeader {
    path: PathBuf,
    /// In the file.
    bytes: u64,
    dataset: InMemDicomObject,
}

impl VolumeHeader {
    /// What it takes in memory, about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.saturating_mul(labels::PARSED_FACTOR)
    }
}

/// How to read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Refuse what would otherwise be repaired or left out with a warning: empty UIDs taken from file meta, names that
    /// differ under one Patient ID, files in a folder that are not DICOM.
    pub strict: bool,
    /// Files larger than this are refused.
    pub file_max_mib: u64,
    /// More files than this are refused.
    pub files_max: usize,
    /// A volume of more voxel bytes (as stored) than this is refused.
    pub volume_max_mib: u64,
    /// A file with more than this before its pixel data is refused.
    pub header_max_mib: u64,
    /// A file with more elements and items than this before its pixel data is refused.
    pub elements_max: usize,
    /// A file with sequences nested deeper than this is refused. The parser recurses; `gantry.toml` ends at 64.
    pub sequence_depth_max: usize,
    /// Workers that decode compressed pixel data; `None`: this process does. For one study: see
    /// [`apart`](Self::apart).
    pub decoders: Option<Arc<Decoders>>,
}

impl Default for ReadOptions {
    /// As configured without a file, and not strict.
    fn default() -> Self {
        Self::new(&Limits::default(), false)
    }
}

impl ReadOptions {
    /// Within the limits of a configuration.
    #[must_use]
    pub fn new(limits: &Limits, strict: bool) -> Self {
        Self {
            strict,
            file_max_mib: limits.file_max_mib,
            files_max: limits.files_max,
            volume_max_mib: limits.volume_max_mib,
            header_max_mib: limits.header_max_mib,
            elements_max: limits.elements_max,
            sequence_depth_max: limits.sequence_depth_max,
            decoders: None,
        }
    }

    /// The same for another study: it shares no decoder with this one.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { decoders: self.decoders.as_deref().map(Decoders::apart), ..self.clone() }
    }

    /// `header_max_mib` in bytes.
    fn header_max_bytes(&self) -> usize {
        usize::try_from(self.header_max_mib.saturating_mul(1 << 20)).unwrap_or(usize::MAX)
    }

    /// Refuses a volume whose `bytes` pass `volume_max_mib`.
    fn check_volume(&self, bytes: u64) -> Result<(), ReadError> {
        if bytes <= self.volume_max_mib.saturating_mul(1 << 20) {
            return Ok(());
        }
        let (limit, maximum) = ("volume_max_mib", self.volume_max_mib);
        Err(ReadError::Limit { path: None, what: format!("a volume of {bytes} bytes"), limit, maximum })
    }

    /// Refuses `what` at `path` when its `bytes` pass `file_max_mib`.
    fn check_file(&self, path: &Path, what: &str, bytes: u64) -> Result<(), ReadError> {
        if bytes <= self.file_max_mib.saturating_mul(1 << 20) {
            return Ok(());
        }
        Err(ReadError::Limit {
            path: Some(path.to_owned()),
            what: format!("{what} of {bytes} bytes"),
            limit: "file_max_mib",
            maximum: self.file_max_mib,
        })
    }
}

/// A decoded volume and the SHA-256 of every file that it was decoded from.
#[derive(Debug)]
pub struct Decoded {
    /// Through the modality LUT.
    pub volume: Volume,
    /// One for each slice, in order of [`VolumeLayout::slices`].
    pub digests: Vec<[u8; 32]>,
}

/// Reads the headers of all DICOM files under `paths`.
///
/// Files in folders that are not DICOM are left out with a warning, or refused when strict: one may be a slice that
/// was cut. DICOM objects that are no images are left out with a warning. A DICOMDIR among `paths` stands for the files that
/// it names, all of them below its folder; how many of them are missing is a warning, or refused when strict, and so it is
/// of one in a folder.
///
/// # Errors
/// Anything that concerns the input as a whole, and the reasons of the series when none gives a volume. See
/// [`ReadError`].
pub fn read(paths: &[PathBuf], options: &ReadOptions) -> Result<Study, ReadError> {
    let mut warnings = Vec::new();
    let files::Found { candidates, missing, .. } = files::list(paths, options)?;
    if missing > 0 {
        warnings.push(format!("{missing} files that a DICOMDIR names are not there; copy the whole medium"));
    }
    let (objects, others) = header::read_all(&candidates, options)?;
    if objects.is_empty() {
        return Err(ReadError::NoDicom { files: candidates.len() });
    }
    if others > 0 {
        warnings.push(format!("{others} files that are not DICOM, or a DICOMDIR, were left out"));
    }
    let patient = identity::one_patient(&objects, options, &mut warnings)?;
    let mut images = series::images(objects, &mut warnings)?;
    identity::repair(&mut images, options, &mut warnings)?;
    let uid = identity::one_study(&images)?;
    let series = series::assemble(images, options, &mut warnings)?;
    Ok(Study { uid, patient, series, warnings })
}

impl Series {
    /// Decodes one volume, on several threads.
    ///
    /// # Errors
    /// [`ReadError::Series`] with the reason when the series forms no volume; the damage, limit or change that
    /// decoding came upon otherwise.
    pub fn decode(&self, index: usize, budget: &Budget, options: &ReadOptions) -> Result<Decoded, ReadError> {
        let (geometry, voxels, digests) = self.voxels(index, budget, options)?;
        Ok(Decoded { volume: decoded(geometry, voxels, budget)?, digests })
    }

    /// Decodes one slice of a volume, counted from 0 along the grid's z axis, as a volume of its own.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_slice(
        &self,
        index: usize,
        slice: usize,
        budget: &Budget,
        options: &ReadOptions,
    ) -> Result<Decoded, ReadError> {
        let layout = self.volumes.get(index);
        let layout = layout.ok_or(ReadError::NoSuchVolume { index, count: self.volumes.len() })?;
        let instance = layout.slices.get(slice).and_then(|i| self.instances.get(*i));
        let found = instance.and_then(|instance| Some((instance, instance.pixels.as_ref()?)));
        let found = found.ok_or_else(|| ReadError::NoVolume("the layout names no instance with pixels".into()))?;
        let (voxels, digests) = decode::voxels(&[found], budget, options)?;
        let shift = layout.tilt.as_ref().and_then(|tilt| Some((tilt.degrees, *tilt.shifts.get(slice)?)));
        let tilt = shift.map(|(degrees, shift)| Tilt { degrees, shifts: vec![shift] });
        let voxels = straighten::voxels(voxels, found.1, &layout.geometry, tilt.as_ref(), budget, options)?;
        let (grid, corner) = (&layout.geometry, layout.geometry.to_patient([0.0, 0.0, slice as f64]));
        let [columns, rows, _] = grid.size();
        let grid = Geometry::new([columns, rows, 1], grid.spacing(), corner, grid.axes());
        let grid = grid.map_err(VolumeError::from)?;
        Ok(Decoded { volume: decoded(grid, voxels, budget)?, digests })
    }

    /// The grid, the voxels and the digests of one volume.
    fn voxels(
        &self,
        index: usize,
        budget: &Budget,
        options: &ReadOptions,
    ) -> Result<(Geometry, decode::Voxels, Vec<[u8; 32]>), ReadError> {
        if let Some(reason) = &self.refused {
            return Err(ReadError::Series { uid: self.uid.clone(), reason: reason.clone() });
        }
        let count = self.volumes.len();
        let layout = self.volumes.get(index).ok_or(ReadError::NoSuchVolume { index, count })?;
        let slices: Option<Vec<_>> = layout
            .slices
            .iter()
            .map(|i| self.instances.get(*i).and_then(|instance| Some((instance, instance.pixels.as_ref()?))))
            .collect();
        let slices = slices.ok_or_else(|| ReadError::NoVolume("the layout names instances without pixels".into()))?;
        let (voxels, digests) = decode::voxels(&slices, budget, options)?;
        let Some((_, first)) = slices.first() else { return Err(ReadError::NoVolume("no slices".into())) };
        let voxels = straighten::voxels(voxels, first, &layout.geometry, layout.tilt.as_ref(), budget, options)?;
        Ok((layout.geometry.clone(), voxels, digests))
    }

    /// Value of an attribute of the first instance by keyword, several values joined with `\`; `None` when absent,
    /// empty, binary, a sequence, or no keyword (see [`is_keyword`]).
    #[must_use]
    pub fn attribute(&self, keyword: &str) -> Option<String> {
        let tag = StandardDataDictionary.by_name(keyword)?.tag();
        attributes::text(&self.header, tag)
    }

    /// The image of a volume's first slice.
    fn first_image(&self, volume: &VolumeLayout) -> Option<&Instance> {
        self.instances.get(*volume.slices.first()?)
    }

    /// Reads the header of the file with a volume's first slice again, for [`volume_attributes`](Self::volume_attributes).
    ///
    /// # Errors
    /// There is no such volume, or its file is not the one that was read.
    pub fn volume_header(&self, index: usize, options: &ReadOptions) -> Result<VolumeHeader, ReadError> {
        let count = self.volumes.len();
        let of = self.volumes.get(index).and_then(|volume| self.first_image(volume));
        let of = of.ok_or(ReadError::NoSuchVolume { index, count })?;
        let dataset = header::dataset(&of.path, &of.source, options)?;
        Ok(VolumeHeader { path: of.path.clone(), bytes: of.source.header_bytes, dataset })
    }

    /// Whether a header is of the file with a volume's first slice.
    #[must_use]
    pub fn is_header_of(&self, index: usize, header: &VolumeHeader) -> bool {
        let of = self.volumes.get(index).and_then(|volume| self.first_image(volume));
        of.is_some_and(|of| of.path == header.path)
    }

    /// What attributes of these `keywords` say of the first slice of a volume, and of some other volumes whose first slice is
    /// in the same file, whose header that is: by volume and keyword, as [`attribute`](Self::attribute) says it. Of a volume in
    /// another file nothing is said.
    #[must_use]
    pub fn volume_attributes(
        &self,
        index: usize,
        keywords: &BTreeSet<String>,
        header: &VolumeHeader,
    ) -> Vec<(usize, Said)> {
        let dataset = &header.dataset;
        let said = |image: &Instance| -> BTreeMap<String, String> {
            let of_frame = image.frame.map(|number| frames::said(dataset, number));
            let of_frame = of_frame.unwrap_or_else(InMemDicomObject::new_empty);
            let value = |keyword: &String| {
                let tag = StandardDataDictionary.by_name(keyword)?.tag();
                let value = match tag {
                    // Checked, and what is no code reaches nobody.
                    tags::MODALITY => self.attribute(keyword),
                    tags::DIFFUSION_B_VALUE if image.frame.is_none() => facts::b_value(dataset),
                    tag => frames::text(dataset, &of_frame, tag),
                };
                Some((keyword.clone(), value?))
            };
            keywords.iter().filter_map(value).collect()
        };
        // Each frame of a file may be a volume, and each then repeats what is said of all.
        let volumes = self.volumes.iter().enumerate().skip(index - index % SAID_AT_ONCE).take(SAID_AT_ONCE);
        let here = volumes.filter_map(|(at, volume)| {
            let image = self.first_image(volume).filter(|image| image.path == header.path)?;
            Some((at, image))
        });
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (at, image) in here {
            if at == index || bytes <= SAID_MAX_BYTES {
                let said = said(image);
                bytes += said.values().map(String::len).sum::<usize>();
                found.push((at, said));
            }
        }
        found
    }

    /// What values of a PET are multiplied by to become standardized uptake values by body weight, g/mL.
    ///
    /// # Errors
    /// It is no PET, or what it takes is missing or makes no sense: which attribute; no value of it.
    pub fn suv_factor(&self) -> Result<f64, String> {
        match self.modality.as_str() {
            "PT" => suv::factor(&self.header),
            _ => Err("it is no PET".into()),
        }
    }

    /// Whether the first instance has a sequence of this keyword with items.
    #[must_use]
    pub fn has_items(&self, keyword: &str) -> bool {
        let element = self.header.element_by_name_opt(keyword).ok().flatten();
        element.and_then(|element| element.items()).is_some_and(|items| !items.is_empty())
    }
}

fn decoded(geometry: Geometry, voxels: decode::Voxels, budget: &Budget) -> Result<Volume, VolumeError> {
    match voxels {
        decode::Voxels::I16 { values, slope, intercept } => {
            Volume::from_i16(geometry, values, slope, intercept, budget)
        }
        decode::Voxels::F32(values) => Volume::from_f32(geometry, values, budget),
    }
}

/// Whether PS3.6 has this keyword, for an attribute that is no sequence.
#[must_use]
pub fn is_keyword(keyword: &str) -> bool {
    StandardDataDictionary.by_name(keyword).is_some_and(|entry| entry.vr().relaxed() != VR::SQ)
}
