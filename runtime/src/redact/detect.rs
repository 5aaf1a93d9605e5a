//! The text detector: a model for differentiable binarization (DB), which says of each pixel how likely it is text.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_cloud_sync::deid::{Frame, Held, Rectangle, TextDetector};
use sha2::{Digest, Sha256};

use super::regions;
use super::scale::{self, Tile};
use super::view::{self, Picture};
use crate::inference::{Batch, Call, Device, Dim, Engines, InferenceError, LoadedModel, Request, Turn};
use crate::memory::Budget;
use crate::tensor::{ElementType, Tensor, TensorError};

/// SHA-256 of the detector that thresholds and recall here are of: `ch_PP-OCRv4_det_infer.onnx` of rapidocr-onnxruntime 1.4.4, which
/// `cargo xtask assets` fetches (`.cache/assets/text-detector`).
pub const PINNED_SHA256: &str = crate::config::TEXT_DETECTOR_SHA256;

/// Whose model it is to those who count workers: no vendor of a module shares a process with it.
const VENDOR: &str = "text detector";
const NAME: &str = "text-detector";

/// Finds text in frames. It can be shared by threads; each run waits for its turn on the processors, as routine work does.
pub struct Detector {
    model: LoadedModel,
    /// Its workers end with it.
    _engines: Arc<Engines>,
}

/// The detector, or what decodes frames for it, cannot be used: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    /// The operating system refused.
    #[error("{}: {source}; `cargo xtask assets` fetches the text detector", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another file than was meant.
    #[error("{}: its SHA-256 is {found}, not {expected}; name the file that was meant, or pin this one by text_detector_sha256", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// Of its bytes.
        found: String,
        /// As configured.
        expected: String,
    },
    /// No engine takes it.
    #[error(transparent)]
    Model(#[from] InferenceError),
    /// It is a model of another kind.
    #[error("{}: a text detector takes f32 [1, 3, height, width] and gives f32 [1, 1, height, width]", .0.display())]
    Signature(PathBuf),
    /// No workers that decode.
    #[error("frames cannot be decoded in workers (engines.decode_in_worker): {0}")]
    Decoders(std::io::Error),
}

impl Detector {
    /// Loads the model of a file with this SHA-256 (hexadecimal), in a worker.
    ///
    /// # Errors
    /// It is not there, another file, or no such model.
    pub fn open(engines: Arc<Engines>, path: &Path, sha256: &str) -> Result<Self, RedactError> {
        let failed = |source| RedactError::Read { path: path.into(), source };
        let most = engines.model_max_mib().saturating_mul(1 << 20).saturating_add(1);
        let mut bytes = Vec::new();
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)).map_err(failed)?;
        let found = crate::hex(&Sha256::digest(&bytes));
        if !found.eq_ignore_ascii_case(sha256) {
            return Err(RedactError::Digest { path: path.into(), found, expected: sha256.into() });
        }
        let request = Request { vendor: VENDOR, name: NAME, bytes: &bytes, target: Device::Cpu, warm_up: None };
        let (budget, turn) = (Budget::unlimited(), Turn::default());
        let model = engines.load(request, &call(&budget, &turn))?;
        let takes = |size: usize, dim: &Dim| !matches!(dim, Dim::Fixed(fixed) if *fixed != size);
        let [input] = model.inputs() else { return Err(RedactError::Signature(path.into())) };
        let fits = input.element == ElementType::F32
            && matches!(&input.dims[..], [n, c, h, w] if takes(1, n) && takes(3, c) && takes(64, h) && takes(96, w));
        if !fits || model.outputs().len() != 1 {
            return Err(RedactError::Signature(path.into()));
        }
        Ok(Self { model, _engines: engines })
    }

    /// The model as it was loaded: engine, digest, how much it was used.
    #[must_use]
    pub fn model(&self) -> &LoadedModel {
        &self.model
    }

    /// How likely each pixel of a picture is text, 0 to 255.
    fn map(&self, picture: &Picture) -> Result<Vec<u8>, Held> {
        let mut map = vec![0; picture.width * picture.height];
        for tile in scale::tiles(picture.width, picture.height) {
            let pixels = scale::cut(picture, &tile);
            // Nothing is drawn where all is the same.
            if pixels.as_chunks::<3>().0.windows(2).all(|pair| pair[0] == pair[1]) {
                continue;
            }
            let likely = self.run(&tile, &pixels)?;
            for (row, likely) in tile.rows.clone().zip(likely.chunks_exact(tile.columns.len())) {
                let start = row * picture.width + tile.columns.start;
                let kept = map.get_mut(start..start + likely.len()).unwrap_or_default();
                kept.iter_mut().zip(likely).for_each(|(kept, &new)| *kept = (*kept).max(new));
            }
        }
        Ok(map)
    }

    fn run(&self, tile: &Tile, pixels: &[u8]) -> Result<Vec<u8>, Held> {
        let failed = |error: InferenceError| Held::Unsearched(error.to_string());
        let (height, width) = (tile.rows.len(), tile.columns.len());
        let (budget, turn) = (Budget::unlimited(), Turn::default());
        // Blue first, from -1 to 1, plane after plane.
        let plane = |channel: usize| pixels.iter().skip(channel).step_by(3);
        let values = [2, 1, 0].into_iter().flat_map(plane).flat_map(|&v| (f32::from(v) / 127.5 - 1.0).to_le_bytes());
        let tensor = |e: TensorError| Held::Unsearched(e.to_string());
        let input =
            Tensor::new(vec![1, 3, height, width], ElementType::F32, values.collect(), &budget).map_err(tensor)?;
        let name = self.model.inputs().first().map(|input| input.name.clone()).unwrap_or_default();
        let outputs = self.model.run(vec![(name, input)], &call(&budget, &turn)).map_err(failed)?;
        let nonsense =
            || Held::Unsearched("the text detector gave something that is no likelihood of each pixel".into());
        let [(_, output)] = &outputs[..] else { return Err(nonsense()) };
        if output.element() != ElementType::F32 || output.shape() != [1, 1, height, width] {
            return Err(nonsense());
        }
        likelihoods(output.data()).ok_or_else(nonsense)
    }
}

/// From 0 to 255; nothing where one is not from 0 to 1.
fn likelihoods(bytes: &[u8]) -> Option<Vec<u8>> {
    let likelihood = |&bytes: &[u8; 4]| {
        let value = f32::from_le_bytes(bytes);
        // Rounding may take it a little beyond.
        (-0.01..=1.01).contains(&value).then(|| (value.clamp(0.0, 1.0) * 255.0).round() as u8)
    };
    bytes.as_chunks::<4>().0.iter().map(likelihood).collect()
}

fn call<'a>(budget: &'a Budget, turn: &'a Turn) -> Call<'a> {
    Call { budget, deadline: None, turn, batch: Batch::Whole }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Detector({:?})", self.model)
    }
}

impl TextDetector for Detector {
    fn text(&self, frame: Frame<'_>) -> Result<Vec<Rectangle>, Held> {
        let mut found = Vec::new();
        for picture in view::views(&frame)? {
            for scale in scale::scales(&picture) {
                let scaled = scale::scaled(&picture, scale);
                found.extend(regions::boxes(&self.map(&scaled)?, scaled.width, scale, &picture));
            }
        }
        Ok(regions::without_inner(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_likelihood_is_no_answer() {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(likelihoods(&bytes(&[0.0, 0.5, 1.0, 1.001])), Some(vec![0, 128, 255, 255]));
        for wrong in [f32::NAN, f32::INFINITY, -1.0, 2.0] {
            assert_eq!(likelihoods(&bytes(&[0.5, wrong])), None, "{wrong}");
        }
    }
}
