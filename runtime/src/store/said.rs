//! What deliveries state at their destinations, for a later version of the study to withdraw.

use sqlx::Row;

use super::{Store, StoreError};

impl Store {
    /// Notes what a delivery states, before it does.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) async fn note_said(&self, delivery: i64, said: &str) -> Result<(), StoreError> {
        let query = sqlx::query("UPDATE delivery SET said = ? WHERE id = ?");
        query.bind(said).bind(delivery).execute(&self.pool).await?;
        Ok(())
    }

    /// What earlier versions of the study, by the same module, may have stated at the destination of a delivery and did not withdraw,
    /// as it was noted; in order. It stays the same however often it is asked: of a delivery that may be sent, those before it are over.
    ///
    /// # Errors
    /// The journal's.
    pub(crate) async fn said_before(&self, delivery: i64) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT before.state, before.said FROM delivery AS this JOIN job AS own ON own.id = this.job \
             JOIN delivery AS before ON before.study_instance_uid = this.study_instance_uid \
             AND before.destination = this.destination JOIN job AS other ON other.id = before.job \
             WHERE this.id = ? AND before.said <> '' AND other.module = own.module \
             AND other.study_version < own.study_version ORDER BY other.study_version, before.id",
        );
        let rows = rows.bind(delivery).fetch_all(&self.pool).await?;
        let mut standing = Vec::new();
        for row in &rows {
            // One that arrived withdrew what was said before it, or was unfit and says itself what stands. Whether another did,
            // nobody knows.
            if row.try_get::<&str, _>("state")? == "sent" {
                standing.clear();
            }
            standing.push(row.try_get("said")?);
        }
        Ok(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A delivery of a result: module, version of the study, destination and state.
    async fn delivered(store: &Store, module: &str, version: i64, destination: &str, state: &str) -> i64 {
        for sql in [
            "INSERT OR IGNORE INTO routed VALUES ('2.25.1', ?1, 1, 'jobs', '', 0)",
            "INSERT OR IGNORE INTO job (study_instance_uid, study_version, module, module_identity, state, created_ms, correlation, \
             priority) VALUES ('2.25.1', ?1, ?2, x'00', 'done', 1, 'c', 0)",
            "INSERT INTO delivery (job, study_instance_uid, destination, state, priority, since_ms, created_ms, result_sha256) \
             SELECT id, '2.25.1', ?3, ?4, 0, 1, 1, x'00' FROM job WHERE study_version = ?1 AND module = ?2",
        ] {
            let query = sqlx::query(sql).bind(version).bind(module).bind(destination).bind(state);
            query.execute(&store.pool).await.expect("SQL");
        }
        let row = sqlx::query("SELECT max(id) AS id FROM delivery").fetch_one(&store.pool).await.expect("read");
        let id = row.get("id");
        store.note_said(id, &format!("{module}{version}")).await.expect("noted");
        id
    }

    #[tokio::test]
    async fn what_earlier_versions_said_there_is_known_until_it_was_withdrawn() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        let before = async |id| store.said_before(id).await.expect("read");
        let first = delivered(&store, "a", 1, "ehr", "sent").await;
        delivered(&store, "a", 1, "other", "sent").await;
        delivered(&store, "b", 1, "ehr", "sent").await;
        let second = delivered(&store, "a", 2, "ehr", "superseded").await;
        assert_eq!(before(first).await, Vec::<String>::new());
        assert_eq!(before(second).await, ["a1"], "neither another module's nor at another destination");
        let third = delivered(&store, "a", 3, "ehr", "sent").await;
        assert_eq!(before(third).await, ["a1", "a2"], "it may have arrived, and withdrew nothing for certain");
        let fourth = delivered(&store, "a", 4, "ehr", "queued").await;
        assert_eq!(before(fourth).await, ["a3"]);
        assert_eq!(before(third).await, ["a1", "a2"], "the same when it is sent again");
    }
}
