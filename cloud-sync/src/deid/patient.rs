//! A patient by pseudonym.

use super::secret::Secret;

/// Before what a Patient ID is, in what pseudonyms derive from.
pub(super) const BY_ID: &str = "id ";
/// What stands around a Patient ID and is none of it.
pub(super) const AROUND_IDS: [char; 3] = [' ', '\0', '^'];

/// Who a study is of: the pseudonym that is its new Patient ID (0010,0020).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Patient {
    pseudonym: String,
    has_id: bool,
}

impl Patient {
    /// Of what pseudonyms derive from.
    pub(crate) fn of(identity: &str, secret: &Secret) -> Self {
        Self { pseudonym: secret.pseudonym("patient", identity), has_id: identity.starts_with(BY_ID) }
    }

    /// The patient with this Patient ID (0010,0020).
    #[must_use]
    pub fn with_id(patient_id: &str, secret: &Secret) -> Self {
        Self::of(&format!("{BY_ID}{}", patient_id.trim_matches(AROUND_IDS)), secret)
    }

    /// 16 characters.
    #[must_use]
    pub fn pseudonym(&self) -> &str {
        &self.pseudonym
    }

    /// Whether it derives from a Patient ID; else from a name, or a study that has neither.
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.has_id
    }

    /// Whether a text could be a pseudonym.
    #[must_use]
    pub fn is_pseudonym(text: &str) -> bool {
        Secret::is_pseudonym(text)
    }
}

impl std::fmt::Debug for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Patient({})", self.pseudonym)
    }
}
