//! Whose a study and an order are: by Patient ID with its issuer, and by the merges that were noted.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::StoreError;
use crate::messages::hl7::order::PatientId;

/// Identities of one patient that are looked at.
const IDENTITIES_MAX: u32 = 1000;

/// Every identity of a study's patient: that of its images, and those that were merged with it, also one after another.
pub(super) async fn identities_of_study(
    connection: &mut SqliteConnection,
    study_instance_uid: &str,
) -> Result<Vec<PatientId>, StoreError> {
    let rows = sqlx::query(
        "WITH RECURSIVE same (id, issuer) AS (\
         SELECT patient_id, issuer_of_patient_id FROM study WHERE study_instance_uid = ?1 AND patient_id <> '' \
         UNION SELECT surviving_id, surviving_issuer FROM same JOIN patient_merge ON prior_id = same.id \
         AND (prior_issuer = issuer OR prior_issuer = '' OR issuer = '') \
         UNION SELECT prior_id, prior_issuer FROM same JOIN patient_merge ON surviving_id = same.id \
         AND (surviving_issuer = issuer OR surviving_issuer = '' OR issuer = '') LIMIT ?2) SELECT id, issuer FROM same",
    );
    let rows = rows.bind(study_instance_uid).bind(IDENTITIES_MAX).fetch_all(connection).await?;
    let read = |row: &SqliteRow| Ok((row.try_get("id")?, row.try_get("issuer")?));
    Ok(rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?)
}

/// Whether an order may be about a patient. It is not where both say who the patient is and differ: an issuer that is not stated may
/// be any, and IDs of two issuers say nothing of one another.
pub(super) fn may_be(ordered: &[PatientId], patient: &[PatientId]) -> bool {
    let alike = |one: &str, other: &str| one.is_empty() || other.is_empty() || one == other;
    let pairs = || ordered.iter().flat_map(|one| patient.iter().map(move |other| (one, other)));
    let mut comparable = pairs().filter(|((_, one), (_, other))| alike(one, other)).peekable();
    comparable.peek().is_none() || comparable.any(|((one, _), (other, _))| one == other)
}

/// As an order's identities stand in the journal.
pub(super) fn read(row: &SqliteRow) -> Result<Vec<PatientId>, StoreError> {
    let text: &str = row.try_get("patients")?;
    Ok(if text.is_empty() { Vec::new() } else { serde_json::from_str(text).unwrap_or_default() })
}

/// As [`read`] reads them.
pub(super) fn written(patients: &[PatientId]) -> String {
    if patients.is_empty() { String::new() } else { serde_json::json!(patients).to_string() }
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
            assert_eq!(may_be(&ordered, &patient), may, "{ordered:?} {patient:?}");
        }
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
