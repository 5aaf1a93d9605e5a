//! The ways in which people and programs spell an identifier.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::Kind;

/// A spelling, and how much it takes to believe that it is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spelling {
    pub(super) text: String,
    pub(super) trust: Trust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// By its length alone.
    Length,
    /// The same, of a spelling that nobody would hide in base64 before the plain one.
    Written,
    /// Only in a person name: initials, and names that are words of the field.
    InNames,
    /// Only as part of a value of DA, TM or DT.
    InTemporal,
    /// As a day in digits: what follows may be a time.
    Day,
    /// As digits and letters, whatever separates them.
    Squeezed,
    /// The end of such a number: codes may stand before it.
    SqueezedEnd,
}

/// All spellings of an identifier.
pub(super) fn spellings(kind: Kind, text: &str) -> Vec<Spelling> {
    let mut all = Spellings::default();
    match kind {
        Kind::Name | Kind::Staff => all.name(text),
        Kind::Date | Kind::BirthDate => all.day(text),
        Kind::Time => all.time(text),
        Kind::Uid => all.plain(text),
        Kind::Id | Kind::Device => {
            all.plain(text);
            all.squeezed(text);
            all.without_zeros(text);
        }
        Kind::Number => all.squeezed(text),
        Kind::Contact => {
            all.number(text);
            all.address(text);
        }
        Kind::Institution | Kind::Organization => {
            // Some are called as their scanners' maker is.
            if !is_common(text) {
                all.plain(text);
            }
            all.words(text);
        }
        Kind::Private => all.written(text),
    }
    let mut all = all.0;
    all.sort();
    all.dedup();
    all
}

/// Letters of the Latin, Greek and Cyrillic kind come in words; one of these says as much as a word's part.
pub(super) fn is_ideographic(c: char) -> bool {
    c >= '\u{1100}'
}

/// Words that stand in images of anybody, though some people and places are called so.
fn is_common(word: &str) -> bool {
    COMMON.binary_search(&word.to_lowercase().as_str()).is_ok()
}

/// What stands beside anybody's name.
fn is_title(part: &str) -> bool {
    const TITLES: [&str; 20] = [
        "de",
        "der",
        "dr",
        "frau",
        "herr",
        "ii",
        "iii",
        "jr",
        "md",
        "med",
        "mr",
        "mrs",
        "ms",
        "phd",
        "prof",
        "professor",
        "sr",
        "van",
        "von",
        "zu",
    ];
    TITLES.contains(&part.to_lowercase().as_str())
}

#[derive(Default)]
struct Spellings(Vec<Spelling>);

impl Spellings {
    fn add(&mut self, text: &str, trust: Trust) {
        if !text.is_empty() {
            self.0.push(Spelling { text: text.to_owned(), trust });
        }
    }

    fn plain(&mut self, text: &str) {
        self.add(text, Trust::Length);
    }

    fn written(&mut self, text: &str) {
        self.add(text, Trust::Written);
    }

    /// Each component group, each part of it, and parts side by side.
    fn name(&mut self, text: &str) {
        for group in text.split('=') {
            let parts: Vec<&str> = group
                .split(|c: char| c.is_whitespace() || "^,.·・-/()".contains(c))
                .filter(|part| part.chars().any(char::is_alphanumeric) && !is_title(part))
                .collect();
            for part in &parts {
                let weak = part.chars().count() < 3 && !part.chars().all(is_ideographic) || is_common(part);
                self.add(part, if weak { Trust::InNames } else { Trust::Length });
                self.folded(part);
            }
            for (at, a) in parts.iter().enumerate() {
                for b in parts.iter().skip(at + 1).take(3) {
                    self.pair(a, b);
                }
            }
        }
    }

    fn pair(&mut self, a: &str, b: &str) {
        if is_common(a) && is_common(b) {
            return;
        }
        for (first, second) in [(a, b), (b, a)] {
            for between in ["^", " "] {
                self.plain(&format!("{first}{between}{second}"));
            }
            for between in [", ", ",", "", "_", "-", "."] {
                self.written(&format!("{first}{between}{second}"));
            }
        }
    }

    /// Without accents, and as German letters are written without them.
    fn folded(&mut self, part: &str) {
        if part.is_ascii() {
            return;
        }
        let bare: String = part.nfd().filter(|c| !is_combining_mark(*c)).collect();
        let spelt: String = part
            .chars()
            .map(|c| match c {
                'ä' | 'æ' => "ae".into(),
                'ö' | 'ø' | 'œ' => "oe".into(),
                'ü' => "ue".into(),
                'ß' => "ss".into(),
                'å' => "aa".into(),
                'Ä' | 'Æ' => "Ae".into(),
                'Ö' | 'Ø' => "Oe".into(),
                'Ü' => "Ue".into(),
                other => other.to_string(),
            })
            .collect();
        for form in [bare, spelt] {
            if form.is_ascii() && form.len() >= 3 && !is_common(&form) {
                self.plain(&form);
            }
        }
    }

    fn words(&mut self, text: &str) {
        for word in text.split(|c: char| !c.is_alphanumeric()) {
            if word.chars().count() >= 5 && word.chars().any(char::is_alphabetic) && !is_common(word) {
                self.plain(word);
                self.folded(word);
            }
        }
    }

    fn address(&mut self, text: &str) {
        for piece in text.split([',', ';', '\r', '\n', '^', '\\']) {
            let piece = piece.trim();
            if piece.chars().count() >= 6 && piece.chars().any(char::is_alphabetic) {
                self.plain(piece);
                self.words(piece);
            }
        }
    }

    /// A telephone number with and without what separates it, and what is left of it without codes.
    fn number(&mut self, text: &str) {
        if text.chars().any(char::is_alphabetic) {
            return;
        }
        self.squeezed(text);
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        if let Some(local) = digits.len().checked_sub(7).filter(|&at| at >= 2).and_then(|at| digits.get(at..)) {
            self.add(local, Trust::SqueezedEnd);
        }
    }

    /// Digits and letters alone, where enough are left.
    fn squeezed(&mut self, text: &str) {
        let bare: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
        let least = if bare.bytes().all(|b| b.is_ascii_digit()) { 7 } else { 6 };
        if bare.len() >= least && text.is_ascii() {
            self.add(&bare, Trust::Squeezed);
        }
    }

    fn without_zeros(&mut self, text: &str) {
        let bare = text.trim_start_matches('0');
        if bare.len() >= 6 && bare.len() < text.len() && bare.bytes().all(|b| b.is_ascii_digit()) {
            self.plain(bare);
        }
    }

    fn day(&mut self, day: &str) {
        let (Some(y), Some(m), Some(d)) = (day.get(..4), day.get(4..6), day.get(6..8)) else { return };
        self.add(day, Trust::Day);
        let (m1, d1, y2) = (m.trim_start_matches('0'), d.trim_start_matches('0'), &y[2..]);
        for s in ["-", "/", "."] {
            self.add(&format!("{y}{s}{m}{s}{d}"), Trust::Day);
            for (m, d) in [(m, d), (m1, d1)] {
                self.written(&format!("{d}{s}{m}{s}{y}"));
                self.written(&format!("{m}{s}{d}{s}{y}"));
            }
            self.written(&format!("{d}{s}{m}{s}{y2}"));
            self.written(&format!("{m}{s}{d}{s}{y2}"));
        }
        let month = m.parse::<usize>().ok().and_then(|m| MONTHS.get(m.checked_sub(1)?));
        for name in month.into_iter().flatten() {
            for d in [d, d1] {
                for form in [
                    format!("{d} {name} {y}"),
                    format!("{d}. {name} {y}"),
                    format!("{d}-{name}-{y}"),
                    format!("{d}{name}{y}"),
                    format!("{name} {d}, {y}"),
                    format!("{name} {d} {y}"),
                ] {
                    self.written(&form);
                }
            }
        }
    }

    fn time(&mut self, time: &str) {
        let (Some(h), Some(m), Some(s)) = (time.get(..2), time.get(2..4), time.get(4..6)) else { return };
        // Whole minutes are no trace of anything: too many instances have them.
        if s != "00" {
            self.add(&time[..6], Trust::InTemporal);
            self.written(&format!("{h}:{m}:{s}"));
        }
        let fraction = time.get(7..).unwrap_or_default().trim_end_matches('0');
        if fraction.len() >= 4 {
            self.written(&time[..7 + fraction.len()]);
        }
    }
}

const MONTHS: [[&str; 3]; 12] = [
    ["Jan", "January", "Januar"],
    ["Feb", "February", "Februar"],
    ["Mar", "March", "März"],
    ["Apr", "April", "April"],
    ["May", "May", "Mai"],
    ["Jun", "June", "Juni"],
    ["Jul", "July", "Juli"],
    ["Aug", "August", "August"],
    ["Sep", "September", "September"],
    ["Oct", "October", "Oktober"],
    ["Nov", "November", "November"],
    ["Dec", "December", "Dezember"],
];

/// Sorted, in lower case.
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "abdomen", "agfa", "anonymous", "aorta", "apex", "arm", "axial", "back", "black", "body", "bone", "brain",
    "breast", "brown", "canon", "carestream", "center", "centre", "chest", "children", "clinic", "clinical",
    "clinique", "code", "college", "container", "contrast", "coronal", "county", "demo", "department", "doctor",
    "elscint", "enter", "film", "first", "foot", "fuji", "fujifilm", "general", "gray", "green", "grey", "hand",
    "head", "health", "healthcare", "heart", "hip", "hitachi", "hologic", "hopital", "hospital", "image", "images",
    "imaging", "institut", "institute", "klinik", "klinikum", "knee", "kodak", "konica", "krankenhaus", "large",
    "last", "left", "leg", "lesion", "liver", "long", "lung", "male", "marconi", "medical", "medicine", "name",
    "national", "neck", "philips", "picker", "radiologie", "radiology", "regional", "research", "right", "sagittal",
    "saint", "samsung", "scan", "series", "service", "services", "shimadzu", "short", "siemens", "small", "spine",
    "street", "study", "test", "text", "tissue", "tomography", "toshiba", "university", "vessel", "white", "young",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_words_are_sorted() {
        let mut sorted = COMMON.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, COMMON);
    }

    fn texts(kind: Kind, text: &str) -> Vec<String> {
        spellings(kind, text).into_iter().map(|spelling| spelling.text).collect()
    }

    #[test]
    fn a_day_is_spelt_in_many_ways() {
        let all = texts(Kind::Date, "20240305");
        for form in
            ["20240305", "2024-03-05", "05.03.2024", "3/5/2024", "03/05/24", "5. März 2024", "Mar 5, 2024", "05MAR2024"]
        {
            assert!(all.iter().any(|known| known.eq_ignore_ascii_case(form)), "{form} is missing");
        }
    }

    #[test]
    fn a_name_is_taken_apart_and_joined() {
        let all = texts(Kind::Name, "Müller^Jo^^Dr.=山田^太郎");
        for form in ["Müller", "Muller", "Mueller", "Jo", "Jo Müller", "山田", "山田太郎"] {
            assert!(all.contains(&form.to_owned()), "{form} is missing");
        }
    }

    #[test]
    fn numbers_lose_what_separates_them() {
        assert!(texts(Kind::Contact, "+49 (30) 901-2345").contains(&"49309012345".into()));
        assert!(texts(Kind::Contact, "+49 (30) 901-2345").contains(&"9012345".into()));
        assert!(texts(Kind::Id, "12-345-678").contains(&"12345678".into()));
        assert!(texts(Kind::Id, "0001234567").contains(&"1234567".into()));
    }
}
