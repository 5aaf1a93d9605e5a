//! Frames of one file: the file passes through its digest once, and only the frames that are asked for are kept and
//! decoded, as many at a time as there are threads.

use std::fs::File;
use std::io::Read;

use rayon::prelude::*;

use super::decode::{FileDigest, Scratch, value_max};
use super::header::{self, Hashing};
use super::pixels::{Coding, Pixels};
use super::scan::Stop;
use super::{Instance, ReadError, ReadOptions};

/// An item of encapsulated pixel data, and the delimiter after the last.
const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
const DELIMITER: [u8; 8] = [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];

/// A frame and where its voxels belong.
pub(super) struct Target<'a, T> {
    pub(super) instance: &'a Instance,
    pub(super) pixels: &'a Pixels,
    /// From 1.
    pub(super) number: u32,
    pub(super) out: &'a mut [T],
}

/// Decodes a frame from its value of Pixel Data.
pub(super) trait Decode<T>:
    Fn(&mut Scratch, &Instance, &Pixels, &[u8], &mut [T]) -> Result<(), Stop> + Sync
{
}

impl<T, F: Fn(&mut Scratch, &Instance, &Pixels, &[u8], &mut [T]) -> Result<(), Stop> + Sync> Decode<T> for F {}

/// Reads the file of `targets`, which are of one file, and decodes them; the digest of the file.
pub(super) fn read<T: Send>(
    mut targets: Vec<Target<'_, T>>,
    options: &ReadOptions,
    decode: &impl Decode<T>,
) -> Result<FileDigest, ReadError> {
    targets.sort_by_key(|target| target.number);
    let Some((instance, pixels)) = targets.first().map(|target| (target.instance, target.pixels)) else {
        return Err(ReadError::NoVolume("no frames".into()));
    };
    let (path, source) = (&instance.path, &instance.source);
    let changed = || ReadError::Changed(path.clone());
    let io = |e| ReadError::io(path, e);
    let mut file = Hashing::after(&[], File::open(path).map_err(io)?);
    if pixels.deflated {
        if !file.skip_to(source.deflated).map_err(io)? {
            return Err(changed());
        }
        let last = u64::from(targets.last().map_or(0, |target| target.number));
        let most = (pixels.offset as u64).saturating_add(last.saturating_mul(pixels.bytes() as u64));
        options.check_file(path, "an inflated file", most)?;
        let mut inflated = header::inflate(&mut file);
        let damaged = || ReadError::damaged(path, "its deflated data set cannot be inflated");
        skip(&mut inflated, pixels.offset as u64).map_err(|_| damaged())?;
        frames(&mut inflated, targets, decode).map_err(|stop| match stop {
            Stop::Io(_) => damaged(),
            stop => stop.of(path),
        })?;
    } else {
        if !file.skip_to(source.header_bytes).map_err(io)? || file.so_far() != source.header_digest {
            return Err(changed());
        }
        frames(&mut file, targets, decode).map_err(|stop| stop.of(path))?;
    }
    let (bytes, digest) = file.end(source.file_bytes).map_err(io)?;
    // A deflated file is a header in all.
    if bytes != source.file_bytes || pixels.deflated && digest != source.header_digest {
        return Err(changed());
    }
    Ok(digest)
}

/// Decodes `targets`, in the order of their numbers, from the value of Pixel Data, at which `from` stands.
fn frames<T: Send>(from: &mut impl Read, targets: Vec<Target<'_, T>>, decode: &impl Decode<T>) -> Result<(), Stop> {
    let native = targets.first().is_some_and(|target| matches!(target.pixels.coding, Coding::Native { .. }));
    let mut batch = Batch { frames: Vec::new(), most: rayon::current_num_threads(), decode };
    if native {
        self::native(from, targets, &mut batch)?
    } else {
        encapsulated(from, targets, &mut batch)?
    }
    batch.decode()
}

/// Frames that were read and wait to be decoded together.
struct Batch<'a, 'd, T, D> {
    frames: Vec<(Target<'a, T>, Vec<u8>)>,
    most: usize,
    decode: &'d D,
}

impl<'a, T: Send, D: Decode<T>> Batch<'a, '_, T, D> {
    fn push(&mut self, target: Target<'a, T>, value: Vec<u8>) -> Result<(), Stop> {
        self.frames.push((target, value));
        if self.frames.len() < self.most { Ok(()) } else { self.decode() }
    }

    fn decode(&mut self) -> Result<(), Stop> {
        let decode = self.decode;
        std::mem::take(&mut self.frames)
            .into_par_iter()
            .try_for_each_init(Scratch::default, |scratch, (target, value)| {
                decode(scratch, target.instance, target.pixels, &value, target.out)
            })
    }
}

/// Frames one after another.
fn native<'a, T: Send, D: Decode<T>>(
    from: &mut impl Read,
    targets: Vec<Target<'a, T>>,
    batch: &mut Batch<'a, '_, T, D>,
) -> Result<(), Stop> {
    let mut at = 0;
    for target in targets {
        // Where words are turned round, a frame must not begin within one.
        let bytes = target.pixels.bytes();
        if bytes != target.pixels.native_bytes() {
            return Err(Stop::Damaged(
                "frames of an odd number of bytes in big endian, which nobody can tell apart".into(),
            ));
        }
        let start = u64::from(target.number - 1) * bytes as u64;
        skip(from, start - at)?;
        let value = take(from, bytes)?;
        at = start + bytes as u64;
        batch.push(target, value)?;
    }
    Ok(())
}

/// Fragments of frames (PS3.5 annex A.4), which a Basic Offset Table tells apart; without one each is a frame.
fn encapsulated<'a, T: Send, D: Decode<T>>(
    from: &mut impl Read,
    targets: Vec<Target<'a, T>>,
    batch: &mut Batch<'a, '_, T, D>,
) -> Result<(), Stop> {
    let frames = targets.first().map_or(1, |target| target.instance.frames);
    let starts = Starts::read(from, frames)?;
    let mut targets = targets.into_iter().peekable();
    let (mut number, mut offset, mut value) = (0, 0u64, Vec::new());
    loop {
        let length = item(from)?;
        let begins = length.is_none() || starts.begins(number, offset)?;
        if begins && let Some(target) = targets.next_if(|target| target.number == number) {
            value.extend_from_slice(&DELIMITER);
            batch.push(target, std::mem::take(&mut value))?;
        }
        let Some(length) = length else { break };
        number += u32::from(begins);
        offset += 8 + u64::from(length);
        let Some(target) = targets.peek().filter(|target| target.number == number) else {
            skip(from, length.into())?;
            continue;
        };
        if value.is_empty() {
            value.extend_from_slice(&[ITEM, [0; 4]].concat());
        }
        let (most, image) = (value_max(target.pixels), target.pixels.bytes());
        if value.len().saturating_add(length as usize) > most {
            return Err(Stop::Damaged(format!(
                "more than {most} bytes of compressed pixel data for an image of {image} bytes"
            )));
        }
        value.extend_from_slice(&[ITEM, length.to_le_bytes()].concat());
        value.extend(take(from, length as usize)?);
    }
    if number == frames && targets.peek().is_none() {
        return Ok(());
    }
    Err(Stop::Damaged(format!(
        "{number} frames of compressed pixel data, where the header says {frames}; each must be one fragment, or a Basic Offset Table must say where it begins"
    )))
}

/// Where frames begin, counted from the first fragment.
enum Starts {
    /// One frame is all fragments.
    One,
    Each,
    Table(Vec<u32>),
}

impl Starts {
    /// Reads the first item, the Basic Offset Table.
    fn read(from: &mut impl Read, frames: u32) -> Result<Self, Stop> {
        let Some(length) = item(from)? else { return Err(Stop::Damaged("its pixel data have no fragment".into())) };
        if frames > 1 && u64::from(length) == u64::from(frames) * 4 {
            let table = take(from, length as usize)?;
            return Ok(Self::Table(table.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()));
        }
        skip(from, length.into())?;
        Ok(if frames == 1 { Self::One } else { Self::Each })
    }

    /// Whether the fragment at `offset` begins a frame, after `number` that began.
    fn begins(&self, number: u32, offset: u64) -> Result<bool, Stop> {
        let Self::Table(table) = self else { return Ok(matches!(self, Self::Each) || number == 0) };
        match table.get(number as usize).map(|start| u64::from(*start)) {
            Some(start) if start < offset => {
                Err(Stop::Damaged("its Basic Offset Table does not say where fragments begin".into()))
            }
            start => Ok(start == Some(offset)),
        }
    }
}

/// Length of the item at which `from` stands; `None` for the delimiter after the last.
fn item(from: &mut impl Read) -> Result<Option<u32>, Stop> {
    let head = take(from, 8)?;
    match head.first_chunk::<8>() {
        Some([0xFE, 0xFF, 0x00, 0xE0, length @ ..]) if *length != [0xFF; 4] => Ok(Some(u32::from_le_bytes(*length))),
        Some([0xFE, 0xFF, 0xDD, 0xE0, ..]) => Ok(None),
        _ => Err(Stop::Damaged("the fragments of its pixel data are not well-formed".into())),
    }
}

/// The next `bytes`.
fn take(from: &mut impl Read, bytes: usize) -> Result<Vec<u8>, Stop> {
    // No more than the file has, or than an image of this size may have.
    let mut value = Vec::with_capacity(bytes);
    let got = from.by_ref().take(bytes as u64).read_to_end(&mut value)?;
    if got == bytes { Ok(value) } else { Err(ended()) }
}

fn skip(from: &mut impl Read, bytes: u64) -> Result<(), Stop> {
    match std::io::copy(&mut from.by_ref().take(bytes), &mut std::io::sink())? {
        skipped if skipped == bytes => Ok(()),
        _ => Err(ended()),
    }
}

fn ended() -> Stop {
    Stop::Damaged("the file ends within its pixel data".into())
}
