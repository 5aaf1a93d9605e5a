//! Pixels of objects that may show text, for the de-identifier: frames decoded, and the text in them found.
//!
//! ```text
//! file ─▶ decode: study's decoders, in workers where the site chose that
//! frame ─▶ view: 8 bits, as its window shows it and in full ─▶ scale: sizes, tiles ─▶ worker: the model
//!                                                                                        │ how likely each pixel is text
//!       boxes in pixels of the frame ◀─ regions: threshold, connected components, margin ◀┘
//! ```
//!
//! The model is the operator's, by path and digest, and is parsed in a worker alone, as a vendor's is. It finds text and reads none.
//! What fails holds the object: pixels that nobody looked at are not clean.

mod decode;
mod detect;
mod regions;
mod scale;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use gantry_cloud_sync::deid::Deidentifier;

pub use decode::Decoder;
pub use detect::{Detector, PINNED_SHA256, RedactError};

use crate::config::Config;
use crate::inference::Engines;
use crate::study::ReadOptions;
use crate::worker::Decoders;

/// The same de-identifier, with what decodes frames and, where the configuration names one, what finds text in them.
///
/// # Errors
/// One of them cannot be used.
pub fn equipped(by: Deidentifier, config: &Config) -> Result<Deidentifier, RedactError> {
    let decoders = Decoders::new(config).map_err(RedactError::Decoders)?;
    let by =
        by.with_decoder(Arc::new(Decoder::new(ReadOptions { decoders, ..ReadOptions::new(&config.limits, false) })));
    let Some(file) = &config.sync.text_detector else { return Ok(by) };
    let engines = Arc::new(Engines::discover(&config.engines())?);
    let detector = Detector::open(engines, file, &config.sync.text_detector_sha256)?;
    Ok(by.with_detector(Arc::new(detector)))
}
