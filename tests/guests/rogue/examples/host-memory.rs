//! Fills the host with voxels: `host_memory_mib` must end it, as an error of the call that passes it.

use gantry_guest::prelude::*;

struct HostMemory;

impl Analyzer for HostMemory {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let mut hoard = Vec::new();
        for _ in 0..100_000 {
            // A tensor is never a view.
            hoard.push(source.to_tensor(TensorType::Fp32)?);
        }
        Err(Error::new(format_args!("the host gave {} copies of the study", hoard.len())))
    }
}

gantry_guest::export!(HostMemory);
