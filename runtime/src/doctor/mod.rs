//! `gantry doctor`: whether a machine and its configuration hold what a node needs, and what to do where they do not.

mod certificates;
mod configured;
mod destinations;
mod disk;
mod engines;
mod machine;
mod sync;

use std::fmt;
use std::path::Path;

use rustix::fs::Access;
use serde::Serialize;

use self::certificates::{certificates, peer};
use self::configured::{archives, modules, sources, token};
use self::disk::{folder, fsync, nearest, space, watched};
use self::engines::{contradictions, engine, engines_and_devices, left_open, threads, workers};
use self::machine::{clock, codecs, files, port};
use crate::config::Config;
use crate::web;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Ok,
    /// A node runs, and somebody should look.
    Warn,
    /// A node does not run, or loses what it should keep.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it ended.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), remedy: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), remedy: remedy.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Fail, found: found.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ok => "ok  ",
            State::Warn => "WARN",
            State::Fail => "FAIL",
        };
        write!(f, "{state} {}: {}", self.name, self.found)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n     → {}", self.remedy) }
    }
}

/// What the configuration names: files, folders, modules, engines, asked in the ways of `gantry serve`. Changes nothing, compiles
/// nothing and is done at once.
#[must_use]
pub fn check_configuration(config: &Config) -> Vec<Check> {
    let mut checks = vec![folder(config.node.data_folder.as_deref()), engine(config), modules(config)];
    checks.extend(contradictions(config));
    checks.extend(config.folder.path.as_deref().map(watched));
    for (name, tls) in [("dimse.tls", &config.dimse.tls), ("web.tls", &config.web.tls), ("hl7.tls", &config.hl7.tls)] {
        checks.extend(tls.iter().flat_map(|tls| certificates(name, tls)));
    }
    checks
        .extend(config.dimse.callers.iter().filter_map(|c| c.tls.as_ref()).flat_map(|c| peer("dimse.callers.tls", c)));
    checks.extend(config.pacs.iter().filter_map(|p| p.tls.as_ref()).flat_map(|p| peer("pacs.tls", p)));
    if !config.pacs.is_empty() {
        checks.push(archives(config));
    }
    if !config.module_sources.is_empty() {
        checks.push(sources(config));
    }
    let called = config.destinations.iter().filter_map(|to| to.dimse.as_ref()?.tls.as_ref());
    checks.extend(called.flat_map(|tls| peer("destinations.dimse.tls", tls)));
    let told = config.destinations.iter().filter_map(|to| to.mllp.as_ref()?.tls.as_ref());
    checks.extend(told.flat_map(|tls| peer("destinations.mllp.tls", tls)));
    if !config.destinations.is_empty() {
        checks.push(destinations::named(config));
    }
    checks.extend(sync::policy(config));
    checks
}

/// All of it. Writes a small file into the data folder, or the nearest one above it while there is none, and takes about a
/// second.
#[must_use]
pub fn check_all(config: &Config) -> Vec<Check> {
    let mut checks = check_configuration(config);
    if let Some(data) = &config.node.data_folder {
        let there = nearest(data);
        checks.push(space(&there, config.node.disk_free_min_mib));
        // Where nothing can be written, the folder's own check says so.
        if rustix::fs::access(&there, Access::WRITE_OK).is_ok() {
            checks.push(fsync(&there));
        }
    }
    checks.extend(config.dimse.listen.map(|listen| port("dimse.listen", listen)));
    checks.extend(config.hl7.listen.map(|listen| port("hl7.listen", listen)));
    if let Some(listen) = config.web.listen {
        checks.push(port("web.listen", listen));
        checks.extend(web::needs_token(listen, &config.web).then(|| token(config, listen)));
    }
    checks.extend(destinations::reachable(config));
    checks.extend(destinations::left_behind(config));
    checks.extend(sync::bucket(config));
    checks.push(workers(config));
    checks.extend(left_open(config));
    checks.extend(engines_and_devices(config));
    checks.extend(threads(config));
    checks.extend([clock(), codecs(), files(config.dimse.associations_max)]);
    checks
}

/// What a node looks at when it starts: whether others can reach into its data folder, and whether it has space.
pub(crate) fn check_data_folder(data: &Path, free_min_mib: u64) -> [Check; 2] {
    [folder(Some(data)), space(data, free_min_mib)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_looked_at_wherever_they_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = rcgen::CertificateParams::new(vec!["gantry.test".into()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(2020, 5, 17);
        let issued = params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("a certificate");
        let roots = folder.path().join("ended.pem");
        std::fs::write(&roots, issued.pem()).expect("written");
        let tls = format!("tls = {{ roots = {roots:?} }}");
        for (text, name) in [
            (format!("[[pacs]]\naddress = \"a:104\"\nae_title = \"A\"\n{tls}\n"), "pacs.tls"),
            (
                format!("[[destinations]]\nname = \"a\"\ndimse = {{ address = \"a:104\", ae_title = \"A\", {tls} }}\n"),
                "destinations.dimse.tls",
            ),
            (
                format!("[[destinations]]\nname = \"a\"\nmllp = {{ address = \"a:2575\", {tls} }}\n"),
                "destinations.mllp.tls",
            ),
        ] {
            let config: Config = toml::from_str(&text).expect("a configuration");
            let checks = check_configuration(&config);
            let check = checks.iter().find(|check| check.name == name).expect(name);
            assert!(check.state == State::Fail && check.found.contains("ended on 2020-05-17"), "{check}");
        }
    }

    #[test]
    fn what_a_node_does_not_start_with_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("empty")).expect("made");
        std::fs::write(at("file"), "").expect("written");
        for (text, name, says) in [
            (format!("[[modules]]\npackage = {:?}\n", at("none")), "modules and rules", "holds no module.toml"),
            (format!("[[modules]]\npackage = {:?}\n", at("empty")), "modules and rules", "holds no module.toml"),
            (format!("[[pacs]]\nurl = \"http://a\"\ntoken_file = {:?}\n", at("none")), "pacs", "token_file"),
            (
                format!("[[module_sources]]\nurl = \"s3://b\"\ntrust = [{:?}]\n", at("none")),
                "module_sources",
                "a public key cannot be read",
            ),
            (format!("[folder]\npath = {:?}\n", at("none")), "folder.path", "No such file"),
            (format!("[folder]\npath = {:?}\n", at("file")), "folder.path", "not a directory"),
        ] {
            let config: Config = toml::from_str(&text).expect("a configuration");
            let checks = check_configuration(&config);
            let check = checks.iter().find(|check| check.name == name).expect(name);
            assert!(check.state == State::Fail && check.found.contains(says), "{check}");
            assert!(!check.remedy.is_empty(), "{check}");
        }
    }
}
