//! DICOM Segmentation of probabilities (PS3.3 C.8.20.2.3.1): fractional, a byte for each voxel, one frame for each slice in
//! which a segment is probable at all.

use std::collections::BTreeSet;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::{FileDicomObject, InMemDicomObject};
use rayon::prelude::*;

use super::{Content, Place, SegError, bits_of, file, object};
use crate::findings::Segment;
use crate::memory::Charge;
use crate::outputs::dataset::put;
use crate::outputs::{Accepted, AcceptedProbabilities, ModuleInfo, OutputUids, Source, Stamp};

/// The name that UIDs of this SEG are derived from.
const OUTPUT: &str = "fractional-segmentation";
/// Maximum Fractional Value (0062,000E): what stands for 1.
const ONE: u8 = 255;

/// A probability as it is stored, in steps of 1/255.
pub(in crate::outputs) fn step(probability: f32) -> u8 {
    (probability * f32::from(ONE)).round() as u8
}

/// The SEG of the probabilities of `accepted`, whose [`source`](Accepted::source) is `source`, and what its voxels are
/// charged as for as long as it is held.
///
/// # Errors
/// See [`SegError`].
pub fn fractional_segmentation<'a>(
    accepted: &'a Accepted,
    source: &Source<'_>,
    module: &ModuleInfo,
    uids: &OutputUids,
    stamp: &Stamp,
) -> Result<(FileDicomObject<InMemDicomObject>, Charge), SegError> {
    let numbered: Vec<_> = accepted.fractional().collect();
    let Some((_, _, first)) = numbered.first() else { return Err(SegError::Empty) };
    let shown: BTreeSet<usize> = numbered.iter().flat_map(|(.., stated)| stated.slices.iter().copied()).collect();
    let ranks: Vec<(u32, usize)> = (1..).zip(shown).collect();
    let of = |&(number, _, stated): &(u16, &Segment, &'a AcceptedProbabilities)| {
        let shown = ranks.iter().filter(|(_, slice)| stated.slices.contains(slice));
        shown.map(|&(rank, slice)| (Place { number, slice, rank }, stated)).collect::<Vec<_>>()
    };
    let frames: Vec<(Place, &AcceptedProbabilities)> = numbered.iter().flat_map(of).collect();
    let size = first.values.geometry().size();
    let bytes = bits_of(size, frames.len(), 8)? / 8;
    let charge = first.values.budget().charge(bytes as u64)?;
    let segments: Vec<_> = numbered.iter().map(|(number, segment, _)| (*number, (*segment).clone())).collect();
    // Voxels may belong to several: that is what probabilities are for.
    let overlap = if segments.len() > 1 { "UNDEFINED" } else { "NO" };
    let title = format!("Probabilities: {}", module.title);
    let content = Content { output: OUTPUT, place: 6, label: "PROBABILITIES", title, segments };
    let places: Vec<Place> = frames.iter().map(|(place, _)| *place).collect();
    let mut object = object(content, &places, size, source, module, uids, stamp)?;
    put(&mut object, tags::BITS_ALLOCATED, VR::US, 8u16);
    put(&mut object, tags::BITS_STORED, VR::US, 8u16);
    put(&mut object, tags::HIGH_BIT, VR::US, 7u16);
    put(&mut object, tags::SEGMENTATION_TYPE, VR::CS, "FRACTIONAL");
    put(&mut object, tags::SEGMENTATION_FRACTIONAL_TYPE, VR::CS, "PROBABILITY");
    put(&mut object, tags::MAXIMUM_FRACTIONAL_VALUE, VR::US, u16::from(ONE));
    put(&mut object, tags::SEGMENTS_OVERLAP, VR::CS, overlap);
    Ok((file(object, voxels(&frames, size, bytes)?)?, charge))
}

/// Frame after frame, x fastest; an even number of bytes.
fn voxels(
    frames: &[(Place, &AcceptedProbabilities)],
    [columns, rows, _]: [usize; 3],
    bytes: usize,
) -> Result<Vec<u8>, SegError> {
    let plane = columns * rows;
    let mut voxels = vec![0u8; bytes + bytes % 2];
    // Which slice fails must not depend on which thread is first.
    let done: Vec<Result<(), SegError>> = voxels
        .par_chunks_exact_mut(plane)
        .zip(frames)
        .map_init(
            || vec![0f32; plane],
            |values, (out, (place, stated))| {
                let read = stated.values.slice(place.slice, values);
                read.map_err(|source| SegError::Voxels { slice: place.slice, source })?;
                out.iter_mut().zip(values).for_each(|(out, value)| *out = step(*value));
                Ok(())
            },
        )
        .collect();
    done.into_iter().collect::<Result<(), _>>()?;
    Ok(voxels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Findings, Probabilities, Segmentation};
    use crate::geometry::Geometry;
    use crate::memory::Budget;
    use crate::outputs::gate;
    use crate::outputs::tests::{labels, module, segment, stamp, study};
    use crate::volumes::Volume;

    /// Frames of 15 bytes, so that an odd number of them is padded.
    fn grid() -> Geometry {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([5, 3, 3], [0.7, 0.8, 2.5], [-10.0, 20.0, 30.0], axes).expect("a grid")
    }

    /// Of the liver in all slices, of the lung in the last alone, of the kidney nowhere.
    fn seg(budget: &Budget) -> Result<FileDicomObject<InMemDicomObject>, SegError> {
        let study = study(&grid());
        let segments = vec![segment(5, "kidney"), segment(9, "liver"), segment(4, "lung")];
        let values = |of: fn(usize) -> f32| {
            Volume::from_f32(grid(), (0..45).map(of).collect(), budget).expect("as many as the grid has")
        };
        let probabilities = vec![
            Probabilities { segment: 4, values: values(|i| if i < 30 { 0.001 } else { 1.0 }) },
            Probabilities { segment: 9, values: values(|i| i as f32 / 44.0) },
            Probabilities { segment: 5, values: values(|_| 0.0) },
        ];
        let segmentation = Some(Segmentation { labels: labels(&grid(), vec![0; 45]), segments });
        let findings = Findings { segmentation, probabilities, ..Findings::default() };
        let accepted = gate(findings, &study, &[0], &[]).expect("accepted");
        let source = Source::new(&study, accepted.source).expect("a volume");
        let uids = OutputUids::new(&source, &[[1; 32]], &module().identity, &[]);
        fractional_segmentation(&accepted, &source, &module(), &uids, &stamp()).map(|(object, _)| object)
    }

    #[test]
    fn a_frame_for_each_slice_in_which_a_segment_is_probable() {
        let seg = seg(&Budget::unlimited()).expect("a SEG");
        let mut file = Vec::new();
        seg.write_all(&mut file).expect("encodes");
        let seg = dicom_object::from_reader(file.as_slice()).expect("reads back");
        let text = |tag| seg.element(tag).expect("present").to_str().expect("text").trim_end_matches('\0').to_owned();
        assert_eq!(text(tags::SEGMENTATION_TYPE), "FRACTIONAL");
        assert_eq!(text(tags::SEGMENTATION_FRACTIONAL_TYPE), "PROBABILITY");
        assert_eq!((text(tags::MAXIMUM_FRACTIONAL_VALUE), text(tags::BITS_STORED)), ("255".into(), "8".into()));
        assert_eq!((text(tags::NUMBER_OF_FRAMES), text(tags::SERIES_NUMBER)), ("4".into(), "306".into()));
        assert_eq!(text(tags::SERIES_DESCRIPTION), "Probabilities: Organs in bo: demonstration, not for clinical use");
        let named = seg.element(tags::SEGMENT_SEQUENCE).expect("segments").items().expect("items");
        let names: Vec<_> = named.iter().map(|s| s.element(tags::SEGMENT_LABEL).expect("a name").to_str()).collect();
        assert_eq!(names.into_iter().map(|n| n.expect("text")).collect::<Vec<_>>(), ["liver", "lung"]);
        let pixels = seg.element(tags::PIXEL_DATA).expect("pixels").to_bytes().expect("bytes").into_owned();
        let wanted: Vec<u8> = (0..45u8).map(|i| (f32::from(i) / 44.0 * 255.0).round() as u8).collect();
        assert_eq!((&pixels[..45], &pixels[45..]), (&wanted[..], &[255u8; 15][..]));
    }

    #[test]
    fn a_probability_is_off_by_half_a_step_at_most() {
        for p in [0.0f32, 0.001, 0.0019, 0.002, 0.25, 0.5, 0.998, 0.999, 1.0] {
            assert!((f32::from(step(p)) / 255.0 - p).abs() <= 0.5001 / 255.0, "{p}");
        }
    }

    #[test]
    fn what_does_not_fit_the_budget_names_the_limit() {
        let error = seg(&Budget::bytes(3 * 45 * 4 + 10)).expect_err("60 bytes more are wanted").to_string();
        assert!(error.contains("host_memory_mib") && error.contains("fractional_segmentation"), "{error}");
    }
}
