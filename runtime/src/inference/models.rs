//! The models of one module package: all that its component can reach by name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::{Device, Engines, InferenceError, LoadedModel, name};

/// A model file of a package.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What the manifest says its SHA-256 is.
    pub sha256: [u8; 32],
}

/// The models of one package, by name. Each is read and loaded when it is first asked for on a device.
pub struct ModelSet {
    engines: Arc<Engines>,
    files: BTreeMap<String, ModelFile>,
    loaded: Mutex<BTreeMap<String, Vec<Arc<LoadedModel>>>>,
}

impl ModelSet {
    /// The models that the manifest lists.
    #[must_use]
    pub fn new(engines: Arc<Engines>, files: BTreeMap<String, ModelFile>) -> Self {
        Self { engines, files, loaded: Mutex::new(BTreeMap::new()) }
    }

    /// The model called `wanted`, to run on `target`.
    ///
    /// Fails with [`InferenceError::UnknownModel`] when the package has none of that name, and
    /// [`InferenceError::Refused`] when its file is not the one that the manifest states.
    pub fn load(&self, wanted: &str, target: Device) -> Result<Arc<LoadedModel>, InferenceError> {
        let Some((own, file)) = self.files.get_key_value(wanted) else {
            let known: Vec<String> = self.files.keys().map(|k| format!("'{}'", name(k))).collect();
            return Err(InferenceError::UnknownModel { model: name(wanted), known: known.join(", ") });
        };
        // Held while loading: two threads that ask for one model share one.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let models = loaded.entry(own.clone()).or_default();
        if let Some(model) = models.iter().find(|model| model.requested_device() == target) {
            return Ok(Arc::clone(model));
        }
        let bytes = self.read(own, file)?;
        let model = Arc::new(self.engines.load(own, &bytes, target)?);
        models.push(Arc::clone(&model));
        Ok(model)
    }

    /// Every model that was loaded, for the record.
    #[must_use]
    pub fn loaded(&self) -> Vec<Arc<LoadedModel>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).values().flatten().map(Arc::clone).collect()
    }

    fn read(&self, model: &str, file: &ModelFile) -> Result<Vec<u8>, InferenceError> {
        let refused = |reason| InferenceError::Refused { model: name(model), reason };
        let limit = self.engines.model_max_mib().saturating_mul(1 << 20);
        let mut bytes = Vec::new();
        // One byte past the limit is enough for the engines to refuse it by its size.
        File::open(&file.path)
            .and_then(|f| f.take(limit.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(|e| refused(format!("{}: {e}", file.path.display())))?;
        if bytes.len() as u64 <= limit && Sha256::digest(&bytes)[..] != file.sha256 {
            return Err(refused(format!(
                "{} is not the file that the manifest states: their SHA-256 differ",
                file.path.display()
            )));
        }
        Ok(bytes)
    }
}
