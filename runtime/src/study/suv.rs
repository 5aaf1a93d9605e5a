//! Standardized uptake values of PET by body weight: what a voxel is multiplied by.
//!
//! As the Quantitative Imaging Biomarkers Alliance computes them (SUV, "vendor neutral" formula): activity over the dose that
//! is left of what was given, by weight. Whatever is missing or makes no sense is named; nothing is assumed.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use dicom_core::value::Value;
use dicom_core::{PrimitiveValue, Tag};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::attributes::text;

/// Who Philips's factors are of, and which they are: SUV, and activity in Bq/mL, of what is stored in counts.
const PHILIPS: &str = "Philips PET Private Group";
const PHILIPS_GROUP: u16 = 0x7053;
const PHILIPS_SUV: u16 = 0x00;
const PHILIPS_ACTIVITY: u16 = 0x09;
/// What a person weighs, kg, and is given, Bq. A dose in MBq, as some write it, lies below.
const WEIGHT_KG: std::ops::RangeInclusive<f64> = 0.2..=700.0;
const DOSE_BQ: std::ops::RangeInclusive<f64> = 1e5..=1e11;
/// Nobody is scanned later.
const DECAY_MAX_HOURS: i64 = 7 * 24;

/// What values of a series through the modality LUT are multiplied by to become SUV by body weight, g/mL, by its first
/// instance. `Err` says why there is none, and no value.
pub(super) fn factor(header: &InMemDicomObject) -> Result<f64, String> {
    match said(header, tags::UNITS)?.as_str() {
        "GML" => match text(header, tags::SUV_TYPE).as_deref() {
            None | Some("BW") => Ok(1.0),
            Some(_) => Err("SUVType (0054,1006) is not by body weight".into()),
        },
        "BQML" => by_dose(header),
        "CNTS" => match (philips(header, PHILIPS_SUV), philips(header, PHILIPS_ACTIVITY)) {
            (Some(factor), _) => Ok(factor),
            (None, Some(activity)) => by_dose(header).map(|factor| activity * factor),
            (None, None) => {
                Err("Units (0054,1001) are counts, and Philips's factors (7053,xx00) and (7053,xx09) are missing"
                    .into())
            }
        },
        _ => Err("Units (0054,1001) are none of BQML, CNTS and GML".into()),
    }
}

/// Of values in Bq/mL.
fn by_dose(header: &InMemDicomObject) -> Result<f64, String> {
    let corrected = said(header, tags::CORRECTED_IMAGE)?;
    if !["ATTN", "DECY"].iter().all(|wanted| corrected.split('\\').any(|done| done.trim() == *wanted)) {
        return Err("CorrectedImage (0028,0051) does not say that attenuation and decay were corrected".into());
    }
    let weight = number(header, tags::PATIENT_WEIGHT, &WEIGHT_KG)?;
    let drugs = header.get(tags::RADIOPHARMACEUTICAL_INFORMATION_SEQUENCE).and_then(|element| element.items());
    let [drug] = drugs.unwrap_or_default() else {
        return Err("RadiopharmaceuticalInformationSequence (0054,0016) has not one item".into());
    };
    let dose = number(drug, tags::RADIONUCLIDE_TOTAL_DOSE, &DOSE_BQ)?;
    let left = match said(header, tags::DECAY_CORRECTION)?.as_str() {
        "ADMIN" => dose,
        "START" => {
            let half_life = number(drug, tags::RADIONUCLIDE_HALF_LIFE, &(1.0..=1e9))?;
            let passed = decayed(header, drug)?.num_milliseconds() as f64 / 1000.0;
            dose * (-passed / half_life).exp2()
        }
        _ => return Err("DecayCorrection (0054,1102) is neither START nor ADMIN".into()),
    };
    Ok(weight * 1000.0 / left)
}

/// From the injection to the moment to which the images' decay was corrected.
fn decayed(header: &InMemDicomObject, drug: &InMemDicomObject) -> Result<TimeDelta, String> {
    let at = |date, time| Ok::<_, String>(date_of(&said(header, date)?)?.and_time(time_of(&said(header, time)?)?));
    let series = at(tags::SERIES_DATE, tags::SERIES_TIME)?;
    // A series that was made later than what is in it says when it was made, and not when the scan began.
    if at(tags::ACQUISITION_DATE, tags::ACQUISITION_TIME).is_ok_and(|acquired| series > acquired) {
        return Err(
            "SeriesTime (0008,0031) lies behind AcquisitionTime (0008,0032), so the start of the scan is not known"
                .into(),
        );
    }
    let given = match text(drug, tags::RADIOPHARMACEUTICAL_START_DATE_TIME) {
        Some(both) => {
            let (date, time) =
                both.split_at_checked(8).ok_or("RadiopharmaceuticalStartDateTime (0018,1078) is no time")?;
            date_of(date)?.and_time(time_of(time)?)
        }
        None => {
            let time = time_of(&said(drug, tags::RADIOPHARMACEUTICAL_START_TIME)?)?;
            let day = NaiveDateTime::new(series.date(), time);
            // Given before midnight.
            if day > series { day - TimeDelta::days(1) } else { day }
        }
    };
    let passed = series - given;
    match passed >= TimeDelta::zero() && passed <= TimeDelta::hours(DECAY_MAX_HOURS) {
        true => Ok(passed),
        false => Err("the radiopharmaceutical was given after the scan began, or more than a week before".into()),
    }
}

fn said(object: &InMemDicomObject, tag: Tag) -> Result<String, String> {
    text(object, tag).ok_or_else(|| format!("{} is missing", named(tag)))
}

fn number(object: &InMemDicomObject, tag: Tag, within: &std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    let number = said(object, tag)?.trim().parse::<f64>().ok().filter(|number| within.contains(number));
    number.ok_or_else(|| format!("{} is not between {:e} and {:e}", named(tag), within.start(), within.end()))
}

fn named(tag: Tag) -> String {
    use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
    let entry = dicom_dictionary_std::StandardDataDictionary.by_tag(tag);
    format!("{} {tag}", entry.map_or("attribute", DataDictionaryEntry::alias))
}

fn date_of(date: &str) -> Result<NaiveDate, String> {
    NaiveDate::parse_from_str(date.trim(), "%Y%m%d").map_err(|_| "a date is not well-formed".into())
}

/// Of hours and minutes and maybe more; what says how far from UTC is left out: all times of an object are of one place.
fn time_of(time: &str) -> Result<NaiveTime, String> {
    let digits = time.trim().split(['+', '-', '.']).next().unwrap_or_default();
    let part = |at: usize| match digits.get(at..at + 2) {
        Some(part) => part.parse::<u32>().ok(),
        None if digits.len() == at => Some(0),
        None => None,
    };
    let whole = part(0).zip(part(2)).zip(part(4)).filter(|_| digits.len() >= 4);
    let time = whole.and_then(|((hours, minutes), seconds)| NaiveTime::from_hms_opt(hours, minutes, seconds.min(59)));
    time.ok_or_else(|| "a time is not well-formed".into())
}

/// A factor of Philips's, which is 0 where there is none.
fn philips(header: &InMemDicomObject, element: u16) -> Option<f64> {
    let creator = |block: &u16| text(header, Tag(PHILIPS_GROUP, *block)).is_some_and(|name| name.trim() == PHILIPS);
    let block = (0x10..=0xFF).find(creator)?;
    let Value::Primitive(value) = header.get(Tag(PHILIPS_GROUP, block << 8 | element))?.value() else { return None };
    // In implicit VR nothing says that it is text.
    let text = match value {
        PrimitiveValue::U8(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.to_str().into_owned(),
    };
    text.trim_matches([' ', '\0']).parse::<f64>().ok().filter(|factor| *factor > 0.0 && factor.is_finite())
}

#[cfg(test)]
mod tests {
    use dicom_core::value::DataSetSequence;
    use dicom_core::{DataElement, Length, VR};

    use super::*;

    fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
        object.put(DataElement::new(tag, vr, PrimitiveValue::Strs(value.split('\\').map(str::to_owned).collect())));
    }

    /// 70 kg, 370 MBq of fluorine-18 at half past nine, a scan an hour later.
    fn pet(change: impl FnOnce(&mut InMemDicomObject, &mut InMemDicomObject)) -> Result<f64, String> {
        let mut drug = InMemDicomObject::new_empty();
        put(&mut drug, tags::RADIOPHARMACEUTICAL_START_TIME, VR::TM, "093000.00");
        put(&mut drug, tags::RADIONUCLIDE_TOTAL_DOSE, VR::DS, "370000000");
        put(&mut drug, tags::RADIONUCLIDE_HALF_LIFE, VR::DS, "6586.2");
        let mut header = InMemDicomObject::new_empty();
        for (tag, vr, value) in [
            (tags::UNITS, VR::CS, "BQML"),
            (tags::CORRECTED_IMAGE, VR::CS, "NORM\\DTIM\\ATTN\\SCAT\\DECY"),
            (tags::DECAY_CORRECTION, VR::CS, "START"),
            (tags::PATIENT_WEIGHT, VR::DS, "70"),
            (tags::SERIES_DATE, VR::DA, "20240102"),
            (tags::SERIES_TIME, VR::TM, "103000"),
            (tags::ACQUISITION_DATE, VR::DA, "20240102"),
            (tags::ACQUISITION_TIME, VR::TM, "103000.5"),
        ] {
            put(&mut header, tag, vr, value);
        }
        change(&mut header, &mut drug);
        let drug = DataSetSequence::new(vec![drug], Length::UNDEFINED);
        header.put(DataElement::new(tags::RADIOPHARMACEUTICAL_INFORMATION_SEQUENCE, VR::SQ, Value::from(drug)));
        factor(&header)
    }

    fn near(found: Result<f64, String>, wanted: f64) {
        let found = found.expect("a factor");
        assert!((found / wanted - 1.0).abs() < 1e-9, "{found} is not {wanted}");
    }

    #[test]
    fn activity_is_divided_by_what_is_left_of_the_dose() {
        let left = 370e6 * (-3600.0 / 6586.2f64).exp2();
        near(pet(|_, _| {}), 70_000.0 / left);
        near(pet(|header, _| put(header, tags::DECAY_CORRECTION, VR::CS, "ADMIN")), 70_000.0 / 370e6);
        near(
            pet(|_, drug| put(drug, tags::RADIOPHARMACEUTICAL_START_DATE_TIME, VR::DT, "20240102093000.000+0100")),
            70_000.0 / left,
        );
        let midnight = pet(|header, drug| {
            put(drug, tags::RADIOPHARMACEUTICAL_START_TIME, VR::TM, "2330");
            put(header, tags::SERIES_TIME, VR::TM, "0030");
        });
        near(midnight, 70_000.0 / left);
    }

    #[test]
    fn values_of_other_units_have_factors_of_their_own() {
        near(pet(|header, _| put(header, tags::UNITS, VR::CS, "GML")), 1.0);
        let philips = |element: u16, factor: &str| {
            pet(|header, _| {
                put(header, tags::UNITS, VR::CS, "CNTS");
                put(header, Tag(0x7053, 0x0010), VR::LO, PHILIPS);
                let bytes = PrimitiveValue::U8(factor.as_bytes().into());
                header.put(DataElement::new(Tag(0x7053, 0x1000 | element), VR::UN, bytes));
            })
        };
        near(philips(PHILIPS_SUV, "0.000551 "), 0.000551);
        let left = 370e6 * (-3600.0 / 6586.2f64).exp2();
        near(philips(PHILIPS_ACTIVITY, "1.5"), 1.5 * 70_000.0 / left);
        assert!(philips(PHILIPS_SUV, "0").expect_err("none").contains("Philips"));
        assert!(pet(|header, _| put(header, tags::UNITS, VR::CS, "CNTS")).is_err());
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_named() {
        let says = |found: Result<f64, String>, part: &str| {
            let error = found.expect_err("no factor");
            assert!(error.contains(part), "no {part} in {error}");
        };
        says(pet(|header, _| _ = header.remove_element(tags::PATIENT_WEIGHT)), "PatientWeight (0010,1030) is missing");
        says(pet(|header, _| put(header, tags::PATIENT_WEIGHT, VR::DS, "0")), "PatientWeight (0010,1030)");
        // In MBq.
        says(
            pet(|_, drug| put(drug, tags::RADIONUCLIDE_TOTAL_DOSE, VR::DS, "370")),
            "RadionuclideTotalDose (0018,1074)",
        );
        says(pet(|header, _| put(header, tags::CORRECTED_IMAGE, VR::CS, "ATTN")), "CorrectedImage (0028,0051)");
        says(pet(|header, _| put(header, tags::DECAY_CORRECTION, VR::CS, "NONE")), "DecayCorrection (0054,1102)");
        says(pet(|header, _| put(header, tags::UNITS, VR::CS, "PROPCPS")), "Units (0054,1001)");
        let lean = pet(|header, _| {
            put(header, tags::UNITS, VR::CS, "GML");
            put(header, tags::SUV_TYPE, VR::CS, "LBM");
        });
        says(lean, "SUVType (0054,1006)");
        says(pet(|header, _| put(header, tags::SERIES_TIME, VR::TM, "1200")), "start of the scan");
        says(pet(|header, _| put(header, tags::SERIES_TIME, VR::TM, "soon")), "a time");
        let late = pet(|_, drug| {
            put(drug, tags::RADIOPHARMACEUTICAL_START_DATE_TIME, VR::DT, "20240103093000");
        });
        says(late, "after the scan began");
    }
}
