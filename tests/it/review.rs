//! Results that wait for a person, results in the shadow, and what people say of findings.

use gantry_tests::Scenario;
use gantry_tests::node::{Node, eventually};
use serde_json::{Value, json};

use crate::dicomweb::{Reply, ask, get, post};
use crate::node::{json as printed, send_ct, site};

const JSON: &str = "Content-Type: application/json\r\n";

/// A node that runs `well-behaved` on the small CT, with these lines for the module, once it is done; and its job.
fn node(lines: &str) -> Option<(Node, i64, Scenario)> {
    let module = Scenario::rogue("well-behaved")?;
    let node = Node::start(&site(module.package_folder(), lines));
    send_ct(&node);
    let mut job = 0;
    eventually("the job is done", || {
        let list = printed(&node.says(&["job", "list", "--state", "done", "--json"]));
        job = list["jobs"][0]["id"].as_i64().unwrap_or_default();
        job > 0
    });
    Some((node, job, module))
}

fn of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap_or_else(|e| panic!("{e}: {}", reply.text()))
}

fn say(node: &Node, job: i64, verdict: &Value) -> Reply {
    post(node, &format!("/api/results/{job}/verdicts"), JSON, verdict.to_string().as_bytes())
}

fn release(node: &Node, job: i64, how: &str) -> Reply {
    post(node, &format!("/api/results/{job}/release"), JSON, how.as_bytes())
}

/// A token with these scopes, as a header. The first one closes loopback.
fn bearer(node: &Node, scopes: &[&str]) -> String {
    let name = scopes.join("-");
    let mut arguments = vec!["token", "new", &name];
    arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let said = node.says(&arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    format!("Authorization: Bearer {}\r\n", said.out.trim())
}

/// How many results are listed for who has this header, and the status of one by itself.
fn seen(node: &Node, job: i64, headers: &str) -> (usize, u16) {
    let list = of(&ask(node, "GET", "/api/results", headers));
    (list.as_array().expect("a list").len(), ask(node, "GET", &format!("/api/results/{job}"), headers).status)
}

/// A folder as a destination.
fn to(folder: &std::path::Path) -> String {
    format!("[[destinations]]\nname = \"folder\"\nfolder = {{ path = {folder:?} }}\n")
}

/// States of deliveries.
fn deliveries(node: &Node) -> Vec<String> {
    let list = printed(&node.says(&["outbox", "list", "--json"]));
    let rows = list["deliveries"].as_array().expect("a list").iter();
    rows.map(|row| row["state"].as_str().expect("a state").to_owned()).collect()
}

/// The place of the workitem's output in what a viewer would fetch; nothing when it has none.
fn output(node: &Node) -> Option<String> {
    let list = of(&get(node, "/dicom-web/workitems"));
    let uid = list[0]["00080018"]["Value"][0].as_str().expect("a UID");
    let workitem = of(&get(node, &format!("/dicom-web/workitems/{uid}")));
    let performed = &workitem[0]["00741216"]["Value"][0];
    assert!(performed["00404028"]["Value"][0].is_object(), "it is completed: {workitem}");
    let url = performed["00404033"]["Value"][0]["0040E025"]["Value"][0]["00081190"]["Value"][0].as_str()?;
    Some(url.split_once("/dicom-web").map(|(_, path)| format!("/dicom-web{path}")).expect("a URL"))
}

#[test]
fn a_held_result_is_said_something_of_and_released() {
    let sent = tempfile::tempdir().expect("a folder");
    let Some((node, job, _module)) = node(&format!("release = \"hold\"\n{}", to(sent.path()))) else { return };
    let list = of(&get(&node, "/api/worklist"));
    assert_eq!(list["studies"][0]["state"], "held", "{list}");
    let held = of(&get(&node, "/api/results?held=true"));
    assert_eq!((&held[0]["id"], &held[0]["release"]["policy"]), (&job.into(), &"hold".into()), "{held}");
    assert_eq!(output(&node), None, "nothing of it leaves");
    assert_eq!(deliveries(&node), ["held"]);
    let shown = of(&get(&node, &format!("/api/results/{job}")));
    let names: Vec<&str> =
        shown["findings"].as_array().expect("a list").iter().filter_map(|f| f["finding"].as_str()).collect();
    assert_eq!(names, ["result", "segments/0", "measurements/0", "classifications/0"], "{shown}");

    // Kept once.
    let accepted = json!({"finding": "segments/0", "verdict": "accepted", "by": "Dr. A. Example"});
    let first = say(&node, job, &accepted);
    assert_eq!(first.status, 201, "{}", first.text());
    let row = of(&first);
    assert_eq!(row["stated"]["name"], "Bone", "{row}");
    assert_eq!(row["given_by"], "loopback for Dr. A. Example", "{row}");
    let again = say(&node, job, &accepted);
    assert_eq!((again.status, &of(&again)), (200, &row), "the same again is the same");
    let other = say(&node, job, &json!({"finding": "segments/0", "verdict": "rejected"}));
    assert_eq!(other.status, 409, "{}", other.text());
    assert!(other.text().contains("was accepted on ") && other.text().contains("Dr. A. Example"), "{}", other.text());
    let corrected = json!({"finding": "measurements/0", "verdict": "corrected", "correction": {"value": 3.5}, "comment": "too much"});
    assert_eq!(say(&node, job, &corrected).status, 201);
    let otherwise = json!({"finding": "measurements/0", "verdict": "corrected", "correction": {"value": 3.6}});
    assert_eq!(say(&node, job, &otherwise).status, 409);

    // It would leave as the module stated it.
    let refused = release(&node, job, "");
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("despite_verdicts"), "{}", refused.text());
    assert_eq!(output(&node), None);
    let released = release(&node, job, "{\"despite_verdicts\": true, \"by\": \"Dr. B\"}");
    assert_eq!(released.status, 200, "{}", released.text());
    assert_eq!(of(&released)["released_by"], "loopback for Dr. B");
    let again = release(&node, job, "{\"despite_verdicts\": true, \"by\": \"Dr. C\"}");
    assert_eq!((again.status, &of(&again)), (200, &of(&released)), "released once");
    assert_eq!(of(&get(&node, "/api/worklist"))["studies"][0]["state"], "done");
    eventually("it is delivered", || deliveries(&node) == ["sent"]);
    assert!(std::fs::read_dir(sent.path()).expect("readable").next().is_some(), "it came");

    // What the workitem names is there.
    let path = output(&node).expect("an output");
    let object = ask(&node, "GET", &path, "Accept: multipart/related; type=\"application/dicom\"\r\n");
    assert_eq!(object.status, 200, "{}", object.text());
    assert!(object.body.windows(4).any(|w| w == b"DICM"), "a DICOM object");
    // In pieces.
    let metadata = get(&node, &format!("{path}/metadata"));
    let of_study = "\"0020000D\":{\"vr\":\"UI\",\"Value\":[\"2.25.2\"]}";
    assert!(metadata.status == 200 && metadata.text().contains(of_study), "{}", metadata.text());
    assert_eq!(get(&node, "/dicom-web/studies/2.25.2/series/2.25.1").status, 404);

    let verdicts = node.audited("verdict-given");
    assert_eq!(verdicts.len(), 2, "{verdicts:?}");
    assert_eq!(verdicts[0]["detail"], "accepted segments/0", "{verdicts:?}");
    assert!(!format!("{verdicts:?}").contains("too much"), "what people say is not in the audit log");
    let releases = node.audited("result-released");
    assert_eq!(releases.len(), 1, "{releases:?}");
    assert_eq!(releases[0]["detail"], "although 1 of its findings were rejected or corrected", "{releases:?}");
}

#[test]
fn a_result_in_the_shadow_never_leaves() {
    let sent = tempfile::tempdir().expect("a folder");
    let Some((node, job, _module)) = node(&format!("release = \"shadow\"\n{}", to(sent.path()))) else { return };
    assert!(deliveries(&node).is_empty(), "there is nothing to deliver");
    let refused = release(&node, job, "{\"despite_verdicts\": true}");
    assert!(refused.status == 409 && refused.text().contains("shadow"), "{}", refused.text());
    assert_eq!(output(&node), None);
    assert_eq!(of(&get(&node, "/api/results?held=true")), json!([]));
    let said = say(&node, job, &json!({"finding": "result", "verdict": "rejected"}));
    assert_eq!(said.status, 201, "it is reviewed all the same: {}", said.text());
    assert!(node.files("results").iter().any(|file| file.ends_with("segmentation.dcm")), "it is computed and kept");
    let (reader, reviewer) = (bearer(&node, &["read"]), bearer(&node, &["read", "review"]));
    assert_eq!(seen(&node, job, &reader), (0, 404));
    assert_eq!(seen(&node, job, &reviewer), (1, 200));
}

#[test]
fn what_cannot_be_said_is_refused() {
    let Some((node, job, _module)) = node("") else { return };
    assert!(output(&node).is_some(), "at once");
    let long = "a".repeat(1001);
    for (wrong, status) in [
        (json!({"finding": "triage/0", "verdict": "accepted"}), 400),
        (json!({"finding": "", "verdict": "accepted"}), 400),
        (json!({"finding": "../../result", "verdict": "accepted"}), 400),
        (json!({"finding": "segments/0", "verdict": "maybe"}), 400),
        (json!({"finding": "segments/0", "verdict": "accepted", "patient": "x"}), 400),
        (json!({"finding": "segments/0", "verdict": "corrected"}), 400),
        (json!({"finding": "segments/0", "verdict": "corrected", "correction": {}}), 400),
        (json!({"finding": "segments/0", "verdict": "corrected", "correction": {"value": 1}}), 400),
        (json!({"finding": "segments/0", "verdict": "rejected", "correction": {"present": false}}), 400),
        (json!({"finding": "segments/0", "verdict": "rejected", "comment": long}), 400),
        (json!({"finding": "segments/0", "verdict": "rejected", "by": ""}), 400),
        (json!([]), 400),
    ] {
        let reply = say(&node, job, &wrong);
        assert_eq!(reply.status, status, "{wrong}: {}", reply.text());
    }
    let verdict = json!({"finding": "segments/0", "verdict": "accepted"});
    for job in [0, -1, 99] {
        assert_eq!(say(&node, job, &verdict).status, 404, "job {job}");
        assert_eq!(release(&node, job, "").status, 404, "job {job}");
    }
    assert_eq!(get(&node, "/api/results/x").status, 404);
    assert_eq!(get(&node, "/api/results?held=maybe").status, 400);
    let path = format!("/api/results/{job}/verdicts");
    assert_eq!(post(&node, &path, JSON, b"{").status, 400);
    assert_eq!(post(&node, &path, "Content-Type: text/plain\r\n", verdict.to_string().as_bytes()).status, 415);
    let large = post(&node, &path, JSON, &vec![b' '; (64 << 10) + 1]);
    assert!(large.status == 413 && large.text().contains("worklist.request_max_kib = 64"), "{}", large.text());
    assert!(node.audited("verdict-given").is_empty(), "nothing was kept");
    assert_eq!(release(&node, job, "").status, 200, "it may leave already");

    // Who may look may not say.
    assert_eq!(node.says(&["token", "new", "viewer", "--scope", "read"]).code, Some(0));
    let token = node.says(&["token", "new", "other", "--scope", "read"]).out;
    let headers = format!("Authorization: Bearer {}\r\n{JSON}", token.trim());
    let refused = post(&node, &path, &headers, verdict.to_string().as_bytes());
    assert!(refused.status == 403 && refused.text().contains("review"), "{}", refused.text());
    assert_eq!(ask(&node, "GET", "/api/results", &headers).status, 200);
}

#[test]
fn on_the_command_line_the_same_is_said() {
    let Some((node, job, _module)) = node("release = \"hold\"\n") else { return };
    let id = job.to_string();
    let says = node.says(&["review", "list", "--held"]);
    assert!(says.code == Some(0) && says.out.starts_with(&format!("{job:>6}  held ")), "{says:?}");
    let says = node.says(&["review", "show", &id]);
    for part in ["held", "  segments/0: {", "  measurements/0: {", "  classifications/0: {"] {
        assert!(says.code == Some(0) && says.out.contains(part), "`{part}` is missing: {says:?}");
    }
    let says = node.says(&["review", "correct", &id, "measurements/0", "{\"value\": 1.5}", "--by", "Dr. A"]);
    assert_eq!(says.out, format!("measurements/0 of job {job} is corrected by operator for Dr. A\n"), "{says:?}");
    let says = node.says(&["review", "reject", &id, "measurements/0"]);
    assert!(says.code == Some(3) && says.err.contains("was corrected on "), "{says:?}");
    let says = node.says(&["review", "correct", &id, "measurements/0", "{\"what\": 1.5}"]);
    assert_eq!(says.code, Some(2), "{says:?}");
    let says = node.says(&["review", "accept", &id, "triage/9"]);
    assert!(says.code == Some(3) && says.err.contains("there are: result, segments/0"), "{says:?}");
    let says = node.says(&["review", "release", &id]);
    assert!(says.code == Some(3) && says.err.contains("--despite-verdicts"), "{says:?}");
    let says = node.says(&["review", "release", &id, "--despite-verdicts"]);
    assert_eq!((says.code, says.out.as_str()), (Some(0), format!("the result of job {job} may leave\n").as_str()));
    let shown = printed(&node.says(&["review", "show", &id, "--json"]));
    assert_eq!(shown["verdicts"][0]["correction"], json!({"value": 1.5}), "{shown}");
    assert_eq!(shown["release"]["released_by"], "operator", "{shown}");
    assert_eq!(node.says(&["review", "show", "99"]).code, Some(3));
}

#[test]
fn what_is_held_is_shown_to_reviewers_and_released_by_no_page_of_another_site() {
    let Some((node, job, _module)) = node("release = \"hold\"\n") else { return };
    // Loopback is open still, and a browser there sends what a page tells it to: without a body, without a type.
    let path = format!("/api/results/{job}/release");
    for elsewhere in
        ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Origin: http://h\r\nSec-Fetch-Site: cross-site\r\n"]
    {
        let refused = post(&node, &path, elsewhere, b"");
        assert!(refused.status == 403 && refused.text().contains("another site"), "{elsewhere}: {}", refused.text());
        for (method, target) in [
            ("POST", "/dicom-web/workitems/1.2.840.10008.5.1.4.34.5/subscribers/EVIL"),
            ("DELETE", "/dicom-web/workitems/1.2.840.10008.5.1.4.34.5/subscribers/EVIL"),
            ("POST", "/dicom-web/workitems/2.25.1/cancelrequest"),
        ] {
            assert_eq!(ask(&node, method, target, elsewhere).status, 403, "{method} {target}: {elsewhere}");
        }
    }
    assert!(node.audited("result-released").is_empty() && node.audited("subscription-changed").is_empty());
    let refusals = node.audited("access-refused");
    assert!(refusals.iter().any(|row| row["detail"].to_string().contains("another site")), "{refusals:?}");

    let (reader, reviewer) = (bearer(&node, &["read"]), bearer(&node, &["read", "review"]));
    assert_eq!(seen(&node, job, &reader), (0, 404));
    assert_eq!(seen(&node, job, &reviewer), (1, 200));
    let held = ask(&node, "GET", "/api/results?held=true", &reader);
    assert!(held.status == 403 && held.text().contains("review"), "{}", held.text());
    // Its own page may.
    let released = post(&node, &path, &format!("{reviewer}Origin: http://h\r\nSec-Fetch-Site: same-origin\r\n"), b"");
    assert_eq!(released.status, 200, "{}", released.text());
    assert_eq!(seen(&node, job, &reader), (1, 200));
}

#[test]
fn a_damaged_result_costs_nobody_the_others() {
    let Some(second) = Scenario::rogue("well-behaved") else { return };
    let more = format!("[[modules]]\npackage = {:?}\nname = \"second\"\n", second.package_folder());
    let Some((node, _, _module)) = node(&more) else { return };
    let mut series = Vec::new();
    eventually("both are done", || {
        let list = of(&get(&node, "/dicom-web/workitems"));
        let uids = list.as_array().expect("a list").iter().filter_map(|item| item["00080018"]["Value"][0].as_str());
        series = uids
            .filter_map(|uid| {
                let item = of(&get(&node, &format!("/dicom-web/workitems/{uid}")));
                let retrieval = &item[0]["00741216"]["Value"][0]["00404033"]["Value"][0]["0040E025"]["Value"][0];
                let url = retrieval["00081190"]["Value"][0].as_str()?.to_owned();
                url.split_once("/dicom-web").map(|(_, path)| format!("/dicom-web{path}"))
            })
            .collect();
        series.len() == 2
    });
    let unknown = "/dicom-web/studies/2.25.2/series/2.25.1";
    let given = || {
        let wanted = "Accept: multipart/related; type=\"application/dicom\"\r\n";
        let mut statuses: Vec<u16> = series.iter().map(|path| ask(&node, "GET", path, wanted).status).collect();
        statuses.sort_unstable();
        (statuses, get(&node, unknown).status)
    };
    assert_eq!(given(), (vec![200, 200], 404));
    let kept = node.files("results");
    let result = kept.iter().find(|file| file.ends_with("result.json")).expect("a result");

    std::fs::remove_file(result).expect("removed");
    // The same package on the same study makes the same series: the other job gives it.
    assert_eq!(given(), (vec![200, 200], 404));
    assert!(node.log().contains("the outputs of this job are left out"), "{}", node.log());

    // As large as before, and another.
    for file in kept.iter().filter(|file| file.extension().is_some_and(|end| end == "dcm")) {
        let mut bytes = std::fs::read(file).expect("readable");
        *bytes.last_mut().expect("not empty") ^= 1;
        std::fs::remove_file(file).expect("removed");
        std::fs::write(file, bytes).expect("written");
    }
    assert_eq!(given(), (vec![404, 404], 404));
    assert!(node.log().contains("is not what the job wrote"), "{}", node.log());
}
