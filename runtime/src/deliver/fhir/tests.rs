//! Servers that do wrong: what becomes of a bundle then.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::study::PatientEntry;

const BUNDLE: &str = "{\"resourceType\":\"Bundle\"}";

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {FHIR_JSON}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
        .into_bytes()
}

fn taken(entries: usize) -> String {
    let entry = json!({ "response": { "status": "201 Created" } });
    json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": vec![entry; entries] }).to_string()
}

/// One request to a server that gives this answer, and what it read of it.
async fn post(answer: Vec<u8>) -> Result<Said, Trouble> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/r4", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let (mut head, mut piece) = (Vec::new(), [0; 4096]);
        while !head.ends_with(BUNDLE.as_bytes()) {
            match stream.read(&mut piece).await.expect("bytes") {
                0 => break,
                read => head.extend_from_slice(&piece[..read]),
            }
        }
        let _ = stream.write_all(&answer).await;
        String::from_utf8_lossy(&head).to_lowercase()
    });
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "t0ken\n").expect("written");
    let to = FhirDestination {
        url: Some(url),
        token_file: Some(token),
        retry_after_max_ms: 5_000,
        answer_max_kib: 1,
        ..FhirDestination::default()
    };
    let store = Store::open(folder.path()).await.expect("a journal");
    let options = ReadOptions::new(&crate::config::Limits::default(), true);
    let sender = Sender::new(&to, 2_000, store, options).expect("a sender");
    let patient = PatientEntry { id: "P1".into(), name: "Mueller^Anna".into(), ..PatientEntry::default() };
    let said = sender.post(BUNDLE.into(), 2, &Subject { patient, ..Subject::default() }).await;
    let asked = server.await.expect("it ends");
    assert!(asked.starts_with("post /r4 http/1.1") && asked.contains("authorization: bearer t0ken"), "{asked}");
    said
}

async fn failed(answer: Vec<u8>) -> (bool, String) {
    match post(answer).await {
        Err(Trouble::Failed(Failure { again, text })) => (again, text),
        Err(Trouble::Unreachable(text)) => panic!("{text}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[tokio::test]
async fn a_whole_answer_about_every_entry_is_success() {
    assert!(matches!(post(answer("200 OK", "", &taken(2))).await, Ok(Said::Taken)));
    for body in
        [taken(1), String::new(), "<html>".into(), taken(2).replace("201", "422"), taken(2).replace("transaction-", "")]
    {
        let (again, said) = failed(answer("200 OK", "", &body)).await;
        assert!(again && said.starts_with("it says that"), "{said}");
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let whole = answer("200 OK", "", &taken(2));
    let (again, said) = failed(whole[..whole.len() - 30].to_vec()).await;
    assert!(again && said == "its answer was cut off", "{said}");
    let (again, said) = failed(answer("200 OK", "", &" ".repeat(2000))).await;
    assert!(again && said.contains("fhir.answer_max_kib"), "{said}");
    let (again, _) = failed(Vec::new()).await;
    assert!(again);
}

#[tokio::test]
async fn a_server_that_asks_to_be_waited_for_is() {
    let said = post(answer("429 Too Many Requests", "Retry-After: 3\r\n", "")).await;
    assert!(matches!(said, Ok(Said::Wait(pause)) if pause == Duration::from_secs(3)));
    let said = post(answer("503 Service Unavailable", "Retry-After: 0\r\n", "")).await;
    assert!(matches!(said, Ok(Said::Wait(pause)) if pause.is_zero()));
    let date =
        |seconds| (Utc::now() + chrono::TimeDelta::seconds(seconds)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let said = post(answer("429 Too Many Requests", &format!("Retry-After: {}\r\n", date(4)), "")).await;
    let Ok(Said::Wait(pause)) = said else { panic!("a date is waited for") };
    assert!((Duration::from_secs(1)..=Duration::from_secs(4)).contains(&pause), "{pause:?}");
    let (late, never) = (format!("Retry-After: {}\r\n", date(3600)), "Retry-After: tomorrow\r\n");
    for headers in ["", "Retry-After: 6\r\n", &late, never] {
        let (again, said) = failed(answer("429 Too Many Requests", headers, "")).await;
        assert!(again && said == "it answers with status 429", "{said}");
    }
}

#[test]
fn retry_after_is_read_in_every_form_of_a_date() {
    let now = DateTime::parse_from_rfc3339("1994-11-06T08:49:30Z").expect("a time").to_utc();
    let seconds = |text| pause(text, now).map(|pause| pause.as_secs());
    for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", " 7 "] {
        assert_eq!(seconds(date), Some(7), "{date}");
    }
    assert_eq!(seconds("Sun, 06 Nov 1994 08:49:00 GMT"), Some(0), "it is over");
    for none in [
        "",
        "-1",
        "7.5",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 +0200",
        "Mon, 06 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(seconds(none), None, "{none}");
    }
}

#[tokio::test]
async fn a_refusal_is_for_good_and_told_without_the_patient() {
    let outcome = json!({
        "resourceType": "OperationOutcome",
        "issue": [{ "severity": "error", "code": "processing", "diagnostics": "no resources match Patient P1, Anna Mueller" }],
    });
    for (status, again) in [
        ("400 Bad Request", false),
        ("412 Precondition Failed", false),
        ("422 Unprocessable", false),
        ("401 Unauthorized", true),
        ("404 Not Found", true),
        ("409 Conflict", true),
        ("500 Error", true),
        ("502 Bad", true),
        ("302 Found", true),
    ] {
        let said = failed(answer(status, "", &outcome.to_string())).await;
        let text = format!("it answers with status {}: processing: no resources match Patient …, … …", &status[..3]);
        assert_eq!(said, (again, text), "{status}");
    }
    let cut = answer("422 Unprocessable", "", &outcome.to_string());
    assert_eq!(failed(cut[..cut.len() - 9].to_vec()).await, (false, "it answers with status 422".into()));
    assert_eq!(failed(answer("400 Bad", "", "<b>Mueller</b>")).await, (false, "it answers with status 400".into()));
}

#[test]
fn a_folder_gets_one_line_for_a_result_however_often() {
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        put(folder.path(), "x.ndjson", &json!({ "resourceType": "Bundle", "a": "b\nc" })).expect("written");
    }
    let files: Vec<_> =
        std::fs::read_dir(folder.path()).expect("readable").map(|f| f.expect("a file").file_name()).collect();
    assert_eq!(files, ["x.ndjson"]);
    let text = std::fs::read_to_string(folder.path().join("x.ndjson")).expect("text");
    assert_eq!(text, "{\"resourceType\":\"Bundle\",\"a\":\"b\\nc\"}\n");
}
