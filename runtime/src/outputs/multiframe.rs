//! What multi-frame objects on the grid of a source have in common (PS3.3 C.7.6.16, C.7.6.17): where frames lie, and
//! which slices they were made of.

use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::Source;
use super::codes::{self, Known, put_code};
use super::dataset::{self, decimal, decimals, put, sequence};

/// What frames are told apart by: attribute, its functional group, name.
pub(super) type Dimension = (Tag, Tag, &'static str);

/// By where they lie.
pub(super) const BY_POSITION: Dimension =
    (tags::IMAGE_POSITION_PATIENT, tags::PLANE_POSITION_SEQUENCE, "ImagePositionPatient");

/// Common Instance Reference module (PS3.3 C.12.2), which also names the source series.
pub(super) fn put_references(object: &mut InMemDicomObject, source: &Source<'_>) {
    let mut series = InMemDicomObject::new_empty();
    put(&mut series, tags::SERIES_INSTANCE_UID, VR::UI, source.series.uid.as_str());
    sequence(&mut series, tags::REFERENCED_INSTANCE_SEQUENCE, dataset::slice_references(source));
    sequence(object, tags::REFERENCED_SERIES_SEQUENCE, vec![series]);
}

/// Multi-frame Dimension module (PS3.3 C.7.6.17).
pub(super) fn put_dimensions(object: &mut InMemDicomObject, organization: &str, dimensions: &[Dimension]) {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization);
    sequence(object, tags::DIMENSION_ORGANIZATION_SEQUENCE, vec![item]);
    let index = |(pointer, group, label): &Dimension| {
        let mut item = InMemDicomObject::new_empty();
        put(&mut item, tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization);
        put(&mut item, tags::DIMENSION_INDEX_POINTER, VR::AT, PrimitiveValue::from(*pointer));
        put(&mut item, tags::FUNCTIONAL_GROUP_POINTER, VR::AT, PrimitiveValue::from(*group));
        put(&mut item, tags::DIMENSION_DESCRIPTION_LABEL, VR::LO, *label);
        item
    };
    sequence(object, tags::DIMENSION_INDEX_SEQUENCE, dimensions.iter().map(index).collect());
}

/// Functional groups that all frames have in common: Plane Orientation and Pixel Measures (PS3.3 C.7.6.16.2).
pub(super) fn shared(source: &Source<'_>) -> InMemDicomObject {
    let grid = &source.layout.geometry;
    let ([x, y, _], [dx, dy, dz]) = (grid.axes(), grid.spacing());
    let mut orientation = InMemDicomObject::new_empty();
    put(&mut orientation, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, decimals(&[x, y].concat()));
    let mut measures = InMemDicomObject::new_empty();
    let stated = source.series.attribute("SliceThickness").and_then(|t| t.trim().parse::<f64>().ok());
    let thickness = stated.filter(|t| t.is_finite() && *t > 0.0).unwrap_or(dz);
    put(&mut measures, tags::PIXEL_SPACING, VR::DS, decimals(&[dy, dx]));
    put(&mut measures, tags::SLICE_THICKNESS, VR::DS, decimal(thickness));
    put(&mut measures, tags::SPACING_BETWEEN_SLICES, VR::DS, decimal(dz));
    let mut item = InMemDicomObject::new_empty();
    sequence(&mut item, tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation]);
    sequence(&mut item, tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
    item
}

/// Functional group of one frame: Derivation Image, from `slice`; `None` when the source has no such slice.
pub(super) fn put_derivation(item: &mut InMemDicomObject, source: &Source<'_>, slice: usize, how: Known) -> Option<()> {
    let instance = source.instance(slice)?;
    let mut image = dataset::image_reference(instance);
    put_code(&mut image, tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, &codes::SOURCE_IMAGE.into());
    // The planes are the same; where a pixel lies in them is not where slices were moved.
    let preserved = if source.layout.tilt.is_none() { "YES" } else { "NO" };
    put(&mut image, tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, preserved);
    let mut derivation = InMemDicomObject::new_empty();
    sequence(&mut derivation, tags::SOURCE_IMAGE_SEQUENCE, vec![image]);
    put_code(&mut derivation, tags::DERIVATION_CODE_SEQUENCE, &how.into());
    sequence(item, tags::DERIVATION_IMAGE_SEQUENCE, vec![derivation]);
    Some(())
}

/// Functional groups of one frame: Frame Content with its `index`, and Plane Position at `slice`.
pub(super) fn put_place(item: &mut InMemDicomObject, source: &Source<'_>, slice: usize, index: &[u32]) {
    let mut content = InMemDicomObject::new_empty();
    let index = PrimitiveValue::U32(index.iter().copied().collect());
    put(&mut content, tags::DIMENSION_INDEX_VALUES, VR::UL, index);
    let mut position = InMemDicomObject::new_empty();
    let corner = source.layout.geometry.to_patient([0.0, 0.0, slice as f64]);
    put(&mut position, tags::IMAGE_POSITION_PATIENT, VR::DS, decimals(&corner));
    sequence(item, tags::FRAME_CONTENT_SEQUENCE, vec![content]);
    sequence(item, tags::PLANE_POSITION_SEQUENCE, vec![position]);
}
