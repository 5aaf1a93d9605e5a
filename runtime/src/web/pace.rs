//! How slow a client may be: one that does not take what it asked for, or does not send what it began, would hold its place
//! for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a client must take or send within the limit: more than the buffers of a connection that is alive hold back.
const PROGRESS_BYTES: usize = 64 << 10;

/// How long a client was waited for until it took or sent [`PROGRESS_BYTES`]. The measure is of waiting: a slow line that goes on
/// is served however long the whole takes.
#[derive(Debug)]
pub(super) struct Pace {
    limit: Duration,
    /// So long for these bytes.
    waited: Duration,
    bytes: usize,
}

impl Pace {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, waited: Duration::ZERO, bytes: 0 }
    }

    /// How much longer it may be waited for.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.waited)
    }

    pub(super) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// It took or sent these.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= PROGRESS_BYTES {
            self.begin_anew();
        }
    }

    fn begin_anew(&mut self) {
        (self.waited, self.bytes) = (Duration::ZERO, 0);
    }
}

/// Measures how long the client is waited for to take an answer, and ends the connection when that is too long.
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    /// Since when, while it is waited for, and when that is too long.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Paced<S> {
    /// A client may be waited for so long until it took [`PROGRESS_BYTES`], or all there is.
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, pace: Pace::new(limit), waiting: None }
    }

    /// Passes on what the stream said of taking bytes.
    fn pace<T>(&mut self, cx: &mut Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_ready() {
            if let Some((since, _)) = self.waiting.take() {
                self.pace.waited(since.elapsed());
            }
            return said;
        }
        let (now, left) = (Instant::now(), self.pace.left());
        let (_, end) = self.waiting.get_or_insert_with(|| (now, Box::pin(tokio::time::sleep_until(now + left))));
        match end.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client took less than 64 KiB of an answer within web.answer_timeout_ms",
            ))),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let said = Pin::new(&mut this.stream).poll_write(cx, bytes);
        let said = this.pace(cx, said);
        if let Poll::Ready(Ok(bytes)) = &said {
            this.pace.moved(*bytes);
        }
        said
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let said = Pin::new(&mut this.stream).poll_flush(cx);
        let said = this.pace(cx, said);
        if matches!(said, Poll::Ready(Ok(()))) {
            this.pace.begin_anew();
        }
        said
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let said = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.pace(cx, said)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let said = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        let said = this.pace(cx, said);
        if let Poll::Ready(Ok(bytes)) = &said {
            this.pace.moved(*bytes);
        }
        said
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    /// What becomes of an answer of 1 MiB when the client takes `bytes` every `pause`.
    async fn send(bytes: usize, pause: Duration) -> io::Result<()> {
        let (server, mut client) = tokio::io::duplex(4096);
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; bytes];
            while client.read_exact(&mut buffer).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        });
        let mut paced: Paced<DuplexStream> = Paced::new(server, LIMIT);
        let sent = async {
            paced.write_all(&vec![0; 1 << 20]).await?;
            paced.flush().await
        };
        let sent = sent.await;
        drop(paced);
        reading.abort();
        sent
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_or_too_little_is_not_waited_for() {
        for (bytes, pause) in [(1, Duration::from_secs(3600)), (100, Duration::from_millis(10))] {
            let late = send(bytes, pause).await.expect_err("too slow");
            assert_eq!(late.kind(), io::ErrorKind::TimedOut);
            assert!(late.to_string().contains("web.answer_timeout_ms"), "{late}");
        }
    }

    #[tokio::test]
    async fn a_slow_line_is_waited_for_however_long_the_whole_takes() {
        let began = Instant::now();
        // 64 KiB take 16 pauses.
        send(4096, Duration::from_millis(4)).await.expect("it takes it");
        assert!(began.elapsed() > 2 * LIMIT, "{:?}", began.elapsed());
    }
}
