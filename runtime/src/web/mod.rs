//! HTTP: DICOMweb (PS3.18) and the node's own state. The only place that knows HTTP and JSON shapes.
//!
//! ```text
//! accept ─▶ TLS ─▶ hyper ─▶ router ─▶ auth ─┬─ stow ─▶ multipart ─▶ ingest
//!                                           ├─ qido ─▶ store
//!                                           ├─ wado ─▶ store, study, files
//!                                           ├─ worklist, review ─▶ store, results
//!                                           ├─ ups ─▶ store; event reports over WebSocket
//!                                           └─ rendered ─▶ store, study, render
//! ```

pub(crate) mod accept;
mod auth;
mod body;
mod error;
mod json;
pub mod multipart;
mod origin;
mod pace;
mod qido;
mod quarantine;
mod render;
mod rendered;
mod review;
mod stow;
mod ups;
mod verified;
mod wado;
mod worklist;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::auth::{Caller, Connected};
use self::error::WebError;
use self::pace::Paced;
pub use self::rendered::{NoPicture, picture};
use self::verified::Verified;
use crate::audit::{Action, Audit, Event};
use crate::certificate;
use crate::config::{Config, Scope, WebConfig, WorklistConfig};
use crate::ingest::accept::next_connection;
use crate::ingest::disk::{Disk, RealDisk};
use crate::ingest::{Intake, Uid};
use crate::metrics::Metrics;
use crate::store::{DeliveryState, Due, Store, StoreError, now_ms};
use crate::study::ReadOptions;
use crate::worker::Decoders;

pub use self::auth::{TokenError, new_token};

/// Connections beyond `web.connections_max`, which are told how the node is and nothing else: who watches it must not take it
/// for dead because it is busy.
const STATE_CONNECTIONS_MAX: usize = 8;
/// How long a place of the others is waited for before: one may just be given back.
const STATE_AFTER: Duration = Duration::from_millis(250);
/// How long each of them lasts at most.
const STATE_WITHIN: Duration = Duration::from_secs(2);

/// How long the intake may have to wait for its turn at the journal while nobody else gets on either.
const JOURNAL_WITHIN: Duration = Duration::from_secs(5);
/// Anybody may ask whether the node is ready, and who writes to the journal must not notice.
const JOURNAL_ASKED_EVERY: Duration = Duration::from_secs(1);

/// The service, listening.
pub struct Web {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

/// What every request may use.
pub(crate) struct Shared {
    config: WebConfig,
    worklist: WorklistConfig,
    /// Our own AE title: what performs workitems.
    ae_title: String,
    channels: ups::Channels,
    data: PathBuf,
    disk_free_min_mib: u64,
    retry_max_ms: u64,
    /// Names of those who get results.
    destinations: Vec<String>,
    /// `apart` for each request that decodes.
    options: ReadOptions,
    intake: Intake,
    store: Store,
    metrics: Arc<Metrics>,
    audit: Audit,
    address: SocketAddr,
    /// Outputs that are what their jobs wrote.
    verified: Arc<Verified>,
    /// Taken by whoever decodes a frame.
    renders: Semaphore,
    /// When the journal was last asked whether it can be written to, and the answer; held by who asks it.
    journal_answered: Arc<Mutex<Option<(Instant, bool)>>>,
}

/// The service cannot start: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum WebStartError {
    /// It would be open to everybody.
    #[error(
        "web.listen = {0} is not loopback, and nothing says who may come in: make a token (`gantry token new`), set web.tls.client_roots, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The address cannot be had.
    #[error("web.listen = {address}: {reason}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        reason: std::io::Error,
    },
    /// Certificate or key.
    #[error("web.tls: {0}")]
    Tls(#[from] crate::tls::TlsError),
    /// No workers that decode.
    #[error("frames cannot be decoded in workers (engines.decode_in_worker): {0}")]
    Decoders(std::io::Error),
    /// The journal.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a token must have been made before the service may listen there: it is not loopback, and no certificate is asked for.
pub(crate) fn needs_token(address: SocketAddr, web: &WebConfig) -> bool {
    let mutual = web.tls.as_ref().is_some_and(|tls| tls.client_roots.is_some());
    !address.ip().is_loopback() && !mutual
}

impl Web {
    /// Opens the port `address`, with TLS as `web.tls` says.
    ///
    /// # Errors
    /// [`WebStartError`].
    pub async fn bind(
        address: SocketAddr,
        config: &Config,
        intake: Intake,
        store: Store,
        data: PathBuf,
        metrics: Arc<Metrics>,
        audit: Audit,
    ) -> Result<Self, WebStartError> {
        let web = config.web.clone();
        if needs_token(address, &web) && !store.has_tokens().await? {
            return Err(WebStartError::Open(address));
        }
        if !address.ip().is_loopback() && web.tls.is_none() {
            tracing::warn!("web.listen = {address} without web.tls: images and tokens cross the network in the clear");
        }
        let decoders = Decoders::new(config).map_err(WebStartError::Decoders)?;
        let tls = web.tls.as_ref().map(crate::tls::server_config).transpose()?;
        let unusable = |reason| WebStartError::Listen { address, reason };
        let listener = TcpListener::bind(address).await.map_err(unusable)?;
        let channels = ups::Channels::new(&config.worklist, store.workitem_prefix().await?);
        let shared = Shared {
            worklist: config.worklist.clone(),
            ae_title: config.dimse.ae_title.clone(),
            channels,
            address: listener.local_addr().map_err(unusable)?,
            verified: Arc::default(),
            renders: Semaphore::new(web.renders_max),
            journal_answered: Arc::default(),
            config: web,
            data,
            disk_free_min_mib: config.node.disk_free_min_mib,
            retry_max_ms: config.schedule.retry_max_ms,
            destinations: config.destinations.iter().map(|to| to.name.clone()).collect(),
            options: ReadOptions { decoders, ..ReadOptions::new(&config.limits, false) },
            intake,
            store,
            metrics,
            audit,
        };
        Ok(Self { listener, tls: tls.map(TlsAcceptor::from), shared: Arc::new(shared) })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Serves until `stop`; what then runs, `tasks` see to its end.
    pub async fn run(self, stop: CancellationToken, tasks: TaskTracker) {
        let places = Arc::new(Semaphore::new(self.shared.config.connections_max));
        let state_places = Arc::new(Semaphore::new(STATE_CONNECTIONS_MAX));
        let all = router(self.shared.clone());
        tasks.spawn(ups::watch(self.shared.clone(), stop.clone()));
        let lifetime = Lifetime { stop: stop.clone(), tasks: tasks.clone() };
        let busy = || async { WebError::Unavailable("web.connections_max are open; try again later").into_response() };
        let state = state_router(self.shared.clone()).fallback(busy);
        while let Some((stream, from)) = next_connection(&self.listener, &stop).await {
            // Closed never.
            let (place, only_state) = tokio::select! {
                biased;
                place = places.clone().acquire_owned() => (place, false),
                place = async {
                    tokio::time::sleep(STATE_AFTER).await;
                    state_places.clone().acquire_owned().await
                } => (place, true),
                () = stop.cancelled() => return,
            };
            let router = if only_state { state.clone() } else { all.clone() };
            let router = router.layer(axum::Extension(lifetime.clone()));
            let (shared, tls, stop) = (self.shared.clone(), self.tls.clone(), stop.clone());
            tasks.spawn(async move {
                let served = connection(shared, router, tls, (stream, from.ip()), stop);
                if only_state {
                    // Within that time a question and its answer.
                    let _ = tokio::time::timeout(STATE_WITHIN, served).await;
                } else {
                    served.await;
                }
                drop(place);
            });
        }
    }
}

/// What goes on after its request was answered ends with the node, which waits for it.
#[derive(Clone)]
struct Lifetime {
    stop: CancellationToken,
    tasks: TaskTracker,
}

async fn connection(
    shared: Arc<Shared>,
    router: Router,
    tls: Option<TlsAcceptor>,
    (stream, from): (TcpStream, IpAddr),
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let stream = Paced::new(stream, Duration::from_millis(shared.config.answer_timeout_ms));
    let mutual = shared.config.tls.as_ref().is_some_and(|tls| tls.client_roots.is_some());
    let loopback = shared.address.ip().is_loopback() && !mutual;
    let Some(tls) = tls else {
        return serve(&shared, router, stream, Connected { common_name: None, loopback, from }, stop).await;
    };
    let limit = Duration::from_millis(shared.config.header_timeout_ms);
    let stream = match tokio::time::timeout(limit, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return shared.unsecured(from, Some(&e)).await,
        Err(_) => return shared.unsecured(from, None).await,
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let common_name = certificates.and_then(<[_]>::first).and_then(|own| certificate::common_name(own));
    serve(&shared, router, stream, Connected { common_name, loopback, from }, stop).await;
}

async fn serve(
    shared: &Shared,
    router: Router,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connected: Connected,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(router.layer(axum::Extension(connected)));
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(shared.config.header_timeout_ms))
        .max_buf_size(usize::try_from(shared.config.header_max_kib << 10).unwrap_or(1 << 16));
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    let done = tokio::select! {
        done = &mut connection => done,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = done {
        let reason = std::error::Error::source(&e).map(|reason| format!(": {reason}")).unwrap_or_default();
        tracing::debug!("a web connection ended: {e}{reason}");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let study = "/dicom-web/studies/{study}";
    let series = "/dicom-web/studies/{study}/series/{series}";
    let instance = "/dicom-web/studies/{study}/series/{series}/instances/{instance}";
    let at = |base: &str, rest: &str| format!("{base}{rest}");
    Router::new()
        .route("/dicom-web/studies", post(stow::store).get(qido::studies))
        .route(study, post(stow::store_in_study).get(wado::retrieve))
        .route(&at(study, "/metadata"), get(wado::metadata))
        .route(&at(study, "/rendered"), get(rendered::rendered))
        .route(&at(study, "/thumbnail"), get(rendered::thumbnail))
        .route(&at(study, "/series"), get(qido::series_of_study))
        .route(&at(study, "/instances"), get(qido::instances_of_study))
        .route(series, get(wado::retrieve))
        .route(&at(series, "/metadata"), get(wado::metadata))
        .route(&at(series, "/rendered"), get(rendered::rendered))
        .route(&at(series, "/thumbnail"), get(rendered::thumbnail))
        .route(&at(series, "/instances"), get(qido::instances_of_series))
        .route(instance, get(wado::retrieve))
        .route(&at(instance, "/metadata"), get(wado::metadata))
        .route(&at(instance, "/thumbnail"), get(rendered::thumbnail))
        .route(&at(instance, "/rendered"), get(rendered::rendered))
        .route(&at(instance, "/frames/{frames}"), get(wado::frames))
        .route(&at(instance, "/frames/{frames}/rendered"), get(rendered::rendered))
        .route(&at(instance, "/bulkdata/{*path}"), get(wado::bulkdata))
        .route("/dicom-web/series", get(qido::series))
        .route("/dicom-web/instances", get(qido::instances))
        .route("/api/worklist", get(worklist::list))
        .route("/api/results", get(review::list))
        .route("/api/results/{job}", get(review::show))
        .route("/api/results/{job}/verdicts", post(review::verdict))
        .route("/api/results/{job}/release", post(review::release))
        .route("/api/quarantine", get(quarantine::list))
        .merge(ups::router())
        .layer(axum::middleware::from_fn_with_state(shared.clone(), authenticated))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), measured))
        .with_state(shared.clone())
        .merge(state_router(shared))
        .fallback(|| async { WebError::NotFound("resource").into_response() })
}

/// How the node is.
fn state_router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), authenticated))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), measured))
        .with_state(shared)
}

/// Nothing of DICOMweb is answered before it is known who asks.
async fn authenticated(
    State(shared): State<Arc<Shared>>,
    axum::Extension(connected): axum::Extension<Connected>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let caller = auth::caller(&shared.store, &shared.config.clients, &connected, request.headers()).await;
    let needed = needed(request.method(), request.uri().path());
    let (what, path) = (request.method().clone(), request.uri().path().to_owned());
    let who = caller.as_ref().map(|caller| caller.name.clone()).unwrap_or_default();
    let allowed = caller.and_then(|caller| caller.may(needed).map(|()| caller));
    let allowed = match what {
        Method::GET | Method::HEAD => allowed,
        // A page elsewhere can send these too; what is answered, it cannot read.
        _ => allowed
            .and_then(|caller| origin::own(request.headers(), shared.config.public_url.as_deref()).map(|()| caller)),
    };
    match allowed {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            let response = next.run(request).await;
            let told =
                matches!(what, Method::GET | Method::HEAD) && path != "/metrics" && response.status().is_success();
            let mut read = event(who, Action::StudyRead, &path);
            if let Some(listed) = response.extensions().get::<qido::Listed>() {
                read.study_instance_uid = listed.study_instance_uid.clone().unwrap_or(read.study_instance_uid);
                read.detail.clone_from(&listed.detail);
            }
            // What cannot be recorded is not told.
            if told && let Err(e) = shared.audit.record(&read).await {
                tracing::error!("a request cannot be recorded in the audit log, and is not answered: {e}");
                return WebError::Unavailable("the audit log cannot be written to; try again later").into_response();
            }
            response
        }
        Err(error) => {
            let refused = Event { detail: error.to_string(), ..event(who, Action::AccessRefused, &path) };
            shared.audit.refused(connected.from, refused).await;
            error.into_response()
        }
    }
}

/// What who asks for this must be allowed to.
fn needed(method: &Method, path: &str) -> Scope {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/metrics" => Scope::Operate,
        _ if reads => Scope::Read,
        _ if path.starts_with("/api/") => Scope::Review,
        // Who may look may also be told.
        _ if path.starts_with("/dicom-web/workitems/") && path.contains("/subscribers/") => Scope::Read,
        _ if path.starts_with("/dicom-web/workitems") => Scope::Administer,
        _ => Scope::Send,
    }
}

/// Counts and times every request by its route.
async fn measured(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response<Body> {
    let route = match (request.method(), request.uri().path()) {
        (_, "/healthz" | "/readyz" | "/metrics") => "state",
        (_, path) if path.starts_with("/api/") => "api",
        (_, path) if ["/dicom-web/workitems", "/dicom-web/subscribers"].iter().any(|p| path.starts_with(p)) => "ups",
        (&Method::POST, _) => "stow",
        (_, path) if path.ends_with("/rendered") || path.ends_with("/thumbnail") => "rendered",
        (_, path) if ["studies", "series", "instances"].iter().any(|level| path.ends_with(level)) => "qido",
        _ => "wado",
    };
    let since = Instant::now();
    let response = next.run(request).await;
    shared.metrics.http_request(route, response.status().as_u16(), since.elapsed());
    response
}

/// What is counted, as Prometheus takes it. Jobs are counted when somebody asks: the journal has every one that ever was.
async fn metrics(State(shared): State<Arc<Shared>>) -> Response<Body> {
    // The rest is worth most when the journal fails.
    if let Err(e) = count_jobs(&shared).await {
        tracing::error!("jobs cannot be counted: {e}");
    }
    if let Err(e) = count_deliveries(&shared).await {
        tracing::error!("deliveries cannot be counted: {e}");
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    answer(StatusCode::OK, kind, shared.metrics.render())
}

async fn count_jobs(shared: &Shared) -> Result<(), StoreError> {
    for (state, jobs) in shared.store.job_counts().await? {
        shared.metrics.jobs(state.name(), jobs);
    }
    let (waiting, oldest_ms) = shared.store.queue(Due::now(shared.retry_max_ms)).await?;
    let age_ms = oldest_ms.map_or(0, |oldest| u64::try_from(now_ms().saturating_sub(oldest)).unwrap_or(0));
    shared.metrics.queue(waiting, Duration::from_millis(age_ms));
    Ok(())
}

async fn count_deliveries(shared: &Shared) -> Result<(), StoreError> {
    let counts = shared.store.open_deliveries().await?;
    // Also those of which nothing waits, or no longer.
    let configured = shared.destinations.iter().map(String::as_str);
    let destinations: BTreeSet<&str> =
        configured.chain(counts.iter().map(|count| count.destination.as_str())).collect();
    for destination in destinations {
        let count = |state| counts.iter().find(|count| count.destination == destination && count.state == state);
        for state in DeliveryState::OPEN {
            shared.metrics.deliveries(destination, state.name(), count(state).map_or(0, |found| found.count));
        }
        let waits = [DeliveryState::Queued, DeliveryState::Awaiting].into_iter().filter_map(count);
        let oldest_ms = waits.map(|found| found.oldest_ms).min();
        let age_ms = oldest_ms.map_or(0, |oldest| u64::try_from(now_ms().saturating_sub(oldest)).unwrap_or(0));
        shared.metrics.delivery_age(destination, Duration::from_millis(age_ms));
    }
    Ok(())
}

async fn healthy() -> &'static str {
    "ok\n"
}

/// Ready: the journal can be written to, and there is space.
async fn ready(State(shared): State<Arc<Shared>>) -> Result<&'static str, WebError> {
    if !journal_answers(&shared).await? {
        return Err(WebError::Unavailable("the journal cannot be written to"));
    }
    let data = shared.data.clone();
    let free = blocking(move || RealDisk.free_bytes(&data)).await?.map_err(|e| WebError::internal(&e))?;
    match free >> 20 >= shared.disk_free_min_mib {
        true => Ok("ready\n"),
        false => Err(WebError::Unavailable("the disk has less free than node.disk_free_min_mib")),
    }
}

/// Whether the journal can be written to. One at a time asks, and the others take that answer, also when who asked has gone.
async fn journal_answers(shared: &Shared) -> Result<bool, WebError> {
    let mut answered = shared.journal_answered.clone().lock_owned().await;
    if let Some((at, answers)) = *answered
        && at.elapsed() < JOURNAL_ASKED_EVERY
    {
        return Ok(answers);
    }
    let store = shared.store.clone();
    blocking(move || {
        let answers = store.takes_instances(JOURNAL_WITHIN).unwrap_or_else(|e| {
            tracing::error!("not ready: {e}");
            false
        });
        *answered = Some((Instant::now(), answers));
        answers
    })
    .await
}

/// Runs on a thread that may wait for the disk. A panic fails this request alone.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WebError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| WebError::internal(&e))
}

/// A UID from a path.
fn uid(text: &str) -> Result<Uid, WebError> {
    Uid::parse(text).ok_or_else(|| {
        WebError::BadRequest("a UID in the path is none: 1 to 64 characters, numbers with dots between".into())
    })
}

/// For the audit log: who asked for what, by its path, which holds nothing but UIDs.
fn event(who: String, action: Action, path: &str) -> Event {
    let mut parts = path.split('/').skip_while(|part| *part != "studies").skip(1);
    let study = parts.next().and_then(Uid::parse).map(|uid| uid.to_string());
    let known = |part: &str| Uid::parse(part).is_some() || part.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    Event {
        who,
        action,
        study_instance_uid: study.unwrap_or_default(),
        object: path.split('/').filter(|part| known(part)).collect::<Vec<_>>().join("/"),
        digests: Vec::new(),
        detail: String::new(),
        correlation: String::new(),
    }
}

impl Shared {
    /// No TLS handshake came to its end: for this error, or in time. Each is counted; anybody can cause as many as they like, and
    /// only the first of a minute is told.
    async fn unsecured(&self, from: IpAddr, error: Option<&std::io::Error>) {
        let (reason, detail) = match error {
            None => ("timeout", "no TLS handshake within web.header_timeout_ms"),
            // What is no TLS, or without the certificate that it needs.
            Some(e) if e.kind() == std::io::ErrorKind::InvalidData => ("tls", "the TLS handshake failed"),
            // Who only connects and leaves was refused nothing.
            Some(e) => return tracing::debug!(%from, "no TLS handshake: {e}"),
        };
        self.metrics.web_connection_refused(reason);
        let event = Event { detail: detail.into(), ..Event::new("", Action::AccessRefused) };
        if self.audit.refused(from, event).await {
            let why = error.map(|e| format!(": {e}")).unwrap_or_default();
            tracing::warn!(%from, "{detail}{why}; more of them from there within a minute are counted, and not told");
        }
    }

    /// What the URLs in answers begin with.
    fn base_url(&self, headers: &HeaderMap) -> String {
        if let Some(url) = &self.config.public_url {
            return format!("{}/dicom-web", url.trim_end_matches('/'));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.filter(|host| !host.is_empty() && host.bytes().all(plain)).map(str::to_owned);
        let scheme = if self.config.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/dicom-web", host.unwrap_or_else(|| self.address.to_string()))
    }
}

/// A Warning header (PS3.18 section 8.4).
fn warning(text: &str) -> HeaderValue {
    let value = HeaderValue::from_str(&format!("299 gantry \"{text}\""));
    value.unwrap_or(HeaderValue::from_static("299 gantry"))
}

/// An answer of one kind.
fn answer(status: StatusCode, kind: &str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let kind = HeaderValue::from_str(kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    // Images of patients stay in no shared cache.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    response
}

#[cfg(test)]
mod tests {
    use hyper::service::Service;

    use super::*;

    const INSTANCE: &str = "
        INSERT INTO study SELECT 1, '2.25.1', '', '', '', '', '', '', '', '', '', '', '', NULL, NULL, 1, 1;
        INSERT INTO series SELECT 1, 1, '2.25.2', '', '', '', '', '', '', '', '', NULL;
        INSERT INTO instance SELECT 1, 1, '2.25.3', '', '1.2.840.10008.1.2.1', '', 1, 1, 1, 1, 'kept', 1, zeroblob(32),
            1, 'dimse', '', '';
    ";

    /// The head of the answer to a subscriber, who leaves then.
    async fn upgraded(shared: &Arc<Shared>, connected: &Connected) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let (mut client, stream) = tokio::io::duplex(1 << 16);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let lifetime = Lifetime { stop: stop.clone(), tasks: tasks.clone() };
        let router = router(shared.clone()).layer(axum::Extension(lifetime));
        let (shared, connected) = (shared.clone(), connected.clone());
        let served = tokio::spawn(async move { serve(&shared, router, stream, connected, stop).await });
        let request = "GET /dicom-web/subscribers/A HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        client.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.expect("an answer"));
        }
        drop(client);
        served.await.expect("served");
        tasks.close();
        tasks.wait().await;
        String::from_utf8_lossy(&head).into_owned()
    }

    #[tokio::test]
    async fn a_read_that_cannot_be_recorded_is_not_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, config, metrics) = (folder.path().to_owned(), Config::default(), Metrics::new());
        let store = Store::open(&data).await.expect("a journal");
        store.tamper(INSTANCE).await;
        std::fs::write(data.join("kept"), "the file of 2.25.3").expect("written");
        let (disk, audit) = (Arc::new(RealDisk), Audit::new(store.clone(), &data));
        let intake = Intake::start(&config, data.clone(), store.clone(), disk, metrics.clone()).expect("starts").0;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let web = Web::bind(address, &config, intake, store.clone(), data, metrics, audit).await.expect("listens");
        let connected = Connected { common_name: None, loopback: true, from: address.ip() };
        let (shared, at_once) = (web.shared.clone(), connected.clone());
        let service = TowerToHyperService::new(router(web.shared).layer(axum::Extension(connected)));
        let ask = async |method: &Method, path: &str| {
            let request = axum::http::Request::builder().method(method).uri(path).body(Body::empty());
            let response = service.call(request.expect("a request")).await.expect("an answer");
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
            (status, String::from_utf8_lossy(&body).into_owned())
        };

        let full = "CREATE TRIGGER unwritable BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no space'); END";
        for (sql, expected) in [("SELECT 1", 200), (full, 503)] {
            store.tamper(sql).await;
            let status = if expected == 200 { "101 " } else { "503 " };
            let opened = upgraded(&shared, &at_once).await;
            assert!(opened.starts_with(&format!("HTTP/1.1 {status}")), "{opened}");
            for path in ["/dicom-web/studies", "/dicom-web/studies/2.25.1/series/2.25.2/instances/2.25.3"] {
                for method in [Method::GET, Method::HEAD] {
                    let (status, body) = ask(&method, path).await;
                    assert_eq!(status, expected, "{method} {path}: {body}");
                    let told = status == 200 && method == Method::GET;
                    assert_eq!(body.contains("2.25."), told, "{method} {path}: {body}");
                }
            }
        }
    }
}
