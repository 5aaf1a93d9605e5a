//! Asks for what names the patient: each must be `denied`, and the id of the series must be no UID.

use gantry_guest::prelude::*;

struct Identity;

const KEYWORDS: [&str; 14] = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "OtherPatientIDs",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "FrameOfReferenceUID",
    "AccessionNumber",
    "InstitutionName",
    "ReferringPhysicianName",
    "StudyDate",
    "00100010",
    "NoSuchKeyword",
];

impl Analyzer for Identity {
    fn analyze(study: &Study) -> Result<(), Error> {
        for series in study.series() {
            for keyword in KEYWORDS {
                match series.attribute(keyword) {
                    Err(Error::Host(Failure::Denied(text) | Failure::Invalid(text))) => info!("{keyword}: {text}"),
                    Err(other) => return Err(Error::new(format_args!("{keyword}: {other}"))),
                    Ok(value) => {
                        return Err(Error::new(format_args!(
                            "{keyword} was told, {} bytes",
                            value.map_or(0, |v| v.len())
                        )));
                    }
                }
            }
            let id = series.id();
            if id.chars().all(|c| c.is_ascii_digit() || c == '.') {
                return Err("the id of the series looks like a UID".into());
            }
            info!("id {id}");
        }
        findings::classify(&rogue::code("PSEUDONYM", "Nothing names the patient"), 1.0)
    }
}

gantry_guest::export!(Identity);
