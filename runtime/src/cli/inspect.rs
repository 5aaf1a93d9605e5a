//! `gantry inspect`: which volumes the files of a study become, and why others become none.

use std::fmt::Write;
use std::path::PathBuf;

use gantry::study::{self, ReadOptions, Series, Study, VolumeLayout};
use serde_json::{Value, json};

pub(crate) const EXAMPLES: &str = "Examples:\n  gantry inspect study/\n  gantry inspect study/ --strict --json\n";

#[derive(clap::Args)]
pub(crate) struct InspectArgs {
    /// Files and folders of one study.
    #[arg(required = true, value_name = "STUDY")]
    study: Vec<PathBuf>,
    /// Limits; see examples/gantry.toml. Defaults hold without it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Refuse input that would otherwise be repaired with a warning.
    #[arg(long)]
    strict: bool,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &InspectArgs) -> Result<(), (u8, anyhow::Error)> {
    let config = crate::cli::config(args.config.as_deref())?;
    let options = ReadOptions::new(&config.limits, args.strict);
    let study = study::read(&args.study, &options).map_err(|e| (if e.is_limit() { 5 } else { 3 }, e.into()))?;
    match args.json {
        true => println!("{}", machines(&study)),
        false => print!("{}", people(&study)),
    }
    Ok(())
}

fn people(study: &Study) -> String {
    let mut text = format!("study {}\n", study.uid);
    for series in &study.series {
        let (count, images) = (series.volumes.len(), series.instances.len());
        let modality = if series.modality.is_empty() { "no modality" } else { &series.modality };
        let _ = match &series.refused {
            Some(reason) => writeln!(text, "series {} ({modality}): no volume: {reason}", series.uid),
            None if count == 1 => writeln!(text, "series {} ({modality}): 1 volume of {images} images", series.uid),
            None => writeln!(text, "series {} ({modality}): {count} volumes of {images} images", series.uid),
        };
        for (index, volume) in series.volumes.iter().enumerate() {
            let ([columns, rows, slices], [x, y, z]) = (volume.geometry.size(), volume.geometry.spacing());
            let _ =
                write!(text, "  volume {index}: {columns} x {rows} x {slices} voxels of {x:.3} x {y:.3} x {z:.3} mm");
            for (name, value) in &volume.told_by {
                let _ = write!(text, ", {name} {value}");
            }
            if unplaced(series, volume) {
                text.push_str(", without a place in the patient");
            }
            if volume.unstated.pixels {
                text.push_str(", nothing says how large its pixels are");
            }
            if let Some(tilt) = &volume.tilt {
                let _ = write!(text, ", straightened by {:.1} degrees", tilt.degrees);
            }
            text.push('\n');
        }
    }
    for warning in &study.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// Whether its grid says nothing of where in the patient it lies.
fn unplaced(series: &Series, volume: &VolumeLayout) -> bool {
    volume.slices.iter().any(|index| series.instances.get(*index).is_some_and(|image| image.unplaced))
}

fn machines(study: &Study) -> Value {
    let image = |series: &Series, index: &usize| {
        let image = series.instances.get(*index)?;
        Some(json!({"sop_instance_uid": image.sop_instance_uid, "frame": image.frame}))
    };
    let volume = |series: &Series, volume: &VolumeLayout| {
        let grid = &volume.geometry;
        let told: Vec<Value> =
            volume.told_by.iter().map(|(name, value)| json!({"attribute": name, "value": value})).collect();
        json!({
            "size": grid.size(), "spacing_mm": grid.spacing(), "origin_mm": grid.origin(), "axes": grid.axes(),
            "unplaced": unplaced(series, volume),
            "pixel_spacing_stated": !volume.unstated.pixels,
            "told_by": told,
            "tilt_degrees": volume.tilt.as_ref().map(|tilt| tilt.degrees),
            "slices": volume.slices.iter().map(|index| image(series, index)).collect::<Vec<_>>(),
        })
    };
    let series = study.series.iter().map(|series| {
        json!({
            "series_instance_uid": series.uid,
            "modality": series.modality,
            "volumes": series.volumes.iter().map(|of| volume(series, of)).collect::<Vec<_>>(),
            "refused": series.refused.as_ref().map(ToString::to_string),
        })
    });
    json!({"study_instance_uid": study.uid, "series": series.collect::<Vec<_>>(), "warnings": study.warnings})
}
