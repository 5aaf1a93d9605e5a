//! What a process has once: configuration, sandbox, engines. Wires, and decides nothing.

use std::sync::Arc;

use crate::config::Config;
use crate::inference::{Engines, InferenceError};
use crate::sandbox::{CacheError, CodeCache, Sandbox};
use crate::study::ReadOptions;

/// One a process.
pub struct App {
    /// As read, with the command line's options applied.
    pub config: Config,
    /// Runs components.
    pub sandbox: Sandbox,
    /// Runs models.
    pub engines: Arc<Engines>,
    /// Makes pseudonyms; secret, one a site.
    pub pseudonym_key: [u8; 32],
}

/// The process cannot start: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Compiled components cannot be kept.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// No engine.
    #[error(transparent)]
    Engine(#[from] InferenceError),
    /// wasmtime refuses its settings.
    #[error("the sandbox cannot start: {0}")]
    Sandbox(String),
}

impl App {
    /// Starts everything that every job needs.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let cache = CodeCache::open(config.cache.folder.as_deref())?;
        let pseudonym_key = cache.derive_key(b"pseudonyms");
        let sandbox = Sandbox::new(&config.limits, cache).map_err(|e| StartError::Sandbox(format!("{e:#}")))?;
        Ok(Self { sandbox, engines: Arc::new(Engines::discover(&config.engines())?), pseudonym_key, config })
    }

    /// How studies are read.
    #[must_use]
    pub fn read_options(&self, strict: bool) -> ReadOptions {
        ReadOptions::new(&self.config.limits, strict)
    }
}
