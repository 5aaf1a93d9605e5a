//! `overlay.png`: key slices with their segments in colour, for a first look by people. Not a DICOM object.

use super::Accepted;
use super::canvas::{COLOURS, mix};
use super::window::SOFT_TISSUE;
use crate::volumes::{Volume, VolumeError};

/// Slices shown, side by side.
const SLICES: usize = 4;
/// How much of a segment's colour covers the image.
const OPACITY: f32 = 0.45;

/// Draws `accepted` over the volume that it was found in; `None` when no segment has voxels.
///
/// # Errors
/// [`VolumeError`] when voxels or labels cannot be computed.
pub fn overlay(image: &Volume, accepted: &Accepted) -> Result<Option<Vec<u8>>, VolumeError> {
    let Some(stated) = accepted.segmentation.as_ref().filter(|_| accepted.has_seg()) else { return Ok(None) };
    let [columns, rows, _] = image.geometry().size();
    let shown = key_slices(accepted);
    let width = columns * shown.len();
    let mut picture = vec![0u8; width * rows * 3];
    let (mut values, mut labels) = (vec![0f32; columns * rows], vec![0u16; columns * rows]);
    for (place, &z) in shown.iter().enumerate() {
        image.slice(z, &mut values)?;
        stated.labels.label_slice(z, &mut labels)?;
        for (i, (&value, &label)) in values.iter().zip(&labels).enumerate() {
            let grey = [(SOFT_TISSUE.grey(value) * 255.0) as u8; 3];
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
