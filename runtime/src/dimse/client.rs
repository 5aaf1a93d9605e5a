//! An association that we ask for: one message after another, everything within a limit.

use dicom_ul::pdu::{
    AssociationRQ, PDataValueType, Pdu, PresentationContextProposed, PresentationContextResult,
    PresentationContextResultReason, RequestorRoles, UserVariableItem,
};
use tokio::io::AsyncRead;
use tokio::net::TcpStream;

use super::command::Command;
use super::wire::{Broken, Next, Prompt, Stream, Wire, Within};
use super::{APPLICATION_CONTEXT, PROTOCOL_VERSION, own_variables, reason, takes};
use crate::config::DimseConfig;
use crate::tls;

/// The first presentation context; the next ones are 3, 5 and so on, up to 255 (PS3.8 section 9.3.2.2).
const CONTEXT: u8 = 1;
/// So many there are.
pub(crate) const SERVICES_MAX: usize = 128;

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
    contexts: Vec<Context>,
}

/// A presentation context that the peer accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) id: u8,
    /// Which of the services that were asked for.
    pub(crate) service: usize,
    /// What the peer chose.
    pub(crate) transfer_syntax: String,
}

impl Client {
    /// Connects and asks for one service, which the peer must offer.
    pub(crate) async fn associate(peer: &Peer<'_>, limits: Limits, service: &Service<'_>) -> Result<Self, Broken> {
        let client = Self::associate_for_some(peer, limits, std::slice::from_ref(service)).await?;
        match client.contexts.is_empty() {
            false => Ok(client),
            true => client.end(Err(Broken::Unexpected("the peer does not offer this service"))).await,
        }
    }

    /// Connects and asks for services, [`SERVICES_MAX`] at most, of which the peer may offer some or none.
    pub(crate) async fn associate_for_some(
        peer: &Peer<'_>,
        limits: Limits,
        services: &[Service<'_>],
    ) -> Result<Self, Broken> {
        let stream = limits.associate.run(connect(peer)).await?;
        let mut wire = Wire::new(stream, limits.pdu_max_bytes, limits.message);
        match limits.associate.run(ask(&mut wire, peer, limits, services)).await {
            Ok(contexts) => Ok(Self { wire, limits, contexts }),
            Err(broken) => {
                wire.abort(&broken).await;
                Err(broken)
            }
        }
    }

    /// What the peer chose for the first service that it offers.
    pub(crate) fn transfer_syntax(&self) -> &str {
        self.contexts.first().map(|context| context.transfer_syntax.as_str()).unwrap_or_default()
    }

    /// The context of one of the services that were asked for, where the peer offers it.
    pub(crate) fn context(&self, service: usize) -> Option<Context> {
        self.contexts.iter().find(|context| context.service == service).cloned()
    }

    /// Sends a command set and a data set, of the first service that the peer offers.
    pub(crate) async fn send(&mut self, command: &[u8], data: &[u8]) -> Result<(), Broken> {
        let id = self.contexts.first().map_or(CONTEXT, |context| context.id);
        self.wire.send(id, command, Some(data)).await
    }

    /// Sends a command set, and a data set where there is one.
    pub(crate) async fn send_in(&mut self, context: u8, command: &[u8], data: Option<&[u8]>) -> Result<(), Broken> {
        self.wire.send(context, command, data).await
    }

    /// Sends a command set, and a data set of so many bytes as it is read.
    pub(crate) async fn send_from(
        &mut self,
        context: u8,
        command: &[u8],
        data: &mut (impl AsyncRead + Unpin),
        bytes: u64,
    ) -> Result<(), Broken> {
        self.wire.send_from(context, command, data, bytes).await
    }

    /// The next message; without a data set that is empty.
    pub(crate) async fn receive(&mut self, data_max_bytes: usize) -> Result<(Command, Vec<u8>), Broken> {
        let (limits, wire, contexts) = (self.limits, &mut self.wire, self.contexts.as_slice());
        let message = async {
            let most = usize::try_from(limits.command_max_bytes).unwrap_or(usize::MAX);
            let command = pieces(wire, contexts, PDataValueType::Command, most).await?;
            let command = Command::parse(&command).map_err(|e| Broken::Malformed(e.to_string()))?;
            let data = match command.has_data_set {
                true => pieces(wire, contexts, PDataValueType::Data, data_max_bytes).await?,
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

/// What the peer accepted.
async fn ask(
    wire: &mut Wire,
    peer: &Peer<'_>,
    limits: Limits,
    services: &[Service<'_>],
) -> Result<Vec<Context>, Broken> {
    let roles = services.iter().filter_map(|service| {
        let class = service.abstract_syntax.to_owned();
        service.roles.map(|roles| UserVariableItem::ScuScpRoleSelectionSubItem(class, roles))
    });
    let proposed =
        services.iter().zip((CONTEXT..=u8::MAX).step_by(2)).map(|(service, id)| PresentationContextProposed {
            id,
            abstract_syntax: service.abstract_syntax.to_owned(),
            transfer_syntaxes: service.transfer_syntaxes.iter().map(|&syntax| syntax.to_owned()).collect(),
        });
    let request = AssociationRQ {
        protocol_version: PROTOCOL_VERSION,
        calling_ae_title: peer.calling.into(),
        called_ae_title: peer.called.into(),
        application_context_name: APPLICATION_CONTEXT.into(),
        presentation_contexts: proposed.collect(),
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
    let mut contexts = Vec::new();
    for (index, service) in services.iter().enumerate().take(SERVICES_MAX) {
        let answered = answer.presentation_contexts.iter().find(|context| usize::from(context.id) == 2 * index + 1);
        let accepted =
            |context: &&PresentationContextResult| context.reason == PresentationContextResultReason::Acceptance;
        let Some(context) = answered.filter(accepted) else { continue };
        let chosen = context.transfer_syntax.trim_end_matches(['\0', ' ']);
        if !service.transfer_syntaxes.contains(&chosen) {
            return Err(Broken::Unexpected("the peer chose a transfer syntax that was not offered"));
        }
        contexts.push(Context { id: context.id, service: index, transfer_syntax: chosen.to_owned() });
    }
    Ok(contexts)
}

/// All pieces of a command set or of a data set.
async fn pieces(
    wire: &mut Wire,
    contexts: &[Context],
    kind: PDataValueType,
    max_bytes: usize,
) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    loop {
        let Next::Value(value) = wire.next().await? else {
            return Err(Broken::Unexpected("the peer releases an association that is not its own"));
        };
        if value.value_type != kind || !contexts.iter().any(|context| context.id == value.presentation_context_id) {
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
