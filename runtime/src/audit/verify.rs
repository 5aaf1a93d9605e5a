//! Walks the audit log and says where it is broken.

use std::path::Path;

use super::{Action, Head, read_head};
use crate::store::{Store, StoreError};

/// Rows in memory at once.
const PAGE: u32 = 1000;

/// The log is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Its last row.
    pub head: Head,
    /// The row that was last anchored.
    pub anchored: i64,
}

/// The log is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A row is gone.
    #[error("audit row {expected} is missing: row {found} comes in its place")]
    Missing {
        /// The place.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// A row is not what was written, or not where.
    #[error("audit row {0} is not what was written there: it, or the digest before it, was changed")]
    Changed(i64),
    /// A row says a version that is not known.
    #[error("audit row {row} says format {version}, which this version of gantry does not know")]
    Version {
        /// The place.
        row: i64,
        /// What it says.
        version: i64,
    },
    /// The end is gone.
    #[error(
        "the audit log ends at row {last}, and audit.head says that there was a row {anchored}: its end was cut off"
    )]
    Cut {
        /// The last row.
        last: i64,
        /// The row that was anchored.
        anchored: i64,
    },
    /// A row is sound in itself and is not the one that was anchored.
    #[error("audit row {0} is not the one that audit.head says: the log was written anew")]
    NotAnchored(i64),
    /// The node found it before.
    #[error("audit row {0} says that the log had lost its end when the node started: see its detail")]
    Noted(i64),
    /// There is no anchor.
    #[error("audit.head is missing beside the journal: a cut tail cannot be told; a node that starts writes it anew")]
    NoAnchor,
    /// The anchor cannot be read.
    #[error("audit.head cannot be read: {0}")]
    Anchor(std::io::Error),
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Walks the whole log, and says the first row that is not what was written.
///
/// # Errors
/// [`Broken`].
pub async fn verify(store: &Store, data: &Path) -> Result<Verified, Broken> {
    // First, since the log may grow meanwhile.
    let anchor = read_head(data).map_err(Broken::Anchor)?;
    let mut last = Head::default();
    loop {
        let rows = store.audit_after(last.id, PAGE).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            if row.id != last.id + 1 {
                return Err(Broken::Missing { expected: last.id + 1, found: row.id });
            }
            let version = Broken::Version { row: row.id, version: row.version };
            let sha256 = row.digest(&last.sha256).ok_or(version)?;
            if row.sha256 != sha256 {
                return Err(Broken::Changed(row.id));
            }
            if row.action == Action::AuditBroken.name() {
                return Err(Broken::Noted(row.id));
            }
            last = Head { id: row.id, sha256 };
            if anchor.is_some_and(|a| a.id == last.id && a != last) {
                return Err(Broken::NotAnchored(row.id));
            }
        }
    }
    match anchor {
        None => Err(Broken::NoAnchor),
        Some(anchor) if anchor.id > last.id => Err(Broken::Cut { last: last.id, anchored: anchor.id }),
        Some(anchor) => Ok(Verified { head: last, anchored: anchor.id }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Audit, Event};
    use super::*;

    /// A log of four rows, and what verifying says after SQL was run on it.
    async fn after(sql: &'static str) -> Result<Verified, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        let audit = Audit::new(store.clone(), folder.path());
        for object in ["a", "b", "c", "d"] {
            let event = Event { object: object.into(), ..Event::new("CT1", Action::InstanceStored) };
            audit.record(&event).await.expect("recorded");
        }
        audit.anchor(None).await.expect("anchored");
        store.tamper(sql).await;
        verify(&store, folder.path()).await.map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn what_was_tampered_with_is_named() {
        let whole = after("SELECT 1").await.expect("whole");
        assert_eq!((whole.head.id, whole.anchored), (4, 4));
        for (sql, says) in [
            ("UPDATE audit SET who = 'CT2' WHERE id = 2", "audit row 2 is not what was written"),
            ("UPDATE audit SET at_ms = at_ms + 1 WHERE id = 4", "audit row 4 is not what was written"),
            // Text that moves from one field to its neighbour.
            ("UPDATE audit SET who = 'CT', action = '1' || action WHERE id = 3", "audit row 3 is not"),
            ("DELETE FROM audit WHERE id = 2", "audit row 2 is missing: row 3 comes"),
            ("DELETE FROM audit WHERE id = 1", "audit row 1 is missing"),
            (
                "UPDATE audit SET id = CASE id WHEN 2 THEN -3 ELSE -2 END WHERE id IN (2, 3); UPDATE audit SET id = -id WHERE id < 0",
                "audit row 2 is not",
            ),
            ("DELETE FROM audit WHERE id = 2; UPDATE audit SET id = id - 1 WHERE id > 2", "audit row 2 is not"),
            ("DELETE FROM audit WHERE id > 2", "ends at row 2, and audit.head says that there was a row 4"),
            ("DELETE FROM audit", "ends at row 0"),
            ("UPDATE audit SET version = 2 WHERE id = 3", "audit row 3 says format 2"),
        ] {
            let said = after(sql).await.expect_err(sql);
            assert!(said.contains(says), "{sql}: {said}");
        }
    }

    #[tokio::test]
    async fn a_start_does_not_hide_that_the_end_was_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        let audit = Audit::new(store.clone(), folder.path());
        audit.start().await.expect("started");
        audit.stop().await.expect("stopped");
        audit.start().await.expect("started");
        assert_eq!(verify(&store, folder.path()).await.expect("whole").head.id, 3);
        store.tamper("DELETE FROM audit WHERE id = 3").await;
        audit.start().await.expect("started");
        assert!(matches!(verify(&store, folder.path()).await, Err(Broken::Noted(3))));
    }

    #[tokio::test]
    async fn a_log_that_was_written_anew_is_not_the_one_that_was_anchored() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        let audit = Audit::new(store.clone(), folder.path());
        let event = |who| Event::new(who, Action::StudyRead);
        audit.record(&event("A")).await.expect("recorded");
        assert!(matches!(verify(&store, folder.path()).await, Err(Broken::NoAnchor)));
        audit.anchor(None).await.expect("anchored");
        store.tamper("DELETE FROM audit").await;
        audit.record(&event("B")).await.expect("recorded");
        audit.record(&event("B")).await.expect("recorded");
        assert!(matches!(verify(&store, folder.path()).await, Err(Broken::NotAnchored(1))));
    }
}
