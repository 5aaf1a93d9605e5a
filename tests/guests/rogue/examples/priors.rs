//! Compares with earlier studies: for each, how many days before it was, and how much more bone there is now. Asks them for
//! what names the patient, too: each must be `denied`.

use gantry_guest::prelude::*;

struct Priors;

const KEYWORDS: [&str; 8] = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
];

fn bone(series: &Series) -> Result<f64, Error> {
    let found = series.volume(0)?.threshold(300.0, 4000.0)?.components(1)?;
    Ok(found.iter().map(|c| c.millilitres).sum())
}

fn is_pseudonym(id: &str) -> bool {
    id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit())
}

impl Analyzer for Priors {
    fn analyze(study: &Study) -> Result<(), Error> {
        let own = study.first("CT")?;
        let now = bone(own)?;
        for prior in study.earlier()? {
            let series = prior.series().first().ok_or("an earlier study without series")?;
            for keyword in KEYWORDS {
                if !matches!(series.attribute(keyword), Err(Error::Host(Failure::Denied(_)))) {
                    return Err(Error::new(format_args!("{keyword} of an earlier study was told")));
                }
            }
            if !is_pseudonym(prior.id()) || !is_pseudonym(&series.id()) || series.id() == own.id() {
                return Err("an earlier study or its series has no pseudonym of its own".into());
            }
            if series.attribute("SliceThickness")?.is_none() {
                return Err("what was granted for the study is not granted for an earlier one".into());
            }
            findings::measure(&rogue::code("DAYS", "Days before"), prior.days_before().into(), "d", None)?;
            findings::measure(&rogue::code("CHANGE", "Change of bone"), now - bone(series)?, "mL", None)?;
        }
        findings::classify(&rogue::code("COMPARED", "Compared with earlier studies"), 1.0)
    }
}

gantry_guest::export!(Priors);
