//! One call that runs the model `net` over a million windows: the deadline must end it between two of them.

use gantry_guest::prelude::*;

struct EndlessWindows;

impl Analyzer for EndlessWindows {
    fn analyze(_: &Study) -> Result<(), Error> {
        let grid = Geometry::upright(Extent::new(100, 100, 100), Vec3::new(1.0, 1.0, 1.0));
        let volume = volumes::from_list(&vec![1.0; 1_000_000], grid)?;
        let windows = Windows { overlap: 0.99, ..Windows::new(Extent::new(4, 4, 4)) };
        Model::load("net")?.sliding_window([&volume], windows)?;
        Err("a million windows were looked at in time".into())
    }
}

gantry_guest::export!(EndlessWindows);
