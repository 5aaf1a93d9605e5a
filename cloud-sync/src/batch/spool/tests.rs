use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;

use super::super::{Digest, Format, Harmless, Kind, Model};
use super::*;

fn key() -> Vec<u8> {
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key").as_ref().to_vec()
}

fn open(root: &Path, limits: &Limits, key: &[u8]) -> Result<Spool, Failure> {
    let key = SiteKey::from_pkcs8(key).expect("a key");
    Spool::open(root, limits.clone(), "site-7".parse().expect("a name"), key)
}

fn profile() -> Profile {
    Profile { name: "qa-minimal".to_owned(), digest: Digest::of(b"profile") }
}

fn module() -> Module {
    let model = Model { name: "net".to_owned(), digest: Digest::of(b"net") };
    Module { name: "m".to_owned(), version: "1.0.0".to_owned(), digest: Digest::of(b"m"), models: vec![model] }
}

fn add(spool: &mut Spool, bytes: &[&[u8]], now: SystemTime) -> Result<Id, Failure> {
    let contents: Vec<_> = bytes.iter().map(|bytes| Harmless(bytes.to_vec())).collect();
    let module = module();
    let entries: Vec<_> = contents
        .iter()
        .map(|content| Entry { kind: Kind::Result, format: Format::Json, module: Some(&module), content })
        .collect();
    spool.add(&profile(), &entries, now)
}

/// Seconds after some moment.
fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

#[test]
fn a_batch_is_sealed_by_age_number_and_size_and_reads_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Limits { batch_max_mib: 1, batch_studies_max: 3, batch_age_max_s: 60, ..Limits::default() };
    let key = key();
    let mut spool = open(folder.path(), &limits, &key).expect("a spool");
    let first = add(&mut spool, &[b"a", b"b", b"a"], at(0)).expect("taken in");
    assert_eq!(spool.seal_due(at(59)).expect("sealed"), []);
    let made = spool.seal_due(at(60)).expect("sealed");
    let [id] = made[..] else { panic!("by age: {made:?}") };
    let batch = spool.batch(id).expect("it waits");
    batch.check().expect("it is whole");
    let manifest = batch.manifest();
    assert_eq!(manifest.studies.iter().map(|study| study.record).collect::<Vec<_>>(), [first]);
    assert_eq!(manifest.modules, [module()]);
    assert_eq!(manifest.sealed, "2027-01-15T08:01:00Z");
    assert_eq!(manifest.contents().len(), 2, "an object is there once");

    for n in 0..7u8 {
        add(&mut spool, &[&[n]], at(100)).expect("taken in");
    }
    assert_eq!(spool.seal_due(at(100)).expect("sealed").len(), 2, "by number");
    add(&mut spool, &[&vec![1; MIB as usize]], at(100)).expect("taken in");
    let made = spool.seal_due(at(100)).expect("sealed");
    assert_eq!(made.len(), 2, "by size, and what does not fit with others goes alone");
    assert_eq!(spool.waiting().expect("counts").studies, 0);
    assert_eq!(spool.sealed().expect("a list").len(), 5);
}

#[test]
fn after_a_crash_each_study_is_in_one_batch_and_nothing_half_done_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key();
    let mut spool = open(folder.path(), &Limits::default(), &key).expect("a spool");
    let id = add(&mut spool, &[b"a"], at(0)).expect("taken in");
    let record = spool.path("records", id);
    let text = fs::read(&record).expect("a record");
    spool.seal_all(at(1)).expect("sealed");
    let other = add(&mut spool, &[b"b"], at(2)).expect("taken in");
    drop(spool);
    // It died after the envelope was there and before the record was gone; and while it took another study in.
    fs::write(&record, text).expect("back");
    fs::write(folder.path().join("scratch/half"), b"half").expect("half a file");
    let orphan = object_path(folder.path(), Digest::of(b"of no record"));
    fs::create_dir_all(orphan.parent().expect("a folder")).expect("a folder");
    fs::write(&orphan, b"of no record").expect("an object");

    let mut spool = open(folder.path(), &Limits::default(), &key).expect("a spool");
    let sealed = spool.sealed().expect("a list")[0];
    let catalog: u64 = spool.batch(sealed).expect("a batch").manifest().catalog.iter().map(|part| part.bytes).sum();
    assert!(catalog > 0);
    assert_eq!(spool.waiting().expect("counts"), Waiting { studies: 1, batches: 1, sent: 0, bytes: 2 + catalog });
    assert!(!orphan.exists() && fs::read_dir(folder.path().join("scratch")).expect("a folder").next().is_none());
    let made = spool.seal_all(at(3)).expect("sealed");
    let studies = &spool.batch(made[0]).expect("a batch").manifest().studies.clone();
    assert_eq!(studies.iter().map(|study| study.record).collect::<Vec<_>>(), [other]);
}

/// Beside dates that were moved, when a study was looked at would say how far.
#[test]
fn names_of_records_tell_no_time_and_their_order_lasts() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key();
    let mut spool = open(folder.path(), &Limits::default(), &key).expect("a spool");
    let mut added: Vec<_> = (0..8u8).map(|n| add(&mut spool, &[&[n]], at(0)).expect("taken in")).collect();
    drop(spool);
    let mut spool = open(folder.path(), &Limits::default(), &key).expect("a spool");
    added.push(add(&mut spool, &[b"last"], at(0)).expect("taken in"));
    let batch = spool.seal_all(at(1)).expect("sealed")[0];
    let sealed = spool.batch(batch).expect("a batch");
    assert_eq!(sealed.manifest().studies.iter().map(|study| study.record).collect::<Vec<_>>(), added);
    let version = |id: Id| id.to_string().as_bytes().get(14).copied();
    assert_eq!(version(batch), Some(b'7'));
    assert!(added.into_iter().all(|id| version(id) == Some(b'4')));
}

#[test]
fn what_was_sent_is_kept_for_a_while_and_then_forgotten_with_what_only_it_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Limits { keep_sent_h: 1, ..Limits::default() };
    let mut spool = open(folder.path(), &limits, &key()).expect("a spool");
    add(&mut spool, &[b"only here", b"shared"], at(0)).expect("taken in");
    let first = spool.seal_all(at(0)).expect("sealed")[0];
    add(&mut spool, &[b"shared"], at(0)).expect("taken in");
    spool.finish(first, at(10)).expect("sent");
    assert_eq!((spool.prune(at(3609)).expect("pruned"), spool.sent().expect("a list").len()), (0, 1));
    assert_eq!(spool.prune(at(3610)).expect("pruned"), 1);
    assert!(!object_path(folder.path(), Digest::of(b"only here")).exists());
    assert!(object_path(folder.path(), Digest::of(b"shared")).exists());
    assert!(matches!(spool.batch(first), Err(Failure::Unknown(id)) if id == first));
}

#[test]
fn a_full_spool_has_a_study_wait_but_not_one_that_there_is_never_room_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Limits { spool_max_mib: 1, ..Limits::default() };
    let mut spool = open(folder.path(), &limits, &key()).expect("a spool");
    let (half, more) = (vec![1; MIB as usize / 2], vec![2; MIB as usize / 2 + 1]);
    add(&mut spool, &[&half], at(0)).expect("taken in");
    let full = add(&mut spool, &[&more], at(0)).expect_err("it is full");
    assert!(matches!(full, Failure::Full { .. }), "{full}");
    let never = add(&mut spool, &[&half, &more], at(0)).expect_err("it is larger than all of it");
    assert!(matches!(never, Failure::Configuration(_)), "{never}");
}

#[test]
fn a_record_is_taken_back_until_it_is_sealed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut spool = open(folder.path(), &Limits::default(), &key()).expect("a spool");
    let first = add(&mut spool, &[b"only here", b"shared"], at(0)).expect("taken in");
    let second = add(&mut spool, &[b"shared"], at(0)).expect("taken in");
    assert!(spool.take_back(first).expect("taken back") && !spool.take_back(first).expect("asked"));
    assert!(!object_path(folder.path(), Digest::of(b"only here")).exists());
    let sealed = spool.seal_all(at(1)).expect("sealed")[0];
    let batch = spool.batch(sealed).expect("it waits");
    batch.check().expect("it is whole");
    assert_eq!(batch.manifest().studies.iter().map(|study| study.record).collect::<Vec<_>>(), [second]);
    assert!(!spool.take_back(second).expect("asked"), "it is in a batch");
}

#[test]
fn a_record_is_withdrawn_from_a_sealed_batch_which_is_sealed_again_under_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = key();
    let mut spool = open(folder.path(), &Limits::default(), &key).expect("a spool");
    let first = add(&mut spool, &[b"shared", b"a"], at(0)).expect("taken in");
    let gone = add(&mut spool, &[b"only here", b"shared"], at(0)).expect("taken in");
    let last = add(&mut spool, &[b"b"], at(0)).expect("taken in");
    let batch = spool.seal_all(at(1)).expect("sealed")[0];
    let before = spool.batch(batch).expect("it waits");
    assert_eq!(spool.batch_of(gone).expect("asked"), Some(batch));
    assert!(spool.withdraw(gone).expect("withdrawn") && !spool.withdraw(gone).expect("asked"));
    assert!(!object_path(folder.path(), Digest::of(b"only here")).exists());
    let after = spool.batch(batch).expect("it waits");
    assert!(after.takes_place_of("before", before.envelope()), "what is in the bucket of it may be written over");
    assert!(!after.takes_place_of("after", after.envelope()) && !before.takes_place_of("after", after.envelope()));
    let path = |batch: &Batch| batch.manifest().catalog_path(Table::Run);
    assert_eq!(path(&after), path(&before), "its rows too");
    let [rows] = before.manifest().catalog[..] else { panic!("{:?}", before.manifest().catalog) };
    assert!(!object_path(folder.path(), rows.sha256).exists());

    drop(spool);
    let mut spool = open(folder.path(), &Limits::default(), &key).expect("a spool");
    assert!(!spool.has_record(gone), "the next start does not bring it back");
    let other = add(&mut spool, &[b"c"], at(2)).expect("taken in");
    let other = (spool.seal_all(at(3)).expect("sealed")[0], other);
    assert!(!spool.batch(other.0).expect("it waits").takes_place_of("before", before.envelope()), "it is another");
    let studies = |spool: &Spool, batch: Id| {
        let batch = spool.batch(batch).expect("it waits");
        batch.check().expect("it is whole");
        let rows: Vec<_> = batch.manifest().catalog.iter().map(|part| part.rows).collect();
        (batch.manifest().studies.iter().map(|study| study.record).collect::<Vec<_>>(), rows)
    };
    assert_eq!(studies(&spool, batch), (vec![first, last], vec![3]), "with their rows, as they came");
    assert_eq!(studies(&spool, other.0), (vec![other.1], vec![1]));

    // Records of what an earlier version sealed are gone: what is left has no rows.
    fs::remove_file(spool.path("records", last)).expect("removed");
    assert!(spool.withdraw(first).expect("withdrawn"));
    assert_eq!(studies(&spool, batch), (vec![last], vec![0]), "a table keeps its file");
    assert!(spool.withdraw(last).expect("withdrawn"));
    assert_eq!(studies(&spool, batch), (vec![], vec![0]));
    assert_eq!(spool.batch(batch).expect("it waits").manifest().modules, []);
    spool.finish(batch, at(4)).expect("sent");
    spool.finish(other.0, at(4)).expect("sent");
    assert!(fs::read_dir(folder.path().join("records")).expect("a folder").next().is_none());
    assert!(!spool.withdraw(other.1).expect("asked"), "what was sent was sent");
}

/// A run for each object, since each is a result that nobody can read.
#[test]
fn the_catalogue_of_a_batch_is_kept_and_named_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Limits { study_rows_max: 2, keep_sent_h: 0, ..Limits::default() };
    let key = key();
    let mut spool = open(folder.path(), &limits, &key).expect("a spool");
    add(&mut spool, &[b"a", b"b"], at(0)).expect("taken in");
    add(&mut spool, &[b"c"], at(0)).expect("taken in");
    let failure = add(&mut spool, &[b"1", b"2", b"3"], at(0)).expect_err("they are too many");
    assert!(failure.to_string().contains("batch.study_rows_max = 2"), "{failure}");
    drop(spool);
    let mut spool = open(folder.path(), &limits, &key).expect("a spool");
    let id = spool.seal_all(at(0)).expect("sealed")[0];
    let batch = spool.batch(id).expect("a batch");
    let [part] = batch.manifest().catalog[..] else { panic!("{:?}", batch.manifest().catalog) };
    assert_eq!((part.table, part.rows), (Table::Run, 3));
    let path = format!("catalog/run/site=site-7/date=2027-01-15/{id}.parquet");
    assert_eq!(batch.manifest().catalog_path(Table::Run), path);
    batch.check().expect("it is whole");
    let file = object_path(folder.path(), part.sha256);
    let bytes = fs::read(&file).expect("a file");
    fs::write(&file, b"changed").expect("changed");
    assert!(matches!(batch.check(), Err(Failure::Damaged(damaged)) if damaged == part.sha256));
    fs::write(&file, bytes).expect("back");
    drop(spool);
    let mut spool = open(folder.path(), &limits, &key).expect("a spool");
    assert!(file.exists(), "the next start keeps it");
    spool.finish(id, at(0)).expect("sent");
    spool.prune(at(1)).expect("pruned");
    assert!(!file.exists(), "it goes with its batch");
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Limits { spool_max_mib: 1, study_objects_max: 2, ..Limits::default() };
    let key_of_site = key();
    let mut spool = open(folder.path(), &limits, &key_of_site).expect("a spool");
    assert!(matches!(open(folder.path(), &limits, &key_of_site), Err(Failure::InUse(_))));
    let failure = add(&mut spool, &[&vec![0; MIB as usize + 1]], at(0)).expect_err("it is too much");
    assert!(failure.to_string().contains("spool_max_mib = 1"), "{failure}");
    let failure = add(&mut spool, &[b"1", b"2", b"3"], at(0)).expect_err("they are too many");
    assert!(failure.to_string().contains("batch.study_objects_max = 2"), "{failure}");

    add(&mut spool, &[b"abc"], at(0)).expect("taken in");
    let id = spool.seal_all(at(0)).expect("sealed")[0];
    let object = object_path(folder.path(), Digest::of(b"abc"));
    fs::write(&object, b"abd").expect("changed");
    assert!(matches!(spool.batch(id).expect("signed").check(), Err(Failure::Damaged(d)) if d == Digest::of(b"abc")));
    let envelope = spool.path("sealed", id);
    let text = fs::read_to_string(&envelope).expect("an envelope");
    drop(spool);
    let failure = open(folder.path(), &limits, &key()).err().expect("it is another site's");
    assert!(failure.to_string().contains("signed by none of the keys"), "{failure}");
    for changed in [text.replacen("payload\":\"e", "payload\":\"f", 1), text.replacen("sig\":\"", "sig\":\"AAAA", 1)] {
        assert_ne!(changed, text);
        fs::write(&envelope, changed).expect("changed");
        assert!(matches!(open(folder.path(), &limits, &key_of_site), Err(Failure::Manifest { .. })));
    }
}
