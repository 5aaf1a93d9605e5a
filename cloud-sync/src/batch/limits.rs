//! `[batch]`: when a batch is sealed, and how much may wait.

use serde::{Deserialize, Serialize};

use super::Failure;

/// How large and how old a batch gets, and how much the spool keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A batch is sealed at this size, 1 to 1,048,576 MiB. One study that is larger is a batch of its own.
    pub batch_max_mib: u64,
    /// A batch is sealed at so many studies, 1 to 10,000.
    pub batch_studies_max: usize,
    /// Objects of one study, 1 to 50,000.
    pub study_objects_max: usize,
    /// Rows that one study brings to the catalogue, 1 to 1,000,000. A study with more is refused.
    pub study_rows_max: usize,
    /// A batch is sealed when its oldest study waited so long, 1 to 604,800 s.
    pub batch_age_max_s: u64,
    /// What the spool may hold, sent batches that are kept included, 1 to 67,108,864 MiB. Beyond it nothing is taken in.
    pub spool_max_mib: u64,
    /// How long what was sent is kept for repair, 0 to 8,760 h.
    pub keep_sent_h: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_max_mib: 1024,
            batch_studies_max: 100,
            study_objects_max: 20_000,
            study_rows_max: 100_000,
            batch_age_max_s: 3600,
            spool_max_mib: 100 * 1024,
            keep_sent_h: 24,
        }
    }
}

impl Limits {
    /// # Errors
    /// [`Failure::Configuration`] naming the key and its range.
    pub fn check(&self) -> Result<(), Failure> {
        const MAX_MIB: u64 = 1024 * 1024;
        let keys = [
            ("batch_max_mib", self.batch_max_mib, 1, MAX_MIB),
            ("batch_studies_max", self.batch_studies_max as u64, 1, 10_000),
            ("study_objects_max", self.study_objects_max as u64, 1, 50_000),
            ("study_rows_max", self.study_rows_max as u64, 1, 1_000_000),
            ("batch_age_max_s", self.batch_age_max_s, 1, 604_800),
            ("spool_max_mib", self.spool_max_mib, 1, 64 * MAX_MIB),
            ("keep_sent_h", self.keep_sent_h, 0, 8760),
        ];
        match keys.into_iter().find(|&(_, value, least, most)| !(least..=most).contains(&value)) {
            Some((key, value, least, most)) => {
                Err(Failure::Configuration(format!("batch.{key} is {value}, and must be {least} to {most}")))
            }
            None => Ok(()),
        }
    }
}
