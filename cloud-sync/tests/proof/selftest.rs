//! The verifier finds what was put back, and nothing where nothing was.

use crate::canary::{Person, Random, SCRIPTS, nested};
use crate::dicom::{DataSet, Element, SYNTAXES, Syntax, Value};
use encoding_rs as e;
use gantry_cloud_sync::verify::{
    Dates, Kind, Lexicons, Limits, Place, Retain, Scanner, Unproven, Unverifiable, Verifier,
};

const EMPTY: [u8; 128] = [0; 128];

fn scanner(sources: &[Vec<u8>], retain: Retain) -> Scanner {
    let mut verifier = Verifier::new(retain, Limits::default());
    for source in sources {
        verifier.add_source(source).expect("tests write what can be followed");
    }
    verifier.scanner().expect("a slice has identifiers")
}

fn kinds(scanner: &Scanner, output: &[u8]) -> Vec<Kind> {
    match scanner.prove_instance(output) {
        Ok(_) => Vec::new(),
        Err(Unproven::Leaks(leaks)) => leaks.into_iter().map(|leak| leak.kind).collect(),
        Err(Unproven::Output(why)) => panic!("an output of the test {why}"),
    }
}

/// A person and a slice of theirs, and a slice of somebody else's in which nothing of it is.
fn two(seed: u64, script: &str) -> (Person, DataSet, DataSet) {
    let mut random = Random::seeded(seed);
    let person = Person::new(&mut random, script);
    let other = Person::new(&mut random, "latin");
    let (a, b) = (random.uid(), random.uid());
    let (source, output) = (person.slice(1, &a), other.slice(2, &b));
    (person, source, output)
}

#[test]
fn a_source_leaks_into_itself_and_not_into_another() {
    for (seed, script) in SCRIPTS.into_iter().enumerate() {
        let (_, source, output) = two(seed as u64, script);
        for syntax in SYNTAXES {
            let scanner = scanner(&[source.file(syntax, &EMPTY, &[])], Retain::default());
            for written in SYNTAXES {
                let mut itself = kinds(&scanner, &source.file(written, &EMPTY, &[]));
                itself.sort_unstable();
                itself.dedup();
                use Kind::{BirthDate, Contact, Date, Device, Id, Institution, Name, Staff, Time, Uid};
                let all = [Name, Staff, Id, Contact, Institution, Device, Uid, Date, BirthDate, Time];
                assert_eq!(itself, all, "{script} from {syntax:?} in {written:?}");
                let clean = scanner.prove_instance(&output.file(written, &EMPTY, &[]));
                assert!(clean.as_ref().is_ok_and(|proof| proof.identifiers() >= 15), "{script}: {clean:?}");
            }
        }
    }
}

/// Forms in which a text may be written, by other code than the verifier's.
fn forms(kind: Kind, text: &str) -> Vec<(String, Vec<u8>)> {
    let mut spelt = vec![text.to_owned(), text.to_lowercase(), text.to_uppercase()];
    let bare: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let is_number = kind == Kind::Id || kind == Kind::Contact && text.starts_with('+');
    if text.is_ascii() && is_number && bare.len() >= 7 {
        spelt.push(bare.clone());
        spelt.push(bare.chars().flat_map(|c| [c, '-']).collect::<String>().trim_end_matches('-').to_owned());
    }
    if matches!(kind, Kind::Date | Kind::BirthDate) {
        let (y, m, d) = (&text[..4], &text[4..6], &text[6..]);
        spelt.extend([
            format!("{y}-{m}-{d}"),
            format!("{y}/{m}/{d}"),
            format!("{d}.{m}.{y}"),
            format!("{m}/{d}/{y}"),
            format!("{d}/{m}/{y}"),
            format!("{}/{d}/{y}", m.trim_start_matches('0')),
            format!("{d}.{m}.{}", &y[2..]),
        ]);
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let name = MONTHS[m.parse::<usize>().expect("a month") - 1];
        spelt.extend([format!("{d}-{name}-{y}"), format!("{name} {d}, {y}"), format!("{d}{}{y}", name.to_uppercase())]);
    }
    if kind == Kind::Time {
        spelt = vec![format!("{}:{}:{}", &text[..2], &text[2..4], &text[4..6]), text.to_owned()];
    }
    spelt.dedup();
    let mut forms = Vec::new();
    for text in &spelt {
        forms.push(("UTF-8".to_owned(), text.clone().into_bytes()));
        forms.push(("UTF-16LE".to_owned(), text.encode_utf16().flat_map(u16::to_le_bytes).collect()));
        forms.push(("UTF-16BE".to_owned(), text.encode_utf16().flat_map(u16::to_be_bytes).collect()));
        for encoding in [
            e::WINDOWS_1252,
            e::ISO_8859_2,
            e::ISO_8859_5,
            e::ISO_8859_7,
            e::KOI8_R,
            e::WINDOWS_1251,
            e::WINDOWS_1253,
            e::SHIFT_JIS,
            e::EUC_JP,
            e::ISO_2022_JP,
            e::GB18030,
            e::GBK,
            e::BIG5,
            e::EUC_KR,
        ] {
            let (bytes, _, lost) = encoding.encode(text);
            if !lost && !text.is_ascii() {
                forms.push((encoding.name().to_owned(), bytes.into_owned()));
            }
        }
    }
    for text in spelt.iter().filter(|form| form.eq_ignore_ascii_case(text) || !text.is_ascii()).take(3) {
        if text.len() >= 6 && matches!(kind, Kind::Name | Kind::Staff | Kind::Id | Kind::Uid) {
            for before in ["", "a", "ab"] {
                forms.push((format!("base64 after {before:?}"), base64(format!("{before}{text}xyz").as_bytes())));
            }
            forms.push(("hex".to_owned(), text.bytes().flat_map(|b| format!("{b:02X}").into_bytes()).collect()));
        }
    }
    forms
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for three in bytes.chunks(3) {
        let n = three.iter().fold(0u32, |n, &b| n << 8 | u32::from(b)) << (8 * (3 - three.len()));
        text.extend((0..=three.len()).map(|digit| DIGITS[(n >> (18 - 6 * digit) & 63) as usize]));
        text.extend(std::iter::repeat_n(b'=', 3 - three.len()));
    }
    text
}

/// Everywhere in a file where bytes can be: every third of these places from `first` on, by name, and the file.
fn hidden(output: &DataSet, bytes: &[u8], syntax: Syntax, first: usize) -> Vec<(String, Vec<u8>)> {
    let mut padded = b"see ".to_vec();
    padded.extend(bytes);
    padded.extend(b" there");
    let within = |depth: usize, tag: u32, vr: &[u8; 2]| {
        let (mut one, mut set) = (DataSet::default(), output.clone());
        one.put(tag, vr, padded.as_slice());
        for element in nested(one.0, depth) {
            set.set(element);
        }
        (format!("({tag:08X}) at depth {depth}"), set.file(syntax, &EMPTY, &[]))
    };
    let elements = [(0x0020_4000, b"LT"), (0x0009_1001, b"UN"), (0x0009_1002, b"OB"), (0x0008_0070, b"LO")];
    let place = |number: usize| match number {
        0 if bytes.len() > 100 => None,
        0 => {
            let mut preamble = EMPTY;
            preamble[20..20 + bytes.len()].copy_from_slice(bytes);
            Some(("preamble".to_owned(), output.file(syntax, &preamble, &[])))
        }
        1 => {
            let file = output.file(syntax, &EMPTY, &[(0x0002_0102, *b"OB", bytes.to_vec())]);
            Some(("private information".to_owned(), file))
        }
        _ => elements.get((number - 2) % 4).map(|(tag, vr)| within((number - 2) / 4, *tag, vr)),
    };
    (0..22).skip(first).step_by(3).filter_map(place).collect()
}

/// The mutation: every identifier put back, in every form, in every place.
#[test]
fn whatever_is_put_back_is_found() {
    let mut tried = 0;
    let mut missed = Vec::new();
    for (seed, script) in SCRIPTS.into_iter().enumerate() {
        let (person, source, output) = two(100 + seed as u64, script);
        let scanner = scanner(&[source.file(Syntax::Explicit, &EMPTY, &[])], Retain::default());
        for (at, (kind, text)) in person.identifiers().into_iter().enumerate() {
            for (form, (encoding, bytes)) in forms(kind, &text).into_iter().enumerate() {
                // All places for some, some places for all.
                let syntax = SYNTAXES[(at + form) % SYNTAXES.len()];
                for (place, file) in hidden(&output, &bytes, syntax, (at + form) % 3) {
                    tried += 1;
                    if kinds(&scanner, &file).is_empty() {
                        missed.push(format!("{script} {kind} {text:?} as {encoding} in {place} ({syntax:?})"));
                    }
                }
            }
        }
    }
    println!("{tried} leaks planted, {} missed", missed.len());
    assert!(tried > 5000, "only {tried} leaks were planted");
    assert!(missed.is_empty(), "{} missed, such as {:#?}", missed.len(), &missed[..missed.len().min(20)]);
}

/// Slices of twelve studies in turn, more than are kept: what was made for one source changes nothing of another's proof.
#[test]
fn spellings_that_serve_again_find_the_same() {
    let lexicons = Lexicons::default();
    let all = || Limits { leaks_max: 10_000, ..Limits::default() };
    let (mut studies, mut random) = (Vec::new(), Random::seeded(11));
    for (seed, script) in (200..).zip(SCRIPTS.iter().chain(&SCRIPTS)) {
        let (person, source, output) = two(seed, script);
        let next = person.slice(2, &random.uid());
        studies.push([source, next, output].map(|slice| slice.file(Syntax::Explicit, &EMPTY, &[])));
    }
    let found =
        |verifier: Verifier, output: &[u8]| match verifier.scanner().map(|scanner| scanner.prove_instance(output)) {
            Ok(Err(Unproven::Leaks(leaks))) => {
                let mut leaks: Vec<String> = leaks.iter().map(ToString::to_string).collect();
                leaks.sort();
                leaks
            }
            Ok(Ok(proof)) => vec![format!("{proof:?}")],
            other => panic!("{other:?}"),
        };
    let mut leaks = 0;
    for slice in [0, 1, 0, 1] {
        for (n, study) in studies.iter().enumerate() {
            let source = |verifier: Verifier| {
                let mut verifier = verifier;
                verifier.add_source(&study[slice]).expect("tests write what can be followed");
                verifier
            };
            // Itself, its neighbour, somebody else's.
            for output in [&study[slice], &study[1 - slice], &study[2], &studies[(n + 1) % studies.len()][slice]] {
                let alone = found(source(Verifier::new(Retain::default(), all())), output);
                let shared = found(source(Verifier::new(Retain::default(), all()).sharing(&lexicons)), output);
                assert_eq!(alone, shared, "study {n}, slice {slice}");
                leaks += alone.len();
            }
        }
    }
    assert!(leaks > 1000, "only {leaks} leaks were compared");
}

#[test]
fn pixel_data_and_fragments_are_looked_through() {
    let (person, source, output) = two(7, "latin");
    let scanner = scanner(&[source.file(Syntax::Explicit, &EMPTY, &[])], Retain::default());
    for bytes in [person.family.as_bytes(), person.study.as_bytes(), person.birth.as_bytes()] {
        let mut pixels: Vec<u8> = (0..200_000u32).map(|i| ((i * 7919) >> 5) as u8 | 0x80).collect();
        pixels[70_000..70_000 + bytes.len()].copy_from_slice(bytes);
        let mut plain = output.clone();
        plain.put(0x7FE0_0010, b"OW", pixels.clone());
        assert!(!kinds(&scanner, &plain.file(Syntax::Explicit, &EMPTY, &[])).is_empty());
        let mut fragments = output.clone();
        let value = Value::Fragments(vec![vec![0x80; 64], pixels]);
        fragments.set(Element { tag: 0x7FE0_0010, vr: *b"OB", value });
        assert!(!kinds(&scanner, &fragments.file(Syntax::Rle, &EMPTY, &[])).is_empty());
    }
}

/// Random pixels are no leak: 8 MiB of noise of four kinds, where a short name would be found by chance.
#[test]
fn noise_is_no_leak() {
    let (_, source, output) = two(8, "latin");
    let mut people = vec![source.file(Syntax::Explicit, &EMPTY, &[])];
    for seed in 0..8 {
        people.push(two(20 + seed, SCRIPTS[seed as usize % SCRIPTS.len()]).1.file(Syntax::Explicit, &EMPTY, &[]));
    }
    let scanner = scanner(&people, Retain::default());
    let mut random = Random::seeded(9);
    for (from, range) in [(0, 256), (32, 96), (100, 24), (48, 12)] {
        let mut noisy = output.clone();
        let pixels: Vec<u8> = (0..2 << 20).map(|_| (from + random.below(range)) as u8).collect();
        noisy.put(0x7FE0_0010, b"OW", pixels);
        assert_eq!(kinds(&scanner, &noisy.file(Syntax::Explicit, &EMPTY, &[])), []);
    }
}

#[test]
fn options_excuse_what_they_retain_and_nothing_else() {
    let (_, source, _) = two(3, "latin");
    let file = source.file(Syntax::Explicit, &EMPTY, &[]);
    let found = |retain| {
        let mut kinds = kinds(&scanner(std::slice::from_ref(&file), retain), &file);
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    let none = found(Retain::default());
    let without = |kinds: &[Kind]| none.iter().copied().filter(|kind| !kinds.contains(kind)).collect::<Vec<_>>();
    assert_eq!(found(Retain { uids: true, ..Retain::default() }), without(&[Kind::Uid]));
    assert_eq!(found(Retain { device: true, ..Retain::default() }), without(&[Kind::Device]));
    assert_eq!(found(Retain { institution: true, ..Retain::default() }), without(&[Kind::Institution]));
    assert_eq!(found(Retain { dates: Dates::Full, ..Retain::default() }), without(&[Kind::Date, Kind::Time]));
    assert_eq!(found(Retain { dates: Dates::Modified, ..Retain::default() }), without(&[Kind::Time]));
}

#[test]
fn a_moved_day_may_meet_another_day_but_not_itself() {
    let (person, mut source, mut output) = two(4, "latin");
    source.put(0x0008_0021, b"DA", "20190704");
    let scanner =
        scanner(&[source.file(Syntax::Explicit, &EMPTY, &[])], Retain { dates: Dates::Modified, ..Retain::default() });
    output.put(0x0008_0020, b"DA", "20190704");
    assert_eq!(kinds(&scanner, &output.file(Syntax::Explicit, &EMPTY, &[])), []);
    output.put(0x0008_0021, b"DA", "20190704");
    assert_eq!(kinds(&scanner, &output.file(Syntax::Explicit, &EMPTY, &[])), [Kind::Date]);
    output.put(0x0008_0021, b"DA", "20180704").put(0x0020_4000, b"LT", format!("as of {}", person.day));
    assert_eq!(kinds(&scanner, &output.file(Syntax::Explicit, &EMPTY, &[])), [Kind::Date]);
}

#[test]
fn short_names_count_where_they_are_words() {
    let (_, mut source, mut output) = two(5, "latin");
    source.put(0x0010_0010, b"PN", "Li^Kim").put(0x0008_0090, b"PN", "Head^Stern");
    let scanner = scanner(&[source.file(Syntax::Explicit, &EMPTY, &[])], Retain::default());
    let mut with = |tag, vr: &[u8; 2], text: &str| {
        let before = output.clone();
        output.put(tag, vr, text);
        let found = kinds(&scanner, &output.file(Syntax::Explicit, &EMPTY, &[]));
        output = before;
        found
    };
    for innocent in ["kimono", "CLIP", "head first", "delirium and lithium", "liver"] {
        assert_eq!(with(0x0020_4000, b"LT", innocent), [], "{innocent}");
    }
    assert_eq!(with(0x0018_0015, b"CS", "STERNUM"), []);
    assert_eq!(with(0x0020_4000, b"LT", "seen by kim."), [Kind::Name]);
    assert_eq!(with(0x0020_4000, b"LT", "Kim, Li"), [Kind::Name]);
    assert_eq!(with(0x0040_A123, b"PN", "Li^Jo"), [Kind::Name]);
    assert_eq!(with(0x0020_4000, b"LT", "Stern's"), [Kind::Staff]);
    assert_eq!(with(0x0020_4000, b"LT", "head stern"), [Kind::Staff]);
}

#[test]
fn text_and_names_are_looked_through() {
    let (person, source, _) = two(6, "accents");
    let scanner = scanner(&[source.file(Syntax::Explicit, &EMPTY, &[])], Retain::default());
    assert!(scanner.prove_text(br#"{"finding": "liver, 12 mL", "created": "2031-01-01T00:00:00Z"}"#).is_ok());
    let family = person.name.split('^').next().expect("a family name");
    let escaped: String =
        family.chars().map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04X}", u32::from(c)) }).collect();
    for leak in [family, &escaped, &person.study, &person.id, &person.phone.replace([' ', '-'], "")] {
        let found = scanner.prove_text(format!("{{\"a\": \"{leak}\"}}").as_bytes());
        let Err(Unproven::Leaks(leaks)) = found else { panic!("{leak} was not found") };
        assert!(leaks.iter().all(|leak| matches!(leak.place, Place::Offset(_))));
        assert!(!format!("{leaks:?}{}", Unproven::Leaks(leaks.clone())).contains(leak), "a leak tells what it found");
    }
}

#[test]
fn what_cannot_be_followed_is_not_proven() {
    let (_, source, output) = two(1, "latin");
    let whole = source.file(Syntax::Explicit, &EMPTY, &[]);
    let scanner = scanner(std::slice::from_ref(&whole), Retain::default());
    let output = output.file(Syntax::Explicit, &EMPTY, &[]);
    for cut in (140..output.len() - 1).step_by(7) {
        // Some cuts fall between two elements: that is a shorter data set, which is clean.
        if let Err(why) = scanner.prove_instance(&output[..cut]) {
            assert!(matches!(why, Unproven::Output(Unverifiable::Malformed { .. })), "{why}");
        }
    }
    let mut verifier = Verifier::new(Retain::default(), Limits::default());
    assert!(verifier.add_source(&whole[..whole.len() - 3]).is_err());
    assert!(matches!(Verifier::new(Retain::default(), Limits::default()).scanner(), Err(Unverifiable::NothingToSeek)));
    let few = Limits { elements_max: 10, ..Limits::default() };
    let limited = Verifier::new(Retain::default(), few).add_source(&whole);
    assert_eq!(limited, Err(Unverifiable::Limit { name: "elements_max", limit: 10 }));
}
