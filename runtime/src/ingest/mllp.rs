//! The MLLP service: orders and merges of patients by HL7 v2.
//!
//! ```text
//! TCP ─ TLS ─▶ Frames ─▶ Message ─▶ order::read ─▶ journal, one commit ─▶ AA
//!            a bound on     what is wrong, by
//!            every message  segment and field: AE or AR
//! ```
//!
//! An acknowledgement leaves after the commit. One message of a connection is worked on at a time, in order. Nothing that a
//! message says is logged.

mod warnings;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::warnings::Warnings;
use super::accept::next_connection;
use crate::audit::{Action, Audit, Event};
use crate::config::{Config, Hl7Config};
use crate::messages::hl7::ack::{Asked, Ourselves};
use crate::messages::hl7::order::{self, Inbound, Rules};
use crate::messages::hl7::{ErrorCode, Flaw, FrameError, Frames, Message, framed};
use crate::metrics::Metrics;
use crate::store::{Sender, Store};
use crate::tls::{self, TlsError};

/// Read at once.
const PIECE_BYTES: usize = 16 << 10;
/// Why one more connection is closed.
const FULL: &str = "hl7.connections_max are open";

/// The service, listening.
pub struct Mllp {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    config: Hl7Config,
    rules: Rules,
    we: Ourselves,
    tls: Option<TlsAcceptor>,
    store: Store,
    audit: Audit,
    metrics: Arc<Metrics>,
    warnings: Warnings,
    /// Of connections; those that shake hands have as many of their own, so that strangers take none.
    places: Arc<Semaphore>,
    arriving: Arc<Semaphore>,
}

/// The service cannot start: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum MllpError {
    /// The address cannot be had.
    #[error("hl7.listen = {address}: {reason}; choose another port, or stop what listens there")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        reason: std::io::Error,
    },
    /// Certificate or key.
    #[error("hl7.tls: {0}")]
    Tls(#[from] TlsError),
}

impl Mllp {
    /// Listens; nothing where `hl7.listen` is not set.
    ///
    /// # Errors
    /// Address, certificate or key cannot be used.
    pub async fn bind(
        config: &Config,
        store: Store,
        metrics: Arc<Metrics>,
        audit: Audit,
    ) -> Result<Option<Self>, MllpError> {
        let Some(address) = config.hl7.listen else { return Ok(None) };
        let failed = |reason| MllpError::Listen { address, reason };
        let config = config.hl7.clone();
        let tls = config.tls.as_ref().map(tls::server_config).transpose()?.map(TlsAcceptor::from);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let we = Ourselves { application: config.application.clone(), facility: config.facility.clone() };
        let (rules, most) = (config.rules(), config.connections_max);
        let (places, arriving) = (Arc::new(Semaphore::new(most)), Arc::new(Semaphore::new(most)));
        let warnings = Warnings::default();
        let shared = Arc::new(Shared { config, rules, we, tls, store, audit, metrics, warnings, places, arriving });
        Ok(Some(Self { listener, address, shared }))
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`. Connections are `tasks`: each ends after the message that it is in.
    pub async fn run(self, stop: CancellationToken, tasks: &TaskTracker) {
        let Self { listener, address, shared } = self;
        tracing::info!(%address, tls = shared.tls.is_some(), "hl7 listening");
        while let Some((stream, from)) = next_connection(&listener, &stop).await {
            tasks.spawn(connection(shared.clone(), stream, from.ip(), stop.clone()));
        }
    }
}

/// One connection, from its first byte.
async fn connection(shared: Arc<Shared>, stream: TcpStream, from: IpAddr, stop: CancellationToken) {
    let from = from.to_canonical();
    let allowed = &shared.config.allowed_addresses;
    if !allowed.is_empty() && !allowed.iter().any(|address| address.to_canonical() == from) {
        return shared.closed(from, "the address is not in hl7.allowed_addresses", None).await;
    }
    // Answers are small, and each is waited for.
    let _ = stream.set_nodelay(true);
    let Ok(arriving) = shared.arriving.clone().try_acquire_owned() else {
        return shared.closed(from, FULL, None).await;
    };
    let limit = Duration::from_millis(shared.config.handshake_timeout_ms);
    let stream: Box<dyn Stream> = match &shared.tls {
        None => Box::new(stream),
        Some(tls) => match timeout(limit, tls.accept(stream)).await {
            Ok(Ok(stream)) => Box::new(stream),
            Ok(Err(e)) => return shared.closed(from, "the TLS handshake failed", Some(e)).await,
            Err(_) => return shared.closed(from, "no TLS handshake within hl7.handshake_timeout_ms", None).await,
        },
    };
    let Ok(_place) = shared.places.clone().try_acquire_owned() else {
        return shared.closed(from, FULL, None).await;
    };
    drop(arriving);
    let correlation = uuid::Uuid::now_v7().to_string();
    let span = tracing::info_span!("hl7", correlation, %from);
    async {
        if let Err(why) = serve(&shared, stream, from, &correlation, &stop).await {
            shared.warnings.warn(&format!("closed: {why}"));
        }
    }
    .instrument(span)
    .await;
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Why a connection ends before its peer ends it. No patient data.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("nothing came within hl7.idle_timeout_ms")]
    Idle,
    #[error("a message was not whole within hl7.message_timeout_ms")]
    Slow,
    #[error("an answer was not taken within hl7.answer_timeout_ms")]
    NotTaken,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the connection ended within a message")]
    Cut,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

async fn serve(
    shared: &Shared,
    mut stream: Box<dyn Stream>,
    from: IpAddr,
    correlation: &str,
    stop: &CancellationToken,
) -> Result<(), Ended> {
    let config = &shared.config;
    let most = usize::try_from(config.message_max_kib << 10).unwrap_or(usize::MAX);
    let (mut frames, mut piece) = (Frames::new(most), vec![0; PIECE_BYTES]);
    let (mut since, mut inside) = (Instant::now(), false);
    loop {
        let (limit, late) = match inside {
            true => (config.message_timeout_ms, Ended::Slow),
            false => (config.idle_timeout_ms, Ended::Idle),
        };
        let deadline = since + Duration::from_millis(limit);
        let read = tokio::select! {
            // A message that has begun is not cut off: it is waited for as long as it may take.
            () = stop.cancelled(), if !inside => return Ok(()),
            read = timeout_at(deadline, stream.read(&mut piece)) => read,
        };
        let read = read.map_err(|_| late)??;
        if read == 0 {
            return if inside { Err(Ended::Cut) } else { Ok(()) };
        }
        frames.push(piece.get(..read).unwrap_or_default());
        loop {
            match frames.next() {
                Ok(Some(message)) => {
                    let answers = shared.take(&message, from, correlation).await;
                    answer(&mut stream, &answers, config.answer_timeout_ms).await?;
                    (since, inside) = (Instant::now(), false);
                }
                Ok(None) => break,
                Err(e) => {
                    // It is told, for what it is worth: where the next message begins, nobody knows.
                    let answers = shared.refuse(&Asked::default(), &of_frame(e), from).await;
                    answer(&mut stream, &answers, config.answer_timeout_ms).await?;
                    return Err(e.into());
                }
            }
        }
        if frames.is_inside() && !inside {
            (since, inside) = (Instant::now(), true);
        }
    }
}

async fn answer(stream: &mut Box<dyn Stream>, answers: &[Vec<u8>], limit_ms: u64) -> Result<(), Ended> {
    for answer in answers {
        let bytes = framed(answer);
        let written = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        timeout(Duration::from_millis(limit_ms), written).await.map_err(|_| Ended::NotTaken)??;
    }
    Ok(())
}

fn of_frame(error: FrameError) -> Flaw {
    let problem = match error {
        FrameError::TooLarge(_) => "the message is larger than hl7.message_max_kib",
        FrameError::Outside => "bytes stand between messages: no start block (0x0B)",
        FrameError::Within => "a start block (0x0B) stands within a message",
    };
    Flaw { segment: String::new(), sequence: 1, field: None, code: ErrorCode::SegmentSequence, problem }
}

impl Shared {
    /// What is to be answered, once it is in the journal.
    async fn take(&self, bytes: &[u8], from: IpAddr, correlation: &str) -> Vec<Vec<u8>> {
        let message = match Message::parse(bytes, self.config.segments_max) {
            Ok(message) => message,
            Err(flaw) => return self.refuse(&Asked::of_header(bytes), &flaw, from).await,
        };
        let asked = Asked::of(&message);
        let inbound = match order::read(&message, &self.rules) {
            Ok(inbound) => inbound,
            Err(flaw) => return self.refuse(&asked, &flaw, from).await,
        };
        let sender = Sender {
            name: asked.sender(),
            control_id: asked.control_id().to_owned(),
            address: from.to_string(),
            correlation: correlation.to_owned(),
        };
        let (kind, recorded) = match &inbound {
            Inbound::Orders(orders) => {
                let recorded = self.store.record_orders(orders, &sender, self.config.orders_days).await;
                let raised = recorded.as_ref().ok().map(|ordered| ordered.raised);
                tracing::info!(orders = orders.len(), raised, "hl7: orders");
                let of_others = recorded.as_ref().map_or(0, |ordered| ordered.of_others);
                if of_others > 0 {
                    self.warnings.warn(&format!(
                        "an order names another patient than {of_others} studies with its accession number, and raises none of \
                         these; the audit log says which"
                    ));
                }
                ("order", recorded.map(drop))
            }
            Inbound::Merges(merges) => {
                let recorded = self.store.record_merges(merges, &sender, self.config.merges_days).await;
                tracing::info!(
                    merges = merges.len(),
                    studies = recorded.as_ref().ok(),
                    "hl7: merges are noted, images stay"
                );
                ("merge", recorded.map(drop))
            }
        };
        match recorded {
            Ok(()) => {
                self.metrics.hl7_message(kind, "accepted");
                asked.answers(&self.we, None, &now())
            }
            Err(e) => {
                tracing::error!("hl7: a message cannot be recorded, and was rejected: {e}");
                self.metrics.hl7_message(kind, "failed");
                let problem = "the message cannot be recorded now; send it again later";
                let flaw =
                    Flaw { segment: String::new(), sequence: 1, field: None, code: ErrorCode::Internal, problem };
                asked.answers(&self.we, Some(&flaw), &now())
            }
        }
    }

    /// A connection is not served. Anybody can cause as many of these as they like: only the first of a minute is told.
    async fn closed(&self, from: IpAddr, why: &str, error: Option<std::io::Error>) {
        let event = Event { detail: format!("HL7: {why}"), ..Event::new("", Action::AccessRefused) };
        if self.audit.refused(from, event).await {
            let error = error.map(|e| format!(": {e}")).unwrap_or_default();
            tracing::warn!(%from, "hl7: closed, {why}{error}; more of them within a minute are counted, and not told");
        }
    }

    /// Into the audit log, and what is to be answered.
    async fn refuse(&self, asked: &Asked, flaw: &Flaw, from: IpAddr) -> Vec<Vec<u8>> {
        self.metrics.hl7_message("other", "refused");
        let event = Event { detail: format!("HL7: {flaw}"), ..Event::new(&asked.sender(), Action::MessageRefused) };
        if self.audit.refused(from, event).await {
            tracing::warn!(
                "hl7: a message was refused: {flaw}; more of them within a minute are counted, and not told"
            );
        }
        asked.answers(&self.we, Some(flaw), &now())
    }
}

/// As in MSH-7.
fn now() -> String {
    chrono::Utc::now().format("%Y%m%d%H%M%S+0000").to_string()
}

#[cfg(test)]
mod tests;
