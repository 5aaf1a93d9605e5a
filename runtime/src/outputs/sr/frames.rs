//! The report of a stream: what was concluded and measured, each with the frames that show it (Referenced Frame Number,
//! 0008,1160), as evaluations of the same report that studies have.
//!
//! ```text
//! Imaging Measurement Report ── language, observer (the module), procedure reported
//!  ├─ Image Library ── the image of several frames
//!  └─ Qualitative Evaluations
//!      ├─ Finding ── its algorithm, its probability, the frames that show it
//!      └─ a number ── the frames that it was measured in
//! ```

use dicom_dictionary_std::{tags, uids as dictionary};
use dicom_object::{FileDicomObject, FileMetaTableBuilder, InMemDicomObject};

use super::concepts as c;
use super::content::Item;
use super::{Document, OUTPUT, SrError, by_algorithm, classification, library, number, observer, put_document};
use crate::findings::frames::StreamSummary;
use crate::findings::{Classification, Measurement};
use crate::outputs::dataset::{self, sequence};
use crate::outputs::{ModuleInfo, OutputUids, Source, Stamp};

/// The report of what was said of the stream that `source` is.
///
/// # Errors
/// See [`SrError`].
pub fn frames_report(
    summary: &StreamSummary,
    source: &Source<'_>,
    module: &ModuleInfo,
    uids: &OutputUids,
    stamp: &Stamp,
) -> Result<FileDicomObject<InMemDicomObject>, SrError> {
    if summary.conclusions.is_empty() && summary.quantities.is_empty() {
        return Err(SrError::Empty);
    }
    let shown = |item: Item, frames: &[u32]| match source.instance(0) {
        Some(image) if !frames.is_empty() => {
            let numbers = frames.iter().copied();
            item.inferred_from(Item::frames(&image.sop_class_uid, &image.sop_instance_uid, numbers))
        }
        _ => item,
    };
    let found = summary.conclusions.iter().map(|stated| {
        let item = Classification { finding: stated.finding.clone(), probability: stated.probability };
        shown(by_algorithm(module, classification(&item)), &stated.frames)
    });
    let measured = summary.quantities.iter().map(|stated| {
        let (quantity, unit) = (stated.quantity.clone(), stated.unit.clone());
        shown(number(&Measurement { quantity, value: stated.value, unit, segment: None }), &stated.frames)
    });
    let root = Item::container(c::REPORT).modified_by(Item::code(c::LANGUAGE, c::ENGLISH));
    let mut root = observer(module)
        .into_iter()
        .fold(root, Item::observed_in)
        .modified_by(Item::code(c::PROCEDURE_REPORTED, c::procedure(&source.series.modality)))
        .contains(library::unplaced(source))
        .contains(Item::container(c::EVALUATIONS).contains_all(found.chain(measured)));
    let mut object = dataset::in_study_of(source);
    let mut module = module.clone();
    let named = [&mut module.name, &mut module.version, &mut module.vendor, &mut module.title];
    dataset::fit_characters(&mut object, named.into_iter().chain(root.texts()));
    dataset::put_instance(&mut object, dictionary::COMPREHENSIVE3_DSR_STORAGE, &uids.instance(OUTPUT), stamp);
    let description = dataset::described(&module.title, &module);
    dataset::put_series(&mut object, source, "SR", &uids.series(OUTPUT), &description, 2);
    sequence(&mut object, tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, vec![]);
    dataset::put_equipment(&mut object, &module);
    put_document(&mut object, &Document { sources: vec![source], seg: None, predecessor: None });
    root.put_into(&mut object);
    let meta = FileMetaTableBuilder::new().transfer_syntax(dictionary::EXPLICIT_VR_LITTLE_ENDIAN);
    object.with_meta(meta).map_err(|e| SrError::Meta(e.to_string()))
}
