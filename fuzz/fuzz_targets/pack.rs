//! A package in one file, from a stranger.
//!
//! What holds for all bytes: they are a pack, or there is an error; what is held on the way is bounded; nothing is written but into the
//! folder that was named, whole or not at all and within the limits; what was unpacked is the same pack when it is packed again.
//! Input: a byte that says whether the pack itself follows, or names and bytes of files, of which one with sound headers and digests
//! is made.

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gantry_fuzz::config::Limits;
use gantry_fuzz::inference::Turn;
use gantry_fuzz::module::files::Files;
use gantry_fuzz::module::pack::{self, Pack};
use gantry_fuzz::module::package::Package;
use gantry_fuzz::{heap, hex};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

const MIB: u64 = 1 << 20;
/// Of a package.
const FILES_MAX: usize = 6;
const HELD_MAX_BYTES: usize = 16 << 20;
const BLOCK: usize = 512;

/// One folder for all inputs.
static FOLDER: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("gantry-fuzz-pack-{}", std::process::id())));

fuzz_target!(|input: &[u8]| {
    let (kind, rest) = input.split_first().unwrap_or((&0, &[]));
    let bytes = if kind.is_multiple_of(2) { rest.to_vec() } else { made(rest, kind % 4 == 1) };
    let _ = fs::remove_dir_all(&*FOLDER);
    fs::create_dir_all(FOLDER.join("into")).expect("a temporary folder");
    let file = FOLDER.join("x.gantry");
    fs::write(&file, &bytes).expect("written");
    let ((), held) = heap::peak(|| look(&file, &bytes));
    assert!(held < HELD_MAX_BYTES, "{held} bytes");
    assert_eq!(names(&FOLDER), ["into", "x.gantry"], "nothing leads out");
});

fn look(file: &Path, bytes: &[u8]) {
    let limits = Limits {
        package_files_max: FILES_MAX,
        package_max_mib: 1,
        component_max_mib: 1,
        model_max_mib: 1,
        ..Limits::default()
    };
    if let Ok(package) = Package::open(file) {
        let _ = package.component(limits.component_max_mib);
        for model in &package.manifest().models {
            let _ = package.model(&model.name, limits.model_max_mib);
        }
    }
    let Ok(pack) = Pack::open(file) else { return };
    let (into, turn) = (FOLDER.join("into"), Turn::default());
    let to = into.join("package");
    if pack.unpack(&to, &limits, &turn).is_err() {
        assert!(names(&into).is_empty(), "what is no package leaves nothing");
        return;
    }
    assert_eq!(names(&into), ["package"]);
    let entries = pack.entries();
    assert!(entries.len() <= FILES_MAX && entries.iter().map(|entry| entry.bytes).sum::<u64>() <= MIB);
    let files = Files::Folder(to);
    let listed = files.list().expect("files and folders alone");
    assert!(listed.iter().eq(entries.iter().map(|entry| &entry.path)), "{listed:?} of {entries:?}");
    let again = into.join("again");
    pack::write(&files, &BTreeMap::new(), &again, &limits, &turn).expect("it was one");
    assert!(fs::read(again).expect("written") == bytes, "there are two packs of {listed:?}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A pack of files, each a name and bytes, both behind a byte that says how many there are. A single 0xff is a MiB of them.
fn made(mut input: &[u8], sorted: bool) -> Vec<u8> {
    let mut files = Vec::new();
    while let Some(name) = taken(&mut input) {
        let bytes = match taken(&mut input).unwrap_or_default() {
            [0xff] => vec![0xff; MIB as usize],
            some => some.to_vec(),
        };
        files.push((String::from_utf8_lossy(name).into_owned(), bytes));
    }
    if sorted {
        files.sort();
        files.dedup_by(|a, b| a.0 == b.0);
    }
    let sums = files.iter().map(|(name, bytes)| format!("{}  {name}\n", hex(&Sha256::digest(bytes))));
    let sums = ("SHA256SUMS".to_owned(), sums.collect::<String>().into_bytes());
    let mut pack = Vec::new();
    for (name, bytes) in std::iter::once(&sums).chain(&files) {
        pack.extend_from_slice(&header(name, bytes.len()));
        pack.extend_from_slice(bytes);
        pack.resize(pack.len().next_multiple_of(BLOCK), 0);
    }
    pack.resize(pack.len() + 2 * BLOCK, 0);
    pack
}

fn taken<'i>(input: &mut &'i [u8]) -> Option<&'i [u8]> {
    let (length, rest) = input.split_first()?;
    let (taken, rest) = rest.split_at(usize::from(*length).min(rest.len()));
    *input = rest;
    Some(taken)
}

/// Of ustar, cut where a name is too long for it.
fn header(name: &str, bytes: usize) -> [u8; BLOCK] {
    let name = name.as_bytes();
    let slash = name.iter().enumerate().position(|(at, byte)| *byte == b'/' && name.len() - at <= 101);
    let (prefix, name) = match slash {
        Some(at) if name.len() > 100 => (&name[..at], &name[at + 1..]),
        _ => (&name[..0], name),
    };
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name[..name.len().min(100)]);
    put(100, b"0000644\x000000000\x000000000\0");
    put(124, format!("{bytes:011o}\x0000000000000\0        0").as_bytes());
    put(257, b"ustar\x0000");
    put(329, b"0000000\x000000000");
    put(345, &prefix[..prefix.len().min(155)]);
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
