//! The one thing of a finding that an operator may also set.

/// How soon a person should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Urgency {
    /// No sooner than anything else.
    #[default]
    Routine,
    /// Before routine work.
    Prompt,
    /// Next.
    Urgent,
    /// Now.
    Critical,
}

impl Urgency {
    /// In the configuration and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Routine => "routine",
            Self::Prompt => "prompt",
            Self::Urgent => "urgent",
            Self::Critical => "critical",
        }
    }
}
