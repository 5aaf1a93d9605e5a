//! What a worker is asked and what it answers: one JSON message a datagram, at most [`MESSAGE_MAX`] bytes, with at most
//! [`FILES_MAX`] descriptors beside it. Tensors and models are never in a message: they lie in the files.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::cage::{Kept, Probe, Reach};
use crate::config::Limits;
use crate::inference::{Device, Execution, InferenceError, Provider, TensorSpec};
use crate::study::CompressedFrame;
use crate::tensor::ElementType;

/// Both sides are the same program, unless it was replaced while a node ran.
pub(super) const VERSION: u32 = 4;
/// Bytes of a message.
pub(super) const MESSAGE_MAX: usize = 128 << 10;
/// Descriptors of a message.
const FILES_MAX: usize = 2;
/// Characters of an engine's own words.
const TEXT_MAX: usize = 2000;

/// A request, and the answer to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Numbered<T> {
    pub(super) number: u64,
    pub(super) what: T,
}

/// What the host asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Ask {
    /// First of all.
    Start(Start),
    /// With the model's file, sealed.
    Load {
        /// What it is called from now on.
        model: u64,
        /// For messages.
        name: String,
        /// Shapes of inputs, by name, of a first run on zeros; none where there is to be none.
        warm_up: BTreeMap<String, Vec<usize>>,
        /// Whether its first axes are items that do not depend on one another.
        items: bool,
    },
    /// With a file of inputs, sealed, and an empty one for outputs.
    Run {
        model: u64,
        /// In the model's order.
        inputs: Vec<Described>,
        /// Milliseconds until the engine is to stop by itself.
        deadline_ms: Option<u64>,
        /// As when it was loaded.
        items: bool,
    },
    /// Lets go of a model.
    Unload { model: u64 },
    /// With a file of a component, sealed, and an empty one for its code. Settings follow from the limits.
    Compile(Box<Limits>),
    /// With a file of a frame as the value of Pixel Data, sealed, and an empty one for its pixels.
    Decode { frame: CompressedFrame, deadline_ms: u64 },
    /// Tries everything that was given up, and to open these.
    Probe(Vec<PathBuf>),
}

/// What a worker is to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    pub(super) version: u32,
    /// Private memory, MiB.
    pub(super) memory_mib: u64,
    pub(super) role: Role,
}

impl Start {
    pub(super) fn new(memory_mib: u64, role: Role) -> Self {
        Self { version: VERSION, memory_mib, role }
    }
}

/// What a worker is for. It is asked for nothing else.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Role {
    /// Runs one vendor's models.
    Engine(EngineRole),
    /// Stands within the walls of one and runs nothing: to try them where the device is not there.
    Walls(EngineRole),
    /// Compiles components.
    Compile,
    /// Decodes compressed pixel data.
    Decode,
}

impl Role {
    /// What the walls leave open to it.
    pub(super) fn reach(&self) -> Reach {
        match self {
            Self::Engine(role) | Self::Walls(role) => {
                Reach::of(role.device, role.execution.provider, role.library.as_deref())
            }
            Self::Compile | Self::Decode => Reach::Nothing,
        }
    }

    /// Threads that it was given.
    pub(super) fn threads(&self) -> usize {
        match self {
            Self::Engine(role) | Self::Walls(role) => role.threads.saturating_mul(role.contexts.max(1)),
            Self::Compile | Self::Decode => 0,
        }
    }
}

/// Which engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EngineRole {
    /// ONNX Runtime's; tract when there is none.
    pub(super) library: Option<PathBuf>,
    pub(super) device: Device,
    pub(super) execution: Execution,
    /// Of one run.
    pub(super) threads: usize,
    /// Runs at once.
    pub(super) contexts: usize,
    pub(super) model_max_mib: u64,
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Answer {
    /// To `Start`: it can do nothing any more but what it is for.
    Started { version: u32, engine_version: String, providers: Vec<Provider>, kept: Vec<Kept> },
    /// To `Load`.
    Loaded { inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>, resident_bytes: u64 },
    /// To `Run`.
    Ran { outputs: Vec<Described> },
    /// To `Unload`.
    Unloaded { resident_bytes: u64 },
    /// To `Compile`.
    Compiled,
    /// To `Decode`: how many bits its samples have.
    Decoded { precision: u16 },
    /// To `Probe`.
    Probed(Vec<Probe>),
    /// To any.
    Failed { how: Failure, text: String },
}

/// Kinds of [`InferenceError`] that an engine can state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Failure {
    Input,
    Refused,
    Load,
    Unsupported,
    Run,
    Deadline,
    Engine,
    Device,
    Memory,
}

impl Answer {
    pub(super) fn failed(error: &InferenceError) -> Self {
        let (how, text) = match error {
            InferenceError::Input(text) => (Failure::Input, text.clone()),
            InferenceError::Refused { reason, .. } => (Failure::Refused, reason.clone()),
            InferenceError::Load { reason, .. } => (Failure::Load, reason.clone()),
            InferenceError::Unsupported { reason, .. } => (Failure::Unsupported, reason.clone()),
            InferenceError::Run { reason, .. } => (Failure::Run, reason.clone()),
            InferenceError::Deadline { .. } => (Failure::Deadline, String::new()),
            InferenceError::EngineUnavailable { reason, .. } => (Failure::Engine, reason.clone()),
            InferenceError::DeviceUnavailable { reason, .. } => (Failure::Device, reason.clone()),
            error => (Failure::Memory, error.to_string()),
        };
        Self::Failed { how, text: cut(&text) }
    }
}

/// As much of a text as an answer may have.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Where a tensor lies in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Described {
    pub(super) element: ElementType,
    pub(super) shape: Vec<usize>,
    /// Bytes from the start of the file.
    pub(super) offset: u64,
}

/// Two ends; what is sent at once is received at once.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message.
pub(super) fn send<T: Serialize>(socket: impl AsFd, message: &Numbered<T>, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_MAX {
        return Err(io::Error::other(format!("a message of {} bytes passes {MESSAGE_MAX}", bytes.len())));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other(format!("more than {FILES_MAX} files")));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(&bytes)], &mut beside, flags))?;
    Ok(())
}

/// Waits for a message; nothing when the other end is closed.
///
/// # Errors
/// The socket's, and what is no message of this protocol.
pub(super) fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<(Numbered<T>, Vec<OwnedFd>)>> {
    buffer.resize(MESSAGE_MAX, 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut beside, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut files = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            files.extend(sent);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other(format!("a message passes {MESSAGE_MAX} bytes or {FILES_MAX} files")));
    }
    let bytes = buffer.get(..received.bytes).unwrap_or_default();
    Ok(Some((serde_json::from_slice(bytes)?, files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_with_their_files_and_the_end_is_seen() {
        let (here, there) = pair().expect("a pair");
        let file = rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).expect("a file");
        let (name, warm_up, items) = ("liver".into(), BTreeMap::new(), false);
        let ask = Numbered { number: 7, what: Ask::Load { model: 3, name, warm_up, items } };
        send(&here, &ask, &[file.as_fd()]).expect("sent");
        let mut buffer = Vec::new();
        let (got, files) = receive::<Ask>(&there, &mut buffer).expect("a message").expect("open");
        assert!(got.number == 7 && matches!(got.what, Ask::Load { model: 3, .. }) && files.len() == 1, "{got:?}");
        drop(here);
        assert!(receive::<Ask>(&there, &mut buffer).expect("closed").is_none());
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (here, there) = pair().expect("a pair");
        let mut buffer = Vec::new();
        for wrong in [&b"{"[..], b"{\"number\":1,\"what\":{\"dance\":{}}}", b"\xff\xfe", &vec![b' '; MESSAGE_MAX + 1]] {
            let sent = sendmsg(&here, &[IoSlice::new(wrong)], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL);
            sent.expect("sent");
            receive::<Ask>(&there, &mut buffer).expect_err("no message");
        }
        let name = "x".repeat(MESSAGE_MAX);
        let long = Numbered { number: 1, what: Ask::Load { model: 1, name, warm_up: BTreeMap::new(), items: false } };
        assert!(send(&here, &long, &[]).expect_err("too long").to_string().contains("131072"));
    }

    #[test]
    fn more_files_than_a_message_may_have_are_an_error() {
        let (here, there) = pair().expect("a pair");
        let file = rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).expect("a file");
        let many = [file.as_fd(); FILES_MAX + 3];
        assert!(send(&here, &Numbered { number: 1, what: Ask::Probe(Vec::new()) }, &many).is_err());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX + 3))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        assert!(beside.push(SendAncillaryMessage::ScmRights(&many)));
        sendmsg(&here, &[IoSlice::new(b"{\"number\":1,\"what\":{\"probe\":[]}}")], &mut beside, SendFlags::NOSIGNAL)
            .expect("sent");
        assert!(receive::<Ask>(&there, &mut Vec::new()).is_err());
    }
}
