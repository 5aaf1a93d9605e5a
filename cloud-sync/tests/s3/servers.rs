//! S3 servers of other people on loopback, on ports that were free, gone when they are dropped.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::{Client, Config};
use gantry_cloud_sync::s3;
use tempfile::TempDir;

/// Runs until it is dropped, or this process ends.
pub(crate) struct Server {
    script: Child,
    pub(crate) name: &'static str,
    pub(crate) url: String,
    key: String,
    secret: String,
    _folder: TempDir,
}

impl Server {
    /// Ceph's gateway; nothing where it is not installed.
    pub(crate) fn radosgw() -> Option<Self> {
        if !["radosgw", "ceph-mon", "ceph-osd"].iter().all(|program| Path::new("/usr/bin").join(program).exists()) {
            return skipped(
                "Ceph is not installed: run `apt-get install --no-install-recommends radosgw ceph-mon ceph-osd`",
            );
        }
        let folder = TempDir::new().expect("a folder");
        let [port, mon, mon_v1] = free_ports();
        let mut command = Command::new(peers().join("radosgw.sh"));
        command.arg(folder.path()).args([port, mon, mon_v1].map(|port| port.to_string()));
        Some(Self::start("radosgw", command, folder))
    }

    /// moto; nothing where Python has it not.
    pub(crate) fn moto() -> Option<Self> {
        let ours = peers().join("../../.cache/venv/bin/python");
        let named = std::env::var_os("GANTRY_PYTHON").map(PathBuf::from);
        let has_it = |python: &PathBuf| {
            Command::new(python)
                .args(["-c", "import moto, flask, flask_cors, boto3"])
                .output()
                .is_ok_and(|o| o.status.success())
        };
        let Some(python) = [Some(ours), named].into_iter().flatten().find(has_it) else {
            return skipped("moto is not installed: run `cargo xtask assets --peers`");
        };
        let [port, ..] = free_ports();
        let mut command = Command::new(peers().join("moto.sh"));
        command.arg(python).arg(port.to_string());
        Some(Self::start("moto", command, TempDir::new().expect("a folder")))
    }

    fn start(name: &'static str, mut command: Command, folder: TempDir) -> Self {
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash runs");
        let mut line = String::new();
        let said = script.stdout.as_mut().map(|said| BufReader::new(said).read_line(&mut line));
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some("ready"), Some(url), Some(key), Some(secret)) =
            (words.next().as_deref(), words.next(), words.next(), words.next())
        else {
            panic!("{name} does not start: {line:?} {said:?}");
        };
        Self { script, name, url, key, secret, _folder: folder }
    }

    /// A file of credentials as AWS has them.
    pub(crate) fn credentials(&self) -> String {
        format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", self.key, self.secret)
    }

    /// How we reach it through this address.
    pub(crate) fn config(&self, bucket: &str, url: &str, credentials: &Path) -> s3::Config {
        s3::Config {
            bucket: bucket.to_owned(),
            prefix: "gantry/".to_owned(),
            region: Some("us-east-1".to_owned()),
            endpoint_url: Some(url.to_owned()),
            path_style: true,
            credentials_file: Some(credentials.to_owned()),
            part_mib: 5,
            multipart_above_mib: 5,
            object_max_gib: 1,
            backoff_first_ms: 20,
            backoff_max_ms: 200,
            outage_pause_s: 1,
            stall_max_s: 20,
            ..s3::Config::default()
        }
    }

    /// Somebody else's eyes and hands.
    pub(crate) fn client(&self) -> Client {
        Client::from_conf(
            Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .endpoint_url(&self.url)
                .force_path_style(true)
                .credentials_provider(Credentials::new(&self.key, &self.secret, None, None, "test"))
                .build(),
        )
    }

    pub(crate) async fn bucket(&self, name: &str, lock: bool) -> Bucket {
        let client = self.client();
        let create = client.create_bucket().bucket(name).object_lock_enabled_for_bucket(lock);
        create.send().await.expect("a bucket");
        Bucket { client, name: name.to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At the end of its input the script ends its servers.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// A bucket, without any code of ours.
pub(crate) struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
}

impl Bucket {
    pub(crate) async fn keys(&self) -> Vec<String> {
        let list = self.client.list_objects_v2().bucket(&self.name).send().await.expect("a list");
        list.contents().iter().filter_map(|object| object.key.clone()).collect()
    }

    pub(crate) async fn get(&self, key: &str) -> Vec<u8> {
        let got = self.client.get_object().bucket(&self.name).key(key).send().await.expect("an object");
        got.body.collect().await.expect("its bytes").to_vec()
    }

    pub(crate) async fn put(&self, key: &str, bytes: &[u8]) {
        let put = self.client.put_object().bucket(&self.name).key(key).body(bytes.to_vec().into());
        put.send().await.expect("an object");
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.client.delete_object().bucket(&self.name).key(key).send().await.expect("it is gone");
    }

    pub(crate) async fn unfinished(&self) -> usize {
        let list = self.client.list_multipart_uploads().bucket(&self.name).send().await.expect("a list");
        list.uploads().len()
    }
}

/// Says why a test is skipped; in CI, where nothing may be missing, fails it.
fn skipped<T>(why: &str) -> Option<T> {
    let ci = std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()));
    assert!(!ci, "{why}");
    eprintln!("skipped: {why}");
    None
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers")
}

fn free_ports() -> [u16; 3] {
    let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    free.map(|listener| listener.local_addr().expect("its address").port())
}
