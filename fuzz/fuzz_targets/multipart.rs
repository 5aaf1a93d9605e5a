//! The body of a STOW request, pushed in pieces of any size.
//!
//! What holds for all bytes: parts, headers and the error are the same however the body is cut; a part comes out as it was
//! sent; what is held between two pushes is bounded however long the body is. Input: sizes of pieces, the body; its
//! boundary is `b`.

#![no_main]

use gantry_fuzz::heap;
use gantry_fuzz::multipart::{Event, Headers, MultipartError, Parser};
use libfuzzer_sys::fuzz_target;

/// The limit for headers and a delimiter, held in a buffer that doubles.
const HELD_MAX_BYTES: usize = 2 * ((16 << 10) + 128);

/// A long body: this many bytes at least.
const LONG_BYTES: usize = 64 << 10;

fuzz_target!(|input: &[u8]| {
    let (sizes, body) = gantry_fuzz::sizes_and_rest(input);
    let whole = read(&mut Parser::new("b").expect("a boundary"), std::iter::once(body));
    let cut = read(&mut Parser::new("b").expect("a boundary"), gantry_fuzz::pieces(sizes, body));
    same(&whole, &cut);
    if body.len() <= 1024 {
        let bytewise = read(&mut Parser::new("b").expect("a boundary"), body.chunks(1));
        same(&whole, &bytewise);
    }
    assert!(whole.parts.iter().all(|part| part.1.len() <= body.len()));

    comes_out_as_sent(sizes, body);
    if sizes.len() % 2 == 1 && body.len() > 64 {
        stays_small(body);
    }
});

/// What came of a body.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Headers, what came of the part, and whether it ended.
    parts: Vec<(Headers, Vec<u8>, bool)>,
    ended: bool,
    error: Option<MultipartError>,
}

/// In a message that is short enough to read.
fn same(whole: &Outcome, cut: &Outcome) {
    let short = |outcome: &Outcome| format!("{} parts, error {:?}", outcome.parts.len(), outcome.error);
    assert!(whole == cut, "read whole: {}; read in pieces: {}", short(whole), short(cut));
}

fn read<'a>(parser: &mut Parser, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut outcome = Outcome { parts: Vec::new(), ended: false, error: None };
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.event() {
                Ok(None) => break,
                Ok(Some(event)) => take(&mut outcome, event),
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome.error = parser.finish().err();
    assert_eq!(outcome.error.is_none(), outcome.ended, "a body is sound when its end came");
    outcome
}

/// Checks the order of events too.
fn take(outcome: &mut Outcome, event: Event) {
    assert!(!outcome.ended, "nothing follows the end");
    let open = outcome.parts.last_mut().filter(|part| !part.2);
    match (event, open) {
        (Event::Part(headers), None) => outcome.parts.push((headers, Vec::new(), false)),
        (Event::Data(data), Some(part)) => part.1.extend_from_slice(&data),
        (Event::PartEnd, Some(part)) => part.2 = true,
        (Event::End, None) => outcome.ended = true,
        (event, open) => panic!("{event:?} with {open:?} open"),
    }
}

/// The input as a part's content, in a body of our own.
fn comes_out_as_sent(sizes: &[u8], data: &[u8]) {
    let delimiter = b"\r\n--boundary";
    if data.windows(delimiter.len()).any(|window| window == delimiter) {
        return;
    }
    let head = b"--boundary\r\nContent-Type: application/dicom\r\n\r\n";
    let body = [head, data, b"\r\n--boundary--\r\n"].concat();
    let outcome = read(&mut Parser::new("boundary").expect("a boundary"), gantry_fuzz::pieces(sizes, &body));
    assert_eq!((outcome.error, outcome.parts.len()), (None, 1));
    let (headers, content, _) = &outcome.parts[0];
    assert_eq!(headers.get("content-type"), Some("application/dicom"));
    assert_eq!(content, data);
}

/// The same bytes over and over; what they carry is dropped at once.
fn stays_small(body: &[u8]) {
    let before = heap::live();
    let mut parser = Parser::new("b").expect("a boundary");
    for _ in 0..LONG_BYTES.div_ceil(body.len()) {
        parser.push(body);
        while let Ok(Some(_)) = parser.event() {}
        if !matches!(parser.event(), Ok(None)) {
            return;
        }
        let held = heap::live() - before;
        assert!(held <= HELD_MAX_BYTES + 2 * body.len(), "{held} bytes are held after pushes of {}", body.len());
    }
}
