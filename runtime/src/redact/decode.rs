//! Compressed frames for the de-identifier, from the decoders that studies are read with.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use gantry_cloud_sync::deid::{DecodedFrames, FrameDecoder, Held};

use crate::study::{self, ReadError, ReadOptions};
use crate::worker;

/// Decodes what studies are read from: RLE, JPEG, JPEG-LS, JPEG 2000, JPEG XL ([`study::decodes`]).
#[derive(Debug)]
pub struct Decoder {
    options: ReadOptions,
}

impl Decoder {
    /// Within the limits of these options, all frames of an object together within `volume_max_mib`; in their workers, where there
    /// are some.
    #[must_use]
    pub fn new(options: ReadOptions) -> Self {
        Self { options }
    }
}

impl FrameDecoder for Decoder {
    fn frames(&self, file: &[u8]) -> Result<DecodedFrames, Held> {
        let read = |error: ReadError| Held::Undecoded(error.for_record(&|_| "the object".into()).to_string());
        // Readers want a file by its name; this one lies in memory, and nobody else can open it.
        let memory = worker::in_memory(file)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        // What a file does to its decoder reaches frames of that object alone.
        let options = self.options.apart();
        let kept = study::keep(&path, &options).map_err(read)?;
        let frames = kept.frames().map_err(read)?;
        let lossy = method(&kept.transfer_syntax_uid);
        let mut all = DecodedFrames { photometric: String::new(), pixels: Vec::new(), lossy };
        for number in 1..=frames {
            let frame = kept.frame(number, &options).map_err(read)?;
            let frame = frame.ok_or_else(|| Held::Undecoded("a frame is missing".into()))?;
            let (photometric, pixels) = frame.decoded().map_err(read)?;
            if number == 1 {
                check(frames, pixels.len(), &options)?;
                photometric.clone_into(&mut all.photometric);
            } else if all.photometric != photometric {
                return Err(Held::Undecoded("its frames differ in what their samples mean".into()));
            }
            all.pixels.extend_from_slice(&pixels);
        }
        Ok(all)
    }
}

/// Whether all frames have room together, before those after the first are decoded.
fn check(frames: u32, bytes: usize, options: &ReadOptions) -> Result<(), Held> {
    let maximum = options.volume_max_mib;
    if (bytes as u64).saturating_mul(frames.into()) <= maximum.saturating_mul(1 << 20) {
        return Ok(());
    }
    Err(Held::Undecoded(format!("{frames} frames of {bytes} bytes would pass limits.volume_max_mib = {maximum}")))
}

/// Lossy Image Compression Method (0028,2114) of a transfer syntax that is always lossy.
fn method(transfer_syntax: &str) -> Option<&'static str> {
    match transfer_syntax {
        "1.2.840.10008.1.2.4.50" | "1.2.840.10008.1.2.4.51" => Some("ISO_10918_1"),
        "1.2.840.10008.1.2.4.81" => Some("ISO_14495_1"),
        _ => None,
    }
}
