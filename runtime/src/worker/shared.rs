//! Files in memory in which models and tensors go from one process to another, without anybody being able to change
//! them once they are there.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

use super::protocol::Described;
use super::trusted_code;
pub(crate) use super::trusted_code::Mapped;
use crate::inference::Output;
use crate::memory::Budget;
use crate::tensor::{ElementType, Tensor, TensorError};

/// Tensors begin at multiples of this: the widest vector register.
const ALIGNMENT: u64 = 64;
/// Bytes beside an output that are nobody's: what an engine aligns by.
const SLACK: u64 = 64 << 10;

/// Nobody changes it from now on, nor lifts that.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// An empty file.
pub(super) fn empty() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // From Linux 6.3 on; older kernels know no other way anyway.
    let file = memfd_create("gantry", flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create("gantry", flags))?;
    Ok(file.into())
}

/// Seals a file that was written. Fails when somebody can still write through a mapping.
pub(super) fn seal(file: &File) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SEALS)?)
}

/// A sealed file of these bytes.
pub(crate) fn of(bytes: &[u8]) -> io::Result<File> {
    let file = empty()?;
    file.write_all_at(bytes, 0)?;
    seal(&file)?;
    Ok(file)
}

/// A tensor, some items of one, or items of several, that is to be written.
pub(super) struct Piece<'t> {
    pub(super) element: ElementType,
    pub(super) shape: Vec<usize>,
    /// One after another.
    pub(super) bytes: Vec<&'t [u8]>,
}

impl<'t> From<&'t Tensor> for Piece<'t> {
    fn from(tensor: &'t Tensor) -> Self {
        Self { element: tensor.element(), shape: tensor.shape().to_vec(), bytes: vec![tensor.data()] }
    }
}

impl<'o> From<&Output<'o>> for Piece<'o> {
    fn from(output: &Output<'o>) -> Self {
        Self { element: output.element, shape: output.shape.clone(), bytes: vec![output.bytes] }
    }
}

/// Writes tensors one after another; where each lies.
pub(super) fn write(file: &File, pieces: &[Piece<'_>]) -> io::Result<Vec<Described>> {
    let mut offset = 0u64;
    let mut described = Vec::with_capacity(pieces.len());
    for Piece { element, shape, bytes } in pieces {
        described.push(Described { element: *element, shape: shape.clone(), offset });
        for bytes in bytes {
            file.write_all_at(bytes, offset)?;
            offset += bytes.len() as u64;
        }
        offset = offset.next_multiple_of(ALIGNMENT);
    }
    Ok(described)
}

/// Maps a file that is sealed.
///
/// # Errors
/// It is not sealed, or no file of this kind.
pub(super) fn map(file: impl AsFd) -> io::Result<Mapped> {
    let file = file.as_fd();
    match fcntl_get_seals(file) {
        Ok(seals) if seals.contains(SEALS) => trusted_code::map_sealed(file),
        _ => Err(io::Error::other("a file that is not sealed")),
    }
}

/// Tensors of a mapped file, in place.
pub(super) fn tensors(mapped: &Mapped, described: Vec<Described>, budget: &Budget) -> Result<Vec<Tensor>, TensorError> {
    let tensor = |Described { element, shape, offset }: Described| {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        Tensor::mapped(shape, element, mapped.clone(), offset, budget)
    };
    described.into_iter().map(tensor).collect()
}

/// Whether tensors lie in a sealed file, by what is said of them.
pub(super) fn are_within(file: &File, described: &[Described]) -> io::Result<()> {
    let length = file.metadata()?.len();
    let within = |Described { element, shape, offset }: &Described| {
        let bytes = Tensor::bytes_of(shape, *element).ok()? as u64;
        offset.checked_add(bytes).filter(|end| *end <= length)
    };
    let ends: Option<Vec<u64>> = described.iter().map(within).collect();
    let Some(ends) = ends else { return Err(io::Error::other("an output lies beyond the end of its file")) };
    // The file stays as long as one of its tensors does, which are what is charged for it.
    let bytes = described.iter().zip(ends).map(|(one, end)| end - one.offset + SLACK).sum::<u64>();
    if length > bytes {
        return Err(io::Error::other("the file of outputs is larger than they are"));
    }
    Ok(())
}

/// Items of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Items {
    pub(super) wanted: Range<usize>,
    /// Of the whole batch.
    pub(super) of: usize,
}

/// Tensors of a sealed file that [lie within it](are_within): in place where all of each is wanted, copied where it is some items,
/// so that nobody holds those of others.
pub(super) fn read(
    file: &File,
    described: &[Described],
    items: Option<&Items>,
    budget: &Budget,
) -> Result<Vec<Tensor>, ReadError> {
    let all = |items: &Items| {
        let have = described.iter().all(|one| one.shape.first() == Some(&items.of));
        if have { Ok(items.wanted == (0..items.of)) } else { Err(ReadError::NoBatch) }
    };
    if items.map_or(Ok(true), all)? {
        return Ok(tensors(&map(file)?, described.to_vec(), budget)?);
    }
    let tensor = |Described { element, shape, offset }: &Described| {
        let bytes = Tensor::bytes_of(shape, *element)? as u64;
        let (mut shape, mut offset) = (shape.clone(), *offset);
        if let Some(Items { wanted, of }) = items {
            let Some(batch) = shape.first_mut().filter(|batch| *batch == of) else { return Err(ReadError::NoBatch) };
            *batch = wanted.len();
            offset += bytes / (*of).max(1) as u64 * wanted.start as u64;
        }
        let mut tensor = Tensor::zeroed(shape, *element, budget)?;
        file.read_exact_at(tensor.data_mut(), offset)?;
        Ok(tensor)
    };
    described.iter().map(tensor).collect()
}

/// Why outputs cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("its manifest says `batch = true`, but an output has not one item for each of the inputs")]
    NoBatch,
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors_of(numbers: &[&[f32]]) -> Vec<Tensor> {
        let tensor = |n: &&[f32]| {
            let bytes = bytemuck::cast_slice(n).to_vec();
            Tensor::new(vec![n.len()], ElementType::F32, bytes, &Budget::unlimited()).expect("sound")
        };
        numbers.iter().map(tensor).collect()
    }

    #[test]
    fn tensors_come_out_as_they_went_in_and_cannot_be_changed() {
        let sent = tensors_of(&[&[1.0, 2.0, 3.0], &[], &[4.0]]);
        let file = empty().expect("a file");
        let pieces: Vec<_> = sent.iter().map(Piece::from).collect();
        let described = write(&file, &pieces).expect("written");
        assert!(map(&file).is_err(), "not sealed yet");
        seal(&file).expect("sealed");
        file.write_all_at(b"x", 0).expect_err("sealed");
        file.set_len(0).expect_err("sealed");
        let mapped = map(&file).expect("mapped");
        let there = tensors(&mapped, described.clone(), &Budget::unlimited()).expect("there");
        let copied = read(&file, &described, None, &Budget::unlimited()).expect("there");
        for (n, tensor) in sent.iter().enumerate() {
            assert_eq!((tensor.shape(), tensor.data()), (there[n].shape(), there[n].data()));
            assert_eq!(tensor.data(), copied[n].data());
            assert!(there[n].data().as_ptr().addr().is_multiple_of(4), "in place for f32");
        }
    }

    #[test]
    fn items_of_several_are_one_batch_and_each_gets_its_own() {
        let sent = tensors_of(&[&[1.0, 2.0], &[3.0, 4.0, 5.0]]);
        let piece = Piece {
            element: ElementType::F32,
            shape: vec![5, 1],
            bytes: sent.iter().map(|tensor| tensor.data()).collect(),
        };
        let file = empty().expect("a file");
        let described = write(&file, &[piece]).expect("written");
        for (wanted, tensor) in [(0..2, &sent[0]), (2..5, &sent[1])] {
            let items = Items { wanted, of: 5 };
            let got = read(&file, &described, Some(&items), &Budget::unlimited()).expect("there");
            assert_eq!((got[0].shape()[0], got[0].data()), (items.wanted.len(), tensor.data()));
        }
        let items = Items { wanted: 0..2, of: 4 };
        let refused = read(&file, &described, Some(&items), &Budget::unlimited());
        assert!(matches!(refused, Err(ReadError::NoBatch)), "{refused:?}");
    }

    #[test]
    fn what_lies_outside_of_the_file_is_no_tensor() {
        let file = of(&[0; 64]).expect("a file");
        let mapped = map(&file).expect("mapped");
        let budget = Budget::bytes(1 << 20);
        for (shape, offset) in [(vec![17], 0), (vec![1], 61), (vec![1], u64::MAX), (vec![usize::MAX, 2], 0)] {
            let described = vec![Described { element: ElementType::F32, shape, offset }];
            assert!(are_within(&file, &described).is_err());
            assert!(tensors(&mapped, described, &budget).is_err());
        }
        assert_eq!(budget.used(), 0);
    }
}
