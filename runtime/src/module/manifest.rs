//! `module.toml`: what a module is, what it accepts, and what it needs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::needs::{Interface, Needs};
use crate::inference::{Batch, Device, Join};
use crate::sandbox::grants::{DEFAULT_ATTRIBUTES, GRANTABLE_ATTRIBUTES, can_be_granted};

/// A whole manifest, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1.
    pub schema: u32,
    /// `[a-z0-9-]`, 1 to 64.
    pub name: String,
    /// Semantic version.
    pub version: semver::Version,
    /// Who answers for it, 1 to 64 characters.
    pub vendor: String,
    /// Under which licence the code comes: an expression of SPDX, such as `Apache-2.0` or `LicenseRef-Commercial`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What a hospital reads before it uses the module.
    pub label: Label,
    /// Which series it can work on.
    pub accepts: Accepts,
    /// What it asks to be given.
    #[serde(default)]
    pub needs: Needs,
    /// Limits below the site's.
    #[serde(default)]
    pub limits: ModuleLimits,
    /// The code.
    #[serde(default)]
    pub component: ComponentEntry,
    /// The models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelEntry>,
}

/// What a hospital reads before it uses the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// 1 to 64 characters.
    pub title: String,
    /// What it is for, and for whom.
    pub intended_use: String,
    /// Not for clinical use. Every output says so.
    pub demonstration: bool,
}

/// Which series a module can work on. A series must pass all that is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepts {
    /// Any of these (0008,0060).
    pub modality: Vec<String>,
    /// At least so many slices.
    #[serde(default = "one")]
    pub slices_min: usize,
    /// At most so many slices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices_max: Option<usize>,
    /// Any of these SOP Class UIDs (0008,0016); any class when not set, as with all that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_class: Option<Vec<String>>,
    /// Any of these (0018,0015).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_part: Option<Vec<String>>,
    /// Slices lie at most so far apart, mm from centre to centre.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spacing_max_mm: Option<f64>,
    /// Pixels lie at most so far apart along rows and columns, mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_spacing_max_mm: Option<f64>,
    /// Whether contrast agent was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Contrast>,
    /// Any of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orientation: Option<Vec<Orientation>>,
    /// Any of these (0008,0070); `*` and `?` stand for any text and any character, and case does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<Vec<String>>,
    /// Any of these (0008,1090), as `manufacturer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Vec<String>>,
}

/// Whether contrast agent was given, as the images say (0018,0010).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Contrast {
    /// With or without: as if the key were not set.
    Any,
    /// The images name an agent.
    With,
    /// They name none.
    Without,
}

/// The plane of the body that slices are nearest to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Orientation {
    /// Stacked from feet to head.
    Axial,
    /// Stacked from front to back.
    Coronal,
    /// Stacked from side to side.
    Sagittal,
}

impl Orientation {
    /// As written in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Axial => "axial",
            Self::Coronal => "coronal",
            Self::Sagittal => "sagittal",
        }
    }
}

impl Accepts {
    fn check(&self) -> Result<(), String> {
        if self.modality.is_empty() {
            return Err("accepts.modality: name at least one, such as \"CT\"".into());
        }
        if !self.modality.iter().all(|modality| crate::study::is_code(modality)) {
            return Err("accepts.modality: codes of at most 16 of A-Z, 0-9, _ and space, such as \"CT\"".into());
        }
        if self.slices_min == 0 || self.slices_max.is_some_and(|max| max < self.slices_min) {
            return Err("accepts: slices_min must be at least 1 and at most slices_max".into());
        }
        let uid = |text: &String| crate::ingest::Uid::parse(text).is_some();
        let code = |text: &String| crate::study::is_code(text);
        let pattern = |text: &String| (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        for (key, list, fits, expected) in [
            ("sop_class", &self.sop_class, &uid as &dyn Fn(&String) -> bool, "SOP Class UIDs"),
            ("body_part", &self.body_part, &code, "codes of at most 16 of A-Z, 0-9, _ and space, such as \"CHEST\""),
            ("manufacturer", &self.manufacturer, &pattern, "texts of 1 to 64 characters"),
            ("model", &self.model, &pattern, "texts of 1 to 64 characters"),
        ] {
            if list.as_ref().is_some_and(|list| list.is_empty() || !list.iter().all(fits)) {
                return Err(format!("accepts.{key}: at least one, and all {expected}"));
            }
        }
        if self.orientation.as_ref().is_some_and(Vec::is_empty) {
            return Err("accepts.orientation: name at least one of axial, coronal and sagittal".into());
        }
        let spacings = [("spacing_max_mm", self.spacing_max_mm), ("pixel_spacing_max_mm", self.pixel_spacing_max_mm)];
        for (key, spacing) in spacings {
            if spacing.is_some_and(|mm| !(mm.is_finite() && mm > 0.0)) {
                return Err(format!("accepts.{key}: a length in mm above 0"));
            }
        }
        Ok(())
    }
}

fn one() -> usize {
    1
}

/// Limits that a module sets itself; the site's hold as well.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModuleLimits {
    /// See `limits.guest_memory_mib` of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_memory_mib: Option<u64>,
    /// See `limits.host_memory_mib`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_memory_mib: Option<u64>,
    /// See `limits.job_deadline_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_deadline_ms: Option<u64>,
}

/// The component's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ComponentEntry {
    /// Relative to the manifest.
    pub file: String,
    /// In a package: SHA-256, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Hex>,
}

impl Default for ComponentEntry {
    fn default() -> Self {
        Self { file: "component.wasm".into(), sha256: None }
    }
}

/// A model's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// What the component calls it.
    pub name: String,
    /// Relative to the manifest.
    pub file: String,
    /// Where it is to run.
    #[serde(default = "cpu")]
    pub target: Device,
    /// The first axis of all its inputs and outputs is a batch of items that do not depend on one another: the host may run
    /// some of them at a time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub batch: bool,
    /// In a package: SHA-256, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Hex>,
    /// Under which licence the weights come, as `license` of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// With `batch`: short runs of several jobs may be one run of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinEntry>,
    /// Shapes of its inputs, by name, for a run on zeros as soon as it is loaded: a node loads such models when it starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub warm_up: BTreeMap<String, Vec<usize>>,
}

/// How runs of several jobs become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinEntry {
    /// Items of all of them, 2 to 4096.
    pub items_max: usize,
    /// How long the first may wait for others, microseconds, at most a second.
    pub window_us: u64,
}

impl ModelEntry {
    fn check(&self) -> Result<(), String> {
        if let Some(JoinEntry { items_max, window_us }) = self.join {
            if !self.batch {
                return Err("models.join: needs `batch = true`: runs can only be joined where items do not depend on one another".into());
            }
            if !(2..=4096).contains(&items_max) || window_us > 1_000_000 {
                return Err("models.join: items_max from 2 to 4096, window_us up to 1000000".into());
            }
        }
        let fits = |(input, shape): (&String, &Vec<usize>)| {
            input.len() <= 256
                && (1..=8).contains(&shape.len())
                && shape.iter().all(|size| (1..=1 << 20).contains(size))
        };
        match self.warm_up.len() <= 64 && self.warm_up.iter().all(fits) {
            true => Ok(()),
            false => Err("models.warm_up: for each input, by name, 1 to 8 sizes from 1 to 1048576".into()),
        }
    }

    /// What its first axis is.
    #[must_use]
    pub fn batch(&self) -> Batch {
        match self.join {
            _ if !self.batch => Batch::Whole,
            None => Batch::Items,
            Some(JoinEntry { items_max, window_us }) => {
                Batch::Joined(Join { items_max, window: Duration::from_micros(window_us) })
            }
        }
    }
}

fn cpu() -> Device {
    Device::Cpu
}

/// A SHA-256 as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex(pub [u8; 32]);

impl TryFrom<String> for Sha256Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || "a SHA-256 is written as 64 hexadecimal digits".to_owned();
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl From<Sha256Hex> for String {
    fn from(digest: Sha256Hex) -> Self {
        crate::hex(&digest.0)
    }
}

impl fmt::Debug for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex(&self.0))
    }
}

/// What is wrong and on which line, without the line: it is somebody else's text, and a terminal might obey it.
pub(super) fn said(text: &str, error: &toml::de::Error) -> String {
    let message = crate::printable(error.message());
    let Some(span) = error.span() else { return message };
    let before = text.as_bytes().get(..span.start).unwrap_or_default();
    format!("line {}: {message}", before.iter().filter(|b| **b == b'\n').count() + 1)
}

impl Manifest {
    /// Parses and checks a manifest. The text of an error names the key and what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|e| said(text, &e))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), String> {
        if self.schema != 1 {
            return Err(format!("schema = {}: this runtime reads schema 1", self.schema));
        }
        let name_fits = (1..=64).contains(&self.name.len())
            && self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !name_fits {
            return Err("name: 1 to 64 of a-z, 0-9 and -".into());
        }
        for (key, text, max) in [
            ("vendor", &self.vendor, 64),
            ("label.title", &self.label.title, 64),
            ("label.intended_use", &self.label.intended_use, 1024),
        ] {
            let length = text.chars().count();
            if length == 0 || length > max || text.chars().any(|c| c.is_control() || c == '\\') {
                return Err(format!("{key}: 1 to {max} characters on one line, without a backslash"));
            }
        }
        self.accepts.check()?;
        self.needs.check()?;
        if let Some(keyword) = self.needs.attributes.iter().find(|keyword| !can_be_granted(keyword)) {
            let keyword: String = keyword.chars().take(64).flat_map(char::escape_debug).collect();
            let known = [&DEFAULT_ATTRIBUTES[..], &GRANTABLE_ATTRIBUTES[..]].concat().join(", ");
            return Err(format!("needs.attributes: {keyword} can never be granted; there are: {known}"));
        }
        let licenses = self.models.iter().map(|model| ("models.license", &model.license));
        for (key, license) in licenses.chain([("license", &self.license)]) {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b" .+-()".contains(&b);
            if license.as_ref().is_some_and(|text| !(1..=128).contains(&text.len()) || !text.bytes().all(plain)) {
                return Err(format!("{key}: an SPDX expression of at most 128 characters, such as \"Apache-2.0\""));
            }
        }
        check_file("component.file", &self.component.file)?;
        for (index, model) in self.models.iter().enumerate() {
            if model.name.is_empty() || model.name.len() > 64 || model.name.chars().any(char::is_control) {
                return Err("models.name: 1 to 64 characters".into());
            }
            if self.models.iter().take(index).any(|other| other.name == model.name) {
                return Err(format!("models: two are called `{}`", model.name));
            }
            check_file("models.file", &model.file)?;
            model.check()?;
        }
        Ok(())
    }
}

/// A file of a package lies in the package.
fn check_file(key: &str, file: &str) -> Result<(), String> {
    let plain = !file.is_empty() && !file.chars().any(char::is_control);
    let inside = plain && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    if inside { Ok(()) } else { Err(format!("{key} = {file:?}: a path inside the package, without `..`")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        schema = 1
        name = "lungs"
        version = "0.1.0"
        vendor = "Example"
        [label]
        title = "Lungs"
        intended_use = "None."
        demonstration = true
        [accepts]
        modality = ["CT"]
        [needs]
        interfaces = ["gantry:imaging/study", "wasi:nn"]
        [[models]]
        name = "net"
        file = "models/net.onnx"
    "#;

    #[test]
    fn a_model_says_what_its_first_axis_is() {
        let batch = |more: &str| Manifest::parse(&format!("{WHOLE}{more}")).expect("fine").models[0].batch();
        assert_eq!(batch(""), Batch::Whole);
        assert_eq!(batch("batch = true"), Batch::Items);
        let join = Join { items_max: 16, window: Duration::from_micros(500) };
        assert_eq!(batch("batch = true\njoin = { items_max = 16, window_us = 500 }"), Batch::Joined(join));
    }

    #[test]
    fn a_manifest_survives_a_round_trip() {
        let mut manifest = Manifest::parse(WHOLE).expect("fine");
        assert_eq!(manifest.needs.interfaces, [Interface::Study, Interface::Nn]);
        assert_eq!(manifest.models[0].target, Device::Cpu);
        let model = &mut manifest.models[0];
        (model.batch, model.join) = (true, Some(JoinEntry { items_max: 8, window_us: 100 }));
        model.warm_up.insert("x".into(), vec![1, 8]);
        model.sha256 = Some(Sha256Hex([7; 32]));
        let text = toml::to_string(&manifest).expect("printable");
        assert_eq!(Manifest::parse(&text).expect("fine"), manifest);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_its_key() {
        let refused = |from: &str, to: &str| {
            let text = WHOLE.replace(from, to);
            assert_ne!(text, WHOLE);
            Manifest::parse(&text).expect_err(to)
        };
        assert!(refused("vendor =", "colour = 1\nvendor =").contains("colour"));
        assert!(refused("wasi:nn", "wasi:telepathy").contains("wasi:telepathy"));
        assert!(refused("models/net.onnx", "../net.onnx").contains("models.file"));
        assert!(refused("models/net.onnx", "/etc/passwd").contains("models.file"));
        assert!(refused("\"lungs\"", "\"Lungs!\"").contains("name"));
        assert!(refused("schema = 1", "schema = 2").contains("schema"));
        let model = |more: &str| refused("file = \"models/net.onnx\"", &format!("file = \"net.onnx\"\n{more}"));
        assert!(model("join = { items_max = 8, window_us = 10 }").contains("batch = true"));
        assert!(model("batch = true\njoin = { items_max = 1, window_us = 10 }").contains("items_max from 2"));
        assert!(model("batch = true\njoin = { items_max = 8, window_us = 2000000 }").contains("window_us up to"));
        assert!(model("warm_up = { x = [] }").contains("models.warm_up"));
        assert!(model("warm_up = { x = [0, 1] }").contains("models.warm_up"));
        assert!(refused("schema = 1", "schema = 1\nlicense = \"See http://x\"").contains("license: an SPDX"));
        assert!(model("license = \"\"").contains("models.license"));
        assert!(refused("[\"CT\"]", "[]").contains("accepts.modality"));
        assert!(refused("[\"CT\"]", "[\"CT\"]\nspacing_max_mm = 0.0").contains("accepts.spacing_max_mm"));
        assert!(refused("[\"CT\"]", "[\"CT\"]\nbody_part = []").contains("accepts.body_part"));
        assert!(refused("[\"CT\"]", "[\"CT\"]\nsop_class = [\"CT Image\"]").contains("accepts.sop_class"));
        assert!(refused("[\"CT\"]", "[\"CT\"]\norientation = [\"oblique\"]").contains("oblique"));
        assert!(refused("[\"CT\"]", "[\"\\u001B]0;x\\u0007\"]").contains("accepts.modality: codes"));
        let names_somebody = refused("[[models]]", "attributes = [\"KVP\", \"PatientName\"]\n[[models]]");
        assert!(names_somebody.contains("needs.attributes: PatientName can never be granted; there are: Acq"));
        assert!(names_somebody.contains("PatientSex"), "what can be granted is listed: {names_somebody}");
    }

    #[test]
    fn an_import_finds_its_interface() {
        assert_eq!(Interface::of_import("wasi:clocks/wall-clock"), Some(Interface::Clocks));
        assert_eq!(Interface::of_import("gantry:imaging/volumes"), Some(Interface::Volumes));
        assert_eq!(Interface::of_import("gantry:imaging/volumes/evil"), None);
        assert_eq!(Interface::of_import("wasi:clocksandmore/x"), None);
    }

    #[test]
    fn an_error_names_the_line_and_does_not_repeat_it() {
        let refused = Manifest::parse("schema = 1\nname = secret-text\n").expect_err("refused");
        assert!(refused.starts_with("line 2: ") && !refused.contains("secret"), "{refused}");
        let refused = Manifest::parse("\"\\u001B[31m\" = 1\n").expect_err("refused");
        assert!(!refused.contains('\u{1b}'), "{refused}");
    }
}
