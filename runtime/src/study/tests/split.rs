//! Several volumes in one series, told apart by what differs between slices at one place.

use super::*;

/// What `change` makes of slice `i` of measurement `n`, for all of `slices` and `measurements`.
fn repeated(slices: usize, measurements: usize, change: impl Fn(&mut InMemDicomObject, usize, usize)) -> Folder {
    let folder = Folder::new();
    for (n, i) in (0..measurements).flat_map(|n| (0..slices).map(move |i| (n, i))) {
        folder.add(&format!("{i}-{n}.dcm"), &measured(i, n, &change));
    }
    folder
}

/// Slice `i` of measurement `n`: all its values are higher by 1000 n.
fn measured(i: usize, n: usize, change: impl Fn(&mut InMemDicomObject, usize, usize)) -> InMemDicomObject {
    let mut object = slice(i);
    set(&mut object, tags::SOP_INSTANCE_UID, VR::UI, &format!("2.25.1{i}0{n}"));
    words(&mut object, (0..ROWS * COLUMNS).map(|p| 1000 * n as u16 + 100 * i as u16 + p).collect());
    change(&mut object, i, n);
    object
}

/// First values of the volumes of the only series: which measurement each is; and what is said of the split.
fn volumes(folder: &Folder) -> (Vec<usize>, String) {
    let study = folder.read().expect("a study");
    let series = &study.series[0];
    let first = |volume: usize| {
        let decoded = series.decode(volume, &Budget::unlimited(), &options()).expect("voxels").volume;
        let values = decoded.read(decoded.geometry().region()).expect("voxels");
        (values[0] + 1024.0) as usize / 1000
    };
    ((0..series.volumes.len()).map(first).collect(), study.warnings.join("\n"))
}

#[test]
fn measurements_at_every_place_are_volumes_in_the_order_of_their_values() {
    for (tag, vr, values, told) in [
        (tags::ECHO_TIME, VR::DS, ["9.2", "13.8", "4.60"], "EchoTime (0018,0081): 4.60, 9.2, 13.8"),
        (tags::ECHO_NUMBERS, VR::IS, ["2", "3", "1"], "EchoNumbers (0018,0086): 1, 2, 3"),
        (tags::INVERSION_TIME, VR::DS, ["300", "1e3", "50"], "InversionTime (0018,0082): 50, 300, 1e3"),
        (
            tags::TEMPORAL_POSITION_IDENTIFIER,
            VR::IS,
            ["9", "10", "1"],
            "TemporalPositionIdentifier (0020,0100): 1, 9, 10",
        ),
        (
            tags::IMAGE_TYPE,
            VR::CS,
            ["DERIVED\\PRIMARY\\IN", "DERIVED\\PRIMARY\\OUT", "DERIVED\\PRIMARY\\FAT"],
            "ImageType (0008,0008): DERIVED\\PRIMARY\\FAT, DERIVED\\PRIMARY\\IN, DERIVED\\PRIMARY\\OUT",
        ),
        (tags::ACQUISITION_NUMBER, VR::IS, ["2", "3", "1"], "AcquisitionNumber (0020,0012): 1, 2, 3"),
    ] {
        let (order, said) = volumes(&repeated(4, 3, |o, _, n| set(o, tag, vr, values[n])));
        assert_eq!(order, [2, 0, 1], "{told}");
        says(&said, &["series 2.25.2: 3 volumes, told apart by", told]);
    }
}

#[test]
fn the_most_telling_attribute_is_taken_and_no_more_than_are_needed() {
    let (order, said) = volumes(&repeated(3, 2, |o, i, n| {
        set(o, tags::ECHO_NUMBERS, VR::IS, &(2 - n).to_string());
        set(o, tags::ECHO_TIME, VR::DS, &(20 - 10 * n).to_string());
        set(o, tags::ACQUISITION_TIME, VR::TM, &format!("10000{i}"));
    }));
    assert_eq!(order, [1, 0]);
    assert!(said.ends_with("told apart by EchoTime (0018,0081): 10, 20"), "{said}");
}

#[test]
fn gradients_of_one_b_value_are_volumes_too() {
    let (order, said) = volumes(&repeated(3, 4, |o, _, n| {
        let (b, gradient) =
            [(1000.0, [0.0, 1.0, 0.0]), (0.0, [0.0; 3]), (1000.0, [0.0, 0.0, 1.0]), (500.0, [1.0, 0.0, 0.0])][n];
        o.put(DataElement::new(tags::DIFFUSION_B_VALUE, VR::FD, PrimitiveValue::from(b)));
        let gradient = PrimitiveValue::F64(gradient.into_iter().collect());
        o.put(DataElement::new(tags::DIFFUSION_GRADIENT_ORIENTATION, VR::FD, gradient));
    }));
    assert_eq!(order, [1, 3, 2, 0]);
    says(&said, &["DiffusionBValue (0018,9087): 0, 500, 1000; DiffusionGradientOrientation (0018,9089)"]);
}

#[test]
fn b_values_that_a_vendor_writes_in_its_own_way_are_volumes_and_are_told() {
    let folder = repeated(3, 3, |o, _, n| {
        set(o, tags::MODALITY, VR::CS, "MR");
        set(o, Tag(0x0043, 0x0012), VR::LO, "GEMS_PARM_01");
        set(o, Tag(0x0043, 0x1239), VR::IS, ["1000000800\\8\\0\\0", "0\\8\\0\\0", "1000000050\\8\\0\\0"][n]);
    });
    let (order, said) = volumes(&folder);
    assert_eq!(order, [1, 2, 0]);
    says(&said, &["3 volumes, told apart by DiffusionBValue (0018,9087): 0, 50, 800"]);
    let study = folder.read().expect("a study");
    let keywords = BTreeSet::from(["DiffusionBValue".to_owned()]);
    let header = study.series[0].volume_header(2, &options()).expect("its file");
    let said = study.series[0].volume_attributes(2, &keywords, &header);
    assert_eq!(said[0].1["DiffusionBValue"], "800");
}

#[test]
fn times_that_vary_from_slice_to_slice_count_by_their_order_at_each_place() {
    let folder = repeated(3, 3, |o, i, n| {
        let time = 30.0 * (2 - n) as f64 + 1.7 * i as f64;
        set(o, tags::TRIGGER_TIME, VR::DS, &time.to_string());
    });
    let (order, said) = volumes(&folder);
    assert_eq!(order, [2, 1, 0]);
    says(&said, &["3 volumes, told apart by TriggerTime (0018,1060): 0, 30, 60"]);
    let study = folder.read().expect("a study");
    let keywords = BTreeSet::from(["TriggerTime".to_owned(), "Modality".to_owned()]);
    let header = study.series[0].volume_header(1, &options()).expect("its file");
    let said = study.series[0].volume_attributes(1, &keywords, &header);
    assert_eq!((said.len(), said[0].0, said[0].1["TriggerTime"].as_str()), (1, 1, "30"));
    assert_eq!(said[0].1["Modality"], "CT");
    assert!(study.series[0].is_header_of(1, &header) && !study.series[0].is_header_of(0, &header));
    assert!(study.series[0].volume_header(3, &options()).is_err(), "there are three");
}

#[test]
fn what_differs_between_the_slices_of_one_stack_splits_nothing() {
    let folder = repeated(5, 1, |o, i, _| {
        set(o, tags::ACQUISITION_NUMBER, VR::IS, &i.to_string());
        set(o, tags::TRIGGER_TIME, VR::DS, &(7 * i).to_string());
        set(o, tags::ECHO_TIME, VR::DS, &format!("4.{i}"));
    });
    let (order, said) = volumes(&folder);
    assert_eq!((order, said.as_str()), (vec![0], ""));
}

#[test]
fn a_measurement_that_lacks_slices_refuses_its_series() {
    let folder = repeated(5, 3, |o, _, n| set(o, tags::ECHO_TIME, VR::DS, &(n + 1).to_string()));
    std::fs::remove_file(folder.path().join("4-1.dcm")).expect("removed");
    let refusal = folder.refusal();
    says(
        &refusal,
        &["the volume of EchoTime (0018,0081) 2: 4 slices where the others have up to 5", "send the whole series"],
    );
    folder.add("4-1.dcm", &measured(4, 1, |o, _, _| set(o, tags::ECHO_TIME, VR::DS, "2")));
    for n in 0..3 {
        std::fs::remove_file(folder.path().join(format!("2-{n}.dcm"))).expect("removed");
    }
    says(&folder.refusal(), &["the volume of EchoTime (0018,0081) 1: slices are missing between z=-7.50 and z=-2.50"]);
}

#[test]
fn acquisitions_that_overlap_are_volumes_of_their_own() {
    let folder = Folder::new();
    let number =
        |n: usize| move |o: &mut InMemDicomObject, _, _| set(o, tags::ACQUISITION_NUMBER, VR::IS, &n.to_string());
    (0..4).for_each(|i| _ = folder.add(&format!("1-{i}.dcm"), &measured(i, 1, number(1))));
    (3..9).for_each(|i| _ = folder.add(&format!("2-{i}.dcm"), &measured(i, 2, number(2))));
    let study = folder.read().expect("a study");
    let sizes: Vec<_> = study.series[0].volumes.iter().map(|volume| volume.geometry.size()[2]).collect();
    assert_eq!(sizes, [4, 6]);
}

#[test]
fn planes_of_a_localizer_are_volumes_the_largest_first() {
    let folder = Folder::new();
    for (name, orientation, count) in [("a", AXIAL, 1), ("c", "1\\0\\0\\0\\0\\-1", 2), ("s", "0\\1\\0\\0\\0\\-1", 3)] {
        for i in 0..count {
            let mut object = slice(i);
            set(&mut object, tags::SOP_INSTANCE_UID, VR::UI, &format!("2.25.9{}{i}", name.as_bytes()[0]));
            set(&mut object, tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER");
            set(&mut object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, orientation);
            let at = 10 * i;
            let position = match name {
                "c" => format!("0\\{at}\\0"),
                "s" => format!("{at}\\0\\0"),
                _ => format!("0\\0\\{at}"),
            };
            set(&mut object, tags::IMAGE_POSITION_PATIENT, VR::DS, &position);
            folder.add(&format!("{name}{i}.dcm"), &object);
        }
    }
    let study = folder.read().expect("a study");
    let volumes = &study.series[0].volumes;
    let told: Vec<_> = volumes.iter().map(|v| (v.geometry.size()[2], v.told_by[0].1.as_str())).collect();
    assert_eq!(told, [(3, "sagittal"), (2, "coronal"), (1, "axial")]);
    assert_eq!(study.series[0].instances.len(), 6);
    says(
        &study.warnings.join("\n"),
        &["3 volumes, told apart by ImageOrientationPatient (0020,0037): sagittal, coronal, axial"],
    );
}

#[test]
fn images_of_other_sizes_are_volumes_and_projections_from_all_around_are_none() {
    let folder = Folder::of_slices(4);
    let mut object = slice(9);
    set_us(&mut object, tags::ROWS, 2);
    words(&mut object, vec![0; 8]);
    folder.add("t.dcm", &object);
    let study = folder.read().expect("a study");
    let sizes: Vec<_> = study.series[0].volumes.iter().map(|volume| volume.geometry.size()).collect();
    assert_eq!(sizes, [[4, 3, 4], [4, 2, 1]]);
    says(&study.warnings.join("\n"), &["Rows (0028,0010) and Columns (0028,0011): 4 x 3 pixels, 4 x 2 pixels"]);
    let around = Folder::new();
    for i in 0..20 {
        let (s, c) = (0.1 * i as f64).sin_cos();
        let mut object = slice(i);
        let orientation = format!("{c:.6}\\{s:.6}\\0\\0\\0\\-1");
        set(&mut object, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, &orientation);
        around.add(&format!("{i}.dcm"), &object);
    }
    says(
        &around.refusal(),
        &["ImageOrientationPatient (0020,0037), in more than 16 ways", "projections form no volume"],
    );
}

/// Thin slices below, thick ones above, as of a head; thickness as `thick` says.
fn head(thick: impl Fn(usize) -> &'static str, without: Option<usize>) -> Folder {
    let folder = Folder::new();
    let heights = [0.0, 2.5, 5.0, 7.5, 12.5, 17.5, 22.5];
    for (i, z) in heights.iter().enumerate().filter(|(i, _)| Some(*i) != without) {
        let mut object = slice(i);
        set(&mut object, tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("0\\0\\{z}"));
        set(&mut object, tags::SLICE_THICKNESS, VR::DS, thick(i));
        folder.add(&format!("{i}.dcm"), &object);
    }
    folder
}

#[test]
fn blocks_of_other_spacing_are_volumes_where_the_images_say_so() {
    let told = |i| if i < 4 { "2.5" } else { "5" };
    let study = head(told, None).read().expect("a study");
    let blocks: Vec<_> =
        study.series[0].volumes.iter().map(|v| (v.geometry.size()[2], v.geometry.spacing()[2])).collect();
    assert_eq!(blocks, [(4, 2.5), (3, 5.0)]);
    says(&study.warnings.join("\n"), &["2 volumes, told apart by SliceThickness (0018,0050): 2.5, 5"]);
    says(&head(|_| "2.5", None).refusal(), &["slices are missing between z=7.50 and z=12.50"]);
    says(&head(told, Some(1)).refusal(), &["slices are"]);
    says(&head(told, Some(4)).refusal(), &["slices are"]);
}

#[test]
fn no_text_of_an_image_is_told() {
    let kernel = ["Smith^John", "SECRET^Name"];
    let (order, said) = volumes(&repeated(3, 2, |o, _, n| set(o, tags::CONVOLUTION_KERNEL, VR::SH, kernel[n])));
    assert_eq!(order, [1, 0]);
    assert!(said.ends_with("told apart by ConvolutionKernel (0018,1210): text"), "{said}");
}
