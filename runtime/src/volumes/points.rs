//! Operations on one value at a time.

use super::storage::Kind;

/// One operation, in f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum PointOp {
    /// `scale · v + shift`.
    Affine { scale: f32, shift: f32 },
    /// Limited to `low..=high`; NaN stays NaN.
    Clip { low: f32, high: f32 },
    /// `(v - low) / width`, limited to 0..=1.
    Window { low: f32, width: f32 },
    /// `(v - mean) / deviation`.
    Standardize { mean: f32, deviation: f32 },
    /// 1 where `low <= v <= high`, else 0.
    Threshold { low: f32, high: f32 },
    /// 1 where `v` is `value`, else 0.
    Label { value: u32 },
}

impl PointOp {
    /// The smallest type that holds every result.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Threshold { .. } | Self::Label { .. } => Kind::U8,
            _ => Kind::F32,
        }
    }

    fn apply(self, values: &mut [f32]) {
        fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
            values.iter_mut().for_each(|v| *v = f(*v));
        }
        match self {
            Self::Affine { scale, shift } => each(values, |v| scale * v + shift),
            Self::Clip { low, high } => each(values, |v| v.clamp(low, high)),
            Self::Window { low, width } => each(values, |v| ((v - low) / width).clamp(0.0, 1.0)),
            Self::Standardize { mean, deviation } => each(values, |v| (v - mean) / deviation),
            Self::Threshold { low, high } => each(values, |v| if v >= low && v <= high { 1.0 } else { 0.0 }),
            Self::Label { value } => {
                // Only then is a whole number a value of f32 that no other whole number shares.
                let wanted = if value <= 1 << 24 { value as f32 } else { f32::NAN };
                each(values, |v| if v == wanted { 1.0 } else { 0.0 });
            }
        }
    }
}

/// Voxels that stay in the first-level cache.
pub(super) const PIECE: usize = if cfg!(test) { 16 } else { 4096 };

/// Applies all operations, in pieces that stay in the first-level cache.
pub(super) fn apply(ops: &[PointOp], values: &mut [f32]) {
    for piece in values.chunks_mut(PIECE) {
        for op in ops {
            op.apply(piece);
        }
    }
}
