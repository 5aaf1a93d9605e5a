//! Files that are there whole or not at all, also after the power went.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes a file under a name that nobody reads, and gives it its name once it is on the disk. `scratch` is a folder of the same
/// file system. The caller syncs the folder, once for all that it writes there.
pub(super) fn write(scratch: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unread = scratch.join(uuid::Uuid::now_v7().to_string());
    let mut file = File::create_new(&unread)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unread, path)
}

/// Makes what was created, renamed or removed in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file; it may be missing.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
