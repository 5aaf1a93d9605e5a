//! The ten actions by which the MIDI-B challenge (2024) scored de-identification, over files of our own canaries.
//!
//! For each action its own question, as the challenge asks it: is the attribute there, is its text there or gone, did the
//! day and the UID change, are UIDs and patient IDs replaced the same way everywhere, are pixels hidden where they should be
//! and the same elsewhere. The score is right answers of all answers.

use std::collections::BTreeMap;

use crate::canary::SCRIPTS;
use crate::dicom::Syntax;
use crate::read::{At, Read};
use crate::study::{Cleaned, Study, clean, days, mapping, study};
use gantry_cloud_sync::deid::{Deidentifier, KnownDevice, Profile, Rectangle};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    TagRetained,
    TextNotNull,
    TextRetained,
    TextRemoved,
    DateShifted,
    UidChanged,
    UidConsistent,
    PatidConsistent,
    PixelsHidden,
    PixelsRetained,
}

/// Right answers and all answers, by action.
#[derive(Default)]
pub(crate) struct Score {
    answers: BTreeMap<Action, (usize, usize)>,
    wrong: Vec<String>,
}

impl Score {
    fn answer(&mut self, action: Action, right: bool, about: impl Fn() -> String) {
        let (rights, all) = self.answers.entry(action).or_default();
        *rights += usize::from(right);
        *all += 1;
        if !right {
            self.wrong.push(format!("{action:?}: {}", about()));
        }
    }

    fn print(&self, of: &str) {
        for (action, (rights, all)) in &self.answers {
            println!("{of}: {action:?} {rights}/{all}");
        }
        let (rights, all) = self.answers.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        println!("{of}: {:.2} % of {all} actions", 100.0 * rights as f64 / all as f64);
    }
}

/// What must stay whatever the profile.
const RETAINED: [u32; 12] = [
    0x0008_0008,
    0x0008_0060,
    0x0008_0070,
    0x0008_1090,
    0x0018_0015,
    0x0018_0050,
    0x0018_0060,
    0x0018_1210,
    0x0020_0013,
    0x0020_0032,
    0x0020_0037,
    0x0028_0030,
];
/// What must be there and say something.
const NOT_NULL: [u32; 6] = [0x0008_0016, 0x0008_0018, 0x0010_0020, 0x0020_000D, 0x0020_000E, 0x0012_0063];
const DAYS: [u32; 4] = [0x0008_0020, 0x0008_0021, 0x0008_0022, 0x0008_0023];

/// Words of a text that are letters or digits, in small letters.
fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn score(study: &Study, cleaned: &Cleaned, descriptors: bool, score: &mut Score) {
    let map = mapping(study, cleaned);
    let mut patients: Vec<String> = Vec::new();
    for (source, output) in study.files.iter().zip(&cleaned.files) {
        let (source, output) = (Read::of(source), Read::of(output));
        let has = |read: &Read, tag: u32| read.text(tag).is_some();
        for tag in RETAINED.into_iter().filter(|&tag| has(&source, tag)) {
            score.answer(Action::TagRetained, has(&output, tag), || format!("{tag:08X}"));
            let same = source.text(tag) == output.text(tag);
            score.answer(Action::TextRetained, same, || format!("{tag:08X}"));
        }
        if descriptors {
            let kept = output.text(0x0008_1030).is_some_and(|text| text == "Abdomen portal venous");
            score.answer(Action::TextRetained, kept, || "Study Description".into());
        }
        for tag in NOT_NULL {
            score.answer(Action::TextNotNull, output.text(tag).is_some_and(|text| !text.is_empty()), || {
                format!("{tag:08X}")
            });
        }
        removed(study, &source, &output, score);
        for tag in DAYS.into_iter().filter(|&tag| has(&source, tag)) {
            let moved = source.text(tag).and_then(days).zip(output.text(tag).and_then(days));
            score.answer(Action::DateShifted, moved.is_some_and(|(was, is)| was != is), || format!("{tag:08X}"));
        }
        for (at, old) in source.uids() {
            let Some(new) = output.values.get(at) else { continue };
            score.answer(Action::UidChanged, new.text != old, || format!("{at:X?}"));
            score.answer(Action::UidConsistent, map.get(old) == Some(&new.text), || format!("{at:X?}"));
        }
        patients.push(output.text(0x0010_0020).unwrap_or_default().to_owned());
        let consistent = !patients[0].is_empty() && patients.last() == patients.first();
        score.answer(Action::PatidConsistent, consistent, || "0010,0020".into());
        if source.bytes(0x7FE0_0010).is_some() {
            let same = source.bytes(0x7FE0_0010) == output.bytes(0x7FE0_0010);
            score.answer(Action::PixelsRetained, same, || "7FE0,0010".into());
        }
    }
}

/// Each identifier in each value that had it: none of its words is left there.
fn removed(study: &Study, source: &Read, output: &Read, score: &mut Score) {
    use gantry_cloud_sync::verify::Kind;
    for (kind, text) in study.person.identifiers() {
        if matches!(kind, Kind::Uid | Kind::Date | Kind::Time) {
            continue;
        }
        let sought = words(&text);
        let had = |entry: &str| entry.to_lowercase().contains(&text.to_lowercase());
        let places: Vec<&At> = source.values.iter().filter(|(_, entry)| had(&entry.text)).map(|(at, _)| at).collect();
        for at in places {
            let left = output.values.get(at).map(|entry| words(&entry.text)).unwrap_or_default();
            let gone = !sought.iter().any(|word| word.chars().count() > 2 && left.contains(word));
            score.answer(Action::TextRemoved, gone, || format!("{kind} at {at:X?}"));
        }
    }
}

/// An ultrasound frame with a bright banner where its device writes names, and a mask for it.
fn hidden_pixels(score: &mut Score) {
    let study = study(77, "latin", Syntax::Explicit);
    let (rows, columns) = (24usize, 32usize);
    let mut set = study.person.slice(1, "1.2.826.0.1.3680043.9.7.7.7.1");
    let pixels: Vec<u8> =
        (0..rows * columns).map(|at| if at / columns < 6 { 200 + (at % 50) as u8 } else { (at % 90) as u8 }).collect();
    set.put(0x0008_0016, b"UI", "1.2.840.10008.5.1.4.1.1.6.1")
        .put(0x0008_0060, b"CS", "US")
        .put(0x0028_0010, b"US", (rows as u16).to_le_bytes())
        .put(0x0028_0011, b"US", (columns as u16).to_le_bytes())
        .put(0x0028_0100, b"US", 8u16.to_le_bytes())
        .put(0x0028_0101, b"US", 8u16.to_le_bytes())
        .put(0x0028_0102, b"US", 7u16.to_le_bytes())
        .put(0x7FE0_0010, b"OB", pixels.clone());
    let mut profile = Profile::preset("qa-minimal").expect("a preset");
    profile.pixels.known_devices.push(KnownDevice {
        manufacturer: "Lantern Imaging".into(),
        model: "Beacon 64".into(),
        modality: "US".into(),
        rows: rows as u16,
        columns: columns as u16,
        masks: vec![Rectangle { x: 0, y: 0, width: columns as u32, height: 6 }],
    });
    let file = set.file(Syntax::Explicit, &[0; 128], &[]);
    let output =
        Deidentifier::new(profile, crate::table::secret()).deidentify_bytes(file).expect("a mask makes it safe");
    let output = Read::of(output.as_bytes());
    let after = output.bytes(0x7FE0_0010).expect("pixels");
    let (banner, below) = after.split_at(6 * columns);
    let uniform = banner.iter().all(|pixel| *pixel == banner[0]);
    score.answer(Action::PixelsHidden, uniform && banner != &pixels[..6 * columns], || "the banner".into());
    score.answer(Action::PixelsRetained, below == &pixels[6 * columns..], || "below the banner".into());
}

#[test]
fn every_action_of_midi_b_is_right() {
    let profile = Profile::preset("qa-minimal").expect("a preset");
    let mut all = Score::default();
    for (seed, script) in SCRIPTS.into_iter().enumerate() {
        let study = study(300 + seed as u64, script, Syntax::Explicit);
        score(&study, &clean(&study, &profile), profile.clean_descriptors, &mut all);
    }
    hidden_pixels(&mut all);
    all.print(&profile.name);
    assert_eq!(all.answers.len(), 10, "every action was asked for");
    assert!(
        all.wrong.is_empty(),
        "{} wrong answers, such as {:#?}",
        all.wrong.len(),
        &all.wrong[..all.wrong.len().min(20)]
    );
}

/// The scorer sees what is wrong: a study that was not de-identified has every action wrong that asks for a change.
#[test]
fn a_study_as_it_was_scores_badly() {
    let study = study(400, "latin", Syntax::Explicit);
    let cleaned = Cleaned { files: study.files.clone(), result: study.result.clone() };
    let mut all = Score::default();
    score(&study, &cleaned, true, &mut all);
    for action in [Action::TextRemoved, Action::DateShifted, Action::UidChanged] {
        let (rights, answers) = all.answers[&action];
        assert!(rights == 0 && answers > 10, "{action:?}: {rights} of {answers} are right");
    }
    for action in [Action::TagRetained, Action::TextRetained, Action::PixelsRetained] {
        let (rights, answers) = all.answers[&action];
        assert_eq!(rights, answers, "{action:?}");
    }
}
