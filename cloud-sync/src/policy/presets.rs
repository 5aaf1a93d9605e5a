//! The presets, as the policies that they are.

use super::PolicyError;

/// The text of a preset.
pub(super) fn text(name: &str) -> Result<&'static str, PolicyError> {
    match name {
        "qa-minimal" => Ok(include_str!("presets/qa-minimal.toml")),
        "retraining" => Ok(include_str!("presets/retraining.toml")),
        "metadata-only" => Ok(include_str!("presets/metadata-only.toml")),
        _ => Err(PolicyError::Preset(name.to_owned())),
    }
}
