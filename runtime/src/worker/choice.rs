//! What is chosen about workers: by the operator, and by who embeds the runtime.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One of the four things that hold a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wall {
    /// seccomp.
    Seccomp,
    /// Landlock.
    Landlock,
    /// Resource limits.
    Limits,
    /// Namespaces of users, network, inter-process communication and host name.
    Namespaces,
}

impl Wall {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Seccomp, Self::Landlock, Self::Limits, Self::Namespaces];

    /// As in configurations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::Limits => "limits",
            Self::Namespaces => "namespaces",
        }
    }

    /// Whether no worker starts without it, unless the operator accepted that by name. Many systems keep namespaces from
    /// users; what they would hold is held by seccomp too.
    #[must_use]
    pub fn is_required(self) -> bool {
        self != Self::Namespaces
    }
}

/// The program that becomes a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub file: PathBuf,
    /// What it is called with.
    pub arguments: Vec<String>,
}

impl Program {
    /// This program, as `gantry worker`.
    ///
    /// # Errors
    /// The system does not say what this program is.
    pub fn own() -> io::Result<Self> {
        Ok(Self { file: std::env::current_exe()?, arguments: vec!["worker".into()] })
    }
}
