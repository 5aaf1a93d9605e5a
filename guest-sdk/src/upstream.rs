//! What other modules found on the same study before this one.
//!
//! The manifest asks for `gantry:imaging/upstream` (and for `volumes` and `findings`, whose types it has). The operator
//! grants it, and names the modules that this one comes after:
//!
//! ```toml
//! [[modules]]
//! package = "/opt/modules/ct-organs"
//!
//! [[modules]]
//! package = "/opt/modules/liver-size"
//! after = ["ct-organs"]
//! grants = ["gantry:imaging/upstream"]
//! ```
//!
//! On a vendor's desk, `gantry run --upstream FOLDER --grant gantry:imaging/upstream` hands over the result of an earlier
//! `gantry run --out FOLDER`.
//!
//! ```
//! use gantry_guest::prelude::*;
//! use gantry_guest::testing::{FakeFinished, FakeSeries, FakeStudy, run};
//!
//! struct LiverSize;
//!
//! impl Analyzer for LiverSize {
//!     fn analyze(_: &Study) -> Result<(), Error> {
//!         let earlier = upstream::results()?;
//!         let organs = earlier.iter().find(|earlier| earlier.origin().name == "ct-organs");
//!         let organs = organs.ok_or("this module needs the result of ct-organs: put it after that one")?;
//!         if organs.unfit().is_some() {
//!             return findings::unfit(&Code::new("NO-ORGANS", "99ACME", "No organs"), "ct-organs could not tell");
//!         }
//!         let liver = organs.segments().into_iter().find(|segment| segment.kind.value == "10200004");
//!         // No labels: nothing that it looks for is in the image.
//!         let millilitres = match (organs.segmentation()?, liver) {
//!             (Some(found), Some(liver)) => {
//!                 found.labels.label(liver.value)?.components(1)?.iter().map(|c| c.millilitres).sum()
//!             }
//!             _ => 0.0,
//!         };
//!         let probability = if millilitres > 2000.0 { 1.0 } else { 0.0 };
//!         findings::classify(&Code::sct("80515008", "Large liver"), probability)
//!     }
//! }
//!
//! // 4 voxels of 1 L each, 3 of them liver.
//! let grid = Geometry::upright(Extent::new(4, 1, 1), Vec3::new(100.0, 100.0, 100.0));
//! let liver = Segment::anatomy(7, "Liver", Code::sct("10200004", "Liver"));
//! let organs = FakeFinished::new("ct-organs", "0.1.0").segmentation(0, 0, vec![7.0, 7.0, 7.0, 0.0], vec![liver]);
//! let study = FakeStudy::new().series(FakeSeries::new("CT").volume(grid, vec![0.0; 4])).upstream(organs);
//! let stated = run::<LiverSize>(study)?;
//! assert_eq!(stated.classifications[0].1, 1.0);
//! # Ok::<(), Error>(())
//! ```

pub use crate::bindings::gantry::imaging::upstream::{Alert, Classification, Measurement, Origin, Refusal};
use crate::error::Error;
use crate::sys;
use crate::types::Segment;
use crate::volumes::Volume;

/// The result of one module.
#[derive(Debug)]
pub struct Finished(sys::upstream::Finished);

/// A label volume that another module stated, and the volume that it lies on.
#[derive(Debug)]
pub struct Segmentation {
    /// [`Series::id`](crate::Series::id) of the series. One that this module's manifest does not accept is not in the
    /// study that it sees.
    pub series: String,
    /// Which volume of it, counted from 0.
    pub index: u32,
    /// On that volume's grid: 0, or the value of a segment, as that module stated them.
    pub labels: Volume,
}

/// Results on this version of the study, of the modules that the site put this one after and that have one, in order of
/// the site's names for them. Empty where there are none.
///
/// Fails with `unavailable` when what is kept is not what that module
/// left, which also fails the job.
pub fn results() -> Result<Vec<Finished>, Error> {
    Ok(sys::upstream::results()?.into_iter().map(Finished).collect())
}

impl Finished {
    /// Whose it is: name, version and vendor of its manifest, and whether it is a demonstration.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.origin()
    }

    /// Why that module called its input unfit, if so. It then found nothing, which says nothing about the study.
    #[must_use]
    pub fn unfit(&self) -> Option<Refusal> {
        self.0.unfit()
    }

    /// Findings about the whole study.
    #[must_use]
    pub fn classifications(&self) -> Vec<Classification> {
        self.0.classifications()
    }

    /// Numbers.
    #[must_use]
    pub fn measurements(&self) -> Vec<Measurement> {
        self.0.measurements()
    }

    /// Reasons to look sooner.
    #[must_use]
    pub fn triage(&self) -> Vec<Alert> {
        self.0.triage()
    }

    /// Every segment, also those without voxels.
    #[must_use]
    pub fn segments(&self) -> Vec<Segment> {
        self.0.segments()
    }

    /// The segmentation; `None` when that module stated none, and when none of its segments has a voxel. Its voxels stay
    /// on the host.
    ///
    /// Fails with `unavailable` as [`results`] does, and with `limit` (host memory).
    pub fn segmentation(&self) -> Result<Option<Segmentation>, Error> {
        let found = self.0.segmentation()?;
        Ok(found.map(|found| Segmentation { series: found.series, index: found.index, labels: Volume(found.labels) }))
    }
}
