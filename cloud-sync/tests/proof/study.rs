//! A study of images, a segmentation, a report and a result: after de-identification they mean each other as before.

use std::collections::BTreeMap;

use crate::canary::{Person, Random, SCRIPTS};
use crate::dicom::{DataSet, Syntax};
use crate::read::Read;
use crate::table::secret;
use gantry_cloud_sync::deid::{Deidentifier, Profile, Subject};
use gantry_cloud_sync::verify::{Limits, NotProven, Retain, Verifier, release};

/// Files of a study, and its result as JSON.
pub(crate) struct Study {
    pub(crate) person: Person,
    pub(crate) files: Vec<Vec<u8>>,
    pub(crate) result: Vec<u8>,
}

/// A second day, when the report was made: so far after the study.
const DAYS_LATER: i64 = 9;

pub(crate) fn study(seed: u64, script: &str, syntax: Syntax) -> Study {
    let mut random = Random::seeded(seed);
    let person = Person::new(&mut random, script);
    let images: Vec<String> = (0..4).map(|_| random.uid()).collect();
    let (segmentation, report, tracking) = (random.uid(), random.uid(), random.uid());
    let (series_of_segments, series_of_report) = (random.uid(), random.uid());
    let mut sets: Vec<DataSet> = images.iter().zip(1..).map(|(uid, number)| person.slice(number, uid)).collect();

    let mut segments = person.slice(1, &segmentation);
    let reference = |uid: &str, class: &str| {
        let mut item = DataSet::default();
        item.put(0x0008_1150, b"UI", class).put(0x0008_1155, b"UI", uid);
        item
    };
    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
    const SEG: &str = "1.2.840.10008.5.1.4.1.1.66.4";
    let frame = |uid: &str| {
        let (mut source, mut derivation, mut frame) = (reference(uid, CT), DataSet::default(), DataSet::default());
        source.put_items(0x0040_A170, vec![code("121322", "DCM", "Source image for image processing operation")]);
        derivation
            .put_items(0x0008_2112, vec![source])
            .put_items(0x0008_9215, vec![code("113076", "DCM", "Segmentation")]);
        frame.put_items(0x0008_9124, vec![derivation]);
        frame
    };
    let mut segment = DataSet::default();
    segment
        .put(0x0062_0004, b"US", 1u16.to_le_bytes())
        .put(0x0062_0005, b"LO", "Liver")
        .put(0x0062_0008, b"CS", "AUTOMATIC")
        .put(0x0062_0020, b"UT", "liver 1")
        .put(0x0062_0021, b"UI", tracking.as_str())
        .put_items(0x0062_0003, vec![code("123037004", "SCT", "Anatomical Structure")])
        .put_items(0x0062_000F, vec![code("10200004", "SCT", "Liver")]);
    let mut series = DataSet::default();
    series
        .put(0x0020_000E, b"UI", person.series.as_str())
        .put_items(0x0008_114A, images.iter().map(|uid| reference(uid, CT)).collect());
    segments
        .put(0x0008_0016, b"UI", SEG)
        .put(0x0008_0060, b"CS", "SEG")
        .put(0x0020_000E, b"UI", series_of_segments.as_str())
        .put(0x0070_0080, b"CS", "LIVER")
        .put(0x0070_0081, b"LO", "Segments")
        .put_items(0x0008_1115, vec![series])
        .put_items(0x0062_0002, vec![segment])
        .put_items(0x5200_9230, images.iter().map(|uid| frame(uid)).collect());
    sets.push(segments);
    sets.push(report_set(&person, &report, &series_of_report, &images, &segmentation));

    let result = serde_json::json!({
        "schema": 1,
        "study": person.study,
        "inputs": images.iter().map(|uid| serde_json::json!({"sop_instance_uid": uid})).collect::<Vec<_>>(),
        "outputs": [
            {"name": "segments", "sop_instance_uid": segmentation, "series_instance_uid": series_of_segments},
            {"name": "report", "sop_instance_uid": report}
        ],
        "findings": [{"label": "liver", "tracking_uid": tracking, "volume_ml": 1432.5}],
        "patient": {"name": person.name, "id": person.id},
    });
    let files = sets.iter().map(|set| set.file(syntax, &[0; 128], &[])).collect();
    Study { person, files, result: result.to_string().into() }
}

fn code(value: &str, scheme: &str, meaning: &str) -> DataSet {
    let mut item = DataSet::default();
    item.put(0x0008_0100, b"SH", value).put(0x0008_0102, b"SH", scheme).put(0x0008_0104, b"LO", meaning);
    item
}

fn report_set(person: &Person, uid: &str, series: &str, images: &[String], segmentation: &str) -> DataSet {
    let item = |kind: &str, concept: DataSet| {
        let mut item = DataSet::default();
        item.put(0x0040_A010, b"CS", "CONTAINS").put(0x0040_A040, b"CS", kind).put_items(0x0040_A043, vec![concept]);
        item
    };
    let mut observer = item("PNAME", code("121008", "DCM", "Person Observer Name"));
    observer.put(0x0040_A123, b"PN", person.physician.as_str());
    let mut text = item("TEXT", code("121071", "DCM", "Finding"));
    text.put(0x0040_A160, b"UT", format!("{} has a hepatic lesion; call {}", person.family, person.phone));
    let mut tracked = item("UIDREF", code("112040", "DCM", "Tracking Unique Identifier"));
    tracked.put(0x0040_A124, b"UI", segmentation);
    let mut volume = item("NUM", code("118565006", "SCT", "Volume"));
    let mut measured = DataSet::default();
    measured.put(0x0040_A30A, b"DS", "1432.5").put_items(0x0040_08EA, vec![code("mL", "UCUM", "milliliter")]);
    volume.put_items(0x0040_A300, vec![measured]);
    let mut image = item("IMAGE", code("260753009", "SCT", "Source"));
    let mut reference = DataSet::default();
    reference.put(0x0008_1150, b"UI", "1.2.840.10008.5.1.4.1.1.2").put(0x0008_1155, b"UI", images[0].as_str());
    image.put_items(0x0008_1199, vec![reference]);

    let evidence = |uid: &str| {
        let mut item = DataSet::default();
        item.put(0x0008_1150, b"UI", "1.2.840.10008.5.1.4.1.1.2").put(0x0008_1155, b"UI", uid);
        item
    };
    let (mut of_series, mut of_study) = (DataSet::default(), DataSet::default());
    of_series
        .put(0x0020_000E, b"UI", person.series.as_str())
        .put_items(0x0008_1199, images.iter().map(|uid| evidence(uid)).collect());
    of_study.put(0x0020_000D, b"UI", person.study.as_str()).put_items(0x0008_1115, vec![of_series]);

    let mut set = person.slice(1, uid);
    set.0.retain(|element| !matches!(element.tag >> 16, 0x0028 | 0x7FE0 | 0x0018) && element.tag != 0x0020_0032);
    set.put(0x0008_0016, b"UI", "1.2.840.10008.5.1.4.1.1.88.33")
        .put(0x0008_0060, b"CS", "SR")
        .put(0x0008_0023, b"DA", day_of(days(&person.day).expect("a day") + DAYS_LATER))
        .put(0x0020_000E, b"UI", series)
        .put(0x0040_A040, b"CS", "CONTAINER")
        .put(0x0040_A050, b"CS", "SEPARATE")
        .put(0x0040_A491, b"CS", "COMPLETE")
        .put(0x0040_A493, b"CS", "UNVERIFIED")
        .put_items(0x0040_A043, vec![code("126000", "DCM", "Imaging Measurement Report")])
        .put_items(0x0040_A375, vec![of_study])
        .put_items(0x0040_A730, vec![observer, text, tracked, volume, image]);
    set
}

/// Days since some day, by the calendar that everybody has (Howard Hinnant's count).
pub(crate) fn days(da: &str) -> Option<i64> {
    let (y, m, d) =
        (da.get(..4)?.parse::<i64>().ok()?, da.get(4..6)?.parse::<i64>().ok()?, da.get(6..8)?.parse::<i64>().ok()?);
    let y = if m <= 2 { y - 1 } else { y };
    let day_of_year = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    Some(
        y.div_euclid(400) * 146_097 + y.rem_euclid(400) * 365 + y.rem_euclid(400) / 4 - y.rem_euclid(400) / 100
            + day_of_year,
    )
}

fn day_of(days: i64) -> String {
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let m = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * m + 2) / 5 + 1, if m < 10 { m + 3 } else { m - 9 });
    format!("{:04}{month:02}{day:02}", year + era * 400 + i64::from(month <= 2))
}

#[test]
fn days_are_counted() {
    assert_eq!(days("20240301").zip(days("20240228")).map(|(a, b)| a - b), Some(2));
    assert_eq!(day_of(days("19991231").expect("a day") + 1), "20000101");
}

/// What came out of a study: files and the result.
pub(crate) struct Cleaned {
    pub(crate) files: Vec<Vec<u8>>,
    pub(crate) result: Vec<u8>,
}

/// The whole way: identifiers of all files known to the cleaner, outputs proven and released.
pub(crate) fn clean(study: &Study, profile: &Profile) -> Cleaned {
    let deidentifier = Deidentifier::new(profile.clone(), secret());
    let mut subject = Subject::default();
    let mut verifier = Verifier::new(Retain::from(profile), Limits::default());
    for file in &study.files {
        subject.add(&deidentifier.subject(file).expect("a subject"));
        verifier.add_source(file).expect("tests write what can be followed");
    }
    let scanner = verifier.scanner().expect("people have identifiers");
    let files = study.files.iter().map(|file| {
        let output = deidentifier.deidentify_knowing(file.clone(), &subject).expect("nothing is doubtful");
        let proof = scanner.prove_instance(output.as_bytes()).unwrap_or_else(|why| panic!("{}: {why}", profile.name));
        let released = release(output, &proof, profile).expect("the proof is of these bytes");
        released.as_bytes().to_vec()
    });
    let files = files.collect();
    let output = deidentifier.deidentify_json(&study.result, &subject).expect("nothing is doubtful");
    let proof = scanner.prove_text(output.as_bytes()).unwrap_or_else(|why| panic!("{}: {why}", profile.name));
    let result = release(output, &proof, profile).expect("the proof is of these bytes").as_bytes().to_vec();
    Cleaned { files, result }
}

/// UIDs of JSON by their path.
fn uids_of_json(value: &serde_json::Value, path: &str, all: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::String(text)
            if text.split('.').count() > 2 && text.bytes().all(|b| b == b'.' || b.is_ascii_digit()) =>
        {
            all.insert(path.to_owned(), text.clone());
        }
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| uids_of_json(item, &format!("{path}/{at}"), all));
        }
        serde_json::Value::Object(map) => {
            map.iter().for_each(|(key, item)| uids_of_json(item, &format!("{path}/{key}"), all))
        }
        _ => {}
    }
}

fn json_uids(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    uids_of_json(&serde_json::from_slice(bytes).expect("JSON"), "", &mut all);
    all
}

/// The map of UIDs that a study's files and result show, which must be one to one.
pub(crate) fn mapping(study: &Study, cleaned: &Cleaned) -> BTreeMap<String, String> {
    let mut forth: BTreeMap<String, String> = BTreeMap::new();
    let mut back: BTreeMap<String, String> = BTreeMap::new();
    let mut pair = |place: String, old: &str, new: &str| {
        let known = forth.entry(old.to_owned()).or_insert_with(|| new.to_owned());
        assert_eq!(known, new, "{place}: one UID has become two");
        let known = back.entry(new.to_owned()).or_insert_with(|| old.to_owned());
        assert_eq!(known, old, "{place}: two UIDs have become one");
    };
    for (number, (source, output)) in study.files.iter().zip(&cleaned.files).enumerate() {
        let (source, output) = (Read::of(source), Read::of(output));
        for (at, old) in source.uids() {
            if let Some(new) = output.values.get(at) {
                pair(format!("file {number}, {at:X?}"), old, &new.text);
            }
        }
    }
    let (source, output) = (json_uids(&study.result), json_uids(&cleaned.result));
    for (path, old) in &source {
        let new = output.get(path).unwrap_or_else(|| panic!("the result lost {path}"));
        pair(format!("result{path}"), old, new);
    }
    forth
}

#[test]
fn references_resolve_as_before() {
    for script in SCRIPTS {
        for (name, profile, _) in crate::table::profiles() {
            let study = study(11, script, Syntax::Explicit);
            let cleaned = clean(&study, &profile);
            let map = mapping(&study, &cleaned);
            assert!(map.len() >= 10, "{name}: only {} UIDs", map.len());
            for (old, new) in &map {
                assert_eq!(old == new, profile.retain_uids, "{name}");
            }
            // Every image that a segment or report names is there, under the name by which it is called.
            let there: Vec<String> =
                cleaned.files.iter().filter_map(|file| Read::of(file).text(0x0008_0018).map(str::to_owned)).collect();
            for file in &cleaned.files[..5] {
                let read = Read::of(file);
                assert_eq!(
                    read.text(0x0008_0018),
                    read.values.get(&vec![(0x0002_0003, 0)]).map(|entry| entry.text.as_str())
                );
                for (at, uid) in read.uids().filter(|(at, _)| at.last() == Some(&(0x0008_1155, 0))) {
                    assert!(there.iter().any(|known| known == uid), "{name}: {at:X?} points nowhere");
                }
            }
        }
    }
}

#[test]
fn days_move_together_and_pixels_stay() {
    let mut profile = Profile::preset("qa-minimal").expect("a preset");
    for (seed, shift_max) in [(21, 3650), (22, 30)] {
        profile.date_shift_days_max = shift_max;
        let study = study(seed, "latin", Syntax::Explicit);
        let cleaned = clean(&study, &profile);
        let mut moved = Vec::new();
        for (source, output) in study.files.iter().zip(&cleaned.files) {
            let (source, output) = (Read::of(source), Read::of(output));
            for tag in [0x0008_0020, 0x0008_0021, 0x0008_0022, 0x0008_0023] {
                let was = source.text(tag).and_then(days).expect("a day");
                let is = output.text(tag).and_then(days).unwrap_or_else(|| panic!("({tag:08X}) has lost its day"));
                moved.push(was - is);
            }
            assert_eq!(source.bytes(0x7FE0_0010), output.bytes(0x7FE0_0010), "pixels changed");
            assert_eq!(source.text(0x0008_0030), output.text(0x0008_0030), "a time of day changed");
        }
        assert!(moved[0] != 0 && moved[0].abs() <= i64::from(shift_max), "days were not moved");
        assert!(moved.iter().all(|by| *by == moved[0]), "intervals changed: {moved:?}");
    }
}

/// Another key: another UID, pseudonym and shift, so that nobody can tell that they are the same patient's.
#[test]
fn another_key_links_nothing() {
    let study = study(31, "kanji", Syntax::Explicit);
    let profile = Profile::preset("qa-minimal").expect("a preset");
    let of = |key: &[u8]| {
        let key = gantry_cloud_sync::deid::Secret::new(key).expect("long enough");
        let output = Deidentifier::new(profile.clone(), key).deidentify_bytes(study.files[0].clone()).expect("clean");
        let read = Read::of(output.as_bytes());
        [0x0008_0018, 0x0020_000D, 0x0020_000E, 0x0010_0020, 0x0008_0020]
            .map(|tag| read.text(tag).unwrap_or_default().to_owned())
    };
    let (one, again, other) = (
        of(b"one key of one site and no other"),
        of(b"one key of one site and no other"),
        of(b"the key of some other hospital !!"),
    );
    assert_eq!(one, again);
    for (a, b) in one.iter().zip(&other) {
        assert_ne!(a, b);
    }
}

#[test]
fn a_proof_releases_nothing_but_its_own_bytes() {
    let study = study(41, "latin", Syntax::Explicit);
    let profile = Profile::preset("qa-minimal").expect("a preset");
    let mut verifier = Verifier::new(Retain::from(&profile), Limits::default());
    verifier.add_source(&study.files[0]).expect("tests write what can be followed");
    let deidentifier = Deidentifier::new(profile.clone(), secret());
    let output = |number: usize| deidentifier.deidentify_bytes(study.files[number].clone()).expect("clean");
    let proof = verifier.scanner().map(|scanner| scanner.prove_instance(output(0).as_bytes())).expect("identifiers");
    let proof = proof.expect("nothing leaks");
    assert_eq!(release(output(1), &proof, &profile).map(|_| ()), Err(NotProven::OtherBytes));
    let basic = Profile::preset("basic").expect("a preset");
    assert_eq!(release(output(0), &proof, &basic).map(|_| ()), Err(NotProven::OtherOptions));
    assert!(release(output(0), &proof, &profile).is_ok());
}
