//! Passes a list of 2 GiB to `from-list`: `guest_list_mib` must end it. Needs a guest memory of more than 2 GiB; with
//! less it fails by itself.

use gantry_guest::prelude::*;

struct List2Gib;

impl Analyzer for List2Gib {
    fn analyze(_: &Study) -> Result<(), Error> {
        // One voxel less than 2 GiB, which is as much as Rust lets a slice have on this target.
        let grid = Geometry::upright(Extent::new((1 << 29) - 1, 1, 1), Vec3::new(1.0, 1.0, 1.0));
        let voxels = vec![0.0; (1 << 29) - 1];
        volumes::from_list(&voxels, grid).map(|_| ())
    }
}

gantry_guest::export!(List2Gib);
