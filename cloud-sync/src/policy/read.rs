//! From TOML to a policy.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::{Policy, PolicyError, presets, rules};
use crate::deid::Profile;
use crate::escrow::RECIPIENTS_MAX;
use crate::s3::Encryption;

pub(super) fn policy(text: &str) -> Result<Policy, PolicyError> {
    let given: Table = toml::from_str(text).map_err(|error| PolicyError::Toml(error.to_string()))?;
    if let Some(Value::Integer(version)) = given.get("version").filter(|v| v.as_integer() != Some(1)) {
        return Err(PolicyError::Version(*version));
    }
    let mut merged = match given.get("preset").and_then(Value::as_str) {
        Some(name) => toml::from_str(presets::text(name)?).expect("a preset is TOML"),
        None => Table::new(),
    };
    merge(&mut merged, given);
    let policy: Policy = merged.try_into().map_err(|error: toml::de::Error| PolicyError::Toml(error.to_string()))?;
    policy.check()?;
    Ok(policy)
}

/// Tables go together, anything else takes the place of what was there.
fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// `[profile]`: what `base` names, with the other keys on top.
pub(super) fn profile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Profile, D::Error> {
    use serde::de::Error;
    let mut given = Table::deserialize(deserializer)?;
    let base = match given.remove("base") {
        Some(Value::String(name)) => Profile::preset(&name).map_err(Error::custom)?,
        Some(_) => return Err(Error::custom("profile.base must be the name of a profile")),
        None => Profile::default(),
    };
    let mut merged = Table::try_from(base).map_err(Error::custom)?;
    merge(&mut merged, given);
    merged.try_into().map_err(Error::custom)
}

pub(super) fn with_paths_from(mut policy: Policy, folder: &Path) -> Policy {
    let s3 = &mut policy.s3;
    let key = match &mut s3.encryption {
        Encryption::SseC { key_file } => Some(key_file),
        _ => None,
    };
    let files: [Option<&mut PathBuf>; 8] = [
        Some(&mut policy.identity_key_file),
        Some(&mut policy.signing_key_file),
        policy.consent.opt_out_file.as_mut(),
        policy.escrow.as_mut().map(|escrow| &mut escrow.folder),
        s3.credentials_file.as_mut(),
        s3.proxy_credentials_file.as_mut(),
        s3.ca_file.as_mut(),
        key,
    ];
    let files = files.into_iter().flatten().chain(&mut policy.trusted_key_files);
    files.for_each(|file| *file = folder.join(&*file));
    policy
}

impl Policy {
    fn check(&self) -> Result<(), PolicyError> {
        let of_others = |error: &dyn std::error::Error| PolicyError::Contradiction(error.to_string());
        let empty = |path: &PathBuf| path.as_os_str().is_empty();
        if empty(&self.identity_key_file) || empty(&self.signing_key_file) || self.trusted_key_files.iter().any(empty) {
            return Err(PolicyError::range(
                "identity_key_file, signing_key_file and trusted_key_files",
                "paths of files",
            ));
        }
        if self.trusted_key_files.len() > 64 {
            return Err(PolicyError::range("trusted_key_files", "at most 64"));
        }
        if self.objects.is_empty() {
            return Err(PolicyError::range("objects", "at least one of instance, result, verdict and timing"));
        }
        if !(1..=rules::RULES_MAX).contains(&self.rules.len()) {
            return Err(PolicyError::range("rules", "1 to 256: without one no study leaves"));
        }
        self.rules.iter().try_for_each(rules::Rule::check)?;
        self.profile.check().map_err(|error| PolicyError::Contradiction(format!("profile.{error}")))?;
        self.consent.check()?;
        self.k_anonymity.check()?;
        self.limits.check()?;
        self.window.check()?;
        self.batch.check().map_err(|error| of_others(&error))?;
        self.s3.check().map_err(|error| of_others(&error))?;
        self.fits_a_request()?;
        let Some(escrow) = &self.escrow else { return Ok(()) };
        let is_key = |key: &String| key.parse::<age::x25519::Recipient>().is_ok();
        if !(1..=RECIPIENTS_MAX).contains(&escrow.recipients.len()) || !escrow.recipients.iter().all(is_key) {
            return Err(PolicyError::range("escrow.recipients", "1 to 16 public keys, as `age-keygen` prints them"));
        }
        Ok(())
    }

    /// What leaves in one request leaves whole, so a limit has room for it.
    fn fits_a_request(&self) -> Result<(), PolicyError> {
        let request = self.s3.part_mib.max(self.s3.multipart_above_mib);
        match self.limits.least() {
            Some((key, most)) if most < request => Err(PolicyError::Contradiction(format!(
                "{key} is {most}, and one request carries up to {request} MiB (s3.part_mib, s3.multipart_above_mib): \
                 raise the limit, or lower these"
            ))),
            _ => Ok(()),
        }
    }
}
