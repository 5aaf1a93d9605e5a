//! Character sets of the standard (PS3.3, C.12.1.1.2; PS3.5, 6.1): text of a source read, and any text written in all the
//! ways in which it could stand in an output.

use encoding_rs as e;
use encoding_rs::Encoding;

/// The first value of Specific Character Set in force; escape sequences call others by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Charset {
    first: Option<&'static Encoding>,
}

impl Charset {
    pub(super) fn of_terms(value: &[u8]) -> Charset {
        let text = String::from_utf8_lossy(value);
        let first = text.split('\\').next().unwrap_or_default();
        Charset { first: single(&first.trim_matches([' ', '\0']).to_ascii_uppercase()) }
    }

    /// Text as it was meant. What is not valid in its character set is read as UTF-8, or else byte by byte: an identifier
    /// that somebody mislabelled is one still.
    pub(super) fn read(self, value: &[u8]) -> String {
        let escaped = value.contains(&0x1B);
        if escaped {
            return self.read_escaped(value);
        }
        read_as(self.first, value)
    }

    /// Code extension: pieces between escape sequences, each in the set that was called last.
    fn read_escaped(self, value: &[u8]) -> String {
        let mut text = String::new();
        let mut rest = value;
        let mut set = Set::Plain(self.first);
        while !rest.is_empty() {
            if let Some((called, taken)) = escape(rest) {
                set = called;
                rest = &rest[taken..];
                continue;
            }
            let end = rest.iter().skip(1).position(|&b| b == 0x1B).map_or(rest.len(), |at| at + 1);
            // A set called to the right half lasts to the next delimiter.
            let end = match set {
                Set::Plain(_) => rest[..end].iter().position(|b| b"^=\\".contains(b)).map_or(end, |at| at + 1),
                Set::Left { .. } => end,
            };
            let piece = &rest[..end];
            match set {
                Set::Plain(encoding) => text.push_str(&read_as(encoding, piece)),
                Set::Left { prefix } => text.push_str(&read_as(Some(e::EUC_JP), &to_euc(piece, prefix))),
            }
            if matches!(set, Set::Plain(_)) && piece.last().is_some_and(|b| b"^=\\".contains(b)) {
                set = Set::Plain(self.first);
            }
            rest = &rest[end..];
        }
        text
    }
}

#[derive(Clone, Copy)]
enum Set {
    /// Bytes as that encoding has them.
    Plain(Option<&'static Encoding>),
    /// Two bytes of seven bits a character: EUC-JP without the high bits, after this byte.
    Left { prefix: Option<u8> },
}

fn escape(value: &[u8]) -> Option<(Set, usize)> {
    let known: [(&[u8], Set); 21] = [
        (b"\x1B(B", Set::Plain(None)),
        (b"\x1B(J", Set::Plain(None)),
        (b"\x1B)I", Set::Plain(Some(e::SHIFT_JIS))),
        (b"\x1B(I", Set::Plain(Some(e::SHIFT_JIS))),
        (b"\x1B$B", Set::Left { prefix: None }),
        (b"\x1B$@", Set::Left { prefix: None }),
        (b"\x1B$(D", Set::Left { prefix: Some(0x8F) }),
        (b"\x1B$)C", Set::Plain(Some(e::EUC_KR))),
        (b"\x1B$)A", Set::Plain(Some(e::GBK))),
        (b"\x1B-A", Set::Plain(Some(e::WINDOWS_1252))),
        (b"\x1B-B", Set::Plain(Some(e::ISO_8859_2))),
        (b"\x1B-C", Set::Plain(Some(e::ISO_8859_3))),
        (b"\x1B-D", Set::Plain(Some(e::ISO_8859_4))),
        (b"\x1B-L", Set::Plain(Some(e::ISO_8859_5))),
        (b"\x1B-G", Set::Plain(Some(e::ISO_8859_6))),
        (b"\x1B-F", Set::Plain(Some(e::ISO_8859_7))),
        (b"\x1B-H", Set::Plain(Some(e::ISO_8859_8))),
        (b"\x1B-M", Set::Plain(Some(e::WINDOWS_1254))),
        (b"\x1B-T", Set::Plain(Some(e::WINDOWS_874))),
        (b"\x1B-b", Set::Plain(Some(e::ISO_8859_15))),
        (b"\x1B", Set::Plain(None)),
    ];
    known.into_iter().find(|(bytes, _)| value.starts_with(bytes)).map(|(bytes, set)| (set, bytes.len()))
}

fn to_euc(piece: &[u8], prefix: Option<u8>) -> Vec<u8> {
    let mut euc = Vec::with_capacity(piece.len() * 2);
    for pair in piece.chunks(2) {
        if pair.iter().any(|&b| b < 0x21) {
            euc.extend(pair);
            continue;
        }
        euc.extend(prefix);
        euc.extend(pair.iter().map(|b| b | 0x80));
    }
    euc
}

fn read_as(encoding: Option<&'static Encoding>, value: &[u8]) -> String {
    if let Some(encoding) = encoding
        && let Some(text) = encoding.decode_without_bom_handling_and_without_replacement(value)
    {
        return text.into_owned();
    }
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => e::WINDOWS_1252.decode_without_bom_handling(value).0.into_owned(),
    }
}

fn single(term: &str) -> Option<&'static Encoding> {
    let number = term.trim_start_matches("ISO_IR").trim_start_matches("ISO 2022 IR").trim();
    Some(match number {
        "100" => e::WINDOWS_1252,
        "101" => e::ISO_8859_2,
        "109" => e::ISO_8859_3,
        "110" => e::ISO_8859_4,
        "144" => e::ISO_8859_5,
        "127" => e::ISO_8859_6,
        "126" => e::ISO_8859_7,
        "138" => e::ISO_8859_8,
        "148" => e::WINDOWS_1254,
        "203" => e::ISO_8859_15,
        "166" => e::WINDOWS_874,
        "13" => e::SHIFT_JIS,
        "149" => e::EUC_KR,
        "192" => e::UTF_8,
        "58" => e::GBK,
        "GB18030" => e::GB18030,
        "GBK" => e::GBK,
        _ => return None,
    })
}

/// What text beyond ASCII is sought in besides UTF-8 and UTF-16: character sets of the standard, and those that software
/// writes in spite of it.
#[rustfmt::skip]
const WRITTEN: [&Encoding; 25] = [
    e::WINDOWS_1252, e::ISO_8859_2, e::ISO_8859_3, e::ISO_8859_4, e::ISO_8859_5, e::ISO_8859_6, e::ISO_8859_7,
    e::ISO_8859_8, e::ISO_8859_10, e::ISO_8859_13, e::ISO_8859_15, e::WINDOWS_1250, e::WINDOWS_1251, e::WINDOWS_1253,
    e::WINDOWS_1254, e::WINDOWS_1255, e::WINDOWS_1256, e::WINDOWS_874, e::KOI8_R, e::MACINTOSH, e::SHIFT_JIS,
    e::EUC_JP, e::GB18030, e::BIG5, e::EUC_KR,
];

/// Text in every single- and multi-byte character set that has all of its letters. Nothing for ASCII, which is the same in
/// all of them.
pub(super) fn written(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    if text.is_ascii() {
        return Vec::new();
    }
    let mut forms: Vec<(&'static str, Vec<u8>)> = Vec::new();
    let mut add = |name, bytes: Vec<u8>| {
        if !forms.iter().any(|(_, known)| *known == bytes) {
            forms.push((name, bytes));
        }
    };
    for encoding in WRITTEN {
        let (bytes, _, lost) = encoding.encode(text);
        if lost {
            continue;
        }
        if encoding == e::EUC_JP {
            // The same without high bits, as code extension calls JIS X 0208 and 0212.
            let seven = bytes.iter().filter(|&&b| b != 0x8F).map(|b| b & 0x7F).collect::<Vec<u8>>();
            if bytes.iter().all(|&b| b >= 0x8F) {
                add("ISO-2022-JP", seven);
            }
        }
        add(encoding.name(), bytes.into_owned());
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of PS3.5, annexes H, I and K.
    #[test]
    fn names_of_the_standard_are_read() {
        let read = |terms: &[u8], value: &[u8]| Charset::of_terms(terms).read(value);
        let japanese = b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B";
        assert_eq!(read(b"\\ISO 2022 IR 87", japanese), "Yamada^Tarou=山田^太郎=やまだ^たろう");
        let korean = b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF";
        assert_eq!(read(b"\\ISO 2022 IR 149", korean), "Hong^Gildong=洪^吉洞=홍^길동");
        assert_eq!(read(b"ISO_IR 144", b"\xBB\xEE\xDA\xE1"), "Люкс");
        assert_eq!(read(b"ISO_IR 192", "王^小東".as_bytes()), "王^小東");
        assert_eq!(read(b"", b"Buc^J\xE9r\xF4me"), "Buc^Jérôme");
    }

    #[test]
    fn text_is_written_in_what_has_its_letters() {
        let names: Vec<&str> = written("山田").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Shift_JIS", "ISO-2022-JP", "EUC-JP", "gb18030", "Big5", "EUC-KR"]);
        assert!(written("山田").contains(&("ISO-2022-JP", b";3ED".to_vec())));
        assert!(written("Miller").is_empty());
    }
}
