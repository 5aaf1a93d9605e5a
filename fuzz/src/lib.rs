//! What the fuzz targets share: the fuzzed source files themselves, and how memory is counted.
//!
//! Read a target in `fuzz_targets/` first: each says what holds for all bytes. The files included here are compiled as
//! they are, not copied; what they name of the rest of the runtime stands under the same path.

pub mod heap;

#[path = "../../runtime/src/dimse/guard.rs"]
pub mod guard;

#[path = "../../runtime/src/dimse/command.rs"]
pub mod command;

#[path = "../../runtime/src/web/multipart.rs"]
pub mod multipart;

#[path = "../../runtime/src/config/mod.rs"]
pub mod config;

#[path = "../../runtime/src/study/mod.rs"]
pub mod study;

#[path = "../../runtime/src/volumes/mod.rs"]
pub mod volumes;

#[path = "../../runtime/src/geometry.rs"]
pub mod geometry;

/// Of `crate::dimse`, what a rewritten file names.
pub mod dimse {
    /// Who wrote it.
    pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.1";
    /// The same, for people.
    pub const IMPLEMENTATION_VERSION_NAME: &str = "GANTRY_FUZZ";
}

#[path = "../../runtime/src/memory.rs"]
pub mod memory;

#[path = "../../runtime/src/tensor.rs"]
#[expect(dead_code, reason = "no target hands tensors to another process")]
pub mod tensor;

/// Of `crate::trusted_code`, what the budget's file names.
mod trusted_code {
    pub(crate) fn heaps_at_most(_: i32) {}
}

/// As the runtime shows text that may come from outside.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// As the runtime writes digests.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shown(path: &std::path::Path) -> String {
    printable(&path.to_string_lossy())
}

/// Of `crate::messages`, what reads and writes HL7 v2, and what the configuration names.
#[path = "../../runtime/src/messages"]
pub mod messages {
    /// What an operator chooses by name.
    pub mod fhir {
        mod patient;
        pub use patient::PatientReference;
    }

    /// Messages, their blocks, and orders.
    pub mod hl7 {
        pub mod charset;
        mod frame;
        mod message;
        pub mod order;
        mod write;

        pub use charset::Charset;
        pub use frame::{FrameError, Frames, framed};
        pub use message::{Delimiters, ErrorCode, Flaw, Message, Part, Segment};
        pub use write::{Row, components, encoded, escaped, header};
    }
}

/// Of `crate::deliver`, what the configuration names.
#[path = "../../runtime/src/deliver"]
pub mod deliver {
    /// A FHIR server.
    pub mod fhir {
        mod config;
        pub use config::FhirDestination;
    }

    /// A receiver of HL7 v2.
    pub mod mllp {
        mod config;
        pub use config::MllpDestination;
    }
}

/// Of `crate::outputs`, what the configuration names.
#[path = "../../runtime/src/outputs"]
pub mod outputs {
    mod kind;
    pub use kind::OutputKind;
}

/// Of `crate::findings`, what the configuration and images of several frames name.
#[path = "../../runtime/src/findings"]
pub mod findings {
    pub mod frames;
    mod urgency;
    pub use urgency::Urgency;

    /// What is said of frames, which no target says.
    #[derive(Debug, Clone, PartialEq, serde::Serialize)]
    pub struct Code;
}

/// Of `crate::inference`, what the configuration and manifests name.
#[path = "../../runtime/src/inference"]
pub mod inference {
    mod config;
    mod execution;
    #[expect(dead_code, reason = "no run is of two jobs")]
    pub mod queue;
    pub use config::{EngineConfig, EnginePreference, Isolation};
    pub use execution::{CpuConfig, Device, Execution, GpuConfig, Precision, Provider};
    pub use queue::Turn;

    /// What the first axis of a model is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Batch {
        /// Nothing that is known.
        Whole,
        /// Items.
        Items,
        /// Items, also of several jobs.
        Joined(Join),
    }

    /// How runs of several jobs become one.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Join {
        /// Items of all of them.
        pub items_max: usize,
        /// How long the first waits.
        pub window: std::time::Duration,
    }
}

/// Packages, and of `crate::module` what the configuration names.
#[path = "../../runtime/src/module"]
pub mod module {
    pub mod files;
    pub mod installed;
    pub mod language;
    pub mod location;
    pub mod manifest;
    pub mod needs;
    pub mod pack;
    pub mod package;
    pub mod statement;
}

/// Of `crate::ingest`, what a manifest names.
pub mod ingest {
    /// A UID.
    #[derive(Debug)]
    pub struct Uid(());

    impl Uid {
        /// Checks it.
        #[must_use]
        pub fn parse(text: &str) -> Option<Self> {
            let numbers = text.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            (numbers && text.len() <= 64).then_some(Self(()))
        }
    }
}

/// Of `crate::sandbox`, what the configuration names.
#[path = "../../runtime/src/sandbox"]
pub mod sandbox {
    pub mod grants;
}

/// Of `crate::worker`, what the configuration names.
#[path = "../../runtime/src/worker"]
pub mod worker {
    mod choice;
    pub use choice::{Program, Wall};

    /// Frames are decoded here.
    #[derive(Debug)]
    pub enum Decoders {}

    /// Why a frame was not decoded.
    #[expect(dead_code, reason = "there is no worker that could say so")]
    #[derive(Debug)]
    pub(crate) enum NoFrame {
        Refused(String),
        TooLong(u64),
        Died(String, u64),
        Host(String),
    }

    impl Decoders {
        pub(crate) fn apart(&self) -> std::sync::Arc<Self> {
            match *self {}
        }

        pub(crate) fn decode(
            &self,
            _: &crate::study::CompressedFrame,
            _: &[u8],
            _: usize,
            _: &mut Vec<u8>,
        ) -> Result<u16, NoFrame> {
            match *self {}
        }
    }

    /// Memory of another process, which no target has.
    #[derive(Debug)]
    pub struct Mapped(Vec<u8>);

    impl Mapped {
        /// What it holds.
        #[must_use]
        pub fn bytes(&self) -> &[u8] {
            &self.0
        }
    }
}

// The configuration names it as a crate of its own.
extern crate self as gantry_cloud_sync;

/// Of `gantry_cloud_sync::deid`, what a rewritten file is written by.
pub mod deid {
    use dicom_core::VR;

    /// Whether a length takes four bytes behind this VR (PS3.5 table 7.1-1).
    #[must_use]
    pub fn has_long_length(vr: VR) -> bool {
        use VR::{OB, OD, OF, OL, OV, OW, SQ, SV, UC, UN, UR, UT, UV};
        matches!(vr, OB | OD | OF | OL | OV | OW | SQ | SV | UC | UN | UR | UT | UV)
    }
}

/// Of `gantry_cloud_sync::dsse`, what a statement is signed by: here, nothing.
pub mod dsse {
    /// Whoever signed it.
    #[derive(Debug, Clone)]
    pub struct PublicKey;

    /// Whoever signs it.
    #[derive(Debug)]
    pub struct SigningKey;

    /// Why an envelope is not opened.
    #[derive(Debug, thiserror::Error)]
    #[error("cannot be opened here")]
    pub struct Refused;

    /// An envelope that was opened.
    #[derive(Debug)]
    pub struct Opened {
        /// What is signed.
        pub payload: Vec<u8>,
        /// By whom.
        pub signer: PublicKey,
    }

    pub(crate) fn open(_: &str, _: &[u8], _: &[PublicKey]) -> Result<Opened, Refused> {
        Err(Refused)
    }

    pub(crate) fn seal(_: &str, _: &[u8], _: &SigningKey) -> Vec<u8> {
        Vec::new()
    }
}

/// Of `gantry_cloud_sync::s3`, what the configuration names.
#[path = "../../cloud-sync/src/s3"]
pub mod s3 {
    #[expect(dead_code, reason = "no target uploads")]
    mod config;
    pub use config::{Config, Encryption, LockMode, ObjectLock};

    /// Of its failures, the one of a configuration.
    #[derive(Debug, thiserror::Error)]
    pub enum Failure {
        /// What is wrong.
        #[error("{0}")]
        Configuration(String),
    }
}

/// The first byte of an input says how many of the next ones are sizes of pieces; the rest is what comes in those pieces.
#[must_use]
pub fn sizes_and_rest(input: &[u8]) -> (&[u8], &[u8]) {
    let (count, rest) = input.split_first().unwrap_or((&0, &[]));
    rest.split_at_checked(usize::from(count % 16)).unwrap_or((&[], rest))
}

/// `bytes` in pieces of those sizes, over and over; whole where there are none. Pieces of what is long are larger: a
/// target would spend its time on them alone.
pub fn pieces<'a>(sizes: &'a [u8], mut bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let more = if bytes.len() <= 1024 { 0 } else { bytes.len() / 128 };
    let mut next = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = next.next().map_or(bytes.len(), |size| usize::from(*size).max(1) + more).min(bytes.len());
        let (piece, rest) = bytes.split_at(size);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
