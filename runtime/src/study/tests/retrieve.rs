//! Instances that are given out again: colours, and Explicit VR Little Endian.

use dicom_core::Length;
use dicom_core::value::DataSetSequence;
use dicom_object::DefaultDicomObject;

use super::real::asset;
use super::*;

const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// Red, green and blue of the first frame.
fn shown(path: &Path) -> Vec<u8> {
    let kept = keep(path, &options()).unwrap_or_else(|e| panic!("{e}"));
    kept.can_be_shown().unwrap_or_else(|e| panic!("{e}"));
    let options = options();
    let frame = kept.frame(1, &options).unwrap_or_else(|e| panic!("{e}")).expect("a frame");
    match frame.shown().unwrap_or_else(|e| panic!("{e}")) {
        Shown::Colour(bytes) => bytes,
        Shown::Grey { .. } => panic!("{} is grey", path.display()),
    }
}

/// The whole file in Explicit VR Little Endian.
fn rewritten(path: &Path) -> Result<Vec<u8>, ReadError> {
    let mut rewrite = rewrite(path, &options())?;
    let mut bytes = Vec::new();
    while let Some(piece) = rewrite.piece(&options())? {
        bytes.extend(piece);
    }
    Ok(bytes)
}

fn parsed(bytes: &[u8]) -> DefaultDicomObject {
    dicom_object::from_reader(bytes).expect("a DICOM file")
}

#[test]
fn colours_are_those_that_pydicom_shows() {
    // The sum of all samples, two pixels (the middle, and a third down and a fifth across), and how far a sample may be off
    // on the mean: what decoders of JPEG, and conversions, round.
    for (name, columns, sum, pixels, off) in [
        ("SC_rgb_rle.dcm", 100, 3_831_000, [[128, 128, 255], [128, 255, 128]], 0.0),
        ("SC_jpeg_no_color_transform.dcm", 256, 47_966_767, [[244, 244, 244], [244, 244, 244]], 0.5),
        ("SC_jpeg_no_color_transform_2.dcm", 256, 48_294_002, [[244, 244, 246], [246, 246, 246]], 0.5),
        ("SC_rgb_jpeg_gdcm.dcm", 100, 3_831_000, [[128, 128, 255], [128, 255, 128]], 0.0),
        ("SC_rgb_jpeg_lossy_gdcm.dcm", 100, 3_825_850, [[124, 124, 255], [129, 255, 129]], 1.0),
        ("SC_rgb_dcmtk_+eb+cr.dcm", 100, 3_832_200, [[129, 129, 255], [128, 255, 128]], 0.5),
        ("SC_rgb_dcmtk_+eb+cy+n2.dcm", 100, 3_832_000, [[125, 130, 255], [129, 255, 129]], 1.0),
        ("SC_rgb_dcmtk_+eb+cy+s2.dcm", 100, 3_832_000, [[125, 130, 255], [129, 255, 129]], 1.0),
        ("SC_rgb_gdcm_KY.dcm", 100, 3_831_000, [[128, 128, 255], [128, 255, 128]], 0.5),
        ("examples_jpeg2k.dcm", 640, 31_821_736, [[12, 12, 12], [78, 78, 78]], 0.0),
        ("US1_J2KI.dcm", 640, 31_970_895, [[4, 8, 8], [78, 77, 78]], 0.5),
        ("GDCMJ2K_TextGBR.dcm", 400, 59_729_223, [[128, 128, 128], [128, 128, 128]], 0.0),
        ("SC_ybr_full_uncompressed.dcm", 100, 3_832_000, [[125, 130, 255], [129, 255, 129]], 1.0),
        ("SC_ybr_full_422_uncompressed.dcm", 100, 3_832_000, [[125, 130, 255], [129, 255, 129]], 1.0),
        ("color-pl.dcm", 256, 3_931_744, [[184, 16, 16], [40, 40, 40]], 0.0),
        ("color-px.dcm", 256, 3_931_744, [[184, 16, 16], [40, 40, 40]], 0.0),
        ("examples_ybr_color.dcm", 320, 2_182_169, [[7, 7, 7], [0, 0, 0]], 1.0),
        ("OBXXXX1A_rle.dcm", 800, 17_918_415, [[1, 1, 1], [0, 0, 0]], 0.0),
        ("examples_palette.dcm", 800, 17_214_150, [[1, 1, 1], [0, 0, 0]], 0.0),
    ] {
        let Some(path) = anywhere(name) else { return };
        let found = shown(&path);
        let total: i64 = found.iter().map(|v| i64::from(*v)).sum();
        let mean = (total - sum).abs() as f64 / found.len() as f64;
        assert!(mean <= off, "{name}: the sum is {total}, not {sum}");
        let rows = found.len() / 3 / columns;
        let pixel = |y: usize, x: usize| [0, 1, 2].map(|i| i32::from(found[(y * columns + x) * 3 + i]));
        let told = [pixel(rows / 2, columns / 2), pixel(rows / 3, columns / 5)];
        let most = if off == 0.0 { 0 } else { 4 };
        let near = |a: &[i32; 3], b: &[i32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= most);
        assert!(told.iter().zip(&pixels).all(|(a, b)| near(a, b)), "{name}: {told:?} are not {pixels:?}");
    }
}

/// A file of either folder of pydicom's.
fn anywhere(name: &str) -> Option<PathBuf> {
    let folder = if name.starts_with(['c', 'O', 'U']) || name == "SC_ybr_full_uncompressed.dcm" {
        "pydicom-data"
    } else {
        "pydicom"
    };
    asset(folder, name)
}

#[test]
fn lossless_frames_are_those_of_the_native_file() {
    for (folder, compressed, other, native) in [
        ("pydicom", "SC_rgb_rle.dcm", "pydicom-data", "SC_rgb.dcm"),
        ("pydicom", "SC_rgb_rle_2frame.dcm", "pydicom-data", "SC_rgb_2frame.dcm"),
        ("pydicom", "SC_rgb_rle_16bit.dcm", "pydicom-data", "SC_rgb_16bit.dcm"),
        ("pydicom", "SC_rgb_rle_16bit_2frame.dcm", "pydicom-data", "SC_rgb_16bit_2frame.dcm"),
        ("pydicom", "SC_rgb_jpeg_gdcm.dcm", "pydicom-data", "SC_rgb.dcm"),
        ("pydicom", "SC_rgb_small_odd_big_endian.dcm", "pydicom", "SC_rgb_small_odd.dcm"),
        ("pydicom-data", "SC_rgb_expb_16bit_2frame.dcm", "pydicom-data", "SC_rgb_16bit_2frame.dcm"),
        ("pydicom-data", "SC_rgb_expb_32bit_2frame.dcm", "pydicom-data", "SC_rgb_32bit_2frame.dcm"),
        ("pydicom-data", "US1_J2KR.dcm", "pydicom-data", "US1_UNCR.dcm"),
        ("pydicom-data", "OBXXXX1A_rle_2frame.dcm", "pydicom-data", "OBXXXX1A_2frame.dcm"),
        ("pydicom-data", "OBXXXX1A_expb_2frame.dcm", "pydicom-data", "OBXXXX1A_2frame.dcm"),
        ("pydicom-data", "emri_small_RLE.dcm", "pydicom-data", "emri_small.dcm"),
        ("pydicom-data", "emri_small_big_endian.dcm", "pydicom-data", "emri_small.dcm"),
        ("pydicom-data", "emri_small_jpeg_2k_lossless.dcm", "pydicom-data", "emri_small.dcm"),
        ("pydicom-data", "emri_small_jpeg_ls_lossless.dcm", "pydicom-data", "emri_small.dcm"),
        ("pydicom", "SC_rgb_rle_32bit_2frame.dcm", "pydicom-data", "SC_rgb_32bit_2frame.dcm"),
        ("pydicom-data", "liver_expb.dcm", "pydicom-data", "liver.dcm"),
    ] {
        let Some((compressed, native)) = asset(folder, compressed).zip(asset(other, native)) else { return };
        let name = compressed.display();
        let file = parsed(&rewritten(&compressed).unwrap_or_else(|e| panic!("{e}")));
        let wanted = dicom_object::open_file(&native).expect("a DICOM file");
        let pixels = |object: &DefaultDicomObject| {
            object.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("native").into_owned()
        };
        assert!(pixels(&file) == pixels(&wanted), "{name}");
        for tag in [tags::PHOTOMETRIC_INTERPRETATION, tags::PLANAR_CONFIGURATION, tags::BITS_STORED] {
            assert_eq!(text(&file, tag), text(&wanted, tag), "{name}");
        }
    }
}

/// A slice with what headers have: sequences within sequences, private elements, words, numbers and text.
fn rich() -> InMemDicomObject {
    let item = |object: InMemDicomObject, length| Value::from(DataSetSequence::new(vec![object], length));
    let mut inner = InMemDicomObject::new_empty();
    inner.put(DataElement::new(tags::REFERENCED_SEGMENT_NUMBER, VR::US, dicom_value!(U16, [1, 258])));
    inner.put(DataElement::new(Tag(0x0009, 0x0010), VR::LO, PrimitiveValue::from("Creator")));
    let mut outer = InMemDicomObject::new_empty();
    outer.put(DataElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, item(inner, Length::UNDEFINED)));
    outer.put(DataElement::new(tags::CODE_VALUE, VR::SH, PrimitiveValue::from("1")));
    changed(|o| {
        o.put(DataElement::new(tags::REFERENCED_STUDY_SEQUENCE, VR::SQ, item(outer, Length::UNDEFINED)));
        o.put(DataElement::new(tags::PROCEDURE_CODE_SEQUENCE, VR::SQ, Value::from(DataSetSequence::empty())));
        o.put(DataElement::new(tags::SIMPLE_FRAME_LIST, VR::UL, dicom_value!(U32, [1, 66_051])));
        o.put(DataElement::new(tags::EVENT_ELAPSED_TIMES, VR::DS, PrimitiveValue::from("1\\2.5")));
        o.put(DataElement::new(tags::FRAME_INCREMENT_POINTER, VR::AT, dicom_value!(Tags, [Tag(0x0018, 0x1063)])));
        o.put(DataElement::new(tags::REAL_WORLD_VALUE_SLOPE, VR::FD, dicom_value!(F64, [1.5])));
        set_us(o, tags::PIXEL_REPRESENTATION, 1);
    })
}

#[test]
fn a_header_is_the_same_from_every_transfer_syntax() {
    let object = rich();
    let folder = Folder::new();
    let wanted = folder.add("wanted", &object);
    let wanted = dicom_json::to_value(dicom_object::open_file(wanted).expect("a file").into_inner()).expect("JSON");
    for ts in [EXPLICIT, uids::IMPLICIT_VR_LITTLE_ENDIAN, BIG_ENDIAN, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN] {
        let bytes = rewritten(&folder.add_as("a", &object, ts)).unwrap_or_else(|e| panic!("{e}"));
        let file = parsed(&bytes);
        assert_eq!(file.meta().transfer_syntax(), EXPLICIT);
        assert!(file.meta().implementation_version_name().is_some_and(|name| name.starts_with("GANTRY_")));
        assert_eq!(dicom_json::to_value(file.into_inner()).expect("JSON"), wanted, "{ts}");
    }
}

#[test]
fn text_in_any_character_set_passes_as_it_is() {
    let mut o = slice(0);
    o.put(DataElement::new(tags::SPECIFIC_CHARACTER_SET, VR::CS, PrimitiveValue::from("\\ISO 2022 IR 87")));
    o.put(DataElement::new(tags::PATIENT_NAME, VR::PN, PrimitiveValue::from("NAME-STANDS-HERE")));
    // Too long for LT in explicit VR.
    o.put(DataElement::new(tags::PATIENT_COMMENTS, VR::LT, PrimitiveValue::from("x".repeat(70_000))));
    let folder = Folder::new();
    let path = folder.add_as("a", &o, uids::IMPLICIT_VR_LITTLE_ENDIAN);
    let mut bytes = std::fs::read(&path).expect("the file");
    let name = b"\x1B$B;3ED\x1B(B^\xFF\xFE\x00?";
    let at = bytes.windows(16).position(|w| w == b"NAME-STANDS-HERE").expect("the name");
    bytes[at..at + name.len()].copy_from_slice(name);
    let bytes = rewritten(&folder.add_bytes("a", &bytes)).unwrap_or_else(|e| panic!("{e}"));
    let long = [&b"\x10\x00\x00\x40UN\x00\x00"[..], &70_000u32.to_le_bytes(), b"xxx"].concat();
    for wanted in [&[b"PN\x10\x00", &name[..]].concat(), &long] {
        assert!(bytes.windows(wanted.len()).any(|w| w == wanted), "{wanted:?}");
    }
}

#[test]
fn signed_pixels_have_signed_padding() {
    let object = changed(|o| {
        set_us(o, tags::PIXEL_REPRESENTATION, 1);
        o.put(DataElement::new(tags::PIXEL_PADDING_VALUE, VR::SS, dicom_value!(I16, [-2000])));
    });
    let folder = Folder::new();
    let path = folder.add_as("a", &object, uids::IMPLICIT_VR_LITTLE_ENDIAN);
    let file = parsed(&rewritten(&path).unwrap_or_else(|e| panic!("{e}")));
    let padding = file.element(tags::PIXEL_PADDING_VALUE).expect("it is there");
    assert_eq!((padding.vr(), padding.to_int::<i32>().expect("a number")), (VR::SS, -2000));
}

#[test]
fn what_cannot_be_rewritten_is_told_before_the_first_byte() {
    let folder = Folder::new();
    let refused = |path: PathBuf| rewrite(&path, &options()).map(drop).expect_err("refused").to_string();
    let path = folder.add_as("a", &changed(|o| encapsulate(o, &[&[1, 2]])), uids::MPEG2MPML);
    says(&refused(path), &["1.2.840.10008.1.2.4.100"]);
    let signed = changed(|o| {
        o.put(DataElement::new(Tag(0xFFFA, 0xFFFA), VR::SQ, Value::from(DataSetSequence::empty())));
    });
    says(&refused(folder.add_as("b", &signed, uids::IMPLICIT_VR_LITTLE_ENDIAN)), &["behind its pixel data"]);
    let large = ReadOptions { volume_max_mib: 0, ..options() };
    let deflated = folder.add_as("c", &slice(0), uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN);
    let error = rewrite(&deflated, &large).map(drop).expect_err("refused").to_string();
    says(&error, &["24 bytes", "volume_max_mib = 0"]);
}

#[test]
fn a_table_shows_values_as_parts_of_its_highest() {
    let with = |descriptor: [u16; 3], words: Vec<u16>| {
        let mut item = InMemDicomObject::new_empty();
        let descriptor = PrimitiveValue::U16(descriptor.into_iter().collect());
        item.put(DataElement::new(tags::LUT_DESCRIPTOR, VR::US, descriptor));
        item.put(DataElement::new(tags::LUT_DATA, VR::OW, PrimitiveValue::U16(words.into())));
        let items = dicom_core::value::DataSetSequence::from(vec![item]);
        let folder = Folder::new();
        let path = folder.add("a.dcm", &changed(|o| _ = o.put(DataElement::new(tags::VOILUT_SEQUENCE, VR::SQ, items))));
        keep(&path, &options()).expect("kept")
    };
    let shown = with([3, 10, 12], vec![0, 1024, 4095]).by_table(&[0.0, 10.4, 10.6, 12.0, 90.0]);
    assert_eq!(shown, Some(vec![0.0, 0.0, 1024.0 / 4095.0, 1.0, 1.0]));
    // The first value is -2 where values are negative, whatever its VR says.
    let signed = with([3, 65534, 8], vec![0, 51, 255]).by_table(&[-2.0, -1.0, 0.0]);
    assert_eq!(signed, Some(vec![0.0, 0.2, 1.0]));
    assert_eq!(with([3, 0, 12], vec![0]).by_table(&[0.0]), None, "fewer entries than are said");
    let folder = Folder::of_slices(1);
    let kept = keep(&folder.path().join("s1.dcm"), &options()).expect("kept");
    assert_eq!(kept.by_table(&[0.0]), None);
}

#[test]
fn white_is_low_in_monochrome1_and_where_the_presentation_lut_says_so() {
    let inverted = |photometric: &str, shape: &str| {
        let folder = Folder::new();
        let path = folder.add(
            "a.dcm",
            &changed(|o| {
                set(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
                set(o, tags::PRESENTATION_LUT_SHAPE, VR::CS, shape);
            }),
        );
        let options = options();
        let kept = keep(&path, &options).expect("kept");
        let frame = kept.frame(1, &options).expect("read").expect("a frame");
        matches!(frame.shown().expect("shown"), Shown::Grey { inverted: true, .. })
    };
    assert!(inverted("MONOCHROME1", "INVERSE") && inverted("MONOCHROME1", "") && inverted("MONOCHROME2", "INVERSE"));
    assert!(!inverted("MONOCHROME2", "IDENTITY") && !inverted("MONOCHROME2", ""));
}
