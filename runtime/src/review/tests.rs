use super::*;

fn opened(findings: Value) -> Opened {
    Opened { result: serde_json::json!({ "findings": findings }), sha256: [0; 32] }
}

#[test]
fn findings_are_named_by_their_list_and_place() {
    let opened = opened(serde_json::json!({
        "segments": [{"name": "liver"}], "measurements": [{"value": 1.0}, {"value": 2.0}], "triage": [], "unfit": null,
    }));
    let names: Vec<String> = opened.findings().into_iter().map(|f| f.finding).collect();
    assert_eq!(names, ["result", "segments/0", "measurements/0", "measurements/1"]);
    assert_eq!(opened.finding("measurements/1").expect("there").stated["value"], 2.0);
    for name in ["", "segments", "segments/1", "segments/-1", "segments/00", "unfit", "triage/0", "../x"] {
        let refused = opened.finding(name).expect_err(name).to_string();
        assert!(refused.ends_with("there are: result, segments/0, measurements/0, measurements/1"), "{refused}");
    }
}

#[test]
fn a_correction_fits_its_finding() {
    let said = |text: &str| serde_json::from_str::<Correction>(text).expect(text);
    for (finding, text) in [
        ("measurements/0", "{\"value\": 12.5, \"unit\": \"mL\"}"),
        ("triage/0", "{\"level\": \"routine\", \"present\": false}"),
        ("segments/0", "{\"code\": {\"value\": \"1\", \"scheme\": \"SCT\", \"meaning\": \"Liver\"}}"),
        ("result", "{\"text\": \"a second lesion, right frontal\"}"),
    ] {
        assert_eq!(said(text).check(finding), Ok(()), "{finding} {text}");
    }
    let long = format!("{{\"text\": \"{}\"}}", "a".repeat(TEXT_MAX + 1));
    for (finding, text, error) in [
        ("measurements/0", "{}", ReviewError::Empty),
        ("triage/0", "{\"value\": 1}", ReviewError::Kind("value")),
        ("segments/0", "{\"level\": \"urgent\"}", ReviewError::Kind("level")),
        ("result", "{\"code\": {\"value\": \"1\", \"scheme\": \"S\", \"meaning\": \"M\"}}", ReviewError::Kind("code")),
        ("result", &long, ReviewError::Text("text")),
        ("result", "{\"text\": \"a\\u0000b\"}", ReviewError::Text("text")),
    ] {
        assert_eq!(said(text).check(finding), Err(error), "{finding} {text}");
    }
    let endless = Correction { value: Some(f64::INFINITY), ..Correction::default() };
    assert_eq!(endless.check("measurements/0"), Err(ReviewError::Number));
    assert!(serde_json::from_str::<Correction>("{\"patient\": \"x\"}").is_err(), "no other field");
}

#[test]
fn a_result_that_was_changed_or_is_none_is_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |text: &str| {
        std::fs::write(folder.path().join(RESULT_FILE), text).expect("written");
        <[u8; 32]>::from(Sha256::digest(text))
    };
    assert!(matches!(open(folder.path(), [0; 32]), Err(OpenError::Io(_))));
    let digest = write("{\"schema\": \"gantry.result/1\", \"findings\": {}}");
    assert_eq!(open(folder.path(), digest).expect("opened").findings().len(), 1);
    assert!(matches!(open(folder.path(), [0; 32]), Err(OpenError::Changed)));
    for text in ["{", "[]", "{\"schema\": \"other/1\"}"] {
        let digest = write(text);
        assert!(matches!(open(folder.path(), digest), Err(OpenError::Format)), "{text}");
    }
}
