//! Objects by their information object definition (PS3.3 A): of which type an attribute is there, for the compound actions of table
//! E.1-1, and which are never released.

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};

use super::held::Held;
use super::table::Basic;

/// What is common to IODs as far as the types of attributes with compound actions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Iod {
    /// CT, MR, CR, US, NM, SC, XA, RF and others with one module for all frames.
    Image,
    /// DX, MG, IO: with Acquisition Context.
    Projection,
    /// PET Image.
    Pet,
    /// Enhanced and other multi-frame images with functional groups.
    Enhanced,
    /// Segmentation, parametric map, surface segmentation, real world value mapping.
    Derived,
    /// Presentation states.
    Presentation,
    /// Structured reports and key object selections.
    Report,
    /// RT objects of the first generation.
    Radiotherapy,
    /// ECG and the like.
    Waveform,
    /// Any other of the standard.
    Other,
}

/// The type of an attribute (PS3.5 7.4). Conditional types count as if their condition held, since the attribute is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    One,
    Two,
    Three,
    Unknown,
}

impl Iod {
    /// That of a SOP class.
    ///
    /// # Errors
    /// Those whose objects are never released: what can be read or heard by people alone, and what is not of the standard.
    pub(super) fn of(sop_class: &str) -> Result<Self, Held> {
        let Some(rest) = sop_class.strip_prefix("1.2.840.10008.5.1.4.1.1.") else {
            return Err(match sop_class {
                "1.2.840.10008.1.3.10" => Held::Kind("a directory"),
                "" => Held::Attribute(tags::SOP_CLASS_UID),
                "1.2.840.10008.5.1.4.34.7" | "1.2.840.10008.5.1.4.34.10" => return Ok(Self::Other),
                _ => Held::Kind("a SOP class that is not a storage class of the standard"),
            });
        };
        match rest {
            "66" => return Err(Held::Kind("raw data")),
            "9.4.1" | "9.4.2" => return Err(Held::Kind("sound")),
            "77.1.1.1" | "77.1.2.1" | "77.1.4.1" => return Err(Held::Kind("video")),
            _ if rest.starts_with("104.") => return Err(Held::Kind("an encapsulated document")),
            _ => {}
        }
        Ok(match sop_class {
            uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE => Self::Pet,
            _ => match rest {
                "1" | "2" | "4" | "6.1" | "3.1" | "7" | "20" | "12.1" | "12.2" | "7.1" | "7.2" | "7.3" | "7.4" => {
                    Self::Image
                }
                "1.1" | "1.1.1" | "1.2" | "1.2.1" | "1.3" | "1.3.1" => Self::Projection,
                "2.1" | "2.2" | "4.1" | "4.2" | "4.3" | "4.4" | "6.2" | "12.1.1" | "12.2.1" | "13.1.1" | "13.1.2"
                | "13.1.3" | "130" | "128.1" | "77.1.6" => Self::Enhanced,
                "66.4" | "66.5" | "66.7" | "30" | "67" => Self::Derived,
                _ if rest.starts_with("11.") => Self::Presentation,
                _ if rest.starts_with("88.") => Self::Report,
                _ if rest.starts_with("481.") => Self::Radiotherapy,
                _ if rest.starts_with("9.") => Self::Waveform,
                _ => Self::Other,
            },
        })
    }

    fn type_of(self, tag: Tag) -> Type {
        use Iod::{Derived, Enhanced, Image, Other, Pet, Presentation, Projection, Radiotherapy, Report, Waveform};
        use Type::{One, Three, Two, Unknown};
        match (tag, self) {
            (_, Other) => Unknown,
            // PET Series, PET Image.
            (tags::SERIES_DATE | tags::SERIES_TIME, Pet) => One,
            (tags::ACQUISITION_DATE | tags::ACQUISITION_TIME, Pet) => Two,
            // General Series, General Equipment, SOP Common, General Acquisition.
            (tags::SERIES_DATE | tags::SERIES_TIME, _) => Three,
            (tags::ACQUISITION_DATE | tags::ACQUISITION_TIME, _) => Three,
            (tags::INSTANCE_CREATION_DATE | tags::INSTANCE_CREATION_TIME, _) => Three,
            (tags::INSTITUTION_NAME | tags::INSTITUTION_CODE_SEQUENCE | tags::STATION_NAME, _) => Three,
            (tags::OPERATOR_IDENTIFICATION_SEQUENCE, _) => Three,
            (tags::OPERATORS_NAME, Radiotherapy) => Two,
            (tags::OPERATORS_NAME, _) => Three,
            (tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Report) => Two,
            (tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Enhanced) => One,
            (tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, _) => Three,
            (tags::REFERENCED_STUDY_SEQUENCE, Report) => Two,
            (tags::REFERENCED_STUDY_SEQUENCE, _) => Three,
            (tags::REQUESTED_PROCEDURE_DESCRIPTION, _) => Three,
            (tags::PROTOCOL_NAME, Enhanced) => One,
            (tags::PROTOCOL_NAME, _) => Three,
            // Enhanced General Equipment.
            (tags::DEVICE_SERIAL_NUMBER, Enhanced | Derived) => One,
            (tags::DEVICE_SERIAL_NUMBER, _) => Three,
            // General Image, Multi-frame Functional Groups, SR Document General, Waveform Identification.
            (tags::CONTENT_DATE | tags::CONTENT_TIME, Image | Pet | Projection | Radiotherapy) => Two,
            (tags::CONTENT_DATE | tags::CONTENT_TIME, _) => One,
            (tags::ACQUISITION_DATE_TIME, Enhanced | Waveform) => One,
            (tags::ACQUISITION_DATE_TIME, _) => Three,
            (tags::ACQUISITION_CONTEXT_SEQUENCE, Projection | Enhanced | Waveform) => Two,
            (tags::ACQUISITION_CONTEXT_SEQUENCE, _) => Three,
            (tags::CONTRAST_BOLUS_AGENT, Image | Pet | Projection) => Two,
            // Content Identification.
            (tags::CONTENT_CREATOR_NAME, Derived | Presentation) => Two,
            // CR Image, DX Detector.
            (tags::ACQUISITION_DEVICE_PROCESSING_DESCRIPTION, Image | Projection) => Three,
            (tags::DETECTOR_ID, Image) => Three,
            (tags::DATE_OF_LAST_DETECTOR_CALIBRATION | tags::TIME_OF_LAST_DETECTOR_CALIBRATION, Image | Projection) => {
                Three
            }
            _ => Unknown,
        }
    }

    /// The simple action that a compound one comes to for an attribute of the data set itself, or of an item where the type is not
    /// looked up (`nested`): then what keeps any object valid.
    pub(super) fn resolve(self, tag: Tag, basic: Basic, nested: bool) -> Basic {
        let kind = if nested { Type::Unknown } else { self.type_of(tag) };
        match (basic, kind) {
            (Basic::XZ, Type::Three) | (Basic::XD, Type::Three) | (Basic::XZD, Type::Three) => Basic::X,
            // No IOD wants a value in these.
            (Basic::XZ, _) => Basic::Z,
            (Basic::ZD | Basic::XZD, Type::Two) => Basic::Z,
            (Basic::XD | Basic::ZD | Basic::XZD, _) => Basic::D,
            // References are kept, to the new UIDs, so that what belongs together still does.
            (Basic::XZU, _) => Basic::U,
            (simple, _) => simple,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compound_actions_follow_the_type_in_the_object() {
        let ct = Iod::of(uids::CT_IMAGE_STORAGE).expect("released");
        let pet = Iod::of(uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE).expect("released");
        let enhanced = Iod::of(uids::ENHANCED_CT_IMAGE_STORAGE).expect("released");
        let resolved = |iod: Iod, tag, basic| iod.resolve(tag, basic, false);
        assert_eq!(resolved(ct, tags::SERIES_DATE, Basic::XD), Basic::X);
        assert_eq!(resolved(pet, tags::SERIES_DATE, Basic::XD), Basic::D);
        assert_eq!(resolved(pet, tags::ACQUISITION_DATE, Basic::XZ), Basic::Z);
        assert_eq!(resolved(ct, tags::CONTENT_DATE, Basic::ZD), Basic::Z);
        assert_eq!(resolved(enhanced, tags::CONTENT_DATE, Basic::ZD), Basic::D);
        assert_eq!(resolved(enhanced, tags::DEVICE_SERIAL_NUMBER, Basic::XZD), Basic::D);
        assert_eq!(ct.resolve(tags::SERIES_DATE, Basic::XD, true), Basic::D, "within items the type is not known");
        assert_eq!(resolved(ct, tags::PATIENT_NAME, Basic::Z), Basic::Z);
    }

    #[test]
    fn documents_directories_sound_and_what_nobody_knows_are_not_released() {
        for uid in
            [uids::ENCAPSULATED_PDF_STORAGE, uids::RAW_DATA_STORAGE, "1.2.840.10008.1.3.10", "1.3.12.2.1107.5.9.1", ""]
        {
            assert!(Iod::of(uid).is_err(), "{uid}");
        }
    }
}
