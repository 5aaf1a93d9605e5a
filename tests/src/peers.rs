//! Other people's software in Python's environment, which judges what Gantry writes: the scripts of `tests/peers`.

use std::path::PathBuf;
use std::process::Command;

use crate::command::Said;
use crate::{repository, skipped};

/// A Python that has the packages of `tests/peers/requirements.txt`.
#[derive(Debug)]
pub struct Peers {
    python: PathBuf,
}

impl Peers {
    /// That of `cargo xtask assets --peers`, or `GANTRY_PYTHON`; nothing where neither has the packages.
    #[must_use]
    pub fn find() -> Option<Self> {
        Self::with("highdicom, pydicom, SimpleITK")
    }

    /// The same, where a script needs these modules and no more.
    #[must_use]
    pub fn with(modules: &str) -> Option<Self> {
        let ours = repository().join(".cache/venv/bin/python");
        let named = std::env::var_os("GANTRY_PYTHON").map(PathBuf::from);
        let pythons = [Some(ours).filter(|python| python.exists()), named];
        let has_packages = |python: &PathBuf| {
            let import = Command::new(python).args(["-c", &format!("import {modules}")]).output();
            import.is_ok_and(|output| output.status.success())
        };
        let found = pythons.into_iter().flatten().find(has_packages).map(|python| Self { python });
        if found.is_none() {
            skipped("the Python peers are not installed: run `cargo xtask assets --peers`");
        }
        found
    }

    /// A call of Python.
    #[must_use]
    pub fn python(&self) -> Command {
        Command::new(&self.python)
    }

    /// A call of a script of `tests/peers`.
    #[must_use]
    pub fn script(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(repository().join("tests/peers").join(script)).args(arguments);
        command
    }

    /// Runs a script of `tests/peers`, which must end well.
    pub fn agree(&self, script: &str, arguments: &[&str]) {
        let mut command = self.script(script, arguments);
        let said = Said::from(command.output().expect("Python runs"));
        assert_eq!(said.code, Some(0), "{script} does not agree:\n{}{}", said.out, said.err);
    }
}

/// Node.js with the packages of `tests/peers/npm`.
#[derive(Debug)]
pub struct NodePeers {
    modules: PathBuf,
}

impl NodePeers {
    /// Those of `cargo xtask assets --peers`, or in `GANTRY_NODE_MODULES`; nothing where neither has this package.
    #[must_use]
    pub fn with(package: &str) -> Option<Self> {
        let ours = repository().join(".cache/npm/node_modules");
        let named = std::env::var_os("GANTRY_NODE_MODULES").map(PathBuf::from);
        let runs = Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success());
        let found = [Some(ours), named].into_iter().flatten().find(|modules| runs && modules.join(package).is_dir());
        if found.is_none() {
            skipped("the Node.js peers are not installed: run `cargo xtask assets --peers`");
        }
        found.map(|modules| Self { modules })
    }

    /// A call of a script of `tests/peers`.
    #[must_use]
    pub fn script(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("node");
        command.env("NODE_PATH", &self.modules).arg(repository().join("tests/peers").join(script)).args(arguments);
        command
    }

    /// Runs a script of `tests/peers`, which must end well.
    pub fn agree(&self, script: &str, arguments: &[&str]) {
        let said = Said::from(self.script(script, arguments).output().expect("Node.js runs"));
        assert_eq!(said.code, Some(0), "{script} does not agree:\n{}{}", said.out, said.err);
    }
}
