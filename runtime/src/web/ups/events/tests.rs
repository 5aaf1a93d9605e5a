use super::*;

/// PS3.4 table CC.2.4-1, in the form of the example in PS3.18 section 11.13.
#[test]
fn reports_have_the_attributes_of_their_type() {
    let parsed = |report: &Report| serde_json::from_str::<Value>(&report.message(23)).expect("JSON");
    let raised = Report::state("2.25.1".into(), WorkitemState::Scheduled, true, Some(Urgency::Urgent));
    assert_eq!(
        parsed(&raised),
        json!({
            "00000002": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.34.6.1"]},
            "00000110": {"vr": "US", "Value": [23]},
            "00001000": {"vr": "UI", "Value": ["2.25.1"]},
            "00001002": {"vr": "US", "Value": [1]},
            "00404041": {"vr": "CS", "Value": ["READY"]},
            "00741000": {"vr": "CS", "Value": ["SCHEDULED"]},
            "00741200": {"vr": "CS", "Value": ["HIGH"]},
        })
    );
    let state = Report::state("2.25.1".into(), WorkitemState::InProgress, false, None);
    assert_eq!(state.attributes.keys().collect::<Vec<_>>(), ["00404041", "00741000"]);
    let request = "{\"00741236\":{\"vr\":\"AE\",\"Value\":[\"RIS\"]}}";
    let cancel = parsed(&Report::cancel_requested("2.25.1".into(), request));
    assert_eq!((&cancel["00001002"]["Value"][0], &cancel["00741236"]["Value"][0]), (&json!(2), &json!("RIS")));
    let status = parsed(&Report::status("GOING DOWN"));
    assert_eq!((&status["00001002"]["Value"][0], &status["00741242"]["Value"][0]), (&json!(4), &json!("GOING DOWN")));
    assert_eq!(status["00001000"]["Value"][0], ALL);
}
