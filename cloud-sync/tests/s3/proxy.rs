//! A proxy that injects faults: everything that a network, a server under load or something in between has ever been seen to do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens to a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It is answered so, and never gets to the server.
    Answer(u16, &'static str),
    /// It is answered so, and that it may come again after so many seconds.
    Later(u16, u64),
    /// It is answered that its clock is wrong, with a time so many seconds from now.
    Skewed(i64),
    /// After so many bytes of its body the connection is reset.
    Reset(usize),
    /// The server gets it and answers, and the connection is reset.
    LoseAnswer,
    /// It is answered a byte a second.
    Crawl,
    /// Nothing of its body is read, and nothing is answered.
    Swallow,
    /// A bit of its body is another.
    Flip,
    /// The answer breaks off after so many bytes.
    Cut(usize),
    /// First, last and all of the bytes that an answer is said to have are others.
    Range(fn([u64; 3]) -> [u64; 3]),
}

/// For requests of a method whose target has this in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) method: &'static str,
    pub(crate) target: &'static str,
    /// Such requests that go through before.
    pub(crate) after: u32,
    /// How many it is done to.
    pub(crate) times: u32,
    pub(crate) fault: Fault,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    heads: Vec<String>,
    down: bool,
    /// `Proxy-Authorization` without which nothing is done.
    asks_for: Option<String>,
}

/// Runs as long as the runtime.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub(crate) async fn start(server: &str, rules: &[Rule]) -> Self {
        let server: SocketAddr = server.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let state = Arc::new(Mutex::new(State { rules: rules.to_vec(), ..State::default() }));
        let proxy = Self { url, state };
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let proxy = serving.clone();
                tokio::spawn(async move {
                    // An error is a connection that ended, which is what faults are about.
                    let _ = proxy.serve(client, server).await;
                });
            }
        });
        proxy
    }

    /// The server is away, or back.
    pub(crate) fn down(&self, down: bool) {
        self.state.lock().expect("a lock").down = down;
    }

    /// Who comes without this is answered 407.
    pub(crate) fn ask_for(&self, authorization: &str) {
        self.state.lock().expect("a lock").asks_for = Some(authorization.to_owned());
    }

    /// Every request line so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        let heads = self.heads();
        heads.iter().map(|head| head.lines().next().unwrap_or_default().to_owned()).collect()
    }

    /// Every request so far, with its headers.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.state.lock().expect("a lock").heads.clone()
    }

    /// Whether every fault happened as often as it should.
    pub(crate) fn is_spent(&self) -> bool {
        self.state.lock().expect("a lock").rules.iter().all(|rule| rule.times == 0)
    }

    /// One request; then the connection ends.
    async fn serve(&self, mut client: TcpStream, server: SocketAddr) -> std::io::Result<()> {
        if self.state.lock().expect("a lock").down {
            return client.set_zero_linger();
        }
        let (head, mut body) = read_head(&mut client).await?;
        let request = head.lines().next().unwrap_or_default().to_owned();
        let length = header(&head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0usize);
        let fault = self.fault(&head);
        let asks_for = self.state.lock().expect("a lock").asks_for.clone();
        if asks_for.is_some() && asks_for.as_deref() != header(&head, "proxy-authorization") {
            drain(&mut client, length - body.len()).await?;
            return answer(&mut client, 407, &request, "", None).await;
        }
        if request.starts_with("CONNECT ") {
            // Whatever it is called, it is the one server.
            let mut upstream = TcpStream::connect(server).await?;
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            return tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(drop);
        }
        match fault {
            Some(Fault::Later(status, seconds)) => {
                drain(&mut client, length - body.len()).await?;
                return answer(&mut client, status, &request, "", Some(("Retry-After", seconds.to_string().as_str())))
                    .await;
            }
            Some(Fault::Answer(status, code)) => {
                drain(&mut client, length - body.len()).await?;
                let xml =
                    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>injected</Message></Error>");
                return answer(&mut client, status, &request, &xml, None).await;
            }
            Some(Fault::Skewed(seconds)) => {
                drain(&mut client, length - body.len()).await?;
                let now = chrono::Utc::now() + chrono::TimeDelta::seconds(seconds);
                let date = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
                let xml = "<?xml version=\"1.0\"?><Error><Code>RequestTimeTooSkewed</Code></Error>";
                return answer(&mut client, 403, &request, xml, Some(("Date", date.as_str()))).await;
            }
            Some(Fault::Reset(bytes)) => {
                drain(&mut client, bytes.saturating_sub(body.len())).await?;
                return client.set_zero_linger();
            }
            Some(Fault::Swallow) => {
                tokio::time::sleep(Duration::from_secs(600)).await;
                return Ok(());
            }
            _ => {}
        }
        let mut upstream = TcpStream::connect(server).await?;
        upstream.write_all(as_last(&head).as_bytes()).await?;
        if matches!(fault, Some(Fault::Flip))
            && let Some(byte) = body.first_mut()
        {
            *byte ^= 1;
        }
        let mut flip = matches!(fault, Some(Fault::Flip)) && body.is_empty();
        upstream.write_all(&body).await?;
        let mut left = length.saturating_sub(body.len());
        let mut piece = vec![0; 64 * 1024];
        let mut answered = Vec::new();
        let mut given = 0;
        loop {
            let mut told = [0; 16 * 1024];
            tokio::select! {
                read = client.read(&mut piece), if left > 0 => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    if std::mem::take(&mut flip) {
                        piece[0] ^= 1;
                    }
                    left -= read;
                    upstream.write_all(&piece[..read]).await?;
                }
                read = upstream.read(&mut told) => {
                    let read = read?;
                    let told = &told[..read];
                    match fault {
                        Some(Fault::LoseAnswer | Fault::Crawl) => answered.extend_from_slice(told),
                        Some(Fault::Cut(most)) if given + read > most => {
                            client.write_all(&told[..most - given]).await?;
                            return client.set_zero_linger();
                        }
                        Some(Fault::Range(change)) if given == 0 => client.write_all(&ranged(told, change)).await?,
                        _ => client.write_all(told).await?,
                    }
                    given += read;
                    if read == 0 {
                        break;
                    }
                }
            }
        }
        match fault {
            Some(Fault::LoseAnswer) => client.set_zero_linger(),
            Some(Fault::Crawl) => {
                for byte in answered {
                    client.write_all(&[byte]).await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Ok(())
            }
            _ => client.shutdown().await,
        }
    }

    fn fault(&self, head: &str) -> Option<Fault> {
        let mut state = self.state.lock().expect("a lock");
        state.heads.push(head.to_owned());
        let (method, target) = head.lines().next()?.split_once(' ')?;
        for rule in &mut state.rules {
            if rule.times == 0 || rule.method != method || !target.contains(rule.target) {
                continue;
            }
            if rule.after > 0 {
                rule.after -= 1;
                continue;
            }
            rule.times -= 1;
            return Some(rule.fault);
        }
        None
    }
}

/// The head of a request, and what came of its body with it.
async fn read_head(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 8192];
        let read = client.read(&mut piece).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..read]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
    }
}

/// A request after which the server ends the connection, and as a server wants it that is no proxy.
fn as_last(head: &str) -> String {
    let mut lines = head.trim_end().lines();
    let request = lines.next().unwrap_or_default().replacen(" http://", " ", 1);
    let request = match request.split_once(' ') {
        Some((method, target)) if !target.starts_with('/') => {
            format!("{method} /{}", target.split_once('/').map_or("", |(_, path)| path))
        }
        _ => request,
    };
    let others = lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let kept = others.map(|line| format!("{line}\r\n")).collect::<String>();
    format!("{request}\r\n{kept}Connection: close\r\n\r\n")
}

/// An answer, with another range in its head.
fn ranged(told: &[u8], change: fn([u64; 3]) -> [u64; 3]) -> Vec<u8> {
    let Some(end) = told.windows(4).position(|window| window == b"\r\n\r\n") else { return told.to_vec() };
    let head = String::from_utf8_lossy(&told[..end]);
    let lines = head.lines().map(|line| {
        let lower = line.to_ascii_lowercase();
        let numbers = lower.strip_prefix("content-range: bytes ").map(|said| {
            let numbers = said.split(['-', '/']).map(|number| number.parse().expect("a number"));
            numbers.collect::<Vec<u64>>()
        });
        match numbers.as_deref() {
            Some(&[first, last, total]) => {
                let [first, last, total] = change([first, last, total]);
                format!("Content-Range: bytes {first}-{last}/{total}")
            }
            _ => line.to_owned(),
        }
    });
    let mut answer = lines.collect::<Vec<_>>().join("\r\n").into_bytes();
    answer.extend_from_slice(&told[end..]);
    answer
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

async fn drain(client: &mut TcpStream, mut bytes: usize) -> std::io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    while bytes > 0 {
        let most = bytes.min(piece.len());
        match client.read(&mut piece[..most]).await? {
            0 => break,
            read => bytes -= read,
        }
    }
    Ok(())
}

async fn answer(
    client: &mut TcpStream,
    status: u16,
    request: &str,
    xml: &str,
    field: Option<(&str, &str)>,
) -> std::io::Result<()> {
    let field = field.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status} Injected\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n{field}Connection: close\r\n\r\n",
        xml.len()
    );
    client.write_all(head.as_bytes()).await?;
    if !request.starts_with("HEAD") {
        client.write_all(xml.as_bytes()).await?;
    }
    client.shutdown().await
}
