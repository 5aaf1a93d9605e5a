//! Comes after other modules, and tells what it was handed: whose results, the volume of each of their segments, counted
//! anew from the voxels, and the first segmentation once more. Goes on without what the host could not give.

use gantry_guest::prelude::*;
use gantry_guest::upstream::Finished;

struct Follow;

impl Analyzer for Follow {
    fn analyze(study: &Study) -> Result<(), Error> {
        let earlier = match upstream::results() {
            Err(Error::Host(Failure::Unavailable(text))) => {
                warn!("{text}");
                return Ok(());
            }
            earlier => earlier?,
        };
        let any = if earlier.is_empty() { 0.0 } else { 1.0 };
        findings::classify(&rogue::code("EARLIER", "There are earlier results"), any)?;
        for earlier in &earlier {
            tell(earlier, study)?;
        }
        Ok(())
    }
}

fn tell(earlier: &Finished, study: &Study) -> Result<(), Error> {
    let origin = earlier.origin();
    info!("from {} {} of {}, {}", origin.name, origin.version, origin.vendor, origin.demonstration);
    if let Some(unfit) = earlier.unfit() {
        return findings::classify(&unfit.reason, 1.0);
    }
    for found in earlier.classifications() {
        findings::classify(&found.finding, found.probability)?;
    }
    for alert in earlier.triage() {
        findings::triage(alert.level, &alert.finding, alert.probability, &alert.reason)?;
    }
    for measured in earlier.measurements() {
        info!("measured {} {} of segment {:?}", measured.value, measured.unit, measured.segment);
    }
    let found = match earlier.segmentation() {
        Err(Error::Host(Failure::Unavailable(text))) => {
            warn!("{text}");
            return Ok(());
        }
        found => found?,
    };
    let Some(found) = found else {
        info!("no segmentation");
        return Ok(());
    };
    let source = study.series().iter().find(|series| series.id() == found.series).ok_or("a series that it knows")?;
    if source.geometry(found.index)? != found.labels.geometry() {
        return Err("the labels lie on another grid than their source".into());
    }
    let again = earlier.segmentation()?.ok_or("a second call gives the same")?;
    if again.labels.components(1)? != found.labels.components(1)? {
        return Err("a second call gives other labels".into());
    }
    findings::segmentation(&found.labels, &earlier.segments())?;
    for segment in earlier.segments() {
        let parts = found.labels.label(segment.value)?.components(1)?;
        if !parts.is_empty() {
            let millilitres = parts.iter().map(|part| part.millilitres).sum();
            findings::measure(&Code::sct("118565006", "Volume"), millilitres, "mL", Some(segment.value))?;
        }
    }
    Ok(())
}

gantry_guest::export!(Follow);
