//! Images that lie nowhere in the patient: projections (CR, DX, MG, …), ultrasound, captures and photographs.
//!
//! Each is a volume of one slice on a grid of its own plane, whose x axis is its rows and whose y axis its columns. Where
//! in the patient that is nobody says, so nothing that needs a place is stated on it.

use dicom_dictionary_std::tags;

use super::attributes::Attributes;
use super::{ReadError, header};

/// Whether an image has no place, and its SOP class (PS3.4 annex B.5) wants none. A slice of CT, MR or PET without one is
/// damaged.
pub(super) fn is(a: &Attributes<'_>) -> bool {
    let class = a.text(tags::SOP_CLASS_UID);
    let Some(class) = class.strip_prefix(header::STORAGE) else { return false };
    let family = class.split('.').next().unwrap_or_default();
    let kind = matches!(family, "1" | "3" | "6" | "7" | "12" | "20") || class.starts_with("77.1") || class == "481.1";
    kind && !a.present(tags::IMAGE_POSITION_PATIENT)
}

/// Distance of pixel centres along a row and along a column, mm, where something states it: of a projection at the detector, and so
/// magnified.
pub(super) fn spacing(a: &Attributes<'_>) -> Result<Option<[f64; 2]>, ReadError> {
    for tag in [tags::PIXEL_SPACING, tags::IMAGER_PIXEL_SPACING, tags::NOMINAL_SCANNED_PIXEL_SPACING] {
        // Some write zeros for what they do not know.
        if let Some([rows, columns]) = a.numbers::<2>(tag)?.filter(|spacing| spacing.iter().all(|mm| *mm > 0.0)) {
            return Ok(Some([columns, rows]));
        }
    }
    Ok(region(a))
}

/// Of the first region of an ultrasound image (PS3.3 C.8.5.5), where both of its axes are lengths.
fn region(a: &Attributes<'_>) -> Option<[f64; 2]> {
    const CENTIMETRES: Option<u16> = Some(3);
    let regions = a.object.get(tags::SEQUENCE_OF_ULTRASOUND_REGIONS)?.items()?;
    let region = Attributes { path: a.path, object: regions.first()? };
    let unit = |tag| region.small(tag).ok().flatten();
    let lengths = [tags::PHYSICAL_UNITS_X_DIRECTION, tags::PHYSICAL_UNITS_Y_DIRECTION].map(unit) == [CENTIMETRES; 2];
    let delta = |tag| region.numbers::<1>(tag).ok().flatten().map(|[cm]| cm.abs() * 10.0).filter(|mm| *mm > 0.0);
    let both = delta(tags::PHYSICAL_DELTA_X).zip(delta(tags::PHYSICAL_DELTA_Y));
    both.filter(|_| lengths).map(|(x, y)| [x, y])
}
