//! Looks at every PDU's header as it passes (PS3.8 section 9.3.1), so that nothing behind it buffers what it must not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An A-ASSOCIATE PDU: 128 presentation contexts with every transfer syntax there is fit well.
pub const ASSOCIATE_MAX_BYTES: u32 = 256 << 10;

/// What release, abort and rejection have at most; the standard says 4.
const SMALL_MAX_BYTES: u32 = 64;

/// Type (1), reserved (1), length (4).
const HEADER_BYTES: usize = 6;

/// A PDU that is not let through: the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The first bytes are no A-ASSOCIATE PDU.
    #[error("what came first is no A-ASSOCIATE: PDU type {0:#04x}")]
    NotDicom(u8),
    /// A PDU type that does not exist.
    #[error("PDU type {0:#04x} does not exist")]
    UnknownType(u8),
    /// It says that it is longer than it may be.
    #[error("a PDU of type {kind:#04x} says it has {length} bytes, more than {limit} = {most}")]
    TooLong {
        /// PDU type.
        kind: u8,
        /// As declared.
        length: u32,
        /// The limit's name.
        limit: &'static str,
        /// The limit.
        most: u32,
    },
}

/// Follows a stream of PDUs from header to header. Holds six bytes of it.
#[derive(Debug)]
pub struct Watch {
    pdu_max_bytes: u32,
    header: [u8; HEADER_BYTES],
    /// Of the header.
    seen: usize,
    /// Of the body: to come.
    rest: u64,
    first: bool,
    bytes: u64,
}

impl Watch {
    /// `dimse.pdu_max_bytes` bounds P-DATA; the others have bounds of their own.
    #[must_use]
    pub fn new(pdu_max_bytes: u32) -> Self {
        Self { pdu_max_bytes, header: [0; HEADER_BYTES], seen: 0, rest: 0, first: true, bytes: 0 }
    }

    /// Looks at the next bytes of the stream, in whatever pieces they come.
    ///
    /// # Errors
    /// The first PDU that is not let through. Nothing of what follows is of use.
    pub fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Stopped> {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = usize::try_from(self.rest).unwrap_or(usize::MAX).min(bytes.len());
                self.rest -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.seen] = bytes[0];
            self.seen += 1;
            bytes = &bytes[1..];
            if self.seen == 1 {
                self.check_type()?;
            }
            if self.seen == HEADER_BYTES {
                self.seen = 0;
                self.first = false;
                self.rest = self.check_length()?.into();
            }
        }
        Ok(())
    }

    /// Bytes that passed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// At the first byte: who speaks another protocol need not be waited for.
    fn check_type(&self) -> Result<(), Stopped> {
        match self.header[0] {
            1..=3 => Ok(()),
            kind @ (4..=7) if !self.first || kind == 7 => Ok(()),
            kind if self.first => Err(Stopped::NotDicom(kind)),
            kind => Err(Stopped::UnknownType(kind)),
        }
    }

    fn check_length(&self) -> Result<u32, Stopped> {
        let [kind, _, length @ ..] = self.header;
        let length = u32::from_be_bytes(length);
        let (limit, most) = match kind {
            1 | 2 => ("the limit for A-ASSOCIATE", ASSOCIATE_MAX_BYTES),
            4 => ("dimse.pdu_max_bytes", self.pdu_max_bytes),
            _ => ("the limit for PDUs without data", SMALL_MAX_BYTES),
        };
        if length > most { Err(Stopped::TooLong { kind, length, limit, most }) } else { Ok(length) }
    }
}

/// A stream whose incoming PDUs are [watched](Watch).
#[derive(Debug)]
pub struct Guard<S> {
    stream: S,
    watch: Watch,
    open: bool,
}

impl<S> Guard<S> {
    /// Around any stream.
    pub fn new(stream: S, pdu_max_bytes: u32) -> Self {
        Self { stream, watch: Watch::new(pdu_max_bytes), open: false }
    }

    /// Bytes that came in.
    pub fn bytes(&self) -> u64 {
        self.watch.bytes()
    }

    /// From here everything passes: for what is thrown away.
    pub fn open(&mut self) {
        self.open = true;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if this.open {
            return Poll::Ready(Ok(()));
        }
        let new = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(this.watch.pass(new).map_err(|stopped| io::Error::new(io::ErrorKind::InvalidData, stopped)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pdu(kind: u8, length: u32, body: usize) -> Vec<u8> {
        let mut bytes = vec![kind, 0];
        bytes.extend(length.to_be_bytes());
        bytes.resize(HEADER_BYTES + body, 0xFF);
        bytes
    }

    #[test]
    fn what_is_whole_passes_in_pieces_of_any_size() {
        let stream: Vec<u8> = [pdu(1, 300, 300), pdu(4, 4096, 4096), pdu(4, 0, 0), pdu(5, 4, 4)].concat();
        for size in [1, 5, 6, 7, 4096, stream.len()] {
            let mut watch = Watch::new(4096);
            for piece in stream.chunks(size) {
                watch.pass(piece).expect("lets through");
            }
            assert_eq!(watch.bytes(), stream.len() as u64);
        }
    }

    #[test]
    fn a_pdu_that_declares_4_gib_stops_at_its_header() {
        let mut watch = Watch::new(4096);
        watch.pass(&pdu(1, 100, 100)).expect("lets through");
        let stopped = watch.pass(&pdu(4, u32::MAX, 0)).expect_err("stopped");
        assert_eq!(
            stopped.to_string(),
            "a PDU of type 0x04 says it has 4294967295 bytes, more than dimse.pdu_max_bytes = 4096"
        );
        for (kind, length) in [(1, ASSOCIATE_MAX_BYTES + 1), (2, u32::MAX), (3, 65), (7, u32::MAX)] {
            assert!(matches!(Watch::new(4096).pass(&pdu(kind, length, 0)), Err(Stopped::TooLong { .. })), "{kind}");
        }
    }

    #[test]
    fn garbage_stops_at_its_first_byte() {
        assert_eq!(Watch::new(4096).pass(b"G"), Err(Stopped::NotDicom(b'G')));
        assert_eq!(Watch::new(4096).pass(&[4]), Err(Stopped::NotDicom(4)));
        let mut watch = Watch::new(4096);
        watch.pass(&pdu(1, 100, 100)).expect("lets through");
        assert_eq!(watch.pass(&[8]), Err(Stopped::UnknownType(8)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_fail_otherwise(bytes: Vec<u8>, size in 1..64_usize) {
            let (mut whole, mut pieces) = (Watch::new(4096), Watch::new(4096));
            let one = whole.pass(&bytes);
            let many = bytes.chunks(size).try_for_each(|piece| pieces.pass(piece));
            proptest::prop_assert_eq!(one, many);
        }
    }
}
