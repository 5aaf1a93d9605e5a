//! The few things that the write path asks of a file system, so that a test can record them and cut them short anywhere.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// For a file descriptor to become free.
const DESCRIPTOR_WAIT: Duration = Duration::from_secs(60);
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(10);

/// A file system.
pub trait Disk: Send + Sync + 'static {
    /// A new file that only its owner may read.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames within the file system; what was at `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes what happened to names in `folder` durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Makes a folder and those above it.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and everything in it.
    fn remove_tree(&self, folder: &Path) -> io::Result<()>;
    /// Removes a folder in which nothing is.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;
    /// Bytes that are free.
    fn free_bytes(&self, folder: &Path) -> io::Result<u64>;
}

/// A file that is being written.
pub trait DiskFile: Send {
    /// Adds bytes.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Lets the disk begin with the bytes, and waits for nothing. Promises nothing.
    fn begin_sync(&self) {}
    /// Makes the bytes durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The one that the operating system gives.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        opened(folder)?.sync_all()
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_tree(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir_all(folder)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        fs::remove_dir(folder)
    }

    fn free_bytes(&self, folder: &Path) -> io::Result<u64> {
        let space = rustix::fs::statvfs(folder)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// Waits where the process has as many files open as it may: that says nothing of the disk, and passes.
fn opened(folder: &Path) -> io::Result<File> {
    let deadline = Instant::now() + DESCRIPTOR_WAIT;
    loop {
        match File::open(folder) {
            Err(e) if too_many(&e) && Instant::now() < deadline => std::thread::sleep(DESCRIPTOR_PAUSE),
            opened => return opened,
        }
    }
}

fn too_many(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn begin_sync(&self) {
        crate::trusted_code::begin_writing(self);
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
