//! One instance, from bytes to bytes.

use std::borrow::Cow;
use std::io::Read;

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::act::{Work, code};
use super::held::Held;
use super::iod::Iod;
use super::parse::{self, DataSet, Element, Item, Syntax, Value, ascii, find};
use super::pixels::{self, Treated, put};
use super::profile::{Dates, Limits};
use super::report::{Action, Report};
use super::sealed::{Deidentified, Instance, Names};
use super::subject::Subject;
use super::{Deidentifier, write};

/// A data set in plain bytes: where it starts in them, and its transfer syntax.
pub(super) struct Plain<'a> {
    pub(super) meta: DataSet<'a>,
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) start: usize,
    pub(super) syntax: Syntax,
}

pub(super) fn plain<'a>(file: &'a [u8], limits: &Limits) -> Result<Plain<'a>, Held> {
    let maximum = limits.file_max_mib;
    if file.len() as u64 > maximum << 20 {
        return Err(Held::Limit { limit: "file_max_mib", maximum });
    }
    let (meta, start) = parse::meta(file, limits)?;
    let syntax = Syntax::of(ascii(find(&meta, tags::TRANSFER_SYNTAX_UID))).ok_or(Held::TransferSyntax)?;
    if !syntax.deflated {
        return Ok(Plain { meta, bytes: Cow::Borrowed(file), start, syntax });
    }
    let mut bytes = Vec::new();
    let deflated = file.get(start..).unwrap_or_default();
    flate2::read::DeflateDecoder::new(deflated).take((maximum << 20) + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > maximum << 20 {
        return Err(Held::Limit { limit: "file_max_mib", maximum });
    }
    Ok(Plain { meta, bytes: Cow::Owned(bytes), start: 0, syntax })
}

/// Whose it is, and what identifies there.
pub(super) fn subject(by: &Deidentifier, file: &[u8]) -> Result<Subject, Held> {
    let limits = &by.profile.limits;
    let plain = plain(file, limits)?;
    let set = parse::data_set(&plain.bytes, plain.start, plain.syntax.encoding, limits)?;
    Ok(Subject::of(&plain.meta, &set, &by.profile))
}

pub(super) fn deidentify(by: &Deidentifier, file: Vec<u8>, known: &Subject) -> Result<Deidentified<Instance>, Held> {
    let limits = &by.profile.limits;
    let Plain { meta, bytes, start, mut syntax } = plain(&file, limits)?;
    let encoding = syntax.encoding;
    let mut set = parse::data_set(&bytes, start, encoding, limits)?;
    once(&set)?;
    let mut subject = Subject::of(&meta, &set, &by.profile);
    subject.add(known);
    // The data set's own, and where it has none, what the file says of it.
    let text = |set: &DataSet<'_>, tag: Tag, in_meta: Option<Tag>| match ascii(find(set, tag)) {
        "" => in_meta.map(|tag| ascii(find(&meta, tag)).to_owned()).unwrap_or_default(),
        text => text.to_owned(),
    };
    let sop_class = text(&set, tags::SOP_CLASS_UID, Some(tags::MEDIA_STORAGE_SOP_CLASS_UID));
    let instance = text(&set, tags::SOP_INSTANCE_UID, Some(tags::MEDIA_STORAGE_SOP_INSTANCE_UID));
    if instance.is_empty() {
        return Err(Held::Attribute(tags::SOP_INSTANCE_UID));
    }
    let iod = Iod::of(&sop_class)?;
    let mut report = Report::default();
    let treated = pixels::treat(by, &mut set, encoding, &file, &mut report)?;
    if treated.decoded {
        syntax = Syntax { encapsulated: false, uid: "1.2.840.10008.1.2.1".into(), ..syntax };
    }
    let patient_days = by.secret.days(subject.patient.as_deref().unwrap_or_default(), by.profile.date_shift_days_max);
    let before = temporal(&set);
    let mut work = Work { by, subject: &subject, days: patient_days, iod, encoding, report };
    let mut set = work.data_set(set)?;
    state(&mut work, &mut set, &treated, before.as_deref());
    let names = Names {
        sop_instance_uid: by.uid(&instance),
        series_instance_uid: ascii(find(&set, tags::SERIES_INSTANCE_UID)).into(),
        study_instance_uid: ascii(find(&set, tags::STUDY_INSTANCE_UID)).into(),
        patient: work.patient(),
        modality: ascii(find(&set, tags::MODALITY)).into(),
        sop_class_uid: sop_class,
    };
    let report = work.report;
    let bytes = write::file(&set, &syntax, &names.sop_class_uid, &names.sop_instance_uid, file.len() + 4096)?;
    Ok(Deidentified::new(Instance { bytes, names, report }))
}

/// An attribute that decides and is there twice could mean one thing here and another elsewhere.
fn once(set: &DataSet<'_>) -> Result<(), Held> {
    const DECIDING: [Tag; 9] = [
        tags::SPECIFIC_CHARACTER_SET,
        tags::SOP_CLASS_UID,
        tags::SOP_INSTANCE_UID,
        tags::MODALITY,
        tags::PATIENT_ID,
        tags::STUDY_INSTANCE_UID,
        tags::SERIES_INSTANCE_UID,
        tags::BURNED_IN_ANNOTATION,
        tags::PIXEL_DATA,
    ];
    match DECIDING.iter().find(|&&tag| set.iter().filter(|e| e.tag == tag).count() > 1) {
        Some(&tag) => Err(Held::Attribute(tag)),
        None => Ok(()),
    }
}

/// What the source says was done to its dates before.
fn temporal(set: &DataSet<'_>) -> Option<String> {
    let said = ascii(find(set, tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED));
    ["MODIFIED", "REMOVED"].contains(&said).then(|| said.to_owned())
}

/// States what was done (PS3.15 E.1.1, PS3.3 C.7.1.1 and C.7.6.1).
fn state(work: &mut Work<'_>, set: &mut DataSet<'_>, treated: &Treated, before: Option<&str>) {
    let profile = &work.by.profile;
    let method = format!("Gantry {}\\PS3.15 Annex E, table E.1-1\\profile {}", env!("CARGO_PKG_VERSION"), profile.name);
    let dates = match (profile.dates, before) {
        (Dates::Remove, _) => "REMOVED",
        (Dates::Shift, _) => "MODIFIED",
        (Dates::Keep, Some(before)) => before,
        (Dates::Keep, None) => "UNMODIFIED",
    };
    let codes = profile
        .codes()
        .into_iter()
        .map(|(value, meaning)| Item { elements: code(value, meaning), defined: true })
        .collect();
    let mut stated = vec![
        Element::text(tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES"),
        Element::text(tags::DEIDENTIFICATION_METHOD, VR::LO, &method),
        Element { tag: tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE, vr: VR::SQ, value: Value::Items(codes, true) },
        Element::text(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED, VR::CS, dates),
    ];
    if treated.no_text {
        stated.push(Element::text(tags::BURNED_IN_ANNOTATION, VR::CS, "NO"));
    }
    if let Some(recognizable) = treated.recognizable {
        stated.push(Element::text(tags::RECOGNIZABLE_VISUAL_FEATURES, VR::CS, if recognizable { "YES" } else { "NO" }));
    }
    for element in stated {
        work.report.note(element.tag, Action::Stated);
        put(set, element);
    }
}
