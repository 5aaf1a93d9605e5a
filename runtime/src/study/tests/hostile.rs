//! Files that are cut, lie, or want to do harm.

use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::pixels::{jpeg_2000, jpeg_xl};
use super::*;

/// Writes slice 0 and gives its bytes.
fn bytes_of(change: impl FnOnce(&mut InMemDicomObject)) -> Vec<u8> {
    let folder = Folder::new();
    std::fs::read(folder.add("a.dcm", &changed(change))).expect("the file")
}

/// What reading a folder with one file of these bytes fails with.
fn refusal_of_bytes(bytes: &[u8]) -> String {
    let folder = Folder::new();
    folder.add_bytes("a.dcm", bytes);
    let refusal = folder.refusal();
    says(&refusal, &["a.dcm"]);
    refusal
}

#[test]
fn a_file_cut_anywhere_is_an_error_that_names_it() {
    let bytes = bytes_of(|_| {});
    for end in 132..bytes.len() {
        let refusal = refusal_of_bytes(&bytes[..end]);
        assert!(!refusal.to_lowercase().contains("secret"), "{refusal}");
    }
    says(&refusal_of_bytes(&bytes[..bytes.len() - 1]), &["damaged", "23 bytes of pixel data where its length says 24"]);
    let folder = Folder::of_slices(3);
    folder.add_bytes("s2.dcm", &bytes[..400]);
    says(&folder.refusal(), &["s2.dcm", "damaged"]);
}

#[test]
fn an_encapsulated_file_cut_in_its_pixels_is_an_error() {
    let folder = Folder::new();
    let object = changed(|o| {
        set_us(o, tags::PIXEL_REPRESENTATION, 0);
        encapsulate(o, &[&jpeg_2000()]);
    });
    let bytes = std::fs::read(folder.add_as("a.dcm", &object, uids::JPEG2000_LOSSLESS)).expect("the file");
    for cut in 1..150 {
        folder.add_bytes("a.dcm", &bytes[..bytes.len() - cut]);
        says(&decode_refusal(&folder), &["a.dcm", "the file ends within"]);
    }
}

#[test]
fn pixel_data_must_be_as_long_as_the_header_says() {
    let short = refusal_of(|o| words(o, vec![0; 11]));
    says(&short, &["damaged", "22 bytes of pixel data where the header says 24"]);
    let long = refusal_of(|o| words(o, vec![0; 24]));
    says(&long, &["damaged", "48 bytes of pixel data are more than the 24"]);
    let huge = refusal_of(|o| {
        set_us(o, tags::ROWS, 65535);
        set_us(o, tags::COLUMNS, 65535);
    });
    says(&huge, &["24 bytes of pixel data where the header says 8589672450"]);
    let encapsulated = refusal_of(|o| encapsulate(o, &[&[0; 24]]));
    says(&encapsulated, &["not encoded as its transfer syntax says"]);
}

#[test]
fn a_compressed_image_must_have_the_size_of_the_header_before_memory_is_taken() {
    let large = |o: &mut InMemDicomObject| {
        set_us(o, tags::ROWS, 65535);
        set_us(o, tags::COLUMNS, 65535);
    };
    for (ts, stream) in [
        (uids::JPEG2000_LOSSLESS, jpeg_2000()),
        (uids::JPEGXL_LOSSLESS, jpeg_xl()),
        (uids::RLE_LOSSLESS, vec![0; 64]),
        (uids::JPEG_BASELINE8_BIT, vec![0xFF, 0xD8, 0xFF, 0xD9]),
    ] {
        let folder = Folder::new();
        let object = changed(|o| {
            large(o);
            encapsulate(o, &[&stream]);
        });
        folder.add_as("a.dcm", &object, ts);
        says(&decode_refusal(&folder), &["a volume of 8589672450 bytes", "volume_max_mib = 64"]);
    }
    // Within the limit: the codestream is another size than the header, or wants to be.
    let with = |at: usize, value: u8| {
        let mut stream = jpeg_2000();
        stream[at] = value;
        let folder = Folder::new();
        folder.add_as("a.dcm", &changed(|o| encapsulate(o, &[&stream])), uids::JPEG2000_LOSSLESS);
        decode_refusal(&folder)
    };
    says(&with(8, 0x7F), &["2130706436x3 where the header says 4x3"]);
    says(&with(15, 9), &["4x9 where the header says 4x3"]);
    says(&with(41, 3), &["3 components"]);
    // Tiles of one pixel: none of twelve is there.
    let mut stream = jpeg_2000();
    for at in [24, 28] {
        stream[at..at + 4].copy_from_slice(&1u32.to_be_bytes());
    }
    let folder = Folder::new();
    folder.add_as("a.dcm", &changed(|o| encapsulate(o, &[&stream])), uids::JPEG2000_LOSSLESS);
    says(&decode_refusal(&folder), &["a.dcm", "damaged", "fewer tiles than its header says"]);
    says(&with(0, 0), &["no header or no end"]);
}

/// Reads an image whose compressed frame is `sound` but for one byte, each of `places` in turn.
fn with_a_byte_changed(sound: &[u8], places: Range<usize>, syntax: &str) {
    for at in places {
        for value in [0x00, 0x55, 0x7F, 0xFF] {
            let mut stream = sound.to_vec();
            stream[at] = value;
            let folder = Folder::new();
            let object = changed(|o| {
                set_us(o, tags::PIXEL_REPRESENTATION, 0);
                encapsulate(o, &[&stream]);
            });
            folder.add_as("a.dcm", &object, syntax);
            // What still is a codestream may decode; the rest is an error.
            let study = folder.read().expect("readable headers");
            let _ = study.series[0].voxels(0, &Budget::unlimited(), &options());
        }
    }
}

#[test]
fn a_damaged_codestream_is_an_error_and_no_panic() {
    let sound = jpeg_2000();
    with_a_byte_changed(&sound, 45..sound.len() - 2, uids::JPEG2000_LOSSLESS);
}

#[test]
fn a_damaged_image_of_jpeg_xl_is_an_error_and_no_panic() {
    let sound = jpeg_xl();
    with_a_byte_changed(&sound, 2..sound.len(), uids::JPEGXL_LOSSLESS);
}

#[test]
fn limits_are_named_and_checked_before_reading() {
    let folder = Folder::of_slices(3);
    let path = [folder.path().to_owned()];
    let refused = |options: &ReadOptions| {
        let error = read(&path, options).expect_err("refused");
        assert!(error.is_limit());
        error.to_string()
    };
    says(&refused(&ReadOptions { files_max: 2, ..options() }), &["files_max = 2"]);
    says(&refused(&ReadOptions { file_max_mib: 0, ..options() }), &["a file of", "file_max_mib = 0", ".dcm"]);
    let study = folder.read().expect("a study");
    let none = ReadOptions { volume_max_mib: 0, ..options() };
    let error = study.series[0].voxels(0, &Budget::unlimited(), &none).expect_err("refused");
    assert!(error.is_limit());
    says(&error.to_string(), &["a volume of 72 bytes", "volume_max_mib = 0"]);
    let error = study.series[0].voxels(0, &Budget::bytes(71), &options()).expect_err("refused");
    assert!(error.is_limit());
    says(&error.to_string(), &["host_memory_mib"]);
    let budget = Budget::bytes(72 + scratch(3));
    study.series[0].voxels(0, &budget, &options()).expect("just enough");
    assert_eq!(budget.used(), 0, "given back");
}

/// A file whose data set is `elements`, explicit little endian.
fn raw(elements: &[u8]) -> Vec<u8> {
    let whole = bytes_of(|_| {});
    let start = whole.windows(4).position(|w| w == [8, 0, 8, 0]).expect("Image Type");
    [&whole[..start], elements].concat()
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let sequence = [0x08, 0, 0x15, 0x11, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    let item = [0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
    let nested = [sequence.as_slice(), item.as_slice()].concat();
    says(&refusal_of_bytes(&raw(&nested.repeat(100_000))), &["nested", "sequence_depth_max = 64"]);
    says(&refusal_of_bytes(&raw(&nested.repeat(10))), &["damaged", "the file ends"]);
    let unknown = [0x09, 0, 0x15, 0x11, b'U', b'N', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    let nested = [unknown.as_slice(), item.as_slice()].concat();
    says(&refusal_of_bytes(&raw(&nested.repeat(100_000))), &["sequence_depth_max = 64"]);
    // As deep as is let through, and whole.
    let close = [0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];
    let nested = [sequence.as_slice(), item.as_slice()].concat();
    let deepest = [nested.repeat(64), close.repeat(64)].concat();
    says(&refusal_of_bytes(&raw(&deepest)), &["the file ends before its pixel data"]);
}

/// Slice 0 with `elements` before its data set.
fn with_elements(elements: &[u8]) -> Vec<u8> {
    let whole = bytes_of(|_| {});
    let start = whole.windows(4).position(|w| w == [8, 0, 8, 0]).expect("Image Type");
    [&whole[..start], elements, &whole[start..]].concat()
}

#[test]
fn a_vendors_sequence_in_implicit_vr_is_left_out_of_the_header() {
    let unknown = [0x09, 0, 0x15, 0x11, b'U', b'N', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    let item = [0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
    let close = [0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];
    let implicit = [0x08, 0, 0x70, 0, 4, 0, 0, 0, b'A', b'B', b'C', b'D'];
    let explicit = [0x08, 0, 0x70, 0, b'L', b'O', 4, 0, b'A', b'B', b'C', b'D'];
    for (content, there) in [(implicit.as_slice(), false), (explicit.as_slice(), true)] {
        let folder = Folder::new();
        folder.add_bytes("a.dcm", &with_elements(&[unknown.as_slice(), &item, content, &close].concat()));
        let study = folder.read().expect("a study");
        let series = &study.series[0];
        assert_eq!(series.header.get(Tag(0x0009, 0x1115)).is_some(), there);
        assert_eq!(series.attribute("Modality").as_deref(), Some("CT"));
        assert_eq!(values(series)[1], -1023.0);
    }
}

#[test]
fn a_group_length_before_the_pixels_does_not_hide_them() {
    let whole = bytes_of(|_| {});
    let at = whole.windows(4).position(|w| w == [0xE0, 0x7F, 0x10, 0]).expect("Pixel Data");
    let length = [0xE0, 0x7F, 0, 0, b'U', b'L', 4, 0, 36, 0, 0, 0];
    let folder = Folder::new();
    folder.add_bytes("a.dcm", &[&whole[..at], &length, &whole[at..]].concat());
    assert_eq!(folder.values()[1], -1023.0);
}

#[test]
fn lengths_beyond_the_file_take_no_memory() {
    for vr in [b"UT", b"OB", b"UN", b"OW"] {
        let long = [0x08, 0, 0x15, 0x11, vr[0], vr[1], 0, 0, 0xF0, 0xFF, 0xFF, 0xFF, 1, 2, 3];
        says(&refusal_of_bytes(&raw(&long)), &["header_max_mib = 64"]);
        let less = [0x08, 0, 0x15, 0x11, vr[0], vr[1], 0, 0, 0, 0, 0, 2, 1, 2, 3];
        says(&refusal_of_bytes(&raw(&less)), &["damaged", "the file ends within a value of 33554432 bytes"]);
    }
    let over = [0x08, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 20, 0, 0, 0, 0xFE, 0xFF, 0x00, 0xE0, 100, 0, 0, 0, 0, 0, 0, 0];
    says(&refusal_of_bytes(&raw(&[over.as_slice(), &[0; 200]].concat())), &["damaged", "reaches over the end"]);
    let meta = [&[0; 128], b"DICM".as_slice(), &[2, 0, 1, 0, b'O', b'B', 0, 0, 0xF0, 0xFF, 0xFF, 0xFF, 1, 2]].concat();
    says(&refusal_of_bytes(&meta), &["file meta information"]);
    says(&refusal_of_bytes(&[&[0; 128], b"DICM".as_slice(), &[8; 40]].concat()), &["TransferSyntaxUID (0002,0010)"]);
}

/// The parser would read two of three words, and take what is left for an element of any length.
#[test]
fn a_value_is_a_whole_number_of_numbers() {
    for (vr, length) in [(b"US", 3), (b"OW", 5), (b"FL", 6), (b"AT", 2), (b"OD", 12), (b"SV", 4)] {
        let long = matches!(vr, b"OW" | b"OD" | b"SV");
        let head =
            [&[0x09, 0, 0x01, 0x10, vr[0], vr[1]][..], if long { &[0, 0, length, 0, 0, 0] } else { &[length, 0] }];
        let hidden = [0x08, 0, 0x15, 0x11, b'U', b'T', 0, 0, 0, 0, 0, 0x70];
        let bytes = [&head.concat()[..], &vec![0; usize::from(length)], &hidden[..]].concat();
        says(&refusal_of_bytes(&raw(&bytes)), &["damaged", "bytes for each"]);
    }
}

#[test]
fn a_flood_of_elements_is_a_limit() {
    let empty = [0x08, 0, 0x15, 0x11, b'L', b'O', 0, 0];
    says(&refusal_of_bytes(&raw(&empty.repeat(600_000))), &["elements_max = 500000"]);
}

#[test]
fn a_deflated_bomb_inflates_only_as_far_as_it_is_needed() {
    let folder = Folder::new();
    let object = changed(|o| {
        let zeros = PrimitiveValue::U8(vec![0; 80 << 20].into());
        o.put(DataElement::new(Tag(0x0009, 0x1001), VR::OB, zeros));
    });
    folder.add_as("a.dcm", &object, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN);
    says(&folder.refusal(), &["a.dcm", "header_max_mib = 64"]);
}

#[test]
fn a_file_that_changes_after_its_header_was_read_is_refused() {
    let folder = Folder::of_slices(2);
    let study = folder.read().expect("a study");
    let decode = || study.series[0].voxels(0, &Budget::unlimited(), &options()).map(|_| ()).map_err(|e| e.to_string());
    let path = folder.path().join("s1.dcm");
    let whole = std::fs::read(&path).expect("the file");
    folder.add("s1.dcm", &changed(|o| set(o, tags::IMAGE_POSITION_PATIENT, VR::DS, "-20\\-30\\-6.5")));
    says(&decode().expect_err("another header"), &["s1.dcm", "changed while it was read"]);
    folder.add_bytes("s1.dcm", &whole[..whole.len() - 2]);
    says(&decode().expect_err("another length"), &["s1.dcm", "changed while it was read"]);
    folder.add_bytes("s1.dcm", &whole);
    assert_eq!(decode(), Ok(()));
    std::fs::remove_file(&path).expect("removed");
    says(&decode().expect_err("gone"), &["s1.dcm", "cannot be read"]);
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_never_opened() {
    let folder = Folder::of_slices(2);
    let socket = folder.path().join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    assert_eq!(folder.read().expect("a study").warnings, Vec::<String>::new());
    says(&read(&[socket], &options()).expect_err("refused").to_string(), &["socket", "not a DICOM file"]);
}

/// Reads, decodes, shows and rewrites a file of `bytes`; the time it may take is far above what it takes.
pub(super) fn survives(bytes: &[u8]) {
    let folder = Folder::new();
    let path = folder.add_bytes("a.dcm", bytes);
    let start = Instant::now();
    if let Ok(mut rewrite) = rewrite(&path, &options()) {
        while let Ok(Some(_)) = rewrite.piece(&options()) {}
    }
    if let Ok(kept) = keep(&path, &options())
        && let Ok(Some(frame)) = kept.frame(1, &options())
    {
        let _ = (kept.can_be_shown(), frame.shown(), frame.native());
    }
    if let Ok(study) = folder.read() {
        for series in &study.series {
            let _ = series.voxels(0, &Budget::unlimited(), &options());
        }
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// The same slice in each transfer syntax that tells readers apart.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Folder::new();
    let mut seeds = Vec::new();
    for ts in [
        EXPLICIT,
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.2",
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        uids::JPEG2000_LOSSLESS,
        uids::RLE_LOSSLESS,
        uids::JPEG_BASELINE8_BIT,
        uids::JPEGXL_LOSSLESS,
    ] {
        let object = changed(|o| {
            let items = dicom_core::value::DataSetSequence::new(
                vec![changed(|o| {
                    o.remove_element(tags::PIXEL_DATA);
                })],
                dicom_core::Length::UNDEFINED,
            );
            o.put(DataElement::new(tags::REFERENCED_IMAGE_SEQUENCE, VR::SQ, Value::from(items)));
            if ts == uids::JPEG2000_LOSSLESS {
                set_us(o, tags::PIXEL_REPRESENTATION, 0);
                encapsulate(o, &[&jpeg_2000()]);
            } else if ts == uids::JPEGXL_LOSSLESS {
                set_us(o, tags::PIXEL_REPRESENTATION, 0);
                encapsulate(o, &[&jpeg_xl()]);
            } else if ts == uids::RLE_LOSSLESS {
                encapsulate(o, &[&[2; 90]]);
            } else if ts == uids::JPEG_BASELINE8_BIT {
                let mut jpeg = Vec::new();
                let pixels = [7; COLUMNS as usize * ROWS as usize * 3];
                let kind = jpeg_encoder::ColorType::Rgb;
                jpeg_encoder::Encoder::new(&mut jpeg, 90).encode(&pixels, COLUMNS, ROWS, kind).expect("a JPEG");
                set(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "YBR_FULL_422");
                set_us(o, tags::SAMPLES_PER_PIXEL, 3);
                for (tag, value) in [(tags::BITS_ALLOCATED, 8), (tags::BITS_STORED, 8), (tags::HIGH_BIT, 7)] {
                    set_us(o, tag, value);
                }
                encapsulate(o, &[&jpeg]);
            }
        });
        seeds.push(std::fs::read(folder.add_as("a.dcm", &object, ts)).expect("the file"));
    }
    let mut frames = super::frames::in_order(&[2, 0, 1]);
    seeds.push(std::fs::read(folder.add("a.dcm", &frames)).expect("the file"));
    set_us(&mut frames, tags::PIXEL_REPRESENTATION, 0);
    encapsulate(&mut frames, &[&jpeg_2000(), &jpeg_2000(), &jpeg_2000()]);
    seeds.push(std::fs::read(folder.add_as("a.dcm", &frames, uids::JPEG2000_LOSSLESS)).expect("the file"));
    seeds
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bytes_and_cuts_never_panic(
        seed in 0..10usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let mut bytes = SEEDS.with(|seeds| seeds[seed].clone());
        for (at, value) in flips {
            // The preamble and the magic are not read any further.
            let at = 132 + at.index(bytes.len() - 132);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(132 + cut.index(bytes.len() - 132));
        }
        survives(&bytes);
    }
}

/// The most memory that the process ever had, in bytes. Each test is alone in its process under nextest.
pub(super) fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB").to_owned();
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_much_larger_than_its_image_is_hashed_whole_and_never_held_whole() {
    use sha2::Digest;
    let folder = Folder::of_slices(3);
    for entry in std::fs::read_dir(folder.path()).expect("listed") {
        let file = std::fs::OpenOptions::new().write(true).open(entry.expect("an entry").path()).expect("opened");
        file.set_len(48 << 20).expect("longer");
    }
    let before = most_memory();
    let study = folder.read().expect("a study");
    let (_, _, digests) = study.series[0].voxels(0, &Budget::bytes(1000), &options()).expect("voxels");
    let more = most_memory() - before;
    assert!(more < 24 << 20, "{more} bytes for files of 48 MiB");
    let bytes = std::fs::read(&study.series[0].instances[0].path).expect("the file");
    assert_eq!(sha2::Sha256::digest(bytes)[..], digests[0][..]);
}

#[test]
fn a_file_that_is_not_dicom_is_left_out_or_when_strict_refused() {
    let folder = Folder::of_slices(3);
    folder.add_bytes("notes.txt", b"a list");
    let study = folder.read().expect("a study");
    assert!(study.warnings.iter().any(|w| w.contains("1 files that are not DICOM")), "{:?}", study.warnings);
    let strict = ReadOptions { strict: true, ..options() };
    says(&read(&[folder.path().to_owned()], &strict).expect_err("refused").to_string(), &["notes.txt", "strict"]);
}
