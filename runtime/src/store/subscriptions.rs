//! Who is told of workitems (PS3.4 section CC.2.3): of one, or of all that there are and are to come.

use sqlx::Row;

use super::{Batch, Store, StoreError, now_ms};
use crate::audit::{Action, Event};

/// What came of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// It holds.
    Yes,
    /// There are as many as there may be.
    TooMany,
    /// There is no such workitem.
    NoSuchWorkitem,
}

/// Stands for all workitems.
const ALL: i64 = 0;

impl Store {
    /// Subscribes an AE to a workitem, or to all of them that it is not subscribed to and to those that come. `most` is of all
    /// AEs together.
    ///
    /// # Errors
    /// The journal's.
    pub async fn subscribe(
        &self,
        ae_title: &str,
        workitem: Option<i64>,
        who: &str,
        most: u64,
    ) -> Result<Subscribed, StoreError> {
        let mut batch = self.begin().await?;
        if let Some(id) = workitem {
            let there = sqlx::query("SELECT 1 FROM workitem WHERE id = ?").bind(id);
            if there.fetch_optional(&mut *batch.transaction).await?.is_none() {
                return Ok(Subscribed::NoSuchWorkitem);
            }
        } else {
            sqlx::query("DELETE FROM workitem_subscription WHERE ae_title = ? AND NOT subscribed")
                .bind(ae_title)
                .execute(&mut *batch.transaction)
                .await?;
        }
        sqlx::query(
            "INSERT INTO workitem_subscription (ae_title, workitem, subscribed, made_ms, made_by) VALUES (?, ?, 1, ?, ?) \
             ON CONFLICT DO UPDATE SET subscribed = 1, up_to = NULL",
        )
        .bind(ae_title)
        .bind(workitem.unwrap_or(ALL))
        .bind(now_ms())
        .bind(who)
        .execute(&mut *batch.transaction)
        .await?;
        let count =
            sqlx::query("SELECT count(*) FROM workitem_subscription").fetch_one(&mut *batch.transaction).await?;
        if count.try_get::<i64, _>(0)?.unsigned_abs() > most {
            return Ok(Subscribed::TooMany);
        }
        batch.commit_changed(ae_title, workitem, who, "subscribed").await?;
        Ok(Subscribed::Yes)
    }

    /// Ends the subscription of an AE to a workitem, or all of its subscriptions; whether there was one.
    ///
    /// # Errors
    /// The journal's.
    pub async fn unsubscribe(&self, ae_title: &str, workitem: Option<i64>, who: &str) -> Result<bool, StoreError> {
        let mut batch = self.begin().await?;
        let was = match workitem {
            None => sqlx::query("DELETE FROM workitem_subscription WHERE ae_title = ?")
                .bind(ae_title)
                .execute(&mut *batch.transaction)
                .await?
                .rows_affected(),
            Some(id) if batch.is_subscribed(ae_title, id).await? => {
                sqlx::query("DELETE FROM workitem_subscription WHERE ae_title = ? AND workitem = ?")
                    .bind(ae_title)
                    .bind(id)
                    .execute(&mut *batch.transaction)
                    .await?;
                // Where all are subscribed to, this one is an exception.
                sqlx::query(
                    "INSERT INTO workitem_subscription (ae_title, workitem, subscribed, made_ms, made_by) \
                     SELECT ae_title, ?2, 0, ?3, ?4 FROM workitem_subscription WHERE ae_title = ?1 AND workitem = 0",
                )
                .bind(ae_title)
                .bind(id)
                .bind(now_ms())
                .bind(who)
                .execute(&mut *batch.transaction)
                .await?;
                1
            }
            Some(_) => 0,
        };
        if was == 0 {
            return Ok(false);
        }
        batch.commit_changed(ae_title, workitem, who, "unsubscribed").await?;
        Ok(true)
    }

    /// From now on workitems that come are not subscribed to by themselves; whether they were.
    ///
    /// # Errors
    /// The journal's.
    pub async fn suspend(&self, ae_title: &str, who: &str) -> Result<bool, StoreError> {
        let mut batch = self.begin().await?;
        let suspended = sqlx::query(
            "UPDATE workitem_subscription SET up_to = (SELECT coalesce(max(id), 0) FROM workitem) \
             WHERE ae_title = ? AND workitem = 0 AND up_to IS NULL",
        );
        let suspended = suspended.bind(ae_title).execute(&mut *batch.transaction).await?.rows_affected() > 0;
        if suspended {
            batch.commit_changed(ae_title, None, who, "suspended").await?;
        }
        Ok(suspended)
    }

    /// Who is told of a workitem.
    ///
    /// # Errors
    /// The journal's.
    pub async fn subscribers(&self, workitem: i64) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(SUBSCRIBERS).bind(workitem).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Single workitems that an AE is subscribed to and that are not over, and whether it is subscribed to anything since before a
    /// time.
    ///
    /// # Errors
    /// The journal's.
    pub async fn subscriptions(&self, ae_title: &str, before_ms: i64) -> Result<(Vec<i64>, bool), StoreError> {
        let rows = sqlx::query(
            "SELECT workitem, state IN ('SCHEDULED', 'IN PROGRESS') AS open, workitem_subscription.made_ms < ?2 AS before \
             FROM workitem_subscription LEFT JOIN workitem ON workitem.id = workitem \
             WHERE ae_title = ?1 AND subscribed ORDER BY workitem",
        );
        let rows = rows.bind(ae_title).bind(before_ms).fetch_all(&self.pool).await?;
        let (mut single, mut earlier) = (Vec::new(), false);
        for row in &rows {
            earlier |= row.try_get::<i64, _>("before")? != 0;
            if row.try_get::<Option<i64>, _>("open")? == Some(1) {
                single.push(row.try_get("workitem")?);
            }
        }
        Ok((single, earlier))
    }
}

const SUBSCRIBERS: &str = "SELECT ae_title FROM workitem_subscription WHERE workitem = ?1 AND subscribed \
    UNION SELECT ae_title FROM workitem_subscription AS of_all WHERE workitem = 0 AND (up_to IS NULL OR up_to >= ?1) \
    AND NOT EXISTS (SELECT 1 FROM workitem_subscription AS own WHERE own.ae_title = of_all.ae_title \
    AND own.workitem = ?1 AND NOT own.subscribed)";

impl Batch {
    async fn is_subscribed(&mut self, ae_title: &str, workitem: i64) -> Result<bool, StoreError> {
        let rows = sqlx::query(SUBSCRIBERS).bind(workitem).fetch_all(&mut *self.transaction).await?;
        let titles = rows.iter().map(|row| row.try_get::<String, _>(0)).collect::<Result<Vec<_>, _>>()?;
        Ok(titles.iter().any(|title| title == ae_title))
    }

    async fn commit_changed(
        mut self,
        ae_title: &str,
        workitem: Option<i64>,
        who: &str,
        what: &str,
    ) -> Result<(), StoreError> {
        let of = workitem.map_or_else(|| "all workitems".to_owned(), |id| format!("workitem {id}"));
        let (object, detail) = (format!("AE {ae_title}"), format!("{what}: {of}"));
        self.audit(&Event { object, detail, ..Event::new(who, Action::SubscriptionChanged) }).await?;
        self.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: &str = "
        INSERT INTO routed VALUES ('2.25.1', 1, 1, 'jobs', '', 0);
        INSERT INTO job (study_instance_uid, study_version, module, module_identity, state, priority, created_ms, correlation)
            VALUES ('2.25.1', 1, 'a', x'00', 'queued', 0, 1, ''), ('2.25.1', 1, 'b', x'00', 'gated', 0, 1, '');
    ";
    const ANOTHER: &str = "
        INSERT INTO job (study_instance_uid, study_version, module, module_identity, state, priority, created_ms, correlation)
            VALUES ('2.25.1', 1, 'c', x'00', 'queued', 0, 1, '');
    ";

    /// PS3.4 table CC.2.3-2.
    #[tokio::test]
    async fn subscriptions_follow_the_table_of_the_standard() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        store.tamper(JOBS).await;
        let told = async |workitem| store.subscribers(workitem).await.expect("subscribers");
        let yes = async |workitem| {
            assert_eq!(store.subscribe("A", workitem, "me", 10).await.expect("asked"), Subscribed::Yes);
        };
        yes(Some(1)).await;
        assert_eq!((told(1).await, told(2).await), (vec!["A".to_owned()], vec![]));
        assert!(!store.unsubscribe("A", Some(2), "me").await.expect("asked"), "it was not");
        assert!(!store.unsubscribe("B", None, "me").await.expect("asked"), "nor was it");
        assert!(store.unsubscribe("A", Some(1), "me").await.expect("asked"));
        assert_eq!(told(1).await, Vec::<String>::new());

        yes(None).await;
        assert!(store.unsubscribe("A", Some(1), "me").await.expect("asked"), "an exception");
        assert_eq!((told(1).await, told(2).await), (vec![], vec!["A".to_owned()]));
        assert!(store.suspend("A", "me").await.expect("asked"));
        assert!(!store.suspend("A", "me").await.expect("asked"), "it is");
        store.tamper(ANOTHER).await;
        assert_eq!((told(2).await, told(3).await), (vec!["A".to_owned()], vec![]), "those that were there stay");
        yes(None).await;
        assert_eq!((told(1).await.len(), told(2).await.len(), told(3).await.len()), (1, 1, 1), "all of them again");
        assert!(store.unsubscribe("A", None, "me").await.expect("asked"));
        assert_eq!((told(1).await.len(), told(2).await.len(), told(3).await.len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn there_are_no_more_subscriptions_than_there_may_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        store.tamper(JOBS).await;
        let ask = async |title, workitem| store.subscribe(title, workitem, "me", 2).await.expect("asked");
        assert_eq!(ask("A", Some(3)).await, Subscribed::NoSuchWorkitem);
        assert_eq!(ask("A", Some(1)).await, Subscribed::Yes);
        assert_eq!(ask("B", None).await, Subscribed::Yes);
        assert_eq!(ask("C", None).await, Subscribed::TooMany);
        assert_eq!(ask("A", Some(1)).await, Subscribed::Yes, "one that is there already");
        assert_eq!(store.subscribers(1).await.expect("subscribers"), ["A", "B"], "nothing was left of the third");
    }
}
