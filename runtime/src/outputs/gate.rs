//! What a guest stated, judged before anything is written (DESIGN, invariant 5): all of it passes, or none.

mod frames;
mod marks;
mod probabilities;

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

pub use self::frames::{frame_answer, stream_summary};
use super::Accepted;
use crate::findings::{Code, Findings, Segment, Segmentation};
use crate::geometry::Geometry;
use crate::study::Study;
use crate::volumes::{StudyVolume, Volume, VolumeError};

/// How far the corners of a segmentation may lie from those of the source, mm.
const GRID_TOLERANCE_MM: f64 = 1e-3;
/// Characters in a text for people.
const TEXT_MAX: usize = 1024;
/// Coding schemes that a code may come from (PS3.16 table 8-1), besides private ones that start with 99.
const SCHEMES: [&str; 8] = ["SCT", "DCM", "UCUM", "LN", "FMA", "NCIt", "RADLEX", "SRT"];

/// Why findings are refused. The guest is at fault, except for [`NoSource`](Self::NoSource) and
/// [`Voxels`](Self::Voxels) over budget. Texts of the guest are not repeated: it may have put anything into them.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nothing that findings could refer to.
    #[error(
        "no series of the study that gives a volume was accepted for the module; findings have nothing to refer to"
    )]
    NoSource,
    /// A segmentation on another grid than any source volume.
    #[error(
        "the segmentation has {size:?} voxels of {spacing:?} mm from {origin:?} mm, which is the grid of no volume that \
         the module was given; bring it there with resample-like(source) before it is stated"
    )]
    Grid {
        /// Voxels along x, y, z.
        size: [usize; 3],
        /// mm.
        spacing: [f64; 3],
        /// mm.
        origin: [f64; 3],
    },
    /// A segmentation or a heatmap of an image that lies nowhere.
    #[error(
        "the {what} lies on an image without a place in the patient (ImagePositionPatient (0020,0032) is absent, as in \
         projections), where none can be written; state boxes, measurements or classifications"
    )]
    Unplaced {
        /// Which of the two.
        what: &'static str,
    },
    /// A heatmap on another grid than any source volume.
    #[error(
        "the heatmap has {size:?} voxels of {spacing:?} mm from {origin:?} mm, which is the grid of no volume that the \
         module was given; bring it there with resample-like(source) before it is stated"
    )]
    HeatmapGrid {
        /// Voxels along x, y, z.
        size: [usize; 3],
        /// mm.
        spacing: [f64; 3],
        /// mm.
        origin: [f64; 3],
    },
    /// A voxel of a heatmap that is no number, or voxels that could not be computed.
    #[error("the heatmap, slice {slice}: {problem}")]
    Heat {
        /// Along z, from 0.
        slice: usize,
        /// Why not.
        problem: String,
    },
    /// A voxel that is no label, or voxels that could not be computed.
    #[error("the segmentation, slice {slice}: {source}; state labels, as argmax or threshold give them")]
    Voxels {
        /// Along z, from 0.
        slice: usize,
        /// Why not.
        source: VolumeError,
    },
    /// A voxel value that no segment claims.
    #[error(
        "the segmentation, slice {slice}: a voxel is {value}, and no segment has that value; declare it or set it to 0"
    )]
    Undeclared {
        /// Along z, from 0.
        slice: usize,
        /// The value.
        value: u16,
    },
    /// One finding is wrong in itself.
    #[error("{finding}: {problem}")]
    Finding {
        /// Which: kind and place, from 0.
        finding: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The module says that the input is unfit, and states findings about it.
    #[error("unfit: {others} other findings stand beside it; an input that is not fit has none")]
    UnfitBeside {
        /// How many.
        others: usize,
    },
}

/// Judges everything that a module stated about the series `accepted` (indexes into [`Study::series`]), of whose volumes it was
/// given some.
///
/// Where several volumes lie on one grid, such as echoes, labels and a heatmap are about the one that they were made of
/// ([`Volume::source`]); what is not known to be made of one is about the first that was given.
///
/// A segment without voxels passes; it is left out of the SEG (see [`Accepted::numbered`]).
///
/// # Errors
/// The first thing that is wrong. Cheap checks come before the voxels are looked at.
pub fn gate(findings: Findings, study: &Study, accepted: &[usize], given: &[StudyVolume]) -> Result<Accepted, Refusal> {
    let given: BTreeSet<StudyVolume> = given.iter().copied().collect();
    let mut volumes = volumes(study, accepted);
    volumes.sort_by_key(|(at, _)| !given.contains(at));
    let first = volumes.first().map(|(at, _)| *at).ok_or(Refusal::NoSource)?;
    statements(&findings)?;
    sizes(&findings, study, &volumes, &given)?;
    marks::boxes(&findings.marks, first, &volumes)?;
    let mut result = Accepted {
        segmentation: None,
        probabilities: Vec::new(),
        source: first,
        measurements: findings.measurements,
        classifications: findings.classifications,
        triage: findings.triage,
        heatmap: None,
        marks: findings.marks,
        marks_source: first,
        unfit: findings.unfit,
        present: BTreeSet::new(),
        voxels: BTreeMap::new(),
        slices: Vec::new(),
        fullest: 0,
    };
    if let Some(segmentation) = findings.segmentation {
        result.source = on_grid_of(&segmentation.labels, &volumes).ok_or_else(|| grid(&segmentation.labels))?;
        placed(study, result.source, "segmentation")?;
        result.voxels = segmentation.segments.iter().map(|s| (s.value, 0)).collect();
        let mut most = 0;
        for (z, slice) in count(&segmentation)?.into_iter().enumerate() {
            for (&value, &voxels) in &slice {
                *result.voxels.entry(value).or_default() += voxels;
            }
            let all = slice.values().sum();
            if all > most {
                (most, result.fullest) = (all, z);
            }
            result.slices.push(slice.into_keys().collect());
        }
        result.present = result.voxels.iter().filter(|(_, n)| **n > 0).map(|(value, _)| *value).collect();
        result.segmentation = Some(segmentation);
    }
    for stated in findings.probabilities {
        let (_, grid) = volumes.iter().find(|(at, _)| *at == result.source).ok_or(Refusal::NoSource)?;
        result.probabilities.push(probabilities::voxels(stated, grid)?);
    }
    if let Some(heatmap) = findings.heatmap {
        let heatmap = marks::heatmap(heatmap, &volumes)?;
        placed(study, heatmap.source, "heatmap")?;
        result.heatmap = Some(heatmap);
    }
    Ok(result)
}

/// Whether the volume lies somewhere in the patient.
fn placed(study: &Study, (series, volume): StudyVolume, what: &'static str) -> Result<(), Refusal> {
    let series = study.series.get(series);
    let first = series.and_then(|s| s.instances.get(*s.volumes.get(volume)?.slices.first()?));
    if first.is_some_and(|first| first.unplaced) { Err(Refusal::Unplaced { what }) } else { Ok(()) }
}

/// Lengths, areas and volumes are of pixels whose size somebody states.
fn sizes(
    findings: &Findings,
    study: &Study,
    volumes: &[(StudyVolume, &Geometry)],
    given: &BTreeSet<StudyVolume>,
) -> Result<(), Refusal> {
    let seen: Vec<StudyVolume> =
        volumes.iter().map(|(at, _)| *at).filter(|at| given.is_empty() || given.contains(at)).collect();
    let unstated = |(series, volume): &StudyVolume| {
        study.series.get(*series).and_then(|s| s.volumes.get(*volume)).is_some_and(|layout| layout.unstated.pixels)
    };
    if seen.is_empty() || !seen.iter().all(unstated) {
        return Ok(());
    }
    for (i, m) in findings.measurements.iter().enumerate() {
        size(&m.unit, false).map_err(at(format!("measurement {i}")))?;
    }
    Ok(())
}

/// All volumes of the accepted series, in order.
fn volumes<'a>(study: &'a Study, accepted: &[usize]) -> Vec<(StudyVolume, &'a Geometry)> {
    let of = |&s: &usize| {
        study.series.get(s).into_iter().flat_map(move |series| {
            series.volumes.iter().enumerate().map(move |(v, layout)| ((s, v), &layout.geometry))
        })
    };
    accepted.iter().flat_map(of).collect()
}

/// The volume that lies as `stated` does; of several, the one that it was made of, or else the first.
fn on_grid_of(stated: &Volume, volumes: &[(StudyVolume, &Geometry)]) -> Option<StudyVolume> {
    let same = volumes.iter().filter(|(_, grid)| stated.geometry().same_grid(grid, GRID_TOLERANCE_MM));
    let mut same = same.map(|(at, _)| *at).peekable();
    let first = same.peek().copied();
    same.find(|at| stated.source() == Some(*at)).or(first)
}

fn grid(labels: &Volume) -> Refusal {
    let grid = labels.geometry();
    Refusal::Grid { size: grid.size(), spacing: grid.spacing(), origin: grid.origin() }
}

/// Voxels of each segment in each slice. Every voxel is looked at.
fn count(segmentation: &Segmentation) -> Result<Vec<BTreeMap<u32, u64>>, Refusal> {
    let declared: BTreeSet<u32> = segmentation.segments.iter().map(|s| s.value).collect();
    let [columns, rows, slices] = segmentation.labels.geometry().size();
    // Which slice fails must not depend on which thread is first.
    let counted: Vec<_> = (0..slices)
        .into_par_iter()
        .map_init(
            || vec![0u16; columns * rows],
            |labels, slice| {
                let read = segmentation.labels.label_slice(slice, labels);
                read.map_err(|source| Refusal::Voxels { slice, source })?;
                count_slice(labels, slice, &declared)
            },
        )
        .collect();
    counted.into_iter().collect()
}

fn count_slice(labels: &[u16], slice: usize, declared: &BTreeSet<u32>) -> Result<BTreeMap<u32, u64>, Refusal> {
    let mut counts = BTreeMap::new();
    // Labels come in runs: one look-up a run.
    let mut rest = labels;
    while let Some(&value) = rest.first() {
        let voxels = run(rest, value);
        rest = &rest[voxels..];
        if value == 0 {
            continue;
        }
        if !declared.contains(&u32::from(value)) {
            return Err(Refusal::Undeclared { slice, value });
        }
        *counts.entry(u32::from(value)).or_default() += voxels as u64;
    }
    Ok(counts)
}

/// How many voxels from the first on are this value.
fn run(voxels: &[u16], value: u16) -> usize {
    let eights = voxels.as_chunks::<8>().0.iter().take_while(|eight| **eight == [value; 8]).count();
    eights * 8 + voxels[eights * 8..].iter().take_while(|v| **v == value).count()
}

/// Everything but voxels.
fn statements(findings: &Findings) -> Result<(), Refusal> {
    if let Some(unfit) = &findings.unfit {
        let others = findings.count() - 1;
        if others > 0 || findings.segmentation.is_some() {
            return Err(Refusal::UnfitBeside { others });
        }
        code(&unfit.reason).and_then(|()| text("detail", &unfit.detail)).map_err(at("unfit".into()))?;
    }
    let segments = findings.segmentation.as_ref().map_or(&[][..], |s| &s.segments);
    if findings.segmentation.is_some() {
        segment_list(segments)?;
    }
    for (i, m) in findings.measurements.iter().enumerate() {
        let declared = m.segment.is_none_or(|value| segments.iter().any(|s| s.value == value));
        let checks = code(&m.quantity).and_then(|()| unit(&m.unit)).and_then(|()| {
            check(m.value.is_finite(), || format!("its value {} is not finite", m.value))?;
            check(declared, || "it names a segment that was not declared; state the segmentation with it".into())
        });
        checks.map_err(at(format!("measurement {i}")))?;
    }
    for (i, c) in findings.classifications.iter().enumerate() {
        let checks = code(&c.finding).and_then(|()| probability("probability", c.probability));
        checks.map_err(at(format!("classification {i}")))?;
    }
    for (i, t) in findings.triage.iter().enumerate() {
        let checks = code(&t.finding).and_then(|()| probability("probability", t.probability));
        checks.and_then(|()| text("reason", &t.reason)).map_err(at(format!("triage {i}")))?;
    }
    contradictions("classification", findings.classifications.iter().map(|c| (&c.finding, c.probability.to_bits())))?;
    contradictions("triage", findings.triage.iter().map(|t| (&t.finding, (t.level, t.probability.to_bits()))))?;
    probabilities::statements(findings)?;
    marks::statements(findings)
}

/// Of one finding only one thing can be so.
fn contradictions<'a, T: PartialEq>(kind: &str, stated: impl Iterator<Item = (&'a Code, T)>) -> Result<(), Refusal> {
    let mut first: BTreeMap<(&str, &str), (usize, T)> = BTreeMap::new();
    for (i, (finding, what)) in stated.enumerate() {
        let Some((earlier, before)) = first.get(&(finding.scheme.as_str(), finding.value.as_str())) else {
            first.insert((&finding.scheme, &finding.value), (i, what));
            continue;
        };
        check(*before == what, || format!("it contradicts {kind} {earlier}, which is of the same finding; state one"))
            .map_err(at(format!("{kind} {i}")))?;
    }
    Ok(())
}

fn segment_list(segments: &[Segment]) -> Result<(), Refusal> {
    let whole = at("the segmentation".into());
    check(!segments.is_empty(), || "it declares no segment; declare at least one".into()).map_err(whole)?;
    let (mut values, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (i, s) in segments.iter().enumerate() {
        segment(s, &mut values, &mut names).map_err(at(format!("segment {i}")))?;
    }
    Ok(())
}

fn segment<'a>(s: &'a Segment, values: &mut BTreeSet<u32>, names: &mut BTreeSet<&'a str>) -> Result<(), String> {
    check((1..=65535).contains(&s.value), || format!("its value {} is not in 1..=65535", s.value))?;
    check(values.insert(s.value), || format!("its value {} is that of an earlier segment", s.value))?;
    let named = plain(&s.name, 64) && !s.name.trim().is_empty();
    check(named, || "its name is not 1 to 64 characters without backslash and control characters".into())?;
    check(names.insert(s.name.trim()), || "its name is that of an earlier segment".into())?;
    code(&s.category)?;
    code(&s.kind)?;
    s.confidence.map_or(Ok(()), |p| probability("confidence", p))
}

fn at(finding: String) -> impl FnOnce(String) -> Refusal {
    move |problem| Refusal::Finding { finding, problem }
}

fn check(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}

/// A code that may stand in a DICOM code sequence (PS3.3 section 8.8).
fn code(code: &Code) -> Result<(), String> {
    let short = |s: &str| plain(s, 16) && !s.trim().is_empty();
    check(short(&code.value), || {
        "its code value is not 1 to 16 characters without backslash and control characters".into()
    })?;
    let scheme = code.scheme.as_str();
    let known = SCHEMES.contains(&scheme) || (scheme.starts_with("99") && scheme.len() > 2 && scheme.is_ascii());
    check(short(scheme) && known, || {
        format!(
            "its coding scheme is none of {} and does not start with 99 (16 characters at most)",
            SCHEMES.join(", ")
        )
    })?;
    check(plain(&code.meaning, 64) && !code.meaning.trim().is_empty(), || {
        "its code meaning is not 1 to 64 characters without backslash and control characters".into()
    })
}

/// Plausible UCUM: what could not even be a unit is refused, the table of units is not checked.
fn unit(unit: &str) -> Result<(), String> {
    let plausible = (1..=16).contains(&unit.len()) && unit.bytes().all(|b| (33..=126).contains(&b) && b != b'\\');
    check(plausible, || {
        "its unit is not UCUM: 1 to 16 printable ASCII characters without spaces, as in mL or mm3".into()
    })
}

/// That what is measured in this unit can be, where pixels have a size that is `known`, or have none.
fn size(unit: &str, known: bool) -> Result<(), String> {
    const SIZES: [&str; 18] = [
        "m", "dm", "cm", "mm", "um", "nm", "L", "l", "dL", "dl", "cL", "cl", "mL", "ml", "uL", "ul", "[in_i]", "[ft_i]",
    ];
    let of_what = unit.split('{').next().unwrap_or_default().trim_end_matches(['^', '*', '+', '2', '3']);
    check(known || !SIZES.contains(&of_what), || {
        "it is a length, an area or a volume, and nothing says how large the pixels are (PixelSpacing (0028,0030) and \
         ImagerPixelSpacing (0018,1164) are absent); state it in {pixels}, or as a ratio"
            .into()
    })
}

fn probability(what: &str, p: f32) -> Result<(), String> {
    check((0.0..=1.0).contains(&p), || format!("its {what} {p} is not in 0..=1"))
}

fn text(what: &str, text: &str) -> Result<(), String> {
    check(text.chars().count() <= TEXT_MAX && !text.chars().any(char::is_control), || {
        format!("its {what} is not at most {TEXT_MAX} characters without control characters")
    })
}

fn plain(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.chars().count()) && !text.chars().any(|c| c.is_control() || c == '\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::{Classification, Heatmap, Measurement, Triage, Unfit, Urgency};
    use crate::memory::Budget;
    use crate::outputs::tests::{labels, segment as a_segment, study};

    pub(super) fn grid() -> Geometry {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        Geometry::new([3, 2, 2], [1.0, 1.0, 2.0], [10.0, 20.0, 30.0], axes).expect("a grid")
    }

    fn liver() -> Code {
        Code::new("10200004", "SCT", "Liver")
    }

    /// Findings that pass.
    fn good() -> Findings {
        let voxels = vec![0, 1, 1, 0, 0, 0, 0, 0, 2, 2, 2, 0];
        Findings {
            segmentation: Some(Segmentation {
                labels: labels(&grid(), voxels),
                segments: vec![a_segment(1, "liver"), a_segment(2, "lung"), a_segment(3, "kidney")],
            }),
            measurements: vec![Measurement { quantity: liver(), value: 1.5, unit: "mL".into(), segment: Some(2) }],
            classifications: vec![Classification { finding: liver(), probability: 0.5 }],
            triage: vec![Triage { level: Urgency::Urgent, finding: liver(), probability: 1.0, reason: "look".into() }],
            ..Findings::default()
        }
    }

    fn refused(mut findings: Findings, change: impl FnOnce(&mut Findings)) -> Refusal {
        change(&mut findings);
        gate(findings, &study(&grid()), &[0], &[]).expect_err("refused")
    }

    /// That these findings, changed, are refused with these words.
    #[track_caller]
    pub(super) fn says_of(findings: Findings, expected: &str, change: impl FnOnce(&mut Findings)) {
        let text = refused(findings, change).to_string();
        assert!(text.contains(expected), "{text}");
    }

    #[track_caller]
    fn says(expected: &str, change: impl FnOnce(&mut Findings)) {
        says_of(good(), expected, change);
    }

    fn segments(findings: &mut Findings) -> &mut Vec<Segment> {
        &mut findings.segmentation.as_mut().expect("good has one").segments
    }

    fn set_labels(findings: &mut Findings, labels: Volume) {
        findings.segmentation.as_mut().expect("good has one").labels = labels;
    }

    #[test]
    fn good_findings_pass_and_voxels_are_counted() {
        let accepted = gate(good(), &study(&grid()), &[0], &[]).expect("accepted");
        assert_eq!(accepted.source, (0, 0));
        assert_eq!(accepted.voxels, BTreeMap::from([(1, 2), (2, 3), (3, 0)]));
        assert_eq!(accepted.present, BTreeSet::from([1, 2]));
        assert_eq!(accepted.slices, [BTreeSet::from([1]), BTreeSet::from([2])]);
        assert_eq!((accepted.number(2), accepted.number(3)), (Some(2), None));
        assert!(accepted.has_seg());
        assert_eq!(accepted.fullest, 1);
    }

    #[test]
    fn numbers_skip_segments_without_voxels() {
        let mut findings = good();
        set_labels(&mut findings, labels(&grid(), vec![0, 0, 3, 0, 0, 0, 0, 0, 2, 0, 0, 0]));
        let accepted = gate(findings, &study(&grid()), &[0], &[]).expect("accepted");
        assert_eq!(accepted.numbered().map(|(n, s)| (n, s.value)).collect::<Vec<_>>(), [(1, 2), (2, 3)]);
    }

    #[test]
    fn a_segmentation_without_voxels_passes_and_is_no_seg() {
        let mut findings = good();
        set_labels(&mut findings, labels(&grid(), vec![0; 12]));
        let accepted = gate(findings, &study(&grid()), &[0], &[]).expect("accepted");
        assert!(!accepted.has_seg() && accepted.segmentation.is_some());
    }

    #[test]
    fn findings_refer_to_the_first_accepted_series_without_a_segmentation() {
        let findings = Findings { segmentation: None, measurements: vec![], ..good() };
        assert_eq!(gate(findings.clone(), &study(&grid()), &[0], &[]).expect("accepted").source, (0, 0));
        assert!(matches!(gate(findings.clone(), &study(&grid()), &[], &[]), Err(Refusal::NoSource)));
        assert!(matches!(gate(findings, &study(&grid()), &[4], &[]), Err(Refusal::NoSource)));
    }

    #[test]
    fn of_volumes_on_one_grid_findings_are_about_the_one_that_was_given() {
        let mut study = study(&grid());
        let echo = study.series[0].volumes[0].clone();
        study.series[0].volumes.push(echo);
        let about = |given: &[StudyVolume]| gate(good(), &study, &[0], given).expect("accepted").source;
        assert_eq!([about(&[]), about(&[(0, 1)]), about(&[(0, 0), (0, 1)])], [(0, 0), (0, 1), (0, 0)]);
    }

    #[test]
    fn of_volumes_on_one_grid_labels_and_heat_are_about_the_one_that_they_were_made_of() {
        let mut study = study(&grid());
        let echo = study.series[0].volumes[0].clone();
        study.series[0].volumes.push(echo);
        let about = |source: StudyVolume| {
            let mut findings = good();
            let labels = labels(&grid(), vec![0, 1, 1, 0, 0, 0, 0, 0, 2, 2, 2, 0]).with_source(source);
            let values = labels.affine(0.5, 0.0).expect("finite");
            set_labels(&mut findings, labels);
            findings.heatmap = Some(Heatmap { values, title: "Heat".into() });
            let accepted = gate(findings, &study, &[0], &[(0, 0), (0, 1)]).expect("accepted");
            (accepted.source, accepted.heatmap.expect("one").source)
        };
        assert_eq!(about((0, 1)), ((0, 1), (0, 1)));
        assert_eq!(about((0, 0)), ((0, 0), (0, 0)));
        assert_eq!(about((3, 7)), ((0, 0), (0, 0)), "made of what is not among the accepted");
    }

    #[test]
    fn a_segmentation_elsewhere_is_refused() {
        let axes = grid().axes();
        for other in [
            Geometry::new([3, 2, 2], [1.0, 1.0, 2.0], [10.01, 20.0, 30.0], axes),
            Geometry::new([3, 2, 2], [1.0, 1.1, 2.0], [10.0, 20.0, 30.0], axes),
            Geometry::new([3, 2, 1], [1.0, 1.0, 2.0], [10.0, 20.0, 30.0], axes),
        ] {
            let other = other.expect("a grid");
            let refusal = refused(good(), |f| set_labels(f, labels(&other, vec![1; other.voxels()])));
            assert!(matches!(refusal, Refusal::Grid { .. }), "{refusal}");
            assert!(refusal.to_string().contains("resample-like"), "{refusal}");
        }
        let near = Geometry::new([3, 2, 2], [1.0, 1.0, 2.0], [10.0005, 20.0, 30.0], axes).expect("a grid");
        let mut findings = good();
        set_labels(&mut findings, labels(&near, vec![1; 12]));
        assert!(gate(findings, &study(&grid()), &[0], &[]).is_ok(), "half a micrometre is rounding");
    }

    #[test]
    fn nothing_that_needs_a_place_is_stated_on_an_image_without_one() {
        let mut nowhere = study(&grid());
        nowhere.series[0].instances.iter_mut().for_each(|image| image.unplaced = true);
        let refusal = gate(good(), &nowhere, &[0], &[]).expect_err("refused");
        assert!(matches!(refusal, Refusal::Unplaced { what: "segmentation" }), "{refusal}");
        let findings = Findings { segmentation: None, measurements: vec![], ..good() };
        assert!(gate(findings, &nowhere, &[0], &[]).is_ok());
    }

    #[test]
    fn nothing_is_measured_in_pixels_of_unknown_size() {
        let mut study = study(&grid());
        study.series[0].volumes[0].unstated.pixels = true;
        let judged = |study: &Study, unit: &str| {
            let measurements = vec![Measurement { quantity: liver(), value: 1.5, unit: unit.into(), segment: None }];
            gate(Findings { measurements, ..Findings::default() }, study, &[0], &[])
                .map(drop)
                .map_err(|e| e.to_string())
        };
        for unit in ["mm", "cm2", "mm3", "mL", "cm{length}", "[in_i]", "m", "L"] {
            let text = judged(&study, unit).expect_err(unit);
            assert!(
                text.contains("measurement 0") && text.contains("PixelSpacing") && text.contains("{pixels}"),
                "{text}"
            );
        }
        for unit in ["1", "%", "{pixels}", "[hnsf'U]", "deg", "mm[Hg]", "/min", "ms"] {
            assert_eq!(judged(&study, unit), Ok(()), "{unit}");
        }
        // One of two is known: the module may have measured there.
        let known = study.series[0].volumes[0].clone();
        study.series[0].volumes.push(crate::study::VolumeLayout { unstated: Default::default(), ..known });
        assert_eq!(judged(&study, "mm"), Ok(()));
    }

    #[test]
    fn voxels_that_are_no_declared_labels_are_refused() {
        for bad in [f32::NAN, f32::INFINITY, 0.5, -1.0, 65536.0] {
            let mut voxels = vec![0.0; 12];
            voxels[7] = bad;
            let volume = Volume::from_f32(grid(), voxels, &Budget::unlimited()).expect("a volume");
            let refusal = refused(good(), |f| set_labels(f, volume));
            assert!(matches!(refusal, Refusal::Voxels { slice: 1, .. }), "{bad}: {refusal}");
        }
        let refusal = refused(good(), |f| set_labels(f, labels(&grid(), vec![0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0])));
        assert!(matches!(refusal, Refusal::Undeclared { slice: 1, value: 4 }), "{refusal}");
    }

    #[test]
    fn segments_that_cannot_be_are_refused() {
        says("no segment", |f| segments(f).clear());
        says("not in 1..=65535", |f| segments(f)[0].value = 0);
        says("not in 1..=65535", |f| segments(f)[0].value = 65536);
        says("segment 2: its value 1", |f| segments(f)[2].value = 1);
        says("segment 1: its name is that of an earlier", |f| segments(f)[1].name = "liver ".into());
        for name in ["", " ", "a\\b", "a\nb", &"x".repeat(65)] {
            says("its name is not", |f| segments(f)[1].name = name.into());
        }
        says("its confidence 1.5", |f| segments(f)[0].confidence = Some(1.5));
        says("its confidence NaN", |f| segments(f)[0].confidence = Some(f32::NAN));
        says("segment 0: its coding scheme", |f| segments(f)[0].category.scheme = "SNOMED".into());
        says("segment 0: its code value", |f| segments(f)[0].kind.value = "x".repeat(17));
    }

    #[test]
    fn codes_that_cannot_be_are_refused() {
        for value in ["", " ", "a\\b", "a\tb", "12345678901234567"] {
            says("classification 0: its code value", |f| f.classifications[0].finding.value = value.into());
        }
        for scheme in ["", "99", "sct", "I10", "99ABCDEFGHIJKLMNO", "99\n1"] {
            says("classification 0: its coding scheme", |f| f.classifications[0].finding.scheme = scheme.into());
        }
        for meaning in ["", "a\\b", "a\nb", &"x".repeat(65)] {
            says("classification 0: its code meaning", |f| f.classifications[0].finding.meaning = meaning.into());
        }
        let mut private = good();
        private.classifications[0].finding = Code::new("A1", "99GANTRY", "Größe");
        assert!(gate(private, &study(&grid()), &[0], &[]).is_ok());
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        for p in [-0.1, 1.7, f32::NAN, f32::INFINITY] {
            says("classification 0: its probability", |f| f.classifications[0].probability = p);
            says("triage 0: its probability", |f| f.triage[0].probability = p);
        }
        for value in [f64::NAN, f64::INFINITY] {
            says("measurement 0: its value", |f| f.measurements[0].value = value);
        }
        for unit in ["", "m L", "µL", "a\\b", "12345678901234567"] {
            says("measurement 0: its unit", |f| f.measurements[0].unit = unit.into());
        }
        says("measurement 0: it names a segment", |f| f.measurements[0].segment = Some(9));
        says("measurement 0: it names a segment", |f| f.segmentation = None);
        says("measurement 0: its code value", |f| f.measurements[0].quantity.value.clear());
    }

    #[test]
    fn findings_that_contradict_each_other_are_refused() {
        says("triage 1: it contradicts triage 0", |f| {
            f.triage.push(Triage { level: Urgency::Routine, ..f.triage[0].clone() });
        });
        says("triage 1: it contradicts triage 0", |f| {
            f.triage.push(Triage { probability: 0.5, ..f.triage[0].clone() })
        });
        says("classification 1: it contradicts classification 0", |f| {
            f.classifications.push(Classification { probability: 0.75, ..f.classifications[0].clone() });
        });
        let mut agreeing = good();
        agreeing.triage.push(Triage { reason: "look here too".into(), ..agreeing.triage[0].clone() });
        let other = Code::new("39607008", "SCT", "Lung");
        agreeing.triage.push(Triage { level: Urgency::Routine, finding: other, ..agreeing.triage[0].clone() });
        assert!(gate(agreeing, &study(&grid()), &[0], &[]).is_ok(), "the same twice, and another of another level");
    }

    #[test]
    fn texts_that_are_too_long_or_not_text_are_refused() {
        says("triage 0: its reason", |f| f.triage[0].reason = "x".repeat(1025));
        says("triage 0: its reason", |f| f.triage[0].reason = "a\nb".into());
        says("triage 0: its coding scheme", |f| f.triage[0].finding.scheme = "x".into());
        let unfit = |detail: &str| Unfit { reason: liver(), detail: detail.into() };
        let only = |detail: &str| Findings { unfit: Some(unfit(detail)), ..Findings::default() };
        assert!(gate(only("too few slices"), &study(&grid()), &[0], &[]).is_ok());
        let refusal = gate(only(&"x".repeat(1025)), &study(&grid()), &[0], &[]).expect_err("refused").to_string();
        assert!(refusal.contains("unfit: its detail"), "{refusal}");
        says("unfit: 6 other findings", |f| f.unfit = Some(unfit("")));
    }

    #[test]
    fn a_refusal_does_not_repeat_what_the_guest_wrote() {
        let text = refused(good(), |f| segments(f)[1].name = "Doe^John\n".into()).to_string();
        assert!(!text.contains("Doe"), "{text}");
    }
}
