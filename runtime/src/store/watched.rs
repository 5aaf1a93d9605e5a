//! An intake that tells when SQLite begins a commit, for tests of what a power cut leaves.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use rusqlite::hooks::Action;

use super::{Store, StoreError};

/// A row that a commit changes.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// In which table.
    pub(crate) table: String,
    /// Its number.
    pub(crate) row: i64,
    /// Whether it is new.
    pub(crate) added: bool,
}

/// Who hears of commits.
#[derive(Clone)]
pub(super) struct Watch(Arc<Tell>);

type Tell = dyn Fn(&[Change]) + Send + Sync;

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    pub(super) fn over(&self, connection: &Connection) -> Result<(), StoreError> {
        let tell = self.0.clone();
        let changes = Arc::new(Mutex::new(Vec::new()));
        let noted = changes.clone();
        connection.update_hook(Some(move |action, _: &str, table: &str, row| {
            let change = Change { table: table.to_owned(), row, added: action == Action::SQLITE_INSERT };
            noted.lock().expect("nobody failed").push(change);
        }))?;
        let rolled_back = changes.clone();
        connection.rollback_hook(Some(move || rolled_back.lock().expect("nobody failed").clear()))?;
        connection.commit_hook(Some(move || {
            tell(&std::mem::take(&mut *changes.lock().expect("nobody failed")));
            false
        }))?;
        Ok(())
    }
}

impl Store {
    /// As [`Store::open`]; `tell` hears of every commit of the intake before SQLite writes any of it.
    pub(crate) async fn open_watched(
        folder: &Path,
        tell: impl Fn(&[Change]) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        Ok(Self { watch: Some(Watch(Arc::new(tell))), ..Self::open(folder).await? })
    }
}
