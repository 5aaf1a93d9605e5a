//! What a value may be, by its value representation (PS3.5 section 6.2) and the characters that the object declares
//! (section 6.1).

use std::str;

use chrono::NaiveDate;
use dicom_core::VR;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

use super::read::{DataSet, Field};

/// The characters of an object, by its Specific Character Set (0008,0005).
pub(super) struct Characters {
    repertoire: Repertoire,
    /// What the reader of sources takes it for: the first of several, and the default one for one that it does not know.
    as_read: SpecificCharacterSet,
    terms: String,
}

enum Repertoire {
    /// Without a term, and with code extensions: what we write ourselves keeps to the default repertoire then.
    Ascii,
    Utf8,
    /// One character set.
    Single(SpecificCharacterSet),
}

impl Characters {
    pub(super) fn of(data_set: DataSet<'_>) -> Self {
        Self::named(data_set.text(tags::SPECIFIC_CHARACTER_SET))
    }

    /// By its term or terms.
    pub(super) fn named(terms: &str) -> Self {
        let terms = terms.split('\\').map(str::trim).collect::<Vec<_>>().join("\\");
        let first = terms.split('\\').next().unwrap_or_default();
        let known = SpecificCharacterSet::from_code(first);
        let repertoire = match &known {
            _ if terms == "ISO_IR 192" => Repertoire::Utf8,
            Some(set) if terms == first && first != "ISO_IR 6" && !first.contains("2022") => {
                Repertoire::Single(set.clone())
            }
            _ => Repertoire::Ascii,
        };
        Self { repertoire, as_read: known.unwrap_or_default(), terms }
    }

    /// `None` where the bytes stand for no text.
    fn text(&self, bytes: &[u8]) -> Option<String> {
        match &self.repertoire {
            Repertoire::Utf8 => str::from_utf8(bytes).ok().map(str::to_owned),
            // What cannot be decoded is escaped, and then does not become the same bytes again.
            Repertoire::Single(set) => {
                set.decode(bytes).ok().filter(|text| set.encode(text).is_ok_and(|again| again == bytes))
            }
            Repertoire::Ascii => ascii(bytes),
        }
    }

    /// Text as the reader of sources has it, to be compared with what that read in a source of these `terms`; `None` where
    /// others would read something else.
    pub(super) fn as_read(&self, field: Field<'_>, terms: &str) -> Option<String> {
        if self.terms != terms && self.text(field.unpadded()).is_none() {
            return None;
        }
        self.decoded(field.vr(), field.unpadded())
    }

    /// Text as the reader of sources has it.
    pub(super) fn decoded(&self, vr: VR, bytes: &[u8]) -> Option<String> {
        let set = if is_free(vr) { &self.as_read } else { &SpecificCharacterSet::ISO_IR_6 };
        set.decode(bytes).ok()
    }
}

fn ascii(bytes: &[u8]) -> Option<String> {
    str::from_utf8(bytes).ok().filter(|text| text.is_ascii()).map(str::to_owned)
}

/// Whether text of this value representation may be in other characters than those of the default repertoire.
fn is_free(vr: VR) -> bool {
    matches!(vr, VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT)
}

/// Whether an element has the value representation of its attribute (PS3.6), and a value of it.
///
/// # Errors
/// The rule that is broken, without the value.
pub(super) fn check(field: Field<'_>, characters: &Characters) -> Result<(), String> {
    let known = StandardDataDictionary.by_tag(field.tag()).ok_or("is no attribute of PS3.6")?;
    let vr = field.vr();
    let fits = match known.vr() {
        VirtualVr::Exact(exact) => vr == exact,
        VirtualVr::Xs => matches!(vr, VR::US | VR::SS),
        VirtualVr::Ox | VirtualVr::Px => matches!(vr, VR::OB | VR::OW),
        VirtualVr::Lt => matches!(vr, VR::US | VR::OW),
        _ => true,
    };
    if !fits {
        return Err(format!("the value representation {vr} is not that of PS3.6"));
    }
    let broken = |rule: &str| format!("no {vr} of PS3.5 section 6.2: {rule}");
    let value = field.unpadded();
    if value.is_empty() {
        return Ok(());
    }
    let size = match vr {
        VR::US | VR::SS | VR::OW => 2,
        VR::UL | VR::SL | VR::FL | VR::AT | VR::OF | VR::OL => 4,
        VR::FD | VR::SV | VR::UV | VR::OD | VR::OV => 8,
        VR::OB | VR::UN | VR::SQ => 1,
        _ => return text(vr, value, characters).map_err(broken),
    };
    if !value.len().is_multiple_of(size) {
        return Err(broken("not a whole number of values"));
    }
    let finite = match vr {
        VR::FL => field.floats().all(f32::is_finite),
        VR::FD => value.as_chunks().0.iter().all(|bytes| f64::from_le_bytes(*bytes).is_finite()),
        _ => true,
    };
    if finite { Ok(()) } else { Err(broken("a number that is not finite")) }
}

/// What is wrong with a text.
fn text(vr: VR, value: &[u8], characters: &Characters) -> Result<(), &'static str> {
    let text = if is_free(vr) { characters.text(value) } else { ascii(value) };
    let text = text.ok_or("characters beyond the Specific Character Set (PS3.5 section 6.1)")?;
    let lines = matches!(vr, VR::LT | VR::ST | VR::UT);
    let control = |c: char| c.is_control() && !(lines && matches!(c, '\t' | '\n' | '\u{C}' | '\r'));
    if text.chars().any(control) {
        return Err("a control character");
    }
    let longest = |most: usize| if text.chars().count() <= most { Ok(()) } else { Err("more characters than fit") };
    match vr {
        VR::ST => longest(1024),
        VR::LT => longest(10_240),
        VR::UT | VR::UC | VR::UR => Ok(()),
        _ => text.split('\\').try_for_each(|value| one(vr, value)),
    }
}

/// What is wrong with one value of several. Leading and trailing spaces say nothing, and count as characters.
fn one(vr: VR, value: &str) -> Result<(), &'static str> {
    let length = value.chars().count();
    let plain = value.trim_matches(' ');
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let keep = |fits: bool, rule: &'static str| if fits { Ok(()) } else { Err(rule) };
    match vr {
        VR::CS => {
            let upper = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'_');
            keep(length <= 16 && value.bytes().all(upper), "16 capitals, digits, spaces and _ at most")
        }
        VR::SH => keep(length <= 16, "16 characters at most"),
        VR::LO => keep(length <= 64, "64 characters at most"),
        VR::AE => keep(length <= 16, "16 characters at most"),
        VR::UI => keep(is_uid(value), "64 digits and dots at most, components without leading zeros (section 9.1)"),
        VR::DS => {
            let number = |b: u8| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E');
            let finite = plain.bytes().all(number) && plain.parse::<f64>().is_ok_and(f64::is_finite);
            keep(length <= 16 && (plain.is_empty() || finite), "a decimal number of 16 characters at most")
        }
        VR::IS => {
            let whole = plain.is_empty() || plain.parse::<i32>().is_ok();
            keep(length <= 12 && whole, "a whole number of 32 bits in 12 characters at most")
        }
        VR::DA => {
            let date = value.len() == 8 && digits(value) && NaiveDate::parse_from_str(value, "%Y%m%d").is_ok();
            keep(date, "a date, YYYYMMDD")
        }
        VR::TM => keep(is_time(plain), "a time, HHMMSS.FFFFFF"),
        VR::AS => {
            let age = value.len() == 4 && digits(&value[..3]) && value.ends_with(['D', 'W', 'M', 'Y']);
            keep(age, "an age, nnnD, nnnW, nnnM or nnnY")
        }
        VR::DT => keep(length <= 26, "26 characters at most"),
        VR::PN => {
            let groups: Vec<&str> = value.split('=').collect();
            let fits = |group: &&str| group.chars().count() <= 64 && group.split('^').count() <= 5;
            keep(groups.len() <= 3 && groups.iter().all(fits), "3 groups of 5 components and 64 characters at most")
        }
        _ => Ok(()),
    }
}

fn is_uid(value: &str) -> bool {
    let component =
        |c: &str| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit()) && (c == "0" || !c.starts_with('0'));
    value.len() <= 64 && value.contains('.') && value.split('.').all(component)
}

fn is_time(value: &str) -> bool {
    let (whole, fraction) = value.split_once('.').map_or((value, None), |(whole, fraction)| (whole, Some(fraction)));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let pair = |at: usize, most: u32| match whole.get(at..at + 2) {
        Some(text) => text.parse::<u32>().is_ok_and(|n| n <= most),
        None => whole.len() <= at,
    };
    digits(whole)
        && matches!(whole.len(), 2 | 4 | 6)
        && pair(0, 23)
        && pair(2, 59)
        && pair(4, 60)
        && fraction.is_none_or(|f| whole.len() == 6 && (1..=6).contains(&f.len()) && digits(f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_its_representation_allows() {
        let (long, uid) = ("x".repeat(64), format!("1.{}", "2".repeat(62)));
        let cases: &[(VR, &[&str], &[&str])] = &[
            (VR::CS, &["ISO_IR 192", "A\\B"], &["lower", "ABCDEFGHIJKLMNOPQ", "A-B"]),
            (VR::SH, &["0123456789abcdef", "0123456789abcdef\\x"], &["0123456789abcdefg", "a\u{7}"]),
            (VR::LO, &[&long], &["x".repeat(65).leak(), "a\nb"]),
            (VR::UI, &[&uid, "1.2.0.3"], &["1.02", "1..2", "1.2.", "1.2a", "12", "1.".repeat(33).leak()]),
            (VR::DS, &["-1.5e-10", "1", "0.7\\0.8"], &["nan", "inf", "1,5", "1234567890.1234567", "1 2"]),
            (VR::IS, &["-2147483648", "7"], &["2147483648", "1.5", "0000000000001"]),
            (VR::DA, &["20240229"], &["20230229", "2024-01-01", "202401"]),
            (VR::TM, &["23", "2359", "235960.123456"], &["24", "235", "2359.1", "000000.1234567", "12:00"]),
            (VR::PN, &["A^B=C=D", "A^B^C^D^E"], &["A^B^C^D^E^F", "A=B=C=D", "x".repeat(65).leak()]),
            (VR::AS, &["045Y"], &["45Y", "0450"]),
            (VR::UT, &["a\\b\r\n\tc"], &["a\u{1B}"]),
            (VR::ST, &["a"], &["x".repeat(1025).leak()]),
        ];
        for (vr, right, wrong) in cases {
            for value in *right {
                assert_eq!(text(*vr, value.as_bytes(), &Characters::named("")), Ok(()), "{vr} {value}");
            }
            for value in *wrong {
                assert!(text(*vr, value.as_bytes(), &Characters::named("")).is_err(), "{vr} {value}");
            }
        }
    }

    #[test]
    fn text_is_in_the_characters_that_the_object_declares() {
        let (utf8, latin) = ("Müller".as_bytes(), b"M\xFCller".as_slice());
        let fits = |terms: &str, bytes: &[u8]| text(VR::PN, bytes, &Characters::named(terms)).is_ok();
        assert!(fits("ISO_IR 192", utf8) && !fits("ISO_IR 192", latin));
        assert!(fits("ISO_IR 100", latin) && !fits("ISO_IR 149", b"M\xFF"));
        for plain in ["", "ISO_IR 6", "ISO 2022 IR 100", "\\ISO 2022 IR 87", "PRIVATE"] {
            assert!(!fits(plain, utf8) && !fits(plain, latin) && fits(plain, b"Muller"), "{plain}");
        }
        assert!(text(VR::CS, "Ä".as_bytes(), &Characters::named("ISO_IR 192")).is_err(), "never in a code string");
    }
}
