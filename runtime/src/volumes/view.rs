//! Views: axes reordered and reversed, parts cut out, borders added. Nothing but a mapping of indices.

use crate::geometry::{Geometry, Region};

/// For each axis of the result: the axis of the source that it runs along, and whether it runs backwards.
pub(super) type Order = [(usize, bool); 3];

/// The order that changes nothing.
pub(super) const AS_IS: Order = [(0, false), (1, false), (2, false)];

/// The order that undoes another.
pub(super) fn inverse(order: Order) -> Order {
    let mut inverse = AS_IS;
    for (axis, (source, backwards)) in order.into_iter().enumerate() {
        inverse[source] = (axis, backwards);
    }
    inverse
}

/// The same grid with its axes in another order.
pub(super) fn reordered(grid: &Geometry, order: Order) -> Result<Geometry, crate::geometry::GeometryError> {
    let (size, spacing, axes) = (grid.size(), grid.spacing(), grid.axes());
    let mut first = [0.0; 3];
    for (source, backwards) in order {
        first[source] = if backwards { (size[source] - 1) as f64 } else { 0.0 };
    }
    Geometry::new(
        order.map(|(source, _)| size[source]),
        order.map(|(source, _)| spacing[source]),
        grid.to_patient(first),
        order.map(|(source, backwards)| axes[source].map(|c| if backwards { -c } else { c })),
    )
}

/// Where each voxel of a grid comes from: along source axis `s`, voxel `i` of the view is
/// `start[s] ± i[from[s]]`. What falls outside of the box `low..high` of the source has the value `fill`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    /// Of the view.
    size: [usize; 3],
    /// For each source axis, the axis of the view that runs along it.
    from: [usize; 3],
    backwards: [bool; 3],
    start: [i64; 3],
    low: [i64; 3],
    high: [i64; 3],
    fill: f32,
}

/// How rows of the source go into a buffer that holds a region of a view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    /// Element of the buffer that takes the first source voxel.
    pub(super) offset: isize,
    /// Elements of the buffer from one source voxel to the next along each source axis.
    pub(super) strides: [isize; 3],
}

impl View {
    /// All of a source of `size`, unchanged.
    pub(super) fn whole(size: [usize; 3]) -> Self {
        Self {
            size,
            from: [0, 1, 2],
            backwards: [false; 3],
            start: [0; 3],
            low: [0; 3],
            high: size.map(index),
            fill: 0.0,
        }
    }

    /// A source of `source` voxels with its axes in another order.
    pub(super) fn order(source: [usize; 3], order: Order) -> Self {
        let mut view = Self::whole(source);
        view.size = order.map(|(axis, _)| source[axis]);
        for (axis, (s, backwards)) in order.into_iter().enumerate() {
            view.from[s] = axis;
            view.backwards[s] = backwards;
            view.start[s] = if backwards { index(source[s]) - 1 } else { 0 };
        }
        view
    }

    /// A window of `size` onto a source of `source` voxels, whose first voxel lies at `start` of the source.
    pub(super) fn window(source: [usize; 3], start: [i64; 3], size: [usize; 3], fill: f32) -> Self {
        Self { size, start, fill, ..Self::whole(source) }.tidied()
    }

    /// Nothing but `fill`.
    pub(super) fn empty(size: [usize; 3], fill: f32) -> Self {
        Self { size, high: [0; 3], fill, ..Self::whole(size) }
    }

    /// The value outside of the content.
    pub(super) fn fill(&self) -> f32 {
        self.fill
    }

    /// Whether it is the whole source, unchanged.
    pub(super) fn changes_nothing(&self) -> bool {
        *self == Self { fill: self.fill, ..Self::whole(self.size) }
    }

    /// Whether any voxel has the value `fill`.
    pub(super) fn pads(&self) -> bool {
        let all = Region { start: [0; 3], size: self.size };
        self.content(all).is_none_or(|(inside, _)| inside != all)
    }

    /// Whether rows of the view are rows of the source, in the same order.
    pub(super) fn keeps_order(&self) -> bool {
        self.from == [0, 1, 2] && self.backwards == [false; 3]
    }

    /// The part of `region` that is content, and the part of the source that it shows.
    pub(super) fn content(&self, region: Region) -> Option<(Region, Region)> {
        let (mut inside, mut source) = (region, region);
        for s in 0..3 {
            let axis = self.from[s];
            let (first, end) = if self.backwards[s] {
                (self.start[s] - self.high[s] + 1, self.start[s] - self.low[s] + 1)
            } else {
                (self.low[s] - self.start[s], self.high[s] - self.start[s])
            };
            let first = first.max(index(region.start[axis]));
            let end = end.min(index(region.start[axis] + region.size[axis]));
            if first >= end {
                return None;
            }
            let length = unsigned(end - first);
            inside.start[axis] = unsigned(first);
            inside.size[axis] = length;
            source.start[s] =
                unsigned(if self.backwards[s] { self.start[s] - (end - 1) } else { self.start[s] + first });
            source.size[s] = length;
        }
        Some((inside, source))
    }

    /// How `source`, a box of the source that [`View::content`] found for `region`, goes into a buffer of `region`.
    pub(super) fn placement(&self, region: Region, source: Region) -> Placement {
        let steps = [1, signed(region.size[0]), signed(region.size[0] * region.size[1])];
        let mut placement = Placement { offset: 0, strides: [0; 3] };
        for s in 0..3 {
            let axis = self.from[s];
            let at = if self.backwards[s] {
                self.start[s] - index(source.start[s])
            } else {
                index(source.start[s]) - self.start[s]
            };
            placement.offset += signed(unsigned(at) - region.start[axis]) * steps[axis];
            placement.strides[s] = if self.backwards[s] { -steps[axis] } else { steps[axis] };
        }
        placement
    }

    /// The one view that shows what `self` shows of what `inner` shows, where there is one: two borders of
    /// different values stay two views.
    pub(super) fn after(&self, inner: &Self) -> Option<Self> {
        if self.low == self.high {
            return Some(self.clone());
        }
        let mut joined = Self { size: self.size, ..inner.clone() };
        let (mut low, mut high) = (inner.low, inner.high);
        for s in 0..3 {
            let mid = inner.from[s];
            let along = |i: i64| if inner.backwards[s] { inner.start[s] - i } else { inner.start[s] + i };
            joined.from[s] = self.from[mid];
            joined.backwards[s] = inner.backwards[s] != self.backwards[mid];
            joined.start[s] = along(self.start[mid]);
            let (a, b) = (along(self.low[mid]), along(self.high[mid] - 1));
            (low[s], high[s]) = (a.min(b), a.max(b) + 1);
        }
        if !self.pads() {
            return Some(joined.tidied());
        }
        let whole = (0..3).all(|s| low[s] >= inner.low[s] && high[s] <= inner.high[s]);
        if !whole && self.fill.to_bits() != inner.fill.to_bits() {
            return None;
        }
        joined.fill = self.fill;
        for s in 0..3 {
            joined.low[s] = low[s].max(inner.low[s]);
            joined.high[s] = high[s].min(inner.high[s]);
        }
        Some(joined.tidied())
    }

    /// A view without content forgets where it was, so that no chain of views can drift out of range.
    fn tidied(self) -> Self {
        let all = Region { start: [0; 3], size: self.size };
        if self.content(all).is_some() { self } else { Self::empty(self.size, self.fill) }
    }
}

/// Sizes are at most `MAX_VOXELS`, 2³³.
fn index(n: usize) -> i64 {
    i64::try_from(n).expect("an index below 2³³ fits")
}

fn signed(n: usize) -> isize {
    isize::try_from(n).expect("an index into a buffer fits")
}

fn unsigned(n: i64) -> usize {
    usize::try_from(n).expect("content lies at indices of the source and of the view")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: [usize; 3], size: [usize; 3]) -> Region {
        Region { start, size }
    }

    #[test]
    fn content_is_what_lies_in_the_source() {
        let view = View::window([4, 4, 4], [-1, 2, 0], [6, 4, 2], 7.0);
        assert!(view.pads());
        let (inside, source) = view.content(region([0; 3], [6, 4, 2])).expect("content");
        assert_eq!(inside, region([1, 0, 0], [4, 2, 2]));
        assert_eq!(source, region([0, 2, 0], [4, 2, 2]));
        assert!(view.content(region([5, 0, 0], [1, 1, 1])).is_none());
        assert!(View::window([4, 4, 4], [9, 0, 0], [1, 1, 1], 0.0).pads());
    }

    #[test]
    fn two_views_become_one_unless_their_borders_differ() {
        let turned = View::order([4, 5, 6], [(2, true), (0, false), (1, true)]);
        let back = View::order([6, 4, 5], inverse([(2, true), (0, false), (1, true)]));
        assert!(back.after(&turned).expect("no borders").changes_nothing());

        let first = View::window([4; 3], [-1; 3], [6; 3], 1.0);
        let second = View::window([6; 3], [-1; 3], [8; 3], 2.0);
        assert_eq!(second.after(&first), None);
        let same = View::window([6; 3], [-1; 3], [8; 3], 1.0);
        assert_eq!(same.after(&first), Some(View::window([4; 3], [-2; 3], [8; 3], 1.0)));
        let cut = View::window([8; 3], [2; 3], [4; 3], 0.0);
        assert!(cut.after(&same.after(&first).expect("same value")).expect("no border").changes_nothing());
    }

    #[test]
    fn a_border_does_not_bring_back_what_was_cut_off() {
        let cut = View::window([4; 3], [1; 3], [2; 3], 0.0);
        let grown = View::window([2; 3], [-1; 3], [4; 3], 9.0).after(&cut).expect("the cut has no border");
        let (inside, source) = grown.content(region([0; 3], [4; 3])).expect("content");
        assert_eq!((inside, source), (region([1; 3], [2; 3]), region([1; 3], [2; 3])));
    }
}
