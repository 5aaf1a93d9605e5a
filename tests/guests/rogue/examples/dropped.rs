//! Uses a handle that it must not, as its misdeed says: the call must trap.

#![expect(unsafe_code, reason = "handles are made up")]

use gantry_guest::__private::bindings::gantry::imaging::{study, volumes::Volume};
use gantry_guest::__private::bindings::wasi::nn::{graph::load_by_name, tensor::Tensor as Input};
use gantry_guest::prelude::{Analyzer, Error, Study, TensorType};

struct Dropped;

impl Analyzer for Dropped {
    fn analyze(study: &Study) -> Result<(), Error> {
        let volume = study::accepted().remove(0).volume(0)?;
        let handle = volume.handle();
        match rogue::misdeed(study)? {
            // After it was given back.
            0 => {
                drop(volume);
                forged(handle).geometry();
            }
            // To give it back again.
            1 => {
                drop(volume);
                drop(forged(handle));
            }
            // That nobody gave it.
            2 => {
                forged(4711).geometry();
            }
            // Of something else.
            3 => {
                let tensor = volume.to_tensor(TensorType::U8, false)?;
                forged(tensor.handle()).geometry();
            }
            // That a model took with its input.
            _ => {
                let context =
                    load_by_name("net").and_then(|graph| graph.init_execution_context()).map_err(rogue::told)?;
                let input = Input::new(&[1, 1, 4, 4, 4], TensorType::Fp32, &[0; 256]);
                let handle = input.handle();
                context.compute(vec![("x".into(), input)]).map_err(rogue::told)?;
                forged(handle).geometry();
            }
        }
        Err("the host took a handle that it had not given".into())
    }
}

/// Whatever has that number.
fn forged(handle: u32) -> Volume {
    // SAFETY: what it does to the host is what is tried.
    unsafe { Volume::from_handle(handle) }
}

gantry_guest::export!(Dropped);
