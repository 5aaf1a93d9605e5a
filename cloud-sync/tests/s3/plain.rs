//! Without faults: what a batch is in a bucket.

use gantry_cloud_sync::s3::{Failure, Report};

use super::Scene;
use super::proxy::Proxy;
use super::servers::Server;
use super::spooled::{Spooled, noise};

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
