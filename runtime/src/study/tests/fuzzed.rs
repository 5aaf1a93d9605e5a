//! Every real file, damaged in the ways in which files are: an image or an error that says what is wrong, soon, and in memory
//! that is bounded. The same damage on each run.

use std::time::{Duration, Instant};

use super::hostile::most_memory;
use super::*;

/// How often each file is damaged.
const TIMES: u64 = 20;
/// Larger ones are left out: damage in them is in their pixels.
const FILE_MAX_BYTES: u64 = 128 << 10;
/// What one file may take; far above what it takes.
const FILE_MAX: Duration = Duration::from_secs(10);
/// What all may take beside what the process has at first. One image is `volume_max_mib` at most, its decoder a few times that.
const MEMORY_MAX_BYTES: usize = 640 << 20;

/// Numbers that follow from the first (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Sizes at which something ends.
const EXTREMES: [u32; 12] =
    [0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF];
const VRS: [&[u8; 2]; 12] = [b"SQ", b"UN", b"OB", b"OW", b"OF", b"OD", b"UT", b"US", b"DS", b"IS", b"FD", b"ZZ"];
/// Of image pixel, multi-frame and modality LUT modules: what sizes are computed from.
const COUNTS: [u16; 10] = [0x0002, 0x0006, 0x0008, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103, 0x3002];

/// Damages `bytes`, all of it behind the preamble.
fn damage(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let start = 132.min(bytes.len().saturating_sub(1));
    let anywhere = |numbers: &mut Numbers, bytes: &[u8]| start + numbers.below(bytes.len() - start);
    match numbers.below(8) {
        0 => {
            for _ in 0..=numbers.below(16) {
                let at = anywhere(numbers, bytes);
                bytes[at] ^= 1 << numbers.below(8);
            }
        }
        1 => bytes.truncate(anywhere(numbers, bytes)),
        2 => {
            // A length or a count, wherever one is.
            let (at, wide) = (anywhere(numbers, bytes), numbers.below(2) == 0);
            let value = numbers.one(&EXTREMES).to_le_bytes();
            let value = if wide { &value[..] } else { &value[..2] };
            for (to, byte) in bytes[at..].iter_mut().zip(value) {
                *to = *byte;
            }
        }
        3 => {
            let vr = |pair: &[u8]| pair.iter().all(u8::is_ascii_uppercase);
            let places: Vec<usize> = (start..bytes.len() - 1).filter(|at| vr(&bytes[*at..*at + 2])).collect();
            if !places.is_empty() {
                let at = numbers.one(&places);
                bytes[at..at + 2].copy_from_slice(numbers.one(&VRS).as_slice());
            }
        }
        4 => {
            let sequence = [0x08, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
            let item = [0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
            let nested = [&sequence[..], &item].concat().repeat(1 + numbers.below(300));
            let at = anywhere(numbers, bytes);
            bytes.splice(at..at, nested);
        }
        5 => {
            let tag = [&[0x28, 0x00][..], &numbers.one(&COUNTS).to_le_bytes()].concat();
            if let Some(at) = bytes.windows(8).position(|w| w.starts_with(&tag)) {
                let value = numbers.one(&EXTREMES).to_le_bytes();
                for (to, byte) in bytes[at + 8..].iter_mut().zip(&value[..2]) {
                    *to = *byte;
                }
            }
        }
        6 => {
            let (from, to) = (anywhere(numbers, bytes), anywhere(numbers, bytes));
            let piece = bytes[from..bytes.len().min(from + 1 + numbers.below(64))].to_vec();
            bytes.splice(to..to, piece);
        }
        _ => {
            // The header of a codestream, where there is one.
            let pixels = bytes.windows(4).rposition(|w| w == [0xE0, 0x7F, 0x10, 0x00]).unwrap_or(start);
            let at = (pixels + 12 + numbers.below(200)).min(bytes.len() - 1);
            bytes[at] = numbers.one(&[0, 1, 0x11, 0x7F, 0x80, 0xC3, 0xFE, 0xFF]);
        }
    }
}

#[test]
fn damaged_files_are_an_image_or_an_error_within_time_and_memory() {
    let mut files = Vec::new();
    for folder in ["pydicom/test_files", "pydicom/charset_files", "pydicom-data"] {
        let Some(folder) = assets(folder) else { return };
        let all = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().flatten();
        let small = |entry: &walkdir::DirEntry| {
            entry.metadata().is_ok_and(|m| m.is_file() && (1000..=FILE_MAX_BYTES).contains(&m.len()))
        };
        files.extend(all.filter(small).map(walkdir::DirEntry::into_path));
    }
    assert!(files.len() > 150, "{} files", files.len());
    let before = most_memory();
    for (number, path) in files.iter().enumerate() {
        let whole = std::fs::read(path).expect("the file");
        for time in 0..TIMES {
            let seed = (number as u64 + 1) << 8 | (time + 1);
            let mut numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut bytes = whole.clone();
            for _ in 0..=numbers.below(3) {
                if bytes.len() > 140 {
                    damage(&mut bytes, &mut numbers);
                }
            }
            let since = Instant::now();
            hostile::survives(&bytes);
            assert!(since.elapsed() < FILE_MAX, "{}, damage {time}: {:?}", path.display(), since.elapsed());
        }
    }
    // Alone in its process under nextest.
    let more = most_memory().saturating_sub(before);
    assert!(more < MEMORY_MAX_BYTES, "{more} bytes");
}

/// A few hundred bytes that say that they are an image of gigabytes.
#[test]
fn a_small_file_does_not_become_a_large_image() {
    let side = 60_000u16;
    let [high, low] = side.to_be_bytes();
    let jpeg = |marker: u8, precision: u8| {
        let frame = [0xFF, marker, 0, 11, precision, high, low, high, low, 1, 1, 0x11, 0];
        [&[0xFF, 0xD8][..], &frame, &[0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, 0, 1, 2, 3, 0xFF, 0xD9]].concat()
    };
    let mut long = jpeg_2000_of(side);
    long.extend([0xFF, 0xD9]);
    let rle = [&[1, 0, 0, 0, 64, 0, 0, 0][..], &[0; 56], &[0x81, 7, 0x81, 7]].concat();
    let before = most_memory();
    for (ts, stream) in [
        (uids::JPEG_BASELINE8_BIT, jpeg(0xC0, 8)),
        (uids::JPEG_LOSSLESS_SV1, jpeg(0xC3, 8)),
        (uids::JPEGLS_LOSSLESS, jpeg(0xF7, 8)),
        (uids::JPEG2000_LOSSLESS, long),
        (uids::JPEGXL_LOSSLESS, vec![0xFF, 0x0A, 0xFC, 0x52, 0x27, 0x30, 0x08, 0]),
        (uids::RLE_LOSSLESS, rle),
    ] {
        let object = changed(|o| {
            for (tag, value) in [
                (tags::ROWS, side),
                (tags::COLUMNS, side),
                (tags::BITS_ALLOCATED, 8),
                (tags::BITS_STORED, 8),
                (tags::HIGH_BIT, 7),
                (tags::PIXEL_REPRESENTATION, 0),
            ] {
                set_us(o, tag, value);
            }
            encapsulate(o, &[&stream]);
        });
        let folder = Folder::new();
        let path = folder.add_as("a.dcm", &object, ts);
        let options = ReadOptions { volume_max_mib: 16 << 10, ..options() };
        let kept = keep(&path, &options).expect("a header");
        let frame = kept.frame(1, &options).expect("read").expect("a frame");
        let error = frame.decoded().expect_err("refused").to_string();
        says(&error, &["a.dcm", "damaged", "bytes of compressed pixel data for an image of"]);
    }
    let more = most_memory().saturating_sub(before);
    assert!(more < 64 << 20 || cfg!(not(target_os = "linux")), "{more} bytes");
}

/// The header of a codestream of this many rows and columns, and the start of a tile.
fn jpeg_2000_of(side: u16) -> Vec<u8> {
    let mut stream = pixels::jpeg_2000();
    stream.truncate(stream.len() - 2);
    for at in [8, 12, 24, 28] {
        stream[at..at + 4].copy_from_slice(&u32::from(side).to_be_bytes());
    }
    stream
}
