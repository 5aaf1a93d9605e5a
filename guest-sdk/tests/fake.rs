//! The fake host does what the contract says: small grids with results worked out by hand.

use gantry_guest::frames::{Answer, Frame, FrameAnalyzer, Rectangle, StreamInfo, Summary};
use gantry_guest::prelude::*;
use gantry_guest::testing::{FakeSeries, FakeStream, FakeStudy, Line, run, stream};

fn row(values: &[f32]) -> Volume {
    let grid = Geometry::upright(Extent::new(values.len() as u32, 1, 1), Vec3::new(1.0, 1.0, 1.0));
    volumes::from_list(values, grid).expect("a row")
}

fn all(volume: &Volume) -> Vec<f32> {
    volume.read(Region { start: Extent::new(0, 0, 0), size: volume.geometry().size }).expect("all of it")
}

#[test]
fn resampling_keeps_the_first_faces_and_interpolates_between_centres() {
    let coarse = row(&[0.0, 2.0, 4.0, 6.0]).resample(Vec3::new(2.0, 1.0, 1.0), Interpolation::Linear).expect("coarser");
    assert_eq!(all(&coarse), [1.0, 5.0]);
    assert_eq!(coarse.geometry().origin.x, 0.5);
    let fine = row(&[0.0, 1.0]).resample(Vec3::new(0.5, 1.0, 1.0), Interpolation::Linear).expect("finer");
    assert_eq!(all(&fine), [0.0, 0.25, 0.75, 1.0]);
    let odd = row(&[0.0, 1.0, 2.0]).resample(Vec3::new(2.0, 1.0, 1.0), Interpolation::Linear).expect("odd");
    assert_eq!((all(&odd), odd.geometry().spacing.x), (vec![0.5, 2.0], 2.0), "the spacing is the one asked for");
    let back = fine.resample_like(&row(&[0.0, 0.0, 0.0]), Interpolation::Nearest, -1.0).expect("back");
    assert_eq!(all(&back)[2], -1.0, "outside of the source is the fill");
}

#[test]
fn orient_flips_and_keeps_every_voxel_where_it_was() {
    let lps = row(&[1.0, 2.0, 3.0]);
    let ras = lps.orient("RAS").expect("an orientation");
    assert_eq!(all(&ras), [3.0, 2.0, 1.0]);
    assert_eq!(ras.geometry().origin, Vec3::new(2.0, 0.0, 0.0));
    assert_eq!(ras.geometry().axes.0, Vec3::new(-1.0, 0.0, 0.0));
    let sideways = lps.orient("SPL").expect("an orientation");
    assert_eq!(sideways.geometry().size, Extent::new(1, 1, 3));
    assert_eq!(all(&sideways.orient("LPS").expect("back")), [1.0, 2.0, 3.0]);
    assert!(lps.orient("LPR").is_err());
}

#[test]
fn padding_is_centred_with_the_odd_voxel_behind() {
    let padded = row(&[1.0, 2.0]).pad(Extent::new(5, 1, 1), 9.0).expect("larger");
    assert_eq!(all(&padded), [9.0, 1.0, 2.0, 9.0, 9.0]);
    assert_eq!(padded.geometry().origin.x, -1.0);
    assert!(row(&[1.0, 2.0]).pad(Extent::new(1, 1, 1), 0.0).is_err());
}

#[test]
fn point_operations() {
    let volume = row(&[-100.0, 0.0, 100.0]);
    assert_eq!(all(&volume.window(0.0, 100.0).expect("window")), [0.0, 0.5, 1.0]);
    assert_eq!(all(&volume.clip(-1.0, 1.0).expect("clip")), [-1.0, 0.0, 1.0]);
    assert_eq!(all(&volume.affine(0.5, 1.0).expect("affine")), [-49.0, 1.0, 51.0]);
    assert_eq!(all(&volume.threshold(0.0, 100.0).expect("threshold")), [0.0, 1.0, 1.0]);
    assert_eq!(all(&row(&[3.0, 3.0]).z_score().expect("constant")), [0.0, 0.0]);
    let statistics = volume.statistics(None).expect("statistics");
    assert_eq!((statistics.mean, statistics.count), (0.0, 3));
    assert!((statistics.deviation - 81.64966).abs() < 1e-4);
    assert!(volume.window(0.0, 0.0).is_err());
}

#[test]
fn components_are_per_label_and_largest_first() {
    let labels = row(&[1.0, 1.0, 0.0, 1.0, 2.0, 2.0, 2.0]);
    let found: Vec<_> = labels.components(1).expect("labels").iter().map(|c| (c.label, c.voxels)).collect();
    assert_eq!(found, [(2, 3), (1, 2), (1, 1)]);
    let second = &labels.components(2).expect("labels")[1];
    assert_eq!((second.bounds.start.x, second.bounds.size.x, second.centroid.x), (0, 2, 0.5));
    assert!((second.millilitres - 0.002).abs() < 1e-12);
    assert_eq!(all(&labels.keep_largest(1).expect("labels")), [1.0, 1.0, 0.0, 0.0, 2.0, 2.0, 2.0]);
    assert!(row(&[0.5]).components(1).is_err());
}

#[test]
fn scores_become_labels_between_their_centres() {
    let coarse = row(&[0.0, 0.0]).resample(Vec3::new(1.0, 1.0, 1.0), Interpolation::Nearest).expect("a grid");
    let fine = coarse.resample(Vec3::new(0.25, 1.0, 1.0), Interpolation::Nearest).expect("a finer grid");
    // Channel 0 falls from 1 to 0, channel 1 rises from 0 to 0.5: they cross at two thirds.
    let scores = Tensor::from_f32(&[1, 2, 1, 1, 2], &[1.0, 0.0, 0.0, 0.5]);
    assert_eq!(all(&volumes::argmax(&scores, &coarse, &coarse).expect("labels")), [0.0, 1.0]);
    assert_eq!(
        all(&volumes::argmax(&scores, &coarse, &fine).expect("labels")),
        [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    );
    let second = volumes::from_tensor(&scores, 1, &coarse).expect("a channel");
    assert_eq!(all(&second), [0.0, 0.5]);
    assert!(volumes::from_tensor(&scores, 2, &coarse).is_err());
    let softmax = volumes::softmax(&scores, 1).expect("softmax").to_f32().expect("f32");
    assert!((softmax[0] - 0.731_058_6).abs() < 1e-6 && (softmax[0] + softmax[2] - 1.0).abs() < 1e-6);
}

#[test]
fn batches_of_slices_and_slabs() {
    let grid = Geometry::upright(Extent::new(1, 1, 3), Vec3::new(1.0, 1.0, 2.0));
    let volume = volumes::from_list(&[1.0, 2.0, 3.0], grid).expect("a column");
    let batch = volume.to_slice_tensor(TensorType::U8).expect("u8");
    assert_eq!((batch.dimensions(), batch.data()), (vec![3, 1, 1, 1], vec![1, 2, 3]));
    let scores = Tensor::from_f32(&[3, 2, 1, 1], &[1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
    assert_eq!(all(&volumes::argmax(&scores, &volume, &volume).expect("labels")), [0.0, 1.0, 1.0]);
    let slabs = [grid.slices(0, 1), grid.slices(1, 2)].map(|slab| volume.crop(slab).expect("a slab"));
    assert_eq!(all(&volumes::stack(&slabs).expect("whole")), [1.0, 2.0, 3.0]);
    assert!(volumes::stack([&slabs[1], &slabs[0]]).is_err());
    assert!(volume.crop(grid.slices(2, 2)).is_err());
}

struct Careless;

impl Analyzer for Careless {
    fn analyze(study: &Study) -> Result<(), Error> {
        let series = study.first("CT")?;
        warn!("{} has {} volume", series.id(), series.volumes());
        match series.attribute("SliceThickness")?.as_deref() {
            Some("shape") => findings::segmentation(&row(&[1.0]), &[]),
            Some("value") => findings::segmentation(&series.volume(0)?, &[]),
            Some("probability") => findings::classify(&Code::sct("64572001", "Disease"), 1.7),
            Some("level") => {
                findings::triage(Urgency::Routine, &Code::sct("64572001", "Disease"), 0.5, "it can wait")?;
                findings::triage(Urgency::Urgent, &Code::sct("64572001", "Disease"), 0.5, "it cannot wait")
            }
            Some("likely") => {
                findings::segmentation(
                    &series.volume(0)?,
                    &[Segment::anatomy(1, "One", Code::sct("64572001", "One"))],
                )?;
                findings::probabilities(1, &series.volume(0)?.affine(2.0, 0.0)?)
            }
            Some("unstated") => findings::probabilities(1, &series.volume(0)?),
            Some("segment") => findings::measure(&Code::sct("118565006", "Volume"), 1.0, "mL", Some(1)),
            Some("model") => Model::load("someone-elses").map(|_| ()),
            other => Err(Error::new(format_args!("nothing to do for {other:?}"))),
        }
    }
}

#[test]
fn what_the_host_would_refuse_the_fake_refuses() {
    let grid = Geometry::upright(Extent::new(2, 1, 1), Vec3::new(1.0, 1.0, 1.0));
    let refusal = |thickness| {
        let series = FakeSeries::new("CT").attribute("SliceThickness", thickness).volume(grid, vec![0.0, 1.0]);
        run::<Careless>(FakeStudy::new().series(series)).expect_err("refused").to_string()
    };
    assert!(refusal("shape").contains("grid of a series"));
    assert!(refusal("value").contains("value 1, which is no segment"));
    assert!(refusal("probability").contains("1.7 is not in 0..=1"));
    assert!(refusal("level").contains("another level or probability"));
    assert!(refusal("likely").contains("voxel, 2 is not in 0..=1"));
    assert!(refusal("unstated").contains("segment 1 was not stated before"));
    assert!(refusal("segment").contains("not stated before"));
    assert!(refusal("model").starts_with("not-found"));
    assert_eq!(refusal(""), "nothing to do for None");
    let denied = run::<Careless>(FakeStudy::new().series(FakeSeries::new("CT"))).expect_err("not granted");
    assert!(matches!(denied, Error::Host(Failure::Denied(_))), "{denied}");
    let absent = run::<Careless>(FakeStudy::new().series(FakeSeries::new("MR"))).expect_err("no CT");
    assert!(absent.to_string().contains("no CT series"));
}

struct Chatty;

impl Analyzer for Chatty {
    fn analyze(_: &Study) -> Result<(), Error> {
        info!("one {}", 1);
        debug!("two");
        findings::unfit(&Code::dcm("128632", "Other"), "too short")
    }
}

#[test]
fn the_log_and_refusals_of_the_input_are_kept_in_order() {
    let stated = run::<Chatty>(FakeStudy::new()).expect("done");
    assert_eq!(stated.log, [Line::Info("one 1".into()), Line::Debug("two".into())]);
    assert_eq!(stated.unfit.expect("unfit").1, "too short");
}

#[test]
fn earlier_studies_have_series_of_their_own() {
    struct Growth;
    impl Analyzer for Growth {
        fn analyze(study: &Study) -> Result<(), Error> {
            let mean = |series: &Series| Ok::<_, Error>(series.volume(0)?.statistics(None)?.mean);
            for prior in study.earlier()? {
                let before = prior.series().first().ok_or("no series")?;
                assert_ne!(before.id(), study.series()[0].id());
                assert_eq!(before.attribute("KVP")?.as_deref(), Some("120"));
                let grown = f64::from(mean(&study.series()[0])? - mean(before)?) / f64::from(prior.days_before());
                findings::measure(&Code::new("GROWTH", "99TEST", "A day"), grown, "1", None)?;
            }
            Ok(())
        }
    }
    let grid = Geometry::upright(Extent::new(1, 1, 1), Vec3::new(1.0, 1.0, 1.0));
    let series = |value| FakeSeries::new("CT").volume(grid, vec![value]);
    let study = || FakeStudy::new().series(series(9.0));
    let with = study().prior(2, [series(5.0).attribute("KVP", "120")]).prior(8, [series(1.0).attribute("KVP", "120")]);
    let stated = run::<Growth>(with).expect("analyzed");
    assert_eq!(stated.measurements.iter().map(|m| m.1).collect::<Vec<_>>(), [2.0, 1.0]);
    assert!(run::<Growth>(study()).expect("analyzed").measurements.is_empty());
}

#[test]
fn filters_smooth_and_keep_what_they_are_to_keep() {
    let along_x = |x| Vec3::new(x, 0.0, 0.0);
    let spike = row(&[0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0]);
    let smooth = all(&spike.gaussian(along_x(0.5)).expect("a sigma"));
    assert!((smooth.iter().sum::<f32>() - 8.0).abs() < 1e-5 && smooth[3] < 7.0 && smooth[2] == smooth[4]);
    assert_eq!(all(&spike.gaussian(along_x(0.0)).expect("nothing")), all(&spike));
    assert_eq!(all(&spike.median(Extent::new(1, 0, 0)).expect("a radius")), [0.0; 7]);
    assert_eq!(all(&row(&[0.0, 2.0, 6.0]).gradient_magnitude().expect("a gradient")), [1.0, 3.0, 2.0]);
    assert!(spike.gaussian(along_x(-1.0)).is_err() && spike.median(Extent::new(100, 100, 1)).is_err());
}

#[test]
fn masks_grow_and_shrink_by_a_ball() {
    let mask = row(&[1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    let changed = |operation, radius| all(&mask.morphology(operation, radius).expect("a mask"));
    assert_eq!(changed(Morphology::Dilate, 1.0), [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(changed(Morphology::Erode, 1.0), [0.0; 7]);
    assert_eq!(changed(Morphology::Open, 0.5), all(&mask));
    assert_eq!(changed(Morphology::Close, 1.0), [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    assert!(mask.morphology(Morphology::Open, 0.0).is_err());
    assert!(row(&[0.5]).morphology(Morphology::Open, 1.0).is_err());
}

#[test]
fn slices_become_one_or_a_slab() {
    let grid = Geometry::upright(Extent::new(1, 1, 4), Vec3::new(1.0, 1.0, 2.0));
    let column = volumes::from_list(&[1.0, 5.0, 3.0, 2.0], grid).expect("a column");
    let largest = column.project(Axis::Z, Projection::Maximum).expect("one slice");
    assert_eq!((all(&largest), largest.geometry().spacing.z, largest.geometry().origin.z), (vec![5.0], 8.0, 3.0));
    assert_eq!(all(&column.slab(Projection::Mean, 2).expect("a slab")), [3.0, 4.0, 2.5, 2.0]);
    assert_eq!(all(&column.slab(Projection::Minimum, 3).expect("a slab")), [1.0, 1.0, 2.0, 2.0]);
    assert!(column.slab(Projection::Mean, 0).is_err());
}

#[test]
fn percentiles_lie_between_voxels() {
    let volume = row(&[4.0, 1.0, 2.0, f32::NAN, 3.0]);
    assert_eq!(volume.percentiles(&[0.0, 50.0, 100.0]).expect("finite"), [1.0, 2.5, 4.0]);
    assert!(volume.percentiles(&[101.0]).is_err() && volume.percentiles(&[]).is_err());
    let normal = all(&row(&[0.0, 5.0, 10.0]).normalise(0.0, 100.0).expect("a range"));
    assert_eq!(normal, [0.0, 0.5, 1.0]);
    let equal = all(&row(&[0.0, 1.0, 1.0, 4.0]).equalise(4).expect("bins"));
    assert!(equal[0] < equal[1] && equal[1] == equal[2] && equal[3] == 1.0, "{equal:?}");
}

#[test]
fn a_spline_goes_through_voxels_and_bends_between_them() {
    let wave = row(&[0.0, 1.0, 0.0, -1.0, 0.0, 1.0, 0.0]);
    let same = all(&wave.onto(wave.geometry(), Sampling::Cubic, 9.0).expect("its own grid"));
    assert!(same.iter().zip(all(&wave)).all(|(a, b)| (a - b).abs() < 1e-5), "{same:?}");
    let fine = all(&wave.resample_cubic(Vec3::new(0.5, 1.0, 1.0)).expect("finer"));
    assert!(fine[2] > 0.75 && fine[3] > 0.75, "above the line between voxels: {fine:?}");
    let turned = Geometry {
        axes: (Vec3::new(0.0, 1.0, 0.0), Vec3::new(-1.0, 0.0, 0.0), wave.geometry().axes.2),
        ..wave.geometry()
    };
    assert_eq!(all(&wave.onto(turned, Sampling::Nearest, 9.0).expect("a grid"))[1..], [9.0; 6]);
}

#[test]
fn the_body_is_the_largest_region_with_what_it_encloses() {
    let grid = Geometry::upright(Extent::new(12, 12, 1), Vec3::new(2.0, 2.0, 2.0));
    let voxels: Vec<f32> = (0..144)
        .map(|i| match (i % 12, i / 12) {
            (4..=5, 4..=5) | (10.., _) => -900.0,
            (1..=8, 1..=8) => 30.0,
            (0..=9, 11) => 50.0,
            _ => -1000.0,
        })
        .collect();
    let slice = volumes::from_list(&voxels, grid).expect("a slice");
    let body = all(&slice.body_mask(-400.0).expect("a body"));
    assert_eq!((body[4 * 12 + 4], body[11 * 12 + 5], body[0]), (1.0, 0.0, 0.0), "lung, table, air");
    let breast = all(&slice.breast_mask().expect("a breast"));
    assert_eq!((breast[4 * 12 + 4], breast[0]), (1.0, 0.0));
}

struct OverWindows;

impl Analyzer for OverWindows {
    fn analyze(study: &Study) -> Result<(), Error> {
        let volume = study.first("CT")?.volume(0)?;
        let mirrored = Axes { x: true, y: true, z: false };
        let windows = Windows { batch: 2, mirror: mirrored, quarter_turns: true, ..Windows::new(Extent::new(3, 3, 2)) };
        let model = Model::load("double")?;
        let twice = model.sliding_window([&volume, &volume], windows)?;
        let apart = volumes::from_tensor(&twice, 0, &volume)?;
        let apart = all(&apart).iter().zip(all(&volume)).map(|(a, b)| (a - 2.0 * b).abs()).fold(0.0, f32::max);
        for wrong in [
            Windows { overlap: 1.0, ..windows },
            Windows { batch: 0, ..windows },
            Windows { size: Extent::new(3, 4, 2), ..windows },
            Windows { size: Extent::new(0, 0, 2), ..windows },
        ] {
            assert!(model.sliding_window([&volume], wrong).is_err(), "{wrong:?}");
        }
        assert!(model.sliding_window([], windows).is_err());
        findings::measure(&Code::new("APART", "99TEST", "Apart"), apart.into(), "1", None)
    }
}

/// Keeps the brightness of the frame before, and tells how much it changed.
struct Change {
    whole: Rectangle,
    before: Option<u8>,
    restarts: u32,
}

impl FrameAnalyzer for Change {
    fn open(info: &StreamInfo) -> Result<Self, Error> {
        Ok(Self { whole: info.whole(), before: None, restarts: info.restarts })
    }

    fn next(&mut self, frame: &Frame<'_>) -> Result<Answer, Error> {
        let now = frame.brightness(self.whole)?[0];
        let change = self.before.replace(now).map_or(0, |before| now.abs_diff(before));
        if now == 13 {
            return Err("unlucky".into());
        }
        info!("{} at {} µs, {} skipped, {change}", frame.number(), frame.time_us(), frame.skipped());
        let channel = frame.volume(Some(2)).map_or(f32::NAN, |blue| all(&blue)[0]);
        let answer = Answer::of_quality(f32::from(change) / 255.0);
        Ok(if channel.is_nan() { answer } else { answer.label(Code::new("BLUE", "99TEST", "Blue"), channel / 255.0) })
    }

    fn close(self) -> Result<Summary, Error> {
        Ok(Summary::new().measure(Code::new("R", "99TEST", "Restarts"), self.restarts.into(), "1", vec![1]))
    }
}

#[test]
fn a_network_looks_at_windows_under_every_turn() {
    let grid = Geometry::upright(Extent::new(5, 4, 1), Vec3::new(1.0, 1.0, 1.0));
    let series = FakeSeries::new("CT").volume_from(grid, |[x, y, _]| (x * x + 3 * y) as f32);
    let study = FakeStudy::new().series(series).model("double", |inputs| {
        let (_, seen) = &inputs[0];
        assert_eq!(seen.dimensions(), [2, 2, 2, 3, 3]);
        let values = seen.to_f32().map_err(|e| e.to_string())?;
        let sum = |item: &[f32]| item[..18].iter().zip(&item[18..]).map(|(a, b)| a + b).collect::<Vec<_>>();
        let sums: Vec<f32> = values.chunks(36).flat_map(sum).collect();
        Ok(vec![("sum".into(), Tensor::from_f32(&[2, 1, 2, 3, 3], &sums))])
    });
    let stated = run::<OverWindows>(study).expect("analyzed");
    assert!(stated.measurements[0].1 < 1e-5, "{:?}", stated.measurements);
}

#[test]
fn a_module_that_looks_at_frames_keeps_what_it_knows_until_it_is_ended() {
    let played = FakeStream::grey(2, 1).frame(|_, _| 10).frame(|_, _| 13).skip(2).frame(|_, _| 61).restart();
    let played = stream::<Change>(played.frame(|_, _| 0)).expect("played");
    let quality: Vec<_> = played.answers.iter().map(|(n, a)| (*n, a.as_ref().map(|a| a.quality).ok())).collect();
    assert_eq!(quality, [(1, Some(Some(0.0))), (2, None), (5, Some(Some(48.0 / 255.0))), (7, Some(Some(0.0)))]);
    let log = ["1 at 0 µs, 0 skipped, 0", "5 at 133332 µs, 3 skipped, 48", "7 at 199998 µs, 1 skipped, 0"];
    assert_eq!(played.log, log.map(|line| Line::Info(line.into())));
    assert_eq!(played.summary.quantities[0].value, 1.0, "begun anew once");
}

#[test]
fn colours_have_channels_and_a_brightness() {
    let colours = FakeStream::colour(1, 1).frame_of_colours(|_, _| [0, 255, 51]);
    let played = stream::<Change>(colours).expect("played");
    let answer = played.answers[0].1.as_ref().expect("an answer");
    assert_eq!(answer.labels[0].probability, 0.2);
}

#[test]
fn an_answer_that_the_host_would_refuse_is_refused() {
    struct Wild;
    impl FrameAnalyzer for Wild {
        fn open(_: &StreamInfo) -> Result<Self, Error> {
            Ok(Self)
        }
        fn next(&mut self, frame: &Frame<'_>) -> Result<Answer, Error> {
            let place = Rectangle { column: 1, row: 0, columns: 2, rows: 1 };
            let what = Code::new("A", "99TEST", "A");
            Ok(match frame.number() {
                1 => Answer::of_quality(1.5),
                _ => Answer::of_quality(1.0).locate(place, what, 1.0),
            })
        }
        fn close(self) -> Result<Summary, Error> {
            Ok(Summary::default())
        }
    }
    let refused = |played: FakeStream| stream::<Wild>(played).expect_err("refused").to_string();
    assert!(refused(FakeStream::grey(2, 1).frame(|_, _| 0)).contains("1.5 is not in 0..=1"));
    assert!(refused(FakeStream::grey(2, 1).skip(1).frame(|_, _| 0)).contains("leaves the frame"));
}
