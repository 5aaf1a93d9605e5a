//! What a guest stated, judged before anything is written.

use super::Accepted;
use crate::findings::Findings;
use crate::study::Study;

/// Why findings are refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No series was accepted.
    #[error("no series of the study was accepted for the module")]
    NoSource,
}

/// Judges findings.
pub fn gate(findings: Findings, study: &Study, accepted: &[usize]) -> Result<Accepted, Refusal> {
    let _ = (findings, study, accepted);
    Err(Refusal::NoSource)
}
