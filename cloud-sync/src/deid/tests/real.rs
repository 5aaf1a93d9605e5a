//! Files of other people: pydicom's and TotalSegmentator's, as `cargo xtask assets` brings them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::{Head, Pixels};
use super::*;

/// A folder of the assets; nothing where they are not there, which in CI is a failure.
fn assets(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/assets").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    let ci = std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()));
    assert!(!ci, "{folder}: run `cargo xtask assets`");
    eprintln!("skipped: {folder} is not there; run `cargo xtask assets`");
    None
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

/// What would be released of everything: heads too, so that more files say something.
fn lenient(name: &str) -> Profile {
    Profile { pixels: Pixels { head: Head::Allow, ..profile(name).pixels }, ..profile(name) }
}

#[test]
fn the_totalsegmentator_series_keeps_its_pixels_and_loses_its_leftovers() {
    let Some(folder) = assets("totalsegmentator/example_ct_dicom") else { return };
    let by = with(lenient("qa-minimal"));
    let leftovers = [
        "Petersgraben",
        "Basel",
        "QR_SNOWFOX",
        "PETCT2",
        "60064",
        "20221208",
        "30543134",
        "NM20221208140055",
        "756.5.30",
        "1.3.12.2.1107.5.1.4",
    ];
    let mut series = BTreeSet::new();
    for path in files(&folder) {
        let source = std::fs::read(&path).expect("readable");
        let instance = by.deidentify_file(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let out = Out::of(&instance);
        for leftover in leftovers {
            assert!(!out.holds(leftover), "{}: {leftover}", path.display());
        }
        let pixels = |bytes: &[u8]| {
            bytes.windows(8).rposition(|w| w.starts_with(&[0xE0, 0x7F, 0x10, 0x00])).map(|at| bytes[at..].to_vec())
        };
        assert_eq!(pixels(instance.as_bytes()), pixels(&source), "pixels as they were");
        series.insert(out.text(tags::FRAME_OF_REFERENCE_UID));
    }
    assert_eq!(series.len(), 1, "one frame of reference before and after");
}

#[test]
fn names_in_every_character_set_are_gone() {
    let Some(folder) = assets("pydicom/charset_files") else { return };
    // Captures, which would be held for their pixels: what is of interest is their text.
    let by = with(profile("metadata-only"));
    let mut released = 0;
    for path in files(&folder).iter().filter(|path| path.extension().is_some_and(|e| e == "dcm")) {
        let source = std::fs::read(path).expect("readable");
        let (meta, start) = parse::meta(&source, &super::super::Limits::default()).expect("meta");
        let syntax = Syntax::of(ascii(find(&meta, tags::TRANSFER_SYNTAX_UID))).expect("known");
        let set = parse::data_set(&source, start, syntax.encoding, &super::super::Limits::default()).expect("readable");
        let name = find(&set, tags::PATIENT_NAME).map(|e| e.bytes().to_vec()).unwrap_or_default();
        let parts: Vec<&[u8]> = name.split(|b| b"^= \0".contains(b)).filter(|part| part.len() >= 3).collect();
        let instance = by.deidentify_bytes(source.clone()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        released += 1;
        for part in parts {
            let found = instance.as_bytes().windows(part.len()).any(|w| w == part);
            assert!(!found, "{}: a part of the name is left", path.display());
        }
    }
    assert!(released >= 16, "{released} released");
}

/// Pairs of files and UIDs, with each UID replaced by its place in the order in which they come.
fn shape(files: &[Vec<String>]) -> Vec<Vec<usize>> {
    let mut known = BTreeMap::new();
    let mut number = |uid: &String| {
        let next = known.len();
        *known.entry(uid.clone()).or_insert(next)
    };
    files.iter().map(|uids| uids.iter().map(&mut number).collect()).collect()
}

fn uids_in(set: &DataSet<'_>, found: &mut Vec<String>) {
    for element in set {
        match &element.value {
            Value::Items(items, _) => items.iter().for_each(|item| uids_in(&item.elements, found)),
            _ if element.vr == VR::UI && element.tag.0 % 2 == 0 => found.push(ascii(Some(element)).to_owned()),
            _ => {}
        }
    }
}

#[test]
fn real_files_of_all_kinds_are_released_without_names_or_held_for_a_reason() {
    let Some(folder) = assets("pydicom/test_files") else { return };
    let by = with(lenient("retraining"));
    let (mut before, mut after, mut released) = (Vec::new(), Vec::new(), Vec::new());
    for path in files(&folder).iter().filter(|path| path.extension().is_some_and(|e| e == "dcm")) {
        let source = std::fs::read(path).expect("readable");
        let instance = match by.deidentify_bytes(source.clone()) {
            Ok(instance) => instance,
            Err(held) => {
                println!("{}: {held}", path.display());
                continue;
            }
        };
        released.push(path.file_name().expect("named").to_string_lossy().into_owned());
        let limits = super::super::Limits::default();
        let (meta, start) = parse::meta(&source, &limits).expect("meta");
        let syntax = Syntax::of(ascii(find(&meta, tags::TRANSFER_SYNTAX_UID))).expect("known");
        let out = Out::of(&instance);
        if syntax.deflated {
            continue;
        }
        let set = parse::data_set(&source, start, syntax.encoding, &limits).expect("readable");
        let mut subject = super::super::Subject::of(&meta, &set, by.profile());
        subject.words.retain(|word| word.chars().count() >= 5);
        let left = out
            .set()
            .iter()
            .filter(|e| e.vr == VR::LO || e.vr == VR::PN)
            .any(|e| super::super::text::names(&String::from_utf8_lossy(e.bytes()), &subject));
        assert!(!left, "{}", path.display());
        // Only what is there before and after can be compared.
        let (mut old, mut new) = (Vec::new(), Vec::new());
        uids_in(&set.into_iter().filter(|e| find(&out.set(), e.tag).is_some()).collect(), &mut old);
        uids_in(&out.set(), &mut new);
        if old.len() == new.len() {
            before.push(old);
            after.push(new);
        }
    }
    for file in ["CT_small.dcm", "MR_small.dcm", "waveform_ecg.dcm", "rtplan.dcm", "rtdose.dcm", "reportsi.dcm"] {
        assert!(released.iter().any(|name| name == file), "{file} is held; released: {released:?}");
    }
    assert!(before.len() >= 5);
    assert_eq!(shape(&before), shape(&after), "the graph of UIDs is the same");
}
