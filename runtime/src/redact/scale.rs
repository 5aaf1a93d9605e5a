//! A picture in several sizes, each in tiles that the model takes. The model finds letters that are 10 to 60 pixels high, so small
//! ones are enlarged and large ones reduced.

use std::ops::Range;

use super::view::Picture;

/// Pixels that the picture is continued by at each side: letters at its edge then have something beside them.
pub(super) const BORDER: usize = 16;
/// The model wants sides that are multiples of this.
const STEP: usize = 32;
/// Side of a tile. One takes half a second of one processor at most, and what is more urgent waits for no more than one.
const TILE: usize = 1024;
/// What tiles share: a line of text that one cuts through is whole, or cut elsewhere, in the next.
const SHARED: usize = 96;
/// Larger pictures are not enlarged: nobody could read what is so small in them.
const DOUBLED_MAX: usize = 2600;
/// Smaller pictures are not reduced: their letters are not large, and what organs look like from afar is often taken for text.
const HALVED_MIN: usize = 1024;
const QUARTERED_MIN: usize = 2048;

/// How large the model sees a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) up: usize,
    pub(super) down: usize,
}

/// The sizes in which a picture is looked at.
pub(super) fn scales(picture: &Picture) -> Vec<Scale> {
    let longer = picture.width.max(picture.height);
    let all = [
        (2, 1, 0, DOUBLED_MAX),
        (1, 1, 0, usize::MAX),
        (1, 2, HALVED_MIN, usize::MAX),
        (1, 4, QUARTERED_MIN, usize::MAX),
    ];
    let fits = all.into_iter().filter(|(.., least, most)| (*least..=*most).contains(&longer));
    fits.map(|(up, down, ..)| Scale { up, down }).collect()
}

/// The picture in another size, continued by its border and to multiples of [`STEP`].
pub(super) fn scaled(picture: &Picture, scale: Scale) -> Picture {
    let side = |n: usize| ((n + 2 * BORDER) * scale.up).div_ceil(scale.down).next_multiple_of(STEP);
    let (width, height) = (side(picture.width), side(picture.height));
    let columns: Vec<Taps> = (0..width).map(|x| taps(x, picture.width, scale)).collect();
    let mut rgb = Vec::with_capacity(width * height * 3);
    let mut line = vec![0u32; picture.width * 3];
    for y in 0..height {
        let rows = taps(y, picture.height, scale);
        line.fill(0);
        for (row, weight) in rows.used() {
            let row = picture.rgb.get(row * line.len()..(row + 1) * line.len()).unwrap_or_default();
            line.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * u32::from(value));
        }
        let (pixels, _) = line.as_chunks::<3>();
        for columns in &columns {
            let all = rows.sum() * columns.sum();
            let mut sum = [all / 2; 3];
            for (column, weight) in columns.used() {
                sum.iter_mut().zip(pixels[column]).for_each(|(sum, value)| *sum += weight * value);
            }
            rgb.extend(sum.map(|sum| (sum / all) as u8));
        }
    }
    Picture { width, height, rgb }
}

/// Where a pixel of a scaled picture comes from in one direction: places and weights.
#[derive(Debug, PartialEq, Eq)]
struct Taps {
    places: [usize; 4],
    weights: [u32; 4],
}

fn taps(at: usize, length: usize, scale: Scale) -> Taps {
    let last = length.saturating_sub(1);
    let place = |n: usize| n.saturating_sub(BORDER).min(last);
    if scale.up == 2 {
        // Between two pixels, nearer to the one that it is half of.
        let (own, beside) = (at / 2, if at.is_multiple_of(2) { (at / 2).saturating_sub(1) } else { at / 2 + 1 });
        return Taps { places: [place(own), place(beside), 0, 0], weights: [3, 1, 0, 0] };
    }
    let mut taps = Taps { places: [0; 4], weights: [0; 4] };
    for n in 0..scale.down.min(4) {
        (taps.places[n], taps.weights[n]) = (place(at * scale.down + n), 1);
    }
    taps
}

impl Taps {
    /// Places that count, and how much.
    fn used(&self) -> impl Iterator<Item = (usize, u32)> {
        self.places.iter().copied().zip(self.weights).filter(|(_, weight)| *weight > 0)
    }

    fn sum(&self) -> u32 {
        self.weights.iter().sum()
    }
}

/// A part of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// Tiles that cover a picture whose sides are multiples of [`STEP`], and share what lies between two.
pub(super) fn tiles(width: usize, height: usize) -> Vec<Tile> {
    let ranges = |length: usize| -> Vec<Range<usize>> {
        // As few as there must be, of one size.
        let count = length.saturating_sub(SHARED).div_ceil(TILE - SHARED).max(1);
        let size = (length + (count - 1) * SHARED).div_ceil(count).next_multiple_of(STEP).min(length);
        let starts = (0..count).map(|n| (n * (size - SHARED.min(size))).min(length - size));
        starts.map(|start| start..start + size).collect()
    };
    let columns = ranges(width);
    let tile = |rows: &Range<usize>, columns: &Range<usize>| Tile { rows: rows.clone(), columns: columns.clone() };
    ranges(height)
        .iter()
        .flat_map(|rows| columns.iter().map(|columns| tile(rows, columns)).collect::<Vec<_>>())
        .collect()
}

/// The pixels of a tile, row after row.
pub(super) fn cut(picture: &Picture, tile: &Tile) -> Vec<u8> {
    let row = |y: usize| {
        let at = |x: usize| (y * picture.width + x) * 3;
        picture.rgb.get(at(tile.columns.start)..at(tile.columns.end)).unwrap_or_default()
    };
    tile.rows.clone().flat_map(row).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, shade: impl Fn(usize, usize) -> u8) -> Picture {
        let rgb = (0..width * height).flat_map(|i| [shade(i % width, i / width); 3]).collect();
        Picture { width, height, rgb }
    }

    #[test]
    fn pictures_are_continued_enlarged_and_reduced() {
        let step = picture(64, 64, |x, _| if x < 32 { 0 } else { 100 });
        for (up, down, side) in [(2, 1, 192), (1, 1, 96), (1, 2, 64), (1, 4, 32)] {
            let scale = Scale { up, down };
            let out = scaled(&step, scale);
            assert_eq!((out.width, out.height, out.rgb.len()), (side, side, side * side * 3));
            let edge = (BORDER + 32) * up / down;
            let at = |x: usize| out.rgb[(side / 2 * side + x) * 3];
            assert_eq!((at(0), at(edge - 2), at(edge + 1), at(side - 1)), (0, 0, 100, 100), "{scale:?}");
            if up == 2 {
                assert_eq!((at(edge - 1), at(edge)), (25, 75));
            }
        }
    }

    #[test]
    fn tiles_cover_all_and_share_their_edges() {
        for length in [32, 1024, 1056, 1824, 5024] {
            let tiles = tiles(length, 64);
            assert_eq!((tiles[0].columns.start, tiles.last().expect("one").columns.end), (0, length));
            assert!(tiles.iter().all(|tile| tile.columns.len() <= TILE && tile.columns.len().is_multiple_of(STEP)));
            assert!(tiles.windows(2).all(|w| w[0].columns.end >= w[1].columns.start + SHARED));
        }
        assert_eq!(tiles(1056, 1024), [0..576, 480..1056].map(|columns| Tile { rows: 0..1024, columns }));
        let small = picture(4, 4, |x, y| (10 * y + x) as u8);
        let tile = Tile { rows: 1..3, columns: 2..4 };
        assert_eq!(cut(&small, &tile).iter().step_by(3).copied().collect::<Vec<_>>(), [12, 13, 22, 23]);
    }

    #[test]
    fn small_text_is_enlarged_and_large_text_reduced() {
        let sizes = |side| scales(&picture(side, 1, |_, _| 0)).iter().map(|s| (s.up, s.down)).collect::<Vec<_>>();
        assert_eq!(sizes(100), [(2, 1), (1, 1)]);
        assert_eq!(sizes(1024), [(2, 1), (1, 1), (1, 2)]);
        assert_eq!(sizes(4000), [(1, 1), (1, 2), (1, 4)]);
    }
}
