//! The policy: which studies leave, as what, how much of it, and when. Nothing in here reads or writes anything.
//!
//! ```text
//!  sync.toml ─▶ Policy ─▶ attributes() ─▶ Deidentifier::values of each instance ─▶ Candidate
//!                 │                                                                    │
//!                 ├─▶ decide: consent ─▶ rules ─▶ sample ─▶ verdict ─▶ k-anonymity ◀───┘
//!                 │              └─▶ Decision: Send · Wait · Stay, each with its reason
//!                 └─▶ limits (Ledger, Meter), window: when uploads run
//! ```
//!
//! Read in the order `rules`, `consent`, `cohort`, `budget`, `meter`, `window`; `docs/policy.md` has all keys.

mod budget;
mod cohort;
mod consent;
mod error;
mod meter;
mod presets;
mod read;
mod rules;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use budget::{Ledger, Limits};
pub use cohort::{Below, Characteristic, Cohort, KAnonymity};
pub use consent::{Consent, Forbidden, Instances, NoConsent, OptOut, Required};
pub use error::PolicyError;
pub use meter::{Meter, Room};
pub use rules::{JobEnd, Pattern, Priority, Rule, SampleBy, Sampling, Verdict};
pub use window::{Day, TimeOfDay, Window};

use crate::batch::{self, Kind, Site};
use crate::deid::{self, Attribute, Patient, Secret, Values};
use crate::s3;
use rules::Match;

/// What a site chose. Paths are as written: [`Self::with_paths_from`] makes them those of the policy's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Of this format: 1.
    pub version: Version,
    /// What the hospital is called in the cloud.
    pub site: Site,
    /// Where what is not named here comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A file of 16 to 1024 random bytes, by which identities become pseudonyms: [`Secret`].
    pub identity_key_file: PathBuf,
    /// A file with the site's private key (PEM) that signs batches: [`batch::SiteKey`].
    pub signing_key_file: PathBuf,
    /// Files with public keys (PEM) of which signatures in the bucket are believed beside the site's own: earlier ones of the
    /// site, and those that packages of modules are signed with. At most 64.
    #[serde(default)]
    pub trusted_key_files: Vec<PathBuf>,
    /// What of a study leaves.
    #[serde(default = "everything")]
    pub objects: Vec<Kind>,
    /// How identities are taken out.
    #[serde(default, deserialize_with = "read::profile")]
    pub profile: deid::Profile,
    /// Which studies.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Of what a part goes.
    #[serde(default)]
    pub sampling: Sampling,
    /// What must be there first.
    #[serde(default)]
    pub consent: Consent,
    /// How many must share characteristics.
    #[serde(default)]
    pub k_anonymity: KAnonymity,
    /// How much leaves.
    #[serde(default)]
    pub limits: Limits,
    /// When.
    #[serde(default)]
    pub window: Window,
    /// What is grouped.
    #[serde(default)]
    pub batch: batch::Limits,
    /// Where to.
    #[serde(default)]
    pub s3: s3::Config,
    /// Who may learn later whose studies they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escrow: Option<Escrow>,
}

fn everything() -> Vec<Kind> {
    vec![Kind::Instance, Kind::Result, Kind::Verdict, Kind::Timing]
}

/// `[escrow]`: which pseudonym stands for whom, encrypted for the hospital alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escrow {
    /// Public keys of age (`age1…`) that can open it, 1 to 16.
    pub recipients: Vec<String>,
    /// Where it is written.
    pub folder: PathBuf,
}

/// The version of a format that is kept: 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Version;

impl From<Version> for i64 {
    fn from(_: Version) -> Self {
        1
    }
}

impl TryFrom<i64> for Version {
    type Error = PolicyError;

    fn try_from(version: i64) -> Result<Self, PolicyError> {
        (version == 1).then_some(Self).ok_or(PolicyError::Version(version))
    }
}

/// What is known of a study once its jobs are over.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Whose it is: [`deid::Deidentifier::patient`].
    pub patient: Patient,
    /// The new Study Instance UID: [`deid::Deidentifier::uid`].
    pub study_instance_uid: String,
    /// What its instances say at [`Policy::attributes`]; those that were acquired, not results.
    pub values: Values,
    /// AE titles of those who sent it; none where it came otherwise.
    pub calling_ae_titles: BTreeSet<String>,
    /// Names of modules that had jobs on it.
    pub modules: BTreeSet<String>,
    /// How these ended.
    pub jobs: BTreeSet<JobEnd>,
    /// How urgent it was.
    pub priority: Priority,
    /// What people said of results.
    pub verdicts: BTreeSet<Verdict>,
    /// When its last job was over, or without jobs when it was whole.
    pub settled: DateTime<Utc>,
}

/// By what it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// The site's key.
    pub secret: &'c Secret,
    /// Those who opted out, where `consent.opt_out_file` names a file.
    pub opt_out: Option<&'c OptOut>,
    /// Now.
    pub now: DateTime<Utc>,
}

/// What becomes of a study. It says nothing of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may go.
    Send {
        /// The rule that says so.
        rule: String,
        /// Without its patient's characteristics: by [`Policy::profile_without_characteristics`].
        without_characteristics: bool,
    },
    /// It may go later: ask again.
    Wait(Wait),
    /// It stays.
    Stay(Stay),
}

/// What a study waits for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wait {
    /// Somebody's verdict. Ask again when there is one, and at that moment.
    #[error("waits for a verdict until {until}, as rule {rule:?} says")]
    Verdict {
        /// Which rule.
        rule: String,
        /// Until then.
        until: DateTime<Utc>,
    },
    /// Other patients. Ask again when studies of others came.
    #[error("waits for others whose patients have the same characteristics, as k_anonymity.floor says")]
    Cohort,
}

/// Why a study stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stay {
    /// No rule matches.
    #[error("no rule matches")]
    NoRule,
    /// A rule says that it does.
    #[error("rule {0:?} says so")]
    Rule(String),
    /// Only a part goes, and this is not in it.
    #[error("it is not in the sample of rule {0:?}")]
    NotDrawn(String),
    /// Nobody may send it.
    #[error(transparent)]
    NoConsent(#[from] NoConsent),
}

impl Policy {
    /// Reads a policy: the preset that it names, with what it says itself on top. Tables go together key by key; a list takes the
    /// place of the preset's.
    ///
    /// # Errors
    /// Where it is none, or a value is out of its range.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        read::policy(text)
    }

    /// The same, with relative paths of files taken from this folder.
    #[must_use]
    pub fn with_paths_from(self, folder: &std::path::Path) -> Self {
        read::with_paths_from(self, folder)
    }

    /// What the instances of a study have to be asked, for [`deid::Deidentifier::values`].
    #[must_use]
    pub fn attributes(&self) -> Vec<Attribute> {
        let mut all: BTreeSet<Attribute> = rules::Looked::new().all().into();
        all.extend(self.consent.require.iter().map(|required| required.attribute.clone()));
        all.extend(self.consent.forbid.iter().map(|forbidden| forbidden.attribute.clone()));
        if self.k_anonymity.counts(&self.profile) {
            all.extend(self.k_anonymity.attributes.iter().map(|one| one.attribute()));
        }
        all.into_iter().collect()
    }

    /// The profile for studies that go without characteristics.
    #[must_use]
    pub fn profile_without_characteristics(&self) -> deid::Profile {
        deid::Profile { retain_patient_characteristics: false, ..self.profile.clone() }
    }

    /// What becomes of a study. A patient whose study goes, or waits only for others, is in the cohort from then on; asked again, it
    /// says the same.
    #[must_use]
    pub fn decide(&self, study: &Candidate, with: &Context<'_>, cohort: &mut Cohort) -> Decision {
        if let Err(why) = self.consent.given(&study.patient, &study.values, with.opt_out) {
            return Decision::Stay(why.into());
        }
        let said = self.rules.iter().find_map(|rule| match rule.matches(study, with.now) {
            Match::No => None,
            Match::Yes => Some((rule, None)),
            Match::Awaits(until) => Some((rule, Some(until))),
        });
        let Some((rule, awaits)) = said else { return Decision::Stay(Stay::NoRule) };
        let name = rule.name.clone();
        let drawn = rules::is_drawn(with.secret, self.sampling.by, study, rule.sample);
        match awaits {
            // Whether it would go with a verdict makes no difference to one that would not.
            _ if rule.verdicts.is_none() && !rule.send => return Decision::Stay(Stay::Rule(name)),
            _ if rule.verdicts.is_none() && !drawn => return Decision::Stay(Stay::NotDrawn(name)),
            Some(until) => return Decision::Wait(Wait::Verdict { rule: name, until }),
            None if !rule.send => return Decision::Stay(Stay::Rule(name)),
            None if !drawn => return Decision::Stay(Stay::NotDrawn(name)),
            None => {}
        }
        let floor = &self.k_anonymity;
        let met = !floor.counts(&self.profile)
            || floor.is_met(&self.profile, with.secret, &study.patient, &study.values, cohort);
        match (met, floor.below) {
            (false, Below::Wait) => Decision::Wait(Wait::Cohort),
            (met, _) => Decision::Send { rule: name, without_characteristics: !met },
        }
    }
}
