//! What a multipart upload has come to, beside the spool: `uploads/DIGEST.jsonl`, its beginning and a line for each part.
//!
//! Its first line is on the disk before the first part goes. Lines of parts may be lost with the power: such a part is sent again, as is
//! every part of which the server says anything else than the journal.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::requests::{Part, Unfinished};
use crate::batch::{self, Digest};

/// One that this process writes on.
pub(super) struct Journal {
    path: PathBuf,
    pub(super) begun: Begun,
    parts: Vec<Line>,
    file: Mutex<File>,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begun {
    pub(super) version: u32,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) upload_id: String,
    pub(super) part_bytes: u64,
    pub(super) bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    number: i32,
    etag: String,
    bytes: u64,
    sha256: Digest,
}

impl Begun {
    pub(super) fn upload(&self) -> Unfinished {
        Unfinished { key: self.key.clone(), upload_id: self.upload_id.clone() }
    }
}

impl Journal {
    /// Begins one, durably.
    pub(super) fn create(spool: &Path, sha256: Digest, begun: Begun) -> Result<Self, batch::Failure> {
        let path = path(spool, sha256);
        let create = || -> io::Result<File> {
            let mut file = File::create(&path)?;
            file.write_all(&line(&begun))?;
            file.sync_all()?;
            File::open(spool.join("uploads"))?.sync_all()?;
            Ok(file)
        };
        let file = create().map_err(batch::Failure::disk(&path))?;
        Ok(Self { path, begun, parts: Vec::new(), file: Mutex::new(file) })
    }

    /// The one of an object, where there is one that can be gone on with.
    pub(super) fn open(spool: &Path, sha256: Digest) -> Result<Option<Self>, batch::Failure> {
        let path = path(spool, sha256);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(batch::Failure::Disk { path, source }),
        };
        let mut lines = text.split(|byte| *byte == b'\n');
        let Some(begun) = lines.next().and_then(|line| serde_json::from_slice::<Begun>(line).ok()) else {
            // Its first line never got to the disk, so no part was ever sent.
            batch::remove(&path).map_err(batch::Failure::disk(&path))?;
            return Ok(None);
        };
        let parts = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let append = || -> io::Result<File> {
            let mut file = File::options().append(true).open(&path)?;
            if !text.ends_with(b"\n") {
                file.write_all(b"\n")?;
            }
            Ok(file)
        };
        let file = append().map_err(batch::Failure::disk(&path))?;
        Ok(Some(Self { path, begun, parts, file: Mutex::new(file) }))
    }

    /// Of the parts that a server has, those that it has as they were sent.
    pub(super) fn agreed(&self, there: Vec<Part>) -> Vec<(Part, Digest)> {
        let sent = |part: &Part| {
            let same = |line: &&Line| line.number == part.number && line.etag == part.etag && line.bytes == part.bytes;
            self.parts.iter().rev().find(same).map(|line| line.sha256)
        };
        there.into_iter().filter_map(|part| sent(&part).map(|digest| (part, digest))).collect()
    }

    /// Notes a part. Not durably: see above.
    pub(super) fn note(&self, part: &Part, sha256: Digest) -> Result<(), batch::Failure> {
        let noted = Line { number: part.number, etag: part.etag.clone(), bytes: part.bytes, sha256 };
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.write_all(&line(&noted)).map_err(batch::Failure::disk(&self.path))
    }

    /// Ends it: the upload is complete, or there is none any more.
    pub(super) fn remove(self) -> Result<(), batch::Failure> {
        batch::remove(&self.path).map_err(batch::Failure::disk(&self.path))
    }

    /// Of which objects there are journals.
    pub(super) fn all(spool: &Path) -> Result<Vec<Digest>, batch::Failure> {
        let folder = spool.join("uploads");
        let files = fs::read_dir(&folder).map_err(batch::Failure::disk(&folder))?;
        let digest = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".jsonl")?.parse().ok();
        Ok(files.flatten().filter_map(|file| digest(file.file_name())).collect())
    }
}

fn path(spool: &Path, sha256: Digest) -> PathBuf {
    spool.join("uploads").join(format!("{sha256}.jsonl"))
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings and numbers");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_of_which_both_say_the_same_are_kept_and_a_torn_line_spoils_none() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("uploads")).expect("a folder");
        let digest = Digest::of(b"object");
        let begun = Begun {
            version: 1,
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            upload_id: "u".to_owned(),
            part_bytes: 5,
            bytes: 12,
        };
        let part = |number, etag: &str, bytes| Part { number, etag: etag.to_owned(), bytes };
        let journal = Journal::create(folder.path(), digest, begun.clone()).expect("a journal");
        journal.note(&part(1, "a", 5), Digest::of(b"1")).expect("noted");
        drop(journal);
        let file = path(folder.path(), digest);
        let mut text = fs::read(&file).expect("the journal");
        text.extend_from_slice(b"{\"number\":2,\"et");
        fs::write(&file, text).expect("torn");

        let journal = Journal::open(folder.path(), digest).expect("readable").expect("there");
        journal.note(&part(3, "c", 2), Digest::of(b"3")).expect("noted");
        let journal = Journal::open(folder.path(), digest).expect("readable").expect("there");
        assert_eq!(journal.begun, begun);
        let there = vec![part(1, "a", 5), part(2, "b", 5), part(3, "other", 2)];
        assert_eq!(journal.agreed(there), [(part(1, "a", 5), Digest::of(b"1"))]);
        let there = vec![part(1, "a", 4), part(3, "c", 2)];
        assert_eq!(journal.agreed(there), [(part(3, "c", 2), Digest::of(b"3"))]);

        fs::write(&file, "{\"vers").expect("torn at once");
        assert!(Journal::open(folder.path(), digest).expect("readable").is_none());
        assert_eq!(Journal::all(folder.path()).expect("a list"), []);
    }
}
