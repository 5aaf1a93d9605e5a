//! `[[module_sources]]`: buckets that packages come from, and whose signature is believed there.

use std::path::PathBuf;

use gantry_cloud_sync::s3;
use serde::{Deserialize, Serialize};

use crate::module::location::Location;

/// A vendor's folder in a bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleSource {
    /// `s3://BUCKET/PREFIX`. Of several that hold a package, the longest counts.
    pub url: Location,
    /// Public keys (PEM): a package must be signed by one of them.
    pub trust: Vec<PathBuf>,
    /// How the bucket is reached: the keys of `[s3]` in docs/sync.md, without `bucket` and `prefix`.
    #[serde(default)]
    pub s3: s3::Config,
}

impl ModuleSource {
    pub(super) fn check(&self) -> Result<(), String> {
        let named = |why: String| format!("module_sources ({}): {why}", self.url);
        if self.trust.is_empty() {
            return Err(named("trust: name at least one public key".into()));
        }
        if !self.s3.bucket.is_empty() || !self.s3.prefix.is_empty() {
            return Err(named("s3.bucket and s3.prefix: url says both".into()));
        }
        self.at(&self.url).check().map_err(|e| named(e.to_string()))
    }

    /// How to reach what lies in this bucket.
    pub(super) fn at(&self, location: &Location) -> s3::Config {
        s3::Config { bucket: location.bucket().to_owned(), ..self.s3.clone() }
    }
}

/// The source that a package at this place is of.
pub(super) fn of<'a>(sources: &'a [ModuleSource], location: &Location) -> Option<&'a ModuleSource> {
    sources.iter().filter(|source| location.is_in(&source.url)).max_by_key(|source| source.url.key().len())
}
