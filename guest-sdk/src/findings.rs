//! What the module concludes.
//!
//! The host judges all of them together after the module returned `Ok`, and then writes them as DICOM. One that does
//! not fit ends the job, and nothing is written. Natively, the [fake host](crate::testing) refuses in the call what it
//! can, so that a test shows where it was stated.
//!
//! Every function fails with `limit` past `findings_max` (1000; each segment counts as one) and with `invalid` for a
//! text of more than 4096 bytes.

use crate::error::Error;
use crate::sys;
use crate::types::{Code, Segment, Urgency};
use crate::volumes::Volume;

/// A label volume on the grid of the source series: voxel values name segments, 0 is background.
///
/// The grid is that of a volume that the module was given: see [`Volume::resample_like`] and
/// [`argmax`](crate::volumes::argmax). Every non-zero value must be one of `segments`. At most one segmentation a job;
/// a second is `invalid`.
pub fn segmentation(labels: &Volume, segments: &[Segment]) -> Result<(), Error> {
    Ok(sys::findings::segmentation(&labels.0, segments)?)
}

/// How probable it is, voxel for voxel, that it belongs to the segment of that value, which must have been stated before in
/// this job: 0 to 1, on the grid of the labels. Once for each segment; a second time is `invalid`.
///
/// ```
/// use gantry_guest::prelude::*;
/// use gantry_guest::testing::{FakeSeries, FakeStudy, run};
///
/// struct Bright;
///
/// impl Analyzer for Bright {
///     fn analyze(study: &Study) -> Result<(), Error> {
///         let likely = study.first("CT")?.volume(0)?.window(40.0, 400.0)?;
///         let bright = Segment::anatomy(1, "Bright", Code::new("BRIGHT", "99ACME", "Bright"));
///         findings::segmentation(&likely.threshold(0.5, 1.0)?, &[bright])?;
///         findings::probabilities(1, &likely)
///     }
/// }
///
/// let grid = Geometry::upright(Extent::new(2, 2, 1), Vec3::new(1.0, 1.0, 1.0));
/// let study = FakeStudy::new().series(FakeSeries::new("CT").volume(grid, vec![-160.0, 240.0, 140.0, -60.0]));
/// let stated = run::<Bright>(study)?;
/// assert_eq!(stated.segmentation.expect("labels").0, [0, 1, 1, 0]);
/// assert_eq!(stated.probabilities, [(1, vec![0.0, 1.0, 0.75, 0.25])]);
/// # Ok::<(), Error>(())
/// ```
pub fn probabilities(segment: u32, values: &Volume) -> Result<(), Error> {
    Ok(sys::findings::probabilities(segment, &values.0)?)
}

/// A finite number with its unit in UCUM (`mL`, `mm`, `1`), tied to a segment that was stated before in this job
/// if `segment` names one.
pub fn measure(quantity: &Code, value: f64, unit: &str, segment: Option<u32>) -> Result<(), Error> {
    Ok(sys::findings::measure(quantity, value, unit, segment)?)
}

/// A finding about the whole study with its probability, 0 to 1. One finding has one probability.
pub fn classify(finding: &Code, probability: f32) -> Result<(), Error> {
    Ok(sys::findings::classify(finding, probability)?)
}

/// Moves the study up and says why. `probability` is 0 to 1; `reason` is for people, at most 1024 characters. One finding
/// has one level and one probability.
pub fn triage(level: Urgency, finding: &Code, probability: f32, reason: &str) -> Result<(), Error> {
    Ok(sys::findings::triage(level, finding, probability, reason)?)
}

/// The input is not fit for this module, and why; `detail` is for people, at most 1024 characters. No other finding may
/// stand beside it: return `Ok` next.
pub fn unfit(reason: &Code, detail: &str) -> Result<(), Error> {
    Ok(sys::findings::unfit(reason, detail)?)
}
