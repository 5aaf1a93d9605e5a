//! JavaScript: componentize-js puts the code and a JavaScript engine, started, into one component.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::world::{BUILD_FOLDER, WORLD};
use super::{BuildError, file, files_ending, run, tool};

const REMEDY: &str = "in the source folder, with Node.js 20 or later: npm install";

/// The component of `module.js` and what it imports from beside it.
pub(super) fn compile(source: &Path, wit: &Path) -> Result<PathBuf, BuildError> {
    let componentize = tool::find(source, "node_modules/.bin", "componentize-js", REMEDY)?;
    let component = source.join(BUILD_FOLDER).join("module.wasm");
    let whole = |path: &Path| std::path::absolute(path).map_err(|e| file(path, e));
    // The component says in which folder it was made: in one that tells nothing.
    let stage = tempfile::Builder::new().prefix("gantry-").tempdir().map_err(|e| file(source, e))?;
    for script in files_ending(source, "js")? {
        let name = script.file_name().unwrap_or_default();
        std::fs::copy(&script, stage.path().join(name)).map_err(|e| file(&script, e))?;
    }
    let mut command = Command::new(componentize);
    command.current_dir(stage.path()).arg("module.js").arg("--wit").arg(whole(wit)?);
    command.args(["--world-name", WORLD, "--out"]).arg(whole(&component)?);
    // What a module can never have. The rest an empty WASI gives it: `console.log` leads to the log.
    run(command.args(["--disable", "http", "fetch-event"]))?;
    Ok(component)
}
