//! States of each volume of its first series which echo it is, and how bright it is; and that what was not granted, or of a
//! volume that is not there, is refused. It looks at all of them and segments the last, by way of its
//! own memory.

use gantry_guest::prelude::*;

struct Echoes;

impl Analyzer for Echoes {
    fn analyze(study: &Study) -> Result<(), Error> {
        let series = study.series().first().ok_or("a study without series")?;
        for index in 0..series.volumes() {
            let echo = series.volume_attribute(index, "EchoTime")?.ok_or("a volume without an echo time")?;
            let echo = echo.trim().parse().map_err(|_| Error::from("an echo time that is no number"))?;
            findings::measure(&rogue::code("ECHO", "Echo time"), echo, "ms", None)?;
            let bright = f64::from(series.volume(index)?.statistics(None)?.maximum);
            findings::measure(&rogue::code("BRIGHT", "Brightest voxel"), bright, "1", None)?;
        }
        let last = series.volume(series.volumes() - 1)?;
        let grid = last.geometry();
        let whole = Region { start: Extent::new(0, 0, 0), size: grid.size };
        let bright = last.threshold(450.0, 4000.0)?.read(whole)?;
        findings::segmentation(&volumes::from_list(&bright, grid)?, &[rogue::segment()])?;
        if !matches!(series.volume_attribute(0, "PatientName"), Err(Error::Host(Failure::Denied(_)))) {
            return Err("the patient's name was told".into());
        }
        rogue::invalid("a volume that is not there", series.volume_attribute(series.volumes(), "EchoTime"))
    }
}

gantry_guest::export!(Echoes);
