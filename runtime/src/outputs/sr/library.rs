//! The image library (PS3.16 TID 1600, 1601, 1602 and 1604): which images findings are of, and where they lie, so that a reader of the
//! report alone knows what it is about.
//!
//! ```text
//! Image Library
//!  └─ Image Library Group: a volume ── what all its slices have in common                  TID 1602, 1604
//!      └─ image: a slice ── its position
//! ```

use super::concepts as c;
use super::content::Item;
use crate::geometry::Vec3;
use crate::outputs::Source;
use crate::outputs::codes::Known;

/// The library with a group for each of `sources`.
pub(super) fn image_library(sources: &[&Source<'_>]) -> Item {
    Item::container(c::IMAGE_LIBRARY).contains_all(sources.iter().map(|source| group(source, cross_section(source))))
}

/// The library with an image of which nobody knows where it lies.
pub(super) fn unplaced(source: &Source<'_>) -> Item {
    Item::container(c::IMAGE_LIBRARY).contains(group(source, Vec::new()))
}

fn group(source: &Source<'_>, geometry: Vec<Item>) -> Item {
    let series = source.series;
    let stated = |keyword| series.attribute(keyword).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
    let modality = c::modality(&series.modality).map(|code| Item::code(c::MODALITY, code));
    let side = stated("ImageLaterality").or_else(|| stated("Laterality")).and_then(|side| c::laterality(&side));
    let dates = [
        stated("StudyDate").filter(|d| is_date(d)).map(|date| Item::date(c::STUDY_DATE, date)),
        stated("StudyTime").filter(|t| is_time(t)).map(|time| Item::time(c::STUDY_TIME, time)),
    ];
    let common = modality
        .into_iter()
        .chain(side.map(|side| Item::code(c::LATERALITY, side)))
        .chain(dates.into_iter().flatten())
        .chain(stated("FrameOfReferenceUID").map(|uid| Item::uid(c::FRAME_OF_REFERENCE, uid)))
        .chain(size(source))
        .chain(geometry);
    let group = common.fold(Item::container(c::IMAGE_LIBRARY_GROUP), Item::acquired_in);
    let slices = source.layout.slices.iter().filter_map(|&i| series.instances.get(i));
    group.contains_all(slices.map(|instance| {
        let image = Item::image(&instance.sop_class_uid, &instance.sop_instance_uid, instance.frame);
        let coordinates = instance.position.into_iter().flat_map(|at| c::POSITION.into_iter().zip(at));
        coordinates.map(|(axis, at)| millimetres(axis, at)).fold(image, Item::acquired_in)
    }))
}

fn size(source: &Source<'_>) -> [Item; 2] {
    let [columns, rows] = source.image_size().map(|n| n as f64);
    [Item::number(c::ROWS, rows, c::PIXELS), Item::number(c::COLUMNS, columns, c::PIXELS)]
}

/// TID 1604.
fn cross_section(source: &Source<'_>) -> Vec<Item> {
    if source.unplaced() {
        return Vec::new();
    }
    let grid = &source.layout.geometry;
    let ([dx, dy, dz], [x, y, _]): (Vec3, [Vec3; 3]) = (grid.spacing(), grid.axes());
    let thickness = source.series.attribute("SliceThickness").and_then(|t| t.trim().parse::<f64>().ok());
    let thickness = thickness.filter(|t| t.is_finite() && *t > 0.0);
    let spacing = [millimetres(c::SPACING_HORIZONTAL, dx), millimetres(c::SPACING_VERTICAL, dy)];
    let between = (source.layout.slices.len() > 1).then(|| millimetres(c::SPACING_SLICES, dz));
    let cosines = c::ORIENTATION.into_iter().zip(x.into_iter().chain(y));
    spacing
        .into_iter()
        .chain(between)
        .chain(thickness.map(|mm| millimetres(c::SLICE_THICKNESS, mm)))
        .chain(cosines.map(|(axis, cosine)| Item::number(axis, cosine, c::COSINE)))
        .collect()
}

fn millimetres(concept: Known, value: f64) -> Item {
    Item::number(concept, value, c::MILLIMETRE)
}

fn is_date(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit())
}

/// `HH`, `HHMM`, `HHMMSS` or that with a fraction.
fn is_time(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    matches!(whole.len(), 2 | 4 | 6) && digits(whole) && digits(fraction) && fraction.len() <= 6
}
