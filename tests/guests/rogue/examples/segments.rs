//! Fits in everything, and makes it hard for writers: three segments whose values are neither in order nor without
//! gaps, one above a byte, and a fourth without voxels. A voxel of n × 100 HU (n from 1) is of the n-th segment.

use gantry_guest::prelude::*;

struct Segments;

const SEGMENTS: [(u32, &str, &str); 4] =
    [(7, "10200004", "Liver"), (300, "78961009", "Spleen"), (12, "69748006", "Thyroid"), (3, "64033007", "Kidney")];

impl Analyzer for Segments {
    fn analyze(study: &Study) -> Result<(), Error> {
        let source = rogue::source(study)?;
        let geometry = source.geometry();
        let size = geometry.size;
        let all = Region { start: Extent { x: 0, y: 0, z: 0 }, size };
        let value = |hu: f32| {
            let n = (1u8..).zip(SEGMENTS).find(|(n, _)| f32::from(*n) * 100.0 == hu);
            n.map_or(0.0, |(_, (value, ..))| value as f32)
        };
        let labels: Vec<f32> = source.read(all)?.into_iter().map(value).collect();
        let volume = volumes::from_list(&labels, geometry)?;
        let segments = SEGMENTS.map(|(value, code, name)| Segment::anatomy(value, name, Code::sct(code, name)));
        findings::segmentation(&volume, &segments)?;
        for component in volume.components(1)? {
            let (name, ml) = (Code::sct("118565006", "Volume"), component.millilitres);
            findings::measure(&name, ml, "mL", Some(component.label))?;
        }
        Ok(())
    }
}

gantry_guest::export!(Segments);
