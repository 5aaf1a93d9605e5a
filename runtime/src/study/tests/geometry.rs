//! Grids from positions and orientations.

use super::*;
use crate::geometry::Vec3;

/// Three slices `steps[i]` mm along the normal of `orientation`, from `origin`.
fn stacked(orientation: [f64; 6], origin: Vec3, steps: &[f64], normal: Vec3) -> Folder {
    let folder = Folder::new();
    let joined = |v: &[f64]| v.iter().map(|x| format!("{x:.10}")).collect::<Vec<_>>().join("\\");
    for (i, step) in steps.iter().enumerate() {
        let mut object = slice(i);
        let position: Vec<f64> = (0..3).map(|a| origin[a] + step * normal[a]).collect();
        set(&mut object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &joined(&orientation));
        set(&mut object, tags::IMAGE_POSITION_PATIENT, VR::DS, &joined(&position));
        folder.add(&format!("{i}.dcm"), &object);
    }
    folder
}

#[track_caller]
fn close(a: Vec3, b: Vec3) {
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} is not {b:?}");
}

#[test]
fn slices_are_placed_by_position_and_never_by_name() {
    let folder = Folder::of_slices(4);
    let study = folder.read().expect("a study");
    assert_eq!(study.uid, "2.25.1");
    assert_eq!(study.warnings, Vec::<String>::new());
    let series = &study.series[0];
    let geometry = &series.volumes[0].geometry;
    assert_eq!(geometry.size(), [4, 3, 4]);
    // Pixel Spacing is between rows first, then between columns.
    assert_eq!(geometry.spacing(), [0.75, 0.5, 2.5]);
    assert_eq!(geometry.origin(), [-20.0, -30.0, -10.0]);
    assert_eq!(geometry.axes(), [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
    assert_eq!(series.volumes[0].slices, [0, 1, 2, 3]);
    let names: Vec<_> = series.instances.iter().filter_map(|i| i.path.file_name()).collect();
    assert_eq!(names, ["s4.dcm", "s3.dcm", "s2.dcm", "s1.dcm"]);
    assert_eq!(series.instances[3].position, Some([-20.0, -30.0, -2.5]));
    assert_eq!(series.instances[3].sop_instance_uid, "2.25.10003");
    let values = values(series);
    assert_eq!(values[0], -1024.0);
    assert_eq!(values[3 * 12 + 5], 300.0 + 5.0 - 1024.0);
}

#[test]
fn a_decoded_volume_is_in_hounsfield_units_and_its_files_are_named_by_digest() {
    use sha2::Digest;
    let folder = Folder::of_slices(3);
    let study = folder.read().expect("a study");
    let budget = Budget::mib(1);
    let decoded = study.series[0].decode(0, &budget, &options()).expect("a volume");
    let all = decoded.volume.read(decoded.volume.geometry().region()).expect("its voxels");
    assert_eq!(all, values(&study.series[0]));
    assert_eq!(decoded.volume.geometry(), &study.series[0].volumes[0].geometry);
    for (instance, digest) in study.series[0].instances.iter().zip(&decoded.digests) {
        let bytes = std::fs::read(&instance.path).expect("the file");
        assert_eq!(sha2::Sha256::digest(bytes)[..], digest[..]);
    }
    assert!(budget.used() > 0, "the volume pays for itself");
    assert_eq!(budget.peak(), 72 + scratch(3), "and nothing is paid for twice");
}

#[test]
fn every_orientation_gives_a_right_handed_grid_that_starts_at_the_lowest_slice() {
    let (s, c) = 0.4f64.sin_cos();
    for (name, orientation, normal) in [
        ("axial", [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0]),
        ("feet first, prone", [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, -1.0]),
        ("coronal", [1.0, 0.0, 0.0, 0.0, 0.0, -1.0], [0.0, 1.0, 0.0]),
        ("sagittal", [0.0, 1.0, 0.0, 0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]),
        ("oblique", [c, s, 0.0, -s, c, 0.0], [0.0, 0.0, 1.0]),
        ("doubly oblique", [c, 0.0, s, 0.0, 1.0, 0.0], [-s, 0.0, c]),
    ] {
        // The order of files is none of the stack.
        let folder = stacked(orientation, [5.0, -6.0, 7.0], &[3.0, 0.0, 1.5], normal);
        let study = folder.read().unwrap_or_else(|e| panic!("{name}: {e}"));
        let geometry = &study.series[0].volumes[0].geometry;
        let [r0, r1, r2, c0, c1, c2] = orientation;
        close(geometry.axes()[0], [r0, r1, r2]);
        close(geometry.axes()[1], [c0, c1, c2]);
        close(geometry.axes()[2], normal);
        close(geometry.origin(), [5.0, -6.0, 7.0]);
        close(geometry.spacing(), [0.75, 0.5, 1.5]);
        assert_eq!(values(&study.series[0])[0], 100.0 - 1024.0, "{name}: the second file is the lowest slice");
    }
}

#[test]
fn rounded_decimal_strings_are_one_stack() {
    let orientation = [0.99863, 0.0, 0.05234, 0.0, 1.0, 0.0];
    let normal = [-0.052336, 0.0, 0.998630];
    let steps: Vec<f64> = (0..9).map(|i| (f64::from(i) * 0.625 * 100.0).round() / 100.0).collect();
    let study = stacked(orientation, [0.0; 3], &steps, normal).read().expect("a study");
    assert!((study.series[0].volumes[0].geometry.spacing()[2] - 0.625).abs() < 1e-4);
}

#[test]
fn one_slice_is_a_volume_as_thick_as_it_says() {
    let spacing = |change: fn(&mut InMemDicomObject)| {
        let folder = Folder::new();
        folder.add("a.dcm", &changed(change));
        folder.read().expect("a study").series[0].volumes[0].geometry.spacing()[2]
    };
    assert_eq!(spacing(|_| {}), 3.0);
    assert_eq!(spacing(|o| set(o, tags::SPACING_BETWEEN_SLICES, VR::DS, "4")), 4.0);
    assert_eq!(spacing(|o| set(o, tags::SPACING_BETWEEN_SLICES, VR::DS, "-4")), 3.0);
    assert_eq!(spacing(|o| set(o, tags::SLICE_THICKNESS, VR::DS, "")), 1.0);
}

#[test]
fn missing_and_uneven_slices_are_refused_with_their_place() {
    let folder = Folder::new();
    for i in [0, 1, 2, 5, 6] {
        folder.add(&format!("{i}.dcm"), &slice(i));
    }
    says(
        &folder.refusal(),
        &["series 2.25.2", "slices are missing between z=-5.00 and z=2.50", "2 at a spacing of 2.500"],
    );
    let uneven = stacked([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0; 3], &[0.0, 1.0, 2.0, 3.4, 4.4], [0.0, 0.0, 1.0]);
    says(&uneven.refusal(), &["not evenly spaced", "1.400 mm between z=2.00 and z=3.40", "elsewhere 1.000"]);
}

#[test]
fn a_slice_that_nothing_tells_from_another_at_its_place_is_refused() {
    let folder = Folder::of_slices(3);
    let mut object = slice(1);
    set(&mut object, tags::SOP_INSTANCE_UID, VR::UI, "2.25.77");
    folder.add("again.dcm", &object);
    says(&folder.refusal(), &["two slices lie at one position", "again.dcm", "s2.dcm", "remove the copy"]);
    set(&mut object, tags::SOP_INSTANCE_UID, VR::UI, "2.25.10001");
    words(&mut object, vec![9; 12]);
    folder.add("again.dcm", &object);
    says(&folder.refusal(), &["one SOP Instance UID", "again.dcm", "s2.dcm"]);
}

#[test]
fn a_copy_byte_by_byte_is_left_out() {
    let folder = Folder::of_slices(3);
    folder.add("again.dcm", &slice(1));
    let study = folder.read().expect("a study");
    assert_eq!(study.series[0].instances.len(), 3);
    says(&study.warnings.join("\n"), &["series 2.25.2: 1 files that are copies of others were left out"]);
    let strict = ReadOptions { strict: true, ..options() };
    let refused = read(&[folder.path().to_owned()], &strict).expect_err("refused").to_string();
    says(&refused, &["two files have one SOP Instance UID", "again.dcm", "s2.dcm"]);
}

#[test]
fn a_tilted_stack_is_straightened_and_told() {
    let tilt = 10f64.to_radians();
    let step = [0.0, tilt.sin(), tilt.cos()];
    let tilted = stacked([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [5.0, 6.0, 7.0], &[0.0, 5.0, 10.0], step);
    let study = tilted.read().expect("a study");
    says(&study.warnings.join("\n"), &["10.0 degrees off their normal (gantry tilt)", "linear interpolation"]);
    let layout = &study.series[0].volumes[0];
    let geometry = &layout.geometry;
    // 10 mm at 10 degrees are 1.74 mm and 3.47 rows of 0.5 mm.
    assert_eq!(geometry.size(), [4, 3 + 4, 3]);
    close(geometry.origin(), [5.0, 6.0, 7.0]);
    close(geometry.spacing(), [0.75, 0.5, 5.0 * tilt.cos()]);
    let shift = layout.tilt.as_ref().expect("tilted").shifts[1];
    assert!(shift[0] == 0.0 && (shift[1] - 5.0 * tilt.sin() / 0.5).abs() < 1e-6, "{shift:?}");
    let values = values(&study.series[0]);
    let at = |z: usize, y: usize, x: usize| values[(z * 7 + y) * 4 + x] + 1024.0;
    assert_eq!([at(0, 0, 1), at(0, 2, 3), at(0, 3, 0)], [1.0, 11.0, 0.0], "the first slice is where it was");
    // Row y of the second slice is at y + 1.7365 of the grid; its rows are 4 apart.
    assert_eq!(at(1, 3, 1), (101.0 + 4.0 * (3.0 - shift[1])).round() as f32);
    let one = study.series[0].decode_slice(0, 1, &Budget::unlimited(), &options()).expect("a slice");
    let one = one.volume.read(one.volume.geometry().region()).expect("voxels");
    assert_eq!(one[8..20], values[28 + 8..28 + 20]);
    let strict = ReadOptions { strict: true, ..options() };
    let refused = read(&[tilted.path().to_owned()], &strict).expect_err("refused").to_string();
    says(&refused, &["10.0 degrees off their normal", "strict reading moves none", "resample the series"]);
}

#[test]
fn a_stack_that_no_gantry_makes_is_refused() {
    let lean = 50f64.to_radians();
    let step = [lean.sin(), 0.0, lean.cos()];
    let leaning = stacked([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0; 3], &[0.0, 2.0, 4.0], step);
    says(&leaning.refusal(), &["50.0 degrees off their normal", "resample the series"]);
    let folder = Folder::of_slices(4);
    let mut object = slice(1);
    set(&mut object, tags::IMAGE_POSITION_PATIENT, VR::DS, "-20\\-28\\-7.5");
    folder.add("s3.dcm", &object);
    says(&folder.refusal(), &["z=-7.50", "2.00 mm beside"]);
    let two = stacked([1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0; 3], &[0.0, 5.0], [0.0, 0.2, 0.98]);
    says(&two.refusal(), &["z=4.90", "1.00 mm beside"]);
}

#[test]
fn another_frame_of_reference_is_named() {
    let folder = Folder::of_slices(3);
    let mut object = slice(1);
    set(&mut object, tags::FRAME_OF_REFERENCE_UID, VR::UI, "2.25.4");
    folder.add("s2.dcm", &object);
    says(&folder.refusal(), &["the slices differ in FrameOfReferenceUID (0020,0052)", "s2.dcm"]);
}

#[test]
fn attributes_that_are_missing_or_senseless_are_named() {
    let ds = |tag, value: &str| refusal_of(|o| set(o, tag, VR::DS, value));
    says(
        &ds(tags::IMAGE_POSITION_PATIENT, ""),
        &["ImagePositionPatient (0020,0032) is missing", "send the images again"],
    );
    says(&ds(tags::IMAGE_POSITION_PATIENT, "1\\2"), &["(0020,0032) has 2 values, not 3"]);
    says(&ds(tags::IMAGE_POSITION_PATIENT, "1\\2\\NaN"), &["(0020,0032) is not finite"]);
    says(&ds(tags::IMAGE_POSITION_PATIENT, "1\\2\\banana"), &["(0020,0032) is not a number"]);
    says(&ds(tags::IMAGE_POSITION_PATIENT, "1\\2\\1e999"), &["(0020,0032) is not finite"]);
    says(&ds(tags::IMAGE_ORIENTATION_PATIENT, "1\\0\\0\\1\\0\\0"), &["(0020,0037)", "right angle"]);
    says(&ds(tags::IMAGE_ORIENTATION_PATIENT, "0\\0\\0\\0\\0\\0"), &["(0020,0037)", "unit vectors"]);
    for spacing in ["0\\1", "1\\-1", "1\\1e9", "1e-9\\1"] {
        says(&ds(tags::PIXEL_SPACING, spacing), &["PixelSpacing (0028,0030) is not between 0.001 and 1000 mm"]);
    }
    says(&ds(tags::IMAGE_POSITION_PATIENT, "1\\2\\1e200"), &["(0020,0032) is more than 100000 mm from the origin"]);
    says(&ds(tags::RESCALE_SLOPE, "1e300"), &["RescaleSlope (0028,1053)", "is not between 1e-30 and 1e6"]);
    says(&ds(tags::RESCALE_INTERCEPT, "-1e300"), &["RescaleIntercept (0028,1052) is farther from 0 than 1e12"]);
    says(&ds(tags::RESCALE_SLOPE, "0"), &["RescaleSlope (0028,1053) is 0"]);
    says(&ds(tags::RESCALE_SLOPE, ""), &["RescaleSlope (0028,1053) is missing"]);
    let us = |tag, value| refusal_of(|o| set_us(o, tag, value));
    says(&us(tags::BITS_STORED, 17), &["BitsStored (0028,0101)"]);
    says(&us(tags::HIGH_BIT, 3), &["HighBit (0028,0102)"]);
    says(&us(tags::PIXEL_REPRESENTATION, 7), &["PixelRepresentation (0028,0103) is neither 0 nor 1"]);
    says(&us(tags::ROWS, 0), &["Rows (0028,0010) is 0"]);
    let absent = refusal_of(|o| {
        o.remove_element(tags::ROWS);
    });
    says(&absent, &["Rows (0028,0010) is missing"]);
}

/// A radiograph, changed.
fn radiograph(change: impl FnOnce(&mut InMemDicomObject)) -> InMemDicomObject {
    changed(|o| {
        set(o, tags::SOP_CLASS_UID, VR::UI, uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION);
        set(o, tags::MODALITY, VR::CS, "MG");
        for tag in [tags::IMAGE_POSITION_PATIENT, tags::IMAGE_ORIENTATION_PATIENT, tags::PIXEL_SPACING] {
            o.remove_element(tag);
        }
        set(o, tags::IMAGER_PIXEL_SPACING, VR::DS, "0.1\\0.2");
        change(o);
    })
}

#[test]
fn images_without_a_place_are_volumes_of_their_own_plane_in_order_of_their_numbers() {
    let folder = Folder::new();
    for (name, number, view) in [("a", "2", "MLO"), ("b", "1", "CC")] {
        let image = radiograph(|o| {
            set(o, tags::SOP_INSTANCE_UID, VR::UI, &format!("2.25.7{number}"));
            set(o, tags::INSTANCE_NUMBER, VR::IS, number);
            set(o, tags::VIEW_POSITION, VR::CS, view);
            set(o, tags::IMAGE_LATERALITY, VR::CS, "L");
            // Each view has one of its own.
            set(o, tags::FRAME_OF_REFERENCE_UID, VR::UI, &format!("2.25.8{number}"));
        });
        folder.add(name, &image);
    }
    let study = folder.read().expect("a study");
    let series = &study.series[0];
    assert_eq!(series.volumes.len(), 2);
    let of = |volume: usize| series.instances[series.volumes[volume].slices[0]].sop_instance_uid.as_str();
    assert_eq!([of(0), of(1)], ["2.25.71", "2.25.72"]);
    assert!(series.instances.iter().all(|image| image.unplaced && image.position.is_none()));
    assert_eq!(series.volumes[0].geometry.spacing(), [0.2, 0.1, 1.0]);
    assert_eq!(
        (series.attribute("ViewPosition"), series.attribute("ImageLaterality")),
        (Some("CC".into()), Some("L".into()))
    );
    says(&study.warnings.join("\n"), &["no place in the patient"]);
    // Where nothing says how large a pixel is, and where an ultrasound machine does.
    let spacing = |change: &dyn Fn(&mut InMemDicomObject)| {
        let folder = Folder::new();
        folder.add(
            "a",
            &radiograph(|o| {
                o.remove_element(tags::IMAGER_PIXEL_SPACING);
                change(o);
            }),
        );
        let study = folder.read().expect("a study");
        let volume = &study.series[0].volumes[0];
        assert_eq!(study.warnings.join("\n").contains("how large its pixels are"), volume.unstated.pixels);
        assert!(volume.unstated.slices, "it has none");
        (volume.geometry.spacing(), volume.unstated.pixels)
    };
    assert_eq!(spacing(&|_| {}), ([1.0; 3], true));
    let ultrasound = spacing(&|o| {
        set(o, tags::SOP_CLASS_UID, VR::UI, uids::ULTRASOUND_IMAGE_STORAGE);
        let mut region = InMemDicomObject::new_empty();
        set_us(&mut region, tags::PHYSICAL_UNITS_X_DIRECTION, 3);
        set_us(&mut region, tags::PHYSICAL_UNITS_Y_DIRECTION, 3);
        for (tag, cm) in [(tags::PHYSICAL_DELTA_X, 0.05), (tags::PHYSICAL_DELTA_Y, -0.025)] {
            region.put(DataElement::new(tag, VR::FD, PrimitiveValue::from(cm)));
        }
        let items = dicom_core::value::DataSetSequence::new(vec![region], dicom_core::Length::UNDEFINED);
        o.put(DataElement::new(tags::SEQUENCE_OF_ULTRASOUND_REGIONS, VR::SQ, Value::from(items)));
    });
    assert_eq!(ultrasound, ([0.5, 0.25, 1.0], false));
    // A slice of a CT must say where it lies.
    says(
        &refusal_of(|o| _ = o.remove_element(tags::IMAGE_POSITION_PATIENT)),
        &["ImagePositionPatient (0020,0032)", "missing"],
    );
}
