//! What a process has once: configuration, sandbox, engines. Wires, and decides nothing.

use std::sync::Arc;

use crate::config::Config;
use crate::inference::{EngineConfig, Engines, InferenceError};
use crate::sandbox::{CacheError, CodeCache, Sandbox};
use crate::study::ReadOptions;
use crate::worker::Decoders;

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
    /// Decode frames, where that is not to be in this process.
    decoders: Option<Arc<Decoders>>,
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
    /// No workers that decode.
    #[error("frames cannot be decoded in workers (engines.decode_in_worker): {0}")]
    Decoders(std::io::Error),
}

impl App {
    /// Starts everything that every job needs.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let cache = CodeCache::open(config.cache.folder.as_deref())?;
        let pseudonym_key = cache.derive_key(b"pseudonyms");
        let EngineConfig { isolation, accept_missing, .. } = &config.engines;
        let sandbox = Sandbox::new(&config.limits, cache, isolation, accept_missing);
        let sandbox = sandbox.map_err(|e| StartError::Sandbox(format!("{e:#}")))?;
        let engines = Arc::new(Engines::discover(&config.engines())?);
        let decoders = Decoders::new(&config).map_err(StartError::Decoders)?;
        Ok(Self { config, sandbox, engines, pseudonym_key, decoders })
    }

    /// How a study is read.
    #[must_use]
    pub fn read_options(&self, strict: bool) -> ReadOptions {
        ReadOptions { decoders: self.decoders.clone(), ..ReadOptions::new(&self.config.limits, strict) }.apart()
    }
}
