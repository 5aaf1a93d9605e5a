//! Masks grown and shrunk by a ball.

use super::super::{Volume, VolumeError};
use super::bits::{Ball, Mask};

/// What to do to a mask with a ball.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Morphology {
    /// Voxels within reach of the mask are added.
    Dilate,
    /// Voxels within reach of the background are removed.
    Erode,
    /// Eroded, then dilated: thin parts go.
    Open,
    /// Dilated, then eroded: thin gaps close.
    Close,
}

impl Volume {
    /// A mask, 0 and 1, changed with a ball of `radius` mm. See `filters.morphology`.
    ///
    /// Beyond the border the mask goes on as at the edge: what the field of view cuts off stays, and no gap to the border
    /// closes.
    pub fn morphology(&self, operation: Morphology, radius: f64) -> Result<Self, VolumeError> {
        let budget = &self.budget;
        let size = self.geometry.size();
        // What was dilated is eroded by what it became beyond the border, too; there all slices of an image are the same.
        let (size, margin) = match operation {
            Morphology::Close => (size.map(|n| if n > 1 { usize::MAX } else { 1 }), true),
            _ => (size, false),
        };
        let ball = Ball::new(radius, self.geometry.spacing(), size)?;
        let margin = if margin { ball.reach } else { [0; 3] };
        let mask = Mask::new(self, margin)?;
        let eroded = |mask: Mask| Ok::<_, VolumeError>(mask.complement().dilated(&ball, budget)?.complement());
        let changed = match operation {
            Morphology::Dilate => mask.dilated(&ball, budget)?,
            Morphology::Erode => eroded(mask)?,
            Morphology::Open => eroded(mask)?.dilated(&ball, budget)?,
            Morphology::Close => eroded(mask.dilated(&ball, budget)?)?,
        };
        changed.volume(self, margin)
    }
}
