//! What images may show: text, and faces.

use std::collections::BTreeSet;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::excuse::{Excuse, Excuses};
use super::held::{Doubt, Held};
use super::parse::{DataSet, Element, Encoding, Value, ascii, find, number};
use super::profile::{Head, KnownDevice, Limits, Profile, Rectangle, Risky};
use super::{Deidentifier, report::Action, report::Report};

mod mask;
mod shown;
mod suspicion;

pub use shown::Palette;
pub(super) use suspicion::Features;

/// One decoded frame, or one plane of an overlay.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Rows (0028,0010).
    pub rows: u16,
    /// Columns (0028,0011).
    pub columns: u16,
    /// Samples per Pixel (0028,0002): 1 or 3, the samples of a pixel side by side.
    pub samples: u16,
    /// Bits Allocated (0028,0100): 8, 16 or 32, little endian.
    pub bits_allocated: u16,
    /// Bits Stored (0028,0101).
    pub bits_stored: u16,
    /// Whether Pixel Representation (0028,0103) is signed.
    pub signed: bool,
    /// Photometric Interpretation (0028,0004).
    pub photometric: &'a str,
    /// Colours of stored values, where they are entries of a palette.
    pub palette: Option<&'a Palette>,
    /// Lowest and highest stored value that the image's own window shows, where it states one.
    pub window: Option<(f64, f64)>,
    /// `rows * columns * samples * bits_allocated / 8` bytes.
    pub pixels: &'a [u8],
}

impl<'a> Frame<'a> {
    /// One of 8 bits in which 0 is black, without a window: `rows * columns` bytes.
    #[must_use]
    pub fn grey(rows: u16, columns: u16, pixels: &'a [u8]) -> Self {
        Self {
            rows,
            columns,
            samples: 1,
            bits_allocated: 8,
            bits_stored: 8,
            signed: false,
            photometric: "MONOCHROME2",
            palette: None,
            window: None,
            pixels,
        }
    }
}

/// Finds text in images. The runtime has one on its own engines.
pub trait TextDetector: Send + Sync {
    /// Every place where there may be text: with a margin, so that black there leaves nothing readable.
    ///
    /// # Errors
    /// A reason to hold the instance: what could not be looked at is not clean.
    fn text(&self, frame: Frame<'_>) -> Result<Vec<Rectangle>, Held>;
}

/// Decodes compressed frames. The runtime has one on its own codecs.
pub trait FrameDecoder: Send + Sync {
    /// All frames of an instance, `rows * columns * samples * bits_allocated / 8` bytes each, samples side by side and little endian.
    /// `file` is the whole file; what is decoded replaces its pixel data.
    ///
    /// # Errors
    /// A reason to hold the instance.
    fn frames(&self, file: &[u8]) -> Result<DecodedFrames, Held>;
}

/// What a [`FrameDecoder`] makes.
#[derive(Debug, Clone)]
pub struct DecodedFrames {
    /// Photometric Interpretation (0028,0004) of what was decoded.
    pub photometric: String,
    /// All frames, one after the other.
    pub pixels: Vec<u8>,
    /// Lossy Image Compression Method (0028,2114), where the transfer syntax itself says that there was one.
    pub lossy: Option<&'static str>,
}

/// What was done about the pixel data.
#[derive(Debug, Default)]
pub(super) struct Treated {
    /// What Burned In Annotation (0028,0301) may say now: nothing where nobody looked.
    pub(super) no_text: bool,
    /// What Recognizable Visual Features (0028,0302) must say; nothing where it is not known.
    pub(super) recognizable: Option<bool>,
    /// Pixel data were decoded, and are native now.
    pub(super) decoded: bool,
}

/// Whether an element is pixel data or an offset table of it.
fn is_pixels(tag: Tag) -> bool {
    tag.0 == 0x7FE0
}

/// Makes pixel data and overlays safe, or says why they cannot be. `file` is the source.
pub(super) fn treat(
    by: &Deidentifier,
    excuses: &Excuses,
    set: &mut DataSet<'_>,
    encoding: Encoding,
    file: &[u8],
    report: &mut Report,
) -> Result<Treated, Held> {
    let profile = &by.profile;
    if !profile.pixels.keep {
        let dropped = |tag: Tag| is_pixels(tag) || tag.0 & 0xFF00 == 0x6000 || tag == tags::WAVEFORM_SEQUENCE;
        set.iter().filter(|e| dropped(e.tag)).for_each(|e| report.note(e.tag, Action::Removed));
        set.retain(|e| !dropped(e.tag));
        return Ok(Treated::default());
    }
    overlays(by, set, encoding, report)?;
    if !set.iter().any(|e| is_pixels(e.tag)) {
        return Ok(Treated::default());
    }
    let features = Features::of(set, encoding);
    let recognizable = face(&features, profile, excuses, report)?;
    let mut treated = Treated { recognizable, ..Treated::default() };
    let device = known_device(&features, profile);
    let doubt = match features.doubt(profile.pixels.believe_no_burned_in) {
        Some(Doubt::Stated) => Some(Doubt::Stated),
        // The site has looked.
        Some(_) if device.is_some_and(|device| device.masks.is_empty()) => None,
        other => other,
    };
    let Some(doubt) = doubt else {
        treated.no_text = features.says_no || device.is_some();
        return Ok(treated);
    };
    let masks = device.map(|device| device.masks.clone()).filter(|masks| !masks.is_empty());
    let regions = suspicion::ultrasound_regions(set, encoding);
    if !profile.clean_pixel_data || masks.is_none() && regions.is_empty() && by.detector.is_none() {
        // Nothing here looks or masks: a person did, or it stays.
        excuses.pass(Excuse::NoTextSeen, Held::BurnedIn(doubt), report)?;
        treated.no_text = true;
        return Ok(treated);
    }
    let mut image = mask::Image::of(by, set, encoding, file)?;
    match masks {
        Some(masks) => masks.iter().for_each(|&mask| image.black_out(mask)),
        None if !regions.is_empty() => image.black_out_but(&regions),
        None => {}
    }
    if let Some(detector) = &by.detector {
        let mut found = Vec::with_capacity(image.frames());
        for frame in 0..image.frames() {
            let text = detector.text(image.frame(frame))?;
            if !text.is_empty() && profile.pixels.risky == Risky::Hold {
                excuses.pass(Excuse::FoundTextRead, Held::TextInPixels, report)?;
                found.push(Vec::new());
                continue;
            }
            found.push(text);
        }
        for (frame, text) in found.iter().enumerate() {
            text.iter().for_each(|&text| image.black_out_in(frame, text));
        }
        image.lasting(&found).into_iter().for_each(|text| image.black_out(text));
    }
    if image.changed() {
        report.note(tags::PIXEL_DATA, Action::Masked);
    }
    treated.decoded = image.put_back(set);
    treated.no_text = true;
    Ok(treated)
}

fn known_device<'p>(features: &Features, profile: &'p Profile) -> Option<&'p KnownDevice> {
    profile.pixels.known_devices.iter().find(|device| {
        device.manufacturer.eq_ignore_ascii_case(&features.manufacturer)
            && device.model.eq_ignore_ascii_case(&features.model)
            && device.modality == features.modality
            && (Some(device.rows), Some(device.columns)) == (features.rows, features.columns)
    })
}

/// Whether a face could be seen; an error where such objects stay.
fn face(features: &Features, profile: &Profile, excuses: &Excuses, report: &mut Report) -> Result<Option<bool>, Held> {
    let shows = features.shows_head(profile.pixels.unknown_body_part_is_head);
    if shows == Some(true) && (profile.pixels.head == Head::Hold || profile.clean_recognizable_visual_features) {
        excuses.pass(Excuse::FaceAllowed, Held::Recognizable, report)?;
    }
    Ok(shows)
}

/// An object must not take the time and memory of all others.
impl Limits {
    fn frames(&self, frames: usize) -> Result<(), Held> {
        at_most("frames_max", frames as u64, self.frames_max as u64)
    }

    fn frame_pixels(&self, rows: u16, columns: u16) -> Result<(), Held> {
        at_most("frame_pixels_max", u64::from(rows) * u64::from(columns), self.frame_pixels_max)
    }
}

fn at_most(limit: &'static str, there: u64, maximum: u64) -> Result<(), Held> {
    if there > maximum { Err(Held::Limit { limit, maximum }) } else { Ok(()) }
}

/// Overlays stay where graphics are cleaned and a detector saw no text in them; otherwise they go, whole groups of them.
fn overlays(by: &Deidentifier, set: &mut DataSet<'_>, encoding: Encoding, report: &mut Report) -> Result<(), Held> {
    let (mut gone, mut planes) = (Vec::new(), 0);
    let groups: BTreeSet<u16> = set.iter().map(|e| e.tag.0).filter(|group| group & 0xFF01 == 0x6000).collect();
    for group in groups {
        let within = number(set, Tag(group, 0x0102), encoding).is_some_and(|bit| bit != 0);
        let stays = by.profile.clean_graphics && !within && overlay_is_clean(by, set, group, encoding, &mut planes)?;
        if stays {
            continue;
        }
        if within {
            mask::clear_unused_bits(set, encoding)?;
            report.note(tags::PIXEL_DATA, Action::Masked);
        }
        gone.push(group);
    }
    set.iter().filter(|e| gone.contains(&e.tag.0)).for_each(|e| report.note(e.tag, Action::Removed));
    set.retain(|e| !gone.contains(&e.tag.0));
    Ok(())
}

/// `planes` counts those of all overlays.
fn overlay_is_clean(
    by: &Deidentifier,
    set: &DataSet<'_>,
    group: u16,
    encoding: Encoding,
    planes: &mut usize,
) -> Result<bool, Held> {
    let (Some(detector), Some(data)) = (&by.detector, find(set, Tag(group, 0x3000))) else { return Ok(false) };
    let (Some(rows), Some(columns)) =
        (number(set, Tag(group, 0x10), encoding), number(set, Tag(group, 0x11), encoding))
    else {
        return Ok(false);
    };
    let limits = &by.profile.limits;
    limits.frame_pixels(rows, columns)?;
    let plane = usize::from(rows) * usize::from(columns);
    // PS3.3 C.9.3: Number of Frames in Overlay (60xx,0015).
    let frames = match ascii(find(set, Tag(group, 0x15))) {
        "" => Some(1),
        stated => stated.parse::<usize>().ok(),
    };
    let all = frames.and_then(|frames| plane.checked_mul(frames)).filter(|&all| all > 0);
    let (Some(frames), Some(all), bits) = (frames, all, data.bytes()) else { return Ok(false) };
    // More than what is stated is looked at by nobody.
    if bits.len() != all.div_ceil(16) * 2 {
        return Ok(false);
    }
    *planes = planes.saturating_add(frames);
    at_most("overlay_planes_max", *planes as u64, limits.overlay_planes_max as u64)?;
    let bit = |n: usize| bits.get(n / 8).is_some_and(|byte| byte >> (n % 8) & 1 == 1);
    for first in (0..all).step_by(plane) {
        let pixels: Vec<u8> = (first..first + plane).map(|n| if bit(n) { 255 } else { 0 }).collect();
        if !detector.text(Frame::grey(rows, columns, &pixels))?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The text of an attribute in the default repertoire.
fn text(set: &DataSet<'_>, tag: Tag) -> String {
    ascii(find(set, tag)).to_owned()
}

/// Replaces or adds an element, at its place.
pub(super) fn put<'a>(set: &mut DataSet<'a>, element: Element<'a>) {
    set.retain(|e| e.tag != element.tag);
    let at = set.iter().position(|e| e.tag > element.tag).unwrap_or(set.len());
    set.insert(at, element);
}
