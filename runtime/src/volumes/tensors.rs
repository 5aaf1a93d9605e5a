//! Volumes to tensors and back, and softmax.

use rayon::prelude::*;

use super::evaluate::{Scratch, blocks_of};
use super::half::{f32_to_bf16, f32_to_f16};
use super::storage::Voxels;
use super::{Volume, VolumeError, invalid};
use crate::tensor::{ElementType, Tensor};

impl Volume {
    /// Shape [1, 1, z, y, x], or [z, 1, y, x]. See `volume.to-tensor` in the contract.
    ///
    /// Integers round to nearest, halves to even, saturate, and NaN becomes 0.
    pub fn to_tensor(&self, element: ElementType, slices_as_batch: bool) -> Result<Tensor, VolumeError> {
        let [x, y, z] = self.geometry.size();
        let shape = if slices_as_batch { vec![z, 1, y, x] } else { vec![1, 1, z, y, x] };
        let mut tensor = Tensor::zeroed(shape, element, &self.budget)?;
        let region = self.geometry.region();
        if element == ElementType::F32
            && cfg!(target_endian = "little")
            && let Ok(values) = bytemuck::try_cast_slice_mut(tensor.data_mut())
        {
            self.fill_in_time(values)?;
            return Ok(tensor);
        }
        blocks_of(region, element.bytes(), tensor.data_mut()).into_par_iter().try_for_each_init(
            Scratch::default,
            |scratch, (block, bytes)| {
                self.budget.check_time()?;
                let mut values = scratch.take(block.voxels());
                self.block(block, &mut values, scratch);
                encode(&values, element, bytes);
                scratch.give(values);
                Ok::<(), VolumeError>(())
            },
        )?;
        Ok(tensor)
    }
}

/// Writes values as elements of a tensor.
pub(super) fn encode(values: &[f32], element: ElementType, bytes: &mut [u8]) {
    fn each<const N: usize>(values: &[f32], bytes: &mut [u8], f: impl Fn(f32) -> [u8; N]) {
        for (b, v) in bytes.chunks_exact_mut(N).zip(values) {
            b.copy_from_slice(&f(*v));
        }
    }
    match element {
        ElementType::F32 => each(values, bytes, f32::to_le_bytes),
        ElementType::F64 => each(values, bytes, |v| f64::from(v).to_le_bytes()),
        ElementType::F16 => each(values, bytes, |v| f32_to_f16(v).to_le_bytes()),
        ElementType::Bf16 => each(values, bytes, |v| f32_to_bf16(v).to_le_bytes()),
        // Casts saturate, and NaN becomes 0.
        ElementType::U8 => each(values, bytes, |v| [v.round_ties_even() as u8]),
        ElementType::I32 => each(values, bytes, |v| (v.round_ties_even() as i32).to_le_bytes()),
        ElementType::I64 => each(values, bytes, |v| (v.round_ties_even() as i64).to_le_bytes()),
    }
}

/// Evaluates an expression with the elements of a tensor as arrays of bytes, which may lie anywhere in memory, and with
/// the function that makes a number of one.
macro_rules! with_elements {
    ($tensor:expr, |$values:ident, $number:ident| $body:expr) => {
        match $tensor.element() {
            $crate::tensor::ElementType::F32 => {
                with_elements!(4, $tensor, |b| f64::from(f32::from_le_bytes(b)), $values, $number, $body)
            }
            $crate::tensor::ElementType::F64 => {
                with_elements!(8, $tensor, |b| f64::from_le_bytes(b), $values, $number, $body)
            }
            $crate::tensor::ElementType::F16 => {
                with_elements!(
                    2,
                    $tensor,
                    |b| f64::from($crate::volumes::half::f16_to_f32(u16::from_le_bytes(b))),
                    $values,
                    $number,
                    $body
                )
            }
            $crate::tensor::ElementType::Bf16 => {
                with_elements!(
                    2,
                    $tensor,
                    |b| f64::from($crate::volumes::half::bf16_to_f32(u16::from_le_bytes(b))),
                    $values,
                    $number,
                    $body
                )
            }
            $crate::tensor::ElementType::U8 => with_elements!(1, $tensor, |b| f64::from(b[0]), $values, $number, $body),
            $crate::tensor::ElementType::I32 => {
                with_elements!(4, $tensor, |b| f64::from(i32::from_le_bytes(b)), $values, $number, $body)
            }
            $crate::tensor::ElementType::I64 => {
                with_elements!(8, $tensor, |b| i64::from_le_bytes(b) as f64, $values, $number, $body)
            }
        }
    };
    ($bytes:literal, $tensor:expr, |$b:ident| $value:expr, $values:ident, $number:ident, $body:expr) => {{
        let $values: &[[u8; $bytes]] = $tensor.data().as_chunks().0;
        let $number = |$b: [u8; $bytes]| -> f64 { $value };
        $body
    }};
}
pub(super) use with_elements;

/// Scores or values of one channel or more on a grid: [1, c, z, y, x] or [z, c, y, x].
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) channels: usize,
    /// Along x, y, z.
    pub(super) size: [usize; 3],
    slices_as_batch: bool,
}

impl Layout {
    /// That of a tensor whose grid is that of `like`.
    pub(super) fn of(t: &Tensor, like: &Volume) -> Result<Self, VolumeError> {
        let size = like.geometry.size();
        let [x, y, z] = size;
        let (channels, slices_as_batch) = match *t.shape() {
            [1, channels, d, h, w] if [w, h, d] == size => (channels, false),
            [d, channels, h, w] if [w, h, d] == size => (channels, true),
            _ => (0, false),
        };
        if channels == 0 {
            let shape = t.shape();
            return Err(invalid(format!(
                "the tensor has shape {shape:?}, but like needs [1, c, {z}, {y}, {x}] or [{z}, c, {y}, {x}], c above 0"
            )));
        }
        Ok(Self { channels, size, slices_as_batch })
    }

    /// The first element of slice `z` of a channel.
    pub(super) fn plane(&self, channel: usize, z: usize) -> usize {
        let [nx, ny, nz] = self.size;
        let plane = if self.slices_as_batch { z * self.channels + channel } else { channel * nz + z };
        plane * nx * ny
    }
}

/// One channel of a network's output as a volume on the grid of `like`. See `volumes.from-tensor` in the contract.
pub fn from_tensor(t: &Tensor, channel: u32, like: &Volume) -> Result<Volume, VolumeError> {
    let layout = Layout::of(t, like)?;
    let channel = usize::try_from(channel).unwrap_or(usize::MAX);
    if channel >= layout.channels {
        return Err(invalid(format!("channel {channel} of a tensor of {} channels", layout.channels)));
    }
    let (geometry, budget) = (like.geometry.clone(), &like.budget);
    let [nx, ny, nz] = layout.size;
    let planes = (0..nz).map(|z| layout.plane(channel, z)).map(|first| first..first + nx * ny);
    if t.element() == ElementType::U8 {
        let charge = budget.charge(geometry.voxels() as u64)?;
        let mut voxels = Vec::with_capacity(geometry.voxels());
        planes.for_each(|plane| voxels.extend_from_slice(&t.data()[plane]));
        return Ok(like.made(geometry, Voxels::U8(voxels), charge));
    }
    let charge = budget.charge(geometry.voxels() as u64 * 4)?;
    let mut voxels = Vec::with_capacity(geometry.voxels());
    with_elements!(t, |values, number| {
        planes.for_each(|plane| voxels.extend(values[plane].iter().map(|b| number(*b) as f32)));
    });
    Ok(like.made(geometry, Voxels::F32(voxels), charge))
}

/// Softmax over `axis` of a floating-point tensor, of the same shape and type; computed in f64.
/// See `volumes.softmax` in the contract.
pub fn softmax(t: &Tensor, axis: usize) -> Result<Tensor, VolumeError> {
    let shape = t.shape();
    let Some(&length) = shape.get(axis) else {
        return Err(invalid(format!("axis {axis} of a tensor of shape {shape:?}")));
    };
    if matches!(t.element(), ElementType::U8 | ElementType::I32 | ElementType::I64) {
        return Err(invalid(format!("softmax of a tensor of {}, which is no floating-point type", t.element())));
    }
    let mut result = Tensor::zeroed(shape.to_vec(), t.element(), t.budget())?;
    // Elements that follow each other along the axis lie this far apart.
    let step: usize = shape[axis + 1..].iter().product();
    if result.data().is_empty() {
        return Ok(result);
    }
    let element = t.element();
    with_elements!(t, |values, number| {
        let rows =
            values.par_chunks(length * step).zip(result.data_mut().par_chunks_mut(length * step * element.bytes()));
        rows.for_each(|(values, out)| along_axis(values, number, element, step, out));
    });
    Ok(result)
}

/// Numbers that are worked on together.
const PIECE: usize = if cfg!(test) { 8 } else { 1 << 14 };

/// Softmax of `values`, in which elements along the axis lie `step` apart.
fn along_axis<const N: usize>(
    values: &[[u8; N]],
    number: impl Fn([u8; N]) -> f64 + Sync,
    element: ElementType,
    step: usize,
    out: &mut [u8],
) {
    let length = values.len() / step;
    let width = (PIECE / length).clamp(1, step);
    // For each piece, what it writes for each position along the axis.
    let mut pieces: Vec<Vec<&mut [u8]>> = Vec::new();
    pieces.resize_with(step.div_ceil(width), || Vec::with_capacity(length));
    for row in out.chunks_exact_mut(step * N) {
        for (piece, part) in pieces.iter_mut().zip(row.chunks_mut(width * N)) {
            piece.push(part);
        }
    }
    let work = |(first, piece): (usize, Vec<&mut [u8]>)| {
        let width = piece.first().map_or(0, |part| part.len() / N);
        let row = |k: usize| &values[k * step + first..][..width];
        let (mut largest, mut sum) = (vec![f64::NEG_INFINITY; width], vec![0.0; width]);
        for k in 0..length {
            for (m, b) in largest.iter_mut().zip(row(k)) {
                *m = m.max(number(*b));
            }
        }
        let mut powers = vec![0.0; width * length];
        for (k, powers) in powers.chunks_exact_mut(width).enumerate() {
            for (((p, s), m), b) in powers.iter_mut().zip(&mut sum).zip(&largest).zip(row(k)) {
                *p = (number(*b) - m).exp();
                *s += *p;
            }
        }
        for (powers, out) in powers.chunks_exact(width).zip(piece) {
            encode_f64(powers.iter().zip(&sum).map(|(p, s)| p / s), element, out);
        }
    };
    let pieces: Vec<_> = pieces.into_iter().enumerate().map(|(i, piece)| (i * width, piece)).collect();
    if pieces.len() > 1 {
        pieces.into_par_iter().for_each(work);
    } else {
        pieces.into_iter().for_each(work);
    }
}

/// Writes values as elements of a floating-point tensor.
fn encode_f64(values: impl Iterator<Item = f64>, element: ElementType, bytes: &mut [u8]) {
    for (b, v) in bytes.chunks_exact_mut(element.bytes()).zip(values) {
        if element == ElementType::F64 {
            b.copy_from_slice(&v.to_le_bytes());
        } else {
            encode(&[v as f32], element, b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_grid;
    use super::*;
    use crate::memory::Budget;

    #[test]
    fn every_type_rounds_to_nearest_and_saturates() {
        let budget = Budget::unlimited();
        let values = vec![-1.5, 0.5, 1.5, 254.6, 3e9, -3e9, f32::NAN, f32::INFINITY];
        let volume = Volume::from_f32(test_grid([2, 2, 2]), values.clone(), &budget).expect("8 voxels");
        let read = |element| {
            let tensor = volume.to_tensor(element, false).expect("room");
            assert_eq!(tensor.shape(), [1, 1, 2, 2, 2]);
            with_elements!(tensor, |values, number| values.iter().map(|b| number(*b)).collect::<Vec<f64>>())
        };
        assert_eq!(read(ElementType::U8), [0.0, 0.0, 2.0, 255.0, 255.0, 0.0, 0.0, 255.0]);
        let (low, high) = (f64::from(i32::MIN), f64::from(i32::MAX));
        assert_eq!(read(ElementType::I32), [-2.0, 0.0, 2.0, 255.0, high, low, 0.0, high]);
        assert_eq!(read(ElementType::I64), [-2.0, 0.0, 2.0, 255.0, 3e9, -3e9, 0.0, i64::MAX as f64]);
        assert_eq!(read(ElementType::F16)[..5], [-1.5, 0.5, 1.5, 254.625, f64::INFINITY]);
        assert_eq!(read(ElementType::Bf16)[..4], [-1.5, 0.5, 1.5, 255.0]);
        for element in [ElementType::F32, ElementType::F64] {
            assert_eq!(read(element)[..6], values[..6].iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
            assert!(read(element)[6].is_nan());
        }
    }

    #[test]
    fn slices_or_one_volume_have_the_same_order_and_their_own_shape() {
        let budget = Budget::unlimited();
        let volume = Volume::from_u8(test_grid([3, 2, 2]), (0..12).collect(), &budget).expect("12 voxels");
        let batch = volume.to_tensor(ElementType::U8, true).expect("room");
        assert_eq!((batch.shape(), batch.data()), (&[2, 1, 2, 3][..], &(0..12).collect::<Vec<u8>>()[..]));

        let two = Tensor::new(vec![2, 2, 2, 3], ElementType::U8, (0..24).collect(), &budget).expect("24 bytes");
        let second = from_tensor(&two, 1, &volume).expect("a channel").read(volume.geometry().region()).expect("all");
        assert_eq!(second, [6, 7, 8, 9, 10, 11, 18, 19, 20, 21, 22, 23].map(|v| v as f32));
        let two = Tensor::new(vec![1, 2, 2, 2, 3], ElementType::U8, (0..24).collect(), &budget).expect("24 bytes");
        let second = from_tensor(&two, 1, &volume).expect("a channel").read(volume.geometry().region()).expect("all");
        assert_eq!(second, (12..24).map(|v| v as f32).collect::<Vec<_>>());

        assert!(from_tensor(&two, 2, &volume).is_err());
        for shape in [vec![24], vec![2, 2, 3, 2], vec![2, 1, 2, 2, 3], vec![1, 0, 2, 2, 3], vec![]] {
            let bytes = shape.iter().product::<usize>();
            let wrong = Tensor::new(shape.clone(), ElementType::U8, vec![0; bytes], &budget).expect("as many bytes");
            assert!(matches!(from_tensor(&wrong, 0, &volume), Err(VolumeError::Invalid(_))), "{shape:?}");
        }
    }

    #[test]
    fn softmax_refuses_what_it_cannot_and_takes_every_axis() {
        let budget = Budget::unlimited();
        let shape = vec![2, 3, 5];
        let data: Vec<u8> = (0..30).flat_map(|i| ((i * 7 % 11) as f32).to_le_bytes()).collect();
        let t = Tensor::new(shape, ElementType::F32, data, &budget).expect("30 values");
        for (axis, length, step) in [(0, 2, 15), (1, 3, 5), (2, 5, 1)] {
            let result = softmax(&t, axis).expect("an axis");
            let p = result.as_f32().expect("aligned");
            for i in (0..30).filter(|i| i / step % length == 0) {
                let sum: f32 = (0..length).map(|k| p[i + k * step]).sum();
                assert!((sum - 1.0).abs() < 1e-6, "axis {axis} at {i}: {sum}");
            }
        }
        assert!(matches!(softmax(&t, 3), Err(VolumeError::Invalid(_))));
        let whole = Tensor::zeroed(vec![2], ElementType::I64, &budget).expect("room");
        assert!(matches!(softmax(&whole, 0), Err(VolumeError::Invalid(_))));
        let empty = Tensor::zeroed(vec![2, 0, 3], ElementType::F16, &budget).expect("room");
        assert!(softmax(&empty, 0).is_ok());
        let small = Budget::bytes(150);
        let t = Tensor::zeroed(vec![20], ElementType::F32, &small).expect("room for one");
        assert!(matches!(softmax(&t, 0), Err(VolumeError::Tensor(_))));
    }
}
