//! Asks for a model of another package, by names and by paths: `not-found`, whichever it tries. Ends
//! well when they were.

use gantry_guest::prelude::*;

struct OtherModel;

impl Analyzer for OtherModel {
    fn analyze(_: &Study) -> Result<(), Error> {
        for name in ["someone-elses", "../other/models/net.onnx", "/etc/passwd", "models/net.onnx", ""] {
            match Model::load(name) {
                Err(Error::Model { code: ErrorCode::NotFound, data }) => info!("{name}: {data}"),
                Err(other) => return Err(Error::new(format_args!("{name}: {other} instead of not-found"))),
                Ok(_) => return Err(Error::new(format_args!("the host gave the model {name}"))),
            }
        }
        findings::classify(&rogue::code("REFUSED", "Every model was refused"), 1.0)
    }
}

gantry_guest::export!(OtherModel);
