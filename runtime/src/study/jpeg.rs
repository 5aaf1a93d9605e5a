//! What a JPEG image says of itself (ISO 10918-1 annex B), before anything decodes it.

use super::codec::{Codestream, ended};
use super::pixels::Photometric;

/// The headers of a JPEG image (ISO 10918-1 annex B).
pub(super) fn header(data: &[u8], photometric: Photometric) -> Result<Option<Codestream>, String> {
    let Some(end) = ended(data) else { return Ok(None) };
    let segments = segments(&data[..end]);
    let frame = segments.iter().find(|s| matches!(s.marker, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF));
    let Some((frame, Some([precision, y0, y1, x0, x1, components]))) = frame.map(|f| (f, f.value.first_chunk())) else {
        return Ok(None);
    };
    if !matches!(frame.marker, 0xC0..=0xC3) {
        return Err(
            "its compressed image is hierarchical or arithmetic-coded, which this version does not decode".into()
        );
    }
    // Whoever decodes it finds the components where the header says that they are.
    if frame.value.len() != 6 + 3 * usize::from(*components) {
        return Err("its compressed image has a header that does not describe each of its components".into());
    }
    let lossless = frame.marker == 0xC3;
    let twelve = frame.marker == 0xC1 && *precision == 12;
    if !lossless && !twelve && *precision != 8 {
        return Err(format!(
            "its compressed image has {precision} bits a sample in a process for which this version decodes 8"
        ));
    }
    let colours = *components == 3 && !lossless && !twelve;
    let rgb = colours && is_rgb(&segments, frame, photometric);
    let names = if colours { names(&segments, frame, if rgb { *b"RGB" } else { [1, 2, 3] }) } else { Vec::new() };
    Ok(Some(Codestream {
        width: u32::from(u16::from_be_bytes([*x0, *x1])),
        height: u32::from(u16::from_be_bytes([*y0, *y1])),
        components: u16::from(*components),
        alike: true,
        precision: u16::from(*precision),
        range: 0..end,
        tiles: 0,
        lossless,
        // The decoder makes RGB of YCbCr; lossless images and those of 12 bits are left as they are.
        becomes_rgb: colours,
        names,
    }))
}

/// A marker segment of a JPEG image.
pub(super) struct Segment<'a> {
    pub(super) marker: u8,
    /// Where the value starts.
    pub(super) at: usize,
    pub(super) value: &'a [u8],
}

/// The marker segments with a length, as far as there are some.
pub(super) fn segments(data: &[u8]) -> Vec<Segment<'_>> {
    let mut segments = Vec::new();
    let mut at = if data.starts_with(&[0xFF, 0xD8]) { 2 } else { data.len() };
    while let Some([0xFF, marker, rest @ ..]) = data.get(at..) {
        match (*marker, rest) {
            (0xFF, _) => at += 1,
            (0x01 | 0xD0..=0xD7, _) => at += 2,
            (0xD8 | 0xD9, _) => break,
            (marker, [l0, l1, ..]) => {
                let length = usize::from(u16::from_be_bytes([*l0, *l1]).max(2));
                let Some(value) = rest.get(2..length) else { break };
                segments.push(Segment { marker, at: at + 4, value });
                at += 2 + length;
                if marker == 0xDA {
                    // Coded data go on to the next marker that is no restart and no stuffed zero.
                    let next = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD7 | 0xFF);
                    at += data[at..].windows(2).position(next).unwrap_or(data.len());
                }
            }
            _ => break,
        }
    }
    segments
}

/// Whether three components are red, green and blue, rather than luminance and chrominance: by their names, by JFIF, by
/// Adobe's marker (ISO 10918-6), and else as the data set says.
fn is_rgb(segments: &[Segment<'_>], frame: &Segment<'_>, photometric: Photometric) -> bool {
    let named: Vec<u8> = frame.value.iter().skip(6).step_by(3).take(3).copied().collect();
    if named == b"RGB" {
        return true;
    }
    if segments.iter().any(|s| s.marker == 0xE0 && s.value.starts_with(b"JFIF\0")) {
        return false;
    }
    let adobe = segments.iter().find(|s| s.marker == 0xEE && s.value.starts_with(b"Adobe"));
    match adobe.and_then(|s| s.value.get(11)) {
        Some(transform) => *transform == 0,
        None => photometric == Photometric::Rgb,
    }
}

/// Where the names of components stand, in the frame's header and in each scan's, and what to write there.
fn names(segments: &[Segment<'_>], frame: &Segment<'_>, new: [u8; 3]) -> Vec<(usize, u8)> {
    let old: Vec<u8> = frame.value.iter().skip(6).step_by(3).take(3).copied().collect();
    let mut names: Vec<(usize, u8)> = new.iter().enumerate().map(|(i, name)| (frame.at + 6 + i * 3, *name)).collect();
    for scan in segments.iter().filter(|s| s.marker == 0xDA) {
        let count = scan.value.first().copied().unwrap_or(0);
        let selectors = scan.value.iter().enumerate().skip(1).step_by(2).take(count.into());
        names.extend(selectors.filter_map(|(i, name)| {
            let component = old.iter().position(|old| old == name)?;
            Some((scan.at + i, new[component]))
        }));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_describes_each_of_its_components() {
        // Of three components none is described, and the image ends.
        let stream = [0xFF, 0xD8, 0xFF, 0xC0, 0, 8, 8, 0, 1, 0, 1, 3, 0xFF, 0xD9];
        let error = header(&stream, Photometric::Rgb).map(|_| ()).expect_err("refused");
        assert!(error.contains("describe each of its components"), "{error}");
    }
}
