//! The conformance gate: every object of a result is read again from the bytes that were written, before any of them gets its
//! place, and held against the standard and against what the result was made of.
//!
//! ```text
//! staged files ─ read ─▶ objects ─┬─ iods, rules ── required attributes, by Information Object Definition
//!                                 ├─ values ─────── value representations, lengths, characters
//!                                 ├─ references ─── each resolves to an input or to an object of this result
//!                                 └─ geometry ───── frames lie where the source lies; pixels are as many as they must be
//! ```
//!
//! It knows nothing of the writers, and shares no code with them but for how a UID is derived: what it takes from elsewhere is the
//! input as it was read. All objects pass, or the job has no result. What leaves later is held against the digests of what passed here (`deliver`).
//!
//! A value that the source states itself is the source's: it must come back as it was, and is not judged. Many an archive holds
//! an accession number of 20 characters, and a result that nobody gets for that would help no patient.

mod geometry;
mod inputs;
mod iods;
mod read;
mod references;
mod rules;
#[cfg(test)]
mod tests;
mod values;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use dicom_core::Tag;
use dicom_dictionary_std::{tags, uids};

pub use self::inputs::Inputs;
use self::inputs::{Known, Objects};
use self::iods::ITEM;
use self::read::{DataSet, Object, Unread, name};
use self::rules::Iod;
use self::values::Characters;
use super::Written;

/// An object that may not leave: ours to repair. Says where and by which rule, and no value: values can be the patient's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} ({object}) does not conform and nothing of the result is kept: {place}: {rule}; this is a fault of gantry, \
     report it with this line"
)]
pub struct Nonconforming {
    /// Name in the output folder.
    pub file: String,
    /// What it is, as PS3.3 calls it.
    pub object: &'static str,
    /// The attribute, behind the items that hold it.
    pub place: String,
    /// What is broken, with the part of the standard that says so.
    pub rule: String,
}

/// Why a result may not get its place.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// An object does not conform.
    #[error(transparent)]
    Nonconforming(#[from] Nonconforming),
    /// An object cannot be read back now: of the machine, and it may pass.
    #[error("{file} cannot be read back: {error}")]
    Unread {
        /// Name in the output folder.
        file: String,
        /// What the system says.
        error: io::Error,
    },
}

/// What is wrong, and where.
#[derive(Debug, PartialEq)]
struct Fault {
    place: String,
    rule: String,
}

impl Fault {
    fn new(place: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { place: place.into(), rule: rule.into() }
    }

    fn at(tag: Tag, rule: impl Into<String>) -> Self {
        Self::new(name(tag), rule)
    }

    /// In the item of a sequence, counted from 1.
    fn in_item(self, item: usize) -> Self {
        let dot = if self.place.is_empty() { "" } else { "." };
        Self { place: format!("[{item}]{dot}{}", self.place), ..self }
    }

    /// In a sequence.
    fn within(self, tag: Tag) -> Self {
        let name = name(tag);
        let keyword = name.split(' ').next().unwrap_or_default();
        let place = if self.place.is_empty() { name.clone() } else { format!("{keyword}{}", self.place) };
        Self { place, ..self }
    }

    /// By what part of the standard.
    fn of(self, what: &str, name: &str, section: &str) -> Self {
        let rule = match self.rule.contains("(PS3.") {
            true => self.rule,
            false => format!("{}: {what} {name} (PS3.3 {section})", self.rule),
        };
        Self { rule, ..self }
    }
}

/// An object of the result, as it was read back.
struct Staged<'a> {
    written: &'a Written,
    object: Object,
    iod: &'static Iod,
}

/// Holds all objects of a result against the standard and against `inputs`. `staged` are its files, and where each lies.
///
/// # Errors
/// The first that does not conform, or that cannot be read.
pub fn check<'a>(
    staged: impl IntoIterator<Item = (&'a Written, PathBuf)>,
    inputs: &Inputs<'_>,
) -> Result<(), CheckError> {
    let of_dicom = staged.into_iter().filter(|(written, _)| written.sop_class_uid.is_some());
    let objects = of_dicom.map(|(written, path)| Staged::read(written, path)).collect::<Result<Vec<_>, _>>()?;
    let mut result = Objects::default();
    for staged in &objects {
        let known = Known::of(staged.object.data_set());
        result.add(known, inputs).map_err(|fault| staged.refused(fault))?;
    }
    objects.iter().try_for_each(|staged| staged.check(inputs, &result).map_err(|fault| staged.refused(fault).into()))
}

impl<'a> Staged<'a> {
    fn read(written: &'a Written, path: PathBuf) -> Result<Self, CheckError> {
        let refused = |fault| nonconforming(written, "DICOM", fault);
        let unread = |error: io::Error| CheckError::Unread { file: written.file.clone(), error };
        let file = File::open(path).map_err(unread)?;
        if file.metadata().map_err(unread)?.len() != written.bytes {
            return Err(refused(Fault::new("the file", "it is not as long as what was written")).into());
        }
        let object = Object::read(file, written.bytes).map_err(|error| match error {
            Unread::Io(error) => unread(error),
            Unread::Broken(fault) => refused(fault).into(),
        })?;
        let iod = iods::of(object.data_set().text(tags::SOP_CLASS_UID));
        let iod = iod.ok_or_else(|| refused(Fault::at(tags::SOP_CLASS_UID, "no class of objects that are written")))?;
        Ok(Self { written, object, iod })
    }

    fn refused(&self, fault: Fault) -> Nonconforming {
        nonconforming(self.written, self.iod.name, fault)
    }

    fn check(&self, inputs: &Inputs<'_>, result: &Objects<'_>) -> Result<(), Fault> {
        let data_set = self.object.data_set();
        self.meta()?;
        let shared = data_set.item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).unwrap_or(data_set);
        let frames: Vec<DataSet<'_>> = data_set.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).collect();
        self.iod.check(data_set, shared, &frames).map_err(|fault| match fault.rule.contains(self.iod.section) {
            true => fault,
            false => Fault {
                rule: format!("{}, of the {} (PS3.3 {})", fault.rule, self.iod.name, self.iod.section),
                ..fault
            },
        })?;
        content(data_set)?;
        let characters = Characters::of(data_set);
        inputs.identity(data_set, &characters)?;
        all_values(data_set, &characters, &|field| inputs.states(field, &characters))?;
        references::numbered(data_set)?;
        references::check(data_set, inputs, result)?;
        geometry::check(data_set, shared, &frames, inputs)
    }

    /// File meta information (PS3.10 section 7.1): of this object, and as `result.json` has it.
    fn meta(&self) -> Result<(), Fault> {
        let (meta, data_set) = (self.object.meta(), self.object.data_set());
        let fault = |tag| Err(Fault::at(tag, "not as the file meta information must have it (PS3.10 section 7.1)"));
        for (tag, of) in [
            (tags::MEDIA_STORAGE_SOP_CLASS_UID, tags::SOP_CLASS_UID),
            (tags::MEDIA_STORAGE_SOP_INSTANCE_UID, tags::SOP_INSTANCE_UID),
        ] {
            if meta.text(tag).is_empty() || meta.text(tag) != data_set.text(of) {
                return fault(tag);
            }
        }
        if meta.text(tags::TRANSFER_SYNTAX_UID) != uids::EXPLICIT_VR_LITTLE_ENDIAN {
            return fault(tags::TRANSFER_SYNTAX_UID);
        }
        if !meta.has(tags::IMPLEMENTATION_CLASS_UID) {
            return fault(tags::IMPLEMENTATION_CLASS_UID);
        }
        if meta.field(tags::FILE_META_INFORMATION_VERSION).is_none_or(|version| version.value() != [0, 1]) {
            return fault(tags::FILE_META_INFORMATION_VERSION);
        }
        all_values(meta, &Characters::named(""), &|_| false)?;
        let recorded = [
            (tags::SOP_CLASS_UID, &self.written.sop_class_uid),
            (tags::SOP_INSTANCE_UID, &self.written.sop_instance_uid),
            (tags::SERIES_INSTANCE_UID, &self.written.series_instance_uid),
        ];
        match recorded.iter().find(|(tag, uid)| uid.as_deref() != Some(data_set.text(*tag))) {
            Some((tag, _)) => Err(Fault::at(*tag, "is not the one that result.json names")),
            None => Ok(()),
        }
    }
}

fn nonconforming(written: &Written, object: &'static str, fault: Fault) -> Nonconforming {
    Nonconforming { file: written.file.clone(), object, place: fault.place, rule: fault.rule }
}

/// The content tree of a report below its root.
fn content(item: DataSet<'_>) -> Result<(), Fault> {
    for (child, at) in item.items(tags::CONTENT_SEQUENCE).zip(1..) {
        let checked = rules::all(ITEM.attributes, child).map_err(|fault| fault.of("module", ITEM.name, ITEM.section));
        checked.and_then(|()| content(child)).map_err(|fault| fault.in_item(at).within(tags::CONTENT_SEQUENCE))?;
    }
    Ok(())
}

/// Every value but those that `own` says are not ours.
fn all_values(
    data_set: DataSet<'_>,
    characters: &Characters,
    own: &dyn Fn(read::Field<'_>) -> bool,
) -> Result<(), Fault> {
    for field in data_set.fields() {
        let tag = field.tag();
        match values::check(field, characters) {
            Err(rule) if !own(field) => return Err(Fault::at(tag, rule)),
            _ => {}
        }
        if field.items().next().is_none() || own(field) {
            continue;
        }
        let nested = |field: read::Field<'_>| references::repeats(field.tag()) && own(field);
        for (item, at) in field.items().zip(1..) {
            all_values(item, characters, &nested).map_err(|fault| fault.in_item(at).within(tag))?;
        }
    }
    Ok(())
}
