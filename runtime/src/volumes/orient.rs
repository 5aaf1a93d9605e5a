//! Orientation codes such as `LPS`.

use super::VolumeError;
use super::view::Order;
use crate::geometry::{Geometry, Vec3};

/// The order of the axes of `grid` that comes closest to `code`.
pub(super) fn order(grid: &Geometry, code: &str) -> Result<Order, VolumeError> {
    let wanted = parse(code).ok_or_else(|| {
        VolumeError::Invalid("code must be three letters, one each of L or R, P or A, S or I, such as \"LPS\"".into())
    })?;
    let axes = grid.axes();
    let along = nearest_axes(axes);
    Ok(wanted.map(|(patient, negative)| {
        let axis = along[patient];
        (axis, (axes[axis][patient] < 0.0) != negative)
    }))
}

/// For each letter: the patient axis that it names, and whether it means its negative direction.
fn parse(code: &str) -> Option<[(usize, bool); 3]> {
    let letters: [char; 3] = code.chars().collect::<Vec<_>>().try_into().ok()?;
    let mut wanted = [(0, false); 3];
    let mut seen = [false; 3];
    for (w, letter) in wanted.iter_mut().zip(letters) {
        *w = match letter {
            'L' => (0, false),
            'R' => (0, true),
            'P' => (1, false),
            'A' => (1, true),
            'S' => (2, false),
            'I' => (2, true),
            _ => return None,
        };
        seen[w.0] = true;
    }
    (seen == [true; 3]).then_some(wanted)
}

/// Every assignment of three axes to three others.
pub(super) const PERMUTATIONS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// For each patient axis, the axis of the grid that runs along it, so that the angles are smallest in all.
fn nearest_axes(axes: [Vec3; 3]) -> [usize; 3] {
    let fit = |p: &[usize; 3]| (0..3).map(|patient| axes[p[patient]][patient].abs()).sum::<f64>();
    // The first of equals, with room for rounding at exactly 45 degrees.
    PERMUTATIONS.into_iter().reduce(|best, p| if fit(&p) > fit(&best) + 1e-9 { p } else { best }).unwrap_or([0, 1, 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_names_each_direction_once() {
        assert_eq!(parse("LPS"), Some([(0, false), (1, false), (2, false)]));
        assert_eq!(parse("SAR"), Some([(2, false), (1, true), (0, true)]));
        for bad in ["", "LP", "LPSS", "LPX", "LRS", "lps", "LL\u{0}", "ＬＰＳ"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_oblique_grid_goes_to_the_nearest_order() {
        let (s, c) = 0.4f64.sin_cos();
        let axes = [[0.0, c, s], [0.0, s, -c], [-1.0, 0.0, 0.0]];
        let grid = Geometry::new([2, 3, 4], [1.0; 3], [0.0; 3], axes).expect("a grid");
        assert_eq!(order(&grid, "LPS").expect("a code"), [(2, true), (0, false), (1, true)]);
    }
}
