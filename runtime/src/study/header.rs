//! One file's header: what of it the study, the volume and the decoder need.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use flate2::read::DeflateDecoder;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::attributes::{self, Attributes, NO_UID, is_code, is_uid};
use super::characters;
use super::files::Candidate;
use super::frames;
use super::pixels::{Syntax, not_decoded, syntax};
use super::scan::{self, Encoding, Header, Stop, Window};
use super::stack::Slice;
use super::{ReadError, ReadOptions};

/// What the header of a DICOM file says. Holds a patient's identity: no `Debug`.
pub(super) struct Object {
    pub(super) path: PathBuf,
    pub(super) transfer_syntax: String,
    /// From the file meta information.
    pub(super) meta_class: String,
    pub(super) meta_instance: String,
    /// From the data set; empty when absent or empty.
    pub(super) class: String,
    pub(super) instance: String,
    pub(super) study: String,
    pub(super) series: String,
    pub(super) frame_of_reference: String,
    pub(super) patient: Patient,
    /// A code, or empty.
    pub(super) modality: String,
    pub(super) series_number: Option<f64>,
    pub(super) instance_number: Option<f64>,
    pub(super) series_date: String,
    pub(super) series_time: String,
    pub(super) series_description: String,
    pub(super) localizer: bool,
    /// Values of a CT that are not Hounsfield units.
    pub(super) not_hounsfield: bool,
    pub(super) source: Source,
    /// A slice, or one for each frame, or why not; `None` for what is no image.
    pub(super) slices: Option<Result<Vec<Slice>, ReadError>>,
}

/// What tells patients apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Patient {
    pub(super) id: String,
    pub(super) issuer: String,
    pub(super) name: String,
    pub(super) birth_date: String,
    pub(super) sex: String,
}

/// The file as it was when its header was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) file_bytes: u64,
    /// Bytes up to the value of Pixel Data; all of the file when it is deflated.
    pub(super) header_bytes: u64,
    pub(super) header_digest: [u8; 32],
    /// Where the data set starts that is deflated; 0 where none is.
    pub(super) deflated: u64,
}

/// Headers of those candidates that are DICOM, in their order, and the number of those that are not or are a DICOMDIR.
pub(super) fn read_all(candidates: &[Candidate], options: &ReadOptions) -> Result<(Vec<Object>, usize), ReadError> {
    let read: Vec<_> = candidates.par_iter().map(|c| read(c, options)).collect();
    let mut objects = Vec::with_capacity(read.len());
    let mut others = 0;
    for object in read {
        match object? {
            Some(object) => objects.push(object),
            None => others += 1,
        }
    }
    Ok((objects, others))
}

/// One header; `None` for what is left out.
fn read(candidate: &Candidate, options: &ReadOptions) -> Result<Option<Object>, ReadError> {
    let path = &candidate.path;
    match open(path, options)? {
        Opening::Dicom(opened) => opened.object(path).map(Some),
        _ if candidate.named => Err(ReadError::NotDicom(path.clone())),
        Opening::Other if options.strict => Err(ReadError::Foreign(path.clone())),
        Opening::Directory | Opening::Other => Ok(None),
    }
}

/// The data set of the file at `path` without pixel data, if the file still is what `source` says.
pub(super) fn dataset(path: &Path, source: &Source, options: &ReadOptions) -> Result<InMemDicomObject, ReadError> {
    let opened = match open(path, options)? {
        Opening::Dicom(opened) if opened.source == *source => opened,
        _ => return Err(ReadError::Changed(path.to_owned())),
    };
    let mut object = opened.parse(path)?;
    // Pixels too, though not of this image.
    let overlays: BTreeSet<Tag> = object.tags().filter(|t| t.group() >> 8 == 0x60 && t.element() == 0x3000).collect();
    for tag in overlays.into_iter().chain([tags::ICON_IMAGE_SEQUENCE]) {
        object.remove_element(tag);
    }
    Ok(object)
}

/// Opens a file that must be DICOM.
pub(super) fn open_dicom(path: &Path, options: &ReadOptions) -> Result<Box<Opened>, ReadError> {
    match open(path, options)? {
        Opening::Dicom(opened) => Ok(opened),
        Opening::Directory | Opening::Other => Err(ReadError::NotDicom(path.to_owned())),
    }
}

/// What a file turned out to be.
enum Opening {
    Dicom(Box<Opened>),
    /// A DICOMDIR, which only lists the files beside it.
    Directory,
    Other,
}

/// A DICOM file whose header was walked.
pub(super) struct Opened {
    pub(super) meta: Meta,
    pub(super) syntax: Syntax,
    /// The file, or what it inflates to, at least up to the pixel data.
    bytes: Vec<u8>,
    /// Where the data set starts in `bytes`.
    start: usize,
    pub(super) header: Header,
    pub(super) source: Source,
}

#[derive(Default)]
pub(super) struct Meta {
    pub(super) class: String,
    pub(super) instance: String,
    pub(super) transfer_syntax: String,
}

/// Opens a DICOMDIR; `None` where it is none.
pub(super) fn open_directory(path: &Path, options: &ReadOptions) -> Result<Option<Box<Opened>>, ReadError> {
    match open_any(path, options, true)? {
        Opening::Dicom(opened) if opened.meta.class == uids::MEDIA_STORAGE_DIRECTORY_STORAGE => Ok(Some(opened)),
        _ => Ok(None),
    }
}

/// Opens a file and walks its header.
fn open(path: &Path, options: &ReadOptions) -> Result<Opening, ReadError> {
    open_any(path, options, false)
}

/// As [`open`], and as any other file a DICOMDIR, where `directories` are wanted.
fn open_any(path: &Path, options: &ReadOptions, directories: bool) -> Result<Opening, ReadError> {
    let file = File::open(path).map_err(|e| ReadError::io(path, e))?;
    let file_bytes = file.metadata().map_err(|e| ReadError::io(path, e))?.len();
    let mut window = Window::new(file);
    if !window.reach(132).map_err(|e| ReadError::io(path, e))? || window.bytes[128..132] != *b"DICM" {
        return Ok(Opening::Other);
    }
    options.check_file(path, "a file", file_bytes)?;
    let stopped = |stop: Stop| stop.of(path);
    let (meta, start) = meta(&mut window, options).map_err(stopped)?;
    if meta.class == uids::MEDIA_STORAGE_DIRECTORY_STORAGE && !directories {
        return Ok(Opening::Directory);
    }
    if !is_uid(&meta.transfer_syntax) {
        return Err(ReadError::attribute(path, tags::TRANSFER_SYNTAX_UID, NO_UID));
    }
    if meta.transfer_syntax.is_empty() {
        return Err(ReadError::attribute(path, tags::TRANSFER_SYNTAX_UID, "is missing from the file meta information"));
    }
    let syntax = syntax(&meta.transfer_syntax).ok_or_else(|| not_decoded(path, &meta.transfer_syntax))?;
    if syntax.deflated {
        return open_deflated(path, window, meta, start, syntax, options);
    }
    let header = scan::walk(&mut window, start, syntax.encoding, options).map_err(stopped)?;
    let value = header.next.as_ref().map_or(header.end, |next| next.value);
    if let Some(length) = header.next.as_ref().and_then(|next| next.length)
        && value as u64 + u64::from(length) > file_bytes
    {
        let there = file_bytes.saturating_sub(value as u64);
        return Err(ReadError::damaged(path, format!("{there} bytes of pixel data where its length says {length}")));
    }
    let header_digest = Sha256::digest(&window.bytes[..value]).into();
    let source = Source { file_bytes, header_bytes: value as u64, header_digest, deflated: 0 };
    Ok(Opening::Dicom(Box::new(Opened { meta, syntax, bytes: window.bytes, start, header, source })))
}

/// The rest of [`open`] where the data set, from `start`, is deflated: inflated as far as its header goes, while all
/// of the file passes through the digest and none of it stays.
fn open_deflated(
    path: &Path,
    window: Window<File>,
    meta: Meta,
    start: usize,
    syntax: Syntax,
    options: &ReadOptions,
) -> Result<Opening, ReadError> {
    let (first, file) = window.into_parts();
    let mut rest = Hashing::after(&first, file);
    let mut inflated = Window::new(inflate(first.get(start..).unwrap_or_default().chain(&mut rest)));
    let walked = scan::walk(&mut inflated, 0, syntax.encoding, options);
    let bytes = inflated.into_parts().0;
    let header = walked.map_err(|stop| match stop {
        Stop::Io(_) => ReadError::damaged(path, "its deflated data set cannot be inflated"),
        stop => stop.of(path),
    })?;
    let (file_bytes, digest) = rest.end(u64::MAX).map_err(|e| ReadError::io(path, e))?;
    let source = Source { file_bytes, header_bytes: file_bytes, header_digest: digest, deflated: start as u64 };
    Ok(Opening::Dicom(Box::new(Opened { meta, syntax, bytes, start: 0, header, source })))
}

/// A reader whose bytes pass through a digest.
pub(super) struct Hashing<R> {
    source: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Hashing<R> {
    /// Goes on after `first`, which was read already.
    pub(super) fn after(first: &[u8], source: R) -> Self {
        Self { source, hash: Sha256::new_with_prefix(first), bytes: first.len() as u64 }
    }

    /// Reads on until `bytes` of it are read in all, or it ends; whether they were.
    pub(super) fn skip_to(&mut self, bytes: u64) -> std::io::Result<bool> {
        let more = bytes.saturating_sub(self.bytes);
        std::io::copy(&mut self.by_ref().take(more), &mut std::io::sink())?;
        Ok(self.bytes == bytes)
    }

    /// The digest of what was read so far.
    pub(super) fn so_far(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Reads to the end, or one byte more than `most`. How many bytes there were, and the digest of all.
    pub(super) fn end(mut self, most: u64) -> std::io::Result<(u64, [u8; 32])> {
        self.skip_to(most.saturating_add(1))?;
        Ok((self.bytes, self.hash.finalize().into()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.source.read(buffer)?;
        self.hash.update(&buffer[..got]);
        self.bytes += got as u64;
        Ok(got)
    }
}

/// What inflates a deflated data set (PS3.5 annex A.5, RFC 1951). Whoever reads it must bound how much.
pub(super) fn inflate<R: Read>(deflated: R) -> DeflateDecoder<R> {
    DeflateDecoder::new(deflated)
}

/// File meta information (PS3.10 section 7.1) and where the data set starts.
fn meta<R: Read>(window: &mut Window<R>, options: &ReadOptions) -> Result<(Meta, usize), Stop> {
    let mut meta = Meta::default();
    let mut at = 132;
    while window.reach(at + 2)? && window.bytes[at..at + 2] == [2, 0] {
        let (header, value) = scan::element(window, at, Encoding::ExplicitLittle)?;
        let end = header.len.get().map(|length| value + length as usize);
        let end = end.filter(|end| *end - 132 <= options.header_max_bytes());
        let end = end.ok_or_else(|| Stop::Damaged("the file meta information is not well-formed".into()))?;
        if !window.reach(end)? {
            return Err(Stop::Damaged("the file ends within its file meta information".into()));
        }
        let text = || String::from_utf8_lossy(&window.bytes[value..end]).trim_matches([' ', '\0']).to_owned();
        match header.tag {
            tags::MEDIA_STORAGE_SOP_CLASS_UID => meta.class = text(),
            tags::MEDIA_STORAGE_SOP_INSTANCE_UID => meta.instance = text(),
            tags::TRANSFER_SYNTAX_UID => meta.transfer_syntax = text(),
            _ => {}
        }
        at = end;
    }
    Ok((meta, at))
}

impl Opened {
    /// The data set up to the group of pixel data.
    pub(super) fn header_bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.header.end]
    }

    /// Parses the walked header.
    pub(super) fn parse(&self, path: &Path) -> Result<InMemDicomObject, ReadError> {
        let uid = match self.syntax.encoding {
            Encoding::ExplicitLittle => uids::EXPLICIT_VR_LITTLE_ENDIAN,
            // Retired, and still in archives.
            Encoding::ExplicitBig => "1.2.840.10008.1.2.2",
            Encoding::ImplicitLittle => uids::IMPLICIT_VR_LITTLE_ENDIAN,
        };
        let ts = TransferSyntaxRegistry.get(uid).expect("the registry always has the three base transfer syntaxes");
        let mut kept = Cow::Borrowed(self.header_bytes());
        for cut in self.header.cuts.iter().rev() {
            kept.to_mut().drain(cut.start - self.start..cut.end - self.start);
        }
        let characters = characters::take(&mut kept, self.syntax.encoding);
        // A panic of the parser on a file nobody thought of must fail this file, not the process that serves others.
        let parsed = catch_unwind(AssertUnwindSafe(|| InMemDicomObject::read_dataset_with_ts(&*kept, ts)));
        // The parser's own words may quote values, so they are left out.
        let parsed = parsed.ok().and_then(Result::ok);
        let mut object = parsed.ok_or_else(|| ReadError::damaged(path, "its header cannot be parsed"))?;
        if let Some(characters) = characters {
            characters.give_back(&mut object);
        }
        attributes::know(&mut object);
        Ok(object)
    }

    fn object(self, path: &Path) -> Result<Object, ReadError> {
        let object = self.parse(path)?;
        let a = Attributes { path, object: &object };
        let class = a.uid(tags::SOP_CLASS_UID)?;
        let class_or_meta = if class.is_empty() { &self.meta.class } else { &class };
        let slices = match &self.header.next {
            Some(next) if is_image(next.tag, next.vr, class_or_meta) => {
                Some(frames::slices(&a, next, &self.meta.transfer_syntax, self.syntax))
            }
            // Left out as no image, a file that was cut just before its pixels would not be missed.
            next if has_pixels(class_or_meta) || next.is_none() && a.present(tags::ROWS) => {
                return Err(ReadError::damaged(path, "the file ends before its pixel data"));
            }
            _ => None,
        };
        // A damaged file fails the whole; everything else fails its series.
        let slices = match slices {
            Some(Err(damaged @ ReadError::Damaged { .. })) => return Err(damaged),
            slices => slices,
        };
        let modality = Some(a.text(tags::MODALITY)).filter(|text| is_code(text)).unwrap_or_default();
        // Of several frames it is their functional groups that say it.
        let rescale_type = frames::text(&object, &frames::said(&object, 1), tags::RESCALE_TYPE).unwrap_or_default();
        Ok(Object {
            path: path.to_owned(),
            class,
            instance: a.uid(tags::SOP_INSTANCE_UID)?,
            study: a.uid(tags::STUDY_INSTANCE_UID)?,
            series: a.uid(tags::SERIES_INSTANCE_UID)?,
            frame_of_reference: a.uid(tags::FRAME_OF_REFERENCE_UID)?,
            patient: Patient {
                id: a.text(tags::PATIENT_ID),
                issuer: a.text(tags::ISSUER_OF_PATIENT_ID),
                name: a.text(tags::PATIENT_NAME).trim_end_matches('^').to_lowercase(),
                birth_date: a.text(tags::PATIENT_BIRTH_DATE),
                sex: a.text(tags::PATIENT_SEX).to_uppercase(),
            },
            series_number: a.numbers::<1>(tags::SERIES_NUMBER).ok().flatten().map(|[n]| n),
            instance_number: a.numbers::<1>(tags::INSTANCE_NUMBER).ok().flatten().map(|[n]| n),
            series_date: a.text(tags::SERIES_DATE),
            series_time: a.text(tags::SERIES_TIME),
            series_description: a.text(tags::SERIES_DESCRIPTION),
            localizer: a.text(tags::IMAGE_TYPE).split('\\').nth(2) == Some("LOCALIZER"),
            not_hounsfield: modality == "CT" && !matches!(rescale_type.as_str(), "" | "HU"),
            modality,
            transfer_syntax: self.meta.transfer_syntax,
            meta_class: self.meta.class,
            meta_instance: self.meta.instance,
            source: self.source,
            slices,
        })
    }
}

/// Whether an object whose data set has `tag` where pixel data start is an image that a series is made of.
fn is_image(tag: Tag, vr: VR, class: &str) -> bool {
    const SEGMENTATION: &str = "1.2.840.10008.5.1.4.1.1.66.4";
    const LABEL_MAP: &str = "1.2.840.10008.5.1.4.1.1.66.7";
    let pixels = matches!(tag, tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA);
    pixels && vr != VR::SQ && !matches!(class, SEGMENTATION | LABEL_MAP)
}

/// What SOP classes of storage (PS3.4 annex B.5) begin with.
pub(super) const STORAGE: &str = "1.2.840.10008.5.1.4.1.1.";

/// Whether instances of a SOP class (PS3.4 annex B.5) always have pixel data: radiography, CT, ultrasound, MR,
/// secondary capture, angiography, nuclear medicine, visible light and PET.
pub(super) fn has_pixels(class: &str) -> bool {
    let Some(class) = class.strip_prefix(STORAGE) else { return false };
    let family = class.split('.').next().unwrap_or_default();
    let spectroscopy_or_stereometry = matches!(class, "4.2" | "77.1.5.3");
    matches!(family, "1" | "2" | "3" | "4" | "6" | "7" | "12" | "13" | "14" | "20" | "77" | "128" | "130")
        && !spectroscopy_or_stereometry
}
