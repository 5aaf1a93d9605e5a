//! What may leave: de-identified, and proven to be.

use std::ops::Deref;

use super::{Dates, Proof, Retain, Scanner, Unproven};
use crate::deid::{self, Deidentified, Excuse, Excuses, Instance, Json};
use sha2::{Digest, Sha256};

/// What went through the de-identifier and was proven by a [`Scanner`](super::Scanner) that knows nothing of it. What sends
/// takes this and nothing else.
///
/// ```compile_fail
/// use gantry_cloud_sync::deid::{Deidentified, Json};
/// use gantry_cloud_sync::verify::Released;
/// fn unproven(json: Deidentified<Json>) -> Released<Json> {
///     Released { inner: json, identifiers: 0 }
/// }
/// ```
pub struct Released<T> {
    inner: Deidentified<T>,
    identifiers: usize,
}

/// The proof is about other bytes, or excuses what the profile does not retain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// Digests differ.
    #[error("the proof is about other bytes; prove this object")]
    OtherBytes,
    /// What was excused is not what this profile retains.
    #[error("the proof excuses what the profile does not retain; prove it with the profile's options")]
    OtherOptions,
    /// What was passed over is not what a person excused of this object.
    #[error("the proof passes over what nobody excused of this object; de-identify it with the same excuses")]
    OtherExcuses,
}

/// Releases what was proven.
///
/// # Errors
/// Where the proof is not one of these bytes under this profile.
pub fn release<T>(
    deidentified: Deidentified<T>,
    proof: &Proof,
    profile: &deid::Profile,
) -> Result<Released<T>, NotProven>
where
    Deidentified<T>: Bytes,
{
    if proof.retain() != Retain::from(profile) {
        return Err(NotProven::OtherOptions);
    }
    if !proof.passed().all(|alarm| deidentified.excuses().has(&Excuse::FalseAlarm(alarm.clone()))) {
        return Err(NotProven::OtherExcuses);
    }
    let digest: [u8; 32] = Sha256::digest(deidentified.bytes()).into();
    match digest == *proof.output_sha256() {
        true => Ok(Released { inner: deidentified, identifiers: proof.identifiers() }),
        false => Err(NotProven::OtherBytes),
    }
}

/// Why an object was not released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreleased {
    /// It was not proven to be clean.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// The scanner excuses what this profile does not retain.
    #[error(transparent)]
    NotProven(#[from] NotProven),
}

impl Scanner {
    /// Looks through an instance and releases it, with the false alarms that were excused when it was de-identified. It is one
    /// object, which nothing changes between the two, so no digest has to say that it is: this is [`Scanner::prove_instance_but`] and
    /// [`release()`] in less time.
    ///
    /// # Errors
    /// Where identifiers of the sources are, why it could not be followed to its end, or that the profile is another.
    pub fn release_instance(
        &self,
        instance: Deidentified<Instance>,
        profile: &deid::Profile,
    ) -> Result<Released<Instance>, Unreleased> {
        self.release(instance, profile, Self::seek_in_instance)
    }

    /// The same of JSON.
    ///
    /// # Errors
    /// Where identifiers of the sources are, or that the profile is another.
    pub fn release_json(
        &self,
        json: Deidentified<Json>,
        profile: &deid::Profile,
    ) -> Result<Released<Json>, Unreleased> {
        self.release(json, profile, Self::seek_in_text)
    }

    fn release<T>(
        &self,
        made: Deidentified<T>,
        profile: &deid::Profile,
        seek: impl FnOnce(&Self, &[u8]) -> Result<(), Unproven>,
    ) -> Result<Released<T>, Unreleased>
    where
        Deidentified<T>: Bytes,
    {
        if self.retain() != Retain::from(profile) {
            return Err(NotProven::OtherOptions.into());
        }
        self.pass(seek(self, made.bytes()), made.excuses().false_alarms())?;
        Ok(Released { inner: made, identifiers: self.identifiers() })
    }
}

impl<T> Released<T> {
    /// How many identifiers of the source were sought in it.
    #[must_use]
    pub fn identifiers(&self) -> usize {
        self.identifiers
    }

    /// What it is, without the right to send it.
    #[must_use]
    pub fn into_inner(self) -> Deidentified<T> {
        self.inner
    }
}

impl<T> Deref for Released<T> {
    type Target = Deidentified<T>;

    fn deref(&self) -> &Deidentified<T> {
        &self.inner
    }
}

impl<T> std::fmt::Debug for Released<T>
where
    Deidentified<T>: Bytes,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Released({} bytes)", self.inner.bytes().len())
    }
}

/// What has bytes that can be proven.
pub trait Bytes {
    /// All of them.
    fn bytes(&self) -> &[u8];

    /// What a person excused of it.
    fn excuses(&self) -> &Excuses;
}

impl Bytes for Deidentified<Instance> {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn excuses(&self) -> &Excuses {
        self.report().excused()
    }
}

impl Bytes for Deidentified<Json> {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn excuses(&self) -> &Excuses {
        self.report().excused()
    }
}

impl From<&deid::Profile> for Retain {
    fn from(profile: &deid::Profile) -> Self {
        Retain {
            uids: profile.retain_uids,
            device: profile.retain_device_identity,
            institution: profile.retain_institution_identity,
            safe_private: profile.retain_safe_private,
            dates: match profile.dates {
                deid::Dates::Remove => Dates::Removed,
                deid::Dates::Shift => Dates::Modified,
                deid::Dates::Keep => Dates::Full,
            },
        }
    }
}
