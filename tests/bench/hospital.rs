//! The busiest hour of a large hospital, in less time: whether a node takes it all in, loses nothing, and stays small.
//!
//! Studies come due evenly over the time that there is, the kinds mixed as they are counted. Each has an association of
//! its own, and a few senders take what is due. Images are made as they are sent, by processors that the node shares.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gantry::store::{InstanceRow, Store};
use gantry_tests::dimse::data_set;
use gantry_tests::node::{NODE_TITLE, Node};
use sha2::{Digest, Sha256};

use crate::Built;
use crate::report::Report;
use crate::sender::Sender;
use crate::synthetic::{Kind, Study};

/// What comes in one hour: studies of a kind, and images of each; radiographs have one or two.
const HOUR: [(Kind, usize, usize); 4] =
    [(Kind::Radiograph, 120, 1), (Kind::Ultrasound, 50, 20), (Kind::Ct, 30, 300), (Kind::Mr, 25, 200)];
const MINUTES_OF_HOUR: f64 = 60.0;
/// How often the node's memory is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Memory is told for as many parts of the time.
const PARTS: usize = 4;
/// A node keeps up when it is done this much later than the time that there is, and no more.
const LATE_MAX: f64 = 1.05;
const MIB: f64 = 1048576.0;

/// How much to send.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The hour is sent in so much less time.
    #[arg(long, default_value_t = 60.0)]
    times: f64,
    /// How long it is sent, by a clock on the wall: fewer studies, or more, as often [default: 60 / TIMES]
    #[arg(long)]
    minutes: Option<f64>,
    /// Associations at once.
    #[arg(long, default_value_t = 8)]
    associations: usize,
    #[command(flatten)]
    pub(crate) built: Built,
}

/// What senders share.
struct Load {
    studies: Vec<Study>,
    between: Duration,
    begun: Instant,
    next: AtomicUsize,
    /// By SOP Instance UID: the digest of the data set.
    sent: Mutex<BTreeMap<String, [u8; 32]>>,
    bytes: AtomicUsize,
    /// The longest that a study had to wait for a sender.
    late: Mutex<Duration>,
}

/// Resident memory over time.
struct Memory {
    resident: Vec<u64>,
    peak: u64,
}

/// Sends, checks and reports.
pub(crate) fn measure(below: &Path, gantry: &Path, options: &Options, report: &mut Report) -> Result<()> {
    ensure!(options.times > 0.0, "--times must be above 0");
    let minutes = options.minutes.unwrap_or(MINUTES_OF_HOUR / options.times);
    let hours = minutes * options.times / MINUTES_OF_HOUR;
    let studies = mixed(hours);
    ensure!(!studies.is_empty(), "no study comes in so little time: raise --minutes or --times");
    let images: usize = studies.iter().map(|study| study.images).sum();
    let period = Duration::from_secs_f64(minutes * 60.0);
    let node = Node::of(gantry, below, "")?;
    let load = Load {
        between: period / u32::try_from(studies.len())?,
        begun: Instant::now(),
        next: AtomicUsize::new(0),
        sent: Mutex::default(),
        bytes: AtomicUsize::new(0),
        late: Mutex::default(),
        studies,
    };
    let (took, memory) = run(&node, &load, options.associations.max(1))?;

    let (count, bytes) = (load.studies.len(), load.bytes.load(Ordering::Relaxed) as f64);
    let seconds = took.as_secs_f64();
    let note = format!("{hours:.3} h × {}: {count} studies, {images} images in {minutes:.2} min", options.times);
    report.told("hospital, images sent", images as f64, "", note);
    report.told("hospital, rate", images as f64 / seconds, "/s", format!("{:.1} MB/s", bytes / 1e6 / seconds));
    let note = format!("{seconds:.1} s for {:.1} s: {}", period.as_secs_f64(), verdict(took, period));
    report.wanted("hospital, time taken / time there is", seconds / period.as_secs_f64(), "", (LATE_MAX, None), note);
    let late = load.late.lock().expect("nobody failed").as_secs_f64();
    let note = format!("the longest that a study waited for one of {} associations", options.associations);
    report.told("hospital, behind at most", late, "s", note);
    let missing = lost(&node, &load)?;
    let note = format!("of {images} acknowledged: no row, no file, or another digest of file or data set");
    report.wanted("hospital, lost", missing as f64, "", (0.0, None), note);
    memory.reported(report);
    Ok(())
}

fn verdict(took: Duration, period: Duration) -> &'static str {
    if took.as_secs_f64() <= period.as_secs_f64() * LATE_MAX { "it keeps up" } else { "it does not keep up" }
}

/// The studies of so many hours, in the order in which they come due: each kind evenly spread.
fn mixed(hours: f64) -> Vec<Study> {
    let mut due: Vec<(f64, Study)> = Vec::new();
    for (kind, of_hour, images) in HOUR {
        let count = (of_hour as f64 * hours).round() as usize;
        for index in 0..count {
            let images = if kind == Kind::Radiograph { images + index % 2 } else { images };
            due.push(((index as f64 + 0.5) / count as f64, Study { kind, number: 0, images }));
        }
    }
    due.sort_by(|a, b| a.0.total_cmp(&b.0));
    (0..).zip(due).map(|(number, (_, study))| Study { number, ..study }).collect()
}

/// Sends everything while the node's memory is watched; how long it took.
fn run(node: &Node, load: &Load, associations: usize) -> Result<(Duration, Memory)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| Memory::watch(node.pid(), &over));
        let senders: Vec<_> = (0..associations).map(|_| scope.spawn(|| send(node, load))).collect();
        let sent = senders.into_iter().try_for_each(|sender| sender.join().expect("a sender does not panic"));
        let took = load.begun.elapsed();
        over.store(true, Ordering::Relaxed);
        let memory = watching.join().expect("watching does not panic");
        sent.map(|()| (took, memory)).with_context(|| format!("the node's log:\n{}", node.log()))
    })
}

/// Takes what comes due, until nothing is left.
fn send(node: &Node, load: &Load) -> Result<()> {
    loop {
        let index = load.next.fetch_add(1, Ordering::Relaxed);
        let Some(study) = load.studies.get(index) else { return Ok(()) };
        let due = load.begun + load.between * u32::try_from(index)?;
        match due.checked_duration_since(Instant::now()) {
            Some(early) => std::thread::sleep(early),
            None => {
                let mut late = load.late.lock().expect("nobody failed");
                *late = due.elapsed().max(*late);
            }
        }
        let mut sender = Sender::associate(node.dimse, NODE_TITLE, &[study.kind.class()])?;
        for index in 0..study.images {
            let image = study.image(index)?;
            sender.store(&image)?;
            load.bytes.fetch_add(image.data_set.len(), Ordering::Relaxed);
            let digest = Sha256::digest(&image.data_set).into();
            load.sent.lock().expect("nobody failed").insert(image.uid, digest);
        }
        sender.release()?;
    }
}

/// How many images were acknowledged and are not kept as they were sent.
fn lost(node: &Node, load: &Load) -> Result<usize> {
    let sent = load.sent.lock().expect("nobody failed");
    let rows = rows(node, &load.studies)?;
    let whole = |row: &InstanceRow| {
        let path = node.data().join(&row.path);
        let file = std::fs::read(&path).unwrap_or_default();
        <[u8; 32]>::from(Sha256::digest(&file)) == row.sha256
            && sent.get(&row.sop_instance_uid).is_some_and(|digest| Sha256::digest(data_set(&path))[..] == *digest)
    };
    let whole = rows.iter().filter(|row| whole(row)).count();
    ensure!(rows.len() <= sent.len(), "{} rows for {} images", rows.len(), sent.len());
    Ok(sent.len() - whole)
}

fn rows(node: &Node, studies: &[Study]) -> Result<Vec<InstanceRow>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open_to_read(&node.data()).await?;
        let mut rows = Vec::new();
        for study in studies {
            rows.extend(store.instances_of_study(&study.uid()).await?);
        }
        store.close().await;
        Ok(rows)
    })
}

impl Memory {
    fn watch(pid: u32, over: &AtomicBool) -> Self {
        let mut memory = Self { resident: Vec::new(), peak: 0 };
        loop {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            memory.resident.push(bytes_of(&status, "VmRSS:"));
            memory.peak = bytes_of(&status, "VmHWM:");
            if over.load(Ordering::Relaxed) {
                return memory;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn reported(&self, report: &mut Report) {
        let mib = |bytes: u64| bytes as f64 / MIB;
        let part = self.resident.len().div_ceil(PARTS).max(1);
        let parts: Vec<u64> = self.resident.chunks(part).filter_map(|part| part.iter().copied().max()).collect();
        let each = parts.iter().map(|bytes| format!("{:.0}", mib(*bytes))).collect::<Vec<_>>().join(" ");
        let (first, last) = (self.resident.first().copied(), self.resident.last().copied());
        report.told("hospital, memory at start", mib(first.unwrap_or(0)), "MiB", "resident");
        report.told("hospital, memory at its peak", mib(self.peak), "MiB", format!("most in each part: {each}"));
        report.told(
            "hospital, memory at the end",
            mib(last.unwrap_or(0)),
            "MiB",
            "resident, when all was acknowledged",
        );
    }
}

/// A line of `/proc/<pid>/status`.
fn bytes_of(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
