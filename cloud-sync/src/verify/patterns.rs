//! Spellings as bytes, and the rule by which the bytes of each count as found.

use unicode_normalization::UnicodeNormalization;

use super::charset::written;
use super::spellings::{Spelling, Trust, is_ideographic};

/// What kind of bytes surround a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// PN.
    Name,
    /// Text of any length, and JSON.
    Text,
    /// CS.
    Code,
    /// DS and IS.
    Number,
    /// DA, TM and DT.
    Temporal,
    /// UI.
    Uid,
    /// Binary values that are small, and what lies between values.
    Small,
    /// Pixel data and the like.
    Bulk,
}

/// A set of grounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grounds(u8);

impl Grounds {
    const ALL: Grounds = Grounds(0xFF);

    const fn of(grounds: &[Ground]) -> Grounds {
        let (mut bits, mut at) = (0, 0);
        while at < grounds.len() {
            bits |= 1 << grounds[at] as u8;
            at += 1;
        }
        Grounds(bits)
    }

    const fn without(self, other: &[Ground]) -> Grounds {
        Grounds(self.0 & !Grounds::of(other).0)
    }

    pub(super) fn has(self, ground: Ground) -> bool {
        self.0 & 1 << ground as u8 != 0
    }
}

/// What must end where a match ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edges {
    /// Nothing.
    Free,
    /// A word, at one end or the other.
    One,
    /// A word, at both ends.
    Word,
    /// A number, at both ends.
    Number,
    /// A number, where it begins: a time may follow a day.
    NumberBefore,
}

/// Bytes that are sought.
pub(super) struct Pattern {
    pub(super) bytes: Vec<u8>,
    pub(super) encoding: &'static str,
    /// Case and all: the automaton does not tell `a` from `A`.
    pub(super) exact: bool,
    /// Bytes of a character, and which of them is the low one.
    pub(super) stride: usize,
    pub(super) low: usize,
    pub(super) edges: Edges,
    pub(super) grounds: Grounds,
    /// In pixel data: long enough for it, and then as a whole word.
    pub(super) bulk: bool,
    /// Three characters: in binary values only among other printable bytes.
    pub(super) faint: bool,
}

/// The bytes of a spelling in every encoding; none where it is too short to mean anything.
pub(super) fn patterns(spelling: &Spelling) -> Vec<Pattern> {
    let Some(rule) = Rule::of(spelling) else { return Vec::new() };
    let text = &spelling.text;
    let mut all = Vec::new();
    for form in cases(text) {
        let mut add = |encoding, bytes: Vec<u8>, exact| all.push(rule.pattern(encoding, bytes, exact, &form));
        add("UTF-8", form.clone().into_bytes(), !text.is_ascii());
        add("UTF-16LE", form.encode_utf16().flat_map(u16::to_le_bytes).collect(), !text.is_ascii());
        add("UTF-16BE", form.encode_utf16().flat_map(u16::to_be_bytes).collect(), !text.is_ascii());
        for (encoding, bytes) in written(&form) {
            add(encoding, bytes, true);
        }
        if !text.is_ascii() {
            add("JSON escapes", json_escaped(&form).into_bytes(), false);
            add("percent-encoding", percent_encoded(&form).into_bytes(), false);
        }
    }
    if rule.derive {
        for form in words_cases(text) {
            for bytes in base64_cores(form.as_bytes()) {
                all.push(rule.derived("base64", bytes, true));
            }
        }
        for form in words_cases(text) {
            all.push(rule.derived("hex", hex(form.as_bytes()), false));
        }
    }
    all.retain(|pattern| !pattern.bytes.is_empty());
    all
}

struct Rule {
    edges: Edges,
    grounds: Grounds,
    bulk: bool,
    faint: bool,
    derive: bool,
}

use Ground::{Bulk, Code, Name, Number, Small, Temporal, Text, Uid};

impl Rule {
    /// The table of the module's documentation.
    fn of(spelling: &Spelling) -> Option<Rule> {
        let Spelling { text, trust } = spelling;
        let chars = text.chars().count();
        let ideographs = text.chars().filter(|&c| is_ideographic(c)).count();
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        // An ideograph says as much as three letters.
        let weight = chars + 2 * ideographs;
        let no_bulk = Grounds::ALL.without(&[Bulk]);
        let (edges, grounds) = match trust {
            Trust::InNames => (Edges::Word, Grounds::of(&[Name])),
            Trust::InTemporal => (Edges::NumberBefore, Grounds::of(&[Temporal])),
            Trust::Squeezed | Trust::SqueezedEnd => return None,
            Trust::Day => (Edges::NumberBefore, Grounds::ALL.without(&[Number])),
            Trust::Length | Trust::Written if digits => match chars {
                0..=3 => return None,
                4..=5 => (Edges::Number, Grounds::of(&[Text, Name])),
                6..=7 => (Edges::Number, no_bulk),
                8..=9 => (Edges::Number, Grounds::ALL.without(&[Number])),
                _ => (Edges::Number, Grounds::ALL),
            },
            Trust::Length | Trust::Written if is_numeric(text) => match chars {
                0..=7 => return None,
                8..=9 => (Edges::Number, Grounds::of(&[Text, Name, Small])),
                _ => (Edges::Number, Grounds::ALL),
            },
            Trust::Length | Trust::Written if ideographs > 0 => match weight {
                0..=3 => return None,
                _ => (Edges::Free, Grounds::ALL),
            },
            Trust::Length | Trust::Written => match weight {
                0..=2 => return None,
                3..=4 => (Edges::Word, no_bulk.without(&[Number, Temporal, Uid])),
                5..=6 => (Edges::One, Grounds::ALL),
                _ => (Edges::Free, Grounds::ALL),
            },
        };
        let bulk = match (ideographs, digits) {
            (0, true) => chars >= 8,
            (0, false) if is_numeric(text) => chars >= 10,
            _ => weight >= 6,
        };
        let derive = text.len() >= 5 && matches!(trust, Trust::Length | Trust::Day);
        Some(Rule { edges, grounds, bulk, faint: weight == 3, derive })
    }

    fn pattern(&self, encoding: &'static str, bytes: Vec<u8>, exact: bool, form: &str) -> Pattern {
        let (stride, low) = match encoding {
            "UTF-16LE" => (2, 0),
            "UTF-16BE" => (2, 1),
            _ => (1, 0),
        };
        // Beyond ASCII, bytes that are few are anything.
        let few = !form.is_ascii() && bytes.len() < 8;
        let grounds =
            if bytes.len() < 4 && !form.is_ascii() { self.grounds.without(&[Small, Bulk]) } else { self.grounds };
        Pattern {
            bytes,
            encoding,
            exact,
            stride,
            low,
            edges: self.edges,
            grounds,
            bulk: self.bulk && !few,
            faint: self.faint,
        }
    }

    fn derived(&self, encoding: &'static str, bytes: Vec<u8>, exact: bool) -> Pattern {
        let grounds = Grounds::of(&[Text, Name, Code, Small]);
        Pattern { bytes, encoding, exact, stride: 1, low: 0, edges: Edges::Free, grounds, bulk: false, faint: false }
    }
}

/// Digits with signs between them: days, UIDs, times.
fn is_numeric(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b"-/.: ".contains(&b))
}

/// ASCII once, since its case does not matter; else in the cases in which it may stand, composed and decomposed.
fn cases(text: &str) -> Vec<String> {
    if text.is_ascii() {
        return vec![text.to_owned()];
    }
    let mut forms: Vec<String> = Vec::new();
    for form in words_cases(text) {
        for form in [form.nfc().collect::<String>(), form.nfd().collect()] {
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
    }
    forms
}

/// As it is, all small, all large, and with large initials.
fn words_cases(text: &str) -> Vec<String> {
    let mut titled = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            titled.extend(c.to_lowercase());
        } else {
            titled.extend(c.to_uppercase());
        }
        inside = c.is_alphanumeric();
    }
    let mut forms = vec![text.to_owned()];
    for form in [text.to_lowercase(), text.to_uppercase(), titled] {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

fn json_escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii() {
            escaped.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
        }
    }
    escaped
}

fn percent_encoded(text: &str) -> String {
    let encoded = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(encoded).collect()
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15].map(|digit| DIGITS[usize::from(digit)])).collect()
}

/// What of the base64 of a text is the same whatever stands before and after it, for each of the three alignments.
fn base64_cores(bytes: &[u8]) -> Vec<Vec<u8>> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let core = |before: usize| {
        let (mut digits, mut held, mut bits) = (Vec::with_capacity(bytes.len() * 4 / 3 + 4), 0usize, 0);
        for byte in std::iter::repeat_n(&0, before).chain(bytes) {
            (held, bits) = ((held << 8 | usize::from(*byte)) & 0xFFFF, bits + 8);
            while bits >= 6 {
                bits -= 6;
                digits.push(DIGITS[held >> bits & 63]);
            }
        }
        // Those that have bits of what stands before.
        digits.drain(..(before * 8).div_ceil(6).min(digits.len()));
        digits
    };
    (0..3).map(core).filter(|core| core.len() >= 6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_found_at_every_alignment() {
        let cores = base64_cores(b"Miller");
        // Of "Miller", "xMiller" and "xxMiller", by another program.
        assert_eq!(cores, [b"TWlsbGVy".to_vec(), b"1pbGxlc"[..].to_vec(), b"NaWxsZX"[..].to_vec()]);
    }

    #[test]
    fn what_is_short_needs_its_place() {
        let rule = |text: &str| Rule::of(&Spelling { text: text.into(), trust: Trust::Length });
        assert!(rule("CT").is_none());
        assert!(rule("123").is_none());
        assert_eq!(rule("Kim").map(|rule| (rule.edges, rule.grounds.has(Bulk))), Some((Edges::Word, false)));
        assert_eq!(rule("Henry").map(|rule| (rule.edges, rule.bulk)), Some((Edges::One, false)));
        assert_eq!(rule("Hendricks").map(|rule| (rule.edges, rule.bulk)), Some((Edges::Free, true)));
        assert_eq!(rule("4711").map(|rule| rule.grounds.has(Number)), Some(false));
        assert!(rule("山田").is_some());
    }
}
