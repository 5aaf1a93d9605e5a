//! What the node must know of a file to keep it, to file it and to find it again.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::attributes::Attributes;
use super::header::{self, Patient};
use super::scan;
use super::{ReadError, ReadOptions};

/// Of a text that is filed; the longest that the standard has in these places are 64 characters, and a journal of texts without
/// end would be told in every answer.
const TEXT_MAX_CHARS: usize = 1024;

/// Where the file meta information goes on behind its group length (PS3.10 section 7.1).
const META_AT: usize = 144;

/// Of each file at once when two are compared.
const COMPARE_BYTES: usize = 64 << 10;

/// One file, by what it says of itself. Holds a patient's identity: no `Debug`.
#[derive(Clone)]
pub struct Entry {
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: String,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: String,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax_uid: String,
    /// Whose it is.
    pub patient: PatientEntry,
    /// Of which study.
    pub study: StudyEntry,
    /// Of which series.
    pub series: SeriesEntry,
    /// Instance Number (0020,0013).
    pub instance_number: String,
    /// Rows (0028,0010).
    pub rows: Option<u16>,
    /// Columns (0028,0011).
    pub columns: Option<u16>,
    /// Bits Allocated (0028,0100).
    pub bits_allocated: Option<u16>,
    /// Number of Frames (0028,0008).
    pub number_of_frames: Option<u32>,
    /// Media Storage SOP Class UID (0002,0002) and Instance UID (0002,0003).
    meta_class: String,
    meta_instance: String,
}

impl Entry {
    /// In what the data set is another object than its file meta information says (PS3.10 section 7.1).
    #[must_use]
    pub fn contradicts_meta(&self) -> Option<&'static str> {
        match () {
            () if self.meta_class != self.sop_class_uid => Some("SOPClassUID (0008,0016)"),
            () if self.meta_instance != self.sop_instance_uid => Some("SOPInstanceUID (0008,0018)"),
            () => None,
        }
    }
}

/// Patient level; empty where the file says nothing.
#[derive(Clone, Default)]
pub struct PatientEntry {
    /// Patient ID (0010,0020).
    pub id: String,
    /// Issuer of Patient ID (0010,0021).
    pub issuer: String,
    /// Patient's Name (0010,0010), as received.
    pub name: String,
    /// Patient's Birth Date (0010,0030).
    pub birth_date: String,
    /// Patient's Sex (0010,0040).
    pub sex: String,
}

/// Study level.
#[derive(Clone, Default)]
pub struct StudyEntry {
    /// Study Instance UID (0020,000D).
    pub uid: String,
    /// Study Date (0008,0020).
    pub date: String,
    /// Study Time (0008,0030).
    pub time: String,
    /// Accession Number (0008,0050).
    pub accession_number: String,
    /// Referring Physician's Name (0008,0090).
    pub referring_physician_name: String,
    /// Study ID (0020,0010).
    pub id: String,
    /// Study Description (0008,1030).
    pub description: String,
    /// Number of Study Related Series (0020,1206), when stated.
    pub stated_series: Option<u32>,
    /// Number of Study Related Instances (0020,1208), when stated.
    pub stated_instances: Option<u32>,
}

/// Series level.
#[derive(Clone, Default)]
pub struct SeriesEntry {
    /// Series Instance UID (0020,000E).
    pub uid: String,
    /// Modality (0008,0060).
    pub modality: String,
    /// Series Number (0020,0011).
    pub number: String,
    /// Series Description (0008,103E).
    pub description: String,
    /// Series Date (0008,0021).
    pub date: String,
    /// Series Time (0008,0031).
    pub time: String,
    /// Body Part Examined (0018,0015).
    pub body_part_examined: String,
    /// Performed Procedure Step Start Date (0040,0244).
    pub performed_step_start_date: String,
    /// Performed Procedure Step Start Time (0040,0245).
    pub performed_step_start_time: String,
    /// Number of Series Related Instances (0020,1209), when stated.
    pub stated_instances: Option<u32>,
}

/// Reads a file to its end, without its pixels: every element, item and fragment lies within what holds it, and its own
/// UIDs are there.
///
/// # Errors
/// Damage, limits, and UIDs that are missing or are none. Nothing is repaired: what is kept must be right.
pub fn inspect(path: &Path, options: &ReadOptions) -> Result<Entry, ReadError> {
    let opened = header::open_dicom(path, options)?;
    opened.walk_rest(path, options)?;
    let object = opened.parse(path)?;
    let a = Attributes { path, object: &object };
    let uid = |tag: Tag| match a.uid(tag)? {
        uid if uid.is_empty() => Err(a.fault(tag, "is missing or empty; send the images again from their source")),
        uid => Ok(uid),
    };
    let pixels = opened.header.next.as_ref().is_some_and(|next| scan::is_pixels(next.tag));
    if !pixels && header::has_pixels(&opened.meta.class) && !a.present(tags::PIXEL_DATA_PROVIDER_URL) {
        return Err(ReadError::damaged(path, "the file ends before its pixel data"));
    }
    let number = |tag: Tag| a.numbers::<1>(tag).ok().flatten().and_then(whole);
    let text = |tag: Tag| cut(a.text(tag));
    Ok(Entry {
        sop_class_uid: uid(tags::SOP_CLASS_UID)?,
        sop_instance_uid: uid(tags::SOP_INSTANCE_UID)?,
        transfer_syntax_uid: opened.meta.transfer_syntax.clone(),
        patient: PatientEntry {
            id: text(tags::PATIENT_ID),
            issuer: text(tags::ISSUER_OF_PATIENT_ID),
            name: text(tags::PATIENT_NAME),
            birth_date: text(tags::PATIENT_BIRTH_DATE),
            sex: text(tags::PATIENT_SEX),
        },
        study: StudyEntry {
            uid: uid(tags::STUDY_INSTANCE_UID)?,
            date: text(tags::STUDY_DATE),
            time: text(tags::STUDY_TIME),
            accession_number: text(tags::ACCESSION_NUMBER),
            referring_physician_name: text(tags::REFERRING_PHYSICIAN_NAME),
            id: text(tags::STUDY_ID),
            description: text(tags::STUDY_DESCRIPTION),
            stated_series: number(tags::NUMBER_OF_STUDY_RELATED_SERIES),
            stated_instances: number(tags::NUMBER_OF_STUDY_RELATED_INSTANCES),
        },
        series: SeriesEntry {
            uid: uid(tags::SERIES_INSTANCE_UID)?,
            modality: text(tags::MODALITY),
            number: text(tags::SERIES_NUMBER),
            description: text(tags::SERIES_DESCRIPTION),
            date: text(tags::SERIES_DATE),
            time: text(tags::SERIES_TIME),
            body_part_examined: text(tags::BODY_PART_EXAMINED),
            performed_step_start_date: text(tags::PERFORMED_PROCEDURE_STEP_START_DATE),
            performed_step_start_time: text(tags::PERFORMED_PROCEDURE_STEP_START_TIME),
            stated_instances: number(tags::NUMBER_OF_SERIES_RELATED_INSTANCES),
        },
        instance_number: text(tags::INSTANCE_NUMBER),
        rows: a.small(tags::ROWS)?,
        columns: a.small(tags::COLUMNS)?,
        bits_allocated: a.small(tags::BITS_ALLOCATED)?,
        number_of_frames: number(tags::NUMBER_OF_FRAMES),
        meta_class: opened.meta.class.clone(),
        meta_instance: opened.meta.instance.clone(),
    })
}

/// Specific Character Set (0008,0005) of a file; empty where it says nothing.
///
/// # Errors
/// Damage and limits.
pub fn character_set(path: &Path, options: &ReadOptions) -> Result<String, ReadError> {
    let object = header::open_dicom(path, options)?.parse(path)?;
    Ok(cut(Attributes { path, object: &object }.text(tags::SPECIFIC_CHARACTER_SET)))
}

/// Whether two files say the same behind their file meta information (PS3.10 section 7.1), byte by byte; nothing is decoded.
///
/// # Errors
/// A file cannot be read, or its file meta information is without a length.
pub fn same_data_set(one: &Path, other: &Path) -> std::io::Result<bool> {
    let ((mut one, one_bytes), (mut other, other_bytes)) = (data_set(one)?, data_set(other)?);
    if one_bytes != other_bytes {
        return Ok(false);
    }
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let count = left.len().min(right.len());
        if count == 0 || left[..count] != right[..count] {
            return Ok(left.is_empty() && right.is_empty());
        }
        one.consume(count);
        other.consume(count);
    }
}

/// At the first byte of a file's data set, and how many bytes that has.
fn data_set(path: &Path) -> std::io::Result<(BufReader<File>, u64)> {
    let mut file = File::open(path)?;
    let mut start = [0; META_AT];
    file.read_exact(&mut start)?;
    // (0002,0000) UL, 4 bytes: behind the preamble and the prefix.
    if start[128..140] != *b"DICM\x02\0\0\0UL\x04\0" {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let meta = u32::from_le_bytes([start[140], start[141], start[142], start[143]]);
    let at = file.seek(SeekFrom::Start(META_AT as u64 + u64::from(meta)))?;
    let bytes = file.metadata()?.len().checked_sub(at).ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((BufReader::with_capacity(COMPARE_BYTES, file), bytes))
}

/// Within [`TEXT_MAX_CHARS`].
fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(TEXT_MAX_CHARS) {
        text.truncate(at);
    }
    text
}

/// A whole number that 32 bits hold.
fn whole([number]: [f64; 1]) -> Option<u32> {
    (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number)).then_some(number as u32)
}

impl std::fmt::Debug for PatientEntry {
    /// Not who it is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PatientEntry").finish_non_exhaustive()
    }
}

impl PatientEntry {
    /// In what the two cannot be one patient; an empty value contradicts none. Names are compared only where neither has
    /// an ID: spellings of one name differ between departments.
    #[must_use]
    pub fn contradicts(&self, other: &Self) -> Option<&'static str> {
        let differ = |a: &str, b: &str| !a.is_empty() && !b.is_empty() && a != b;
        let (own, others) = (Patient::from(self), Patient::from(other));
        let named = own.id.is_empty() || others.id.is_empty();
        [
            (differ(&own.id, &others.id), "PatientID (0010,0020)"),
            (differ(&own.issuer, &others.issuer), "IssuerOfPatientID (0010,0021)"),
            (differ(&own.birth_date, &others.birth_date), "PatientBirthDate (0010,0030)"),
            (differ(&own.sex, &others.sex), "PatientSex (0010,0040)"),
            (named && differ(&own.name, &others.name), "PatientName (0010,0010)"),
        ]
        .into_iter()
        .find_map(|(differs, by)| differs.then_some(by))
    }
}

impl PatientEntry {
    /// In what the two are not known to be one patient: both must have an ID, and nothing contradicts.
    #[must_use]
    pub fn differs(&self, other: &Self) -> Option<&'static str> {
        let unnamed = self.id.is_empty() || other.id.is_empty();
        unnamed.then_some("PatientID (0010,0020)").or_else(|| self.contradicts(other))
    }
}

impl From<&PatientEntry> for Patient {
    fn from(entry: &PatientEntry) -> Self {
        Self {
            id: entry.id.clone(),
            issuer: entry.issuer.clone(),
            name: entry.name.trim_end_matches('^').to_lowercase(),
            birth_date: entry.birth_date.clone(),
            sex: entry.sex.to_uppercase(),
        }
    }
}

impl header::Opened {
    /// Walks from the group of pixel data to the end of the data set.
    fn walk_rest(&self, path: &Path, options: &ReadOptions) -> Result<(), ReadError> {
        let io = |e| ReadError::io(path, e);
        let mut file = File::open(path).map_err(io)?;
        if !self.syntax.deflated {
            let skip = |file: &mut File, bytes: u64| {
                file.seek(SeekFrom::Current(i64::try_from(bytes).unwrap_or(i64::MAX))).map(|_| ())
            };
            let walked =
                scan::walk_rest(file, skip, self.source.file_bytes, &self.header, self.syntax.encoding, options);
            return walked.map_err(|stop| stop.of(path));
        }
        file.seek(SeekFrom::Start(self.source.deflated)).map_err(io)?;
        let most = options.file_max_mib.saturating_mul(1 << 20);
        let mut inflated = header::inflate(file).take(most.saturating_add(1));
        let skip = |inflated: &mut &mut std::io::Take<_>, bytes: u64| match std::io::copy(
            &mut inflated.take(bytes),
            &mut std::io::sink(),
        )? {
            skipped if skipped == bytes => Ok(()),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        };
        let walked = scan::walk_rest(&mut inflated, skip, u64::MAX, &self.header, self.syntax.encoding, options);
        // However it ended: more than this is not looked at.
        if inflated.limit() == 0 {
            let what = "what a deflated data set inflates to".to_owned();
            let (limit, maximum) = ("file_max_mib", options.file_max_mib);
            return Err(ReadError::Limit { path: Some(path.to_owned()), what, limit, maximum });
        }
        walked.map_err(|stop| match stop {
            scan::Stop::Io(_) => ReadError::damaged(path, "its deflated data set cannot be inflated"),
            stop => stop.of(path),
        })
    }
}
