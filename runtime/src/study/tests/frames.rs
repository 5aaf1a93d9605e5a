//! Objects of several frames: as good as their slices one by one, and refused where they lie.

use dicom_core::value::DataSetSequence;
use dicom_object::InMemDicomObject as Object;

use super::pixels::jpeg_2000;
use super::*;

fn sequence(object: &mut Object, tag: Tag, items: Vec<Object>) {
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
}

/// A functional group with these attributes.
fn group(attributes: &[(Tag, VR, &str)]) -> Object {
    let mut item = Object::new_empty();
    attributes.iter().for_each(|(tag, vr, value)| set(&mut item, *tag, *vr, value));
    item
}

/// Groups of slice `i` of the usual stack.
fn frame(i: usize) -> Object {
    let mut item = Object::new_empty();
    let position = format!("-20\\-30\\{}", 2.5 * i as f64 - 10.0);
    let place = group(&[(tags::IMAGE_POSITION_PATIENT, VR::DS, &position)]);
    sequence(&mut item, tags::PLANE_POSITION_SEQUENCE, vec![place]);
    sequence(
        &mut item,
        tags::FRAME_VOILUT_SEQUENCE,
        vec![group(&[(tags::WINDOW_CENTER, VR::DS, &format!("{}", 40 + i)), (tags::WINDOW_WIDTH, VR::DS, "400")])],
    );
    item
}

/// An Enhanced CT of these frames, of which number `n` has the pixels of slice `pixels[n]`.
fn enhanced(frames: Vec<Object>, pixels: &[usize]) -> Object {
    let mut object = slice(0);
    for tag in [
        tags::IMAGE_POSITION_PATIENT,
        tags::IMAGE_ORIENTATION_PATIENT,
        tags::PIXEL_SPACING,
        tags::SLICE_THICKNESS,
        tags::RESCALE_SLOPE,
        tags::RESCALE_INTERCEPT,
    ] {
        object.remove_element(tag);
    }
    set(&mut object, tags::SOP_CLASS_UID, VR::UI, uids::ENHANCED_CT_IMAGE_STORAGE);
    set(&mut object, tags::NUMBER_OF_FRAMES, VR::IS, &frames.len().to_string());
    let mut shared = Object::new_empty();
    for (tag, attributes) in [
        (
            tags::PIXEL_MEASURES_SEQUENCE,
            &[(tags::PIXEL_SPACING, VR::DS, "0.5\\0.75"), (tags::SLICE_THICKNESS, VR::DS, "3")][..],
        ),
        (tags::PLANE_ORIENTATION_SEQUENCE, &[(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, AXIAL)]),
        (
            tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE,
            &[(tags::RESCALE_SLOPE, VR::DS, "1"), (tags::RESCALE_INTERCEPT, VR::DS, "-1024")],
        ),
    ] {
        sequence(&mut shared, tag, vec![group(attributes)]);
    }
    sequence(&mut object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared]);
    sequence(&mut object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frames);
    let values = pixels.iter().flat_map(|i| (0..ROWS * COLUMNS).map(move |p| 100 * *i as u16 + p));
    words(&mut object, values.collect());
    object
}

pub(super) fn in_order(order: &[usize]) -> Object {
    enhanced(order.iter().map(|i| frame(*i)).collect(), order)
}

fn only(object: &Object) -> Folder {
    let folder = Folder::new();
    folder.add("e.dcm", object);
    folder
}

#[test]
fn frames_are_placed_by_position_as_their_slices_are() {
    let (expected, slices) = {
        let folder = Folder::of_slices(5);
        let study = folder.read().expect("a study");
        (study.series[0].volumes[0].geometry.clone(), folder.values())
    };
    for transfer_syntax in
        [EXPLICIT, uids::IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.2", uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN]
    {
        let folder = Folder::new();
        folder.add_as("e.dcm", &in_order(&[3, 0, 4, 1, 2]), transfer_syntax);
        let study = folder.read().unwrap_or_else(|e| panic!("{transfer_syntax}: {e}"));
        let series = &study.series[0];
        assert_eq!(series.volumes[0].geometry, expected);
        let frames: Vec<_> = series.instances.iter().map(|i| (i.frame, i.frames)).collect();
        assert_eq!(frames, [2, 4, 5, 1, 3].map(|number| (Some(number), 5)));
        assert_eq!(folder.values(), slices, "{transfer_syntax}");
        // As if its first slice were alone.
        assert_eq!(series.attribute("SliceThickness").as_deref(), Some("3"));
        assert_eq!(series.attribute("WindowCenter").as_deref(), Some("40"));
        assert!(!series.has_items("PerFrameFunctionalGroupsSequence"));
        let voi::Voi::Window(window) = series.instances[4].voi else { panic!("a window") };
        assert_eq!(window.centre, 44.0);
        let one = series.decode_slice(0, 3, &Budget::unlimited(), &options()).expect("a slice");
        assert_eq!(one.volume.read(one.volume.geometry().region()).expect("voxels"), slices[36..48]);
        use sha2::Digest;
        let bytes = std::fs::read(folder.path().join("e.dcm")).expect("the file");
        assert_eq!(one.digests, [<[u8; 32]>::from(sha2::Sha256::digest(bytes))]);
    }
}

#[test]
fn a_file_is_digested_once_and_paid_for_by_the_frames_that_are_asked_for() {
    let folder = only(&in_order(&[0, 1, 2, 3]));
    let study = folder.read().expect("a study");
    let budget = Budget::mib(1);
    let decoded = study.series[0].decode(0, &budget, &options()).expect("a volume");
    assert_eq!(decoded.digests.len(), 4);
    assert!(decoded.digests.iter().all(|digest| *digest == decoded.digests[0]));
    assert_eq!(budget.peak(), 4 * 24 + scratch(4));
    let budget = Budget::mib(1);
    study.series[0].decode_slice(0, 2, &budget, &options()).expect("a slice");
    assert_eq!(budget.peak(), 24 + scratch(1));
}

#[test]
fn compressed_frames_are_told_apart_by_the_table_or_one_by_one() {
    let stream = jpeg_2000();
    let mut object = in_order(&[1, 0, 2]);
    set_us(&mut object, tags::PIXEL_REPRESENTATION, 0);
    let expected = {
        let folder = Folder::new();
        let one = changed(|o| {
            set_us(o, tags::PIXEL_REPRESENTATION, 0);
            encapsulate(o, &[&stream]);
        });
        folder.add_as("a.dcm", &one, uids::JPEG2000_LOSSLESS);
        folder.values().repeat(3)
    };
    let values = |object: &Object| {
        let folder = Folder::new();
        folder.add_as("e.dcm", object, uids::JPEG2000_LOSSLESS);
        let study = folder.read().expect("headers");
        study.series[0].voxels(0, &Budget::unlimited(), &options()).map(|_| folder.values()).map_err(|e| e.to_string())
    };
    encapsulate(&mut object, &[&stream, &stream, &stream]);
    assert_eq!(values(&object), Ok(expected.clone()));
    // The second frame is two fragments.
    let half = stream.len() / 4 * 2;
    let fragments: C<Vec<u8>> =
        [&stream[..], &stream[..half], &stream[half..], &stream].iter().map(|f| f.to_vec()).collect();
    let even = |bytes: usize| bytes as u32 + bytes as u32 % 2;
    let second = 8 + even(stream.len());
    let third = second + 8 + half as u32 + 8 + even(stream.len() - half);
    let mut tabled = |table: &[u32]| {
        let value = Value::PixelSequence(PixelFragmentSequence::new(C::from(table), fragments.clone()));
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, value));
        values(&object)
    };
    assert_eq!(tabled(&[0, second, third]), Ok(expected));
    says(&tabled(&[0, second + 2, third]).expect_err("refused"), &["Basic Offset Table"]);
    // Without a table each is a frame, and half of one is none.
    tabled(&[]).expect_err("refused");
    encapsulate(&mut object, &[&stream, &stream, &stream, &stream]);
    says(&values(&object).expect_err("refused"), &["4 frames of compressed pixel data", "says 3"]);
}

fn echo(i: usize, time: &str) -> Object {
    let mut item = frame(i);
    let time = PrimitiveValue::from(time.parse::<f64>().expect("a number"));
    let mut group = Object::new_empty();
    group.put(DataElement::new(tags::EFFECTIVE_ECHO_TIME, VR::FD, time));
    sequence(&mut item, tags::MR_ECHO_SEQUENCE, vec![group]);
    item
}

/// Two echoes of two slices, all of them frames of one file, and the folder that it lies in.
pub(crate) fn two_echoes() -> (TempDir, Study) {
    let frames = vec![echo(0, "9.2"), echo(0, "4.6"), echo(1, "9.2"), echo(1, "4.6")];
    let folder = only(&enhanced(frames, &[0, 0, 1, 1]));
    let study = folder.read().expect("headers");
    (folder.0, study)
}

#[test]
fn frames_that_nobody_asks_for_are_not_decoded() {
    let stream = jpeg_2000();
    let frames = vec![echo(0, "9.2"), echo(0, "4.6"), echo(1, "9.2"), echo(1, "4.6")];
    let mut object = enhanced(frames, &[0, 0, 1, 1]);
    set_us(&mut object, tags::PIXEL_REPRESENTATION, 0);
    let mut broken = stream.clone();
    broken[..4].fill(0);
    encapsulate(&mut object, &[&stream, &stream, &broken, &stream]);
    let folder = Folder::new();
    folder.add_as("e.dcm", &object, uids::JPEG2000_LOSSLESS);
    let study = folder.read().expect("headers");
    let series = &study.series[0];
    let told: Vec<_> = series.volumes.iter().map(|volume| volume.told_by[0].1.as_str()).collect();
    assert_eq!(told, ["4.6", "9.2"], "the shorter echo first");
    series.decode(0, &Budget::unlimited(), &options()).expect("the first echo is whole");
    series.decode(1, &Budget::unlimited(), &options()).expect_err("the second is not");
    series.decode_slice(1, 0, &Budget::unlimited(), &options()).expect("but its first slice is");
    let keywords = BTreeSet::from(["EchoTime", "EffectiveEchoTime", "WindowCenter", "PatientID"].map(str::to_owned));
    let header = series.volume_header(1, &options()).expect("the file again");
    assert!(series.is_header_of(0, &header), "both are in one file");
    let said = series.volume_attributes(1, &keywords, &header);
    let echo = |volume: usize| said[volume].1["EchoTime"].as_str();
    assert_eq!((said.len(), echo(0), echo(1)), (2, "4.6", "9.2"), "both are in one file");
    says(&study.warnings.join("\n"), &["2 volumes, told apart by EffectiveEchoTime (0018,9082): 4.6, 9.2"]);
}

#[test]
fn each_frame_has_its_own_slope_and_intercept() {
    let rescaled = |i: usize| {
        let mut item = frame(i);
        let slope = format!("{}", i + 1);
        let values = group(&[(tags::RESCALE_SLOPE, VR::DS, &slope), (tags::RESCALE_INTERCEPT, VR::DS, "0.5")]);
        sequence(&mut item, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, vec![values]);
        item
    };
    let folder = only(&enhanced((0..3).map(rescaled).collect(), &[0, 1, 2]));
    let values = folder.values();
    assert_eq!([values[5], values[12 + 5], values[24 + 5]], [5.5, 2.0 * 105.0 + 0.5, 3.0 * 205.0 + 0.5]);
}

#[test]
fn values_that_are_no_hounsfield_units_are_told_by_frames_too() {
    let mut object = in_order(&[0, 1]);
    let items = object.take_element(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).expect("groups");
    let mut items = items.items().expect("items").to_vec();
    let densities = group(&[
        (tags::RESCALE_SLOPE, VR::DS, "1"),
        (tags::RESCALE_INTERCEPT, VR::DS, "0"),
        (tags::RESCALE_TYPE, VR::LO, "EDW"),
    ]);
    sequence(&mut items[0], tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, vec![densities]);
    sequence(&mut object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, items);
    let study = only(&object).read().expect("a study");
    says(&study.warnings.join("\n"), &["RescaleType (0028,1054) is not HU"]);
}

#[test]
fn what_lies_about_its_frames_is_refused() {
    let refusal = |change: fn(&mut Object)| {
        let mut object = in_order(&[0, 1, 2, 3]);
        change(&mut object);
        let refusal = only(&object).refusal();
        assert!(!refusal.to_lowercase().contains("secret"), "no patient data: {refusal}");
        refusal
    };
    let fewer = ["PerFrameFunctionalGroupsSequence (5200,9230) has 3 items", "(0028,0008) says 4"];
    says(&refusal(|o| regroup(o, |items| _ = items.pop())), &fewer);
    says(&refusal(|o| regroup(o, |items| items.push(frame(4)))), &["has 5 items", "says 4"]);
    says(&refusal(|o| set(o, tags::NUMBER_OF_FRAMES, VR::IS, "1000000")), &["has 4 items", "says 1000000"]);
    says(&refusal(|o| set(o, tags::NUMBER_OF_FRAMES, VR::IS, "2.5")), &["(0028,0008)"]);
    says(&refusal(|o| _ = o.remove_element(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE)), &["has 0 items"]);
    says(
        &refusal(|o| {
            o.remove_element(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
            o.remove_element(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
        }),
        &["several frames without functional groups", "`gantry stream` plays", "not available in this version"],
    );
    says(&refusal(|o| words(o, vec![0; 40])), &["80 bytes of pixel data", "4 frames of 24"]);
    says(&refusal(|o| words(o, vec![0; 80])), &["160 bytes of pixel data", "4 frames of 24"]);
    let place = |position: &'static str| {
        let mut object = in_order(&[0, 1, 2, 3]);
        let at = group(&[(tags::IMAGE_POSITION_PATIENT, VR::DS, position)]);
        regroup(&mut object, |items| sequence(&mut items[2], tags::PLANE_POSITION_SEQUENCE, vec![at]));
        only(&object).refusal()
    };
    for bad in ["nan\\0\\0", "0\\inf\\0", "1e300\\0\\0"] {
        says(&place(bad), &["ImagePositionPatient (0020,0032)", "(frame 3)"]);
    }
    says(&place(""), &["ImagePositionPatient (0020,0032) is missing", "(frame 3)"]);
    says(&place("-20\\-30\\-7.5"), &["two slices lie at one position (frames 2 and 3)"]);
    let measured = |spacing: &'static str, orientation: &'static str| {
        let mut object = in_order(&[0, 1]);
        let items = object.take_element(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).expect("groups");
        let mut items = items.items().expect("items").to_vec();
        let measures = group(&[(tags::PIXEL_SPACING, VR::DS, spacing)]);
        sequence(&mut items[0], tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
        let plane = group(&[(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, orientation)]);
        sequence(&mut items[0], tags::PLANE_ORIENTATION_SEQUENCE, vec![plane]);
        sequence(&mut object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, items);
        only(&object).refusal()
    };
    says(&measured("0\\1", AXIAL), &["PixelSpacing (0028,0030) is not between"]);
    says(&measured("1\\1", "1\\0\\0\\1\\0\\0"), &["(0020,0037)", "right angle"]);
    says(&measured("1\\1", "0\\0\\0\\0\\0\\0"), &["(0020,0037)", "unit vectors"]);
}

fn regroup(object: &mut Object, change: impl FnOnce(&mut Vec<Object>)) {
    let items = object.take_element(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).expect("groups");
    let mut items = items.items().expect("items").to_vec();
    change(&mut items);
    sequence(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, items);
}

/// With Dimension Index Values, of a dimension that is the position, and of one that is `other`.
fn indexed(i: usize, values: [u32; 2]) -> Object {
    let mut item = frame(i);
    let mut content = Object::new_empty();
    content.put(DataElement::new(
        tags::DIMENSION_INDEX_VALUES,
        VR::UL,
        PrimitiveValue::U32(values.into_iter().collect()),
    ));
    sequence(&mut item, tags::FRAME_CONTENT_SEQUENCE, vec![content]);
    item
}

fn put_dimensions(object: &mut Object) {
    let pointer = |tag: Tag| {
        let mut item = Object::new_empty();
        item.put(DataElement::new(tags::DIMENSION_INDEX_POINTER, VR::AT, PrimitiveValue::from(tag)));
        item
    };
    let pointers = [tags::IMAGE_POSITION_PATIENT, tags::CONTRAST_BOLUS_AGENT_NUMBER].map(pointer);
    sequence(object, tags::DIMENSION_INDEX_SEQUENCE, pointers.to_vec());
}

#[test]
fn dimension_indices_that_lie_move_no_frame() {
    // By its indices the stack would be the other way round, with one place taken twice.
    let lies = [(0, [3, 1]), (1, [2, 9]), (2, [2, 1])].map(|(i, values)| indexed(i, values));
    let mut object = enhanced(lies.to_vec(), &[0, 1, 2]);
    put_dimensions(&mut object);
    assert_eq!(only(&object).values(), Folder::of_slices(3).values());
}

#[test]
fn dimension_indices_tell_apart_what_nothing_else_does() {
    let frames = [(0, [1, 2]), (0, [1, 1]), (1, [2, 1]), (1, [2, 2])].map(|(i, values)| indexed(i, values));
    let mut object = enhanced(frames.to_vec(), &[0, 3, 4, 1]);
    put_dimensions(&mut object);
    let study = only(&object).read().expect("a study");
    let numbers: Vec<_> = study.series[0].instances.iter().filter_map(|i| i.frame).collect();
    assert_eq!(numbers, [2, 3, 1, 4]);
    says(&study.warnings.join("\n"), &["2 volumes, told apart by DimensionIndexValues (0020,9157): 1, 2"]);
}

#[test]
fn a_file_that_changes_or_ends_early_is_refused() {
    let folder = only(&in_order(&[0, 1, 2]));
    let path = folder.path().join("e.dcm");
    let study = folder.read().expect("a study");
    let whole = std::fs::read(&path).expect("the file");
    let refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        study.series[0].decode(0, &Budget::unlimited(), &options()).expect_err("refused").to_string()
    };
    says(&refused(&[&whole[..], &[0]].concat()), &["changed while it was read"]);
    says(&refused(&whole[..whole.len() - 30]), &["e.dcm"]);
    let mut other = whole.clone();
    other[400] ^= 1;
    says(&refused(&other), &["changed while it was read"]);
}

#[test]
fn several_objects_of_several_frames_are_one_stack() {
    let folder = Folder::new();
    for (name, order) in [("1", [0, 2]), ("2", [3, 1])] {
        let mut object = in_order(&order);
        set(&mut object, tags::SOP_INSTANCE_UID, VR::UI, &format!("2.25.5{name}"));
        folder.add(name, &object);
    }
    folder.add("slice", &slice(4));
    let study = folder.read().expect("a study");
    let all: Vec<_> = study.series[0].instances.iter().map(|i| (i.sop_instance_uid.as_str(), i.frame)).collect();
    let expected =
        [("2.25.51", Some(1)), ("2.25.52", Some(2)), ("2.25.51", Some(2)), ("2.25.52", Some(1)), ("2.25.10004", None)];
    assert_eq!(all, expected);
    assert_eq!(folder.values(), Folder::of_slices(5).values());
}
