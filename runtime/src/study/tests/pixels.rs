//! Stored values, Hounsfield units and transfer syntaxes.

use super::*;

/// 4 × 3 pixels, 100 p + 5, as OpenJPEG 2.5.4 writes them losslessly: 16 bits, unsigned.
const JPEG_2000: &str = "ff4fff5100290000000000040000000300000000000000000000000400000003000000000000000000010f0101\
    ff52000c00000001000004040001ff5c00044080ff640025000143726561746564206279204f70656e4a5045472076657273696f6e20322e35\
    2e34ff90000a0000000000250001ff93cffc304c08ec655bc177af79a850b30e43368957995c9fffd9";

pub(super) fn jpeg_2000() -> Vec<u8> {
    bytes(JPEG_2000)
}

/// The same pixels as libjxl 0.11 writes them losslessly: 12 bits.
pub(super) fn jpeg_xl() -> Vec<u8> {
    bytes("ff0a103018142d020804010068004b188b15525c1a9c63dd12a48f613e9f288af2f048c4cfea2003")
}

/// 4 × 3 pixels whose samples are multiples of 7, as it writes colours losslessly.
const JPEG_XL_RGB: &str = "ff0a103010090804010084004b18938e8383a49814d5bb818300a0170806e03233333333130000e0b6fdb6df06";

/// The bytes that hexadecimal digits are.
fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let digit = |b: u8| (b as char).to_digit(16).expect("hexadecimal") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Values of slice 0, changed, in a transfer syntax.
fn values_as(transfer_syntax: &str, change: impl FnOnce(&mut InMemDicomObject)) -> Vec<f32> {
    let folder = Folder::new();
    folder.add_as("a.dcm", &changed(change), transfer_syntax);
    folder.values()
}

fn stored(object: &mut InMemDicomObject, allocated: u16, bits: u16, signed: u16) {
    set_us(object, tags::BITS_ALLOCATED, allocated);
    set_us(object, tags::BITS_STORED, bits);
    set_us(object, tags::HIGH_BIT, bits - 1);
    set_us(object, tags::PIXEL_REPRESENTATION, signed);
}

fn pixels(first: &[u16]) -> Vec<u16> {
    let mut pixels = first.to_vec();
    pixels.resize(usize::from(ROWS * COLUMNS), 0);
    pixels
}

#[test]
fn stored_bits_are_taken_out_with_their_sign() {
    let first = |change: &dyn Fn(&mut InMemDicomObject)| -> Vec<f32> {
        values_as(EXPLICIT, |o| {
            set(o, tags::RESCALE_INTERCEPT, VR::DS, "0");
            change(o);
        })[..3]
            .to_vec()
    };
    let signed = |o: &mut InMemDicomObject| words(o, pixels(&[0xFFFF, 0x8000, 0x7FFF]));
    assert_eq!(first(&signed), [-1.0, -32768.0, 32767.0]);
    let unsigned = |o: &mut InMemDicomObject| {
        stored(o, 16, 16, 0);
        words(o, pixels(&[0xFFFF, 0x8000, 0x7FFF]));
    };
    assert_eq!(first(&unsigned), [65535.0, 32768.0, 32767.0]);
    // The four bits above the stored twelve are an overlay's or nobody's.
    let twelve = |o: &mut InMemDicomObject| {
        stored(o, 16, 12, 0);
        words(o, pixels(&[0xF123, 0x0FFF, 0x8000]));
    };
    assert_eq!(first(&twelve), [f32::from(0x123u16), 4095.0, 0.0]);
    let twelve_signed = |o: &mut InMemDicomObject| {
        stored(o, 16, 12, 1);
        words(o, pixels(&[0x0FFF, 0x0800, 0x07FF]));
    };
    assert_eq!(first(&twelve_signed), [-1.0, -2048.0, 2047.0]);
    let shifted = |o: &mut InMemDicomObject| {
        stored(o, 16, 12, 0);
        set_us(o, tags::HIGH_BIT, 15);
        words(o, pixels(&[0x1230, 0xFFFF, 0x000F]));
    };
    assert_eq!(first(&shifted), [f32::from(0x123u16), 4095.0, 0.0]);
    let bytes = |signed| {
        move |o: &mut InMemDicomObject| {
            stored(o, 8, 8, signed);
            let bytes: Vec<u8> = pixels(&[0xFF, 0x80, 0x7F]).into_iter().map(|v| v as u8).collect();
            o.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(bytes.into())));
        }
    };
    assert_eq!(first(&bytes(0)), [255.0, 128.0, 127.0]);
    assert_eq!(first(&bytes(1)), [-1.0, -128.0, 127.0]);
}

#[test]
fn rescale_gives_hounsfield_units() {
    let rescaled = |slope: &str, intercept: &str, signed| {
        values_as(EXPLICIT, |o| {
            stored(o, 16, 16, signed);
            set(o, tags::RESCALE_SLOPE, VR::DS, slope);
            set(o, tags::RESCALE_INTERCEPT, VR::DS, intercept);
            words(o, pixels(&[0, 1024, 40000]));
        })[..3]
            .to_vec()
    };
    assert_eq!(rescaled("1", "-1024", 0), [-1024.0, 0.0, 38976.0]);
    assert_eq!(rescaled("0.5", "10", 1), [10.0, 522.0, 10.0 + 0.5 * (40000.0 - 65536.0)]);
    // An intercept that is not exact in f32 once shifted is computed voxel by voxel.
    assert_eq!(rescaled("1", "-1000.001", 0), [-1000.001, 1024.0 - 1000.001f32, 40000.0 - 1000.001f32]);
    // MR without a modality LUT has the values it has.
    let mr = values_as(EXPLICIT, |o| {
        set(o, tags::MODALITY, VR::CS, "MR");
        o.remove_element(tags::RESCALE_SLOPE);
        o.remove_element(tags::RESCALE_INTERCEPT);
    });
    assert_eq!(mr[..3], [0.0, 1.0, 2.0]);
}

#[test]
fn each_slice_has_its_own_rescale_in_pet() {
    let folder = Folder::new();
    for (i, slope) in ["2", "0.25"].iter().enumerate() {
        let mut object = slice(i);
        set(&mut object, tags::MODALITY, VR::CS, "PT");
        set(&mut object, tags::RESCALE_SLOPE, VR::DS, slope);
        set(&mut object, tags::RESCALE_INTERCEPT, VR::DS, "0");
        folder.add(&format!("{i}"), &object);
    }
    let values = folder.values();
    assert_eq!((values[5], values[12 + 5]), (10.0, 105.0 * 0.25));
}

#[test]
fn native_transfer_syntaxes_give_the_same_values() {
    let expected = values_as(EXPLICIT, |_| {});
    assert_eq!(expected[11], 11.0 - 1024.0);
    for ts in [uids::IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.2", uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN] {
        assert_eq!(values_as(ts, |_| {}), expected, "{ts}");
    }
    let eight = |o: &mut InMemDicomObject| {
        stored(o, 8, 8, 0);
        // Little endian words 1, 0, 3, 2, … are the bytes 0, 1, 2, 3, … in the order of pixels.
        let words: Vec<u16> = (0..6u16).map(|i| (2 * i + 1) << 8 | (2 * i)).collect();
        o.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(words.into())));
    };
    let expected: Vec<f32> = (0..12i16).map(|i| f32::from(i - 1024)).collect();
    assert_eq!(values_as(EXPLICIT, eight), expected);
    assert_eq!(values_as("1.2.840.10008.1.2.2", eight), expected);
}

/// RLE of 4 × 3 pixels of 16 bits: a run of twelve high bytes, then literal low bytes.
fn rle(high: u8, low: [u8; 12]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 2;
    bytes[4] = 64;
    bytes[8] = 66;
    bytes.extend([(257u16 - 12) as u8, high, 11]);
    bytes.extend(low);
    bytes.push(0);
    bytes
}

#[test]
fn rle_is_decoded() {
    let low = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255];
    let values = values_as(uids::RLE_LOSSLESS, |o| encapsulate(o, &[&rle(3, low)]));
    let expected: Vec<f32> = low.iter().map(|l| 768.0 + f32::from(*l) - 1024.0).collect();
    assert_eq!(values, expected);
    for (change, reason) in [
        (Box::new(|b: &mut Vec<u8>| b.truncate(70)) as Box<dyn Fn(&mut Vec<u8>)>, "too short"),
        (Box::new(|b: &mut Vec<u8>| b[0] = 1), "RLE header"),
        (Box::new(|b: &mut Vec<u8>| b[..4].fill(255)), "RLE header"),
        (Box::new(|b: &mut Vec<u8>| b[9] = 255), "outside its fragment"),
        (Box::new(|b: &mut Vec<u8>| b.truncate(30)), "RLE header"),
    ] {
        let mut bytes = rle(3, low);
        change(&mut bytes);
        let folder = Folder::new();
        folder.add_as("a.dcm", &changed(|o| encapsulate(o, &[&bytes])), uids::RLE_LOSSLESS);
        says(&decode_refusal(&folder), &["a.dcm", "damaged", reason]);
    }
}

#[test]
fn jpeg_2000_is_decoded_from_any_number_of_fragments() {
    let stream = jpeg_2000();
    let expected: Vec<f32> = (0..12i16).map(|p| f32::from(100 * p + 5 - 1024)).collect();
    let (a, b) = stream.split_at(60);
    // Some writers pad with ones.
    let padded = [stream.as_slice(), &[0xFF]].concat();
    for fragments in [vec![stream.as_slice()], vec![a, b], vec![padded.as_slice()]] {
        let values = values_as(uids::JPEG2000_LOSSLESS, |o| {
            stored(o, 16, 16, 0);
            encapsulate(o, &fragments);
        });
        assert_eq!(values, expected);
    }
    // Twelve bits are said and more are there.
    let folder = Folder::new();
    let object = changed(|o| {
        stored(o, 16, 10, 0);
        encapsulate(o, &[&stream]);
    });
    folder.add_as("a.dcm", &object, uids::JPEG2000_LOSSLESS);
    says(&decode_refusal(&folder), &["a.dcm", "Bits Stored (0028,0101)"]);
}

/// JPEG XL Lossless, and what else is JPEG XL.
const JPEG_XL: [&str; 3] = [uids::JPEGXL_LOSSLESS, uids::JPEGXLJPEG_RECOMPRESSION, uids::JPEGXL];

#[test]
fn jpeg_xl_is_decoded_bit_for_bit_with_boxes_and_without() {
    let stream = jpeg_xl();
    let boxed = [
        &b"\0\0\0\x0CJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl "[..],
        &(stream.len() as u32 + 8).to_be_bytes()[..],
        b"jxlc",
        &stream,
    ]
    .concat();
    let (a, b) = stream.split_at(20);
    let expected: Vec<f32> = (0..12i16).map(|p| f32::from(100 * p + 5 - 1024)).collect();
    for ts in JPEG_XL {
        for (bits, fragments) in [(12, vec![stream.as_slice()]), (16, vec![a, b]), (12, vec![boxed.as_slice()])] {
            let values = values_as(ts, |o| {
                stored(o, 16, bits, 0);
                encapsulate(o, &fragments);
            });
            assert_eq!(values, expected, "{ts}");
        }
    }
    // Twelve bits are there, and ten are said.
    let folder = Folder::new();
    let object = changed(|o| {
        stored(o, 16, 10, 0);
        encapsulate(o, &[&stream]);
    });
    folder.add_as("a.dcm", &object, JPEG_XL[0]);
    says(&decode_refusal(&folder), &["a.dcm", "Bits Stored (0028,0101)"]);
}

#[test]
fn colours_of_jpeg_xl_are_pixel_after_pixel_as_they_were_stored() {
    let shown = |photometric: &str, ts: &str| {
        let folder = Folder::new();
        let object = changed(|o| {
            stored(o, 8, 8, 0);
            set_us(o, tags::SAMPLES_PER_PIXEL, 3);
            set(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
            encapsulate(o, &[&bytes(JPEG_XL_RGB)]);
        });
        let options = options();
        let kept = keep(&folder.add_as("a.dcm", &object, ts), &options).expect("kept");
        let frame = kept.frame(1, &options).expect("read").expect("a frame");
        frame.decoded().expect("decoded")
    };
    let stored: Vec<u8> = (0..36).map(|sample| 7 * sample).collect();
    assert_eq!(shown("RGB", JPEG_XL[0]), ("RGB", stored.clone()));
    // Three samples of anything, losslessly, are what they are; of what was a JPEG they are colours.
    assert_eq!(shown("YBR_FULL", JPEG_XL[0]), ("YBR_FULL", stored.clone()));
    assert_eq!(shown("YBR_FULL", JPEG_XL[1]), ("RGB", stored.clone()));
    assert_eq!(shown("XYB", JPEG_XL[2]), ("RGB", stored));
    says(
        &refusal_of(|o| {
            set_us(o, tags::SAMPLES_PER_PIXEL, 3);
            set(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "XYB");
        }),
        &["PhotometricInterpretation (0028,0004)", "JPEG XL alone"],
    );
}

#[test]
fn a_damaged_image_of_jpeg_xl_is_refused_and_says_why() {
    let refused = |stream: &[u8]| {
        let folder = Folder::new();
        let object = changed(|o| {
            stored(o, 16, 12, 0);
            encapsulate(o, &[stream]);
        });
        folder.add_as("a.dcm", &object, JPEG_XL[0]);
        decode_refusal(&folder)
    };
    let stream = jpeg_xl();
    for cut in 2..stream.len() - 1 {
        says(&refused(&stream[..cut]), &["a.dcm", "damaged"]);
    }
    says(&refused(&stream[..8]), &["no header or no end"]);
    says(&refused(&jpeg_2000()), &["no header or no end"]);
    // A square, grey, of 60,000 rows.
    says(&refused(&bytes("ff0afc5227300800")), &["60000x60000 where the header says 4x3"]);
    says(&refused(&bytes(JPEG_XL_RGB)), &["3 components, not 1"]);
}

#[test]
fn jpeg_baseline_is_decoded_and_must_be_as_deep_as_the_header_says() {
    let flat = changed(|o| {
        stored(o, 8, 8, 0);
        o.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(vec![77; 12].into())));
    });
    let path = Folder::new();
    let file = dicom_object::open_file(path.add("flat", &flat)).expect("what was just written");
    let mut stream = Vec::new();
    use dicom_encoding::TransferSyntaxIndex;
    dicom_transfer_syntax_registry::TransferSyntaxRegistry
        .get(uids::JPEG_BASELINE8_BIT)
        .and_then(|ts| ts.pixel_data_writer())
        .expect("an encoder")
        .encode_frame(&file, 0, Default::default(), &mut stream)
        .expect("a JPEG");
    let values = values_as(uids::JPEG_BASELINE8_BIT, |o| {
        stored(o, 8, 8, 0);
        encapsulate(o, &[&stream]);
    });
    assert_eq!(values, [77.0 - 1024.0; 12]);
    let folder = Folder::new();
    folder.add_as("a.dcm", &changed(|o| encapsulate(o, &[&stream])), uids::JPEG_BASELINE8_BIT);
    says(&decode_refusal(&folder), &["a.dcm", "8 bits a pixel", "Bits Allocated 16"]);
}

#[test]
fn what_cannot_be_decoded_is_named() {
    let folder = Folder::new();
    folder.add_as("a.dcm", &changed(|o| encapsulate(o, &[&[1, 2]])), uids::MPEG2MPML);
    says(&folder.refusal(), &["a.dcm", "1.2.840.10008.1.2.4.100 (MPEG2 Main", "send the images uncompressed"]);
    let path = folder.add("a.dcm", &slice(0));
    let mut bytes = std::fs::read(&path).expect("the file");
    let at = bytes.windows(EXPLICIT.len()).position(|w| w == EXPLICIT.as_bytes()).expect("its transfer syntax");
    bytes[at..at + 5].copy_from_slice(b"9.9.9");
    folder.add_bytes("a.dcm", &bytes);
    says(&folder.refusal(), &["a.dcm", "transfer syntax 9.9.9", "unknown"]);
}

#[test]
fn what_this_version_does_not_offer_is_named() {
    let us = |tag, value| refusal_of(|o| set_us(o, tag, value));
    says(&us(tags::SAMPLES_PER_PIXEL, 3), &["Photometric Interpretation", "not available in this version"]);
    says(&us(tags::BITS_ALLOCATED, 24), &["Bits Allocated (0028,0100)", "not available in this version"]);
    says(&refusal_of(|o| set(o, tags::NUMBER_OF_FRAMES, VR::IS, "2")), &["several frames"]);
    let palette = refusal_of(|o| set(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR"));
    says(&palette, &["RedPaletteColorLookupTableDescriptor (0028,1101)", "is missing"]);
    let one = values_as(EXPLICIT, |o| set(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1"));
    assert_eq!(one[1], -1023.0, "how it is shown does not change what it measures");
}

fn sequence(object: &mut InMemDicomObject, tag: Tag, item: InMemDicomObject) {
    let items = dicom_core::value::DataSetSequence::new(vec![item], dicom_core::Length::UNDEFINED);
    object.put(DataElement::new(tag, VR::SQ, Value::from(items)));
}

fn table(object: &mut InMemDicomObject, descriptor: Tag, data: Tag, first: u16, entries: &[u16]) {
    let described = [entries.len() as u16, first, 16];
    object.put(DataElement::new(descriptor, VR::US, PrimitiveValue::U16(described.as_slice().into())));
    object.put(DataElement::new(data, VR::OW, PrimitiveValue::U16(entries.into())));
}

#[test]
fn a_modality_lut_is_what_values_go_through() {
    let with = |first: u16, signed| {
        values_as(EXPLICIT, |o| {
            let mut item = InMemDicomObject::new_empty();
            table(&mut item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, first, &[5, 50, 500, 5000]);
            sequence(o, tags::MODALITY_LUT_SEQUENCE, item);
            stored(o, 16, 16, signed);
            words(o, pixels(&[0xFFFF, 0, 1, 2, 3]));
        })[..5]
            .to_vec()
    };
    assert_eq!(with(0, 0), [5000.0, 5.0, 50.0, 500.0, 5000.0], "what lies behind the last entry is it");
    assert_eq!(with(0xFFFF, 1), [5.0, 50.0, 500.0, 5000.0, 5000.0], "from -1 on");
    let empty = refusal_of(|o| sequence(o, tags::MODALITY_LUT_SEQUENCE, slice(0)));
    says(&empty, &["LUTDescriptor (0028,3002)", "is missing"]);
    let short = refusal_of(|o| {
        let mut item = InMemDicomObject::new_empty();
        table(&mut item, tags::LUT_DESCRIPTOR, tags::LUT_DATA, 0, &[1, 2, 3]);
        set_us(&mut item, tags::LUT_DATA, 7);
        sequence(o, tags::MODALITY_LUT_SEQUENCE, item);
    });
    says(&short, &["LUTData (0028,3006)", "fewer entries"]);
}

#[test]
fn colours_are_seen_as_their_luminance() {
    let grey = |[r, g, b]: [f32; 3]| 0.299 * r + 0.587 * g + 0.114 * b;
    let palette = values_as(EXPLICIT, |o| {
        set(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR");
        stored(o, 8, 8, 0);
        for (descriptor, data, last) in [
            (tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, 0xFF00),
            (tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA, 0x8000),
            (tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA, 0),
        ] {
            table(o, descriptor, data, 0, &[0, last]);
        }
        let bytes = PrimitiveValue::U8(pixels(&[0, 1]).into_iter().map(|v| v as u8).collect::<Vec<_>>().into());
        o.put(DataElement::new(tags::PIXEL_DATA, VR::OB, bytes));
    });
    assert_eq!(palette[..2], [0.0, grey([255.0, 128.0, 0.0])]);
    let rgb = values_as("1.2.840.10008.1.2.2", |o| {
        set(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
        set_us(o, tags::SAMPLES_PER_PIXEL, 3);
        stored(o, 16, 16, 0);
        words(o, (0..12u16).flat_map(|i| [i << 8, 200 << 8, 30 << 8]).collect());
    });
    assert_eq!(rgb[5], grey([5.0, 200.0, 30.0]));
}

#[test]
fn words_of_32_bits_and_floating_point_numbers_are_values() {
    for ts in [EXPLICIT, "1.2.840.10008.1.2.2"] {
        let wide = values_as(ts, |o| {
            stored(o, 32, 32, 1);
            set(o, tags::RESCALE_SLOPE, VR::DS, "0.5");
            set(o, tags::RESCALE_INTERCEPT, VR::DS, "1");
            let mut words: Vec<u16> =
                [0xFFFF_FFFEu32, 7, 0x7FFF_FF80].iter().flat_map(|v| [*v as u16, (*v >> 16) as u16]).collect();
            words.resize(24, 0);
            if ts != EXPLICIT {
                // The writer turns words of 16 bits round, and pixels are of 32.
                words.chunks_exact_mut(2).for_each(<[u16]>::reverse);
            }
            o.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(words.into())));
        });
        assert_eq!(wide[..3], [0.0, 4.5, 1_073_741_761.0], "{ts}");
        let float = |tag, vr, value: PrimitiveValue| {
            values_as(ts, |o| {
                o.remove_element(tags::PIXEL_DATA);
                set(o, tags::RESCALE_INTERCEPT, VR::DS, "0");
                o.put(DataElement::new(tag, vr, value));
            })[..2]
                .to_vec()
        };
        let numbers: Vec<f32> = [0.25, -1e30].into_iter().chain([0.0; 10]).collect();
        let doubles: Vec<f64> = numbers.iter().map(|n| f64::from(*n)).collect();
        assert_eq!(float(tags::FLOAT_PIXEL_DATA, VR::OF, PrimitiveValue::F32(numbers.clone().into())), numbers[..2]);
        assert_eq!(float(tags::DOUBLE_FLOAT_PIXEL_DATA, VR::OD, PrimitiveValue::F64(doubles.into())), numbers[..2]);
    }
}

/// Twelve single bits are a byte and a half.
#[test]
fn single_bits_are_values_and_frames_of_them_follow_without_a_gap() {
    let bits = |o: &mut InMemDicomObject, bytes: Vec<u8>| {
        stored(o, 1, 1, 0);
        o.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(bytes.into())));
    };
    let values = values_as(EXPLICIT, |o| {
        set(o, tags::RESCALE_INTERCEPT, VR::DS, "0");
        bits(o, vec![0b0000_0101, 0b1111_1000]);
    });
    assert_eq!(values, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let folder = Folder::new();
    let two = changed(|o| {
        set(o, tags::NUMBER_OF_FRAMES, VR::IS, "2");
        bits(o, vec![0b0000_0101, 0b0011_1000, 0b1100_0000, 0]);
    });
    let path = folder.add("a.dcm", &two);
    let (kept, options) = (keep(&path, &options()).expect("kept"), options());
    let frame = |number| kept.frame(number, &options).expect("read").expect("a frame").bytes.clone();
    assert_eq!(frame(1), [0b0000_0101, 0b0000_1000]);
    assert_eq!(frame(2), [0b0000_0011, 0b0000_1100]);
}

#[test]
fn a_deflated_frame_is_inflated_as_far_as_it_is_needed() {
    use std::io::Write;
    let deflated = |bytes: &[u8]| {
        let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        writer.write_all(bytes).expect("deflated");
        writer.finish().expect("deflated")
    };
    let ts = "1.2.840.10008.1.2.8.1";
    let bytes: Vec<u8> = (0..12u16).flat_map(u16::to_le_bytes).chain(vec![0; 1 << 20]).collect();
    assert_eq!(values_as(ts, |o| encapsulate(o, &[&deflated(&bytes)]))[11], 11.0 - 1024.0);
    let folder = Folder::new();
    folder.add_as("a.dcm", &changed(|o| encapsulate(o, &[&deflated(&bytes[..23])])), ts);
    says(&decode_refusal(&folder), &["a.dcm", "23 bytes of pixel data where the header says 24"]);
}
