//! MLLP: one HL7 message between a start block and an end block (HL7 v2 appendix C; MLLP release 1).
//!
//! ```text
//! <VT> MSH|… <CR> … <FS> <CR>
//! ```
//!
//! What comes is held up to a limit and no further. Line ends between blocks are passed over, since old senders put them there;
//! anything else is the end of the connection: from there on nobody knows where a message begins.

/// Begins a block.
const START: u8 = 0x0B;
/// Ends a block; the carriage return behind it is passed over as one between blocks.
const END: u8 = 0x1C;

/// A stream that is no MLLP, or a message that is too large: the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More than a message may have.
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
    /// Bytes that belong to no block.
    #[error("something else than a start block (0x0B) where a message begins")]
    Outside,
    /// A block begins within another one.
    #[error("a start block (0x0B) within a message")]
    Within,
}

/// Takes bytes as they come, gives messages as they are whole.
pub struct Frames {
    held: Vec<u8>,
    /// Bytes of `held` that hold no end.
    seen: usize,
    inside: bool,
    most: usize,
}

impl Frames {
    /// For messages of at most so many bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { held: Vec::new(), seen: 0, inside: false, most }
    }

    /// More of the stream. Ask [`next`](Self::next) until it has nothing before the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Whether a message has begun and not ended.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.inside
    }

    /// The next message that is whole, without its blocks.
    ///
    /// # Errors
    /// The stream is none of messages, or a message is too large; nothing can be read after that.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end where more may come")]
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if !self.inside {
            let ends = self.held.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            self.held.drain(..ends);
            match self.held.first() {
                None => return Ok(None),
                Some(&START) => drop(self.held.drain(..1)),
                Some(_) => return Err(FrameError::Outside),
            }
            (self.inside, self.seen) = (true, 0);
        }
        let fresh = self.held.get(self.seen..).unwrap_or_default();
        let end = fresh.iter().position(|b| matches!(*b, START | END)).map(|at| at + self.seen);
        // A message counts before it is whole: no more than one piece is held beyond the limit.
        if end.unwrap_or(self.held.len()) > self.most {
            return Err(FrameError::TooLarge(self.most));
        }
        let Some(end) = end else {
            self.seen = self.held.len();
            return Ok(None);
        };
        if self.held.get(end) == Some(&START) {
            return Err(FrameError::Within);
        }
        let rest = self.held.split_off(end + 1);
        let mut message = std::mem::replace(&mut self.held, rest);
        message.truncate(end);
        (self.inside, self.seen) = (false, 0);
        Ok(Some(message))
    }
}

/// A message in its blocks.
#[must_use]
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 3);
    bytes.push(START);
    bytes.extend_from_slice(message);
    bytes.extend_from_slice(&[END, b'\r']);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], piece: usize, most: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let (mut frames, mut messages) = (Frames::new(most), Vec::new());
        for piece in bytes.chunks(piece) {
            frames.push(piece);
            loop {
                match frames.next() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(e) => return (messages, Some(e)),
                }
            }
        }
        (messages, None)
    }

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut() {
        let bytes = [framed(b"MSH|1"), b"\r\n".to_vec(), framed(b""), framed(b"MSH|22")].concat();
        for piece in 1..=bytes.len() {
            let (messages, error) = read(&bytes, piece, 6);
            assert_eq!(error, None, "{piece}");
            assert_eq!(messages, [b"MSH|1".to_vec(), Vec::new(), b"MSH|22".to_vec()], "{piece}");
        }
    }

    #[test]
    fn what_is_no_message_or_too_large_ends_it() {
        for piece in [1, 3, 100] {
            assert_eq!(read(b"GET / HTTP/1.1\r\n", piece, 100).1, Some(FrameError::Outside));
            assert_eq!(read(b"\x0Bone\x0Btwo\x1C\r", piece, 100).1, Some(FrameError::Within));
            assert_eq!(read(&framed(b"1234567"), piece, 6).1, Some(FrameError::TooLarge(6)));
            assert_eq!(read(b"\x0B1234567", piece, 6).1, Some(FrameError::TooLarge(6)));
        }
    }
}
