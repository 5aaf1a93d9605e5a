//! The next connection of a listener, for all that listen.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// After an error that is the host's, such as no more file descriptors: nothing changes at once, others end first.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for the next connection; `None` once it is time to `stop`.
pub(crate) async fn next_connection(
    listener: &TcpListener,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(e) => {
                tracing::warn!("a connection cannot be accepted: {e}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
