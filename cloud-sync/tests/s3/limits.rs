//! What of this machine and its line is not taken.

use std::fs;
use std::time::{Duration, Instant};

use gantry_cloud_sync::s3::Config;

use super::crash::{PEAK, an_uploader_of};
use super::servers::Server;
use super::spooled::{Spooled, noise};
use super::{Scene, connect};

const MIB: u64 = 1024 * 1024;

pub(super) async fn the_line_is_not_used_beyond_its_limit(server: &Server) {
    let scene = Scene::with(server, "slowly", (0..8).map(|seed| noise(seed + 40, 256 * 1024)).collect()).await;
    let change = |config: &mut Config| config.bandwidth_max_kib_s = Some(1024);
    let uploader = connect(server, "slowly", &server.url, &scene.credentials, change).await;
    let begun = Instant::now();
    scene.upload(&uploader).await.expect("it is in");
    // 2 MiB at 1 MiB/s, and what is read back beside it; the first piece of 64 KiB goes at once.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1900), "{took:?}");
    assert!(took <= Duration::from_secs(20), "{took:?}: it is used");
    scene.assert_whole("slowly").await;
}

/// An object that is sixteen times as large as what bodies may take.
pub(super) async fn an_object_takes_no_more_memory_than_it_may(server: &Server) {
    const MEMORY_MIB: u64 = 16;
    let scene = Scene::of(server, "large", Spooled::zeros(16 * MEMORY_MIB * MIB)).await;
    let mut config = server.config("large", &server.url, &scene.credentials);
    config.memory_max_mib = MEMORY_MIB;
    let folder = scene.spooled.folder.path();
    fs::write(folder.join("s3.toml"), toml::to_string(&config).expect("TOML")).expect("written");
    assert!(an_uploader_of(folder).succeeds());
    let peak_kib: u64 = fs::read_to_string(folder.join(PEAK)).expect("written").parse().expect("a number");
    // The program itself takes some 50 MiB.
    assert!(peak_kib < (MEMORY_MIB + 96) * 1024, "{peak_kib} KiB");
    assert!(scene.verify(&scene.uploader(server, &server.url).await, false).await.is_right());
}
