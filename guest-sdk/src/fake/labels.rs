//! Connected components.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::grid::{Volume, invalid};
use crate::types::{Component, Extent, Failure, Region, Vec3};

/// A label and the voxels of one region.
type Labelled = (u32, Vec<[u32; 3]>);

impl Volume {
    pub(crate) fn components(&self, minimum_voxels: u64) -> Result<Vec<Component>, Failure> {
        let mut found: Vec<Component> =
            self.regions()?.iter().map(|(label, region)| self.describe(*label, region)).collect();
        found.retain(|c| c.voxels >= minimum_voxels);
        Ok(found)
    }

    pub(crate) fn keep_largest(&self, count: u32) -> Result<Self, Failure> {
        let mut kept: BTreeMap<u32, u32> = BTreeMap::new();
        let mut voxels = vec![0.0; self.voxels.len()];
        for (label, region) in self.regions()? {
            let n = kept.entry(label).or_default();
            *n += 1;
            if *n <= count {
                for index in region {
                    voxels[self.position(index)] = label as f32;
                }
            }
        }
        Self::new(self.geometry, voxels)
    }

    /// Label and voxels of each 6-connected region, largest first; equal ones in order of their first voxel.
    fn regions(&self) -> Result<Vec<Labelled>, Failure> {
        if self.voxels.iter().any(|v| !(v.fract() == 0.0 && (0.0..=65535.0).contains(v))) {
            return invalid("the volume holds something else than whole numbers from 0 to 65535");
        }
        let Extent { x, y, z } = self.geometry.size;
        let mut seen = vec![false; self.voxels.len()];
        let mut regions = Vec::new();
        for start in (0..z).flat_map(|k| (0..y).flat_map(move |j| (0..x).map(move |i| [i, j, k]))) {
            let label = self.at(start);
            if label == 0.0 || seen[self.position(start)] {
                continue;
            }
            let mut region = Vec::new();
            let mut open = vec![start];
            seen[self.position(start)] = true;
            while let Some(voxel) = open.pop() {
                region.push(voxel);
                for next in self.neighbours(voxel) {
                    if self.at(next) == label && !std::mem::replace(&mut seen[self.position(next)], true) {
                        open.push(next);
                    }
                }
            }
            regions.push((label as u32, region));
        }
        regions.sort_by_key(|(_, region)| Reverse(region.len()));
        Ok(regions)
    }

    fn neighbours(&self, voxel: [u32; 3]) -> Vec<[u32; 3]> {
        let mut around = Vec::new();
        for a in 0..3 {
            let (before, after) = (voxel[a].checked_sub(1), voxel[a] + 1);
            for i in before.into_iter().chain((after < self.geometry.size[a]).then_some(after)) {
                let mut next = voxel;
                next[a] = i;
                around.push(next);
            }
        }
        around
    }

    fn position(&self, [i, j, k]: [u32; 3]) -> usize {
        let Extent { x, y, .. } = self.geometry.size;
        i as usize + x as usize * (j as usize + y as usize * k as usize)
    }

    fn describe(&self, label: u32, region: &[[u32; 3]]) -> Component {
        let voxels = region.len() as f64;
        let low = [0, 1, 2].map(|a| region.iter().map(|v| v[a]).min().unwrap_or(0));
        let high = [0, 1, 2].map(|a| region.iter().map(|v| v[a]).max().unwrap_or(0));
        let mean = [0, 1, 2].map(|a| region.iter().map(|v| f64::from(v[a])).sum::<f64>() / voxels);
        Component {
            label,
            voxels: region.len() as u64,
            millilitres: voxels * self.geometry.voxel_millilitres(),
            bounds: Region {
                start: Extent::new(low[0], low[1], low[2]),
                size: Extent::new(high[0] - low[0] + 1, high[1] - low[1] + 1, high[2] - low[2] + 1),
            },
            centroid: self.geometry.to_patient(Vec3::new(mean[0], mean[1], mean[2])),
        }
    }
}
