//! Components written by hand, in the binary format of the component model: what no compiler makes of Rust.
//!
//! Each exports `analyze: func() -> result<_, string>`, imports nothing, and is one core module: a function that it starts with, one
//! that answers, one that is called after the answer was read, a table, and a memory whose first bytes are given.

use gantry_tests::guests::{End, Guest, guest};

/// What its three functions do, and what its memory begins with.
struct Handmade {
    start: &'static [u8],
    analyze: &'static [u8],
    after: &'static [u8],
    data: Vec<u8>,
}

/// `i32.const 0`: where the answer lies.
const AT_0: &[u8] = &[0x41, 0];
const UNREACHABLE: &[u8] = &[0];
/// `loop br 0 end`.
const FOREVER: &[u8] = &[0x03, 0x40, 0x0c, 0, 0x0b];
/// `loop (table.grow 0 (ref.null func) (i32.const 1000)) (i32.const -1) i32.ne br_if 0 end unreachable`.
const GROW_TABLE: &[u8] =
    &[0x03, 0x40, 0xd0, 0x70, 0x41, 0xe8, 0x07, 0xfc, 0x0f, 0, 0x41, 0x7f, 0x47, 0x0d, 0, 0x0b, 0];
/// `i32.const 0x7ffffff0`.
const AT_2_GIB: &[u8] = &[0x41, 0xf0, 0xff, 0xff, 0xff, 0x07];
/// `i32.const 1`.
const AT_1: &[u8] = &[0x41, 1];

/// An answer in memory: which case, and where the text of an error lies.
fn answer(case: u32, at: u32, length: u32, text: &[u8]) -> Vec<u8> {
    [&case.to_le_bytes()[..], &at.to_le_bytes(), &length.to_le_bytes(), &[0; 4], text].concat()
}

pub(super) fn all() -> Vec<Guest> {
    let well = || Handmade { start: &[], analyze: AT_0, after: &[], data: answer(0, 0, 0, b"") };
    let of = |name, end, handmade: Handmade| Guest { component: Some(handmade.component()), ..guest(name, end) };
    let late = End::Limit("job_deadline_ms");
    let outside = End::Trap("out of bounds of memory");
    vec![
        of("nothing", End::Done, well()),
        of("table-growth", End::Limit("guest_table_elements_max"), Handmade { analyze: GROW_TABLE, ..well() }),
        of("start-traps", End::Trap("unreachable"), Handmade { start: UNREACHABLE, ..well() }),
        of("start-loops", late, Handmade { start: FOREVER, ..well() }).with_little_time(),
        of("post-return-traps", End::Trap("unreachable"), Handmade { after: UNREACHABLE, ..well() }),
        of("post-return-loops", late, Handmade { after: FOREVER, ..well() }).with_little_time(),
        of("answer-outside", outside, Handmade { analyze: AT_2_GIB, ..well() }),
        of("answer-askew", End::Trap("not aligned"), Handmade { analyze: AT_1, ..well() }),
        of("answer-of-no-case", End::Trap("discriminant"), Handmade { data: answer(7, 0, 0, b""), ..well() }),
        of("error-outside", outside, Handmade { data: answer(1, 16, u32::MAX, b""), ..well() }),
        of("error-that-is-no-text", End::Trap("utf-8"), Handmade { data: answer(1, 16, 2, b"\xff\xff"), ..well() }),
    ]
}

impl Handmade {
    fn component(&self) -> Vec<u8> {
        let aliases = [
            vec![3],
            [&[0, 0, 1, 0][..], &bytes(b"analyze")].concat(),
            [&[0, 0, 1, 0][..], &bytes(b"after")].concat(),
            [&[0, 2, 1, 0][..], &bytes(b"memory")].concat(),
        ];
        [
            b"\0asm\x0d\0\x01\0".to_vec(),
            section(1, &self.module()),
            // Instantiates it.
            section(2, &[1, 0, 0, 0]),
            section(6, &aliases.concat()),
            // `result<_, string>`, and the function that gives it.
            section(7, &[2, 0x6a, 0, 1, 0x73, 0x40, 0, 0, 0]),
            // Lifted: with UTF-8, the memory, and what comes after.
            section(8, &[1, 0, 0, 0, 3, 0, 3, 0, 5, 1, 1]),
            section(11, &[&[1, 0][..], &bytes(b"analyze"), &[1, 0, 0]].concat()),
        ]
        .concat()
    }

    fn module(&self) -> Vec<u8> {
        let export = |name: &[u8], kind: u8, index: u8| [&bytes(name)[..], &[kind, index]].concat();
        let body = |code: &[u8]| bytes(&[&[0], code, &[0x0b]].concat());
        [
            b"\0asm\x01\0\0\0".to_vec(),
            // None to none, none to i32, i32 to none.
            section(1, &[3, 0x60, 0, 0, 0x60, 0, 1, 0x7f, 0x60, 1, 0x7f, 0]),
            section(3, &[3, 0, 1, 2]),
            section(4, &[1, 0x70, 0, 1]),
            section(5, &[1, 0, 1]),
            section(
                7,
                &[&[3][..], &export(b"analyze", 0, 1), &export(b"after", 0, 2), &export(b"memory", 2, 0)].concat(),
            ),
            section(8, &[0]),
            section(10, &[&[3][..], &body(self.start), &body(self.analyze), &body(self.after)].concat()),
            section(11, &[&[1, 0, 0x41, 0, 0x0b][..], &bytes(&self.data)].concat()),
        ]
        .concat()
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &bytes(content)].concat()
}

/// With their length before them.
fn bytes(content: &[u8]) -> Vec<u8> {
    let mut length = content.len();
    let mut out = Vec::new();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    [&out, content].concat()
}
