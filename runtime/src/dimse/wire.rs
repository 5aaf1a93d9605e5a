//! PDUs over a guarded stream, each within its time.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
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

/// Type (1), reserved (1), length (4) (PS3.8 section 9.3.1).
const PDU_HEADER_BYTES: usize = 6;
/// PDU type of P-DATA-TF.
const P_DATA_TF: u8 = 4;
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
    /// The host: what is to be sent cannot be read.
    #[error("what is sent cannot be read: {0}")]
    Source(String),
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
            Self::Source(_) | Self::Stopping => AbortRQSource::ServiceUser,
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

/// A piece of a message (PS3.8 section 9.3.5.1), in the memory that its PDU was read into: most of what a node takes in comes so.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) presentation_context_id: u8,
    pub(crate) value_type: PDataValueType,
    pub(crate) is_last: bool,
    pub(crate) data: Bytes,
}

impl Value {
    /// All of a P-DATA-TF, without its header.
    fn all(mut body: Bytes) -> Result<VecDeque<Self>, Broken> {
        let mut values = VecDeque::new();
        while !body.is_empty() {
            let length = body.try_get_u32().ok().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
            if length < 2 || length > body.len() {
                return Err(Broken::Malformed("its items pass its end".into()));
            }
            let (presentation_context_id, control) = (body.get_u8(), body.get_u8());
            // PS3.8 annex E.2.
            let value_type = if control & 1 == 0 { PDataValueType::Data } else { PDataValueType::Command };
            let (is_last, data) = (control & 2 != 0, body.split_to(length - 2));
            values.push_back(Self { presentation_context_id, value_type, is_last, data });
        }
        Ok(values)
    }
}

/// What comes between two messages, or next in one.
#[derive(Debug)]
pub(crate) enum Next {
    /// A piece of a message.
    Value(Value),
    /// A-RELEASE-RQ.
    Release,
}

/// One connection.
pub(crate) struct Wire {
    stream: Guard<Box<dyn Stream>>,
    buffer: BytesMut,
    /// Pieces of the last P-DATA that were not asked for yet.
    values: VecDeque<Value>,
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
        parse(&self.whole().await?)
    }

    /// The bytes of the next PDU.
    async fn whole(&mut self) -> Result<BytesMut, Broken> {
        loop {
            let length = self.buffer.get(2..PDU_HEADER_BYTES).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
            let bytes = length.map(|length| length as usize + PDU_HEADER_BYTES);
            let missing = bytes.map_or(1, |bytes| bytes.saturating_sub(self.buffer.len()));
            if let Some(bytes) = bytes.filter(|_| missing == 0) {
                return Ok(self.buffer.split_to(bytes));
            }
            // As much as it says it has, which the guard let through.
            self.buffer.reserve(missing.max(READ_BYTES));
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

    /// The next piece of a message, or the wish to release.
    pub(crate) async fn next(&mut self) -> Result<Next, Broken> {
        loop {
            if let Some(value) = self.values.pop_front() {
                return Ok(Next::Value(value));
            }
            let mut bytes = self.whole().await?;
            if bytes.first() == Some(&P_DATA_TF) {
                bytes.advance(PDU_HEADER_BYTES);
                self.values = Value::all(bytes.freeze())?;
                continue;
            }
            return match parse(&bytes)? {
                Pdu::ReleaseRQ => Ok(Next::Release),
                Pdu::AbortRQ { .. } => Err(Broken::Aborted),
                _ => Err(Broken::Unexpected("a PDU came that has no place in an association")),
            };
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

    /// The same, with a data set of so many bytes that is sent as it is read.
    pub(crate) async fn send_from(
        &mut self,
        context: u8,
        command: &[u8],
        data: &mut (impl AsyncRead + Unpin),
        mut bytes: u64,
    ) -> Result<(), Broken> {
        self.send(context, command, None).await?;
        let most = (self.send_max_bytes - VALUE_HEADER_BYTES) as usize;
        loop {
            let length = usize::try_from(bytes).map_or(most, |bytes| bytes.min(most));
            let mut piece = vec![0; length];
            data.read_exact(&mut piece).await.map_err(|e| Broken::Source(e.to_string()))?;
            bytes -= length as u64;
            let (value_type, is_last) = (PDataValueType::Data, bytes == 0);
            let value = PDataValue { presentation_context_id: context, value_type, is_last, data: piece };
            self.write(&Pdu::PData { data: vec![value] }).await?;
            if is_last {
                return Ok(());
            }
        }
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

/// A whole PDU.
fn parse(mut bytes: &[u8]) -> Result<Pdu, Broken> {
    let pdu = read_pdu(&mut bytes, MAXIMUM_PDU_SIZE, false).map_err(|e| Broken::Malformed(e.to_string()))?;
    // It has all it says it has, and its items say otherwise.
    pdu.ok_or_else(|| Broken::Malformed("its items pass its end".into()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn value(length: u32, control: u8, data: &[u8]) -> Vec<u8> {
        [&length.to_be_bytes()[..], &[3, control], data].concat()
    }

    #[test]
    fn pieces_lie_in_their_pdu_one_after_another() {
        let body = [value(5, 3, b"abc"), value(2, 0, b""), value(4, 2, b"de")].concat();
        let values = Value::all(body.into()).expect("sound");
        let told = values.iter().map(|v| (v.presentation_context_id, v.value_type.clone(), v.is_last, &v.data[..]));
        let (command, data) = (PDataValueType::Command, PDataValueType::Data);
        let expected = [(3, command, true, &b"abc"[..]), (3, data.clone(), false, b""), (3, data, true, b"de")];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert!(Value::all(Bytes::new()).expect("sound").is_empty());
    }

    #[test]
    fn pieces_that_pass_the_end_of_their_pdu_are_refused() {
        let wrong = [
            vec![0],
            value(2, 0, b"")[..5].to_vec(),
            value(0, 0, b""),
            value(1, 0, b""),
            value(6, 0, b"abc"),
            value(u32::MAX, 0, b"abc"),
            [value(5, 0, b"abc"), vec![0, 0]].concat(),
        ];
        for body in wrong {
            assert!(matches!(Value::all(body.clone().into()), Err(Broken::Malformed(_))), "{body:?}");
        }
    }
}
