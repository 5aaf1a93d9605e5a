//! Names of files below the data folder, durable before anything says that they are there.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::commit::fatal;
use super::disk::Disk;

/// The disk has no room for a name. It said so before anything was promised.
#[derive(Debug)]
pub(super) struct NoRoom(pub(super) String);

/// Folders in which names changed that are not durable yet.
#[derive(Debug, Default)]
pub(super) struct Touched(BTreeSet<PathBuf>);

/// Gives names, from any thread.
pub(super) struct Names {
    disk: Arc<dyn Disk>,
    data: PathBuf,
    /// Folders whose own names this process made durable. That a folder is there says nothing: an earlier process may have
    /// been killed between making it and syncing what it lies in.
    durable: Mutex<BTreeSet<PathBuf>>,
}

impl Names {
    /// More are not remembered: syncing again costs time and nothing else.
    const FOLDERS_MAX: usize = 64;

    pub(super) fn new(disk: Arc<dyn Disk>, data: PathBuf) -> Self {
        Self { disk, data, durable: Mutex::default() }
    }

    /// Gives a file the name `below` the data folder, durably; its path. What had the name before is replaced.
    pub(super) fn give(&self, file: &Path, below: &str) -> Result<PathBuf, NoRoom> {
        let mut touched = Touched::default();
        let path = self.give_later(file, below, &mut touched)?;
        self.sync(touched);
        Ok(path)
    }

    /// The same, durable once what it touched is synced: many names share that.
    pub(super) fn give_later(&self, file: &Path, below: &str, touched: &mut Touched) -> Result<PathBuf, NoRoom> {
        let path = self.data.join(below);
        let folder = path.parent().unwrap_or(&self.data);
        let renamed = match self.durable().contains(folder) {
            true => self.disk.rename(file, &path),
            false => Err(ErrorKind::NotFound.into()),
        };
        match renamed {
            // Not made by this process, or taken away by somebody.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.done(self.disk.create_folder(folder))?;
                self.done(self.disk.rename(file, &path))?;
                // The hour's, the day's and the kind's names too.
                let within = |above: &&Path| above.starts_with(&self.data);
                touched.0.extend(folder.ancestors().take_while(within).map(Path::to_owned));
            }
            renamed => {
                self.done(renamed)?;
                touched.0.insert(folder.to_owned());
            }
        }
        Ok(path)
    }

    /// Makes names durable.
    pub(super) fn sync(&self, touched: Touched) {
        for folder in &touched.0 {
            self.disk.sync_folder(folder).unwrap_or_else(|e| fatal("fsync of a folder", &e));
        }
        let mut durable = self.durable();
        if durable.len() + touched.0.len() > Self::FOLDERS_MAX {
            durable.clear();
        }
        durable.extend(touched.0);
    }

    /// Takes a file away.
    pub(super) fn remove(&self, file: &Path) -> Result<(), NoRoom> {
        self.done(self.disk.remove(file))
    }

    /// Takes away what nobody was promised, as far as it is there.
    pub(super) fn undo(&self, file: &Path) {
        let _ = self.disk.remove(file);
    }

    fn done(&self, done: io::Result<()>) -> Result<(), NoRoom> {
        done.map_err(|e| match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => NoRoom(e.to_string()),
            _ => fatal("naming of an instance", &e),
        })
    }

    fn durable(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
