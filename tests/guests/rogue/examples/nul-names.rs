//! Asks by names with NUL and other control characters in them, and of a megabyte: each must be refused, and none cut short
//! and found.

use gantry_guest::prelude::*;

struct NulNames;

impl Analyzer for NulNames {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let series = study.first("CT")?;
        let long = "x".repeat(1 << 20);
        for name in ["net\0", "net\0.onnx", "\0", "net\u{1b}[2J", &long] {
            match Model::load(name) {
                Err(Error::Model { code: ErrorCode::NotFound, data }) if data.len() < 1000 => info!("{data}"),
                Err(other) => return Err(Error::new(format_args!("{other} instead of not-found"))),
                Ok(_) => return Err("the host gave a model".into()),
            }
        }
        for keyword in ["PatientName\0", "Modality\0", "\0", &long] {
            match series.attribute(keyword) {
                Err(Error::Host(Failure::Denied(_) | Failure::Invalid(_))) => {}
                other => return Err(Error::new(format_args!("{other:?} instead of denied"))),
            }
        }
        for code in ["LPS\0", "LP\0", "\0\0\0", &long] {
            rogue::invalid("orient", source.orient(code))?;
        }
        rogue::invalid("classify", findings::classify(&rogue::code(&long, "A finding"), 0.5))?;
        rogue::invalid("unfit", findings::unfit(&rogue::code("LONG", "Long"), &long))?;
        warn!("{long}");
        rogue::all_refused()
    }
}

gantry_guest::export!(NulNames);
