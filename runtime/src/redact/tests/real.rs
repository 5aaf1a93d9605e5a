//! Real files with burned-in text. Where it is was noted by looking at them; the boxes are tight.

use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use gantry_cloud_sync::deid::{Deidentifier, Frame, FrameDecoder, Profile, Secret, TextDetector};

use super::*;
use crate::redact::Decoder;
use crate::study::ReadOptions;

/// Words of two letters and more, and numbers; one letter alone names nobody.
const US1: &[Truth] = &[
    (20, 26, 168, 38),   // BAPTIST MED CTR
    (20, 42, 88, 54),    // 630P630
    (20, 58, 68, 70),    // 78F78
    (20, 74, 78, 86),    // 44CG43
    (22, 90, 58, 102),   // IM#2
    (280, 42, 358, 54),  // +2:09:04
    (500, 26, 618, 38),  // 3cm3cm 8M12L
    (550, 42, 618, 54),  // MSCSKEL
    (530, 58, 618, 70),  // CINE 0118
    (570, 74, 618, 86),  // 22G22
    (560, 90, 618, 102), // 78DR78
    (10, 138, 38, 150),  // PWR
    (10, 218, 38, 230),
    (600, 138, 628, 150),
    (600, 218, 628, 230),
    (250, 362, 358, 374), // LYMPH NODE
    (400, 458, 618, 470), // TIS<0.4 MI=0.8 AO=100%
];
const OBXXXX1A: &[Truth] = &[
    (11, 9, 74, 22),      // PHILIPS
    (95, 10, 119, 22),    // OB
    (575, 10, 634, 22),   // MI 1.1
    (670, 9, 772, 24),    // 5/25/2011
    (97, 37, 263, 49),    // 11-05-25-142825
    (328, 36, 509, 51),   // Philips Healthcare
    (575, 37, 645, 49),   // TIB 0.2
    (670, 37, 779, 49),   // 2:56:22 PM
    (4, 68, 73, 80),      // Gen OB
    (4, 87, 46, 99),      // C5-1
    (4, 106, 50, 118),    // 28Hz
    (6, 125, 52, 137),    // 11cm
    (4, 163, 27, 175),    // 2D
    (12, 185, 61, 197),   // HGen
    (12, 204, 66, 216),   // Gn 60
    (12, 223, 52, 235),   // C 61
    (12, 241, 76, 257),   // 3/3/4
    (127, 88, 213, 103),  // + Cist Mag
    (242, 88, 302, 100),  // 1.06 cm
    (143, 509, 189, 518), // 1.8 3.6
];
const ALOKA: &[Truth] = &[
    (81, 1, 248, 11),     // *WESTWAY MEDICAL*, at the upper edge
    (111, 13, 208, 23),   // ULTRASOUND
    (551, 1, 638, 11),    // 24-MAY-02
    (541, 13, 638, 23),   // M 11:24:20
    (252, 37, 330, 47),   // 127/1281
    (291, 49, 327, 59),   // 20Hz
    (562, 37, 640, 47),   // 110/1112
    (601, 49, 637, 59),   // 20Hz
    (81, 61, 98, 71),     // L0, green
    (41, 433, 78, 443),   // 9123
    (101, 433, 238, 443), // 5.0 R15 G66 C6
    (261, 433, 278, 443), // A2
    (341, 433, 378, 443), // 9123
    (401, 433, 538, 443), // 5.0 R15 G63 C6
    (561, 433, 578, 443), // A2
    (21, 457, 98, 467),   // 3:PELVIS
    (551, 457, 629, 467), // DVA: 94%
];
/// Grey of 90 of 255 on black, in JPEG.
const CARDIAC: &[Truth] = &[
    (26, 9, 57, 20),      // PLA
    (6, 30, 71, 41),      // Gen THI
    (605, 31, 632, 42),   // Crd
    (605, 50, 630, 61),   // P21
    (613, 128, 628, 139), // MI
    (609, 144, 631, 154), // 0.9
    (608, 165, 632, 176), // TIS
    (609, 181, 631, 191), // 0.7
    (575, 400, 591, 411), // 19
    (121, 463, 146, 473), // Gen
    (275, 463, 315, 473), // Sector
    (355, 463, 396, 473), // MB Off
    (449, 463, 466, 473), // On
    (495, 463, 549, 476), // Page 1/3
];
/// Red, green and blue words of 60 pixels.
const WORDS: &[Truth] = &[(31, 45, 153, 101), (28, 159, 252, 215), (31, 245, 196, 301)];

/// What the first frame of a file shows, as a capture of somebody: nothing but the detector knows where text is.
fn alone(path: &Path) -> Vec<u8> {
    let source = dicom_object::open_file(path).expect("DICOM");
    let bytes = std::fs::read(path).expect("readable");
    let decoded = Decoder::new(ReadOptions::default()).frames(&bytes).unwrap_or_else(|e| panic!("{e}"));
    let number = |tag| source.element(tag).expect("there").to_int::<usize>().expect("a number");
    let frame = [tags::ROWS, tags::COLUMNS, tags::SAMPLES_PER_PIXEL].map(number).iter().product::<usize>();
    let bits = number(tags::BITS_ALLOCATED);
    let mut object = InMemDicomObject::new_empty();
    for (tag, vr, text) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::SECONDARY_CAPTURE_IMAGE_STORAGE),
        (tags::SOP_INSTANCE_UID, VR::UI, "2.25.11"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "2.25.12"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "2.25.13"),
        (tags::PATIENT_ID, VR::LO, "4471199"),
        (tags::MODALITY, VR::CS, "OT"),
        (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, decoded.photometric.as_str()),
    ] {
        object.put_str(tag, vr, text);
    }
    for tag in [
        tags::ROWS,
        tags::COLUMNS,
        tags::SAMPLES_PER_PIXEL,
        tags::PLANAR_CONFIGURATION,
        tags::BITS_ALLOCATED,
        tags::BITS_STORED,
        tags::HIGH_BIT,
        tags::PIXEL_REPRESENTATION,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ] {
        if let Some(element) = source.get(tag) {
            object.put(element.clone());
        }
    }
    let pixels = decoded.pixels[..frame * bits / 8].to_vec();
    let vr = if bits > 8 { VR::OW } else { VR::OB };
    object.put(DataElement::new(tags::PIXEL_DATA, vr, PrimitiveValue::U8(pixels.into())));
    let mut bytes = Vec::new();
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    object.with_meta(meta).expect("meta").write_all(&mut bytes).expect("written");
    bytes
}

/// Rows, columns and pixels of a native object of one frame.
fn pixels(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let object = dicom_object::from_reader(file).expect("DICOM");
    let side = |tag| object.element(tag).expect("there").to_int::<u32>().expect("a number");
    let pixels = object.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("native").into_owned();
    (side(tags::ROWS), side(tags::COLUMNS), pixels)
}

#[test]
fn text_in_real_images_is_blacked_out_and_all_else_is_as_it_was() {
    let Some(detector) = detector() else { return };
    let profile = Profile::preset("retraining").expect("a preset");
    let by = Deidentifier::new(profile, Secret::new(&[7; 32]).expect("a key")).with_detector(detector);
    let (mut found, mut all) = (0, 0);
    // The share of the image that may be blacked out although no text is there.
    for (name, truth, wrong_max) in [
        ("pydicom-data/US1_UNCR.dcm", US1, 0.02),
        ("pydicom-data/OBXXXX1A_rle.dcm", OBXXXX1A, 0.02),
        ("pydicom-data/gdcm-US-ALOKA-16.dcm", ALOKA, 0.02),
        ("pydicom-data/color3d_jpeg_baseline.dcm", CARDIAC, 0.06),
        ("pydicom/test_files/GDCMJ2K_TextGBR.dcm", WORDS, 0.2),
    ] {
        let Some(path) = asset(name) else { return };
        let source = alone(&path);
        let out = by.deidentify_bytes(source.clone()).unwrap_or_else(|held| panic!("{name}: {held}"));
        let ((rows, columns, before), (_, _, after)) = (pixels(&source), pixels(out.as_bytes()));
        let sample = before.len() / (rows * columns) as usize;
        let changed: Vec<bool> = before
            .chunks_exact(sample)
            .zip(after.chunks_exact(sample))
            .map(|(before, after)| before != after)
            .collect();
        let black =
            after.chunks_exact(sample).zip(&changed).find(|(_, changed)| **changed).map(|(pixel, _)| pixel.to_vec());
        let black = black.unwrap_or_else(|| panic!("{name}: nothing is blacked out"));
        let is_black: Vec<bool> = after.chunks_exact(sample).map(|pixel| pixel == black).collect();
        assert!(changed.iter().zip(&is_black).all(|(changed, black)| !changed || *black), "{name}: black or as it was");
        let mut near = vec![false; is_black.len()];
        let mut missed = Vec::new();
        for &(left, top, right, bottom) in truth {
            let at = |x: u32, y: u32| (y * columns + x) as usize;
            let inside = (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y)));
            let share =
                inside.filter(|&(x, y)| is_black[at(x, y)]).count() as f64 / f64::from((right - left) * (bottom - top));
            (found, all) = (found + usize::from(share >= FOUND), all + 1);
            if share < FOUND {
                missed.push((left, top, share));
            }
            // A margin of the height is no false alarm.
            let more = bottom - top;
            for y in top.saturating_sub(more)..(bottom + more).min(rows) {
                (left.saturating_sub(more)..(right + more).min(columns)).for_each(|x| near[at(x, y)] = true);
            }
        }
        let wrong = changed.iter().zip(&near).filter(|(changed, near)| **changed && !**near).count();
        let wrong = wrong as f64 / changed.len() as f64;
        println!(
            "{name}: {} of {} boxes, {:.1} % blacked out elsewhere; missed {missed:?}",
            truth.len() - missed.len(),
            truth.len(),
            wrong * 100.0
        );
        if let Some(folder) = std::env::var_os("GANTRY_TEXT_PICTURES") {
            let file = Path::new(&folder).join(format!("{}.dcm", path.file_stem().expect("a name").display()));
            std::fs::write(file, out.as_bytes()).expect("written");
        }
        assert!(wrong <= wrong_max, "{name}: {wrong}");
    }
    println!("real files: {found} of {all} boxes are covered");
    assert!(found * 100 >= all * 98, "{found} of {all}");
}

/// A letter of lead at the side of a leg, in the mirror; no letters over a lung. Parts of radiographs, since the whole takes minutes.
#[test]
fn radiographs_keep_their_anatomy() {
    let Some(detector) = detector() else { return };
    for (name, left, top, truth, share_max) in
        [("RG3_UNCR.dcm", 700, 1300, Some((449, 89, 518, 172)), 0.06), ("RG1_UNCR.dcm", 300, 600, None, 0.06)]
    {
        let Some(path) = asset(&format!("pydicom-data/{name}")) else { return };
        let object = dicom_object::open_file(&path).expect("DICOM");
        let number = |tag| object.element(tag).expect("there").to_int::<u16>().expect("a number");
        let pixels = object.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("native");
        let (width, height, line) = (1024, 384, usize::from(number(tags::COLUMNS)) * 2);
        let row = |y: usize| pixels[y * line + left * 2..][..width * 2].to_vec();
        let part: Vec<u8> = (top..top + height).flat_map(row).collect();
        let frame = Frame {
            bits_allocated: 16,
            bits_stored: number(tags::BITS_STORED),
            photometric: "MONOCHROME1",
            ..Frame::grey(height as u16, width as u16, &part)
        };
        let begun = std::time::Instant::now();
        let found = detector.text(frame).expect("looked at");
        let share = covered((0, 0, width as u32, height as u32), &found);
        let letter = truth.map(|truth| covered(truth, &found));
        println!("{name}: {:.2} % is taken for text, of the letter {letter:?}; {:.1?}", share * 100.0, begun.elapsed());
        assert!(share <= share_max, "{name}: {share}");
        assert!(letter.is_none_or(|letter| letter >= FOUND), "{name}: {letter:?}");
    }
}
