//! Files that a process named and was killed before the journal had them: nobody was told that they are kept, and no retention would
//! ever find them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::blocking;
use crate::store::{Store, StoreError};
use crate::study::{self, ReadOptions};

/// Looked at is what was written so long before the latest: nothing is on its way to the journal for longer.
const ON_THE_WAY_MAX: Duration = Duration::from_secs(60);
/// An hour that ended meanwhile, and the one before it.
const FOLDERS: usize = 2;

/// Takes them away; how many. One that cannot be read stays, since nobody can say that no row is of it.
///
/// # Errors
/// The journal's, or the file system's.
pub(crate) async fn remove(store: &Store, data: &Path, options: &ReadOptions) -> Result<usize, StoreError> {
    let unknown = |e: io::Error| StoreError::Open(format!("instances/ cannot be looked at: {e}"));
    let mut removed = 0;
    for path in latest(&data.join("instances")).map_err(unknown)? {
        let (file, options) = (path.clone(), options.clone());
        let Ok(entry) = blocking(move || study::inspect(&file, &options)).await else { continue };
        let below = path.strip_prefix(data).unwrap_or(&path).to_string_lossy();
        let row = store.instance(&entry.sop_instance_uid).await?;
        if row.is_some_and(|row| row.path == below) || store.is_set_aside(&below).await? {
            continue;
        }
        fs::remove_file(&path).map_err(unknown)?;
        removed += 1;
    }
    Ok(removed)
}

/// Files of the latest folders that were written shortly before the latest.
fn latest(instances: &Path) -> io::Result<Vec<PathBuf>> {
    let mut hours = Vec::new();
    for day in sorted(instances)?.iter().rev().take(FOLDERS) {
        hours.extend(sorted(day)?.into_iter().rev());
    }
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for hour in hours.iter().take(FOLDERS) {
        for entry in fs::read_dir(hour)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    let newest = files.iter().map(|(written, _)| *written).max();
    files.retain(|(written, _)| newest.is_some_and(|newest| *written + ON_THE_WAY_MAX >= newest));
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.is_dir());
    paths.sort();
    Ok(paths)
}
