//! A tensor on the host: what volumes become, and what engines take and give.

use crate::memory::{Budget, Charge, OverBudget};
use crate::worker::Mapped;

/// Type of every element of a [`Tensor`]: those of wasi-nn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Unsigned 8 bits.
    U8,
    /// Signed 32 bits.
    I32,
    /// Signed 64 bits.
    I64,
}

impl ElementType {
    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
        })
    }
}

/// Row-major, little-endian elements, charged to the job's budget. The length is always that of the shape.
pub struct Tensor {
    shape: Vec<usize>,
    element: ElementType,
    data: Data,
    charge: Charge,
}

enum Data {
    Owned(Vec<u8>),
    /// A range of what another process handed over.
    Mapped(Mapped, std::ops::Range<usize>),
}

/// Why a tensor cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The product of the dimensions overflows.
    #[error("a tensor of shape {0:?} cannot be addressed")]
    Overflow(Vec<usize>),
    /// Data and shape disagree.
    #[error("a {element} tensor of shape {shape:?} has {expected} bytes, but {got} were given")]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// The element type.
        element: ElementType,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// No room.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
}

impl Tensor {
    /// Takes `data` as the elements of a tensor of this shape.
    pub fn new(shape: Vec<usize>, element: ElementType, data: Vec<u8>, budget: &Budget) -> Result<Self, TensorError> {
        let expected = Self::bytes_of(&shape, element)?;
        if data.len() != expected {
            return Err(TensorError::Length { shape, element, expected, got: data.len() });
        }
        let charge = budget.charge(expected as u64)?;
        Ok(Self { shape, element, data: Data::Owned(data), charge })
    }

    /// A tensor of zeros, charged before it is allocated.
    pub fn zeroed(shape: Vec<usize>, element: ElementType, budget: &Budget) -> Result<Self, TensorError> {
        let bytes = Self::bytes_of(&shape, element)?;
        let charge = budget.charge(bytes as u64)?;
        Ok(Self { shape, element, data: Data::Owned(vec![0; bytes]), charge })
    }

    /// A tensor that lies in memory which nobody can change, so many bytes from its start.
    pub(crate) fn mapped(
        shape: Vec<usize>,
        element: ElementType,
        mapped: Mapped,
        offset: usize,
        budget: &Budget,
    ) -> Result<Self, TensorError> {
        let expected = Self::bytes_of(&shape, element)?;
        let range = offset..offset.saturating_add(expected);
        let got = mapped.bytes().get(range.clone()).map(<[u8]>::len);
        if got != Some(expected) {
            let got = mapped.bytes().len().saturating_sub(offset);
            return Err(TensorError::Length { shape, element, expected, got });
        }
        let charge = budget.charge(expected as u64)?;
        Ok(Self { shape, element, data: Data::Mapped(mapped, range), charge })
    }

    /// Bytes that a tensor of this shape takes.
    pub fn bytes_of(shape: &[usize], element: ElementType) -> Result<usize, TensorError> {
        shape
            .iter()
            .try_fold(element.bytes(), |n, &d| n.checked_mul(d))
            .filter(|&n| isize::try_from(n).is_ok())
            .ok_or_else(|| TensorError::Overflow(shape.to_vec()))
    }

    /// Size of each dimension, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Type of the elements.
    #[must_use]
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The budget that it is charged to.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.charge.budget()
    }

    /// The elements.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match &self.data {
            Data::Owned(data) => data,
            Data::Mapped(mapped, range) => &mapped.bytes()[range.clone()],
        }
    }

    /// The elements alone; the budget gets its bytes back.
    #[must_use]
    pub fn into_data(self) -> Vec<u8> {
        match self.data {
            Data::Owned(data) => data,
            Data::Mapped(mapped, range) => mapped.bytes()[range].to_vec(),
        }
    }

    /// The elements, to be written: copied before, where they are not the tensor's own.
    pub fn data_mut(&mut self) -> &mut [u8] {
        if let Data::Mapped(mapped, range) = &self.data {
            self.data = Data::Owned(mapped.bytes()[range.clone()].to_vec());
        }
        match &mut self.data {
            Data::Owned(data) => data,
            Data::Mapped(..) => &mut [],
        }
    }

    /// The elements as `f32`, if they are and lie aligned in memory.
    #[must_use]
    pub fn as_f32(&self) -> Option<&[f32]> {
        (self.element == ElementType::F32).then(|| bytemuck::try_cast_slice(self.data()).ok()).flatten()
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {:?})", self.element, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_overflow_and_budget_are_checked() {
        let budget = Budget::bytes(64);
        let new =
            |shape: &[usize], bytes: usize| Tensor::new(shape.to_vec(), ElementType::F32, vec![0; bytes], &budget);
        assert!(new(&[2, 3], 24).is_ok());
        assert!(matches!(new(&[2, 3], 23), Err(TensorError::Length { expected: 24, got: 23, .. })));
        assert!(matches!(new(&[usize::MAX, 2], 0), Err(TensorError::Overflow(_))));
        assert!(matches!(new(&[17], 68), Err(TensorError::OverBudget(_))));
        assert!(new(&[0, 4], 0).is_ok(), "an empty tensor is a tensor");
        assert_eq!(budget.used(), 0);
    }
}
