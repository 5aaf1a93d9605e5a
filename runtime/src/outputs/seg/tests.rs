use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::*;
use crate::findings::{Findings, Segmentation};
use crate::geometry::Geometry;
use crate::outputs::gate;
use crate::outputs::tests::{labels, module, segment, stamp, study};
use crate::study::tests::assets;
use crate::study::{ReadOptions, Study};

/// An oblique grid of 7 × 5 × 3: frames of 35 bits.
fn grid() -> Geometry {
    let (s, c) = 0.3f64.sin_cos();
    let axes = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
    Geometry::new([7, 5, 3], [0.7, 0.8, 2.5], [-10.0, 20.0, 30.0], axes).expect("a grid")
}

fn voxels() -> Vec<u8> {
    // Segment 9 in slice 0 and 2, segment 4 in slice 2, segment 5 nowhere.
    (0..105)
        .map(|i| {
            if i < 35 {
                u8::from(i % 3 == 0) * 9
            } else if i < 70 {
                0
            } else {
                [0, 9, 4][i % 3]
            }
        })
        .collect()
}

fn accepted(study: &Study, voxels: Vec<u8>) -> Accepted {
    let segments = vec![segment(5, "kidney"), segment(9, "liver"), segment(4, "lung")];
    let labels = labels(&study.series[0].volumes[0].geometry, voxels);
    let findings = Findings { segmentation: Some(Segmentation { labels, segments }), ..Findings::default() };
    gate(findings, study, &[0], &[]).expect("accepted")
}

fn seg(study: &Study, voxels: Vec<u8>) -> Result<FileDicomObject<InMemDicomObject>, SegError> {
    let source = Source::new(study, (0, 0)).expect("a volume");
    let uids = OutputUids::new(&source, &[[1; 32]], &module().identity, &[]);
    segmentation(&accepted(study, voxels), &source, &module(), &uids, &stamp())
}

/// Text at a path of tags; each but the last names a sequence, with the item in it.
fn at(object: &InMemDicomObject, path: &[(Tag, usize)], tag: Tag) -> String {
    let mut item = object;
    for (tag, i) in path {
        item = &item.element(*tag).expect("a sequence").items().expect("items")[*i];
    }
    item.element(tag).expect("an element").to_str().expect("text").trim_end_matches('\0').to_owned()
}

fn items(object: &InMemDicomObject, tag: Tag) -> usize {
    object.element(tag).expect("a sequence").items().expect("items").len()
}

#[test]
fn the_header_says_whose_it_is_and_what_made_it() {
    let study = study(&grid());
    let seg = seg(&study, voxels()).expect("a SEG");
    let text = |tag| at(&seg, &[], tag);
    assert_eq!(text(tags::SOP_CLASS_UID), "1.2.840.10008.5.1.4.1.1.66.4");
    assert_eq!(seg.meta().transfer_syntax(), "1.2.840.10008.1.2.1");
    assert_eq!(seg.meta().media_storage_sop_instance_uid().trim_end_matches('\0'), text(tags::SOP_INSTANCE_UID));
    assert_eq!(text(tags::SPECIFIC_CHARACTER_SET), "ISO_IR 100");
    assert_eq!(text(tags::PATIENT_NAME), "Müller^Test");
    assert_eq!(text(tags::PATIENT_SEX), "", "type 2: there, and empty");
    assert_eq!(text(tags::STUDY_INSTANCE_UID), "2.25.1");
    assert_eq!(text(tags::FRAME_OF_REFERENCE_UID), "2.25.77");
    assert_eq!(text(tags::SERIES_NUMBER), "301");
    assert_eq!(text(tags::SERIES_DESCRIPTION), "Organs in body CT: demonstration, not for clinical use");
    assert_eq!(text(tags::CONTENT_DESCRIPTION), text(tags::SERIES_DESCRIPTION));
    assert_eq!(text(tags::MANUFACTURER), "Gantry");
    assert_eq!(text(tags::DEVICE_SERIAL_NUMBER), "07".repeat(32));
    assert_eq!(text(tags::LOSSY_IMAGE_COMPRESSION), "00");
    assert_eq!(text(tags::SEGMENTS_OVERLAP), "NO");
    assert_eq!((text(tags::CONTENT_DATE), text(tags::CONTENT_TIME)), ("20240102".into(), "030405".into()));
    let references = (tags::REFERENCED_SERIES_SEQUENCE, 0);
    assert_eq!(at(&seg, &[references], tags::SERIES_INSTANCE_UID), "2.25.2");
    let last = (tags::REFERENCED_INSTANCE_SEQUENCE, 2);
    assert_eq!(at(&seg, &[references, last], tags::REFERENCED_SOP_INSTANCE_UID), "2.25.1003");
}

#[test]
fn a_segmentation_of_the_second_echo_refers_to_its_images() {
    let mut study = study(&grid());
    let series = &mut study.series[0];
    let mut echo = series.volumes[0].clone();
    echo.slices.iter_mut().for_each(|slice| *slice += 3);
    series.volumes.push(echo);
    for z in 0..3 {
        let mut image = series.instances[z].clone();
        image.sop_instance_uid = format!("2.25.{}", 2001 + z);
        series.instances.push(image);
    }
    let given = [(0, 0), (0, 1)];
    for (echo, last) in [(0, "2.25.1003"), (1, "2.25.2003")] {
        let segments = vec![segment(9, "liver"), segment(4, "lung")];
        let labels = labels(&grid(), voxels()).with_source((0, echo));
        let findings = Findings { segmentation: Some(Segmentation { labels, segments }), ..Findings::default() };
        let accepted = gate(findings, &study, &[0], &given).expect("accepted");
        let source = Source::new(&study, accepted.source).expect("a volume");
        let uids = OutputUids::new(&source, &[[1; 32]], &module().identity, &[]);
        let seg = segmentation(&accepted, &source, &module(), &uids, &stamp()).expect("a SEG");
        let images = [(tags::REFERENCED_SERIES_SEQUENCE, 0), (tags::REFERENCED_INSTANCE_SEQUENCE, 2)];
        assert_eq!(at(&seg, &images, tags::REFERENCED_SOP_INSTANCE_UID), last);
        let frame = (tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, 1);
        let image = [frame, (tags::DERIVATION_IMAGE_SEQUENCE, 0), (tags::SOURCE_IMAGE_SEQUENCE, 0)];
        assert_eq!(at(&seg, &image, tags::REFERENCED_SOP_INSTANCE_UID), last);
    }
}

#[test]
fn frames_are_by_segment_then_by_position() {
    let study = study(&grid());
    let seg = seg(&study, voxels()).expect("a SEG");
    assert_eq!(items(&seg, tags::SEGMENT_SEQUENCE), 2, "the kidney has no voxels");
    assert_eq!(at(&seg, &[(tags::SEGMENT_SEQUENCE, 0)], tags::SEGMENT_LABEL), "liver");
    assert_eq!(at(&seg, &[(tags::SEGMENT_SEQUENCE, 1)], tags::SEGMENT_NUMBER), "2");
    assert_eq!(at(&seg, &[], tags::NUMBER_OF_FRAMES), "3");
    let per_frame = tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE;
    let expected = [("1\\1", "30", "2.25.1001"), ("1\\2", "35", "2.25.1003"), ("2\\2", "35", "2.25.1003")];
    for (i, (index, z, instance)) in expected.into_iter().enumerate() {
        let content = [(per_frame, i), (tags::FRAME_CONTENT_SEQUENCE, 0)];
        assert_eq!(at(&seg, &content, tags::DIMENSION_INDEX_VALUES), index);
        let position = at(&seg, &[(per_frame, i), (tags::PLANE_POSITION_SEQUENCE, 0)], tags::IMAGE_POSITION_PATIENT);
        assert_eq!(position, format!("-10\\20\\{z}"));
        let image = [(per_frame, i), (tags::DERIVATION_IMAGE_SEQUENCE, 0), (tags::SOURCE_IMAGE_SEQUENCE, 0)];
        assert_eq!(at(&seg, &image, tags::REFERENCED_SOP_INSTANCE_UID), instance);
    }
    let measures = [(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 0), (tags::PIXEL_MEASURES_SEQUENCE, 0)];
    assert_eq!(at(&seg, &measures, tags::PIXEL_SPACING), "0.8\\0.7", "rows first");
    assert_eq!(at(&seg, &measures, tags::SLICE_THICKNESS), "2");
    assert_eq!(at(&seg, &measures, tags::SPACING_BETWEEN_SLICES), "2.5");
    let bits = seg.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes");
    assert_eq!(bits.len(), 14, "3 × 35 bits are 14 bytes");
    let set: u32 = bits.iter().map(|b| b.count_ones()).sum();
    assert_eq!(set as usize, voxels().iter().filter(|v| **v > 0).count());
}

#[test]
fn a_source_without_frame_of_reference_gets_one_that_stays() {
    let mut study = study(&grid());
    study.series[0].header.remove_element(tags::FRAME_OF_REFERENCE_UID);
    let uid = at(&seg(&study, voxels()).expect("a SEG"), &[], tags::FRAME_OF_REFERENCE_UID);
    assert!(uid.starts_with("2.25."));
    assert_eq!(uid, at(&seg(&study, voxels()).expect("a SEG"), &[], tags::FRAME_OF_REFERENCE_UID));
}

#[test]
fn what_was_lost_in_the_source_is_said() {
    let mut study = study(&grid());
    study.series[0].header.put_str(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
    study.series[0].header.put_str(tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, "12.5");
    let object = seg(&study, voxels()).expect("a SEG");
    assert_eq!(at(&object, &[], tags::LOSSY_IMAGE_COMPRESSION), "01");
    assert_eq!(at(&object, &[], tags::LOSSY_IMAGE_COMPRESSION_RATIO), "12.5");
    let mut jpeg = crate::outputs::tests::study(&grid());
    jpeg.series[0].instances[1].transfer_syntax_uid.push_str("1.2.840.10008.1.2.4.50");
    let object = seg(&jpeg, voxels()).expect("a SEG");
    assert_eq!(at(&object, &[], tags::LOSSY_IMAGE_COMPRESSION), "01", "though the header does not say so");
}

#[test]
fn text_outside_the_character_set_of_the_source_is_written_in_utf_8() {
    let study = study(&grid());
    let mut accepted = accepted(&study, voxels());
    accepted.segmentation.as_mut().expect("one").segments[1].name = "wątroba".into();
    let source = Source::new(&study, (0, 0)).expect("a volume");
    let uids = OutputUids::new(&source, &[], &module().identity, &[]);
    let seg = segmentation(&accepted, &source, &module(), &uids, &stamp()).expect("a SEG");
    let mut file = Vec::new();
    seg.write_all(&mut file).expect("encodes");
    let back = dicom_object::from_reader(file.as_slice()).expect("reads back");
    assert_eq!(at(&back, &[], tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
    assert_eq!(at(&back, &[], tags::PATIENT_NAME), "Müller^Test");
    assert_eq!(at(&back, &[(tags::SEGMENT_SEQUENCE, 0)], tags::SEGMENT_LABEL), "wątroba");
}

/// Through a file and back, as a later module is handed it.
fn read_back(
    study: &crate::study::Study,
    voxels: Vec<u8>,
    change: impl FnOnce(&mut InMemDicomObject),
) -> Result<crate::study::Labels, crate::study::ReadError> {
    let accepted = accepted(study, voxels.clone());
    let values = accepted.numbered().map(|(number, s)| (number, s.value as u16)).collect();
    let mut object = seg(study, voxels).expect("a SEG");
    change(&mut object);
    let file = tempfile::NamedTempFile::new().expect("a file");
    object.write_all(&mut file.as_file()).expect("encodes");
    let budget = crate::memory::Budget::unlimited();
    crate::study::labels(file.path(), study, &values, &budget, &ReadOptions::default())
}

#[test]
fn labels_come_back_as_they_were_stated() {
    let study = study(&grid());
    let back = read_back(&study, voxels(), |_| {}).expect("labels");
    assert_eq!((back.series, back.volume), (0, 0));
    assert!(back.labels.geometry().same_grid(&grid(), 1e-6));
    let read = back.labels.read(grid().region()).expect("voxels");
    assert!(read.iter().zip(voxels()).all(|(read, stated)| *read == f32::from(stated)), "{read:?}");
}

#[test]
fn a_seg_that_lies_elsewhere_or_is_none_of_ours_is_refused() {
    let study = study(&grid());
    let refused = |expected: &str, change: &dyn Fn(&mut InMemDicomObject)| {
        let error = read_back(&study, voxels(), change).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused("not binary", &|object| _ = object.put_str(tags::SEGMENTATION_TYPE, VR::CS, "FRACTIONAL"));
    refused("not as many", &|object| _ = object.put_str(tags::NUMBER_OF_FRAMES, VR::IS, "2"));
    refused("not as large", &|object| put(object, tags::ROWS, VR::US, 4u16));
    refused("shorter than its frames", &|object| {
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(vec![0, 0].into())));
    });
    let mut moved = crate::outputs::tests::study(&grid());
    moved.series[0].volumes[0].geometry =
        Geometry::new(grid().size(), grid().spacing(), [-10.0, 20.0, 31.0], grid().axes()).expect("a grid");
    let budget = crate::memory::Budget::unlimited();
    let object = seg(&study, voxels()).expect("a SEG");
    let file = tempfile::NamedTempFile::new().expect("a file");
    object.write_all(&mut file.as_file()).expect("encodes");
    let values = [(1, 9), (2, 4)].into();
    let on = |study: &crate::study::Study| {
        let error = crate::study::labels(file.path(), study, &values, &budget, &ReadOptions::default());
        error.expect_err("another study").to_string()
    };
    assert!(on(&moved).contains("lies beside the image"), "{}", on(&moved));
    moved.series[0].instances.iter_mut().for_each(|instance| instance.sop_instance_uid = "2.25.9".into());
    moved.series[0].volumes[0].geometry = grid();
    assert!(on(&moved).contains("lies on no image of the study"), "{}", on(&moved));
}

#[test]
fn no_voxels_are_no_seg() {
    assert!(matches!(seg(&study(&grid()), vec![0; 105]), Err(SegError::Empty)));
}

/// Ellipsoids, one for each segment value of [`accepted`].
fn ellipsoids([nx, ny, nz]: [usize; 3]) -> Vec<u8> {
    let mut voxels = vec![0; nx * ny * nz];
    for (i, voxel) in voxels.iter_mut().enumerate() {
        let at = [i % nx, i / nx % ny, i / (nx * ny)].map(|n| n as f64 + 0.5);
        let inside = |centre: [f64; 3], radius: [f64; 3]| {
            let size = [nx, ny, nz].map(|n| n as f64);
            (0..3).map(|a| ((at[a] / size[a] - centre[a]) / radius[a]).powi(2)).sum::<f64>() < 1.0
        };
        *voxel = if inside([0.3, 0.5, 0.4], [0.15, 0.2, 0.3]) {
            5
        } else if inside([0.6, 0.4, 0.5], [0.2, 0.1, 0.6]) {
            9
        } else {
            u8::from(inside([0.55, 0.7, 0.8], [0.1, 0.12, 0.15])) * 4
        };
    }
    voxels
}

#[test]
fn a_real_series_gets_a_seg_with_the_voxels_that_were_stated() {
    let Some(folder) = assets("totalsegmentator/example_ct_dicom") else { return };
    let options = ReadOptions::default();
    let study = crate::study::read(&[folder], &options).expect("the series reads");
    let layout = &study.series[0].volumes[0];
    let [nx, ny, _] = layout.geometry.size();
    let voxels = ellipsoids(layout.geometry.size());
    let seg = seg(&study, voxels.clone()).expect("a SEG");
    let mut file = Vec::new();
    seg.write_all(&mut file).expect("encodes");
    let back = dicom_object::from_reader(file.as_slice()).expect("reads back");
    let bits = back.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes");
    let mut found = vec![0u8; voxels.len()];
    for frame in 0..items(&back, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE) {
        let path = (tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frame);
        let image = [path, (tags::DERIVATION_IMAGE_SEQUENCE, 0), (tags::SOURCE_IMAGE_SEQUENCE, 0)];
        let instance = at(&back, &image, tags::REFERENCED_SOP_INSTANCE_UID);
        let z = study.series[0].instances.iter().position(|i| i.sop_instance_uid == instance).expect("a slice");
        let segment = at(&back, &[path, (tags::SEGMENT_IDENTIFICATION_SEQUENCE, 0)], tags::REFERENCED_SEGMENT_NUMBER);
        let value = [5, 9, 4][segment.parse::<usize>().expect("a number") - 1];
        for i in (0..nx * ny).filter(|i| bits[(frame * nx * ny + i) / 8] >> ((frame * nx * ny + i) % 8) & 1 == 1) {
            found[z * nx * ny + i] = value;
        }
    }
    assert!(found == voxels, "voxels differ from what was stated");
}
