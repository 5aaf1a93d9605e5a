//! A DICOM peer over a raw socket, which may do what no library would: what it sends is what the test says.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, MAXIMUM_PDU_SIZE, PDataValue, PDataValueType, Pdu, PresentationContextProposed,
    PresentationContextResult, PresentationContextResultReason, UserVariableItem, read_pdu, write_pdu,
};

use crate::node::NODE_TITLE;

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// Data of one piece, so that a PDU is not longer than any configuration takes.
const PIECE_BYTES: usize = 4000;

/// One connection.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    message_id: u16,
}

impl Peer {
    /// Connects, and says nothing.
    #[must_use]
    pub fn connect(to: SocketAddr) -> Self {
        Self::on(TcpStream::connect(to).expect("connects"))
    }

    /// On a connection that is there.
    #[must_use]
    pub fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.set_nodelay(true).expect("set");
        Self { stream, buffer: Vec::new(), message_id: 0 }
    }

    /// Associates for classes with transfer syntaxes: contexts 1, 3, 5 and so on.
    #[must_use]
    pub fn associate(to: SocketAddr, contexts: &[(&str, &str)]) -> Self {
        let mut peer = Self::connect(to);
        let answer = peer.ask(contexts);
        assert!(matches!(answer, Some(Pdu::AssociationAC(_))), "{answer:?}");
        peer
    }

    /// Sends an A-ASSOCIATE-RQ; the answer.
    pub fn ask(&mut self, contexts: &[(&str, &str)]) -> Option<Pdu> {
        let contexts = contexts.iter().zip((1..).step_by(2));
        let presentation_contexts = contexts.map(|((class, syntax), id)| PresentationContextProposed {
            id,
            abstract_syntax: (*class).into(),
            transfer_syntaxes: vec![(*syntax).into()],
        });
        self.send(&Pdu::AssociationRQ(AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "RAW".into(),
            called_ae_title: NODE_TITLE.into(),
            application_context_name: uids::DICOM_APPLICATION_CONTEXT.into(),
            presentation_contexts: presentation_contexts.collect(),
            user_variables: vec![UserVariableItem::MaxLength(16384)],
        }));
        self.read()
    }

    /// Reads an A-ASSOCIATE-RQ and takes every context with the first transfer syntax that is proposed for it; the request, where
    /// one came.
    pub fn accept_all(&mut self) -> Option<AssociationRQ> {
        let Some(Pdu::AssociationRQ(request)) = self.read() else { return None };
        let contexts = request.presentation_contexts.iter().map(|proposed| PresentationContextResult {
            id: proposed.id,
            reason: PresentationContextResultReason::Acceptance,
            transfer_syntax: proposed.transfer_syntaxes[0].clone(),
        });
        self.send(&Pdu::AssociationAC(AssociationAC {
            protocol_version: 1,
            calling_ae_title: request.calling_ae_title.clone(),
            called_ae_title: request.called_ae_title.clone(),
            application_context_name: request.application_context_name.clone(),
            presentation_contexts: contexts.collect(),
            user_variables: vec![UserVariableItem::MaxLength(0)],
        }));
        Some(request)
    }

    /// A whole message: its context, command set and data set. Nothing where the peer releases, aborts or is gone.
    pub fn message(&mut self) -> Option<(u8, Vec<u8>, Vec<u8>)> {
        let (mut command, mut data) = (Vec::new(), Vec::new());
        loop {
            let Some(Pdu::PData { data: values }) = self.read() else { return None };
            for value in values {
                let is_command = value.value_type == PDataValueType::Command;
                if is_command { &mut command } else { &mut data }.extend_from_slice(&value.data);
                let alone = is_command && element(&command, 0x0800) == Some(&[1, 1]);
                if value.is_last && (alone || !is_command) {
                    return Some((value.presentation_context_id, command, data));
                }
            }
        }
    }

    /// Answers a request with a status.
    pub fn respond(&mut self, context: u8, request: &[u8], status: u16) {
        let field =
            element(request, 0x0100).map_or(0, |field| u16::from_le_bytes(field.try_into().expect("two bytes")));
        let id = element(request, 0x0110).expect("a request has a number").to_vec();
        let bytes = command(&[
            (0x0100, (field | 0x8000).to_le_bytes().to_vec()),
            (0x0120, id),
            (0x0800, 0x0101_u16.to_le_bytes().to_vec()),
            (0x0900, status.to_le_bytes().to_vec()),
        ]);
        self.piece(context, PDataValueType::Command, true, &bytes);
    }

    /// Agrees that the association ends, when the peer asks for it next.
    pub fn released(&mut self) -> bool {
        let asked = self.read() == Some(Pdu::ReleaseRQ);
        if asked {
            self.send(&Pdu::ReleaseRP);
        }
        asked
    }

    /// Reads an A-ASSOCIATE-RQ and takes its context 1 with this transfer syntax; the request, where one came.
    pub fn accept(&mut self, syntax: &str) -> Option<AssociationRQ> {
        let Some(Pdu::AssociationRQ(request)) = self.read() else { return None };
        let roles = request.user_variables.iter();
        let roles = roles.filter(|item| matches!(item, UserVariableItem::ScuScpRoleSelectionSubItem(..)));
        self.send(&Pdu::AssociationAC(AssociationAC {
            protocol_version: 1,
            calling_ae_title: request.calling_ae_title.clone(),
            called_ae_title: request.called_ae_title.clone(),
            application_context_name: request.application_context_name.clone(),
            presentation_contexts: vec![PresentationContextResult {
                id: 1,
                reason: PresentationContextResultReason::Acceptance,
                transfer_syntax: syntax.into(),
            }],
            user_variables: roles.cloned().chain([UserVariableItem::MaxLength(0)]).collect(),
        }));
        Some(request)
    }

    /// Sends bytes; that nobody takes them is for the test to find when it reads.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a PDU.
    pub fn send(&mut self, pdu: &Pdu) {
        let mut bytes = Vec::new();
        write_pdu(&mut bytes, pdu).expect("writable");
        self.send_bytes(&bytes);
    }

    /// Sends one piece of a message.
    pub fn piece(&mut self, context: u8, value_type: PDataValueType, is_last: bool, data: &[u8]) {
        let value = PDataValue { presentation_context_id: context, value_type, is_last, data: data.to_vec() };
        self.send(&Pdu::PData { data: vec![value] });
    }

    /// The next PDU; nothing where the connection ended.
    ///
    /// # Panics
    /// When nothing comes within half a minute.
    pub fn read(&mut self) -> Option<Pdu> {
        loop {
            let mut seen = &self.buffer[..];
            if let Some(pdu) = read_pdu(&mut seen, MAXIMUM_PDU_SIZE, false).expect("sound") {
                let used = self.buffer.len() - seen.len();
                self.buffer.drain(..used);
                return Some(pdu);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(n) => self.buffer.extend_from_slice(&bytes[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came within {PATIENCE:?}"),
                Err(_) => return None,
            }
        }
    }

    /// Sends a C-STORE's command.
    pub fn store_command(&mut self, context: u8, class: &str, instance: &str) {
        self.message_id += 1;
        let number = |n: u16| n.to_le_bytes().to_vec();
        let bytes = command(&[
            (0x0002, padded(class)),
            (0x0100, number(0x0001)),
            (0x0110, number(self.message_id)),
            (0x0700, number(0)),
            (0x0800, number(0)),
            (0x1000, padded(instance)),
        ]);
        self.piece(context, PDataValueType::Command, true, &bytes);
    }

    /// Sends a data set in pieces.
    pub fn data(&mut self, context: u8, data: &[u8]) {
        let pieces = data.len().div_ceil(PIECE_BYTES).max(1);
        for index in 0..pieces {
            let rest = &data[index * PIECE_BYTES..];
            let piece = &rest[..rest.len().min(PIECE_BYTES)];
            self.piece(context, PDataValueType::Data, index + 1 == pieces, piece);
        }
    }

    /// Status and error comment of the next response.
    pub fn status(&mut self) -> (u16, String) {
        let answer = self.read();
        let Some(Pdu::PData { data }) = &answer else { panic!("no response: {answer:?}") };
        let bytes = &data[0].data;
        let status = element(bytes, 0x0900).and_then(|value| value.try_into().ok()).map(u16::from_le_bytes);
        let comment = String::from_utf8_lossy(element(bytes, 0x0902).unwrap_or_default()).trim_end().to_owned();
        (status.expect("a response has a status"), comment)
    }

    /// A whole C-STORE; its status and error comment.
    pub fn store(&mut self, context: u8, class: &str, instance: &str, data: &[u8]) -> (u16, String) {
        self.store_command(context, class, instance);
        self.data(context, data);
        self.status()
    }

    /// Releases; whether the other side agreed.
    pub fn release(mut self) -> bool {
        self.send(&Pdu::ReleaseRQ);
        self.read() == Some(Pdu::ReleaseRP)
    }

    /// Closes without a word.
    pub fn cut(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A command set (PS3.7 section 6.3) of elements of group 0000.
#[must_use]
pub fn command(elements: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (element, value) in elements {
        bytes.extend([0, 0]);
        bytes.extend(element.to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
    }
    bytes
}

/// The value of an element of a command set.
#[must_use]
pub fn element(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some((header, rest)) = bytes.split_first_chunk::<8>() {
        let [_, _, e0, e1, length @ ..] = *header;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(length) as usize)?;
        if u16::from_le_bytes([e0, e1]) == wanted {
            return Some(value);
        }
        bytes = rest;
    }
    None
}

/// A UID of even length.
#[must_use]
pub fn padded(uid: &str) -> Vec<u8> {
    let mut bytes = uid.as_bytes().to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

/// The data set of a file as it lies there: without preamble and file meta information.
///
/// # Panics
/// When it is no DICOM file.
#[must_use]
pub fn data_set(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("readable");
    assert_eq!(&bytes[128..132], b"DICM");
    assert_eq!(bytes[132..136], [2, 0, 0, 0], "group length comes first");
    let length = u32::from_le_bytes(bytes[140..144].try_into().expect("four bytes"));
    bytes[144 + length as usize..].to_vec()
}
