//! DICOM Segmentation (PS3.3 A.51): binary, one frame for each slice of a segment that has voxels, on the grid of the
//! source.
//!
//! ```text
//! frame = (segment, slice), segments outermost;   pixel data = all frames as one stream of bits, low bit first
//! ```

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids as dictionary};
use dicom_object::{FileDicomObject, FileMetaTableBuilder, InMemDicomObject};

use super::bits::{self, Mask};
use super::codes::{self, put_code};
use super::dataset::{self, decimal, decimals, put, put_empty, sequence, text};
use super::{Accepted, ModuleInfo, OutputUids, Source, Stamp};
use crate::findings::Segment;
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
    let instance = uids.instance(OUTPUT);
    dataset::put_instance(&mut object, dictionary::SEGMENTATION_STORAGE, &instance, stamp);
    let description = dataset::described(&module.title, module);
    dataset::put_series(&mut object, source, "SEG", &uids.series(OUTPUT), &description, 1);
    dataset::put_equipment(&mut object, module);
    put(&mut object, tags::FRAME_OF_REFERENCE_UID, VR::UI, source.frame_of_reference_uid());
    put_empty(&mut object, tags::POSITION_REFERENCE_INDICATOR, VR::LO);
    put_references(&mut object, source);
    put_image(&mut object, &stated.labels, frames.len(), &description, source)?;
    let segments = accepted.numbered().map(|(number, segment)| segment_item(number, segment, module, uids)).collect();
    sequence(&mut object, tags::SEGMENT_SEQUENCE, segments);
    put_dimensions(&mut object, &uids.other(OUTPUT, "dimensions"));
    sequence(&mut object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared(source)]);
    let per_frame = frames.iter().map(|frame| per_frame(frame, source)).collect::<Result<_, _>>()?;
    sequence(&mut object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, per_frame);
    let masks: Vec<Mask> = frames.iter().map(|frame| frame.mask).collect();
    let bits = bits::pack(&stated.labels, &masks).map_err(|(slice, source)| SegError::Voxels { slice, source })?;
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(bits.into())));
    let meta = FileMetaTableBuilder::new().transfer_syntax(dictionary::EXPLICIT_VR_LITTLE_ENDIAN);
    object.with_meta(meta).map_err(|e| SegError::Meta(e.to_string()))
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

/// Common Instance Reference module (PS3.3 C.12.2), which also names the source series.
fn put_references(object: &mut InMemDicomObject, source: &Source<'_>) {
    let mut series = InMemDicomObject::new_empty();
    put(&mut series, tags::SERIES_INSTANCE_UID, VR::UI, source.series.uid.as_str());
    sequence(&mut series, tags::REFERENCED_INSTANCE_SEQUENCE, dataset::slice_references(source));
    sequence(object, tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
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
    put(object, tags::CONTENT_CREATOR_NAME, VR::PN, dataset::MANUFACTURER);
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
    put_lossy(object, source);
    Ok(())
}

/// What was lost in the source is lost in what is made of it (PS3.3 C.7.6.1.1.5).
fn put_lossy(object: &mut InMemDicomObject, source: &Source<'_>) {
    let header = &source.series.header;
    let lossy = source.series.attribute("LossyImageCompression").is_some_and(|v| v == "01");
    put(object, tags::LOSSY_IMAGE_COMPRESSION, VR::CS, if lossy { "01" } else { "00" });
    if lossy {
        for tag in [tags::LOSSY_IMAGE_COMPRESSION_RATIO, tags::LOSSY_IMAGE_COMPRESSION_METHOD] {
            if let Ok(Some(element)) = header.element_opt(tag) {
                object.put(element.clone());
            }
        }
    }
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

/// Multi-frame Dimension module (PS3.3 C.7.6.17): by segment, then by position.
fn put_dimensions(object: &mut InMemDicomObject, organization: &str) {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization);
    sequence(object, tags::DIMENSION_ORGANIZATION_SEQUENCE, vec![item]);
    let index = |pointer, group, label: &str| {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization);
        put(&mut item, tags::DIMENSION_INDEX_POINTER, VR::AT, PrimitiveValue::from(pointer));
        put(&mut item, tags::FUNCTIONAL_GROUP_POINTER, VR::AT, PrimitiveValue::from(group));
        put(&mut item, tags::DIMENSION_DESCRIPTION_LABEL, VR::LO, label);
        item
    };
    let segment =
        index(tags::REFERENCED_SEGMENT_NUMBER, tags::SEGMENT_IDENTIFICATION_SEQUENCE, "ReferencedSegmentNumber");
    let position = index(tags::IMAGE_POSITION_PATIENT, tags::PLANE_POSITION_SEQUENCE, "ImagePositionPatient");
    sequence(object, tags::DIMENSION_INDEX_SEQUENCE, vec![segment, position]);
}

/// Functional groups that all frames have in common: Plane Orientation and Pixel Measures (PS3.3 C.7.6.16.2).
fn shared(source: &Source<'_>) -> InMemDicomObject {
    let grid = &source.layout.geometry;
    let ([x, y, _], [dx, dy, dz]) = (grid.axes(), grid.spacing());
    let mut orientation = InMemDicomObject::new_empty();
    put(&mut orientation, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, decimals(&[x, y].concat()));
    let mut measures = InMemDicomObject::new_empty();
    let stated = source.series.attribute("SliceThickness").and_then(|t| t.trim().parse::<f64>().ok());
    let thickness = stated.filter(|t| t.is_finite() && *t > 0.0).unwrap_or(dz);
    put(&mut measures, tags::PIXEL_SPACING, VR::DS, decimals(&[dy, dx]));
    put(&mut measures, tags::SLICE_THICKNESS, VR::DS, decimal(thickness));
    put(&mut measures, tags::SPACING_BETWEEN_SLICES, VR::DS, decimal(dz));
    let mut item = InMemDicomObject::new_empty();
    sequence(&mut item, tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation]);
    sequence(&mut item, tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
    item
}

/// Functional groups of one frame: Derivation Image, Frame Content, Plane Position, Segment Identification.
fn per_frame(frame: &Frame, source: &Source<'_>) -> Result<InMemDicomObject, SegError> {
    let instance = source.layout.slices.get(frame.mask.slice).and_then(|&i| source.series.instances.get(i));
    let instance = instance.ok_or(SegError::Source { slice: frame.mask.slice })?;
    let mut image = dataset::reference(&instance.sop_class_uid, &instance.sop_instance_uid);
    put_code(&mut image, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, &codes::SOURCE_IMAGE.into());
    put(&mut image, tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "YES");
    let mut derivation = InMemDicomObject::new_empty();
    sequence(&mut derivation, tags::SOURCE_IMAGE_SEQUENCE, vec![image]);
    put_code(&mut derivation, tags::DERIVATION_CODE_SEQUENCE, &codes::SEGMENTATION.into());

    let mut content = InMemDicomObject::new_empty();
    let index = [u32::from(frame.number), frame.place];
    put(&mut content, tags::DIMENSION_INDEX_VALUES, VR::UL, PrimitiveValue::U32(index.into_iter().collect()));
    let mut position = InMemDicomObject::new_empty();
    let corner = source.layout.geometry.to_patient([0.0, 0.0, frame.mask.slice as f64]);
    put(&mut position, tags::IMAGE_POSITION_PATIENT, VR::DS, decimals(&corner));
    let mut segment = InMemDicomObject::new_empty();
    put(&mut segment, tags::REFERENCED_SEGMENT_NUMBER, VR::US, frame.number);

    let mut item = InMemDicomObject::new_empty();
    sequence(&mut item, tags::DERIVATION_IMAGE_SEQUENCE, vec![derivation]);
    sequence(&mut item, tags::FRAME_CONTENT_SEQUENCE, vec![content]);
    sequence(&mut item, tags::PLANE_POSITION_SEQUENCE, vec![position]);
    sequence(&mut item, tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![segment]);
    Ok(item)
}
