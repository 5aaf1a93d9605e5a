//! Rust: crates that use the SDK, compiled by cargo.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::toolchain::GuestToolchain;
use super::{BuildError, command_failed, encode, file, put, run};

/// Compiles the library of a crate; the core module.
pub(super) fn library(source: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, BuildError> {
    let toolchain = GuestToolchain::find(source, progress)?;
    compile(source, &toolchain, Artifact::Library)
}

/// Builds every example of a crate as a component into `out`: how one crate holds many small guests.
pub fn build_examples(source: &Path, out: &Path, progress: &mut dyn FnMut(&str)) -> Result<Vec<PathBuf>, BuildError> {
    require_crate(source)?;
    let toolchain = GuestToolchain::find(source, progress)?;
    progress(&format!("compiling the examples of {}", source.display()));
    let built = compile(source, &toolchain, Artifact::Examples)?;
    std::fs::create_dir_all(out).map_err(|reason| file(out, reason))?;
    let mut components = Vec::new();
    let listing = std::fs::read_dir(&built).map_err(|reason| file(&built, reason))?;
    let names = example_names(source)?;
    for entry in listing {
        let path = entry.map_err(|reason| file(&built, reason))?.path();
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
        let Some(name) = names.iter().find(|n| n.replace('-', "_") == stem) else { continue };
        if path.extension().is_some_and(|e| e == "wasm") {
            let name = format!("{name}.wasm");
            put(out, &name, &encode(&path)?)?;
            components.push(out.join(name));
        }
    }
    components.sort();
    Ok(components)
}

fn require_crate(source: &Path) -> Result<(), BuildError> {
    if source.join("Cargo.toml").exists() { Ok(()) } else { Err(BuildError::NoCrate { folder: source.to_path_buf() }) }
}

enum Artifact {
    Library,
    Examples,
}

/// Compiles for `wasm32-unknown-unknown`; gives the library's file or the examples' folder.
fn compile(source: &Path, toolchain: &GuestToolchain, artifact: Artifact) -> Result<PathBuf, BuildError> {
    let manifest = source.join("Cargo.toml");
    let mut cargo = toolchain.cargo();
    cargo
        .args(["build", "--quiet", "--release", "--target", "wasm32-unknown-unknown", "--manifest-path"])
        .arg(&manifest);
    cargo.arg(match artifact {
        Artifact::Library => "--lib",
        Artifact::Examples => "--examples",
    });
    run(&mut cargo)?;
    let release = toolchain.target_folder().join("wasm32-unknown-unknown/release");
    match artifact {
        Artifact::Examples => Ok(release.join("examples")),
        Artifact::Library => {
            let metadata = metadata(source)?;
            let name = targets(&metadata, "lib", "cdylib").into_iter().next().ok_or_else(|| BuildError::Manifest {
                path: manifest,
                reason: "the crate needs `[lib] crate-type = [\"cdylib\", \"lib\"]`".into(),
            })?;
            Ok(release.join(format!("{}.wasm", name.replace('-', "_"))))
        }
    }
}

fn example_names(source: &Path) -> Result<Vec<String>, BuildError> {
    Ok(targets(&metadata(source)?, "example", "cdylib"))
}

fn metadata(source: &Path) -> Result<serde_json::Value, BuildError> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(source.join("Cargo.toml"));
    let output = run(&mut cargo)?;
    serde_json::from_slice(&output).map_err(|e| command_failed(&cargo, e.to_string()))
}

/// Names of the targets that are of one of these kinds, or built as one of them.
fn targets(metadata: &serde_json::Value, kind: &str, crate_type: &str) -> Vec<String> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let has = |value: &serde_json::Value, text: &str| list(value).iter().any(|v| v == text);
    let all = list(&metadata["packages"]).into_iter().flat_map(|package| list(&package["targets"]));
    all.filter(|t| (has(&t["kind"], kind) || has(&t["kind"], crate_type)) && has(&t["crate_types"], crate_type))
        .filter_map(|t| t["name"].as_str().map(str::to_owned))
        .collect()
}
