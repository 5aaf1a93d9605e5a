//! Which files to look at.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use walkdir::WalkDir;

use super::{ReadError, ReadOptions};

/// A file that may be DICOM.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    /// Named by the operator, not found in a folder: it must be DICOM.
    pub(super) named: bool,
}

/// All regular files under `paths` in a stable order, each once however often it was named.
pub(super) fn list(paths: &[PathBuf], options: &ReadOptions) -> Result<Vec<Candidate>, ReadError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut add = |path: PathBuf, named| {
        let real = fs::canonicalize(&path).map_err(|e| ReadError::io(&path, e))?;
        if seen.insert(real) {
            if found.len() >= options.files_max {
                return Err(ReadError::Limit {
                    path: None,
                    what: format!("reading more than {} files", found.len()),
                    limit: "files_max",
                    maximum: options.files_max as u64,
                });
            }
            found.push(Candidate { path, named });
        }
        Ok(())
    };
    for path in paths {
        let kind = fs::metadata(path).map_err(|e| ReadError::io(path, e))?;
        if kind.is_dir() {
            for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
                let entry = entry.map_err(|e| {
                    let at = e.path().unwrap_or(path).to_owned();
                    ReadError::io(&at, reason(e))
                })?;
                // Pipes, sockets and devices are left alone: opening one may wait for ever.
                if entry.file_type().is_file() {
                    add(entry.into_path(), false)?;
                }
            }
        } else if kind.is_file() {
            add(path.clone(), true)?;
        } else {
            return Err(ReadError::NotDicom(path.clone()));
        }
    }
    Ok(found)
}

/// Without the path, which the error that holds it shows as a terminal may see it.
fn reason(error: walkdir::Error) -> std::io::Error {
    error.into_io_error().unwrap_or_else(|| std::io::Error::other("a link leads back to a folder that holds it"))
}
