//! Unit tests of a module without a host: a fake study, models played by closures, and what the module stated.
//!
//! Only there when compiled natively. The volume operations of the fake host are slow and simple: use small volumes.
//!
//! ```
//! use gantry_guest::prelude::*;
//! use gantry_guest::testing::{FakeSeries, FakeStudy, run};
//!
//! struct Brightness;
//!
//! impl Analyzer for Brightness {
//!     fn analyze(study: &Study) -> Result<(), Error> {
//!         let image = study.first("DX")?.volume(0)?.z_score()?;
//!         let outputs = Model::load("bright")?.run([("image", image.to_slice_tensor(TensorType::Fp32)?)])?;
//!         let probability = outputs.get("probability")?.to_f32()?[0];
//!         findings::classify(&Code::new("BRIGHT", "99ACME", "Bright image"), probability)
//!     }
//! }
//!
//! let grid = Geometry::upright(Extent::new(2, 2, 1), Vec3::new(1.0, 1.0, 1.0));
//! let study = FakeStudy::new()
//!     .series(FakeSeries::new("DX").volume(grid, vec![0.0, 1.0, 2.0, 3.0]))
//!     .model("bright", |inputs| {
//!         assert_eq!(inputs[0].1.dimensions(), [1, 1, 2, 2]);
//!         Ok(vec![("probability".into(), Tensor::from_f32(&[1], &[0.75]))])
//!     });
//! let stated = run::<Brightness>(study)?;
//! assert_eq!(stated.classifications[0].1, 0.75);
//! # Ok::<(), Error>(())
//! ```

mod played;

use std::fmt;
use std::rc::Rc;

use crate::error::Error;
use crate::fake::Job;
use crate::study::Study;
use crate::tensor::Tensor;
use crate::types::{Code, Geometry, Region, Segment, Urgency};
use crate::upstream::{Alert, Classification, Measurement, Origin, Refusal};
use crate::{Analyzer, fake};

pub use self::played::{FakeStream, Streamed, stream};

/// A study of made-up series, and the models of the package.
#[derive(Default)]
pub struct FakeStudy {
    pub(crate) series: Vec<FakeSeries>,
    pub(crate) priors: Vec<(u32, Vec<FakeSeries>)>,
    pub(crate) models: Vec<(String, Rc<PlayModel>)>,
    pub(crate) upstream: Vec<FakeFinished>,
}

type PlayModel = dyn Fn(&[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, String>;

/// A made-up series.
#[derive(Debug, Clone)]
pub struct FakeSeries {
    pub(crate) modality: String,
    pub(crate) attributes: Vec<(String, Option<String>)>,
    pub(crate) of_volumes: Vec<(u32, String, Option<String>)>,
    pub(crate) volumes: Vec<(Geometry, Vec<f32>)>,
    pub(crate) suv_factor: Option<f64>,
}

/// The made-up result of a module that ran before: see [`upstream`](crate::upstream).
#[derive(Debug, Clone)]
pub struct FakeFinished {
    pub(crate) origin: Origin,
    pub(crate) unfit: Option<Refusal>,
    pub(crate) classifications: Vec<Classification>,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) triage: Vec<Alert>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) labels: Option<(u32, u32, Vec<f32>)>,
}

/// What a module stated in one job, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stated {
    /// Labels on the grid of the source, x fastest, and what they mean.
    pub segmentation: Option<(Vec<u16>, Vec<Segment>)>,
    /// Segment, and values on the grid of the source, x fastest.
    pub probabilities: Vec<(u32, Vec<f32>)>,
    /// Quantity, value, unit and segment of each measurement.
    pub measurements: Vec<(Code, f64, String, Option<u32>)>,
    /// Finding and probability.
    pub classifications: Vec<(Code, f32)>,
    /// Level, finding, probability and reason.
    pub triage: Vec<(Urgency, Code, f32, String)>,
    /// Title and values on the grid of the source, x fastest.
    pub heatmap: Option<(String, Vec<f32>)>,
    /// Box, label and probability of each mark.
    pub marks: Vec<(Region, Code, f32)>,
    /// Reason and detail.
    pub unfit: Option<(Code, String)>,
    /// Lines of the log.
    pub log: Vec<Line>,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// From [`debug!`](crate::debug).
    Debug(String),
    /// From [`info!`](crate::info).
    Info(String),
    /// From [`warn!`](crate::warn).
    Warn(String),
}

/// Runs a module on a fake study, once.
///
/// # Errors
///
/// What `analyze` returned.
pub fn run<A: Analyzer>(study: FakeStudy) -> Result<Stated, Error> {
    Job::run(study, || A::analyze(&Study::of_this_job()))
}

impl FakeStudy {
    /// Without series or models.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more series.
    #[must_use]
    pub fn series(mut self, series: FakeSeries) -> Self {
        self.series.push(series);
        self
    }

    /// With the result of one more module that ran before.
    #[must_use]
    pub fn upstream(mut self, earlier: FakeFinished) -> Self {
        self.upstream.push(earlier);
        self
    }

    /// With one more earlier study of the same patient, so many days before; give the latest first.
    #[must_use]
    pub fn prior(mut self, days_before: u32, series: impl IntoIterator<Item = FakeSeries>) -> Self {
        self.priors.push((days_before, series.into_iter().collect()));
        self
    }

    /// With a model that `play` stands in for: from all inputs by name to all outputs by name. What it fails with
    /// becomes an `invalid-argument` of wasi-nn.
    #[must_use]
    pub fn model(
        mut self,
        name: &str,
        play: impl Fn(&[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, String> + 'static,
    ) -> Self {
        self.models.push((name.into(), Rc::new(play)));
        self
    }
}

impl fmt::Debug for FakeStudy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let models: Vec<&String> = self.models.iter().map(|(name, _)| name).collect();
        let mut shown = f.debug_struct("FakeStudy");
        shown.field("series", &self.series).field("priors", &self.priors).field("models", &models);
        shown.field("upstream", &self.upstream).finish()
    }
}

impl FakeSeries {
    /// Of a modality (0008,0060), such as `CT`.
    #[must_use]
    pub fn new(modality: &str) -> Self {
        Self {
            modality: modality.into(),
            attributes: Vec::new(),
            of_volumes: Vec::new(),
            volumes: Vec::new(),
            suv_factor: None,
        }
    }

    /// With the value of an attribute; an empty one is absent. Attributes that are not given are denied, as those
    /// that the manifest does not ask for.
    #[must_use]
    pub fn attribute(mut self, keyword: &str, value: &str) -> Self {
        self.attributes.push((keyword.into(), (!value.is_empty()).then(|| value.into())));
        self
    }

    /// With the value of an attribute of one volume, counted from 0, where it is another than that of the series.
    #[must_use]
    pub fn volume_attribute(mut self, index: u32, keyword: &str, value: &str) -> Self {
        self.of_volumes.push((index, keyword.into(), (!value.is_empty()).then(|| value.into())));
        self
    }

    /// With what its voxels are multiplied by to become SUV.
    #[must_use]
    pub fn suv_factor(mut self, factor: f64) -> Self {
        self.suv_factor = Some(factor);
        self
    }

    /// With one more volume; voxels x fastest, then y, then z.
    ///
    /// # Panics
    ///
    /// When there are not as many voxels as the grid has.
    #[must_use]
    pub fn volume(mut self, grid: Geometry, voxels: Vec<f32>) -> Self {
        let checked = fake::volumes::Volume::new(grid, voxels.clone());
        assert!(checked.is_ok(), "{} voxels do not fill a grid of {:?}", voxels.len(), grid.size);
        self.volumes.push((grid, voxels));
        self
    }

    /// With one more volume whose voxel at `[x, y, z]` is `value([x, y, z])`.
    #[must_use]
    pub fn volume_from(self, grid: Geometry, value: impl Fn([u32; 3]) -> f32) -> Self {
        let (columns, rows) = (u64::from(grid.size.x), u64::from(grid.size.y));
        let index = |n: u64| [n % columns, n / columns % rows, n / columns / rows].map(|i| i as u32);
        let voxels = (0..grid.size.voxels()).map(|n| value(index(n))).collect();
        self.volume(grid, voxels)
    }
}

impl FakeFinished {
    /// Of a module of this name and version, a demonstration of `Fake`'s, that stated nothing.
    #[must_use]
    pub fn new(module: &str, version: &str) -> Self {
        let (name, version) = (module.into(), version.into());
        Self {
            origin: Origin { name, version, vendor: "Fake".into(), demonstration: true },
            unfit: None,
            classifications: Vec::new(),
            measurements: Vec::new(),
            triage: Vec::new(),
            segments: Vec::new(),
            labels: None,
        }
    }

    /// It called the input unfit.
    #[must_use]
    pub fn unfit(mut self, reason: Code, detail: &str) -> Self {
        self.unfit = Some(Refusal { reason, detail: detail.into() });
        self
    }

    /// With one more finding about the whole study.
    #[must_use]
    pub fn classification(mut self, finding: Code, probability: f32) -> Self {
        self.classifications.push(Classification { finding, probability });
        self
    }

    /// With one more number.
    #[must_use]
    pub fn measurement(mut self, quantity: Code, value: f64, unit: &str, segment: Option<u32>) -> Self {
        self.measurements.push(Measurement { quantity, value, unit: unit.into(), segment });
        self
    }

    /// With one more reason to look sooner.
    #[must_use]
    pub fn triage(mut self, level: Urgency, finding: Code, probability: f32, reason: &str) -> Self {
        self.triage.push(Alert { level, finding, probability, reason: reason.into() });
        self
    }

    /// With a segmentation on a volume of the fake study, of the series at `series`, both counted from 0: voxels x
    /// fastest, then y, then z.
    #[must_use]
    pub fn segmentation(mut self, series: u32, volume: u32, labels: Vec<f32>, segments: Vec<Segment>) -> Self {
        self.labels = Some((series, volume, labels));
        self.segments = segments;
        self
    }
}
