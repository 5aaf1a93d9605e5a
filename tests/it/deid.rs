//! `gantry deid`, as people call it.

use std::path::{Path, PathBuf};

use dicom_core::{Tag, VR};
use dicom_object::open_file;
use gantry_tests::command::{Said, gantry};
use gantry_tests::{asset, write_ct};

fn deid(input: &Path, out: &Path, more: &[&str]) -> Said {
    gantry().arg("deid").arg(input).arg(out).args(more).output().expect("gantry runs").into()
}

/// All files below a folder, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

#[test]
fn a_study_and_its_result_leave_without_identity_and_still_belong_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let [study, out, again] = ["Doe Jane", "out", "again"].map(|name| folder.path().join(name));
    std::fs::create_dir(&study).expect("made");
    write_ct(&study).expect("a study");
    let source = open_file(&files(&study)[0]).expect("readable");
    let uid = source.element(Tag(0x0020, 0x000D)).expect("there").to_str().expect("text").into_owned();
    let result = format!("{{\"input\": {{\"study_instance_uid\": \"{uid}\"}}}}");
    std::fs::write(study.join("result.json"), result).expect("written");
    let key = folder.path().join("key");
    std::fs::write(&key, [5; 32]).expect("written");
    let (key, report) = (key.to_str().expect("a path"), folder.path().join("report.json"));
    let report = report.to_str().expect("a path");
    let said = deid(&study, &out, &["--profile", "qa-minimal", "--key", key, "--report", report]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let released = files(&out);
    assert_eq!(released.len(), 11, "{released:?}");
    let object = open_file(released.iter().find(|path| path.extension().is_some_and(|e| e == "dcm")).expect("one"))
        .expect("DICOM");
    let new = object.element(Tag(0x0020, 0x000D)).expect("there").to_str().expect("text").into_owned();
    assert_ne!(new, uid);
    let json = released.iter().find(|path| path.extension().is_some_and(|e| e == "json")).expect("a result");
    assert!(std::fs::read_to_string(json).expect("text").contains(&new), "the result is about the same study");
    let report: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(report).expect("text")).expect("JSON");
    assert_eq!(
        (report["released"].as_u64(), report["actions"]["(0010,0020)"]["pseudonym"].as_u64()),
        (Some(11), Some(10))
    );
    // The same key, the same bytes.
    assert_eq!(deid(&study, &again, &["--profile", "qa-minimal", "--key", key]).code, Some(0));
    let bytes =
        |folder: &Path| files(folder).iter().map(|path| std::fs::read(path).expect("readable")).collect::<Vec<_>>();
    assert_eq!(bytes(&out), bytes(&again));
    assert_eq!(deid(&study, &out, &["--profile", "qa-minimal", "--key", key]).code, Some(1), "nothing is replaced");
}

#[test]
fn what_is_held_is_said_and_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("notes.txt"), "Jane Doe").expect("written");
    let out = folder.path().join("out");
    let said = deid(folder.path(), &out, &[]);
    assert_eq!(said.code, Some(4));
    assert!(said.err.contains("not a DICOM file"), "{}", said.err);
    assert!(!out.exists());
    assert_eq!(deid(folder.path(), &out, &["--profile", "everything"]).code, Some(2));
}

/// Text that is burned into the ultrasound images of pydicom: left, top, right and bottom. What else there is: `gantry::redact` tests.
const PHILIPS: &[[usize; 4]] = &[
    [670, 9, 772, 24],
    [97, 37, 263, 49],
    [328, 36, 509, 51],
    [670, 37, 779, 49],
    [127, 88, 213, 103],
    [242, 88, 302, 100],
];
const GE: &[[usize; 4]] = &[
    [20, 26, 168, 38],
    [20, 42, 88, 54],
    [280, 42, 358, 54],
    [550, 42, 618, 54],
    [250, 362, 358, 374],
    [400, 458, 618, 470],
];

fn element(object: &dicom_object::DefaultDicomObject, tag: Tag) -> String {
    object.element(tag).expect("there").to_str().expect("text").trim_end_matches([' ', '\0']).to_owned()
}

fn pixels(object: &dicom_object::DefaultDicomObject) -> Vec<u8> {
    object.element(Tag(0x7FE0, 0x0010)).expect("pixels").to_bytes().expect("native").into_owned()
}

/// Looks in all frames whether text is black, and whether whatever is not black is as it was; of pixels of `samples` bytes.
fn masked(before: &[u8], after: &[u8], [columns, rows, samples]: [usize; 3], text: &[[usize; 4]]) {
    assert_eq!(before.len(), after.len());
    let frame = columns * rows * samples;
    assert!(!after.is_empty() && after.len().is_multiple_of(frame));
    let changed = before.chunks_exact(samples).zip(after.chunks_exact(samples)).find(|(before, after)| before != after);
    let black = changed.expect("text is blacked out").1;
    for (before, after) in before.chunks_exact(frame).zip(after.chunks_exact(frame)) {
        let is_black = |at: usize| &after[at * samples..(at + 1) * samples] == black;
        assert!(
            (0..columns * rows)
                .all(|at| is_black(at) || before[at * samples..][..samples] == after[at * samples..][..samples])
        );
        for &[left, top, right, bottom] in text {
            let inside = (top..bottom).flat_map(|y| (left..right).map(move |x| y * columns + x));
            let covered = inside.filter(|&at| is_black(at)).count();
            assert!(covered * 100 >= (right - left) * (bottom - top) * 95, "{left}, {top}: {covered} pixels");
        }
    }
}

/// Frames are decoded here, and looked at by the detector in its worker.
#[test]
fn burned_in_text_is_black_in_every_frame_and_pixels_without_text_stay_as_they_were() {
    let Some(detector) = asset("text-detector/ch_PP-OCRv4_det_infer.onnx") else { return };
    // What goes in, and the same without compression, to compare with.
    let images = [
        ("pydicom-data/OBXXXX1A_rle_2frame.dcm", "pydicom-data/OBXXXX1A_2frame.dcm"),
        ("pydicom-data/US1_J2KR.dcm", "pydicom-data/US1_UNCR.dcm"),
        ("pydicom/test_files/SC_rgb_rle_2frame.dcm", "pydicom-data/SC_rgb_2frame.dcm"),
        ("pydicom/test_files/SC_rgb_jls_lossy_line.dcm", "pydicom-data/SC_rgb.dcm"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let mut native = Vec::new();
    for (n, (name, same)) in images.into_iter().enumerate() {
        let Some((path, same)) = asset(name).zip(asset(same)) else { return };
        let study = folder.path().join(n.to_string());
        std::fs::create_dir(&study).expect("made");
        // Some are of somebody whose given name is one letter, which is in every pseudonym.
        let mut object = open_file(&path).expect("DICOM");
        object.put_str(Tag(0x0010, 0x0010), VR::PN, "Mustermann^Erika");
        if name.contains("jls") {
            // It says that it is a video, which nothing here decodes.
            object.meta_mut().transfer_syntax = "1.2.840.10008.1.2.4.100".into();
        }
        object.write_to_file(study.join("image.dcm")).expect("written");
        native.push(pixels(&open_file(same).expect("DICOM")));
    }
    let [key, out] = ["key", "out"].map(|name| folder.path().join(name));
    std::fs::write(&key, [5; 32]).expect("written");
    let more = [
        "--profile",
        "retraining",
        "--key",
        key.to_str().expect("text"),
        "--text-detector",
        detector.to_str().expect("text"),
    ];
    let clean = |n: usize| {
        let out = out.join(n.to_string());
        let said = deid(&folder.path().join(n.to_string()), &out, &more);
        assert_eq!(said.code, Some(0), "{}: {}", images[n].0, said.err);
        open_file(&files(&out)[0]).expect("DICOM")
    };
    let (ob, us1, bars) = (clean(0), clean(1), clean(2));
    for (object, native, size, text) in
        [(&ob, &native[0], [800, 600, 1], PHILIPS), (&us1, &native[1], [640, 480, 3], GE)]
    {
        assert_eq!(object.meta().transfer_syntax().trim_end_matches('\0'), "1.2.840.10008.1.2.1");
        assert_eq!(element(object, Tag(0x0028, 0x0301)), "NO");
        masked(native, &pixels(object), size, text);
    }
    assert_eq!(element(&us1, Tag(0x0028, 0x0004)), "RGB");
    assert_eq!(pixels(&ob).len(), 2 * 800 * 600);
    let codes = us1.element(Tag(0x0012, 0x0064)).expect("there").items().expect("items");
    let codes = codes
        .iter()
        .map(|item| item.element(Tag(0x0008, 0x0100)).expect("a code").to_str().expect("text").into_owned());
    assert!(codes.map(|code| code.trim().to_owned()).any(|code| code == "113101"), "Clean Pixel Data Option");

    // Bars of colours are no text: not a byte of the pixel data is another.
    assert_eq!(bars.meta().transfer_syntax().trim_end_matches('\0'), "1.2.840.10008.1.2.5");
    let source = open_file(folder.path().join("2/image.dcm")).expect("DICOM");
    let fragments = |object: &dicom_object::DefaultDicomObject| {
        object.element(Tag(0x7FE0, 0x0010)).expect("pixels").fragments().expect("fragments").to_vec()
    };
    assert_eq!(fragments(&bars), fragments(&source));

    // What cannot be decoded cannot be looked at.
    let said = deid(&folder.path().join("3"), &out.join("3"), &more);
    assert_eq!(said.code, Some(4));
    assert!(said.err.contains("cannot be decoded"), "{}", said.err);

    let zeros = "0".repeat(64);
    let other = [&more[..], &["--text-detector-sha256", &zeros]].concat();
    let said = deid(&folder.path().join("1"), &out.join("4"), &other);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("its SHA-256 is"), "{}", said.err);
}
