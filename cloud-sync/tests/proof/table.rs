//! Every attribute of Table E.1-1, at every depth, under every option: what was in it is gone unless an option keeps it.

use std::collections::BTreeMap;

use crate::canary::{Person, Random, nested};
use crate::dicom::{DataSet, Element, SYNTAXES, Syntax, Value};
use crate::read::Read;
use dicom_core::VR;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::header::Tag;
use gantry_cloud_sync::deid::{Dates, Deidentifier, Profile, Secret};
use gantry_cloud_sync::verify::{Kind, Limits, Retain, Unproven, Verifier};

/// A row: what the Basic Profile does and what each option says, in the order of the columns.
struct Row {
    tag: u32,
    basic: &'static str,
    options: [bool; 10],
    cleaned: [bool; 10],
}

const UIDS: usize = 0;
const DEVICE: usize = 1;
const INSTITUTION: usize = 2;
const PATIENT: usize = 3;
const FULL: usize = 4;
const MODIFIED: usize = 5;
const DESCRIPTORS: usize = 7;
const STRUCTURED: usize = 8;
const GRAPHICS: usize = 9;

fn rows() -> Vec<Row> {
    let text: &'static str = include_str!("table-e1-1.txt");
    let rows = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let tag = match words[0] {
            "private" => return None,
            "50xxxxxx" => 0x5000_3000,
            group if group.starts_with("60xx") => u32::from_str_radix(&group.replace("xx", "00"), 16).expect("a tag"),
            tag => u32::from_str_radix(tag, 16).expect("a tag"),
        };
        Some(Row {
            tag,
            basic: words[1],
            options: std::array::from_fn(|at| words[2 + at] == "K"),
            cleaned: std::array::from_fn(|at| words[2 + at] == "C"),
        })
    });
    rows.collect()
}

#[test]
fn the_table_is_whole() {
    assert_eq!(rows().len(), 620, "621 rows, one of them for private attributes");
}

/// What stands in one attribute.
struct Planted {
    row: usize,
    kind: Kind,
    text: String,
}

/// A file with a canary in every attribute of the table at this depth.
struct Sown {
    file: Vec<u8>,
    planted: Vec<Planted>,
    /// What none of the table is in, and how often it stands there.
    neutral: Vec<(u32, &'static str)>,
}

/// What everybody keeps: attributes of which the table says nothing.
#[rustfmt::skip]
const NEUTRAL: [(u32, &[u8; 2], &str); 24] = [
    (0x0018_0021, b"CS", "SK"), (0x0018_0022, b"CS", "HELICAL_CT"), (0x0018_0024, b"SH", "tfl3d1"),
    (0x0018_0080, b"DS", "4.5"), (0x0018_0081, b"DS", "2.1"), (0x0018_0083, b"DS", "1"),
    (0x0018_0087, b"DS", "1.5"), (0x0018_0088, b"DS", "5"), (0x0018_0090, b"DS", "500"),
    (0x0018_1020, b"LO", "VA48A"), (0x0018_1100, b"DS", "360"), (0x0018_1110, b"DS", "1085.6"),
    (0x0018_1111, b"DS", "595"), (0x0018_1120, b"DS", "0"), (0x0018_1130, b"DS", "131"),
    (0x0018_1140, b"CS", "CW"), (0x0018_1150, b"IS", "500"), (0x0018_1151, b"IS", "180"),
    (0x0018_1152, b"IS", "90"), (0x0018_1160, b"SH", "FLAT"), (0x0018_1170, b"IS", "22"),
    (0x0018_1190, b"DS", "1.2"), (0x0018_5100, b"CS", "FFS"), (0x0020_0062, b"CS", "L"),
];

fn sow(seed: u64, depth: usize, syntax: Syntax) -> Sown {
    let mut random = Random::seeded(seed);
    let person = Person::new(&mut random, "latin");
    let mut set = person.slice(1, &random.uid());
    let mut elements = Vec::new();
    let mut planted = Vec::new();
    for (row, found) in rows().iter().enumerate() {
        if is_apart(found.tag) {
            continue;
        }
        let Some((vr, value, kind, text)) = canary(&mut random, &person, found) else { continue };
        planted.push(Planted { row, kind, text });
        elements.push(Element { tag: found.tag, vr, value });
    }
    for (tag, vr, text) in NEUTRAL {
        let mut one = DataSet::default();
        one.put(tag, vr, text);
        elements.append(&mut one.0);
    }
    for element in nested(elements, depth) {
        set.set(element);
    }
    let neutral = NEUTRAL.iter().map(|&(tag, _, text)| (tag, text)).collect();
    Sown { file: set.file(syntax, &[0; 128], &[]), planted, neutral }
}

/// Attributes that cannot stand in any instance, or make it another one: commands, file meta information, directories; the
/// instance's own UID and document.
fn is_apart(tag: u32) -> bool {
    matches!(tag >> 16, 0 | 2 | 4) || matches!(tag, 0x0008_0018 | 0x0042_0011)
}

fn canary(random: &mut Random, person: &Person, row: &Row) -> Option<([u8; 2], Value, Kind, String)> {
    let entry = dicom_dictionary_std::StandardDataDictionary.by_tag(Tag((row.tag >> 16) as u16, row.tag as u16));
    let vr = match row.tag {
        0x5000_3000 | 0x6000_3000 => VR::OW,
        0x6000_4000 => VR::LT,
        _ => entry.map_or(VR::LO, |entry| entry.vr().relaxed()),
    };
    let word = random.word(10);
    let described = row.cleaned[DESCRIPTORS] && !matches!(vr, VR::SQ);
    let cleaned = row.cleaned.contains(&true);
    let (kind, text) = match vr {
        VR::PN => (Kind::Name, format!("{word}^{}", random.word(9))),
        VR::UI => (Kind::Uid, random.uid()),
        VR::SQ if row.basic.contains('U') => (Kind::Uid, random.uid()),
        VR::SQ if cleaned => (Kind::Name, person.family.clone()),
        VR::DA | VR::DT => (Kind::Date, random.day(1950, 2024)),
        VR::TM => (Kind::Time, random.time()),
        VR::IS | VR::DS => (Kind::Id, random.digits(9)),
        VR::SH | VR::LO | VR::ST | VR::LT | VR::UT | VR::UC if described => (Kind::Id, person.id.clone()),
        VR::AE | VR::CS => (Kind::Device, word.to_uppercase()),
        VR::UR => (Kind::Contact, format!("http://{word}.test/")),
        VR::SQ | VR::SH | VR::LO | VR::ST | VR::LT | VR::UT | VR::UC | VR::OB | VR::OW | VR::UN => (Kind::Id, word),
        _ => return None,
    };
    let value = match vr {
        // References stay, to other objects; what is cleaned keeps its codes.
        VR::SQ => {
            let mut item = DataSet::default();
            match kind {
                Kind::Uid => {
                    item.put(0x0008_1150, b"UI", "1.2.840.10008.5.1.4.1.1.2").put(0x0008_1155, b"UI", text.as_str())
                }
                _ => item
                    .put(0x0008_0100, b"SH", random.digits(8))
                    .put(0x0008_0102, b"SH", "99GANTRY")
                    .put(0x0008_0104, b"LO", if cleaned { format!("hepatic {text}") } else { text.clone() })
                    .put(0x0040_A123, b"PN", text.as_str()),
            };
            Value::Items(vec![item])
        }
        VR::DT => Value::Bytes(format!("{text}{}", random.time()).into()),
        VR::SH if described => Value::Bytes(even(text.clone())),
        _ if described => Value::Bytes(even(format!("hepatic {} {text}", person.family))),
        _ => Value::Bytes(even(text.clone())),
    };
    Some((*vr.to_string().as_bytes().first_chunk()?, value, kind, text))
}

fn even(mut text: String) -> Vec<u8> {
    if text.len() % 2 == 1 {
        text.push(' ');
    }
    text.into()
}

/// Each option alone, presets, and all options together, with the columns of the table that each switches on.
pub(crate) fn profiles() -> Vec<(String, Profile, Vec<usize>)> {
    // What is doubtful is dropped, and heads and screens are none of these tests'.
    let basic = Profile::preset("basic").expect("a preset");
    let mut all: Vec<(String, Profile, Vec<usize>)> = Vec::new();
    let mut add = |name: &str, change: &dyn Fn(&mut Profile), columns: &[usize]| {
        let mut profile = basic.clone();
        change(&mut profile);
        all.push((name.to_owned(), profile, columns.to_vec()));
    };
    add("basic", &|_| {}, &[]);
    add("uids", &|p| p.retain_uids = true, &[UIDS]);
    add("device", &|p| p.retain_device_identity = true, &[DEVICE]);
    add("institution", &|p| p.retain_institution_identity = true, &[INSTITUTION]);
    add("patient", &|p| p.retain_patient_characteristics = true, &[PATIENT]);
    add("full dates", &|p| p.dates = Dates::Keep, &[FULL]);
    add("modified dates", &|p| p.dates = Dates::Shift, &[MODIFIED]);
    add("safe private", &|p| p.retain_safe_private = true, &[]);
    add("descriptors", &|p| p.clean_descriptors = true, &[DESCRIPTORS]);
    add("structured content", &|p| p.clean_structured_content = true, &[STRUCTURED]);
    add("graphics", &|p| p.clean_graphics = true, &[GRAPHICS]);
    add(
        "all",
        &|p| {
            p.retain_uids = true;
            p.retain_device_identity = true;
            p.retain_institution_identity = true;
            p.retain_patient_characteristics = true;
            p.retain_safe_private = true;
            p.dates = Dates::Shift;
            p.clean_descriptors = true;
            p.clean_structured_content = true;
            p.clean_graphics = true;
        },
        &[UIDS, DEVICE, INSTITUTION, PATIENT, MODIFIED, DESCRIPTORS, STRUCTURED, GRAPHICS],
    );
    for name in ["qa-minimal", "retraining", "metadata-only"] {
        let profile = Profile::preset(name).expect("a preset");
        let columns = [
            (profile.retain_device_identity, DEVICE),
            (profile.retain_patient_characteristics, PATIENT),
            (profile.dates == Dates::Shift, MODIFIED),
            (profile.clean_descriptors, DESCRIPTORS),
            (profile.clean_structured_content, STRUCTURED),
            (profile.clean_graphics, GRAPHICS),
        ];
        let columns = columns.into_iter().filter(|(on, _)| *on).map(|(_, column)| column).collect();
        all.push((name.to_owned(), profile, columns));
    }
    all
}

pub(crate) fn secret() -> Secret {
    Secret::new(b"a key of tests and of nobody else").expect("long enough")
}

/// No canary comes out, by a verifier that found them in the source and by one that was told them.
#[test]
fn no_canary_of_the_table_comes_out() {
    let rows = rows();
    let (mut out, mut lost, mut kept, mut sown) = (Vec::new(), BTreeMap::new(), 0, 0);
    for depth in 0..=4 {
        for (number, (name, profile, columns)) in profiles().into_iter().enumerate() {
            let syntax = SYNTAXES[(depth + number) % SYNTAXES.len()];
            let Sown { file, planted, neutral } = sow(1000 + depth as u64, depth, syntax);
            let retain = Retain::from(&profile);
            let output = match Deidentifier::new(profile, secret()).deidentify_bytes(file.clone()) {
                Ok(output) => output,
                Err(held) => panic!("{name} at depth {depth} in {syntax:?} is held: {held}"),
            };
            let mut seen = Verifier::new(retain, Limits::default());
            seen.add_source(&file).expect("tests write what can be followed");
            let mut told = Verifier::new(Retain::default(), Limits::default());
            for canary in &planted {
                let row = &rows[canary.row];
                // Two UIDs have no K in the table: with UIDs retained they stay all the same, or reports would name
                // objects that are not there.
                let is_uid = canary.kind == Kind::Uid && columns.contains(&UIDS);
                let is_kept = is_uid || columns.iter().any(|&column| row.options[column]);
                // Days move onto other days: the first verifier knows which stood where.
                let is_moved = columns.contains(&MODIFIED) && row.cleaned[MODIFIED];
                if !is_kept && !is_moved {
                    sown += 1;
                    told.add_known(canary.kind, &canary.text).expect("few");
                }
            }
            for (how, verifier) in [("seen", seen), ("told", told)] {
                let found = verifier.scanner().expect("canaries are sought").prove_instance(output.as_bytes());
                if let Err(Unproven::Leaks(leaks)) = &found {
                    out.extend(leaks.iter().map(|leak| format!("{how}, {name} at depth {depth} ({syntax:?}): {leak}")));
                } else {
                    found.expect("the output can be followed");
                }
            }
            // What dicom-object inflates not, it does not count.
            if syntax != Syntax::Deflated {
                let read = Read::of(output.as_bytes());
                for (tag, text) in neutral {
                    let stays = read
                        .values
                        .iter()
                        .any(|(at, entry)| at.len() == depth + 1 && at.last() == Some(&(tag, 0)) && entry.text == text);
                    kept += usize::from(stays);
                    if !stays {
                        *lost.entry((depth, format!("{tag:08X}"))).or_insert(0) += 1;
                    }
                }
            }
        }
    }
    println!("{sown} canaries sown, {} out; of what nobody needs to remove {kept} kept, {lost:?} lost", out.len());
    out.sort();
    out.dedup();
    assert!(out.is_empty(), "{} canaries out, such as {:#?}", out.len(), &out[..out.len().min(40)]);
    assert!(sown > 20_000, "only {sown} canaries were sown");
    assert!(lost.is_empty(), "over-removal: {lost:#?}");
}
