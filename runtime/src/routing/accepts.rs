//! Which series a module can work on: the one place that decides, for a run as for an explanation.

use std::fmt::Display;

use crate::module::manifest::{Accepts, Contrast, Orientation};
use crate::study::{Series, VolumeLayout, is_code};

/// What one key of `[accepts]` says of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The key.
    pub key: &'static str,
    /// Whether the series fits.
    pub fits: bool,
    /// Why, for people. Of the images only codes, UIDs and lengths are in it: other text may hold anybody's name.
    pub reason: String,
}

/// Why a series is not for the module, if so: the first key that it does not fit.
#[must_use]
pub fn refusal(accepts: &Accepts, series: &Series) -> Option<String> {
    verdicts(accepts, series).into_iter().find(|verdict| !verdict.fits).map(|verdict| verdict.reason)
}

/// Every key that is set, in the order of the manifest. Those of the volume are left out where there is none.
#[must_use]
pub fn verdicts(accepts: &Accepts, series: &Series) -> Vec<Verdict> {
    let mut verdicts = vec![modality(accepts, series)];
    match (&series.refused, largest(series)) {
        (Some(reason), _) => verdicts.push(Verdict { key: "volume", fits: false, reason: reason.to_string() }),
        (None, largest) => {
            let slices = largest.map_or(0, |volume| volume.slices.len());
            verdicts.extend(slice_count(accepts, slices));
        }
    }
    verdicts.extend(accepts.sop_class.as_ref().map(|classes| sop_class(classes, series)));
    verdicts.extend(accepts.body_part.as_ref().map(|parts| body_part(parts, series)));
    if let Some(volume) = largest(series) {
        let first = volume.slices.first().and_then(|first| series.instances.get(*first));
        verdicts.extend(geometry(accepts, volume, first.is_some_and(|first| first.unplaced)));
    }
    verdicts.extend(accepts.contrast.and_then(|wanted| contrast(wanted, series)));
    for (key, keyword, patterns) in
        [("manufacturer", "Manufacturer", &accepts.manufacturer), ("model", "ManufacturerModelName", &accepts.model)]
    {
        verdicts.extend(patterns.as_ref().map(|patterns| text(key, keyword, patterns, series)));
    }
    verdicts
}

/// The volume that a module is meant for when a series has several.
fn largest(series: &Series) -> Option<&VolumeLayout> {
    series.volumes.iter().max_by_key(|volume| volume.slices.len())
}

fn modality(accepts: &Accepts, series: &Series) -> Verdict {
    let expected = accepts.modality.join(" or ");
    let fits = accepts.modality.contains(&series.modality);
    let reason = match (fits, is_code(&series.modality)) {
        (true, _) => format!("modality {} is {expected}", series.modality),
        // Only a code is for a message: anything else may be anything, also a name or what a terminal obeys.
        (false, true) => format!("modality {} is not {expected}", series.modality),
        (false, false) => format!("another modality than {expected}"),
    };
    Verdict { key: "modality", fits, reason }
}

fn slice_count(accepts: &Accepts, slices: usize) -> Vec<Verdict> {
    let min = accepts.slices_min;
    let least = bound("slices_min", slices >= min, &format!("{slices} slices"), ("at least", "fewer than"), min);
    let most = accepts
        .slices_max
        .map(|max| bound("slices_max", slices <= max, &format!("{slices} slices"), ("at most", "more than"), max));
    std::iter::once(least).chain(most).collect()
}

fn bound(key: &'static str, fits: bool, what: &str, words: (&str, &str), limit: impl Display) -> Verdict {
    let word = if fits { words.0 } else { words.1 };
    Verdict { key, fits, reason: format!("{what} are {word} {key} = {limit}") }
}

fn sop_class(classes: &[String], series: &Series) -> Verdict {
    let other = series.instances.iter().map(|i| &i.sop_class_uid).find(|class| !classes.contains(class));
    let reason = match other {
        None => "SOP class is one of sop_class".into(),
        Some(other) => format!("SOP class {other} is none of sop_class"),
    };
    Verdict { key: "sop_class", fits: other.is_none(), reason }
}

fn body_part(parts: &[String], series: &Series) -> Verdict {
    let expected = parts.join(" or ");
    let stated = series.attribute("BodyPartExamined");
    let fits = stated.as_ref().is_some_and(|stated| parts.contains(stated));
    let reason = match stated {
        Some(stated) if fits => format!("body part {stated} is {expected}"),
        Some(stated) if is_code(&stated) => format!("body part {stated} is not {expected}"),
        Some(_) => format!("another body part than {expected}"),
        None => format!("no body part is stated, and {expected} is expected"),
    };
    Verdict { key: "body_part", fits, reason }
}

fn geometry(accepts: &Accepts, volume: &VolumeLayout, unplaced: bool) -> Vec<Verdict> {
    // Positions are decimal text: their differences are not exact.
    const TOLERANCE: f64 = 1e-3;
    let ([x, y, z], unstated) = (volume.geometry.spacing(), volume.unstated);
    let mut verdicts = Vec::new();
    for (key, what, spacing, unstated, limit) in [
        ("spacing_max_mm", "slices", z, unstated.slices, accepts.spacing_max_mm),
        ("pixel_spacing_max_mm", "pixels", x.max(y), unstated.pixels, accepts.pixel_spacing_max_mm),
    ] {
        if let Some(limit) = limit.filter(|_| unstated) {
            let reason = format!("nothing says how far apart {what} lie, and {key} = {limit} mm is asked for");
            verdicts.push(Verdict { key, fits: false, reason });
        } else if let Some(limit) = limit {
            let fits = spacing <= limit * (1.0 + TOLERANCE);
            verdicts.push(bound(
                key,
                fits,
                &format!("{what} {spacing:.3} mm apart"),
                ("within", "further than"),
                limit,
            ));
        }
    }
    if let Some(wanted) = &accepts.orientation {
        let found = orientation(volume);
        let expected = wanted.iter().map(|o| o.name()).collect::<Vec<_>>().join(" or ");
        let fits = wanted.contains(&found) && !unplaced;
        let reason = match fits {
            false if unplaced => format!("an image without a place in the patient is not {expected}"),
            true => format!("slices are {expected}"),
            false => format!("slices are {}, not {expected}", found.name()),
        };
        verdicts.push(Verdict { key: "orientation", fits, reason });
    }
    verdicts
}

/// The plane that the slices are nearest to, by the largest part of their normal.
fn orientation(volume: &VolumeLayout) -> Orientation {
    let [_, _, [x, y, z]] = volume.geometry.axes();
    let (x, y, z) = (x.abs(), y.abs(), z.abs());
    match () {
        () if z >= x && z >= y => Orientation::Axial,
        () if y >= x => Orientation::Coronal,
        () => Orientation::Sagittal,
    }
}

fn contrast(wanted: Contrast, series: &Series) -> Option<Verdict> {
    let wanted = match wanted {
        Contrast::Any => return None,
        Contrast::With => true,
        Contrast::Without => false,
    };
    // Scanners write these words where nothing was given.
    let none =
        |agent: &str| ["", "NO", "NONE", "NO CONTRAST", "WITHOUT"].contains(&agent.trim().to_uppercase().as_str());
    let given = series.attribute("ContrastBolusAgent").is_some_and(|agent| !none(&agent))
        || series.attribute("ContrastBolusVolume").is_some()
        || series.has_items("ContrastBolusAgentSequence");
    let said = if given { "the images name a contrast agent" } else { "the images name no contrast agent" };
    let expected = if wanted { "with" } else { "without" };
    Some(Verdict { key: "contrast", fits: given == wanted, reason: format!("{said}; contrast = {expected}") })
}

fn text(key: &'static str, keyword: &str, patterns: &[String], series: &Series) -> Verdict {
    let stated = series.attribute(keyword);
    let fits = stated.as_ref().is_some_and(|stated| patterns.iter().any(|pattern| matches(pattern, stated)));
    let expected = patterns.join(" or ");
    let reason = match (fits, stated.is_some()) {
        (true, _) => format!("{keyword} is {expected}"),
        (false, true) => format!("{keyword} is another than {expected}"),
        (false, false) => format!("{keyword} is not stated, and {expected} is expected"),
    };
    Verdict { key, fits, reason }
}

/// Whether `text` is what `pattern` says: `*` stands for any text and `?` for any character; case does not count.
///
/// In time that grows with the product of the two lengths at most: a pattern cannot be made to take longer.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    let skip_stars = |reached: &mut Vec<bool>| {
        for (at, c) in pattern.iter().enumerate() {
            if *c == '*' && reached[at] {
                reached[at + 1] = true;
            }
        }
    };
    skip_stars(&mut reached);
    for c in text.to_lowercase().chars() {
        let mut next = vec![false; pattern.len() + 1];
        for (at, p) in pattern.iter().enumerate().filter(|(at, _)| reached[*at]) {
            match p {
                '*' => next[at] = true,
                '?' => next[at + 1] = true,
                p if *p == c => next[at + 1] = true,
                _ => {}
            }
        }
        skip_stars(&mut next);
        reached = next;
    }
    reached[pattern.len()]
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use dicom_core::VR;
    use dicom_dictionary_std::tags;
    use dicom_object::InMemDicomObject;

    use super::*;
    use crate::geometry::Geometry;
    use crate::study::{Instance, ReadError, Unstated};

    /// A CT of the abdomen, ten slices 5 mm apart.
    pub(in crate::routing) fn series() -> Series {
        let mut header = InMemDicomObject::new_empty();
        for (tag, vr, value) in [
            (tags::BODY_PART_EXAMINED, VR::CS, "ABDOMEN"),
            (tags::MANUFACTURER, VR::LO, "SIEMENS"),
            (tags::MANUFACTURER_MODEL_NAME, VR::LO, "Sensation 64"),
            (tags::PATIENT_NAME, VR::PN, "Secret^Person"),
        ] {
            header.put_str(tag, vr, value);
        }
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let geometry = Geometry::new([16, 16, 10], [0.7, 0.8, 5.0], [0.0; 3], axes).expect("a grid");
        let mut instance = Instance::default();
        instance.sop_class_uid.push_str("1.2.840.10008.5.1.4.1.1.2");
        Series {
            uid: "2.25.3".into(),
            modality: "CT".into(),
            header,
            instances: vec![instance; 10],
            volumes: vec![VolumeLayout::new(geometry, (0..10).collect())],
            refused: None,
        }
    }

    pub(in crate::routing) fn accepts(more: &str) -> Accepts {
        toml::from_str(&format!("modality = [\"CT\"]\n{more}")).expect("keys of [accepts]")
    }

    fn says(more: &str, series: &Series) -> String {
        refusal(&accepts(more), series).unwrap_or_else(|| "fits".into())
    }

    #[test]
    fn a_series_fits_when_every_key_that_is_set_says_so() {
        let whole = "slices_min = 10\nslices_max = 10\nsop_class = [\"1.2.840.10008.5.1.4.1.1.2\"]\n\
                     body_part = [\"CHEST\", \"ABDOMEN\"]\nspacing_max_mm = 5\npixel_spacing_max_mm = 0.8\n\
                     contrast = \"without\"\norientation = [\"axial\"]\nmanufacturer = [\"siemens*\"]\n\
                     model = [\"Sensation ??\"]";
        assert_eq!(says(whole, &series()), "fits");
        assert_eq!(verdicts(&accepts(whole), &series()).len(), 11, "one for each key");
        assert!(verdicts(&accepts(whole), &series()).iter().all(|v| !v.reason.contains("Secret")));
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_key() {
        let ct = series();
        for (key, expected) in [
            ("slices_min = 11", "10 slices are fewer than slices_min = 11"),
            ("slices_max = 9", "10 slices are more than slices_max = 9"),
            ("sop_class = [\"1.2.840.10008.5.1.4.1.1.4\"]", "SOP class 1.2.840.10008.5.1.4.1.1.2 is none of sop_class"),
            ("body_part = [\"CHEST\"]", "body part ABDOMEN is not CHEST"),
            ("spacing_max_mm = 3", "slices 5.000 mm apart are further than spacing_max_mm = 3"),
            ("pixel_spacing_max_mm = 0.7", "pixels 0.800 mm apart are further than pixel_spacing_max_mm = 0.7"),
            ("contrast = \"with\"", "the images name no contrast agent; contrast = with"),
            ("contrast = \"any\"", "fits"),
            ("orientation = [\"coronal\"]", "slices are axial, not coronal"),
            ("manufacturer = [\"GE*\"]", "Manufacturer is another than GE*"),
            ("model = [\"Sensation\"]", "ManufacturerModelName is another than Sensation"),
        ] {
            assert_eq!(says(key, &ct), expected, "{key}");
        }
        let mut nowhere = series();
        nowhere.instances.iter_mut().for_each(|image| image.unplaced = true);
        let said = says("orientation = [\"axial\"]", &nowhere);
        assert_eq!(said, "an image without a place in the patient is not axial");
        // The 1 mm that stands for what nobody knows fits no rule.
        let mut unknown = series();
        unknown.volumes[0].unstated = Unstated { pixels: true, slices: true };
        for (key, what) in [("spacing_max_mm", "slices"), ("pixel_spacing_max_mm", "pixels")] {
            let said = says(&format!("{key} = 100"), &unknown);
            assert_eq!(said, format!("nothing says how far apart {what} lie, and {key} = 100 mm is asked for"));
        }
        assert_eq!(says("", &unknown), "fits");
    }

    #[test]
    fn words_that_scanners_write_for_none_are_no_agent() {
        let mut ct = series();
        ct.header.put_str(tags::CONTRAST_BOLUS_AGENT, VR::LO, "None ");
        assert_eq!(says("contrast = \"without\"", &ct), "fits");
        ct.header.put_str(tags::CONTRAST_BOLUS_AGENT, VR::LO, "Iodine");
        assert_eq!(says("contrast = \"with\"", &ct), "fits");
    }

    #[test]
    fn a_series_without_a_volume_says_why() {
        let refused = Some(Arc::new(ReadError::NoVolume("a gap".into())));
        let ct = Series { volumes: vec![], refused, ..series() };
        assert_eq!(says("spacing_max_mm = 1", &ct), "a gap");
        let other = Series { modality: "no code^".into(), ..series() };
        assert_eq!(says("", &other), "another modality than CT");
    }

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("?", "", false),
            ("a*c", "ABBC", true),
            ("a*c", "abcd", false),
            ("*a*b*", "xxaxxbxx", true),
            ("a?c", "äc", false),
            ("abc", "abc", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(32), &"a".repeat(31)));
    }
}
