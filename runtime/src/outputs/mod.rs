//! The output gate, and the writers behind it.
//!
//! ```text
//! Findings ─ gate ─▶ Accepted ─┬─ seg ────────── segments ─▶ SEG ────────────────┐
//!   (guest)                    ├─ seg/fractional  probabilities ─▶ SEG ──────────┤
//!                              ├─ sr ─────────── numbers, conclusions ─▶ SR ─────┤
//!                              ├─ parametric ─── heatmap ─▶ Parametric Map ──────┼─ write ─▶ all files, or none
//!                              ├─ presentation ─ boxes ─▶ Presentation State ────┤
//!                              ├─ capture ────── key slice ─▶ Secondary Capture ─┤
//!                              └─ result ────────────────────────────────────────┘
//! ```
//!
//! A guest states findings; it never writes DICOM. What it states passes [`gate`] or nothing is written at all.
//! Identity, references and geometry come from the input ([`Source`]), never from the guest. UIDs are derived
//! ([`uid`]), so that the same inputs through the same module give the same objects.
//!
//! Read in this order: `gate`, `uid`, `dataset`, `multiframe`, `seg`, `bits`, `sr`, `parametric`, `presentation`,
//! `capture`, `encode`, `write`.

mod bits;
mod canvas;
mod capture;
mod codes;
mod conformance;
mod dataset;
mod encode;
mod gate;
mod kind;
mod multiframe;
mod overlay;
mod parametric;
mod presentation;
pub mod result;
mod seg;
mod sr;
pub mod uid;
mod window;
pub mod workitem;
mod write;

use std::collections::{BTreeMap, BTreeSet};

pub use capture::{CaptureError, KeySlice, key_slice, secondary_capture};
pub use conformance::{CheckError, Inputs, Nonconforming, check as conforms};
pub use encode::write_file;
pub use gate::{Refusal, frame_answer, gate, stream_summary};
pub use kind::OutputKind;
pub use overlay::overlay;
pub use parametric::{ParametricError, parametric_map};
pub use presentation::{PresentationError, presentation_state};
pub use seg::{SegError, fractional_segmentation, segmentation};
pub use sr::{Evidence, Reference, SrError, frames_report, has_report, predecessor, report, report_of};
pub use uid::OutputUids;
pub use write::{
    CAPTURE_FILE, Content, FRACTIONAL_FILE, OUTPUT_FILES, OVERLAY_FILE, Output, PARAMETRIC_MAP_FILE, PRESENTATION_FILE,
    REPORT_FILE, RESULT_FILE, SEGMENTATION_FILE, Transaction, WriteError, Written, write_all,
};

use crate::findings::{Classification, Mark, Measurement, Segment, Segmentation, Triage, Unfit};
use crate::study::{Instance, Series, Study, VolumeLayout};
use crate::volumes::Volume;

/// What outputs say about the module that made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Of the manifest.
    pub name: String,
    /// Of the manifest, semantic.
    pub version: String,
    /// Who made it.
    pub vendor: String,
    /// For people.
    pub title: String,
    /// Not for clinical use; every output says so.
    pub demonstration: bool,
    /// SHA-256 over the manifest, which names the digest of every other file of the package.
    pub identity: [u8; 32],
}

/// What outputs refer to: the volume that was analysed, and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The study.
    pub study: &'a Study,
    /// The series in it.
    pub series: &'a Series,
    /// The volume in that series.
    pub layout: &'a VolumeLayout,
    /// Which of [`Study::series`].
    pub series_index: usize,
    /// Which of [`Series::volumes`].
    pub volume_index: usize,
}

/// When a result was made. The caller says, so that outputs can be the same twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// `YYYYMMDD`.
    pub date: String,
    /// `HHMMSS`.
    pub time: String,
}

/// Findings that passed the [`gate`].
#[derive(Debug, Clone)]
pub struct Accepted {
    /// On the grid of [`source`](Self::source); every voxel is 0 or a segment.
    pub segmentation: Option<Segmentation>,
    /// On the grid of [`source`](Self::source), in the order in which they were stated.
    pub probabilities: Vec<AcceptedProbabilities>,
    /// Index of the series and of the volume in it that outputs refer to: the one on whose grid the segmentation
    /// lies, of several the one that it was made of; without one, the first that was given.
    pub source: (usize, usize),
    /// As stated.
    pub measurements: Vec<Measurement>,
    /// As stated.
    pub classifications: Vec<Classification>,
    /// As stated.
    pub triage: Vec<Triage>,
    /// On the grid of a source volume of its own; every voxel is finite.
    pub heatmap: Option<AcceptedHeatmap>,
    /// As stated; each inside the volume at [`marks_source`](Self::marks_source).
    pub marks: Vec<Mark>,
    /// Index of the series and of the volume in it that boxes are of: the first accepted.
    pub marks_source: (usize, usize),
    /// As stated; everything else is then empty.
    pub unfit: Option<Unfit>,
    /// Values of the segments that have voxels.
    pub present: BTreeSet<u32>,
    /// Number of voxels of every declared segment, by value.
    pub voxels: BTreeMap<u32, u64>,
    /// For each slice of the segmentation, the segment values that occur in it.
    pub slices: Vec<BTreeSet<u32>>,
    /// The slice of the segmentation with most voxels of segments; the first of several.
    pub fullest: usize,
}

/// Probabilities of a segment that passed the [`gate`].
#[derive(Debug, Clone)]
pub struct AcceptedProbabilities {
    /// The voxel value of the segment.
    pub segment: u32,
    /// 0 to 1.
    pub values: Volume,
    /// The most.
    pub maximum: f32,
    /// Slices with a voxel that is not 0 as it is stored.
    pub slices: BTreeSet<usize>,
}

/// A heatmap that passed the [`gate`].
#[derive(Debug, Clone)]
pub struct AcceptedHeatmap {
    /// Finite.
    pub values: Volume,
    /// As stated.
    pub title: String,
    /// Index of the series and of the volume in it whose grid it has.
    pub source: (usize, usize),
    /// The least value.
    pub minimum: f32,
    /// The most.
    pub maximum: f32,
    /// Of the slices with values near the most, the one with most heat; the first of several.
    pub hottest: usize,
}

impl AcceptedHeatmap {
    /// What colours stand for, from the coldest to the hottest: 0 to 1 where all values are, else those that there are.
    #[must_use]
    pub fn shown(&self) -> (f32, f32) {
        if self.minimum >= 0.0 && self.maximum <= 1.0 { (0.0, 1.0) } else { (self.minimum, self.maximum) }
    }
}

impl Accepted {
    /// The segments that a SEG holds, in the order in which they were stated, with their Segment Number (from 1).
    ///
    /// A segment without voxels is no part of a SEG: PS3.3 wants a frame for every segment. It stays in
    /// [`segmentation`](Self::segmentation), with 0 [`voxels`](Self::voxels).
    pub fn numbered(&self) -> impl Iterator<Item = (u16, &Segment)> {
        let segments = self.segmentation.iter().flat_map(|s| &s.segments);
        (1..=u16::MAX).zip(segments.filter(|s| self.present.contains(&s.value)))
    }

    /// Segment Number in the SEG of the segment that `value` marks; `None` when it has no voxels.
    #[must_use]
    pub fn number(&self, value: u32) -> Option<u16> {
        self.numbered().find(|(_, s)| s.value == value).map(|(number, _)| number)
    }

    /// The segments that a SEG of probabilities holds, in the order in which segments were stated, with their Segment
    /// Number in it (from 1): those that are probable anywhere.
    pub fn fractional(&self) -> impl Iterator<Item = (u16, &Segment, &AcceptedProbabilities)> {
        let segments = self.segmentation.iter().flat_map(|s| &s.segments);
        let stated =
            move |s: &Segment| self.probabilities.iter().find(|p| p.segment == s.value && !p.slices.is_empty());
        (1..=u16::MAX).zip(segments.filter_map(move |s| Some((s, stated(s)?)))).map(|(n, (s, p))| (n, s, p))
    }

    /// Whether there is a SEG to write.
    #[must_use]
    pub fn has_seg(&self) -> bool {
        !self.present.is_empty()
    }
}

impl<'a> Source<'a> {
    /// The volume `source` names (see [`Accepted::source`]); `None` when there is no such.
    #[must_use]
    pub fn new(study: &'a Study, source: (usize, usize)) -> Option<Self> {
        let (series_index, volume_index) = source;
        let series = study.series.get(series_index)?;
        let layout = series.volumes.get(volume_index)?;
        Some(Self { study, series, layout, series_index, volume_index })
    }

    /// The instance of a slice, counted from 0 along the grid's z axis.
    #[must_use]
    pub fn instance(&self, slice: usize) -> Option<&'a Instance> {
        self.layout.slices.get(slice).and_then(|&i| self.series.instances.get(i))
    }

    /// Columns and rows of its images: those of the grid, but where slices were moved.
    #[must_use]
    pub fn image_size(&self) -> [usize; 2] {
        let [columns, rows, _] = self.layout.geometry.size();
        let moved = self.layout.tilt.as_ref().and_then(|_| self.instance(0)?.size());
        moved.unwrap_or([columns, rows])
    }

    /// Where a point of a slice of the grid lies in that slice's image, or at its edge: columns and rows from the outer
    /// corner of the first pixel.
    #[must_use]
    pub fn in_image(&self, slice: usize, [x, y]: [f32; 2]) -> [f32; 2] {
        let Some(tilt) = &self.layout.tilt else { return [x, y] };
        let [across, down] = tilt.shifts.get(slice).copied().unwrap_or_default().map(|shift| shift as f32);
        let [columns, rows] = self.image_size().map(|n| n as f32);
        [(x - across).clamp(0.0, columns), (y - down).clamp(0.0, rows)]
    }

    /// Whether its image lies nowhere in the patient, so that its grid says nothing of where anything is.
    #[must_use]
    pub fn unplaced(&self) -> bool {
        self.instance(0).is_some_and(|instance| instance.unplaced)
    }

    /// Frame of Reference UID (0020,0052) of the series, or one derived from it where it has none.
    #[must_use]
    pub fn frame_of_reference_uid(&self) -> String {
        let stated = self.series.attribute("FrameOfReferenceUID");
        stated.unwrap_or_else(|| uid::derive("frame-of-reference", &[self.series.uid.as_bytes()]))
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_dictionary_std::tags;
    use dicom_object::InMemDicomObject;

    use super::*;
    use crate::findings::Code;
    use crate::geometry::Geometry;
    use crate::memory::Budget;

    /// A study of one CT series whose slices are `2.25.1001` and on.
    pub(super) fn study(geometry: &Geometry) -> Study {
        let mut header = InMemDicomObject::new_empty();
        for (tag, vr, value) in [
            (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 100"),
            (tags::PATIENT_NAME, VR::PN, "Müller^Test"),
            (tags::PATIENT_ID, VR::LO, "P1"),
            (tags::STUDY_DATE, VR::DA, "20200102"),
            (tags::SERIES_NUMBER, VR::IS, "3"),
            (tags::FRAME_OF_REFERENCE_UID, VR::UI, "2.25.77"),
            (tags::SLICE_THICKNESS, VR::DS, "2.0"),
        ] {
            header.put_str(tag, vr, value);
        }
        let slices: Vec<usize> = (0..geometry.size()[2]).collect();
        let instance = |z: &usize| {
            let mut instance = Instance::default();
            instance.path.push(format!("{z}.dcm"));
            instance.sop_class_uid.push_str("1.2.840.10008.5.1.4.1.1.2");
            instance.sop_instance_uid = format!("2.25.{}", 1001 + z);
            instance
        };
        let series = Series {
            uid: "2.25.2".into(),
            modality: "CT".into(),
            header,
            instances: slices.iter().map(instance).collect(),
            volumes: vec![VolumeLayout::new(geometry.clone(), slices)],
            refused: None,
        };
        Study {
            uid: "2.25.1".into(),
            patient: crate::study::PatientEntry::default(),
            series: vec![series],
            warnings: vec![],
        }
    }

    pub(super) fn labels(geometry: &Geometry, voxels: Vec<u8>) -> Volume {
        Volume::from_u8(geometry.clone(), voxels, &Budget::unlimited()).expect("as many voxels as the grid has")
    }

    pub(super) fn segment(value: u32, name: &str) -> Segment {
        let kind = match name {
            "lung" => Code::new("39607008", "SCT", "Lung"),
            "kidney" => Code::new("64033007", "SCT", "Kidney"),
            _ => Code::new("10200004", "SCT", "Liver"),
        };
        Segment {
            value,
            name: name.into(),
            category: Code::new("123037004", "SCT", "Anatomical Structure"),
            kind,
            confidence: Some(0.9),
        }
    }

    pub(super) fn module() -> ModuleInfo {
        ModuleInfo {
            name: "ct-organs".into(),
            version: "1.2.3".into(),
            vendor: "Example".into(),
            title: "Organs in body CT".into(),
            demonstration: true,
            identity: [7; 32],
        }
    }

    pub(super) fn stamp() -> Stamp {
        Stamp { date: "20240102".into(), time: "030405".into() }
    }
}
