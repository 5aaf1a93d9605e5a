//! Folders and the disk that they lie on.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Access;

use super::Check;
use crate::ingest::disk::{Disk, RealDisk};
use crate::ingest::folder as watched_folder;

/// Commits a second below which a disk holds a node back.
const FSYNC_WARN_PER_S: f64 = 50.0;

pub(super) fn folder(data: Option<&Path>) -> Check {
    const NAME: &str = "node.data_folder";
    let Some(data) = data else {
        return Check::fail(NAME, "it is not set", "set it to a folder that only the user of `gantry serve` can write");
    };
    let path = data.display();
    let mode = match std::fs::metadata(data) {
        Ok(found) if found.is_dir() => found.permissions().mode(),
        Ok(_) => return Check::fail(NAME, format!("{path} is no folder"), "name a folder"),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return match rustix::fs::access(nearest(data), Access::WRITE_OK) {
                Ok(()) => Check::ok(NAME, format!("{path} will be made at the first start")),
                Err(e) => {
                    Check::fail(NAME, format!("{path} is not there and cannot be made: {e}"), "make it (mode 0700)")
                }
            };
        }
        Err(e) => return Check::fail(NAME, format!("{path}: {e}"), "let the user of `gantry serve` read it"),
    };
    if let Err(e) = rustix::fs::access(data, Access::WRITE_OK | Access::EXEC_OK) {
        return Check::fail(NAME, format!("{path} cannot be written to: {e}"), "give it to the user of `gantry serve`");
    }
    let found = format!("{path} has mode {:04o}", mode & 0o7777);
    let readable = readable_by_others(data);
    match mode & 0o077 {
        0 => Check::ok(NAME, found),
        open if open & 0o022 != 0 => Check::fail(NAME, format!("{found}: others can write there"), "chmod 0700"),
        open if open & 0o011 != 0 && !readable.is_empty() => Check::warn(
            NAME,
            format!("{found}: others can read {}, with patients' names and findings", readable.join(" and ")),
            "chmod 0700",
        ),
        open if open & 0o011 != 0 => Check::warn(
            NAME,
            format!("{found}: others can reach what is in it, as far as the modes of its files let them"),
            "chmod 0700",
        ),
        _ => Check::warn(NAME, format!("{found}: others can list what is in it, and read none of it"), "chmod 0700"),
    }
}

/// What tells of patients and is open to others, where they can enter the folder. Instances never are: their files are made with
/// mode 0600.
fn readable_by_others(data: &Path) -> Vec<&'static str> {
    let open = |name: &&str| std::fs::metadata(data.join(name)).is_ok_and(|m| m.permissions().mode() & 0o044 != 0);
    ["journal.sqlite", "results"].into_iter().filter(open).collect()
}

/// The folder, or the nearest above it that is there.
pub(super) fn nearest(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    absolute.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

pub(super) fn watched(path: &Path) -> Check {
    const NAME: &str = "folder.path";
    let shown = path.display();
    match watched_folder::check(path) {
        Ok(()) => Check::ok(NAME, format!("{shown} can be read and written")),
        Err(e) => Check::fail(NAME, format!("{shown}: {e}"), watched_folder::REMEDY),
    }
}

pub(super) fn space(data: &Path, free_min_mib: u64) -> Check {
    const NAME: &str = "disk space";
    match RealDisk.free_bytes(data).map(|bytes| bytes >> 20) {
        Ok(free) if free < free_min_mib => Check::fail(
            NAME,
            format!("{free} MiB free, less than node.disk_free_min_mib = {free_min_mib}: instances are refused"),
            "free space, or let [retention] delete",
        ),
        Ok(free) if free < free_min_mib.saturating_mul(4) => {
            Check::warn(NAME, format!("{free} MiB free, near node.disk_free_min_mib = {free_min_mib}"), "free space")
        }
        Ok(free) => Check::ok(NAME, format!("{free} MiB free")),
        Err(e) => Check::fail(NAME, e.to_string(), "check the disk"),
    }
}

/// As the intake does it: bytes, fsync.
pub(super) fn fsync(data: &Path) -> Check {
    const NAME: &str = "fsync";
    let measure = || {
        let mut file = tempfile::tempfile_in(data)?;
        let start = Instant::now();
        let mut count = 0_u32;
        while count < 500 && start.elapsed() < Duration::from_secs(1) {
            file.write_all(&[0; 4096])?;
            file.sync_all()?;
            count += 1;
        }
        Ok::<_, std::io::Error>(f64::from(count) / start.elapsed().as_secs_f64())
    };
    match measure() {
        Ok(rate) if rate < FSYNC_WARN_PER_S => Check::warn(
            NAME,
            format!("{rate:.0} a second: slow to acknowledge"),
            "put the data folder on a local SSD; one with power-loss protection is fastest",
        ),
        Ok(rate) => Check::ok(NAME, format!("{rate:.0} a second")),
        Err(e) => Check::fail(NAME, e.to_string(), "check the disk and who may write to node.data_folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::doctor::{State, check_all};

    #[test]
    fn a_folder_that_others_write_to_fails_and_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = folder.path().join("journal.sqlite");
        std::fs::write(&journal, "").expect("written");
        for (mode, of_journal, state, says) in [
            (0o700, 0o644, State::Ok, "mode 0700"),
            (0o750, 0o640, State::Warn, "others can read journal.sqlite, with patients' names"),
            (0o755, 0o600, State::Warn, "as far as the modes of its files let them"),
            (0o744, 0o644, State::Warn, "others can list what is in it, and read none of it"),
            (0o777, 0o600, State::Fail, "others can write there"),
        ] {
            std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).expect("set");
            std::fs::set_permissions(&journal, PermissionsExt::from_mode(of_journal)).expect("set");
            let check = super::folder(Some(folder.path()));
            assert_eq!((check.state, check.remedy.is_empty()), (state, state == State::Ok), "{check}");
            assert!(check.found.contains(says), "{check}");
        }
    }

    #[test]
    fn the_disk_is_measured_before_there_is_a_data_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("not/yet/there");
        let mut config = Config::default();
        config.node.data_folder = Some(data.clone());
        config.node.disk_free_min_mib = 1 << 30;
        let checks = check_all(&config);
        let state = |name: &str| checks.iter().find(|check| check.name == name).map(|check| check.state);
        assert_eq!(
            (state("node.data_folder"), state("disk space")),
            (Some(State::Ok), Some(State::Fail)),
            "{checks:?}"
        );
        assert!(matches!(state("fsync"), Some(State::Ok | State::Warn)), "{checks:?}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left behind");
        assert!(nearest(Path::new("not/yet/there")).is_dir(), "also of a path that is not absolute");
    }
}
