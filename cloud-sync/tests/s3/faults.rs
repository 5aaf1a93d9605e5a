//! Each fault that a network or a server has, at each request where it hurts.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gantry_cloud_sync::s3::{Event, Failure};

use super::proxy::{Fault, Proxy, Rule};
use super::servers::Server;
use super::spooled::{Spooled, noise};
use super::{Scene, connect};

const fn rule(method: &'static str, target: &'static str, times: u32, fault: Fault) -> Rule {
    Rule { method, target, after: 0, times, fault }
}

/// Named by what goes wrong.
const FAULTS: &[(&str, &[Rule])] = &[
    (
        "unwell",
        &[
            rule("PUT", "/objects/", 3, Fault::Answer(500, "InternalError")),
            rule("GET", "/objects/", 1, Fault::Answer(500, "")),
        ],
    ),
    (
        "busy",
        &[
            rule("PUT", "partNumber", 3, Fault::Answer(503, "SlowDown")),
            rule("HEAD", "/objects/", 2, Fault::Answer(503, "")),
        ],
    ),
    (
        "throttled",
        &[rule("PUT", "/objects/", 2, Fault::Answer(429, "")), rule("POST", "uploads", 1, Fault::Answer(429, ""))],
    ),
    ("conflict-put", &[rule("PUT", "x-id=PutObject", 2, Fault::Answer(409, "ConditionalRequestConflict"))]),
    ("exists-put", &[rule("PUT", "x-id=PutObject", 2, Fault::Answer(412, "PreconditionFailed"))]),
    (
        "reset-part",
        &[rule("PUT", "partNumber=2", 2, Fault::Reset(1_000_000)), rule("PUT", "x-id=PutObject", 1, Fault::Reset(0))],
    ),
    ("part-lost", &[rule("PUT", "partNumber=1", 1, Fault::LoseAnswer)]),
    ("put-lost", &[rule("PUT", "x-id=PutObject", 4, Fault::LoseAnswer)]),
    ("complete-lost", &[rule("POST", "uploadId", 1, Fault::LoseAnswer)]),
    ("begin-lost", &[rule("POST", "uploads", 1, Fault::LoseAnswer)]),
    ("complete-unwell", &[rule("POST", "uploadId", 1, Fault::Answer(500, "InternalError"))]),
    ("complete-unsaid", &[rule("POST", "uploadId", 1, Fault::Answer(200, "InternalError"))]),
    ("complete-conflict", &[rule("POST", "uploadId", 1, Fault::Answer(409, "ConditionalRequestConflict"))]),
    ("complete-broken", &[rule("POST", "uploadId", 1, Fault::Answer(400, "InvalidPart"))]),
    ("upload-gone", &[rule("PUT", "partNumber=3", 1, Fault::Answer(404, "NoSuchUpload"))]),
    ("crawls", &[rule("PUT", "partNumber=2", 1, Fault::Crawl), rule("HEAD", "/objects/", 1, Fault::Crawl)]),
    ("swallows", &[rule("PUT", "partNumber=1", 1, Fault::Swallow), rule("PUT", "/batches/", 1, Fault::Swallow)]),
    ("cut-short", &[rule("GET", "/objects/", 5, Fault::Cut(3000)), rule("GET", "/batches/", 1, Fault::Cut(700))]),
    ("manifest-lost", &[rule("PUT", "/batches/", 1, Fault::LoseAnswer)]),
    ("skewed", &[rule("PUT", "/objects/", 2, Fault::Skewed(7200)), rule("GET", "/objects/", 1, Fault::Skewed(-7200))]),
];

/// All of them at once, each with a bucket and a proxy of its own.
pub(super) async fn each_ends_with_the_batch_in_the_bucket(server: &Arc<Server>) {
    let ending: Vec<_> = FAULTS
        .iter()
        .map(|(name, rules)| {
            (name, tokio::spawn(one_ends_with_the_batch_in_the_bucket(Arc::clone(server), name, rules)))
        })
        .collect();
    let mut failed = Vec::new();
    for (name, ending) in ending {
        if ending.await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{}: {failed:?}", server.name);
}

async fn one_ends_with_the_batch_in_the_bucket(server: Arc<Server>, name: &'static str, rules: &'static [Rule]) {
    let scene = Scene::new(&server, name).await;
    let proxy = Proxy::start(&server.url, rules).await;
    let change = |config: &mut gantry_cloud_sync::s3::Config| config.stall_max_s = 4;
    let uploader = connect(&server, name, &proxy.url, &scene.credentials, change).await;
    let uploaded = scene.upload(&uploader).await.unwrap_or_else(|failure| panic!("{}: {name}: {failure}", server.name));
    assert_eq!(uploaded.objects, uploaded.sent + uploaded.there, "{name}");
    assert!(proxy.is_spent(), "{}: {name}: not every fault happened: {:#?}", server.name, proxy.seen());
    assert!(scene.verify(&uploader, true).await.is_right(), "{name}");
    scene.assert_whole(name).await;
}

/// moto believes what it is sent; a server that checks signatures of bodies refuses it.
pub(super) async fn a_bit_that_flips_on_its_way_is_noticed_by_reading_back(server: &Server) {
    let scene = Scene::new(server, "flips").await;
    let rules = [rule("PUT", "x-id=PutObject", 1, Fault::Flip), rule("PUT", "partNumber=2", 1, Fault::Flip)];
    let proxy = Proxy::start(&server.url, &rules).await;
    let uploader = scene.uploader(server, &proxy.url).await;
    let uploaded = scene.upload(&uploader).await.expect("it is in");
    assert!(proxy.is_spent() && uploaded.replaced >= 1, "{uploaded:?}");
    assert!(scene.events().iter().any(|event| matches!(event, Event::Replacing { .. })));
    scene.assert_whole("flips").await;
}

/// What breaks off goes on from there; what goes on from elsewhere, or ends elsewhere, is not taken.
pub(super) async fn an_answer_with_other_bytes_than_were_asked_for_is_not_taken(server: &Server) {
    type Change = fn([u64; 3]) -> [u64; 3];
    let changes: [(&str, Change); 3] = [
        ("range-first", |[first, last, total]| [first - 1, last, total]),
        ("range-last", |[first, last, total]| [first, last - 1, total]),
        ("range-total", |[first, last, total]| [first, last + 1, total + 1]),
    ];
    for (name, change) in changes {
        let scene = Scene::with(server, name, vec![noise(11, 70_000)]).await;
        // As the next attempt is: that which goes well. Then at all of them.
        for times in [1, 1000] {
            let cut = rule("GET", "/objects/", 1, Fault::Cut(3000));
            let proxy = Proxy::start(&server.url, &[cut, rule("GET", "/objects/", times, Fault::Range(change))]).await;
            let uploader = scene.uploader(server, &proxy.url).await;
            let uploaded = scene.upload(&uploader).await;
            let asked =
                proxy.heads().iter().filter(|head| head.to_ascii_lowercase().contains("\nrange: bytes=")).count();
            match uploaded {
                Ok(_) if times == 1 => assert_eq!(asked, 2, "{name}"),
                Err(Failure::Refused { why, .. }) if times > 1 => {
                    assert!(why.contains("Content-Range"), "{name}: {why}")
                }
                other => panic!("{}: {name}: {times} times: {other:?}", server.name),
            }
            let told = |event: &Event| matches!(event, Event::Again { why, .. } if why.contains("Content-Range"));
            assert!(scene.events().iter().any(told), "{name}");
        }
        scene.assert_whole(name).await;
    }
}

/// Somebody else wrote the same object while its parts were on their way.
pub(super) async fn a_complete_that_conflicts_is_resolved(server: &Server) {
    let scene = Scene::new(server, "raced").await;
    let large = scene.spooled.objects.last().expect("the large one").clone();
    let proxy = Proxy::start(&server.url, &[rule("PUT", "partNumber=3", 1, Fault::Answer(503, "SlowDown"))]).await;
    let uploader = scene.uploader(server, &proxy.url).await;
    let bucket = server.client();
    let key = Spooled::key(&large);
    let (begin, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (end, ended) = std::sync::mpsc::channel();
    tokio::spawn(async move {
        begun.recv().await;
        bucket.put_object().bucket("raced").key(key).body(large.into()).send().await.expect("it is first");
        end.send(()).expect("somebody waits");
    });
    let spool = scene.spooled.open();
    let batch = spool.batch(scene.spooled.batch.parse().expect("an ID")).expect("a batch");
    let (ended, raced) = (std::sync::Mutex::new(ended), std::sync::Once::new());
    // Between the first look and the last part.
    let on = move |event: &Event| {
        if matches!(event, Event::Again { .. }) {
            raced.call_once(|| {
                begin.send(()).expect("it waits");
                tokio::task::block_in_place(|| ended.lock().expect("a lock").recv()).expect("it was put");
            });
        }
    };
    let uploaded = uploader.upload(&batch, on).await.expect("it is in");
    drop(spool);
    assert_eq!((uploaded.sent, uploaded.there, uploaded.replaced), (3, 1, 0));
    scene.assert_whole("raced").await;
}

pub(super) async fn credentials_that_expire_are_read_again(server: &Server) {
    let scene = Scene::new(server, "expires").await;
    fs::write(&scene.credentials, "[default]\naws_access_key_id = OLD\naws_secret_access_key = old\n")
        .expect("written");
    let proxy = Proxy::start(&server.url, &[rule("PUT", "/objects/", 2, Fault::Answer(400, "ExpiredToken"))]).await;
    let uploader = scene.uploader(server, &proxy.url).await;
    let (file, right, told) = (scene.credentials.clone(), server.credentials(), scene.told());
    let spool = scene.spooled.open();
    let batch = spool.batch(scene.spooled.batch.parse().expect("an ID")).expect("a batch");
    let renewed = std::sync::Once::new();
    let on = move |event: &Event| {
        // Whoever looks after credentials has put new ones there meanwhile, whole.
        renewed.call_once(|| {
            let whole = file.with_extension("new");
            fs::write(&whole, &right).expect("written");
            fs::rename(&whole, &file).expect("renamed");
        });
        told(event);
    };
    uploader.upload(&batch, on).await.unwrap_or_else(|failure| panic!("{}: {failure}", server.name));
    drop(spool);
    scene.assert_whole("expires").await;
}

pub(super) async fn a_server_that_asks_for_time_gets_it(server: &Server) {
    let scene = Scene::with(server, "later", vec![noise(70, 1000)]).await;
    let rules =
        [rule("PUT", "/objects/", 1, Fault::Later(503, 2)), rule("GET", "/objects/", 1, Fault::Later(429, 3600))];
    let proxy = Proxy::start(&server.url, &rules).await;
    let change = |config: &mut gantry_cloud_sync::s3::Config| config.retry_after_max_s = 2;
    let uploader = connect(server, "later", &proxy.url, &scene.credentials, change).await;
    scene.upload(&uploader).await.expect("it is in");
    let waited: Vec<_> = scene
        .events()
        .iter()
        .filter_map(|event| match event {
            Event::Again { after, .. } => Some(*after),
            _ => None,
        })
        .collect();
    assert_eq!(waited, [Duration::from_secs(2); 2], "as asked, and as long as s3.retry_after_max_s");
    scene.assert_whole("later").await;
}

pub(super) async fn an_outage_costs_only_time(server: &Server) {
    let scene = Scene::new(server, "outage").await;
    let proxy = Proxy::start(&server.url, &[]).await;
    let change = |config: &mut gantry_cloud_sync::s3::Config| config.attempts_max = 2;
    let uploader = connect(server, "outage", &proxy.url, &scene.credentials, change).await;
    // Away at first, and, for three tries at the batch, when the first part of the large object is in.
    proxy.down(true);
    let (back, told, outages) = (proxy.clone(), scene.told(), Arc::new(AtomicU32::new(0)));
    let on = move |event: &Event| {
        match event {
            Event::Part { .. } if outages.load(Ordering::Relaxed) == 1 => back.down(true),
            Event::Outage { .. } if [0, 3].contains(&outages.fetch_add(1, Ordering::Relaxed)) => back.down(false),
            _ => {}
        }
        told(event);
    };
    let mut spool = scene.spooled.open();
    let done = uploader.drain(&mut spool, on).await.expect("it is in");
    assert_eq!((done.len(), done[0].sent + done[0].there), (1, 4));
    assert_eq!((spool.sealed().expect("a list").len(), spool.sent().expect("a list").len()), (0, 1));
    drop(spool);
    let events = scene.events();
    let outages = events.iter().filter(|event| matches!(event, Event::Outage { after, .. } if after.as_secs() == 1));
    assert_eq!(outages.count(), 4);
    let parts = events.iter().filter(|event| matches!(event, Event::Part { .. })).count();
    // The list of parts that moto gives is none to the SDK (its root has another name), so there it begins anew.
    if server.name == "radosgw" {
        assert!(
            (3..=4).contains(&parts),
            "{parts}: what was sent is not sent again, unless its answer was lost: {events:#?}"
        );
    }
    scene.assert_whole("outage").await;
}

pub(super) async fn what_time_does_not_cure_ends_with_a_reason(server: &Server) {
    let scene = Scene::new(server, "reasons").await;
    let uploader = connect(server, "no-such-bucket", &server.url, &scene.credentials, |_| {}).await;
    let failure = scene.upload(&uploader).await.expect_err("there is no bucket");
    assert!(matches!(&failure, Failure::NoBucket(name) if name == "no-such-bucket"), "{failure}");

    fs::write(&scene.credentials, "[default]\naws_access_key_id = NOBODY\naws_secret_access_key = hunter2\n")
        .expect("written");
    let change = |config: &mut gantry_cloud_sync::s3::Config| config.attempts_max = 2;
    let uploader = connect(server, "reasons", &server.url, &scene.credentials, change).await;
    let failure = scene.upload(&uploader).await.expect_err("nobody knows this key");
    assert!(
        matches!(failure, Failure::Denied(_)) && !format!("{failure} {failure:?}").contains("hunter2"),
        "{failure}"
    );

    fs::write(&scene.credentials, server.credentials()).expect("written");
    let uploader = scene.uploader(server, &server.url).await;
    let path = scene.spooled.folder.path().join(Spooled::below(&scene.spooled.objects[1]));
    fs::write(path, vec![0; scene.spooled.objects[1].len()]).expect("the disk changed it");
    let failure = scene.upload(&uploader).await.expect_err("it is not what its digest says");
    assert!(failure.to_string().contains("hand the study in again"), "{failure}");
    let there = scene.bucket.keys().await;
    assert!(!there.contains(&scene.spooled.manifest()), "no manifest says what is not there");
}
