//! What the module concludes.
//!
//! The host checks each finding when it is stated and all of them together afterwards; it then writes them as
//! DICOM. One that does not fit ends the job, and nothing is written.

use crate::error::Error;
use crate::sys;
use crate::types::{Code, Segment, Urgency};
use crate::volumes::Volume;

/// A label volume on the grid of the source series: voxel values name segments, 0 is background.
///
/// Every non-zero value must be one of `segments`. At most one segmentation a job.
pub fn segmentation(labels: &Volume, segments: &[Segment]) -> Result<(), Error> {
    Ok(sys::findings::segmentation(&labels.0, segments)?)
}

/// A finite number with its unit in UCUM (`mL`, `mm`, `1`), tied to a segment that was stated before in this job
/// if `segment` names one.
pub fn measure(quantity: &Code, value: f64, unit: &str, segment: Option<u32>) -> Result<(), Error> {
    Ok(sys::findings::measure(quantity, value, unit, segment)?)
}

/// A finding about the whole study with its probability, 0 to 1.
pub fn classify(finding: &Code, probability: f32) -> Result<(), Error> {
    Ok(sys::findings::classify(finding, probability)?)
}

/// Moves the study up and says why. `probability` is 0 to 1; `reason` is for people, at most 1024 characters.
pub fn triage(level: Urgency, finding: &Code, probability: f32, reason: &str) -> Result<(), Error> {
    Ok(sys::findings::triage(level, finding, probability, reason)?)
}

/// The input is not fit for this module, and why. Findings stated beside it are refused.
pub fn unfit(reason: &Code, detail: &str) -> Result<(), Error> {
    Ok(sys::findings::unfit(reason, detail)?)
}
