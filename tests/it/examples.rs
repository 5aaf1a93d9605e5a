//! The annotated examples and the page on `result.json` are references: they lack no key, and what they say holds.

use std::collections::BTreeSet;

use gantry::config::{
    CacheSettings, Config, DestinationConfig, NodeConfig, RetentionConfig, SyncConfig, TelemetryConfig,
};
use gantry::findings::{Code, Triage, Unfit, Urgency};
use gantry::inference::{CpuConfig, EngineConfig, GpuConfig};
use gantry::module::manifest::{Accepts, ComponentEntry, Interface, Manifest, ModelEntry, ModuleLimits, Needs};
use gantry::outputs::Reference;
use gantry::outputs::result::{InputFile, InputPrior, InputSeries, InputUpstream};
use gantry::sandbox::grants::{DEFAULT_ATTRIBUTES, GRANTABLE_ATTRIBUTES};
use gantry_tests::{MANIFEST, Scenario, repository};

fn text(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).expect("readable")
}

/// With keys that are commented out set.
fn with_optional_keys(text: &str) -> String {
    let uncommented = text.lines().map(|line| match line.strip_prefix("# ").and_then(|key| key.split_once(" = ")) {
        Some((key, _)) if key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') => &line[2..],
        _ => line,
    });
    uncommented.collect::<Vec<_>>().join("\n")
}

fn value(text: &str) -> toml::Value {
    toml::from_str(text).expect("TOML")
}

#[test]
fn the_example_of_gantry_toml_has_every_key_with_its_default() {
    let text = text("examples/gantry.toml");
    let config = Config::read(&repository().join("examples/gantry.toml")).expect("a configuration");
    assert_eq!(config, Config::default());
    assert_eq!(value(&text), toml::Value::try_from(Config::default()).expect("TOML"), "a key is missing");

    // A key without a default is there as a comment. These patterns do not compile when a field is added.
    let whole: Config = toml::from_str(&with_optional_keys(&text)).expect("a configuration");
    let EngineConfig {
        engine: _,
        onnxruntime_library: Some(_),
        intra_threads: _,
        gpu_fallback_to_cpu: _,
        worker_memory_mib: _,
        load_deadline_ms: _,
        compute_deadline_ms: _,
        models_memory_mib: _,
        model_failures_max: _,
        runs_at_once_max: _,
        queue_length_max: _,
        queue_age_max_ms: _,
        routine_wait_max_ms: _,
        device_slice_ms_max: _,
        decode_in_worker: _,
        accept_missing: _,
        cpu: CpuConfig { provider: _ },
        gpu: GpuConfig { provider: _, index: _, memory_max_mib: _, precision: _ },
        isolation: _,
        model_max_mib: _,
    } = &whole.engines
    else {
        panic!("an optional key of [engines] is missing")
    };
    let NodeConfig { data_folder: Some(_), .. } = whole.node else { panic!("an optional key of [node] is missing") };
    assert!(whole.dimse.listen.is_some(), "an optional key of [dimse] is missing");
    assert!(whole.web.listen.is_some() && whole.web.public_url.is_some(), "an optional key of [web] is missing");
    assert!(whole.hl7.listen.is_some(), "an optional key of [hl7] is missing");
    assert!(whole.folder.path.is_some(), "an optional key of [folder] is missing");
    let SyncConfig { policy: Some(_), spool_folder: Some(_), .. } = whole.sync else {
        panic!("an optional key of [sync] is missing")
    };
    let TelemetryConfig { otlp_endpoint: Some(_), otlp_timeout_ms: _ } = whole.telemetry else {
        panic!("an optional key of [telemetry] is missing")
    };
    let RetentionConfig {
        instances_days: Some(_),
        results_days: _,
        quarantine_days: Some(_),
        held_days: _,
        disk_target_free_mib: Some(_),
        interval_ms: _,
    } = whole.retention
    else {
        panic!("an optional key of [retention] is missing")
    };
    let CacheSettings { folder: Some(_) } = whole.cache else { panic!("an optional key of [cache] is missing") };
}

#[test]
fn the_example_of_gantry_toml_has_every_key_of_a_destination() {
    let text = text("examples/gantry.toml");
    let (_, block) = text.split_once("\n# [[destinations]]\n").expect("destinations are last");
    let (common, ways) = block.split_once("# And one of these ways:\n").expect("ways");
    let uncommented = |lines: &str| {
        let lines = lines.lines().map(|line| line.trim_start_matches('#').trim_start());
        lines.filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
    };
    let common = uncommented(common);
    let all = uncommented(ways);
    let ways: Vec<&str> = all
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(" = {"))
        .collect();
    let mut named = Vec::new();
    for way in ways {
        // Outputs that are named are those of DICOM.
        let common: Vec<&str> = common.lines().filter(|line| !line.starts_with("send = ")).collect();
        let text = format!("[[destinations]]\n{}\n{way}\n", common.join("\n"));
        let config = Config::parse(std::path::Path::new("example"), &text).expect("a configuration");
        let DestinationConfig {
            name: _,
            modules: _,
            send: _,
            attempts_max,
            retry_first_ms,
            retry_max_ms,
            age_max_ms,
            breaker_failures_max,
            breaker_open_ms,
            timeout_ms,
            send_max_ms,
            ..
        } = config.destinations[0].clone();
        let default = DestinationConfig::default();
        assert_eq!((attempts_max, retry_first_ms), (default.attempts_max, default.retry_first_ms));
        assert_eq!((retry_max_ms, age_max_ms), (default.retry_max_ms, default.age_max_ms));
        assert_eq!((breaker_failures_max, breaker_open_ms), (default.breaker_failures_max, default.breaker_open_ms));
        assert_eq!((timeout_ms, send_max_ms), (default.timeout_ms, default.send_max_ms));
        let value = toml::Value::try_from(default).expect("TOML");
        for key in value.as_table().expect("a table").keys() {
            assert!(common.iter().any(|line| line.starts_with(&format!("{key} = "))), "{key} is missing");
        }
        named.push(config.destinations[0].target().expect("a way").name());
    }
    assert_eq!(named, ["dimse", "stow", "folder", "webhook", "fhir", "mllp"]);
    for key in ["folder", "issuer_systems", "tls", "character_set"] {
        assert!(block.contains(&format!("{key} = ")), "{key} is missing");
    }
}

#[test]
fn the_example_of_gantry_toml_names_what_can_be_granted() {
    let text = text("examples/gantry.toml");
    let names = Interface::ALL.map(Interface::name);
    for name in names.iter().chain(&DEFAULT_ATTRIBUTES).chain(&GRANTABLE_ATTRIBUTES) {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn the_configuration_of_a_site_is_one() {
    let config = Config::read(&repository().join("examples/site.toml")).expect("a configuration");
    assert!(config.dimse.tls.is_some_and(|tls| tls.client_roots.is_some()));
}

#[test]
fn the_example_of_module_toml_has_every_key() {
    let text = text("examples/module.toml");
    let manifest = Manifest::parse(&text).expect("a manifest");
    assert_eq!(value(&text), toml::Value::try_from(&manifest).expect("TOML"), "a key with a default is missing");

    let whole = Manifest::parse(&with_optional_keys(&text)).expect("a manifest");
    let Accepts {
        modality: _,
        slices_min: _,
        slices_max: Some(_),
        sop_class: Some(_),
        body_part: Some(_),
        spacing_max_mm: Some(_),
        pixel_spacing_max_mm: Some(_),
        contrast: Some(_),
        orientation: Some(_),
        manufacturer: Some(_),
        model: Some(_),
    } = whole.accepts
    else {
        panic!("an optional key of [accepts] is missing")
    };
    let Needs { interfaces: _, attributes: _, priors_max: Some(_) } = whole.needs else {
        panic!("an optional key of [needs] is missing")
    };
    assert!(whole.license.is_some(), "an optional key of the manifest is missing");
    let ModuleLimits { guest_memory_mib: Some(_), host_memory_mib: Some(_), job_deadline_ms: Some(_) } = whole.limits
    else {
        panic!("a key of [limits] is missing")
    };
    let ComponentEntry { file: _, sha256: Some(_) } = whole.component else {
        panic!("an optional key of [component] is missing")
    };
    let [
        ModelEntry {
            name: _,
            file: _,
            target: _,
            batch: _,
            sha256: Some(_),
            license: Some(_),
            join: Some(_),
            warm_up: _,
        },
    ] = whole.models.as_slice()
    else {
        panic!("an optional key of [[models]] is missing")
    };
}

#[test]
fn the_page_on_result_json_names_every_field_and_no_other() {
    let Some(scenario) = Scenario::rogue("well-behaved") else { return };
    let mut real = BTreeSet::new();
    fields(&serde_json::to_value(scenario.run().expect("done")).expect("JSON"), "", &mut real);
    let Some(scenario) = Scenario::rogue("shown") else { return };
    fields(&serde_json::to_value(scenario.run().expect("done")).expect("JSON"), "", &mut real);
    let Some(scenario) = Scenario::with_net("plain-nn", MANIFEST, "cpu") else { return };
    fields(&serde_json::to_value(scenario.run().expect("done")).expect("JSON"), "", &mut real);

    let code = Code::new("X", "99TEST", "X");
    let unfit = Unfit { reason: code.clone(), detail: String::new() };
    fields(&serde_json::to_value(unfit).expect("JSON"), "findings.unfit", &mut real);
    let triage = Triage { level: Urgency::Routine, finding: code, probability: 0.0, reason: String::new() };
    fields(&serde_json::to_value([triage]).expect("JSON"), "findings.triage", &mut real);

    let decoded = InputFile { sop_instance_uid: String::new(), sha256: String::new() };
    let (series_instance_uid, pseudonym, modality) = (String::new(), String::new(), String::new());
    let series = InputSeries { series_instance_uid, pseudonym, modality, decoded: vec![decoded] };
    let (study_instance_uid, pseudonym) = (String::new(), String::new());
    let prior = InputPrior { study_instance_uid, pseudonym, days_before: 0, series: vec![series] };
    fields(&serde_json::to_value([prior]).expect("JSON"), "input.priors", &mut real);
    let (module, version, identity_sha256, result_sha256) =
        (String::new(), String::new(), String::new(), String::new());
    let upstream = InputUpstream { module, version, identity_sha256, result_sha256 };
    fields(&serde_json::to_value([upstream]).expect("JSON"), "input.upstream", &mut real);
    let predecessor = Reference { series: String::new(), instance: String::new() };
    fields(&serde_json::to_value(predecessor).expect("JSON"), "predecessor", &mut real);

    // The first column of its tables.
    let page = text("docs/result-json.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let told: BTreeSet<String> = rows.map(|(field, _)| field.to_owned()).collect();
    assert_eq!(told, real);
}

/// All fields of a result, such as `models[].name`. A code is told once, not wherever one stands.
fn fields(value: &serde_json::Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            let is_code = object.keys().map(String::as_str).eq(["value", "scheme", "meaning"]);
            for (key, value) in object.iter().filter(|_| !is_code) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                fields(value, &path, found);
                found.insert(path);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| fields(item, &format!("{path}[]"), found)),
        _ => {}
    }
}
