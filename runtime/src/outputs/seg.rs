//! DICOM Segmentation (PS3.3 A.51): binary, one frame for each slice of a segment that has voxels, on the grid of the
//! source.
//!
//! ```text
//! frame = (segment, slice), segments outermost;   pixel data = all frames as one stream of bits, low bit first
//! ```

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids as dictionary};
use dicom_object::{FileDicomObject, FileMetaTableBuilder, InMemDicomObject};
use rayon::prelude::*;

use super::bits::{self, Mask};
use super::codes::{self, put_code};
use super::dataset::{self, put, put_empty, sequence, text};
use super::multiframe;
use super::{Accepted, ModuleInfo, OutputUids, Source, Stamp};
use crate::findings::{Code, Segment};
use crate::volumes::{Volume, VolumeError};

/// The name that UIDs of the SEG are derived from.
pub(super) const OUTPUT: &str = "segmentation";

/// Why there is no SEG.
#[derive(Debug, thiserror::Error)]
pub enum SegError {
    /// Ask [`Accepted::has_seg`] first.
    #[error("no segment has a voxel, and a SEG without frames is none")]
    Empty,
    /// Not what the gate accepted: ours to repair.
    #[error(
        "slice {slice} of the segmentation has no instance in the source volume; pass the source that the gate named"
    )]
    Source {
        /// Along z, from 0.
        slice: usize,
    },
    /// More frames or bits than one object may have.
    #[error(
        "the segmentation has {frames} frames, or more than 4 GiB of bits, and one object cannot hold that; state fewer segments"
    )]
    TooLarge {
        /// How many.
        frames: usize,
    },
    /// The labels could not be computed again.
    #[error("the labels of slice {slice} cannot be computed: {source}")]
    Voxels {
        /// Along z, from 0.
        slice: usize,
        /// Why not.
        source: VolumeError,
    },
    /// An object that cannot be encoded: ours to repair.
    #[error("the file meta information of the SEG cannot be built: {0}")]
    Meta(String),
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    /// Segment Number.
    number: u16,
    mask: Mask,
    /// Rank among the slices that have frames, from 1.
    place: u32,
}

/// The SEG of `accepted`, whose [`source`](Accepted::source) is `source`.
///
/// # Errors
/// See [`SegError`].
pub fn segmentation(
    accepted: &Accepted,
    source: &Source<'_>,
    module: &ModuleInfo,
    uids: &OutputUids,
    stamp: &Stamp,
) -> Result<FileDicomObject<InMemDicomObject>, SegError> {
    let Some(stated) = accepted.segmentation.as_ref().filter(|_| accepted.has_seg()) else {
        return Err(SegError::Empty);
    };
    let frames = frames(accepted);
    let mut object = dataset::in_study_of(source);
    let mut module = module.clone();
    let mut segments: Vec<(u16, Segment)> = accepted.numbered().map(|(n, s)| (n, s.clone())).collect();
    dataset::fit_characters(&mut object, texts(&mut module, &mut segments));
    let module = &module;
    let instance = uids.instance(OUTPUT);
    dataset::put_instance(&mut object, dictionary::SEGMENTATION_STORAGE, &instance, stamp);
    let description = dataset::described(&module.title, module);
    dataset::put_series(&mut object, source, "SEG", &uids.series(OUTPUT), &description, 1);
    dataset::put_body_part(&mut object, source);
    dataset::put_equipment(&mut object, module);
    put(&mut object, tags::FRAME_OF_REFERENCE_UID, VR::UI, source.frame_of_reference_uid());
    put_empty(&mut object, tags::POSITION_REFERENCE_INDICATOR, VR::LO);
    multiframe::put_references(&mut object, source);
    put_image(&mut object, &stated.labels, frames.len(), &description, source)?;
    let segments = segments.iter().map(|(number, segment)| segment_item(*number, segment, module, uids)).collect();
    sequence(&mut object, tags::SEGMENT_SEQUENCE, segments);
    let segment = (tags::REFERENCED_SEGMENT_NUMBER, tags::SEGMENT_IDENTIFICATION_SEQUENCE, "ReferencedSegmentNumber");
    let dimensions = uids.other(OUTPUT, "dimensions");
    multiframe::put_dimensions(&mut object, &dimensions, &[segment, multiframe::BY_POSITION]);
    sequence(&mut object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![multiframe::shared(source)]);
    let per_frame = frames.par_iter().map(|frame| per_frame(frame, source)).collect::<Result<_, _>>()?;
    sequence(&mut object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, per_frame);
    let masks: Vec<Mask> = frames.iter().map(|frame| frame.mask).collect();
    let bits = bits::pack(&stated.labels, &masks).map_err(|(slice, source)| SegError::Voxels { slice, source })?;
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(bits.into())));
    let meta = FileMetaTableBuilder::new().transfer_syntax(dictionary::EXPLICIT_VR_LITTLE_ENDIAN);
    object.with_meta(meta).map_err(|e| SegError::Meta(e.to_string()))
}

/// Everything that is written as it was stated.
fn texts<'a>(module: &'a mut ModuleInfo, segments: &'a mut [(u16, Segment)]) -> impl Iterator<Item = &'a mut String> {
    let code = |code: &'a mut Code| [&mut code.value, &mut code.scheme, &mut code.meaning];
    let segment = move |(_, s): &'a mut (u16, Segment)| {
        std::iter::once(&mut s.name).chain(code(&mut s.category)).chain(code(&mut s.kind))
    };
    let module = [&mut module.name, &mut module.version, &mut module.vendor, &mut module.title];
    module.into_iter().chain(segments.iter_mut().flat_map(segment))
}

/// Segments outermost, then slices along the grid's z axis.
fn frames(accepted: &Accepted) -> Vec<Frame> {
    let shown: Vec<usize> = (0..accepted.slices.len()).filter(|z| !accepted.slices[*z].is_empty()).collect();
    let of = |(number, segment): (u16, &Segment)| {
        let value = u16::try_from(segment.value).expect("the gate accepts 1 to 65535");
        let holds = |z: usize| accepted.slices[z].contains(&segment.value);
        let placed = (1u32..).zip(&shown).filter(|(_, z)| holds(**z));
        placed.map(|(place, &slice)| Frame { number, mask: Mask { slice, value }, place }).collect::<Vec<_>>()
    };
    accepted.numbered().flat_map(of).collect()
}

/// General Image, Image Pixel and Segmentation Image modules (PS3.3 C.7.6.1, C.7.6.3, C.8.20.2).
fn put_image(
    object: &mut InMemDicomObject,
    labels: &Volume,
    frames: usize,
    description: &str,
    source: &Source<'_>,
) -> Result<(), SegError> {
    let [columns, rows, _] = labels.geometry().size();
    let too_large = || SegError::TooLarge { frames };
    let bytes = rows.checked_mul(columns).and_then(|n| n.checked_mul(frames)).map(|bits| bits.div_ceil(8));
    bytes.filter(|bytes| *bytes < u32::MAX as usize - 1).ok_or_else(too_large)?;
    let side = |n: usize| u16::try_from(n).map_err(|_| too_large());
    let count = i32::try_from(frames).map_err(|_| too_large())?;
    put(
        object,
        tags::IMAGE_TYPE,
        VR::CS,
        PrimitiveValue::Strs(["DERIVED".into(), "PRIMARY".into()].into_iter().collect()),
    );
    put(object, tags::CONTENT_LABEL, VR::CS, "SEGMENTATION");
    put(object, tags::CONTENT_DESCRIPTION, VR::LO, description);
    put(object, tags::CONTENT_CREATOR_NAME, VR::PN, format!("{}^", dataset::MANUFACTURER));
    put(object, tags::NUMBER_OF_FRAMES, VR::IS, count.to_string());
    put(object, tags::SAMPLES_PER_PIXEL, VR::US, 1u16);
    put(object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    put(object, tags::ROWS, VR::US, side(rows)?);
    put(object, tags::COLUMNS, VR::US, side(columns)?);
    put(object, tags::BITS_ALLOCATED, VR::US, 1u16);
    put(object, tags::BITS_STORED, VR::US, 1u16);
    put(object, tags::HIGH_BIT, VR::US, 0u16);
    put(object, tags::PIXEL_REPRESENTATION, VR::US, 0u16);
    put(object, tags::SEGMENTATION_TYPE, VR::CS, "BINARY");
    put(object, tags::SEGMENTS_OVERLAP, VR::CS, "NO");
    dataset::put_lossy(object, source);
    Ok(())
}

/// Segment Description macro (PS3.3 C.8.20.4).
fn segment_item(number: u16, segment: &Segment, module: &ModuleInfo, uids: &OutputUids) -> InMemDicomObject {
    let mut algorithm = InMemDicomObject::new_empty();
    put_code(&mut algorithm, tags::ALGORITHM_FAMILY_CODE_SEQUENCE, &codes::ARTIFICIAL_INTELLIGENCE.into());
    put(&mut algorithm, tags::ALGORITHM_NAME, VR::LO, text(&module.name));
    put(&mut algorithm, tags::ALGORITHM_VERSION, VR::LO, text(&module.version));
    put(&mut algorithm, tags::ALGORITHM_SOURCE, VR::LO, text(&module.vendor));

    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::SEGMENT_NUMBER, VR::US, number);
    put(&mut item, tags::SEGMENT_LABEL, VR::LO, segment.name.trim());
    put(&mut item, tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "AUTOMATIC");
    put(&mut item, tags::SEGMENT_ALGORITHM_NAME, VR::LO, text(&module.name));
    sequence(&mut item, tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE, vec![algorithm]);
    put_code(&mut item, tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, &segment.category);
    put_code(&mut item, tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, &segment.kind);
    put(&mut item, tags::TRACKING_ID, VR::UT, segment.name.trim());
    put(&mut item, tags::TRACKING_UID, VR::UI, uids.tracking(segment.value));
    let colour = PrimitiveValue::U16(colour(number).into_iter().collect());
    put(&mut item, tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE, VR::US, colour);
    item
}

/// CIELab scaled to 16 bits (PS3.3 C.10.7.1.1): bright, and hues that are far apart for neighbours.
fn colour(number: u16) -> [u16; 3] {
    const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;
    let hue = 0.6 + f64::from(number - 1) * GOLDEN_ANGLE;
    let ab = |v: f64| ((v + 128.0) / 255.0 * 65535.0).round() as u16;
    [(0.65f64 * 65535.0).round() as u16, ab(60.0 * hue.cos()), ab(60.0 * hue.sin())]
}

/// Functional groups of one frame: Derivation Image, Frame Content, Plane Position, Segment Identification.
fn per_frame(frame: &Frame, source: &Source<'_>) -> Result<InMemDicomObject, SegError> {
    let slice = frame.mask.slice;
    let mut item = InMemDicomObject::new_empty();
    multiframe::put_derivation(&mut item, source, slice, codes::SEGMENTATION).ok_or(SegError::Source { slice })?;
    multiframe::put_place(&mut item, source, slice, &[u32::from(frame.number), frame.place]);
    let mut segment = InMemDicomObject::new_empty();
    put(&mut segment, tags::REFERENCED_SEGMENT_NUMBER, VR::US, frame.number);
    sequence(&mut item, tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![segment]);
    Ok(item)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use dicom_core::Tag;
    use dicom_dictionary_std::tags;

    use super::*;
    use crate::findings::{Findings, Segmentation};
    use crate::geometry::Geometry;
    use crate::outputs::gate;
    use crate::outputs::tests::{labels, module, segment, stamp, study};
    use crate::study::{ReadOptions, Study};

    /// An oblique grid of 7 × 5 × 3: frames of 35 bits.
    fn grid() -> Geometry {
        let (s, c) = 0.3f64.sin_cos();
        let axes = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([7, 5, 3], [0.7, 0.8, 2.5], [-10.0, 20.0, 30.0], axes).expect("a grid")
    }

    fn voxels() -> Vec<u8> {
        // Segment 9 in slice 0 and 2, segment 4 in slice 2, segment 5 nowhere.
        (0..105)
            .map(|i| {
                if i < 35 {
                    u8::from(i % 3 == 0) * 9
                } else if i < 70 {
                    0
                } else {
                    [0, 9, 4][i % 3]
                }
            })
            .collect()
    }

    fn accepted(study: &Study, voxels: Vec<u8>) -> Accepted {
        let segments = vec![segment(5, "kidney"), segment(9, "liver"), segment(4, "lung")];
        let labels = labels(&study.series[0].volumes[0].geometry, voxels);
        let findings = Findings { segmentation: Some(Segmentation { labels, segments }), ..Findings::default() };
        gate(findings, study, &[0]).expect("accepted")
    }

    fn seg(study: &Study, voxels: Vec<u8>) -> Result<FileDicomObject<InMemDicomObject>, SegError> {
        let source = Source::new(study, (0, 0)).expect("a volume");
        let uids = OutputUids::new(&source, &[[1; 32]], &module().identity, &[]);
        segmentation(&accepted(study, voxels), &source, &module(), &uids, &stamp())
    }

    /// Text at a path of tags; each but the last names a sequence, with the item in it.
    fn at(object: &InMemDicomObject, path: &[(Tag, usize)], tag: Tag) -> String {
        let mut item = object;
        for (tag, i) in path {
            item = &item.element(*tag).expect("a sequence").items().expect("items")[*i];
        }
        item.element(tag).expect("an element").to_str().expect("text").trim_end_matches('\0').to_owned()
    }

    fn items(object: &InMemDicomObject, tag: Tag) -> usize {
        object.element(tag).expect("a sequence").items().expect("items").len()
    }

    #[test]
    fn the_header_says_whose_it_is_and_what_made_it() {
        let study = study(&grid());
        let seg = seg(&study, voxels()).expect("a SEG");
        let text = |tag| at(&seg, &[], tag);
        assert_eq!(text(tags::SOP_CLASS_UID), "1.2.840.10008.5.1.4.1.1.66.4");
        assert_eq!(seg.meta().transfer_syntax(), "1.2.840.10008.1.2.1");
        assert_eq!(seg.meta().media_storage_sop_instance_uid().trim_end_matches('\0'), text(tags::SOP_INSTANCE_UID));
        assert_eq!(text(tags::SPECIFIC_CHARACTER_SET), "ISO_IR 100");
        assert_eq!(text(tags::PATIENT_NAME), "Müller^Test");
        assert_eq!(text(tags::PATIENT_SEX), "", "type 2: there, and empty");
        assert_eq!(text(tags::STUDY_INSTANCE_UID), "2.25.1");
        assert_eq!(text(tags::FRAME_OF_REFERENCE_UID), "2.25.77");
        assert_eq!(text(tags::SERIES_NUMBER), "301");
        assert_eq!(text(tags::SERIES_DESCRIPTION), "Organs in body CT: demonstration, not for clinical use");
        assert_eq!(text(tags::CONTENT_DESCRIPTION), text(tags::SERIES_DESCRIPTION));
        assert_eq!(text(tags::MANUFACTURER), "Gantry");
        assert_eq!(text(tags::DEVICE_SERIAL_NUMBER), "07".repeat(32));
        assert_eq!(text(tags::LOSSY_IMAGE_COMPRESSION), "00");
        assert_eq!(text(tags::SEGMENTS_OVERLAP), "NO");
        assert_eq!((text(tags::CONTENT_DATE), text(tags::CONTENT_TIME)), ("20240102".into(), "030405".into()));
        let references = (tags::REFERENCED_SERIES_SEQUENCE, 0);
        assert_eq!(at(&seg, &[references], tags::SERIES_INSTANCE_UID), "2.25.2");
        let last = (tags::REFERENCED_INSTANCE_SEQUENCE, 2);
        assert_eq!(at(&seg, &[references, last], tags::REFERENCED_SOP_INSTANCE_UID), "2.25.1003");
    }

    #[test]
    fn frames_are_by_segment_then_by_position() {
        let study = study(&grid());
        let seg = seg(&study, voxels()).expect("a SEG");
        assert_eq!(items(&seg, tags::SEGMENT_SEQUENCE), 2, "the kidney has no voxels");
        assert_eq!(at(&seg, &[(tags::SEGMENT_SEQUENCE, 0)], tags::SEGMENT_LABEL), "liver");
        assert_eq!(at(&seg, &[(tags::SEGMENT_SEQUENCE, 1)], tags::SEGMENT_NUMBER), "2");
        assert_eq!(at(&seg, &[], tags::NUMBER_OF_FRAMES), "3");
        let per_frame = tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE;
        let expected = [("1\\1", "30", "2.25.1001"), ("1\\2", "35", "2.25.1003"), ("2\\2", "35", "2.25.1003")];
        for (i, (index, z, instance)) in expected.into_iter().enumerate() {
            let content = [(per_frame, i), (tags::FRAME_CONTENT_SEQUENCE, 0)];
            assert_eq!(at(&seg, &content, tags::DIMENSION_INDEX_VALUES), index);
            let position =
                at(&seg, &[(per_frame, i), (tags::PLANE_POSITION_SEQUENCE, 0)], tags::IMAGE_POSITION_PATIENT);
            assert_eq!(position, format!("-10\\20\\{z}"));
            let image = [(per_frame, i), (tags::DERIVATION_IMAGE_SEQUENCE, 0), (tags::SOURCE_IMAGE_SEQUENCE, 0)];
            assert_eq!(at(&seg, &image, tags::REFERENCED_SOP_INSTANCE_UID), instance);
        }
        let measures = [(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 0), (tags::PIXEL_MEASURES_SEQUENCE, 0)];
        assert_eq!(at(&seg, &measures, tags::PIXEL_SPACING), "0.8\\0.7", "rows first");
        assert_eq!(at(&seg, &measures, tags::SLICE_THICKNESS), "2");
        assert_eq!(at(&seg, &measures, tags::SPACING_BETWEEN_SLICES), "2.5");
        let bits = seg.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes");
        assert_eq!(bits.len(), 14, "3 × 35 bits are 14 bytes");
        let set: u32 = bits.iter().map(|b| b.count_ones()).sum();
        assert_eq!(set as usize, voxels().iter().filter(|v| **v > 0).count());
    }

    #[test]
    fn a_source_without_frame_of_reference_gets_one_that_stays() {
        let mut study = study(&grid());
        study.series[0].header.remove_element(tags::FRAME_OF_REFERENCE_UID);
        let uid = at(&seg(&study, voxels()).expect("a SEG"), &[], tags::FRAME_OF_REFERENCE_UID);
        assert!(uid.starts_with("2.25."));
        assert_eq!(uid, at(&seg(&study, voxels()).expect("a SEG"), &[], tags::FRAME_OF_REFERENCE_UID));
    }

    #[test]
    fn what_was_lost_in_the_source_is_said() {
        let mut study = study(&grid());
        study.series[0].header.put_str(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
        study.series[0].header.put_str(tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, "12.5");
        let object = seg(&study, voxels()).expect("a SEG");
        assert_eq!(at(&object, &[], tags::LOSSY_IMAGE_COMPRESSION), "01");
        assert_eq!(at(&object, &[], tags::LOSSY_IMAGE_COMPRESSION_RATIO), "12.5");
        let mut jpeg = crate::outputs::tests::study(&grid());
        jpeg.series[0].instances[1].transfer_syntax_uid.push_str("1.2.840.10008.1.2.4.50");
        let object = seg(&jpeg, voxels()).expect("a SEG");
        assert_eq!(at(&object, &[], tags::LOSSY_IMAGE_COMPRESSION), "01", "though the header does not say so");
    }

    #[test]
    fn text_outside_the_character_set_of_the_source_is_written_in_utf_8() {
        let study = study(&grid());
        let mut accepted = accepted(&study, voxels());
        accepted.segmentation.as_mut().expect("one").segments[1].name = "wątroba".into();
        let source = Source::new(&study, (0, 0)).expect("a volume");
        let uids = OutputUids::new(&source, &[], &module().identity, &[]);
        let seg = segmentation(&accepted, &source, &module(), &uids, &stamp()).expect("a SEG");
        let mut file = Vec::new();
        seg.write_all(&mut file).expect("encodes");
        let back = dicom_object::from_reader(file.as_slice()).expect("reads back");
        assert_eq!(at(&back, &[], tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
        assert_eq!(at(&back, &[], tags::PATIENT_NAME), "Müller^Test");
        assert_eq!(at(&back, &[(tags::SEGMENT_SEQUENCE, 0)], tags::SEGMENT_LABEL), "wątroba");
    }

    /// Through a file and back, as a later module is handed it.
    fn read_back(
        study: &crate::study::Study,
        voxels: Vec<u8>,
        change: impl FnOnce(&mut InMemDicomObject),
    ) -> Result<crate::study::Labels, crate::study::ReadError> {
        let accepted = accepted(study, voxels.clone());
        let values = accepted.numbered().map(|(number, s)| (number, s.value as u16)).collect();
        let mut object = seg(study, voxels).expect("a SEG");
        change(&mut object);
        let file = tempfile::NamedTempFile::new().expect("a file");
        object.write_all(&mut file.as_file()).expect("encodes");
        let budget = crate::memory::Budget::unlimited();
        crate::study::labels(file.path(), study, &values, &budget, &ReadOptions::default())
    }

    #[test]
    fn labels_come_back_as_they_were_stated() {
        let study = study(&grid());
        let back = read_back(&study, voxels(), |_| {}).expect("labels");
        assert_eq!((back.series, back.volume), (0, 0));
        assert!(back.labels.geometry().same_grid(&grid(), 1e-6));
        let read = back.labels.read(grid().region()).expect("voxels");
        assert!(read.iter().zip(voxels()).all(|(read, stated)| *read == f32::from(stated)), "{read:?}");
    }

    #[test]
    fn a_seg_that_lies_elsewhere_or_is_none_of_ours_is_refused() {
        let study = study(&grid());
        let refused = |expected: &str, change: &dyn Fn(&mut InMemDicomObject)| {
            let error = read_back(&study, voxels(), change).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused("not binary", &|object| _ = object.put_str(tags::SEGMENTATION_TYPE, VR::CS, "FRACTIONAL"));
        refused("not as many", &|object| _ = object.put_str(tags::NUMBER_OF_FRAMES, VR::IS, "2"));
        refused("not as large", &|object| put(object, tags::ROWS, VR::US, 4u16));
        refused("shorter than its frames", &|object| {
            object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(vec![0, 0].into())));
        });
        let mut moved = crate::outputs::tests::study(&grid());
        moved.series[0].volumes[0].geometry =
            Geometry::new(grid().size(), grid().spacing(), [-10.0, 20.0, 31.0], grid().axes()).expect("a grid");
        let budget = crate::memory::Budget::unlimited();
        let object = seg(&study, voxels()).expect("a SEG");
        let file = tempfile::NamedTempFile::new().expect("a file");
        object.write_all(&mut file.as_file()).expect("encodes");
        let values = [(1, 9), (2, 4)].into();
        let on = |study: &crate::study::Study| {
            let error = crate::study::labels(file.path(), study, &values, &budget, &ReadOptions::default());
            error.expect_err("another study").to_string()
        };
        assert!(on(&moved).contains("lies beside the image"), "{}", on(&moved));
        moved.series[0].instances.iter_mut().for_each(|instance| instance.sop_instance_uid = "2.25.9".into());
        moved.series[0].volumes[0].geometry = grid();
        assert!(on(&moved).contains("lies on no image of the study"), "{}", on(&moved));
    }

    #[test]
    fn no_voxels_are_no_seg() {
        assert!(matches!(seg(&study(&grid()), vec![0; 105]), Err(SegError::Empty)));
    }

    /// A folder of real data, or `None` where a person has not fetched it.
    fn real_ct() -> Option<PathBuf> {
        let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let assets = std::env::var_os("GANTRY_ASSETS").map_or_else(|| repository.join(".cache/assets"), PathBuf::from);
        let folder = assets.join("totalsegmentator/example_ct_dicom");
        if folder.is_dir() {
            return Some(folder);
        }
        assert!(std::env::var_os("CI").is_none(), "{} is missing: run `cargo xtask assets`", folder.display());
        eprintln!("skipped: {} is missing; run `cargo xtask assets`", folder.display());
        None
    }

    /// Ellipsoids, one for each segment value of [`accepted`].
    fn ellipsoids([nx, ny, nz]: [usize; 3]) -> Vec<u8> {
        let mut voxels = vec![0; nx * ny * nz];
        for (i, voxel) in voxels.iter_mut().enumerate() {
            let at = [i % nx, i / nx % ny, i / (nx * ny)].map(|n| n as f64 + 0.5);
            let inside = |centre: [f64; 3], radius: [f64; 3]| {
                let size = [nx, ny, nz].map(|n| n as f64);
                (0..3).map(|a| ((at[a] / size[a] - centre[a]) / radius[a]).powi(2)).sum::<f64>() < 1.0
            };
            *voxel = if inside([0.3, 0.5, 0.4], [0.15, 0.2, 0.3]) {
                5
            } else if inside([0.6, 0.4, 0.5], [0.2, 0.1, 0.6]) {
                9
            } else {
                u8::from(inside([0.55, 0.7, 0.8], [0.1, 0.12, 0.15])) * 4
            };
        }
        voxels
    }

    #[test]
    fn a_real_series_gets_a_seg_with_the_voxels_that_were_stated() {
        let Some(folder) = real_ct() else { return };
        let options = ReadOptions::default();
        let study = crate::study::read(&[folder], &options).expect("the series reads");
        let layout = &study.series[0].volumes[0];
        let [nx, ny, _] = layout.geometry.size();
        let voxels = ellipsoids(layout.geometry.size());
        let seg = seg(&study, voxels.clone()).expect("a SEG");
        let mut file = Vec::new();
        seg.write_all(&mut file).expect("encodes");
        let back = dicom_object::from_reader(file.as_slice()).expect("reads back");
        let bits = back.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes");
        let mut found = vec![0u8; voxels.len()];
        for frame in 0..items(&back, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE) {
            let path = (tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frame);
            let image = [path, (tags::DERIVATION_IMAGE_SEQUENCE, 0), (tags::SOURCE_IMAGE_SEQUENCE, 0)];
            let instance = at(&back, &image, tags::REFERENCED_SOP_INSTANCE_UID);
            let z = study.series[0].instances.iter().position(|i| i.sop_instance_uid == instance).expect("a slice");
            let segment =
                at(&back, &[path, (tags::SEGMENT_IDENTIFICATION_SEQUENCE, 0)], tags::REFERENCED_SEGMENT_NUMBER);
            let value = [5, 9, 4][segment.parse::<usize>().expect("a number") - 1];
            for i in (0..nx * ny).filter(|i| bits[(frame * nx * ny + i) / 8] >> ((frame * nx * ny + i) % 8) & 1 == 1) {
                found[z * nx * ny + i] = value;
            }
        }
        assert!(found == voxels, "voxels differ from what was stated");
    }
}
