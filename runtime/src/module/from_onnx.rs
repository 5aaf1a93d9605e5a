//! `gantry module new --from-onnx`: code around a network whose inputs and outputs are of a common form, that builds, passes its tests and
//! runs. What an ONNX file does not say (spacing, window, what channels are) is a constant for people to look at.

use std::path::{Path, PathBuf};

use super::new::NewError;
use crate::config::Limits;
use crate::inference::{Dim, InferenceError, OnnxModel, TensorSpec};
use crate::tensor::ElementType;

const CODE: &str = include_str!("../../../guest-sdk/template/onnx/lib.rs.in");
const MANIFEST: &str = include_str!("../../../guest-sdk/template/onnx/module.toml.in");
const CARD: &str = include_str!("../../../guest-sdk/template/onnx/MODEL_CARD.md.in");
const CASE: &str = include_str!("../../../guest-sdk/template/onnx/expect.toml.in");

/// Where the name of a model's file comes from somebody else.
const FILE: &str = "net.onnx";
/// More classes than anybody names.
const CLASSES_MAX: usize = 256;

/// A network, as its file says.
#[derive(Debug)]
pub struct Net {
    bytes: Vec<u8>,
    input: TensorSpec,
    output: TensorSpec,
    form: Form,
    /// Whether probabilities come out already.
    is_squashed: bool,
    modality: String,
    labels: Vec<String>,
}

/// What it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A score of each of several labels for each voxel, the first of which is background.
    Labels(usize),
    /// One score for each voxel.
    Mask,
    /// A score of each of several classes.
    Classes(usize),
}

/// Why no code was written. The vendor's to mend.
#[derive(Debug, thiserror::Error)]
pub enum FromOnnxError {
    /// The file cannot be read.
    #[error("{path}: {reason}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// It is no model that any engine here may load.
    #[error(transparent)]
    Model(#[from] InferenceError),
    /// There is no code for a network of this form.
    #[error("there is no code to begin with for this network: {0}; make the module without --from-onnx, and write it")]
    Form(String),
    /// A modality or label that cannot be.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be written.
    #[error(transparent)]
    New(#[from] NewError),
}

impl FromOnnxError {
    /// Whether it is about how the command was called.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Usage(_) => true,
            Self::New(e) => e.is_usage(),
            Self::Model(_) | Self::Form(_) => false,
        }
    }
}

/// Reads a network; `labels` are what its channels after background, or its classes, are.
///
/// # Errors
/// [`FromOnnxError`]
pub fn read(path: &Path, modality: &str, labels: &[String]) -> Result<Net, FromOnnxError> {
    let limits = Limits::default();
    let failed = |reason| FromOnnxError::Read { path: path.to_owned(), reason };
    if std::fs::metadata(path).map_err(failed)?.len() > limits.model_max_mib << 20 {
        return Err(failed(std::io::Error::other(format!("is larger than model_max_mib = {}", limits.model_max_mib))));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    if !crate::study::is_code(modality) {
        return Err(FromOnnxError::Usage("--modality: a code such as CT".into()));
    }
    let plain = |label: &String| {
        (1..=64).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b" -_()".contains(&b))
    };
    if !labels.iter().all(plain) {
        return Err(FromOnnxError::Usage("--label: 1 to 64 of letters, digits, space, -, _ and brackets".into()));
    }
    let model = OnnxModel::read("net", &bytes, limits.model_max_mib)?;
    let (inputs, outputs) = (model.inputs(), model.outputs());
    let form = |why: String| FromOnnxError::Form(why);
    let ([input], [output, ..]) = (inputs, outputs) else {
        return Err(form(format!("it has {} inputs and {} outputs", inputs.len(), outputs.len())));
    };
    let (input, output) = (input.clone(), output.clone());
    let is_squashed = is_squashed(&model, &output.name);
    let kind = kind(&input, &output).map_err(form)?;
    let count = match kind {
        Form::Labels(channels) => channels - 1,
        Form::Mask => 1,
        Form::Classes(classes) => classes,
    };
    if !labels.is_empty() && labels.len() != count {
        return Err(FromOnnxError::Usage(format!("--label: {} were given, and the network has {count}", labels.len())));
    }
    let named = |i: usize| labels.get(i - 1).cloned().unwrap_or_else(|| format!("Structure {i}"));
    let labels = (1..=count).map(named).collect();
    Ok(Net { input, output, form: kind, is_squashed, modality: modality.to_owned(), labels, bytes })
}

/// Whether a value is made by a softmax or a sigmoid. Within a network both mean something else, such as attention or SiLU.
fn is_squashed(model: &OnnxModel<'_>, output: &str) -> bool {
    let mut value = output;
    // So many that change no value: no exporter puts more one after another.
    for _ in 0..8 {
        match model.made_by(value) {
            Some(("Softmax" | "Sigmoid", _)) => return true,
            Some(("Identity" | "Cast" | "Reshape" | "Flatten" | "Squeeze" | "Transpose", Some(from))) => value = from,
            _ => return false,
        }
    }
    false
}

/// What a network of this signature gives.
fn kind(input: &TensorSpec, output: &TensorSpec) -> Result<Form, String> {
    let shape = |spec: &TensorSpec| {
        let size = |dim: &Dim| if let Dim::Fixed(n) = dim { n.to_string() } else { "?".into() };
        format!("[{}]", spec.dims.iter().map(size).collect::<Vec<_>>().join(", "))
    };
    for (what, spec) in [("input", input), ("output", output)] {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
        if spec.name.is_empty() || spec.name.len() > 128 || !spec.name.chars().all(plain) {
            return Err(format!("its {what} has a name that cannot stand in code: export it with another"));
        }
    }
    if input.element != ElementType::F32 {
        return Err(format!("it takes {}, and not f32", input.element));
    }
    let [first, channels, space @ ..] = &input.dims[..] else { return Err(format!("it takes {}", shape(input))) };
    if !(2..=3).contains(&space.len()) || *channels != Dim::Fixed(1) {
        return Err(format!("it takes {}, and not [n, 1, y, x] or [n, 1, z, y, x]", shape(input)));
    }
    if matches!(first, Dim::Fixed(n) if *n != 1) {
        return Err(format!("it takes {} at once", shape(input)));
    }
    // Whole numbers are labels already, and no scores of anything.
    let is_score = !matches!(output.element, ElementType::U8 | ElementType::I32 | ElementType::I64);
    match &output.dims[..] {
        [_, Dim::Fixed(1), rest @ ..] if is_score && rest.len() == space.len() => Ok(Form::Mask),
        [_, Dim::Fixed(channels @ 2..=256), rest @ ..] if is_score && rest.len() == space.len() => {
            Ok(Form::Labels(*channels))
        }
        [_, Dim::Fixed(classes @ 1..=CLASSES_MAX)] if output.element == ElementType::F32 => Ok(Form::Classes(*classes)),
        _ => Err(format!(
            "it gives {} of {}, neither a score for each voxel nor for the image",
            shape(output),
            output.element
        )),
    }
}

impl Net {
    /// Puts code, manifest, model, its card and a case into a module's source that was just made.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn put(&self, folder: &Path, name: &str) -> Result<(), FromOnnxError> {
        let cases = super::cases::CASES_FOLDER;
        let case = format!("{cases}/phantom/{}", super::cases::CASE_FILE);
        // The one of the code that this takes the place of.
        let other = folder.join(cases);
        std::fs::remove_dir_all(&other).map_err(|reason| NewError::Write { path: other, reason })?;
        let files = [("src/lib.rs", CODE), ("module.toml", MANIFEST), ("MODEL_CARD.md", CARD), (case.as_str(), CASE)];
        for (file, text) in files {
            write(&folder.join(file), self.fill(text, name).as_bytes())?;
        }
        write(&folder.join("models").join(FILE), &self.bytes)
    }

    /// What it is, in words.
    #[must_use]
    pub fn what(&self) -> String {
        let of = if self.slices() { "slices" } else { "volumes" };
        match self.form {
            Form::Labels(channels) => format!("{} labels of voxels, from {of}", channels - 1),
            Form::Mask => format!("a score of each voxel, from {of}"),
            Form::Classes(classes) => format!("{classes} scores, from {of}"),
        }
    }

    fn slices(&self) -> bool {
        self.input.dims.len() == 4
    }

    fn flags(&self) -> Vec<&'static str> {
        let free = self.input.dims.iter().skip(2).any(|dim| !matches!(dim, Dim::Fixed(_)));
        let one = matches!(self.input.dims.first(), Some(Dim::Fixed(_)));
        let mut flags = vec![if self.slices() { "slices" } else { "volume" }];
        flags.push(if self.modality == "CT" { "window" } else { "score" });
        flags.extend(free.then_some("free"));
        flags.extend((self.slices() && !one).then_some("batched"));
        match self.form {
            Form::Labels(_) => flags.extend(["grid", "labels"]),
            Form::Mask => flags.extend(["grid", "mask"]),
            Form::Classes(_) => flags.push("classes"),
        }
        match (self.form, self.is_squashed) {
            (Form::Classes(_), true) => flags.push("as_is"),
            (Form::Classes(1), false) => flags.push("sigmoid"),
            (Form::Classes(_), false) => flags.extend(["softmax", "as_is"]),
            _ => {}
        }
        flags
    }

    /// A template with its places and parts filled in.
    fn fill(&self, text: &str, name: &str) -> String {
        let flags = self.flags();
        let mut open = Vec::new();
        let mut kept = String::new();
        for line in text.lines() {
            if let Some(flag) = line.trim().strip_prefix("{{#if ").and_then(|rest| rest.strip_suffix("}}")) {
                open.push(flags.contains(&flag));
            } else if line.trim() == "{{/if}}" {
                open.pop();
            } else if open.iter().all(|part| *part) {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        let places = self.places(name);
        places.iter().fold(kept, |text, (place, value)| text.replace(&format!("{{{{{place}}}}}"), value))
    }

    fn places(&self, name: &str) -> Vec<(&'static str, String)> {
        let slices = self.slices();
        let mut axes = self.input.dims.iter().rev();
        let (x, y, z) = (axes.next(), axes.next(), axes.next().filter(|_| !slices));
        let mm = |axis: &str, dim: Option<&Dim>| match dim {
            None => format!("grid.spacing.{axis}"),
            Some(Dim::Fixed(n)) => format!("f64::from(grid.size.{axis}) * grid.spacing.{axis} / {n}.0"),
            Some(_) => "SPACING_MM".into(),
        };
        let size = |axis: &str, dim: Option<&Dim>| match dim {
            None => format!("has.{axis}"),
            Some(Dim::Fixed(n)) => n.to_string(),
            Some(_) => format!("has.{axis}.next_multiple_of(MULTIPLE)"),
        };
        let one = matches!(self.input.dims.first(), Some(Dim::Fixed(_)));
        let labels = self.labels.iter().map(|label| format!("{label:?}")).collect::<Vec<_>>().join(", ");
        let ct = self.modality == "CT";
        let flat = matches!(self.modality.as_str(), "CR" | "DX" | "MG" | "US" | "XA" | "RF");
        let either = |yes: &str, no: &str, which: bool| if which { yes.to_owned() } else { no.to_owned() };
        vec![
            ("name", name.to_owned()),
            ("file", FILE.to_owned()),
            ("modality", self.modality.clone()),
            ("input", self.input.name.clone()),
            ("output", self.output.name.clone()),
            ("count", self.labels.len().to_string()),
            ("channels", (self.labels.len() + usize::from(self.form != Form::Mask)).to_string()),
            ("labels", labels),
            ("threshold", either("0.5", "0.0", self.is_squashed)),
            ("slab", either("1", "8", one)),
            ("x_mm", mm("x", x)),
            ("y_mm", mm("y", y)),
            ("z_mm", mm("z", z)),
            ("x", size("x", x)),
            ("y", size("y", y)),
            ("z", size("z", z)),
            ("slices", either("1", "40", flat)),
            ("background", either("-1000", "0", ct)),
            ("soft", either("40", "400", ct)),
            ("dense", either("400", "1200", ct)),
        ]
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FromOnnxError> {
    let failed = |reason| NewError::Write { path: path.to_owned(), reason };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    Ok(std::fs::write(path, bytes).map_err(failed)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::manifest::Manifest;

    fn spec(name: &str, dims: &[usize]) -> TensorSpec {
        let dim = |n: &usize| if *n == 0 { Dim::Named("n".into()) } else { Dim::Fixed(*n) };
        TensorSpec { name: name.into(), element: ElementType::F32, dims: dims.iter().map(dim).collect() }
    }

    fn net(input: &[usize], output: &[usize], modality: &str) -> Result<Net, String> {
        let (input, output) = (spec("ct", input), spec("y", output));
        let form = kind(&input, &output)?;
        let count = match form {
            Form::Labels(n) => n - 1,
            Form::Mask => 1,
            Form::Classes(n) => n,
        };
        let labels = (1..=count).map(|i| format!("Structure {i}")).collect();
        Ok(Net { bytes: vec![], input, output, form, is_squashed: false, modality: modality.into(), labels })
    }

    #[test]
    fn the_form_of_a_network_is_seen_by_its_signature() {
        let form = |input: &[usize], output: &[usize]| net(input, output, "CT").map(|net| net.form);
        assert_eq!(form(&[0, 1, 0, 0], &[0, 4, 0, 0]), Ok(Form::Labels(4)));
        assert_eq!(form(&[1, 1, 64, 64, 64], &[1, 1, 64, 64, 64]), Ok(Form::Mask));
        assert_eq!(form(&[0, 1, 224, 224], &[0, 14]), Ok(Form::Classes(14)));
        for (input, output, why) in [
            (&[0, 3, 224, 224][..], &[0, 14][..], "it takes [?, 3, 224, 224]"),
            (&[4, 1, 64, 64], &[4, 2, 64, 64], "at once"),
            (&[0, 1, 64, 64], &[0, 7, 2], "it gives [?, 7, 2]"),
            (&[0, 9], &[0, 2], "and not [n, 1, y, x]"),
        ] {
            let error = form(input, output).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
        let labels = TensorSpec { element: ElementType::I64, ..spec("y", &[0, 1, 64, 64]) };
        let error = kind(&spec("ct", &[0, 1, 64, 64]), &labels).expect_err("labels, and no scores");
        assert!(error.contains("of i64, neither a score"), "{error}");
    }

    #[test]
    fn code_and_manifest_are_filled_in_whatever_the_form() {
        for (input, output) in [
            (&[0, 1, 0, 0][..], &[0, 4, 0, 0][..]),
            (&[1, 1, 256, 256], &[1, 1, 256, 256]),
            (&[1, 1, 0, 64, 64], &[1, 3, 0, 64, 64]),
            (&[0, 1, 224, 224], &[0, 14]),
            (&[1, 1, 32, 32, 32], &[1, 1]),
        ] {
            for modality in ["CT", "MR"] {
                let net = net(input, output, modality).expect("a form");
                let code = net.fill(CODE, "liver");
                assert!(!code.contains("{{") && code.matches('{').count() == code.matches('}').count(), "{code}");
                let manifest = Manifest::parse(&net.fill(MANIFEST, "liver")).expect("fits");
                assert_eq!(manifest.accepts.modality, [modality]);
                assert!(!net.fill(CASE, "liver").contains("{{"));
                let card = net.fill(CARD, "liver");
                assert!(!card.contains("{{") && card.matches("| output |").count() == 1, "{card}");
            }
        }
    }
}
