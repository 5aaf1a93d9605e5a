//! Puts a NUL into a text that it states, where its misdeed says: the gate must refuse it.

use gantry_guest::prelude::*;

struct NulText;

impl Analyzer for NulText {
    fn analyze(study: &Study) -> Result<(), Error> {
        let named = |value: &str, meaning: &str| findings::classify(&rogue::code(value, meaning), 0.5);
        match rogue::misdeed(study)? {
            0 => named("A\0B", "A finding"),
            1 => named("AB", "A \0 finding"),
            2 => findings::classify(&Code::new("AB", "99RO\0GUE", "A finding"), 0.5),
            3 => findings::measure(&rogue::code("AB", "A length"), 1.0, "m\0m", None),
            4 => findings::triage(Urgency::Urgent, &rogue::code("AB", "A finding"), 0.5, "for\0no reason"),
            5 => findings::unfit(&rogue::code("AB", "Not fit"), "for\0no reason"),
            _ => {
                let labels = rogue::source(study)?.threshold(300.0, 4000.0)?;
                findings::segmentation(&labels, &[Segment { name: "Bo\0ne".into(), ..rogue::segment() }])
            }
        }
    }
}

gantry_guest::export!(NulText);
