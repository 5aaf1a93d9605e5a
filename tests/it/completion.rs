//! Studies close on evidence and reopen: a real intake, a real journal, and Orthanc as the archive that is asked.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use dicom_ul::pdu::PDataValueType;
use gantry::completion::{self, Archive, Closed, Completion, Evidence, PacsError, fetch_priors};
use gantry::config::{Config, PacsConfig, PeerTlsConfig};
use gantry::ingest::disk::RealDisk;
use gantry::ingest::{Arrival, Form, Intake, Via, folder};
use gantry::store::{Candidate, Filed, Store, VersionRow};
use gantry::study::{self, ReadOptions};
use gantry_tests::certificates::certificates;
use gantry_tests::dimse::{Peer, command as command_set};
use gantry_tests::orthanc::Orthanc;
use gantry_tests::{change_files, write_ct};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dimse::orthanc_tls;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Intake, journal and completion on one data folder.
struct Site {
    config: Config,
    archives: Arc<[Archive]>,
    store: Store,
    intake: Intake,
    completion: Completion,
    closed: mpsc::Receiver<Closed>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Site {
    async fn start(data: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.node.disk_free_min_mib = 0;
        // Never by the timer, unless a test says so.
        config.studies.close_timer_ms = 3_600_000;
        change(&mut config);
        let store = Store::open(data).await.expect("a journal");
        let (intake, notices) =
            Intake::start(&config, data.to_owned(), store.clone(), Arc::new(RealDisk), gantry::metrics::Metrics::new())
                .expect("an intake");
        let archives = Archive::all(&config).expect("archives");
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (sender, closed) = mpsc::channel(16);
        let parts = completion::Parts {
            config: &config,
            archives: archives.clone(),
            data: data.to_owned(),
            store: store.clone(),
        };
        let completion = Completion::start(parts, notices, sender, stop.clone(), &tasks);
        Self { config, archives, store, intake, completion, closed, stop, tasks }
    }

    async fn send(&self, arrival: &Arrival, files: &[PathBuf]) {
        for file in files {
            let mut incoming = self.intake.begin(arrival, Form::File).expect("there is space");
            incoming.write(&std::fs::read(file).expect("readable")).await.expect("written");
            incoming.finish().await.expect("stored");
        }
    }

    /// An association that brings these and ends.
    async fn send_all(&self, files: &[PathBuf]) {
        let arrival = Arrival::new(Via::Dimse, "CT1");
        self.send(&arrival, files).await;
        self.intake.ended(&arrival);
    }

    async fn next(&mut self) -> Closed {
        tokio::time::timeout(PATIENCE, self.closed.recv()).await.expect("a study closes").expect("completion runs")
    }

    /// Sends a study that states how many instances it has and waits until it closed: what was sent before was seen.
    async fn pass(&mut self, number: u32) {
        let study = Ct::new(&format!("2.25.9{number}"), |_, slice| stated(slice, 10));
        self.send_all(&study.files).await;
        assert_eq!(self.next().await.study_instance_uid, study.uid, "no other study closes before");
    }

    async fn versions(&self, uid: &str) -> Vec<VersionRow> {
        self.store.versions_of_study(uid).await.expect("the journal reads")
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.expect("it stops");
        self.store.close().await;
    }
}

/// Ten slices in files.
pub(crate) struct Ct {
    pub(crate) folder: TempDir,
    pub(crate) uid: String,
    pub(crate) files: Vec<PathBuf>,
}

pub(crate) type Slice = dicom_object::InMemDicomObject;

impl Ct {
    pub(crate) fn new(uid: &str, mut change: impl FnMut(usize, &mut Slice)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_ct(folder.path()).expect("written");
        change_files(folder.path(), |index, slice| {
            slice.put_str(tags::STUDY_INSTANCE_UID, VR::UI, uid);
            slice.put_str(tags::SERIES_INSTANCE_UID, VR::UI, format!("{uid}.1"));
            slice.put_str(tags::SOP_INSTANCE_UID, VR::UI, format!("{uid}.1.{index}"));
            slice.put_str(tags::INSTANCE_NUMBER, VR::IS, (index + 1).to_string());
            change(index, slice);
        })
        .expect("changed");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        // The file meta information names the instance too.
        for file in &files {
            let mut object = dicom_object::open_file(file).expect("DICOM");
            let sop = object.element(tags::SOP_INSTANCE_UID).expect("there").to_str().expect("text").into_owned();
            object.update_meta(|meta| meta.media_storage_sop_instance_uid = sop);
            object.write_to_file(file).expect("written");
        }
        Self { folder, uid: uid.into(), files }
    }
}

pub(crate) fn stated(slice: &mut Slice, instances: u32) {
    slice.put_str(tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, instances.to_string());
}

fn brief(version: &VersionRow) -> (u32, &str, u64) {
    (version.version, version.by.as_str(), version.instances)
}

#[tokio::test]
async fn a_study_with_a_slice_missing_stays_open_until_it_comes() {
    let data = tempfile::tempdir().expect("a folder");
    let mut site = Site::start(data.path(), |_| ()).await;
    let study = Ct::new("2.25.50", |_, slice| stated(slice, 10));
    let (missing, others) = study.files.split_last().expect("files");
    site.send_all(others).await;
    site.pass(1).await;
    site.send_all(std::slice::from_ref(missing)).await;
    let closed = site.next().await;
    assert_eq!((closed.study_instance_uid.as_str(), closed.version, closed.by), ("2.25.50", 1, Evidence::Stated));
    // All of an hour but what this took.
    assert!(closed.saved > Duration::from_millis(3_500_000), "{closed:?}");
    let versions = site.versions(&study.uid).await;
    assert_eq!(versions.iter().map(brief).collect::<Vec<_>>(), [(1, "stated", 10)]);
    site.end().await;
}

#[tokio::test]
async fn a_gap_keeps_a_study_open_though_the_count_is_right() {
    let data = tempfile::tempdir().expect("a folder");
    let mut site = Site::start(data.path(), |config| config.studies.close_timer_ms = 3000).await;
    let study = Ct::new("2.25.51", |_, slice| stated(slice, 9));
    let mut nine = study.files.clone();
    nine.remove(4);
    site.send_all(&nine).await;
    let closed = site.next().await;
    assert_eq!((closed.version, closed.by, closed.saved), (1, Evidence::Timer, Duration::ZERO));
    let versions = site.versions(&study.uid).await;
    assert!(versions[0].gap.contains("slices are missing between z=6.00 and z=10.00"), "{versions:?}");
    site.end().await;
}

#[tokio::test]
async fn an_association_that_goes_on_keeps_its_study_open() {
    let data = tempfile::tempdir().expect("a folder");
    let mut site = Site::start(data.path(), |_| ()).await;
    let study = Ct::new("2.25.52", |_, slice| stated(slice, 10));
    let arrival = Arrival::new(Via::Dimse, "CT1");
    site.send(&arrival, &study.files).await;
    site.pass(1).await;
    assert!(site.versions(&study.uid).await.is_empty());
    site.intake.ended(&arrival);
    assert_eq!(site.next().await.study_instance_uid, study.uid);
    site.end().await;
}

#[tokio::test]
async fn without_a_count_numbers_close_a_study_only_where_the_site_says_so() {
    let data = tempfile::tempdir().expect("a folder");
    let mut site = Site::start(data.path(), |config| config.studies.close_without_count = true).await;
    let whole = Ct::new("2.25.53", |_, _| ());
    site.send_all(&whole.files).await;
    assert_eq!(site.next().await.by, Evidence::Ended);
    let cut = Ct::new("2.25.54", |_, _| ());
    // No gap between slices, but a number is not there.
    site.send_all(&cut.files[1..]).await;
    site.pass(1).await;
    assert!(site.versions(&cut.uid).await.is_empty());
    site.end().await;

    let data = tempfile::tempdir().expect("a folder");
    let mut site = Site::start(data.path(), |_| ()).await;
    site.send_all(&whole.files).await;
    site.pass(1).await;
    assert!(site.versions(&whole.uid).await.is_empty());
    site.end().await;
}

#[tokio::test]
async fn a_storage_commitment_says_what_was_sent() {
    let data = tempfile::tempdir().expect("a folder");
    let mut site = Site::start(data.path(), |_| ()).await;
    let study = Ct::new("2.25.55", |_, _| ());
    let list: Vec<String> = (0..10).map(|index| format!("2.25.55.1.{index}")).collect();
    site.send_all(&study.files[..9]).await;
    // When it closed, the study before was opened.
    site.pass(1).await;
    site.completion.committed(&study.uid, list).await;
    site.pass(2).await;
    assert!(site.versions(&study.uid).await.is_empty());
    site.send_all(&study.files[9..]).await;
    assert_eq!(site.next().await.by, Evidence::Commitment);
    site.end().await;
}

#[tokio::test]
async fn what_comes_later_makes_a_new_version_and_duplicates_do_not() {
    let data = tempfile::tempdir().expect("a folder");
    let mut site = Site::start(data.path(), |_| ()).await;
    let study = Ct::new("2.25.56", |index, slice| stated(slice, if index == 9 { 10 } else { 9 }));
    site.send_all(&study.files[..9]).await;
    assert_eq!(site.next().await.version, 1);
    site.send_all(&study.files[..9]).await;
    site.pass(1).await;
    site.send_all(&study.files[9..]).await;
    let closed = site.next().await;
    assert_eq!((closed.version, closed.by), (2, Evidence::Stated));
    let versions = site.versions(&study.uid).await;
    assert_eq!(versions.iter().map(brief).collect::<Vec<_>>(), [(1, "stated", 9), (2, "stated", 10)]);
    let after = site.store.versions_after(versions[0].id, 10).await.expect("the journal reads");
    assert_eq!(after.iter().map(|v| v.study_instance_uid.as_str()).collect::<Vec<_>>(), ["2.25.91", "2.25.56"]);
    let log = site.store.audit_latest(Some(&study.uid), 100).await.expect("the journal reads");
    let told: Vec<_> = log.iter().filter(|row| row.action.starts_with("study-")).collect();
    let told: Vec<_> = told.iter().map(|row| (row.action.as_str(), row.who.as_str(), row.object.as_str())).collect();
    let closed = |object| ("study-closed", "gantry", object);
    assert_eq!(told, [closed("v1"), ("study-reopened", "CT1", "v1"), closed("v2")]);
    site.end().await;
}

#[tokio::test]
async fn a_restart_takes_open_studies_up_and_leaves_closed_ones() {
    let data = tempfile::tempdir().expect("a folder");
    let site = Site::start(data.path(), |_| ()).await;
    let study = Ct::new("2.25.57", |_, slice| stated(slice, 10));
    // The association never ends.
    site.send(&Arrival::new(Via::Dimse, "CT1"), &study.files).await;
    site.end().await;
    let mut site = Site::start(data.path(), |_| ()).await;
    assert_eq!(site.next().await.study_instance_uid, study.uid);
    assert!(site.store.open_studies(10).await.expect("the journal reads").is_empty());
    site.end().await;
    let mut site = Site::start(data.path(), |_| ()).await;
    site.pass(1).await;
    assert_eq!(site.versions(&study.uid).await.len(), 1);
    site.end().await;
}

/// The wall clock of a host can jump by years, between two instances or over a restart.
#[tokio::test]
async fn a_clock_that_jumps_neither_closes_nor_holds_a_study() {
    let data = tempfile::tempdir().expect("a folder");
    let study = Ct::new("2.25.58", |_, _| ());
    let store = Store::open(data.path()).await.expect("a journal");
    let mut writer = store.intake_writer().expect("a connection");
    for (name, file, received_ms) in [("a", &study.files[0], 4_000_000_000_000), ("b", &study.files[1], 1)] {
        std::fs::copy(file, data.path().join(name)).expect("copied");
        let entry = study::inspect(file, &ReadOptions::default()).expect("an instance");
        let filed = Filed {
            path: name.into(),
            bytes: 1,
            sha256: [0; 32],
            received_ms,
            via: "dimse",
            source: "CT1".into(),
            correlation: "a".into(),
        };
        let batch = writer.begin().expect("a batch");
        batch.add(&Candidate { entry: &entry, filed: &filed }).expect("added");
        batch.commit().expect("committed");
    }
    drop(writer);
    store.close().await;
    let mut site = Site::start(data.path(), |_| ()).await;
    site.pass(1).await;
    assert!(site.versions(&study.uid).await.is_empty(), "an hour of the steady clock did not pass");
    site.end().await;
    let mut site = Site::start(data.path(), |config| config.studies.close_timer_ms = 100).await;
    assert_eq!(site.next().await.by, Evidence::Timer);
    let closed = site.versions(&study.uid).await;
    assert_eq!(closed[0].last_received_ms, 1);
    assert!(site.store.open_studies(10).await.expect("the journal reads").is_empty());
    site.end().await;
}

/// Both ways of asking Orthanc.
async fn orthanc_is_asked(orthanc: &Orthanc, pacs: PacsConfig) {
    let data = tempfile::tempdir().expect("a folder");
    let study = Ct::new("2.25.59", |_, _| ());
    study.files.iter().for_each(|file| orthanc.keep(file).expect("kept"));
    let pacs = PacsConfig { ask_again_ms: 50, sources: vec!["CT1".into()], ..pacs };
    let mut site = Site::start(data.path(), |config| config.pacs = vec![pacs]).await;
    let archive = &site.archives[0];
    assert_eq!(archive.count(&study.uid).await.expect("an answer"), Some(10));
    assert_eq!(archive.count("2.25.404").await.expect("an answer"), Some(0));
    // Without the last slice there is no gap to be seen.
    site.send_all(&study.files[..9]).await;
    site.pass(1).await;
    site.send_all(&study.files[9..]).await;
    assert_eq!(site.next().await.by, Evidence::Pacs);
    let versions = site.versions(&study.uid).await;
    assert_eq!(versions.iter().map(brief).collect::<Vec<_>>(), [(1, "pacs", 10)]);
    site.end().await;
}

#[tokio::test]
async fn a_pacs_is_asked_for_counts_by_qido() {
    let Some(orthanc) = Orthanc::start() else { return };
    orthanc_is_asked(&orthanc, PacsConfig { url: Some(orthanc.dicom_web()), ..PacsConfig::default() }).await;
}

#[tokio::test]
async fn a_pacs_is_asked_for_counts_by_c_find() {
    let Some(orthanc) = Orthanc::start() else { return };
    let pacs = PacsConfig { address: Some(orthanc.dicom()), ae_title: "ORTHANC".into(), ..PacsConfig::default() };
    orthanc_is_asked(&orthanc, pacs).await;
}

#[tokio::test]
async fn a_pacs_that_does_not_answer_leaves_it_to_the_timer() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let data = tempfile::tempdir().expect("a folder");
    let pacs =
        PacsConfig { address: Some(address), ae_title: "SILENT".into(), timeout_ms: 100, ..PacsConfig::default() };
    let mut site = Site::start(data.path(), |config| {
        config.pacs = vec![pacs];
        config.studies.close_timer_ms = 1000;
    })
    .await;
    let refused = site.archives[0].count("2.25.60").await.expect_err("it is silent").to_string();
    assert_eq!(refused, "pacs \"pacs\" did not answer within pacs.timeout_ms = 100");
    site.send_all(&Ct::new("2.25.60", |_, _| ()).files).await;
    assert_eq!(site.next().await.by, Evidence::Timer);
    site.end().await;
}

#[tokio::test]
async fn a_pacs_is_asked_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = certificates(folder.path());
    let Some(orthanc) = Orthanc::start_with(&orthanc_tls(&paths)) else { return };
    let [root, _, _, certificate, key] = paths.clone();
    let tls = PeerTlsConfig { roots: root, certificate: Some(certificate), key: Some(key), server_name: None };
    let with = |tls: Option<PeerTlsConfig>| PacsConfig {
        address: Some(orthanc.dicom()),
        ae_title: "ORTHANC".into(),
        tls,
        ..PacsConfig::default()
    };
    orthanc_is_asked(&orthanc, with(Some(tls.clone()))).await;
    let other = tempfile::tempdir().expect("a folder");
    let stranger = certificates(other.path());
    for (wrong, why) in [
        (None, "plain TCP"),
        (Some(PeerTlsConfig { certificate: None, key: None, ..tls.clone() }), "without the certificate it asks for"),
        (Some(PeerTlsConfig { roots: stranger[0].clone(), ..tls.clone() }), "its certificate is of another root"),
        (Some(PeerTlsConfig { server_name: Some("other".into()), ..tls.clone() }), "its certificate has another name"),
    ] {
        let config = Config { pacs: vec![with(wrong)], ..Config::default() };
        let archives = Archive::all(&config).expect("archives");
        let refused = archives[0].count("2.25.59").await;
        assert!(matches!(refused, Err(PacsError::Answer { .. })), "{why}: {refused:?}");
    }
}

/// What an archive that does `answer` comes to, once it was asked.
async fn asked(answer: impl FnOnce(&mut Peer) + Send + 'static) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let archive = std::thread::spawn(move || {
        let mut peer = Peer::on(listener.accept().expect("a connection").0);
        answer(&mut peer);
        // Until the node leaves.
        while peer.read().is_some() {}
    });
    let pacs = PacsConfig { address: Some(address), ae_title: "ODD".into(), timeout_ms: 3000, ..PacsConfig::default() };
    let archives = Archive::all(&Config { pacs: vec![pacs], ..Config::default() }).expect("archives");
    let refused = archives[0].count("2.25.60").await.expect_err("no answer").to_string();
    tokio::task::spawn_blocking(move || archive.join().expect("it left")).await.expect("joined");
    refused
}

/// An answer to the question with a status, and an identifier where there is one.
fn answer(peer: &mut Peer, status: u16, identifier: Option<&[u8]>) {
    let number = |n: u16| n.to_le_bytes().to_vec();
    let has = if identifier.is_some() { 1 } else { 0x0101 };
    let command = [(0x0100, number(0x8020)), (0x0120, number(1)), (0x0800, number(has)), (0x0900, number(status))];
    peer.piece(1, PDataValueType::Command, true, &command_set(&command));
    if let Some(identifier) = identifier {
        peer.data(1, identifier);
    }
}

#[tokio::test]
async fn an_archive_that_makes_no_sense_is_told_from_one_that_answers() {
    const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
    let limit = "4294967295 bytes, more than dimse.pdu_max_bytes = 131072";
    let said = asked(|peer| {
        peer.accept(EXPLICIT);
        peer.send_bytes(&[4, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    });
    let said = said.await;
    assert!(said.contains(limit), "{said}");
    let said = asked(|peer| peer.send_bytes(&[2, 0, 0xFF, 0xFF, 0xFF, 0xFF])).await;
    assert!(said.contains("the limit for A-ASSOCIATE = 262144"), "{said}");
    let said = asked(|peer| peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    assert!(said.contains("what came first is no A-ASSOCIATE"), "{said}");
    let said = asked(|peer| drop(peer.accept(EXPLICIT))).await;
    assert!(said.contains("did not answer within pacs.timeout_ms = 3000"), "{said}");
    let said = asked(|peer| drop(peer.accept(uids::JPEG2000_LOSSLESS))).await;
    assert!(said.contains("a transfer syntax that was not offered"), "{said}");
    let said = asked(|peer| {
        peer.accept(EXPLICIT);
        answer(peer, 0xA700, None);
    });
    let said = said.await;
    assert!(said.contains("status A700H"), "{said}");
    let said = asked(|peer| {
        peer.accept(EXPLICIT);
        (0..100).for_each(|_| answer(peer, 0xFF00, Some(&[])));
    });
    let said = said.await;
    assert!(said.contains("more than 16 answers"), "{said}");
    let said = asked(|peer| {
        peer.accept(EXPLICIT);
        answer(peer, 0xFF00, Some(&[0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF].repeat(8000)));
    });
    let said = said.await;
    assert!(said.contains("nests where it must not"), "{said}");
    let said = asked(|peer| {
        peer.accept(EXPLICIT);
        answer(peer, 0xFF00, Some(&[0; 100_000]));
    });
    let said = said.await;
    assert!(said.contains("more than 65536 bytes"), "{said}");
    let said = asked(|peer| {
        peer.accept(EXPLICIT);
        peer.piece(1, PDataValueType::Data, true, b"no command");
    });
    let said = said.await;
    assert!(said.contains("not of the message that is being received"), "{said}");
}

#[tokio::test]
async fn priors_are_fetched_from_a_pacs() {
    let Some(orthanc) = Orthanc::start() else { return };
    let dated = |date: &'static str| {
        move |_: usize, slice: &mut Slice| {
            slice.put_str(tags::STUDY_DATE, VR::DA, date);
        }
    };
    let own = Ct::new("2.25.70", dated("20240102"));
    let kept = [
        Ct::new("2.25.71", dated("20200101")),
        Ct::new("2.25.72", dated("20220101")),
        Ct::new("2.25.73", dated("20230101")),
        // After the study, of another modality, of another patient.
        Ct::new("2.25.74", dated("20250101")),
        Ct::new("2.25.75", |_, slice| drop(slice.put_str(tags::MODALITY, VR::CS, "MR"))),
        Ct::new("2.25.76", |_, slice| drop(slice.put_str(tags::PATIENT_ID, VR::LO, "SECRET-ID-2"))),
    ];
    kept.iter().flat_map(|study| &study.files).for_each(|file| orthanc.keep(file).expect("kept"));
    let data = tempfile::tempdir().expect("a folder");
    let pacs = PacsConfig { url: Some(orthanc.dicom_web()), priors: true, ask_again_ms: 50, ..PacsConfig::default() };
    let mut site = Site::start(data.path(), |config| config.pacs = vec![pacs]).await;
    site.send(&Arrival::new(Via::Dimse, "CT1"), &own.files).await;
    let key = site.store.prior_key(&own.uid).await.expect("read").expect("known");
    let fetch = async || fetch_priors(&site.archives, &site.store, &site.intake, &key, 1).await.expect("fetched");
    assert_eq!(fetch().await, [""; 0], "nothing is missed");
    let priors = site.store.earlier_studies(&key, 10).await.expect("read");
    let brief: Vec<_> = priors.iter().map(|p| (p.study_instance_uid.as_str(), p.days_before, p.instances)).collect();
    assert_eq!(brief, [("2.25.73", 366, 10), ("2.25.72", 731, 10)], "the latest two");
    for prior in &priors {
        let rows = site.store.instances_of_study(&prior.study_instance_uid).await.expect("the journal reads");
        let fetched = site.store.fetched_instances(&prior.study_instance_uid).await.expect("the journal reads");
        assert_eq!((rows.len(), fetched), (10, Some(10)));
        let paths: Vec<PathBuf> = rows.iter().map(|row| data.path().join(&row.path)).collect();
        let read = study::read(&paths, &ReadOptions::default()).expect("a study");
        assert_eq!(read.series[0].volumes[0].geometry.size(), [16, 16, 10]);
    }
    let audited = async || site.store.audit_latest(None, 1000).await.expect("a log").len();
    let before = audited().await;
    assert_eq!(fetch().await, [""; 0]);
    assert_eq!(audited().await, before, "what is here is not fetched again");
    site.pass(1).await;
    assert_eq!(site.store.open_studies(10).await.expect("read"), [own.uid.as_str()], "what was fetched is no work");
    assert!(site.versions("2.25.73").await.is_empty());

    // The scanner sends one of them: the same bytes, or others, as its own encoding has it.
    let sent = &kept[2];
    let rows = site.store.instances_of_study(&sent.uid).await.expect("read");
    let fetched: Vec<PathBuf> = rows.iter().map(|row| data.path().join(&row.path)).collect();
    site.send_all(&fetched[..1]).await;
    assert!(site.store.open_studies(10).await.expect("read").contains(&sent.uid), "it is work now");
    site.send_all(&sent.files).await;
    let closed = site.next().await;
    assert_eq!((closed.study_instance_uid.as_str(), closed.by), ("2.25.73", Evidence::Pacs));
    let rows = site.store.instances_of_study(&sent.uid).await.expect("read");
    assert_eq!((rows.len(), site.store.fetched_instances(&sent.uid).await.expect("read")), (10, None));
    site.end().await;
}

/// What an archive that means no good answers to WADO-RS.
type Lie = (&'static str, String, Vec<u8>, &'static str);

/// A body of these files.
pub(crate) fn multipart(files: &[Vec<u8>]) -> Vec<u8> {
    let part = |file: &Vec<u8>| [b"--b\r\nContent-Type: application/dicom\r\n\r\n", file.as_slice(), b"\r\n"].concat();
    [files.iter().flat_map(part).collect(), b"--b--\r\n".to_vec()].concat()
}

/// Says by QIDO-RS that it has the study 2.25.71, and answers WADO-RS with this.
async fn lying_archive(content_type: String, body: Vec<u8>) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let one = |vr: &str, value: &str| serde_json::json!({"vr": vr, "Value": [value]});
    let study = serde_json::json!([{
        "0020000D": one("UI", "2.25.71"), "00100020": one("LO", "SECRET-ID"), "00080020": one("DA", "20230101"),
        "00080061": one("CS", "CT"), "00201208": {"vr": "IS", "Value": [1]},
    }]);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a request"));
            }
            let (kind, body) = match String::from_utf8_lossy(&head).contains("/studies/2.25.71") {
                true => (content_type.clone(), body.clone()),
                false => ("application/dicom+json".into(), study.to_string().into_bytes()),
            };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
            // It may have heard enough.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn what_an_archive_sends_unasked_is_kept_from_everybody() {
    let file = |change: fn(&mut Slice)| {
        let study = Ct::new("2.25.71", |_, slice| {
            slice.put_str(tags::STUDY_DATE, VR::DA, "20230101");
            change(slice);
        });
        std::fs::read(&study.files[0]).expect("readable")
    };
    let good = file(|_| ());
    let other_patient = file(|slice| drop(slice.put_str(tags::PATIENT_ID, VR::LO, "SECRET-ID-2")));
    let nobody = file(|slice| {
        slice.remove_element(tags::PATIENT_ID);
    });
    let other_issuer = file(|slice| {
        slice.put_str(tags::ISSUER_OF_PATIENT_ID, VR::LO, "ELSEWHERE");
    });
    let other_study = file(|slice| drop(slice.put_str(tags::STUDY_INSTANCE_UID, VR::UI, "2.25.99")));
    let related = || "multipart/related; type=\"application/dicom\"; boundary=b".to_owned();
    let cut = multipart(std::slice::from_ref(&good));
    let lies: [Lie; 8] = [
        ("another patient", related(), multipart(&[other_patient]), "another patient: PatientID"),
        ("no patient", related(), multipart(&[nobody]), "another patient: PatientID"),
        ("another issuer", related(), multipart(&[other_issuer]), "another patient: IssuerOfPatientID"),
        ("another study", related(), multipart(&[other_study]), "StudyInstanceUID"),
        ("more than its count", related(), multipart(&vec![good.clone(); 3]), "pacs.prior_instances_max = 2"),
        ("a body that is cut", related(), cut[..cut.len() - 8].to_vec(), "ends before its closing boundary"),
        ("no multipart", "text/html".into(), b"<html>".to_vec(), "something else than multipart/related"),
        ("no DICOM", related(), multipart(&[vec![0; 500]]), "cannot be kept"),
    ];
    for (what, kind, body, expected) in lies {
        let url = lying_archive(kind, body).await;
        let data = tempfile::tempdir().expect("a folder");
        let pacs = PacsConfig {
            url: Some(url),
            priors: true,
            prior_instances_max: 2,
            sources: vec!["NOBODY".into()],
            ..PacsConfig::default()
        };
        let site = Site::start(data.path(), |config| config.pacs = vec![pacs]).await;
        let own = Ct::new("2.25.70", |_, slice| {
            slice.put_str(tags::ISSUER_OF_PATIENT_ID, VR::LO, "HERE");
        });
        site.send(&Arrival::new(Via::Dimse, "CT1"), &own.files).await;
        let key = site.store.prior_key(&own.uid).await.expect("read").expect("known");
        let missed = fetch_priors(&site.archives, &site.store, &site.intake, &key, 1).await.expect(what).join("\n");
        assert!(missed.contains(expected) && !missed.contains("SECRET"), "{what}: {missed}");
        assert_eq!(site.store.earlier_studies(&key, 10).await.expect("read"), [], "{what}");
        site.end().await;
    }
}

/// Until it holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let wait = async {
        while !holds() {
            tick.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("it does not come to this: {what}"));
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_watched_folder_is_a_way_in() {
    let (data, watched) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut site = Site::start(data.path(), |config| {
        config.folder.path = Some(watched.path().to_owned());
        config.folder.poll_ms = 20;
        config.folder.stable_ms = 500;
    })
    .await;
    site.tasks.spawn(folder::watch(site.config.folder.clone(), site.intake.clone(), site.stop.clone()));
    let study = Ct::new("2.25.80", |_, slice| stated(slice, 10));
    let at = |name: &str| watched.path().join(name);
    std::fs::create_dir(at("study")).expect("a folder");
    for (index, file) in study.files[..9].iter().enumerate() {
        std::fs::copy(file, at("study").join(format!("{index} name; of ours"))).expect("copied");
    }
    let last = std::fs::read(&study.files[9]).expect("readable");
    std::fs::create_dir(at("deep")).expect("a folder");
    let write_private = |path: &Path, bytes: &[u8]| {
        std::fs::write(at(".partial"), bytes).expect("written");
        std::fs::set_permissions(at(".partial"), PermissionsExt::from_mode(0o640)).expect("set");
        std::fs::rename(at(".partial"), path).expect("renamed");
    };
    write_private(&at("deep/cut.dcm"), &last[..last.len() / 2]);
    std::fs::copy(&study.files[0], at(".hidden")).expect("copied");
    std::os::unix::fs::symlink(&study.files[9], at("link")).expect("linked");
    // Somebody writes slowly, but never as slowly as `stable_ms`.
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let mut slow = std::fs::File::create(at("slow.dcm")).expect("a file");
    for piece in last.chunks(last.len() / 20 + 1) {
        tick.tick().await;
        std::io::Write::write_all(&mut slow, piece).expect("written");
    }
    let closed = site.next().await;
    assert_eq!((closed.study_instance_uid.as_str(), closed.by), ("2.25.80", Evidence::Stated));
    until("one file is rejected", || std::fs::read_dir(at("rejected")).is_ok_and(|entries| entries.count() == 2)).await;
    let mut names = std::fs::read_dir(at("rejected")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let reason = names.find(|path| path.extension().is_some()).expect("a reason");
    let reason = std::fs::read_to_string(reason).expect("readable");
    assert!(reason.starts_with("unreadable: ") && reason.ends_with("\nfile: deep/cut.dcm\n"), "{reason}");
    let mut names = std::fs::read_dir(at("rejected")).expect("a folder").map(|entry| entry.expect("an entry").path());
    assert!(names.all(|path| mode(&path) == 0o640), "who may read the file may read its name");
    assert!(at(".hidden").exists() && at("link").exists());
    assert!(!at("slow.dcm").exists() && !at("deep/cut.dcm").exists());
    assert_eq!(std::fs::read_dir(at("study")).expect("a folder").count(), 0);
    site.end().await;
}

#[tokio::test]
async fn a_watched_file_waits_while_the_host_has_no_space() {
    let (data, watched) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let full = |config: &mut Config| {
        config.node.disk_free_min_mib = 1 << 30;
        config.folder.path = Some(watched.path().to_owned());
        (config.folder.poll_ms, config.folder.stable_ms) = (10, 10);
    };
    let study = Ct::new("2.25.81", |_, slice| stated(slice, 1));
    let file = watched.path().join("a");
    std::fs::copy(&study.files[0], &file).expect("copied");
    let site = Site::start(data.path(), full).await;
    let watch = folder::watch(site.config.folder.clone(), site.intake.clone(), site.stop.clone());
    // Many looks.
    assert!(tokio::time::timeout(Duration::from_millis(500), watch).await.is_err());
    assert!(file.exists() && !watched.path().join("rejected").exists());
    site.end().await;
    let mut site = Site::start(data.path(), |config| {
        full(config);
        config.node.disk_free_min_mib = 0;
    })
    .await;
    site.tasks.spawn(folder::watch(site.config.folder.clone(), site.intake.clone(), site.stop.clone()));
    assert_eq!(site.next().await.study_instance_uid, study.uid);
    until("it is gone", || !file.exists()).await;
    site.end().await;
}
