//! What a site chooses: the Basic Profile of PS3.15 Annex E, its options, and what happens to what stays doubtful.

use serde::{Deserialize, Serialize};

/// A profile. What is not named is the strictest: the Basic Profile alone, and all that is doubtful is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Stands in De-identification Method (0012,0063): at most 48 letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Retain UIDs Option (E.3.9).
    pub retain_uids: bool,
    /// Retain Device Identity Option (E.3.8).
    pub retain_device_identity: bool,
    /// Retain Institution Identity Option (E.3.11).
    pub retain_institution_identity: bool,
    /// Retain Patient Characteristics Option (E.3.7): sex, age (capped), size, weight and the like.
    pub retain_patient_characteristics: bool,
    /// Dates and times: removed, or one of the two Retain Longitudinal Temporal Information Options (E.3.6).
    pub dates: Dates,
    /// Retain Safe Private Option (E.3.10): what the standard's list or the object itself calls safe.
    pub retain_safe_private: bool,
    /// Clean Descriptors Option (E.3.5): descriptions stay, without what identifies.
    pub clean_descriptors: bool,
    /// Clean Structured Content Option (E.3.4): items of structured reports stay, cleaned.
    pub clean_structured_content: bool,
    /// Clean Graphics Option (E.3.3): annotations of presentation states stay, cleaned; overlays where a detector saw no text.
    pub clean_graphics: bool,
    /// Clean Pixel Data Option (E.3.1): every image that may show text is masked or looked at, or held.
    pub clean_pixel_data: bool,
    /// Clean Recognizable Visual Features Option (E.3.2): nothing here alters faces, so heads are held whatever `pixels.head` is.
    pub clean_recognizable_visual_features: bool,
    /// Free text of which, once cleaned, it cannot be said whether it names somebody.
    pub unclear_text: Unclear,
    /// Ages above this become this: 1 to 90 years.
    pub age_years_max: u8,
    /// How far dates are moved at most into the past, with `dates = "shift"`: 7 to 36500 days.
    pub date_shift_days_max: u32,
    /// How coarse characteristics of the patient become that are retained.
    pub generalize: Generalize,
    /// Pixel data.
    pub pixels: Pixels,
    /// What a file may be.
    pub limits: Limits,
}

/// Bands that characteristics of the patient are moved to, so that more patients share them; 0 leaves them as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Generalize {
    /// Patient's Age (0010,1010) becomes the first of so many years, 0 to 30.
    pub age_years: u8,
    /// Patient's Size (0010,1020) becomes the middle of so many centimetres, 0 to 50.
    pub size_cm: u8,
    /// Patient's Weight (0010,1030) becomes the middle of so many kilograms, 0 to 50.
    pub weight_kg: u8,
}

/// What becomes of dates and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dates {
    /// Basic Profile: removed, emptied or replaced.
    #[default]
    Remove,
    /// With Modified Dates: moved by a number of days of the patient's own. Intervals and times of day stay.
    Shift,
    /// With Full Dates.
    Keep,
}

/// What becomes of text that cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unclear {
    /// The instance stays in the hospital.
    Hold,
    /// The doubtful words are taken out.
    #[default]
    Drop,
}

/// What becomes of images that may show text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risky {
    /// What no mask and no detector makes safe stays, and so does what a detector found text in.
    #[default]
    Hold,
    /// Text that a detector finds is blacked out; without a detector as `hold`.
    Mask,
}

/// What becomes of heads in CT and MR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Head {
    /// They stay.
    #[default]
    Hold,
    /// They leave, with Recognizable Visual Features (0028,0302) `YES`.
    Allow,
}

/// Rules for pixel data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pixels {
    /// `false`: pixel data, overlays and waveforms are left out, and no image is held for what it may show.
    pub keep: bool,
    /// Images that may show text.
    pub risky: Risky,
    /// Whether Burned In Annotation (0028,0301) `NO` is believed of projection radiographs. It is never believed of ultrasound,
    /// captures and photographs.
    pub believe_no_burned_in: bool,
    /// Heads.
    pub head: Head,
    /// CT and MR of which nothing says which part of the body they show are taken for heads.
    pub unknown_body_part_is_head: bool,
    /// What is known of devices, at most 1024: the first that fits counts.
    pub known_devices: Vec<KnownDevice>,
}

/// Where images of a device show text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownDevice {
    /// Manufacturer (0008,0070), without regard to case.
    pub manufacturer: String,
    /// Manufacturer's Model Name (0008,1090), without regard to case.
    pub model: String,
    /// Modality (0008,0060).
    pub modality: String,
    /// Rows (0028,0010).
    pub rows: u16,
    /// Columns (0028,0011).
    pub columns: u16,
    /// What is blacked out; nothing where images of this device and size are known to show no text.
    #[serde(default)]
    pub masks: Vec<Rectangle>,
}

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rectangle {
    /// First column, from 0.
    pub x: u32,
    /// First row, from 0.
    pub y: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// What a file may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Of a file, and of a data set once inflated: 1 to 65536 MiB.
    pub file_max_mib: u64,
    /// How deep sequences nest: 1 to 64 levels.
    pub sequence_depth_max: usize,
    /// Elements and items of an instance: 1000 to 100000000.
    pub elements_max: usize,
    /// Of a text that is cleaned; longer ones count as doubtful: 1 to 65536 KiB.
    pub text_max_kib: u64,
    /// Frames of an instance that is looked at or masked: 1 to 1000000.
    pub frames_max: usize,
    /// Pixels of such a frame, and of a plane of an overlay, which a detector holds several times: 65536 to 1000000000.
    pub frame_pixels_max: u64,
    /// Planes of all overlays of an instance that are looked at: 1 to 1000000.
    pub overlay_planes_max: usize,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "basic".into(),
            retain_uids: false,
            retain_device_identity: false,
            retain_institution_identity: false,
            retain_patient_characteristics: false,
            dates: Dates::Remove,
            retain_safe_private: false,
            clean_descriptors: false,
            clean_structured_content: false,
            clean_graphics: false,
            clean_pixel_data: false,
            clean_recognizable_visual_features: false,
            unclear_text: Unclear::Drop,
            age_years_max: 90,
            date_shift_days_max: 3650,
            generalize: Generalize::default(),
            pixels: Pixels::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Pixels {
    fn default() -> Self {
        Self {
            keep: true,
            risky: Risky::Hold,
            believe_no_burned_in: true,
            head: Head::Hold,
            unknown_body_part_is_head: false,
            known_devices: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_max_mib: 4096,
            sequence_depth_max: 16,
            elements_max: 4_000_000,
            text_max_kib: 1024,
            frames_max: 10_000,
            frame_pixels_max: 32 << 20,
            overlay_planes_max: 1000,
        }
    }
}

/// The profile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not TOML, a key that there is not, or a value of another kind.
    #[error("{0}")]
    Toml(String),
    /// A value out of its range.
    #[error("{key} must be {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// No preset of this name.
    #[error(
        "there is no profile of this name: {0}; name `basic`, `qa-minimal`, `retraining`, `metadata-only` or a TOML file"
    )]
    Preset(String),
}

impl Profile {
    /// The presets, by name: `basic`; `qa-minimal`, to watch quality; `retraining`, which keeps what models learn from;
    /// `metadata-only`, without pixels.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn preset(name: &str) -> Result<Self, ProfileError> {
        let shared = Self {
            name: name.into(),
            dates: Dates::Shift,
            clean_descriptors: true,
            clean_structured_content: true,
            clean_pixel_data: true,
            ..Self::default()
        };
        match name {
            "basic" => Ok(Self::default()),
            "qa-minimal" => Ok(shared),
            "retraining" => Ok(Self {
                retain_device_identity: true,
                retain_patient_characteristics: true,
                retain_safe_private: true,
                clean_graphics: true,
                pixels: Pixels { risky: Risky::Mask, ..Pixels::default() },
                ..shared
            }),
            "metadata-only" => Ok(Self {
                retain_device_identity: true,
                clean_pixel_data: false,
                pixels: Pixels { keep: false, ..Pixels::default() },
                ..shared
            }),
            _ => Err(ProfileError::Preset(name.into())),
        }
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// Where it is none, or a value is out of its range.
    pub fn from_toml(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text).map_err(|e| ProfileError::Toml(e.to_string()))?;
        profile.check()?;
        Ok(profile)
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), ProfileError> {
        let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let limits = &self.limits;
        let rules = [
            (
                "name",
                (1..=48).contains(&self.name.len()) && self.name.chars().all(named),
                "1 to 48 of a-z, 0-9, -, _ and .",
            ),
            ("age_years_max", (1..=90).contains(&self.age_years_max), "1 to 90"),
            ("date_shift_days_max", (7..=36_500).contains(&self.date_shift_days_max), "7 to 36500"),
            ("generalize.age_years", self.generalize.age_years <= 30, "0 to 30"),
            ("generalize.size_cm", self.generalize.size_cm <= 50, "0 to 50"),
            ("generalize.weight_kg", self.generalize.weight_kg <= 50, "0 to 50"),
            ("pixels.known_devices", self.pixels.known_devices.len() <= 1024, "at most 1024"),
            ("limits.file_max_mib", (1..=65_536).contains(&limits.file_max_mib), "1 to 65536"),
            ("limits.sequence_depth_max", (1..=64).contains(&limits.sequence_depth_max), "1 to 64"),
            ("limits.elements_max", (1_000..=100_000_000).contains(&limits.elements_max), "1000 to 100000000"),
            ("limits.text_max_kib", (1..=65_536).contains(&limits.text_max_kib), "1 to 65536"),
            ("limits.frames_max", (1..=1_000_000).contains(&limits.frames_max), "1 to 1000000"),
            (
                "limits.frame_pixels_max",
                (65_536..=1_000_000_000).contains(&limits.frame_pixels_max),
                "65536 to 1000000000",
            ),
            ("limits.overlay_planes_max", (1..=1_000_000).contains(&limits.overlay_planes_max), "1 to 1000000"),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((key, _, range)) => Err(ProfileError::Range { key, range }),
            None => Ok(()),
        }
    }

    /// The codes of CID 7050 that say what was done, with their meanings.
    pub(super) fn codes(&self) -> Vec<(&'static str, &'static str)> {
        let all = [
            (true, "113100", "Basic Application Confidentiality Profile"),
            (self.clean_pixel_data, "113101", "Clean Pixel Data Option"),
            (self.clean_recognizable_visual_features, "113102", "Clean Recognizable Visual Features Option"),
            (self.clean_graphics, "113103", "Clean Graphics Option"),
            (self.clean_structured_content, "113104", "Clean Structured Content Option"),
            (self.clean_descriptors, "113105", "Clean Descriptors Option"),
            (self.dates == Dates::Keep, "113106", "Retain Longitudinal Temporal Information Full Dates Option"),
            (self.dates == Dates::Shift, "113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
            (self.retain_patient_characteristics, "113108", "Retain Patient Characteristics Option"),
            (self.retain_device_identity, "113109", "Retain Device Identity Option"),
            (self.retain_uids, "113110", "Retain UIDs Option"),
            (self.retain_safe_private, "113111", "Retain Safe Private Option"),
            (self.retain_institution_identity, "113112", "Retain Institution Identity Option"),
        ];
        all.into_iter().filter(|(done, ..)| *done).map(|(_, value, meaning)| (value, meaning)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_profiles_and_can_be_written_down() {
        for name in ["basic", "qa-minimal", "retraining", "metadata-only"] {
            let preset = Profile::preset(name).expect("a preset");
            assert_eq!(preset.name, name);
            assert_eq!(preset.check(), Ok(()));
            let text = toml::to_string(&preset).expect("it serializes");
            assert_eq!(Profile::from_toml(&text).as_ref(), Ok(&preset));
        }
        assert!(Profile::preset("everything").is_err());
    }

    #[test]
    fn what_is_not_named_is_strict_and_what_is_unknown_refused() {
        let profile = Profile::from_toml("").expect("an empty profile");
        assert_eq!(profile, Profile::default());
        assert_eq!(profile.codes().len(), 1);
        for wrong in ["retain_uid = true", "age_years_max = 91", "[limits]\nsequence_depth_max = 0", "name = \"a b\""] {
            assert!(Profile::from_toml(wrong).is_err(), "{wrong}");
        }
    }
}
