//! One association: messages in, responses out, until it is released or breaks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use dicom_ul::pdu::{PDataValueType, Pdu};

use super::Shared;
use super::commitment;
use super::negotiate::{Agreed, Context, Service};
use super::store;
use crate::dimse::command::{C_ECHO_RQ, C_STORE_RQ, Command, N_ACTION_RQ, N_EVENT_REPORT_RQ, Status};
use crate::dimse::wire::{Broken, Next, Value, Wire, Within};
use crate::ingest::{Arrival, Intake};

/// Unrecognized Operation (PS3.7 annex C.5.27).
const UNRECOGNIZED_OPERATION: u16 = 0x0211;
/// C-CANCEL-RQ, which is not answered (PS3.7 section 9.3.2.3).
const C_CANCEL_RQ: u16 = 0x0FFF;

/// An association that was accepted.
pub(super) struct Association {
    shared: Arc<Shared>,
    wire: Wire,
    contexts: BTreeMap<u8, Context>,
    ending: Ending,
    /// Title and address of the peer.
    pub(super) peer: (String, SocketAddr),
    /// N-EVENT-REPORTs that were sent and not answered yet: Message ID to report.
    pub(super) reports: BTreeMap<u16, i64>,
    /// Of requests of ours.
    message_id: u16,
    /// Instances that were refused, by reason.
    refused: BTreeMap<&'static str, u64>,
}

/// Says that the association ended, once, however it does.
struct Ending {
    intake: Intake,
    arrival: Arrival,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.intake.ended(&self.arrival);
    }
}

impl Association {
    pub(super) fn new(shared: Arc<Shared>, mut wire: Wire, agreed: Agreed, arrival: Arrival, from: SocketAddr) -> Self {
        wire.peer_takes(agreed.peer_max_bytes);
        let ending = Ending { intake: shared.intake.clone(), arrival };
        let peer = (agreed.answer.calling_ae_title.trim().to_owned(), from);
        let (contexts, reports, refused) = (agreed.contexts, BTreeMap::new(), BTreeMap::new());
        Self { shared, wire, contexts, ending, peer, reports, message_id: 0, refused }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let ended = self.messages().await;
        let bytes = self.wire.bytes();
        for (reason, instances) in self.refused.iter().filter(|(_, instances)| **instances > 1) {
            tracing::warn!(reason, instances, "instances refused on this association");
        }
        // What was not answered goes on an association of its own.
        if !self.reports.is_empty() {
            commitment::unanswered(&self).await;
        }
        match ended {
            Ok(()) => {
                tracing::info!(bytes, "association released");
                self.wire.close().await;
            }
            Err(broken @ (Broken::Aborted | Broken::Stopping)) => {
                tracing::info!(bytes, "association ended: {broken}");
                self.wire.abort(&broken).await;
            }
            Err(broken) => {
                tracing::warn!(bytes, "association broke: {broken}");
                self.wire.abort(&broken).await;
            }
        }
    }

    async fn messages(&mut self) -> Result<(), Broken> {
        loop {
            match self.first().await? {
                Next::Value(value) => {
                    let (id, context, command) = self.command(value).await?;
                    self.answer(id, &context, &command).await?;
                }
                Next::Release => return self.wire.write(&Pdu::ReleaseRP).await,
            }
        }
    }

    /// What begins the next message. Only here does an association end because the node does.
    async fn first(&mut self) -> Result<Next, Broken> {
        let idle = Within { limit: "dimse.idle_timeout_ms", ms: self.shared.config.idle_timeout_ms };
        if self.wire.has_values() {
            return self.wire.next().await;
        }
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Err(Broken::Stopping),
            next = idle.run(self.wire.next()) => next,
        }
    }

    /// The whole command set that begins with `value`.
    async fn command(&mut self, mut value: Value) -> Result<(u8, Context, Command), Broken> {
        let id = value.presentation_context_id;
        let context = self.contexts.get(&id).cloned();
        let context =
            context.ok_or(Broken::Unexpected("a message came in a presentation context that was not accepted"))?;
        let mut bytes = Vec::new();
        loop {
            if value.value_type != PDataValueType::Command || value.presentation_context_id != id {
                return Err(Broken::Unexpected("a piece came that is not of the command that is being received"));
            }
            bytes.extend_from_slice(&value.data);
            let most = self.shared.config.command_max_bytes;
            if bytes.len() as u64 > u64::from(most) {
                return Err(Broken::Malformed(format!("a command set passes dimse.command_max_bytes = {most}")));
            }
            if value.is_last {
                let command = Command::parse(&bytes).map_err(|e| Broken::Malformed(e.to_string()))?;
                return Ok((id, context, command));
            }
            value = self.more().await?;
        }
    }

    async fn answer(&mut self, id: u8, context: &Context, command: &Command) -> Result<(), Broken> {
        let status = match (command.field, context.service) {
            (C_ECHO_RQ, Service::Verification) if !command.has_data_set => Status::success(),
            (C_STORE_RQ, Service::Storage) => store::receive(self, id, context, command).await?,
            (N_ACTION_RQ, Service::StorageCommitment) => return commitment::action(self, id, context, command).await,
            (N_EVENT_REPORT_RQ, Service::StorageCommitment) => commitment::promised(self, id, context, command).await?,
            (C_CANCEL_RQ, _) => return Ok(()),
            _ => {
                if command.has_data_set {
                    self.discard(id).await?;
                }
                if command.is_response() {
                    return commitment::answered(self, command).await;
                }
                Status::failure(UNRECOGNIZED_OPERATION, "not an operation of this presentation context")
            }
        };
        self.respond(id, command, &status).await
    }

    /// Sends the response to a request.
    pub(super) async fn respond(&mut self, id: u8, command: &Command, status: &Status) -> Result<(), Broken> {
        self.wire.send(id, &command.response(status), None).await
    }

    /// Sends a request with a data set.
    pub(super) async fn send(&mut self, id: u8, command: &[u8], data: &[u8]) -> Result<(), Broken> {
        self.wire.send(id, command, Some(data)).await
    }

    /// The next piece of the data set that is being received.
    pub(super) async fn data(&mut self, id: u8) -> Result<Value, Broken> {
        let value = self.more().await?;
        match value.value_type {
            PDataValueType::Data if value.presentation_context_id == id => Ok(value),
            _ => Err(Broken::Unexpected("a piece came that is not of the data set that is being received")),
        }
    }

    /// Reads the rest of a data set and throws it away, so that the association can go on.
    pub(super) async fn discard(&mut self, id: u8) -> Result<(), Broken> {
        let most = self.shared.file_max_mib;
        let mut bytes = 0;
        loop {
            let piece = self.data(id).await?;
            bytes += piece.data.len() as u64;
            if piece.is_last {
                return Ok(());
            }
            if bytes > most << 20 {
                return Err(Broken::Malformed(format!("a refused data set passes limits.file_max_mib = {most}")));
            }
        }
    }

    async fn more(&mut self) -> Result<Value, Broken> {
        let within = Within { limit: "dimse.dimse_timeout_ms", ms: self.shared.config.dimse_timeout_ms };
        match within.run(self.wire.next()).await? {
            Next::Value(value) => Ok(value),
            Next::Release => Err(Broken::Unexpected("a release was asked for within a message")),
        }
    }

    /// Says that an instance was refused. Each reason is told once and then counted: a full disk is no line for every image.
    pub(super) fn refused(&mut self, reason: &'static str, said: &dyn std::fmt::Display) {
        let instances = self.refused.entry(reason).or_default();
        *instances += 1;
        let (first, source) = (*instances == 1, &self.ending.arrival.source);
        if first {
            tracing::warn!(source, reason, "instance refused: {said}");
        } else {
            tracing::debug!(source, reason, "instance refused: {said}");
        }
    }

    /// For the next request of ours.
    pub(super) fn next_message_id(&mut self) -> u16 {
        self.message_id = self.message_id.wrapping_add(1);
        self.message_id
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn intake(&self) -> &Intake {
        &self.shared.intake
    }

    pub(super) fn arrival(&self) -> &Arrival {
        &self.ending.arrival
    }
}
