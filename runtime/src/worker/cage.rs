//! What a worker gives up before it sees anything of a vendor, and how that is tried from inside.
//!
//! Four walls. Each would do for most of what an attacker wants; a hole in one is none in the others:
//!
//! - seccomp: the kernel's functions that computing needs, and no other: nothing is opened, connected, started, traced or
//!   signalled, and no memory becomes executable;
//! - Landlock: no file by its name, no port, no signal or abstract socket beyond the process;
//! - limits: memory, the size and number of files, processor time;
//! - namespaces, where the kernel lets users have them: no network but a loopback of its own.
//!
//! What an engine needs beyond its own code is left open by name ([`Reach`]). OpenVINO loads parts of itself when a model comes,
//! and makes machine code: it reads folders of libraries. On a GPU the vendor's driver needs device nodes and most of the
//! kernel's functions too: there seccomp forbids by name. No module, no configuration and nobody's data lie in what is left open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use serde::{Deserialize, Serialize};

use super::choice::Wall;
use super::trusted_code;
use crate::inference::{Device, Provider};

/// Whether a wall stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Which.
    pub wall: Wall,
    /// Why it does not, if so.
    pub missing: Option<String>,
    /// What of it this kernel does not have, where it stands all the same: the other walls hold that alone.
    #[serde(default)]
    pub partly: Option<String>,
}

/// What was tried from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What.
    pub what: String,
    /// How the kernel refused it; nothing when it was possible.
    pub refused: Option<String>,
    /// Whether it is left open because the engine needs it.
    pub needed: bool,
}

/// What of the machine is left open to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing: its engine is all there.
    Nothing,
    /// Libraries, and machine code: the engine at this path loads parts of itself.
    Libraries(PathBuf),
    /// That, and a GPU by the driver that this provider needs.
    Gpu(Provider, Option<PathBuf>),
}

impl Reach {
    pub(super) fn of(device: Device, provider: Provider, library: Option<&Path>) -> Self {
        match (device, provider, library) {
            (Device::Gpu, provider, library) => Self::Gpu(provider, library.map(Path::to_path_buf)),
            (Device::Cpu, Provider::BuiltIn, _) | (Device::Cpu, _, None) => Self::Nothing,
            (Device::Cpu, _, Some(library)) => Self::Libraries(library.to_path_buf()),
        }
    }

    /// Descriptors that it can hold.
    fn files_max(&self) -> u64 {
        match self {
            Self::Nothing => 16,
            // Libraries are open while they are loaded; a driver has some for each context.
            Self::Libraries(_) | Self::Gpu(..) => 4096,
        }
    }
}

/// Threads that a worker may have whose engine was given so many: libraries start one for each processor besides, and drivers their
/// own.
pub(super) fn threads_max(of_engine: usize) -> u64 {
    (2 * of_engine + 4 * threads() + 64) as u64
}

/// Leaves the network and what else a user can leave. First of all, while the process has one thread.
pub(super) fn leave_namespaces() -> Kept {
    let spaces =
        CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    let missing = nix::sched::unshare(spaces).err().map(|e| e.desc().to_owned());
    Kept { wall: Wall::Namespaces, missing, partly: None }
}

/// Puts up the other walls, for this thread and all that it starts. Nothing can take them down.
pub(super) fn close(reach: &Reach, memory_mib: u64, threads_max: Option<u64>) -> Vec<Kept> {
    let kept = |wall, done: Result<Option<String>, String>| match done {
        Ok(partly) => Kept { wall, missing: None, partly },
        Err(why) => Kept { wall, missing: Some(why), partly: None },
    };
    vec![
        kept(Wall::Limits, limit(reach, memory_mib, threads_max).map(|()| None)),
        kept(Wall::Landlock, landlock(reach)),
        // Last: it forbids what the others need.
        kept(Wall::Seccomp, seccomp(reach).map(|()| None)),
    ]
}

fn limit(reach: &Reach, memory_mib: u64, threads_max: Option<u64>) -> Result<(), String> {
    let told = |e: nix::Error| e.desc().to_owned();
    // No core: it would have voxels in it. And nobody of the same user looks in.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|e| e.to_string())?;
    let bytes = memory_mib.saturating_mul(1 << 20);
    let mut limits =
        vec![(Resource::RLIMIT_CORE, 0), (Resource::RLIMIT_NOFILE, reach.files_max()), (Resource::RLIMIT_FSIZE, bytes)];
    // A driver reserves far more addresses than it uses, and pins memory.
    if !matches!(reach, Reach::Gpu(..)) {
        limits.extend([(Resource::RLIMIT_MEMLOCK, 0), (Resource::RLIMIT_DATA, bytes)]);
    }
    limits.extend(threads_max.map(|most| (Resource::RLIMIT_NPROC, most)));
    limits.into_iter().try_for_each(|(resource, most)| setrlimit(resource, most, most).map_err(told))
}

/// From now on the process may use what runs of so long may on so many threads, and a minute; without end where one may take
/// any time. The kernel ends it then.
pub(super) fn limit_processor_time(run: Option<Duration>, threads: usize) {
    let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) else { return };
    let used = (usage.user_time().tv_sec() + usage.system_time().tv_sec()).unsigned_abs();
    let run = run.map(|run| (run.as_secs() + 1).saturating_mul(threads as u64).saturating_add(used + 60));
    // It can only be refused where somebody else lowered it.
    let _ = setrlimit(Resource::RLIMIT_CPU, run.unwrap_or(libc::RLIM_INFINITY), libc::RLIM_INFINITY);
}

/// How many threads a library may start for one task.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What of it this kernel does not have, if it has not all.
fn landlock(reach: &Reach) -> Result<Option<String>, String> {
    let told = |e: landlock::RulesetError| e.to_string();
    let abi = ABI::V6;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let (readable, devices) = (readable(reach), nodes(reach));
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|r| r.handle_access(AccessNet::from_all(abi)))
        .and_then(|r| r.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create)
        .and_then(|r| r.add_rules(path_beneath_rules(readable, read)))
        .and_then(|r| r.add_rules(path_beneath_rules(devices, AccessFs::from_file(abi))));
    let status = ruleset.and_then(|r| r.restrict_self()).map_err(told)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel has no Landlock, or it is not switched on".into()),
        RulesetStatus::FullyEnforced => Ok(None),
        RulesetStatus::PartiallyEnforced => Ok(Some(lacks(status.landlock.into()))),
    }
}

/// What an interface of Landlock as old as this has no rules for.
fn lacks(abi: ABI) -> String {
    let since = [
        (ABI::V2, "moving files"),
        (ABI::V3, "truncating them"),
        (ABI::V4, "TCP"),
        (ABI::V5, "ioctl of devices"),
        (ABI::V6, "signals and abstract sockets"),
    ];
    let without: Vec<_> = since.iter().filter(|(since, _)| abi < *since).map(|(_, what)| *what).collect();
    format!("version {} has no rules for {}", abi as i32, without.join(", "))
}

/// Where the system keeps libraries, and what says where they are.
const LIBRARIES: [&str; 5] = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"];
/// What libraries ask of the machine and of their own process: processors, memory, maps.
const MACHINE: [&str; 4] = ["/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system"];
/// What NVIDIA's driver and CUDA ask of the kernel.
const NVIDIA: [&str; 7] = [
    "/usr/local/nvidia",
    "/proc/devices",
    "/proc/modules",
    "/proc/version",
    "/proc/sys/vm",
    "/sys/module/nvidia",
    "/sys/module/nvidia_uvm",
];
/// What Intel's drivers ask, and where the loader of OpenCL finds them.
const INTEL: [&str; 3] = ["/etc/OpenCL/vendors", "/sys/dev/char", "/sys/class/drm"];

/// What can be read; never a folder in which modules, configurations or anybody's data lie, unless the engine's library was put
/// there.
pub(super) fn readable(reach: &Reach) -> Vec<PathBuf> {
    let beside = |library: &Path| library.canonicalize().ok().and_then(|l| l.parent().map(Path::to_path_buf));
    let mut paths = match reach {
        Reach::Nothing => return Vec::new(),
        Reach::Libraries(library) => beside(library).into_iter().collect(),
        Reach::Gpu(provider, library) => {
            let mut paths = graphics();
            paths.push("/sys/bus/pci/devices".into());
            match provider {
                Provider::OpenVino => paths.extend(INTEL.map(PathBuf::from)),
                _ => {
                    paths.extend(NVIDIA.map(PathBuf::from));
                    paths.extend([named("/usr/local", "cuda"), named("/proc/driver", "nvidia")].concat());
                }
            }
            paths.extend(library.as_deref().and_then(beside));
            paths
        }
    };
    paths.extend(LIBRARIES.into_iter().chain(MACHINE).map(PathBuf::from));
    paths
}

/// What is in a folder under a name that begins so.
fn named(folder: &str, prefix: &str) -> Vec<PathBuf> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    names.filter(|n| n.file_name().to_string_lossy().starts_with(prefix)).map(|n| n.path()).collect()
}

/// What the kernel says of each display controller and accelerator on PCI: the devices beside it have serial numbers and
/// addresses.
fn graphics() -> Vec<PathBuf> {
    let is_one = |device: &Path| {
        let class = std::fs::read_to_string(device.join("class")).unwrap_or_default();
        ["0x03", "0x12"].iter().any(|kind| class.starts_with(kind))
    };
    let devices = named("/sys/bus/pci/devices", "");
    devices.iter().filter(|device| is_one(device)).filter_map(|device| device.canonicalize().ok()).collect()
}

/// The device nodes of a GPU's driver.
fn nodes(reach: &Reach) -> Vec<PathBuf> {
    match reach {
        Reach::Gpu(Provider::OpenVino, _) => vec!["/dev/dri".into()],
        Reach::Gpu(..) => named("/dev", "nvidia"),
        Reach::Nothing | Reach::Libraries(_) => Vec::new(),
    }
}

fn seccomp(reach: &Reach) -> Result<(), String> {
    // glibc falls back to `clone`, whose flags can be looked at.
    let no_clone3 = [(libc::SYS_clone3, vec![])].into();
    apply(no_clone3, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS.unsigned_abs()))?;
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    match reach {
        Reach::Nothing => apply(allowed()?, refused, SeccompAction::Allow),
        Reach::Libraries(_) => apply(allowed_with_libraries()?, refused, SeccompAction::Allow),
        Reach::Gpu(..) => apply(forbidden()?, SeccompAction::Allow, refused),
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn apply(rules: Rules, otherwise: SeccompAction, these: SeccompAction) -> Result<(), String> {
    let filter = SeccompFilter::new(rules, otherwise, these, std::env::consts::ARCH.try_into().map_err(told)?);
    let program: BpfProgram = filter.map_err(told)?.try_into().map_err(told)?;
    seccompiler::apply_filter(&program).map_err(|e| e.to_string())
}

fn told(error: seccompiler::BackendError) -> String {
    error.to_string()
}

/// Only when the bits of `mask` in an argument are `value`.
fn when(argument: u8, mask: u64, value: u64) -> Result<Vec<SeccompRule>, String> {
    Ok(vec![all(&[(argument, mask, value)])?])
}

/// Only when that holds for each of these.
fn all(conditions: &[(u8, u64, u64)]) -> Result<SeccompRule, String> {
    let condition = |&(argument, mask, value): &(u8, u64, u64)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value).map_err(told)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Result<_, _>>()?).map_err(told)
}

/// Only when an argument is another value.
fn unless(argument: u8, value: u64) -> Result<Vec<SeccompRule>, String> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value);
    Ok(vec![SeccompRule::new(vec![condition.map_err(told)?]).map_err(told)?])
}

/// What computing needs: memory, threads, time, and the files that it was handed.
fn allowed() -> Result<Rules, String> {
    const PLAIN: &[i64] = &[
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_pread64,
        libc::SYS_pwrite64,
        libc::SYS_readv,
        libc::SYS_writev,
        libc::SYS_lseek,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_sendmsg,
        libc::SYS_recvmsg,
        libc::SYS_ppoll,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_membarrier,
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_get_robust_list,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_restart_syscall,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_getcpu,
        libc::SYS_getpid,
        libc::SYS_getppid,
        libc::SYS_gettid,
        libc::SYS_getrandom,
        libc::SYS_getrusage,
        libc::SYS_sysinfo,
        libc::SYS_uname,
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_gettimeofday,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // Answered with ENOSYS by the filter before.
        libc::SYS_clone3,
    ];
    let mut rules: Rules = PLAIN.iter().map(|&number| (number, vec![])).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_poll, libc::SYS_time].map(|number| (number, vec![])));
    let executable = u64::from(libc::PROT_EXEC.unsigned_abs());
    let flags = |flags: i32| u64::from(flags.unsigned_abs());
    // Files that it was handed, and memory that counts: what is shared and has no file would not.
    let of_file = [(2, executable, 0), (3, flags(libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN), 0)];
    let counted = flags(libc::MAP_ANONYMOUS | libc::MAP_SHARED | libc::MAP_GROWSDOWN);
    let own = [(2, executable, 0), (3, counted, flags(libc::MAP_ANONYMOUS))];
    rules.insert(libc::SYS_mmap, vec![all(&of_file)?, all(&own)?]);
    rules.insert(libc::SYS_mprotect, when(2, executable, 0)?);
    // Its own: of others of the same user both could be changed, the host's too.
    rules.insert(libc::SYS_prlimit64, when(0, u64::from(u32::MAX), 0)?);
    rules.insert(libc::SYS_sched_setaffinity, when(0, u64::from(u32::MAX), 0)?);
    // Not F_SETOWN and F_SETSIG, by which the kernel signals for it.
    let asked = [libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_GET_SEALS];
    let asked = asked.into_iter().map(|what| all(&[(1, u64::from(u32::MAX), flags(what))]));
    rules.insert(libc::SYS_fcntl, asked.collect::<Result<_, _>>()?);
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    rules.insert(libc::SYS_clone, when(0, thread, thread)?);
    // To abort.
    rules.insert(libc::SYS_tgkill, when(0, u64::from(u32::MAX), u64::from(std::process::id()))?);
    let mut names = when(0, u64::from(u32::MAX), u64::from(libc::PR_SET_NAME.unsigned_abs()))?;
    names.extend(when(0, u64::from(u32::MAX), u64::from(libc::PR_SET_VMA.unsigned_abs()))?);
    rules.insert(libc::SYS_prctl, names);
    Ok(rules)
}

/// And what loading libraries and making machine code need. Which files these are is Landlock's to say.
fn allowed_with_libraries() -> Result<Rules, String> {
    const MORE: &[i64] = &[
        libc::SYS_openat,
        libc::SYS_readlinkat,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_statx,
        libc::SYS_getdents64,
        libc::SYS_fadvise64,
        libc::SYS_getcwd,
        libc::SYS_mprotect,
        libc::SYS_get_mempolicy,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_getgid,
        libc::SYS_getegid,
    ];
    let mut rules = allowed()?;
    rules.extend(MORE.iter().map(|&number| (number, vec![])));
    #[cfg(target_arch = "x86_64")]
    rules.extend(
        [libc::SYS_open, libc::SYS_readlink, libc::SYS_access, libc::SYS_stat, libc::SYS_lstat]
            .map(|number| (number, vec![])),
    );
    let flags = |flags: i32| u64::from(flags.unsigned_abs());
    let of_file = [(3, flags(libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN), 0)];
    let counted = flags(libc::MAP_ANONYMOUS | libc::MAP_SHARED | libc::MAP_GROWSDOWN);
    rules.insert(libc::SYS_mmap, vec![all(&of_file)?, all(&[(3, counted, flags(libc::MAP_ANONYMOUS))])?]);
    Ok(rules)
}

/// Beside a GPU's driver: what leads out of the process.
fn forbidden() -> Result<Rules, String> {
    const PLAIN: &[i64] = &[
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pidfd_send_signal,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_mount_setattr,
        libc::SYS_open_by_handle_at,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        // Of processes that share the namespace, where there is none of its own.
        libc::SYS_shmget,
        libc::SYS_shmat,
        libc::SYS_semget,
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_msgget,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
        libc::SYS_mq_open,
        libc::SYS_mq_unlink,
        // Landlock lets owners change what is said of a file.
        libc::SYS_fchmod,
        libc::SYS_fchown,
        libc::SYS_fsetxattr,
        libc::SYS_fremovexattr,
        libc::SYS_fchmodat,
        libc::SYS_fchmodat2,
        libc::SYS_fchownat,
        libc::SYS_utimensat,
        libc::SYS_setxattr,
        libc::SYS_lsetxattr,
        libc::SYS_removexattr,
        libc::SYS_lremovexattr,
        SETXATTRAT,
        REMOVEXATTRAT,
        FILE_SETATTR,
        libc::SYS_inotify_add_watch,
        libc::SYS_fanotify_init,
    ];
    let mut rules: Rules = PLAIN.iter().map(|&number| (number, vec![])).collect();
    #[cfg(target_arch = "x86_64")]
    {
        const OLD: &[i64] = &[
            libc::SYS_fork,
            libc::SYS_vfork,
            libc::SYS_chmod,
            libc::SYS_chown,
            libc::SYS_lchown,
            libc::SYS_utime,
            libc::SYS_utimes,
            libc::SYS_futimesat,
        ];
        rules.extend(OLD.iter().map(|&number| (number, vec![])));
    }
    rules.insert(libc::SYS_clone, when(0, u64::from(libc::CLONE_THREAD.unsigned_abs()), 0)?);
    rules.insert(libc::SYS_tgkill, unless(0, u64::from(std::process::id()))?);
    rules.insert(libc::SYS_prlimit64, unless(0, 0)?);
    // How processes of the same user are scheduled, the host among them.
    for number in
        [libc::SYS_sched_setaffinity, libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr]
    {
        rules.insert(number, unless(0, 0)?);
    }
    for number in [libc::SYS_setpriority, libc::SYS_ioprio_set] {
        rules.insert(number, unless(1, 0)?);
    }
    let signals = [libc::F_SETOWN, F_SETSIG, F_SETOWN_EX].into_iter();
    let signals = signals.map(|what| all(&[(1, u64::from(u32::MAX), u64::from(what.unsigned_abs()))]));
    rules.insert(libc::SYS_fcntl, signals.collect::<Result<_, _>>()?);
    #[cfg(target_arch = "x86_64")]
    {
        // The same by the numbers of x32, where a kernel has them, and those that are x32's alone.
        let others: Vec<_> = rules.iter().map(|(number, rules)| (number | X32, rules.clone())).collect();
        rules.extend(others);
        rules.extend((512..548).chain([libc::SYS_clone3]).map(|number| (number | X32, vec![])));
    }
    Ok(rules)
}

/// Of Linux 6.13 and 6.17, on all machines.
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const FILE_SETATTR: i64 = 469;
/// By which a kernel knows who takes pointers for 32 bits.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// `fcntl.h`: the C library keeps them for itself.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// Tries everything that was given up; `others`, which are none of a worker's business, among it. `threads_max` is what holds here.
pub(super) fn probe(reach: &Reach, others: &[PathBuf], threads_max: Option<u64>) -> Vec<Probe> {
    use std::fs::{File, read_dir};
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    fn io<T>(done: std::io::Result<T>) -> Result<(), String> {
        done.map(drop).map_err(|e| e.to_string())
    }
    fn nix<T>(done: nix::Result<T>) -> Result<(), String> {
        done.map(drop).map_err(|e| e.desc().to_owned())
    }
    let parent = nix::unistd::getppid();
    let mut tried: Vec<(&str, Result<(), String>)> = vec![
        ("opening a file", io(File::open("/etc/passwd"))),
        ("listing a folder", io(read_dir("/"))),
        ("pinning its parent", nix(pin(parent))),
        ("reading of other processes", io(File::open(format!("/proc/{parent}/status")))),
        ("making a file", io(File::create(std::env::temp_dir().join(format!("gantry-{}", std::process::id()))))),
        ("a TCP socket", io(TcpListener::bind("127.0.0.1:0"))),
        ("a UDP socket", io(UdpSocket::bind("127.0.0.1:0"))),
        ("a Unix socket", io(UnixDatagram::unbound())),
        ("starting a program", io(std::process::Command::new("/bin/true").spawn())),
        ("tracing its parent", nix(nix::sys::ptrace::attach(parent))),
        ("signalling its parent", nix(nix::sys::signal::kill(parent, None))),
        ("limiting its parent", nix(limit_of(parent))),
        ("a user namespace", nix(nix::sched::unshare(CloneFlags::CLONE_NEWUSER))),
        ("an environment", if std::env::vars_os().next().is_some() { Ok(()) } else { Err("it is empty".into()) }),
        ("inherited descriptors", descriptors()),
    ];
    // What lies where modules, configurations and data do.
    let folders = ["/etc", "/home", "/opt", "/root", "/srv", "/tmp", "/var"].map(PathBuf::from);
    for path in folders.iter().chain(others) {
        tried.push(("opening what others have", io(File::open(path))));
    }
    for path in others {
        // To what it is.
        let changed = std::fs::metadata(path).and_then(|found| std::fs::set_permissions(path, found.permissions()));
        tried.push(("changing the mode of what others have", io(changed)));
    }
    tried.extend(threads_max.map(|most| ("more threads than its limit", io(more_threads(most)))));
    let executable = || io(memmap2::MmapMut::map_anon(4096).and_then(memmap2::MmapMut::make_exec));
    let mut needed = Vec::new();
    match reach {
        Reach::Nothing => tried.extend([
            ("opening its own program", io(File::open("/proc/self/exe"))),
            ("reading /proc", io(File::open("/proc/self/environ"))),
            ("executable memory", executable()),
            ("more memory than its limit", io(memory())),
        ]),
        Reach::Libraries(_) => {
            tried.push(("more memory than its limit", io(memory())));
            needed.extend([("executable memory", executable()), ("libraries", io(read_dir("/usr/lib")))]);
        }
        Reach::Gpu(..) => {
            needed.extend([("executable memory", executable()), ("libraries", io(read_dir("/usr/lib")))]);
        }
    }
    let probe = |needed| {
        move |(what, done): (&str, Result<(), String>)| Probe { what: what.to_owned(), refused: done.err(), needed }
    };
    tried.into_iter().map(probe(false)).chain(needed.into_iter().map(probe(true))).collect()
}

/// One more than it may have, all at once.
fn more_threads(most: u64) -> std::io::Result<()> {
    let gate = std::sync::Mutex::new(());
    std::thread::scope(|scope| {
        let held = gate.lock();
        let one = || std::thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, || drop(gate.lock()));
        let done = (0..=most).try_for_each(|_| one().map(drop));
        drop(held);
        done
    })
}

fn limit_of(process: nix::unistd::Pid) -> nix::Result<()> {
    let process = rustix::process::Pid::from_raw(process.as_raw());
    let asked = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::prlimit(process, rustix::process::Resource::Core, asked)
        .map(drop)
        .map_err(|e| nix::Error::from_raw(e.raw_os_error()))
}

/// To where it runs anyway.
fn pin(process: nix::unistd::Pid) -> nix::Result<()> {
    nix::sched::sched_getaffinity(process).and_then(|set| nix::sched::sched_setaffinity(process, &set))
}

/// As many bytes as the limit allows, more than what is in use leaves.
fn memory() -> std::io::Result<()> {
    let (most, _) = nix::sys::resource::getrlimit(Resource::RLIMIT_DATA).map_err(std::io::Error::from)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(1 << 46);
    memmap2::MmapMut::map_anon(most).map(drop)
}

/// 0 is the socket, 1 leads nowhere, 2 to who looks at last words; of its own it has the socket twice more and what the kernel says of its memory.
fn descriptors() -> Result<(), String> {
    const OWN: usize = 3;
    let open = (3..1024).filter(|&number| trusted_code::is_open(number)).count();
    if open > OWN { Ok(()) } else { Err("there are none".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where operators keep modules, configurations and data, by docs/install.md and by habit.
    const OTHERS: [&str; 9] = [
        "/opt/gantry/modules/liver/models/liver.onnx",
        "/opt/modules/liver",
        "/etc/gantry/gantry.toml",
        "/etc/passwd",
        "/home/gantry/modules",
        "/root/.cache/gantry",
        "/srv/dicom-in",
        "/tmp/a",
        "/var/lib/gantry/journal.sqlite",
    ];

    #[test]
    fn what_an_engine_needs_is_open_and_nothing_of_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("libonnxruntime.so");
        std::fs::write(&library, b"").expect("written");
        let beside = folder.path().canonicalize().expect("there");
        let reaches = [
            Reach::of(Device::Cpu, Provider::OpenVino, Some(&library)),
            Reach::of(Device::Gpu, Provider::Cuda, Some(&library)),
            Reach::of(Device::Gpu, Provider::OpenVino, Some(&library)),
        ];
        for reach in reaches {
            let open = readable(&reach);
            assert!(open.contains(&beside) && open.iter().any(|p| p == Path::new("/usr/lib")), "{reach:?}: {open:?}");
            for path in OTHERS.map(Path::new) {
                let within = open.iter().find(|open| path.starts_with(open) && **open != beside);
                assert_eq!(within, None, "{} is open to {reach:?}", path.display());
            }
            assert!(
                open.iter().all(|open| open.is_absolute() && open.components().count() > 2
                    || open.starts_with("/lib")
                    || open.starts_with("/lib64")),
                "{open:?}"
            );
        }
    }

    #[test]
    fn what_leads_out_is_forbidden_beside_a_driver_by_every_number() {
        let rules = forbidden().expect("rules");
        let out = [
            libc::SYS_socket,
            libc::SYS_execve,
            libc::SYS_ptrace,
            libc::SYS_kill,
            libc::SYS_mount,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsmount,
            libc::SYS_mount_setattr,
            libc::SYS_process_madvise,
            libc::SYS_io_uring_setup,
            libc::SYS_fchmodat,
        ];
        for number in out {
            assert!(rules.get(&number).is_some_and(Vec::is_empty), "{number}, whatever its arguments");
            #[cfg(target_arch = "x86_64")]
            assert!(rules.get(&(number | X32)).is_some_and(Vec::is_empty), "{number} of x32");
        }
        #[cfg(target_arch = "x86_64")]
        assert_eq!(rules.get(&libc::SYS_clone), rules.get(&(libc::SYS_clone | X32)), "threads, and no processes");
    }

    #[test]
    fn an_engine_that_is_all_there_needs_nothing() {
        let library = Path::new("/opt/onnxruntime/lib/libonnxruntime.so");
        for library in [None, Some(library)] {
            let reach = Reach::of(Device::Cpu, Provider::BuiltIn, library);
            assert_eq!((readable(&reach), nodes(&reach)), (Vec::new(), Vec::new()));
        }
        assert_eq!(nodes(&Reach::of(Device::Cpu, Provider::OpenVino, Some(library))), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_an_older_landlock_lacks_is_named() {
        let all = "version 1 has no rules for moving files, truncating them, TCP, ioctl of devices, signals and abstract sockets";
        assert_eq!(lacks(ABI::V1), all);
        assert_eq!(lacks(ABI::V5), "version 5 has no rules for signals and abstract sockets");
    }
}
