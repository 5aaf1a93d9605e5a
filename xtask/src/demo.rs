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
    // Its summary states the volumes.
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
    match files.iter().find(|file| file.ends_with(PICTURE)) {
        Some(picture) => println!("\nLook at it: {}", picture.display()),
        None => bail!("gantry wrote no {PICTURE} to {OUT}"),
    }
    Ok(())
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
        for file in ["sub/seg.dcm", PICTURE] {
            fs::write(out.join(file), "x").expect("a file");
        }
        assert_eq!(files_below(&out).expect("a listing"), [out.join(PICTURE), out.join("sub/seg.dcm")]);
        show(&repository, &out).expect("the picture is there");
        assets::remove_folder(&repository.root).expect("cleaned up");
    }

    #[test]
    fn a_missing_picture_fails_the_demo() {
        let repository = repository("missing");
        let error = show(&repository, &repository.root.join(OUT)).expect_err("no picture");
        assert!(error.to_string().contains(PICTURE));
        assets::remove_folder(&repository.root).expect("cleaned up");
    }
}
