//! How fast images come in: a CT of many slices, by a sender that stalls and by two that do not, over one association
//! and over four; ours, which is durable, beside receivers that are not.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::receivers::{Receiver, Software};
use crate::report::{Report, median};
use crate::sender::Sender;
use crate::synthetic::{Image, Kind, Study};
use crate::{Built, disk, latency, peers};

/// Associations at once.
const ASSOCIATIONS: [usize; 2] = [1, 4];
/// Beside the receivers' names.
const DISK: &str = "disk alone";

/// How much to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Slices of the study.
    #[arg(long, default_value_t = 400)]
    slices: usize,
    /// How often each way of sending is measured; medians count. What was received stays until the end: 210 MB of 400 slices each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only this sender.
    #[arg(long, value_enum)]
    only: Option<By>,
    /// Leave out storescp and Orthanc.
    #[arg(long)]
    no_peers: bool,
    /// Studies for the time from the last acknowledgement to the module; 0 leaves it out.
    #[arg(long, default_value_t = 9)]
    studies: usize,
    #[command(flatten)]
    pub(crate) built: Built,
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum By {
    /// DCMTK's `dcmsend`, which waits for acknowledgements twice an image where they are delayed.
    Dcmsend,
    /// pynetdicom with Nagle's algorithm off, which acknowledges at once.
    Pynetdicom,
    /// Ours, which does the same and takes less of the processors.
    Sender,
}

/// One way of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    by: By,
    associations: usize,
}

/// The study in memory, and in one folder for each association.
struct Material {
    study: Study,
    images: Vec<Image>,
    folders: BTreeMap<usize, Vec<PathBuf>>,
    _files: TempDir,
}

/// Measures and reports.
pub(crate) fn measure(below: &Path, gantry: &Path, options: &Options, report: &mut Report) -> Result<()> {
    // All that was kept goes when everything is measured: some GB.
    let kept = tempfile::tempdir_in(below)?;
    let material = Material::make(kept.path(), options.slices)?;
    let mut rates: BTreeMap<(Way, &str), Vec<f64>> = BTreeMap::new();
    let senders =
        [By::Dcmsend, By::Pynetdicom, By::Sender].into_iter().filter(|by| options.only.is_none_or(|only| only == *by));
    let ways = senders.flat_map(|by| ASSOCIATIONS.map(|associations| Way { by, associations }));
    let software = if options.no_peers { &Software::ALL[..1] } else { &Software::ALL };
    for way in ways.collect::<Vec<_>>() {
        for round in 0..options.rounds.max(1) {
            rates.entry((way, DISK)).or_default().push(disk_alone(kept.path(), &material, way.associations)?);
            for turn in 0..software.len() {
                // Each is first as often as the others.
                let one = software[(round + turn) % software.len()];
                let measured = match images_per_second(way, one, &material, gantry, kept.path()) {
                    // Seen now and then with pynetdicom, which then tells an empty status.
                    Err(e) if one != Software::Gantry => {
                        report.skip(format!("{way} into {}, round {}: {e:#}", one.name(), round + 1));
                        continue;
                    }
                    measured => measured?,
                };
                match measured {
                    Some(rate) => rates.entry((way, one.name())).or_default().push(rate),
                    None if round == 0 => report.skip(format!("{way}: the sender or {} is not installed", one.name())),
                    None => {}
                }
            }
        }
        reported(way, &rates, report);
    }
    drop(material);
    latency::measure(below, gantry, options.slices, options.studies, report)
}

/// What the disk does with the steps that make an instance durable, and nothing else: files a second.
fn disk_alone(below: &Path, material: &Material, writers: usize) -> Result<f64> {
    let file = material.images.first().context("a study has an image")?.file()?;
    settle();
    disk::durable_files_per_second(below, &file, writers, material.images.len() / writers)
}

/// Medians, ratios and targets.
fn reported(way: Way, rates: &BTreeMap<(Way, &str), Vec<f64>>, report: &mut Report) {
    let rate = |name: &'static str| rates.get(&(way, name)).map(|all| (median(all), all));
    for name in [DISK].into_iter().chain(Software::ALL.map(Software::name)) {
        if let Some((value, all)) = rate(name) {
            let spread = all.iter().map(|r| format!("{r:.0}")).collect::<Vec<_>>().join(" ");
            report.told(&format!("{way}, {name}"), value, "/s", format!("images; rounds: {spread}"));
        }
    }
    let Some((ours, _)) = rate(Software::Gantry.name()) else { return };
    for peer in [Software::Storescp, Software::Orthanc] {
        let least = match (way.by, way.associations, peer) {
            (By::Dcmsend, 1, _) => 10.0,
            (By::Pynetdicom | By::Sender, _, Software::Storescp) => 0.5,
            _ => 2.0,
        };
        if let Some((theirs, _)) = rate(peer.name()) {
            let name = format!("{way}, Gantry / {}", peer.name());
            report.at_least(&name, ours / theirs, "", least, "medians; ours is durable when it answers");
        }
    }
    if let Some((disk, _)) = rate(DISK) {
        let note = "write, fsync, rename, fsync folder, append and fsync journal, by as many writers as associations";
        report.told(&format!("{way}, Gantry / {DISK}"), ours / disk, "", note);
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = match self.by {
            By::Dcmsend => "dcmsend",
            By::Pynetdicom => "pynetdicom",
            By::Sender => "no stall",
        };
        write!(f, "{by} × {}", self.associations)
    }
}

impl Material {
    fn make(below: &Path, slices: usize) -> Result<Self> {
        let study = Study { kind: Kind::Ct, number: 0, images: slices };
        let images = (0..slices).map(|index| study.image(index)).collect::<Result<Vec<_>>>()?;
        let files = tempfile::tempdir_in(below)?;
        let mut folders = BTreeMap::new();
        for associations in ASSOCIATIONS {
            let parts = (0..associations).map(|part| files.path().join(format!("{associations}-{part}")));
            let parts: Vec<PathBuf> = parts.collect();
            parts.iter().try_for_each(std::fs::create_dir)?;
            for (index, image) in images.iter().enumerate() {
                std::fs::write(parts[index % associations].join(format!("{index:04}.dcm")), image.file()?)?;
            }
            folders.insert(associations, parts);
        }
        Ok(Self { study, images, folders, _files: files })
    }
}

/// What others left to be written must not be written while somebody is measured.
fn settle() {
    rustix::fs::sync();
}

/// One measurement; nothing where the software is not installed.
fn images_per_second(
    way: Way,
    software: Software,
    material: &Material,
    gantry: &Path,
    below: &Path,
) -> Result<Option<f64>> {
    let Some(receiver) = software.start(gantry, below)? else { return Ok(None) };
    settle();
    let folders = &material.folders[&way.associations];
    let begun = Instant::now();
    let sent = match way.by {
        By::Dcmsend => dcmsend(&receiver, folders)?.then(|| begun.elapsed().as_secs_f64()),
        By::Pynetdicom => pynetdicom(&receiver, folders)?,
        By::Sender => {
            send(receiver.address()?, receiver.title(), &material.images, way.associations)?;
            Some(begun.elapsed().as_secs_f64())
        }
    };
    let Some(seconds) = sent else { return Ok(None) };
    receiver.keeps(&material.study).with_context(|| format!("{way} into {}", software.name()))?;
    Ok(Some(material.images.len() as f64 / seconds))
}

/// A `dcmsend` for each folder; whether it is installed.
fn dcmsend(to: &Receiver, folders: &[PathBuf]) -> Result<bool> {
    let address = to.address()?;
    let mut senders: Vec<Child> = Vec::new();
    for folder in folders {
        let mut command = Command::new("dcmsend");
        command.args(["--quiet", "--scan-directories", "-aec", to.title(), &address.ip().to_string()]);
        command.arg(address.port().to_string()).arg(folder).stdin(Stdio::null());
        match command.spawn() {
            Ok(sender) => senders.push(sender),
            Err(_) => return Ok(false),
        }
    }
    for mut sender in senders {
        let status = sender.wait()?;
        ensure!(status.success(), "dcmsend failed: {status}");
    }
    Ok(true)
}

/// An association of pynetdicom for each folder; how many seconds it sent, if it is installed.
fn pynetdicom(to: &Receiver, folders: &[PathBuf]) -> Result<Option<f64>> {
    let address = to.address()?;
    let arguments = [address.ip().to_string(), address.port().to_string(), to.title().to_owned()];
    let arguments = arguments.iter().map(OsStr::new).chain(folders.iter().map(|folder| folder.as_os_str()));
    match peers::python("bench_send.py", arguments)? {
        Ok(told) => Ok(Some(told["seconds"].as_f64().context("bench_send.py tells no seconds")?)),
        Err(_) => Ok(None),
    }
}

/// Sends images over associations that each take every so manieth.
fn send(to: SocketAddr, title: &str, images: &[Image], associations: usize) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..associations)
            .map(|first| {
                scope.spawn(move || {
                    let mut sender = Sender::associate(to, title, &[Kind::Ct.class()])?;
                    images
                        .iter()
                        .skip(first)
                        .step_by(associations)
                        .try_for_each(|image| sender.store(image).map(drop))?;
                    sender.release()
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a sender does not panic"))
    })
}
