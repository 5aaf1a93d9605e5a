//! WADO-RS: other transfer syntaxes than received, and pictures.

use std::path::{Path, PathBuf};

use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use gantry_tests::node::{Node, eventually};
use gantry_tests::peers::Peers;
use gantry_tests::{asset, assets};

use crate::dicomweb::{INSTANCE, MULTIPART, Reply, WEB, ask, filled, get, post, study, web};

const STUDY: &str = "/dicom-web/studies/2.25.2";
const SERIES: &str = "/dicom-web/studies/2.25.2/series/2.25.3";
const DICOM_PARTS: &str = "Accept: multipart/related; type=\"application/dicom\"";

/// Real files of all kinds that are rewritten: compressed and native ones, colours, frames, private sequences of unknown VR.
const REAL: [&str; 29] = [
    "pydicom/test_files/examples_ybr_color.dcm",
    "pydicom/test_files/SC_rgb_rle_2frame.dcm",
    "pydicom-data/US1_J2KI.dcm",
    "pydicom/test_files/examples_jpeg2k.dcm",
    "pydicom-data/OBXXXX1A_rle.dcm",
    "pydicom-data/emri_small_big_endian.dcm",
    "pydicom-data/gdcm-US-ALOKA-16.dcm",
    "pydicom/test_files/SC_rgb_jpeg_dcmtk.dcm",
    "pydicom/test_files/SC_rgb_dcmtk_+eb+cr.dcm",
    "pydicom/test_files/SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "pydicom/test_files/SC_jpeg_no_color_transform_2.dcm",
    "pydicom/test_files/SC_rgb_small_odd_jpeg.dcm",
    "pydicom/test_files/SC_rgb_small_odd_big_endian.dcm",
    "pydicom/test_files/SC_rgb_gdcm_KY.dcm",
    "pydicom/test_files/GDCMJ2K_TextGBR.dcm",
    "pydicom-data/liver_expb.dcm",
    "pydicom/test_files/ExplVR_BigEnd.dcm",
    "pydicom/test_files/693_J2KI.dcm",
    "pydicom-data/693_J2KR.dcm",
    "pydicom/test_files/MR_small_RLE.dcm",
    "pydicom-data/MR2_J2KR.dcm",
    "pydicom-data/RG1_J2KR.dcm",
    "pydicom-data/RG3_J2KR.dcm",
    "pydicom/test_files/image_dfl.dcm",
    "pydicom/test_files/J2K_pixelrep_mismatch.dcm",
    "pydicom/test_files/SC_rgb_jpeg_lossy_gdcm.dcm",
    "pydicom/test_files/JPEG2000.dcm",
    "pydicom-data/color-pl.dcm",
    "pydicom-data/SC_ybr_full_uncompressed.dcm",
];

/// The parts of an answer, head and body each.
fn parts(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let boundary = reply.head.split("boundary=").nth(1).and_then(|rest| rest.split(['\r', ';']).next()).expect("parts");
    let delimiter = format!("--{boundary}");
    let body = dechunked(reply);
    let find = |from: usize| body[from..].windows(delimiter.len()).position(|w| w == delimiter.as_bytes());
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some(start) = find(at).map(|found| at + found + delimiter.len()) {
        let Some(end) = find(start).map(|found| start + found) else { break };
        let part = &body[start..end];
        let head = part.windows(4).position(|w| w == b"\r\n\r\n").expect("a part has a head");
        let text = String::from_utf8_lossy(&part[..head]).into_owned();
        parts.push((text, part[head + 4..part.len() - 2].to_vec()));
        at = end;
    }
    assert!(body.ends_with(format!("{delimiter}--\r\n").as_bytes()), "the body is whole");
    parts
}

/// The body, without the chunks of HTTP/1.1.
fn dechunked(reply: &Reply) -> Vec<u8> {
    if !reply.head.contains("transfer-encoding: chunked") {
        return reply.body.clone();
    }
    let (mut body, mut rest) = (Vec::new(), reply.body.as_slice());
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").expect("a chunk has a length");
        let text = std::str::from_utf8(&rest[..line]).expect("ASCII");
        let length = usize::from_str_radix(text, 16).expect("a length");
        if length == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 4 + length..];
    }
}

fn accepting(node: &Node, target: &str, accept: &str) -> Reply {
    ask(node, "GET", target, &format!("Accept: {accept}\r\n"))
}

/// Sends an instance of the small CT's study, which is changed first, and encapsulated where `fragment` is given.
fn send(node: &Node, transfer_syntax: &str, change: impl FnOnce(&mut InMemDicomObject), fragment: Option<Vec<u8>>) {
    let (_folder, files, _) = study();
    let mut object = dicom_object::open_file(&files[0]).expect("a file").into_inner();
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, "2.25.99");
    change(&mut object);
    if let Some(fragment) = fragment {
        let sequence = PixelFragmentSequence::new_fragments(vec![fragment]);
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, Value::PixelSequence(sequence)));
    }
    let meta = FileMetaTableBuilder::new().transfer_syntax(transfer_syntax);
    let mut file = Vec::new();
    object.with_meta(meta).expect("its meta information").write_all(&mut file).expect("written");
    let body = [b"--b\r\nContent-Type: application/dicom\r\n\r\n", &file[..], b"\r\n--b--\r\n"].concat();
    let reply = post(node, "/dicom-web/studies", MULTIPART, &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// RLE of 16-bit pixels that are all 7.
fn rle(pixels: usize) -> Vec<u8> {
    let runs = pixels.div_ceil(128);
    let plane = |byte: u8| [129, byte].repeat(runs);
    let (high, low) = (plane(0), plane(7));
    let offsets = [2, 64, 64 + high.len() as u32].map(u32::to_le_bytes).concat();
    let header = [offsets, vec![0; 64 - 12]].concat();
    [header, high, low].concat()
}

/// An MR image and an inverse radiograph with each VOI LUT Function (PS3.3 C.11.2.1.3) and windows that end within their values.
fn windowed(folder: &Path) -> Vec<PathBuf> {
    let functions = ["LINEAR", "LINEAR_EXACT", "SIGMOID"];
    let images = [("pydicom/test_files/MR_small.dcm", "700", "400.5"), ("pydicom-data/RG3_UNCR.dcm", "500", "300")];
    let of = |(image, (name, centre, width)): (usize, (&str, &str, &str))| {
        functions.map(|function| {
            let mut object = dicom_object::open_file(assets().join(name)).expect("an image");
            let uid = format!("2.25.9{image}{}", function.len());
            object.put_str(tags::SOP_INSTANCE_UID, VR::UI, uid.as_str());
            object.update_meta(|meta| meta.media_storage_sop_instance_uid = uid);
            for (tag, vr, value) in [
                (tags::WINDOW_CENTER, VR::DS, centre),
                (tags::WINDOW_WIDTH, VR::DS, width),
                (tags::VOILUT_FUNCTION, VR::CS, function),
            ] {
                object.put_str(tag, vr, value);
            }
            let path = folder.join(format!("{image}-{function}.dcm"));
            object.write_to_file(&path).expect("written");
            path
        })
    };
    images.into_iter().enumerate().flat_map(of).collect()
}

/// A sender's report among the images.
fn send_report(node: &Node) {
    let change = |object: &mut InMemDicomObject| {
        object.put_str(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.88.11");
        for tag in [tags::PIXEL_DATA, tags::ROWS, tags::COLUMNS] {
            object.remove_element(tag);
        }
    };
    send(node, uids::EXPLICIT_VR_LITTLE_ENDIAN, change, None);
}

#[test]
fn other_transfer_syntaxes_are_what_pydicom_reads() {
    let Some(peers) = Peers::with("dicomweb_client, pydicom, PIL, openjpeg") else { return };
    let Some(_) = asset("pydicom").zip(asset("pydicom-data")) else { return };
    let node = Node::start(WEB);
    let with_functions = tempfile::tempdir().expect("a folder");
    let mut files = REAL.map(|name| assets().join(name)).to_vec();
    files.extend(windowed(with_functions.path()));
    let mut body = Vec::new();
    for file in &files {
        let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        body.extend([b"--b\r\nContent-Type: application/dicom\r\n\r\n", &bytes[..], b"\r\n"].concat());
    }
    body.extend_from_slice(b"--b--\r\n");
    let reply = post(&node, "/dicom-web/studies", MULTIPART, &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let base = format!("http://{}/dicom-web", web(&node));
    let mut arguments = vec![base.as_str()];
    arguments.extend(files.iter().map(|file| file.to_str().expect("UTF-8")));
    peers.agree("wado.py", &arguments);
}

#[test]
fn a_series_and_a_study_are_rendered_in_parts() {
    let node = filled(WEB);
    send_report(&node);
    for (target, accept, kind, magic) in [
        (SERIES, "*/*", "image/jpeg", &b"\xFF\xD8\xFF"[..]),
        (SERIES, "image/png", "image/png", b"\x89PNG"),
        (SERIES, "image/gif", "image/gif", b"GIF89a"),
        (STUDY, "multipart/related; type=\"image/png\"", "image/png", b"\x89PNG"),
        (STUDY, "image/jpeg", "image/jpeg", b"\xFF\xD8\xFF"),
    ] {
        let reply = accepting(&node, &format!("{target}/rendered?viewport=8,8&quality=50"), accept);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.head.contains(&format!("multipart/related; type=\"{kind}\"")), "{}", reply.head);
        assert!(!reply.head.contains("warning:"), "a report has no pixels to be left out: {}", reply.head);
        let parts = parts(&reply);
        assert_eq!(parts.len(), 10, "one of each instance that has pixels");
        for (head, picture) in &parts {
            assert!(head.contains(kind) && head.contains("/instances/2.25.1"), "{head}");
            assert!(picture.starts_with(magic));
        }
    }
    let frames = accepting(&node, &format!("{INSTANCE}/frames/1,1/rendered"), "image/png");
    assert_eq!((frames.status, parts(&frames).len()), (200, 2));
    // The picture of an instance is as it was.
    let one = get(&node, &format!("{INSTANCE}/rendered"));
    assert!(one.head.contains("content-type: image/jpeg") && one.body.starts_with(b"\xFF\xD8\xFF"), "{}", one.head);
    for target in [STUDY, SERIES, INSTANCE] {
        let small = get(&node, &format!("{target}/thumbnail"));
        assert!(small.status == 200 && small.head.contains("content-type: image/jpeg"), "{}", small.head);
        let small = accepting(&node, &format!("{target}/thumbnail"), "image/png");
        assert!(small.head.contains("content-type: image/png") && small.body.starts_with(b"\x89PNG"));
    }
}

#[test]
fn what_cannot_be_shown_is_left_out_and_told() {
    let node = filled(WEB);
    let bits = |object: &mut InMemDicomObject| {
        for (tag, value) in [(tags::BITS_ALLOCATED, 4u16), (tags::BITS_STORED, 4), (tags::HIGH_BIT, 3)] {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        }
    };
    send(&node, uids::EXPLICIT_VR_LITTLE_ENDIAN, bits, None);
    let reply = get(&node, &format!("{SERIES}/rendered"));
    assert_eq!((reply.status, parts(&reply).len()), (200, 10));
    assert!(reply.head.contains("warning: 299 gantry \"1 instances have pixels"), "{}", reply.head);
    let alone = get(&node, &format!("{SERIES}/instances/2.25.99/rendered"));
    assert!(alone.status == 406 && alone.text().contains("neither bytes nor bits"), "{}", alone.text());
}

#[test]
fn an_instance_without_pixels_has_no_picture() {
    let node = Node::start(WEB);
    send_report(&node);
    for target in [STUDY, SERIES, &format!("{SERIES}/instances/2.25.99")] {
        for resource in ["rendered", "thumbnail"] {
            let reply = get(&node, &format!("{target}/{resource}"));
            assert!(reply.status == 406 && reply.text().contains("no pixels"), "{target}: {}", reply.text());
        }
    }
}

#[test]
fn unreasonable_pictures_are_refused_at_every_level() {
    let node = filled("[web]\nlisten = \"127.0.0.1:0\"\nrendered_images_max = 9\n");
    for target in [STUDY, SERIES, INSTANCE, &format!("{INSTANCE}/frames/1")] {
        for query in [
            "quality=0",
            "quality=101",
            "quality=x",
            "quality=",
            "viewport=999999,999999",
            "viewport=4294967295,4294967295",
            "viewport=99999999999,1",
            "viewport=0,0",
            "viewport=-1,1",
            "viewport=1",
            "window=1,0",
        ] {
            let reply = get(&node, &format!("{target}/rendered?{query}"));
            assert_eq!(reply.status, 400, "{target} {query}: {}", reply.text());
        }
        for accept in
            ["text/html", "image/png;q=0, image/jpeg;q=0, image/gif;q=0, */*", "multipart/related; type=\"video/mp4\""]
        {
            let reply = accepting(&node, &format!("{target}/rendered"), accept);
            assert!(
                reply.status == 406 && reply.text().contains("image/jpeg, image/png, image/gif"),
                "{accept}: {}",
                reply.text()
            );
        }
    }
    for target in [STUDY, SERIES] {
        let reply = get(&node, &format!("{target}/rendered"));
        assert!(reply.status == 406 && reply.text().contains("web.rendered_images_max = 9"), "{}", reply.text());
    }
    assert_eq!(get(&node, &format!("{INSTANCE}/frames/{}/rendered", ["1"; 10].join(","))).status, 406);
    assert_eq!(get(&node, &format!("{INSTANCE}/frames/2/rendered")).status, 404);
}

#[test]
fn a_client_gets_the_transfer_syntax_that_it_asks_for_or_hears_what_there_is() {
    let node = filled(WEB);
    send(&node, uids::RLE_LOSSLESS, |_| {}, Some(rle(256)));
    let explicit = |reply: &Reply, count: usize| {
        let parts = parts(reply);
        assert_eq!(parts.len(), count);
        for (head, file) in parts {
            assert!(head.ends_with("application/dicom; transfer-syntax=1.2.840.10008.1.2.1"), "{head}");
            let object = dicom_object::from_reader(&file[128..]).expect("a file");
            assert_eq!(object.meta().transfer_syntax(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
            assert_eq!(object.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("native").len(), 512);
        }
    };
    // Who says nothing gets Explicit VR Little Endian, as who names it does.
    for header in
        ["", &format!("{DICOM_PARTS}\r\n"), &format!("{DICOM_PARTS}; transfer-syntax=1.2.840.10008.1.2.1\r\n")]
    {
        for target in [STUDY, SERIES] {
            explicit(&ask(&node, "GET", target, header), 11);
        }
        explicit(&ask(&node, "GET", &format!("{SERIES}/instances/2.25.99"), header), 1);
    }
    let stored = ask(&node, "GET", SERIES, &format!("{DICOM_PARTS}; transfer-syntax=*\r\n"));
    let told = parts(&stored).iter().filter(|(head, _)| head.ends_with("transfer-syntax=1.2.840.10008.1.2.5")).count();
    assert_eq!(told, 1);
    let single = accepting(&node, &format!("{SERIES}/instances/2.25.99"), "application/dicom");
    assert!(
        single.head.contains("content-type: application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
        "{}",
        single.head
    );
    let other = ask(&node, "GET", SERIES, &format!("{DICOM_PARTS}; transfer-syntax=1.2.840.10008.1.2.4.50\r\n"));
    assert!(other.status == 406 && other.text().contains("as received, in 1.2.840.10008.1.2.1, 1.2.840.10008.1.2.5"));
}

#[test]
fn what_is_not_decoded_goes_as_received_to_who_takes_that() {
    let node = filled(WEB);
    let mpeg = "1.2.840.10008.1.2.4.102";
    send(&node, mpeg, |_| {}, Some(vec![0, 0, 1, 0xB3]));
    for header in [format!("{DICOM_PARTS}\r\n"), format!("{DICOM_PARTS}; transfer-syntax=1.2.840.10008.1.2.1\r\n")] {
        let reply = ask(&node, "GET", STUDY, &header);
        assert!(reply.status == 406 && reply.text().contains("transfer-syntax=*"), "{}", reply.text());
        assert!(reply.text().contains(mpeg), "{}", reply.text());
    }
    let also = format!("{DICOM_PARTS}, multipart/related; type=\"application/dicom\"; transfer-syntax=*; q=0.5\r\n");
    for header in ["", &also, &format!("{DICOM_PARTS}; transfer-syntax=*\r\n")] {
        let reply = ask(&node, "GET", STUDY, header);
        let parts = parts(&reply);
        assert_eq!((reply.status, parts.len()), (200, 11));
        assert_eq!(parts.iter().filter(|(head, _)| head.ends_with(mpeg)).count(), 1);
    }
}

#[test]
fn what_would_be_too_large_decoded_is_refused_by_the_name_of_the_limit() {
    let node = Node::start("[web]\nlisten = \"127.0.0.1:0\"\n[limits]\nvolume_max_mib = 1\n");
    let large = |object: &mut InMemDicomObject| {
        for tag in [tags::ROWS, tags::COLUMNS] {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(1024u16)));
        }
    };
    send(&node, uids::RLE_LOSSLESS, large, Some(rle(1024 * 1024)));
    let reply = ask(&node, "GET", SERIES, &format!("{DICOM_PARTS}\r\n"));
    assert!(reply.status == 406 && reply.text().contains("volume_max_mib = 1"), "{}", reply.text());
    let stored = ask(&node, "GET", SERIES, &format!("{DICOM_PARTS}; transfer-syntax=*\r\n"));
    assert_eq!((stored.status, parts(&stored).len()), (200, 1));
}

#[test]
fn a_damaged_image_ends_the_answer_and_is_not_taken_for_whole() {
    let node = filled(WEB);
    let mut cut = rle(256);
    cut.truncate(70);
    send(&node, uids::RLE_LOSSLESS, |_| {}, Some(cut));
    let reply = ask(&node, "GET", SERIES, &format!("{DICOM_PARTS}\r\n"));
    assert_eq!(reply.status, 200, "only decoding shows it");
    assert!(!reply.body.ends_with(b"0\r\n\r\n"), "the last chunk never comes");
    eventually("the log tells", || node.log().contains("an answer ends before its end"));
    assert_eq!(get(&node, &format!("{SERIES}/instances/2.25.99/rendered")).status, 406);
}
