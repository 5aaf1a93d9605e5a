//! ORU^R01 over MLLP: one message for each result, one connection for each message, and an answer before it counts as sent.

mod config;

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use self::config::MllpDestination;
use super::subject::told;
use super::{Delivery, Failure, Sent, Trouble};
use crate::messages::hl7::ack::{Answered, Ourselves};
use crate::messages::hl7::oru::{Envelope, Sendable, message, order_update};
use crate::messages::hl7::{Charset, Frames, framed};
use crate::store::Store;
use crate::study::ReadOptions;
use crate::tls;

/// Read at once.
const PIECE_BYTES: usize = 4096;

/// Ready to call one receiver.
pub(super) struct Sender {
    to: MllpDestination,
    envelope: Envelope,
    tls: Option<tls::Client>,
    timeout_ms: u64,
    store: Store,
    options: ReadOptions,
}

/// Whether the files that it names can be used.
pub(super) fn check(to: &MllpDestination) -> Result<(), String> {
    to.tls.as_ref().map_or(Ok(()), |tls| tls::Client::new(tls).map(|_| ()).map_err(|e| format!("mllp.tls.{e}")))
}

impl Sender {
    pub(super) fn new(
        to: &MllpDestination,
        timeout_ms: u64,
        store: Store,
        options: ReadOptions,
    ) -> Result<Self, String> {
        let tls = to.tls.as_ref().map(tls::Client::new).transpose().map_err(|e| format!("mllp.tls.{e}"))?;
        let named = |application: &String, facility: &String| Ourselves {
            application: application.clone(),
            facility: facility.clone(),
        };
        let envelope = Envelope {
            from: named(&to.sending_application, &to.sending_facility),
            to: named(&to.receiving_application, &to.receiving_facility),
            charset: to.character_set.as_deref().and_then(Charset::named),
            enhanced: to.enhanced,
        };
        Ok(Self { to: to.clone(), envelope, tls, timeout_ms, store, options })
    }

    pub(super) async fn send(&self, delivery: &Delivery) -> Result<Sent, Trouble> {
        let (told, subject) = told(delivery, &self.store, &self.options).await?;
        if self.to.order_updates
            && let Some(update) = order_update(&told, &subject, &self.envelope, &delivery.result_sha256)
        {
            self.call(&update).await?;
        }
        let oru = message(&told, &subject, &self.envelope, &delivery.result_sha256);
        let said = self.call(&oru).await?;
        Ok(Sent { detail: format!("{said}, control ID {}", oru.control_id), ..Sent::default() })
    }

    /// Sends one message and waits for what is to be said to it.
    async fn call(&self, oru: &Sendable) -> Result<Answered, Trouble> {
        let limit = Duration::from_millis(self.timeout_ms);
        let silent = || format!("it did not answer within destinations.timeout_ms = {}", self.timeout_ms);
        let (host, _) = self.to.address.rsplit_once(':').unwrap_or((&self.to.address, ""));
        let connected = timeout(limit, async {
            let stream = TcpStream::connect(&self.to.address).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Stream> = match &self.tls {
                None => Box::new(stream),
                Some(tls) => {
                    let secured = tls.connect(host.trim_matches(['[', ']']), stream).await?;
                    Box::new(secured)
                }
            };
            Ok::<_, std::io::Error>(stream)
        });
        let mut stream = match connected.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Err(Trouble::Unreachable(format!("it cannot be reached: {e}"))),
            Err(_) => return Err(Trouble::Unreachable(silent())),
        };
        let failed = |e: std::io::Error| Failure::again(format!("the connection broke: {e}"));
        let sent = timeout(limit, async {
            stream.write_all(&framed(&oru.bytes)).await?;
            stream.flush().await
        });
        sent.await.map_err(|_| Failure::again(silent()))?.map_err(failed)?;
        let most = usize::try_from(self.to.answer_max_kib << 10).unwrap_or(usize::MAX);
        let mut frames = Frames::new(most);
        loop {
            let read = timeout(limit, answer(&mut stream, &mut frames)).await.map_err(|_| Failure::again(silent()))?;
            let answered = Answered::read(&read?, &oru.control_id).map_err(|e| Failure::again(e.to_string()))?;
            if !answered.is_accepted() {
                let text = format!("it answers {answered}");
                let failure = if answered.may_pass() { Failure::again(text) } else { Failure::for_good(text) };
                return Err(failure.into());
            }
            // A commit acknowledgement says that it has the message; in enhanced mode we also want to know that it could use it.
            if answered.code == "AA" || !self.envelope.enhanced {
                return Ok(answered);
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// The next message that comes.
async fn answer(stream: &mut Box<dyn Stream>, frames: &mut Frames) -> Result<Vec<u8>, Failure> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match frames.next() {
            Ok(Some(message)) => return Ok(message),
            Ok(None) => {}
            Err(e) => return Err(Failure::again(format!("its answer is no MLLP: {e}"))),
        }
        match stream.read(&mut piece).await {
            Ok(0) => return Err(Failure::again("it closed the connection before it answered")),
            Ok(read) => frames.push(piece.get(..read).unwrap_or_default()),
            Err(e) => return Err(Failure::again(format!("the connection broke: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests;
