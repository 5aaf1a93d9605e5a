//! `cargo xtask guests`: everything that runs inside the sandbox, built by the `gantry` command that vendors use.

use crate::process::{Step, seconds, timed};
use crate::repository::{Profile, Repository, find_program, in_ci};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
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
        let name = repository.short(self.folder());
        let path = path_with_tools(repository)?;
        let foreign = Foreign::of(self.folder());
        if let Some(tool) = foreign.map(Foreign::tool).filter(|tool| !is_on(&path, tool)) {
            if in_ci() {
                bail!("{name} needs {tool}, which `cargo xtask assets --peers` installs");
            }
            println!("{name}: {tool} is missing, which `cargo xtask assets --peers` installs; skipped");
            return Ok(());
        }
        let inputs = foreign.map(|_| inputs(repository, self.folder())).transpose()?;
        let stamp = self.folder().join("build/inputs.sha256");
        let built = fs::read_to_string(&stamp).ok();
        if inputs.is_some() && inputs == built && self.folder().join("package/module.toml").is_file() {
            println!("{name}: up to date");
            return Ok(());
        }
        let (outcome, elapsed) = timed(|| self.command(repository, profile).env("PATH", &path).run());
        outcome?;
        if let Some(inputs) = inputs {
            fs::write(&stamp, inputs).with_context(|| format!("cannot write {}", stamp.display()))?;
        }
        println!("{name}: built ({})", seconds(elapsed));
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

/// A language whose tools do not look for themselves whether anything has changed, and take seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreign {
    C,
    Python,
    JavaScript,
}

impl Foreign {
    fn of(folder: &Path) -> Option<Self> {
        let told_by = [("module.c", Self::C), ("module.py", Self::Python), ("module.js", Self::JavaScript)];
        told_by.into_iter().find(|(file, _)| folder.join(file).is_file()).map(|(_, language)| language)
    }

    fn tool(self) -> &'static str {
        match self {
            Self::C => "wasm-ld",
            Self::Python => "componentize-py",
            Self::JavaScript => "componentize-js",
        }
    }
}

/// Where programs are looked for: those of other people that make guests come first.
fn path_with_tools(repository: &Repository) -> Result<OsString> {
    let tools = repository.toolchains();
    let own = [tools.join("venv/bin"), tools.join("npm/node_modules/.bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).context("PATH has a folder with a colon")
}

fn is_on(path: &OsStr, tool: &str) -> bool {
    find_program(tool).is_some() || std::env::split_paths(path).any(|folder| folder.join(tool).is_file())
}

/// The digest of all that such a guest is made of: its sources, the contract, how it is built, and the tools' versions.
fn inputs(repository: &Repository, folder: &Path) -> Result<String> {
    let mut files = files_in(folder, |name| !["build", "package", "__pycache__"].contains(&name))?;
    // A package has a manifest, an SBOM and cases beside its component.
    for part in ["wit", "runtime/src/module", "tests/toolchains"] {
        files.extend(files_in(&repository.root.join(part), |_| true)?);
    }
    // With the version of what builds it, and of the crates that it encodes components with.
    files.push(repository.root.join("Cargo.lock"));
    let mut digest = Sha256::new();
    for file in files {
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        digest.update(format!("{} {}\n", repository.short(&file), bytes.len()));
        digest.update(bytes);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Every file below a folder, in order, without what `wanted` leaves out.
fn files_in(folder: &Path, wanted: fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = entries.with_context(|| format!("cannot read {}", folder.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut files = Vec::new();
    for entry in entries.into_iter().filter(|entry| entry.file_name().to_str().is_some_and(wanted)) {
        match entry.file_type()?.is_dir() {
            true => files.extend(files_in(&entry.path(), wanted)?),
            false => files.push(entry.path()),
        }
    }
    Ok(files)
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
    fn a_guest_is_made_again_when_anything_that_it_is_made_of_changes() {
        let root = std::env::temp_dir().join(format!("gantry-inputs-{}", std::process::id()));
        remove_folder(&root).expect("a clean start");
        let write = |file: &str, text: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        let inputs = || inputs(&repository(&root), &root.join("guest")).expect("a digest");
        for file in [
            "guest/module.py",
            "wit/imaging.wit",
            "runtime/src/module/build/python.rs",
            "runtime/src/module/sbom.rs",
            "tests/toolchains/x",
            "Cargo.lock",
        ] {
            write(file, "");
        }
        let first = inputs();
        write("guest/build/module.wasm", "made");
        write("guest/package/module.toml", "made");
        assert_eq!(inputs(), first, "what was made is no input");
        for file in [
            "guest/module.py",
            "guest/parts/more.py",
            "wit/imaging.wit",
            "runtime/src/module/build/python.rs",
            "runtime/src/module/sbom.rs",
            "runtime/src/module/needs.rs",
            "tests/toolchains/x",
            "Cargo.lock",
        ] {
            let before = inputs();
            write(file, "changed");
            assert_ne!(inputs(), before, "{file}");
        }
        assert_eq!(Foreign::of(&root.join("guest")), Some(Foreign::Python));
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
