//! Connected regions of labels.
//!
//! Labels become runs along x; runs that touch in the next row or slice are joined (union-find). Slices are scanned in
//! parallel, in groups that are then joined at their borders. Memory grows with the number of runs, which is charged.

use std::cmp::Reverse;
use std::collections::HashMap;

use rayon::prelude::*;

use super::evaluate::{BLOCK, Scratch, blocks};
use super::storage::{Run, Runs, Voxels};
use super::{Volume, VolumeError, invalid};
use crate::geometry::{Region, Vec3};
use crate::memory::Charge;

/// One 6-connected region of equal, non-zero voxels.
#[derive(Debug, Clone, PartialEq)]
pub struct Component {
    /// The value of its voxels.
    pub label: u32,
    /// How many.
    pub voxels: u64,
    /// mL.
    pub millilitres: f64,
    /// The smallest box that holds it.
    pub bounds: Region,
    /// Mean of voxel centres in the patient coordinate system, mm.
    pub centroid: Vec3,
}

impl Volume {
    /// Regions of at least `minimum_voxels`, largest first; of equals, the one whose first voxel comes first (z, then
    /// y, then x). See `volume.components` in the contract.
    pub fn components(&self, minimum_voxels: u64) -> Result<Vec<Component>, VolumeError> {
        let labelled = Labelled::new(self)?;
        let mut found: Vec<&Extent> = labelled.extents.iter().filter(|e| e.voxels >= minimum_voxels).collect();
        found.sort_by_key(|e| Reverse(e.voxels));
        Ok(found.into_iter().map(|extent| extent.component(self)).collect())
    }

    /// Only the `count` largest regions of each label, of equals those that [`Volume::components`] names first.
    /// See `volume.keep-largest` in the contract.
    pub fn keep_largest(&self, count: u32) -> Result<Self, VolumeError> {
        let labelled = Labelled::new(self)?;
        let mut order: Vec<usize> = (0..labelled.extents.len()).collect();
        order.sort_by_key(|&i| Reverse(labelled.extents[i].voxels));
        let mut kept = vec![false; order.len()];
        let mut of_label: HashMap<u16, u32> = HashMap::new();
        for i in order {
            let so_far = of_label.entry(labelled.extents[i].label).or_default();
            kept[i] = *so_far < count;
            *so_far += u32::from(kept[i]);
        }
        labelled.only(&kept, self)
    }
}

/// All runs of a volume, and the component that each belongs to.
struct Labelled {
    groups: Vec<Group>,
    /// For each run of all groups in turn, an index into `extents`.
    component: Vec<u32>,
    /// In the order of their first voxels.
    extents: Vec<Extent>,
    height: usize,
    _charges: [Charge; 2],
}

impl Labelled {
    fn new(volume: &Volume) -> Result<Self, VolumeError> {
        let (region, budget) = (volume.geometry().region(), volume.budget());
        let [width, height, _] = region.size;
        if u32::try_from(width).is_err() {
            return Err(invalid(format!("a row of {width} voxels is too long to be searched for components")));
        }
        let mut groups = groups_of(region)
            .into_par_iter()
            .map(|slices| Group::scan(volume, slices))
            .collect::<Result<Vec<_>, _>>()?;
        let runs: usize = groups.iter().map(|group| group.runs.runs.len()).sum();
        if u32::try_from(runs).is_err() {
            return Err(invalid("more than 2³² runs of equal labels are too many to be searched for components"));
        }

        // What groups know of their own runs becomes one forest.
        let forest_charge = budget.charge((runs * size_of::<u32>()) as u64)?;
        let mut forest = Forest(Vec::with_capacity(runs));
        let mut bases = Vec::with_capacity(groups.len());
        for group in &mut groups {
            let base = forest.0.len() as u32;
            bases.push(base);
            forest.0.extend(std::mem::take(&mut group.forest.0).into_iter().map(|parent| parent + base));
        }
        for (pair, base) in groups.windows(2).zip(bases.windows(2)) {
            for y in 0..height {
                let above = pair[0].runs.row((pair[0].slices.len() - 1) * height + y);
                forest.join_rows(above, base[0], pair[1].runs.row(y), base[1]);
            }
        }
        let roots = forest.0.iter().enumerate().filter(|(i, parent)| *i == **parent as usize).count();
        let each = size_of::<Extent>() + size_of::<Component>();
        let charges = [forest_charge, budget.charge((roots * each) as u64)?];
        let mut labelled =
            Self { groups, component: forest.0, extents: Vec::with_capacity(roots), height, _charges: charges };
        labelled.measure();
        Ok(labelled)
    }

    /// Numbers the trees of the forest, which `component` still is, and adds up their runs. A parent always comes
    /// before its children.
    fn measure(&mut self) {
        let (component, extents) = (&mut self.component, &mut self.extents);
        let mut next = 0;
        for group in &self.groups {
            for row in 0..group.runs.rows.len() - 1 {
                let (y, z) = (row % self.height, group.slices.start + row / self.height);
                for run in group.runs.row(row).0 {
                    let parent = component[next] as usize;
                    if parent == next {
                        component[next] = extents.len() as u32;
                        extents.push(Extent::new(run, y, z));
                    } else {
                        component[next] = component[parent];
                    }
                    extents[component[next] as usize].add(run, y, z);
                    next += 1;
                }
            }
        }
    }

    /// The runs of some components as a volume on the grid of `volume`.
    fn only(&self, kept: &[bool], volume: &Volume) -> Result<Volume, VolumeError> {
        let geometry = volume.geometry().clone();
        let [nx, ny, nz] = geometry.size();
        let runs = self.component.iter().filter(|&&c| kept[c as usize]).count();
        let as_runs = runs * size_of::<Run>() + (ny * nz + 1) * size_of::<u32>();
        let wide = self.extents.iter().any(|extent| extent.label > u16::from(u8::MAX));
        let dense = nx * ny * nz * if wide { 2 } else { 1 };
        let charge = volume.budget().charge(as_runs.min(dense) as u64)?;
        let voxels = if as_runs <= dense {
            let mut stored = Runs { rows: Vec::with_capacity(ny * nz + 1), runs: Vec::with_capacity(runs) };
            self.each_row(kept, |_, runs| {
                stored.rows.push(stored.runs.len() as u32);
                stored.runs.extend(runs);
            });
            stored.rows.push(stored.runs.len() as u32);
            Voxels::Runs(stored)
        } else if wide {
            let mut stored = vec![0; dense / 2];
            self.each_row(kept, |row, runs| runs.for_each(|run| run.paint(&mut stored[row * nx..], run.label)));
            Voxels::U16 { stored, slope: 1.0, intercept: 0.0 }
        } else {
            let mut stored = vec![0; dense];
            self.each_row(kept, |row, runs| runs.for_each(|run| run.paint(&mut stored[row * nx..], run.label as u8)));
            Voxels::U8(stored)
        };
        Ok(volume.made(geometry, voxels, charge))
    }

    /// Calls `f` for each row of the volume with those of its runs that belong to components that are kept.
    fn each_row(&self, kept: &[bool], mut f: impl FnMut(usize, &mut dyn Iterator<Item = Run>)) {
        let (mut component, mut row_of_volume) = (self.component.iter(), 0);
        for group in &self.groups {
            for row in 0..group.runs.rows.len() - 1 {
                let runs = group.runs.row(row).0;
                let mut kept =
                    runs.iter().zip(component.by_ref()).filter(|(_, c)| kept[**c as usize]).map(|(run, _)| *run);
                f(row_of_volume, &mut kept);
                row_of_volume += 1;
            }
        }
    }
}

/// Slices that are scanned together: at most 64 groups, of at least half a block where there is as much.
fn groups_of(region: Region) -> Vec<std::ops::Range<usize>> {
    let [nx, ny, nz] = region.size;
    let depth = nz.div_ceil(64).max((BLOCK / 2).div_ceil(nx * ny));
    (0..nz).step_by(depth).map(|z| z..(z + depth).min(nz)).collect()
}

/// Some slices.
struct Group {
    slices: std::ops::Range<usize>,
    runs: Runs,
    forest: Forest,
    _charges: Vec<Charge>,
}

impl Group {
    fn scan(volume: &Volume, slices: std::ops::Range<usize>) -> Result<Self, VolumeError> {
        let [nx, ny, _] = volume.geometry().size();
        let budget = volume.budget();
        let rows = ny * slices.len();
        let mut charges = vec![budget.charge(((rows + 1) * size_of::<u32>()) as u64)?];
        let mut runs = Runs { rows: Vec::with_capacity(rows + 1), runs: Vec::new() };
        let region = Region { start: [0, 0, slices.start], size: [nx, ny, slices.len()] };
        let (mut scratch, mut labels) = (Scratch::default(), Vec::new());
        for block in blocks(region) {
            let before = runs.runs.len();
            labels.resize(block.voxels(), 0u16);
            volume.label_block(block, &mut labels, &mut scratch)?;
            for row in labels.chunks_exact(block.size[0]) {
                if block.start[0] == 0 {
                    runs.rows.push(counted(runs.runs.len()));
                }
                add_runs(row, block.start[0], &mut runs.runs, *runs.rows.last().unwrap_or(&0));
            }
            let each = size_of::<Run>() + size_of::<u32>();
            charges.push(budget.charge(((runs.runs.len() - before) * each) as u64)?);
            if u32::try_from(runs.runs.len()).is_err() {
                return Err(invalid("more than 2³² runs of equal labels are too many to be searched for components"));
            }
        }
        runs.rows.push(counted(runs.runs.len()));

        let mut forest = Forest((0..counted(runs.runs.len())).collect());
        for row in 0..rows {
            if row % ny > 0 {
                forest.join_rows(runs.row(row - 1), 0, runs.row(row), 0);
            }
            if row >= ny {
                forest.join_rows(runs.row(row - ny), 0, runs.row(row), 0);
            }
        }
        Ok(Self { slices, runs, forest, _charges: charges })
    }
}

/// Below 2³², as [`Group::scan`] sees to: a block adds at most as many runs as it has voxels.
fn counted(runs: usize) -> u32 {
    u32::try_from(runs).expect("runs were counted")
}

/// Appends the runs of a row or, of a very long row, of a part of it that begins at voxel `x`. `first` is the first
/// run of the row.
fn add_runs(row: &[u16], x: usize, runs: &mut Vec<Run>, first: u32) {
    let mut begin = 0;
    while begin < row.len() {
        let label = row[begin];
        let end = begin + run_length(&row[begin..], label);
        if label != 0 {
            let (from, to) = ((x + begin) as u32, (x + end) as u32);
            let row_has_runs = runs.len() > first as usize;
            match runs.last_mut() {
                Some(last) if row_has_runs && last.end == from && last.label == label => last.end = to,
                _ => runs.push(Run { begin: from, end: to, label }),
            }
        }
        begin = end;
    }
}

/// How many of the first values are `label`.
fn run_length(values: &[u16], label: u16) -> usize {
    const STEP: usize = 32;
    let mut length = 0;
    for chunk in values.chunks_exact(STEP) {
        if chunk.iter().fold(0, |different, v| different | (v ^ label)) != 0 {
            break;
        }
        length += STEP;
    }
    length + values[length..].iter().take_while(|v| **v == label).count()
}

impl Runs {
    /// The runs of a row, and the number of the first.
    fn row(&self, row: usize) -> (&[Run], u32) {
        let first = self.rows[row];
        (&self.runs[first as usize..self.rows[row + 1] as usize], first)
    }
}

impl Run {
    fn paint<T: Copy>(&self, row: &mut [T], label: T) {
        row[self.begin as usize..self.end as usize].fill(label);
    }
}

/// For each run its parent, which comes before it or is itself.
struct Forest(Vec<u32>);

impl Forest {
    fn root(&mut self, mut run: u32) -> u32 {
        loop {
            let parent = self.0[run as usize];
            if parent == run {
                return run;
            }
            let grandparent = self.0[parent as usize];
            self.0[run as usize] = grandparent;
            run = grandparent;
        }
    }

    /// Joins the runs of two rows that touch and have the same label. Runs count from `base`.
    fn join_rows(&mut self, (a, first_a): (&[Run], u32), base_a: u32, (b, first_b): (&[Run], u32), base_b: u32) {
        let (mut i, mut k) = (0, 0);
        while let (Some(run_a), Some(run_b)) = (a.get(i), b.get(k)) {
            if run_a.label == run_b.label && run_a.begin < run_b.end && run_b.begin < run_a.end {
                let x = self.root(base_a + first_a + i as u32);
                let y = self.root(base_b + first_b + k as u32);
                self.0[x.max(y) as usize] = x.min(y);
            }
            if run_a.end <= run_b.end {
                i += 1;
            } else {
                k += 1;
            }
        }
    }
}

/// What a component covers, in voxels.
struct Extent {
    label: u16,
    voxels: u64,
    low: [usize; 3],
    /// Exclusive.
    high: [usize; 3],
    /// Sum of the indices of all voxels; twice it along x.
    sum: [u128; 3],
}

impl Extent {
    fn new(run: &Run, y: usize, z: usize) -> Self {
        let (low, high) = ([run.begin as usize, y, z], [run.end as usize, y + 1, z + 1]);
        Self { label: run.label, voxels: 0, low, high, sum: [0; 3] }
    }

    fn add(&mut self, run: &Run, y: usize, z: usize) {
        let length = u64::from(run.end - run.begin);
        let (low, high) = ([run.begin as usize, y, z], [run.end as usize, y + 1, z + 1]);
        self.voxels += length;
        for a in 0..3 {
            self.low[a] = self.low[a].min(low[a]);
            self.high[a] = self.high[a].max(high[a]);
        }
        let twice_middle = u64::from(run.begin) + u64::from(run.end) - 1;
        let sums = [twice_middle, y as u64, z as u64];
        for (total, each) in self.sum.iter_mut().zip(sums) {
            *total += u128::from(length) * u128::from(each);
        }
    }

    fn component(&self, volume: &Volume) -> Component {
        let grid = volume.geometry();
        let [x, y, z] = self.sum.map(|sum| sum as f64 / self.voxels as f64);
        Component {
            label: self.label.into(),
            voxels: self.voxels,
            millilitres: self.voxels as f64 * grid.voxel_millilitres(),
            bounds: Region { start: self.low, size: [0, 1, 2].map(|a| self.high[a] - self.low[a]) },
            centroid: grid.to_patient([x / 2.0, y, z]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_row_in_parts_are_those_of_the_row() {
        let row: Vec<u16> = [(3, 0), (70, 5), (1, 6), (40, 6), (33, 0), (2, 5)]
            .into_iter()
            .flat_map(|(n, label)| std::iter::repeat_n(label, n))
            .collect();
        let mut whole = vec![Run { begin: 140, end: 149, label: 5 }];
        add_runs(&row, 0, &mut whole, 1);
        let run = |begin, end, label| Run { begin, end, label };
        assert_eq!(whole[1..], [run(3, 73, 5), run(73, 114, 6), run(147, 149, 5)]);
        for cut in 1..row.len() {
            let mut parts = vec![whole[0]];
            add_runs(&row[..cut], 0, &mut parts, 1);
            add_runs(&row[cut..], cut, &mut parts, 1);
            assert_eq!(parts, whole, "cut at {cut}");
        }
    }
}
