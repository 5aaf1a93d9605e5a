//! A peer's data set, read flat: what is nested is skipped by its length or refused, never followed.

use dicom_core::Tag;

pub(crate) const ITEM: Tag = Tag(0xFFFE, 0xE000);
pub(crate) const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
pub(crate) const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
pub(crate) const UNDEFINED: u32 = u32::MAX;

/// Value representations whose length has four bytes after two reserved ones (PS3.5 table 7.1-1).
const LONG: [&[u8; 2]; 13] =
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];

/// The peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("the data set is cut, or its lengths do not fit")]
    Cut,
    #[error("the data set nests where it must not")]
    Nested,
}

/// Implicit or explicit VR little endian, from the first byte on. Lengths are trusted no further than the bytes that are there.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    explicit: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], explicit: bool) -> Self {
        Self { bytes, explicit }
    }

    /// Tag and length of the next element; nothing at the end.
    pub(crate) fn header(&mut self) -> Result<Option<(Tag, u32)>, Flaw> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let [g0, g1, e0, e1] = self.array()?;
        let tag = Tag(u16::from_le_bytes([g0, g1]), u16::from_le_bytes([e0, e1]));
        if !self.explicit || tag.group() == ITEM.group() {
            return Ok(Some((tag, u32::from_le_bytes(self.array()?))));
        }
        let vr: [u8; 2] = self.array()?;
        let short: [u8; 2] = self.array()?;
        let long = LONG.contains(&&vr);
        Ok(Some((tag, if long { u32::from_le_bytes(self.array()?) } else { u16::from_le_bytes(short).into() })))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let (array, rest) = self.bytes.split_first_chunk::<N>().ok_or(Flaw::Cut)?;
        self.bytes = rest;
        Ok(*array)
    }

    /// The value of the element whose header was read.
    pub(crate) fn take(&mut self, length: u32) -> Result<&'a [u8], Flaw> {
        if length == UNDEFINED {
            return Err(Flaw::Nested);
        }
        let length = usize::try_from(length).map_err(|_| Flaw::Cut)?;
        let (value, rest) = self.bytes.split_at_checked(length).ok_or(Flaw::Cut)?;
        self.bytes = rest;
        Ok(value)
    }

    /// The same, as elements.
    pub(crate) fn part(&mut self, length: u32) -> Result<Self, Flaw> {
        Ok(Self { bytes: self.take(length)?, explicit: self.explicit })
    }
}
