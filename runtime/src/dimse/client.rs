//! An association that we ask for: one service in one presentation context, one message after another, everything within a limit.

use dicom_ul::pdu::{
    AssociationRQ, PDataValueType, Pdu, PresentationContextProposed, PresentationContextResultReason, RequestorRoles,
    UserVariableItem,
};
use tokio::net::TcpStream;

use super::command::Command;
use super::wire::{Broken, Next, Prompt, Stream, Wire, Within};
use super::{APPLICATION_CONTEXT, PROTOCOL_VERSION, own_variables, reason, takes};
use crate::config::DimseConfig;
use crate::tls;

/// The only presentation context.
const CONTEXT: u8 = 1;

/// Whom to call, and as whom.
pub(crate) struct Peer<'a> {
    /// `host:port`.
    pub(crate) address: &'a str,
    pub(crate) called: &'a str,
    pub(crate) calling: &'a str,
    /// Plain TCP without.
    pub(crate) tls: Option<&'a tls::Client>,
}

/// What is wanted of a peer.
pub(crate) struct Service<'a> {
    pub(crate) abstract_syntax: &'a str,
    /// What we like most first.
    pub(crate) transfer_syntaxes: &'a [&'a str],
    /// Where they are not that we ask and the peer serves (PS3.7 annex D.3.3.4).
    pub(crate) roles: Option<RequestorRoles>,
}

/// What a peer may not pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) pdu_max_bytes: u32,
    pub(crate) command_max_bytes: u32,
    /// To connect, and then to the answer to the request for an association.
    pub(crate) associate: Within,
    /// For a message to be taken, and for a whole one to come.
    pub(crate) message: Within,
}

impl Limits {
    pub(crate) fn new(config: &DimseConfig) -> Self {
        Self {
            pdu_max_bytes: config.pdu_max_bytes,
            command_max_bytes: config.command_max_bytes,
            associate: Within { limit: "dimse.associate_timeout_ms", ms: config.associate_timeout_ms },
            message: Within { limit: "dimse.dimse_timeout_ms", ms: config.dimse_timeout_ms },
        }
    }
}

/// An association that was accepted.
pub(crate) struct Client {
    wire: Wire,
    limits: Limits,
    transfer_syntax: String,
}

impl Client {
    /// Connects and asks.
    pub(crate) async fn associate(peer: &Peer<'_>, limits: Limits, service: &Service<'_>) -> Result<Self, Broken> {
        let stream = limits.associate.run(connect(peer)).await?;
        let mut wire = Wire::new(stream, limits.pdu_max_bytes, limits.message);
        match limits.associate.run(ask(&mut wire, peer, limits, service)).await {
            Ok(transfer_syntax) => Ok(Self { wire, limits, transfer_syntax }),
            Err(broken) => {
                wire.abort(&broken).await;
                Err(broken)
            }
        }
    }

    /// What the peer chose.
    pub(crate) fn transfer_syntax(&self) -> &str {
        &self.transfer_syntax
    }

    /// Sends a command set and a data set.
    pub(crate) async fn send(&mut self, command: &[u8], data: &[u8]) -> Result<(), Broken> {
        self.wire.send(CONTEXT, command, Some(data)).await
    }

    /// The next message; without a data set that is empty.
    pub(crate) async fn receive(&mut self, data_max_bytes: usize) -> Result<(Command, Vec<u8>), Broken> {
        let (limits, wire) = (self.limits, &mut self.wire);
        let message = async {
            let most = usize::try_from(limits.command_max_bytes).unwrap_or(usize::MAX);
            let command = pieces(wire, PDataValueType::Command, most).await?;
            let command = Command::parse(&command).map_err(|e| Broken::Malformed(e.to_string()))?;
            let data = match command.has_data_set {
                true => pieces(wire, PDataValueType::Data, data_max_bytes).await?,
                false => Vec::new(),
            };
            Ok((command, data))
        };
        limits.message.run(message).await
    }

    /// Releases the association after what went well, and says why not after what did not.
    pub(crate) async fn end<T>(mut self, done: Result<T, Broken>) -> Result<T, Broken> {
        match &done {
            Ok(_) => {
                // What was wanted is there, however they part.
                if self.wire.write(&Pdu::ReleaseRQ).await.is_ok() {
                    let _ = self.limits.message.run(self.wire.read()).await;
                }
                self.wire.close().await;
            }
            Err(broken) => self.wire.abort(broken).await,
        }
        done
    }
}

async fn connect(peer: &Peer<'_>) -> Result<Box<dyn Stream>, Broken> {
    let stream = Prompt::new(TcpStream::connect(peer.address).await?);
    let Some(tls) = peer.tls else { return Ok(Box::new(stream)) };
    let host = peer.address.rsplit_once(':').map_or(peer.address, |(host, _)| host);
    Ok(Box::new(tls.connect(host.trim_matches(['[', ']']), stream).await?))
}

/// The transfer syntax that the peer chose.
async fn ask(wire: &mut Wire, peer: &Peer<'_>, limits: Limits, service: &Service<'_>) -> Result<String, Broken> {
    let class = service.abstract_syntax.to_owned();
    let roles = service.roles.map(|roles| UserVariableItem::ScuScpRoleSelectionSubItem(class.clone(), roles));
    let request = AssociationRQ {
        protocol_version: PROTOCOL_VERSION,
        calling_ae_title: peer.calling.into(),
        called_ae_title: peer.called.into(),
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: vec![PresentationContextProposed {
            id: CONTEXT,
            abstract_syntax: class,
            transfer_syntaxes: service.transfer_syntaxes.iter().map(|&syntax| syntax.to_owned()).collect(),
        }],
        user_variables: own_variables(limits.pdu_max_bytes).into_iter().chain(roles).collect(),
    };
    wire.write(&Pdu::AssociationRQ(request)).await?;
    let answer = match wire.read().await? {
        Pdu::AssociationAC(answer) => answer,
        Pdu::AssociationRJ(rejection) => return Err(Broken::Rejected(reason(&rejection))),
        Pdu::AbortRQ { .. } => return Err(Broken::Aborted),
        _ => return Err(Broken::Unexpected("the peer does not answer the request for an association")),
    };
    wire.peer_takes(takes(&answer.user_variables));
    let context = answer.presentation_contexts.into_iter().find(|context| context.id == CONTEXT);
    let context = context.filter(|context| context.reason == PresentationContextResultReason::Acceptance);
    let context = context.ok_or(Broken::Unexpected("the peer does not offer this service"))?;
    let chosen = context.transfer_syntax.trim_end_matches(['\0', ' ']);
    match service.transfer_syntaxes.contains(&chosen) {
        true => Ok(chosen.to_owned()),
        false => Err(Broken::Unexpected("the peer chose a transfer syntax that was not offered")),
    }
}

/// All pieces of a command set or of a data set.
async fn pieces(wire: &mut Wire, kind: PDataValueType, max_bytes: usize) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    loop {
        let Next::Value(value) = wire.next().await? else {
            return Err(Broken::Unexpected("the peer releases an association that is not its own"));
        };
        if value.value_type != kind || value.presentation_context_id != CONTEXT {
            return Err(Broken::Unexpected("a piece came that is not of the message that is being received"));
        }
        bytes.extend_from_slice(&value.data);
        if bytes.len() > max_bytes {
            return Err(Broken::Malformed(format!("a message has a part of more than {max_bytes} bytes")));
        }
        if value.is_last {
            return Ok(bytes);
        }
    }
}
