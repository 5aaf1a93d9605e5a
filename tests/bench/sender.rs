//! A sender that does not stall: Nagle's algorithm is off, a message leaves in one write, and what comes is acknowledged
//! at once. DCMTK answers in two writes, and the second waits for the acknowledgement of the first: without the last,
//! storescp and Orthanc take 20 images/s of any sender.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AssociationRQ, MAXIMUM_PDU_SIZE, Pdu, PresentationContextProposed, PresentationContextResultReason,
    UserVariableItem, read_pdu, write_pdu,
};
use gantry_tests::dimse::{command, element, padded};

use crate::synthetic::{Image, TRANSFER_SYNTAX};

/// What a response is waited for at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// What we take in one PDU.
const OWN_PDU_BYTES: u32 = 16_384;
/// What is sent in one PDU at most; what the peer takes may be less, or unlimited.
const PDU_MAX_BYTES: u32 = 131_072;
/// Length of a value (4), presentation context (1), message control header (1).
const VALUE_HEADER_BYTES: u32 = 6;

/// Message control header (PS3.8 annex E.2).
const COMMAND_LAST: u8 = 3;
const DATA: u8 = 0;
const DATA_LAST: u8 = 2;

/// One association.
pub(crate) struct Sender {
    stream: TcpStream,
    /// What came and was not read yet.
    came: Vec<u8>,
    /// One message; kept, so that it is not allocated again.
    message: Vec<u8>,
    piece_bytes: usize,
    message_id: u16,
    /// SOP Class UID and presentation context ID.
    contexts: Vec<(&'static str, u8)>,
}

impl Sender {
    /// Associates for these SOP classes, all of which must be accepted.
    pub(crate) fn associate(to: SocketAddr, called: &str, classes: &[&'static str]) -> Result<Self> {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let contexts: Vec<(&'static str, u8)> = classes.iter().copied().zip((1..).step_by(2)).collect();
        let proposed = contexts.iter().map(|(class, id)| PresentationContextProposed {
            id: *id,
            abstract_syntax: (*class).into(),
            transfer_syntaxes: vec![TRANSFER_SYNTAX.into()],
        });
        let request = Pdu::AssociationRQ(AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "BENCH".into(),
            called_ae_title: called.into(),
            application_context_name: uids::DICOM_APPLICATION_CONTEXT.into(),
            presentation_contexts: proposed.collect(),
            user_variables: vec![
                UserVariableItem::MaxLength(OWN_PDU_BYTES),
                UserVariableItem::ImplementationClassUID("2.25.730000000000".into()),
            ],
        });
        let mut sender =
            Self { stream, came: Vec::new(), message: Vec::new(), piece_bytes: 0, message_id: 0, contexts };
        sender.send(&request)?;
        let Pdu::AssociationAC(answer) = sender.read()? else { bail!("the association is not accepted") };
        let refused = |result: PresentationContextResultReason| result != PresentationContextResultReason::Acceptance;
        ensure!(!answer.presentation_contexts.iter().any(|c| refused(c.reason.clone())), "a SOP class is not accepted");
        let most = answer.user_variables.iter().find_map(|item| match item {
            UserVariableItem::MaxLength(most @ 1..) => Some(*most),
            _ => None,
        });
        let most = most.unwrap_or(PDU_MAX_BYTES).min(PDU_MAX_BYTES);
        sender.piece_bytes = most.checked_sub(VALUE_HEADER_BYTES).context("the peer takes no data")? as usize & !1;
        Ok(sender)
    }

    /// Sends an image; an error unless the peer says that it keeps it. How long the answer took once all was sent.
    pub(crate) fn store(&mut self, image: &Image) -> Result<Duration> {
        let context = self.contexts.iter().find(|(class, _)| *class == image.class);
        let context = context.context("a SOP class that was not proposed")?.1;
        self.message_id = self.message_id.wrapping_add(1);
        let number = |n: u16| n.to_le_bytes().to_vec();
        let elements = command(&[
            (0x0002, padded(image.class)),
            (0x0100, number(0x0001)),
            (0x0110, number(self.message_id)),
            (0x0700, number(0)),
            (0x0800, number(0)),
            (0x1000, padded(&image.uid)),
        ]);
        let length = u32::try_from(elements.len())?.to_le_bytes().to_vec();
        self.message.clear();
        self.piece(context, COMMAND_LAST, &[command(&[(0x0000, length)]), elements].concat())?;
        let mut rest = image.data_set.as_slice();
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(self.piece_bytes));
            self.piece(context, if more.is_empty() { DATA_LAST } else { DATA }, piece)?;
            rest = more;
        }
        self.stream.write_all(&self.message)?;
        let sent = Instant::now();
        let Pdu::PData { data } = self.read()? else { bail!("no response to a C-STORE") };
        let took = sent.elapsed();
        let response = &data.first().context("an empty P-DATA")?.data;
        let status = element(response, 0x0900).and_then(|value| value.try_into().ok()).map(u16::from_le_bytes);
        let status = status.context("a response without a status")?;
        ensure!(status == 0, "C-STORE failed: status {status:04X}");
        Ok(took)
    }

    /// Releases.
    pub(crate) fn release(mut self) -> Result<()> {
        self.send(&Pdu::ReleaseRQ)?;
        ensure!(self.read()? == Pdu::ReleaseRP, "the release is not answered");
        Ok(())
    }

    /// Adds a P-DATA of one value to the message.
    fn piece(&mut self, context: u8, control: u8, data: &[u8]) -> Result<()> {
        let value_bytes = u32::try_from(data.len())? + 2;
        self.message.extend_from_slice(&[4, 0]);
        self.message.extend_from_slice(&(value_bytes + 4).to_be_bytes());
        self.message.extend_from_slice(&value_bytes.to_be_bytes());
        self.message.extend_from_slice(&[context, control]);
        self.message.extend_from_slice(data);
        Ok(())
    }

    fn send(&mut self, pdu: &Pdu) -> Result<()> {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu)?;
        Ok(self.stream.write_all(&bytes)?)
    }

    fn read(&mut self) -> Result<Pdu> {
        let mut bytes = [0; 4096];
        loop {
            let mut seen = &self.came[..];
            if let Some(pdu) = read_pdu(&mut seen, MAXIMUM_PDU_SIZE, false)? {
                let used = self.came.len() - seen.len();
                self.came.drain(..used);
                return Ok(pdu);
            }
            // The kernel falls back to delayed acknowledgements by itself, so this is said before every read.
            #[cfg(target_os = "linux")]
            rustix::net::sockopt::set_tcp_quickack(&self.stream, true)?;
            let count = self.stream.read(&mut bytes).context("no response")?;
            ensure!(count > 0, "the peer closed the connection");
            self.came.extend_from_slice(&bytes[..count]);
        }
    }
}
