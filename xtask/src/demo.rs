//! `cargo xtask demo`: on a fresh machine, from nothing to a real CT's findings as DICOM.

use crate::process::size;
use crate::repository::{Profile, Repository};
use crate::{assets, guests};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Fetches an abdominal CT, builds gantry and the ct-organs module, runs one on the other, and leaves a DICOM SEG, an SR,
result.json and a picture in target/demo/. The module is a demonstration, not for clinical use.

Examples:
  cargo xtask demo             with the development build
  cargo xtask demo --release   with the optimised build: longer to compile, faster to run")]
pub(crate) struct Options {
    /// Build `gantry` optimised
    #[arg(long)]
    release: bool,
}

/// The package that `gantry module build` makes of `modules/ct-organs`.
const MODULE: &str = "modules/ct-organs/package";
/// Below the assets.
const STUDY: &str = "totalsegmentator/example_ct_dicom";
const OUT: &str = "target/demo";
/// What the module stated, among what `gantry run` writes.
const RESULT: &str = "result.json";
/// The picture, among what `gantry run --overlay` writes.
const PICTURE: &str = "overlay.png";

/// Runs `cargo xtask demo`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    let profile = Profile::from_flag(options.release);
    heading("1/3 the CT");
    assets::run(repository, &assets::Options { peers: false })?;
    heading("2/3 gantry and the module");
    repository.build_gantry(profile)?;
    for module in guests::modules(repository)? {
        module.build(repository, profile)?;
    }
    heading("3/3 the module reads the CT, in the sandbox");
    let out = repository.root.join(OUT);
    assets::remove_folder(&out)?;
    let study = repository.assets().join(STUDY);
    let step = repository.gantry(profile).shown_as("gantry");
    let step = step.args(["run", "--module", MODULE]).arg(repository.short(&study)).args(["--out", OUT, "--overlay"]);
    println!("$ {}", step.line());
    step.run()?;
    show(repository, &out)
}

fn heading(text: &str) {
    println!("\n== {text} ==");
}

fn show(repository: &Repository, out: &Path) -> Result<()> {
    heading("done: what came out");
    let files = files_below(out).with_context(|| format!("cannot list {}", out.display()))?;
    for file in &files {
        println!("  {}  ({})", repository.short(file), size(fs::metadata(file)?.len()));
    }
    let path = out.join(RESULT);
    let result = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    println!("\nIt measured:");
    for (organ, millilitres) in volumes(&result).with_context(|| format!("cannot read {}", path.display()))? {
        println!("  {organ:<12}{millilitres:>8.1} mL");
    }
    match files.iter().find(|file| file.ends_with(PICTURE)) {
        Some(picture) => println!("\nLook at it: {}", picture.display()),
        None => bail!("gantry wrote no {PICTURE} to {OUT}"),
    }
    Ok(())
}

/// The segments of a `result.json` that the host found voxels of, and their volumes in mL.
fn volumes(result: &str) -> Result<Vec<(String, f64)>> {
    let result: serde_json::Value = serde_json::from_str(result)?;
    let segments = result["findings"]["segments"].as_array().context("findings.segments is missing")?;
    let volume =
        |segment: &serde_json::Value| Some((segment["name"].as_str()?.to_owned(), segment["millilitres"].as_f64()?));
    let volumes: Option<Vec<_>> = segments.iter().map(volume).collect();
    let volumes = volumes.context("a segment has no name or no millilitres")?;
    Ok(volumes.into_iter().filter(|(_, millilitres)| *millilitres > 0.0).collect())
}

/// Every file below `folder`, by name.
fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files_below(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of a result that the demo reads.
    const FOUND: &str = r#"{"findings": {"segments": [
        {"value": 1, "name": "Liver", "millilitres": 646.9}, {"value": 3, "name": "Kidneys", "millilitres": 0.0}
    ]}}"#;

    fn repository(name: &str) -> Repository {
        let root = std::env::temp_dir().join(format!("gantry-demo-{name}-{}", std::process::id()));
        assets::remove_folder(&root).expect("a clean start");
        fs::create_dir_all(root.join(OUT).join("sub")).expect("a folder");
        Repository { target: root.join("target"), root }
    }

    #[test]
    fn files_are_listed_from_all_folders() {
        let repository = repository("list");
        let out = repository.root.join(OUT);
        for (file, text) in [("sub/seg.dcm", "x"), (PICTURE, "x"), (RESULT, FOUND)] {
            fs::write(out.join(file), text).expect("a file");
        }
        let expected = [PICTURE, RESULT, "sub/seg.dcm"].map(|file| out.join(file));
        assert_eq!(files_below(&out).expect("a listing"), expected);
        show(&repository, &out).expect("the picture is there");
        assets::remove_folder(&repository.root).expect("cleaned up");
    }

    #[test]
    fn volumes_are_those_of_what_was_found() {
        assert_eq!(volumes(FOUND).expect("readable"), [("Liver".to_owned(), 646.9)]);
        assert!(volumes("{}").is_err(), "not a result");
    }

    #[test]
    fn a_missing_picture_fails_the_demo() {
        let repository = repository("missing");
        fs::write(repository.root.join(OUT).join(RESULT), FOUND).expect("a file");
        let error = show(&repository, &repository.root.join(OUT)).expect_err("no picture");
        assert!(error.to_string().contains(PICTURE));
        assets::remove_folder(&repository.root).expect("cleaned up");
    }
}
