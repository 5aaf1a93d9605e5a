//! Modules that look at frames one after another while they are made: real-time guidance on ultrasound.
//!
//! The host lends one frame at a time. [`FrameAnalyzer::next`] has a budget ([`StreamInfo::budget_ms`], 33 unless the site says
//! otherwise); one that is at it when that is over, or panics, is ended, its frame is missed, and [`FrameAnalyzer::open`] is called
//! on a new instance with [`StreamInfo::restarts`] one higher. While the module is busy, frames that come are not kept: the latest
//! one is lent next, and [`Frame::skipped`] says how many were not answered before it.
//!
//! ```
//! use gantry_guest::frames::{Answer, Frame, FrameAnalyzer, Rectangle, StreamInfo, Summary};
//! use gantry_guest::prelude::*;
//! use gantry_guest::testing::{FakeStream, stream};
//!
//! /// Says how bright frames are.
//! struct Brightness {
//!     whole: Rectangle,
//!     bright: Vec<u32>,
//! }
//!
//! impl FrameAnalyzer for Brightness {
//!     fn open(info: &StreamInfo) -> Result<Self, Error> {
//!         Ok(Self { whole: info.whole(), bright: Vec::new() })
//!     }
//!
//!     fn next(&mut self, frame: &Frame<'_>) -> Result<Answer, Error> {
//!         let pixels = frame.brightness(self.whole)?;
//!         let mean = pixels.iter().map(|p| f32::from(*p)).sum::<f32>() / pixels.len() as f32;
//!         if mean < 64.0 {
//!             return Ok(Answer::of_quality(mean / 64.0).guide(Code::new("GAIN-UP", "99ACME", "More gain")));
//!         }
//!         self.bright.push(frame.number());
//!         Ok(Answer::of_quality(1.0))
//!     }
//!
//!     fn close(self) -> Result<Summary, Error> {
//!         Ok(Summary::new().conclude(Code::new("BRIGHT", "99ACME", "Bright frames"), 1.0, self.bright))
//!     }
//! }
//!
//! gantry_guest::export_frames!(Brightness);
//!
//! # fn main() -> Result<(), Error> {
//! let played = stream::<Brightness>(FakeStream::grey(4, 2).frame(|_, _| 16).frame(|x, _| if x < 2 { 0 } else { 255 }))?;
//! assert_eq!(played.answers[0].1.as_ref().expect("an answer").quality, Some(0.25));
//! assert_eq!(played.summary.conclusions[0].frames, [2]);
//! # Ok(())
//! # }
//! ```
//!
//! In `Cargo.toml` the SDK has `features = ["frames"]`: without it this is there in native tests, and not in a component.
//!
//! The manifest lists `"gantry:imaging/frames"`, and `"gantry:imaging/volumes"` and `"wasi:nn"` for one that runs a network on
//! [`Frame::volume`]. Load it in `open`, which has seconds. `gantry stream PACKAGE CINE` plays a cine to it.

use crate::error::Error;
use crate::sys;
use crate::types::Code;
use crate::volumes::Volume;

pub use crate::stream_bindings::gantry::imaging::frames::{
    Answer, Conclusion, Label, Located, Quantity, Rectangle, StreamInfo, Summary,
};

/// A module that looks at a stream. One value is one instance on one stream, and keeps what it knows between frames.
pub trait FrameAnalyzer: Sized {
    /// Before the first frame; the time to load models. An error ends the stream as failed.
    fn open(info: &StreamInfo) -> Result<Self, Error>;

    /// One frame, within the budget. An error is a missed frame; ten missed in a row, unless the site says otherwise, end the
    /// stream.
    fn next(&mut self, frame: &Frame<'_>) -> Result<Answer, Error>;

    /// After the last frame. What it states is written as a report that refers to frames.
    fn close(self) -> Result<Summary, Error>;
}

/// One image on the host, lent for one call.
#[derive(Debug)]
pub struct Frame<'a>(pub(crate) &'a sys::frames::Frame);

impl Frame<'_> {
    /// Which of the stream, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.0.number()
    }

    /// When it was due, µs from the first frame on.
    #[must_use]
    pub fn time_us(&self) -> u64 {
        self.0.time_us()
    }

    /// Frames between the last one that was answered and this one.
    #[must_use]
    pub fn skipped(&self) -> u32 {
        self.0.skipped()
    }

    /// The brightness of pixels, 0 black to 255 white, row after row. `invalid` when `what` is empty or leaves the frame.
    pub fn brightness(&self, what: Rectangle) -> Result<Vec<u8>, Error> {
        Ok(self.0.brightness(what)?)
    }

    /// As a volume of one slice, 0 to 255: of one channel counted from 0, or of the brightness. For a network:
    /// `frame.volume(None)?.affine(1.0 / 255.0, 0.0)?.to_slice_tensor(TensorType::Fp32)?`.
    pub fn volume(&self, channel: Option<u32>) -> Result<Volume, Error> {
        Ok(Volume(self.0.volume(channel)?))
    }
}

impl StreamInfo {
    /// The whole frame.
    #[must_use]
    pub fn whole(&self) -> Rectangle {
        Rectangle { column: 0, row: 0, columns: self.columns, rows: self.rows }
    }
}

impl Rectangle {
    /// Number of pixels.
    #[must_use]
    pub fn pixels(self) -> usize {
        self.columns as usize * self.rows as usize
    }
}

impl Answer {
    /// Nothing but how good the image is, 0 to 1.
    #[must_use]
    pub fn of_quality(quality: f32) -> Self {
        Self { quality: Some(quality), labels: Vec::new(), boxes: Vec::new(), guidance: Vec::new() }
    }

    /// With what the frame shows, of this probability, 0 to 1.
    #[must_use]
    pub fn label(mut self, what: Code, probability: f32) -> Self {
        self.labels.push(Label { what, probability });
        self
    }

    /// With where something lies, of this probability, 0 to 1.
    #[must_use]
    pub fn locate(mut self, place: Rectangle, what: Code, probability: f32) -> Self {
        self.boxes.push(Located { place, what, probability });
        self
    }

    /// With what whoever holds the probe may do; the most important first.
    #[must_use]
    pub fn guide(mut self, code: Code) -> Self {
        self.guidance.push(code);
        self
    }
}

impl Summary {
    /// Without a statement.
    #[must_use]
    pub fn new() -> Self {
        Self { conclusions: Vec::new(), quantities: Vec::new() }
    }

    /// With a finding of this probability, 0 to 1, and frames that show it.
    #[must_use]
    pub fn conclude(mut self, finding: Code, probability: f32, frames: Vec<u32>) -> Self {
        self.conclusions.push(Conclusion { finding, probability, frames });
        self
    }

    /// With a number, its unit in UCUM, and frames that it was measured in: none for the whole stream.
    #[must_use]
    pub fn measure(mut self, quantity: Code, value: f64, unit: &str, frames: Vec<u32>) -> Self {
        self.quantities.push(Quantity { quantity, value, unit: unit.into(), frames });
        self
    }
}

impl Default for Summary {
    fn default() -> Self {
        Self::new()
    }
}

/// For the macro: what the component exports.
#[cfg(target_arch = "wasm32")]
pub(crate) mod session {
    use std::cell::RefCell;

    use super::{Answer, Frame, FrameAnalyzer, StreamInfo, Summary};

    /// `open` of the contract.
    pub fn open<A: FrameAnalyzer>(session: &RefCell<Option<A>>, info: &StreamInfo) -> Result<(), String> {
        crate::__private::say_panics();
        let analyzer = A::open(info).map_err(|error| error.to_string())?;
        *session.borrow_mut() = Some(analyzer);
        Ok(())
    }

    /// `next` of the contract.
    pub fn next<A: FrameAnalyzer>(
        session: &RefCell<Option<A>>,
        image: &crate::sys::frames::Frame,
    ) -> Result<Answer, String> {
        let mut session = session.borrow_mut();
        let analyzer = session.as_mut().ok_or("a frame before `open`")?;
        analyzer.next(&Frame(image)).map_err(|error| error.to_string())
    }

    /// `close` of the contract.
    pub fn close<A: FrameAnalyzer>(session: &RefCell<Option<A>>) -> Result<Summary, String> {
        let analyzer = session.take().ok_or("`close` before `open`")?;
        analyzer.close().map_err(|error| error.to_string())
    }
}

/// Makes a type that implements [`FrameAnalyzer`] the module of this crate. Once in a crate of type `cdylib`.
#[macro_export]
macro_rules! export_frames {
    ($analyzer:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static SESSION: ::core::cell::RefCell<::core::option::Option<$analyzer>> =
                    const { ::core::cell::RefCell::new(::core::option::Option::None) };
            }
            struct Exported;
            impl $crate::__private::stream_bindings::Guest for Exported {
                fn open(info: $crate::frames::StreamInfo) -> ::core::result::Result<(), ::std::string::String> {
                    SESSION.with(|session| $crate::__private::open(session, &info))
                }
                fn next(
                    image: &$crate::__private::stream_bindings::Frame,
                ) -> ::core::result::Result<$crate::frames::Answer, ::std::string::String> {
                    SESSION.with(|session| $crate::__private::next(session, image))
                }
                fn close() -> ::core::result::Result<$crate::frames::Summary, ::std::string::String> {
                    SESSION.with(|session| $crate::__private::close(session))
                }
            }
            $crate::__private::stream_bindings::export_frame_analyzer!(
                Exported with_types_in $crate::__private::stream_bindings
            );
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::frames::StreamInfo) -> ::core::result::Result<$analyzer, $crate::Error> =
            <$analyzer as $crate::frames::FrameAnalyzer>::open;
    };
}
