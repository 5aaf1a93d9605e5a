//! How like a chest an image is: correlation with a drawing of one, in all quarter turns, as it is and inverted.

/// Cells along each side.
const SIDE: usize = 32;
/// Parts of the cells that are left out at each end when values are scaled: markers, borders, collimators.
const OUTLIERS: f64 = 0.02;

/// Sums of an image's pixels, cell by cell.
pub(crate) struct Sums {
    columns: u32,
    rows: u32,
    cells: Vec<(f64, u64)>,
}

/// Means of the cells, 0..1, bright where the body is dense; row by row.
pub(crate) struct Cells(Vec<f64>);

/// How an image resembles a chest most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Best {
    /// Correlation, -1 to 1.
    pub(crate) likeness: f64,
    /// Turned clockwise so often, it is upright.
    pub(crate) quarter_turns: u32,
    /// What is dense is dark.
    pub(crate) inverted: bool,
}

impl Sums {
    pub(crate) fn new(columns: u32, rows: u32) -> Self {
        Self { columns, rows, cells: vec![(0.0, 0); SIDE * SIDE] }
    }

    /// Adds one pixel; what is no number counts for nothing.
    pub(crate) fn add(&mut self, x: u32, y: u32, value: f32) {
        let cell = |at: u32, size: u32| (u64::from(at) * SIDE as u64 / u64::from(size.max(1))) as usize;
        let index = cell(y, self.rows) * SIDE + cell(x, self.columns);
        if let Some((sum, count)) = self.cells.get_mut(index).filter(|_| value.is_finite()) {
            *sum += f64::from(value);
            *count += 1;
        }
    }

    pub(crate) fn means(self) -> Cells {
        let means: Vec<f64> = self.cells.iter().map(|(sum, count)| sum / (*count).max(1) as f64).collect();
        let mut sorted = means.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part).round() as usize];
        let (low, high) = (at(OUTLIERS), at(1.0 - OUTLIERS));
        let width = if high > low { high - low } else { 1.0 };
        Cells(means.into_iter().map(|mean| ((mean - low) / width).clamp(0.0, 1.0)).collect())
    }
}

impl Cells {
    /// The best of all quarter turns, as it is and inverted.
    pub(crate) fn likeness(&self) -> Best {
        let mut best = Best { likeness: f64::NEG_INFINITY, quarter_turns: 0, inverted: false };
        let drawing = drawing();
        let mut turned = self.0.clone();
        for quarter_turns in 0..4 {
            let along = correlation(&turned, &drawing);
            for (likeness, inverted) in [(along, false), (-along, true)] {
                if likeness > best.likeness {
                    best = Best { likeness, quarter_turns, inverted };
                }
            }
            turned = clockwise(&turned);
        }
        best
    }
}

/// Two dark lungs beside spine and heart, above a bright belly, dark corners above the shoulders.
fn drawing() -> Vec<f64> {
    let middle = |i: usize| (i as f64 + 0.5) / SIDE as f64 * 2.0 - 1.0;
    let ellipse = |u: f64, v: f64, at: [f64; 2], radii: [f64; 2]| {
        ((u - at[0]) / radii[0]).powi(2) + ((v - at[1]) / radii[1]).powi(2) < 1.0
    };
    let density = |u: f64, v: f64| {
        if v > 0.5 || ellipse(u, v, [0.15, 0.2], [0.25, 0.35]) {
            0.95
        } else if u.abs() < 0.14 {
            1.0
        } else if ellipse(u.abs(), v, [0.42, -0.1], [0.30, 0.68]) {
            0.3
        } else if u.abs() > 0.72 && v < -0.75 {
            0.2
        } else {
            0.75
        }
    };
    (0..SIDE * SIDE).map(|i| density(middle(i % SIDE), middle(i / SIDE))).collect()
}

fn clockwise(cells: &[f64]) -> Vec<f64> {
    (0..SIDE * SIDE).map(|i| cells[(SIDE - 1 - i % SIDE) * SIDE + i / SIDE]).collect()
}

/// Pearson's; 0 where one of them is constant.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}
