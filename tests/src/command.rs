//! The `gantry` command as people call it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use gantry::inference::Isolation;
use gantry::worker::Program;

use crate::{Scenario, repository};

/// A call of `gantry`, built as these tests are. Cargo makes it: what lies about may be older than the sources.
#[must_use]
pub fn gantry() -> Command {
    let mut command = Command::new(program());
    command.current_dir(repository()).env_remove("RUST_LOG").env("GANTRY_ASSETS", crate::assets());
    command
}

/// The file.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

/// Where a test runs models that is no `gantry` itself.
#[must_use]
pub fn workers() -> Isolation {
    Isolation::Program(Program { file: program().to_owned(), arguments: vec!["worker".into()] })
}

/// `target/PROFILE/deps/it-…` tells the build folder and the profile.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    // What is no test was built with it.
    if test.parent().and_then(Path::file_name).is_some_and(|folder| folder != "deps") {
        return test.with_file_name("gantry");
    }
    let folder = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps").to_owned();
    let target = folder.parent().expect("profiles lie in the build folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new("cargo");
    // As xtask does, so that it is there already.
    cargo.args(["build", "--quiet", "--workspace", "--bin", "gantry", "--profile", profile]);
    cargo.current_dir(repository()).env("CARGO_TARGET_DIR", target);
    // What cargo told this test of its own package would have crates that watch it built again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.join("gantry")
}

/// What a call printed.
#[derive(Debug)]
pub struct Said {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Scenario {
    /// `gantry run` of this scenario, with its configuration in a file.
    #[must_use]
    pub fn command(&self) -> Command {
        let config = self.folder.path().join("gantry.toml");
        std::fs::write(&config, toml::to_string(&self.config).expect("printable")).expect("written");
        let mut command = gantry();
        command.arg("run").arg("--module").arg(self.package_folder()).arg(self.study()).arg("--out").arg(self.out());
        command.arg("--config").arg(config);
        command
    }

    /// Runs it as a command.
    #[must_use]
    pub fn command_says(&self, more: &[&str]) -> Said {
        self.command().args(more).output().expect("gantry runs").into()
    }
}
