//! `overlay.png`: key slices with their segments in colour, for a first look by people. Not a DICOM object.

use super::canvas::{COLOURS, mix};
use super::{Accepted, Source, window};
use crate::volumes::{Volume, VolumeError};

/// Slices shown, side by side.
const SLICES: usize = 4;
/// How much of a segment's colour covers the image.
const OPACITY: f32 = 0.45;

/// Draws `accepted` over the volume that it was found in, the voxels of `source`; `None` when no segment has voxels.
///
/// # Errors
/// [`VolumeError`] when voxels or labels cannot be computed.
pub fn overlay(image: &Volume, accepted: &Accepted, source: &Source<'_>) -> Result<Option<Vec<u8>>, VolumeError> {
    let Some(stated) = accepted.segmentation.as_ref().filter(|_| accepted.has_seg()) else { return Ok(None) };
    let [columns, rows, _] = image.geometry().size();
    let shown = key_slices(accepted);
    let width = columns * shown.len();
    let mut picture = vec![0u8; width * rows * 3];
    let (mut values, mut labels) = (vec![0f32; columns * rows], vec![0u16; columns * rows]);
    let inverse = window::is_inverse(source);
    // Of the whole volume, so that slices beside one another can be compared.
    let mut of_volume = None;
    for (place, &z) in shown.iter().enumerate() {
        let shown_in = match window::of(source, z).or(of_volume) {
            Some(known) => known,
            None => *of_volume.insert(window::of_values(image)?),
        };
        image.slice(z, &mut values)?;
        stated.labels.label_slice(z, &mut labels)?;
        for (i, (&value, &label)) in values.iter().zip(&labels).enumerate() {
            let grey = shown_in.grey(value);
            let grey = [(if inverse { 1.0 - grey } else { grey } * 255.0) as u8; 3];
            let colour = stated.segments.iter().position(|s| s.value == u32::from(label));
            let at = ((i / columns) * width + place * columns + i % columns) * 3;
            let colour = colour.map_or(grey, |n| mix(grey, COLOURS[n % COLOURS.len()], OPACITY));
            picture[at..at + 3].copy_from_slice(&colour);
        }
    }
    Ok(Some(encode(width, rows, &picture)))
}

/// Slices with voxels, evenly spread.
fn key_slices(accepted: &Accepted) -> Vec<usize> {
    let with: Vec<usize> = (0..accepted.slices.len()).filter(|&z| !accepted.slices[z].is_empty()).collect();
    let mut chosen: Vec<usize> = (0..SLICES).map(|n| with[(2 * n + 1) * with.len() / (2 * SLICES)]).collect();
    chosen.dedup();
    chosen
}

fn encode(width: usize, height: usize, rgb: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let narrow = |n| u32::try_from(n).expect("a few DICOM images side by side are less than 2^32 wide");
    let mut encoder = png::Encoder::new(&mut bytes, narrow(width), narrow(height));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().expect("writing to memory does not fail");
    writer.write_image_data(rgb).expect("as many bytes as the header says");
    drop(writer);
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use dicom_core::VR;
    use dicom_dictionary_std::tags;

    use super::*;
    use crate::findings::{Findings, Segmentation};
    use crate::geometry::Geometry;
    use crate::memory::Budget;
    use crate::outputs::gate;
    use crate::outputs::tests::{labels, segment, study};
    use crate::study::Study;
    use crate::study::voi::{Voi, Window};

    const SIZE: [usize; 3] = [101, 2, 3];

    fn a_study(modality: &str) -> Study {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let mut study = study(&Geometry::new(SIZE, [1.0; 3], [0.0; 3], axes).expect("a grid"));
        study.series[0].modality = modality.into();
        study
    }

    /// Greys of the first row of the one slice that is shown. Each voxel is ten times its column; a segment takes the row
    /// below.
    fn greys(study: &Study) -> Vec<u8> {
        let grid = study.series[0].volumes[0].geometry.clone();
        let voxels = (0..SIZE.iter().product()).map(|i: usize| u8::from(i / 101 == 3)).collect();
        let segmentation = Segmentation { labels: labels(&grid, voxels), segments: vec![segment(1, "liver")] };
        let findings = Findings { segmentation: Some(segmentation), ..Findings::default() };
        let accepted = gate(findings, study, &[0], &[]).expect("accepted");
        let values = (0..SIZE.iter().product()).map(|i: usize| (i % 101 * 10) as f32).collect();
        let image = Volume::from_f32(grid, values, &Budget::unlimited()).expect("as many as the grid has");
        let source = Source::new(study, (0, 0)).expect("a volume");
        let png = overlay(&image, &accepted, &source).expect("drawn").expect("a segment has voxels");
        let mut reader = png::Decoder::new(Cursor::new(png)).read_info().expect("a PNG");
        let mut rgb = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut rgb).expect("pixels");
        assert_eq!((info.width, info.height), (101, 2), "one slice");
        let (pixels, _) = rgb.as_chunks::<3>();
        assert!(pixels[101..].iter().all(|[r, g, b]| r != g || g != b), "the segment has a colour");
        assert!(pixels[..101].iter().all(|[r, g, b]| r == g && g == b), "and nothing else");
        pixels[..101].iter().map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn images_that_state_no_window_are_shown_from_the_first_to_the_99th_percentile() {
        let greys = greys(&a_study("MR"));
        assert_eq!((greys[0], greys[50], greys[100]), (0, 127, 255));
        assert!(greys[1..100].windows(2).all(|pair| pair[0] < pair[1]), "nothing between is saturated: {greys:?}");
    }

    #[test]
    fn images_are_shown_as_they_say_and_a_ct_that_says_nothing_as_soft_tissue() {
        let mut mr = a_study("MR");
        for instance in &mut mr.series[0].instances {
            instance.voi = Voi::Window(Window { centre: 500.0, width: 2000.0, function: None });
        }
        let shown = greys(&mr);
        assert_eq!((shown[0], shown[50], shown[100]), (63, 127, 191));
        let shown = greys(&a_study("CT"));
        assert_eq!((shown[4], shown[24], shown[100]), (127, 255, 255));
    }

    #[test]
    fn what_is_stored_inversely_is_shown_as_it_is_meant() {
        let mut study = a_study("MR");
        study.series[0].header.put_str(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
        let greys = greys(&study);
        assert_eq!((greys[0], greys[100]), (255, 0));
    }
}
