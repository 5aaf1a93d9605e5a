//! PDUs over a guarded stream, each within its time.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use dicom_ul::pdu::{
    AbortRQServiceProviderReason, AbortRQSource, MAXIMUM_PDU_SIZE, PDataValue, PDataValueType, Pdu, read_pdu, write_pdu,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::guard::{Guard, Stopped};

/// A stream of any kind: plain or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// How long a peer that was told to go may take to close, and what is read of it meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_MAX_BYTES: u64 = 1 << 20;

/// The least that is asked for at once from the stream.
const READ_BYTES: usize = 64 << 10;

/// Item length (4), presentation context (1), message control header (1).
const VALUE_HEADER_BYTES: u32 = 6;

/// PDUs that are sent carry between these; peers may ask for less than makes sense, or for no limit.
const SEND_MIN_BYTES: u32 = 128;
const SEND_MAX_BYTES: u32 = 16 << 10;

/// An association ends before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The peer: closed without releasing.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer: A-ABORT.
    #[error("the peer aborted")]
    Aborted,
    /// The peer, or the network.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The peer: too slow.
    #[error("the peer was silent longer than {limit} = {ms}")]
    Silent {
        /// The limit's name.
        limit: &'static str,
        /// The limit, in milliseconds.
        ms: u64,
    },
    /// The peer: a PDU that the guard does not let through.
    #[error("{0}")]
    Guard(Stopped),
    /// The peer: no sound PDU.
    #[error("a PDU cannot be read: {0}")]
    Malformed(String),
    /// The peer: does not want to talk to us.
    #[error("the peer rejects the association: {0}")]
    Rejected(String),
    /// The peer: not what comes at this place.
    #[error("{0}")]
    Unexpected(&'static str),
    /// The host: stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl Broken {
    /// What the peer is told; nothing where it is gone (PS3.8 section 9.3.8).
    fn abort(&self) -> Option<AbortRQSource> {
        use AbortRQServiceProviderReason as Reason;
        Some(match self {
            Self::Closed | Self::Aborted | Self::Rejected(_) | Self::Io(_) => return None,
            Self::Guard(Stopped::UnknownType(_) | Stopped::NotDicom(_)) => {
                AbortRQSource::ServiceProvider(Reason::UnrecognizedPdu)
            }
            Self::Guard(_) | Self::Malformed(_) => AbortRQSource::ServiceProvider(Reason::InvalidPduParameter),
            Self::Unexpected(_) => AbortRQSource::ServiceProvider(Reason::UnexpectedPdu),
            Self::Silent { .. } => AbortRQSource::ServiceProvider(Reason::ReasonNotSpecified),
            Self::Stopping => AbortRQSource::ServiceUser,
        })
    }
}

/// A time with the name of its limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Within {
    pub(crate) limit: &'static str,
    pub(crate) ms: u64,
}

impl Within {
    pub(crate) async fn run<T>(self, work: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
        match tokio::time::timeout(Duration::from_millis(self.ms), work).await {
            Ok(done) => done,
            Err(_) => Err(Broken::Silent { limit: self.limit, ms: self.ms }),
        }
    }
}

/// What comes between two messages, or next in one.
#[derive(Debug)]
pub(crate) enum Next {
    /// A piece of a message.
    Value(PDataValue),
    /// A-RELEASE-RQ.
    Release,
}

/// One connection.
pub(crate) struct Wire {
    stream: Guard<Box<dyn Stream>>,
    buffer: BytesMut,
    /// Pieces of the last P-DATA that were not asked for yet.
    values: VecDeque<PDataValue>,
    /// For responses to be taken.
    write_within: Within,
    /// What the peer takes in one PDU.
    pub(crate) send_max_bytes: u32,
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>, pdu_max_bytes: u32, write_within: Within) -> Self {
        Self {
            stream: Guard::new(stream, pdu_max_bytes),
            buffer: BytesMut::new(),
            values: VecDeque::new(),
            write_within,
            send_max_bytes: SEND_MAX_BYTES,
        }
    }

    /// Bytes that came in.
    pub(crate) fn bytes(&self) -> u64 {
        self.stream.bytes()
    }

    /// The next PDU.
    pub(crate) async fn read(&mut self) -> Result<Pdu, Broken> {
        loop {
            let mut seen = &self.buffer[..];
            let pdu = read_pdu(&mut seen, MAXIMUM_PDU_SIZE, false).map_err(|e| Broken::Malformed(e.to_string()))?;
            let (used, whole) = (self.buffer.len() - seen.len(), self.whole());
            match pdu {
                Some(pdu) => {
                    let _ = self.buffer.split_to(used);
                    return Ok(pdu);
                }
                // It has all it says it has, and its items say otherwise.
                None if whole => return Err(Broken::Malformed("its items pass its end".into())),
                None => {}
            }
            self.buffer.reserve(READ_BYTES);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Broken::Closed),
                Ok(_) => {}
                Err(e) => {
                    let stopped = e.get_ref().and_then(|inner| inner.downcast_ref::<Stopped>()).copied();
                    return Err(stopped.map_or(Broken::Io(e), Broken::Guard));
                }
            }
        }
    }

    /// Whether the buffer holds a whole PDU.
    fn whole(&self) -> bool {
        let length = self.buffer.get(2..6).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
        length.is_some_and(|length| self.buffer.len() as u64 >= u64::from(length) + 6)
    }

    /// The next piece of a message, or the wish to release.
    pub(crate) async fn next(&mut self) -> Result<Next, Broken> {
        loop {
            if let Some(value) = self.values.pop_front() {
                return Ok(Next::Value(value));
            }
            match self.read().await? {
                Pdu::PData { data } => self.values.extend(data),
                Pdu::ReleaseRQ => return Ok(Next::Release),
                Pdu::AbortRQ { .. } => return Err(Broken::Aborted),
                _ => return Err(Broken::Unexpected("a PDU came that has no place in an association")),
            }
        }
    }

    /// Whether pieces are there already.
    pub(crate) fn has_values(&self) -> bool {
        !self.values.is_empty()
    }

    /// Sends a PDU.
    pub(crate) async fn write(&mut self, pdu: &Pdu) -> Result<(), Broken> {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).map_err(|e| Broken::Malformed(e.to_string()))?;
        self.write_within
            .run(async {
                self.stream.write_all(&bytes).await?;
                Ok(self.stream.flush().await?)
            })
            .await
    }

    /// Sends a message (PS3.7 section 6.3): a command set, and a data set where there is one.
    pub(crate) async fn send(&mut self, context: u8, command: &[u8], data: Option<&[u8]>) -> Result<(), Broken> {
        let most = (self.send_max_bytes - VALUE_HEADER_BYTES) as usize;
        let parts = [(PDataValueType::Command, Some(command)), (PDataValueType::Data, data)];
        for (value_type, bytes) in parts.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes?))) {
            let pieces = bytes.len().div_ceil(most).max(1);
            for (index, piece) in (0..pieces).map(|i| (i, bytes.get(i * most..).unwrap_or_default())) {
                let value = PDataValue {
                    presentation_context_id: context,
                    value_type: value_type.clone(),
                    is_last: index + 1 == pieces,
                    data: piece[..piece.len().min(most)].to_vec(),
                };
                self.write(&Pdu::PData { data: vec![value] }).await?;
            }
        }
        Ok(())
    }

    /// What the peer said it takes in one PDU (PS3.8 annex D.1); 0 is no limit.
    pub(crate) fn peer_takes(&mut self, bytes: u32) {
        self.send_max_bytes = if bytes == 0 { SEND_MAX_BYTES } else { bytes.clamp(SEND_MIN_BYTES, SEND_MAX_BYTES) };
    }

    /// Tells the peer why, where it listens, and closes.
    pub(crate) async fn abort(mut self, why: &Broken) {
        if let Some(source) = why.abort() {
            // It may be gone.
            let _ = self.write(&Pdu::AbortRQ { source }).await;
            self.close().await;
        }
    }

    /// Lets the peer read what it was told last: closing at once while bytes of it are unread would take that away.
    pub(crate) async fn close(mut self) {
        let closing = async {
            self.stream.shutdown().await?;
            self.stream.open();
            let mut rest = (&mut self.stream).take(LINGER_MAX_BYTES);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
        };
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

/// A TCP connection that acknowledges at once: senders with Nagle's algorithm wait for that twice an image.
pub(crate) struct Prompt(TcpStream);

impl Prompt {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Slower without, and right all the same.
        let _ = stream.set_nodelay(true);
        Self(stream)
    }
}

impl AsyncRead for Prompt {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().0;
        let read = ready!(Pin::new(&mut *stream).poll_read(cx, buf));
        // The kernel falls back to delayed acknowledgements by itself, so this is said after every read.
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(&*stream, true);
        Poll::Ready(read)
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
