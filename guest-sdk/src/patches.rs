//! A network over a volume larger than what it takes. The manifest asks for `gantry:imaging/patches`.

use crate::error::Error;
use crate::sys;
use crate::tensor::{Model, Tensor};
use crate::types::{Axes, Blend, Extent, Windows};
use crate::volumes::Volume;

impl Windows {
    /// Windows of `size` that share half with their neighbours, blended by Gaussians; zeros around what is smaller; one at a
    /// time, seen as they are.
    ///
    /// ```
    /// use gantry_guest::prelude::*;
    /// let mirrored = Axes { x: true, y: true, z: true };
    /// let windows = Windows { batch: 4, mirror: mirrored, ..Windows::new(Extent::new(128, 128, 64)) };
    /// assert_eq!((windows.overlap, windows.blend), (0.5, Blend::Gaussian));
    /// ```
    #[must_use]
    pub fn new(size: Extent) -> Self {
        Self {
            size,
            overlap: 0.5,
            blend: Blend::Gaussian,
            fill: 0.0,
            batch: 1,
            mirror: Axes { x: false, y: false, z: false },
            quarter_turns: false,
        }
    }
}

impl Model {
    /// Runs a network of one input, [n, k, z, y, x], and one output, [n, c, z, y, x], over windows of `k` volumes on one grid,
    /// and gives [1, c, z, y, x] on it: see [`volumes::argmax`](crate::volumes::argmax). It is the host that does so, in one
    /// call; what is more urgent comes between two windows.
    ///
    /// Fails with `invalid` for another network, and with `unavailable` when the engine fails.
    pub fn sliding_window<'v>(&self, of: impl IntoIterator<Item = &'v Volume>, how: Windows) -> Result<Tensor, Error> {
        let of: Vec<&sys::volumes::Volume> = of.into_iter().map(|volume| &volume.0).collect();
        Ok(Tensor(sys::patches::sliding_window(&self.context, &of, how)?))
    }
}
