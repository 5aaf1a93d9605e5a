//! Pixels to draw on: rectangles, text and colour maps, in red, green and blue.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

/// Colours of segments, in turn; the first are none that heat has.
pub(super) const COLOURS: [Colour; 6] =
    [[120, 180, 255], [123, 201, 111], [247, 214, 72], [221, 130, 101], [196, 132, 222], [255, 140, 190]];
/// Of boxes.
pub(super) const AMBER: Colour = [255, 176, 0];
/// Of text.
pub(super) const WHITE: Colour = [235, 235, 235];
/// Around the image.
pub(super) const BLACK: Colour = [0, 0, 0];

/// From cold to hot: dark violet over red to light yellow, lighter all the way, so that it can be read in grey too.
const HEAT: [Colour; 7] =
    [[30, 12, 69], [94, 18, 110], [161, 43, 98], [217, 75, 60], [246, 125, 21], [250, 190, 40], [252, 253, 160]];

/// The colour of `part`, 0 to 1; of what is no number, the coldest.
pub(super) fn heat(part: f32) -> Colour {
    let part = if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) };
    let at = part * (HEAT.len() - 1) as f32;
    let below = (at as usize).min(HEAT.len() - 2);
    mix(HEAT[below], HEAT[below + 1], at - below as f32)
}

/// `over` laid over `under`.
pub(super) fn mix(under: Colour, over: Colour, opacity: f32) -> Colour {
    let [r, g, b] = [0, 1, 2].map(|i| f32::from(under[i]) * (1.0 - opacity) + f32::from(over[i]) * opacity);
    [r, g, b].map(|v| v.round().clamp(0.0, 255.0) as u8)
}

/// A size of text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Font {
    weight: FontWeight,
    height: RasterHeight,
}

/// For numbers beside a scale.
pub(super) const SMALL: Font = Font { weight: FontWeight::Regular, height: RasterHeight::Size16 };
/// For lines.
pub(super) const PLAIN: Font = Font { weight: FontWeight::Regular, height: RasterHeight::Size20 };
/// For what must not be missed.
pub(super) const BOLD: Font = Font { weight: FontWeight::Bold, height: RasterHeight::Size20 };

impl Font {
    /// From line to line.
    pub(super) fn height(self) -> usize {
        self.height.val()
    }

    /// Of so many characters.
    pub(super) fn width(self, characters: usize) -> usize {
        get_raster_width(self.weight, self.height) * characters
    }
}

/// A picture that is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    /// All black.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self { width, height, rgb: vec![0; width * height * 3] }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn height(&self) -> usize {
        self.height
    }

    /// Row after row, red first.
    pub(super) fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    fn at(&mut self, x: usize, y: usize) -> Option<&mut Colour> {
        let inside = x < self.width && y < self.height;
        let (pixels, _) = self.rgb.as_chunks_mut::<3>();
        inside.then(|| y * self.width + x).and_then(|i| pixels.get_mut(i))
    }

    /// What lies outside is not drawn.
    pub(super) fn put(&mut self, x: usize, y: usize, colour: Colour, opacity: f32) {
        if let Some(pixel) = self.at(x, y) {
            *pixel = mix(*pixel, colour, opacity);
        }
    }

    /// Fills a rectangle.
    pub(super) fn fill(&mut self, [x, y]: [usize; 2], [width, height]: [usize; 2], colour: Colour) {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                self.put(column, row, colour, 1.0);
            }
        }
    }

    /// The outline of a rectangle, `thick` pixels outwards from it.
    pub(super) fn outline(&mut self, [x, y]: [usize; 2], [width, height]: [usize; 2], thick: usize, colour: Colour) {
        let (left, top) = (x.saturating_sub(thick), y.saturating_sub(thick));
        let whole = [x + width + thick - left, y + height + thick - top];
        self.fill([left, top], [whole[0], y - top], colour);
        self.fill([left, y + height], [whole[0], thick], colour);
        self.fill([left, top], [x - left, whole[1]], colour);
        self.fill([x + width, top], [thick, whole[1]], colour);
    }

    /// A line of text from its top left corner. What the font does not have is drawn as `?`.
    pub(super) fn text(&mut self, [x, y]: [usize; 2], text: &str, font: Font, colour: Colour) {
        for (i, character) in text.chars().enumerate() {
            let known = |c| get_raster(c, font.weight, font.height);
            let Some(glyph) = known(plain(character)).or_else(|| known('?')) else { continue };
            for (row, line) in glyph.rows().enumerate() {
                for (column, &ink) in line.iter().enumerate().filter(|(_, ink)| **ink > 0) {
                    self.put(x + font.width(i) + column, y + row, colour, f32::from(ink) / 255.0);
                }
            }
        }
    }

    /// The same with a dark rim, for text over an image.
    pub(super) fn text_over(&mut self, [x, y]: [usize; 2], text: &str, font: Font, colour: Colour) {
        for (dx, dy) in [(0, 1), (1, 0), (2, 1), (1, 2), (0, 0), (2, 0), (0, 2), (2, 2)] {
            self.text([(x + dx).saturating_sub(1), (y + dy).saturating_sub(1)], text, font, BLACK);
        }
        self.text([x, y], text, font, colour);
    }
}

/// The closest character that the font has.
fn plain(character: char) -> char {
    match character {
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}'..='\u{201e}' => '"',
        other => other,
    }
}

/// Breaks `text` into lines of at most `most` characters, between words where there are any.
pub(super) fn lines(text: &str, most: usize) -> Vec<String> {
    let most = most.max(1);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let room = lines.last().map_or(0, |line| most.saturating_sub(line.chars().count() + 1));
        match lines.last_mut() {
            Some(line) if word.len() <= room => {
                line.push(' ');
                line.extend(word);
            }
            _ => {
                while word.len() > most {
                    lines.push(word.drain(..most).collect());
                }
                lines.push(word.into_iter().collect());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_long_words_anywhere() {
        assert_eq!(lines("one two  three", 7), ["one two", "three"]);
        assert_eq!(lines("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(lines("", 4), [""; 0]);
    }

    #[test]
    fn a_character_that_no_font_has_is_seen() {
        let drawn = |text| {
            let mut canvas = Canvas::new(40, 20);
            canvas.text([2, 0], text, PLAIN, WHITE);
            canvas.into_rgb()
        };
        assert_eq!(drawn("肝"), drawn("?"));
        assert_eq!(drawn("a–b"), drawn("a-b"));
        assert!(drawn("ą") != drawn("?") && drawn("ü") != drawn("?"), "they are in the font");
    }

    #[test]
    fn what_lies_outside_is_not_drawn() {
        let mut canvas = Canvas::new(4, 3);
        canvas.outline([0, 0], [4, 3], 2, WHITE);
        assert_eq!(canvas, Canvas::new(4, 3), "an outline lies around its rectangle");
        canvas.text_over([0, 0], "much too long", BOLD, WHITE);
        canvas.fill([3, 2], [9, 9], AMBER);
        assert_eq!(canvas.into_rgb()[33..], AMBER);
    }

    #[test]
    fn heat_grows_lighter() {
        let grey = |colour: Colour| colour.iter().map(|&c| u32::from(c)).sum::<u32>();
        let steps: Vec<u32> = (0..=20u8).map(|i| grey(heat(f32::from(i) / 20.0))).collect();
        assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
        assert_eq!((heat(-1.0), heat(2.0), heat(f32::NAN)), (HEAT[0], HEAT[6], HEAT[0]));
    }
}
