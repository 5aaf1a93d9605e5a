//! The voxels of a volume: every file read once, hashed and decoded into its place, on several threads.
//!
//! Of a file only what decoding needs is ever in memory: the pixels of one slice. Files may be much larger than their
//! image, and that costs time and no memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;

use super::header::{self, Hashing};
use super::multiframe::{self, Decode, Target};
use super::pixels::{Coding, Pixels};
use super::scan::Stop;
use super::{Instance, ReadError, ReadOptions, codec};
use crate::memory::Budget;

/// SHA-256 of a file.
pub(super) type FileDigest = [u8; 32];

/// Voxels, slice after slice, x fastest.
#[derive(Debug, PartialEq)]
pub(super) enum Voxels {
    /// Stored values that become `slope · v + intercept`.
    I16 { values: Vec<i16>, slope: f32, intercept: f32 },
    /// Values.
    F32(Vec<f32>),
}

/// The voxels of `slices`, all of one size, and the digest of the file of each.
pub(super) fn voxels(
    slices: &[(&Instance, &Pixels)],
    budget: &Budget,
    options: &ReadOptions,
) -> Result<(Voxels, Vec<FileDigest>), ReadError> {
    let Some((_, first)) = slices.first() else { return Err(ReadError::NoVolume("no slices".into())) };
    let whole = first.voxels() * slices.len();
    let linear = linear(slices);
    let bytes = whole as u64 * if linear.is_some() { 2 } else { 4 };
    options.check_volume(bytes)?;
    for (instance, pixels) in slices.iter().filter(|(_, pixels)| pixels.length.is_none()) {
        let most = usize::try_from(instance.source.file_bytes).unwrap_or(usize::MAX);
        codec::plausible(pixels, most).map_err(|reason| ReadError::damaged(&instance.path, reason))?;
    }
    // Held while the voxels are made; the volume then takes its part for itself.
    let _charge = budget.charge(bytes)?;
    let threads = rayon::current_num_threads().min(slices.len()) as u64;
    let _scratch = budget.charge(scratch_bytes(slices, linear.is_some()).saturating_mul(threads))?;
    let decoders = options.decoders.as_deref();
    if let Some((slope, intercept)) = linear {
        let mut values = vec![0i16; whole];
        let digests = fill(slices, &mut values, options, &|scratch, instance, pixels, value, out| {
            codec::decode(pixels, &instance.transfer_syntax_uid, value, decoders, &mut scratch.codec.decoded, out)
        })?;
        return Ok((Voxels::I16 { values, slope, intercept }, digests));
    }
    let mut values = vec![0f32; whole];
    let digests = fill(slices, &mut values, options, &|scratch, instance, pixels, value, out| {
        codec::values(pixels, &instance.transfer_syntax_uid, value, decoders, &mut scratch.codec, out)
    })?;
    Ok((Voxels::F32(values), digests))
}

/// Decodes each slice into its place in `values`; the digest of the file of each. Files of one image are read at once, on
/// several threads; those of several one after another, their frames on several threads.
fn fill<T: Send>(
    slices: &[(&Instance, &Pixels)],
    values: &mut [T],
    options: &ReadOptions,
    decode: &impl Decode<T>,
) -> Result<Vec<FileDigest>, ReadError> {
    let plane = values.len() / slices.len().max(1);
    let mut alone = Vec::new();
    let mut files: BTreeMap<&Path, (Vec<usize>, Vec<Target<'_, T>>)> = BTreeMap::new();
    for (place, (out, &(instance, pixels))) in values.chunks_exact_mut(plane).zip(slices).enumerate() {
        match instance.frame {
            None => alone.push((place, instance, pixels, out)),
            Some(number) => {
                let (places, targets) = files.entry(&instance.path).or_default();
                places.push(place);
                targets.push(Target { instance, pixels, number, out });
            }
        }
    }
    let mut digests = vec![FileDigest::default(); slices.len()];
    for (places, targets) in files.into_values() {
        let digest = multiframe::read(targets, options, decode)?;
        places.into_iter().for_each(|place| digests[place] = digest);
    }
    let read = alone.into_par_iter().map_init(Scratch::default, |scratch, (place, instance, pixels, out)| {
        let digest = scratch.read(instance, pixels, options)?;
        let value = std::mem::take(&mut scratch.value);
        let decoded = decode(scratch, instance, pixels, &value, out);
        scratch.value = value;
        decoded.map_err(|stop| stop.of(&instance.path))?;
        Ok((place, digest))
    });
    for (place, digest) in read.collect::<Result<Vec<_>, ReadError>>()? {
        digests[place] = digest;
    }
    Ok(digests)
}

/// Slope and intercept from what [`Pixels::unpack`] gives to values, if they are the same for all slices (they are
/// not in PET) and exact in `f32`.
fn linear(slices: &[(&Instance, &Pixels)]) -> Option<(f32, f32)> {
    let (_, first) = slices.first()?;
    let same = |p: &Pixels| (p.slope, p.intercept, p.bias()) == (first.slope, first.intercept, first.bias());
    if !slices.iter().all(|(_, pixels)| pixels.is_linear() && same(pixels)) {
        return None;
    }
    let (slope, intercept) = (first.slope as f32, first.intercept as f32);
    if first.bias() == 0 {
        return Some((slope, intercept));
    }
    let shifted = f64::from(slope) * f64::from(first.bias()) + f64::from(intercept);
    (f64::from(shifted as f32) == shifted).then_some((slope, shifted as f32))
}

/// Memory that a thread uses again and again.
#[derive(Default)]
pub(super) struct Scratch {
    /// What decoding needs of the value of Pixel Data.
    value: Vec<u8>,
    codec: codec::Scratch,
}

/// Compressed pixel data may be so many times as large as the image, and [`COMPRESSED_MORE_BYTES`] more. Noise that
/// does not compress stays well below.
const COMPRESSED_TIMES: usize = 2;
const COMPRESSED_MORE_BYTES: usize = 1 << 20;

/// The most bytes of Pixel Data that are kept to decode one slice.
pub(super) fn value_max(pixels: &Pixels) -> usize {
    match pixels.coding {
        Coding::Native { .. } => pixels.native_bytes(),
        _ => pixels.bytes().saturating_mul(COMPRESSED_TIMES).saturating_add(COMPRESSED_MORE_BYTES),
    }
}

/// As [`value_max`], and no more than the file has.
fn room(instance: &Instance, pixels: &Pixels) -> usize {
    let file = usize::try_from(instance.source.file_bytes).unwrap_or(usize::MAX);
    value_max(pixels).min(if pixels.deflated { usize::MAX } else { file })
}

/// The most bytes that a thread needs beside the volume to decode one of `slices`. What a decoder takes for itself,
/// a few times the image, is not in it.
fn scratch_bytes(slices: &[(&Instance, &Pixels)], linear: bool) -> u64 {
    let slice = |(instance, pixels): &(&Instance, &Pixels)| {
        let value = room(instance, pixels) as u64;
        let copies = match pixels.coding {
            Coding::Native { .. } if pixels.samples == 1 && pixels.is_narrow() => 0,
            Coding::Native { .. } => value,
            // Fragments are joined, and decoders want a copy of their own.
            _ => value.saturating_mul(2).saturating_add(pixels.bytes() as u64),
        };
        // Stored values, or colours on their way to 8 bits and to luminance.
        let stored = if linear { 0 } else { pixels.voxels() as u64 * if pixels.samples == 1 { 2 } else { 6 } };
        value.saturating_add(copies).saturating_add(stored)
    };
    slices.iter().map(slice).max().unwrap_or(0)
}

impl Scratch {
    /// Reads a file, which must be the one whose header was read, and keeps what decoding needs of its pixel data. All
    /// of it passes through the digest.
    fn read(&mut self, instance: &Instance, pixels: &Pixels, options: &ReadOptions) -> Result<FileDigest, ReadError> {
        let (path, source) = (&instance.path, &instance.source);
        let changed = || ReadError::Changed(path.clone());
        let io = |e| ReadError::io(path, e);
        self.value.clear();
        self.value.reserve_exact(room(instance, pixels));
        let mut file = Hashing::after(&[], File::open(path).map_err(io)?);
        if pixels.deflated {
            if !file.skip_to(source.deflated).map_err(io)? {
                return Err(changed());
            }
            self.inflate(&mut file, path, pixels, options)?;
        } else {
            if !file.skip_to(source.header_bytes).map_err(io)? || file.so_far() != source.header_digest {
                return Err(changed());
            }
            self.keep(&mut file, pixels).map_err(|stop| stop.of(path))?;
        }
        let (bytes, digest) = file.end(source.file_bytes).map_err(io)?;
        // A deflated file is a header in all.
        if bytes != source.file_bytes || pixels.deflated && digest != source.header_digest {
            return Err(changed());
        }
        Ok(digest)
    }

    /// Inflates up to the pixel data, which are kept.
    fn inflate(
        &mut self,
        file: &mut Hashing<File>,
        path: &Path,
        pixels: &Pixels,
        options: &ReadOptions,
    ) -> Result<(), ReadError> {
        let most = (pixels.offset as u64).saturating_add(pixels.bytes() as u64);
        options.check_file(path, "an inflated file", most)?;
        let damaged = |_| ReadError::damaged(path, "its deflated data set cannot be inflated");
        let mut inflated = header::inflate(file);
        let mut header = inflated.by_ref().take(pixels.offset as u64);
        std::io::copy(&mut header, &mut std::io::sink()).map_err(damaged)?;
        self.keep(&mut inflated, pixels).map_err(|stop| match stop {
            Stop::Io(e) => damaged(e),
            stop => stop.of(path),
        })
    }

    /// Keeps of the value of Pixel Data, at which `from` stands, what decoding needs: the pixels, or the items of
    /// encapsulated pixel data (PS3.5 annex A.4) to their end. Where `from` ends too early, so does what is kept.
    fn keep(&mut self, from: &mut impl Read, pixels: &Pixels) -> Result<(), Stop> {
        if matches!(pixels.coding, Coding::Native { .. }) {
            self.more(from, pixels.native_bytes())?;
            return Ok(());
        }
        let most = value_max(pixels);
        loop {
            let at = self.value.len();
            if !self.more(from, 8)? {
                return Ok(());
            }
            let Some([0xFE, 0xFF, 0x00, 0xE0, length @ ..]) = self.value[at..].first_chunk::<8>() else {
                return Ok(());
            };
            let length = u32::from_le_bytes(*length) as usize;
            if self.value.len().saturating_add(length) > most {
                let image = pixels.bytes();
                return Err(Stop::Damaged(format!(
                    "more than {most} bytes of compressed pixel data for an image of {image} bytes"
                )));
            }
            if !self.more(from, length)? {
                return Ok(());
            }
        }
    }

    /// Keeps `bytes` more; whether there were so many.
    fn more(&mut self, from: &mut impl Read, bytes: usize) -> std::io::Result<bool> {
        let got = from.by_ref().take(bytes as u64).read_to_end(&mut self.value)?;
        Ok(got == bytes)
    }
}
