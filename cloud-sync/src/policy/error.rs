//! Why a policy cannot be used.

/// The operator's: what to change in the policy's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, a key that there is not, or a value of another kind.
    #[error("{0}")]
    Toml(String),
    /// A version of the format that this program does not know.
    #[error("version is {0}, and this program reads 1: name `version = 1`, or use the program that wrote it")]
    Version(i64),
    /// No preset of this name.
    #[error("there is no preset {0}: name `qa-minimal`, `retraining` or `metadata-only`, or leave `preset` out")]
    Preset(String),
    /// A value out of its range.
    #[error("{key} must be {range}")]
    Range {
        /// The key.
        key: String,
        /// What it may be.
        range: &'static str,
    },
    /// A value that fits its key and not the others.
    #[error("{0}")]
    Contradiction(String),
    /// A list of those who opted out that cannot be believed.
    #[error("{0}")]
    OptOut(String),
}

impl PolicyError {
    pub(super) fn range(key: impl Into<String>, range: &'static str) -> Self {
        Self::Range { key: key.into(), range }
    }
}
