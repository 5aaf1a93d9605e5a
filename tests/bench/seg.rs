//! A SEG of three organs, written as a job writes it, beside highdicom, with the same labels on the same CT.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use gantry::outputs::{self, Content, Output, OutputKind, SEGMENTATION_FILE};
use gantry::study::ReadOptions;
use serde_json::{Value, json};

use crate::command::status_bytes;
use crate::organs::{Extent, Found, labels};
use crate::peers::Dialogue;
use crate::report::{Report, median};
use crate::study;

/// Slices of the CT.
pub(crate) const SLICES: usize = 300;
const MIB: f64 = 1048576.0;

/// What `outputs` starts: writes one SEG to a durable file, and tells what memory that took.
#[derive(Debug, clap::Args)]
pub(crate) struct Once {
    /// Where the SEG goes; made where it is missing.
    out: PathBuf,
    /// A folder with the CT, and a file with its labels; both are made up unless said otherwise.
    #[arg(num_args = 2)]
    of: Vec<PathBuf>,
}

/// Seconds of one round.
struct Round {
    memory: f64,
    file: f64,
}

/// Measures.
pub(crate) fn measure(below: &Path, rounds: usize, report: &mut Report) -> Result<()> {
    let ct = study::repeated(below, SLICES)?;
    let here = tempfile::tempdir_in(below)?;
    let mut peer = match Peer::start(&ct)? {
        Ok(peer) => Some(peer),
        Err(why) => {
            report.skip(format!("highdicom: {why}"));
            None
        }
    };
    for (extent, name) in [(Extent::OfABody, "as in a body"), (Extent::Everywhere, "on every slice")] {
        let here = here.path().join(format!("{extent:?}"));
        std::fs::create_dir(&here)?;
        of(&ct, &here, extent, name, rounds, peer.as_mut(), report)?;
    }
    Ok(())
}

fn of(
    ct: &Path,
    here: &Path,
    extent: Extent,
    name: &str,
    rounds: usize,
    peer: Option<&mut Peer>,
    report: &mut Report,
) -> Result<()> {
    let study = gantry::study::read(&[ct.to_owned()], &ReadOptions::default())?;
    let grid = &study.series.first().and_then(|series| series.volumes.first()).context("a volume")?.geometry;
    let labels = labels(grid, extent)?;
    let raw = here.join("labels.raw");
    std::fs::write(&raw, &labels)?;
    let found = Found::new(study, labels)?;
    memory(ct, &raw, &here.join("once"), name, report)?;
    let file = here.join("ours-0").join(SEGMENTATION_FILE);
    let (mut ours, mut of_labels, mut of_masks, mut peer) = (Vec::new(), Vec::new(), Vec::new(), peer);
    for round in 0..rounds.max(1) {
        if let Some(peer) = &mut peer {
            of_labels.push(peer.write("labels", &raw, &here.join("theirs.dcm"))?);
            of_masks.push(peer.write("masks", &raw, &here.join("theirs-of-masks.dcm"))?);
        }
        ours.push(write(&found, &here.join(format!("ours-{round}")))?);
    }
    let each = |rounds: &[Round], of: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>());
    let (memory, durable) = (each(&ours, &|r| r.memory), each(&ours, &|r| r.file));
    let megabytes = std::fs::metadata(&file)?.len() as f64 / 1e6;
    report.told(&format!("SEG {name}, to memory"), memory * 1e3, "ms", format!("{megabytes:.1} MB, gate and all"));
    report.told(&format!("SEG {name}, to a durable file"), durable * 1e3, "ms", "the same, with both fsyncs");
    let Some(peer) = peer else { return Ok(()) };
    let said = peer.compare(&raw, &[&file, &here.join("theirs.dcm"), &here.join("theirs-of-masks.dcm")])?;
    let all = said.as_array().context("a list")?;
    let frames = &all[0]["frames"];
    ensure!(all.iter().all(|seg| seg["equal"] == true && seg["frames"] == *frames), "not the same: {said}");
    let of = format!("{frames} frames, the same in all by highdicom; medians of {} rounds in turn", ours.len());
    for (theirs, given) in [(of_labels, "labels"), (of_masks, "masks")] {
        let (in_memory, in_file) = (each(&theirs, &|r| r.memory), each(&theirs, &|r| r.file));
        let note = format!("highdicom {in_memory:.2} s; {of}");
        let name_of = |to| format!("highdicom of {given} ÷ ours, {name}, {to}");
        report.at_least(&name_of("to memory"), in_memory / memory, "", 10.0, note);
        let note = format!("highdicom {in_file:.2} s, and its file is never synced");
        report.at_least(&name_of("to a file"), in_file / durable, "", 10.0, note);
    }
    Ok(())
}

/// Writes the SEG to memory and to a durable file, each from the findings on.
fn write(found: &Found, out: &Path) -> Result<Round> {
    let begun = Instant::now();
    let mut bytes = Vec::new();
    outputs::write_file(&found.seg(0)?, &mut bytes)?;
    let memory = begun.elapsed().as_secs_f64();
    drop(bytes);
    let begun = Instant::now();
    durable(found, out)?;
    Ok(Round { memory, file: begun.elapsed().as_secs_f64() })
}

fn durable(found: &Found, out: &Path) -> Result<()> {
    let content = Content::Dicom(Box::new(found.seg(0)?));
    outputs::write_all(out, vec![Output { file: SEGMENTATION_FILE.into(), kind: OutputKind::Segmentation, content }])?;
    Ok(())
}

/// What writing takes of memory, in a process that does nothing else.
fn memory(ct: &Path, raw: &Path, out: &Path, name: &str, report: &mut Report) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.arg("write-seg").arg(out).arg(ct).arg(raw).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "write-seg: {}", output.status);
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let mib = |name: &str| told[name].as_f64().unwrap_or(f64::NAN) / MIB;
    let note = format!(
        "VmHWM of a process of its own, reset before the gate, less what it had then: {:.0} MiB, of which {:.0} are the mask",
        mib("before"),
        mib("mask")
    );
    report.wanted(&format!("SEG {name}, memory for it"), mib("peak") - mib("before"), "MiB", (64.0, None), note);
    Ok(())
}

/// See [`Once`].
pub(crate) fn once(options: &Once) -> Result<()> {
    let (found, mask) = match options.of.as_slice() {
        [ct, labels] => {
            let study = gantry::study::read(std::slice::from_ref(ct), &ReadOptions::default())?;
            let labels = std::fs::read(labels)?;
            let mask = labels.len();
            (Found::new(study, labels)?, mask)
        }
        _ => Found::made_up()?,
    };
    // 5: the high-water mark begins anew (Linux, proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = status_bytes(&std::fs::read_to_string("/proc/self/status")?, "VmRSS:");
    durable(&found, &options.out)?;
    let peak = status_bytes(&std::fs::read_to_string("/proc/self/status")?, "VmHWM:");
    println!("{}", json!({ "before": before, "peak": peak, "mask": mask }));
    Ok(())
}

/// highdicom, with the headers of the study in memory.
struct Peer(Dialogue);

impl Peer {
    /// Starts it, or why it cannot run here.
    fn start(ct: &Path) -> Result<Result<Self, String>> {
        Ok(Dialogue::start("bench_seg.py", &[ct.as_os_str()])?.map(Self))
    }

    /// Of what it is given: labels or masks.
    fn write(&mut self, given: &str, raw: &Path, out: &Path) -> Result<Round> {
        let told = self.ask(given, raw, &[out])?;
        let seconds = |name: &str| told[name].as_f64().with_context(|| format!("{name}: {told}"));
        Ok(Round { memory: seconds("memory")?, file: seconds("file")? })
    }

    fn compare(&mut self, raw: &Path, files: &[&Path]) -> Result<Value> {
        self.ask("compare", raw, files)
    }

    fn ask(&mut self, what: &str, raw: &Path, paths: &[&Path]) -> Result<Value> {
        let paths = paths.iter().map(|path| format!("\t{}", path.display())).collect::<String>();
        self.0.ask(&format!("{what}\t{}{paths}", raw.display()))
    }
}
