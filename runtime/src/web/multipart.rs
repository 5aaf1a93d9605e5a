//! `multipart/related` (RFC 2046 section 5.1, RFC 2387), read as it comes.
//!
//! Bytes are pushed in, events are taken out until there are none, and so on: between two pushes no more stays in memory
//! than a delimiter, or one part's headers up to their limit. Nothing here waits or reads.

use bytes::{Bytes, BytesMut};

/// RFC 2046 section 5.1.1 allows 70 characters; those of Orthanc have 73.
const BOUNDARY_MAX: usize = 128;
/// Headers of one part.
const HEADERS_MAX_BYTES: usize = 16 << 10;
/// What may come before the first part.
const PREAMBLE_MAX_BYTES: usize = 16 << 10;

/// What a body is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part(Headers),
    /// More of the part.
    Data(Bytes),
    /// The part ended.
    PartEnd,
    /// The last part ended; what follows means nothing.
    End,
}

/// Headers of a part; names are lower-case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first header with this lower-case name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A body that is not well-formed: the peer's to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The parameter is missing or no boundary.
    #[error("the boundary parameter of Content-Type is missing, or not 1 to {BOUNDARY_MAX} characters of RFC 2046")]
    Boundary,
    /// The body does not begin with it.
    #[error("the body does not begin with the boundary of its Content-Type")]
    NoPart,
    /// A boundary is followed by something else than a line's end.
    #[error("a boundary line in the body does not end as one")]
    Delimiter,
    /// Headers do not end.
    #[error("the headers of a part have no end within {HEADERS_MAX_BYTES} bytes")]
    HeadersTooLong,
    /// Headers are none.
    #[error("a header of a part is not `name: value` in ASCII")]
    Header,
    /// The body ends before its closing boundary.
    #[error("the body ends before its closing boundary")]
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    /// After a delimiter.
    Delimiter,
    Headers,
    Data,
    End,
}

/// A body that is being read.
#[derive(Debug)]
pub struct Parser {
    /// With the line's end before it.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
    /// A part is open and must be ended.
    open: bool,
    skipped: usize,
}

impl Parser {
    /// A body with this boundary.
    ///
    /// # Errors
    /// [`MultipartError::Boundary`].
    pub fn new(boundary: &str) -> Result<Self, MultipartError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
        let sound = (1..=BOUNDARY_MAX).contains(&boundary.len()) && boundary.bytes().all(allowed);
        if !sound || boundary.ends_with(' ') {
            return Err(MultipartError::Boundary);
        }
        // The first delimiter needs no line before it.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        Ok(Self { delimiter, buffer, state: State::Preamble, open: false, skipped: 0 })
    }

    /// Adds bytes. Take events until there are none before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.state != State::End {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next event, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// The body is not well-formed; it cannot be read on.
    pub fn event(&mut self) -> Result<Option<Event>, MultipartError> {
        loop {
            match self.state {
                State::End => return Ok(None),
                State::Preamble => match self.up_to_delimiter() {
                    Ahead::Data(skipped) => self.skip(skipped.len())?,
                    Ahead::Delimiter => self.state = State::Delimiter,
                    Ahead::More => return Ok(None),
                },
                State::Data => match self.up_to_delimiter() {
                    Ahead::Data(data) => return Ok(Some(Event::Data(data))),
                    Ahead::Delimiter => {
                        self.state = State::Delimiter;
                        self.open = false;
                        return Ok(Some(Event::PartEnd));
                    }
                    Ahead::More => return Ok(None),
                },
                State::Delimiter => {
                    let Some(last) = self.line_end()? else { return Ok(None) };
                    self.state = if last { State::End } else { State::Headers };
                    if last {
                        self.buffer.clear();
                        return Ok(Some(Event::End));
                    }
                }
                State::Headers => {
                    let Some(headers) = self.headers()? else { return Ok(None) };
                    (self.state, self.open) = (State::Data, true);
                    return Ok(Some(Event::Part(headers)));
                }
            }
        }
    }

    /// Says that no more bytes come.
    ///
    /// # Errors
    /// The last part has not ended.
    pub fn finish(&self) -> Result<(), MultipartError> {
        match self.state {
            State::End => Ok(()),
            State::Preamble => Err(MultipartError::NoPart),
            State::Delimiter | State::Headers | State::Data => Err(MultipartError::Cut),
        }
    }

    fn skip(&mut self, bytes: usize) -> Result<(), MultipartError> {
        self.skipped = self.skipped.saturating_add(bytes);
        if self.skipped > PREAMBLE_MAX_BYTES { Err(MultipartError::NoPart) } else { Ok(()) }
    }

    /// Takes what surely comes before the next delimiter, or the delimiter.
    fn up_to_delimiter(&mut self) -> Ahead {
        match find(&self.buffer, &self.delimiter) {
            Found::At(0) => {
                let _ = self.buffer.split_to(self.delimiter.len());
                Ahead::Delimiter
            }
            Found::Maybe(0) => Ahead::More,
            Found::At(at) | Found::Maybe(at) => Ahead::Data(self.buffer.split_to(at).freeze()),
        }
    }

    /// Takes the rest of a delimiter's line; whether it is the closing one.
    fn line_end(&mut self) -> Result<Option<bool>, MultipartError> {
        if self.buffer.starts_with(b"--") {
            return Ok(Some(true));
        }
        let blanks = self.buffer.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        match self.buffer.get(blanks..).unwrap_or_default() {
            _ if blanks > HEADERS_MAX_BYTES => Err(MultipartError::Delimiter),
            [b'\r', b'\n', ..] => {
                let _ = self.buffer.split_to(blanks + 2);
                Ok(Some(false))
            }
            [] | [b'\r'] => Ok(None),
            [b'-'] if blanks == 0 => Ok(None),
            _ => Err(MultipartError::Delimiter),
        }
    }

    fn headers(&mut self) -> Result<Option<Headers>, MultipartError> {
        if self.buffer.starts_with(b"\r\n") {
            let _ = self.buffer.split_to(2);
            return Ok(Some(Headers::default()));
        }
        match find(&self.buffer, b"\r\n\r\n") {
            Found::At(end) if end <= HEADERS_MAX_BYTES => {
                let block = self.buffer.split_to(end + 4);
                parse_headers(&block[..end]).map(Some)
            }
            // Not before the end of the longest could have come: where the body is cut decides nothing.
            _ if self.buffer.len() >= HEADERS_MAX_BYTES + 4 => Err(MultipartError::HeadersTooLong),
            _ => Ok(None),
        }
    }
}

enum Ahead {
    Data(Bytes),
    Delimiter,
    More,
}

enum Found {
    At(usize),
    /// What is there may begin at this place.
    Maybe(usize),
}

/// The first place of `needle`, which begins with a carriage return, or where it may begin.
fn find(haystack: &[u8], needle: &[u8]) -> Found {
    let mut from = 0;
    while let Some(next) = haystack[from..].iter().position(|b| *b == b'\r') {
        let at = from + next;
        let rest = &haystack[at..];
        if rest.starts_with(needle) {
            return Found::At(at);
        }
        if needle.starts_with(rest) {
            return Found::Maybe(at);
        }
        from = at + 1;
    }
    Found::Maybe(haystack.len())
}

fn parse_headers(block: &[u8]) -> Result<Headers, MultipartError> {
    let text = std::str::from_utf8(block).map_err(|_| MultipartError::Header)?;
    let mut headers = Vec::new();
    for line in text.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(MultipartError::Header)?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || !name.bytes().all(token) || value.chars().any(char::is_control) {
            return Err(MultipartError::Header);
        }
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Headers(headers))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The parts of a body that comes in pieces of `size` bytes.
    fn parts(boundary: &str, body: &[u8], size: usize) -> Result<Vec<(Headers, Vec<u8>)>, MultipartError> {
        let mut parser = Parser::new(boundary)?;
        let mut parts: Vec<(Headers, Vec<u8>)> = Vec::new();
        for piece in body.chunks(size) {
            parser.push(piece);
            while let Some(event) = parser.event()? {
                match event {
                    Event::Part(headers) => parts.push((headers, Vec::new())),
                    Event::Data(data) => parts.last_mut().expect("a part").1.extend_from_slice(&data),
                    Event::PartEnd | Event::End => {}
                }
            }
            assert!(parser.buffer.len() < HEADERS_MAX_BYTES + 4 + size, "memory is bounded");
        }
        parser.finish()?;
        Ok(parts)
    }

    const BODY: &[u8] =
        b"preamble\r\n--b\r\nContent-Type: application/dicom\r\n\r\n1\r\n--c\r\r\n\r\n--b  \r\n\r\n2\r\n--b--\r\nrest";

    #[test]
    fn parts_are_the_same_however_they_are_cut() {
        for size in 1..BODY.len() {
            let parts = parts("b", BODY, size).expect("sound");
            assert_eq!(parts.len(), 2, "{size}");
            assert_eq!(parts[0].0.get("content-type"), Some("application/dicom"));
            assert_eq!((parts[0].1.as_slice(), parts[1].1.as_slice()), (&b"1\r\n--c\r\r\n"[..], &b"2"[..]));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |boundary: &str, body: &[u8]| parts(boundary, body, 7).expect_err("refused");
        assert_eq!(refused("", BODY), MultipartError::Boundary);
        assert_eq!(refused(&"b".repeat(BOUNDARY_MAX + 1), BODY), MultipartError::Boundary);
        assert_eq!(refused("a\r\nb", BODY), MultipartError::Boundary);
        assert_eq!(refused("other", BODY), MultipartError::NoPart);
        assert_eq!(refused("other", &[b'x'; 1 << 20]), MultipartError::NoPart);
        assert_eq!(refused("b", b"--b\r\n\r\nno end"), MultipartError::Cut);
        assert_eq!(refused("b", b"--b\r\n\r\nno end\r\n--b"), MultipartError::Cut);
        assert_eq!(refused("b", b"--bb\r\n\r\n"), MultipartError::Delimiter);
        assert_eq!(refused("b", b"--b\r\nno header\r\n\r\n"), MultipartError::Header);
        let endless = [&b"--b\r\nA: "[..], &[b'a'; 1 << 20]].concat();
        assert_eq!(refused("b", &endless), MultipartError::HeadersTooLong);
    }

    #[test]
    fn the_limit_of_headers_is_the_same_however_they_are_cut() {
        let body = |bytes: usize| {
            let value = "a".repeat(bytes - "A: ".len());
            format!("--b\r\nA: {value}\r\n\r\nx\r\n--b--").into_bytes()
        };
        for size in [1, 3, 4096, 1 << 20] {
            assert_eq!(parts("b", &body(HEADERS_MAX_BYTES), size).expect("just fits").len(), 1, "{size}");
            let refused = parts("b", &body(HEADERS_MAX_BYTES + 1), size).expect_err("one more");
            assert_eq!(refused, MultipartError::HeadersTooLong, "{size}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_parts_or_an_error(body in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'b'), any::<u8>()], 0..400), size in 1usize..50) {
            let _ = parts("b", &[b"--b\r\n", body.as_slice()].concat(), size);
        }

        #[test]
        fn what_was_sent_comes_out(data in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 0..400), size in 1usize..50) {
            let body = [b"--boundary\r\n\r\n", data.as_slice(), b"\r\n--boundary--"].concat();
            prop_assert_eq!(&parts("boundary", &body, size).expect("sound")[0].1, &data);
        }
    }
}
