//! `cargo xtask guests`: everything that runs inside the sandbox, built by the `gantry` command that vendors use.

use crate::process::{Step, seconds, timed};
use crate::repository::{Profile, Repository};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `cargo xtask guests`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Modules are the folders of modules/ with a module.toml; each becomes a package in place.
Test guests are the folders of tests/guests/; their components land in target/guests/.

Examples:
  cargo xtask guests             build all of them
  cargo xtask guests --release   with an optimised gantry, as the benchmarks do")]
pub(crate) struct Options {
    /// Build `gantry` optimised
    #[arg(long)]
    pub(crate) release: bool,
}

/// Runs `cargo xtask guests`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    let profile = Profile::from_flag(options.release);
    repository.build(&["gantry"], profile)?;
    for guest in modules(repository)?.into_iter().chain(test_guests(repository)?) {
        guest.build(repository, profile)?;
    }
    Ok(())
}

/// Something that runs inside the sandbox.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// A package with a manifest, as a vendor ships it.
    Module(PathBuf),
    /// A crate whose examples are one component each.
    Examples(PathBuf),
}

impl Guest {
    /// Builds it with a `gantry` of `profile` that is built already.
    pub(crate) fn build(&self, repository: &Repository, profile: Profile) -> Result<()> {
        let (outcome, elapsed) = timed(|| self.command(repository, profile).run());
        outcome?;
        println!("{}: built ({})", repository.short(self.folder()), seconds(elapsed));
        Ok(())
    }

    /// The one place that knows how `gantry` is asked to build a guest.
    fn command(&self, repository: &Repository, profile: Profile) -> Step {
        let build = repository.gantry(profile).shown_as("gantry").arg("module");
        match self {
            Self::Module(folder) => build.arg("build").arg(repository.short(folder)),
            Self::Examples(folder) => {
                let name = self.name();
                build
                    .arg("build-examples")
                    .arg(repository.short(folder))
                    .arg("--out")
                    .arg(Path::new("target/guests").join(name))
            }
        }
    }

    /// Of its folder.
    pub(crate) fn name(&self) -> &OsStr {
        self.folder().file_name().unwrap_or_default()
    }

    fn folder(&self) -> &Path {
        match self {
            Self::Module(folder) | Self::Examples(folder) => folder,
        }
    }

    /// What a folder holds, by its files; nothing where it is no guest.
    fn in_folder(folder: PathBuf) -> Option<Self> {
        if folder.join("module.toml").is_file() {
            Some(Self::Module(folder))
        } else if folder.join("Cargo.toml").is_file() {
            Some(Self::Examples(folder))
        } else {
            None
        }
    }
}

/// The vendor modules in `modules/`.
pub(crate) fn modules(repository: &Repository) -> Result<Vec<Guest>> {
    let mut guests = guests_in(&repository.root.join("modules"))?;
    guests.retain(|guest| matches!(guest, Guest::Module(_)));
    Ok(guests)
}

/// The guests that tests need, misbehaving ones among them, in `tests/guests/`.
pub(crate) fn test_guests(repository: &Repository) -> Result<Vec<Guest>> {
    guests_in(&repository.root.join("tests/guests"))
}

/// Every crate that is no member of the workspace, so that what goes over the workspace can go over them too.
pub(crate) fn crates(repository: &Repository) -> Result<Vec<PathBuf>> {
    let all = modules(repository)?.into_iter().chain(test_guests(repository)?);
    Ok(all.map(|guest| guest.folder().join("Cargo.toml")).filter(|manifest| manifest.is_file()).collect())
}

/// The guests right below `folder`, by name.
fn guests_in(folder: &Path) -> Result<Vec<Guest>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    let mut folders = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    folders.sort();
    Ok(folders.into_iter().filter_map(Guest::in_folder).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::remove_folder;

    fn repository(root: &Path) -> Repository {
        Repository { root: root.into(), target: "/build".into() }
    }

    #[test]
    fn guests_are_told_by_their_files() {
        let root = std::env::temp_dir().join(format!("gantry-guests-{}", std::process::id()));
        remove_folder(&root).expect("a clean start");
        for file in
            ["modules/b/module.toml", "modules/a/module.toml", "modules/no/README.md", "tests/guests/rogue/Cargo.toml"]
        {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, "").expect("a file");
        }
        let repository = repository(&root);
        let found = modules(&repository).expect("modules");
        assert_eq!(found, [Guest::Module(root.join("modules/a")), Guest::Module(root.join("modules/b"))]);
        let found = test_guests(&repository).expect("test guests");
        assert_eq!(found, [Guest::Examples(root.join("tests/guests/rogue"))]);
        assert_eq!(crates(&repository).expect("crates"), [root.join("tests/guests/rogue/Cargo.toml")]);
        remove_folder(&root).expect("cleaned up");
    }

    #[test]
    fn a_checkout_without_guests_is_fine() {
        assert_eq!(modules(&repository(Path::new("/nowhere"))).expect("none"), []);
    }

    #[test]
    fn gantry_is_called_as_a_vendor_would() {
        let repository = repository(Path::new("/repo"));
        let line = |guest: Guest| guest.command(&repository, Profile::Development).line();
        assert_eq!(line(Guest::Module("/repo/modules/ct-organs".into())), "gantry module build modules/ct-organs");
        assert_eq!(
            line(Guest::Examples("/repo/tests/guests/rogue".into())),
            "gantry module build-examples tests/guests/rogue --out target/guests/rogue"
        );
    }
}
