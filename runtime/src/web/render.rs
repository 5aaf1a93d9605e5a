//! A frame as a picture for people (PS3.18 section 8.3.5): window, size, JPEG, PNG or GIF.

use super::error::WebError;
use crate::study::voi::{self, Function};

pub(super) const JPEG: &str = "image/jpeg";
pub(super) const PNG: &str = "image/png";
pub(super) const GIF: &str = "image/gif";
/// Where a client says nothing.
const QUALITY: u8 = 90;
/// How hard the 256 colours of a GIF are looked for: 1 is best, 30 is fastest.
const GIF_SPEED: i32 = 10;

/// What pictures are encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Baseline.
    Jpeg {
        /// From 1 to 100.
        quality: u8,
    },
    Png,
    /// Colours become 256 of the picture's own.
    Gif,
}

impl Format {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg { .. } => JPEG,
            Self::Png => PNG,
            Self::Gif => GIF,
        }
    }
}

/// The quality of lossy pictures (PS3.18 section 8.3.5.1.2).
pub(super) fn quality(text: Option<&str>) -> Result<u8, WebError> {
    let sound = text.map_or(Some(QUALITY), |text| text.parse().ok().filter(|n| (1..=100).contains(n)));
    sound.ok_or_else(|| WebError::BadRequest("quality is a whole number from 1 to 100".into()))
}

/// Which values become black and white (PS3.3 section C.11.2.1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) centre: f64,
    pub(super) width: f64,
    pub(super) function: Function,
}

impl From<voi::Window> for Window {
    fn from(voi::Window { centre, width, function }: voi::Window) -> Self {
        Self { centre, width, function: function.unwrap_or(Function::Linear) }
    }
}

impl Window {
    /// `centre,width[,function]`.
    pub(super) fn parse(text: &str) -> Result<Self, WebError> {
        let bad = || {
            let text = "window is centre,width[,function]: numbers, a width of at least 1 (linear) or above 0, and linear, linear-exact or sigmoid";
            WebError::BadRequest(text.into())
        };
        let pieces: Vec<&str> = text.split(',').collect();
        let (centre, width, function) = match pieces[..] {
            [centre, width] => (centre, width, "linear"),
            [centre, width, function] => (centre, width, function),
            _ => return Err(bad()),
        };
        let function = match function.to_ascii_lowercase().as_str() {
            "linear" => Function::Linear,
            "linear-exact" => Function::LinearExact,
            "sigmoid" => Function::Sigmoid,
            _ => return Err(bad()),
        };
        let number = |text: &str| text.trim().parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(bad);
        let window = Self { centre: number(centre)?, width: number(width)?, function };
        if window.is_sound() { Ok(window) } else { Err(bad()) }
    }

    pub(super) fn is_sound(&self) -> bool {
        self.width >= if self.function == Function::Linear { 1.0 } else { f64::MIN_POSITIVE }
    }

    /// All of the values.
    pub(super) fn whole(values: &[f32]) -> Self {
        let finite = || values.iter().copied().filter(|v| v.is_finite()).map(f64::from);
        let (low, high) = (finite().fold(f64::MAX, f64::min), finite().fold(f64::MIN, f64::max));
        let width = (high - low).max(f64::from(f32::MIN_POSITIVE));
        Self { centre: f64::midpoint(low, high), width, function: Function::LinearExact }
    }

    /// From 0 (black) to 255.
    fn apply(&self, value: f32) -> u8 {
        let (x, c, w) = (f64::from(value), self.centre, self.width);
        let part = match self.function {
            Function::Linear if w <= 1.0 => f64::from(u8::from(x > c - 0.5)),
            Function::Linear => (x - (c - 0.5)) / (w - 1.0) + 0.5,
            Function::LinearExact => (x - c) / w + 0.5,
            Function::Sigmoid => 1.0 / (1.0 + (-4.0 * (x - c) / w).exp()),
        };
        (part.clamp(0.0, 1.0) * 255.0).round() as u8
    }
}

/// A picture: rows of 1 (grey) or 3 (colour) bytes a pixel.
pub(super) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    samples: usize,
    bytes: Vec<u8>,
}

impl Picture {
    pub(super) fn grey(width: u32, height: u32, values: &[f32], window: &Window, inverted: bool) -> Self {
        let shade = |v: &f32| if inverted { 255 - window.apply(*v) } else { window.apply(*v) };
        Self { width, height, samples: 1, bytes: values.iter().map(shade).collect() }
    }

    pub(super) fn colour(width: u32, height: u32, bytes: Vec<u8>) -> Self {
        Self { width, height, samples: 3, bytes }
    }

    /// As large as fits into a viewport, in its own proportions. Smaller ones are means, so that nothing thin is lost.
    pub(super) fn fit(self, viewport: (u32, u32)) -> Self {
        let scale = (f64::from(viewport.0) / f64::from(self.width)).min(f64::from(viewport.1) / f64::from(self.height));
        let side = |n: u32, most: u32| ((f64::from(n) * scale).round() as u32).clamp(1, most.max(1));
        let (width, height) = (side(self.width, viewport.0), side(self.height, viewport.1));
        let mut bytes = Vec::with_capacity(width as usize * height as usize * self.samples);
        for y in 0..height {
            let rows = span(y, height, self.height);
            for x in 0..width {
                let columns = span(x, width, self.width);
                for sample in 0..self.samples {
                    bytes.push(self.mean(rows.clone(), columns.clone(), sample));
                }
            }
        }
        Self { width, height, samples: self.samples, bytes }
    }

    fn mean(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>, sample: usize) -> u8 {
        let count = rows.len() * columns.len();
        let line = self.width as usize;
        let at = |y: usize, x: usize| usize::from(self.bytes[(y * line + x) * self.samples + sample]);
        let sum: usize = rows.map(|y| columns.clone().map(|x| at(y, x)).sum::<usize>()).sum();
        ((sum + count / 2) / count) as u8
    }

    pub(super) fn encode(&self, format: Format) -> Result<Vec<u8>, WebError> {
        match format {
            Format::Jpeg { quality } => self.jpeg(quality),
            Format::Png => self.png(),
            Format::Gif => self.gif(),
        }
    }

    fn jpeg(&self, quality: u8) -> Result<Vec<u8>, WebError> {
        let (width, height) = self.short_sides("JPEG")?;
        let mut out = Vec::new();
        let kind = if self.samples == 1 { jpeg_encoder::ColorType::Luma } else { jpeg_encoder::ColorType::Rgb };
        let written = jpeg_encoder::Encoder::new(&mut out, quality).encode(&self.bytes, width, height, kind);
        written.map_err(|e| WebError::internal(&e))?;
        Ok(out)
    }

    fn gif(&self) -> Result<Vec<u8>, WebError> {
        let (width, height) = self.short_sides("GIF")?;
        let frame = match self.samples {
            1 => {
                let greys: Vec<u8> = (0..=u8::MAX).flat_map(|grey| [grey; 3]).collect();
                gif::Frame::from_palette_pixels(width, height, &*self.bytes, greys, None)
            }
            _ => gif::Frame::from_rgb_speed(width, height, &self.bytes, GIF_SPEED),
        };
        let mut out = Vec::new();
        let written = gif::Encoder::new(&mut out, width, height, &[]).and_then(|mut gif| gif.write_frame(&frame));
        written.map_err(|e| WebError::internal(&e))?;
        Ok(out)
    }

    /// Width and height where a format has 16 bits for each.
    fn short_sides(&self, format: &str) -> Result<(u16, u16), WebError> {
        let sides = u16::try_from(self.width).ok().zip(u16::try_from(self.height).ok());
        sides.ok_or_else(|| WebError::BadRequest(format!("a {format} picture has at most {} pixels a side", u16::MAX)))
    }

    fn png(&self) -> Result<Vec<u8>, WebError> {
        let mut out = Vec::new();
        let mut encoder = png::Encoder::new(&mut out, self.width, self.height);
        encoder.set_color(if self.samples == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&self.bytes));
        written.map_err(|e| WebError::internal(&e))?;
        Ok(out)
    }
}

/// Which of `from` places the place `index` of `to` stands for: never none.
fn span(index: u32, to: u32, from: u32) -> std::ops::Range<usize> {
    let place = |i: u32| (u64::from(i) * u64::from(from) / u64::from(to)) as usize;
    let start = place(index);
    start..place(index + 1).clamp(start + 1, from as usize)
}

/// `width,height`, within a number of pixels.
pub(super) fn viewport(text: &str, pixels_max: u64) -> Result<(u32, u32), WebError> {
    let bad =
        || WebError::BadRequest("viewport is width,height in pixels, each at least 1; regions are not offered".into());
    let (width, height) = text.split_once(',').ok_or_else(bad)?;
    let side = |text: &str| text.trim().parse().ok().filter(|n: &u32| *n > 0).ok_or_else(bad);
    let (width, height) = (side(width)?, side(height)?);
    if u64::from(width) * u64::from(height) > pixels_max {
        let text = format!("viewport passes web.rendered_pixels_max = {pixels_max}");
        return Err(WebError::BadRequest(text));
    }
    Ok((width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_in_black_and_white() {
        let window = Window::parse("40,400").expect("sound");
        assert_eq!((window.apply(-1000.0), window.apply(1000.0)), (0, 255));
        assert_eq!((window.apply(-160.0), window.apply(239.0)), (0, 255));
        let edge = Window::parse("0,1,linear").expect("sound");
        assert_eq!((edge.apply(-0.5), edge.apply(0.0)), (0, 255));
        assert_eq!(Window::parse("0,100,sigmoid").expect("sound").apply(0.0), 128);
        for text in ["", "1", "1,0", "a,b", "1,2,3", "nan,1", "1,inf", "1,2,linear,4"] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn viewports_are_bounded() {
        assert_eq!(viewport("10,20", 200).expect("fits"), (10, 20));
        for text in ["999999,999999", "4294967295,4294967295", "0,1", "-1,1", "1", "1,2,3,4,5,6"] {
            assert!(matches!(viewport(text, 1 << 24), Err(WebError::BadRequest(_))), "{text}");
        }
    }

    #[test]
    fn qualities_are_from_1_to_100() {
        assert_eq!([None, Some("1"), Some("100")].map(|text| quality(text).expect("sound")), [QUALITY, 1, 100]);
        for text in ["0", "101", "x", "", "-1", "1.5", "99999999999"] {
            assert!(matches!(quality(Some(text)), Err(WebError::BadRequest(_))), "{text}");
        }
    }

    #[test]
    fn pictures_keep_their_proportions() {
        let picture =
            || Picture::grey(4, 2, &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0], &Window::whole(&[0.0, 1.0]), false);
        let small = picture().fit((2, 2));
        assert_eq!((small.width, small.height, small.bytes), (2, 1, vec![0, 255]));
        let large = picture().fit((8, 100));
        assert_eq!((large.width, large.height), (8, 4));
        assert!(picture().fit((1, 1)).encode(Format::Png).expect("written").starts_with(b"\x89PNG"));
        assert!(picture().fit((1, 1)).encode(Format::Gif).expect("written").starts_with(b"GIF89a"));
        let jpeg = Format::Jpeg { quality: 1 };
        assert!(picture().fit((1, 1)).encode(jpeg).expect("written").starts_with(b"\xFF\xD8\xFF"));
        let wide = Picture::grey(2000, 1, &[0.0; 2000], &Window::whole(&[0.0, 1.0]), false).fit((66_000, 66_000));
        for format in [jpeg, Format::Gif] {
            assert!(matches!(wide.encode(format), Err(WebError::BadRequest(_))), "{} pixels wide", wide.width);
        }
    }
}
