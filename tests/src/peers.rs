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

    /// Runs a script of `tests/peers`, which must end well.
    pub fn agree(&self, script: &str, arguments: &[&str]) {
        let mut command = Command::new(&self.python);
        command.arg(repository().join("tests/peers").join(script)).args(arguments);
        let said = Said::from(command.output().expect("Python runs"));
        assert_eq!(said.code, Some(0), "{script} does not agree:\n{}{}", said.out, said.err);
    }
}
