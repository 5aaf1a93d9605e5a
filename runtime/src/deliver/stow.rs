//! STOW-RS (PS3.18 section 10.5) through `dicom-web`: one request a delivery, each file as a part that is read while it is sent.
//!
//! `dicom-web` tells of each instance what an answer of success says, also one of success in part (202). Of an answer of failure it
//! tells the status alone, not the reasons in its body: such a delivery is tried again until its attempts are used up, or given up
//! where the status says that it must (`webhook::refused`). It follows redirections, and trusts the roots of this machine, or those that
//! SSL_CERT_FILE names: its HTTP client is its own and cannot be another.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dicom_object::InMemDicomObject;
use dicom_web::{DicomWebClient, DicomWebError};
use futures_util::{Stream, stream};
use tokio::io::AsyncReadExt;

use super::dimse::{DUPLICATE, Stored, judge, verdict};
use super::folder::digest;
use super::webhook::refused;
use super::{Delivery, Failure, PIECE_BYTES, Sent, Trouble, secret};
use crate::config::StowDestination;
use crate::dimse::stored::{Kept, kept};
use crate::ingest::blocking;

pub(super) struct Sender {
    client: DicomWebClient,
}

pub(super) fn check(to: &StowDestination) -> Result<(), String> {
    Sender::new(to).map(|_| ())
}

impl Sender {
    pub(super) fn new(to: &StowDestination) -> Result<Self, String> {
        let mut client = DicomWebClient::with_single_url(to.url.trim_end_matches('/'));
        client.add_header("Accept", "application/dicom+json");
        if let Some(path) = &to.token_file {
            client.set_bearer_token(&secret("stow.token_file", path)?);
        }
        Ok(Self { client })
    }

    pub(super) async fn send(&self, delivery: &Arc<Delivery>) -> Result<Sent, Trouble> {
        let of = delivery.clone();
        let files = blocking(move || of.outputs().map(|output| of.open(output)).collect::<Result<Vec<_>, _>>()).await?;
        if files.is_empty() {
            return Ok(Sent { detail: "the result has nothing that it takes".into(), ..Sent::default() });
        }
        let parts = files.into_iter().map(|file| pieces(tokio::fs::File::from_std(file)));
        let request = self.client.store_instances_in_study(&delivery.job.study_instance_uid);
        let answer = request.with_data_streams(stream::iter(parts.collect::<Vec<_>>())).run().await;
        let answer = answer.map_err(trouble)?;
        let said: Vec<_> = delivery
            .outputs()
            .map(|output| (output.file.clone(), said(&answer, output.sop_instance_uid.as_deref().unwrap_or_default())))
            .collect();
        let detail = verdict(&said)?;
        let outputs = delivery.outputs().filter_map(|output| digest(&output.sha256)).collect();
        Ok(Sent { outputs, detail, awaits: None })
    }
}

fn pieces(file: tokio::fs::File) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    stream::try_unfold(file, |mut file| async move {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let read = file.read_buf(&mut piece).await?;
        Ok((read > 0).then(|| (piece.freeze(), file)))
    })
}

/// What an answer says of one instance.
fn said(answer: &InMemDicomObject, instance: &str) -> Stored {
    match kept(answer, instance) {
        Kept::Yes(warning) => warning.map_or(Stored::Yes, Stored::Warned),
        Kept::Unsaid => Stored::No(Failure::again("its answer says nothing of it")),
        Kept::No(reason) => match reason.map(judge) {
            // It has it already.
            Some(Stored::Warned(DUPLICATE)) => Stored::Warned(DUPLICATE),
            // A failure all the same, whatever the number would mean elsewhere.
            None | Some(Stored::Yes | Stored::Warned(_)) => {
                Stored::No(Failure::again("it failed to store it, and does not say why"))
            }
            Some(refused) => refused,
        },
    }
}

/// Without addresses and without what a parser quotes.
fn trouble(error: DicomWebError) -> Trouble {
    match error {
        DicomWebError::RequestFailed { source, .. } => {
            let connects = source.is_connect();
            let text = crate::printable(&crate::completion::failed(source));
            if connects { Trouble::Unreachable(text) } else { Failure::again(text).into() }
        }
        DicomWebError::HttpStatusFailure { status_code } => refused(status_code).into(),
        // It may have stored them, or not: under the same UIDs they can be sent again.
        DicomWebError::DeserializationFailed { .. } => Failure::again("its answer is no DICOM JSON, or was cut").into(),
        other => Failure::again(crate::printable(&format!("its answer: {other}"))).into(),
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::value::DataSetSequence;
    use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
    use dicom_dictionary_std::tags;
    use dicom_object::mem::InMemElement;

    use super::*;

    fn item(instance: &str, reason: Option<(Tag, u16)>) -> InMemDicomObject {
        let mut item = InMemDicomObject::from_element_iter([DataElement::new(
            tags::REFERENCED_SOP_INSTANCE_UID,
            VR::UI,
            instance,
        )]);
        if let Some((tag, reason)) = reason {
            item.put(DataElement::new(tag, VR::US, PrimitiveValue::from(reason)));
        }
        item
    }

    #[test]
    fn an_answer_says_of_each_instance_what_became_of_it() {
        let stored = vec![item("1.1", None), item("1.2", Some((tags::WARNING_REASON, 0xB000)))];
        let failed = vec![
            item("1.3", Some((tags::FAILURE_REASON, 0xA700))),
            item("1.4", Some((tags::FAILURE_REASON, 0xC000))),
            item("1.5", None),
            item("1.7", Some((tags::FAILURE_REASON, DUPLICATE))),
        ];
        let answer = InMemDicomObject::from_element_iter([
            InMemElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, DataSetSequence::from(stored)),
            InMemElement::new(tags::FAILED_SOP_SEQUENCE, VR::SQ, DataSetSequence::from(failed)),
        ]);
        let says = |instance| match said(&answer, instance) {
            Stored::Yes => "stored".to_owned(),
            Stored::Warned(status) => format!("{status:04X}"),
            Stored::No(Failure { again, text }) => format!("{again} {text}"),
        };
        assert_eq!(["1.1", "1.2", "1.7"].map(says), ["stored", "B000", "0111"]);
        assert_eq!(says("1.3"), "true it refuses it with status A700");
        assert_eq!(says("1.4"), "false it refuses it with status C000");
        assert_eq!(says("1.5"), "true it failed to store it, and does not say why");
        assert_eq!(says("1.6"), "true its answer says nothing of it");
    }
}
