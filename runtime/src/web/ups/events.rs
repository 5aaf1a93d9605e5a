//! Event reports (PS3.18 sections 8.10 and 11.13, PS3.4 section CC.2.4): a WebSocket for each subscriber that opens one.
//!
//! What is to be told is in the journal, whoever changed a job. One task reads it and hands it to all connections; each has
//! a queue of its own, and one that does not get on is ended. Who is not connected is not told later, as the standard has it: a new
//! connection begins with the state of each workitem that its AE is subscribed to by itself.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use dicom_object::InMemDicomObject;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::MissedTickBehavior;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::super::auth::{self, Caller, Connected};
use super::super::error::WebError;
use super::super::{Lifetime, Shared, origin};
use super::subscribe::ae_title;
use super::{ALL, Answer, UPS_PUSH, json as as_json};
use crate::audit::{Action, Event};
use crate::config::{Scope, WorklistConfig};
use crate::findings::Urgency;
use crate::outputs::workitem;
use crate::store::{StoreError, WorkitemEvent, WorkitemNews, WorkitemRow, WorkitemState, now_ms};
use crate::worklist::uid::Prefix;

/// Events that are read at once.
const EVENTS_AT_ONCE: u32 = 256;
/// What a subscriber may say: it has nothing to say.
const MESSAGE_MAX_BYTES: usize = 4096;
/// How long a subscriber may take to end a connection.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Connections to subscribers.
pub(in crate::web) struct Channels {
    pub(super) prefix: Prefix,
    sender: broadcast::Sender<Arc<Told>>,
    places: Arc<Semaphore>,
    /// When this process began to serve.
    started_ms: i64,
    /// AEs that know of it.
    greeted: Mutex<HashSet<String>>,
}

/// An event and who is told of it.
struct Told {
    to: Vec<String>,
    report: Report,
}

/// An event report but for its number.
#[derive(Debug, Clone, PartialEq)]
struct Report {
    instance: String,
    kind: u16,
    attributes: Map<String, Value>,
}

impl Report {
    /// UPS State Report.
    fn state(instance: String, state: WorkitemState, ready: bool, raised: Option<Urgency>) -> Self {
        Self::of(instance, 1, &workitem::state(state, ready, raised))
    }

    /// UPS Cancel Requested.
    fn cancel_requested(instance: String, request: &str) -> Self {
        Self { instance, kind: 2, attributes: serde_json::from_str(request).unwrap_or_default() }
    }

    /// SCP Status Change.
    fn status(status: &str) -> Self {
        Self::of(ALL.into(), 4, &workitem::status(status))
    }

    fn of(instance: String, kind: u16, attributes: &InMemDicomObject) -> Self {
        let attributes = as_json(attributes).expect("an object of text becomes JSON");
        Self { instance, kind, attributes }
    }

    /// As it is sent. The SOP class is that of PS3.4 section CC.2.4.3.
    fn message(&self, number: u16) -> String {
        let mut report = Map::new();
        report.insert("00000002".into(), json!({"vr": "UI", "Value": [UPS_PUSH]}));
        report.insert("00000110".into(), json!({"vr": "US", "Value": [number]}));
        report.insert("00001000".into(), json!({"vr": "UI", "Value": [self.instance]}));
        report.insert("00001002".into(), json!({"vr": "US", "Value": [self.kind]}));
        report.extend(self.attributes.clone());
        Value::Object(report).to_string()
    }
}

impl Channels {
    pub(in crate::web) fn new(config: &WorklistConfig, prefix: Prefix) -> Self {
        Self {
            prefix,
            sender: broadcast::channel(config.events_waiting_max).0,
            places: Arc::new(Semaphore::new(config.channels_max)),
            started_ms: now_ms(),
            greeted: Mutex::default(),
        }
    }

    /// Tells one subscriber how a workitem stands.
    pub(super) fn tell_state(&self, ae_title: &str, row: &WorkitemRow) {
        let report = Report::state(self.prefix.uid(row.id), row.state, row.ready, None);
        // Nobody need be there.
        let _ = self.sender.send(Arc::new(Told { to: vec![ae_title.to_owned()], report }));
    }

    fn report(&self, event: &WorkitemEvent) -> Report {
        let instance = self.prefix.uid(event.workitem);
        match &event.what {
            WorkitemNews::State => Report::state(instance, event.state, event.ready, None),
            WorkitemNews::Priority => Report::state(instance, event.state, event.ready, Some(event.priority)),
            WorkitemNews::CancelRequested(request) => Report::cancel_requested(instance, request),
        }
    }

    /// Whether an AE is yet to hear that the node was started again.
    fn greets(&self, ae_title: &str) -> bool {
        self.greeted.lock().unwrap_or_else(PoisonError::into_inner).insert(ae_title.to_owned())
    }
}

/// Hands on what the journal has to tell, until the node stops.
pub(in crate::web) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_millis(shared.worklist.poll_ms));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(e) = tell(&shared, &mut last).await {
            tracing::warn!("subscribers to workitems are told later: {e}");
        }
    }
}

async fn tell(shared: &Shared, last: &mut Option<i64>) -> Result<(), StoreError> {
    let channels = &shared.channels;
    let Some(told) = last.filter(|_| channels.sender.receiver_count() > 0) else {
        *last = Some(shared.store.last_workitem_event().await?);
        return Ok(());
    };
    for event in shared.store.workitem_events_after(told, EVENTS_AT_ONCE).await? {
        let to = shared.store.subscribers(event.workitem).await?;
        if !to.is_empty() {
            let _ = channels.sender.send(Arc::new(Told { to, report: channels.report(&event) }));
        }
        *last = Some(event.id);
    }
    Ok(())
}

/// Open Notification Connection (section 8.10.4).
pub(super) async fn open(
    State(shared): State<Arc<Shared>>,
    Extension(lifetime): Extension<Lifetime>,
    Extension(connected): Extension<Connected>,
    Extension(caller): Extension<Caller>,
    Path(title): Path<String>,
    mut request: Request,
) -> Answer {
    let title = ae_title(&title)?;
    let accept = accept(&shared, request.headers())?;
    let bad = || WebError::BadRequest("this connection cannot become a WebSocket".into());
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or_else(bad)?;
    let maximum = shared.worklist.channels_max as u64;
    let reached = |_| WebError::LimitReached { limit: "worklist.channels_max", maximum };
    let place = shared.channels.places.clone().try_acquire_owned().map_err(reached)?;
    // What cannot be recorded is not told: an answer that only begins is not recorded with others.
    let opened = Event { object: title.clone(), ..Event::new(&caller.name, Action::ChannelOpened) };
    shared.audit.record(&opened).await.map_err(|e| {
        tracing::error!("a subscriber's connection cannot be recorded in the audit log, and is not opened: {e}");
        WebError::Unavailable("the audit log cannot be written to; try again later")
    })?;
    let mut credentials = HeaderMap::new();
    if let Some(token) = request.headers().get(header::AUTHORIZATION) {
        credentials.insert(header::AUTHORIZATION, token.clone());
    }
    let subscriber = Subscriber { title, connected, credentials };
    // Before the answer: who has it misses nothing.
    let receiver = shared.channels.sender.subscribe();
    let Lifetime { stop, tasks } = lifetime;
    tasks.spawn(serve(shared, subscriber, upgrade, receiver, place, stop));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// What answers an opening handshake (RFC 6455 section 4.2).
fn accept(shared: &Shared, headers: &HeaderMap) -> Result<HeaderValue, WebError> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let has = |name, token: &str| text(name).split(',').any(|one| one.trim().eq_ignore_ascii_case(token));
    let bad = |problem: &str| WebError::BadRequest(format!("no WebSocket of RFC 6455 is asked for: {problem}"));
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(bad("Connection must be Upgrade, and Upgrade websocket"));
    }
    if text(header::SEC_WEBSOCKET_VERSION) != "13" {
        return Err(bad("Sec-WebSocket-Version must be 13"));
    }
    // Any page in a browser can open one to any host, and read what it tells.
    origin::own(headers, shared.config.public_url.as_deref())?;
    // 16 bytes in Base64.
    let key = text(header::SEC_WEBSOCKET_KEY);
    let sound = key.len() == 24 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    let answer = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    answer.ok().filter(|_| sound).ok_or_else(|| bad("Sec-WebSocket-Key must be 16 bytes in Base64"))
}

/// Who is told.
struct Subscriber {
    title: String,
    connected: Connected,
    /// What the connection was opened with: its token, where there is one.
    credentials: HeaderMap,
}

impl Subscriber {
    /// Whether it may still be told: its token may have ended meanwhile.
    async fn may_be_told(&self, shared: &Shared) -> Result<(), End> {
        let caller = auth::caller(&shared.store, &shared.config.clients, &self.connected, &self.credentials).await;
        match caller.and_then(|caller| caller.may(Scope::Read)) {
            Ok(()) => Ok(()),
            Err(WebError::Unauthorized(_) | WebError::Forbidden(_)) => Err(End::Shut),
            Err(_) => Err(End::Failed),
        }
    }
}

/// One connection, to its end.
async fn serve(
    shared: Arc<Shared>,
    subscriber: Subscriber,
    upgrade: OnUpgrade,
    receiver: broadcast::Receiver<Arc<Told>>,
    place: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(e) => return tracing::debug!("a subscriber went away before it was one: {e}"),
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(MESSAGE_MAX_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_MAX_BYTES))
        .max_frame_size(Some(MESSAGE_MAX_BYTES));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let mut channel = Channel { socket, subscriber, number: 0 };
    let ended = match channel.greet(&shared).await {
        Ok(()) => channel.run(&shared, receiver, stop).await,
        Err(end) => end,
    };
    tracing::debug!(ae_title = channel.subscriber.title, "a subscriber's connection ends: {ended:?}");
    if let Some(frame) = ended.frame() {
        let _ = tokio::time::timeout(CLOSE_WITHIN, channel.socket.close(Some(frame))).await;
    }
    drop(place);
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The subscriber ended it, or it broke.
    Gone,
    /// The node stops.
    Stopped,
    /// More waits for the subscriber than may.
    Behind,
    /// It may be told no more.
    Shut,
    /// It does not answer.
    Silent,
    /// The journal cannot be read.
    Failed,
}

impl End {
    fn frame(&self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Gone | Self::Silent => return None,
            Self::Stopped => (CloseCode::Away, "the node stops"),
            Self::Behind => (CloseCode::Policy, "more than worklist.events_waiting_max event reports wait"),
            Self::Shut => (CloseCode::Policy, "the token or certificate does not open this any more"),
            Self::Failed => (CloseCode::Error, "the node could not do it; its log says why"),
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}

struct Channel {
    socket: WebSocketStream<TokioIo<Upgraded>>,
    subscriber: Subscriber,
    number: u16,
}

impl Channel {
    /// That the node was started since, and how each workitem stands that the AE is subscribed to by itself.
    async fn greet(&mut self, shared: &Shared) -> Result<(), End> {
        let failed = |e: StoreError| {
            tracing::error!("a subscriber is not told: {e}");
            End::Failed
        };
        let channels = &shared.channels;
        let subscriptions = shared.store.subscriptions(&self.subscriber.title, channels.started_ms).await;
        let (workitems, earlier) = subscriptions.map_err(failed)?;
        if channels.greets(&self.subscriber.title) && earlier {
            self.send(&Report::status("RESTARTED")).await?;
        }
        for id in workitems {
            if let Some(row) = shared.store.workitem(id).await.map_err(failed)? {
                let report = Report::state(channels.prefix.uid(id), row.state, row.ready, None);
                self.send(&report).await?;
            }
        }
        Ok(())
    }

    async fn run(
        &mut self,
        shared: &Shared,
        mut receiver: broadcast::Receiver<Arc<Told>>,
        stop: CancellationToken,
    ) -> End {
        let ping = Duration::from_millis(shared.worklist.ping_ms);
        let mut tick = tokio::time::interval(ping);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        let mut heard = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    let told = tokio::time::timeout(CLOSE_WITHIN, self.send(&Report::status("GOING DOWN"))).await;
                    return if matches!(told, Ok(Ok(()))) { End::Stopped } else { End::Gone };
                }
                told = receiver.recv() => match told {
                    Ok(told) if told.to.contains(&self.subscriber.title) => {
                        if let Err(end) = self.send(&told.report).await {
                            return end;
                        }
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return End::Behind,
                    Err(RecvError::Closed) => return End::Stopped,
                },
                said = self.socket.next() => match said {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return End::Gone,
                    // It has nothing to say that matters.
                    Some(Ok(_)) => heard = true,
                },
                _ = tick.tick() => {
                    if let Err(end) = self.subscriber.may_be_told(shared).await {
                        return end;
                    }
                    if !heard {
                        return End::Silent;
                    }
                    heard = false;
                    if self.socket.send(Message::Ping(bytes::Bytes::new())).await.is_err() {
                        return End::Gone;
                    }
                }
            }
        }
    }

    /// A client that does not take it within `web.answer_timeout_ms` is let go by the stream itself.
    async fn send(&mut self, report: &Report) -> Result<(), End> {
        self.number = self.number.checked_add(1).unwrap_or(1);
        let message = Message::text(report.message(self.number));
        self.socket.send(message).await.map_err(|_| End::Gone)
    }
}

#[cfg(test)]
mod tests;
