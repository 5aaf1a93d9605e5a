//! A catalogue as a reader meets it: in a bucket, or in a folder that is laid out as one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;

use super::tables::Table;
use crate::batch::{self, Digest, Id, MANIFEST_BYTES_MAX, Manifest, PublicKey, Sealed, Site};
use crate::s3::{self, Pages, Reader};

const MIB: u64 = 1024 * 1024;
/// Files of a catalogue that are looked at.
const FILES_MAX: usize = 1_000_000;

/// Where a catalogue lies.
pub enum Source {
    /// A folder with `catalog/` and the sites in it, such as a copy of a bucket.
    Folder(PathBuf),
    /// A bucket, below the prefix of its configuration.
    Bucket(Box<Reader>),
}

/// Why a catalogue cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The operator's: nothing is there.
    #[error("there is no catalogue in {0}: it has no file catalog/TABLE/site=SITE/date=YYYY-MM-DD/BATCH.parquet")]
    Nothing(String),
    /// The machine's.
    #[error("{path} cannot be read: {source}")]
    Disk {
        /// What.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A limit.
    #[error("{what} is more than {limit} = {maximum}: raise it, or take a narrower source")]
    Limit {
        /// What there is.
        what: String,
        /// Its name.
        limit: &'static str,
        /// What it is.
        maximum: u64,
    },
    /// The site's, or of somebody between: a file is not what a signed manifest says.
    #[error("{key} {why}")]
    Untrusted {
        /// Which file.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// Of the bucket.
    #[error(transparent)]
    Bucket(#[from] s3::Failure),
}

/// A file of a catalogue, by its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Located {
    pub(super) site: Site,
    pub(super) date: NaiveDate,
    pub(super) batch: Id,
    pub(super) table: Table,
}

/// What a manifest says of a batch's catalogue, and whether it is believed.
pub(super) enum Said {
    /// There is no manifest.
    Nothing,
    /// Nobody asked for a signature.
    Unchecked(Box<Manifest>),
    /// Signed by the key that was given.
    Checked(Box<Manifest>),
    /// It cannot be believed.
    Wrong(String),
}

/// A folder of this machine that has a catalogue's files.
pub struct Local {
    /// In which `catalog/` lies.
    pub root: PathBuf,
    /// Tables of which there are files.
    pub tables: Vec<Table>,
}

/// Where files of a bucket may be copied to, and how much.
#[derive(Debug, Clone, Copy)]
pub struct Mirror<'m> {
    /// An empty folder, which the caller deletes.
    pub folder: &'m Path,
    /// The most, MiB.
    pub mirror_max_mib: u64,
}

impl Located {
    /// From a key below the prefix.
    fn parse(path: &str) -> Option<Self> {
        let mut parts = path.split('/');
        if parts.next() != Some("catalog") {
            return None;
        }
        let table = Table::named(parts.next()?)?;
        let site = parts.next()?.strip_prefix("site=")?.parse().ok()?;
        let date = parts.next()?.strip_prefix("date=")?.parse().ok()?;
        let batch = parts.next()?.strip_suffix(".parquet")?.parse().ok()?;
        parts.next().is_none().then_some(Self { site, date, batch, table })
    }

    pub(super) fn path(&self) -> String {
        let Self { site, date, batch, table } = self;
        format!("catalog/{}/site={site}/date={date}/{batch}.parquet", table.name())
    }
}

impl Source {
    /// For people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Bucket(reader) => reader.url(),
        }
    }

    /// Every file of the catalogue with its size, in order. What is named otherwise is not of it.
    pub(super) async fn files(&self) -> Result<BTreeMap<Located, u64>, Failure> {
        let mut files = BTreeMap::new();
        let mut add = |path: &str, bytes: u64| {
            files.extend(Located::parse(path).map(|located| (located, bytes)));
            match files.len() <= FILES_MAX {
                true => Ok(()),
                false => Err(too_many()),
            }
        };
        match self {
            Self::Folder(folder) => walk(folder, "catalog", 4, &mut add)?,
            Self::Bucket(reader) => {
                let (mut pages, mut from) = (Pages::of("listing the catalogue"), None);
                loop {
                    let (page, next) = reader.list("catalog/", from).await?;
                    page.iter().try_for_each(|(path, bytes)| add(path, *bytes))?;
                    from = pages.next(page.len(), next)?;
                    if from.is_none() {
                        break;
                    }
                }
            }
        }
        match files.is_empty() {
            true => Err(Failure::Nothing(self.name())),
            false => Ok(files),
        }
    }

    pub(super) async fn said(&self, site: &Site, batch: Id, key: Option<&PublicKey>) -> Result<Said, Failure> {
        let path = format!("{site}/{}", Manifest::path(batch));
        let Some(envelope) = self.read(&path).await? else {
            return Ok(Said::Nothing);
        };
        let read = match key {
            Some(key) => {
                Sealed::read(&path, envelope, std::slice::from_ref(key)).map(|sealed| sealed.manifest().clone())
            }
            None => Manifest::peek(&path, &envelope),
        };
        Ok(match read {
            Ok(manifest) if manifest.batch != batch || manifest.site != *site => {
                Said::Wrong(format!("the manifest {path} is of another batch"))
            }
            Ok(manifest) if key.is_some() => Said::Checked(Box::new(manifest)),
            Ok(manifest) => Said::Unchecked(Box::new(manifest)),
            Err(failure) => Said::Wrong(failure.to_string()),
        })
    }

    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Bucket(reader) => Ok(reader.get(path, MANIFEST_BYTES_MAX).await?),
            Self::Folder(folder) => {
                let path = folder.join(path);
                if !path.exists() {
                    return Ok(None);
                }
                match batch::read_bounded(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(failure) => {
                        Err(Failure::Untrusted { key: path.display().to_string(), why: failure.to_string() })
                    }
                }
            }
        }
    }

    /// Has its files in `mirror`, and nothing else: as links, where they lie in a folder and nobody asks who wrote them; otherwise as
    /// copies, with a key only of what a manifest signed by it names, each with its digest.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn local(&self, mirror: Mirror<'_>, key: Option<&PublicKey>) -> Result<Local, Failure> {
        let files = self.files().await?;
        let mut tables: Vec<Table> = files.keys().map(|located| located.table).collect();
        tables.sort_unstable();
        tables.dedup();
        let mut left = mirror.mirror_max_mib * MIB;
        let mut said: Option<((Site, Id), Said)> = None;
        for (located, bytes) in &files {
            let batch = (located.site.clone(), located.batch);
            if key.is_some() && said.as_ref().is_none_or(|(of, _)| *of != batch) {
                said = Some((batch, self.said(&located.site, located.batch, key).await?));
            }
            let wanted = said.as_ref().map(|(_, said)| wanted(located, said)).transpose()?;
            let to = mirror.folder.join(located.path());
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).map_err(|source| Failure::Disk { path: folder.to_owned(), source })?;
            }
            if let (Self::Folder(folder), None) = (self, key) {
                let from = std::path::absolute(folder.join(located.path()));
                let linked = from.and_then(|from| std::os::unix::fs::symlink(from, &to));
                linked.map_err(|source| Failure::Disk { path: to, source })?;
                continue;
            }
            left = left.checked_sub(*bytes).ok_or_else(|| {
                let what = format!("the catalogue of {}", self.name());
                Failure::Limit { what, limit: "--mirror-max-mib", maximum: mirror.mirror_max_mib }
            })?;
            let got = self.copy(&located.path(), &to, *bytes).await?;
            if wanted.is_some_and(|wanted| wanted != got) {
                let why = "is not what its signed manifest says: it was changed since".to_owned();
                return Err(Failure::Untrusted { key: located.path(), why });
            }
        }
        Ok(Local { root: mirror.folder.to_owned(), tables })
    }

    async fn copy(&self, path: &str, to: &Path, bytes: u64) -> Result<Digest, Failure> {
        match self {
            Self::Bucket(reader) => Ok(reader.fetch(path, to, bytes).await?),
            Self::Folder(folder) => {
                let from = folder.join(path);
                let copied = fs::copy(&from, to).and_then(|_| Digest::of_file(to));
                copied.map(|(digest, _)| digest).map_err(|source| Failure::Disk { path: from, source })
            }
        }
    }
}

/// The digest that a signed manifest gives this file.
fn wanted(located: &Located, said: &Said) -> Result<Digest, Failure> {
    let wrong = |why: &str| Failure::Untrusted { key: located.path(), why: why.to_owned() };
    match said {
        Said::Checked(manifest) => {
            let part = manifest.catalog.iter().find(|part| part.table == located.table);
            let part = part.filter(|_| manifest.catalog_path(located.table) == located.path());
            part.map(|part| part.sha256)
                .ok_or_else(|| wrong("is not named by the manifest of its batch: nobody signed it"))
        }
        Said::Wrong(why) => Err(wrong(&format!("cannot be believed: {why}"))),
        Said::Nothing | Said::Unchecked(_) => Err(wrong("is of a batch without a manifest: nobody signed it")),
    }
}

fn too_many() -> Failure {
    Failure::Limit { what: "the number of files".to_owned(), limit: "files", maximum: FILES_MAX as u64 }
}

/// Files so many folders down, with their sizes. Links are not followed.
fn walk(
    root: &Path,
    below: &str,
    depth: usize,
    add: &mut impl FnMut(&str, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let folder = root.join(below);
    let failed = |source| Failure::Disk { path: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && root.is_dir() => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let (name, kind) = (entry.file_name(), entry.file_type().map_err(failed)?);
        let Some(path) = name.to_str().map(|name| format!("{below}/{name}")) else {
            continue;
        };
        if kind.is_dir() && depth > 1 {
            walk(root, &path, depth - 1, add)?;
        } else if kind.is_file() {
            add(&path, entry.metadata().map_err(failed)?.len())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_named_as_documented_are_of_a_catalogue() {
        let path = "catalog/study/site=site-7/date=2026-11-29/0197e3a4-1111-7222-8333-444455556666.parquet";
        assert_eq!(Located::parse(path).expect("it is one").path(), path);
        for other in [
            "catalog/study/site=site-7/date=2026-11-29/x.parquet",
            "catalog/studies/site=site-7/date=2026-11-29/0197e3a4-1111-7222-8333-444455556666.parquet",
            "catalog/study/site=../date=2026-11-29/0197e3a4-1111-7222-8333-444455556666.parquet",
            "catalog/study/site=site-7/date=2026-13-29/0197e3a4-1111-7222-8333-444455556666.parquet",
            "site-7/batches/0197e3a4-1111-7222-8333-444455556666.dsse.json",
        ] {
            assert_eq!(Located::parse(other), None, "{other}");
        }
    }
}
