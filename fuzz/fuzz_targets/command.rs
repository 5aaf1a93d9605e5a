//! A command set, as a peer sends it.
//!
//! What holds for all bytes: they are refused, or read into a command whose response reads back as what was answered;
//! what we write ourselves reads back as written; memory stays within a multiple of what came.

#![no_main]

use gantry_fuzz::command::{Command, Status};
use gantry_fuzz::heap;
use libfuzzer_sys::fuzz_target;

/// Numbers from PS3.7 annex E, not from the code: C-FIND-RQ, N-ACTION-RQ and N-EVENT-REPORT-RQ.
const FIND: u16 = 0x0020;
const ACTION: u16 = 0x0130;
const EVENT_REPORT: u16 = 0x0100;

fuzz_target!(|bytes: &[u8]| {
    let (command, held) = heap::peak(|| Command::parse(bytes));
    // What is no UTF-8 takes three bytes for one, twice while it is trimmed; 256 elements take the rest.
    assert!(held <= 8 * bytes.len() + (32 << 10), "held {held} bytes for {}", bytes.len());
    let Ok(command) = command else { return };

    let comment = String::from_utf8_lossy(bytes);
    for status in [Status::success(), Status::failure(command.message_id | 0x8000, &comment)] {
        assert!(status.comment.len() <= 64 && status.comment.bytes().all(|b| (0x20..0x7F).contains(&b) && b != b'\\'));
        let response = command.response(&status);
        check_form(&response);
        let answer = Command::parse(&response).expect("what we write is sound");
        assert_eq!(answer, expected(&command, status.code));
        assert!(answer.is_response());
    }

    let question = Command::find(command.message_id, &command.class);
    check_form(&question);
    let read = Command::parse(&question).expect("what we write is sound");
    assert_eq!((read.field, read.message_id, &read.class), (FIND, command.message_id, &command.class));

    let report = Command::event_report(command.message_id, &command.class, &command.instance, command.field);
    check_form(&report);
    let read = Command::parse(&report).expect("what we write is sound");
    let written =
        Command { field: EVENT_REPORT, has_data_set: true, kind: Some(command.field), status: None, ..command };
    assert_eq!(read, written);
});

fn expected(request: &Command, status: u16) -> Command {
    let uid = |text: &str| text.len() <= 64 && text.chars().all(|c| matches!(c, '0'..='9' | '.'));
    let said_back = |text: &str| if uid(text) { text.to_owned() } else { String::new() };
    Command {
        field: request.field | 0x8000,
        message_id: request.message_id,
        has_data_set: false,
        class: said_back(&request.class),
        instance: said_back(&request.instance),
        kind: if request.field == ACTION { request.kind } else { None },
        status: Some(status),
    }
}

/// Group length first and right, then elements in order, each with an even length (PS3.7 section 6.3.1).
fn check_form(set: &[u8]) {
    let (length, mut rest) = set.split_at_checked(12).expect("a group length");
    assert_eq!(length[..8], [0, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(length[8..], u32::try_from(rest.len()).expect("short").to_le_bytes());
    let mut last = 0;
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let element = u16::from_le_bytes([header[2], header[3]]);
        assert!(header[..2] == [0, 0] && element > last, "ascending elements of group 0000");
        last = element;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        assert_eq!(length % 2, 0);
        rest = &after[usize::try_from(length).expect("fits")..];
    }
    assert!(rest.is_empty());
}
