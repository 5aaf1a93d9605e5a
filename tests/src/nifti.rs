//! NIfTI-1, as far as the test material has it: one compressed file of 8-bit values.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;

/// The bytes before the voxels at least.
const HEADER: usize = 352;

/// A volume.
#[derive(Debug)]
pub struct Nifti {
    /// Along x, y and z.
    pub size: [usize; 3],
    /// From an index (x, y, z, 1) to mm towards the right, the front and the head: a row for each.
    pub places: [[f32; 4]; 3],
    /// x fastest.
    pub voxels: Vec<u8>,
}

impl Nifti {
    /// Reads a file of `cargo xtask assets`.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("{}: run `cargo xtask assets`", path.display()))?;
        let mut bytes = Vec::new();
        GzDecoder::new(file).read_to_end(&mut bytes)?;
        ensure!(bytes.len() >= HEADER, "{} is no NIfTI-1 file", path.display());
        let short = |at: usize| i16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let float = |at: usize| f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let size = [42, 44, 46].map(|at| usize::try_from(short(at)).unwrap_or(0));
        let places = [280, 296, 312].map(|row| [0, 4, 8, 12].map(|column| float(row + column)));
        let (kind, first) = (short(70), float(108) as usize);
        let voxels = bytes.get(first..).unwrap_or_default().to_vec();
        // 2: unsigned, 8 bits.
        let whole = kind == 2 && voxels.len() == size.iter().product::<usize>();
        ensure!(whole, "{} has voxels in another form: {size:?}", path.display());
        Ok(Self { size, places, voxels })
    }
}
