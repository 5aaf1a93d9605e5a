//! Whose a study and an order are: by Patient ID with its issuer, and by the merges that were noted.

use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::StoreError;
use crate::messages::hl7::order::{Order, PatientId};

/// Identities of one patient that are looked at.
const IDENTITIES_MAX: u32 = 100;

/// Identities that were merged with those that a query begins with, also one after another.
macro_rules! same {
    ($first:literal) => {
        concat!(
            "WITH RECURSIVE same (id, issuer) AS (",
            $first,
            " UNION SELECT surviving_id, surviving_issuer FROM same JOIN patient_merge ON prior_id = same.id ",
            "AND (prior_issuer = issuer OR prior_issuer = '' OR issuer = '') ",
            "UNION SELECT prior_id, prior_issuer FROM same JOIN patient_merge ON surviving_id = same.id ",
            "AND (surviving_issuer = issuer OR surviving_issuer = '' OR issuer = '') LIMIT ?2) SELECT id, issuer FROM same",
        )
    };
}

/// Every identity of a study's patient: that of its images, and those that were merged with it.
pub(super) async fn identities_of_study(
    connection: &mut SqliteConnection,
    study_instance_uid: &str,
) -> Result<Vec<PatientId>, StoreError> {
    let rows = sqlx::query(same!(
        "SELECT patient_id, issuer_of_patient_id FROM study WHERE study_instance_uid = ?1 AND patient_id <> ''"
    ));
    let rows = rows.bind(study_instance_uid).bind(IDENTITIES_MAX).fetch_all(connection).await?;
    Ok(rows.iter().map(identity).collect::<Result<_, _>>()?)
}

/// These identities, and those that were merged with them.
pub(super) async fn identities(
    connection: &mut SqliteConnection,
    patient: &[PatientId],
) -> Result<Vec<PatientId>, StoreError> {
    let rows = sqlx::query(same!("SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?1)"));
    let rows = rows.bind(json!(patient).to_string()).bind(IDENTITIES_MAX).fetch_all(connection).await?;
    Ok(rows.iter().map(identity).collect::<Result<_, _>>()?)
}

fn identity(row: &SqliteRow) -> Result<PatientId, sqlx::Error> {
    Ok((row.try_get("id")?, row.try_get("issuer")?))
}

/// Who an order is for: identifiers of PID-3, and of the fields beside it.
#[derive(Default)]
pub(super) struct Ordered {
    ids: Vec<PatientId>,
    others: Vec<PatientId>,
}

impl Ordered {
    pub(super) fn of(order: &Order) -> Self {
        Self { ids: order.patients.clone(), others: order.other_ids.clone() }
    }

    /// As an order's identities stand in the journal: of old, those of PID-3 alone.
    pub(super) fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let text: &str = row.try_get("patients")?;
        let ids = || serde_json::from_str(text).map(|ids| Self { ids, others: Vec::new() });
        let both = || serde_json::from_str(text).map(|(ids, others)| Self { ids, others });
        Ok(if text.is_empty() { Self::default() } else { ids().or_else(|_| both()).unwrap_or_default() })
    }

    /// As [`Ordered::read`] reads them; empty where nobody is named.
    pub(super) fn written(&self) -> String {
        if self.ids.is_empty() && self.others.is_empty() {
            String::new()
        } else {
            json!([self.ids, self.others]).to_string()
        }
    }

    /// Whether it may be about a patient. It is not where both say in PID-3 who that is and differ, and none beside it is the
    /// patient's: an issuer that is not stated may be any, and IDs of two issuers say nothing of one another.
    pub(super) fn may_be(&self, patient: &[PatientId]) -> bool {
        let mut comparable = comparable(&self.ids, patient).peekable();
        comparable.peek().is_none()
            || comparable.chain(self::comparable(&self.others, patient)).any(|(one, other)| one == other)
    }
}

/// IDs of the same issuer, or of one that may be.
fn comparable<'a>(ordered: &'a [PatientId], patient: &'a [PatientId]) -> impl Iterator<Item = (&'a str, &'a str)> {
    let alike = |one: &str, other: &str| one.is_empty() || other.is_empty() || one == other;
    let pairs = ordered.iter().flat_map(|one| patient.iter().map(move |other| (one, other)));
    pairs
        .filter(move |((_, one), (_, other))| alike(one, other))
        .map(|((one, _), (other, _))| (one.as_str(), other.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn ids(ids: &[(&str, &str)]) -> Vec<PatientId> {
        ids.iter().map(|(id, issuer)| ((*id).to_owned(), (*issuer).to_owned())).collect()
    }

    #[test]
    fn only_who_is_known_to_be_somebody_else_is() {
        for (ordered, patient, may) in [
            (ids(&[("P1", "A")]), ids(&[("P1", "A")]), true),
            (ids(&[("P2", "A")]), ids(&[("P1", "A")]), false),
            (ids(&[("P2", "")]), ids(&[("P1", "A")]), false),
            (ids(&[("P2", "A")]), ids(&[("P1", "")]), false),
            (ids(&[("P1", "")]), ids(&[("P1", "A")]), true),
            (ids(&[("P2", "B")]), ids(&[("P1", "A")]), true),
            (ids(&[("P1", "B")]), ids(&[("P1", "A")]), true),
            (ids(&[("7", "NATION"), ("P1", "A")]), ids(&[("P1", "A")]), true),
            (ids(&[("7", "NATION"), ("P2", "A")]), ids(&[("P1", "A")]), false),
            (ids(&[("P9", "A")]), ids(&[("P1", "A"), ("P9", "A")]), true),
            (ids(&[]), ids(&[("P1", "A")]), true),
            (ids(&[("P1", "A")]), ids(&[]), true),
        ] {
            let named = Ordered { ids: ordered.clone(), others: Vec::new() };
            assert_eq!(named.may_be(&patient), may, "{ordered:?} {patient:?}");
        }
    }

    #[test]
    fn an_id_beside_pid_3_tells_that_it_is_the_patient_and_never_that_it_is_another() {
        let may_be = |ordered: &[(&str, &str)], others: &[(&str, &str)]| {
            Ordered { ids: ids(ordered), others: ids(others) }.may_be(&ids(&[("P1", "A")]))
        };
        assert!(!may_be(&[("HIS9", "")], &[]));
        assert!(may_be(&[("HIS9", "")], &[("P1", "")]) && may_be(&[("HIS9", "A")], &[("X", ""), ("P1", "A")]));
        assert!(!may_be(&[("HIS9", "")], &[("P2", "")]) && !may_be(&[("HIS9", "")], &[("P1", "B")]));
        assert!(may_be(&[("HIS9", "HIS")], &[("P2", "")]) && may_be(&[], &[("P2", "")]));
    }

    #[tokio::test]
    async fn merges_tell_who_else_a_patient_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        store
            .tamper(
                "INSERT INTO study SELECT 1, '2.25.1', 'OLD', 'A', '', '', '', '', '', '', '', '', '', NULL, NULL, 1, 1;
                 INSERT INTO patient_merge (prior_id, prior_issuer, surviving_id, surviving_issuer, sender, control_id, received_ms)
                 VALUES ('OLD', 'A', 'NEW', 'A', '', '', 1), ('NEW', '', 'NEWER', 'A', '', '', 1), ('X', 'A', 'Y', 'A', '', '', 1),
                 ('OTHER', 'A', 'NEW', 'A', '', '', 1), ('OLD', 'B', 'Z', 'B', '', '', 1), ('NEWER', 'A', 'OLD', 'A', '', '', 1);",
            )
            .await;
        let mut connection = store.pool.acquire().await.expect("a connection");
        let mut known = identities_of_study(&mut connection, "2.25.1").await.expect("read");
        known.retain(|(_, issuer)| !issuer.is_empty());
        known.sort();
        assert_eq!(known, ids(&[("NEW", "A"), ("NEWER", "A"), ("OLD", "A"), ("OTHER", "A")]));
        assert!(identities_of_study(&mut connection, "2.25.9").await.expect("read").is_empty());
    }
}
