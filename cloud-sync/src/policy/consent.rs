//! `[consent]`: what a study must say before it may go. What is not known is not sent.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::PolicyError;
use super::rules::Pattern;
use crate::deid::{Attribute, Patient, Secret, Values};

const TAGS_MAX: usize = 64;

/// What must and what must not be there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Consent {
    /// Attributes that must be there, all of them.
    pub require: Vec<Required>,
    /// Attributes that must not be there, none of them.
    pub forbid: Vec<Forbidden>,
    /// A file of patients who want nothing sent: [`OptOut`].
    pub opt_out_file: Option<PathBuf>,
}

/// An attribute that must be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Required {
    /// Which.
    pub attribute: Attribute,
    /// One of its values must be one of these; without this key any will do.
    #[serde(default)]
    pub values: Option<Vec<Pattern>>,
    /// Where.
    #[serde(default)]
    pub instances: Instances,
}

/// How many instances must say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instances {
    /// Each.
    #[default]
    Every,
    /// At least one of the study.
    Any,
}

/// An attribute that must not be there, in any instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forbidden {
    /// Which.
    pub attribute: Attribute,
    /// With one of these values; without this key with any.
    #[serde(default)]
    pub values: Option<Vec<Pattern>>,
}

/// Why a patient's study stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoConsent {
    /// An attribute is not there, or has another value.
    #[error("{0} does not say what consent.require asks for")]
    Missing(Attribute),
    /// An attribute is there.
    #[error("{0} says what consent.forbid names")]
    Forbidden(Attribute),
    /// The patient is on the list.
    #[error("the patient opted out")]
    OptedOut,
    /// There is a list, and the patient has no Patient ID by which to look.
    #[error("the patient has no Patient ID (0010,0020), so that nobody knows whether they opted out")]
    Unidentified,
    /// There should be a list.
    #[error("consent.opt_out_file was not read")]
    NoList,
}

impl Consent {
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        if self.require.len() + self.forbid.len() > TAGS_MAX {
            return Err(PolicyError::range("consent.require and consent.forbid", "at most 64 attributes together"));
        }
        let lists = self.require.iter().map(|r| &r.values).chain(self.forbid.iter().map(|f| &f.values));
        if lists.flatten().any(|values| values.is_empty() || values.len() > 256) {
            return Err(PolicyError::range("values in consent", "a list of 1 to 256, or left out where any will do"));
        }
        Ok(())
    }

    /// # Errors
    /// Why it stays.
    pub(super) fn given(&self, patient: &Patient, said: &Values, list: Option<&OptOut>) -> Result<(), NoConsent> {
        if self.opt_out_file.is_some() {
            let list = list.ok_or(NoConsent::NoList)?;
            if !patient.has_id() {
                return Err(NoConsent::Unidentified);
            }
            if list.contains(patient) {
                return Err(NoConsent::OptedOut);
            }
        }
        if let Some(out) = self.require.iter().find(|required| !required.is_met(said)) {
            return Err(NoConsent::Missing(out.attribute.clone()));
        }
        match self.forbid.iter().find(|forbidden| !forbidden.is_absent(said)) {
            Some(there) => Err(NoConsent::Forbidden(there.attribute.clone())),
            None => Ok(()),
        }
    }
}

fn says(list: &[String], values: Option<&Vec<Pattern>>) -> bool {
    list.iter().any(|value| values.is_none_or(|wanted| wanted.iter().any(|pattern| pattern.matches(value))))
}

impl Required {
    fn is_met(&self, said: &Values) -> bool {
        let Some(lists) = said.lists(&self.attribute).filter(|lists| !lists.is_empty()) else { return false };
        match self.instances {
            Instances::Every => lists.iter().all(|list| says(list, self.values.as_ref())),
            Instances::Any => lists.iter().any(|list| says(list, self.values.as_ref())),
        }
    }
}

impl Forbidden {
    fn is_absent(&self, said: &Values) -> bool {
        said.lists(&self.attribute).is_some_and(|lists| !lists.iter().any(|list| says(list, self.values.as_ref())))
    }
}

/// Those who opted out, by pseudonyms, so that the file names nobody: a line each, and above them one that says by which key.
///
/// ```text
/// # gantry opt-out 7XK0…
/// 3DLK2M9Q0ZRT8W_B
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct OptOut {
    pseudonyms: HashSet<String>,
}

/// Before the mark of a key.
const HEADER: &str = "# gantry opt-out ";

impl std::fmt::Debug for OptOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OptOut of {} patients", self.pseudonyms.len())
    }
}

impl OptOut {
    /// Reads a list that was made with this key.
    ///
    /// # Errors
    /// Where it was made with another, or holds what is no pseudonym: with either somebody would be missed.
    pub fn parse(text: &str, secret: &Secret) -> Result<Self, PolicyError> {
        let mut lines = text.lines().map(str::trim_end);
        if lines.next() != Some(Self::header(secret).as_str()) {
            return Err(PolicyError::OptOut(
                "the first line of consent.opt_out_file is not that of a list made with identity_key_file: \
                 make it anew with `gantry opt-out`"
                    .to_owned(),
            ));
        }
        let mut pseudonyms = HashSet::new();
        for (n, line) in lines.enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            if !Patient::is_pseudonym(line) {
                return Err(PolicyError::OptOut(format!(
                    "line {} of consent.opt_out_file is no pseudonym: make it with `gantry opt-out`",
                    n + 2
                )));
            }
            pseudonyms.insert(line.to_owned());
        }
        Ok(Self { pseudonyms })
    }

    /// A whole list of the patients with these Patient IDs, as [`Self::parse`] reads it.
    #[must_use]
    pub fn write<'i>(patient_ids: impl IntoIterator<Item = &'i str>, secret: &Secret) -> String {
        let mut lines: Vec<String> =
            patient_ids.into_iter().map(|id| Patient::with_id(id, secret).pseudonym().to_owned()).collect();
        // Whose comes first says nothing then.
        lines.sort();
        lines.dedup();
        lines.insert(0, Self::header(secret));
        lines.join("\n") + "\n"
    }

    fn header(secret: &Secret) -> String {
        format!("{HEADER}{}", secret.pseudonym("opt-out", ""))
    }

    /// Whether this patient is on it.
    #[must_use]
    pub fn contains(&self, patient: &Patient) -> bool {
        self.has(patient.pseudonym())
    }

    /// Whether the patient with this pseudonym is.
    #[must_use]
    pub fn has(&self, pseudonym: &str) -> bool {
        self.pseudonyms.contains(pseudonym)
    }
}
