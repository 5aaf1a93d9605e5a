//! What `gantry run` prints for people: what matters most first.

use std::fmt;
use std::path::Path;

use gantry::outputs::RESULT_FILE;
use gantry::outputs::result::{JobResult, Stated};

/// A result, and the folder that it lies in.
pub(crate) struct Summary<'a> {
    pub(crate) result: &'a JobResult,
    pub(crate) out: &'a Path,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = self.result;
        writeln!(f, "{} {} by {}", result.module.name, result.module.version, result.module.vendor)?;
        if result.module.demonstration {
            writeln!(f, "  a demonstration, not for clinical use")?;
        }
        for warning in &result.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        for model in &result.models {
            writeln!(f, "  model {} ran on {} ({})", model.name, model.device, model.engine)?;
            if let Some(reason) = &model.fallback {
                writeln!(f, "  warning: it asked for {} and fell back: {reason}", model.requested)?;
            }
        }
        findings(f, &result.findings)?;
        for file in result.outputs.iter().map(|o| o.file.as_str()).chain([RESULT_FILE]) {
            writeln!(f, "  wrote {}", self.out.join(file).display())?;
        }
        let total: f64 = result.phases.iter().map(|p| p.milliseconds).sum();
        writeln!(f, "  took {total:.0} ms")
    }
}

fn findings(f: &mut fmt::Formatter<'_>, stated: &Stated) -> fmt::Result {
    for triage in &stated.triage {
        let level = format!("{:?}", triage.level).to_uppercase();
        writeln!(
            f,
            "  {level}: {} (probability {:.2}): {}",
            triage.finding.meaning, triage.probability, triage.reason
        )?;
    }
    if let Some(unfit) = &stated.unfit {
        writeln!(f, "  the input is unfit: {}: {}", unfit.reason.meaning, unfit.detail)?;
    }
    for finding in &stated.classifications {
        writeln!(f, "  {} (probability {:.2})", finding.finding.meaning, finding.probability)?;
    }
    for segment in &stated.segments {
        match segment.voxels {
            0 => writeln!(f, "  {:<24} not found", segment.name)?,
            _ => writeln!(f, "  {:<24} {:>10.1} mL segmented", segment.name, segment.millilitres)?,
        }
    }
    for measurement in &stated.measurements {
        let of = stated.segments.iter().find(|s| Some(s.value) == measurement.segment);
        let name = match of {
            Some(segment) => format!("{}, {}", segment.name, measurement.quantity.meaning),
            None => measurement.quantity.meaning.clone(),
        };
        writeln!(f, "  {name:<24} {:>10.1} {}", measurement.value, measurement.unit)?;
    }
    for likely in &stated.probabilities {
        let of = stated.segments.iter().find(|s| s.value == likely.segment).map_or("", |s| s.name.as_str());
        writeln!(f, "  probabilities: {of}, up to {:.2}", likely.maximum)?;
    }
    if let Some(heatmap) = &stated.heatmap {
        writeln!(f, "  heatmap: {}, from {:.2} to {:.2}", heatmap.title, heatmap.minimum, heatmap.maximum)?;
    }
    for mark in &stated.marks {
        writeln!(f, "  box: {} (probability {:.2})", mark.label.meaning, mark.probability)?;
    }
    Ok(())
}
