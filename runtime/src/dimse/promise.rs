//! Data sets of storage commitment as the one who asks has them (PS3.4 section J.3): the request, and the report that answers it.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_encoding::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::elements::{Flaw, ITEM, ITEM_END, Reader, SEQUENCE_END, UNDEFINED};

/// Request Storage Commitment is the only action (PS3.4 table J.3-1).
pub(crate) const REQUEST_COMMITMENT: u16 = 1;

/// A report of more than these bytes is none of ours.
pub(crate) const REPORT_MAX_BYTES: usize = 1 << 20;

/// The data set of an N-ACTION that asks for these, by class and instance, in a transfer syntax that was negotiated.
///
/// # Errors
/// Says what cannot be written.
pub(crate) fn request(
    transaction: &str,
    instances: &[(String, String)],
    transfer_syntax: &str,
) -> Result<Vec<u8>, String> {
    let item = |(class, instance): &(String, String)| {
        InMemDicomObject::from_element_iter([
            DataElement::new(tags::REFERENCED_SOP_CLASS_UID, VR::UI, class.as_str()),
            DataElement::new(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance.as_str()),
        ])
    };
    let items: Vec<_> = instances.iter().map(item).collect();
    let data = InMemDicomObject::from_element_iter([
        InMemElement::new(tags::TRANSACTION_UID, VR::UI, transaction),
        InMemElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, DataSetSequence::from(items)),
    ]);
    let syntax = TransferSyntaxRegistry.get(transfer_syntax).ok_or("an unknown transfer syntax was negotiated")?;
    let mut bytes = Vec::new();
    data.write_dataset_with_ts(&mut bytes, syntax).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// What a peer promises, and what not: SOP Instance UIDs as sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Report {
    /// Transaction UID (0008,1195); empty when missing.
    pub(crate) transaction: String,
    /// Of Referenced SOP Sequence (0008,1199).
    pub(crate) committed: Vec<String>,
    /// Of Failed SOP Sequence (0008,1198), with Failure Reason (0008,1197).
    pub(crate) failed: Vec<(String, u16)>,
}

impl Report {
    /// Reads what came in this transfer syntax, flat: what is nested deeper than its two levels is skipped or refused.
    pub(crate) fn parse(bytes: &[u8], transfer_syntax: &str) -> Result<Self, Flaw> {
        let mut reader = Reader::new(bytes, transfer_syntax != uids::IMPLICIT_VR_LITTLE_ENDIAN);
        let mut report = Self::default();
        while let Some((tag, length)) = reader.header()? {
            match tag {
                tags::TRANSACTION_UID => report.transaction = text(reader.take(length)?),
                tags::REFERENCED_SOP_SEQUENCE => {
                    report.committed.extend(sequence(&mut reader, length)?.into_iter().map(|(instance, _)| instance));
                }
                tags::FAILED_SOP_SEQUENCE => report.failed.extend(sequence(&mut reader, length)?),
                _ => drop(reader.take(length)?),
            }
        }
        Ok(report)
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned()
}

fn sequence(reader: &mut Reader<'_>, length: u32) -> Result<Vec<(String, u16)>, Flaw> {
    match length {
        UNDEFINED => items(reader, true),
        length => items(&mut reader.part(length)?, false),
    }
}

/// Items to the end, or to the delimiter: instance and failure reason of each.
fn items(reader: &mut Reader<'_>, delimited: bool) -> Result<Vec<(String, u16)>, Flaw> {
    let mut found = Vec::new();
    while let Some((tag, length)) = reader.header()? {
        match tag {
            ITEM if length == UNDEFINED => found.push(item(reader, true)?),
            ITEM => found.push(item(&mut reader.part(length)?, false)?),
            SEQUENCE_END if delimited => return Ok(found),
            _ => return Err(Flaw::Cut),
        }
    }
    if delimited { Err(Flaw::Cut) } else { Ok(found) }
}

fn item(reader: &mut Reader<'_>, delimited: bool) -> Result<(String, u16), Flaw> {
    let (mut instance, mut reason) = (String::new(), 0);
    while let Some((tag, length)) = reader.header()? {
        match tag {
            tags::REFERENCED_SOP_INSTANCE_UID => instance = text(reader.take(length)?),
            tags::FAILURE_REASON => reason = reader.take(length)?.try_into().map_or(0, u16::from_le_bytes),
            ITEM_END if delimited => return Ok((instance, reason)),
            _ => drop(reader.take(length)?),
        }
    }
    if delimited { Err(Flaw::Cut) } else { Ok((instance, reason)) }
}

#[cfg(test)]
mod tests {
    use dicom_core::PrimitiveValue;

    use super::*;

    const SYNTAXES: [&str; 2] = [uids::IMPLICIT_VR_LITTLE_ENDIAN, uids::EXPLICIT_VR_LITTLE_ENDIAN];

    #[test]
    fn what_is_asked_for_reads_back() {
        let asked = [("1.2".to_owned(), "1.2.3".to_owned()), ("1.2".to_owned(), "1.2.4".to_owned())];
        for syntax in SYNTAXES {
            let bytes = request("2.25.9", &asked, syntax).expect("written");
            // A report of success has the form of the request.
            let report = Report::parse(&bytes, syntax).expect("sound");
            let expected = Report {
                transaction: "2.25.9".into(),
                committed: vec!["1.2.3".into(), "1.2.4".into()],
                failed: Vec::new(),
            };
            assert_eq!(report, expected);
            for cut in 1..bytes.len() {
                if let Ok(cut) = Report::parse(&bytes[..cut], syntax) {
                    assert_eq!(cut.committed.len(), 0, "whole items only");
                }
            }
        }
    }

    #[test]
    fn failures_have_their_reason() {
        let item = InMemDicomObject::from_element_iter([
            DataElement::new(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.3"),
            DataElement::new(tags::FAILURE_REASON, VR::US, PrimitiveValue::from(0x0112_u16)),
        ]);
        let data = InMemDicomObject::from_element_iter([
            InMemElement::new(tags::TRANSACTION_UID, VR::UI, "2.25.9"),
            InMemElement::new(tags::FAILED_SOP_SEQUENCE, VR::SQ, DataSetSequence::from(vec![item])),
        ]);
        for syntax in SYNTAXES {
            let mut bytes = Vec::new();
            let ts = TransferSyntaxRegistry.get(syntax).expect("known");
            data.write_dataset_with_ts(&mut bytes, ts).expect("written");
            let report = Report::parse(&bytes, syntax).expect("sound");
            assert_eq!((report.failed, report.committed), (vec![("1.2.3".to_owned(), 0x0112)], Vec::new()));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            for syntax in SYNTAXES {
                let _ = Report::parse(&bytes, syntax);
            }
        }
    }
}
