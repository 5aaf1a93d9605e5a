//! JPEG XL (ISO 18181): what a codestream says of itself, by our own code, and its samples, by jxl-oxide.
//!
//! Boxes around a codestream (ISO 18181-2) are taken off here: what else is in them is compressed once more, and of no use.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jxl_oxide::{AllocTracker, InitializeResult, JxlImage, JxlThreadPool};

/// What the header of a codestream says (ISO 18181-1 annex D).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1, or 3 of a colour.
    pub(super) components: u16,
    /// Bits of a sample, up to 16.
    pub(super) precision: u16,
}

const CODESTREAM: [u8; 2] = [0xFF, 0x0A];
const CONTAINER: [u8; 12] = *b"\0\0\0\x0CJXL \r\n\x87\n";

const CUT: &str = "the compressed image has no header or no end";
const UNDECODABLE: &str = "its compressed image cannot be decoded";

/// What the decoder may take beside a few MiB, for each pixel: planes of three colours in 32 bits, several times over.
const PIXEL_BYTES: usize = 64;
const BASE_BYTES: usize = 16 << 20;
/// A still image is one frame, with a few before it that it is made of: each of them is as large as it says.
const FRAMES_MAX: usize = 16;

/// The codestream, out of its boxes where it is in some.
pub(super) fn codestream(data: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    if data.starts_with(&CODESTREAM) {
        return Ok(Cow::Borrowed(data));
    }
    let mut rest = data.strip_prefix(&CONTAINER).ok_or(CUT)?;
    let mut parts: Vec<&[u8]> = Vec::new();
    // What is left at the end pads a fragment to an even length.
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [s0, s1, s2, s3, kind @ ..] = *head;
        let (length, after) = match u32::from_be_bytes([s0, s1, s2, s3]) {
            0 => (after.len(), after),
            1 => {
                let (long, after) = after.split_first_chunk::<8>().ok_or(CUT)?;
                let length = u64::from_be_bytes(*long).checked_sub(16).ok_or(CUT)?;
                (usize::try_from(length).map_err(|_| CUT)?, after)
            }
            length => ((length as usize).checked_sub(8).ok_or(CUT)?, after),
        };
        let (content, next) = after.split_at_checked(length).ok_or(CUT)?;
        match &kind {
            b"jxlc" => parts.push(content),
            // The first four bytes count it.
            b"jxlp" => parts.push(content.get(4..).ok_or(CUT)?),
            _ => {}
        }
        rest = next;
    }
    match parts[..] {
        [] => Err(CUT),
        [one] => Ok(Cow::Borrowed(one)),
        _ => Ok(Cow::Owned(parts.concat())),
    }
}

/// Reads the header of a codestream, and refuses what an image of DICOM has no place for.
pub(super) fn header(stream: &[u8]) -> Result<Header, &'static str> {
    if !stream.starts_with(&CODESTREAM) {
        return Err(CUT);
    }
    let mut bits = Bits { bytes: stream, at: 16 };
    let (width, height) = bits.size()?;
    // All by default: a colour of 8 bits.
    if bits.flag()? {
        return Ok(Header { width, height, components: 3, precision: 8 });
    }
    let more = bits.flag()?;
    if more {
        if bits.take(3)? != 0 {
            return Err("its JPEG XL image is to be turned or mirrored, and only its position may say how it lies");
        }
        // The size that it is to be shown in.
        if bits.flag()? {
            bits.size()?;
        }
        if bits.flag()? {
            return Err("its JPEG XL image has a preview, which this version does not decode");
        }
        if bits.flag()? {
            return Err("its JPEG XL image is an animation, and a frame is one image");
        }
    }
    if bits.flag()? {
        return Err("its JPEG XL image is of floating-point numbers, which this version does not decode");
    }
    let precision = bits.one_of([(8, 0), (10, 0), (12, 0), (1, 6)])?;
    if precision > 16 {
        return Err("its JPEG XL image has more than 16 bits a sample, which this version does not decode");
    }
    // Whether 16 bits are enough for the decoder.
    bits.flag()?;
    if bits.one_of([(0, 0), (1, 0), (2, 4), (1, 12)])? != 0 {
        return Err(
            "its JPEG XL image has channels beside its colours, such as transparency, which this version does not decode",
        );
    }
    // Whether its colours are taken apart as eyes do.
    bits.flag()?;
    let grey = if bits.flag()? {
        false
    } else {
        let profile = bits.flag()?;
        let grey = bits.one_of([(0, 0), (1, 0), (2, 4), (18, 6)])? == 1;
        if profile {
            bits.small_profile(more)?;
        }
        grey
    };
    Ok(Header { width, height, components: if grey { 1 } else { 3 }, precision: precision as u16 })
}

/// Bits, the lowest of a byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// A number of up to 32 bits.
    fn take(&mut self, count: usize) -> Result<u32, &'static str> {
        let mut number = 0;
        for place in 0..count {
            let at = self.at + place;
            let byte = self.bytes.get(at / 8).ok_or(CUT)?;
            number |= u32::from((byte >> (at % 8)) & 1) << place;
        }
        self.at += count;
        Ok(number)
    }

    fn flag(&mut self) -> Result<bool, &'static str> {
        Ok(self.take(1)? == 1)
    }

    /// A number that says in which of four ways it is written: what is added to how many bits.
    fn one_of(&mut self, ways: [(u32, usize); 4]) -> Result<u32, &'static str> {
        let (least, count) = ways[self.take(2)? as usize];
        Ok(least + self.take(count)?)
    }

    /// That the colour profile is small that follows upon colours: the decoder takes up to 256 MiB twice for one, whatever
    /// memory it may take, and as few bytes can say so.
    fn small_profile(&mut self, more: bool) -> Result<(), &'static str> {
        // How bright it is to be shown, where that is not as usual.
        if more && !self.flag()? {
            for count in [16, 16, 1, 16] {
                self.take(count)?;
            }
        }
        // Extensions, and whether it is enlarged as usual.
        if self.take(2)? != 0 || !self.flag()? {
            return Err("its JPEG XL image has a colour profile, and extensions or another way to be enlarged");
        }
        // Any size, but one of more than 20 bits.
        let large = self.take(2)? == 3 && {
            self.take(12)?;
            self.flag()? && {
                self.take(8)?;
                self.flag()?
            }
        };
        if large {
            Err("its JPEG XL image has a colour profile of 1 MiB or more, which this version does not decode")
        } else {
            Ok(())
        }
    }

    /// Width and height.
    fn size(&mut self) -> Result<(u32, u32), &'static str> {
        let eighths = self.flag()?;
        let height = self.side(eighths)?;
        let (times, over) = match self.take(3)? {
            0 => return Ok((self.side(eighths)?, height)),
            1 => (1, 1),
            2 => (12, 10),
            3 => (4, 3),
            4 => (3, 2),
            5 => (16, 9),
            6 => (5, 4),
            _ => (2, 1),
        };
        // At most twice 2^30.
        Ok(((u64::from(height) * times / over) as u32, height))
    }

    fn side(&mut self, eighths: bool) -> Result<u32, &'static str> {
        match eighths {
            true => Ok((self.take(5)? + 1) * 8),
            false => self.one_of([(1, 9), (1, 13), (1, 18), (1, 30)]),
        }
    }
}

/// Decodes a codestream whose header is known and fits: `put` gets the place of each sample, pixel after pixel, and its
/// value. Where `as_stored`, samples are no colours that the decoder may turn into red, green and blue.
pub(super) fn decode(
    stream: &[u8],
    header: &Header,
    as_stored: bool,
    put: &mut dyn FnMut(usize, u16),
) -> Result<(), String> {
    // A panic must fail this file, not the process that serves others.
    match catch_unwind(AssertUnwindSafe(|| render(stream, header, as_stored, put))) {
        Ok(done) => done.map_err(str::to_owned),
        Err(_) => Err(UNDECODABLE.into()),
    }
}

fn render(
    stream: &[u8],
    header: &Header,
    as_stored: bool,
    put: &mut dyn FnMut(usize, u16),
) -> Result<(), &'static str> {
    let pixels = header.width as usize * header.height as usize;
    let memory = AllocTracker::with_limit(BASE_BYTES + pixels.saturating_mul(PIXEL_BYTES));
    // Frames are decoded side by side already.
    let mut image = JxlImage::builder().pool(JxlThreadPool::none()).alloc_tracker(memory).build_uninit();
    image.feed_bytes(stream).map_err(|_| UNDECODABLE)?;
    let InitializeResult::Initialized(image) = image.try_init().map_err(|_| UNDECODABLE)? else {
        return Err(CUT);
    };
    if !image.is_loading_done() {
        return Err(CUT);
    }
    if image.num_loaded_keyframes() != 1 || image.num_loaded_frames() > FRAMES_MAX {
        return Err("its JPEG XL image has more frames than a still image is made of");
    }
    if as_stored && image.frame_header(0).is_none_or(|frame| frame.do_ycbcr) {
        return Err("the decoder makes red, green and blue of its JPEG XL image, and Photometric Interpretation \
                    (0028,0004) is another");
    }
    let frame = image.render_frame(0).map_err(|_| UNDECODABLE)?;
    let mut samples = frame.stream_no_alpha();
    if (samples.width(), samples.height(), samples.channels())
        != (header.width, header.height, u32::from(header.components))
    {
        return Err(UNDECODABLE);
    }
    // The decoder gives parts of the highest value as f32: of integers of 16 bits nothing is lost.
    let highest = f64::from((1u32 << header.precision) - 1);
    let mut row = vec![0f32; header.width as usize * usize::from(header.components)];
    let mut at = 0;
    loop {
        let count = samples.write_to_buffer(row.as_mut_slice());
        for part in &row[..count] {
            put(at, (f64::from(*part) * highest).round().clamp(0.0, highest) as u16);
            at += 1;
        }
        if count == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A codestream of these bits.
    fn stream(bits: &str) -> Vec<u8> {
        let bits: Vec<u8> = bits.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| b - b'0').collect();
        let byte = |bits: &[u8]| bits.iter().rev().fold(0u8, |byte, bit| byte << 1 | bit);
        CODESTREAM.into_iter().chain(bits.chunks(8).map(byte)).collect()
    }

    #[test]
    fn sizes_are_read_in_each_of_their_ways() {
        let said =
            |bits: &str| header(&stream(&format!("{bits} 1 0000000"))).map(|header| (header.width, header.height));
        // In eights: 5 bits and one are 16 rows; the same, 4 to 3, and 64 columns of their own.
        assert_eq!(said("1 10000 100"), Ok((16, 16)));
        assert_eq!(said("1 11000 110"), Ok((42, 32)));
        assert_eq!(said("1 10000 000 11100"), Ok((64, 16)));
        // 60,000 rows, written with 18 bits, and as many columns.
        let sixty_thousand = "01 111110100101011100";
        assert_eq!(said(&format!("0 {sixty_thousand} 100")), Ok((60_000, 60_000)));
        assert_eq!(said(&format!("0 {sixty_thousand} 000 {sixty_thousand}")), Ok((60_000, 60_000)));
        assert_eq!(header(&CODESTREAM), Err(CUT));
        assert_eq!(header(b"\xFF\xD8\xFF"), Err(CUT));
    }

    #[test]
    fn what_an_image_of_dicom_has_no_place_for_is_named() {
        let said = |bits: &str| header(&stream(&format!("1 00000 100 0 {bits} 00000000 00000000")));
        // No more fields; integers of 12 bits; 16 bits are enough; nothing beside; as it is; grey.
        let grey = Header { width: 8, height: 8, components: 1, precision: 12 };
        assert_eq!(said("0 0 01 1 00 0 0 0 10"), Ok(grey));
        assert_eq!(said("0 0 01 1 00 0 0 0 00"), Ok(Header { components: 3, ..grey }));
        assert_eq!(said("0 0 11 111100 0 00 0 1"), Ok(Header { components: 3, precision: 16, ..grey }));
        // Colour profiles of no byte, of less than 1 MiB and of more; the last two also behind how bright it is to be shown.
        let (profile, bright) = ("0 01 1 00 0 0 1 10", format!("0 {}", "0".repeat(49)));
        let (below, above) = ("00 1 11 000000000000 1 11111111 0", "00 1 11 000000000000 1 00000000 1");
        assert_eq!(said(&format!("0 {profile} 00 1 00")), Ok(grey));
        for before in
            [format!("0 {profile}"), format!("1 000 0 0 0 {profile} 1"), format!("1 000 0 0 0 {profile} {bright}")]
        {
            assert_eq!(said(&format!("{before} {below}")), Ok(grey));
            assert!(said(&format!("{before} {above}")).expect_err("large").contains("of 1 MiB or more"), "{before}");
        }
        for (bits, reason) in [
            ("1 100", "turned or mirrored"),
            ("1 000 0 1", "preview"),
            ("1 000 0 0 1", "animation"),
            ("0 1", "floating-point"),
            ("0 0 11 000010", "more than 16 bits"),
            ("0 0 00 1 10", "beside its colours"),
            ("0 0 01 1 00 0 0 1 10 10 0000 1", "extensions"),
            ("0 0 01 1 00 0 0 1 10 00 0", "another way to be enlarged"),
        ] {
            assert!(said(bits).expect_err(bits).contains(reason), "{bits}");
        }
    }

    #[test]
    fn a_codestream_is_found_in_its_boxes() {
        let boxed =
            |kind: &[u8; 4], content: &[u8]| [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat();
        let said = |boxes: &[Vec<u8>]| codestream(&[&CONTAINER[..], &boxes.concat()].concat()).map(Cow::into_owned);
        let kind = boxed(b"ftyp", b"jxl \0\0\0\0jxl ");
        assert_eq!(said(&[kind.clone(), boxed(b"jxlc", &[1, 2, 3]), vec![0]]), Ok(vec![1, 2, 3]));
        let parts = [boxed(b"jxlp", &[0, 0, 0, 0, 1]), boxed(b"Exif", &[9; 9]), boxed(b"jxlp", &[128, 0, 0, 1, 2])];
        assert_eq!(said(&parts), Ok(vec![1, 2]));
        let to_the_end = [&[0u8; 4][..], b"jxlc", &[7, 8]].concat();
        assert_eq!(said(&[kind.clone(), to_the_end]), Ok(vec![7, 8]));
        let long = [&[0u8, 0, 0, 1][..], b"jxlc", &18u64.to_be_bytes(), &[7, 8]].concat();
        assert_eq!(said(&[long]), Ok(vec![7, 8]));
        for wrong in [vec![kind], vec![boxed(b"jxlc", &[1; 9])[..12].to_vec()], vec![boxed(b"jxlp", &[1])]] {
            assert_eq!(said(&wrong), Err(CUT));
        }
        assert_eq!(codestream(&[0xFF, 0xD8]), Err(CUT));
    }
}
