//! `[s3]`: which bucket, how to reach it, how what is put there is kept, and how much of this machine and its line it may take.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Failure;

/// S3 takes no more parts of one object.
pub(super) const PARTS_MAX: u64 = 10_000;
pub(super) const MIB: u64 = 1024 * 1024;

/// Where batches go. Credentials are never in here: they come from the standard chain (environment, profile files, web identity, container,
/// instance).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The bucket. It is never created.
    pub bucket: String,
    /// Before every key; empty, or ending in `/`.
    pub prefix: String,
    /// Region, where the chain does not say it or says another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A server other than AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Name the bucket in the path and not in the host name.
    pub path_style: bool,
    /// Profile of the chain's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Instead of `~/.aws/credentials`; read again when a server says that credentials expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// An HTTP proxy, without a name and password. Without this key the environment says (`HTTPS_PROXY`, `NO_PROXY`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<String>,
    /// A file with `name:password` for the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_credentials_file: Option<PathBuf>,
    /// Certificates (PEM) of authorities to trust instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Requests at once, 1 to 64: as many small objects as that, and large ones as `memory_max_mib` has room for.
    pub parallel_requests_max: usize,
    /// Bodies in memory, all together, 5 to 16,384 MiB: requests wait for one another when it is spent.
    pub memory_max_mib: u64,
    /// A part of a multipart upload, 5 to 5,120 MiB and at most `memory_max_mib`.
    pub part_mib: u64,
    /// An object that is larger goes as multipart, 5 to 5,120 MiB and at most `memory_max_mib`.
    pub multipart_above_mib: u64,
    /// Largest object, 1 to 51,200 GiB; `part_mib` × 10,000 must reach it.
    pub object_max_gib: u64,
    /// What uploads and reads back may send and receive, each, 64 to 16,777,216 KiB/s; without it no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_max_kib_s: Option<u64>,
    /// To connect, 100 to 300,000 ms.
    pub connect_max_ms: u64,
    /// A request that moves less than 64 KiB in so long is given up, 1 to 3,600 s. An answer has to come in it too.
    pub stall_max_s: u64,
    /// Attempts at one request, and at one object, before the batch is put off, 1 to 100.
    pub attempts_max: u32,
    /// Before the second attempt, 1 to 60,000 ms; twice as long each time after, and by chance between none and all of it.
    pub backoff_first_ms: u64,
    /// The longest wait between two attempts, 1 to 600,000 ms.
    pub backoff_max_ms: u64,
    /// The longest that a server's `Retry-After` is waited for, 0 to 3,600 s.
    pub retry_after_max_s: u64,
    /// Between two tries at a batch when the server cannot be reached, 1 to 3,600 s. This goes on until it can.
    pub outage_pause_s: u64,
    /// Read each object back and hash it before the manifest goes. Without it `verify` is the only proof that the bucket has what
    /// was sent.
    pub read_back: bool,
    /// As the server names it, such as `STANDARD_IA`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// How the server encrypts.
    pub encryption: Encryption,
    /// How long the server refuses to delete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_lock: Option<ObjectLock>,
    /// On every object, at most 10.
    pub tags: BTreeMap<String, String>,
}

/// How the server encrypts what it keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Encryption {
    /// As the bucket has it.
    #[default]
    Bucket,
    /// With keys of the server.
    SseS3,
    /// With a key of its key management.
    SseKms {
        /// Which; without it the bucket's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
    },
    /// With our own key, which the server forgets: who loses it loses all objects.
    SseC {
        /// 32 bytes.
        key_file: PathBuf,
    },
}

/// How long the server refuses to delete or write over an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: LockMode,
    /// From the upload on, 1 to 36,500 days.
    pub days: u32,
}

/// Who may lift an object lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Those with a special permission.
    Governance,
    /// Nobody.
    Compliance,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            prefix: String::new(),
            region: None,
            endpoint_url: None,
            path_style: false,
            profile: None,
            credentials_file: None,
            proxy_url: None,
            proxy_credentials_file: None,
            ca_file: None,
            parallel_requests_max: 32,
            memory_max_mib: 128,
            part_mib: 16,
            multipart_above_mib: 16,
            object_max_gib: 128,
            bandwidth_max_kib_s: None,
            connect_max_ms: 10_000,
            stall_max_s: 60,
            attempts_max: 8,
            backoff_first_ms: 200,
            backoff_max_ms: 20_000,
            retry_after_max_s: 300,
            outage_pause_s: 60,
            read_back: true,
            storage_class: None,
            encryption: Encryption::Bucket,
            object_lock: None,
            tags: BTreeMap::new(),
        }
    }
}

impl Config {
    /// # Errors
    /// [`Failure::Configuration`] naming the key, its range and the value.
    pub fn check(&self) -> Result<(), Failure> {
        let wrong = |why: String| Err(Failure::Configuration(why));
        if let Some(out) = self.ranges().into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value)) {
            let (key, value, least, most) = out;
            return wrong(format!("s3.{key} is {value}, and must be {least} to {most}"));
        }
        if self.bucket.is_empty() {
            return wrong("s3.bucket is empty: name the bucket".to_owned());
        }
        if !(self.prefix.is_empty() || self.prefix.ends_with('/'))
            || self.prefix.starts_with('/')
            || self.prefix.len() > 256
        {
            return wrong(
                "s3.prefix must be empty or end in /, not begin with one, and have at most 256 bytes".to_owned(),
            );
        }
        for (key, value) in [("part_mib", self.part_mib), ("multipart_above_mib", self.multipart_above_mib)] {
            if value > self.memory_max_mib {
                let most = self.memory_max_mib;
                return wrong(format!("s3.{key} is {value}, and s3.memory_max_mib = {most} must hold at least one"));
            }
        }
        if self.part_mib * PARTS_MAX < self.object_max_gib * 1024 {
            return wrong(format!(
                "s3.object_max_gib is {}, and {PARTS_MAX} parts of s3.part_mib = {} do not reach it",
                self.object_max_gib, self.part_mib
            ));
        }
        for (key, url) in [("endpoint_url", &self.endpoint_url), ("proxy_url", &self.proxy_url)] {
            let Some(url) = url else { continue };
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return wrong(format!("s3.{key} must begin with http:// or https://"));
            }
            if url.contains('@') {
                return wrong(format!("s3.{key} holds credentials: put them into a file"));
            }
        }
        self.check_tags()
    }

    fn ranges(&self) -> [(&'static str, u64, u64, u64); 14] {
        [
            ("parallel_requests_max", self.parallel_requests_max as u64, 1, 64),
            ("memory_max_mib", self.memory_max_mib, 5, 16_384),
            ("part_mib", self.part_mib, 5, 5120),
            ("multipart_above_mib", self.multipart_above_mib, 5, 5120),
            ("object_max_gib", self.object_max_gib, 1, 51_200),
            ("bandwidth_max_kib_s", self.bandwidth_max_kib_s.unwrap_or(64), 64, 16_777_216),
            ("connect_max_ms", self.connect_max_ms, 100, 300_000),
            ("stall_max_s", self.stall_max_s, 1, 3600),
            ("attempts_max", u64::from(self.attempts_max), 1, 100),
            ("backoff_first_ms", self.backoff_first_ms, 1, 60_000),
            ("backoff_max_ms", self.backoff_max_ms, 1, 600_000),
            ("retry_after_max_s", self.retry_after_max_s, 0, 3600),
            ("outage_pause_s", self.outage_pause_s, 1, 3600),
            ("object_lock.days", self.object_lock.as_ref().map_or(1, |lock| lock.days.into()), 1, 36_500),
        ]
    }

    fn check_tags(&self) -> Result<(), Failure> {
        let fits = |text: &str, most| {
            (1..=most).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-=._:/@ ".contains(c))
        };
        if self.tags.len() <= 10 && self.tags.iter().all(|(key, value)| fits(key, 128) && fits(value, 256)) {
            return Ok(());
        }
        Err(Failure::Configuration(
            "s3.tags must be at most 10, of letters, digits, blanks and +-=._:/@, keys of at most 128 and values of at most 256".to_owned(),
        ))
    }

    /// As the header `x-amz-tagging` has them.
    pub(super) fn tagging(&self) -> Option<String> {
        let escaped = |text: &str| -> String {
            let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            text.bytes()
                .map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
                .collect()
        };
        let pairs: Vec<_> =
            self.tags.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value))).collect();
        (!pairs.is_empty()).then(|| pairs.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config { bucket: "b".to_owned(), ..Config::default() };
        config.check().expect("defaults are right");
        change(&mut config);
        config.check().expect_err("it is wrong").to_string()
    }

    #[test]
    fn what_cannot_be_is_refused_by_the_name_of_its_key() {
        assert!(refused(|c| c.bucket.clear()).contains("s3.bucket"));
        assert!(refused(|c| c.prefix = "a".to_owned()).contains("s3.prefix"));
        assert!(refused(|c| c.part_mib = 4).contains("s3.part_mib is 4, and must be 5 to 5120"));
        assert!(refused(|c| c.part_mib = 256).contains("s3.memory_max_mib = 128"));
        assert!(refused(|c| c.object_max_gib = 1000).contains("10000 parts of s3.part_mib = 16"));
        assert!(refused(|c| c.bandwidth_max_kib_s = Some(1)).contains("s3.bandwidth_max_kib_s"));
        let secret = refused(|c| c.proxy_url = Some("http://user:hunter2@proxy".to_owned()));
        assert!(secret.contains("s3.proxy_url") && !secret.contains("hunter2"), "{secret}");
        assert!(refused(|c| c.tags = BTreeMap::from([("a\n".to_owned(), "b".to_owned())])).contains("s3.tags"));
    }

    #[test]
    fn it_reads_as_documented_and_refuses_what_it_does_not_know() {
        let text = "bucket = 'b'\n[encryption]\nmode = 'sse-kms'\nkey_id = 'k'\n[object_lock]\nmode = 'governance'\ndays = 30\n[tags]\nsite = 'a b'\n";
        let config: Config = toml::from_str(text).expect("a configuration");
        assert_eq!(config.encryption, Encryption::SseKms { key_id: Some("k".to_owned()) });
        assert_eq!(config.tagging().as_deref(), Some("site=a%20b"));
        assert!(toml::from_str::<Config>("bukcet = 'b'").is_err());
    }
}
