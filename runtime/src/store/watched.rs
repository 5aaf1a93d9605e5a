//! A journal that tells when SQLite begins a commit, for tests of what a power cut leaves.

use std::path::Path;
use std::sync::{Arc, Mutex};

use sqlx::sqlite::{SqliteOperation, SqlitePoolOptions};

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

impl Store {
    /// As [`Store::open`]; `tell` hears of every commit before SQLite writes any of it.
    pub(crate) async fn open_watched(
        folder: &Path,
        tell: impl Fn(&[Change]) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let tell = Arc::new(tell);
        let pool = SqlitePoolOptions::new().after_connect(move |connection, _| {
            let tell = tell.clone();
            Box::pin(async move {
                let changes = Arc::new(Mutex::new(Vec::new()));
                let mut handle = connection.lock_handle().await?;
                let noted = changes.clone();
                handle.set_update_hook(move |update| {
                    let added = matches!(update.operation, SqliteOperation::Insert);
                    let change = Change { table: update.table.to_owned(), row: update.rowid, added };
                    noted.lock().expect("nobody failed").push(change);
                });
                let rolled_back = changes.clone();
                handle.set_rollback_hook(move || rolled_back.lock().expect("nobody failed").clear());
                handle.set_commit_hook(move || {
                    tell(&std::mem::take(&mut *changes.lock().expect("nobody failed")));
                    true
                });
                Ok(())
            })
        });
        Self::open_with(folder, pool).await
    }
}
