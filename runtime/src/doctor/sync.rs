//! What is handed to the cloud: the policy, its keys, and the bucket.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gantry_cloud_sync::s3::{self, Uploader};

use super::Check;
use crate::config::Config;
use crate::sync::Site;

const NAME: &str = "sync";

/// The policy, and the keys that it names; nothing where nothing is handed on.
pub(super) fn policy(config: &Config) -> Vec<Check> {
    if config.sync.policy.is_none() {
        return Vec::new();
    }
    let site = match Site::read(&config.sync) {
        Ok(site) => site,
        Err(e) => return vec![Check::fail(NAME, e.to_string(), "mend what sync.policy names; see docs/sync.md")],
    };
    if let Err(e) = site.signing_key() {
        return vec![Check::fail(
            NAME,
            e.to_string(),
            "openssl genpkey -algorithm ed25519, readable by this user only",
        )];
    }
    let keys = [&site.policy.identity_key_file, &site.policy.signing_key_file];
    let open: Vec<_> = keys.into_iter().filter(|path| is_open(path)).map(|path| path.display().to_string()).collect();
    match open.is_empty() {
        true => {
            vec![Check::ok(NAME, format!("policy of site {}, profile {}", site.policy.site, site.policy.profile.name))]
        }
        false => {
            let found = format!(
                "others can read {}: who has them can tell whose studies are in the bucket, or sign",
                open.join(" and ")
            );
            vec![Check::warn(NAME, found, "chmod 0600")]
        }
    }
}

fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Whether the bucket is there and can be listed. Nothing is sent.
pub(super) fn bucket(config: &Config) -> Option<Check> {
    const NAME: &str = "sync bucket";
    let site = Site::read(&config.sync).ok()?;
    let s3 = s3::Config { attempts_max: 1, connect_max_ms: 3000, stall_max_s: 5, ..site.policy.s3.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let looked = runtime.block_on(async { Uploader::connect(s3, &site.policy.site).await?.look().await });
    Some(match looked {
        Ok(()) => Check::ok(NAME, format!("{} can be listed", site.policy.s3.bucket)),
        Err(e) if e.is_passing() => {
            Check::warn(NAME, e.to_string(), "fine while it is away: batches wait for it; else mend [s3] of the policy")
        }
        Err(e) => Check::fail(NAME, e.to_string(), "mend [s3] of the policy, or the credentials of this user"),
    })
}
