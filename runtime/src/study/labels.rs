//! A binary segmentation (PS3.3 A.51) read back: the label volume that it was made of, on the grid of its source.
//!
//! Each frame says which segment it is of and which image it lies on. The header is read as any other; the frames then
//! pass through the digest of the whole file and leave nothing but labels.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;

use super::attributes::Attributes;
use super::header::{self, Hashing, Opened};
use super::pixels::Coding;
use super::{Instance, ReadError, ReadOptions, Study};
use crate::geometry::{Geometry, Vec3};
use crate::memory::Budget;
use crate::volumes::Volume;

/// How far a frame may lie from the slice that it names, mm: positions are decimal strings.
const POSITION_TOLERANCE_MM: f64 = 0.01;
/// A header that was parsed takes about so many times its bytes.
pub(super) const PARSED_FACTOR: u64 = 10;
/// How much of the frames is in memory at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A label volume, and what it lies on.
#[derive(Debug, Clone)]
pub struct Labels {
    /// Which of [`Study::series`].
    pub series: usize,
    /// Which of [`Series::volumes`](super::Series::volumes).
    pub volume: usize,
    /// On the grid of that volume; 0 is background.
    pub labels: Volume,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

/// One frame: the voxels of a slice that have a value.
#[derive(Debug, Clone, Copy)]
struct Frame {
    slice: usize,
    value: u16,
}

/// A slice of the study.
#[derive(Debug, Clone, Copy)]
struct Place {
    series: usize,
    volume: usize,
    slice: usize,
}

/// Reads the segmentation at `path`, which lies on `study`. `values` names the voxel value of each Segment Number.
///
/// # Errors
/// It cannot be read, or not within the limits and the budget; or it is no uncompressed binary segmentation of one
/// volume of this study with these segments.
pub fn labels(
    path: &Path,
    study: &Study,
    values: &BTreeMap<u16, u16>,
    budget: &Budget,
    options: &ReadOptions,
) -> Result<Labels, ReadError> {
    let opened = header::open_dicom(path, options)?;
    let parsed = budget.charge(opened.source.header_bytes.saturating_mul(PARSED_FACTOR))?;
    let dataset = opened.parse(path)?;
    let a = Attributes { path, object: &dataset };
    check(&opened, &a)?;
    let (frames, place) = frames(&a, study, values)?;
    drop(dataset);
    drop(parsed);
    let grid = &study.series[place.series].volumes[place.volume].geometry;
    let (labels, sha256) = voxels(path, &opened, &frames, grid, budget, options)?;
    Ok(Labels { series: place.series, volume: place.volume, labels, sha256 })
}

/// Whether this is what [`labels`] reads.
fn check(opened: &Opened, a: &Attributes<'_>) -> Result<(), ReadError> {
    let native = matches!(opened.syntax.coding, Some(Coding::Native { big_endian: false })) && !opened.syntax.deflated;
    let binary = opened.meta.class == uids::SEGMENTATION_STORAGE
        && a.text(tags::SEGMENTATION_TYPE) == "BINARY"
        && a.small(tags::BITS_ALLOCATED)? == Some(1);
    match native && binary {
        true => Ok(()),
        false => Err(ReadError::unavailable(a.path, "a segmentation that is not binary and uncompressed")),
    }
}

/// The frames in order, and the first slice that one lies on.
fn frames(a: &Attributes<'_>, study: &Study, values: &BTreeMap<u16, u16>) -> Result<(Vec<Frame>, Place), ReadError> {
    let damaged = |reason: String| ReadError::damaged(a.path, reason);
    let places = places(study);
    let groups = a.object.get(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    let groups = groups.and_then(|element| element.items()).unwrap_or_default();
    let mut frames = Vec::with_capacity(groups.len());
    let mut first = None;
    for (number, group) in (1..).zip(groups) {
        let frame = Group { path: a.path, group };
        let place = frame.image().and_then(|(uid, of)| places.get(&(uid.as_str(), of)).copied());
        let place = place.ok_or_else(|| damaged(format!("frame {number} lies on no image of the study")))?;
        let of = first.get_or_insert(place);
        if (of.series, of.volume) != (place.series, place.volume) {
            return Err(damaged(format!("frame {number} lies on another volume than the frames before it")));
        }
        let segment = frame.segment()?;
        let value = segment.and_then(|segment| values.get(&segment).copied());
        let value = value.ok_or_else(|| damaged(format!("frame {number} is of a segment that was not stated")))?;
        let grid = &study.series[place.series].volumes[place.volume].geometry;
        if !frame.lies_at(grid.to_patient([0.0, 0.0, place.slice as f64]))? {
            return Err(damaged(format!("frame {number} lies beside the image that it names")));
        }
        frames.push(Frame { slice: place.slice, value });
    }
    let place = first.ok_or_else(|| damaged("it has no frame".into()))?;
    let [columns, rows, _] = study.series[place.series].volumes[place.volume].geometry.size();
    let stated = a.numbers::<1>(tags::NUMBER_OF_FRAMES)?.map(|[n]| n);
    let size = [a.needed_small(tags::COLUMNS)?, a.needed_small(tags::ROWS)?].map(usize::from);
    if stated != Some(frames.len() as f64) || size != [columns, rows] {
        return Err(damaged("its frames are not as many or not as large as it says".into()));
    }
    Ok((frames, place))
}

/// Every slice of every volume, by SOP Instance UID and frame.
fn places(study: &Study) -> HashMap<(&str, Option<u32>), Place> {
    let mut places = HashMap::new();
    for (series, of) in study.series.iter().enumerate() {
        for (volume, layout) in of.volumes.iter().enumerate() {
            for (slice, &instance) in layout.slices.iter().enumerate() {
                let Instance { sop_instance_uid, frame, .. } = &of.instances[instance];
                places.insert((sop_instance_uid.as_str(), *frame), Place { series, volume, slice });
            }
        }
    }
    places
}

/// Functional groups of one frame (PS3.3 C.7.6.16).
struct Group<'a> {
    path: &'a Path,
    group: &'a InMemDicomObject,
}

impl<'a> Group<'a> {
    /// The first item of a sequence within the first items of others.
    fn item(&self, sequences: &[Tag]) -> Option<Attributes<'a>> {
        let first = |object: &'a InMemDicomObject, tag: &Tag| object.get(*tag)?.items()?.first();
        let object = sequences.iter().try_fold(self.group, first)?;
        Some(Attributes { path: self.path, object })
    }

    /// The image that it lies on: SOP Instance UID, and frame of an instance of several.
    fn image(&self) -> Option<(String, Option<u32>)> {
        let item = self.item(&[tags::DERIVATION_IMAGE_SEQUENCE, tags::SOURCE_IMAGE_SEQUENCE])?;
        let frame = item.numbers::<1>(tags::REFERENCED_FRAME_NUMBER).ok()?.map(|[frame]| frame as u32);
        Some((item.uid(tags::REFERENCED_SOP_INSTANCE_UID).ok()?, frame))
    }

    /// Segment Number.
    fn segment(&self) -> Result<Option<u16>, ReadError> {
        let item = self.item(&[tags::SEGMENT_IDENTIFICATION_SEQUENCE]);
        item.map_or(Ok(None), |item| item.small(tags::REFERENCED_SEGMENT_NUMBER))
    }

    /// Whether its first pixel is there.
    fn lies_at(&self, there: Vec3) -> Result<bool, ReadError> {
        let item = self.item(&[tags::PLANE_POSITION_SEQUENCE]);
        let position = item.map_or(Ok(None), |item| item.numbers::<3>(tags::IMAGE_POSITION_PATIENT))?;
        Ok(position.is_some_and(|p| p.iter().zip(there).all(|(a, b)| (a - b).abs() <= POSITION_TOLERANCE_MM)))
    }
}

/// The labels, and the digest of the whole file, which still is the one whose header was read.
fn voxels(
    path: &Path,
    opened: &Opened,
    frames: &[Frame],
    grid: &Geometry,
    budget: &Budget,
    options: &ReadOptions,
) -> Result<(Volume, [u8; 32]), ReadError> {
    let narrow = frames.iter().all(|frame| frame.value <= u8::MAX.into());
    let bytes = grid.voxels() as u64 * if narrow { 1 } else { 2 };
    if bytes > options.volume_max_mib.saturating_mul(1 << 20) {
        return Err(ReadError::Limit {
            path: Some(path.to_owned()),
            what: format!("a label volume of {bytes} bytes"),
            limit: "volume_max_mib",
            maximum: options.volume_max_mib,
        });
    }
    // Held while the voxels are made; the volume then takes its part for itself.
    let charge = budget.charge(bytes)?;
    if narrow {
        let mut labels = vec![0u8; grid.voxels()];
        let digest = fill(path, opened, frames, grid, &mut labels, |value| value as u8)?;
        drop(charge);
        return Ok((Volume::from_u8(grid.clone(), labels, budget)?, digest));
    }
    let mut labels = vec![0u16; grid.voxels()];
    let digest = fill(path, opened, frames, grid, &mut labels, |value| value)?;
    drop(charge);
    Ok((Volume::from_u16(grid.clone(), labels, 1.0, 0.0, budget)?, digest))
}

/// Passes the file through its digest and its frames into `labels`.
fn fill<T: Copy>(
    path: &Path,
    opened: &Opened,
    frames: &[Frame],
    grid: &Geometry,
    labels: &mut [T],
    value: impl Fn(u16) -> T,
) -> Result<[u8; 32], ReadError> {
    let io = |e| ReadError::io(path, e);
    let [columns, rows, _] = grid.size();
    let plane = columns * rows;
    let targets: Vec<(usize, T)> = frames.iter().map(|frame| (frame.slice * plane, value(frame.value))).collect();
    let length = opened.header.next.as_ref().filter(|next| next.tag == tags::PIXEL_DATA).and_then(|next| next.length);
    let mut left = (plane as u64).saturating_mul(frames.len() as u64).div_ceil(8);
    if length.is_none_or(|length| u64::from(length) < left) {
        return Err(ReadError::damaged(path, "its pixel data are shorter than its frames"));
    }
    let source = &opened.source;
    let mut file = Hashing::after(&[], File::open(path).map_err(io)?);
    if !file.skip_to(source.header_bytes).map_err(io)? || file.so_far() != source.header_digest {
        return Err(ReadError::Changed(path.to_owned()));
    }
    let (mut chunk, mut bit) = (Vec::new(), 0);
    while left > 0 {
        chunk.clear();
        let got = file.by_ref().take(left.min(CHUNK_BYTES as u64)).read_to_end(&mut chunk).map_err(io)?;
        if got == 0 {
            return Err(ReadError::Changed(path.to_owned()));
        }
        unpack(&chunk, bit, &targets, plane, labels);
        bit += got * 8;
        left -= got as u64;
    }
    match file.end(source.file_bytes).map_err(io)? {
        (bytes, digest) if bytes == source.file_bytes => Ok(digest),
        _ => Err(ReadError::Changed(path.to_owned())),
    }
}

/// Sets what the bits from the `first` on say (PS3.5 section 8.1.1): all frames are one stream, low bit first.
fn unpack<T: Copy>(bytes: &[u8], first: usize, targets: &[(usize, T)], plane: usize, labels: &mut [T]) {
    for (i, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
        for bit in (0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| first + i * 8 + bit) {
            // Bits behind the last frame are padding.
            if let Some((start, value)) = targets.get(bit / plane) {
                labels[start + bit % plane] = *value;
            }
        }
    }
}
