//! Every file of pydicom's and of pydicom-data: what becomes of it, and whether its pixels are those that pydicom gives.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use dicom_dictionary_std::tags;
use gantry::study::{self, Kept, ReadError, ReadOptions, Shown};
use gantry_tests::peers::Peers;
use gantry_tests::{asset, repository};
use serde_json::json;

use crate::peers::path_text;

/// What the table is of, and where it is kept.
const FOLDERS: [&str; 3] = ["pydicom/test_files", "pydicom/charset_files", "pydicom-data"];
const TABLE: &str = "docs/files.md";
/// Between these lines.
const BEGIN: &str =
    "| file | what it is | transfer syntax | its pixels | as a study |\n| --- | --- | --- | --- | --- |\n";
/// Set, the table is written anew.
const RENEW: &str = "GANTRY_RENEW_FILES";

/// Every file of the folders, by a name that holds on any machine.
fn all() -> Option<Vec<(String, PathBuf)>> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        let root = asset(folder)?;
        let mut left = vec![root.clone()];
        while let Some(path) = left.pop() {
            for entry in std::fs::read_dir(&path).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name = path.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
                match path.is_dir() {
                    true => left.push(path),
                    false if name.ends_with(".complete") || name.ends_with("LICENSE") || name.ends_with(".py") => {}
                    false => all.push((format!("{folder}/{name}"), path)),
                }
            }
        }
    }
    all.sort();
    Some(all)
}

fn options() -> ReadOptions {
    ReadOptions::default()
}

/// Without the path and the UID, and without what to do.
fn reason(error: &ReadError) -> String {
    let text = match error {
        ReadError::NotDicom(_) => return "no DICM at byte 128".into(),
        ReadError::Series { reason: inner, .. } => return reason(inner),
        ReadError::Patients { .. } | ReadError::Studies(_) | ReadError::Missing { .. } => error.to_string(),
        other => other.for_record(&|_| "FILE".into()).to_string(),
    };
    let text = text.strip_prefix("FILE: ").unwrap_or(&text);
    text.split(['|', ';']).next().unwrap_or_default().trim().to_owned()
}

/// One row of the table.
fn row(name: &str, path: &Path) -> String {
    let study = match study::read(&[path.to_owned()], &options()) {
        Ok(study) => volumes(&study),
        Err(error) => format!("refused: {}", reason(&error)),
    };
    let kept = match study::keep(path, &options()) {
        Ok(kept) => kept,
        Err(_) if name.contains("DICOMDIR") => return format!("| {name} | DICOMDIR | | none | {study} |\n"),
        Err(error) => return format!("| {name} | | | refused: {} | {study} |\n", reason(&error)),
    };
    let text = |tag| kept.dataset.get(tag).and_then(|e| e.to_str().ok()).map(|t| t.trim().to_owned());
    let what: Vec<String> = [tags::MODALITY, tags::PHOTOMETRIC_INTERPRETATION]
        .into_iter()
        .filter_map(text)
        .filter(|t| !t.is_empty())
        .collect();
    let bits = kept.dataset.get(tags::BITS_ALLOCATED).and_then(|e| e.to_int::<u16>().ok());
    let signed = kept.dataset.get(tags::PIXEL_REPRESENTATION).and_then(|e| e.to_int::<u16>().ok()) == Some(1);
    let bits = bits.map(|bits| format!(", {bits} bits{}", if signed { ", signed" } else { "" })).unwrap_or_default();
    let syntax = &kept.transfer_syntax_uid;
    format!("| {name} | {}{bits} | {syntax} | {} | {study} |\n", what.join(", "), pixels(&kept))
}

fn pixels(kept: &Kept) -> String {
    let (frames, options) = (kept.frames().unwrap_or(0), options());
    if frames == 0 {
        return "none".into();
    }
    for number in 1..=frames {
        let shown = kept.frame(number, &options).and_then(|frame| frame.map(|frame| frame.shown()).transpose());
        match shown {
            Ok(Some(_)) => {}
            Ok(None) => return format!("refused: there is no frame {number}"),
            Err(error) => return format!("refused: {}", reason(&error)),
        }
    }
    let (rows, columns) = kept.size().expect("frames have one");
    format!("{frames} x {columns} x {rows}")
}

fn volumes(study: &study::Study) -> String {
    let layouts = study.series.iter().flat_map(|series| &series.volumes);
    let sizes = layouts.map(|layout| layout.geometry.size().map(|n| n.to_string()).join(" x "));
    format!("volume of {}", sizes.collect::<Vec<_>>().join(", "))
}

/// The table in the documentation says what becomes of each file.
#[test]
fn the_table_of_files_says_what_is_so() {
    let Some(files) = all() else { return };
    assert!(files.len() > 150, "{} files", files.len());
    let mut rows = String::new();
    for (name, path) in &files {
        rows += &row(name, path);
    }
    let path = repository().join(TABLE);
    let document = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{TABLE}: {e}"));
    let (before, stated) = document.split_once(BEGIN).unwrap_or_else(|| panic!("no table in {TABLE}"));
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{rows}")).expect("written");
        return;
    }
    let mut differ = String::new();
    let (stated, found): (Vec<_>, Vec<_>) = (stated.lines().collect(), rows.lines().collect());
    for line in stated.iter().filter(|line| !found.contains(line)) {
        let _ = writeln!(differ, "- {line}");
    }
    for line in found.iter().filter(|line| !stated.contains(line)) {
        let _ = writeln!(differ, "+ {line}");
    }
    let renew = format!("{RENEW}=1 cargo nextest run -p gantry-tests --test it the_table_of_files");
    assert!(
        differ.is_empty() && stated.len() == found.len(),
        "{TABLE} says what is not so (- stated, + found):\n{differ}to renew it: {renew}"
    );
}

/// Files whose pixels are others than pydicom's: by how much at most, and why.
const DIFFER: &[(&str, f64, &str)] = &[
    ("pydicom-data/OBXXXX1A_expb.dcm", 255.0, PALETTE),
    ("pydicom-data/OBXXXX1A_expb_2frame.dcm", 255.0, PALETTE),
    ("pydicom-data/color3d_jpeg_baseline.dcm", 5.0, JPEG),
    ("pydicom/test_files/JPGExtended.dcm", 1.0, JPEG),
    ("pydicom/test_files/SC_jpeg_no_color_transform.dcm", 1.0, JPEG),
    ("pydicom/test_files/SC_jpeg_no_color_transform_2.dcm", 1.0, JPEG),
    ("pydicom/test_files/SC_rgb_dcmtk_+eb+cr.dcm", 1.0, JPEG),
    ("pydicom/test_files/SC_rgb_dcmtk_+eb+cy+n1.dcm", 2.0, JPEG),
    ("pydicom/test_files/SC_rgb_dcmtk_+eb+cy+n2.dcm", 1.0, JPEG),
    ("pydicom/test_files/SC_rgb_dcmtk_+eb+cy+np.dcm", 2.0, JPEG),
    ("pydicom/test_files/SC_rgb_dcmtk_+eb+cy+s2.dcm", 1.0, JPEG),
    ("pydicom/test_files/SC_rgb_dcmtk_+eb+cy+s4.dcm", 1.0, JPEG),
    ("pydicom/test_files/SC_rgb_jpeg_app14_dcmd.dcm", 1.0, JPEG),
    ("pydicom/test_files/SC_rgb_jpeg_dcmtk.dcm", 1.0, JPEG),
    ("pydicom/test_files/SC_rgb_jpeg_lossy_gdcm.dcm", 2.0, JPEG),
    ("pydicom/test_files/examples_ybr_color.dcm", 3.0, JPEG),
];
/// pydicom reads the words of a palette as little endian; that of the same image in little endian is as ours.
const PALETTE: &str = "pydicom takes a palette in big endian for little endian";
/// ISO 10918-2 leaves each sample ±1; from three of them, two interpolated, colours are made.
const JPEG: &str =
    "decoders of lossy JPEG round their transform, and the conversion of its colours, each in its own way";

/// Through the modality LUT, and as red, green and blue.
#[test]
fn pixels_are_those_that_pydicom_gives() {
    let Some(files) = all() else { return };
    let Some(peers) = Peers::with("pydicom, pylibjpeg, libjpeg, openjpeg, rle, jpeg_ls") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut expected = Vec::new();
    for (name, path) in &files {
        let Ok(kept) = study::keep(path, &options()) else { continue };
        let frames = kept.frames().unwrap_or(0);
        let chosen: Vec<u32> = (1..=frames).filter(|n| *n <= 3 || *n == frames).collect();
        let mut raw = Vec::new();
        let mut grey = true;
        let decoded = chosen.iter().all(|number| {
            let options = options();
            match kept.frame(*number, &options).ok().flatten().and_then(|frame| frame.shown().ok()) {
                Some(Shown::Grey { values, .. }) => raw.extend(values.iter().flat_map(|v| v.to_le_bytes())),
                Some(Shown::Colour(bytes)) => {
                    grey = false;
                    raw.extend(bytes);
                }
                None => return false,
            }
            true
        });
        if !decoded || chosen.is_empty() {
            continue;
        }
        let file = folder.path().join(format!("{}.raw", expected.len()));
        std::fs::write(&file, raw).expect("written");
        let most = DIFFER.iter().find(|(differs, ..)| differs == name).map_or(0.0, |(_, most, _)| *most);
        expected.push(json!({
            "name": name, "path": path, "frames": chosen, "grey": grey, "raw": file, "most": most,
        }));
    }
    assert!(expected.len() > 100, "{} files with pixels", expected.len());
    let list = folder.path().join("expected.json");
    std::fs::write(&list, json!(expected).to_string()).expect("written");
    peers.agree("judge_pixels.py", &[&path_text(&list)]);
}

/// What is not compressed: a CT of negative numbers, 12, 15 and 16 bits, and colours; and a JPEG.
const TO_COMPRESS: [&str; 5] = [
    "pydicom/test_files/CT_small.dcm",
    "pydicom-data/693_UNCI.dcm",
    "pydicom-data/MR2_UNCI.dcm",
    "pydicom-data/RG1_UNCI.dcm",
    "pydicom-data/US1_UNCI.dcm",
];
const COLOUR_JPEG: &str = "pydicom/test_files/SC_rgb_dcmtk_+eb+cy+s4.dcm";

/// What an encoder of others makes of files.
struct Compressed {
    by: &'static str,
    syntaxes: &'static [&'static str],
    sources: &'static [&'static str],
    /// By how much its values may differ, on average.
    most: f32,
    /// Photometric Interpretation, where it becomes another.
    photometric: Option<&'static str>,
}

/// All that they make. libjxl's own decoder is 2.1 (of what is stored, which the MR multiplies by 3.77) and
/// 1.1 away from the sources of what is lossy.
const COMPRESSED: [Compressed; 5] = [
    Compressed {
        by: "jpegxl",
        syntaxes: &["1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.112"],
        sources: &TO_COMPRESS,
        most: 0.0,
        photometric: None,
    },
    Compressed {
        by: "htj2k",
        syntaxes: &["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"],
        sources: &TO_COMPRESS,
        most: 0.0,
        photometric: None,
    },
    Compressed {
        by: "jpegxl-lossy",
        syntaxes: &["1.2.840.10008.1.2.4.112"],
        sources: &["pydicom-data/MR2_UNCI.dcm"],
        // 3 of what is stored.
        most: 11.4,
        photometric: None,
    },
    Compressed {
        by: "jpegxl-lossy",
        syntaxes: &["1.2.840.10008.1.2.4.112"],
        sources: &["pydicom-data/US1_UNCI.dcm"],
        most: 2.0,
        photometric: Some("XYB"),
    },
    Compressed {
        by: "jpegxl-jpeg",
        syntaxes: &["1.2.840.10008.1.2.4.111"],
        sources: &[COLOUR_JPEG],
        most: 1.0,
        photometric: None,
    },
];

/// What a frame shows, value by value.
fn shown(path: &Path) -> Result<Vec<f32>, ReadError> {
    let options = options();
    let kept = study::keep(path, &options)?;
    let frame = kept.frame(1, &options)?.expect("a frame");
    Ok(match frame.shown()? {
        Shown::Grey { values, .. } => values,
        Shown::Colour(bytes) => bytes.into_iter().map(f32::from).collect(),
    })
}

/// JPEG XL of libjxl and HTJ2K of OpenJPH: pydicom has no decoder for the one, and few files are in either.
#[test]
fn what_others_compress_is_read_as_it_was() {
    let Some(peers) = Peers::with("imagecodecs, numpy, pydicom") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (mut jobs, mut compressed) = (Vec::new(), Vec::new());
    for Compressed { by, syntaxes, sources, most, photometric } in COMPRESSED {
        for (name, syntax) in sources.iter().flat_map(|name| syntaxes.iter().map(move |syntax| (name, syntax))) {
            for cut in [false, true] {
                let Some(source) = asset(name) else { return };
                let to = folder.path().join(format!("{}.dcm", jobs.len()));
                jobs.push(json!({
                    "source": source, "to": to, "by": by, "transfer_syntax": syntax,
                    "photometric": photometric, "cut": cut,
                }));
                compressed.push((source, to, most, cut, format!("{name} by {by} as {syntax}")));
            }
        }
    }
    let list = folder.path().join("jobs.json");
    std::fs::write(&list, json!(jobs).to_string()).expect("written");
    peers.agree("compress.py", &[&path_text(&list)]);
    for (source, to, most, cut, what) in &compressed {
        if *cut {
            let error = shown(to).expect_err(what).to_string();
            assert!(error.contains("damaged"), "half of {what}: {error}");
            continue;
        }
        let before = shown(source).expect("a source that is read");
        let after = shown(to).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(before.len(), after.len(), "{what}");
        let off: f32 = before.iter().zip(&after).map(|(before, after)| (before - after).abs()).sum();
        assert!(off <= most * before.len() as f32, "{what}: off by {off} in all, {} values", before.len());
    }
}
