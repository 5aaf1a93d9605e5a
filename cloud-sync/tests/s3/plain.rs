//! Without faults: what a batch is in a bucket.

use std::time::{Duration, Instant};

use gantry_cloud_sync::s3::{Encryption, Failure, LockMode, ObjectLock, Report};

use super::proxy::Proxy;
use super::servers::{Bucket, Server};
use super::spooled::{Spooled, noise};
use super::{Scene, connect};

pub(super) async fn a_batch_is_there_whole_once_and_reads_back(server: &Server) {
    let scene = Scene::new(server, "plain").await;
    let proxy = Proxy::start(&server.url, &[]).await;
    let uploader = scene.uploader(server, &proxy.url).await;
    let uploaded = scene.upload(&uploader).await.expect("it is in");
    assert_eq!((uploaded.objects, uploaded.sent, uploaded.there, uploaded.replaced), (4, 4, 0, 0));
    scene.assert_whole("plain").await;
    let seen = proxy.seen();
    let manifest = seen.iter().position(|line| line.starts_with("PUT") && line.contains("/batches/")).expect("it went");
    let last = seen.iter().rposition(|line| line.contains("/objects/")).expect("they went");
    assert!(last < manifest, "the manifest goes when all objects were read back");

    // Again, as after a crash that lost the answer: nothing is sent.
    let before = proxy.seen().len();
    let again = scene.upload(&uploader).await.expect("it is in");
    assert_eq!((again.sent, again.there), (0, 4));
    let large = Spooled::key(scene.spooled.objects.last().expect("the large one"));
    assert!(
        !proxy.seen()[before..]
            .iter()
            .any(|line| line.contains(&large) && !line.starts_with("HEAD") && !line.starts_with("GET"))
    );

    let report = scene.verify(&uploader, false).await;
    assert_eq!(report, Report { batches: 1, objects: 4, bytes: uploaded.bytes, ..Report::default() });
    assert!(report.is_right());
}

pub(super) async fn what_lies_there_already_is_looked_at(server: &Server) {
    let scene = Scene::new(server, "there").await;
    let [same, other, ..] = &scene.spooled.objects[1..] else { panic!("there are four") };
    scene.bucket.put(&Spooled::key(same), same).await;
    scene.bucket.put(&Spooled::key(other), &noise(1, other.len())).await;
    let uploader = scene.uploader(server, &server.url).await;
    let uploaded = scene.upload(&uploader).await.expect("it is in");
    assert_eq!((uploaded.sent, uploaded.there, uploaded.replaced), (2, 1, 1), "{}", server.name);
    scene.assert_whole("there").await;

    // Somebody else's manifest is not written over.
    let scene = Scene::with(server, "taken", vec![noise(2, 10)]).await;
    scene.bucket.put(&scene.spooled.manifest(), b"{}").await;
    let failure = scene.upload(&scene.uploader(server, &server.url).await).await.expect_err("it is taken");
    assert!(matches!(&failure, Failure::Taken(key) if *key == scene.spooled.manifest()), "{failure}");
    assert_eq!(scene.bucket.get(&scene.spooled.manifest()).await, b"{}");
}

pub(super) async fn what_is_missing_or_damaged_is_found_and_repaired(server: &Server) {
    let scene = Scene::new(server, "repair").await;
    let uploader = scene.uploader(server, &server.url).await;
    scene.upload(&uploader).await.expect("it is in");
    let mut spool = scene.spooled.open();
    spool.finish(scene.spooled.batch.parse().expect("an ID"), std::time::SystemTime::now()).expect("it is sent");
    drop(spool);

    let [gone, changed, _, large] = &scene.spooled.objects[..] else { panic!("there are four") };
    scene.bucket.delete(&Spooled::key(gone)).await;
    scene.bucket.put(&Spooled::key(changed), &noise(3, changed.len())).await;
    scene.bucket.delete(&Spooled::key(large)).await;
    let begin = scene.bucket.client.create_multipart_upload().bucket(&scene.bucket.name).key(Spooled::key(large));
    begin.send().await.expect("an upload that nobody completes");
    let found = scene.verify(&uploader, false).await;
    assert_eq!((found.missing, found.damaged, found.orphans, found.repaired), (2, 1, 1, 0));
    assert!(!found.is_right());
    let repaired = scene.verify(&uploader, true).await;
    assert_eq!((repaired.missing, repaired.damaged, repaired.orphans, repaired.repaired), (2, 1, 1, 4));
    assert!(repaired.is_right());
    scene.assert_whole("repair").await;

    // The manifest itself: changed, and then gone.
    let envelope = scene.bucket.get(&scene.spooled.manifest()).await;
    let changed = String::from_utf8_lossy(&envelope).replacen("\"sig\":\"", "\"sig\":\"AAAA", 1);
    scene.bucket.put(&scene.spooled.manifest(), changed.as_bytes()).await;
    assert_eq!(scene.verify(&uploader, false).await.manifests_wrong, 1);
    assert!(scene.verify(&uploader, true).await.is_right());
    scene.bucket.delete(&scene.spooled.manifest()).await;
    assert_eq!(scene.verify(&uploader, false).await.manifests_wrong, 1);
    assert!(scene.verify(&uploader, true).await.is_right());
    assert_eq!(scene.bucket.get(&scene.spooled.manifest()).await, envelope);

    // What the spool has no more is said to be lost, and stays missing.
    scene.bucket.delete(&Spooled::key(gone)).await;
    std::fs::remove_file(scene.spooled.folder.path().join(Spooled::below(gone))).expect("it was kept");
    let lost = scene.verify(&uploader, true).await;
    assert_eq!((lost.missing, lost.repaired, lost.is_right()), (1, 0, false));
}

pub(super) async fn the_line_is_not_used_beyond_its_limit(server: &Server) {
    let scene = Scene::with(server, "slowly", (0..4).map(|seed| noise(seed + 40, 256 * 1024)).collect()).await;
    let change = |config: &mut gantry_cloud_sync::s3::Config| config.bandwidth_max_kib_s = Some(1024);
    let uploader = connect(server, "slowly", &server.url, &scene.credentials, change).await;
    let begun = Instant::now();
    scene.upload(&uploader).await.expect("it is in");
    // 1 MiB at 1 MiB/s; the first piece of 64 KiB goes at once.
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    scene.assert_whole("slowly").await;
}

/// Encryption with our own key by way of an HTTP proxy, storage class; object lock and tags.
pub(super) async fn what_the_server_is_told_to_do_it_does(server: &Server) {
    let scene = Scene::new(server, "told").await;
    let key_file = scene.spooled.folder.path().join("sse-c");
    std::fs::write(&key_file, noise(9, 32)).expect("a key");
    let proxy = Proxy::start(&server.url, &[]).await;
    let change = |config: &mut gantry_cloud_sync::s3::Config| {
        config.encryption = Encryption::SseC { key_file };
        config.storage_class = Some("STANDARD".to_owned());
        config.proxy_url = Some(proxy.url.clone());
    };
    let uploader = connect(server, "told", &server.url, &scene.credentials, change).await;
    scene.upload(&uploader).await.expect("it is in");
    assert!(proxy.seen().iter().any(|line| line.starts_with("PUT http://")), "the proxy was asked");
    assert!(scene.verify(&uploader, false).await.is_right());
    for object in &scene.spooled.objects {
        let key = Spooled::key(object);
        let bare = scene.bucket.client.get_object().bucket("told").key(&key).send().await;
        assert!(bare.is_err(), "without the key nobody reads it");
    }

    let scene = Scene { bucket: server.bucket("locked", true).await, ..Scene::new(server, "unlocked").await };
    let change = |config: &mut gantry_cloud_sync::s3::Config| {
        config.tags.insert("study".to_owned(), "a b".to_owned());
        config.object_lock = Some(ObjectLock { mode: LockMode::Governance, days: 2 });
    };
    let uploader = connect(server, "locked", &server.url, &scene.credentials, change).await;
    scene.upload(&uploader).await.expect("it is in");
    // Ceph 16 forgets lock and tags of what comes in parts.
    let large = Spooled::key(scene.spooled.objects.last().expect("the large one"));
    for key in scene.spooled.keys().into_iter().filter(|key| *key != large) {
        assert!(is_locked(&scene.bucket, &key).await, "{key}");
        let tags = scene.bucket.client.get_object_tagging().bucket("locked").key(&key).send().await;
        let tags = tags.unwrap_or_else(|error| panic!("tags of {key}: {error:?}"));
        assert_eq!(tags.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect::<Vec<_>>(), [("study", "a b")]);
    }
}

async fn is_locked(bucket: &Bucket, key: &str) -> bool {
    let retention = bucket.client.get_object_retention().bucket(&bucket.name).key(key).send().await.expect("a lock");
    let until = retention.retention().and_then(|retention| retention.retain_until_date()).expect("a date").secs();
    let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs();
    u64::try_from(until).is_ok_and(|until| (now + 86_400..now + 3 * 86_400).contains(&until))
}
