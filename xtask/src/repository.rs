//! Where things lie, and how cargo is called so that it builds exactly as it does outside of xtask.

use crate::process::Step;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The checkout that the command works on.
#[derive(Debug)]
pub(crate) struct Repository {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's build folder; `CARGO_TARGET_DIR` where it is set.
    pub(crate) target: PathBuf,
}

/// How `gantry` is built. The development profile is optimised enough for the demo and builds much faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// `target/debug`.
    Development,
    /// `target/release`.
    Release,
}

impl Profile {
    /// From a `--release` flag.
    pub(crate) fn from_flag(release: bool) -> Self {
        if release { Self::Release } else { Self::Development }
    }
}

impl Repository {
    /// Finds the checkout. Cargo names it at run time; the path compiled in may be another checkout's, where several
    /// share one build folder.
    pub(crate) fn locate() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).parent().context("xtask's folder has no parent")?.to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder).context("CARGO_TARGET_DIR is not a path")?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// What `cargo xtask assets` fetches; tests look for it under the same name.
    pub(crate) fn assets(&self) -> PathBuf {
        std::env::var_os("GANTRY_ASSETS").map_or_else(|| self.root.join(".cache/assets"), PathBuf::from)
    }

    /// The Python environment with the peers that come from PyPI.
    pub(crate) fn venv(&self) -> PathBuf {
        self.root.join(".cache/venv")
    }

    /// The Node.js packages of the peers.
    pub(crate) fn npm(&self) -> PathBuf {
        self.root.join(".cache/npm")
    }

    /// What guests in other languages are made with: a Python environment and Node.js packages.
    pub(crate) fn toolchains(&self) -> PathBuf {
        self.root.join(".cache/toolchains")
    }

    /// `path` as a person in the checkout would type it.
    pub(crate) fn short(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// A call of cargo in the checkout.
    pub(crate) fn cargo(&self) -> Step {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let step = Step::new(program).shown_as("cargo").in_folder(&self.root);
        self.outside_of_cargo(step)
    }

    /// The `gantry` binary of `profile`; [`Repository::build`] makes it.
    pub(crate) fn gantry(&self, profile: Profile) -> Step {
        self.program("gantry", profile)
    }

    /// A program of this workspace; [`Repository::build`] makes it.
    pub(crate) fn program(&self, name: &str, profile: Profile) -> Step {
        let folder = match profile {
            Profile::Development => "debug",
            Profile::Release => "release",
        };
        let step = Step::new(self.target.join(folder).join(name)).in_folder(&self.root);
        self.outside_of_cargo(step)
    }

    /// Builds programs of this workspace.
    pub(crate) fn build(&self, names: &[&str], profile: Profile) -> Result<()> {
        // As a part of all, like the tests: `-p` takes other features of a few crates, and builds everything above them twice.
        let step = self.cargo().args(["build", "--workspace"]).args(names.iter().flat_map(|name| ["--bin", name]));
        match profile {
            Profile::Development => step.run(),
            Profile::Release => step.arg("--release").run(),
        }
    }

    /// Takes away what `cargo run` put into our environment for xtask: a child cargo that saw it would rebuild crates
    /// that watch those variables, and a guest's compiler would load this toolchain's libraries.
    fn outside_of_cargo(&self, step: Step) -> Step {
        // With a target folder elsewhere, gantry would not find ONNX Runtime among the assets by itself.
        let mut step = step.env("CARGO_TARGET_DIR", &self.target).env("GANTRY_ASSETS", self.assets());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO_PRIMARY_PACKAGE"
            {
                step = step.without_env(&name);
            }
        }
        let toolchain =
            std::env::var_os("CARGO").and_then(|cargo| Some(Path::new(&cargo).parent()?.parent()?.to_path_buf()));
        match std::env::var_os("LD_LIBRARY_PATH") {
            None => step,
            Some(paths) => match without_folders(&paths, &[Some(self.target.as_path()), toolchain.as_deref()]) {
                Some(paths) => step.env("LD_LIBRARY_PATH", paths),
                None => step.without_env("LD_LIBRARY_PATH".as_ref()),
            },
        }
    }
}

/// The search path without what lies in `folders`; nothing where none of it is left.
fn without_folders(paths: &OsString, folders: &[Option<&Path>]) -> Option<OsString> {
    let kept: Vec<PathBuf> = std::env::split_paths(paths)
        .filter(|path| !path.as_os_str().is_empty())
        .filter(|path| !folders.iter().flatten().any(|folder| path.starts_with(folder)))
        .collect();
    if kept.is_empty() { None } else { std::env::join_paths(kept).ok() }
}

/// Where a program lies, if it is on the search path or where system services are kept.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// True where the environment says that this is CI: what may be missing on a person's machine may not be missing here.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_folders_leave_the_search_path() {
        let paths = OsString::from("/repo/target/debug/deps:/opt/lib:/toolchain/lib::");
        let folders = [Some(Path::new("/repo/target")), Some(Path::new("/toolchain"))];
        assert_eq!(without_folders(&paths, &folders), Some("/opt/lib".into()));
    }

    #[test]
    fn an_emptied_search_path_is_unset() {
        // An empty entry would mean the current folder.
        assert_eq!(without_folders(&"/repo/target/debug".into(), &[Some(Path::new("/repo/target")), None]), None);
    }

    #[test]
    fn paths_are_shown_from_the_root() {
        let repository = Repository { root: "/repo".into(), target: "/elsewhere".into() };
        assert_eq!(repository.short(Path::new("/repo/target/demo/seg.dcm")), "target/demo/seg.dcm");
        assert_eq!(repository.short(Path::new("/elsewhere/debug")), "/elsewhere/debug");
    }
}
