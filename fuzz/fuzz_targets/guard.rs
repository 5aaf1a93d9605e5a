//! The guard on a stream of PDUs, read through in pieces of any size, against a walk over the whole stream.
//!
//! What holds for all bytes: no byte behind a PDU that must not pass is handed on, none before it is held back or changed,
//! and it costs no memory. Input: sizes of pieces, two bytes for the limit, the stream.

#![no_main]

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use gantry_fuzz::guard::{ASSOCIATE_MAX_BYTES, Guard, Stopped};
use gantry_fuzz::heap;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, ReadBuf};

/// More than an error takes.
const MEMORY_MAX_BYTES: usize = 1024;

fuzz_target!(|input: &[u8]| {
    let (sizes, rest) = gantry_fuzz::sizes_and_rest(input);
    let Some(([high, low], stream)) = rest.split_first_chunk() else { return };
    let limit = u32::from(u16::from_be_bytes([*high, *low]));
    let mut passed = Vec::with_capacity(stream.len());
    let mut buffer = vec![0; 512];
    let (outcome, held) = heap::peak(|| {
        let mut guard = Guard::new(Wire { rest: stream, sizes, turn: 0 }, limit);
        let outcome = read_on(&mut guard, &mut buffer, &mut passed);
        if outcome.is_ok() {
            assert_eq!(guard.bytes(), stream.len() as u64);
        }
        outcome
    });
    assert!(stream.starts_with(&passed), "what passes is what came");
    assert!(held <= MEMORY_MAX_BYTES, "held {held} bytes");
    match (outcome, stops_at(stream, limit)) {
        (Ok(()), None) => assert_eq!(passed.len(), stream.len()),
        (Err(piece), Some(at)) => {
            assert!((passed.len()..passed.len() + piece).contains(&at), "{at} is not in {}..+{piece}", passed.len());
        }
        (outcome, at) => panic!("the guard says {outcome:?}, the stream is to stop at {at:?}"),
    }
});

/// Reads to the end, or to the refusal: the size of the piece in which it was.
fn read_on(guard: &mut Guard<Wire<'_>>, buffer: &mut [u8], passed: &mut Vec<u8>) -> Result<(), usize> {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let before = guard.bytes();
        let mut piece = ReadBuf::new(buffer);
        match Pin::new(&mut *guard).poll_read(&mut context, &mut piece) {
            Poll::Pending => assert_eq!(guard.bytes(), before),
            Poll::Ready(Ok(())) if piece.filled().is_empty() => return Ok(()),
            Poll::Ready(Ok(())) => passed.extend_from_slice(piece.filled()),
            Poll::Ready(Err(e)) => {
                assert!(e.get_ref().is_some_and(|reason| reason.is::<Stopped>()), "{e}");
                return Err(piece.filled().len());
            }
        }
    }
}

/// Where a stream must stop: the type that cannot stand there, or the last byte of a length over its limit. By PS3.8
/// section 9.3.1, without the guard's code.
fn stops_at(stream: &[u8], limit: u32) -> Option<usize> {
    let mut at = 0;
    loop {
        let kind = *stream.get(at)?;
        let may_come = if at == 0 { [1, 2, 3, 7].contains(&kind) } else { (1..=7).contains(&kind) };
        if !may_come {
            return Some(at);
        }
        let length = stream.get(at + 2..at + 6)?;
        let length = length.iter().fold(0_u32, |length, byte| length << 8 | u32::from(*byte));
        let most = match kind {
            1 | 2 => ASSOCIATE_MAX_BYTES,
            4 => limit,
            _ => 64,
        };
        if length > most {
            return Some(at + 5);
        }
        at += 6 + usize::try_from(length).expect("a length fits");
    }
}

/// Gives pieces of these sizes; a size of 0 means that nothing is there yet.
struct Wire<'a> {
    rest: &'a [u8],
    sizes: &'a [u8],
    turn: usize,
}

impl AsyncRead for Wire<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        // Each is followed by a piece without a size of its own: a wire that is never ready ends nothing.
        let named = if this.sizes.is_empty() { None } else { this.sizes.get(this.turn % (this.sizes.len() + 1)) };
        this.turn += 1;
        let size = match named {
            Some(0) => return Poll::Pending,
            Some(size) => usize::from(*size),
            None => usize::MAX,
        };
        let (piece, rest) = this.rest.split_at(size.min(buf.remaining()).min(this.rest.len()));
        buf.put_slice(piece);
        this.rest = rest;
        Poll::Ready(Ok(()))
    }
}
