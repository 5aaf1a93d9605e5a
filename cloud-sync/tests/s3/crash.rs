//! An uploader in a process of its own: killed, and killed, and killed; and measured.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::servers::Server;
use super::spooled::{SITE, open};
use super::{Scene, noise};
use gantry_cloud_sync::s3::{Config, Uploader};

/// How often; the last run is left alone.
const KILLS: u64 = 12;
const FOLDER: &str = "GANTRY_TEST_SPOOL";
/// Where it tells its peak memory, in KiB.
pub(super) const PEAK: &str = "peak";

/// Does not outlive who started it.
pub(super) struct Running {
    child: Child,
    /// At whose end it ends. Not left to the child: waiting for it would close it.
    _input: Option<ChildStdin>,
}

impl Running {
    /// Whether it comes to a good end.
    pub(super) fn succeeds(mut self) -> bool {
        self.child.wait().expect("it ends").success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One that uploads what is in a spool, as `s3.toml` in it says.
pub(super) fn an_uploader_of(folder: &Path) -> Running {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["crash::an_uploader_in_a_process_of_its_own", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let mut child = command.spawn().expect("it runs");
    Running { _input: child.stdin.take(), child }
}

pub(super) async fn killed_anywhere_it_goes_on(server: &Server) {
    let objects =
        (0..12).map(|seed| noise(seed + 100, 50_000)).chain((0..2).map(|seed| noise(seed + 200, 21 * 1024 * 1024)));
    let scene = Scene::with(server, "killed", objects.collect()).await;
    let mut config = server.config("killed", &server.url, &scene.credentials);
    // Slow enough to be caught in everything that it does.
    config.bandwidth_max_kib_s = Some(40 * 1024);
    config.parallel_requests_max = 4;
    let folder = scene.spooled.folder.path();
    fs::write(folder.join("s3.toml"), toml::to_string(&config).expect("TOML")).expect("written");
    let mut killed = 0;
    for turn in 0..KILLS {
        let mut running = an_uploader_of(folder);
        // Somewhere between its first request and its last.
        let chance =
            u64::from_le_bytes(noise(turn + u64::from(std::process::id()), 8).try_into().expect("eight bytes"));
        tokio::time::sleep(Duration::from_millis(80 + chance % 500)).await;
        killed += u64::from(running.child.try_wait().expect("its state").is_none());
    }
    assert!(killed >= KILLS / 3, "{}: only {killed} of {KILLS} were killed before they were done", server.name);
    assert!(an_uploader_of(folder).succeeds());

    let uploader = scene.uploader(server, &server.url).await;
    assert!(scene.verify(&uploader, true).await.is_right());
    scene.assert_whole("killed").await;
    assert_eq!(fs::read_dir(folder.join("uploads")).expect("journals").count(), 0, "no journal is left");
}

/// Does nothing but where [`an_uploader_of`] runs it.
#[tokio::test(flavor = "multi_thread")]
async fn an_uploader_in_a_process_of_its_own() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    // Its input ends with who started it, however that ended; without a server it would wait for one for ever.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    let config: Config = toml::from_str(&fs::read_to_string(folder.join("s3.toml")).expect("a file")).expect("TOML");
    let mut spool = open(&folder, &fs::read(folder.join("key")).expect("a key"));
    let uploader = Uploader::connect(config, &SITE.parse().expect("a name")).await.expect("an uploader");
    uploader.drain(&mut spool, |_| {}).await.expect("it is in");
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    fs::write(folder.join(PEAK), peak.trim_end_matches("kB").trim()).expect("written");
}
