//! The voxels of a volume: every file read once, hashed and decoded into its place, on several threads.

use std::fs::File;
use std::io::Read;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::pixels::Pixels;
use super::{Instance, ReadError, ReadOptions, codec, header};
use crate::memory::Budget;

/// SHA-256 of a file.
type FileDigest = [u8; 32];

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
    let (plane, whole) = (first.voxels(), first.voxels() * slices.len());
    let linear = linear(slices);
    let bytes = whole as u64 * if linear.is_some() { 2 } else { 4 };
    if bytes > options.volume_max_mib.saturating_mul(1 << 20) {
        return Err(ReadError::Limit {
            path: None,
            what: format!("a volume of {bytes} bytes"),
            limit: "volume_max_mib",
            maximum: options.volume_max_mib,
        });
    }
    // Held while the voxels are made; the volume then takes it for itself.
    let _charge = budget.charge(bytes)?;
    if let Some((slope, intercept)) = linear {
        let mut values = vec![0i16; whole];
        let digests = values
            .par_chunks_mut(plane)
            .zip(slices)
            .map_init(Scratch::default, |scratch, (out, (instance, pixels))| {
                scratch.slice(instance, pixels, options, out)
            })
            .collect::<Result<Vec<_>, _>>()?;
        return Ok((Voxels::I16 { values, slope, intercept }, digests));
    }
    let mut values = vec![0f32; whole];
    let digests = values
        .par_chunks_mut(plane)
        .zip(slices)
        .map_init(Scratch::default, |scratch, (out, (instance, pixels))| {
            let mut stored = std::mem::take(&mut scratch.stored);
            stored.resize(plane, 0);
            let digest = scratch.slice(instance, pixels, options, &mut stored)?;
            let (slope, intercept, bias) = (pixels.slope as f32, pixels.intercept as f32, pixels.bias());
            for (out, stored) in out.iter_mut().zip(&stored) {
                *out = slope * (i32::from(*stored) + bias) as f32 + intercept;
            }
            scratch.stored = stored;
            Ok(digest)
        })
        .collect::<Result<Vec<_>, ReadError>>()?;
    Ok((Voxels::F32(values), digests))
}

/// Slope and intercept from what [`Pixels::unpack`] gives to values, if they are the same for all slices (they are
/// not in PET) and exact in `f32`.
fn linear(slices: &[(&Instance, &Pixels)]) -> Option<(f32, f32)> {
    let (_, first) = slices.first()?;
    let same = |p: &Pixels| (p.slope, p.intercept, p.bias()) == (first.slope, first.intercept, first.bias());
    if !slices.iter().all(|(_, pixels)| same(pixels)) {
        return None;
    }
    let (slope, intercept) = (first.slope as f32, first.intercept as f32);
    if first.bias() == 0 {
        return Some((slope, intercept));
    }
    let shifted = f64::from(slope) * f64::from(first.bias()) + f64::from(intercept);
    (f64::from(shifted as f32) == shifted).then_some((slope, shifted as f32))
}

/// Memory that a thread uses again and again: no more than a file, what it inflates to, and a frame.
#[derive(Default)]
struct Scratch {
    file: Vec<u8>,
    inflated: Vec<u8>,
    decoded: Vec<u8>,
    stored: Vec<i16>,
}

impl Scratch {
    /// Reads the file of one slice, decodes it into `out` and gives its digest.
    fn slice(
        &mut self,
        instance: &Instance,
        pixels: &Pixels,
        options: &ReadOptions,
        out: &mut [i16],
    ) -> Result<FileDigest, ReadError> {
        let path = &instance.path;
        let digest = self.read(instance)?;
        let damaged = |reason: String| ReadError::damaged(path, reason);
        let (from, offset) = if pixels.deflated {
            let most = (pixels.offset + pixels.bytes()) as u64;
            if most > options.file_max_mib.saturating_mul(1 << 20) {
                return Err(ReadError::Limit {
                    path: Some(path.clone()),
                    what: format!("an inflated file of {most} bytes"),
                    limit: "file_max_mib",
                    maximum: options.file_max_mib,
                });
            }
            self.inflated.clear();
            let start = header::dataset_start(&self.file).ok_or_else(|| ReadError::Changed(path.clone()))?;
            let inflated = header::inflate(&self.file[start..]).take(most).read_to_end(&mut self.inflated);
            inflated.map_err(|_| damaged("its deflated data set cannot be inflated".into()))?;
            (&self.inflated, pixels.offset)
        } else {
            (&self.file, pixels.offset)
        };
        let value = from.get(offset..).unwrap_or_default();
        codec::decode(pixels, &instance.transfer_syntax_uid, value, &mut self.decoded, out).map_err(damaged)?;
        Ok(digest)
    }

    /// Reads a file whole, which must be the one whose header was read.
    fn read(&mut self, instance: &Instance) -> Result<FileDigest, ReadError> {
        let (path, source) = (&instance.path, &instance.source);
        let changed = || ReadError::Changed(path.clone());
        let file = File::open(path).map_err(|e| ReadError::io(path, e))?;
        self.file.clear();
        self.file.reserve(source.file_bytes as usize + 1);
        file.take(source.file_bytes + 1).read_to_end(&mut self.file).map_err(|e| ReadError::io(path, e))?;
        if self.file.len() as u64 != source.file_bytes {
            return Err(changed());
        }
        let (header, rest) = self.file.split_at_checked(source.header_bytes).ok_or_else(changed)?;
        let mut hash = Sha256::new_with_prefix(header);
        let header_digest: FileDigest = hash.clone().finalize().into();
        if header_digest != source.header_digest {
            return Err(changed());
        }
        hash.update(rest);
        Ok(hash.finalize().into())
    }
}
