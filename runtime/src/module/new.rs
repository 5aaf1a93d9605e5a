//! `gantry module new`: a source folder that builds and passes its tests at once.
//!
//! In Rust the SDK is written beside the module, so that a vendor needs nothing but Rust and `gantry`.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::language::Language;

/// Where each file goes, and its text with `{{…}}` to be filled in.
type Template = &'static [(&'static str, &'static str)];

macro_rules! template {
    ($($name:literal: $file:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../guest-sdk/template/", $file)))),*]
    };
}

/// In every language.
const ALL: Template = template![
    "module.toml": "module.toml.in",
    "MODEL_CARD.md": "MODEL_CARD.md.in",
    "cases/bone/expect.toml": "case.toml.in",
];

fn template(language: Language) -> Template {
    match language {
        Language::Rust => template![
            "Cargo.toml": "rust/Cargo.toml.in",
            "src/lib.rs": "rust/lib.rs.in",
            "README.md": "rust/README.md.in",
            ".gitignore": "rust/gitignore.in",
        ],
        Language::C => template![
            "module.c": "c/module.c.in",
            "README.md": "c/README.md.in",
            ".gitignore": "c/gitignore.in",
        ],
        Language::Python => template![
            "module.py": "python/module.py.in",
            "requirements.txt": "python/requirements.txt.in",
            "README.md": "python/README.md.in",
            ".gitignore": "python/gitignore.in",
        ],
        Language::JavaScript => template![
            "module.js": "javascript/module.js.in",
            "package.json": "javascript/package.json.in",
            "README.md": "javascript/README.md.in",
            ".gitignore": "javascript/gitignore.in",
        ],
    }
}

/// What the manifest says beyond that of other languages: an interface, and memory, MiB, with room beyond what is measured in
/// docs/languages.md.
fn of_language(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::Rust | Language::C => ("", "64"),
        Language::Python => {
            ("    \"wasi:empty\",            # Python cannot do without WASI: one with nothing in it.\n", "128")
        }
        Language::JavaScript => {
            ("    \"wasi:empty\",            # JavaScript cannot do without WASI: one with nothing in it.\n", "128")
        }
    }
}

const SDK_MANIFEST: &str = include_str!("../../../guest-sdk/template/rust/sdk.toml.in");

macro_rules! files {
    ($root:literal, [$($file:literal),* $(,)?]) => {
        [$(($file, include_str!(concat!("../../../", $root, "/", $file)))),*]
    };
}

/// Sources of the SDK, below `sdk/gantry-guest`.
const SDK: [(&str, &str); 26] = files!(
    "guest-sdk",
    [
        "src/bindings.rs",
        "src/error.rs",
        "src/fake/frames.rs",
        "src/fake/grid.rs",
        "src/fake/job.rs",
        "src/fake/labels.rs",
        "src/fake/mod.rs",
        "src/fake/near.rs",
        "src/fake/ops.rs",
        "src/fake/spline.rs",
        "src/fake/windows.rs",
        "src/filters.rs",
        "src/findings.rs",
        "src/frames.rs",
        "src/lib.rs",
        "src/log.rs",
        "src/marks.rs",
        "src/patches.rs",
        "src/stream_bindings.rs",
        "src/study.rs",
        "src/tensor.rs",
        "src/testing.rs",
        "src/testing/played.rs",
        "src/types.rs",
        "src/upstream.rs",
        "src/volumes.rs",
    ]
);

/// The contract, below `sdk/wit`.
const WIT: [(&str, &str); 3] = files!("wit", ["deps/wasi-nn/nn.wit", "imaging.wit", "stream.wit"]);

/// Why no module was made. The vendor's to mend.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The name does not fit a crate and a manifest.
    #[error("{0:?} is no name for a module: take 1 to 64 of a-z, 0-9 and -, beginning with a letter")]
    Name(String),
    /// Something is there already.
    #[error("{path} is there already; choose another name or remove it", path = path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The SDK is not where it was said to be.
    #[error("--sdk {path} holds no crate gantry-guest: give guest-sdk of a checkout of Gantry, or leave it out for a copy", path = path.display())]
    NoSdk {
        /// Where.
        path: PathBuf,
    },
    /// The SDK is for another language.
    #[error("--sdk is for modules in Rust: leave it out")]
    SdkOfRust,
    /// A file cannot be written.
    #[error("cannot write {path}: {reason}", path = path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
}

impl NewError {
    /// Whether it is about how the command was called.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }
}

/// Writes the source of a new module to `parent/name`. One in Rust depends on the SDK in `sdk`, or where that is not given on a
/// copy of this runtime's in `sdk/`. Gives the folder.
pub fn new(name: &str, parent: &Path, language: Language, sdk: Option<&Path>) -> Result<PathBuf, NewError> {
    let fits = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        return Err(NewError::Name(name.chars().take(64).collect()));
    }
    let folder = parent.join(name);
    if folder.exists() {
        return Err(NewError::Exists { path: folder });
    }
    if sdk.is_some() && language != Language::Rust {
        return Err(NewError::SdkOfRust);
    }
    let sdk_path = sdk.map_or_else(|| Ok("sdk/gantry-guest".into()), find_sdk)?;
    let (wasi, memory_mib) = of_language(language);
    let fill = |text: &str| {
        let text = text.replace("{{name}}", name).replace("{{sdk}}", &sdk_path);
        let text = text.replace("{{wasi}}", wasi).replace("{{memory_mib}}", memory_mib);
        text.replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    for (file, text) in ALL.iter().chain(template(language)) {
        write(&folder.join(file), &fill(text))?;
    }
    if language == Language::Rust && sdk.is_none() {
        write(&folder.join("sdk/gantry-guest/Cargo.toml"), &fill(SDK_MANIFEST))?;
        for (file, text) in SDK {
            write(&folder.join("sdk/gantry-guest").join(file), text)?;
        }
        for (file, text) in WIT {
            write(&folder.join("sdk/wit").join(file), text)?;
        }
    }
    Ok(folder)
}

/// The path of an SDK that holds wherever the module lies.
fn find_sdk(path: &Path) -> Result<String, NewError> {
    let manifest = std::fs::read_to_string(path.join("Cargo.toml")).unwrap_or_default();
    let is_sdk = manifest.lines().any(|line| line.trim() == "name = \"gantry-guest\"");
    let whole = path.canonicalize().ok().filter(|_| is_sdk);
    whole.map(|path| path.display().to_string()).ok_or_else(|| NewError::NoSdk { path: path.to_path_buf() })
}

fn write(path: &Path, text: &str) -> Result<(), NewError> {
    let failed = |reason| NewError::Write { path: path.to_path_buf(), reason };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::manifest::Manifest;
    use crate::module::package::{Package, PackageError};

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    /// Names of all files below a folder of the repository, sorted.
    fn listing(folder: &str, ending: &str) -> Vec<String> {
        let root = repository().join(folder);
        let walk = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().map(|e| e.expect("readable"));
        let files = walk.filter(|e| e.file_type().is_file() && e.path().to_string_lossy().ends_with(ending));
        files.map(|e| e.path().strip_prefix(&root).expect("below").to_string_lossy().into_owned()).collect()
    }

    fn sorted(files: &[(&str, &str)]) -> Vec<String> {
        let mut names: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_copy_of_the_sdk_is_whole() {
        let mut sources: Vec<_> = listing("guest-sdk/src", ".rs").iter().map(|f| format!("src/{f}")).collect();
        sources.sort();
        assert_eq!(sorted(&SDK), sources);
        let mut wit = listing("wit", ".wit");
        wit.sort();
        assert_eq!(sorted(&WIT), wit);
        let own = std::fs::read_to_string(repository().join("guest-sdk/Cargo.toml")).expect("readable");
        let bindgen = |text: &str| text.lines().find(|l| l.starts_with("wit-bindgen")).map(str::to_owned);
        assert_eq!(bindgen(SDK_MANIFEST), bindgen(&own), "the copy needs what the SDK needs");
        let features = |text: &str| toml::from_str::<toml::Table>(text).expect("TOML").get("features").cloned();
        let copy = SDK_MANIFEST.replace("{{version}}", "0.1.0");
        assert!(features(&copy).is_some() && features(&copy) == features(&own), "the copy has what the SDK has");
    }

    #[test]
    fn a_new_module_is_whole_and_has_a_manifest_that_fits() {
        let parent = tempfile::tempdir().expect("a folder");
        for language in Language::ALL {
            let name = format!("liver-{}", language.told_by().replace('.', "-").to_lowercase());
            let folder = new(&name, parent.path(), language, None).expect("made");
            assert_eq!(Language::of(&folder), Some(language));
            let text = std::fs::read_to_string(folder.join("module.toml")).expect("readable");
            assert_eq!(Manifest::parse(&text).expect("fits").name, name);
            for entry in walkdir::WalkDir::new(&folder) {
                let entry = entry.expect("readable");
                if entry.file_type().is_file() && !entry.path().starts_with(folder.join("sdk/gantry-guest/src")) {
                    let text = std::fs::read_to_string(entry.path()).expect("text");
                    assert!(!text.contains("{{"), "{} is filled in", entry.path().display());
                }
            }
            assert!(matches!(Package::open(&folder), Err(PackageError::Source { .. })), "it is not built yet");
            assert!(matches!(new(&name, parent.path(), language, None), Err(NewError::Exists { .. })));
        }
    }

    #[test]
    fn an_sdk_elsewhere_is_looked_for_first() {
        let parent = tempfile::tempdir().expect("a folder");
        for nowhere in ["nowhere", "runtime"] {
            let error =
                new("liver", parent.path(), Language::Rust, Some(&repository().join(nowhere))).expect_err("no SDK");
            assert!(matches!(error, NewError::NoSdk { .. }), "{error}");
            assert!(!parent.path().join("liver").exists(), "nothing is left");
        }
        let folder = new("liver", parent.path(), Language::Rust, Some(&repository().join("guest-sdk"))).expect("made");
        let text = std::fs::read_to_string(folder.join("Cargo.toml")).expect("readable");
        let sdk = repository().join("guest-sdk").canonicalize().expect("there");
        assert!(text.contains(&format!("{:?}", sdk.display().to_string())), "{text}");
        assert!(!folder.join("sdk").exists(), "no copy");
    }

    #[test]
    fn a_name_that_does_not_fit_leaves_nothing() {
        let parent = tempfile::tempdir().expect("a folder");
        for name in ["", "../up", "Liver", "2d", "a b", "-x", &"x".repeat(65)] {
            assert!(matches!(new(name, parent.path(), Language::Rust, None), Err(NewError::Name(_))), "{name:?}");
        }
        assert_eq!(std::fs::read_dir(parent.path()).expect("readable").count(), 0);
    }
}
