//! System calls for which no library has a safe name.
#![expect(unsafe_code, reason = "system calls without a wrapper; see each function")]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Lets the kernel begin to write what is dirty of a file, and does not wait. Promises nothing: a later fsync has less to do.
pub(crate) fn begin_writing(file: &File) {
    // Slower without, and right all the same: the answer is not looked at.
    #[cfg(target_os = "linux")]
    // SAFETY: sync_file_range(2) takes numbers and no memory; the descriptor is open as long as `file` is borrowed. Length 0
    // is to the end of the file.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Has threads share this many heaps, from now on.
pub(crate) fn heaps_at_most(heaps: i32) {
    // More memory without, and right all the same: the answer is not looked at.
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes numbers; setting this one is safe beside threads that allocate, since it is read where a
    // thread allocates first.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, heaps) };
    #[cfg(not(target_env = "gnu"))]
    let _ = heaps;
}
