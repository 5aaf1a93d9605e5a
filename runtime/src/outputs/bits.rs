//! Frames of bits (PS3.5 section 8.1.1): one stream over all frames, the first voxel in the low bit, no padding between
//! frames, an even number of bytes in all.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use crate::volumes::{Volume, VolumeError};

/// A frame: the voxels of slice `slice` that are `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mask {
    pub(super) slice: usize,
    pub(super) value: u16,
}

/// Where the bits of one frame go.
struct Target<'a> {
    value: u16,
    /// In the whole stream.
    bits: Range<usize>,
    /// The bytes that no other frame has bits in: threads write to them without asking.
    own: &'a mut [u8],
    /// Place of `own` in the stream, bytes.
    first: usize,
}

/// Packs `masks`. Every slice is computed once, whatever the number of frames it is in.
///
/// # Errors
/// The first slice, in order, that cannot be computed, and why.
pub(super) fn pack(labels: &Volume, masks: &[Mask]) -> Result<Vec<u8>, (usize, VolumeError)> {
    let [columns, rows, _] = labels.geometry().size();
    let frame = columns * rows;
    let bytes = (frame * masks.len()).div_ceil(8);
    let mut stream = vec![0u8; bytes + bytes % 2];
    let targets: Vec<(usize, Vec<Target<'_>>)> = split(&mut stream, masks, frame).into_iter().collect();
    let shared: Vec<Result<Vec<usize>, _>> = targets
        .into_par_iter()
        .map_init(
            || vec![0u16; frame],
            |voxels, (slice, targets)| {
                labels.label_slice(slice, voxels).map_err(|e| (slice, e))?;
                Ok(targets.into_iter().flat_map(|target| target.fill(voxels)).collect())
            },
        )
        .collect();
    for bits in shared {
        for bit in bits? {
            stream[bit / 8] |= 1 << (bit % 8);
        }
    }
    Ok(stream)
}

/// Gives every frame its bytes, by slice.
fn split<'a>(stream: &'a mut [u8], masks: &[Mask], frame: usize) -> BTreeMap<usize, Vec<Target<'a>>> {
    let mut by_slice: BTreeMap<usize, Vec<Target<'a>>> = BTreeMap::new();
    let (mut rest, mut at) = (stream, 0);
    for (i, mask) in masks.iter().enumerate() {
        let bits = i * frame..(i + 1) * frame;
        let first = bits.start.div_ceil(8);
        let own = (bits.end / 8).saturating_sub(first);
        let (_, behind) = rest.split_at_mut(first - at);
        let (own, behind) = behind.split_at_mut(own);
        (rest, at) = (behind, first + own.len());
        by_slice.entry(mask.slice).or_default().push(Target { value: mask.value, bits, own, first });
    }
    by_slice
}

impl Target<'_> {
    /// Fills its own bytes; returns the bits to set in bytes that it shares, at most 14.
    fn fill(self, voxels: &[u16]) -> Vec<usize> {
        let Self { value, bits, own, first } = self;
        let head = bits.start..(first * 8).min(bits.end);
        let tail = head.end + own.len() * 8..bits.end;
        let value_in_lanes = u64::from(value) * LANES;
        for (byte, voxels) in own.iter_mut().zip(voxels[head.len()..].as_chunks::<8>().0) {
            *byte = eight(voxels, value_in_lanes);
        }
        head.chain(tail).filter(|bit| voxels[bit - bits.start] == value).collect()
    }
}

/// The lowest bit of each of four lanes of 16 bits.
const LANES: u64 = 0x0001_0001_0001_0001;

/// Which of eight voxels are the value that is in four lanes and is not 0, the first in the low bit.
fn eight(voxels: &[u16; 8], value_in_lanes: u64) -> u8 {
    let [a, b, c, d, e, f, g, h] = *voxels;
    let (low, high): (u64, u64) = (bytemuck::cast([a, b, c, d]), bytemuck::cast([e, f, g, h]));
    // Lanes are in the order of voxels where the lowest byte comes first. Most voxels are background.
    if low | high == 0 {
        return 0;
    }
    four(low ^ value_in_lanes) | four(high ^ value_in_lanes) << 4
}

/// Which of four lanes are 0, without a branch.
fn four(lanes: u64) -> u8 {
    const LOW: u64 = 0x7FFF * LANES;
    // The highest bit of each lane is 0 where all of the lane is: no sum passes into the next lane.
    let zero = !(((lanes & LOW) + LOW) | lanes | LOW) >> 15;
    // Bits 0, 16, 32 and 48 come together at 48.
    (zero.wrapping_mul(1 << 48 | 1 << 33 | 1 << 18 | 1 << 3) >> 48) as u8 & 0xF
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Geometry;
    use crate::memory::Budget;

    /// As the standard says it, voxel by voxel.
    fn plainly(voxels: &[u8], frame: usize, masks: &[Mask]) -> Vec<u8> {
        let bits: Vec<bool> = masks
            .iter()
            .flat_map(|m| voxels[m.slice * frame..(m.slice + 1) * frame].iter().map(|v| u16::from(*v) == m.value))
            .collect();
        let mut bytes: Vec<u8> =
            bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect();
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        bytes
    }

    fn volume(size: [usize; 3], voxels: Vec<u8>) -> Volume {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let grid = Geometry::new(size, [1.0; 3], [0.0; 3], axes).expect("a grid");
        Volume::from_u8(grid, voxels, &Budget::unlimited()).expect("a volume")
    }

    #[test]
    fn the_first_voxel_is_the_low_bit() {
        let labels = volume([5, 1, 2], vec![1, 0, 0, 1, 0, 0, 1, 0, 0, 1]);
        let masks = [Mask { slice: 0, value: 1 }, Mask { slice: 1, value: 1 }];
        // 10010 then 01001: ten bits, two bytes.
        assert_eq!(pack(&labels, &masks).expect("packed"), [0b0100_1001, 0b10]);
        assert_eq!(pack(&labels, &masks[..1]).expect("packed"), [0b1001, 0], "an even number of bytes");
    }

    #[test]
    fn frames_of_any_size_follow_each_other_without_a_gap() {
        for (columns, rows) in [(7, 5), (1, 1), (3, 1), (8, 1), (4, 4), (9, 7), (13, 1), (5, 3), (16, 2)] {
            let (frame, slices) = (columns * rows, 5);
            let voxels: Vec<u8> = (0..frame * slices).map(|i| ((i * i * 7 + i / 3) % 4) as u8).collect();
            let labels = volume([columns, rows, slices], voxels.clone());
            let all = [3u16, 1, 2].into_iter().flat_map(|value| (0..slices).map(move |slice| Mask { slice, value }));
            let masks: Vec<Mask> = all.filter(|m| m.slice != 2 || m.value == 1).collect();
            let packed = pack(&labels, &masks).expect("packed");
            assert_eq!(packed, plainly(&voxels, frame, &masks), "{columns} × {rows}");
        }
    }

    #[test]
    fn eight_voxels_at_once_are_those_that_one_by_one_are() {
        let values = [0u16, 1, 2, 0x7FFF, 0x8000, 0x8001, 0xFFFE, 0xFFFF, 256];
        for value in &values[1..] {
            for i in 0..values.len().pow(3) {
                let at = |i: usize| values[i % values.len()];
                let voxels: [u16; 8] =
                    std::array::from_fn(
                        |place| if place % 3 == 0 { at(i) } else { at(i / 9usize.pow(place as u32 % 3)) },
                    );
                let plain = (0..8).fold(0, |byte, i| byte | u8::from(voxels[i] == *value) << i);
                assert_eq!(eight(&voxels, u64::from(*value) * LANES), plain, "{voxels:?} of {value}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_names_its_slice() {
        let labels = volume([2, 2, 2], vec![0; 8]);
        let masks = [Mask { slice: 0, value: 1 }, Mask { slice: 5, value: 1 }];
        assert_eq!(pack(&labels, &masks).expect_err("no slice 5").0, 5);
    }
}
