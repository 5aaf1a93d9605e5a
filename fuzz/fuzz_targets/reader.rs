//! A DICOM file that a stranger sent, behind its preamble.
//!
//! What holds for all bytes: it is read, shown, decoded and written anew, or there is an error, soon; what is held on the way is
//! bounded by the limits and not by what the file says; what is written anew is read again.

#![no_main]

use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use gantry_fuzz::heap;
use gantry_fuzz::memory::Budget;
use gantry_fuzz::study::{self, ReadOptions};
use libfuzzer_sys::fuzz_target;

/// Limits are of one of these. Decoders of compressed images take up to 16 MiB before they look at how much they are given.
const MIB: usize = 1 << 20;
const HELD_MAX_BYTES: usize = 96 * MIB;

/// One file for all inputs.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("gantry-fuzz-{}.dcm", std::process::id())));

fuzz_target!(|input: &[u8]| {
    let options = ReadOptions {
        file_max_mib: 1,
        files_max: 10,
        volume_max_mib: 1,
        header_max_mib: 1,
        elements_max: 10_000,
        ..ReadOptions::default()
    };
    write(input);
    let ((), held) = heap::peak(|| file(&options));
    assert!(held < HELD_MAX_BYTES, "{held} bytes");
});

fn write(input: &[u8]) {
    let mut file = std::fs::File::create(&*FILE).expect("a temporary file");
    file.write_all(&[0; 128]).expect("written");
    file.write_all(b"DICM").expect("written");
    file.write_all(input).expect("written");
}

fn file(options: &ReadOptions) {
    let _ = study::inspect(&FILE, options);
    if let Ok(kept) = study::keep(&FILE, options) {
        let _ = (kept.can_be_shown(), kept.window());
        for number in 1..=kept.frames().unwrap_or(0).min(3) {
            if let Ok(Some(frame)) = kept.frame(number, options) {
                let _ = (frame.shown(), frame.decoded());
            }
        }
    }
    if let Ok(mut rewrite) = study::rewrite(&FILE, options) {
        while let Ok(Some(_)) = rewrite.piece(options) {}
    }
    if let Ok(study) = study::read(std::slice::from_ref(&*FILE), options) {
        for series in &study.series {
            let _ = (series.decode(0, &Budget::unlimited(), options), series.suv_factor());
        }
    }
}
