//! The two things that a worker needs and the compiler cannot check.
#![expect(unsafe_code, reason = "mapping memory and closing descriptors that nobody owns; see each function")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// A file of which nobody can change a byte or the length, mapped to be read.
#[derive(Debug, Clone)]
pub(crate) struct Mapped(Option<Arc<memmap2::Mmap>>);

impl Mapped {
    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |mapped| mapped.as_ref())
    }
}

/// Maps a file in memory that is sealed against writing, growing and shrinking, which the caller has looked at.
pub(super) fn map_sealed(file: BorrowedFd<'_>) -> io::Result<Mapped> {
    // Asked for here: the library would ask in a way that a worker may not.
    let length = usize::try_from(rustix::fs::fstat(file)?.st_size).map_err(io::Error::other)?;
    // An empty file cannot be mapped.
    if length == 0 {
        return Ok(Mapped(None));
    }
    // SAFETY: the kernel refuses every change to a file with these seals, by whatever descriptor or mapping, for as long
    // as it exists; so the bytes are as constant as a slice must be.
    let mapped = unsafe { memmap2::MmapOptions::new().len(length).map(file.as_raw_fd()) }?;
    Ok(Mapped(Some(Arc::new(mapped))))
}

/// Closes every descriptor from 3 on. A worker calls it first of all, before it has opened any: what is open there was left
/// by whoever started the program.
pub(super) fn close_inherited() -> io::Result<usize> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    let mut closed = 0;
    for number in open {
        // The one of the folder that was just read is closed by now.
        if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            continue;
        }
        // SAFETY: no object of this process owns it: `main` has opened nothing yet, and the standard library keeps no
        // descriptor above 2.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        closed += 1;
    }
    Ok(closed)
}

/// Whether there is a descriptor of this number.
pub(super) fn is_open(number: i32) -> bool {
    // SAFETY: the number is only asked about, which is sound for one that is not open too, and not kept.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(descriptor).is_ok()
}
