//! `[k_anonymity]`: a study whose patient's characteristics stay goes only with enough others that have the same.
//!
//! This is the k-anonymity of Samarati and Sweeney (1998; L. Sweeney, Int. J. Uncertain. Fuzz. 10(5), 2002): each combination of
//! values of the quasi-identifiers that is released is that of at least k. Here the quasi-identifiers are the characteristics of
//! the patient that the profile retains (PS3.15 E.3.7), with the values that leave, and k counts patients, not studies: those whose
//! studies left or wait for others. `generalize` of the profile makes the values coarse; where none is there, nothing is shared.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::PolicyError;
use crate::deid::{Attribute, Patient, Profile, Secret, Values};

const FLOOR_MAX: u32 = 1000;

/// The floor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KAnonymity {
    /// How many patients of the cohort must have the same characteristics, 1 to 1000; 1: no floor.
    pub floor: u32,
    /// Which characteristics count.
    pub attributes: Vec<Characteristic>,
    /// What becomes of the studies of those who have too few like them.
    pub below: Below,
}

/// What becomes of a study below the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Below {
    /// It waits until there are others.
    #[default]
    Wait,
    /// It goes without characteristics.
    Remove,
}

/// A characteristic of the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Characteristic {
    /// Patient's Sex (0010,0040).
    Sex,
    /// Patient's Age (0010,1010).
    Age,
    /// Patient's Size (0010,1020).
    Size,
    /// Patient's Weight (0010,1030).
    Weight,
    /// Ethnic Group (0010,2160).
    EthnicGroup,
    /// Smoking Status (0010,21A0).
    SmokingStatus,
    /// Pregnancy Status (0010,21C0).
    PregnancyStatus,
    /// Patient's Sex Neutered (0010,2203).
    SexNeutered,
}

impl Characteristic {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Sex,
        Self::Age,
        Self::Size,
        Self::Weight,
        Self::EthnicGroup,
        Self::SmokingStatus,
        Self::PregnancyStatus,
        Self::SexNeutered,
    ];

    pub(super) fn attribute(self) -> Attribute {
        let keyword = match self {
            Self::Sex => "PatientSex",
            Self::Age => "PatientAge",
            Self::Size => "PatientSize",
            Self::Weight => "PatientWeight",
            Self::EthnicGroup => "EthnicGroup",
            Self::SmokingStatus => "SmokingStatus",
            Self::PregnancyStatus => "PregnancyStatus",
            Self::SexNeutered => "PatientSexNeutered",
        };
        keyword.parse().expect("a keyword of PS3.6")
    }
}

impl Default for KAnonymity {
    fn default() -> Self {
        Self { floor: 1, attributes: Characteristic::ALL.to_vec(), below: Below::Wait }
    }
}

impl KAnonymity {
    pub(super) fn check(&self) -> Result<(), PolicyError> {
        if !(1..=FLOOR_MAX).contains(&self.floor) {
            return Err(PolicyError::range("k_anonymity.floor", "1 to 1000"));
        }
        if self.attributes.is_empty() {
            return Err(PolicyError::range("k_anonymity.attributes", "at least one; for no floor name `floor = 1`"));
        }
        Ok(())
    }

    /// Whether anything has to be counted under this profile.
    pub(super) fn counts(&self, profile: &Profile) -> bool {
        self.floor > 1 && profile.retain_patient_characteristics
    }

    /// Whether enough patients have what this one has; with this one, who is in the cohort from now on.
    pub(super) fn is_met(
        &self,
        profile: &Profile,
        secret: &Secret,
        patient: &Patient,
        said: &Values,
        cohort: &mut Cohort,
    ) -> bool {
        match self.combination(profile, said) {
            None => false,
            Some(combination) if combination.iter().all(BTreeSet::is_empty) => true,
            Some(combination) => cohort.join(&combination, patient, secret, self.floor) >= self.floor as usize,
        }
    }

    /// By characteristic, its values as they would leave; `None` where they are not known.
    fn combination(&self, profile: &Profile, said: &Values) -> Option<Vec<BTreeSet<String>>> {
        let counted = Characteristic::ALL.into_iter().filter(|one| self.attributes.contains(one));
        let values = counted.map(|one| {
            let attribute = one.attribute();
            let values = said.lists(&attribute)?.iter().flatten();
            Some(values.filter_map(|value| profile.generalized(&attribute, value)).collect())
        });
        values.collect()
    }
}

/// How many patients have which characteristics: keyed digests, so that it says nothing without the site's key, and of each
/// combination no more patients than the floor. The caller keeps it, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    version: super::Version,
    /// By combination, patients. The same patient under two combinations has two names.
    combinations: BTreeMap<String, BTreeSet<String>>,
}

impl Cohort {
    /// Takes a patient in, and says how many there are, counted up to the floor.
    fn join(&mut self, combination: &[BTreeSet<String>], patient: &Patient, secret: &Secret, floor: u32) -> usize {
        let written = serde_json::to_string(combination).expect("lists of text");
        let class = name(secret, "combination", &written);
        let patient = name(secret, "cohort", &format!("{class} {}", patient.pseudonym()));
        let patients = self.combinations.entry(class).or_default();
        if patients.len() < floor as usize {
            patients.insert(patient);
        }
        patients.len()
    }

    /// Takes a patient out, whose studies do not go after all.
    pub fn forget(&mut self, patient: &Patient, secret: &Secret) {
        for (class, patients) in &mut self.combinations {
            patients.remove(&name(secret, "cohort", &format!("{class} {}", patient.pseudonym())));
        }
        self.combinations.retain(|_, patients| !patients.is_empty());
    }

    /// How many combinations there are, and how many of them have fewer patients than the floor.
    #[must_use]
    pub fn combinations(&self, floor: u32) -> (usize, usize) {
        let below = self.combinations.values().filter(|patients| patients.len() < floor as usize);
        (self.combinations.len(), below.count())
    }
}

/// 32 hexadecimal digits.
fn name(secret: &Secret, purpose: &str, of: &str) -> String {
    secret.digest(purpose, of.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
