//! What a writer of segmentations is given: three organs of a patient, on the grid of a CT of the whole trunk.
//!
//! The organs are those that TotalSegmentator found in the real CT that [`study`](crate::study) repeats, on its 20 slices of 512 × 512
//! voxels.

use anyhow::{Context, Result, ensure};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::{FileDicomObject, InMemDicomObject};
use gantry::findings::{Code, Findings, Segment, Segmentation};
use gantry::geometry::Geometry;
use gantry::memory::Budget;
use gantry::outputs::{self, ModuleInfo, OutputUids, Source, Stamp};
use gantry::study::{Instance, PatientEntry, Series, Study, VolumeLayout};
use gantry::volumes::Volume;
use gantry_tests::assets;
use gantry_tests::nifti::Nifti;

/// One that is segmented.
struct Organ {
    name: &'static str,
    /// In SNOMED CT.
    code: &'static str,
    /// Its value in the masks of the real CT.
    value: u8,
    /// From its lowest to its highest slice in a grown-up, mm, and where the lowest is, as a part of the trunk.
    height_mm: f64,
    lowest: f64,
}

const ORGANS: [Organ; 3] = [
    Organ { name: "Liver", code: "10200004", value: 5, height_mm: 160.0, lowest: 0.45 },
    Organ { name: "Spleen", code: "78961009", value: 1, height_mm: 110.0, lowest: 0.52 },
    Organ { name: "Stomach", code: "69695003", value: 6, height_mm: 150.0, lowest: 0.45 },
];

/// On which slices organs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// As many as each has in a body: its slices of the real CT are each repeated.
    OfABody,
    /// All: the slices of the real CT follow one another again and again, as in the study.
    Everywhere,
}

/// The masks of the real CT, x fastest, in the order of its voxels.
struct Masks {
    size: [usize; 3],
    voxels: Vec<u8>,
}

impl Masks {
    /// Reads them.
    fn read() -> Result<Self> {
        let Nifti { size, voxels, .. } = Nifti::read(&assets().join("totalsegmentator/example_seg_dicom.nii.gz"))?;
        let [columns, rows, _] = size;
        // Its rows go from the back to the front, those of DICOM from the front to the back.
        let voxels = voxels.chunks_exact(columns * rows).flat_map(|slice| slice.rchunks_exact(columns)).flatten();
        Ok(Self { size, voxels: voxels.copied().collect() })
    }
}

/// Labels on a grid: 1 to 3 for the organs, one byte a voxel, x fastest.
pub(crate) fn labels(grid: &Geometry, extent: Extent) -> Result<Vec<u8>> {
    let masks = Masks::read()?;
    let [columns, rows, slices] = grid.size();
    ensure!(masks.size[..2] == [columns, rows], "masks of {:?} on slices of {columns} by {rows}", masks.size);
    let mut labels = vec![0; columns * rows * slices];
    for (slice, labels) in labels.chunks_exact_mut(columns * rows).enumerate() {
        for (organ, label) in ORGANS.iter().zip(1..) {
            let of = match extent {
                Extent::Everywhere => Some(slice % masks.size[2]),
                Extent::OfABody => {
                    let first = (organ.lowest * slices as f64) as usize;
                    let height = (organ.height_mm / grid.spacing()[2]).ceil() as usize;
                    slice.checked_sub(first).filter(|n| *n < height).map(|n| n * masks.size[2] / height)
                }
            };
            let Some(mask) = of.and_then(|of| masks.voxels.chunks_exact(columns * rows).nth(of)) else { continue };
            labels.iter_mut().zip(mask).filter(|(_, mask)| **mask == organ.value).for_each(|(l, _)| *l = label);
        }
    }
    Ok(labels)
}

/// Findings of a job, and what they were found in.
pub(crate) struct Found {
    study: Study,
    findings: Findings,
}

impl Found {
    /// These labels, in the first volume of a study.
    pub(crate) fn new(study: Study, labels: Vec<u8>) -> Result<Self> {
        let grid = study.series.first().and_then(|series| series.volumes.first()).context("a volume")?.geometry.clone();
        let labels = Volume::from_u8(grid, labels, &Budget::unlimited())?;
        let segments = (1..).zip(&ORGANS).map(|(value, organ)| Segment {
            value,
            name: organ.name.into(),
            category: Code::new("123037004", "SCT", "Anatomical Structure"),
            kind: Code::new(organ.code, "SCT", organ.name),
            confidence: None,
        });
        let segmentation = Segmentation { labels, segments: segments.collect() };
        Ok(Self { study, findings: Findings { segmentation: Some(segmentation), ..Findings::default() } })
    }

    /// What a job does with its findings: judges every voxel, and makes the SEG. Another `number`, another object.
    pub(crate) fn seg(&self, number: u32) -> Result<FileDicomObject<InMemDicomObject>> {
        let accepted = outputs::gate(self.findings.clone(), &self.study, &[0], &[])?;
        let source = Source::new(&self.study, accepted.source).context("the source")?;
        let module = ModuleInfo {
            name: "bench".into(),
            version: "1.0.0".into(),
            vendor: "Example".into(),
            title: "Organs".into(),
            demonstration: true,
            identity: [7; 32],
        };
        let uids = OutputUids::new(&source, &[], &module.identity, &[number.to_string()]);
        let stamp = Stamp { date: "20240102".into(), time: "030405".into() };
        Ok(outputs::segmentation(&accepted, &source, &module, &uids, &stamp)?)
    }

    /// 300 slices of 512 × 512 voxels that were never files, and three ellipses on each: for a test, which needs nothing then.
    /// Also how many bytes its mask has.
    pub(crate) fn made_up() -> Result<(Self, usize)> {
        const SIZE: [usize; 3] = [512, 512, 300];
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let geometry = Geometry::new(SIZE, [0.7, 0.7, 2.0], [-180.0, -180.0, 0.0], axes)?;
        let mut header = InMemDicomObject::new_empty();
        header.put_str(tags::FRAME_OF_REFERENCE_UID, VR::UI, "2.25.4");
        let instance = |z| {
            let mut instance = Instance::default();
            instance.sop_class_uid.push_str("1.2.840.10008.5.1.4.1.1.2");
            instance.sop_instance_uid = format!("2.25.1{z}");
            instance
        };
        let series = Series {
            uid: "2.25.3".into(),
            modality: "CT".into(),
            header,
            instances: (0..SIZE[2]).map(instance).collect(),
            volumes: vec![VolumeLayout::new(geometry, (0..SIZE[2]).collect())],
            refused: None,
        };
        let patient = PatientEntry::default();
        let study = Study { uid: "2.25.2".into(), patient, series: vec![series], warnings: Vec::new() };
        let slice: Vec<u8> = (0..SIZE[0] * SIZE[1]).map(|i| ellipse(i % SIZE[0], i / SIZE[0])).collect();
        let labels = slice.repeat(SIZE[2]);
        let mask = labels.len();
        Ok((Self::new(study, labels)?, mask))
    }
}

/// Which of three ellipses a voxel is in, from 1; 0 outside of them.
fn ellipse(x: usize, y: usize) -> u8 {
    let within = |(cx, cy): (f64, f64)| ((x as f64 - cx) / 90.0).powi(2) + ((y as f64 - cy) / 60.0).powi(2) <= 1.0;
    (1..)
        .zip([(150.0, 200.0), (360.0, 200.0), (256.0, 380.0)])
        .find(|(_, at)| within(*at))
        .map_or(0, |(label, _)| label)
}
