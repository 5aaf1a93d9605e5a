//! One call that would take the host a minute: the deadline must end it while it computes.

use gantry_guest::prelude::*;

struct EndlessFilter;

impl Analyzer for EndlessFilter {
    fn analyze(_: &Study) -> Result<(), Error> {
        let small = Geometry::upright(Extent::new(2, 2, 2), Vec3::new(1.0, 1.0, 1.0));
        // Voxels of many values, in a volume that is never sent.
        let large = volumes::from_list(&[0.0, 1.0, 5.0, 3.0, 2.0, 7.0, 4.0, 6.0], small)?
            .resample(Vec3::new(0.01, 0.01, 0.01), Interpolation::Linear)?;
        large.median(Extent::new(7, 7, 7))?;
        Err("the median of 3375 voxels around each of eight million was there in time".into())
    }
}

gantry_guest::export!(EndlessFilter);
