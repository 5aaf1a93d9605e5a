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

pub use decode::Decoder;
pub use detect::{Detector, DetectorError, PINNED_SHA256};
