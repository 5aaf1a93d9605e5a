//! What stands for what in one instance: for a hospital's escrow, and for nobody else.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use serde_json::json;

use super::charset::Charset;
use super::held::Held;
use super::parse::{DataSet, Element, find};
use super::profile::Dates;
use super::subject::{Subject, charset_of};
use super::{Deidentifier, instance};

/// One line of JSON, which identifies: it shows itself to nobody, and only [`crate::escrow`] takes it.
///
/// ```compile_fail
/// fn show(mapping: gantry_cloud_sync::deid::Mapping) -> String {
///     format!("{mapping:?}")
/// }
/// ```
pub struct Mapping {
    line: String,
}

impl Mapping {
    /// With its end of line.
    pub(crate) fn line(&self) -> &[u8] {
        self.line.as_bytes()
    }
}

/// As the instance itself says it, in Unicode.
fn said(set: &DataSet<'_>, tag: Tag, charset: &Charset) -> String {
    let bytes = find(set, tag).map(Element::bytes).unwrap_or_default();
    charset.guess(bytes).trim_matches([' ', '\0']).to_owned()
}

impl Deidentifier {
    /// What stands in the de-identified instance for what in this source. `known` as in
    /// [`deidentify_knowing`](Self::deidentify_knowing), since pseudonym and days may derive from it.
    ///
    /// # Errors
    /// Where the file cannot be understood.
    pub fn mapping(&self, source: &[u8], known: &Subject) -> Result<Mapping, Held> {
        let (mut subject, said) = instance::with_set(self, source, |meta, set| {
            let charset = charset_of(set, &Charset::default());
            let subject = Subject::of(meta, set, &self.profile);
            let all = [
                tags::PATIENT_ID,
                tags::ISSUER_OF_PATIENT_ID,
                tags::PATIENT_NAME,
                tags::ACCESSION_NUMBER,
                tags::STUDY_INSTANCE_UID,
                tags::SERIES_INSTANCE_UID,
                tags::SOP_INSTANCE_UID,
            ];
            (subject, all.map(|tag| said(set, tag, &charset)))
        })?;
        subject.add(known);
        let [patient_id, issuer, patient_name, accession, study, series, instance] = said;
        let patient = subject.patient.as_deref().unwrap_or_default();
        let uid = |uid: &str| if uid.is_empty() { String::new() } else { self.uid(uid) };
        let accession_pseudonym = match accession.is_empty() {
            true => String::new(),
            false => self.secret.pseudonym("accession", &accession),
        };
        let moved =
            (self.profile.dates == Dates::Shift).then(|| self.secret.days(patient, self.profile.date_shift_days_max));
        let line = json!({
            "schema": "gantry.escrow/1",
            "profile": self.profile.name,
            "source": {
                "patient_id": patient_id,
                "issuer_of_patient_id": issuer,
                "patient_name": patient_name,
                "accession_number": accession,
                "study_instance_uid": study,
                "series_instance_uid": series,
                "sop_instance_uid": instance,
            },
            "released": {
                "patient_id": self.secret.pseudonym("patient", patient),
                "accession_number": accession_pseudonym,
                "study_instance_uid": uid(&study),
                "series_instance_uid": uid(&series),
                "sop_instance_uid": uid(&instance),
            },
            "dates_moved_days": moved,
        });
        Ok(Mapping { line: format!("{line}\n") })
    }
}
