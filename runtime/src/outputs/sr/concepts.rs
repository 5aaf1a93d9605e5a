//! The concepts that the templates of PS3.16 call for, under the names they have there.

use crate::findings::Code;
use crate::outputs::codes::Known;

pub(super) const REPORT: Known = Known("126000", "DCM", "Imaging Measurement Report");
pub(super) const LANGUAGE: Known = Known("121049", "DCM", "Language of Content Item and Descendants");
pub(super) const ENGLISH: Known = Known("en", "RFC5646", "English");
pub(super) const PROCEDURE_REPORTED: Known = Known("121058", "DCM", "Procedure reported");

pub(super) const OBSERVER_TYPE: Known = Known("121005", "DCM", "Observer Type");
pub(super) const DEVICE: Known = Known("121007", "DCM", "Device");
pub(super) const DEVICE_UID: Known = Known("121012", "DCM", "Device Observer UID");
pub(super) const DEVICE_NAME: Known = Known("121013", "DCM", "Device Observer Name");
pub(super) const DEVICE_MANUFACTURER: Known = Known("121014", "DCM", "Device Observer Manufacturer");
pub(super) const DEVICE_MODEL: Known = Known("121015", "DCM", "Device Observer Model Name");
pub(super) const DEVICE_SERIAL: Known = Known("121016", "DCM", "Device Observer Serial Number");

pub(super) const IMAGE_LIBRARY: Known = Known("111028", "DCM", "Image Library");
pub(super) const IMAGE_LIBRARY_GROUP: Known = Known("126200", "DCM", "Image Library Group");
pub(super) const MODALITY: Known = Known("121139", "DCM", "Modality");
pub(super) const LATERALITY: Known = Known("111027", "DCM", "Image Laterality");
pub(super) const STUDY_DATE: Known = Known("111060", "DCM", "Study Date");
pub(super) const STUDY_TIME: Known = Known("111061", "DCM", "Study Time");
pub(super) const FRAME_OF_REFERENCE: Known = Known("112227", "DCM", "Frame of Reference UID");
pub(super) const ROWS: Known = Known("110910", "DCM", "Pixel Data Rows");
pub(super) const COLUMNS: Known = Known("110911", "DCM", "Pixel Data Columns");
pub(super) const SPACING_HORIZONTAL: Known = Known("111026", "DCM", "Horizontal Pixel Spacing");
pub(super) const SPACING_VERTICAL: Known = Known("111066", "DCM", "Vertical Pixel Spacing");
pub(super) const SPACING_SLICES: Known = Known("112226", "DCM", "Spacing between slices");
pub(super) const SLICE_THICKNESS: Known = Known("112225", "DCM", "Slice Thickness");
pub(super) const POSITION: [Known; 3] = [
    Known("110901", "DCM", "Image Position (Patient) X"),
    Known("110902", "DCM", "Image Position (Patient) Y"),
    Known("110903", "DCM", "Image Position (Patient) Z"),
];
pub(super) const ORIENTATION: [Known; 6] = [
    Known("110904", "DCM", "Image Orientation (Patient) Row X"),
    Known("110905", "DCM", "Image Orientation (Patient) Row Y"),
    Known("110906", "DCM", "Image Orientation (Patient) Row Z"),
    Known("110907", "DCM", "Image Orientation (Patient) Column X"),
    Known("110908", "DCM", "Image Orientation (Patient) Column Y"),
    Known("110909", "DCM", "Image Orientation (Patient) Column Z"),
];
pub(super) const PIXELS: Known = Known("{pixels}", "UCUM", "Pixels");
pub(super) const MILLIMETRE: Known = Known("mm", "UCUM", "mm");
pub(super) const COSINE: Known = Known("{-1:1}", "UCUM", "{-1:1}");

pub(super) const MEASUREMENTS: Known = Known("126010", "DCM", "Imaging Measurements");
pub(super) const EVALUATIONS: Known = Known("C0034375", "UMLS", "Qualitative Evaluations");
pub(super) const GROUP: Known = Known("125007", "DCM", "Measurement Group");
pub(super) const TRACKING_IDENTIFIER: Known = Known("112039", "DCM", "Tracking Identifier");
pub(super) const TRACKING_UID: Known = Known("112040", "DCM", "Tracking Unique Identifier");
pub(super) const FINDING_CATEGORY: Known = Known("276214006", "SCT", "Finding category");
pub(super) const FINDING: Known = Known("121071", "DCM", "Finding");
pub(super) const IMAGE_REGION: Known = Known("111030", "DCM", "Image Region");
pub(super) const REFERENCED_SEGMENT: Known = Known("121191", "DCM", "Referenced Segment");
pub(super) const SOURCE_SERIES: Known = Known("121232", "DCM", "Source series for segmentation");
pub(super) const ALGORITHM_NAME: Known = Known("111001", "DCM", "Algorithm Name");
pub(super) const ALGORITHM_VERSION: Known = Known("111003", "DCM", "Algorithm Version");
pub(super) const ALGORITHM_PARAMETERS: Known = Known("111002", "DCM", "Algorithm Parameters");
pub(super) const ALGORITHM_MANUFACTURER: Known = Known("122405", "DCM", "Algorithm Manufacturer");
pub(super) const ALGORITHM_FAMILY: Known = Known("111000", "DCM", "Algorithm Family");

pub(super) const PROBABILITY: Known = Known("122157", "DCM", "Probability");
pub(super) const DERIVATION: Known = Known("121401", "DCM", "Derivation");
pub(super) const MEAN: Known = Known("373098007", "SCT", "Mean");
pub(super) const NO_UNITS: Known = Known("1", "UCUM", "no units");
pub(super) const PRIORITY: Known = Known("260870009", "SCT", "Priority");
pub(super) const COMMENT: Known = Known("121106", "DCM", "Comment");

/// What CID 29 calls a modality, and the procedure that its images come from in CID 100.
///
/// A modality that is not here is not stated: a meaning that we made up would be none.
const MODALITIES: [(&str, &str, Known); 6] = [
    ("CT", "Computed Tomography", Known("25045-6", "LN", "CT unspecified body region")),
    ("MR", "Magnetic Resonance", Known("25056-3", "LN", "MRI unspecified body region")),
    ("NM", "Nuclear Medicine", Known("49118-3", "LN", "NM unspecified body region")),
    ("PT", "Positron emission tomography", Known("44136-0", "LN", "PET unspecified body region")),
    ("US", "Ultrasound", IMAGING),
    ("XA", "X-Ray Angiography", IMAGING),
];
const IMAGING: Known = Known("363679005", "SCT", "Imaging procedure");

/// Meanings of UCUM units (CID 7460 to 7462, 7181 and their like).
const UNITS: [(&str, &str); 12] = [
    ("1", "no units"),
    ("%", "Percent"),
    ("mm", "mm"),
    ("cm", "cm"),
    ("mm2", "square millimeter"),
    ("cm2", "square centimeter"),
    ("mm3", "cubic millimeter"),
    ("cm3", "cubic centimeter"),
    ("mL", "milliliter"),
    ("[hnsf'U]", "Hounsfield unit"),
    ("{ratio}", "ratio"),
    ("s", "second"),
];

/// The code of a side of the body (CID 244).
pub(super) fn laterality(side: &str) -> Option<Known> {
    match side {
        "R" => Some(Known("24028007", "SCT", "Right")),
        "L" => Some(Known("7771000", "SCT", "Left")),
        "B" => Some(Known("51440002", "SCT", "Bilateral")),
        _ => None,
    }
}

/// The code of a modality.
pub(super) fn modality(modality: &str) -> Option<Code> {
    let (value, meaning, _) = MODALITIES.iter().find(|(value, ..)| *value == modality)?;
    Some(Code::new(value, "DCM", meaning))
}

/// The procedure that images of a modality come from.
pub(super) fn procedure(modality: &str) -> Code {
    MODALITIES.iter().find(|(value, ..)| *value == modality).map_or(IMAGING, |(.., procedure)| *procedure).into()
}

/// The code of a UCUM unit; one that we do not know means itself.
pub(super) fn unit(unit: &str) -> Code {
    let meaning = UNITS.iter().find(|(value, _)| *value == unit).map_or(unit, |(_, meaning)| meaning);
    Code::new(unit, "UCUM", meaning)
}
