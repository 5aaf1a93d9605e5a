//! Frames as a viewer shows them, in red, green and blue of 8 bits.

use gantry_cloud_sync::deid::{Frame, Held, Palette};

/// Pixels, row after row, 3 bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) rgb: Vec<u8>,
}

/// Side of the square that lines must fit in to be seen in a relief, in pixels: strokes of small letters do.
const STROKE: usize = 15;
/// The part of the pixels that a relief shows as white at most, and the contrast that it shows as white at least, of 255: noise must
/// not be made as bright as letters.
const WHITE_PART: f64 = 0.005;
const WHITE_MIN: usize = 32;

/// All that text may show in: colours as they are; grey as the image's own window shows it, and all stored values from the lowest to
/// the highest, since what was drawn into an image is often there alone. None where all pixels are the same.
///
/// The last two are reliefs of what is shown: what is thin and lighter than what lies around it, and what is thin and darker. Faint
/// letters over organs stand out there alone.
pub(super) fn views(frame: &Frame<'_>) -> Result<Vec<Picture>, Held> {
    let (width, height) = (usize::from(frame.columns), usize::from(frame.rows));
    let values = samples(frame)?;
    let picture = |rgb: Vec<u8>| Picture { width, height, rgb };
    let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    if low >= high {
        return Ok(Vec::new());
    }
    let mut views = if frame.samples == 3 {
        vec![picture(colours(frame, &values))]
    } else if let Some(palette) = frame.palette {
        vec![picture(entries(palette, &values))]
    } else {
        greys(frame, &values, (low, high))
    };
    let reliefs = views.last().map(reliefs);
    views.extend(reliefs.into_iter().flatten());
    Ok(views)
}

fn greys(frame: &Frame<'_>, values: &[f64], whole: (f64, f64)) -> Vec<Picture> {
    let (width, height) = (usize::from(frame.columns), usize::from(frame.rows));
    let (low, high) = whole;
    let grey = |(low, high): (f64, f64)| {
        let inverted = frame.photometric == "MONOCHROME1";
        let shade = move |&value: &f64| {
            let part = ((value - low) / (high - low)).clamp(0.0, 1.0);
            [((if inverted { 1.0 - part } else { part }) * 255.0).round() as u8; 3]
        };
        Picture { width, height, rgb: values.iter().flat_map(shade).collect() }
    };
    let mut views = vec![grey(whole)];
    // Of 8 bits, a window that shows most of them shows nothing more.
    let differs = |(a, b): (f64, f64)| (a - low).abs() + (b - high).abs() > (high - low) / 8.0;
    if let Some(window) = frame.window.filter(|&window| differs(window) && window.1 > low && window.0 < high) {
        views.push(grey(window));
    }
    views
}

/// What is lighter, and what is darker, than all around it is: white and black top-hat transforms with a square.
fn reliefs(picture: &Picture) -> [Picture; 2] {
    let pixels = picture.rgb.as_chunks::<3>().0;
    let brightest: Vec<u8> = pixels.iter().map(|p| p[0].max(p[1]).max(p[2])).collect();
    // Darker is lighter in a negative.
    let darkest: Vec<u8> = pixels.iter().map(|p| u8::MAX - p[0].min(p[1]).min(p[2])).collect();
    [brightest, darkest].map(|plane| {
        let (width, height) = (picture.width, picture.height);
        let opened = extreme(&extreme(&plane, width, height, u8::min), width, height, u8::max);
        let relief: Vec<u8> = plane.iter().zip(&opened).map(|(&value, &opened)| value.saturating_sub(opened)).collect();
        let white = white(&relief);
        let shade = |&value: &u8| [(usize::from(value) * 255 / white).min(255) as u8; 3];
        Picture { width, height, rgb: relief.iter().flat_map(shade).collect() }
    })
}

/// What a relief shows as white.
fn white(relief: &[u8]) -> usize {
    let mut counts = [0usize; 256];
    relief.iter().for_each(|&value| counts[usize::from(value)] += 1);
    let mut left = (relief.len() as f64 * WHITE_PART) as usize;
    let value = (0..256).rev().find(|&value| {
        let over = counts[value] > left;
        left = left.saturating_sub(counts[value]);
        over
    });
    value.unwrap_or(0).max(WHITE_MIN)
}

/// The lowest or highest value within a square around each pixel, as far as it lies in the picture.
fn extreme(plane: &[u8], width: usize, height: usize, choose: impl Fn(u8, u8) -> u8) -> Vec<u8> {
    let reach = STROKE / 2;
    let mut across = plane.to_vec();
    for (out, row) in across.chunks_exact_mut(width).zip(plane.chunks_exact(width)) {
        for (x, out) in out.iter_mut().enumerate() {
            *out = row[x.saturating_sub(reach)..(x + reach + 1).min(width)].iter().copied().fold(*out, &choose);
        }
    }
    let mut down = across.clone();
    for (y, out) in down.chunks_exact_mut(width).enumerate() {
        for row in across.chunks_exact(width).take((y + reach + 1).min(height)).skip(y.saturating_sub(reach)) {
            out.iter_mut().zip(row).for_each(|(out, &value)| *out = choose(*out, value));
        }
    }
    down
}

/// The samples as numbers.
fn samples(frame: &Frame<'_>) -> Result<Vec<f64>, Held> {
    let unknown = || Held::Unsearched("their layout is unknown".into());
    let count = usize::from(frame.rows) * usize::from(frame.columns) * usize::from(frame.samples);
    let stored = u32::from(frame.bits_stored);
    if !(1..=u32::from(frame.bits_allocated)).contains(&stored) || !matches!(frame.samples, 1 | 3) {
        return Err(unknown());
    }
    let number = |raw: u32| {
        let up = raw << (32 - stored);
        if frame.signed { f64::from(up.cast_signed() >> (32 - stored)) } else { f64::from(up >> (32 - stored)) }
    };
    let values: Vec<f64> = match frame.bits_allocated {
        8 => frame.pixels.iter().map(|&b| number(b.into())).collect(),
        16 => frame.pixels.as_chunks::<2>().0.iter().map(|&b| number(u16::from_le_bytes(b).into())).collect(),
        32 => frame.pixels.as_chunks::<4>().0.iter().map(|&b| number(u32::from_le_bytes(b))).collect(),
        _ => return Err(unknown()),
    };
    if values.len() == count { Ok(values) } else { Err(unknown()) }
}

fn colours(frame: &Frame<'_>, values: &[f64]) -> Vec<u8> {
    // The highest 8 bits.
    let scale = 2f64.powi(8 - i32::from(frame.bits_stored));
    let ybr = frame.photometric.starts_with("YBR");
    let colour = |pixel: &[f64; 3]| {
        let [y, b, r] = pixel.map(|v| v * scale);
        if !ybr {
            return [y, b, r].map(|v| v.clamp(0.0, 255.0) as u8);
        }
        // PS3.3 C.7.6.3.1.2.
        let (b, r) = (b - 128.0, r - 128.0);
        [y + 1.402 * r, y - 0.344_136 * b - 0.714_136 * r, y + 1.772 * b].map(|v| v.clamp(0.0, 255.0) as u8)
    };
    values.as_chunks::<3>().0.iter().flat_map(colour).collect()
}

fn entries(palette: &Palette, values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|&value| palette.colour(value as i64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame<'a>(pixels: &'a [u8], more: impl FnOnce(&mut Frame<'a>)) -> Frame<'a> {
        let mut frame = Frame::grey(1, 2, pixels);
        more(&mut frame);
        frame
    }

    fn shown(frame: &Frame<'_>) -> Vec<Vec<u8>> {
        views(frame).expect("known").into_iter().map(|picture| picture.rgb).collect()
    }

    #[test]
    fn grey_is_shown_in_full_and_through_its_window() {
        assert_eq!(shown(&frame(&[7, 7], |_| {})), [[0u8; 6]; 0], "nothing in it");
        assert_eq!(shown(&frame(&[10, 20], |_| {}))[0], [0, 0, 0, 255, 255, 255]);
        assert_eq!(shown(&frame(&[10, 20], |f| f.photometric = "MONOCHROME1"))[0], [255, 255, 255, 0, 0, 0]);
        let wide = |f: &mut Frame<'_>| (f.bits_allocated, f.bits_stored, f.signed) = (16, 12, true);
        // -1 and 2047; what lies above the stored bits is none of it.
        let bytes = [0xFF, 0x0F, 0xFF, 0xF7];
        assert_eq!(shown(&frame(&bytes, wide))[0], [0, 0, 0, 255, 255, 255]);
        let windowed = frame(&bytes, |f| {
            wide(f);
            f.window = Some((-11.0, 9.0));
        });
        assert_eq!(shown(&windowed)[..2], [[0, 0, 0, 255, 255, 255], [128, 128, 128, 255, 255, 255]]);
        assert!(views(&frame(&[1, 2, 3], |_| {})).is_err(), "a byte too many");
    }

    #[test]
    fn colours_are_red_green_and_blue() {
        let colour = |photometric: &'static str| {
            move |f: &mut Frame<'_>| (f.columns, f.samples, f.photometric) = (1, 3, photometric)
        };
        assert_eq!(shown(&frame(&[1, 2, 3], colour("RGB")))[0], [1, 2, 3]);
        assert_eq!(shown(&frame(&[76, 85, 255], colour("YBR_FULL")))[0], [254, 0, 0]);
        let palette = Palette { first: 5, colours: vec![[1, 1, 1], [9, 8, 7]] };
        let bytes = [4, 250];
        let mut entries = frame(&bytes, |f| f.photometric = "PALETTE COLOR");
        entries.palette = Some(&palette);
        assert_eq!(shown(&entries)[0], [1, 1, 1, 9, 8, 7]);
    }

    #[test]
    fn what_is_thin_stands_out_of_what_is_broad() {
        let (width, height) = (64, 40);
        // A slope, a broad block on it, a faint light line and a faint dark one.
        let shade = |x: usize, y: usize| {
            let slope = x + if (8..30).contains(&x) && (8..30).contains(&y) { 80 } else { 0 };
            (if x == 40 {
                slope + 20
            } else if x == 50 {
                slope - 20
            } else {
                slope
            }) as u8
        };
        let rgb = (0..width * height).flat_map(|i| [shade(i % width, i / width); 3]).collect();
        let [lighter, darker] = reliefs(&Picture { width, height, rgb });
        let at = |picture: &Picture, x: usize| picture.rgb[(20 * width + x) * 3];
        assert!(at(&lighter, 40) > 120 && at(&lighter, 18) < 60 && at(&lighter, 50) == 0);
        assert!(at(&darker, 50) > 120 && at(&darker, 18) < 60 && at(&darker, 40) < 60);
    }
}
