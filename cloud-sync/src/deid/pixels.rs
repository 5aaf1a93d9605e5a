//! What images may show: text, and faces.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::held::{Doubt, Held};
use super::parse::{DataSet, Element, Encoding, Value, ascii, find, number};
use super::profile::{Head, KnownDevice, Profile, Rectangle, Risky};
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
    let recognizable = face(&features, profile)?;
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
    if !profile.clean_pixel_data {
        return Err(Held::BurnedIn(doubt));
    }
    let masks = device.map(|device| device.masks.clone()).filter(|masks| !masks.is_empty());
    let regions = suspicion::ultrasound_regions(set, encoding);
    if masks.is_none() && regions.is_empty() && by.detector.is_none() {
        return Err(Held::BurnedIn(doubt));
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
                return Err(Held::TextInPixels);
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
fn face(features: &Features, profile: &Profile) -> Result<Option<bool>, Held> {
    match features.shows_head(profile.pixels.unknown_body_part_is_head) {
        Some(true) if profile.pixels.head == Head::Hold || profile.clean_recognizable_visual_features => {
            Err(Held::Recognizable)
        }
        shows => Ok(shows),
    }
}

/// Overlays stay where graphics are cleaned and a detector saw no text in them; otherwise they go, whole groups of them.
fn overlays(by: &Deidentifier, set: &mut DataSet<'_>, encoding: Encoding, report: &mut Report) -> Result<(), Held> {
    let mut gone = Vec::new();
    for group in (0x6000..=0x60FE).step_by(2) {
        if !set.iter().any(|e| e.tag.0 == group) {
            continue;
        }
        let within = number(set, Tag(group, 0x0102), encoding).is_some_and(|bit| bit != 0);
        let stays = by.profile.clean_graphics && !within && plane_is_clean(by, set, group, encoding)?;
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

fn plane_is_clean(by: &Deidentifier, set: &DataSet<'_>, group: u16, encoding: Encoding) -> Result<bool, Held> {
    let (Some(detector), Some(data)) = (&by.detector, find(set, Tag(group, 0x3000))) else { return Ok(false) };
    let (Some(rows), Some(columns)) =
        (number(set, Tag(group, 0x10), encoding), number(set, Tag(group, 0x11), encoding))
    else {
        return Ok(false);
    };
    let plane = usize::from(rows) * usize::from(columns);
    let bits = data.bytes();
    if plane == 0 || bits.len() * 8 < plane {
        return Ok(false);
    }
    let bit = |n: usize| bits.get(n / 8).is_some_and(|byte| byte >> (n % 8) & 1 == 1);
    for first in (0..bits.len() * 8 - plane + 1).step_by(plane) {
        let pixels: Vec<u8> = (first..first + plane).map(|n| if bit(n) { 255 } else { 0 }).collect();
        let frame = Frame {
            rows,
            columns,
            samples: 1,
            bits_allocated: 8,
            bits_stored: 8,
            signed: false,
            photometric: "MONOCHROME2",
            palette: None,
            window: None,
            pixels: &pixels,
        };
        if !detector.text(frame)?.is_empty() {
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
