//! Coded concepts that outputs use themselves, and how a code becomes a sequence item.

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::dataset::{put, sequence};
use crate::findings::Code;

/// A code known at compile time: value, scheme, meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known(pub(super) &'static str, pub(super) &'static str, pub(super) &'static str);

/// What was done to the source image (CID 7203).
pub(super) const SEGMENTATION: Known = Known("113076", "DCM", "Segmentation");
/// The same of a heatmap: what no code of CID 7203 says (CID 9231).
pub(super) const DETECTION: Known = Known("110004", "DCM", "Computer Aided Detection");
/// Why a source image is referred to (CID 7202).
pub(super) const SOURCE_IMAGE: Known = Known("121322", "DCM", "Source image for image processing operation");
/// Family of algorithms (CID 7162).
pub(super) const ARTIFICIAL_INTELLIGENCE: Known = Known("123110", "DCM", "Artificial Intelligence");

impl From<Known> for Code {
    fn from(known: Known) -> Self {
        Self::new(known.0, known.1, known.2)
    }
}

/// The item of a code sequence (PS3.3 section 8.8).
pub(super) fn item(code: &Code) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::CODE_VALUE, VR::SH, code.value.as_str());
    put(&mut item, tags::CODING_SCHEME_DESIGNATOR, VR::SH, code.scheme.as_str());
    put(&mut item, tags::CODE_MEANING, VR::LO, code.meaning.as_str());
    item
}

/// Puts a code sequence of one item.
pub(super) fn put_code(object: &mut InMemDicomObject, tag: dicom_core::Tag, code: &Code) {
    sequence(object, tag, vec![item(code)]);
}
