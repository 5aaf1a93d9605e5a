//! People who never were, and files full of them.

use crate::dicom::{DataSet, Element, Value};
use gantry_cloud_sync::verify::Kind;

/// Numbers from a seed (SplitMix64): the same seed, the same files.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub(crate) fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|at| char::from(b'0' + self.below(if at == 0 { 9 } else { 10 }) as u8 + u8::from(at == 0)))
            .collect()
    }

    /// A word of consonants and vowels that is none of any language's.
    pub(crate) fn word(&mut self, letters: usize) -> String {
        let word: String = (0..letters)
            .map(|at| if at % 2 == 0 { self.one(b"bdfgklmnprtvz") } else { self.one(b"aeiou") })
            .map(char::from)
            .collect();
        let mut word = word;
        word[..1].make_ascii_uppercase();
        word
    }

    fn of_script(&mut self, script: &str, letters: usize) -> String {
        let all: Vec<char> = script.chars().collect();
        (0..letters).map(|_| self.one(&all)).collect()
    }

    pub(crate) fn day(&mut self, from: u64, to: u64) -> String {
        let (year, month, day) = (from + self.below(to - from), 1 + self.below(12), 13 + self.below(15));
        format!("{year:04}{month:02}{day:02}")
    }

    pub(crate) fn time(&mut self) -> String {
        let (h, m, s, f) = (1 + self.below(22), self.below(60), 1 + self.below(59), 100_000 + self.below(899_999));
        format!("{h:02}{m:02}{s:02}.{}", f | 1)
    }

    pub(crate) fn uid(&mut self) -> String {
        format!("1.2.826.0.1.3680043.9.{}.{}.{}", self.digits(4), self.digits(9), self.digits(12))
    }
}

/// Whom a study is of, and who made it.
pub(crate) struct Person {
    /// Of Specific Character Set.
    pub(crate) charset: &'static str,
    /// PN in Unicode, and its bytes in that character set.
    pub(crate) name: String,
    pub(crate) encoded: Vec<u8>,
    pub(crate) family: String,
    pub(crate) id: String,
    pub(crate) accession: String,
    pub(crate) birth: String,
    pub(crate) phone: String,
    pub(crate) street: String,
    pub(crate) city: String,
    pub(crate) mail: String,
    pub(crate) physician: String,
    pub(crate) institution: String,
    pub(crate) serial: String,
    pub(crate) station: String,
    pub(crate) day: String,
    pub(crate) time: String,
    pub(crate) study: String,
    pub(crate) series: String,
    pub(crate) frame_of_reference: String,
}

pub(crate) const SCRIPTS: [&str; 6] = ["latin", "accents", "cyrillic", "greek", "kanji", "hangul"];

impl Person {
    pub(crate) fn new(random: &mut Random, script: &str) -> Person {
        let family = random.word(8);
        let given = random.word(6);
        let alphabetic = format!("{family}^{given}");
        let mut name = alphabetic.clone();
        let (charset, encoding): (_, Option<&'static encoding_rs::Encoding>) = match script {
            "accents" => {
                name = format!("{}ü{}^{}é", random.word(3), random.word(4).to_lowercase(), random.word(5));
                ("ISO_IR 100", Some(encoding_rs::WINDOWS_1252))
            }
            "cyrillic" => {
                name = format!("{}^{}", random.of_script("бвгджзклмнопрст", 8), random.of_script("аеиоубвгдж", 6));
                ("ISO_IR 144", Some(encoding_rs::ISO_8859_5))
            }
            "greek" => {
                name = format!("{}^{}", random.of_script("βγδεζηθικλμνξ", 8), random.of_script("αεηιοβγδ", 6));
                ("ISO_IR 126", Some(encoding_rs::ISO_8859_7))
            }
            "kanji" => {
                let (a, b) = (random.of_script("山田川村島崎藤原松本", 3), random.of_script("太郎次花子美幸健一", 3));
                name = format!("{alphabetic}={a}^{b}");
                ("\\ISO 2022 IR 87", None)
            }
            "hangul" => {
                let (a, b) = (random.of_script("김이박최정강조윤장임", 2), random.of_script("길동민수지영현우서준", 2));
                name = format!("{alphabetic}={a}^{b}");
                ("\\ISO 2022 IR 149", None)
            }
            _ => ("ISO_IR 100", Some(encoding_rs::WINDOWS_1252)),
        };
        let encoded = match (encoding, script) {
            (Some(encoding), _) => encoding.encode(&name).0.into_owned(),
            (None, "kanji") => code_extended(&name, b"\x1B$B", encoding_rs::EUC_JP, 0x7F),
            (None, _) => code_extended(&name, b"\x1B$)C", encoding_rs::EUC_KR, 0xFF),
        };
        Person {
            charset,
            name,
            encoded,
            id: format!("{}{}", random.word(2).to_uppercase(), random.digits(8)),
            accession: format!("{}-{}", random.digits(4), random.digits(6)),
            birth: random.day(1930, 1990),
            phone: format!("+49 {} {}-{}", random.digits(3), random.digits(4), random.digits(3)),
            street: format!("{}weg {}", random.word(8), random.digits(2)),
            city: random.word(9),
            mail: format!("{}@{}.test", random.word(7).to_lowercase(), random.word(7).to_lowercase()),
            physician: format!("{}^{}^^Dr.", random.word(9), random.word(7)),
            institution: format!("Klinikum {}", random.word(10)),
            serial: random.digits(7),
            station: format!("{}{}", random.word(6).to_uppercase(), random.digits(2)),
            day: random.day(2010, 2024),
            time: random.time(),
            study: random.uid(),
            series: random.uid(),
            frame_of_reference: random.uid(),
            family,
        }
    }

    /// Every identifier, as text.
    pub(crate) fn identifiers(&self) -> Vec<(Kind, String)> {
        let words = |text: &str| text.split([' ', '^', '=']).map(str::to_owned).collect::<Vec<_>>();
        let mut all = vec![
            (Kind::Id, self.id.clone()),
            (Kind::Id, self.accession.clone()),
            (Kind::BirthDate, self.birth.clone()),
            (Kind::Contact, self.phone.clone()),
            (Kind::Contact, self.street.clone()),
            (Kind::Contact, self.city.clone()),
            (Kind::Contact, self.mail.clone()),
            (Kind::Institution, self.institution.clone()),
            (Kind::Device, self.serial.clone()),
            (Kind::Device, self.station.clone()),
            (Kind::Date, self.day.clone()),
            (Kind::Time, self.time.clone()),
            (Kind::Uid, self.study.clone()),
            (Kind::Uid, self.series.clone()),
            (Kind::Uid, self.frame_of_reference.clone()),
        ];
        all.extend(words(&self.name).into_iter().map(|part| (Kind::Name, part)));
        all.extend(words(&self.physician).into_iter().filter(|part| part.len() > 3).map(|part| (Kind::Staff, part)));
        all
    }

    /// A CT slice of theirs of 8 × 8 voxels, with nothing in it that a scanner would not write.
    pub(crate) fn slice(&self, number: u16, uid: &str) -> DataSet {
        let mut set = DataSet::default();
        let text = |text: &str| text.as_bytes().to_vec();
        set.put(0x0008_0005, b"CS", self.charset)
            .put(0x0008_0008, b"CS", "ORIGINAL\\PRIMARY\\AXIAL")
            .put(0x0008_0016, b"UI", "1.2.840.10008.5.1.4.1.1.2")
            .put(0x0008_0018, b"UI", uid)
            .put(0x0008_0020, b"DA", text(&self.day))
            .put(0x0008_0021, b"DA", text(&self.day))
            .put(0x0008_0022, b"DA", text(&self.day))
            .put(0x0008_0023, b"DA", text(&self.day))
            .put(0x0008_0030, b"TM", text(&self.time))
            .put(0x0008_0050, b"SH", text(&self.accession))
            .put(0x0008_0060, b"CS", "CT")
            .put(0x0008_0070, b"LO", "Lantern Imaging")
            .put(0x0008_0080, b"LO", text(&self.institution))
            .put(0x0008_0081, b"ST", format!("{}, {}", self.street, self.city))
            .put(0x0008_0090, b"PN", text(&self.physician))
            .put(0x0008_1010, b"SH", text(&self.station))
            .put(0x0008_1030, b"LO", "Abdomen portal venous")
            .put(0x0008_1090, b"LO", "Beacon 64")
            .put(0x0010_0010, b"PN", self.encoded.clone())
            .put(0x0010_0020, b"LO", text(&self.id))
            .put(0x0010_0030, b"DA", text(&self.birth))
            .put(0x0010_0040, b"CS", "F")
            .put(0x0010_1010, b"AS", "057Y")
            .put(0x0010_1040, b"LO", format!("{}, {}", self.street, self.city))
            .put(0x0010_2154, b"SH", text(&self.phone))
            .put(0x0010_2155, b"LT", text(&self.mail))
            .put(0x0018_0015, b"CS", "ABDOMEN")
            .put(0x0018_0050, b"DS", "2.5")
            .put(0x0018_0060, b"DS", "120")
            .put(0x0018_1000, b"LO", text(&self.serial))
            .put(0x0018_1210, b"SH", "B31f")
            .put(0x0020_000D, b"UI", text(&self.study))
            .put(0x0020_000E, b"UI", text(&self.series))
            .put(0x0020_0011, b"IS", "3")
            .put(0x0020_0013, b"IS", number.to_string())
            .put(0x0020_0032, b"DS", format!("-10\\-10\\{}", f64::from(number) * 2.5))
            .put(0x0020_0037, b"DS", "1\\0\\0\\0\\1\\0")
            .put(0x0020_0052, b"UI", text(&self.frame_of_reference))
            .put(0x0028_0002, b"US", 1u16.to_le_bytes())
            .put(0x0028_0004, b"CS", "MONOCHROME2")
            .put(0x0028_0010, b"US", 8u16.to_le_bytes())
            .put(0x0028_0011, b"US", 8u16.to_le_bytes())
            .put(0x0028_0030, b"DS", "2.5\\2.5")
            .put(0x0028_0100, b"US", 16u16.to_le_bytes())
            .put(0x0028_0101, b"US", 16u16.to_le_bytes())
            .put(0x0028_0102, b"US", 15u16.to_le_bytes())
            .put(0x0028_0103, b"US", 0u16.to_le_bytes())
            .put(0x0028_1052, b"DS", "-1024")
            .put(0x0028_1053, b"DS", "1")
            .put(0x7FE0_0010, b"OW", (0..64u16).flat_map(|i| (i * 37 + number).to_le_bytes()).collect::<Vec<u8>>());
        set
    }
}

/// A name of several component groups: the second in a set that is called for each part.
fn code_extended(name: &str, call: &[u8], encoding: &'static encoding_rs::Encoding, mask: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (group, text) in name.split('=').enumerate() {
        bytes.extend((group > 0).then_some(b'='));
        for (part, text) in text.split('^').enumerate() {
            bytes.extend((part > 0).then_some(b'^'));
            if text.is_ascii() {
                bytes.extend(text.as_bytes());
                continue;
            }
            bytes.extend(call);
            bytes.extend(encoding.encode(text).0.iter().map(|b| b & mask));
            if mask == 0x7F {
                bytes.extend(b"\x1B(B");
            }
        }
    }
    bytes
}

/// Wraps elements into sequences that the table does not name, so deep.
pub(crate) fn nested(elements: Vec<Element>, depth: usize) -> Vec<Element> {
    // Series, frames, pixel measures, and a dose: containers that every profile keeps.
    const CONTAINERS: [u32; 4] = [0x0008_1115, 0x5200_9230, 0x0028_9110, 0x0018_9346];
    CONTAINERS
        .iter()
        .take(depth)
        .fold(elements, |inside, &tag| vec![Element { tag, vr: *b"SQ", value: Value::Items(vec![DataSet(inside)]) }])
}
