//! How much text is found, and how much is taken for text that is none: in real files, and in text drawn over real images.
//!
//! `cargo nextest run -E 'test(redact::tests)' --no-capture` prints it; `GANTRY_TEXT_ROUNDS=20` before it draws so many times as much.

mod drawn;
mod real;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_cloud_sync::deid::Rectangle;

use super::{Detector, PINNED_SHA256, RedactError};
use crate::inference::{EngineConfig, EnginePreference, Engines, Isolation, find_library};

/// The folder of real test material.
fn assets() -> PathBuf {
    let checkout = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/assets");
    std::env::var_os("GANTRY_ASSETS").map_or_else(checkout, PathBuf::from)
}

/// A file of it. Where it is missing, the test is skipped on a person's machine and fails in CI.
fn asset(name: &str) -> Option<PathBuf> {
    let path = assets().join(name);
    if path.is_file() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{name} is missing: run `cargo xtask assets`");
    eprintln!("skipped: {name} is missing; run `cargo xtask assets`");
    None
}

fn model() -> Option<PathBuf> {
    asset("text-detector/ch_PP-OCRv4_det_infer.onnx")
}

/// What is tested is what is found, not the process around the engine.
fn engines(engine: EnginePreference) -> Arc<Engines> {
    let library = assets().join("onnxruntime/libonnxruntime.so");
    let config = EngineConfig {
        engine,
        onnxruntime_library: find_library(None).or(Some(library)).filter(|_| engine == EnginePreference::OnnxRuntime),
        isolation: Isolation::SameProcess,
        ..EngineConfig::default()
    };
    Arc::new(Engines::discover(&config).expect("an engine"))
}

fn detector() -> Option<Arc<Detector>> {
    asset("onnxruntime/libonnxruntime.so")?;
    let detector = Detector::open(engines(EnginePreference::OnnxRuntime), &model()?, PINNED_SHA256);
    Some(Arc::new(detector.unwrap_or_else(|e| panic!("{e}"))))
}

/// A box of text that is there: left, top, right and bottom, the last two exclusive.
type Truth = (u32, u32, u32, u32);

/// The share of a box that these cover.
fn covered((left, top, right, bottom): Truth, by: &[Rectangle]) -> f64 {
    let (width, height) = ((right - left) as usize, (bottom - top) as usize);
    let mut black = vec![false; width * height];
    let within = |from: u32, length: u32, first: u32, end: u32| {
        let at = |n: u32| (n.clamp(first, end) - first) as usize;
        at(from)..at(from + length)
    };
    for b in by {
        let columns = within(b.x, b.width, left, right);
        for y in within(b.y, b.height, top, bottom) {
            black[y * width..(y + 1) * width][columns.clone()].fill(true);
        }
    }
    black.iter().filter(|&&black| black).count() as f64 / black.len() as f64
}

/// A box counts as found where so much of it is covered.
const FOUND: f64 = 0.95;

#[test]
fn another_file_or_model_is_no_text_detector() {
    let Some(model) = model() else { return };
    let open = |path: &Path, sha256: &str| Detector::open(engines(EnginePreference::Tract), path, sha256);
    let missing = open(Path::new("/nonexistent/detector.onnx"), PINNED_SHA256).expect_err("refused");
    assert!(matches!(missing, RedactError::Read { .. }), "{missing}");
    let other = open(&model, &"0".repeat(64)).expect_err("refused");
    assert!(matches!(&other, RedactError::Digest { found, .. } if found == PINNED_SHA256), "{other}");
    let net = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/models/net.onnx");
    let digest = crate::hex(&<sha2::Sha256 as sha2::Digest>::digest(std::fs::read(&net).expect("readable")));
    let wrong = open(&net, &digest).expect_err("refused");
    assert!(matches!(wrong, RedactError::Signature(_)), "{wrong}");
}
