//! The busiest hour of a large hospital, in less time: whether a node takes it all in, loses nothing, and stays small.
//!
//! Studies come due evenly over the time that there is, the kinds mixed as they are counted. Each has an association of
//! its own, and a few senders take what is due. Images are made as they are sent, by processors that the node shares.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
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
/// The most memory of the last part over that of the second: the first is for what grows once.
const GROWTH_MAX: f64 = 1.1;
/// How long each run of a search takes.
const SEARCH_MINUTES: f64 = 0.5;
/// In so short a run the last studies, which may only just have begun, are this much of the time more.
const TAIL: f64 = 0.1;
/// A search ends when what is too much is at most this times what is held.
const NEAR: f64 = 1.1;
const MIB: f64 = 1048576.0;

/// How much to send.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The hour is sent in so much less time.
    #[arg(long, default_value_t = 60.0)]
    times: f64,
    /// How long it is sent, by a clock on the wall: fewer studies, or more, as often [default: 60 / TIMES; 0.5 with --find]
    #[arg(long)]
    minutes: Option<f64>,
    /// Look for the most times that the node keeps up with, by short runs: doubling from TIMES, then halving what is left.
    #[arg(long)]
    find: bool,
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

/// What came of one run.
struct Ran {
    studies: usize,
    images: usize,
    bytes: f64,
    period: Duration,
    took: Duration,
    /// The longest that a study had to wait for a sender.
    late: Duration,
    lost: usize,
    memory: Memory,
}

/// Sends, checks and reports.
pub(crate) fn measure(
    below: &Path,
    gantry: &Path,
    options: &Options,
    processors: usize,
    report: &mut Report,
) -> Result<()> {
    ensure!(options.times > 0.0, "--times must be above 0");
    let once = |times: f64, minutes: f64| once(below, gantry, times, minutes, options.associations.max(1));
    if options.find {
        return find(options, processors, once, report);
    }
    let minutes = options.minutes.unwrap_or(MINUTES_OF_HOUR / options.times);
    let ran = once(options.times, minutes)?;
    let Ran { studies, images, .. } = ran;
    let (seconds, there_is) = (ran.took.as_secs_f64(), ran.period.as_secs_f64());
    let hours = minutes * options.times / MINUTES_OF_HOUR;
    let note = format!("{hours:.3} h × {}: {studies} studies, {images} images in {minutes:.2} min", options.times);
    report.told("hospital, images sent", images as f64, "", note);
    ran.rate(report);
    let verdict = if seconds <= there_is * LATE_MAX { "it keeps up" } else { "it does not keep up" };
    let note = format!("{seconds:.1} s for {there_is:.1} s: {verdict}");
    report.wanted("hospital, time taken / time there is", seconds / there_is, "", (LATE_MAX, None), note);
    let note = format!("the longest that a study waited for one of {} associations", options.associations);
    report.told("hospital, behind at most", ran.late.as_secs_f64(), "s", note);
    lost_of(images, ran.lost, report);
    ran.memory.reported(report);
    Ok(())
}

/// The most times that the node keeps up with.
fn find(
    options: &Options,
    processors: usize,
    once: impl Fn(f64, f64) -> Result<Ran>,
    report: &mut Report,
) -> Result<()> {
    let minutes = options.minutes.unwrap_or(SEARCH_MINUTES);
    let mut search = Search { next: Some(options.times), ..Search::default() };
    let (mut best, mut runs, mut images, mut lost) = (None, 0, 0, 0);
    while let Some(times) = search.next {
        let ran = once(times, minutes)?;
        let holds = ran.holds();
        let (verdict, took) = (if holds { "held" } else { "too much" }, ran.took.as_secs_f64());
        eprintln!("× {times:.1}: {verdict}, in {took:.1} s and behind by {:.1} s at most", ran.late.as_secs_f64());
        (runs, images, lost) = (runs + 1, images + ran.images, lost + ran.lost);
        search.tried(times, holds);
        if holds {
            best = Some(ran);
        }
    }
    let cores = match processors {
        1 => "one core holds".to_owned(),
        2 => "two cores hold".to_owned(),
        n => format!("{n} cores hold"),
    };
    let note = match search.failed {
        Some(failed) => format!("{runs} runs of {:.0} s; × {failed:.1} is too much", minutes * 60.0),
        None => format!("{runs} runs of {:.0} s; more was not tried", minutes * 60.0),
    };
    report.told(&format!("hospital, N that {cores}"), search.held.unwrap_or(0.0), "", note);
    if let Some(best) = best {
        best.rate(report);
    }
    lost_of(images, lost, report);
    Ok(())
}

/// What is known of how much a node keeps up with.
#[derive(Debug, Default)]
struct Search {
    held: Option<f64>,
    failed: Option<f64>,
    /// What to try.
    next: Option<f64>,
}

impl Search {
    /// Less than the hour itself is of no use, and more than this no machine holds.
    const RANGE: RangeInclusive<f64> = 1.0..=1e5;

    fn tried(&mut self, times: f64, holds: bool) {
        *(if holds { &mut self.held } else { &mut self.failed }) = Some(times);
        self.next = match (self.held, self.failed) {
            (Some(held), None) => Some(held * 2.0),
            (None, Some(failed)) => Some(failed / 2.0),
            // What is left is a ratio.
            (Some(held), Some(failed)) if failed / held > NEAR => Some((held * failed).sqrt()),
            _ => None,
        };
        self.next = self.next.filter(|next| Self::RANGE.contains(next));
    }
}

/// Sends for so many minutes.
fn once(below: &Path, gantry: &Path, times: f64, minutes: f64, associations: usize) -> Result<Ran> {
    let studies = mixed(minutes * times / MINUTES_OF_HOUR);
    ensure!(!studies.is_empty(), "no study comes in so little time: raise --minutes or --times");
    let images = studies.iter().map(|study| study.images).sum();
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
    let (took, memory) = run(&node, &load, associations)?;
    let lost = lost(&node, &load)?;
    let bytes = load.bytes.load(Ordering::Relaxed) as f64;
    let late = *load.late.lock().expect("nobody failed");
    Ok(Ran { studies: load.studies.len(), images, bytes, period, took, late, lost, memory })
}

impl Ran {
    fn rate(&self, report: &mut Report) {
        let seconds = self.took.as_secs_f64();
        let note = format!("{:.1} MB/s", self.bytes / 1e6 / seconds);
        report.told("hospital, rate", self.images as f64 / seconds, "/s", note);
    }

    /// Whether each study began about when it came due, and the last ones ended soon after.
    fn holds(&self) -> bool {
        let there_is = self.period.as_secs_f64();
        let begun = self.late.as_secs_f64() <= there_is * (LATE_MAX - 1.0);
        begun && self.took.as_secs_f64() <= there_is * (LATE_MAX + TAIL) && self.lost == 0
    }
}

fn lost_of(images: usize, lost: usize, report: &mut Report) {
    let note = format!("of {images} acknowledged: no row, no file, or another digest of file or data set");
    report.wanted("hospital, lost", lost as f64, "", (0.0, None), note);
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
        if let ([_, second, .., last_part], true) = (parts.as_slice(), parts.len() == PARTS) {
            let note = "the most that was resident in each; flat, whatever came in between";
            let growth = mib(*last_part) / mib(*second).max(1.0);
            report.wanted("hospital, memory in the last part / second", growth, "", (GROWTH_MAX, None), note);
        }
    }
}

/// A line of `/proc/<pid>/status`.
fn bytes_of(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
