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

/// Gives this thread, and those that it starts from now on, little of the processors where others want them: nice 19.
pub(crate) fn step_back() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: setpriority(2) takes numbers and no memory; 0 is whoever calls.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Gives this thread what others leave of processors and disks, which may be nothing for seconds: SCHED_IDLE, and the idle class of
/// I/O. Not for one that others wait for.
pub(crate) fn take_what_is_left() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        const IOPRIO_WHO_PROCESS: libc::c_int = 1;
        const IOPRIO_CLASS_IDLE: libc::c_int = 3 << 13;
        // SAFETY: ioprio_set(2) takes numbers and no memory; 0 is whoever calls. sched_setscheduler(2) reads the structure that it is
        // given, which lives as long as the call.
        let done = unsafe {
            libc::sched_setscheduler(0, libc::SCHED_IDLE, &libc::sched_param { sched_priority: 0 }) == 0
                && libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE) == 0
        };
        if !done {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}
