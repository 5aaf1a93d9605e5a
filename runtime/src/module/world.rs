//! What kinds of modules there are: the worlds of the contract in `wit/`.

use crate::module::manifest::Interface;

/// What a module exports, and so what runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Sees one study.
    Analyzer,
    /// Sees frames one after another.
    FrameAnalyzer,
}

impl World {
    /// By names of exports; `None` where nothing can be called.
    pub fn of_exports<'a>(exports: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        exports.into_iter().find_map(|export| match export {
            "analyze" => Some(Self::Analyzer),
            "next" => Some(Self::FrameAnalyzer),
            _ => None,
        })
    }

    /// In the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Analyzer => "gantry:imaging/analyzer",
            Self::FrameAnalyzer => "gantry:imaging/frame-analyzer",
        }
    }

    /// The command that runs such a module.
    #[must_use]
    pub fn command(self) -> &'static str {
        match self {
            Self::Analyzer => "gantry run",
            Self::FrameAnalyzer => "gantry stream",
        }
    }

    /// Whether modules of this kind can have an interface, if it is granted.
    #[must_use]
    pub fn offers(self, interface: Interface) -> bool {
        match interface {
            Interface::Study
            | Interface::Priors
            | Interface::Filters
            | Interface::Patches
            | Interface::Findings
            | Interface::Marks
            | Interface::Upstream => self == Self::Analyzer,
            Interface::Frames => self == Self::FrameAnalyzer,
            _ => true,
        }
    }
}
