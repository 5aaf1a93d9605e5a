//! HL7 v2: messages as they are read and written, and how they are framed.
//!
//! Read in this order: `frame`, `message`, `write`, `ack`, `order`, `oru`. We write 2.5.1 and read every version 2.
//!
//! The parser is our own: it reads what is asked for from one text, with a bound on everything, and says what is wrong by segment and
//! field. What there is on crates.io is young, unmaintained or under a licence that we cannot take.

pub mod ack;
pub mod charset;
mod frame;
mod message;
pub mod order;
pub mod oru;
mod write;

pub use self::charset::Charset;
pub use self::frame::{FrameError, Frames, framed};
pub use self::message::{Delimiters, ErrorCode, Flaw, Message, Part, Segment};
pub use self::write::{Row, components, encoded, escaped, header};

/// What we write.
pub const VERSION: &str = "2.5.1";
