use super::*;

const ORDER: &str = "MSH|^~\\&|RIS|HOSP|||20240301||ORM^O01|42|P|2.3.1\rPID|1||P1\rORC|NW|1|ACC1\rOBR|1\r";

/// A service with these limits, on a journal of its own.
struct Service {
    _folder: tempfile::TempDir,
    address: SocketAddr,
    store: Store,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Service {
    async fn start(change: impl FnOnce(&mut Hl7Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).await.expect("a journal");
        let mut config = Config::default();
        config.hl7.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.hl7.allowed_addresses = vec![IpAddr::from([127, 0, 0, 1])];
        change(&mut config.hl7);
        let audit = Audit::new(store.clone(), folder.path());
        let bound = Mllp::bind(&config, store.clone(), Metrics::new(), audit).await.expect("a port");
        let service = bound.expect("it is to listen");
        let (address, stop, tasks) = (service.local_addr(), CancellationToken::new(), TaskTracker::new());
        let (stopped, connections) = (stop.clone(), tasks.clone());
        tasks.spawn(async move { service.run(stopped, &connections).await });
        Self { _folder: folder, address, store, stop, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// What comes back for these bytes until the connection ends.
    async fn end_of(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.expect("taken");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// The next answer on a connection.
async fn answer_to(stream: &mut TcpStream, message: &str) -> String {
    stream.write_all(&framed(message.as_bytes())).await.expect("taken");
    let (mut frames, mut piece) = (Frames::new(1 << 20), [0; 4096]);
    loop {
        if let Some(answer) = frames.next().expect("MLLP") {
            return String::from_utf8_lossy(&answer).into_owned();
        }
        let read = stream.read(&mut piece).await.expect("bytes");
        assert!(read > 0, "it closed the connection");
        frames.push(&piece[..read]);
    }
}

#[tokio::test]
async fn what_is_acknowledged_is_in_the_journal() {
    let service = Service::start(|_| {}).await;
    let mut stream = service.connect().await;
    for _ in 0..2 {
        let answer = answer_to(&mut stream, ORDER).await;
        assert!(answer.contains("\rMSA|AA|42\r"), "{answer}");
    }
    let rows = service.store.audit_latest(None, 10).await.expect("a log");
    assert_eq!(rows.iter().filter(|row| row.action == "order-received").count(), 2, "{rows:?}");
    // A journal that is gone takes no order, and says so.
    service.store.close().await;
    let answer = answer_to(&mut stream, ORDER).await;
    assert!(answer.contains("\rMSA|AR|42|") && answer.contains("^207"), "{answer}");
}

#[tokio::test]
async fn who_is_slow_or_sends_too_much_is_let_go() {
    let service = Service::start(|config| (config.message_timeout_ms, config.message_max_kib) = (50, 1)).await;
    assert_eq!(service.end_of(b"\x0BMSH|").await, "", "a message that does not end");
    let said = service.end_of(&framed(&[b'x'; 2000])).await;
    assert!(said.contains("MSA|AE||the message is larger than hl7.message_max_kib"), "{said}");
    let said = service.end_of(b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(said.contains("MSA|AE||bytes stand between messages"), "{said}");
    let service = Service::start(|config| config.idle_timeout_ms = 50).await;
    assert_eq!(service.end_of(b"").await, "", "nothing comes");
}

#[tokio::test]
async fn what_anybody_can_cause_is_in_the_log_once() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let writer = Arc::new(log.reopen().expect("a file"));
    let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
    let _taken = tracing::subscriber::set_default(lines);
    let elsewhere = |config: &mut Hl7Config| config.allowed_addresses = vec![IpAddr::from([192, 0, 2, 1])];
    let (strict, service) = (Service::start(elsewhere).await, Service::start(|_| {}).await);
    let mut stream = service.connect().await;
    for _ in 0..3 {
        assert_eq!(strict.end_of(b"").await, "");
        let answer = answer_to(&mut stream, &ORDER.replace("ORM^O01", "ORU^R01")).await;
        assert!(answer.contains("MSA|AR|42|"), "{answer}");
    }
    for _ in 0..20 {
        let mut stream = service.connect().await;
        stream.write_all(b"\x0BMSH|").await.expect("taken");
        stream.shutdown().await.expect("shut down");
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.expect("closed"), 0);
    }
    let lines = std::fs::read_to_string(log.path()).expect("text");
    assert_eq!(lines.matches("closed: the connection ended within a message").count(), 10, "{lines}");
    for once in ["the address is not in hl7.allowed_addresses", "a message was refused: "] {
        assert_eq!(lines.matches(once).count(), 1, "{once}: {lines}");
    }
}

#[tokio::test]
async fn more_connections_than_there_may_be_are_closed_and_a_node_that_stops_waits_for_none_that_is_idle() {
    let service = Service::start(|config| config.connections_max = 1).await;
    let mut first = service.connect().await;
    answer_to(&mut first, ORDER).await;
    for _ in 0..3 {
        assert_eq!(service.end_of(b"").await, "");
    }
    let rows = service.store.audit_latest(None, 100).await.expect("a log");
    let refused: Vec<_> = rows.iter().filter(|row| row.action == "access-refused").collect();
    let [row] = refused.as_slice() else { panic!("one for all of a minute: {refused:?}") };
    assert_eq!(row.detail, "HL7: hl7.connections_max are open, from 127.0.0.1");
    let answer = answer_to(&mut first, ORDER).await;
    assert!(answer.contains("MSA|AA"), "the first goes on: {answer}");
    service.stop.cancel();
    service.tasks.close();
    tokio::time::timeout(Duration::from_secs(10), service.tasks.wait()).await.expect("it ends");
}
