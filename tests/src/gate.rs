//! Something between a client and a server on loopback, at which certain requests wait until a test opens it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Hands everything on, both ways. What waited is cut off when it opens: who sent it may be dead, and half of it does not get through.
/// It runs as long as the test does.
#[derive(Debug)]
pub struct Gate {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether somebody came, and whether it is open.
    known: Mutex<(bool, bool)>,
    opened: Condvar,
}

impl Gate {
    /// Before this server; shut to requests that begin so, as in `PUT /bucket/catalog/`.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn before(server: u16, shut_to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(State::default());
        let (inside, shut_to) = (Arc::clone(&state), shut_to.as_bytes().to_vec());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (Ok(from), Ok(to)) = (server.try_clone(), client.try_clone()) else { continue };
                std::thread::spawn(move || hand_on(from, to, |_| true));
                let (state, shut_to) = (Arc::clone(&inside), shut_to.clone());
                std::thread::spawn(move || hand_on(client, server, |bytes| state.pass(bytes.starts_with(&shut_to))));
            }
        });
        Self { port, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a request waits, or waited.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.state.known.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.state.known.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.state.opened.notify_all();
    }
}

impl State {
    /// Whether it gets through.
    fn pass(&self, is_shut_out: bool) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = is_shut_out && !known.1;
        if waits {
            known.0 = true;
            let _open = self.opened.wait_while(known, |known| !known.1);
        }
        !waits
    }
}

/// A client sends its next request when it has its answer, so each begins with what is read at once.
fn hand_on(mut from: TcpStream, mut to: TcpStream, pass: impl Fn(&[u8]) -> bool) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if !pass(&bytes[..read]) || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
