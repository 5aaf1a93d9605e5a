//! The worklist: which studies are open, in which order, and why; and a workitem for each job (PS3.4 annex CC).
//!
//! ```text
//! order · rule · module's least priority ─▶ reason ─┐
//! triage statement of a result ─────────────────────┴─▶ store/worklist ─▶ GET /api/worklist, `gantry worklist`
//! job: queued, running, over ─ triggers ─▶ workitem, workitem_event ─▶ web/ups: search, retrieve, event reports
//! ```
//!
//! A study stands as high as the highest of its reasons. Reasons are only added, so nothing lowers.

pub mod uid;

use crate::findings::Urgency;

/// What puts a study where it stands, beside what was found and its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The priority of its order.
    Order,
    /// A rule of the site.
    Rule,
    /// The least priority of a module that runs on it.
    Module,
}

impl Cause {
    /// In the journal.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Rule => "rule",
            Self::Module => "module",
        }
    }
}

/// One such reason.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    /// How high.
    pub level: Urgency,
    /// Of what kind.
    pub cause: Cause,
    /// The order's priority, or the name of the rule or module; no patient data.
    pub what: String,
}

impl Reason {
    /// That an order has this priority.
    #[must_use]
    pub fn order(level: Urgency, priority: &str) -> Self {
        Self { level, cause: Cause::Order, what: priority.into() }
    }
}
