//! Which files to look at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::{ReadError, ReadOptions, directory};

/// A file that may be DICOM.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    /// Named by the operator, not found in a folder or a DICOMDIR: it must be DICOM.
    pub(super) named: bool,
}

/// What there is to look at.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In a stable order.
    pub(super) candidates: Vec<Candidate>,
    /// How many more files DICOMDIRs name.
    pub(super) missing: usize,
    seen: BTreeSet<PathBuf>,
}

/// All regular files under `paths`, and those that a DICOMDIR among `paths` names, each once however often it was named.
pub(super) fn list(paths: &[PathBuf], options: &ReadOptions) -> Result<Found, ReadError> {
    let mut found = Found::default();
    for path in paths {
        let kind = fs::metadata(path).map_err(|e| ReadError::io(path, e))?;
        if kind.is_dir() {
            found.folder(path, options)?;
        } else if !kind.is_file() {
            return Err(ReadError::NotDicom(path.clone()));
        } else if let Some(directory) = directory_at(path, options)? {
            found.missing += directory.missing;
            for file in directory.files {
                found.add(file, false, options)?;
            }
        } else {
            found.add(path.clone(), true, options)?;
        }
    }
    if found.missing > 0 && options.strict {
        return Err(ReadError::Missing { files: found.missing });
    }
    Ok(found)
}

/// The DICOMDIR at `path`, if it is one.
fn directory_at(path: &Path, options: &ReadOptions) -> Result<Option<directory::Directory>, ReadError> {
    if directory::is_named(path) { directory::read(path, options) } else { Ok(None) }
}

impl Found {
    fn folder(&mut self, path: &Path, options: &ReadOptions) -> Result<(), ReadError> {
        for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
            let entry = entry.map_err(|e| {
                let at = e.path().unwrap_or(path).to_owned();
                ReadError::io(&at, reason(e))
            })?;
            // Pipes, sockets and devices are left alone: opening one may wait for ever.
            if !entry.file_type().is_file() {
                continue;
            }
            // What it names lies in this folder, and is found in any case.
            self.missing += directory_at(entry.path(), options)?.map_or(0, |directory| directory.missing);
            self.add(entry.into_path(), false, options)?;
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, named: bool, options: &ReadOptions) -> Result<(), ReadError> {
        let real = fs::canonicalize(&path).map_err(|e| ReadError::io(&path, e))?;
        if !self.seen.insert(real) {
            return Ok(());
        }
        if self.candidates.len() >= options.files_max {
            return Err(ReadError::Limit {
                path: None,
                what: format!("reading more than {} files", self.candidates.len()),
                limit: "files_max",
                maximum: options.files_max as u64,
            });
        }
        self.candidates.push(Candidate { path, named });
        Ok(())
    }
}

/// Without the path, which the error that holds it shows as a terminal may see it.
fn reason(error: walkdir::Error) -> std::io::Error {
    error.into_io_error().unwrap_or_else(|| std::io::Error::other("a link leads back to a folder that holds it"))
}
