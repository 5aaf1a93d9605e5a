//! DICOMDIR: which files a medium says that it has (PS3.3 annex F, PS3.10 section 8).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use dicom_core::value::Value;
use dicom_dictionary_std::tags;

use super::attributes::text;
use super::{ReadError, ReadOptions, header};

/// What a DICOMDIR names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Directory {
    /// Files that are there, each below its folder.
    pub(super) files: Vec<PathBuf>,
    /// How many are not.
    pub(super) missing: usize,
}

/// Whether a file has the name that the standard gives to directories; those that are kept beside one another get a suffix.
pub(super) fn is_named(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("DICOMDIR"))
}

/// Reads the records of a file that is named so; `None` where it is no directory after all.
pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Option<Directory>, ReadError> {
    let Some(opened) = header::open_directory(path, options)? else { return Ok(None) };
    let object = opened.parse(path)?;
    let records = object.get(tags::DIRECTORY_RECORD_SEQUENCE).map(|element| element.value());
    let records = if let Some(Value::Sequence(sequence)) = records { sequence.items() } else { &[] };
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let real = folder.canonicalize().map_err(|e| ReadError::io(folder, e))?;
    let mut directory = Directory::default();
    for record in records {
        let Some(id) = text(record, tags::REFERENCED_FILE_ID) else { continue };
        let outside = || ReadError::damaged(path, "it names a file outside of its folder, and no other is opened");
        let parts: Vec<&str> = id.split('\\').map(str::trim).collect();
        let plain = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains(['/', '\0']);
        if !parts.iter().all(plain) {
            return Err(outside());
        }
        // Media are often mounted with their names in lower case.
        let found = [parts.iter().collect::<PathBuf>(), parts.iter().map(|part| part.to_lowercase()).collect()]
            .into_iter()
            .map(|file| folder.join(file))
            .find(|file| file.exists());
        match found {
            None => directory.missing += 1,
            // A link may lead anywhere.
            Some(file) if !file.canonicalize().is_ok_and(|file| file.starts_with(&real)) => return Err(outside()),
            Some(file) => directory.files.push(file),
        }
    }
    Ok(Some(directory))
}
