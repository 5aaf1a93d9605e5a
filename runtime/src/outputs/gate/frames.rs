//! What is said of frames: an answer is judged by itself as it comes, a summary as a whole at the end.

use std::collections::BTreeSet;

use super::{Refusal, at, check, code, contradictions, probability, size, unit};
use crate::findings::frames::{FrameAnswer, StreamSummary};

/// Judges what a module says of one frame of `columns` × `rows` pixels.
///
/// # Errors
/// The first thing that is wrong.
pub fn frame_answer(answer: &FrameAnswer, [columns, rows]: [u32; 2], findings_max: usize) -> Result<(), Refusal> {
    let count = answer.labels.len() + answer.boxes.len() + answer.guidance.len();
    check(count <= findings_max, || {
        format!("{count} labels, boxes and guidance pass findings_per_frame_max = {findings_max}")
    })
    .map_err(at("the answer".into()))?;
    answer.quality.map_or(Ok(()), |quality| probability("quality", quality)).map_err(at("the answer".into()))?;
    for (i, label) in answer.labels.iter().enumerate() {
        let checks = code(&label.what).and_then(|()| probability("probability", label.probability));
        checks.map_err(at(format!("label {i}")))?;
    }
    for (i, found) in answer.boxes.iter().enumerate() {
        let checks = code(&found.what).and_then(|()| probability("probability", found.probability)).and_then(|()| {
            check(found.place.fits(columns, rows), || {
                format!("it is empty or leaves the frame of {columns} × {rows} pixels")
            })
        });
        checks.map_err(at(format!("box {i}")))?;
    }
    for (i, guidance) in answer.guidance.iter().enumerate() {
        code(guidance).map_err(at(format!("guidance {i}")))?;
    }
    contradictions("label", answer.labels.iter().map(|l| (&l.what, l.probability.to_bits())))
}

/// Judges what a module says of a stream of which it answered the frames `answered`; lengths only where the size of pixels is
/// `measured`.
///
/// # Errors
/// The first thing that is wrong.
pub fn stream_summary(
    summary: &StreamSummary,
    answered: &BTreeSet<u32>,
    measured: bool,
    findings_max: usize,
) -> Result<(), Refusal> {
    let count = summary.count();
    check(count <= findings_max, || {
        format!("{count} statements and frames that they name pass findings_max = {findings_max}")
    })
    .map_err(at("the summary".into()))?;
    let frames = |frames: &[u32]| {
        let unknown = frames.iter().find(|frame| !answered.contains(frame));
        check(unknown.is_none(), || {
            format!("it names frame {}, which was not answered", unknown.copied().unwrap_or_default())
        })?;
        let each: BTreeSet<_> = frames.iter().collect();
        check(each.len() == frames.len(), || "it names a frame twice".into())
    };
    for (i, c) in summary.conclusions.iter().enumerate() {
        let checks = code(&c.finding).and_then(|()| probability("probability", c.probability));
        checks.and_then(|()| frames(&c.frames)).map_err(at(format!("conclusion {i}")))?;
    }
    for (i, q) in summary.quantities.iter().enumerate() {
        let checks = code(&q.quantity)
            .and_then(|()| unit(&q.unit))
            .and_then(|()| size(&q.unit, measured))
            .and_then(|()| check(q.value.is_finite(), || format!("its value {} is not finite", q.value)));
        checks.and_then(|()| frames(&q.frames)).map_err(at(format!("quantity {i}")))?;
    }
    contradictions("conclusion", summary.conclusions.iter().map(|c| (&c.finding, c.probability.to_bits())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Code;
    use crate::findings::frames::{Conclusion, FrameBox, FrameLabel, Rectangle, StreamQuantity};

    fn contact() -> Code {
        Code::new("CONTACT", "99TEST", "More contact")
    }

    #[track_caller]
    fn refused(expected: &str, change: impl FnOnce(&mut FrameAnswer)) {
        let place = Rectangle { column: 1, row: 1, columns: 3, rows: 3 };
        let mut answer = FrameAnswer {
            quality: Some(1.0),
            labels: vec![FrameLabel { what: contact(), probability: 0.0 }],
            boxes: vec![FrameBox { place, what: contact(), probability: 0.5 }],
            guidance: vec![contact()],
        };
        frame_answer(&answer, [4, 4], 3).expect("fits");
        change(&mut answer);
        let text = frame_answer(&answer, [4, 4], 3).expect_err(expected).to_string();
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn an_answer_that_does_not_fit_is_named() {
        refused("quality NaN is not in 0..=1", |a| a.quality = Some(f32::NAN));
        refused("label 0: its probability 1.5", |a| a.labels[0].probability = 1.5);
        refused("label 0: its coding scheme", |a| a.labels[0].what.scheme = "MINE".into());
        refused("box 0: it is empty or leaves the frame of 4 × 4", |a| a.boxes[0].place.columns = 4);
        refused("box 0: it is empty", |a| a.boxes[0].place.rows = 0);
        refused("guidance 0: its code meaning", |a| a.guidance[0].meaning = "press\nharder".into());
        refused("findings_per_frame_max = 3", |a| a.guidance.push(contact()));
    }

    #[test]
    fn a_summary_names_frames_that_were_answered() {
        let answered = BTreeSet::from([1, 3]);
        let of = |frames: &[u32], value| StreamSummary {
            conclusions: vec![Conclusion { finding: contact(), probability: 0.5, frames: frames.to_vec() }],
            quantities: vec![StreamQuantity { quantity: contact(), value, unit: "1".into(), frames: vec![] }],
        };
        let judged = |summary: &StreamSummary| stream_summary(summary, &answered, true, 4).map_err(|e| e.to_string());
        assert_eq!(judged(&of(&[3, 1], 2.0)), Ok(()));
        for (summary, expected) in [
            (of(&[2], 0.0), "conclusion 0: it names frame 2, which was not answered"),
            (of(&[1, 1], 0.0), "conclusion 0: it names a frame twice"),
            (of(&[], f64::INFINITY), "quantity 0: its value inf is not finite"),
            (of(&[1, 3, 1], 0.0), "findings_max = 4"),
        ] {
            let text = judged(&summary).expect_err(expected);
            assert!(text.contains(expected), "{text}");
        }
        let mut long = of(&[], 2.0);
        long.quantities[0].unit = "mm".into();
        assert_eq!(judged(&long), Ok(()));
        let unknown = stream_summary(&long, &answered, false, 4).expect_err("of what size?").to_string();
        assert!(unknown.contains("quantity 0: it is a length"), "{unknown}");
        let mut twice = of(&[], 0.0);
        twice.conclusions.push(Conclusion { finding: contact(), probability: 0.9, frames: vec![] });
        assert!(judged(&twice).expect_err("contradicts").contains("contradicts conclusion 0"));
    }
}
