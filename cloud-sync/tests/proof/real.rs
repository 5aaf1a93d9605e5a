//! Real files: what is released of them is proven clean, and what is held says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::table::secret;
use dicom_core::Tag;
use gantry_cloud_sync::deid::{Action, Deidentifier, Profile};
use gantry_cloud_sync::verify::{Limits, Retain, Unproven, Verifier};

/// What became of files of a set under a profile.
#[derive(Debug, Default)]
struct Fates {
    released: usize,
    held: BTreeMap<String, usize>,
    leaks: Vec<String>,
    unverifiable: Vec<String>,
}

fn files(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder of the assets")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file() && path.file_name().and_then(|name| name.to_str()).is_some_and(wanted))
        .collect();
    found.sort();
    found
}

fn fates(files: &[PathBuf], profile: &Profile) -> Fates {
    let deidentifier = Deidentifier::new(profile.clone(), secret());
    let mut fates = Fates::default();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).expect("names of assets are text");
        let source = std::fs::read(path).expect("an asset");
        let output = match deidentifier.deidentify_file(path) {
            Ok(output) => output,
            Err(held) => {
                *fates.held.entry(held.to_string()).or_default() += 1;
                continue;
            }
        };
        let mut verifier = Verifier::new(Retain::from(profile), Limits::default());
        let scanner = verifier.add_source(&source).and_then(|()| verifier.scanner());
        match scanner.map(|scanner| scanner.prove_instance(output.as_bytes())) {
            Ok(Ok(proof)) => {
                assert!(proof.identifiers() > 0);
                fates.released += 1;
            }
            Ok(Err(Unproven::Leaks(leaks))) => fates.leaks.extend(leaks.iter().map(|leak| format!("{name}: {leak}"))),
            Ok(Err(why)) => fates.unverifiable.push(format!("{name}: {why}")),
            Err(why) => fates.unverifiable.push(format!("{name}: the source {why}")),
        }
    }
    fates
}

const PROFILES: [&str; 4] = ["basic", "qa-minimal", "retraining", "metadata-only"];

/// Runs a set through the presets; nothing of it may leak, and so many files at least must get through.
fn check(files: &[PathBuf], least: [usize; 4]) {
    for (name, least) in PROFILES.into_iter().zip(least) {
        let fates = fates(files, &Profile::preset(name).expect("a preset"));
        println!("{name}: {} of {} released; {:?}; {:?}", fates.released, files.len(), fates.held, fates.unverifiable);
        assert!(fates.leaks.is_empty(), "{name} leaks: {:#?}", fates.leaks);
        assert!(
            fates.released >= least,
            "{name}: only {} of {} were released: {fates:#?}",
            fates.released,
            files.len()
        );
    }
}

/// A CT that somebody de-identified badly: names of places, staff and devices were left in it.
#[test]
fn the_totalsegmentator_series_is_cleaned_of_what_was_left() {
    let Some(folder) = crate::asset("totalsegmentator/example_ct_dicom") else { return };
    let files = files(&folder, &|name| name.starts_with("CT."));
    assert_eq!(files.len(), 20);
    check(&files, [20; 4]);
}

#[test]
fn names_in_many_character_sets_are_found_and_gone() {
    let Some(folder) = crate::asset("pydicom/charset_files") else { return };
    let files = files(&folder, &|name| name.ends_with(".dcm"));
    assert!(files.len() >= 17);
    check(&files, [0; 4]);
}

#[test]
fn waveforms_and_private_elements_are_cleaned() {
    let Some(folder) = crate::asset("pydicom/test_files") else { return };
    let wanted =
        ["waveform_ecg.dcm", "nested_priv_SQ.dcm", "priv_SQ.dcm", "UN_sequence.dcm", "test-SR.dcm", "reportsi.dcm"];
    let files = files(&folder, &|name| wanted.contains(&name));
    assert_eq!(files.len(), wanted.len());
    check(&files, [0; 4]);
}

#[test]
fn whatever_pydicom_tests_with_is_proven_or_held() {
    let Some(folder) = crate::asset("pydicom/test_files") else { return };
    let files = files(&folder, &|name| name.ends_with(".dcm"));
    assert!(files.len() > 70);
    check(&files, [0; 4]);
}

/// Ultrasound with text in its pixels: what is released of it has lost what lies outside of its regions.
#[test]
fn burned_in_ultrasound_is_masked_or_held() {
    let Some(folder) = crate::asset("pydicom-data") else { return };
    let files = files(&folder, &|name| name.starts_with("US1_") || name.starts_with("OBXXXX1A"));
    assert!(files.len() >= 9);
    for name in ["qa-minimal", "retraining"] {
        let deidentifier = Deidentifier::new(Profile::preset(name).expect("a preset"), secret());
        let released = files.iter().filter_map(|file| deidentifier.deidentify_file(file).ok());
        for output in released {
            let masked = output.report().count(Tag(0x7FE0, 0x0010), Action::Masked);
            assert!(masked > 0, "{name}: an ultrasound was released as it was");
        }
    }
    check(&files, [0, 0, 0, 1]);
}
