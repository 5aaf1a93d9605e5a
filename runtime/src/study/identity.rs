//! Whose images these are: repaired where the data set leaves it empty, and one patient, one study.

use std::collections::{BTreeMap, BTreeSet};

use dicom_dictionary_std::tags;
use sha2::{Digest, Sha256};

use super::attributes::is_uid;
use super::header::{Object, Patient};
use super::{PatientEntry, ReadError, ReadOptions};

/// Fills empty UIDs of images: SOP class and instance from the file meta information, study and series derived
/// from the frame of reference. Each kind of repair is a warning, or an error when `strict`.
pub(super) fn repair(
    objects: &mut [Object],
    options: &ReadOptions,
    warnings: &mut Vec<String>,
) -> Result<(), ReadError> {
    let mut repaired = Repaired::default();
    for object in objects.iter_mut() {
        repaired.object(object)?;
    }
    for (files, what, how) in repaired.list() {
        if options.strict {
            return Err(ReadError::Identity { files, what: what.into() });
        }
        warnings.push(format!("{files} files: {what}; {how}"));
    }
    Ok(())
}

/// How many files each kind of repair touched.
#[derive(Default)]
struct Repaired {
    sop: usize,
    differ: usize,
    study: usize,
    series: usize,
}

impl Repaired {
    fn object(&mut self, object: &mut Object) -> Result<(), ReadError> {
        if object.class.is_empty() || object.instance.is_empty() {
            let (class, instance) = (&mut object.class, &mut object.instance);
            for (value, meta, tag) in [
                (class, &object.meta_class, tags::SOP_CLASS_UID),
                (instance, &object.meta_instance, tags::SOP_INSTANCE_UID),
            ] {
                if value.is_empty() {
                    value.clone_from(meta);
                }
                if value.is_empty() || !is_uid(value) {
                    let problem = "is empty, and so is its like in the file meta information";
                    return Err(ReadError::attribute(&object.path, tag, problem));
                }
            }
            self.sop += 1;
        } else if object.instance != object.meta_instance {
            self.differ += 1;
        }
        let frame = object.frame_of_reference.clone();
        for (missing, tag) in
            [(object.study.is_empty(), tags::STUDY_INSTANCE_UID), (object.series.is_empty(), tags::SERIES_INSTANCE_UID)]
        {
            if missing && frame.is_empty() {
                let problem = "is empty, and without a Frame of Reference UID (0020,0052) nothing tells which images \
                               belong together; send the images again from their source";
                return Err(ReadError::attribute(&object.path, tag, problem));
            }
        }
        if object.study.is_empty() {
            object.study = derived("study", &[&frame]);
            self.study += 1;
        }
        if object.series.is_empty() {
            // Acquisition Number is left out: it may change within a series, and slices that went to another series
            // would not be missed.
            let number = object.series_number.map_or_else(String::new, |n| n.to_string());
            let parts: [&str; 6] = [
                &frame,
                &object.modality,
                &number,
                &object.series_date,
                &object.series_time,
                &object.series_description,
            ];
            object.series = derived("series", &parts);
            self.series += 1;
        }
        Ok(())
    }

    /// Files, what is wrong, and what was done, of each kind that occurred.
    fn list(&self) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
        [
            (
                self.sop,
                "SOPClassUID (0008,0016) or SOPInstanceUID (0008,0018) is empty",
                "taken from (0002,0002) and (0002,0003) of the file meta information",
            ),
            (
                self.differ,
                "SOPInstanceUID (0008,0018) is not MediaStorageSOPInstanceUID (0002,0003)",
                "the data set is believed",
            ),
            (
                self.study,
                "StudyInstanceUID (0020,000D) is empty",
                "derived from the Frame of Reference UID (0020,0052)",
            ),
            (
                self.series,
                "SeriesInstanceUID (0020,000E) is empty",
                "derived from frame of reference, modality, number, date, time and description of the series",
            ),
        ]
        .into_iter()
        .filter(|(files, ..)| *files > 0)
    }
}

/// A UID of a UUID (PS3.5 annex B.2) that is the same for the same parts, always and everywhere.
fn derived(what: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"gantry/uid/1\0");
    for part in std::iter::once(&what).chain(parts) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let half: [u8; 16] = *digest.first_chunk().expect("32 bytes begin with 16");
    // RFC 9562: version 8 (vendor's own), variant 10.
    let number = u128::from_be_bytes(half) & !(0xF << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    format!("2.25.{number}")
}

/// The one patient of all objects. An empty value contradicts none. Names that differ under one ID are a warning, or an error
/// when strict.
pub(super) fn one_patient(
    objects: &[Object],
    options: &ReadOptions,
    warnings: &mut Vec<String>,
) -> Result<PatientEntry, ReadError> {
    let values = |value: fn(&Patient) -> &str| -> BTreeSet<&str> {
        objects.iter().map(|o| value(&o.patient)).filter(|v| !v.is_empty()).collect()
    };
    let distinct = |value| values(value).len();
    let first = |value| values(value).first().copied().unwrap_or_default().to_owned();
    let patient = PatientEntry {
        id: first(|p| &p.id),
        issuer: first(|p| &p.issuer),
        name: first(|p| &p.name),
        birth_date: first(|p| &p.birth_date),
        sex: first(|p| &p.sex),
    };
    for (patients, by) in [
        (distinct(|p| &p.id), "PatientID (0010,0020)"),
        (distinct(|p| &p.issuer), "IssuerOfPatientID (0010,0021)"),
        (distinct(|p| &p.birth_date), "PatientBirthDate (0010,0030)"),
        (distinct(|p| &p.sex), "PatientSex (0010,0040)"),
    ] {
        if patients > 1 {
            return Err(ReadError::Patients { patients, by });
        }
    }
    let (names, by) = (distinct(|p| &p.name), "PatientName (0010,0010)");
    if names < 2 {
        return Ok(patient);
    }
    // Spellings of one name differ between departments: with one ID in all files that need not be a second patient.
    if options.strict || objects.iter().any(|o| o.patient.id.is_empty()) {
        return Err(ReadError::Patients { patients: names, by });
    }
    warnings.push(format!("{by} has {names} spellings under one PatientID (0010,0020)"));
    Ok(patient)
}

/// The one study of `images`.
pub(super) fn one_study(images: &[Object]) -> Result<String, ReadError> {
    let mut studies: BTreeMap<&str, usize> = BTreeMap::new();
    for image in images {
        *studies.entry(&image.study).or_default() += 1;
    }
    let mut studies: Vec<(String, usize)> = studies.into_iter().map(|(uid, n)| (uid.to_owned(), n)).collect();
    match (studies.len(), studies.pop()) {
        (1, Some((uid, _))) => Ok(uid),
        (_, last) => {
            studies.extend(last);
            Err(ReadError::Studies(studies))
        }
    }
}
