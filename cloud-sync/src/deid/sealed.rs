//! The proof by type that something went through the de-identifier.

use std::io::Write;
use std::path::Path;

use super::report::Report;

/// Something that came out of the [`Deidentifier`](super::Deidentifier), and could not have come from elsewhere: nothing else
/// makes one, so what takes a `Deidentified<T>` can send nothing that has an identity.
///
/// ```compile_fail
/// use gantry_cloud_sync::deid::{Deidentified, Json};
/// fn forge(json: Json) -> Deidentified<Json> {
///     Deidentified { inner: json }
/// }
/// ```
///
/// ```compile_fail
/// use gantry_cloud_sync::deid::{Deidentified, Instance};
/// fn forge(instance: Instance) -> Deidentified<Instance> {
///     Deidentified::new(instance)
/// }
/// ```
///
/// Nor is there a way to change one:
///
/// ```compile_fail
/// use gantry_cloud_sync::deid::{Deidentified, Json};
/// fn change(mut json: Deidentified<Json>) {
///     json.as_mut();
/// }
/// ```
pub struct Deidentified<T> {
    inner: T,
}

impl<T> Deidentified<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner }
    }
}

impl<T> std::ops::Deref for Deidentified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: Sealed> Deidentified<T> {
    /// The bytes of the file that it is.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.inner.bytes()
    }

    /// The same, kept.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.inner.take()
    }

    /// Writes the file. The name is the caller's: take it from the new UIDs or a digest, never from the source.
    ///
    /// # Errors
    /// What the operating system says; a file that is there is not replaced.
    pub fn write_to(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::fs::File::create_new(path)?;
        file.write_all(self.as_bytes())
    }

    /// What was done, as counts.
    #[must_use]
    pub fn report(&self) -> &Report {
        self.inner.done()
    }
}

impl<T: Sealed> std::fmt::Debug for Deidentified<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deidentified({} bytes)", self.as_bytes().len())
    }
}

/// What can be de-identified: [`Instance`] and [`Json`].
pub trait Sealed: private::Only {
    #[doc(hidden)]
    fn bytes(&self) -> &[u8];
    #[doc(hidden)]
    fn take(self) -> Vec<u8>;
    #[doc(hidden)]
    fn done(&self) -> &Report;
}

mod private {
    pub trait Only {}
    impl Only for super::Instance {}
    impl Only for super::Json {}
}

/// A DICOM instance, as a file of PS3.10.
pub struct Instance {
    pub(super) bytes: Vec<u8>,
    /// Where the file begins in them: what was before it is left of the source, and goes nowhere.
    pub(super) start: usize,
    pub(super) names: Names,
    pub(super) report: Report,
}

/// What the instance is called now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) sop_class_uid: String,
    pub(super) sop_instance_uid: String,
    pub(super) series_instance_uid: String,
    pub(super) study_instance_uid: String,
    pub(super) patient: String,
    pub(super) modality: String,
}

impl Instance {
    /// SOP Class UID (0008,0016).
    #[must_use]
    pub fn sop_class_uid(&self) -> &str {
        &self.names.sop_class_uid
    }

    /// The new SOP Instance UID (0008,0018).
    #[must_use]
    pub fn sop_instance_uid(&self) -> &str {
        &self.names.sop_instance_uid
    }

    /// The new Series Instance UID (0020,000E); empty where the source has none.
    #[must_use]
    pub fn series_instance_uid(&self) -> &str {
        &self.names.series_instance_uid
    }

    /// The new Study Instance UID (0020,000D); empty where the source has none.
    #[must_use]
    pub fn study_instance_uid(&self) -> &str {
        &self.names.study_instance_uid
    }

    /// The pseudonym that is the new Patient ID (0010,0020).
    #[must_use]
    pub fn patient_pseudonym(&self) -> &str {
        &self.names.patient
    }

    /// Modality (0008,0060).
    #[must_use]
    pub fn modality(&self) -> &str {
        &self.names.modality
    }
}

impl Sealed for Instance {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn take(mut self) -> Vec<u8> {
        self.bytes.drain(..self.start);
        self.bytes
    }

    fn done(&self) -> &Report {
        &self.report
    }
}

/// A JSON document, such as a `result.json`.
pub struct Json {
    pub(super) bytes: Vec<u8>,
    pub(super) report: Report,
}

impl Sealed for Json {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn take(self) -> Vec<u8> {
        self.bytes
    }

    fn done(&self) -> &Report {
        &self.report
    }
}
