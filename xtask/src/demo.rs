//! `cargo xtask demo`: on a fresh machine, from nothing to a node that takes a real CT in and writes what was found.

use crate::process::{Step, size};
use crate::repository::{Profile, Repository, find_program};
use crate::{assets, guests};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Arguments of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Fetches an abdominal CT, builds gantry and the ct-organs module, starts a node with it on this machine alone, and sends
the CT as a scanner would: with DCMTK's dcmsend, or through a watched folder where DCMTK is not installed. The node
leaves a DICOM SEG, an SR, result.json and a picture below target/demo/, and is stopped. The module is a demonstration,
not for clinical use.

Examples:
  cargo xtask demo             with the development build
  cargo xtask demo --release   with the optimised build: longer to compile, faster to run")]
pub(crate) struct Options {
    /// Build `gantry` optimised
    #[arg(long)]
    release: bool,
}

/// The package that `gantry module build` makes of `modules/ct-organs`.
const MODULE: &str = "modules/ct-organs/package";
/// Below the assets.
const STUDY: &str = "totalsegmentator/example_ct_dicom";
/// The node and what is sent to it.
const OUT: &str = "target/demo";
/// The node's, below [`OUT`].
const CONFIG: &str = "gantry.toml";
/// What it logs, below [`OUT`].
const LOG: &str = "node.log";
/// What the module stated, among the results.
const RESULT: &str = "result.json";
/// The picture, among the results.
const PICTURE: &str = "overlay.png";
/// How long the result may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// From one look at the jobs to the next.
const POLL: Duration = Duration::from_millis(200);

/// Runs `cargo xtask demo`.
pub(crate) fn run(repository: &Repository, options: &Options) -> Result<()> {
    let profile = Profile::from_flag(options.release);
    heading("1/4 the CT");
    assets::run(repository, &assets::Options { peers: false })?;
    heading("2/4 gantry and the module");
    repository.build(&["gantry", "complete"], profile)?;
    for module in guests::modules(repository)? {
        module.build(repository, profile)?;
    }
    heading("3/4 the CT, made complete: its UIDs were taken out, and a node rightly refuses images without");
    let out = repository.root.join(OUT);
    assets::remove_folder(&out)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let study = out.join("study");
    complete(repository, profile, &study)?;
    heading("4/4 a node takes it in, and runs the module on it in the sandbox");
    let node = Node { repository, profile, out, sender: find_program("dcmsend") };
    let result = node.analyse(&study)?;
    show(repository, &result)?;
    let by_hand = repository.gantry(profile).args(["run", "--module", MODULE]);
    let by_hand =
        by_hand.arg(repository.short(&repository.assets().join(STUDY))).args(["--out", "target/by-hand", "--overlay"]);
    println!("\nThe same by hand, without a node:\n$ {}", by_hand.line());
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text} ==");
}

/// Copies with UIDs: the test material comes without.
fn complete(repository: &Repository, profile: Profile, to: &Path) -> Result<()> {
    let step = repository.program("complete", profile).shown_as("complete");
    step.arg(repository.assets().join(STUDY)).arg("--out").arg(repository.short(to)).run()
}

/// The node of this demonstration.
struct Node<'a> {
    repository: &'a Repository,
    profile: Profile,
    out: PathBuf,
    /// DCMTK's `dcmsend`; a watched folder without.
    sender: Option<PathBuf>,
}

impl Node<'_> {
    /// Starts it, sends the study, and stops it. The folder with the results.
    fn analyse(&self, study: &Path) -> Result<PathBuf> {
        fs::write(self.out.join(CONFIG), self.configuration()).context("cannot write the node's configuration")?;
        let step = self.gantry("serve", &[]);
        println!("$ {}", step.line());
        let log = self.out.join(LOG);
        let (running, ready) = step.start(&log)?;
        let done = self.until_done(&ready, study);
        let done = done.with_context(|| format!("the node's log is {}", self.repository.short(&log)))?;
        running.stop()?;
        Ok(done)
    }

    fn until_done(&self, ready: &str, study: &Path) -> Result<PathBuf> {
        println!("ready: {}", ready.trim_end());
        self.send(ready, study)?;
        let list = self.gantry("job", &["list"]);
        println!("$ {}", list.line());
        let job = self.wait()?;
        println!("job {}: {} is done", job.id, job.module);
        let log = self.gantry("audit", &["show", "--study", &job.study, "--limit", "100000", "--json"]).capture()?;
        println!("\n{}", Times::read(&log).context("cannot read the audit log")?);
        Ok(self.out.join("data").join(job.result))
    }

    /// What a site would write: who may send, what runs. Ports and times are those of a demonstration.
    fn configuration(&self) -> String {
        let quoted = |path: &Path| format!("{:?}", path.display().to_string());
        let way_in = match &self.sender {
            Some(_) => "[dimse]\nlisten = \"127.0.0.1:0\"\ncallers = [{ ae_title = \"DCMSEND\" }]".to_owned(),
            None => format!("[folder]\npath = {}\npoll_ms = 200\nstable_ms = 500", quoted(&self.inbox())),
        };
        format!(
            "[node]\ndata_folder = {data}\ndisk_free_min_mib = 64\ndrain_ms = 2000\n\n{way_in}\n\n\
             [schedule]\noverlay = true\n\n[[modules]]\npackage = {package}\n",
            data = quoted(&self.out.join("data")),
            package = quoted(&self.repository.root.join(MODULE)),
        )
    }

    fn inbox(&self) -> PathBuf {
        self.out.join("in")
    }

    /// A call of `gantry` on this node.
    fn gantry(&self, command: &str, arguments: &[&str]) -> Step {
        let step = self.repository.gantry(self.profile).shown_as("gantry").arg(command).args(arguments);
        step.arg("--config").arg(self.repository.short(&self.out.join(CONFIG)))
    }

    fn send(&self, ready: &str, study: &Path) -> Result<()> {
        match &self.sender {
            Some(dcmsend) => {
                let step = Step::new(dcmsend).shown_as("dcmsend").in_folder(&self.repository.root);
                let step = step.args(["-aec", "GANTRY", "127.0.0.1", &port(ready)?.to_string(), "-ll", "error", "+sd"]);
                let step = step.arg(self.repository.short(study));
                println!("$ {}", step.line());
                step.run()
            }
            None => {
                let [from, to] = [study, &self.inbox().join("study")].map(|path| self.repository.short(path));
                println!("DCMTK is not installed: the files go to the folder that the node watches\n$ mv {from} {to}");
                fs::create_dir_all(self.inbox()).context("cannot create the watched folder")?;
                fs::rename(study, self.inbox().join("study")).context("cannot move the study")
            }
        }
    }

    fn wait(&self) -> Result<Job> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let list = self.gantry("job", &["list", "--json"]).capture()?;
            if let Some(job) = done(&list)? {
                return Ok(job);
            }
            if Instant::now() > deadline {
                bail!("there is no result after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The port of the DICOM network service, from what `gantry serve` prints.
fn port(ready: &str) -> Result<u16> {
    let ready: serde_json::Value = serde_json::from_str(ready).context("cannot read where the node listens")?;
    let port = ready["dimse"].as_str().and_then(|address| address.rsplit_once(':')?.1.parse().ok());
    port.context("the node does not say where it listens for images")
}

/// What `gantry job list --json` says of a job that is done.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    id: i64,
    module: String,
    study: String,
    /// Its folder, below the data folder.
    result: String,
}

/// The job with a result; nothing while it is to come. One that will have none fails the demo.
fn done(list: &str) -> Result<Option<Job>> {
    let list: serde_json::Value = serde_json::from_str(list).context("cannot read the jobs")?;
    if let Some(routed) = list["without_jobs"].get(0) {
        bail!("nothing runs on the study: {}", routed["detail"].as_str().unwrap_or_default());
    }
    let job = &list["jobs"][0];
    match job["state"].as_str() {
        None | Some("queued" | "gated" | "running") => Ok(None),
        Some("done") => {
            let text =
                |key: &str| job[key].as_str().map(str::to_owned).with_context(|| format!("the job has no {key}"));
            let (module, study, result) = (text("module")?, text("study_instance_uid")?, text("result_path")?);
            Ok(Some(Job { id: job["id"].as_i64().context("the job has no id")?, module, study, result }))
        }
        Some(state) => bail!("the job is {state}: {}", job["error"].as_str().unwrap_or_default()),
    }
}

/// When what happened, as the audit log tells it.
#[derive(Debug, PartialEq, Eq)]
struct Times {
    instances: usize,
    to_closed: Duration,
    to_result: Duration,
}

impl Times {
    /// From the lines of `gantry audit show --json` of one study.
    fn read(log: &str) -> Result<Self> {
        let rows: Vec<serde_json::Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let last = |action: &str| {
            let row =
                rows.iter().rfind(|row| row["action"] == action).with_context(|| format!("no row of {action}"))?;
            row["at"].as_str().and_then(time_of_day).with_context(|| format!("{action} has no time"))
        };
        let (stored, closed, done) = (last("instance-stored")?, last("study-closed")?, last("job-done")?);
        Ok(Self {
            instances: rows.iter().filter(|row| row["action"] == "instance-stored").count(),
            to_closed: since(stored, closed),
            to_result: since(stored, done),
        })
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [closed, result] = [self.to_closed, self.to_result].map(|time| time.as_secs_f64());
        write!(f, "From the last of {} images to the result: {result:.2} s, ", self.instances)?;
        write!(f, "and {closed:.2} s of these until the study was known to be whole")
    }
}

/// The time of day of `2024-01-02T03:04:05.678Z`.
fn time_of_day(at: &str) -> Option<Duration> {
    let mut parts = at.split_once('T')?.1.strip_suffix('Z')?.split(':');
    let mut part = || parts.next()?.parse::<f64>().ok();
    Duration::try_from_secs_f64(part()? * 3600.0 + part()? * 60.0 + part()?).ok()
}

/// From one time of day to a later one, past midnight too.
fn since(earlier: Duration, later: Duration) -> Duration {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    later.checked_sub(earlier).unwrap_or_else(|| (later + DAY).saturating_sub(earlier))
}

fn show(repository: &Repository, out: &Path) -> Result<()> {
    heading("done: what came out");
    let files = files_below(out).with_context(|| format!("cannot list {}", out.display()))?;
    for file in &files {
        println!("  {}  ({})", repository.short(file), size(fs::metadata(file)?.len()));
    }
    let path = out.join(RESULT);
    let result = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    println!("\nIt measured:");
    for (organ, millilitres) in volumes(&result).with_context(|| format!("cannot read {}", path.display()))? {
        println!("  {organ:<12}{millilitres:>8.1} mL");
    }
    match files.iter().find(|file| file.ends_with(PICTURE)) {
        Some(picture) => println!("\nLook at it: {}", picture.display()),
        None => bail!("gantry wrote no {PICTURE} to {}", out.display()),
    }
    Ok(())
}

/// The segments of a `result.json` that the host found voxels of, and their volumes in mL.
fn volumes(result: &str) -> Result<Vec<(String, f64)>> {
    let result: serde_json::Value = serde_json::from_str(result)?;
    let segments = result["findings"]["segments"].as_array().context("findings.segments is missing")?;
    let volume =
        |segment: &serde_json::Value| Some((segment["name"].as_str()?.to_owned(), segment["millilitres"].as_f64()?));
    let volumes: Option<Vec<_>> = segments.iter().map(volume).collect();
    let volumes = volumes.context("a segment has no name or no millilitres")?;
    Ok(volumes.into_iter().filter(|(_, millilitres)| *millilitres > 0.0).collect())
}

/// Every file below `folder`, by name.
fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files_below(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of a result that the demo reads.
    const FOUND: &str = r#"{"findings": {"segments": [
        {"value": 1, "name": "Liver", "millilitres": 646.9}, {"value": 3, "name": "Kidneys", "millilitres": 0.0}
    ]}}"#;

    fn repository(name: &str) -> Repository {
        let root = std::env::temp_dir().join(format!("gantry-demo-{name}-{}", std::process::id()));
        assets::remove_folder(&root).expect("a clean start");
        fs::create_dir_all(root.join(OUT).join("sub")).expect("a folder");
        Repository { target: root.join("target"), root }
    }

    #[test]
    fn files_are_listed_from_all_folders() {
        let repository = repository("list");
        let out = repository.root.join(OUT);
        for (file, text) in [("sub/seg.dcm", "x"), (PICTURE, "x"), (RESULT, FOUND)] {
            fs::write(out.join(file), text).expect("a file");
        }
        let expected = [PICTURE, RESULT, "sub/seg.dcm"].map(|file| out.join(file));
        assert_eq!(files_below(&out).expect("a listing"), expected);
        show(&repository, &out).expect("the picture is there");
        assets::remove_folder(&repository.root).expect("cleaned up");
    }

    /// A node whose sender is there or not; nothing of it is run.
    fn node(repository: &Repository, sender: Option<&str>) -> String {
        let sender = sender.map(PathBuf::from);
        let node = Node { repository, profile: Profile::Development, out: repository.root.join(OUT), sender };
        assert_eq!(node.gantry("job", &["list"]).line(), "gantry job list --config target/demo/gantry.toml");
        node.configuration()
    }

    #[test]
    fn images_come_by_dcmsend_or_through_a_folder() {
        let repository = Repository { root: "/repo".into(), target: "/repo/target".into() };
        let with = node(&repository, Some("/usr/bin/dcmsend"));
        assert!(with.contains("ae_title = \"DCMSEND\"") && !with.contains("[folder]"), "{with}");
        let without = node(&repository, None);
        assert!(without.contains("path = \"/repo/target/demo/in\"") && !without.contains("[dimse]"), "{without}");
        for part in ["data_folder = \"/repo/target/demo/data\"", "package = \"/repo/modules/ct-organs/package\""] {
            assert!(with.contains(part) && without.contains(part), "{with}");
        }
        assert_eq!(port(r#"{"dimse":"127.0.0.1:40211","web":null}"#).expect("a port"), 40211);
        assert!(port(r#"{"dimse":null,"web":null}"#).is_err());
    }

    #[test]
    fn a_job_is_waited_for_until_it_is_done_or_will_not_be() {
        let list = |jobs: &str, without: &str| done(&format!(r#"{{"jobs": [{jobs}], "without_jobs": [{without}]}}"#));
        assert_eq!(list("", "").expect("not yet"), None);
        assert_eq!(list(r#"{"state": "running"}"#, "").expect("not yet"), None);
        let job = r#"{"id": 1, "state": "done", "module": "m", "study_instance_uid": "2.25.2", "result_path": "r/v1"}"#;
        let expected = Job { id: 1, module: "m".into(), study: "2.25.2".into(), result: "r/v1".into() };
        assert_eq!(list(job, "").expect("done"), Some(expected));
        let error = list(r#"{"state": "failed", "error": "a limit"}"#, "").expect_err("it failed");
        assert_eq!(error.to_string(), "the job is failed: a limit");
        let error = list("", r#"{"outcome": "nothing-to-run", "detail": "no module"}"#).expect_err("nothing to run");
        assert!(error.to_string().contains("no module"));
        assert!(done("no JSON").is_err());
    }

    #[test]
    fn times_are_those_of_the_audit_log_past_midnight_too() {
        let row = |at: &str, action: &str| format!("{{\"at\": \"2024-01-0{at}Z\", \"action\": \"{action}\"}}\n");
        let stored = [row("1T23:59:58.000", "instance-stored"), row("1T23:59:59.000", "instance-stored")].concat();
        let ended = [row("1T23:59:59.250", "study-closed"), row("2T00:00:01.500", "job-done")].concat();
        let times = Times::read(&format!("{stored}{ended}")).expect("readable");
        let milliseconds = [times.to_closed, times.to_result].map(|time| time.as_millis());
        assert_eq!((times.instances, milliseconds), (2, [250, 2500]));
        assert!(Times::read(&stored).is_err(), "no result yet");
    }

    #[test]
    fn volumes_are_those_of_what_was_found() {
        assert_eq!(volumes(FOUND).expect("readable"), [("Liver".to_owned(), 646.9)]);
        assert!(volumes("{}").is_err(), "not a result");
    }

    #[test]
    fn a_missing_picture_fails_the_demo() {
        let repository = repository("missing");
        fs::write(repository.root.join(OUT).join(RESULT), FOUND).expect("a file");
        let error = show(&repository, &repository.root.join(OUT)).expect_err("no picture");
        assert!(error.to_string().contains(PICTURE));
        assets::remove_folder(&repository.root).expect("cleaned up");
    }
}
