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
    /// Whether it is new, another one or gone.
    pub(crate) action: Action,
}

/// Who hears of commits.
#[derive(Clone)]
pub(super) struct Watch {
    tell: Arc<Tell>,
    /// The journal is full then.
    pages_max: Option<u32>,
}

type Tell = dyn Fn(&[Change]) + Send + Sync;

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    pub(super) fn over(&self, connection: &Connection) -> Result<(), StoreError> {
        if let Some(pages) = self.pages_max {
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
        let tell = self.tell.clone();
        let changes = Arc::new(Mutex::new(Vec::new()));
        let noted = changes.clone();
        connection.update_hook(Some(move |action, _: &str, table: &str, row| {
            let change = Change { table: table.to_owned(), row, action };
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
        Ok(Self { watch: Some(Watch { tell: Arc::new(tell), pages_max: None }), ..Self::open(folder).await? })
    }

    /// Pages of the journal.
    pub(crate) async fn pages(&self) -> u32 {
        sqlx::query_scalar("PRAGMA page_count").fetch_one(&self.pool).await.expect("readable")
    }

    /// As [`Store::open`]; the intake finds the disk full where the journal would have more pages.
    pub(crate) async fn open_small(folder: &Path, pages_max: u32) -> Result<Self, StoreError> {
        let watch = Watch { tell: Arc::new(|_| {}), pages_max: Some(pages_max) };
        Ok(Self { watch: Some(watch), ..Self::open(folder).await? })
    }
}
