//! `result.json`: what a job did, for machines, kept at the hospital.
//!
//! It names objects by UID and digest, and never a person. Fields come in the order of the structs, so that two
//! results can be compared line by line. Additions keep [`SCHEMA`]; a change of what a field means is a new one.

use serde::{Deserialize, Serialize};

use super::{Accepted, AcceptedHeatmap, ModuleInfo, Reference, Stamp, Written};
use crate::findings::{Classification, Code, LogLine, Mark, Measurement, Triage, Unfit};
use crate::hex;
use crate::inference::{Device, LoadedModel, Precision, Provider};
use crate::stream::StreamRecord;

/// Name and version of the format.
pub const SCHEMA: &str = "gantry.result/1";

/// The file.
#[derive(Debug, Clone, Serialize)]
pub struct JobResult {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// How it ended.
    pub status: Status,
    /// Of `gantry`.
    pub runtime_version: &'static str,
    /// When: `YYYYMMDD` and `HHMMSS`, as in the objects.
    pub date: String,
    /// See `date`.
    pub time: String,
    /// Ties it to the log, and to the association or request that brought the study's last instance; `None` without a node.
    pub correlation: Option<String>,
    /// What ran.
    pub module: Module,
    /// Each model that it loaded.
    pub models: Vec<Model>,
    /// What it ran on.
    pub input: Input,
    /// What it concluded.
    pub findings: Stated,
    /// What was said of frames, and how they were played: of a module that looks at streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamRecord>,
    /// Files written beside this one.
    pub outputs: Vec<Written>,
    /// The SR of an earlier version of the study that the SR here takes the place of.
    pub predecessor: Option<Reference>,
    /// How long each phase took, in order.
    pub phases: Vec<Phase>,
    /// The most voxels and tensors that were on the host at once, bytes; `None` where nobody measured.
    pub host_memory_peak_bytes: Option<u64>,
    /// What was repaired or left out of the input.
    pub warnings: Vec<String>,
    /// What the module wrote to its log.
    pub log: Vec<LogLine>,
}

/// How a job ended. One that failed or was refused leaves no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// With findings, possibly none.
    Done,
    /// The module called the input unfit.
    Unfit,
}

/// The module that ran.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Module {
    /// Of the manifest.
    pub name: String,
    /// Of the manifest.
    pub version: String,
    /// Of the manifest.
    pub vendor: String,
    /// Of the manifest.
    pub title: String,
    /// Not for clinical use.
    pub demonstration: bool,
    /// SHA-256 over the manifest, hexadecimal.
    pub identity_sha256: String,
    /// SHA-256 of the component, hexadecimal.
    pub component_sha256: String,
    /// What the operator granted, by name.
    pub grants: Vec<String>,
}

/// A model that was loaded, and where it ran (invariant 4).
#[derive(Debug, Clone, Serialize)]
pub struct Model {
    /// As the module calls it.
    pub name: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Library and version: `onnxruntime 1.32.0`.
    pub engine: String,
    /// The device that the module asked for.
    pub requested: Device,
    /// Where it ran.
    pub device: Device,
    /// What ran it there: `built-in`, `cuda`, `tensorrt` or `openvino`.
    pub provider: Provider,
    /// Which GPU, as the provider counts; none on processors.
    pub gpu_index: Option<u32>,
    /// What `f32` was computed as.
    pub precision: Precision,
    /// Why it did not run where it was asked to, if so.
    pub fallback: Option<String>,
    /// How often it ran.
    pub calls: u64,
    /// How long these runs took together, ms.
    pub compute_milliseconds: f64,
}

/// What a job ran on.
#[derive(Debug, Clone, Serialize)]
pub struct Input {
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// The series that the module could see.
    pub series: Vec<InputSeries>,
    /// The results of earlier modules that it looked at.
    pub upstream: Vec<InputUpstream>,
    /// Earlier studies that the module asked for and was told of, the latest first.
    pub priors: Vec<InputPrior>,
}

/// An earlier study that the module was told of.
#[derive(Debug, Clone, Serialize)]
pub struct InputPrior {
    /// Study Instance UID.
    pub study_instance_uid: String,
    /// What the module knew it as.
    pub pseudonym: String,
    /// Days from its date to that of the study that the job was about.
    pub days_before: u32,
    /// Its series that the module could see.
    pub series: Vec<InputSeries>,
}

/// A series that the module could see.
#[derive(Debug, Clone, Serialize)]
pub struct InputSeries {
    /// Series Instance UID.
    pub series_instance_uid: String,
    /// What the module knew it as.
    pub pseudonym: String,
    /// Modality.
    pub modality: String,
    /// The files that were decoded.
    pub decoded: Vec<InputFile>,
}

/// A result of an earlier module on the same study, which the module looked at.
#[derive(Debug, Clone, Serialize)]
pub struct InputUpstream {
    /// Name of that module, of its manifest.
    pub module: String,
    /// Its version.
    pub version: String,
    /// SHA-256 over its manifest, hexadecimal.
    pub identity_sha256: String,
    /// SHA-256 of its `result.json`, hexadecimal.
    pub result_sha256: String,
}

/// A file that was decoded.
#[derive(Debug, Clone, Serialize)]
pub struct InputFile {
    /// SOP Instance UID.
    pub sop_instance_uid: String,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
}

/// What the module stated and the gate accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stated {
    /// Every segment, also those that have no voxels and are in no SEG.
    pub segments: Vec<StatedSegment>,
    /// Of segments, in order.
    #[serde(default)]
    pub probabilities: Vec<StatedProbabilities>,
    /// In order.
    pub measurements: Vec<Measurement>,
    /// In order.
    pub classifications: Vec<Classification>,
    /// In order.
    pub triage: Vec<Triage>,
    /// Why the input was unfit, if so.
    pub unfit: Option<Unfit>,
    /// What the parametric map holds.
    #[serde(default)]
    pub heatmap: Option<StatedHeatmap>,
    /// In order.
    #[serde(default)]
    pub marks: Vec<StatedMark>,
}

/// Probabilities of a segment, without their voxels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatedProbabilities {
    /// The voxel value of the segment.
    pub segment: u32,
    /// Segment Number in the fractional SEG; `None` when it is probable nowhere.
    pub number: Option<u16>,
    /// The most, found by the host.
    pub maximum: f32,
}

/// A heatmap, without its voxels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatedHeatmap {
    /// As stated.
    pub title: String,
    /// The least value, found by the host.
    pub minimum: f32,
    /// The most.
    pub maximum: f32,
}

/// A box, in voxels of the volume that it is of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatedMark {
    /// First voxel along x, y, z.
    pub start: [usize; 3],
    /// Number of voxels along x, y, z.
    pub size: [usize; 3],
    /// What.
    pub label: Code,
    /// 0 to 1.
    pub probability: f32,
}

impl StatedMark {
    /// Where it lies, in words.
    #[must_use]
    pub fn place(&self) -> String {
        place(self.start, self.size)
    }
}

/// Where a box lies, in words; from 1, as people count.
#[must_use]
pub fn place([x, y, z]: [usize; 3], [width, height, depth]: [usize; 3]) -> String {
    let span = |start: usize, size: usize| format!("{} to {}", start.saturating_add(1), start.saturating_add(size));
    format!("box: columns {}, rows {}, slices {} along the normal", span(x, width), span(y, height), span(z, depth))
}

/// A segment, with what the host counted in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatedSegment {
    /// The voxel value that the module marked it with.
    pub value: u32,
    /// Segment Number in the SEG; `None` when it has no voxels.
    pub number: Option<u16>,
    /// Segment Label.
    pub name: String,
    /// What kind of thing.
    pub category: Code,
    /// What.
    pub kind: Code,
    /// As stated by the module.
    pub confidence: Option<f32>,
    /// Counted by the host.
    pub voxels: u64,
    /// `voxels` times the volume of one, mL.
    pub millilitres: f64,
}

/// How long something took.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// What.
    pub name: &'static str,
    /// How long, ms.
    pub milliseconds: f64,
}

impl JobResult {
    /// What is known from the findings; the caller fills in the rest.
    #[must_use]
    pub fn new(accepted: &Accepted, module: Module, input: Input, stamp: &Stamp) -> Self {
        Self {
            schema: SCHEMA,
            status: if accepted.unfit.is_some() { Status::Unfit } else { Status::Done },
            runtime_version: env!("CARGO_PKG_VERSION"),
            date: stamp.date.clone(),
            time: stamp.time.clone(),
            correlation: None,
            module,
            models: Vec::new(),
            input,
            findings: Stated::from(accepted),
            stream: None,
            outputs: Vec::new(),
            predecessor: None,
            phases: Vec::new(),
            host_memory_peak_bytes: None,
            warnings: Vec::new(),
            log: Vec::new(),
        }
    }

    /// The file's content: indented, with a newline at the end.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("structs with string keys are JSON");
        bytes.push(b'\n');
        bytes
    }
}

impl Module {
    /// Of a module and what it was given.
    #[must_use]
    pub fn new(info: &ModuleInfo, component: &[u8; 32], grants: Vec<String>) -> Self {
        Self {
            name: info.name.clone(),
            version: info.version.clone(),
            vendor: info.vendor.clone(),
            title: info.title.clone(),
            demonstration: info.demonstration,
            identity_sha256: hex(&info.identity),
            component_sha256: hex(component),
            grants,
        }
    }
}

impl From<&LoadedModel> for Model {
    fn from(model: &LoadedModel) -> Self {
        let (usage, execution) = (model.usage(), model.execution());
        Self {
            name: model.name().to_owned(),
            sha256: hex(model.sha256()),
            engine: model.engine_version().to_owned(),
            requested: model.requested_device(),
            device: model.device(),
            provider: execution.provider,
            gpu_index: (model.device() == Device::Gpu).then_some(execution.index),
            precision: execution.precision,
            fallback: model.fallback().map(str::to_owned),
            calls: usage.calls,
            compute_milliseconds: usage.compute.as_secs_f64() * 1e3,
        }
    }
}

impl From<&Accepted> for Stated {
    fn from(accepted: &Accepted) -> Self {
        let segments = accepted.segmentation.iter().flat_map(|segmentation| {
            let millilitres = segmentation.labels.geometry().voxel_millilitres();
            segmentation.segments.iter().map(move |segment| {
                let voxels = accepted.voxels.get(&segment.value).copied().unwrap_or(0);
                StatedSegment {
                    value: segment.value,
                    number: accepted.number(segment.value),
                    name: segment.name.clone(),
                    category: segment.category.clone(),
                    kind: segment.kind.clone(),
                    confidence: segment.confidence,
                    voxels,
                    millilitres: voxels as f64 * millilitres,
                }
            })
        });
        let probabilities = accepted.probabilities.iter().map(|stated| {
            let number = accepted.fractional().find(|(.., p)| p.segment == stated.segment).map(|(number, ..)| number);
            StatedProbabilities { segment: stated.segment, number, maximum: stated.maximum }
        });
        Self {
            segments: segments.collect(),
            probabilities: probabilities.collect(),
            measurements: accepted.measurements.clone(),
            classifications: accepted.classifications.clone(),
            triage: accepted.triage.clone(),
            unfit: accepted.unfit.clone(),
            heatmap: accepted.heatmap.as_ref().map(StatedHeatmap::from),
            marks: accepted.marks.iter().map(StatedMark::from).collect(),
        }
    }
}

impl From<&AcceptedHeatmap> for StatedHeatmap {
    fn from(heatmap: &AcceptedHeatmap) -> Self {
        Self { title: heatmap.title.clone(), minimum: heatmap.minimum, maximum: heatmap.maximum }
    }
}

impl From<&Mark> for StatedMark {
    fn from(mark: &Mark) -> Self {
        let Mark { region, label, probability } = mark;
        Self { start: region.start, size: region.size, label: label.clone(), probability: *probability }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Findings, Segmentation};
    use crate::geometry::Geometry;
    use crate::outputs::gate;
    use crate::outputs::tests::{labels, module, segment, stamp, study};

    fn result(findings: Findings, geometry: &Geometry) -> serde_json::Value {
        let accepted = gate(findings, &study(geometry), &[0], &[]).expect("accepted");
        let input = Input { study_instance_uid: "2.25.1".into(), series: vec![], upstream: vec![], priors: vec![] };
        let module = Module::new(&module(), &[8; 32], vec!["log".into()]);
        let bytes = JobResult::new(&accepted, module, input, &stamp()).to_bytes();
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn grid() -> Geometry {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([5, 2, 1], [10.0, 10.0, 20.0], [0.0; 3], axes).expect("a grid")
    }

    #[test]
    fn the_host_counts_and_empty_segments_are_told() {
        let segments = vec![segment(4, "lung"), segment(9, "liver")];
        let labels = labels(&grid(), vec![0, 9, 9, 9, 0, 0, 0, 0, 0, 0]);
        let result =
            result(Findings { segmentation: Some(Segmentation { labels, segments }), ..Findings::default() }, &grid());
        assert_eq!(result["schema"], "gantry.result/1");
        assert_eq!(result["status"], "done");
        assert_eq!(result["module"]["identity_sha256"], "07".repeat(32));
        let [lung, liver] = [0, 1].map(|i| result["findings"]["segments"][i].clone());
        assert_eq!((&lung["voxels"], &lung["number"]), (&0.into(), &serde_json::Value::Null));
        assert_eq!((&liver["voxels"], &liver["number"]), (&3.into(), &1.into()));
        assert!((liver["millilitres"].as_f64().expect("a number") - 6.0).abs() < 1e-12);
    }

    /// Others read this file: a field that goes, moves or changes its name breaks them.
    #[test]
    fn fields_and_their_order_are_kept() {
        let result = result(Findings::default(), &grid());
        let keys =
            |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
        let top = "schema status runtime_version date time correlation module models input findings outputs predecessor phases \
                   host_memory_peak_bytes warnings log";
        assert_eq!(keys(&result).join(" "), top);
        let module = "name version vendor title demonstration identity_sha256 component_sha256 grants";
        assert_eq!(keys(&result["module"]).join(" "), module);
        assert_eq!(
            keys(&result["findings"]).join(" "),
            "segments probabilities measurements classifications triage unfit heatmap marks"
        );
    }

    #[test]
    fn unfit_input_has_its_own_status() {
        let unfit = Unfit { reason: Code::new("x", "99EXAMPLE", "No"), detail: "too few slices".into() };
        let result = result(Findings { unfit: Some(unfit), ..Findings::default() }, &grid());
        assert_eq!(result["status"], "unfit");
        assert_eq!(result["findings"]["unfit"]["detail"], "too few slices");
    }

    #[test]
    fn no_person_is_named() {
        let text = result(Findings::default(), &grid()).to_string();
        assert!(!text.contains("Test") && !text.contains("\"P1\""), "{text}");
    }
}
