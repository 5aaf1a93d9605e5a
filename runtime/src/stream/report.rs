//! What is told of streams: counts, times, and what modules said.

use std::fmt;

use serde::Serialize;

use super::percentiles::Percentiles;
use crate::findings::Code;
use crate::findings::frames::{Conclusion, FrameAnswer, StreamQuantity};

/// Name and version of the format.
pub const SCHEMA: &str = "gantry.stream/1";

/// How frames ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Lent to the module.
    pub given: u64,
    /// Answered in time, with an answer that fits.
    pub answered: u64,
    /// Never lent: a later one came before the module was done.
    pub dropped: u64,
    /// Lent, and not answered within the frame budget.
    pub missed: u64,
    /// Of these, the module was ended in the middle of them.
    pub interrupted: u64,
    /// Answered with what does not fit.
    pub refused: u64,
    /// Answered with an error, or by a trap.
    pub failed: u64,
    /// How often the module was begun anew.
    pub restarts: u32,
}

/// A code of guidance, and for how many frames it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guidance {
    /// What whoever holds the probe may do.
    pub code: Code,
    /// For so many frames.
    pub frames: u64,
}

impl Guidance {
    pub(super) fn is(&self, code: &Code) -> bool {
        (&self.code.scheme, &self.code.value) == (&code.scheme, &code.value)
    }
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OneStream {
    /// How frames ended.
    #[serde(flatten)]
    pub counts: Counts,
    /// From the first frame to the last answer.
    pub seconds: f64,
    /// Before its end, by somebody.
    pub stopped: bool,
    /// From when the module could have had a frame to the end of it, with what it waited for the module.
    pub latency_ms: Percentiles,
    /// The mean difference of the latencies of frames one after another.
    pub jitter_ms: f64,
    /// Within the module.
    pub module_ms: Percentiles,
    /// Decoding a frame, ahead of time: in no latency.
    pub decoding_ms: Percentiles,
    /// How much later than it was due a frame was decoded or played: the host's fault.
    pub late_ms: Percentiles,
    /// Of what the module said of frames; none where it said nothing.
    pub quality_mean: Option<f64>,
    /// The most frequent first.
    pub guidance: Vec<Guidance>,
    /// Why the first frame was not answered that was not.
    pub first_fault: Option<String>,
    /// What the module concluded.
    pub conclusions: Vec<Conclusion>,
    /// What it measured.
    pub quantities: Vec<StreamQuantity>,
}

/// All streams of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Name of the module.
    pub module: String,
    /// Its version.
    pub version: String,
    /// Not for clinical use.
    pub demonstration: bool,
    /// The limit of each frame.
    pub frame_budget_ms: u32,
    /// Frames a second that were played; none where each came as soon as the module was done.
    pub frames_per_second: Option<f64>,
    /// What said so: an attribute's keyword, or `--fps`.
    pub paced_by: &'static str,
    /// Frames of the image.
    pub frames: u32,
    /// How often they were played.
    pub repeat: u32,
    /// Columns and rows.
    pub size: [u32; 2],
    /// Whether pixels outside of the regions that the image states were black for the module. Where it states none, text that is
    /// burned into the image was there.
    pub blackened: bool,
    /// Each stream.
    pub streams: Vec<OneStream>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// What `result.json` says of a stream beside the findings.
#[derive(Debug, Clone, Serialize)]
pub struct StreamRecord {
    /// The image that was played.
    pub sop_instance_uid: String,
    /// How frames ended, and what was concluded.
    #[serde(flatten)]
    pub told: OneStream,
    /// What was said of each frame that was answered.
    pub answers: Vec<AnsweredFrame>,
}

/// What was said of one frame.
#[derive(Debug, Clone, Serialize)]
pub struct AnsweredFrame {
    /// Referenced Frame Number (0008,1160), from 1.
    pub frame: u32,
    /// What.
    #[serde(flatten)]
    pub answer: FrameAnswer,
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.module, self.version)?;
        if self.demonstration {
            writeln!(f, "  a demonstration, not for clinical use")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        let [columns, rows] = self.size;
        write!(f, "  {} frames of {columns} × {rows}", self.frames)?;
        if self.repeat > 1 {
            write!(f, ", {} times", self.repeat)?;
        }
        match self.frames_per_second {
            Some(rate) => writeln!(f, ", {rate:.1} a second ({})", self.paced_by)?,
            None => writeln!(f, ", each when the one before was done")?,
        }
        for (index, stream) in self.streams.iter().enumerate() {
            if self.streams.len() > 1 {
                writeln!(f, "  stream {}", index + 1)?;
            }
            stream.tell(f, self.frame_budget_ms)?;
        }
        Ok(())
    }
}

impl OneStream {
    fn tell(&self, f: &mut fmt::Formatter<'_>, budget_ms: u32) -> fmt::Result {
        let c = &self.counts;
        let stopped = if self.stopped { ", stopped before its end" } else { "" };
        writeln!(f, "  answered   {} of {} frames given in {:.1} s{stopped}", c.answered, c.given, self.seconds)?;
        writeln!(
            f,
            "  not        {} dropped, {} missed the budget of {budget_ms} ms, {} failed, {} refused; {} restarts",
            c.dropped, c.missed, c.failed, c.refused, c.restarts
        )?;
        if let Some(fault) = &self.first_fault {
            writeln!(f, "             the first: {fault}")?;
        }
        writeln!(f, "{:13}{:>9} {:>9} {:>9} {:>9}", "  ms", "p50", "p90", "p99", "max")?;
        for (name, p) in [
            ("latency", self.latency_ms),
            ("module", self.module_ms),
            ("decoding", self.decoding_ms),
            ("late", self.late_ms),
        ] {
            writeln!(f, "  {name:<11}{:>9.2} {:>9.2} {:>9.2} {:>9.2}", p.p50, p.p90, p.p99, p.max)?;
        }
        writeln!(f, "  jitter     {:>9.2}", self.jitter_ms)?;
        if let Some(quality) = self.quality_mean {
            writeln!(f, "  quality    {quality:>9.2} in the mean")?;
        }
        for guidance in &self.guidance {
            writeln!(f, "  guidance   {} ({} frames)", guidance.code.meaning, guidance.frames)?;
        }
        for c in &self.conclusions {
            writeln!(f, "  {} (probability {:.2}{})", c.finding.meaning, c.probability, named(&c.frames))?;
        }
        for q in &self.quantities {
            writeln!(f, "  {:<24} {:>10.2} {}{}", q.quantity.meaning, q.value, q.unit, named(&q.frames))?;
        }
        Ok(())
    }
}

/// Which frames, the first few.
fn named(frames: &[u32]) -> String {
    const SHOWN: usize = 8;
    let first: Vec<String> = frames.iter().take(SHOWN).map(u32::to_string).collect();
    match frames.len() {
        0 => String::new(),
        1 => format!(", frame {}", first.join("")),
        n if n > SHOWN => format!(", frames {} and {} more", first.join(", "), n - SHOWN),
        _ => format!(", frames {}", first.join(", ")),
    }
}
