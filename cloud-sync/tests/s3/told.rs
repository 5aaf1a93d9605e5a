//! How a server keeps what it is given: encryption, storage class, object lock, tags.

use gantry_cloud_sync::s3::{Config, Encryption, Failure, LockMode, ObjectLock};

use super::proxy::Proxy;
use super::servers::Server;
use super::spooled::{Spooled, noise};
use super::{Scene, connect};

pub(super) async fn what_the_server_is_told_to_do_it_does(server: &Server) {
    let scene = Scene::new(server, "unlocked").await;
    let scene = Scene { bucket: server.bucket("locked", true).await, ..scene };
    let is_ceph = server.name == "radosgw";
    // Ceph has no other class unless one is made.
    let class = if is_ceph { "STANDARD" } else { "STANDARD_IA" };
    let proxy = Proxy::start(&server.url, &[]).await;
    let change = |config: &mut Config| {
        config.storage_class = Some(class.to_owned());
        config.tags.insert("study".to_owned(), "a b".to_owned());
        config.object_lock = Some(ObjectLock { mode: LockMode::Governance, days: 2 });
    };
    let uploader = connect(server, "locked", &proxy.url, &scene.credentials, change).await;
    scene.upload(&uploader).await.expect("it is in");
    let begins =
        |head: &&String| head.contains("x-id=PutObject") || head.starts_with("POST") && head.contains("?uploads");
    let (heads, class_header) = (proxy.heads(), format!("x-amz-storage-class: {class}").to_lowercase());
    let created: Vec<_> = heads.iter().filter(begins).map(|head| head.to_lowercase()).collect();
    assert_eq!(created.len(), 5, "four objects and the manifest");
    for head in created {
        for told in [&*class_header, "x-amz-tagging: study=a%20b", "x-amz-object-lock-mode: governance"] {
            assert!(head.contains(told), "{told}: {head}");
        }
    }
    // Ceph 16 forgets lock and tags of what comes in parts, and moto the lock.
    let large = Spooled::key(scene.spooled.objects.last().expect("the large one"));
    for key in scene.spooled.keys().into_iter().filter(|key| *key != large) {
        let head = scene.bucket.head(&key).await;
        assert_eq!(head.object_lock_mode().map(|mode| mode.as_str()), Some("GOVERNANCE"), "{key}");
        let until = head.object_lock_retain_until_date().expect("a date").secs();
        let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs();
        assert!(u64::try_from(until).is_ok_and(|until| (now + 86_400..now + 3 * 86_400).contains(&until)), "{key}");
        if !is_ceph {
            assert_eq!(head.storage_class().map(|class| class.as_str()), Some(class), "{key}");
        }
        let tags = scene.bucket.client.get_object_tagging().bucket("locked").key(&key).send().await;
        let tags = tags.unwrap_or_else(|error| panic!("tags of {key}: {error:?}"));
        assert_eq!(tags.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect::<Vec<_>>(), [("study", "a b")]);
    }
}

/// With keys of the server, and of its key management.
pub(super) async fn what_the_server_is_told_about_encryption_it_does_or_refuses(server: &Server) {
    let key_id = Some("testkey-1".to_owned());
    let modes = [("AES256", "sse-s3", Encryption::SseS3), ("aws:kms", "sse-kms", Encryption::SseKms { key_id })];
    for (algorithm, name, encryption) in modes {
        let scene = Scene::new(server, name).await;
        let proxy = Proxy::start(&server.url, &[]).await;
        let change = |config: &mut Config| config.encryption = encryption;
        let uploader = connect(server, name, &proxy.url, &scene.credentials, change).await;
        scene.upload(&uploader).await.unwrap_or_else(|failure| panic!("{}: {name}: {failure}", server.name));
        let heads = proxy.heads();
        let header = format!("x-amz-server-side-encryption: {algorithm}\r\n");
        assert_eq!(
            heads.iter().filter(|head| head.contains(&header)).count(),
            5,
            "where objects begin, and nowhere else"
        );
        assert!(scene.verify(&uploader, false).await.is_right());
        for object in &scene.spooled.objects {
            let said = scene.bucket.head(&Spooled::key(object)).await.server_side_encryption;
            // Ceph 16 takes AES256 and does nothing of the kind unless it has a key for all.
            if server.name != "radosgw" || name == "sse-kms" {
                assert_eq!(said.as_ref().map(|said| said.as_str()), Some(algorithm), "{}: {name}", server.name);
            }
        }
        scene.assert_whole(name).await;
    }

    // moto has any key that it is asked for.
    if server.name == "radosgw" {
        let scene = Scene::new(server, "no-such-key").await;
        let change = |config: &mut Config| {
            config.encryption = Encryption::SseKms { key_id: Some("no-such-key".to_owned()) };
            config.attempts_max = 2;
        };
        let uploader = connect(server, "no-such-key", &server.url, &scene.credentials, change).await;
        let failure = scene.upload(&uploader).await.expect_err("nobody has this key");
        assert!(matches!(failure, Failure::Refused { .. } | Failure::Denied(_)), "{failure:?}");
        assert_eq!(scene.bucket.keys().await, [""; 0], "nothing is stored another way");
    }
}

/// With our own key.
pub(super) async fn what_only_our_key_reads_nobody_else_reads(server: &Server) {
    let scene = Scene::new(server, "sse-c").await;
    let key_file = scene.spooled.folder.path().join("sse-c");
    std::fs::write(&key_file, noise(9, 32)).expect("a key");
    let change = |config: &mut Config| config.encryption = Encryption::SseC { key_file };
    let uploader = connect(server, "sse-c", &server.url, &scene.credentials, change).await;
    scene.upload(&uploader).await.expect("it is in");
    assert!(scene.verify(&uploader, false).await.is_right());
    for object in &scene.spooled.objects {
        let bare = scene.bucket.client.get_object().bucket("sse-c").key(Spooled::key(object)).send().await;
        assert!(bare.is_err(), "without the key nobody reads it");
    }
}
