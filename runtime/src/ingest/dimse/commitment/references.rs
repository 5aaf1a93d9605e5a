//! The data set of an N-ACTION, read flat: what is nested deeper than its two levels is skipped or refused, never followed.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::ingest::Uid;

const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
const UNDEFINED: u32 = u32::MAX;

/// Value representations whose length has four bytes after two reserved ones (PS3.5 table 7.1-1).
const LONG: [&[u8; 2]; 13] =
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];

/// What is to be committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct References {
    /// Transaction UID (0008,1195).
    pub(super) transaction: Uid,
    /// Class and instance of each item of Referenced SOP Sequence (0008,1199).
    pub(super) instances: Vec<(String, String)>,
}

/// The peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unsound {
    #[error("the data set is cut, or its lengths do not fit")]
    Cut,
    #[error("the data set nests where it must not")]
    Nested,
    #[error("Transaction UID (0008,1195) is missing or no UID")]
    Transaction,
    #[error("Referenced SOP Sequence (0008,1199) is missing or empty")]
    Empty,
    #[error("a referenced SOP Class or Instance UID is none")]
    Reference,
}

impl References {
    /// Reads implicit or explicit VR little endian.
    pub(super) fn parse(bytes: &[u8], explicit: bool) -> Result<Self, Unsound> {
        let mut reader = Reader { bytes, explicit };
        let mut transaction = None;
        let mut instances = Vec::new();
        while let Some((tag, length)) = reader.header()? {
            match tag {
                tags::TRANSACTION_UID => transaction = reader.uid(length)?,
                tags::REFERENCED_SOP_SEQUENCE if length == UNDEFINED => reader.items(&mut instances, true)?,
                tags::REFERENCED_SOP_SEQUENCE => {
                    Reader { bytes: reader.take(length)?, explicit }.items(&mut instances, false)?;
                }
                _ => drop(reader.take(length)?),
            }
        }
        let transaction = transaction.ok_or(Unsound::Transaction)?;
        if instances.is_empty() {
            return Err(Unsound::Empty);
        }
        Ok(Self { transaction, instances })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    explicit: bool,
}

impl<'a> Reader<'a> {
    /// Tag and length of the next element; nothing at the end.
    fn header(&mut self) -> Result<Option<(Tag, u32)>, Unsound> {
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

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unsound> {
        let (array, rest) = self.bytes.split_first_chunk::<N>().ok_or(Unsound::Cut)?;
        self.bytes = rest;
        Ok(*array)
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8], Unsound> {
        if length == UNDEFINED {
            return Err(Unsound::Nested);
        }
        let length = usize::try_from(length).map_err(|_| Unsound::Cut)?;
        let (value, rest) = self.bytes.split_at_checked(length).ok_or(Unsound::Cut)?;
        self.bytes = rest;
        Ok(value)
    }

    fn uid(&mut self, length: u32) -> Result<Option<Uid>, Unsound> {
        Ok(std::str::from_utf8(self.take(length)?).ok().and_then(Uid::parse))
    }

    /// Items to the end, or to the delimiter.
    fn items(&mut self, instances: &mut Vec<(String, String)>, delimited: bool) -> Result<(), Unsound> {
        while let Some((tag, length)) = self.header()? {
            match tag {
                ITEM if length == UNDEFINED => instances.push(self.item(true)?),
                ITEM => {
                    let bytes = self.take(length)?;
                    instances.push(Reader { bytes, explicit: self.explicit }.item(false)?);
                }
                SEQUENCE_END if delimited => return Ok(()),
                _ => return Err(Unsound::Cut),
            }
        }
        if delimited { Err(Unsound::Cut) } else { Ok(()) }
    }

    fn item(&mut self, delimited: bool) -> Result<(String, String), Unsound> {
        let (mut class, mut instance, mut ended) = (None, None, !delimited);
        while let Some((tag, length)) = self.header()? {
            match tag {
                tags::REFERENCED_SOP_CLASS_UID => class = self.uid(length)?,
                tags::REFERENCED_SOP_INSTANCE_UID => instance = self.uid(length)?,
                ITEM_END if delimited => {
                    ended = true;
                    break;
                }
                _ => drop(self.take(length)?),
            }
        }
        match (class, instance) {
            _ if !ended => Err(Unsound::Cut),
            (Some(class), Some(instance)) => Ok((class.to_string(), instance.to_string())),
            _ => Err(Unsound::Reference),
        }
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, VR};
    use dicom_dictionary_std::uids;
    use dicom_object::InMemDicomObject;
    use dicom_object::mem::InMemElement;
    use dicom_transfer_syntax_registry::entries;

    use super::*;

    fn request() -> InMemDicomObject {
        let items = ["1.2.3", "1.2.4"].map(|instance| {
            InMemDicomObject::from_element_iter([
                DataElement::new(tags::REFERENCED_SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
                DataElement::new(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance),
            ])
        });
        let sequence = dicom_core::value::DataSetSequence::from(items.to_vec());
        InMemDicomObject::from_element_iter([
            InMemElement::new(tags::TRANSACTION_UID, VR::UI, "1.2.99"),
            InMemElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, sequence),
        ])
    }

    #[test]
    fn both_encodings_are_read_and_cuts_refused() {
        let (mut implicit, mut explicit) = (Vec::new(), Vec::new());
        request().write_dataset_with_ts(&mut implicit, &entries::IMPLICIT_VR_LITTLE_ENDIAN.erased()).expect("written");
        request().write_dataset_with_ts(&mut explicit, &entries::EXPLICIT_VR_LITTLE_ENDIAN.erased()).expect("written");
        for (bytes, is_explicit) in [(implicit, false), (explicit, true)] {
            let references = References::parse(&bytes, is_explicit).expect("sound");
            assert_eq!(references.transaction.as_str(), "1.2.99");
            let instances: Vec<_> = references.instances.iter().map(|(_, instance)| instance.as_str()).collect();
            assert_eq!(instances, ["1.2.3", "1.2.4"]);
            for cut in 0..bytes.len() {
                References::parse(&bytes[..cut], is_explicit).expect_err("cut");
            }
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_following_it() {
        let mut bytes = Vec::new();
        for _ in 0..100_000 {
            bytes.extend([
                0x08, 0x00, 0x99, 0x11, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF,
            ]);
        }
        let refused = References::parse(&bytes, false).expect_err("refused");
        assert!(matches!(refused, Unsound::Nested), "{refused}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, explicit: bool) {
            let _ = References::parse(&bytes, explicit);
        }
    }
}
