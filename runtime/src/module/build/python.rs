//! Python: componentize-py puts the code and CPython, started and with all imports done, into one component.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::world::{BUILD_FOLDER, WORLD};
use super::{BuildError, file, run, tool};

const REMEDY: &str = "in the source folder: python3 -m venv .venv && .venv/bin/pip install -r requirements.txt";

/// The component of `module.py` and what it imports. The types that it speaks with are in `build/bindings`, for editors.
pub(super) fn compile(source: &Path, wit: &Path) -> Result<PathBuf, BuildError> {
    let componentize = tool::find(source, ".venv/bin", "componentize-py", REMEDY)?;
    let build = source.join(BUILD_FOLDER);
    let bindings = build.join("bindings");
    if bindings.exists() {
        std::fs::remove_dir_all(&bindings).map_err(|e| file(&bindings, e))?;
    }
    let started = || {
        let mut command = Command::new(&componentize);
        command.arg("--quiet").arg("--wit-path").arg(wit).args(["--world", WORLD]);
        command
    };
    run(started().arg("bindings").arg(&bindings))?;
    let component = build.join("module.wasm");
    run(started().args(["componentize", "module", "--python-path"]).arg(source).arg("--output").arg(&component))?;
    Ok(component)
}
