//! DICOM Segmentation (PS3.3 A.51): binary, one frame for each slice of a segment that has voxels, on the grid of the
//! source. That of probabilities is `fractional`.
//!
//! ```text
//! frame = (segment, slice), segments outermost;   pixel data = all frames as one stream of bits, low bit first
//! ```

mod fractional;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids as dictionary};
use dicom_object::{FileDicomObject, FileMetaTableBuilder, InMemDicomObject};
use rayon::prelude::*;

pub use self::fractional::fractional_segmentation;
pub(super) use self::fractional::step;
use super::bits::{self, Mask};
use super::codes::{self, put_code};
use super::dataset::{self, put, put_empty, sequence, text};
use super::multiframe;
use super::{Accepted, ModuleInfo, OutputUids, Source, Stamp};
use crate::findings::{Code, Segment};
use crate::memory::OverBudget;
use crate::volumes::VolumeError;

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
        "the segmentation has {frames} frames, or more than 4 GiB of voxels, and one object cannot hold that; state fewer segments"
    )]
    TooLarge {
        /// How many.
        frames: usize,
    },
    /// No room for its voxels.
    #[error("the SEG of probabilities has no room: {0}; raise it, or set outputs.fractional_segmentation = false")]
    OverBudget(#[from] OverBudget),
    /// Its voxels could not be computed again.
    #[error("the voxels of slice {slice} cannot be computed: {source}")]
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
    let masks: Vec<Mask> = frames.iter().map(|frame| frame.mask).collect();
    let segments = accepted.numbered().map(|(n, s)| (n, s.clone())).collect();
    let size = stated.labels.geometry().size();
    bits_of(size, frames.len(), 1)?;
    let content = Content { output: OUTPUT, place: 1, label: "SEGMENTATION", title: module.title.clone(), segments };
    let place = |frame: &Frame| Place { number: frame.number, slice: frame.mask.slice, rank: frame.place };
    let places: Vec<Place> = frames.iter().map(place).collect();
    let mut object = object(content, &places, size, source, module, uids, stamp)?;
    put(&mut object, tags::BITS_ALLOCATED, VR::US, 1u16);
    put(&mut object, tags::BITS_STORED, VR::US, 1u16);
    put(&mut object, tags::HIGH_BIT, VR::US, 0u16);
    put(&mut object, tags::SEGMENTATION_TYPE, VR::CS, "BINARY");
    put(&mut object, tags::SEGMENTS_OVERLAP, VR::CS, "NO");
    let bits = bits::pack(&stated.labels, &masks).map_err(|(slice, source)| SegError::Voxels { slice, source })?;
    file(object, bits)
}

/// What the two kinds of SEG differ in, but for their voxels.
struct Content {
    /// The name that its UIDs are derived from.
    output: &'static str,
    /// Of its series among those of the result.
    place: u32,
    /// Content Label (0070,0080).
    label: &'static str,
    /// For people.
    title: String,
    /// With their Segment Numbers.
    segments: Vec<(u16, Segment)>,
}

/// Where a frame belongs.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Segment Number.
    number: u16,
    /// Along z, from 0.
    slice: usize,
    /// Rank among the slices that have frames, from 1.
    rank: u32,
}

/// All of a SEG but what its voxels are and how they are stored.
fn object(
    mut content: Content,
    frames: &[Place],
    size: [usize; 3],
    source: &Source<'_>,
    module: &ModuleInfo,
    uids: &OutputUids,
    stamp: &Stamp,
) -> Result<InMemDicomObject, SegError> {
    let mut object = dataset::in_study_of(source);
    let mut module = module.clone();
    let stated = texts(&mut module, &mut content.segments).chain([&mut content.title]);
    dataset::fit_characters(&mut object, stated);
    let (module, Content { output, place, label, title, segments }) = (&module, content);
    dataset::put_instance(&mut object, dictionary::SEGMENTATION_STORAGE, &uids.instance(output), stamp);
    let description = dataset::described(&title, module);
    dataset::put_series(&mut object, source, "SEG", &uids.series(output), &description, place);
    dataset::put_body_part(&mut object, source);
    dataset::put_equipment(&mut object, module);
    put(&mut object, tags::FRAME_OF_REFERENCE_UID, VR::UI, source.frame_of_reference_uid());
    put_empty(&mut object, tags::POSITION_REFERENCE_INDICATOR, VR::LO);
    multiframe::put_references(&mut object, source);
    put(&mut object, tags::CONTENT_LABEL, VR::CS, label);
    put_image(&mut object, size, frames.len(), &description, source)?;
    let segments = segments.iter().map(|(number, segment)| segment_item(*number, segment, module, uids)).collect();
    sequence(&mut object, tags::SEGMENT_SEQUENCE, segments);
    let segment = (tags::REFERENCED_SEGMENT_NUMBER, tags::SEGMENT_IDENTIFICATION_SEQUENCE, "ReferencedSegmentNumber");
    let dimensions = uids.other(output, "dimensions");
    multiframe::put_dimensions(&mut object, &dimensions, &[segment, multiframe::BY_POSITION]);
    sequence(&mut object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![multiframe::shared(source)]);
    let per_frame = frames.par_iter().map(|frame| per_frame(frame, source)).collect::<Result<_, _>>()?;
    sequence(&mut object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, per_frame);
    Ok(object)
}

fn file(mut object: InMemDicomObject, pixels: Vec<u8>) -> Result<FileDicomObject<InMemDicomObject>, SegError> {
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(pixels.into())));
    let meta = FileMetaTableBuilder::new().transfer_syntax(dictionary::EXPLICIT_VR_LITTLE_ENDIAN);
    object.with_meta(meta).map_err(|e| SegError::Meta(e.to_string()))
}

/// Bits of all frames, which one object must be able to hold.
fn bits_of([columns, rows, _]: [usize; 3], frames: usize, each: usize) -> Result<usize, SegError> {
    let bits = rows.checked_mul(columns).and_then(|n| n.checked_mul(frames)).and_then(|n| n.checked_mul(each));
    bits.filter(|bits| bits.div_ceil(8) < u32::MAX as usize - 1).ok_or(SegError::TooLarge { frames })
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

/// General Image, Image Pixel and Segmentation Image modules (PS3.3 C.7.6.1, C.7.6.3, C.8.20.2), but for what a voxel is.
fn put_image(
    object: &mut InMemDicomObject,
    [columns, rows, _]: [usize; 3],
    frames: usize,
    description: &str,
    source: &Source<'_>,
) -> Result<(), SegError> {
    let too_large = || SegError::TooLarge { frames };
    let side = |n: usize| u16::try_from(n).map_err(|_| too_large());
    let count = i32::try_from(frames).map_err(|_| too_large())?;
    put(
        object,
        tags::IMAGE_TYPE,
        VR::CS,
        PrimitiveValue::Strs(["DERIVED".into(), "PRIMARY".into()].into_iter().collect()),
    );
    put(object, tags::CONTENT_DESCRIPTION, VR::LO, description);
    put(object, tags::CONTENT_CREATOR_NAME, VR::PN, format!("{}^", dataset::MANUFACTURER));
    put(object, tags::NUMBER_OF_FRAMES, VR::IS, count.to_string());
    put(object, tags::SAMPLES_PER_PIXEL, VR::US, 1u16);
    put(object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    put(object, tags::ROWS, VR::US, side(rows)?);
    put(object, tags::COLUMNS, VR::US, side(columns)?);
    put(object, tags::PIXEL_REPRESENTATION, VR::US, 0u16);
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
fn per_frame(frame: &Place, source: &Source<'_>) -> Result<InMemDicomObject, SegError> {
    let slice = frame.slice;
    let mut item = InMemDicomObject::new_empty();
    multiframe::put_derivation(&mut item, source, slice, codes::SEGMENTATION).ok_or(SegError::Source { slice })?;
    multiframe::put_place(&mut item, source, slice, &[u32::from(frame.number), frame.rank]);
    let mut segment = InMemDicomObject::new_empty();
    put(&mut segment, tags::REFERENCED_SEGMENT_NUMBER, VR::US, frame.number);
    sequence(&mut item, tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![segment]);
    Ok(item)
}

#[cfg(test)]
mod tests;
