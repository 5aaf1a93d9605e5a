//! Voxels in memory, in the type in which they came: a CT stays 16-bit, labels stay 8-bit.

use std::sync::Arc;

use super::view::Placement;
use crate::geometry::Region;
use crate::memory::Charge;

/// The voxels of one grid: parts that lie behind one another along z, so that putting slabs together copies nothing.
pub(super) struct Storage {
    size: [usize; 3],
    /// First slice of each part, and the part.
    parts: Vec<(usize, Arc<Part>)>,
}

/// Voxels that were allocated together.
pub(super) struct Part {
    depth: usize,
    voxels: Voxels,
    _charge: Charge,
}

/// x fastest, then y, then z.
pub(super) enum Voxels {
    U8(Vec<u8>),
    U16 { stored: Vec<u16>, slope: f32, intercept: f32 },
    I16 { stored: Vec<i16>, slope: f32, intercept: f32 },
    F32(Vec<f32>),
    Runs(Runs),
}

/// Runs of equal, non-zero labels; everything else is 0.
pub(super) struct Runs {
    /// For each row, where its runs begin in `runs`; one more at the end.
    pub(super) rows: Vec<u32>,
    pub(super) runs: Vec<Run>,
}

/// Voxels `begin..end` of one row have the value `label`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) begin: u32,
    pub(super) end: u32,
    pub(super) label: u16,
}

/// The smallest type that holds every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    U8,
    U16,
    F32,
}

impl Kind {
    /// The smallest type that holds `value`.
    pub(super) fn of(value: f32) -> Self {
        if f32::from(value as u8) == value {
            Self::U8
        } else if f32::from(value as u16) == value {
            Self::U16
        } else {
            Self::F32
        }
    }
}

/// What voxels are read as: `f32` for arithmetic, `u16` for labels.
pub(super) trait Lane: Copy + Default {
    fn from_u8(v: u8) -> Self;
    fn from_u16(v: u16) -> Self;
    fn from_f32(v: f32) -> Self;
}

impl Lane for f32 {
    fn from_u8(v: u8) -> Self {
        v.into()
    }
    fn from_u16(v: u16) -> Self {
        v.into()
    }
    fn from_f32(v: f32) -> Self {
        v
    }
}

/// Saturates what is no label; callers ask for it only where [`Storage::kind`] says that everything is one.
impl Lane for u16 {
    fn from_u8(v: u8) -> Self {
        v.into()
    }
    fn from_u16(v: u16) -> Self {
        v
    }
    fn from_f32(v: f32) -> Self {
        v as u16
    }
}

impl Storage {
    /// One part of `size`; the caller has checked that `voxels` are as many.
    pub(super) fn new(size: [usize; 3], voxels: Voxels, charge: Charge) -> Self {
        Self { size, parts: vec![(0, Arc::new(Part { depth: size[2], voxels, _charge: charge }))] }
    }

    /// Storages of the same size in x and y behind one another.
    pub(super) fn stacked<'a>(storages: impl IntoIterator<Item = &'a Storage>) -> Self {
        let mut stack = Self { size: [0; 3], parts: Vec::new() };
        for storage in storages {
            for (first, part) in &storage.parts {
                stack.parts.push((stack.size[2] + first, Arc::clone(part)));
            }
            stack.size = [storage.size[0], storage.size[1], stack.size[2] + storage.size[2]];
        }
        stack
    }

    pub(super) fn size(&self) -> [usize; 3] {
        self.size
    }

    pub(super) fn kind(&self) -> Kind {
        self.parts.iter().map(|(_, part)| part.voxels.kind()).max().unwrap_or(Kind::U8)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, part)| part.voxels.bytes() as u64).sum()
    }

    /// The part that holds all of these slices, and its first slice; none where they lie in several.
    pub(super) fn part(&self, slices: std::ops::Range<usize>) -> Option<(usize, &Voxels)> {
        let at = self.parts.partition_point(|(first, _)| *first <= slices.start).checked_sub(1)?;
        let (first, part) = self.parts.get(at)?;
        (slices.end <= first + part.depth).then_some((*first, &part.voxels))
    }

    /// The voxels of a block, where they lie one after the other in one part: those of that part, and which of them.
    pub(super) fn together(&self, block: Region) -> Option<(&Voxels, std::ops::Range<usize>)> {
        let ([nx, ny, _], [x, y, z], [width, height, depth]) = (self.size, block.start, block.size);
        let in_order = (width == nx || height * depth == 1) && (height == ny || depth == 1);
        let (first, voxels) = self.part(z..z + depth).filter(|_| in_order)?;
        let begin = ((z - first) * ny + y) * nx + x;
        Some((voxels, begin..begin + block.voxels()))
    }

    /// Reads the voxels of `source` into `out` where `placement` says.
    pub(super) fn load<T: Lane>(&self, source: Region, placement: Placement, out: &mut [T]) {
        let Placement { offset, strides } = placement;
        let x = source.start[0]..source.start[0] + source.size[0];
        let mut part = self.parts.partition_point(|(first, _)| *first <= source.start[2]).saturating_sub(1);
        for z in 0..source.size[2] {
            while source.start[2] + z >= self.parts[part].0 + self.parts[part].1.depth {
                part += 1;
            }
            let (first, ref stored) = self.parts[part];
            for y in 0..source.size[1] {
                let row = (source.start[2] + z - first) * self.size[1] + source.start[1] + y;
                let at = offset + y as isize * strides[1] + z as isize * strides[2];
                let sink = Sink { out, at, stride: strides[0] };
                stored.voxels.load_row(row, x.clone(), self.size[0], sink);
            }
        }
    }
}

impl Voxels {
    fn kind(&self) -> Kind {
        match self {
            Self::U8(_) => Kind::U8,
            Self::U16 { slope: 1.0, intercept: 0.0, .. } | Self::Runs(_) => Kind::U16,
            Self::U16 { .. } | Self::I16 { .. } | Self::F32(_) => Kind::F32,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::U8(stored) => stored.len(),
            Self::U16 { stored, .. } => size_of_val(&stored[..]),
            Self::I16 { stored, .. } => size_of_val(&stored[..]),
            Self::F32(stored) => size_of_val(&stored[..]),
            Self::Runs(Runs { rows, runs }) => size_of_val(&rows[..]) + size_of_val(&runs[..]),
        }
    }

    /// Voxels `x` of a row of `width`.
    fn load_row<T: Lane>(&self, row: usize, x: std::ops::Range<usize>, width: usize, mut sink: Sink<'_, T>) {
        let at = row * width + x.start..row * width + x.end;
        match self {
            Self::U8(stored) => sink.put(&stored[at], T::from_u8),
            Self::U16 { stored, slope: 1.0, intercept: 0.0 } => sink.put(&stored[at], T::from_u16),
            Self::U16 { stored, slope, intercept } => {
                sink.put(&stored[at], |v| T::from_f32(f32::from(v) * slope + intercept));
            }
            Self::I16 { stored, slope, intercept } => {
                sink.put(&stored[at], |v| T::from_f32(f32::from(v) * slope + intercept));
            }
            Self::F32(stored) => sink.put(&stored[at], T::from_f32),
            Self::Runs(Runs { rows, runs }) => {
                sink.put_same(0, x.len(), T::default());
                for run in &runs[rows[row] as usize..rows[row + 1] as usize] {
                    let (begin, end) = ((run.begin as usize).max(x.start), (run.end as usize).min(x.end));
                    if begin < end {
                        sink.put_same(begin - x.start, end - begin, T::from_u16(run.label));
                    }
                }
            }
        }
    }
}

/// A row of a buffer that is written forwards, backwards or with a step.
pub(super) struct Sink<'a, T> {
    pub(super) out: &'a mut [T],
    /// Element that takes the first value.
    pub(super) at: isize,
    pub(super) stride: isize,
}

impl<T: Copy> Sink<'_, T> {
    /// Writes a row.
    pub(super) fn put<S: Copy>(&mut self, row: &[S], convert: impl Fn(S) -> T) {
        let first = element(self.at);
        match self.stride {
            1 => {
                for (o, v) in self.out[first..first + row.len()].iter_mut().zip(row) {
                    *o = convert(*v);
                }
            }
            -1 => {
                for (o, v) in self.out[first + 1 - row.len()..=first].iter_mut().rev().zip(row) {
                    *o = convert(*v);
                }
            }
            stride => {
                for (i, v) in row.iter().enumerate() {
                    self.out[element(self.at + i as isize * stride)] = convert(*v);
                }
            }
        }
    }

    /// Writes `value` to elements `from..from + length` of the row.
    fn put_same(&mut self, from: usize, length: usize, value: T) {
        let first = self.at + from as isize * self.stride;
        match self.stride {
            1 => self.out[element(first)..element(first) + length].fill(value),
            -1 => self.out[element(first) + 1 - length..=element(first)].fill(value),
            stride => {
                for i in 0..length {
                    self.out[element(first + i as isize * stride)] = value;
                }
            }
        }
    }
}

fn element(at: isize) -> usize {
    usize::try_from(at).expect("a placement stays inside its buffer")
}
