//! Text drawn over real images, in several sizes and contrasts.

use std::collections::BTreeMap;
use std::time::Instant;

use gantry_cloud_sync::deid::{Frame, TextDetector};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use super::*;
use crate::study::{self, ReadOptions, Shown};

/// What names somebody, and what stands beside it.
const WORDS: [&str; 12] = [
    "DOE^JANE",
    "Jane Doe",
    "12/03/1961",
    "ID 4711-22",
    "F 63Y",
    "St. Mary Hospital",
    "2024-01-02 10:33",
    "ACC 998123",
    "Smith, John M",
    "Dr. House",
    "Müller",
    "#123456",
];
/// Side of the part of an image that is drawn on, in pixels.
const SIDE: usize = 320;
const LINES: usize = 4;
/// Height of capital letters in pixels, and how much lighter or darker than what lies around them they are, of 255.
const HEIGHTS: [usize; 4] = [8, 12, 20, 40];
const CONTRASTS: [u8; 3] = [255, 90, 40];

/// Numbers that look like chance and are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }
}

/// A grey image of 8 bits.
#[derive(Clone)]
struct Grey {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Grey {
    /// The first frame of a file, from its darkest to its lightest.
    fn of(path: &Path) -> Self {
        let options = ReadOptions::default();
        let kept = study::keep(path, &options).unwrap_or_else(|e| panic!("{e}"));
        let (rows, columns) = kept.size().expect("a size");
        let shown =
            kept.frame(1, &options).expect("readable").expect("a frame").shown().unwrap_or_else(|e| panic!("{e}"));
        let values: Vec<f32> = match shown {
            Shown::Grey { values, inverted } => values.into_iter().map(|v| if inverted { -v } else { v }).collect(),
            Shown::Colour(rgb) => rgb.chunks_exact(3).map(|c| f32::from(c[1])).collect(),
        };
        let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
        let pixels = values.iter().map(|v| ((v - low) / (high - low) * 255.0) as u8).collect();
        Self { width: columns.into(), height: rows.into(), pixels }
    }

    fn part(&self, x: usize, y: usize) -> Self {
        let row = |y: usize| self.pixels[y * self.width + x..y * self.width + x + SIDE].to_vec();
        Self { width: SIDE, height: SIDE, pixels: (y..y + SIDE).flat_map(row).collect() }
    }

    fn any_part(&self, chance: &mut Chance) -> Self {
        self.part(chance.below(self.width - SIDE + 1), chance.below(self.height - SIDE + 1))
    }

    fn frame(&self) -> Frame<'_> {
        Frame::grey(self.height as u16, self.width as u16, &self.pixels)
    }

    /// Draws words at places where none is yet; their boxes.
    fn draw(&mut self, height: usize, contrast: u8, chance: &mut Chance) -> Vec<Truth> {
        let mut boxes: Vec<Truth> = Vec::new();
        for _ in 0..LINES * 20 {
            let ink = Ink::of(WORDS[chance.below(WORDS.len())], height, chance);
            if boxes.len() == LINES || ink.width >= self.width {
                continue;
            }
            // Some touch an edge.
            let place = |room: usize, n: usize| if n < room / 8 { 0 } else { n };
            let room = (self.width - ink.width, self.height - ink.height);
            let (x, y) = (place(room.0, chance.below(room.0)), place(room.1, chance.below(room.1)));
            let truth = (x as u32, y as u32, (x + ink.width) as u32, (y + ink.height) as u32);
            let gap = height as u32;
            let apart =
                |b: &Truth| truth.0 > b.2 + gap || b.0 > truth.2 + gap || truth.1 > b.3 + gap || b.1 > truth.3 + gap;
            if boxes.iter().all(apart) {
                self.blend(&ink, x, y, contrast);
                boxes.push(truth);
            }
        }
        boxes
    }

    fn blend(&mut self, ink: &Ink, left: usize, top: usize, contrast: u8) {
        let at = |x: usize, y: usize| (top + y) * self.width + left + x;
        let places = || (0..ink.height).flat_map(|y| (0..ink.width).map(move |x| (x, y)));
        let sum: usize = places().map(|(x, y)| usize::from(self.pixels[at(x, y)])).sum();
        let around = (sum / (ink.width * ink.height)) as u8;
        let colour = if around < 128 { around.saturating_add(contrast) } else { around.saturating_sub(contrast) };
        for (x, y) in places() {
            let (place, part) = (at(x, y), u32::from(ink.pixels[y * ink.width + x]));
            let mixed = u32::from(self.pixels[place]) * (255 - part) + u32::from(colour) * part;
            self.pixels[place] = (mixed / 255) as u8;
        }
    }
}

/// A line of text, no wider or higher than what is drawn of it.
struct Ink {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Ink {
    /// Capital letters of it are `height` pixels high.
    fn of(text: &str, height: usize, chance: &mut Chance) -> Self {
        let weight = if chance.below(3) == 0 { FontWeight::Bold } else { FontWeight::Regular };
        let letter = get_raster_width(weight, RasterHeight::Size20);
        let (width, rows) = (letter * text.chars().count(), RasterHeight::Size20.val());
        let mut line = vec![0u8; width * rows];
        for (n, character) in text.chars().enumerate() {
            let glyph = get_raster(character, weight, RasterHeight::Size20).expect("in the font");
            for (y, row) in glyph.rows().enumerate() {
                row.iter().enumerate().for_each(|(x, &ink)| line[y * width + n * letter + x] = ink);
            }
        }
        // Capitals of this raster are 13 pixels high.
        let per = 13.0 / height as f64;
        let (wide, high) = ((width as f64 / per) as usize, (rows as f64 / per) as usize);
        let sampled = |n: usize, most: usize| {
            let at = ((n as f64 + 0.5) * per - 0.5).clamp(0.0, (most - 1) as f64);
            let first = at as usize;
            (first, (first + 1).min(most - 1), at - first as f64)
        };
        let pixel = |x: usize, y: usize| {
            let ((x0, x1, dx), (y0, y1, dy)) = (sampled(x, width), sampled(y, rows));
            let at = |x: usize, y: usize| f64::from(line[y * width + x]);
            let row = |y: usize| at(x0, y) * (1.0 - dx) + at(x1, y) * dx;
            (row(y0) * (1.0 - dy) + row(y1) * dy) as u8
        };
        let whole: Vec<u8> = (0..high).flat_map(|y| (0..wide).map(move |x| (x, y))).map(|(x, y)| pixel(x, y)).collect();
        let inked = |x: usize, y: usize| whole[y * wide + x] > 100;
        let columns: Vec<usize> = (0..wide).filter(|&x| (0..high).any(|y| inked(x, y))).collect();
        let rows: Vec<usize> = (0..high).filter(|&y| (0..wide).any(|x| inked(x, y))).collect();
        let (left, right) = (columns[0], columns[columns.len() - 1] + 1);
        let (top, bottom) = (rows[0], rows[rows.len() - 1] + 1);
        let pixels = (top..bottom).flat_map(|y| whole[y * wide + left..y * wide + right].to_vec()).collect();
        Self { width: right - left, height: bottom - top, pixels }
    }
}

#[test]
fn text_over_real_images_is_found() {
    let Some(detector) = detector() else { return };
    let mut images = Vec::new();
    for name in ["693_UNCR.dcm", "MR2_UNCR.dcm", "RG1_UNCR.dcm", "color3d_jpeg_baseline.dcm"] {
        let Some(path) = asset(&format!("pydicom-data/{name}")) else { return };
        images.push((name, Grey::of(&path)));
    }
    let rounds = std::env::var("GANTRY_TEXT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut chance = Chance(20_260_101);
    let mut found: BTreeMap<(usize, u8), (usize, usize)> = BTreeMap::new();
    let (mut pixels, mut taken) = (0, std::time::Duration::ZERO);
    for round in 0..rounds {
        for (n, (_, image)) in images.iter().enumerate() {
            for (h, height) in HEIGHTS.into_iter().enumerate() {
                for (c, contrast) in CONTRASTS.into_iter().enumerate() {
                    // One round looks at a third of what there is, in turn.
                    if rounds == 1 && (n + h + c) % 3 != round {
                        continue;
                    }
                    let mut part = image.any_part(&mut chance);
                    let truth = part.draw(height, contrast, &mut chance);
                    let begun = Instant::now();
                    let boxes = detector.text(part.frame()).expect("looked at");
                    (pixels, taken) = (pixels + SIDE * SIDE, taken + begun.elapsed());
                    let (hit, of) = found.entry((height, contrast)).or_default();
                    *hit += truth.iter().filter(|&&truth| covered(truth, &boxes) >= FOUND).count();
                    *of += truth.len();
                }
            }
        }
    }
    println!("height of capitals, contrast of 255: lines covered");
    for ((height, contrast), (hit, of)) in &found {
        println!("{height:3} {contrast:4}: {hit} of {of} ({:.0} %)", 100.0 * *hit as f64 / *of as f64);
    }
    println!("{:.2} s a megapixel", taken.as_secs_f64() * 1e6 / pixels as f64);
    let share = |wanted: &dyn Fn(usize, u8) -> bool| {
        let (hit, of) = found
            .iter()
            .filter(|((h, c), _)| wanted(*h, *c))
            .fold((0usize, 0usize), |(a, b), (_, (hit, of))| (a + hit, b + of));
        (hit as f64 / of as f64, of)
    };
    let (clear, lines) = share(&|height, contrast| height >= 12 && contrast >= 90);
    let (all, of) = share(&|_, _| true);
    println!(
        "12 pixels and more, contrast 90 and more: {:.1} % of {lines}; all: {:.1} % of {of}",
        clear * 100.0,
        all * 100.0
    );
    assert!(clear >= 0.95, "{clear}");
    assert!(all >= 0.85, "{all}");
}

#[test]
fn little_is_taken_for_text_where_there_is_none() {
    let Some(detector) = detector() else { return };
    for (name, share_max) in [("693_UNCR.dcm", 0.01), ("MR2_UNCR.dcm", 0.06)] {
        let Some(path) = asset(&format!("pydicom-data/{name}")) else { return };
        let image = Grey::of(&path);
        let found = detector.text(image.frame()).expect("looked at");
        let share = covered((0, 0, image.width as u32, image.height as u32), &found);
        println!("{name}: {:.2} % is taken for text", share * 100.0);
        assert!(share <= share_max, "{name}: {share}");
    }
}
