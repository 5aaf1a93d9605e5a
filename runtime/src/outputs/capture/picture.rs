//! The picture of a key slice: image, colour map, contours and boxes, with what they mean in words around them.
//!
//! ```text
//!  DEMONSTRATION - not for clinical use     label
//!  ┌──────────────A──────────────┐  ▒ 1.00  colour bar, where there is a heatmap
//!  R            image            L  ▒
//!  └──────────────P──────────────┘  ▒ 0.00
//!  module and version, slice, what was found
//! ```

use super::{Key, Shown};
use crate::geometry::Vec3;
use crate::outputs::canvas::{self, AMBER, BLACK, BOLD, Canvas, Colour, PLAIN, SMALL, WHITE};

/// Between these lies the longer side of the image, so that both a thumbnail and a radiograph can be read.
const SIDE: (f64, f64) = (512.0, 1024.0);
/// Around everything.
const MARGIN: usize = 8;
/// The colour bar with its numbers.
const BAR: usize = 96;
/// How thick contours and boxes are.
const THICK: usize = 2;
/// From which part of its range on heat is seen, and how much of the image it then covers at most.
const HEAT_FROM: f32 = 0.1;
const HEAT_OPACITY: f32 = 0.6;

/// A line of text below the image, and the colour of what it explains.
pub(super) struct Line {
    pub(super) text: String,
    pub(super) colour: Option<Colour>,
}

/// Draws it.
pub(super) fn draw(key: &Key<'_>, shown: &Shown, label: &str, lines: &[Line]) -> Canvas {
    let frame = Frame::of(key);
    let bar = if shown.heat.is_some() { BAR } else { 0 };
    let width = (frame.width + bar).max(SIDE.0 as usize) + 2 * MARGIN;
    let most = (width - 2 * MARGIN - PLAIN.height()) / PLAIN.width(1);
    let broken: Vec<(bool, &Line, String)> = lines
        .iter()
        .flat_map(|line| {
            let parts = canvas::lines(&line.text, most);
            parts.into_iter().enumerate().map(move |(i, part)| (i == 0, line, part))
        })
        .collect();
    let top = MARGIN + BOLD.height() + MARGIN;
    let below = top + frame.height + MARGIN;
    let mut canvas = Canvas::new(width, below + broken.len() * PLAIN.height() + MARGIN);
    canvas.fill([0, 0], [width, top - MARGIN / 2], AMBER);
    canvas.text([MARGIN, MARGIN / 2 + 2], label, BOLD, BLACK);

    let at = [MARGIN, top];
    frame.image(&mut canvas, at, key, shown);
    frame.contours(&mut canvas, at, shown);
    for (region, colour) in &shown.boxes {
        let [x, y] = frame.pixel(at, [region.start[0], region.start[1]]);
        let [right, bottom] = frame.pixel(at, [region.start[0] + region.size[0], region.start[1] + region.size[1]]);
        canvas.outline([x, y], [right - x, bottom - y], THICK, *colour);
    }
    frame.directions(&mut canvas, at, key);
    if let Some(heat) = &shown.heat {
        colour_bar(&mut canvas, [MARGIN + frame.width + MARGIN, top], frame.height, heat.range);
    }
    for (i, (first, line, text)) in broken.iter().enumerate() {
        let y = below + i * PLAIN.height();
        if let Some(colour) = line.colour.filter(|_| *first) {
            canvas.fill([MARGIN + 2, y + 5], [10, 10], colour);
        }
        let indent = if line.colour.is_some() { PLAIN.height() } else { 0 };
        canvas.text([MARGIN + indent, y], text, PLAIN, WHITE);
    }
    canvas
}

/// How pixels of the slice become pixels of the picture: square ones, whatever the slice's are.
struct Frame {
    columns: usize,
    rows: usize,
    width: usize,
    height: usize,
}

impl Frame {
    fn of(key: &Key<'_>) -> Self {
        let ([columns, rows, _], [dx, dy, _]) = (key.grid.size(), key.grid.spacing());
        let unit = dx.min(dy);
        let (wide, high) = (columns as f64 * dx / unit, rows as f64 * dy / unit);
        let long = wide.max(high);
        let scale = if long < SIDE.0 { (SIDE.0 / long).ceil().min(SIDE.1 / long) } else { (SIDE.1 / long).min(1.0) };
        let side = |n: f64| ((n * scale).round() as usize).clamp(1, SIDE.1 as usize);
        Self { columns, rows, width: side(wide), height: side(high) }
    }

    /// Where in the slice the middle of a pixel of the picture lies.
    fn source(&self, x: usize, y: usize) -> [f32; 2] {
        let along = |at: usize, of: usize, n: usize| (at as f32 + 0.5) * n as f32 / of as f32 - 0.5;
        [along(x, self.width, self.columns), along(y, self.height, self.rows)]
    }

    /// Which pixel of the slice that is.
    fn nearest(&self, x: usize, y: usize) -> usize {
        let [x, y] = self.source(x, y);
        let index = |at: f32, n: usize| (at.round().max(0.0) as usize).min(n - 1);
        index(y, self.rows) * self.columns + index(x, self.columns)
    }

    /// Where in the picture a corner of pixels of the slice lies.
    fn pixel(&self, [left, top]: [usize; 2], [x, y]: [usize; 2]) -> [usize; 2] {
        [left + x * self.width / self.columns, top + y * self.height / self.rows]
    }

    /// A value between the pixels of a slice, linearly.
    fn between(&self, values: &[f32], x: usize, y: usize) -> f32 {
        let [x, y] = self.source(x, y);
        let part = |at: f32, n: usize| {
            let at = at.clamp(0.0, (n - 1) as f32);
            (at as usize, (at as usize + 1).min(n - 1), at.fract())
        };
        let ((left, right, across), (top, bottom, down)) = (part(x, self.columns), part(y, self.rows));
        let row =
            |y: usize| values[y * self.columns + left] * (1.0 - across) + values[y * self.columns + right] * across;
        row(top) * (1.0 - down) + row(bottom) * down
    }

    /// The image in its window, with heat over it.
    fn image(&self, canvas: &mut Canvas, [left, top]: [usize; 2], key: &Key<'_>, shown: &Shown) {
        for y in 0..self.height {
            for x in 0..self.width {
                let grey = key.window.grey(self.between(&shown.values, x, y));
                let grey = if key.inverse { 1.0 - grey } else { grey };
                canvas.put(left + x, top + y, [(grey * 255.0) as u8; 3], 1.0);
                if let Some(heat) = &shown.heat {
                    let (low, high) = heat.range;
                    let part = if high > low { (self.between(&heat.values, x, y) - low) / (high - low) } else { 0.0 };
                    let opacity = ((part - HEAT_FROM) / (0.5 - HEAT_FROM)).clamp(0.0, 1.0) * HEAT_OPACITY;
                    canvas.put(left + x, top + y, canvas::heat(part), opacity);
                }
            }
        }
    }

    /// The border of each segment, inside of it.
    fn contours(&self, canvas: &mut Canvas, [left, top]: [usize; 2], shown: &Shown) {
        let Some(segments) = &shown.segments else { return };
        let label = |x: usize, y: usize| segments.labels[self.nearest(x, y)];
        for y in 0..self.height {
            for x in 0..self.width {
                let own = label(x, y);
                let Some(colour) = segments.colours.get(&u32::from(own)) else {
                    continue;
                };
                let (right, bottom) = ((x + THICK).min(self.width - 1), (y + THICK).min(self.height - 1));
                let around = [(x.saturating_sub(THICK), y), (right, y), (x, y.saturating_sub(THICK)), (x, bottom)];
                if around.into_iter().any(|(x, y)| label(x, y) != own) {
                    canvas.put(left + x, top + y, *colour, 1.0);
                }
            }
        }
    }

    /// Which side of the patient each side of the image is.
    fn directions(&self, canvas: &mut Canvas, [left, top]: [usize; 2], key: &Key<'_>) {
        let [along_rows, along_columns, _] = key.grid.axes();
        let back = |axis: Vec3| axis.map(|v| -v);
        let (middle, right) = (top + (self.height / 2).saturating_sub(PLAIN.height() / 2), left + self.width);
        let centre = left + (self.width / 2).saturating_sub(PLAIN.width(1) / 2);
        let mut put = |at, axis| canvas.text_over(at, &direction(axis), PLAIN, WHITE);
        put([left + 4, middle], back(along_rows));
        let letters = direction(along_rows).chars().count();
        put([right.saturating_sub(4 + PLAIN.width(letters)), middle], along_rows);
        put([centre, top + 2], back(along_columns));
        put([centre, (top + self.height).saturating_sub(2 + PLAIN.height())], along_columns);
    }
}

/// Patient Orientation (0020,0020; PS3.3 C.7.6.1.1.1): the letters of a direction, the nearest first, without those that
/// it leans to by less than 15°.
pub(super) fn direction(axis: Vec3) -> String {
    let least = 15f64.to_radians().sin();
    let mut parts: Vec<(f64, char)> = [('L', 'R'), ('P', 'A'), ('H', 'F')]
        .into_iter()
        .zip(axis)
        .map(|((positive, negative), v)| (v.abs(), if v > 0.0 { positive } else { negative }))
        .filter(|(size, _)| *size > least)
        .collect();
    parts.sort_by(|a, b| b.0.total_cmp(&a.0));
    parts.into_iter().map(|(_, letter)| letter).collect()
}

fn colour_bar(canvas: &mut Canvas, [x, y]: [usize; 2], height: usize, (low, high): (f32, f32)) {
    const WIDTH: usize = 20;
    for row in 0..height {
        let part = 1.0 - row as f32 / (height - 1).max(1) as f32;
        canvas.fill([x, y + row], [WIDTH, 1], canvas::heat(part));
    }
    for (part, value) in [(0.0, high), (0.5, f32::midpoint(low, high)), (1.0, low)] {
        let row = (part * (height - 1) as f32) as usize;
        canvas.fill([x, y + row], [WIDTH + 4, 1], WHITE);
        let text_y =
            (y + row).saturating_sub(SMALL.height() / 2).clamp(y, (y + height).saturating_sub(SMALL.height()).max(y));
        canvas.text([x + WIDTH + 8, text_y], &number(value), SMALL, WHITE);
    }
}

/// In seven characters.
fn number(value: f32) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if !(0.01..100_000.0).contains(&size) => format!("{value:.0e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_those_of_the_patient() {
        assert_eq!(direction([1.0, 0.0, 0.0]), "L");
        assert_eq!(direction([0.0, -1.0, 0.0]), "A");
        assert_eq!(direction([0.0, 0.1, -0.995]), "F");
        assert_eq!(direction([-0.6, 0.8, 0.0]), "PR");
    }

    #[test]
    fn numbers_fit_beside_the_bar() {
        for (value, text) in
            [(0.0, "0"), (1.0, "1.00"), (-0.5, "-0.50"), (1234.5, "1234"), (-99_999.0, "-99999"), (2.5e9, "2e9")]
        {
            assert_eq!(number(value), text);
            assert!(text.len() <= 7);
        }
    }
}
