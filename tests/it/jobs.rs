//! A node's jobs: from instances in a data folder to results, across kills, cancellations and limits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use dicom_object::FileMetaTableBuilder;
use gantry::app::App;
use gantry::completion::Archive;
use gantry::config::{Config, Duplicates};
use gantry::findings::Urgency;
use gantry::inference::Isolation;
use gantry::ingest::disk::RealDisk;
use gantry::ingest::{Arrival, Form, Intake, Via};
use gantry::schedule::{self, PriorSource, StudyClosed};
use gantry::store::{Changed, Closing, Due, Ending, Job, JobState, NewJob, Routed, Store};
use gantry::worker::Program;
use gantry_tests::command::{Said, gantry};
use gantry_tests::peers::Peers;
use gantry_tests::{MANIFEST, Scenario};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::peers::path_text;

/// Of pydicom's `rtplan.dcm`.
const PLAN: &str = "1.22.333.4.555555.6.7777777777777777777777777777";
/// Of the small CT.
const STUDY: &str = "2.25.2";

/// A data folder with the small CT in it, and a configuration with one module for each guest.
struct Site {
    folder: TempDir,
    config: Config,
    packages: Vec<Scenario>,
}

impl Site {
    /// `modules` are a guest and its lines in `[[modules]]`; nothing where the guests are not built.
    async fn new(modules: &[(&str, &str)], more: &str) -> Option<Self> {
        let packages = modules.iter().map(|(guest, _)| Scenario::rogue(guest)).collect::<Option<Vec<_>>>()?;
        let folder = tempfile::tempdir().expect("a folder");
        let mut text = String::new();
        for (package, (_, lines)) in packages.iter().zip(modules) {
            text += &format!("[[modules]]\npackage = {:?}\n{lines}\n", package.package_folder());
        }
        let mut config: Config = toml::from_str(&(text + more)).expect("a configuration");
        config.cache = packages[0].config.cache.clone();
        config.limits.job_deadline_ms = 20_000;
        config.engines.isolation = gantry_tests::command::workers();
        config.schedule.poll_ms = 20;
        config.schedule.retry_first_ms = 20;
        config.node.data_folder = Some(folder.path().join("data"));
        config.node.disk_free_min_mib = 0;
        let site = Self { folder, config, packages };
        std::fs::create_dir(site.data()).expect("made");
        let study = site.folder.path().join("study");
        std::fs::create_dir(&study).expect("made");
        gantry_tests::write_ct(&study).expect("written");
        site.take_in(&study).await;
        Some(site)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn store(&self) -> Store {
        Store::open(&self.data()).await.expect("a journal")
    }

    /// The files of a folder.
    async fn take_in(&self, folder: &Path) {
        let store = self.store().await;
        let (intake, _notices) = Intake::start(
            &self.config,
            self.data(),
            store.clone(),
            Arc::new(RealDisk),
            gantry::metrics::Metrics::new(),
        )
        .expect("an intake");
        let arrival = Arrival::new(Via::Folder, "CT1");
        for file in std::fs::read_dir(folder).expect("readable") {
            let bytes = std::fs::read(file.expect("a file").path()).expect("readable");
            let mut incoming = intake.begin(&arrival, Form::File).expect("begun");
            incoming.write(&bytes).await.expect("written");
            incoming.finish().await.expect("stored");
        }
        drop(intake);
        store.close().await;
    }

    /// Another slice of the study comes, above the last.
    async fn take_in_more(&self) {
        let folder = tempfile::tempdir().expect("a folder");
        gantry_tests::write_ct(folder.path()).expect("written");
        (0..9).for_each(|z| std::fs::remove_file(folder.path().join(format!("{z}.dcm"))).expect("removed"));
        let file = folder.path().join("9.dcm");
        let mut slice = dicom_object::open_file(&file).expect("DICOM").into_inner();
        slice.put_str(tags::SOP_INSTANCE_UID, VR::UI, "2.25.110");
        slice.put_str(tags::IMAGE_POSITION_PATIENT, VR::DS, "-8\\-8\\20");
        let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        slice.with_meta(meta).expect("a file").write_to_file(&file).expect("written");
        self.take_in(folder.path()).await;
    }

    /// Makes the job of a version of the study, which goes up to an instance; no node runs on it.
    async fn route(&self, store: &Store, study_version: u32, last_instance: i64) {
        let identity = self.packages[0].package().expect("a package").identity();
        let routed = Routed {
            study_instance_uid: STUDY.into(),
            study_version,
            routed_ms: 1_700_000_000_000,
            outcome: "jobs".into(),
            detail: String::new(),
            last_instance,
        };
        let new = NewJob { module: "rogue".into(), identity, gated: false, priority: Urgency::Routine };
        assert!(store.route(&routed, "c", &[new]).await.expect("routed"));
    }

    /// The journal's file; nobody has it open.
    fn journal(&self) -> Vec<u8> {
        std::fs::read(self.data().join("journal.sqlite")).expect("readable")
    }

    fn put_journal(&self, bytes: &[u8]) {
        for name in ["journal.sqlite-wal", "journal.sqlite-shm"] {
            let _ = std::fs::remove_file(self.data().join(name));
        }
        std::fs::write(self.data().join("journal.sqlite"), bytes).expect("written");
    }

    fn file(&self) -> PathBuf {
        let file = self.folder.path().join("gantry.toml");
        std::fs::write(&file, toml::to_string(&self.config).expect("printable")).expect("written");
        file
    }

    async fn says(&self, arguments: &[&str]) -> Said {
        let mut command = gantry();
        command.args(arguments).arg("--config").arg(self.file());
        tokio::task::spawn_blocking(move || command.output().expect("gantry runs").into()).await.expect("joined")
    }
}

/// The part of a node that runs jobs.
struct Running {
    store: Store,
    closed: mpsc::Sender<StudyClosed>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    async fn start(site: &Site) -> Self {
        let app = Arc::new(App::start(site.config.clone()).expect("an app"));
        let (stop, tasks, store) = (CancellationToken::new(), TaskTracker::new(), site.store().await);
        let (closed, studies) = mpsc::channel(8);
        let (intake, _) = Intake::start(
            &site.config,
            site.data(),
            store.clone(),
            Arc::new(RealDisk),
            gantry::metrics::Metrics::new(),
        )
        .expect("an intake");
        let priors = PriorSource { archives: Archive::all(&site.config).expect("archives"), intake };
        let metrics = gantry::metrics::Metrics::new();
        let parts = schedule::Parts { app, store: store.clone(), data: site.data(), priors, metrics };
        let started = schedule::start(parts, studies, stop.clone(), &tasks).await;
        started.expect("modules that can be prepared");
        Self { store, closed, stop, tasks }
    }

    async fn close(&self, version: u32) {
        let closed = StudyClosed { study_instance_uid: STUDY.into(), version };
        self.closed.send(closed).await.expect("taken");
    }

    /// The latest job of a module, once `reached` says so of it.
    async fn until(&self, module: &str, reached: impl Fn(&Job) -> bool) -> Job {
        let mut last = None;
        for _ in 0..3000 {
            let jobs = self.store.jobs(Some(STUDY), None).await.expect("jobs");
            last = jobs.into_iter().find(|job| job.module == module);
            if let Some(job) = last.as_ref().filter(|job| reached(job)) {
                return job.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{module} did not get there: {last:?}")
    }

    async fn routed(&self) -> Routed {
        for _ in 0..3000 {
            if let Some(routed) = self.store.routed(Some(STUDY)).await.expect("routed").pop() {
                return routed;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the study is not routed")
    }

    async fn over(&self, module: &str) -> Job {
        self.until(module, |job| job.state.is_over()).await
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }
}

fn outputs(site: &Site, job: &Job) -> Vec<(String, Vec<u8>)> {
    let folder: &Path = &site.data().join(job.result_path.as_ref().expect("a result"));
    let read = |name: &str| (name.to_owned(), std::fs::read(folder.join(name)).expect(name));
    assert!(folder.join("result.json").is_file());
    ["segmentation.dcm", "report.dcm"].map(read).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_study_becomes_a_result_that_a_repeated_run_equals() {
    let Some(site) = Site::new(&[("well-behaved", "")], "").await else { return };
    let node = Running::start(&site).await;
    node.close(1).await;
    let job = node.over("rogue").await;
    assert_eq!((job.state, job.attempts), (JobState::Done, 1), "{job:?}");
    assert_eq!(outputs(&site, &job).len(), 2);
    let started = node.until("rogue", |job| job.started_ms.is_some()).await.started_ms.expect("a moment");
    assert!((job.created_ms..=job.ended_ms.expect("ended")).contains(&started));
    node.close(1).await;
    node.stop().await;
    let store = site.store().await;
    assert_eq!(store.jobs(None, None).await.expect("jobs").len(), 1, "the same closing is routed once");
    let routed = store.routed(Some(STUDY)).await.expect("routed");
    assert!(matches!(routed.as_slice(), [Routed { study_version: 1, .. }]), "{routed:?}");
}

/// The journal as a process leaves it that is killed while a job runs, with the files that it may have written by then.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_is_taken_up_and_gives_the_same_bytes() {
    let Some(site) = Site::new(&[("well-behaved", "")], "").await else { return };
    let store = site.store().await;
    site.route(&store, 1, i64::MAX).await;
    let claimed = store.claim(Due::now(0), Urgency::Routine).await.expect("claimed").expect("a job");
    store.close().await;
    let journal = site.journal();

    let mut first = None;
    for left in ["nothing", "all files", "files without result.json"] {
        site.put_journal(&journal);
        let node = Running::start(&site).await;
        let job = node.over("rogue").await;
        assert_eq!((job.id, job.state, job.attempts), (claimed.id, JobState::Done, 2), "{left}: {job:?}");
        let files = outputs(&site, &job);
        assert_eq!(first.get_or_insert_with(|| files.clone()), &files, "{left}: the same UIDs and bytes");
        node.stop().await;
        if left == "all files" {
            let folder = site.data().join(job.result_path.expect("a result"));
            std::fs::remove_file(folder.join("result.json")).expect("removed");
        }
    }
}

/// SOP Instance UID of the SR of a result, and of the one that it says that it takes the place of.
fn report(site: &Site, job: &Job) -> (String, Option<String>) {
    let file = site.data().join(job.result_path.as_ref().expect("a result")).join("report.dcm");
    let report = dicom_object::open_file(file).expect("DICOM");
    let first = |object: &dicom_object::InMemDicomObject, tag| -> Option<dicom_object::InMemDicomObject> {
        object.get(tag)?.items()?.first().cloned()
    };
    let text = |object: &dicom_object::InMemDicomObject, tag| {
        object.element(tag).expect("there").to_str().expect("text").trim_end_matches('\0').to_owned()
    };
    let earlier = first(&report, tags::PREDECESSOR_DOCUMENTS_SEQUENCE)
        .and_then(|study| first(&study, tags::REFERENCED_SERIES_SEQUENCE))
        .and_then(|series| first(&series, tags::REFERENCED_SOP_SEQUENCE));
    (text(&report, tags::SOP_INSTANCE_UID), earlier.map(|sop| text(&sop, tags::REFERENCED_SOP_INSTANCE_UID)))
}

/// Also when it is run again after a kill, and when a version comes in which nothing is new.
#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_a_later_version_names_the_one_that_it_takes_the_place_of() {
    let Some(site) = Site::new(&[("well-behaved", "")], "").await else { return };
    let node = Running::start(&site).await;
    node.close(1).await;
    let first = report(&site, &node.over("rogue").await);
    assert_eq!(first.1, None);
    node.stop().await;

    site.take_in_more().await;
    let store = site.store().await;
    site.route(&store, 2, i64::MAX).await;
    store.claim(Due::now(0), Urgency::Routine).await.expect("claimed").expect("a job");
    store.close().await;
    let journal = site.journal();
    let mut files = None;
    for _ in 0..2 {
        site.put_journal(&journal);
        let node = Running::start(&site).await;
        let second = node.over("rogue").await;
        assert_eq!((second.study_version, second.state), (2, JobState::Done), "{second:?}");
        let written = outputs(&site, &second);
        assert_eq!(files.get_or_insert_with(|| written.clone()), &written, "the same UIDs and bytes");
        assert_eq!(report(&site, &second).1.as_ref(), Some(&first.0));
        if let Some(peers) = Peers::find() {
            let folder = site.data().join(second.result_path.as_ref().expect("a result"));
            let expected = site.folder.path().join("expected.json");
            std::fs::write(&expected, "[]").expect("written");
            let [sr, seg] = ["report.dcm", "segmentation.dcm"].map(|name| path_text(&folder.join(name)));
            let source = path_text(&site.data().join("instances"));
            peers.agree("judge_regions.py", &[&sr, &seg, &source, &path_text(&expected)]);
        }
        node.stop().await;
    }

    let node = Running::start(&site).await;
    let second = report(&site, &node.over("rogue").await);
    node.close(3).await;
    let third = node.until("rogue", |job| job.study_version == 3 && job.state.is_over()).await;
    assert_eq!(report(&site, &third), second, "what is found again is the same, and no successor of itself");
    let result = std::fs::read(site.data().join(third.result_path.expect("a result")).join("result.json"));
    let result: serde_json::Value = serde_json::from_slice(&result.expect("readable")).expect("JSON");
    assert_eq!(result["predecessor"]["sop_instance_uid"], first.0);
    node.stop().await;
}

/// A process was killed before the job ran, and the next one takes other bytes in.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_version_lost_instances_ends_instead_of_running_on_fewer() {
    let Some(mut site) = Site::new(&[("well-behaved", "")], "").await else { return };
    let store = site.store().await;
    let facts = store.study_facts(STUDY).await.expect("read").expect("there");
    let closing =
        Closing { study_instance_uid: STUDY, by: "stated", facts: &facts, gap: "", saved_ms: 0, closed_ms: 1 };
    assert_eq!(store.close_study(&closing).await.expect("closed"), Some(1));
    let instances = store.instances_of_study(STUDY).await.expect("read");
    site.route(&store, 1, instances.last().expect("ten").id).await;
    store.close().await;

    site.config.node.duplicates = Duplicates::Replace;
    let study = site.folder.path().join("study");
    // The latest: a row of the same id would pass for it.
    let replace_last = |index: usize, slice: &mut dicom_object::InMemDicomObject| {
        if index == 9 {
            slice.put_str(tags::SLICE_THICKNESS, VR::DS, "3");
        }
    };
    gantry_tests::change_files(&study, replace_last).expect("changed");
    site.take_in(&study).await;
    let node = Running::start(&site).await;
    let failed = node.over("rogue").await;
    assert_eq!((failed.state, failed.attempts), (JobState::Failed, 1), "{failed:?}");
    assert_eq!(failed.error_class.as_deref(), Some("input"), "{failed:?}");
    assert!(failed.error.as_ref().is_some_and(|e| e.contains("were replaced")), "{failed:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_end_the_same_way_and_what_was_too_slow_fails_at_once() {
    let modules = [
        ("loop", "name = \"endless\""),
        ("trap", "name = \"traps\""),
        ("allocate", "name = \"grows\""),
        ("long-error", "name = \"gives-up\""),
        ("unknown-label", "name = \"states-nonsense\""),
    ];
    let Some(mut site) = Site::new(&modules, "").await else { return };
    let manifest = site.packages[0].package_folder().join("module.toml");
    let hurried = std::fs::read_to_string(manifest).expect("readable") + "[limits]\njob_deadline_ms = 300\n";
    site.packages[0].write_package("module.toml", hurried.as_bytes()).expect("written");
    site.config.limits.guest_memory_mib = 64;
    let node = Running::start(&site).await;
    node.close(1).await;
    for (module, class, said) in [
        ("endless", "limit", "job_deadline_ms = 300"),
        ("traps", "module", "the module trapped: "),
        ("grows", "limit", "guest_memory_mib = 64"),
        ("gives-up", "module", "the module failed: "),
        ("states-nonsense", "findings", "the output gate refused"),
    ] {
        let failed = node.over(module).await;
        assert_eq!((failed.state, failed.attempts), (JobState::Failed, 1), "{failed:?}");
        assert_eq!(failed.error_class.as_deref(), Some(class), "{failed:?}");
        assert!(failed.error.as_ref().is_some_and(|e| e.contains(said)), "{failed:?}");
    }

    // The operator may know better.
    let traps = node.over("traps").await;
    let says = site.says(&["job", "retry", &traps.id.to_string()]).await;
    assert_eq!(says.code, Some(0), "{says:?}");
    let again = node.until("traps", |job| job.state.is_over() && job.ended_ms > traps.ended_ms).await;
    assert_eq!((again.state, again.attempts), (JobState::Failed, 1), "{again:?}");
    node.stop().await;
}

/// The runs of a module of which the host is told to lose every worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_goes_out_of_service_is_in_the_audit_log_and_in_the_list_of_workers() {
    let Some(module) = Scenario::with_net("plain-nn", MANIFEST, "cpu") else { return };
    let Some(mut site) = Site::new(&[("well-behaved", "")], "").await else { return };
    module.package_folder().clone_into(&mut site.config.modules[0].package);
    let arguments = vec!["as".into(), "abort".into()];
    let program = Program { file: env!("CARGO_BIN_EXE_faulty-worker").into(), arguments };
    site.config.engines.isolation = Isolation::Program(program);
    site.config.engines.model_failures_max = 2;
    let node = Running::start(&site).await;
    node.close(1).await;
    let failed = node.over("rogue").await;
    assert_eq!(
        (failed.state, failed.attempts),
        (JobState::Failed, 1),
        "a crash is tried again where it was: {failed:?}"
    );
    let mut rows = Vec::new();
    for _ in 0..3000 {
        rows = node.store.audit_latest(None, 100).await.expect("a log");
        rows.retain(|row| row.action == "model-out-of-service");
        if !rows.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(row.object.ends_with("/net") && row.digests.starts_with("model="), "{row:?}");
    assert!(row.detail.contains("on cpu: it ended 2 workers, the last one was ended by SIGABRT"), "{row:?}");
    node.stop().await;
    let says = site.says(&["worker", "list"]).await;
    let digest = row.digests.strip_prefix("model=").expect("a digest");
    let line = format!("  out of service: net, sha256:{digest}, which ended 2 workers: was ended by SIGABRT\n");
    assert!(says.code == Some(0) && says.out.ends_with(&line), "{says:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_reaches_a_running_guest_and_a_stop_gives_its_job_back() {
    let Some(mut site) = Site::new(&[("loop", "")], "").await else { return };
    site.config.node.drain_ms = 0;
    let node = Running::start(&site).await;
    node.close(1).await;
    let job = node.until("rogue", |job| job.started_ms.is_some()).await;
    let id = job.id.to_string();
    let says = site.says(&["job", "cancel", &id]).await;
    assert_eq!(says.code, Some(0), "{says:?}");
    assert_eq!(node.over("rogue").await.state, JobState::Cancelled);
    let says = site.says(&["job", "cancel", &id]).await;
    assert!(says.code == Some(3) && says.err.contains("is cancelled, and no job in this state"), "{says:?}");
    let says = site.says(&["job", "retry", &id]).await;
    assert_eq!(says.code, Some(0), "{says:?}");
    node.until("rogue", |job| job.state == JobState::Running && job.started_ms.is_some()).await;
    node.stop().await;
    let job = site.store().await.job(job.id).await.expect("read").expect("there");
    assert_eq!((job.state, job.attempts), (JobState::Queued, 0), "as if it had not run: {job:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_depends_on_a_finding_and_a_later_version_supersedes() {
    let when = |name: &str, is: &str| {
        format!("name = \"{name}\"\nwhen = {{ module = \"first\", finding = \"BONE\", is = \"{is}\" }}")
    };
    let (present, absent) = (when("present", "present"), when("absent", "absent"));
    let modules =
        [("well-behaved", present.as_str()), ("well-behaved", absent.as_str()), ("well-behaved", "name = \"first\"")];
    let Some(site) = Site::new(&modules, "").await else { return };
    let node = Running::start(&site).await;
    node.close(1).await;
    let present = node.over("present").await;
    assert_eq!(present.state, JobState::Done, "{present:?}");
    let absent = node.over("absent").await;
    assert_eq!(absent.state, JobState::Skipped, "{absent:?}");
    assert_eq!(absent.error.as_deref(), Some("first found BONE"));
    let first = node.over("first").await;
    assert!(present.started_ms >= first.started_ms, "in order");

    node.close(2).await;
    let second = node.until("present", |job| job.study_version == 2 && job.state.is_over()).await;
    assert_eq!(second.state, JobState::Done);
    let old = node.store.job(present.id).await.expect("read").expect("kept");
    assert_eq!((old.state, old.superseded_by), (JobState::Done, Some(2)));
    assert_eq!(outputs(&site, &old).len(), 2, "what was replaced is kept");
    assert_eq!(node.store.retry_job(absent.id).await.expect("asked"), Changed::Not(JobState::Skipped));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_with_nothing_to_run_says_so_and_why() {
    let rule = "[[rules]]\nname = \"other-room\"\neffect = \"run\"\nsource_ae = [\"MR*\"]\n";
    let Some(site) = Site::new(&[("well-behaved", "")], rule).await else { return };
    let node = Running::start(&site).await;
    node.close(1).await;
    let routed = node.routed().await;
    assert_eq!(routed.outcome, "nothing-to-run", "{routed:?}");
    assert!(node.store.jobs(None, None).await.expect("jobs").is_empty());
    node.stop().await;

    let says = site.says(&["job", "list"]).await;
    assert!(says.out.contains("nothing-to-run  v1 of 2.25.2"), "{says:?}");
    let says = site.says(&["route", "explain", STUDY]).await;
    for part in [
        "rogue would not run",
        "+ accepts.modality: modality CT is CT (series 2.25.3)",
        "- rules.other-room: run: the rule does not hold, because none of MR* sent any of it",
        "nothing to run",
    ] {
        assert!(says.out.contains(part), "`{part}` is missing: {says:?}");
    }
    assert!(!says.out.to_lowercase().contains("secret"), "no patient data: {says:?}");
    let says = site.says(&["route", "explain", STUDY, "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&says.out).expect("JSON");
    assert_eq!(json[0]["would_run"], false);
    // A study of another kind is explained too, and nothing is wrong with it.
    let plan = site.folder.path().join("plan");
    std::fs::create_dir(&plan).expect("made");
    let Some(file) = gantry_tests::asset("pydicom/test_files/rtplan.dcm") else { return };
    let mut object = dicom_object::open_file(file).expect("DICOM");
    // As it comes, its file meta information names another instance.
    let uid = object.meta().media_storage_sop_instance_uid().to_owned();
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, uid);
    object.write_to_file(plan.join("plan.dcm")).expect("written");
    site.take_in(&plan).await;
    let says = site.says(&["route", "explain", PLAN]).await;
    for part in ["rogue would not run", "- study: none of the 1 DICOM objects given is an image", "nothing to run"] {
        assert!(says.code == Some(0) && says.out.contains(part), "`{part}` is missing: {says:?}");
    }
    let says = site.says(&["job", "show", "99"]).await;
    assert!(says.code == Some(3) && says.err.contains("there is no job 99"), "{says:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_urgent_is_claimed_first_and_nothing_sinks() {
    let modules =
        [("well-behaved", "name = \"routine\""), ("well-behaved", "name = \"urgent\"\npriority = \"urgent\"")];
    let Some(mut site) = Site::new(&modules, "").await else { return };
    site.config.limits.jobs_max = 1;
    let node = Running::start(&site).await;
    node.close(1).await;
    let (routine, urgent) = (node.over("routine").await, node.over("urgent").await);
    assert!(urgent.ended_ms <= routine.started_ms.or(routine.ended_ms), "{urgent:?} {routine:?}");
    node.close(2).await;
    let routine = node.until("routine", |job| job.study_version == 2 && job.state.is_over()).await;
    assert_eq!(routine.priority, Urgency::Urgent, "the study stood there before");
    let ending = Ending::Over { state: JobState::Failed, class: "host", error: String::new() };
    node.store.end_job(routine.id, &ending).await.expect("asked");
    let after = node.store.job(routine.id).await.expect("read").expect("there");
    assert_eq!(after.state, JobState::Done, "what is over does not end twice");
    node.stop().await;
}

/// Of the result of a job.
fn result(site: &Site, job: &Job) -> serde_json::Value {
    assert_eq!(job.state, JobState::Done, "{job:?}");
    let path = site.data().join(job.result_path.as_ref().expect("a result")).join("result.json");
    serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
}

const UPSTREAM: &str = "grants = [\"gantry:imaging/upstream\"]";

#[tokio::test(flavor = "multi_thread")]
async fn a_module_looks_at_the_results_of_those_that_it_comes_after_and_of_no_others() {
    let lines = |name: &str, after: &str| format!("name = \"{name}\"\nafter = [{after}]\n{UPSTREAM}");
    let (second, third) = (lines("second", "\"first\""), lines("third", "\"second\", \"unfit\""));
    let modules = [
        ("well-behaved", "name = \"first\""),
        ("unfit", "name = \"unfit\""),
        ("follow", second.as_str()),
        ("follow", third.as_str()),
    ];
    let Some(site) = Site::new(&modules, "").await else { return };
    let node = Running::start(&site).await;
    node.close(1).await;
    let (first, second, third) = (node.over("first").await, node.over("second").await, node.over("third").await);
    let [one, two, three] = [&first, &second, &third].map(|job| result(&site, job));
    assert!(one["findings"]["measurements"][0]["value"].as_f64().is_some_and(|ml| ml > 0.0), "{one}");
    for later in [&two, &three] {
        assert_eq!(later["findings"]["measurements"], one["findings"]["measurements"], "the same number");
        assert_eq!(later["findings"]["segments"], one["findings"]["segments"], "the same voxels");
    }
    let named = |result: &serde_json::Value| {
        let named = result["input"]["upstream"].as_array().expect("a list").iter();
        named.map(|earlier| earlier["result_sha256"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let mut expected = Vec::new();
    for module in ["first", "second", "unfit"] {
        let job = node.over(module).await;
        expected.push(gantry::hex(&node.store.result_sha256(&job).await.expect("audited")));
    }
    assert_eq!(named(&two), expected[..1], "as the journal has it");
    assert_eq!(named(&three), expected[1..], "not of what those came after in turn");
    node.stop().await;
}

/// What was left lies on a disk that others may reach: the journal, and nothing else, says what it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_changed_after_it_was_left_fails_the_job_that_looks_at_it() {
    let second = format!("name = \"second\"\nafter = [\"first\"]\n{UPSTREAM}");
    let Some(site) = Site::new(&[("slow", "name = \"first\""), ("follow", &second)], "").await else { return };
    let node = Running::start(&site).await;
    node.close(1).await;
    let waits = node.until("second", |job| job.state == JobState::Gated).await;
    assert_eq!(node.store.cancel_job(waits.id).await.expect("asked"), Changed::Yes);
    let first = node.over("first").await;
    let folder = site.data().join(first.result_path.as_ref().expect("a result"));
    for (file, by) in [("segmentation.dcm", "result.json"), ("result.json", "the journal")] {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).expect("readable");
        let mut changed = bytes.clone();
        *changed.last_mut().expect("not empty") ^= 1;
        std::fs::write(&path, changed).expect("written");
        assert_eq!(node.store.retry_job(waits.id).await.expect("asked"), Changed::Yes);
        let failed = node.over("second").await;
        assert_eq!((failed.state, failed.error_class.as_deref()), (JobState::Failed, Some("input")), "{failed:?}");
        let error = failed.error.expect("a reason");
        assert!(error.contains(file) && error.contains(&format!("not the one that {by} names")), "{error}");
        std::fs::write(&path, bytes).expect("written");
    }
    assert_eq!(node.store.retry_job(waits.id).await.expect("asked"), Changed::Yes);
    let done = node.over("second").await;
    assert_eq!(result(&site, &done)["findings"]["measurements"], result(&site, &first)["findings"]["measurements"]);
    node.stop().await;
}
