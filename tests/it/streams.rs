//! `gantry stream`: frames one after another, to the demonstration on a real cine and to a module that does what frames tell it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use gantry::app::App;
use gantry::inference::Turn;
use gantry::outputs::Stamp;
use gantry::pipeline::RunError;
use gantry::sandbox::grants::Policy;
use gantry::sandbox::{JobError, PrepareError};
use gantry::stream::{self, Event, Pace, Request, StreamError, StreamReport};
use gantry_tests::cine::{SIZE, write_cine};
use gantry_tests::command::{Said, gantry};
use gantry_tests::peers::Peers;
use gantry_tests::{MANIFEST, Scenario, asset, needed};
use tempfile::TempDir;

use crate::peers::{path_text, pixelmed_is_there};

/// What the frames of the module `frames` of `tests/guests/streams` tell it.
const FINE: u8 = 50;
const LOOP: u8 = 1;
const TRAP: u8 = 2;
const ERROR: u8 = 3;
const NAN: u8 = 4;
const OUTSIDE: u8 = 5;
const HOARD: u8 = 6;
const GROW: u8 = 7;
const FLOOD: u8 = 8;
const REFUSED_CALLS: u8 = 9;
const PANIC: u8 = 10;
const RUN: u8 = 11;
const TENSOR: u8 = 12;

/// The obedient module, and a cine that it obeys.
struct Stream {
    scenario: Scenario,
    folder: TempDir,
    pace: Pace,
    streams: usize,
    repeat: u32,
    writes: bool,
}

impl Stream {
    fn of(greys: &[u8]) -> Option<Self> {
        Self::changed(greys, |_| {})
    }

    fn changed(greys: &[u8], change: impl FnOnce(&mut InMemDicomObject)) -> Option<Self> {
        Self::played(Scenario::with_net("frames", &manifest(), "cpu")?, greys, change)
    }

    fn played(mut scenario: Scenario, greys: &[u8], change: impl FnOnce(&mut InMemDicomObject)) -> Option<Self> {
        // Enough for a machine that does other things; who loops has it all.
        scenario.config.stream.frame_budget_ms = 400;
        let folder = tempfile::tempdir().expect("a folder");
        write_cine(folder.path(), greys, change).expect("written");
        Some(Self { scenario, folder, pace: Pace::Unpaced, streams: 1, repeat: 1, writes: false })
    }

    fn run(&self) -> Result<StreamReport, StreamError> {
        self.watched(&AtomicBool::new(false), &|_| {})
    }

    fn watched(&self, stop: &AtomicBool, observe: &(dyn Fn(Event<'_>) + Sync)) -> Result<StreamReport, StreamError> {
        play(&self.scenario.app(), self, stop, observe)
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// The error; nothing may be written, and nobody is named.
    #[track_caller]
    fn refused(&self) -> StreamError {
        let error = self.run().map(|_| ()).expect_err("it must fail");
        assert!(!self.out().exists(), "nothing partial is written: {error}");
        assert!(!error.to_string().contains("Secret") && !error.to_string().contains("SECRET"), "{error}");
        error
    }
}

fn manifest() -> String {
    let manifest = MANIFEST.replace("\"CT\"", "\"US\"").replace("gantry:imaging/study", "gantry:imaging/frames");
    manifest.replace("\"gantry:imaging/findings\", ", "")
}

fn play(
    app: &App,
    stream: &Stream,
    stop: &AtomicBool,
    observe: &(dyn Fn(Event<'_>) + Sync),
) -> Result<StreamReport, StreamError> {
    let policy = Policy::new(&app.config.grants, &[]).expect("grants that exist");
    let (study, out) = (stream.folder.path().join("cine.dcm"), stream.out());
    let request = Request {
        module: stream.scenario.package_folder(),
        study: std::slice::from_ref(&study),
        pace: stream.pace,
        streams: stream.streams,
        repeat: stream.repeat,
        out: stream.writes.then_some(out.as_path()),
        policy: &policy,
        stamp: Stamp { date: "20240102".into(), time: "030405".into() },
    };
    stream::run(app, &request, (stop, &Turn::default()), observe)
}

fn result(stream: &Stream) -> serde_json::Value {
    let bytes = std::fs::read(stream.out().join("result.json")).expect("a result");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn every_frame_is_answered_and_what_was_said_is_written_with_the_frames() {
    let Some(mut stream) = Stream::of(&[FINE, REFUSED_CALLS, FINE]) else { return };
    stream.writes = true;
    let report = stream.run().expect("played");
    let told = &report.streams[0];
    assert_eq!((told.counts.given, told.counts.answered, told.counts.dropped), (3, 3, 0), "{told:?}");
    assert_eq!((report.frames, report.size), (3, SIZE.map(u32::from)));
    let guidance: Vec<_> = told.guidance.iter().map(|g| (g.code.value.as_str(), g.frames)).collect();
    assert_eq!(guidance, [("FINE", 2), ("REFUSED", 1)]);
    // One instance saw them all.
    let result = result(&stream);
    let answers = result["stream"]["answers"].as_array().expect("answers");
    let qualities: Vec<_> = answers.iter().map(|a| (a["frame"].as_u64(), a["quality"].as_f64())).collect();
    let expected = [1.0f32, 2.0, 3.0].map(|n| n / 100.0);
    for (index, ((frame, quality), expected)) in qualities.into_iter().zip(expected).enumerate() {
        assert_eq!((frame, quality.map(|q| q as f32)), (Some(index as u64 + 1), Some(expected)));
    }
    assert_eq!(result["findings"]["classifications"][0]["finding"]["value"], "ANSWERED");
    // The report refers to frames by their numbers.
    let report = dicom_object::open_file(stream.out().join("report.dcm")).expect("an SR");
    assert_eq!(referenced_frames(&report), [["1", "2", "3"].map(str::to_owned).to_vec()]);
    let patient = report.get(tags::PATIENT_ID).and_then(|e| e.to_str().ok()).map(|id| id.trim().to_owned());
    assert_eq!(patient.as_deref(), Some("SECRET-ID"));
    // The same again is the same object.
    let uid = |result: &serde_json::Value| result["outputs"][0]["sop_instance_uid"].clone();
    stream.run().expect("played again");
    assert_eq!(uid(&result), uid(&self::result(&stream)));
}

#[test]
fn other_people_find_the_report_of_a_stream_sound() {
    let (Some(peers), Some(mut stream)) = (Peers::find(), Stream::of(&[FINE, FINE, TRAP, FINE])) else { return };
    stream.writes = true;
    stream.run().expect("played");
    let expected = stream.folder.path().join("expected.json");
    std::fs::write(&expected, "[]").expect("written");
    let [report, expected] = [stream.out().join("report.dcm"), expected].map(|path| path_text(&path));
    let mut arguments = vec![report.as_str(), "-", &expected];
    if pixelmed_is_there() {
        arguments.push("--pixelmed");
    }
    peers.agree("judge_sr.py", &arguments);
}

/// Referenced Frame Number (0008,1160) of each image reference in a report.
fn referenced_frames(object: &InMemDicomObject) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for element in object.iter() {
        if element.header().tag == tags::REFERENCED_FRAME_NUMBER {
            let numbers = element.to_multi_str().expect("text");
            found.push(numbers.iter().map(|number| number.trim().to_owned()).collect());
        }
        found.extend(element.items().unwrap_or_default().iter().flat_map(referenced_frames));
    }
    found
}

#[test]
fn a_frame_over_its_budget_is_interrupted_and_the_module_begun_anew() {
    let Some(mut stream) = Stream::of(&[FINE, FINE, LOOP, FINE]) else { return };
    stream.writes = true;
    let told = stream.run().expect("played").streams.remove(0);
    let counts = told.counts;
    assert_eq!((counts.answered, counts.missed, counts.interrupted, counts.restarts), (3, 1, 1, 1), "{told:?}");
    assert!(told.module_ms.max >= 400.0 && told.module_ms.max < 2000.0, "{told:?}");
    assert!(
        told.first_fault.as_deref().is_some_and(|why| why.contains("frame 3") && why.contains("= 400")),
        "{told:?}"
    );
    let result = result(&stream);
    let last = &result["stream"]["answers"][2];
    assert_eq!(last["quality"].as_f64().map(|q| q as f32), Some(0.01), "what it knew is gone: {last}");
    assert_eq!(
        last["labels"][0]["probability"].as_f64().map(|p| p as f32),
        Some(0.01),
        "it is told of the frame: {last}"
    );
    assert_eq!(told.conclusions[0].frames, [4], "and knows of those before no more");
    assert_eq!(told.quantities[0].value, 1.0, "restarts, as `open` was told");
    let log: Vec<_> = result["log"].as_array().expect("lines").iter().map(|l| l["message"].clone()).collect();
    assert_eq!(log, ["opened, 0 restarts", "opened, 1 restarts"]);
}

#[test]
fn what_fails_on_a_frame_costs_that_frame() {
    let frames = [FINE, TRAP, FINE, PANIC, ERROR, FINE, NAN, OUTSIDE, FLOOD, FINE];
    let Some(stream) = Stream::of(&frames) else { return };
    let told = stream.run().expect("played").streams.remove(0);
    let counts = told.counts;
    assert_eq!((counts.given, counts.answered), (10, 4), "{told:?}");
    assert_eq!((counts.failed, counts.refused, counts.missed), (3, 3, 0), "{told:?}");
    assert_eq!(counts.restarts, 2, "one for a trap, one for a panic, none for what it says itself: {told:?}");
    // A refused answer is in no count of guidance.
    assert!(told.guidance.iter().all(|g| g.code.value == "FINE"), "{told:?}");
}

#[test]
fn a_module_that_misses_frame_after_frame_is_given_up() {
    for (word, says) in [
        (LOOP, "frame_budget_ms = 5"),
        (TRAP, "unreachable"),
        (ERROR, "frame refused"),
        (NAN, "quality NaN is not in 0..=1"),
        (FLOOD, "findings_per_frame_max = 64"),
    ] {
        let Some(mut stream) = Stream::of(&[word; 20]) else { return };
        stream.writes = true;
        stream.scenario.config.stream.faults_in_a_row_max = 4;
        if word == LOOP {
            stream.scenario.config.stream.frame_budget_ms = 5;
        }
        let error = stream.refused();
        let StreamError::Run(RunError::Job(JobError::Limit(hit))) = &error else { panic!("{error:?}") };
        assert_eq!(hit.limit, "faults_in_a_row_max");
        assert!(error.to_string().contains("4 frames in a row") && error.to_string().contains(says), "{error}");
    }
}

#[test]
fn an_answer_between_faults_begins_the_row_anew() {
    let Some(mut stream) = Stream::of(&[ERROR, ERROR, FINE, NAN, TRAP, FINE, ERROR]) else { return };
    stream.scenario.config.stream.faults_in_a_row_max = 3;
    let counts = stream.run().expect("two in a row at most").streams[0].counts;
    assert_eq!((counts.answered, counts.failed, counts.refused), (2, 4, 1));
}

#[test]
fn who_takes_without_end_meets_a_limit_that_is_named() {
    type Change = fn(&mut Stream);
    let limits: [(u8, Change, &str); 3] = [
        (HOARD, |s| s.scenario.config.limits.handles_max = 450, "handles_max"),
        (HOARD, |s| s.scenario.config.limits.host_memory_mib = 1, "host_memory_mib"),
        (GROW, |s| s.scenario.config.limits.guest_memory_mib = 40, "guest_memory_mib"),
    ];
    for (word, change, limit) in limits {
        let Some(mut stream) = Stream::of(&[word; 60]) else { return };
        stream.scenario.config.stream.faults_in_a_row_max = 3;
        change(&mut stream);
        match stream.run() {
            // Handles and voxels are kept: every further frame fails.
            Err(error) => assert!(error.to_string().contains(limit), "{error}"),
            // Who traps is begun anew, with nothing.
            Ok(report) => {
                let told = &report.streams[0];
                assert!(told.counts.restarts > 2 && word == GROW, "{told:?}");
                assert!(told.first_fault.as_deref().is_some_and(|why| why.contains(limit)), "{told:?}");
            }
        }
    }
}

#[test]
fn a_summary_that_does_not_fit_ends_the_stream_and_nothing_is_written() {
    for (word, says) in [
        (100, "close: no summary"),
        (101, "unreachable"),
        (102, "conclusion 0: it names frame 10000, which was not answered"),
        (103, "open_deadline_ms = 300"),
    ] {
        let Some(mut stream) = Stream::of(&[FINE, word]) else { return };
        stream.writes = true;
        stream.scenario.config.stream.open_deadline_ms = if word == 103 { 300 } else { 20_000 };
        let error = stream.refused().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_frame_becomes_a_tensor_and_a_network_runs_between_frames() {
    let Some(mut stream) = Stream::of(&[RUN, TENSOR, LOOP, RUN]) else { return };
    stream.writes = true;
    // Its first run loads it.
    stream.scenario.config.stream.frame_budget_ms = 5000;
    stream.scenario.config.stream.open_deadline_ms = 20_000;
    let told = stream.run().expect("played").streams.remove(0);
    assert_eq!((told.counts.answered, told.counts.interrupted), (3, 1), "{told:?}");
    let ran: Vec<_> = told.guidance.iter().map(|g| (g.code.meaning.as_str(), g.frames)).collect();
    assert_eq!(ran, [("64 values", 2)]);
    let result = result(&stream);
    let mean = result["stream"]["answers"][1]["labels"][1]["probability"].as_f64().expect("a number");
    assert!((mean - f64::from(TENSOR) / 255.0).abs() < 1e-5, "{mean}");
    assert_eq!((&result["models"][0]["name"], &result["models"][0]["device"]), (&"net".into(), &"cpu".into()));
}

#[test]
fn frames_that_come_while_the_module_is_busy_are_dropped_and_it_is_told() {
    // Each looping frame takes 400 ms, while frames come every 20 ms.
    let mut frames = vec![LOOP];
    frames.extend([FINE; 60]);
    let Some(mut stream) = Stream::of(&frames) else { return };
    (stream.pace, stream.writes) = (Pace::Rate(50.0), true);
    let told = stream.run().expect("played").streams.remove(0);
    let counts = told.counts;
    assert_eq!(counts.given + counts.dropped, 61, "each is lent or dropped: {told:?}");
    assert!(counts.dropped >= 5 && counts.missed == 1, "{told:?}");
    let first = &result(&stream)["stream"]["answers"][0];
    let frame = first["frame"].as_u64().expect("a number");
    assert!(frame > 6, "the latest wins, not the next: {first}");
    let skipped = (first["labels"][0]["probability"].as_f64().expect("a number") * 100.0).round() as u64;
    assert_eq!(skipped, frame - 1, "{first}");
    assert!(told.latency_ms.max >= told.module_ms.p50, "{told:?}");
}

#[test]
fn several_streams_have_a_module_each() {
    let Some(mut stream) = Stream::of(&[FINE, TRAP, FINE]) else { return };
    (stream.streams, stream.repeat) = (3, 2);
    let report = stream.run().expect("played");
    assert_eq!(report.streams.len(), 3);
    for told in &report.streams {
        assert_eq!((told.counts.given, told.counts.answered, told.counts.restarts), (6, 4, 2), "{told:?}");
    }
    stream.streams = 5;
    let error = stream.run().expect_err("too many").to_string();
    assert!(error.contains("5 streams would pass limits.jobs_max = 4"), "{error}");
}

#[test]
fn stopping_ends_it_with_the_report_of_what_was_played() {
    let Some(mut stream) = Stream::of(&[FINE; 50]) else { return };
    stream.writes = true;
    let stop = AtomicBool::new(false);
    let told = stream.watched(&stop, &|event| {
        if matches!(event, Event::Frame { counts, .. } if counts.given == 5) {
            stop.store(true, Ordering::SeqCst);
        }
    });
    let told = told.expect("a report").streams.remove(0);
    assert!(told.stopped && (5..50).contains(&told.counts.answered), "{told:?}");
    assert_eq!(told.conclusions[0].frames.len() as u64, told.counts.answered, "the module was asked for its summary");
    assert!(!stream.out().join("result.json").exists(), "what was stopped is no result");
}

#[test]
fn a_module_of_another_world_is_named_with_the_command_that_runs_it() {
    let Some(mut stream) = Stream::of(&[FINE]) else { return };
    let Some(analyzer) = Scenario::rogue("well-behaved") else { return };
    let obedient = std::mem::replace(&mut stream.scenario, analyzer);
    std::fs::write(
        stream.scenario.package_folder().join("module.toml"),
        std::fs::read_to_string(stream.scenario.package_folder().join("module.toml"))
            .expect("text")
            .replace("\"CT\"", "\"US\""),
    )
    .expect("written");
    write_cine(stream.folder.path(), &[FINE, FINE], |_| {}).expect("written");
    let error = stream.refused();
    assert!(matches!(error, StreamError::Run(RunError::Prepare(PrepareError::OtherWorld { .. }))), "{error:?}");
    assert!(error.to_string().contains("use `gantry run`"), "{error}");
    // The other way round.
    let manifest = std::fs::read_to_string(obedient.package_folder().join("module.toml")).expect("text");
    obedient.write_package("module.toml", manifest.replace("\"US\"", "\"CT\"").as_bytes()).expect("written");
    let error = obedient.refused().to_string();
    assert!(error.contains("gantry:imaging/frame-analyzer") && error.contains("use `gantry stream`"), "{error}");
}

#[test]
fn input_that_cannot_be_played_is_named() {
    let error = |change: &dyn Fn(&mut InMemDicomObject), pace: Pace| {
        let mut stream = Stream::changed(&[FINE, FINE], change)?;
        stream.pace = pace;
        Some(stream.refused().to_string())
    };
    let Some(modality) = error(&|o| _ = o.put_str(tags::MODALITY, VR::CS, "XA"), Pace::Unpaced) else { return };
    assert!(
        modality.contains("rogue accepts none of the 1 images") && modality.contains("modality XA is not US"),
        "{modality}"
    );
    let no_rate = error(&|o| _ = o.remove_element(tags::FRAME_TIME), Pace::Recorded).expect("as before");
    assert!(no_rate.contains("give one by --fps"), "{no_rate}");
    let single = error(&|o| _ = o.put_str(tags::NUMBER_OF_FRAMES, VR::IS, "1"), Pace::Unpaced).expect("as before");
    assert!(single.contains("no image of several frames"), "{single}");
    let mut small = Stream::of(&[FINE; 3]).expect("as before");
    small.scenario.config.stream.frames_max = 2;
    assert!(small.refused().to_string().contains("3 frames would pass stream.frames_max = 2"));
}

fn guidance() -> Option<PathBuf> {
    needed("modules/us-guidance/package", "cargo xtask guests")
}

fn command(package: &Path, cine: &Path, more: &[&str]) -> Said {
    gantry().arg("stream").arg(package).arg(cine).args(more).output().expect("gantry runs").into()
}

/// A real ultrasound cine: 120 frames of 640 × 480, 30 a second, colours in JPEG; it states its region.
const REAL: &str = "pydicom-data/color3d_jpeg_baseline.dcm";

#[test]
fn the_demonstration_looks_at_a_real_cine() {
    let (Some(package), Some(cine)) = (guidance(), asset(REAL)) else { return };
    let out = tempfile::tempdir().expect("a folder");
    let (folder, config) = (out.path().join("out"), out.path().join("gantry.toml"));
    std::fs::write(&config, "[stream]\nframe_budget_ms = 2000\n").expect("written");
    let (folder_arg, config_arg) = (folder.display().to_string(), config.display().to_string());
    let said = command(&package, &cine, &["--fps", "max", "--out", &folder_arg, "--config", &config_arg, "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let report: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    let stream = &report["streams"][0];
    let frames = report["frames"].as_u64().expect("a number");
    assert!(frames == 120 && stream["answered"].as_u64() == Some(frames), "{stream}");
    assert_eq!((&report["blackened"], &report["warnings"]), (&true.into(), &serde_json::json!([])));
    let quality = stream["quality_mean"].as_f64().expect("a quality");
    assert!(quality > 0.0 && quality < 1.0, "{stream}");
    assert!(folder.join("report.dcm").is_file() && folder.join("result.json").is_file());
    assert_eq!(report["demonstration"], true);
    let best = referenced_frames(&dicom_object::open_file(folder.join("report.dcm")).expect("an SR"));
    assert!(best.iter().flatten().all(|n| n.parse::<u32>().is_ok_and(|n| (1..=120).contains(&n))), "{best:?}");
}

#[test]
fn what_a_module_sees_of_a_real_cine_is_what_it_states_as_image() {
    let Some(path) = asset(REAL) else { return };
    let cines = gantry::study::cines(&[path], &gantry::study::ReadOptions::default()).expect("read");
    let [cine] = &cines[..] else { panic!("one cine") };
    assert_eq!((cine.frames, cine.columns, cine.rows, cine.channels), (120, 640, 480, 3));
    assert_eq!(cine.timing.as_ref().map(|t| (t.by, t.mean_us())), Some(("FrameTime", 33333)));
    let [mm, _] = cine.spacing_mm.expect("it states its scale");
    assert!((mm - 0.51).abs() < 0.01, "{mm}");
    let picture = cine.picture(60).expect("decoded");
    let outside = |i: usize| !((84..=595).contains(&(i % 640)) && (31..=414).contains(&(i / 640)));
    let bright = picture.brightness.iter().enumerate().filter(|(_, b)| **b > 0);
    let (out, within): (Vec<_>, Vec<_>) = bright.partition(|(i, _)| outside(*i));
    assert!(out.is_empty() && within.len() > 10_000, "{} bright pixels outside, {} within", out.len(), within.len());
    let colours = picture.colours.expect("colours");
    assert!(colours.chunks(3).enumerate().all(|(i, rgb)| !outside(i) || rgb == [0, 0, 0]));
}

#[test]
fn ctrl_c_ends_the_command_with_its_report() {
    let Some(stream) = Stream::of(&[FINE; 10]) else { return };
    let cine = stream.folder.path().join("cine.dcm");
    let mut command = gantry();
    command.arg("stream").arg(stream.scenario.package_folder()).arg(&cine);
    command.args(["--repeat", "10000", "--budget-ms", "400", "--json"]).env("RUST_LOG", "info");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gantry runs");
    let log = BufReader::new(child.stderr.take().expect("it is a pipe"));
    let mut lines = log.lines().map(|line| line.expect("text"));
    assert!(lines.any(|line| line.contains("streaming")), "it begins");
    let process = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::INT).expect("it runs");
    let rest = lines.collect::<Vec<_>>().join("\n");
    let said = Said::from(child.wait_with_output().expect("it ends"));
    assert_eq!(said.code, Some(130), "{rest}");
    let report: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!((&report["streams"][0]["stopped"], rest.contains("interrupted")), (&true.into(), true), "{rest}");
}

#[test]
fn the_command_says_how_a_stream_kept_up() {
    let Some(stream) = Stream::of(&[FINE, TRAP, FINE]) else { return };
    let package = stream.scenario.package_folder();
    let cine = stream.folder.path().join("cine.dcm");
    let said = command(package, &cine, &["--budget-ms", "400"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    for expected in [
        "a demonstration, not for clinical use",
        "3 frames of 32 × 24, 25.0 a second (FrameTime)",
        "answered   2 of 3 frames given",
        "1 failed",
        "latency",
        "states no ultrasound region",
        "guidance   Fine (2 frames)",
    ] {
        assert!(said.out.contains(expected), "{expected} is not in:\n{}", said.out);
    }
    assert_eq!(command(package, stream.folder.path().join("none").as_path(), &[]).code, Some(3));
    let both = command(package, &cine, &["--out", "x", "--streams", "2"]);
    assert_eq!(both.code, Some(2), "{}", both.err);
    let rate = command(package, &cine, &["--fps", "0"]);
    assert!(rate.code == Some(2) && rate.err.contains("from 0.1 to 1000, or max"), "{}", rate.err);
}
