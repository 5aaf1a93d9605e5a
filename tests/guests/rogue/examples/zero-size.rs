//! Makes tensors without elements, of every type and with other dimensions beside the 0, and hands them to whatever takes
//! tensors: they hold nothing, and no grid can be made of them.

use gantry_guest::prelude::*;

struct ZeroSize;

impl Analyzer for ZeroSize {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        for ty in rogue::TYPES {
            for dimensions in [&[0][..], &[0, u32::MAX], &[1, 1, 0, 16, 16], &[1, 0, 10, 16, 16]] {
                let empty = Tensor::new(dimensions, ty, &[]);
                if empty.dimensions() != dimensions || !empty.data().is_empty() {
                    return Err(Error::new(format_args!("{dimensions:?} became {:?}", empty.dimensions())));
                }
                rogue::invalid("from-tensor", volumes::from_tensor(&empty, 0, &source))?;
                rogue::invalid("argmax", volumes::argmax(&empty, &source, &source))?;
            }
        }
        rogue::invalid("an axis that is none", volumes::softmax(&Tensor::from_f32(&[0], &[]), 1))?;
        rogue::invalid("a stack of nothing", volumes::stack([]))?;
        rogue::invalid("no voxels", volumes::from_list(&[], source.geometry()))?;
        rogue::all_refused()
    }
}

gantry_guest::export!(ZeroSize);
