//! The DICOM network service: C-ECHO, C-STORE and storage commitment as a provider (PS3.7, PS3.8, PS3.4 annexes B and J).
//!
//! ```text
//! TCP ─ TLS ─▶ guard ─▶ wire ─▶ negotiate ─▶ association ─┬▶ store ─▶ Intake
//!             every PDU   PDUs   who, and       messages  └▶ commitment ─▶ journal ─▶ N-EVENT-REPORT
//!             is bounded         for what
//! ```
//!
//! Read in this order: this file, `association`, `store`, `negotiate`, `commitment`; `wire`, `guard` and `command` are those of
//! [`crate::dimse`].

mod association;
mod commitment;
mod negotiate;
mod store;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dicom_ul::pdu::{AssociationRJ, AssociationRQ, Pdu};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

use self::association::Association;
use super::accept::next_connection;
use super::{Arrival, Intake, Via};
use crate::audit::{Action, Audit, Event};
use crate::completion::Completion;
use crate::config::{Caller, Config, DimseConfig};
use crate::deliver::Promises;
use crate::dimse::wire::{Broken, Prompt, Stream, Wire, Within};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::tls::{self, TlsError};

/// Connections that have not associated yet, beyond as many as there may be associations; more are closed without a word.
pub(crate) const ARRIVING_MORE: usize = 16;

/// The service, listening.
pub struct Dimse {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
}

/// Whom results of storage commitment are sent to, and how they are called.
type Callers = Vec<(Caller, Option<tls::Client>)>;

/// What all associations share.
struct Shared {
    config: DimseConfig,
    file_max_mib: u64,
    tls: Option<TlsAcceptor>,
    callers: Callers,
    intake: Intake,
    store: Store,
    completion: Completion,
    /// What destinations were asked to keep.
    promises: Promises,
    metrics: Arc<Metrics>,
    audit: Audit,
    /// Of whom [`Dimse::run`] was given.
    stop: CancellationToken,
    /// There may be results of storage commitment to send.
    reports: Notify,
    /// Of associations: taken by those who were admitted, so that strangers take none.
    places: Arc<Semaphore>,
}

/// The service cannot start: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be had.
    #[error("dimse.listen = {address}: {reason}; choose another port, or stop what listens there")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        reason: std::io::Error,
    },
    /// Certificate or key.
    #[error("dimse.tls: {0}")]
    Tls(#[from] TlsError),
    /// The same, of a caller.
    #[error("dimse.callers ({ae_title}): tls.{reason}")]
    CallerTls {
        /// Of which.
        ae_title: String,
        /// What is wrong.
        reason: TlsError,
    },
}

impl Dimse {
    /// Listens; nothing where `dimse.listen` is not set.
    ///
    /// # Errors
    /// Address, certificate or key cannot be used.
    pub async fn bind(
        config: &Config,
        intake: Intake,
        store: Store,
        completion: Completion,
        metrics: Arc<Metrics>,
        audit: Audit,
    ) -> Result<Option<Self>, BindError> {
        let Some(address) = config.dimse.listen else { return Ok(None) };
        let failed = |reason| BindError::Listen { address, reason };
        let tls = config.dimse.tls.as_ref().map(tls::server_config).transpose()?.map(TlsAcceptor::from);
        let callers = config.dimse.callers.iter().map(called_back).collect::<Result<_, _>>()?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let promises = Promises::new(store.clone(), &config.destinations, metrics.clone());
        let (config, file_max_mib) = (config.dimse.clone(), config.limits.file_max_mib);
        let shared = Shared {
            places: Arc::new(Semaphore::new(config.associations_max)),
            config,
            file_max_mib,
            tls,
            callers,
            intake: intake.on_own_thread(),
            store,
            completion,
            promises,
            metrics,
            audit,
            stop: CancellationToken::new(),
            reports: Notify::new(),
        };
        Ok(Some(Self { listener, address, shared }))
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`. Associations are `tasks`: each ends after the message it is in.
    pub async fn run(self, stop: CancellationToken, tasks: &TaskTracker) {
        let Self { listener, address, shared } = self;
        let (config, tls) = (&shared.config, shared.tls.is_some());
        tracing::info!(%address, ae_title = %config.ae_title, tls, "dimse listening");
        let arriving = Arc::new(Arriving::new(config.associations_max + ARRIVING_MORE));
        let shared = Arc::new(Shared { stop: stop.clone(), ..shared });
        tasks.spawn(commitment::deliver(shared.clone()));
        while let Some((stream, from)) = next_connection(&listener, &stop).await {
            match Arriving::enter(&arriving, from.ip()) {
                Some(arrived) => on_own_thread(&shared, stream, from, arrived, tasks.token()),
                None => shared.metrics.association_rejected("congestion"),
            }
        }
    }
}

/// A thread and a small runtime for each connection: what comes is read, written and made durable without a change of
/// threads, each of which costs as much as a look into the file does. There are no more than places.
fn on_own_thread(shared: &Arc<Shared>, stream: TcpStream, from: SocketAddr, arrived: Arrived, open: TaskTrackerToken) {
    // A peer that is not served sees its connection close, and tries again.
    let unserved = move |e: io::Error| tracing::warn!(%from, "a connection cannot be served: {e}");
    let shared = shared.clone();
    let started = stream.into_std().and_then(|stream| {
        let serve = move || {
            let _open = open;
            // Made here: where there is no thread, nothing may be left to be taken down within the runtime that accepts.
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(e) => return unserved(e),
            };
            runtime.block_on(async {
                match TcpStream::from_std(stream) {
                    Ok(stream) => connection(shared, stream, from, arrived).await,
                    Err(e) => unserved(e),
                }
            });
        };
        std::thread::Builder::new().name("association".into()).spawn(serve)
    });
    if let Err(e) = started {
        unserved(e);
    }
}

fn called_back(caller: &Caller) -> Result<(Caller, Option<tls::Client>), BindError> {
    let failed = |reason| BindError::CallerTls { ae_title: caller.ae_title.clone(), reason };
    let tls = caller.tls.as_ref().map(tls::Client::new).transpose().map_err(failed)?;
    Ok((caller.clone(), tls))
}

/// Connections that have not associated yet. One address has half of the places at most: whoever only connects does not keep
/// others out.
struct Arriving {
    most: usize,
    now: Mutex<HashMap<IpAddr, usize>>,
}

/// Held until the association is admitted, or the connection ends.
struct Arrived {
    arriving: Arc<Arriving>,
    from: IpAddr,
}

impl Arriving {
    fn new(most: usize) -> Self {
        Self { most, now: Mutex::default() }
    }

    fn enter(this: &Arc<Self>, from: IpAddr) -> Option<Arrived> {
        let from = from.to_canonical();
        let mut now = this.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (now.values().sum::<usize>(), now.get(&from).copied().unwrap_or_default());
        if all >= this.most || own >= this.most.div_ceil(2) {
            return None;
        }
        now.insert(from, own + 1);
        Some(Arrived { arriving: this.clone(), from })
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        let mut now = self.arriving.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = now.get_mut(&self.from) {
            *own -= 1;
            if *own == 0 {
                now.remove(&self.from);
            }
        }
    }
}

/// One connection, from its first byte.
async fn connection(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, arrived: Arrived) {
    let deadline = Instant::now() + Duration::from_millis(shared.config.associate_timeout_ms);
    let secured = tokio::select! {
        () = shared.stop.cancelled() => return,
        secured = timeout_at(deadline, secure(&shared, stream)) => secured,
    };
    let late = || Broken::Silent { limit: "dimse.associate_timeout_ms", ms: shared.config.associate_timeout_ms };
    let stream = match secured.unwrap_or_else(|_| Err(late())) {
        Ok(stream) => stream,
        Err(broken) => {
            tracing::warn!(%from, "no association: {broken}");
            shared.count(&broken);
            // What is no TLS, or without the certificate that it needs; who only connects and leaves was refused nothing.
            if matches!(&broken, Broken::Io(e) if e.kind() == ErrorKind::InvalidData) {
                shared.rejected(from, "", "the TLS handshake failed").await;
            }
            return;
        }
    };
    let within = Within { limit: "dimse.dimse_timeout_ms", ms: shared.config.dimse_timeout_ms };
    let mut wire = Wire::new(stream, shared.config.pdu_max_bytes, within);
    let read = tokio::select! {
        () = shared.stop.cancelled() => Err(Broken::Stopping),
        read = timeout_at(deadline, wire.read()) => read.unwrap_or_else(|_| Err(late())),
    };
    match read {
        Ok(Pdu::AssociationRQ(request)) => associate(shared, wire, from, request, arrived).await,
        Ok(_) => end(&shared, wire, from, &Broken::Unexpected("what came first is no A-ASSOCIATE-RQ")).await,
        Err(broken) => end(&shared, wire, from, &broken).await,
    }
}

async fn end(shared: &Shared, wire: Wire, from: SocketAddr, broken: &Broken) {
    tracing::warn!(%from, "no association: {broken}");
    shared.count(broken);
    wire.abort(broken).await;
}

async fn secure(shared: &Shared, stream: TcpStream) -> Result<Box<dyn Stream>, Broken> {
    let stream = Prompt::new(stream);
    match &shared.tls {
        Some(tls) => Ok(Box::new(tls.accept(stream).await?)),
        None => Ok(Box::new(stream)),
    }
}

async fn associate(shared: Arc<Shared>, mut wire: Wire, from: SocketAddr, request: AssociationRQ, arrived: Arrived) {
    let calling = crate::printable(request.calling_ae_title.trim());
    if let Err(rejection) = negotiate::admit(&request, &shared.config, from.ip()) {
        let reason = negotiate::reason(&rejection, &request, &shared.config);
        tracing::warn!(%from, calling, "association rejected: {reason}");
        shared.metrics.association_rejected("not-admitted");
        reject(wire, rejection).await;
        return shared.rejected(from, &calling, &reason).await;
    }
    let Ok(place) = shared.places.clone().try_acquire_owned() else {
        let most = shared.config.associations_max;
        tracing::warn!(%from, calling, "association rejected: dimse.associations_max = {most} are open");
        shared.metrics.association_rejected("congestion");
        reject(wire, negotiate::full()).await;
        return shared.rejected(from, &calling, "dimse.associations_max are open").await;
    };
    drop(arrived);
    let agreed = match negotiate::agree(&request, &shared.config) {
        Ok(agreed) => agreed,
        Err(negotiate::BadContext) => {
            let broken = Broken::Malformed("a presentation context ID is even or comes twice".into());
            return end(&shared, wire, from, &broken).await;
        }
    };
    let arrival = Arrival::new(Via::Dimse, &calling);
    let open = shared.metrics.association_opened();
    let span = tracing::info_span!("association", correlation = %arrival.correlation, calling, %from);
    async {
        tracing::info!(contexts = agreed.contexts.len(), "association accepted");
        match wire.write(&Pdu::AssociationAC(agreed.answer.clone())).await {
            Ok(()) => Association::new(shared, wire, agreed, arrival, from).run().await,
            Err(broken) => end(&shared, wire, from, &broken).await,
        }
    }
    .instrument(span)
    .await;
    drop((open, place));
}

impl Shared {
    /// Counts what kept an association from coming to be. Who only connects and leaves was refused nothing.
    fn count(&self, broken: &Broken) {
        let reason = match broken {
            Broken::Silent { .. } => "timeout",
            Broken::Io(e) if e.kind() == ErrorKind::InvalidData => "tls",
            Broken::Guard(_) | Broken::Malformed(_) | Broken::Unexpected(_) => "malformed",
            Broken::Io(_)
            | Broken::Closed
            | Broken::Aborted
            | Broken::Rejected(_)
            | Broken::Source(_)
            | Broken::Stopping => return,
        };
        self.metrics.association_rejected(reason);
    }

    /// Into the audit log.
    async fn rejected(&self, from: SocketAddr, calling: &str, reason: &str) {
        let event = Event { detail: reason.to_owned(), ..Event::new(calling, Action::AssociationRejected) };
        self.audit.refused(from.ip(), event).await;
    }
}

async fn reject(mut wire: Wire, rejection: AssociationRJ) {
    if wire.write(&Pdu::AssociationRJ(rejection)).await.is_ok() {
        wire.close().await;
    }
}
