use serde_json::json;

use super::*;

#[test]
fn a_result_has_the_uids_and_days_of_its_instances() {
    let by = with(profile("qa-minimal"));
    let subject = by.subject(&file(&ct())).expect("readable");
    let digest = "ab".repeat(32);
    let source = json!({
        "schema": "gantry.result/1", "date": "20230312", "time": "101500", "correlation": "c-1", "runtime_version": "0.1.0",
        "module": {"name": "organs", "version": "1.2.3", "identity_sha256": digest},
        "models": [{"name": "liver", "sha256": digest, "engine": "onnxruntime 1.32.0"}],
        "input": {"study_instance_uid": "1.2.3.4", "series": [{"series_instance_uid": "1.2.3.5", "modality": "CT",
            "decoded": [{"sop_instance_uid": "1.2.3.4.1", "sha256": digest}]}]},
        "findings": {"triage": [{"level": "urgent", "probability": 0.93, "reason": "large nodule, seen with Dr Quincke and Mustermann"}]},
        "outputs": [{"file": "segmentation.dcm", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4", "sop_instance_uid": "2.25.1"}],
        "log": [{"level": "info", "message": "read 4471199"}], "at": "2023-03-12T10:15:00Z", "1.2.3.4.55.66": 4471199
    });
    let result = by.deidentify_json(source.to_string().as_bytes(), &subject).expect("released");
    let text = String::from_utf8(result.as_bytes().to_vec()).expect("UTF-8");
    let result: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let ct = out(profile("qa-minimal"), &ct());
    assert_eq!(result["date"].as_str().map(str::to_owned), ct.text(tags::CONTENT_DATE), "moved by as much");
    assert_eq!(result["at"].as_str().map(|at| at.replace('-', "")[..8].to_owned()), ct.text(tags::CONTENT_DATE));
    assert_eq!(result["input"]["study_instance_uid"].as_str().map(str::to_owned), ct.text(tags::STUDY_INSTANCE_UID));
    assert_eq!(
        result["input"]["series"][0]["decoded"][0]["sop_instance_uid"].as_str().map(str::to_owned),
        ct.text(tags::SOP_INSTANCE_UID)
    );
    assert_eq!(result["outputs"][0]["sop_class_uid"], "1.2.840.10008.5.1.4.1.1.66.4");
    assert_eq!(result["outputs"][0]["sop_instance_uid"], by.uid("2.25.1"));
    assert_eq!(result["module"]["identity_sha256"], digest, "software is nobody");
    assert_eq!(result["models"][0]["sha256"], digest);
    assert_ne!(result["input"]["series"][0]["decoded"][0]["sha256"], digest, "who has the file could tell whose it is");
    assert_eq!(result["findings"]["triage"][0]["probability"], 0.93);
    assert_eq!(result["findings"]["triage"][0]["reason"], "large nodule, seen with Dr and");
    assert_eq!(result["module"]["version"], "1.2.3");
    for identifier in ["4471199", "Quincke", "Mustermann", "1.2.3.4", "20230312", "2023-03-12", "c-1"] {
        assert!(!text.contains(identifier), "{identifier} in {text}");
    }
}

/// A number of SNOMED CT has as many digits as a telephone number has.
#[test]
fn the_value_of_a_code_stays_unless_it_is_known_to_identify() {
    let by = with(profile("qa-minimal"));
    let subject = by.subject(&file(&ct())).expect("readable");
    let code = |value: &str| json!({"value": value, "scheme": "SCT", "meaning": "Mass"});
    let source = json!({"a": code("4147007"), "b": code("118565006"), "c": code("4471199"), "value": "118565006"});
    let result = by.deidentify_json(source.to_string().as_bytes(), &subject).expect("released");
    let result: serde_json::Value = serde_json::from_slice(result.as_bytes()).expect("JSON");
    assert_eq!((&result["a"], &result["b"]), (&source["a"], &source["b"]));
    assert_ne!(result["c"]["value"], "4471199", "it is this patient's number");
    assert_ne!(result["value"], "118565006", "alone it is no code");
}

#[test]
fn what_is_no_json_is_held() {
    let by = with(profile("qa-minimal"));
    let subject = super::super::Subject::default();
    assert_eq!(by.deidentify_json(b"{", &subject).err(), Some(Held::Json));
    let deep = "[".repeat(100) + &"]".repeat(100);
    assert_eq!(by.deidentify_json(deep.as_bytes(), &subject).err(), Some(Held::Json));
}
