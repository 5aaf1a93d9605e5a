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

/// Gives this thread, and those that it starts from now on, what others leave of processors and disks: nice 19, SCHED_IDLE, and
/// the idle class of I/O. What the kernel or a sandbox around this process refused is named, with its reason.
pub(crate) fn step_back() -> Vec<String> {
    let mut refused = Vec::new();
    #[cfg(target_os = "linux")]
    {
        const IOPRIO_WHO_PROCESS: libc::c_int = 1;
        const IOPRIO_CLASS_IDLE: libc::c_int = 3 << 13;
        let mut done = |call: &str, answer: libc::c_long| {
            if answer != 0 {
                refused.push(format!("{call}: {}", std::io::Error::last_os_error()));
            }
        };
        // SAFETY: setpriority(2) takes numbers and no memory; 0 is whoever calls.
        done("setpriority", unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) }.into());
        let idle = libc::sched_param { sched_priority: 0 };
        // SAFETY: sched_setscheduler(2) reads `idle`, which lives as long as the call.
        done("sched_setscheduler", unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &idle) }.into());
        // SAFETY: ioprio_set(2) takes numbers and no memory; 0 is whoever calls.
        done("ioprio_set", unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE) });
    }
    refused
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_sandbox_refuses_is_named_and_the_unit_refuses_nothing() {
        use seccompiler::{SeccompAction, SeccompFilter, TargetArch};
        let refused = std::thread::spawn(|| {
            let arch = TargetArch::try_from(std::env::consts::ARCH).expect("one that has filters");
            let rules = [(libc::SYS_setpriority, vec![]), (libc::SYS_ioprio_set, vec![])].into_iter().collect();
            let errno = SeccompAction::Errno(libc::EPERM.unsigned_abs());
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).expect("a filter");
            let program: seccompiler::BpfProgram = filter.try_into().expect("a program");
            seccompiler::apply_filter(&program).expect("applied to this thread");
            step_back()
        });
        let refused = refused.join().expect("it ends");
        let calls: Vec<_> = refused.iter().filter_map(|call| Some(call.split_once(": ")?.0)).collect();
        assert_eq!(calls, ["setpriority", "ioprio_set"], "{refused:?}");

        let unit = include_str!("../../examples/gantry.service");
        let allowed = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
        let allowed: Vec<_> =
            allowed.skip_while(|list| !list.starts_with('~')).skip(1).flat_map(str::split_whitespace).collect();
        for call in ["setpriority", "sched_setscheduler", "ioprio_set"] {
            assert!(allowed.contains(&call), "{call}");
        }
    }
}
