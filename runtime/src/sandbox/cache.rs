//! Compiled components, kept between runs.
//!
//! Compiling takes seconds, loading compiled code milliseconds. What is loaded is machine code, so a file of the
//! cache is believed only when it carries an HMAC-SHA256 under a key that was made here and that only the user of
//! the runtime can read. Anything else (cut, changed, of another version) is compiled anew.
//!
//! ```text
//! <folder>/key                       32 random bytes, mode 0600
//! <folder>/<hash>.gantry-code        HMAC (32 bytes) ‖ compiled component
//! ```
//!
//! `<hash>` covers the component's digest and wasmtime's version and settings. The HMAC covers `<hash>` as well, so
//! that one component's code is not believed under another's name.

use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::trusted_code::{self, Authenticated};
use crate::worker::NoCode;

const TAG_BYTES: usize = 32;
const KEY_BYTES: usize = 32;

/// A folder of compiled components.
#[derive(Debug)]
pub struct CodeCache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

/// The cache cannot be used: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder or the key cannot be made, read or written.
    #[error("the cache of compiled components in {path} cannot be used: {reason}; set cache.folder to another", path = path.display())]
    Folder {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// Somebody else could have written the key.
    #[error("{path} can be read or written by others (mode {mode:o}): remove it, and the cache is made anew", path = path.display())]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is no default folder.
    #[error("neither XDG_CACHE_HOME nor HOME is set: set cache.folder")]
    NoFolder,
}

/// Where a component came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Loaded as compiled before.
    Cached,
    /// Compiled now.
    Compiled,
}

impl CodeCache {
    /// Opens or makes the cache in `folder`, `$XDG_CACHE_HOME/gantry` or `$HOME/.cache/gantry`.
    pub fn open(folder: Option<&Path>) -> Result<Self, CacheError> {
        let folder = match folder {
            Some(folder) => folder.to_path_buf(),
            None => default_folder().ok_or(CacheError::NoFolder)?,
        };
        crate::make_private_folder(&folder).map_err(|reason| CacheError::Folder { path: folder.clone(), reason })?;
        let key = read_or_make_key(&folder)?;
        Ok(Self { folder, key })
    }

    /// A key for another purpose, from the cache's own.
    #[must_use]
    pub fn derive_key(&self, purpose: &[u8]) -> [u8; 32] {
        self.mac(b"gantry-key/1", &[purpose]).finalize().into_bytes().into()
    }

    /// The compiled component: from the cache, or from `compile` and kept.
    ///
    /// A cache that cannot be written costs time and is no error.
    pub(super) fn component(
        &self,
        engine: &Engine,
        component: &[u8],
        compile: impl FnOnce(&[u8]) -> Result<Vec<u8>, NoCode>,
    ) -> Result<(Component, Origin), NoCode> {
        let entry = cache_key(engine, component);
        if let Some(found) = self.load(engine, &entry) {
            return Ok((found, Origin::Cached));
        }
        let code = compile(component)?;
        // First, so that what is kept is code that this engine takes.
        let compiled =
            trusted_code::load(engine, &Authenticated(&code)).map_err(|e| NoCode::Refused(format!("{e:#}")))?;
        if let Err(reason) = self.store(&entry, &code) {
            tracing::warn!(%reason, "the compiled component could not be kept");
        }
        Ok((compiled, Origin::Compiled))
    }

    fn load(&self, engine: &Engine, entry: &str) -> Option<Component> {
        let file = std::fs::read(self.path(entry)).ok()?;
        let (tag, code) = file.split_at_checked(TAG_BYTES)?;
        if self.mac(b"gantry-code/1", &[entry.as_bytes(), code]).verify_slice(tag).is_err() {
            tracing::warn!("a compiled component in the cache does not carry the right code and is compiled anew");
            return None;
        }
        trusted_code::load(engine, &Authenticated(code)).ok()
    }

    fn store(&self, entry: &str, code: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&self.mac(b"gantry-code/1", &[entry.as_bytes(), code]).finalize().into_bytes())?;
        file.write_all(code)?;
        file.persist(self.path(entry)).map_err(|e| e.error)?;
        Ok(())
    }

    fn path(&self, entry: &str) -> PathBuf {
        self.folder.join(format!("{entry}.gantry-code"))
    }

    /// Over a domain and parts, each behind its length, so that no two lists of parts look alike.
    fn mac(&self, domain: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        for part in std::iter::once(&domain).chain(parts) {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

fn default_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("gantry"))
}

fn read_or_make_key(folder: &Path) -> Result<[u8; KEY_BYTES], CacheError> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("key");
    let failed = |reason| CacheError::Folder { path: path.clone(), reason };
    if !path.exists() {
        // Written beside and linked, so that of two processes that start together one key wins, whole.
        let mut fresh = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        fresh.write_all(&random_key().map_err(failed)?).map_err(failed)?;
        match fresh.persist_noclobber(&path) {
            Ok(_) => {}
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(e.error)),
        }
    }
    let mode = std::fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(CacheError::KeyExposed { path, mode });
    }
    let bytes = std::fs::read(&path).map_err(failed)?;
    bytes.try_into().map_err(|_| {
        failed(std::io::Error::new(std::io::ErrorKind::InvalidData, "the key is not 32 bytes long: remove it"))
    })
}

fn random_key() -> std::io::Result<[u8; KEY_BYTES]> {
    use std::io::Read;
    let mut key = [0; KEY_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

fn cache_key(engine: &Engine, component: &[u8]) -> String {
    struct Feed(Sha256);
    impl Hasher for Feed {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut feed = Feed(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut feed);
    feed.write(&Sha256::digest(component));
    crate::hex(&feed.0.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Empty components: magic, version 13, layer 1; the second has a custom section without a name.
    const ONE: &[u8] = b"\0asm\x0d\0\x01\0";
    const OTHER: &[u8] = b"\0asm\x0d\0\x01\0\0\x01\0";

    fn compile(cache: &CodeCache, engine: &Engine) -> Origin {
        of(cache, engine, ONE)
    }

    fn of(cache: &CodeCache, engine: &Engine, component: &[u8]) -> Origin {
        let compile =
            |component: &[u8]| engine.precompile_component(component).map_err(|e| NoCode::Refused(e.to_string()));
        cache.component(engine, component, compile).expect("compiled").1
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("listed").map(|e| e.expect("an entry").path());
        entries.filter(|p| p.extension().is_some_and(|e| e == "gantry-code")).collect()
    }

    #[test]
    fn the_code_of_one_component_is_not_believed_under_the_name_of_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = CodeCache::open(Some(folder.path())).expect("a cache");
        let engine = Engine::default();
        compile(&cache, &engine);
        let one = files(folder.path()).remove(0);
        assert_eq!(of(&cache, &engine, OTHER), Origin::Compiled);
        let other = files(folder.path()).into_iter().find(|p| *p != one).expect("a second file");
        std::fs::copy(&other, &one).expect("swapped");
        assert_eq!(compile(&cache, &engine), Origin::Compiled);
    }

    #[test]
    fn a_component_is_compiled_once_and_a_changed_file_is_not_believed() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = CodeCache::open(Some(folder.path())).expect("a cache");
        let engine = Engine::default();
        assert_eq!(compile(&cache, &engine), Origin::Compiled);
        assert_eq!(compile(&cache, &engine), Origin::Cached);

        let file = files(folder.path()).remove(0);
        let mut bytes = std::fs::read(&file).expect("read");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&file, &bytes).expect("written");
        assert_eq!(compile(&cache, &engine), Origin::Compiled, "one bit changed");
        std::fs::write(&file, b"short").expect("written");
        assert_eq!(compile(&cache, &engine), Origin::Compiled, "cut");

        let other = tempfile::tempdir().expect("a folder");
        let stranger = CodeCache::open(Some(other.path())).expect("a cache");
        compile(&stranger, &engine);
        std::fs::copy(other.path().join(file.file_name().expect("a name")), &file).expect("copied");
        assert_eq!(compile(&cache, &engine), Origin::Compiled, "compiled under another key");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        CodeCache::open(Some(folder.path())).expect("a cache");
        let key = folder.path().join("key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(matches!(CodeCache::open(Some(folder.path())), Err(CacheError::KeyExposed { mode: 0o644, .. })));
    }
}
