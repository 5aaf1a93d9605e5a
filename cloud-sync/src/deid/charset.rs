//! Characters of values, as Specific Character Set (0008,0005) names them, with code extensions (PS3.3 C.12.1.1.2, PS3.5 6.1.2.5).

use std::borrow::Cow;

use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

const ESCAPE: u8 = 0x1B;

/// The character set of a data set or item.
#[derive(Debug, Clone, Default)]
pub(super) struct Charset {
    /// That of values without escape sequences; nothing where it is not known.
    first: Option<SpecificCharacterSet>,
    utf8: bool,
    default: bool,
}

impl Charset {
    /// Of a value of Specific Character Set.
    pub(super) fn of(terms: &str) -> Self {
        let first = terms.split('\\').next().unwrap_or_default().trim();
        let utf8 = first == "ISO_IR 192";
        let default = first.is_empty() || matches!(first, "ISO_IR 6" | "ISO 2022 IR 6");
        Self {
            first: SpecificCharacterSet::from_code(if first.is_empty() { "ISO_IR 6" } else { first }),
            utf8,
            default,
        }
    }

    /// The text of a value; nothing where it is not text of this set.
    pub(super) fn decode<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
        if bytes.contains(&ESCAPE) {
            return self.decode_extended(bytes).map(Cow::Owned);
        }
        if bytes.is_ascii() || self.utf8 {
            return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
        }
        if self.default {
            return None;
        }
        self.first.as_ref()?.decode(bytes).ok().map(Cow::Owned)
    }

    /// The same, and where it is not text of this set, what it would most likely be: to know identifiers, never to pass text on.
    pub(super) fn guess<'a>(&self, bytes: &'a [u8]) -> Cow<'a, str> {
        let latin = || bytes.iter().map(|&b| char::from(b)).collect();
        self.decode(bytes)
            .or_else(|| std::str::from_utf8(bytes).ok().map(Cow::Borrowed))
            .unwrap_or_else(|| Cow::Owned(latin()))
    }

    /// Bytes of a text; nothing where the set lacks one of its characters.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        if text.is_ascii() || self.utf8 {
            return Some(text.as_bytes().to_vec());
        }
        let bytes = self.first.as_ref()?.encode(text).ok()?;
        // What cannot be read back is not what was meant.
        (self.decode(&bytes)? == text).then_some(bytes)
    }

    fn decode_extended(&self, bytes: &[u8]) -> Option<String> {
        let mut text = String::new();
        for (n, part) in bytes.split(|&b| b == ESCAPE).enumerate() {
            if n == 0 {
                text += &Self { ..self.clone() }.decode(part)?;
                continue;
            }
            let (code, skip) = match *part {
                [b'(', b'B' | b'J', ..] => ("ISO_IR 6", 2),
                [b')', b'I', ..] => ("ISO_IR 13", 2),
                [b'-', b'A', ..] => ("ISO_IR 100", 2),
                [b'-', b'B', ..] => ("ISO_IR 101", 2),
                [b'-', b'C', ..] => ("ISO_IR 109", 2),
                [b'-', b'D', ..] => ("ISO_IR 110", 2),
                [b'-', b'F', ..] => ("ISO_IR 126", 2),
                [b'-', b'G', ..] => ("ISO_IR 127", 2),
                [b'-', b'H', ..] => ("ISO_IR 138", 2),
                [b'-', b'L', ..] => ("ISO_IR 144", 2),
                [b'-', b'T', ..] => ("ISO_IR 166", 2),
                [b'$', b')', b'C', ..] => ("ISO_IR 149", 3),
                [b'$', b')', b'A', ..] => ("GBK", 3),
                // Its decoder wants the escape sequence.
                [b'$', b'B', ..] => ("ISO 2022 IR 87", 0),
                _ => return None,
            };
            let codec = SpecificCharacterSet::from_code(code)?;
            let decoded = match skip {
                0 => codec.decode(&[&[ESCAPE], part].concat()),
                _ => codec.decode(part.get(skip..)?),
            };
            text += &decoded.ok()?;
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_in_the_set_that_is_named() {
        assert_eq!(Charset::of("ISO_IR 100").decode(b"M\xFCller").as_deref(), Some("Müller"));
        assert_eq!(Charset::of("ISO_IR 192").decode("山田".as_bytes()).as_deref(), Some("山田"));
        assert_eq!(
            Charset::of("\\ISO 2022 IR 87").decode(b"\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B").as_deref(),
            Some("山田^太郎")
        );
        let korean = b"\x1B$)C\xB1\xE8^\x1B$)C\xC8\xF1\xC1\xDF";
        assert_eq!(Charset::of("\\ISO 2022 IR 149").decode(korean).as_deref(), Some("김^희중"));
        assert_eq!(Charset::of("").decode(b"M\xFCller"), None);
        assert_eq!(Charset::of("").guess(b"M\xFCller"), "Müller");
    }

    #[test]
    fn what_a_set_lacks_is_not_written() {
        assert_eq!(Charset::of("ISO_IR 100").encode("Müller").as_deref(), Some(&b"M\xFCller"[..]));
        assert_eq!(Charset::of("ISO_IR 100").encode("山田"), None);
        assert_eq!(Charset::of("").encode("Müller"), None);
    }
}
