//! A stream of MLLP, and the messages in it.
//!
//! What holds for all bytes: however they are cut, the same messages come out, and the same error; what is read of a message
//! stays within a multiple of it; what is refused is told by segment and field, and never by what stands there; a text that was read
//! and is written reads back as it was.

#![no_main]

use gantry_fuzz::findings::Urgency;
use gantry_fuzz::messages::hl7::order::{self, Inbound, Place, Rules};
use gantry_fuzz::messages::hl7::{Charset, FrameError, Frames, Message, Row, encoded, framed, header};
use gantry_fuzz::{heap, pieces, sizes_and_rest};
use libfuzzer_sys::fuzz_target;

const MESSAGE_MAX_BYTES: usize = 1024;
const SEGMENTS_MAX: usize = 40;

fuzz_target!(|input: &[u8]| {
    let (sizes, bytes) = sizes_and_rest(input);
    let (messages, error) = read(pieces(sizes, bytes));
    assert_eq!((&messages, error), (&read(std::iter::once(bytes)).0, read(std::iter::once(bytes)).1));
    for bytes in &messages {
        assert!(bytes.len() <= MESSAGE_MAX_BYTES);
        message(bytes);
    }
    // As a message by itself, without what frames it.
    message(bytes);
});

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut frames, mut messages) = (Frames::new(MESSAGE_MAX_BYTES), Vec::new());
    for piece in pieces {
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

fn message(bytes: &[u8]) {
    let (parsed, held) = heap::peak(|| Message::parse(bytes, SEGMENTS_MAX));
    // A byte of Latin-1 is two of UTF-8, decoders double what they fill, and segments are told by two numbers.
    assert!(held <= 16 * bytes.len() + (64 << 10), "held {held} bytes for {}", bytes.len());
    let message = match parsed {
        Ok(message) => message,
        Err(flaw) => return told(&flaw.to_string()),
    };
    assert!(message.segments().count() <= SEGMENTS_MAX);
    for segment in message.segments() {
        for number in 1..12 {
            let field = segment.field(number);
            for part in field.repetitions().take(4) {
                let text = part.component(2).subcomponent(1).text();
                written(&text);
            }
            written(&field.first().text());
        }
    }
    let places = ["IPC-1", "OBR-18", "ORC-3"].map(|text| Place::parse(text).expect("a place"));
    let rules = Rules { accession_fields: places.to_vec(), priorities: [("S".to_owned(), Urgency::Urgent)].into() };
    match order::read(&message, &rules) {
        Err(flaw) => told(&flaw.to_string()),
        Ok(Inbound::Merges(merges)) => {
            assert!(merges.iter().all(|merge| !merge.prior.0.is_empty() && !merge.surviving.0.is_empty()));
        }
        Ok(Inbound::Orders(orders)) => {
            for order in orders {
                let uid = order.study_instance_uid.bytes().all(|b| b.is_ascii_digit() || b == b'.');
                assert!(uid && order.study_instance_uid.len() <= 64);
                let named = [&order.accession_number, &order.study_instance_uid, &order.placer];
                assert!(named.into_iter().any(|text| !text.is_empty()));
                for text in [&order.accession_number, &order.placer, &order.filler, &order.reason] {
                    assert!(text.chars().count() <= 1024 && !text.contains(char::is_control));
                }
            }
        }
    }
}

/// Segment, number and words of our own: nothing in it is long, and only the name of the segment is the sender's.
fn told(flaw: &str) {
    assert!(flaw.len() < 200 && flaw.is_ascii() && !flaw.contains(|c: char| c.is_control()), "{flaw}");
}

/// Whatever text there is, it makes one field and reads back but for what no message can hold.
fn written(text: &str) {
    for charset in ["", "8859/1", "UNICODE UTF-8"] {
        let rows = vec![header().text(10, "1"), Row::new("NTE").parts(3, &["a", text, "b"])];
        let bytes = encoded(rows, Charset::named(charset).expect("known"));
        let back = Message::parse(&bytes, 2).expect("two segments");
        let field = back.segment("NTE").expect("there").field(3);
        let plain = text.replace("\r\n", "\n").replace('\r', "\n");
        let plain: String = plain.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
        assert_eq!(field.component(1).text(), "a");
        assert_eq!(field.component(2).text(), plain.trim());
        assert_eq!(field.component(3).text(), "b");
    }
    let again = framed(text.as_bytes());
    assert!(again.starts_with(b"\x0B") && again.ends_with(b"\x1C\r"));
}
