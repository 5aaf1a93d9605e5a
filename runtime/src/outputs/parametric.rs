//! DICOM Parametric Map (PS3.3 A.75) of a heatmap: its values as they are, in f32, one frame for each slice of the source.

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids as dictionary};
use dicom_object::{FileDicomObject, FileMetaTableBuilder, InMemDicomObject};

use super::codes;
use super::dataset::{self, decimal, put, put_empty, sequence};
use super::{AcceptedHeatmap, ModuleInfo, OutputUids, Source, Stamp, multiframe};
use crate::findings::Code;
use crate::memory::{Charge, OverBudget};
use crate::volumes::VolumeError;

/// The name that UIDs of the map are derived from.
const OUTPUT: &str = "parametric-map";
/// Image Type (0008,0008) and Frame Type (0008,9007): a volume of a quantity.
const TYPE: [&str; 4] = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"];

/// Why there is no parametric map.
#[derive(Debug, thiserror::Error)]
pub enum ParametricError {
    /// Not what the gate accepted: ours to repair.
    #[error("slice {0} of the heatmap has no instance in the source volume; pass the source that the gate named")]
    Source(usize),
    /// More than one object may hold.
    #[error("a heatmap of {0:?} voxels is more than one object can hold; set outputs.parametric_map = false")]
    TooLarge([usize; 3]),
    /// No room for its values.
    #[error("the parametric map has no room: {0}; raise it, or set outputs.parametric_map = false")]
    OverBudget(#[from] OverBudget),
    /// The values could not be computed again.
    #[error("the heatmap cannot be computed: {0}")]
    Voxels(#[from] VolumeError),
    /// An object that cannot be encoded: ours to repair.
    #[error("the file meta information of the parametric map cannot be built: {0}")]
    Meta(String),
}

/// The parametric map of `heatmap`, whose [`source`](AcceptedHeatmap::source) is `source`, and what its values are
/// charged as for as long as it is held.
///
/// # Errors
/// See [`ParametricError`].
pub fn parametric_map(
    heatmap: &AcceptedHeatmap,
    source: &Source<'_>,
    module: &ModuleInfo,
    uids: &OutputUids,
    stamp: &Stamp,
) -> Result<(FileDicomObject<InMemDicomObject>, Charge), ParametricError> {
    let charge = heatmap.values.budget().charge(heatmap.values.geometry().voxels() as u64 * 4)?;
    let mut object = dataset::in_study_of(source);
    let (mut module, mut title) = (module.clone(), heatmap.title.clone());
    let texts = [&mut module.name, &mut module.version, &mut module.vendor, &mut module.title, &mut title];
    dataset::fit_characters(&mut object, texts);
    let module = &module;
    dataset::put_instance(&mut object, dictionary::PARAMETRIC_MAP_STORAGE, &uids.instance(OUTPUT), stamp);
    let description = dataset::described(&title, module);
    dataset::put_series(&mut object, source, "OT", &uids.series(OUTPUT), &description, 5);
    dataset::put_body_part(&mut object, source);
    dataset::put_side(&mut object, source);
    dataset::put_equipment(&mut object, module);
    put(&mut object, tags::FRAME_OF_REFERENCE_UID, VR::UI, source.frame_of_reference_uid());
    put_empty(&mut object, tags::POSITION_REFERENCE_INDICATOR, VR::LO);
    multiframe::put_references(&mut object, source);
    put_image(&mut object, heatmap, &description, module)?;
    dataset::put_lossy(&mut object, source);
    multiframe::put_dimensions(&mut object, &uids.other(OUTPUT, "dimensions"), &[multiframe::BY_POSITION]);
    sequence(&mut object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared(heatmap, source, &title)]);
    let slices = 0..heatmap.values.geometry().size()[2];
    let frames = slices.zip(1u32..).map(|(slice, place)| frame(source, slice, place)).collect::<Result<_, _>>()?;
    sequence(&mut object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frames);
    object.put(DataElement::new(tags::FLOAT_PIXEL_DATA, VR::OF, PrimitiveValue::F32(values(heatmap)?.into())));
    let meta = FileMetaTableBuilder::new().transfer_syntax(dictionary::EXPLICIT_VR_LITTLE_ENDIAN);
    let object = object.with_meta(meta).map_err(|e| ParametricError::Meta(e.to_string()))?;
    Ok((object, charge))
}

/// General Image, Acquisition Context, Floating Point Image Pixel and Parametric Map Image modules (PS3.3 C.7.6.1,
/// C.7.6.14, C.7.6.24, C.8.32.2).
fn put_image(
    object: &mut InMemDicomObject,
    heatmap: &AcceptedHeatmap,
    description: &str,
    module: &ModuleInfo,
) -> Result<(), ParametricError> {
    let size @ [columns, rows, slices] = heatmap.values.geometry().size();
    let side = |n: usize| u16::try_from(n).map_err(|_| ParametricError::TooLarge(size));
    let bytes = columns.checked_mul(rows).and_then(|n| n.checked_mul(slices)).and_then(|n| n.checked_mul(4));
    bytes.filter(|bytes| *bytes < u32::MAX as usize - 1).ok_or(ParametricError::TooLarge(size))?;
    put(object, tags::IMAGE_TYPE, VR::CS, types());
    sequence(object, tags::ACQUISITION_CONTEXT_SEQUENCE, vec![]);
    put(object, tags::CONTENT_LABEL, VR::CS, "HEATMAP");
    put(object, tags::CONTENT_DESCRIPTION, VR::LO, description);
    put(object, tags::CONTENT_CREATOR_NAME, VR::PN, format!("{}^", dataset::MANUFACTURER));
    // RESEARCH: not for clinical use.
    let qualification = if module.demonstration { "RESEARCH" } else { "PRODUCT" };
    put(object, tags::CONTENT_QUALIFICATION, VR::CS, qualification);
    put(object, tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
    put(object, tags::RECOGNIZABLE_VISUAL_FEATURES, VR::CS, "NO");
    put(object, tags::NUMBER_OF_FRAMES, VR::IS, slices.to_string());
    put(object, tags::SAMPLES_PER_PIXEL, VR::US, 1u16);
    put(object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    put(object, tags::PRESENTATION_LUT_SHAPE, VR::CS, "IDENTITY");
    put(object, tags::ROWS, VR::US, side(rows)?);
    put(object, tags::COLUMNS, VR::US, side(columns)?);
    put(object, tags::BITS_ALLOCATED, VR::US, 32u16);
    Ok(())
}

fn types() -> PrimitiveValue {
    PrimitiveValue::Strs(TYPE.iter().map(|&value| value.to_owned()).collect())
}

/// Functional groups that all frames have in common, with what values mean (PS3.3 C.7.6.16.2.9 to 11, C.8.32.3).
fn shared(heatmap: &AcceptedHeatmap, source: &Source<'_>, title: &str) -> InMemDicomObject {
    let mut item = multiframe::shared(source);
    let mut transformation = InMemDicomObject::new_empty();
    put(&mut transformation, tags::RESCALE_INTERCEPT, VR::DS, "0");
    put(&mut transformation, tags::RESCALE_SLOPE, VR::DS, "1");
    put(&mut transformation, tags::RESCALE_TYPE, VR::LO, "US");
    sequence(&mut item, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, vec![transformation]);

    let (low, high) = heatmap.shown();
    let (low, high) = (f64::from(low), f64::from(high));
    let width = if high > low { high - low } else { 1.0 };
    let mut window = InMemDicomObject::new_empty();
    put(&mut window, tags::WINDOW_CENTER, VR::DS, decimal(f64::midpoint(low, high)));
    put(&mut window, tags::WINDOW_WIDTH, VR::DS, decimal(width));
    put(&mut window, tags::VOILUT_FUNCTION, VR::CS, "LINEAR_EXACT");
    sequence(&mut item, tags::FRAME_VOILUT_SEQUENCE, vec![window]);

    let mut mapping = InMemDicomObject::new_empty();
    put(&mut mapping, tags::LUT_EXPLANATION, VR::LO, dataset::text(title));
    put(&mut mapping, tags::LUT_LABEL, VR::SH, "HEATMAP");
    let (first, last) = (f64::from(heatmap.minimum), f64::from(heatmap.maximum));
    put(&mut mapping, tags::DOUBLE_FLOAT_REAL_WORLD_VALUE_FIRST_VALUE_MAPPED, VR::FD, first);
    put(&mut mapping, tags::DOUBLE_FLOAT_REAL_WORLD_VALUE_LAST_VALUE_MAPPED, VR::FD, last);
    put(&mut mapping, tags::REAL_WORLD_VALUE_INTERCEPT, VR::FD, 0.0);
    put(&mut mapping, tags::REAL_WORLD_VALUE_SLOPE, VR::FD, 1.0);
    codes::put_code(&mut mapping, tags::MEASUREMENT_UNITS_CODE_SEQUENCE, &Code::new("1", "UCUM", "no units"));
    sequence(&mut item, tags::REAL_WORLD_VALUE_MAPPING_SEQUENCE, vec![mapping]);

    let mut kind = InMemDicomObject::new_empty();
    put(&mut kind, tags::FRAME_TYPE, VR::CS, types());
    sequence(&mut item, tags::PARAMETRIC_MAP_FRAME_TYPE_SEQUENCE, vec![kind]);
    item
}

/// Functional groups of one frame.
fn frame(source: &Source<'_>, slice: usize, place: u32) -> Result<InMemDicomObject, ParametricError> {
    let mut item = InMemDicomObject::new_empty();
    multiframe::put_derivation(&mut item, source, slice, codes::DETECTION).ok_or(ParametricError::Source(slice))?;
    multiframe::put_place(&mut item, source, slice, &[place]);
    Ok(item)
}

/// Slice after slice, x fastest.
fn values(heatmap: &AcceptedHeatmap) -> Result<Vec<f32>, VolumeError> {
    let [columns, rows, slices] = heatmap.values.geometry().size();
    let plane = columns * rows;
    let mut values = vec![0f32; plane * slices];
    for (slice, out) in values.chunks_exact_mut(plane).enumerate() {
        heatmap.values.slice(slice, out)?;
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use dicom_core::Tag;

    use super::*;
    use crate::findings::{Findings, Heatmap};
    use crate::geometry::Geometry;
    use crate::memory::Budget;
    use crate::outputs::tests::{module, stamp, study};
    use crate::outputs::{Accepted, gate};
    use crate::study::Study;
    use crate::volumes::Volume;

    fn grid() -> Geometry {
        let (s, c) = 0.3f64.sin_cos();
        let axes = [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([3, 2, 2], [0.7, 0.8, 2.5], [-10.0, 20.0, 30.0], axes).expect("a grid")
    }

    fn accepted(study: &Study, voxels: Vec<f32>, budget: &Budget) -> Accepted {
        let values = Volume::from_f32(grid(), voxels, budget).expect("as many voxels as the grid has");
        let heatmap = Some(Heatmap { values, title: "Wärme".into() });
        gate(Findings { heatmap, ..Findings::default() }, study, &[0], &[]).expect("accepted")
    }

    fn map(voxels: Vec<f32>, budget: &Budget) -> Result<FileDicomObject<InMemDicomObject>, ParametricError> {
        let study = study(&grid());
        let accepted = accepted(&study, voxels, budget);
        let source = Source::new(&study, (0, 0)).expect("a volume");
        let uids = OutputUids::new(&source, &[[1; 32]], &module().identity, &[]);
        let made = parametric_map(accepted.heatmap.as_ref().expect("one"), &source, &module(), &uids, &stamp());
        made.map(|(object, _)| object)
    }

    fn text(object: &InMemDicomObject, tag: Tag) -> String {
        object.element(tag).expect("an element").to_str().expect("text").trim_end_matches('\0').to_owned()
    }

    fn item(object: &InMemDicomObject, tag: Tag, index: usize) -> &InMemDicomObject {
        &object.element(tag).expect("a sequence").items().expect("items")[index]
    }

    #[test]
    fn values_come_back_as_they_were_with_what_they_mean() {
        let voxels: Vec<f32> = (0..12u8).map(|i| f32::from(i) / 11.0).collect();
        let map = map(voxels.clone(), &Budget::unlimited()).expect("a map");
        let mut file = Vec::new();
        map.write_all(&mut file).expect("encodes");
        let back = dicom_object::from_reader(file.as_slice()).expect("reads back");
        let read = back.element(tags::FLOAT_PIXEL_DATA).expect("values").to_multi_float32().expect("f32");
        assert_eq!(read, voxels);
        assert_eq!(text(&back, tags::SERIES_DESCRIPTION), "Wärme: demonstration, not for clinical use");
        assert_eq!(text(&back, tags::CONTENT_QUALIFICATION), "RESEARCH");
        assert_eq!(text(&back, tags::PATIENT_NAME), "Müller^Test");
        assert_eq!(text(&back, tags::SERIES_NUMBER), "305");
        let shared = item(&back, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 0);
        let window = item(shared, tags::FRAME_VOILUT_SEQUENCE, 0);
        assert_eq!((text(window, tags::WINDOW_CENTER), text(window, tags::WINDOW_WIDTH)), ("0.5".into(), "1".into()));
        let second = item(&back, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, 1);
        assert_eq!(text(item(second, tags::PLANE_POSITION_SEQUENCE, 0), tags::IMAGE_POSITION_PATIENT), "-10\\20\\32.5");
        let image = item(item(second, tags::DERIVATION_IMAGE_SEQUENCE, 0), tags::SOURCE_IMAGE_SEQUENCE, 0);
        assert_eq!(text(image, tags::REFERENCED_SOP_INSTANCE_UID), "2.25.1002");
    }

    #[test]
    fn a_map_that_is_the_same_everywhere_has_a_window() {
        let map = map(vec![3.0; 12], &Budget::unlimited()).expect("a map");
        let window = item(item(&map, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 0), tags::FRAME_VOILUT_SEQUENCE, 0);
        assert_eq!((text(window, tags::WINDOW_CENTER), text(window, tags::WINDOW_WIDTH)), ("3".into(), "1".into()));
    }

    #[test]
    fn what_does_not_fit_the_budget_names_the_limit() {
        let voxels = vec![0.5; 12];
        let error = map(voxels, &Budget::bytes(60)).expect_err("48 bytes stated, 48 more wanted").to_string();
        assert!(error.contains("host_memory_mib"), "{error}");
    }
}
