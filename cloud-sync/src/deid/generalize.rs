//! Characteristics of patients, capped and coarse.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::dates;
use super::profile::Profile;
use super::report::Action;
use super::values::Attribute;

/// What a value of a characteristic that is retained becomes, and why; `None` where it cannot stay. Other attributes stay as they
/// are.
pub(super) fn characteristic(profile: &Profile, tag: Tag, value: &str) -> Option<(String, Option<Action>)> {
    let bands = profile.generalize;
    let value = value.trim_matches([' ', '\0']);
    match tag {
        tags::PATIENT_AGE => age(profile, value),
        tags::PATIENT_SIZE if bands.size_cm > 0 => {
            let centimetres = middle(value.parse::<f64>().ok()? * 100.0, bands.size_cm)?;
            Some((format!("{:.3}", centimetres / 100.0), Some(Action::Generalized)))
        }
        tags::PATIENT_WEIGHT if bands.weight_kg > 0 => {
            Some((format!("{:.1}", middle(value.parse().ok()?, bands.weight_kg)?), Some(Action::Generalized)))
        }
        _ => Some((value.to_owned(), None)),
    }
}

/// An age of any attribute.
pub(super) fn age(profile: &Profile, value: &str) -> Option<(String, Option<Action>)> {
    let years = dates::years(value).filter(|_| value.len() == 4)?;
    let most = i64::from(profile.age_years_max);
    match (i64::from(profile.generalize.age_years), years > most) {
        (0, false) => Some((value.to_owned(), None)),
        (0, true) => Some((format!("{most:03}Y"), Some(Action::Capped))),
        (band, capped) => {
            let years = years.min(most) / band * band;
            Some((format!("{years:03}Y"), Some(if capped { Action::Capped } else { Action::Generalized })))
        }
    }
}

/// The middle of the band in which a number lies.
fn middle(number: f64, band: u8) -> Option<f64> {
    let band = f64::from(band);
    (0.0..1e6).contains(&number).then(|| (number / band).floor() * band + band / 2.0)
}

impl Profile {
    /// What a single value of this characteristic is once it leaves; `None` where it does not.
    pub(crate) fn generalized(&self, attribute: &Attribute, value: &str) -> Option<String> {
        characteristic(self, attribute.tag()?, value).map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::Generalize;
    use super::*;

    #[test]
    fn bands_have_one_value() {
        let generalize = Generalize { age_years: 10, size_cm: 10, weight_kg: 10 };
        let profile = Profile { generalize, ..Profile::default() };
        let of = |tag, value| characteristic(&profile, tag, value).map(|(value, _)| value);
        assert_eq!(of(tags::PATIENT_AGE, "047Y").as_deref(), Some("040Y"));
        assert_eq!(of(tags::PATIENT_AGE, "007M").as_deref(), Some("000Y"));
        assert_eq!(of(tags::PATIENT_AGE, "101Y").as_deref(), Some("090Y"));
        assert_eq!(of(tags::PATIENT_SIZE, "1.79 ").as_deref(), Some("1.750"));
        assert_eq!(of(tags::PATIENT_WEIGHT, "80").as_deref(), Some("85.0"));
        assert_eq!(of(tags::PATIENT_WEIGHT, "heavy"), None);
        assert_eq!(of(tags::PATIENT_WEIGHT, "-1"), None);
        assert_eq!(of(tags::PATIENT_AGE, "47"), None);
        assert_eq!(of(tags::PATIENT_SEX, "F ").as_deref(), Some("F"));
    }
}
