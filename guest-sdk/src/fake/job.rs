//! One job: what the module was given, and what it stated. One at a time on each thread.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::grid::{Volume, invalid};
use crate::bindings::gantry::imaging::log::Level;
use crate::bindings::gantry::imaging::upstream::{Alert, Classification, Measurement, Origin, Refusal};
use crate::testing::{FakeFinished, FakeSeries, FakeStudy, Line, Stated};
use crate::types::{Code, ErrorCode, Failure, Geometry, Region, Segment, TensorType, Urgency};

thread_local! {
    static JOB: RefCell<Option<Job>> = const { RefCell::new(None) };
}

/// What is going on on this thread.
#[derive(Debug)]
pub(crate) struct Job {
    study: FakeStudy,
    stated: Stated,
}

impl Job {
    /// Runs `module` as a job on `study` and gives what it stated.
    pub(crate) fn run<E>(study: FakeStudy, module: impl FnOnce() -> Result<(), E>) -> Result<Stated, E> {
        let before = JOB.replace(Some(Self { study, stated: Stated::default() }));
        assert!(before.is_none(), "testing::run within testing::run");
        /// Ends the job even when the module panics, so that the next test on this thread has a fresh start.
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                JOB.set(None);
            }
        }
        let end = End;
        module()?;
        let job = JOB.take().expect("the job that was begun above");
        drop(end);
        Ok(job.stated)
    }
}

fn with<T>(what: impl FnOnce(&mut Job) -> T) -> T {
    JOB.with_borrow_mut(|job| what(job.as_mut().expect("outside of testing::run there is no host to ask")))
}

/// A series of the fake study or of an earlier one, by position.
#[derive(Debug)]
pub(crate) struct Series {
    /// Which earlier study; none of the job's own.
    prior: Option<usize>,
    place: usize,
}

/// An earlier study, as the bindings have it.
#[derive(Debug)]
pub(crate) struct Prior {
    pub(crate) id: String,
    pub(crate) days_before: u32,
    pub(crate) series: Vec<Series>,
}

fn handles(prior: Option<usize>, count: usize) -> Vec<Series> {
    (0..count).map(|place| Series { prior, place }).collect()
}

pub(crate) fn accepted() -> Vec<Series> {
    with(|job| handles(None, job.study.series.len()))
}

pub(crate) fn earlier() -> Result<Vec<Prior>, Failure> {
    let prior = |(index, (days_before, series)): (usize, &(u32, Vec<FakeSeries>))| Prior {
        id: format!("prior-{}", index + 1),
        days_before: *days_before,
        series: handles(Some(index), series.len()),
    };
    Ok(with(|job| job.study.priors.iter().enumerate().map(prior).collect()))
}

impl Series {
    fn with<T>(&self, what: impl FnOnce(&FakeSeries) -> T) -> T {
        with(|job| match self.prior {
            None => what(&job.study.series[self.place]),
            Some(prior) => what(&job.study.priors[prior].1[self.place]),
        })
    }

    pub(crate) fn id(&self) -> String {
        let of = self.prior.map_or(String::new(), |prior| format!("prior-{}-", prior + 1));
        format!("{of}series-{}", self.place + 1)
    }

    pub(crate) fn modality(&self) -> String {
        self.with(|series| series.modality.clone())
    }

    pub(crate) fn attribute(&self, keyword: &str) -> Result<Option<String>, Failure> {
        self.with(|series| match series.attributes.iter().find(|(name, _)| name == keyword) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(Failure::Denied(format!("attribute {keyword}: the fake series was not given it"))),
        })
    }

    pub(crate) fn volume_attribute(&self, index: u32, keyword: &str) -> Result<Option<String>, Failure> {
        self.volume(index)?;
        let own = self.with(|series| {
            let own = series.of_volumes.iter().find(|(of, name, _)| *of == index && name == keyword);
            own.map(|(_, _, value)| value.clone())
        });
        own.map_or_else(|| self.attribute(keyword), Ok)
    }

    pub(crate) fn volumes(&self) -> u32 {
        self.with(|series| series.volumes.len() as u32)
    }

    pub(crate) fn geometry(&self, index: u32) -> Result<Geometry, Failure> {
        Ok(self.volume(index)?.geometry)
    }

    pub(crate) fn volume(&self, index: u32) -> Result<Volume, Failure> {
        self.with(|series| match series.volumes.get(index as usize) {
            Some((geometry, voxels)) => Volume::new(*geometry, voxels.clone()),
            None => invalid(format!("there is no volume {index}")),
        })
    }

    pub(crate) fn suv_factor(&self) -> Result<f64, Failure> {
        let none = || Failure::Unavailable("the fake series was given no SUV factor".into());
        self.with(|series| series.suv_factor).ok_or_else(none)
    }
}

/// The result of an earlier module, by position.
#[derive(Debug)]
pub(crate) struct Finished(usize);

/// A segmentation, as the host hands it over.
#[derive(Debug)]
pub(crate) struct Segmentation {
    pub(crate) series: String,
    pub(crate) index: u32,
    pub(crate) labels: Volume,
}

pub(crate) fn results() -> Result<Vec<Finished>, Failure> {
    Ok(with(|job| (0..job.study.upstream.len()).map(Finished).collect()))
}

impl Finished {
    fn get<T>(&self, what: impl FnOnce(&FakeFinished) -> T) -> T {
        with(|job| what(&job.study.upstream[self.0]))
    }

    pub(crate) fn origin(&self) -> Origin {
        self.get(|earlier| earlier.origin.clone())
    }

    pub(crate) fn unfit(&self) -> Option<Refusal> {
        self.get(|earlier| earlier.unfit.clone())
    }

    pub(crate) fn classifications(&self) -> Vec<Classification> {
        self.get(|earlier| earlier.classifications.clone())
    }

    pub(crate) fn measurements(&self) -> Vec<Measurement> {
        self.get(|earlier| earlier.measurements.clone())
    }

    pub(crate) fn triage(&self) -> Vec<Alert> {
        self.get(|earlier| earlier.triage.clone())
    }

    pub(crate) fn segments(&self) -> Vec<Segment> {
        self.get(|earlier| earlier.segments.clone())
    }

    pub(crate) fn segmentation(&self) -> Result<Option<Segmentation>, Failure> {
        let Some((series, index, labels)) = self.get(|earlier| earlier.labels.clone()) else { return Ok(None) };
        if labels.iter().all(|v| *v == 0.0) {
            return Ok(None);
        }
        let series = Series { prior: None, place: series as usize };
        let labels = Volume::new(series.geometry(index)?, labels)?;
        Ok(Some(Segmentation { series: series.id(), index, labels }))
    }
}

/// Elements in the fake host's memory.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(super) dimensions: Vec<u32>,
    pub(super) ty: TensorType,
    pub(super) data: Vec<u8>,
}

impl Tensor {
    pub(crate) fn new(dimensions: &[u32], ty: TensorType, data: &[u8]) -> Self {
        let size: usize = match ty {
            TensorType::U8 => 1,
            TensorType::Fp16 | TensorType::Bf16 => 2,
            TensorType::Fp32 | TensorType::I32 => 4,
            TensorType::Fp64 | TensorType::I64 => 8,
        };
        let expected = dimensions.iter().try_fold(size, |n, &d| n.checked_mul(d as usize));
        // The host traps, which is as good as a panic.
        assert_eq!(Some(data.len()), expected, "bytes of a {ty:?} tensor of {dimensions:?}");
        Self { dimensions: dimensions.to_vec(), ty, data: data.to_vec() }
    }

    pub(crate) fn dimensions(&self) -> Vec<u32> {
        self.dimensions.clone()
    }

    pub(crate) fn ty(&self) -> TensorType {
        self.ty
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.data.clone()
    }

    pub(super) fn to_f32(&self) -> Result<Vec<f32>, Failure> {
        let expected = self.dimensions.iter().map(|&d| d as usize).product::<usize>() * 4;
        if self.ty != TensorType::Fp32 || self.data.len() != expected {
            return invalid(format!("a {:?} tensor of {:?} with {} bytes", self.ty, self.dimensions, self.data.len()));
        }
        Ok(self.data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// A wasi-nn error.
#[derive(Debug)]
pub(crate) struct Error {
    code: ErrorCode,
    data: String,
}

impl Error {
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    pub(crate) fn data(&self) -> String {
        self.data.clone()
    }
}

/// A closure that plays a model.
pub(crate) type Play = dyn Fn(&[(String, crate::Tensor)]) -> Result<Vec<(String, crate::Tensor)>, String>;

pub(crate) struct Graph(Rc<Play>);

pub(crate) struct GraphExecutionContext(Rc<Play>);

impl fmt::Debug for GraphExecutionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GraphExecutionContext")
    }
}

pub(crate) fn load_by_name(name: &str) -> Result<Graph, Error> {
    with(|job| match job.study.models.iter().find(|(n, _)| n == name) {
        Some((_, play)) => Ok(Graph(play.clone())),
        None => Err(Error { code: ErrorCode::NotFound, data: format!("the fake study has no model {name}") }),
    })
}

impl Graph {
    pub(crate) fn init_execution_context(&self) -> Result<GraphExecutionContext, Error> {
        Ok(GraphExecutionContext(self.0.clone()))
    }
}

impl GraphExecutionContext {
    pub(crate) fn compute(&self, inputs: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>, Error> {
        let inputs: Vec<_> = inputs.into_iter().map(|(name, tensor)| (name, crate::Tensor(tensor))).collect();
        match (self.0)(&inputs) {
            Ok(outputs) => Ok(outputs.into_iter().map(|(name, tensor)| (name, tensor.0)).collect()),
            Err(data) => Err(Error { code: ErrorCode::InvalidArgument, data }),
        }
    }
}

pub(crate) fn segmentation(labels: &Volume, segments: &[Segment]) -> Result<(), Failure> {
    with(|job| {
        if job.stated.segmentation.is_some() {
            return invalid("a second segmentation");
        }
        let mut sources = job.study.series.iter().flat_map(|series| &series.volumes);
        if !sources.any(|(geometry, _)| same_grid(geometry, &labels.geometry)) {
            return invalid("the segmentation does not lie on the grid of a series; use resample_like");
        }
        for segment in segments {
            probability("confidence", segment.confidence.unwrap_or(0.0))?;
        }
        let known = |v: f32| v == 0.0 || segments.iter().any(|s| f64::from(s.value) == f64::from(v));
        if let Some(v) = labels.voxels.iter().find(|v| !known(**v)) {
            return invalid(format!("a voxel has value {v}, which is no segment"));
        }
        let labels = labels.voxels.iter().map(|&v| v as u16).collect();
        job.stated.segmentation = Some((labels, segments.to_vec()));
        Ok(())
    })
}

pub(crate) fn probabilities(segment: u32, values: &Volume) -> Result<(), Failure> {
    with(|job| {
        if job.stated.probabilities.iter().any(|(earlier, _)| *earlier == segment) {
            return invalid(format!("probabilities of segment {segment} were stated before"));
        }
        let segments = job.stated.segmentation.as_ref().map_or(&[][..], |(_, segments)| segments);
        if segments.iter().all(|s| s.value != segment) {
            return invalid(format!("segment {segment} was not stated before"));
        }
        // The labels lie on one of these: the fake keeps their voxels alone.
        let mut sources = job.study.series.iter().flat_map(|series| &series.volumes);
        if !sources.any(|(geometry, _)| same_grid(geometry, &values.geometry)) {
            return invalid("the probabilities do not lie on the grid of a series; use resample_like");
        }
        for p in values.voxels.iter() {
            probability("the probability of a voxel,", *p)?;
        }
        job.stated.probabilities.push((segment, values.voxels.to_vec()));
        Ok(())
    })
}

fn same_grid(a: &Geometry, b: &Geometry) -> bool {
    let close = |a: crate::types::Vec3, b: crate::types::Vec3| (0..3).all(|i| (a[i] - b[i]).abs() < 1e-3);
    let axes = close(a.axes.0, b.axes.0) && close(a.axes.1, b.axes.1) && close(a.axes.2, b.axes.2);
    a.size == b.size && axes && close(a.spacing, b.spacing) && close(a.origin, b.origin)
}

fn probability(what: &str, value: f32) -> Result<(), Failure> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { invalid(format!("{what} {value} is not in 0..=1")) }
}

pub(crate) fn measure(quantity: &Code, value: f64, unit: &str, segment: Option<u32>) -> Result<(), Failure> {
    if !value.is_finite() {
        return invalid(format!("{} of {value}", quantity.meaning));
    }
    with(|job| {
        let segments = job.stated.segmentation.as_ref().map_or(&[][..], |(_, segments)| segments);
        if segment.is_some_and(|wanted| segments.iter().all(|s| s.value != wanted)) {
            return invalid(format!("segment {segment:?} was not stated before"));
        }
        job.stated.measurements.push((quantity.clone(), value, unit.into(), segment));
        Ok(())
    })
}

pub(crate) fn classify(finding: &Code, value: f32) -> Result<(), Failure> {
    probability("probability", value)?;
    with(|job| {
        if job.stated.classifications.iter().any(|(before, p)| same(before, finding) && *p != value) {
            return invalid(format!("{} was stated before with another probability", finding.meaning));
        }
        job.stated.classifications.push((finding.clone(), value));
        Ok(())
    })
}

fn same(a: &Code, b: &Code) -> bool {
    (&a.scheme, &a.value) == (&b.scheme, &b.value)
}

pub(crate) fn triage(level: Urgency, finding: &Code, value: f32, reason: &str) -> Result<(), Failure> {
    probability("probability", value)?;
    with(|job| {
        let mut before = job.stated.triage.iter().filter(|(_, before, ..)| same(before, finding));
        if before.any(|(l, _, p, _)| (*l, *p) != (level, value)) {
            return invalid(format!("{} was stated before with another level or probability", finding.meaning));
        }
        job.stated.triage.push((level, finding.clone(), value, reason.into()));
        Ok(())
    })
}

pub(crate) fn heatmap(values: &Volume, title: &str) -> Result<(), Failure> {
    if title.trim().is_empty() || title.chars().count() > 64 || title.contains(|c: char| c.is_control() || c == '\\') {
        return invalid("a title is 1 to 64 characters without control characters and backslash");
    }
    with(|job| {
        if job.stated.heatmap.is_some() {
            return invalid("a second heatmap");
        }
        let mut sources = job.study.series.iter().flat_map(|series| &series.volumes);
        if !sources.any(|(geometry, _)| same_grid(geometry, &values.geometry)) {
            return invalid("the heatmap does not lie on the grid of a series; use resample_like");
        }
        if let Some(v) = values.voxels.iter().find(|v| !v.is_finite()) {
            return invalid(format!("a voxel of the heatmap is {v}"));
        }
        job.stated.heatmap = Some((title.into(), values.voxels.to_vec()));
        Ok(())
    })
}

pub(crate) fn mark(place: Region, label: &Code, value: f32) -> Result<(), Failure> {
    probability("probability", value)?;
    with(|job| {
        let first = job.study.series.iter().flat_map(|series| &series.volumes).next();
        let Some((geometry, _)) = first else { return invalid("a mark without a volume") };
        let inside = (0..3).all(|axis| {
            let (start, size) = (place.start[axis], place.size[axis]);
            size > 0 && start.checked_add(size).is_some_and(|end| end <= geometry.size[axis])
        });
        if !inside {
            return invalid(format!("the box {place:?} is empty or leaves the first volume"));
        }
        job.stated.marks.push((place, label.clone(), value));
        Ok(())
    })
}

pub(crate) fn unfit(reason: &Code, detail: &str) -> Result<(), Failure> {
    with(|job| job.stated.unfit = Some((reason.clone(), detail.into())));
    Ok(())
}

pub(crate) fn write(level: Level, message: &str) {
    let line = match level {
        Level::Debug => Line::Debug(message.into()),
        Level::Info => Line::Info(message.into()),
        Level::Warn => Line::Warn(message.into()),
    };
    with(|job| job.stated.log.push(line));
}
