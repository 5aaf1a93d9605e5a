//! Other people's tools: where a vendor installed them.

use std::path::{Path, PathBuf};

use super::BuildError;

/// A tool in a folder that belongs to the source, such as `.venv/bin`, or to one above it; else on the path.
pub(super) fn find(
    source: &Path,
    beside: &str,
    tool: &'static str,
    remedy: &'static str,
) -> Result<PathBuf, BuildError> {
    let whole = source.canonicalize().unwrap_or_else(|_| source.to_path_buf());
    let own = whole.ancestors().map(|folder| folder.join(beside).join(tool)).find(|path| path.is_file());
    own.or_else(|| on_path(tool)).ok_or(BuildError::NoTool { tool, remedy })
}

pub(super) fn on_path(tool: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(tool)).find(|path| path.is_file())
}
