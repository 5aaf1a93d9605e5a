//! `[needs]` of a manifest: what a module asks to be given.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a module asks to be given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Needs {
    /// By name, such as `gantry:imaging/volumes` or `wasi:nn`.
    pub interfaces: Vec<Interface>,
    /// DICOM attributes by keyword, of those that can be granted.
    pub attributes: Vec<String>,
    /// Earlier studies that it can use, the latest so many; 1 when not set. For one that asks for [`Interface::Priors`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priors_max: Option<usize>,
}

/// More earlier studies than anybody reads.
const PRIORS_MAX: usize = 100;

impl Needs {
    /// Earlier studies that the module can use at most.
    #[must_use]
    pub fn priors_max(&self) -> usize {
        self.priors_max.unwrap_or(1)
    }

    /// What cannot hold, whoever grants it.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.priors_max {
            Some(_) if !self.interfaces.contains(&Interface::Priors) => {
                Err(format!("needs.priors_max: needs.interfaces does not list {}", Interface::Priors.name()))
            }
            Some(most) if !(1..=PRIORS_MAX).contains(&most) => {
                Err(format!("needs.priors_max = {most} is not in 1..={PRIORS_MAX}"))
            }
            _ => Ok(()),
        }
    }
}

/// What can be asked for and granted: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Interface {
    /// The study.
    Study,
    /// The patient's earlier studies.
    Priors,
    /// Voxels.
    Volumes,
    /// More that can be done to voxels.
    Filters,
    /// Models over volumes larger than what they take.
    Patches,
    /// Findings.
    Findings,
    /// Heatmaps and boxes.
    Marks,
    /// Results of modules that ran before.
    Upstream,
    /// Frames of a stream.
    Frames,
    /// Log lines.
    Log,
    /// The package's models.
    Nn,
    /// Clocks.
    Clocks,
    /// Randomness.
    Random,
    /// Streams, which other WASI interfaces need.
    Io,
    /// Standard streams that lead to the log, an empty environment, exit.
    Cli,
    /// A file system without a single folder.
    Filesystem,
    /// All of WASI 0.2 with nothing in it, for languages that cannot do without: a clock that stands still, bytes that are
    /// the same in every job instead of random ones, no network, and the three above.
    Empty,
}

impl Interface {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Study,
        Self::Priors,
        Self::Volumes,
        Self::Filters,
        Self::Patches,
        Self::Findings,
        Self::Marks,
        Self::Upstream,
        Self::Frames,
        Self::Log,
        Self::Nn,
        Self::Clocks,
        Self::Random,
        Self::Io,
        Self::Cli,
        Self::Filesystem,
        Self::Empty,
    ];

    /// As written in manifests and grants.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Study => "gantry:imaging/study",
            Self::Priors => "gantry:imaging/priors",
            Self::Volumes => "gantry:imaging/volumes",
            Self::Filters => "gantry:imaging/filters",
            Self::Patches => "gantry:imaging/patches",
            Self::Findings => "gantry:imaging/findings",
            Self::Marks => "gantry:imaging/marks",
            Self::Upstream => "gantry:imaging/upstream",
            Self::Frames => "gantry:imaging/frames",
            Self::Log => "gantry:imaging/log",
            Self::Nn => "wasi:nn",
            Self::Clocks => "wasi:clocks",
            Self::Random => "wasi:random",
            Self::Io => "wasi:io",
            Self::Cli => "wasi:cli",
            Self::Filesystem => "wasi:filesystem",
            Self::Empty => "wasi:empty",
        }
    }

    /// All names, for messages.
    #[must_use]
    pub fn known() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The one that covers an import without its version: `wasi:clocks/wall-clock` is [`Interface::Clocks`].
    #[must_use]
    pub fn of_import(path: &str) -> Option<Self> {
        // There is a network only where nothing can be reached.
        if path.starts_with("wasi:sockets/") {
            return Some(Self::Empty);
        }
        Self::ALL.into_iter().find(|interface| {
            let name = interface.name();
            path == name || (!name.contains('/') && path.strip_prefix(name).is_some_and(|rest| rest.starts_with('/')))
        })
    }

    /// Whether an import of it is covered by [`Interface::Empty`] as well.
    #[must_use]
    pub fn is_wasi(self) -> bool {
        matches!(self, Self::Clocks | Self::Random | Self::Io | Self::Cli | Self::Filesystem | Self::Empty)
    }

    /// Which versions of it this runtime offers.
    #[must_use]
    pub fn offers(self, version: &str) -> bool {
        match self {
            Self::Study
            | Self::Priors
            | Self::Volumes
            | Self::Filters
            | Self::Patches
            | Self::Findings
            | Self::Marks
            | Self::Upstream
            | Self::Frames
            | Self::Log => version == "0.1.0",
            Self::Nn => version == "0.2.0-rc-2024-10-28",
            // WASI 0.2 only ever grew.
            _ => version.starts_with("0.2."),
        }
    }

    /// What [`Interface::offers`], for messages.
    #[must_use]
    pub fn offered(self) -> &'static str {
        match self {
            Self::Study
            | Self::Priors
            | Self::Volumes
            | Self::Filters
            | Self::Patches
            | Self::Findings
            | Self::Marks
            | Self::Upstream
            | Self::Frames
            | Self::Log => "0.1.0",
            Self::Nn => "0.2.0-rc-2024-10-28",
            _ => "0.2",
        }
    }
}

impl FromStr for Interface {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|interface| interface.name() == name);
        found.ok_or_else(|| format!("there is no interface `{name}`; there are: {}", Self::known()))
    }
}

impl TryFrom<String> for Interface {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Interface> for &'static str {
    fn from(interface: Interface) -> Self {
        interface.name()
    }
}
