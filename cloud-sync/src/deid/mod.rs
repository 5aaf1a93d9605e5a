//! De-identification by PS3.15 Annex E.
//!
//! ```text
//!  file ─▶ parse ──▶ subject: whose it is, and every identifier in it
//!        (guarded)     │
//!                      ▼
//!                    act: table E.1-1, options, types of the IOD ─▶ write ─▶ Deidentified<Instance>
//!                      │      dates · text · private · pixels                │
//!                      └────────────────────▶ Held                           └─ Report: counts, never values
//! ```
//!
//! Read `profile.rs` for what can be chosen, `act.rs` for what is done to an element, `table.rs` for the standard's table.
//! Nothing from outside is trusted: depth, sizes and numbers have limits in the profile, and what cannot be understood is
//! removed or held, never passed through.

mod act;
mod charset;
mod dates;
mod excuse;
mod generalize;
mod header;
mod held;
mod instance;
mod iod;
mod json;
mod mapping;
mod parse;
mod patient;
mod pixels;
mod private;
mod profile;
mod report;
mod sealed;
mod secret;
mod subject;
mod table;
mod text;
mod values;
mod write;

pub(crate) use header::Header;

pub use excuse::{Excuse, Excuses, UnknownExcuse};
pub use held::{Doubt, Held};
pub use mapping::Mapping;
pub use patient::Patient;
pub use pixels::{DecodedFrames, Frame, FrameDecoder, Palette, TextDetector};
pub use profile::{
    Dates, Generalize, Head, KnownDevice, Limits, Pixels, Profile, ProfileError, Rectangle, Risky, Unclear,
};
pub use report::{Action, Report};
pub use sealed::{Deidentified, Instance, Json};
pub use secret::{Secret, SecretError};
pub use subject::Subject;
pub use values::{Attribute, Values};
pub use write::has_long_length;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Takes identities out of instances and results. It can be shared by threads.
#[derive(Clone)]
pub struct Deidentifier {
    profile: Profile,
    secret: Secret,
    detector: Option<Arc<dyn TextDetector>>,
    decoder: Option<Arc<dyn FrameDecoder>>,
}

impl std::fmt::Debug for Deidentifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deidentifier").field("profile", &self.profile.name).finish_non_exhaustive()
    }
}

impl Deidentifier {
    /// One that follows this profile, with the key of the site.
    #[must_use]
    pub fn new(profile: Profile, secret: Secret) -> Self {
        Self { profile, secret, detector: None, decoder: None }
    }

    /// The same, with what finds text in images.
    #[must_use]
    pub fn with_detector(self, detector: Arc<dyn TextDetector>) -> Self {
        Self { detector: Some(detector), ..self }
    }

    /// The same, with what decodes compressed frames; without it, those that would have to be looked at or masked are held.
    #[must_use]
    pub fn with_decoder(self, decoder: Arc<dyn FrameDecoder>) -> Self {
        Self { decoder: Some(decoder), ..self }
    }

    /// The profile that it follows.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// De-identifies a file. Its name and path go into nothing.
    ///
    /// # Errors
    /// Why it must stay.
    pub fn deidentify_file(&self, source: &Path) -> Result<Deidentified<Instance>, Held> {
        self.deidentify_bytes(self.read(source)?)
    }

    /// De-identifies the bytes of a file.
    ///
    /// # Errors
    /// Why it must stay.
    pub fn deidentify_bytes(&self, source: Vec<u8>) -> Result<Deidentified<Instance>, Held> {
        self.deidentify_knowing(source, &Subject::default())
    }

    /// The same, with what is known of the patient from other instances of the study: what identifies there is taken out of text
    /// here too. Dates move by what this instance says of the patient, or where it says nothing, by what `known` does.
    ///
    /// # Errors
    /// Why it must stay.
    pub fn deidentify_knowing(&self, source: Vec<u8>, known: &Subject) -> Result<Deidentified<Instance>, Held> {
        self.deidentify_excused(source, known, &Excuses::default())
    }

    /// The same, of an instance in which a person excused something: of this very instance and under this profile. What they
    /// excused is in the report; everything else is checked.
    ///
    /// # Errors
    /// Why it must stay all the same.
    pub fn deidentify_excused(
        &self,
        source: Vec<u8>,
        known: &Subject,
        excuses: &Excuses,
    ) -> Result<Deidentified<Instance>, Held> {
        instance::deidentify(self, source, known, excuses)
    }

    /// Whose instance it is, and what identifies there: for [`Self::deidentify_knowing`] and [`Self::deidentify_json`].
    ///
    /// # Errors
    /// Where the file cannot be understood.
    pub fn subject(&self, source: &[u8]) -> Result<Subject, Held> {
        instance::subject(self, source)
    }

    /// What an instance says at these attributes. It is the source's, and goes into nothing that leaves.
    ///
    /// # Errors
    /// Where the file cannot be understood.
    pub fn values(&self, source: &[u8], attributes: &[Attribute]) -> Result<Values, Held> {
        instance::values(self, source, attributes)
    }

    /// Whose study it is, by the pseudonym that takes the place of the Patient ID; nothing where no instance says whose.
    #[must_use]
    pub fn patient(&self, subject: &Subject) -> Option<Patient> {
        subject.patient.as_deref().map(|patient| Patient::of(patient, &self.secret))
    }

    /// De-identifies a result about this patient: UIDs become those of the instances, digests of files that stay are replaced, dates
    /// move, text is cleaned.
    ///
    /// # Errors
    /// Why it must stay.
    pub fn deidentify_json(&self, source: &[u8], subject: &Subject) -> Result<Deidentified<Json>, Held> {
        self.deidentify_json_excused(source, subject, &Excuses::default())
    }

    /// The same, of a result in which a person excused something.
    ///
    /// # Errors
    /// Why it must stay all the same.
    pub fn deidentify_json_excused(
        &self,
        source: &[u8],
        subject: &Subject,
        excuses: &Excuses,
    ) -> Result<Deidentified<Json>, Held> {
        json::deidentify(self, source, subject, excuses)
    }

    /// The UID that stands for this one in everything that this de-identifier makes.
    #[must_use]
    pub fn uid(&self, uid: &str) -> String {
        let standard = uid.starts_with("1.2.840.10008.");
        match (self.profile.retain_uids || standard) && parse::is_uid(uid) {
            true => uid.into(),
            false => self.secret.uid(uid),
        }
    }

    /// A name for the file of a result, from its bytes once it is de-identified.
    #[must_use]
    pub fn result_name(&self, bytes: &[u8]) -> String {
        self.secret.pseudonym("result", &String::from_utf8_lossy(bytes))
    }

    /// The bytes of a file, within `file_max_mib`.
    ///
    /// # Errors
    /// It cannot be read, or is larger.
    pub fn read(&self, source: &Path) -> Result<Vec<u8>, Held> {
        let maximum = self.profile.limits.file_max_mib;
        let file = std::fs::File::open(source)?;
        let length = file.metadata()?.len();
        if length > maximum << 20 {
            return Err(Held::Limit { limit: "file_max_mib", maximum });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.take((maximum << 20) + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
pub(crate) use tests::ct_for_tests;

#[cfg(test)]
mod tests;
