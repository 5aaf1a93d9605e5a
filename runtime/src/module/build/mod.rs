//! `gantry module build`: a source folder becomes a package.
//!
//! A crate is compiled for `wasm32-unknown-unknown`, so that the component imports nothing but what its world
//! says, and wrapped as a component; [`toolchain`] finds a compiler that can do that. Other languages have their own tools, which
//! are given a [`world`] made from the manifest.

mod c;
mod javascript;
mod python;
mod rust;
mod tool;
mod toolchain;
mod world;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};

use super::accompany;
use super::foreign;
use super::inspect;
use super::language::Language;
use super::manifest::{Manifest, Sha256Hex};
use super::package::MANIFEST_FILE;
use super::sbom::SBOM_FILE;
use super::world::World;
pub use rust::build_examples;

/// The folder of a built package inside its source folder.
pub const PACKAGE_FOLDER: &str = "package";
/// What a hospital reads first.
const CARD_FILE: &str = "MODEL_CARD.md";
/// Lines of a failed command that are shown.
const LINES_SHOWN: usize = 40;

/// Why a module was not built. The vendor's to mend.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file cannot be read or written.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The manifest does not fit.
    #[error("{path}: {reason}", path = path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Key and remedy.
        reason: String,
    },
    /// There is no source there.
    #[error("{folder} holds no {MANIFEST_FILE}: give the source folder, as `gantry module new` makes it", folder = folder.display())]
    NoSource {
        /// The folder.
        folder: PathBuf,
    },
    /// There is no crate there.
    #[error("{folder} holds no Cargo.toml: give the folder of a crate", folder = folder.display())]
    NoCrate {
        /// The folder.
        folder: PathBuf,
    },
    /// There is nothing there that could be built.
    #[error(
        "{folder} holds none of {files}, one of which every module begins with: give the source folder, as `gantry module new` makes it",
        folder = folder.display(),
        files = Language::ALL.map(Language::told_by).join(", ")
    )]
    NoLanguage {
        /// The folder.
        folder: PathBuf,
    },
    /// It is built already.
    #[error("{folder}: this is a package; build its parent, the source folder", folder = folder.display())]
    IsPackage {
        /// The folder.
        folder: PathBuf,
    },
    /// A model cannot be read.
    #[error("{path}: {reason}; models.file in {MANIFEST_FILE} names it, from the source folder on", path = path.display())]
    Model {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// No compiler for guests.
    #[error("no compiler for WebAssembly guests: {0}; install one with `rustup target add wasm32-unknown-unknown`")]
    NoToolchain(String),
    /// A tool that the language needs.
    #[error("{tool} is not there; {remedy}")]
    NoTool {
        /// What is missing.
        tool: &'static str,
        /// How it is installed.
        remedy: &'static str,
    },
    /// A command failed.
    #[error("{program} failed:\n{output}\nthe command was: {command}")]
    Command {
        /// What was run.
        program: String,
        /// The command line, without what was set in its environment.
        command: String,
        /// The end of what it printed.
        output: String,
    },
    /// There is no model card.
    #[error("{folder} has no {CARD_FILE}: say there what the module is for, what it was trained on and how well it does", folder = folder.display())]
    NoCard {
        /// The source folder.
        folder: PathBuf,
    },
    /// The component imports what the manifest does not ask for.
    #[error("the component {}: add it to needs.interfaces of {MANIFEST_FILE}, or do without", .0.join("; it "))]
    Imports(Vec<String>),
    /// Nothing can be called.
    #[error(
        "the component exports nothing that can be run: add gantry_guest::export!(YourType) to src/lib.rs, or, for one that looks at frames, \
         export_frames!(YourType), which the feature `frames` of gantry-guest has"
    )]
    NoExport,
    /// No module of its kind can have what it imports.
    #[error("the component imports {import}, which modules of the world {} cannot have: do without it", world.name())]
    OtherWorld {
        /// Its import.
        import: String,
        /// What it is.
        world: World,
    },
    /// The lock file is none.
    #[error("what the component is made of cannot be told: {0}")]
    Lock(String),
    /// The compiled module is no component.
    #[error("{path} cannot be made a component: {reason}", path = path.display())]
    Component {
        /// The compiled module.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl BuildError {
    /// Whether it is about how the command was called, not about what was built.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoSource { .. } | Self::NoCrate { .. } | Self::NoLanguage { .. } | Self::IsPackage { .. })
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Built {
    /// The package folder.
    pub package: PathBuf,
    /// SHA-256 of its manifest: the module's identity.
    pub identity: [u8; 32],
}

/// Builds the module in `source` into `source/package`.
pub fn build(source: &Path, progress: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    let manifest_path = source.join(MANIFEST_FILE);
    if !manifest_path.exists() {
        return Err(BuildError::NoSource { folder: source.to_path_buf() });
    }
    let text = std::fs::read_to_string(&manifest_path).map_err(|reason| file(&manifest_path, reason))?;
    let mut manifest =
        Manifest::parse(&text).map_err(|reason| BuildError::Manifest { path: manifest_path.clone(), reason })?;
    let Some(language) = Language::of(source) else {
        let folder = source.to_path_buf();
        return Err(match manifest.component.sha256 {
            Some(_) => BuildError::IsPackage { folder },
            None => BuildError::NoLanguage { folder },
        });
    };
    let card =
        std::fs::read(source.join(CARD_FILE)).map_err(|_| BuildError::NoCard { folder: source.to_path_buf() })?;
    progress(&format!("compiling {} {} ({})", manifest.name, manifest.version, how_long(language)));
    let (component, wasm) = compile(source, language, &manifest, progress)?;
    check_world(&manifest, &component, &wasm, progress)?;

    // The package appears whole or not at all.
    let package = source.join(PACKAGE_FOLDER);
    let fresh = tempfile::Builder::new().prefix(".package-").tempdir_in(source).map_err(|e| file(source, e))?;
    manifest.component.sha256 = Some(put(fresh.path(), &manifest.component.file, &component)?);
    for model in &mut manifest.models {
        let path = source.join(&model.file);
        let bytes = std::fs::read(&path).map_err(|reason| BuildError::Model { path, reason })?;
        progress(&format!("packing {} ({} KiB)", model.file, bytes.len().div_ceil(1024)));
        model.sha256 = Some(put(fresh.path(), &model.file, &bytes)?);
    }
    put(fresh.path(), CARD_FILE, &card)?;
    let text =
        toml::to_string(&manifest).map_err(|e| BuildError::Manifest { path: manifest_path, reason: e.to_string() })?;
    let Sha256Hex(identity) = put(fresh.path(), MANIFEST_FILE, text.as_bytes())?;
    for (name, bytes) in accompany::of_source(source).map_err(|(path, reason)| file(&path, reason))? {
        put(fresh.path(), &name, &bytes)?;
    }
    let sbom = accompany::sbom(source, &manifest, &identity, &card).map_err(BuildError::Lock)?;
    put(fresh.path(), SBOM_FILE, &sbom)?;
    open_to_all(fresh.path()).map_err(|e| file(fresh.path(), e))?;
    if package.exists() {
        std::fs::remove_dir_all(&package).map_err(|reason| file(&package, reason))?;
    }
    std::fs::rename(fresh.keep(), &package).map_err(|reason| file(&package, reason))?;
    Ok(Built { package, identity })
}

fn how_long(language: Language) -> &'static str {
    match language {
        Language::Rust => "minutes the first time, then seconds",
        Language::C | Language::Python | Language::JavaScript => "seconds",
    }
}

/// The component, and the file that it, or the core module in it, was compiled to.
fn compile(
    source: &Path,
    language: Language,
    manifest: &Manifest,
    progress: &mut dyn FnMut(&str),
) -> Result<(Vec<u8>, PathBuf), BuildError> {
    let wasm = match language {
        Language::Rust => rust::library(source, progress)?,
        Language::C => c::compile(source, &world::write(source, manifest)?, progress)?,
        Language::Python => python::compile(source, &world::write(source, manifest)?)?,
        Language::JavaScript => javascript::compile(source, &world::write(source, manifest)?)?,
    };
    let component = match language {
        Language::Rust | Language::C => encode(&wasm)?,
        Language::Python | Language::JavaScript => std::fs::read(&wasm).map_err(|e| file(&wasm, e))?,
    };
    Ok((component, wasm))
}

/// A component that imports more than its manifest asks for, or than its world has, or exports nothing to call, would be
/// refused in every hospital, so it is here.
fn check_world(
    manifest: &Manifest,
    component: &[u8],
    wasm: &Path,
    progress: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    let (imports, exports) =
        inspect::world(component).map_err(|reason| BuildError::Component { path: wasm.to_path_buf(), reason })?;
    let Some(world) = World::of_exports(exports.iter().map(String::as_str)) else {
        return Err(BuildError::NoExport);
    };
    let beyond = inspect::beyond_the_manifest(manifest, &imports);
    if !beyond.is_empty() {
        return Err(BuildError::Imports(beyond));
    }
    if let Some(import) = inspect::beyond_the_world(world, &imports) {
        return Err(BuildError::OtherWorld { import: import.to_owned(), world });
    }
    for vain in inspect::asked_in_vain(manifest, &imports) {
        progress(&format!("note: the manifest {vain}"));
    }
    Ok(())
}

/// Wraps a core module as a component and validates it.
fn encode(wasm: &Path) -> Result<Vec<u8>, BuildError> {
    let module = std::fs::read(wasm).map_err(|reason| file(wasm, reason))?;
    let encode = || -> anyhow::Result<Vec<u8>> {
        let mut encoder = wit_component::ComponentEncoder::default();
        encoder.validate(true).module(&module)?;
        // A C library asks for files and a clock in the older way, and finds none in the newer.
        if foreign::asks_for_preview1(&module) {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
        }
        encoder.encode()
    };
    encode().map_err(|e| BuildError::Component { path: wasm.to_path_buf(), reason: format!("{e:#}") })
}

/// Files of a folder, and none below it, whose names end so, in order.
fn files_ending(folder: &Path, end: &str) -> Result<Vec<PathBuf>, BuildError> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let paths = entries.map_err(|reason| file(folder, reason))?.into_iter().map(|entry| entry.path());
    let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == end)).collect();
    found.sort();
    Ok(found)
}

/// Runs a command to its end; its standard output.
fn run(command: &mut Command) -> Result<Vec<u8>, BuildError> {
    // componentize-py is a Rust program: where its user asks for backtraces, the last lines would be its own frames, not what
    // is wrong in the module.
    command.env("RUST_BACKTRACE", "0").env("RUST_LIB_BACKTRACE", "0");
    let output = command.output().map_err(|e| command_failed(command, e.to_string()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().collect();
    Err(command_failed(command, lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")))
}

fn command_failed(command: &Command, output: String) -> BuildError {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    let line: Vec<_> = std::iter::once(program.as_str().into()).chain(arguments).collect();
    BuildError::Command { command: line.join(" "), program, output }
}

/// Writes a file of the package, whole; its digest.
fn put(folder: &Path, name: &str, bytes: &[u8]) -> Result<Sha256Hex, BuildError> {
    let path = folder.join(name);
    let write = || -> std::io::Result<()> {
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)?;
        let mut fresh = tempfile::NamedTempFile::new_in(parent)?;
        fresh.write_all(bytes)?;
        open_to_all(fresh.path())?;
        fresh.persist(&path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|reason| file(&path, reason))?;
    Ok(Sha256Hex(Sha256::digest(bytes).into()))
}

/// Temporary files are private; a package is not.
fn open_to_all(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn file(path: &Path, reason: std::io::Error) -> BuildError {
    BuildError::File { path: path.to_path_buf(), reason }
}
