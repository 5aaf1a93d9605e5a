//! Character sets of messages (HL7 v2 table 0211), by the codecs that DICOM's have.

use dicom_encoding::text::{SpecificCharacterSet, TextCodec};

/// Name in HL7, and in DICOM (PS3.3 C.12.1.1.2). Those of DICOM with code extensions begin in ASCII, as HL7's do.
const NAMES: [(&str, &str); 18] = [
    ("ASCII", "ISO_IR 6"),
    ("8859/1", "ISO_IR 100"),
    ("8859/2", "ISO_IR 101"),
    ("8859/3", "ISO_IR 109"),
    ("8859/4", "ISO_IR 110"),
    ("8859/5", "ISO_IR 144"),
    ("8859/6", "ISO_IR 127"),
    ("8859/7", "ISO_IR 126"),
    ("8859/8", "ISO_IR 138"),
    ("ISO IR14", "ISO_IR 13"),
    ("ISO IR87", "ISO 2022 IR 87"),
    ("KS X 1001", "ISO 2022 IR 149"),
    ("CNS 11643-1992", ""),
    ("GB 18030-2000", "GB18030"),
    ("ISO IR159", ""),
    ("BIG-5", ""),
    ("UNICODE UTF-8", "ISO_IR 192"),
    // Not in the table, and written by many.
    ("UTF-8", "ISO_IR 192"),
];

/// What every receiver is to understand where nothing else fits.
pub const UTF_8: &str = "UNICODE UTF-8";

/// A character set that messages can be written and read in.
#[derive(Debug, Clone, PartialEq)]
pub struct Charset {
    /// In MSH-18; empty for ASCII.
    pub name: &'static str,
    codec: SpecificCharacterSet,
}

impl Charset {
    /// By its name in MSH-18.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = if name.is_empty() { "ASCII" } else { name };
        let (name, dicom) = NAMES.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        let name = match name {
            "ASCII" => "",
            "UTF-8" => UTF_8,
            name => name,
        };
        Some(Self { name, codec: SpecificCharacterSet::from_code(dicom)? })
    }

    /// That of a study, from its Specific Character Set (0008,0005), of which the last value counts: the others are what text
    /// begins in. UTF-8 where HL7 has no name for it.
    #[must_use]
    pub fn of_study(specific: &str) -> Self {
        let value = specific.rsplit('\\').next().unwrap_or_default().trim();
        let value = if value.is_empty() { "ISO_IR 6" } else { value };
        let codec = SpecificCharacterSet::from_code(value);
        let found = codec.and_then(|codec| {
            let (name, _) = NAMES.into_iter().find(|(_, dicom)| {
                SpecificCharacterSet::from_code(dicom).is_some_and(|known| known.name() == codec.name())
            })?;
            Self::named(name)
        });
        found.unwrap_or_else(Self::utf_8)
    }

    fn utf_8() -> Self {
        Self { name: UTF_8, codec: SpecificCharacterSet::ISO_IR_192 }
    }

    /// The one of these two that can write `text`: itself, or UTF-8.
    #[must_use]
    pub fn that_writes(self, text: &str) -> Self {
        let fits = match self.name {
            "" => text.is_ascii(),
            _ => self.codec.encode(text).is_ok_and(|bytes| self.codec.decode(&bytes).is_ok_and(|back| back == text)),
        };
        if fits { self } else { Self::utf_8() }
    }

    /// `text` in it; see [`that_writes`](Self::that_writes).
    #[must_use]
    pub fn encode(&self, text: &str) -> Vec<u8> {
        match self.name {
            "" | UTF_8 => text.as_bytes().to_vec(),
            _ => self.codec.encode(text).unwrap_or_else(|_| text.as_bytes().to_vec()),
        }
    }
}

/// The text of a message whose MSH-18 says `stated`. Where it says nothing, what is not ASCII is UTF-8, or Latin-1 where it is
/// not that either.
///
/// # Errors
/// A character set that is not known here, or bytes that are none of it.
pub fn decode(bytes: &[u8], stated: &[String]) -> Result<String, &'static str> {
    if bytes.is_ascii() && !bytes.contains(&0x1B) {
        return Ok(String::from_utf8_lossy(bytes).into_owned());
    }
    let stated = stated.iter().rev().find(|name| !name.is_empty() && !name.eq_ignore_ascii_case("ASCII"));
    let Some(stated) = stated else {
        return Ok(
            std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|b| char::from(*b)).collect(), str::to_owned)
        );
    };
    let charset = Charset::named(stated).ok_or("names a character set that is not known here")?;
    if charset.name == UTF_8 {
        return std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "says UTF-8, and the message is not");
    }
    charset.codec.decode(bytes).map_err(|_| "names a character set, and the message is not in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_keeps_its_character_set_where_hl7_has_it() {
        for (specific, name) in [
            ("", ""),
            ("ISO_IR 100", "8859/1"),
            ("ISO 2022 IR 100", "8859/1"),
            ("ISO_IR 144", "8859/5"),
            ("\\ISO 2022 IR 87", "ISO IR87"),
            ("\\ISO 2022 IR 149", "KS X 1001"),
            ("ISO_IR 192", UTF_8),
            ("GB18030", "GB 18030-2000"),
            ("ISO_IR 166", UTF_8),
            ("nonsense", UTF_8),
        ] {
            assert_eq!(Charset::of_study(specific).name, name, "{specific}");
        }
    }

    #[test]
    fn what_it_cannot_write_goes_in_utf_8() {
        assert_eq!(Charset::of_study("").that_writes("Müller").name, UTF_8);
        let latin = Charset::of_study("ISO_IR 100");
        assert_eq!(latin.clone().that_writes("Müller").encode("Müller"), b"M\xFCller");
        assert_eq!(latin.that_writes("山田").name, UTF_8);
        let japanese = Charset::of_study("\\ISO 2022 IR 87").that_writes("Yamada=山田");
        assert_eq!((japanese.name, japanese.encode("山田").first()), ("ISO IR87", Some(&0x1B)));
    }

    #[test]
    fn text_comes_back_from_what_msh_18_says() {
        let back = |bytes: &[u8], stated: &str| decode(bytes, &[stated.to_owned()]);
        assert_eq!(back(b"M\xFCller", "8859/1").as_deref(), Ok("Müller"));
        assert_eq!(back("Müller".as_bytes(), "UNICODE UTF-8").as_deref(), Ok("Müller"));
        assert_eq!(back("Müller".as_bytes(), "").as_deref(), Ok("Müller"));
        assert_eq!(back(b"M\xFCller", "").as_deref(), Ok("Müller"));
        assert!(back(b"M\xFCller", "UTF-8").is_err() && back(b"M\xFCller", "BIG-5").is_err());
        let japanese = Charset::of_study("\\ISO 2022 IR 87").encode("PID|山田|");
        assert_eq!(decode(&japanese, &["ASCII".into(), "ISO IR87".into()]).as_deref(), Ok("PID|山田|"));
    }
}
