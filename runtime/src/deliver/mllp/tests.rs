//! Receivers that do wrong: what becomes of a message then.

use tokio::net::TcpListener;

use super::*;

const ORU: &[u8] = b"MSH|^~\\&|GANTRY||RIS||20240301101500||ORU^R01^ORU_R01|42|P|2.5.1\r";

fn ack(code: &str, more: &str) -> Vec<u8> {
    framed(format!("MSH|^~\\&|RIS||GANTRY||20240301101501||ACK^R01^ACK|1|P|2.5.1\rMSA|{code}|42\r{more}").as_bytes())
}

/// Sends one message to a receiver that takes it, says this, and closes the connection; or says nothing and keeps it.
async fn send(answer: Option<Vec<u8>>, enhanced: bool) -> Result<Answered, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let receiver = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (mut frames, mut piece) = (Frames::new(1 << 20), vec![0; 4096]);
        let message = loop {
            if let Some(message) = frames.next().expect("a message") {
                break message;
            }
            let read = stream.read(&mut piece).await.expect("bytes");
            frames.push(&piece[..read]);
        };
        match answer {
            Some(answer) => stream.write_all(&answer).await.expect("taken"),
            None => std::future::pending().await,
        }
        message
    });
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    let to = format!("address = {address:?}\nenhanced = {enhanced}\nanswer_max_kib = 1\n");
    let to = toml::from_str(&to).expect("a destination");
    let options = ReadOptions::new(&crate::config::Limits::default(), true);
    let sender = Sender::new(&to, 200, store, options).expect("a sender");
    let sent = sender.call(&Sendable { bytes: ORU.to_vec(), control_id: "42".into() }).await;
    if sent.is_ok() {
        assert_eq!(receiver.await.expect("it ends"), ORU);
    }
    sent
}

fn failure(sent: Result<Answered, Trouble>) -> (bool, String) {
    match sent {
        Err(Trouble::Failed(Failure { again, text })) => (again, text),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_says_whether_it_arrived() {
    assert_eq!(send(Some(ack("AA", "")), false).await.expect("sent").code, "AA");
    assert_eq!(send(Some(ack("CA", "")), false).await.expect("sent").code, "CA");
    assert_eq!(send(Some([ack("CA", ""), ack("AA", "")].concat()), true).await.expect("sent").code, "AA");
    for (answer, again, says) in [
        (ack("AE", "ERR||PID^1^5|101^Mueller\r"), false, "it answers AE, 101 Required field missing"),
        (ack("AR", ""), true, "it answers AR"),
        (ack("CR", ""), false, "it answers CR"),
    ] {
        assert_eq!(failure(send(Some(answer), false).await), (again, says.to_owned()));
    }
    let said = failure(send(Some([ack("CA", ""), ack("AE", "")].concat()), true).await);
    assert_eq!(said, (false, "it answers AE".into()), "it has the message, and could not use it");
}

#[tokio::test]
async fn what_is_no_answer_is_tried_again() {
    for (answer, says) in [
        (Vec::new(), "it closed the connection before it answered"),
        (ack("AA", "")[..20].to_vec(), "it closed the connection before it answered"),
        (framed(b"MSH|^~\\&|RIS\rMSA|AA|other\r"), "it answers to another message than ours"),
        (framed(b"hello"), "it answers with something that is no HL7 message"),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "its answer is no MLLP"),
        (framed(&[b'x'; 2000]), "its answer is no MLLP: a message of more than 1024 bytes"),
    ] {
        let (again, said) = failure(send(Some(answer), false).await);
        assert!(again && said.starts_with(says), "{says}: {said}");
    }
    let (again, said) = failure(send(None, false).await);
    assert!(again && said.contains("destinations.timeout_ms = 200"), "{said}");
    let only_commit = failure(send(Some(ack("CA", "")), true).await);
    assert_eq!(only_commit, (true, "it closed the connection before it answered".into()));
}

#[tokio::test]
async fn nobody_there_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).await.expect("a journal");
    let to = toml::from_str(&format!("address = {address:?}\n")).expect("a destination");
    let sender =
        Sender::new(&to, 200, store, ReadOptions::new(&crate::config::Limits::default(), true)).expect("a sender");
    let sent = sender.call(&Sendable { bytes: ORU.to_vec(), control_id: "42".into() }).await;
    assert!(matches!(sent, Err(Trouble::Unreachable(_))), "{sent:?}");
}
