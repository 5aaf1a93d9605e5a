//! Whether what an object shows lies where the source lies, and whether it holds as many pixels as it says.

use std::collections::HashSet;

use dicom_dictionary_std::{tags, uids};

use super::Fault;
use super::inputs::{Inputs, Slice};
use super::read::DataSet;
use crate::geometry::Vec3;

/// How far a pixel may lie from where the source has it, mm.
const TOLERANCE_MM: f64 = 0.01;
/// Parts of a direction that differ by less are as large as one another.
const ALIKE: f64 = 1e-6;

pub(super) fn check(
    data_set: DataSet<'_>,
    shared: DataSet<'_>,
    frames: &[DataSet<'_>],
    inputs: &Inputs<'_>,
) -> Result<(), Fault> {
    if data_set.has(tags::ROWS) {
        pixels(data_set, frames.len())?;
    }
    if !frames.is_empty() {
        lies(data_set, shared, frames, inputs)?;
    }
    match data_set.text(tags::SOP_CLASS_UID) {
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE => sides(data_set, inputs),
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE => drawn(data_set, inputs),
        _ => regions(data_set, inputs),
    }
}

/// Image Pixel module (PS3.3 C.7.6.3, C.7.6.24; PS3.5 section 8): what the header says makes so many bytes.
fn pixels(image: DataSet<'_>, items: usize) -> Result<(), Fault> {
    let number = |tag| image.unsigned(tag).map_or(0, u64::from);
    let stated: u64 = match image.text(tags::NUMBER_OF_FRAMES) {
        "" => 1,
        frames => frames.parse().unwrap_or(0),
    };
    if items > 0 && stated != items as u64 {
        let rule = "not as many items as frames (PS3.3 C.7.6.16)";
        return Err(Fault::at(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, rule));
    }
    let allocated = number(tags::BITS_ALLOCATED);
    if image.has(tags::BITS_STORED) {
        let stored = number(tags::BITS_STORED);
        if stored == 0 || stored > allocated {
            return Err(Fault::at(tags::BITS_STORED, "more bits than are allocated, or none (PS3.3 C.7.6.3)"));
        }
        if number(tags::HIGH_BIT) + 1 != stored {
            return Err(Fault::at(tags::HIGH_BIT, "must be one less than Bits Stored (PS3.3 C.7.6.3)"));
        }
    }
    let allowed: &[u64] = match image.text(tags::SEGMENTATION_TYPE) {
        "BINARY" => &[1],
        "FRACTIONAL" => &[8],
        _ => &[8, 16, 32],
    };
    if !allowed.contains(&allocated) {
        return Err(Fault::at(
            tags::BITS_ALLOCATED,
            "not as many bits as such an object has (PS3.3 C.8.20.2, C.7.6.3)",
        ));
    }
    let sides = number(tags::ROWS) * number(tags::COLUMNS);
    let bits = sides.checked_mul(number(tags::SAMPLES_PER_PIXEL) * allocated).and_then(|bits| bits.checked_mul(stated));
    let bytes = bits.map_or(0, |bits| bits.div_ceil(8).next_multiple_of(2));
    let field = [tags::PIXEL_DATA, tags::FLOAT_PIXEL_DATA].into_iter().find_map(|tag| image.field(tag));
    let there = field.and_then(|field| field.pixels());
    match field {
        Some(field) if bytes == 0 || there != Some(bytes) => {
            let there = there.unwrap_or(0);
            let rule = format!("{there} bytes, where rows, columns, frames and bits make {bytes} (PS3.5 section 8)");
            Err(Fault::at(field.tag(), rule))
        }
        _ => Ok(()),
    }
}

/// Every frame lies on a slice of one volume of the source, corner by corner, in its frame of reference.
fn lies(image: DataSet<'_>, shared: DataSet<'_>, frames: &[DataSet<'_>], inputs: &Inputs<'_>) -> Result<(), Fault> {
    let dimensions = image.items(tags::DIMENSION_INDEX_SEQUENCE).count();
    let (mut first, mut places): (Option<Slice<'_>>, _) = (None, HashSet::new());
    for (frame, at) in frames.iter().zip(1..) {
        let slice = Frame { shared, own: *frame }.check(image, first, inputs);
        let slice = slice.and_then(|slice| {
            let content = frame.item(tags::FRAME_CONTENT_SEQUENCE);
            let index = content.and_then(|content| content.field(tags::DIMENSION_INDEX_VALUES));
            match index {
                Some(index) if index.multiplicity() != dimensions => {
                    let rule = "not as many values as there are dimensions (PS3.3 C.7.6.17)";
                    Err(Fault::at(tags::DIMENSION_INDEX_VALUES, rule))
                }
                Some(index) if !places.insert(index.value()) => {
                    let rule = "the same place as another frame (PS3.3 C.7.6.17)";
                    Err(Fault::at(tags::DIMENSION_INDEX_VALUES, rule))
                }
                _ => Ok(slice),
            }
        });
        let slice = slice.map_err(|fault| fault.in_item(at).within(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE))?;
        first.get_or_insert(slice);
    }
    Ok(())
}

/// Functional groups of one frame.
struct Frame<'a> {
    shared: DataSet<'a>,
    own: DataSet<'a>,
}

impl<'a> Frame<'a> {
    fn group(&self, tag: dicom_core::Tag) -> Option<DataSet<'a>> {
        self.own.item(tag).or_else(|| self.shared.item(tag))
    }

    fn check<'s>(&self, image: DataSet<'a>, first: Option<Slice<'s>>, inputs: &Inputs<'s>) -> Result<Slice<'s>, Fault> {
        let derivation = self.group(tags::DERIVATION_IMAGE_SEQUENCE);
        let source = derivation.and_then(|derivation| derivation.item(tags::SOURCE_IMAGE_SEQUENCE));
        let slices = source.map(|source| inputs.slices(source)).unwrap_or_default();
        let [slice] = slices[..] else {
            return Err(Fault::at(tags::SOURCE_IMAGE_SEQUENCE, "names no slice of a volume of the input"));
        };
        let grid = slice.grid;
        if first.is_some_and(|first| !std::ptr::eq(first.grid, grid)) {
            return Err(Fault::at(tags::SOURCE_IMAGE_SEQUENCE, "names another volume than the frames before it"));
        }
        if image.text(tags::FRAME_OF_REFERENCE_UID) != Inputs::frame_of_reference(slice.series) {
            return Err(Fault::at(tags::FRAME_OF_REFERENCE_UID, "is not that of the source"));
        }
        let [columns, rows, slices] = grid.size();
        let size = [tags::COLUMNS, tags::ROWS].map(|tag| image.unsigned(tag).map(|n| n as usize));
        if size != [Some(columns), Some(rows)] {
            return Err(Fault::at(tags::ROWS, "frames are not as large as the images of the source"));
        }
        let measures = self.group(tags::PIXEL_MEASURES_SEQUENCE);
        let between = measures.and_then(|measures| measures.decimals::<1>(tags::SPACING_BETWEEN_SLICES));
        let off = |[between]: [f64; 1]| (between - grid.spacing()[2]).abs() * slices as f64 > TOLERANCE_MM;
        if between.is_some_and(off) {
            return Err(Fault::at(tags::SPACING_BETWEEN_SLICES, "is not that of the source within 0.01 mm over all"));
        }
        let place = Plane {
            position: self.group(tags::PLANE_POSITION_SEQUENCE).and_then(|g| g.decimals(tags::IMAGE_POSITION_PATIENT)),
            orientation: self
                .group(tags::PLANE_ORIENTATION_SEQUENCE)
                .and_then(|g| g.decimals(tags::IMAGE_ORIENTATION_PATIENT)),
            spacing: measures.and_then(|measures| measures.decimals(tags::PIXEL_SPACING)),
        };
        place.check(slice).map(|()| slice)
    }
}

/// Where a frame lies by what it says (PS3.3 C.7.6.2.1.1).
struct Plane {
    /// Centre of the first pixel, mm.
    position: Option<Vec3>,
    /// Of a row, then of a column.
    orientation: Option<[f64; 6]>,
    /// Between rows, then between columns, mm.
    spacing: Option<[f64; 2]>,
}

impl Plane {
    fn check(&self, Slice { grid, at, .. }: Slice<'_>) -> Result<(), Fault> {
        let (Some(position), Some([a, b, c, d, e, f]), Some([dy, dx])) =
            (self.position, self.orientation, self.spacing)
        else {
            return Err(Fault::at(tags::IMAGE_POSITION_PATIENT, "position, orientation and spacing are no numbers"));
        };
        let (along_row, along_column) = ([a, b, c], [d, e, f]);
        let [columns, rows, _] = grid.size();
        let corners = [(0, 0), (columns - 1, 0), (0, rows - 1), (columns - 1, rows - 1)];
        for (corner, tag) in corners.into_iter().zip([
            tags::IMAGE_POSITION_PATIENT,
            tags::IMAGE_ORIENTATION_PATIENT,
            tags::IMAGE_ORIENTATION_PATIENT,
            tags::PIXEL_SPACING,
        ]) {
            let (x, y) = (corner.0 as f64, corner.1 as f64);
            let there = grid.to_patient([x, y, at as f64]);
            let distance: f64 = (0..3)
                .map(|i| position[i] + along_row[i] * dx * x + along_column[i] * dy * y - there[i])
                .map(|off| off * off)
                .sum();
            // One that is no number is too far.
            if distance.is_nan() || distance.sqrt() > TOLERANCE_MM {
                let rule =
                    "a corner of the frame lies more than 0.01 mm from where the source has it (PS3.3 C.7.6.2.1.1)";
                return Err(Fault::at(tag, rule));
            }
        }
        Ok(())
    }
}

/// A picture says which sides of the patient its rows and columns run to: those of its source.
fn sides(picture: DataSet<'_>, inputs: &Inputs<'_>) -> Result<(), Fault> {
    let source = picture.item(tags::SOURCE_IMAGE_SEQUENCE);
    let Some(slice) = source.and_then(|source| inputs.slices(source).first().copied()) else {
        return Err(Fault::at(tags::SOURCE_IMAGE_SEQUENCE, "names no slice of a volume of the input"));
    };
    // What an image without a place says of its sides is not in its grid.
    let uid = source.map_or("", |source| source.text(tags::REFERENCED_SOP_INSTANCE_UID));
    if slice.series.instances.iter().any(|image| image.sop_instance_uid == uid && image.unplaced) {
        return Ok(());
    }
    // At 45 degrees to two axes, both are the nearest.
    let is = |side: Option<char>, axis: Vec3| {
        let most = axis.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        let letters = [['R', 'L'], ['A', 'P'], ['F', 'H']].into_iter().zip(axis);
        let mut nearest = letters.filter(|(_, v)| v.abs() > most - ALIKE);
        nearest.any(|([down, up], v)| side == Some(if v < 0.0 { down } else { up }))
    };
    let [row, column, _] = slice.grid.axes();
    let said = picture.text(tags::PATIENT_ORIENTATION).split('\\').map(|side| side.trim().chars().next());
    match said.collect::<Vec<_>>().as_slice() {
        [along_row, along_column] if is(*along_row, row) && is(*along_column, column) => Ok(()),
        _ => Err(Fault::at(tags::PATIENT_ORIENTATION, "is not that of the source (PS3.3 C.7.6.1.1.1)")),
    }
}

/// What a presentation state draws lies in the images that it draws on, and in layers that it has.
fn drawn(state: DataSet<'_>, inputs: &Inputs<'_>) -> Result<(), Fault> {
    let layers: HashSet<&str> =
        state.items(tags::GRAPHIC_LAYER_SEQUENCE).map(|layer| layer.text(tags::GRAPHIC_LAYER)).collect();
    let series = state.items(tags::REFERENCED_SERIES_SEQUENCE);
    let images = series.flat_map(|series| series.items(tags::REFERENCED_IMAGE_SEQUENCE));
    let sizes: HashSet<[usize; 2]> = images.flat_map(|image| sizes(image, inputs)).collect();
    for (area, at) in state.items(tags::DISPLAYED_AREA_SELECTION_SEQUENCE).zip(1..) {
        let corner = |tag| {
            let value = area.field(tag).map(|field| field.value()).unwrap_or_default().as_chunks::<4>().0;
            let mut numbers = value.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes)));
            (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
        };
        let (left, top) = corner(tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER);
        let (right, bottom) = corner(tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER);
        let fits = |[columns, rows]: &[usize; 2]| {
            left >= 1
                && top >= 1
                && right as usize <= *columns
                && bottom as usize <= *rows
                && left <= right
                && top <= bottom
        };
        if !sizes.iter().all(fits) {
            let fault = Fault::at(tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, "is not in the images (PS3.3 C.10.4)");
            return Err(fault.in_item(at).within(tags::DISPLAYED_AREA_SELECTION_SEQUENCE));
        }
    }
    for (annotation, at) in state.items(tags::GRAPHIC_ANNOTATION_SEQUENCE).zip(1..) {
        annotated(annotation, &layers, &sizes, inputs)
            .map_err(|fault| fault.in_item(at).within(tags::GRAPHIC_ANNOTATION_SEQUENCE))?;
    }
    Ok(())
}

/// Columns and rows of the images that an item refers to.
fn sizes(item: DataSet<'_>, inputs: &Inputs<'_>) -> Vec<[usize; 2]> {
    inputs.slices(item).into_iter().map(|slice| slice.size).collect()
}

/// One annotation, on its own images or else on all.
fn annotated(
    annotation: DataSet<'_>,
    layers: &HashSet<&str>,
    all: &HashSet<[usize; 2]>,
    inputs: &Inputs<'_>,
) -> Result<(), Fault> {
    if !layers.contains(annotation.text(tags::GRAPHIC_LAYER)) {
        return Err(Fault::at(tags::GRAPHIC_LAYER, "is no layer of the Graphic Layer Sequence (PS3.3 C.10.5)"));
    }
    let own: HashSet<[usize; 2]> =
        annotation.items(tags::REFERENCED_IMAGE_SEQUENCE).flat_map(|image| sizes(image, inputs)).collect();
    let sizes = if own.is_empty() { all } else { &own };
    let inside = |units: &str, points: &[f32]| {
        points.as_chunks::<2>().0.iter().all(|[x, y]| {
            let within = |right: f32, bottom: f32| (0.0..=right).contains(x) && (0.0..=bottom).contains(y);
            match units {
                "PIXEL" => sizes.iter().all(|[columns, rows]| within(*columns as f32, *rows as f32)),
                _ => within(1.0, 1.0),
            }
        })
    };
    let outside = |tag| Fault::at(tag, "a point lies outside of the images (PS3.3 C.10.5)");
    for (graphic, at) in annotation.items(tags::GRAPHIC_OBJECT_SEQUENCE).zip(1..) {
        let points: Vec<f32> = graphic.field(tags::GRAPHIC_DATA).into_iter().flat_map(|field| field.floats()).collect();
        let stated = graphic.unsigned(tags::NUMBER_OF_GRAPHIC_POINTS).map(|points| points as usize * 2);
        let fault = match (stated == Some(points.len()), inside(graphic.text(tags::GRAPHIC_ANNOTATION_UNITS), &points))
        {
            (true, true) => continue,
            (false, _) => Fault::at(tags::NUMBER_OF_GRAPHIC_POINTS, "not as many points as there are (PS3.3 C.10.5)"),
            (true, false) => outside(tags::GRAPHIC_DATA),
        };
        return Err(fault.in_item(at).within(tags::GRAPHIC_OBJECT_SEQUENCE));
    }
    for (text, at) in annotation.items(tags::TEXT_OBJECT_SEQUENCE).zip(1..) {
        for tag in [tags::BOUNDING_BOX_TOP_LEFT_HAND_CORNER, tags::BOUNDING_BOX_BOTTOM_RIGHT_HAND_CORNER] {
            let points: Vec<f32> = text.field(tag).into_iter().flat_map(|field| field.floats()).collect();
            if !inside(text.text(tags::BOUNDING_BOX_ANNOTATION_UNITS), &points) {
                return Err(outside(tag).in_item(at).within(tags::TEXT_OBJECT_SEQUENCE));
            }
        }
    }
    Ok(())
}

/// Regions that a report states as coordinates (PS3.3 C.18.6) lie in what they are of.
fn regions(item: DataSet<'_>, inputs: &Inputs<'_>) -> Result<(), Fault> {
    for (child, at) in item.items(tags::CONTENT_SEQUENCE).zip(1..) {
        region(child, inputs)
            .and_then(|()| regions(child, inputs))
            .map_err(|fault| fault.in_item(at).within(tags::CONTENT_SEQUENCE))?;
    }
    Ok(())
}

fn region(item: DataSet<'_>, inputs: &Inputs<'_>) -> Result<(), Fault> {
    let points: Vec<f32> = item.field(tags::GRAPHIC_DATA).into_iter().flat_map(|field| field.floats()).collect();
    let inside = match item.text(tags::VALUE_TYPE) {
        "SCOORD" => {
            let images =
                item.items(tags::CONTENT_SEQUENCE).flat_map(|image| image.items(tags::REFERENCED_SOP_SEQUENCE));
            let mut sizes = images.flat_map(|image| sizes(image, inputs));
            let (pairs, rest) = points.as_chunks::<2>();
            rest.is_empty()
                && sizes.all(|[columns, rows]| {
                    pairs.iter().all(|[x, y]| (0.0..=columns as f32).contains(x) && (0.0..=rows as f32).contains(y))
                })
        }
        _ => true,
    };
    match inside {
        true => Ok(()),
        false => Err(Fault::at(tags::GRAPHIC_DATA, "a point lies outside of what the region is of (PS3.3 C.18.6)")),
    }
}
