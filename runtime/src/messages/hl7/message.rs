//! One HL7 v2 message, read: segments, fields, repetitions, components, each found when it is asked for.
//!
//! Nothing recurses and nothing is allocated for what nobody asks: a message is its text and where its segments begin. What is
//! wrong is told by segment and field ([`Flaw`]), never by what stands there.

use std::fmt;

use super::charset;

/// Table 0357: what an ERR segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// 100: a segment is missing, or stands where it may not.
    SegmentSequence,
    /// 101: a field without a value.
    RequiredField,
    /// 102: a value that is none of its kind.
    DataType,
    /// 200: a message that is not taken.
    UnsupportedMessage,
    /// 201: an event that is not taken.
    UnsupportedEvent,
    /// 202: not for production.
    UnsupportedProcessing,
    /// 203: no version 2 of HL7.
    UnsupportedVersion,
    /// 207: the fault is the receiver's.
    Internal,
}

impl ErrorCode {
    /// Number and text of the table.
    #[must_use]
    pub fn of_table(self) -> (&'static str, &'static str) {
        match self {
            Self::SegmentSequence => ("100", "Segment sequence error"),
            Self::RequiredField => ("101", "Required field missing"),
            Self::DataType => ("102", "Data type error"),
            Self::UnsupportedMessage => ("200", "Unsupported message type"),
            Self::UnsupportedEvent => ("201", "Unsupported event code"),
            Self::UnsupportedProcessing => ("202", "Unsupported processing id"),
            Self::UnsupportedVersion => ("203", "Unsupported version id"),
            Self::Internal => ("207", "Application internal error"),
        }
    }

    /// Whether the message is refused for what its MSH says, or for the receiver's sake, rather than for its content: AR, not AE.
    #[must_use]
    pub fn rejects(self) -> bool {
        !matches!(self, Self::SegmentSequence | Self::RequiredField | Self::DataType)
    }
}

/// Where something is wrong, and what: no patient data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Its name; empty when there is none that could be told.
    pub segment: String,
    /// Which of that name, from 1.
    pub sequence: usize,
    /// Which field, from 1; none when it is about the segment.
    pub field: Option<usize>,
    /// What kind.
    pub code: ErrorCode,
    /// For people: what is wrong, after the name of the field.
    pub problem: &'static str,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.segment.as_str(), self.field) {
            ("", _) => f.write_str(self.problem),
            (name, Some(field)) => write!(f, "{name}-{field} (segment {}) {}", self.sequence, self.problem),
            (name, None) => write!(f, "{name} (segment {}) {}", self.sequence, self.problem),
        }
    }
}

impl std::error::Error for Flaw {}

/// The characters that divide a message (MSH-1 and MSH-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiters {
    field: char,
    component: char,
    repetition: char,
    escape: char,
    subcomponent: char,
}

/// A message. Holds whatever somebody sent: no `Debug`.
#[derive(Clone)]
pub struct Message {
    text: String,
    delimiters: Delimiters,
    /// From where to where in `text`, without the ends of lines.
    segments: Vec<(usize, usize)>,
}

/// One segment of a message.
#[derive(Clone, Copy)]
pub struct Segment<'m> {
    text: &'m str,
    delimiters: Delimiters,
    /// Which of its name, from 1.
    sequence: usize,
}

/// One field, one of its repetitions, a component or a subcomponent: text that may have others in it.
#[derive(Clone, Copy)]
pub struct Part<'m> {
    text: &'m str,
    delimiters: Delimiters,
}

impl Message {
    /// Reads a message with at most so many segments.
    ///
    /// # Errors
    /// What is wrong with it as a whole. Its fields are read when they are asked for.
    pub fn parse(bytes: &[u8], segments_max: usize) -> Result<Self, Flaw> {
        let delimiters = Delimiters::read(bytes)?;
        let text =
            charset::decode(bytes, &charsets(bytes)).map_err(|problem| of_msh(18, ErrorCode::DataType, problem))?;
        let mut segments = Vec::new();
        let mut at = 0;
        for line in text.split(['\r', '\n']) {
            if !line.is_empty() {
                if segments.len() == segments_max {
                    return Err(whole(ErrorCode::SegmentSequence, "more segments than hl7.segments_max"));
                }
                if !is_segment(line, delimiters.field) {
                    return Err(whole(
                        ErrorCode::SegmentSequence,
                        "a line that does not begin with the name of a segment",
                    ));
                }
                segments.push((at, at + line.len()));
            }
            at += line.len() + 1;
        }
        Ok(Self { text, delimiters, segments })
    }

    /// Its segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        self.segments.iter().filter_map(move |&(from, to)| {
            let text = self.text.get(from..to)?;
            let name = text.get(..3)?;
            // Few names, whatever comes: those that repeat are looked up, and more than these are not told apart.
            let place = counts.iter().position(|(known, _)| *known == name).or_else(|| {
                (counts.len() < NAMES_MAX).then(|| {
                    counts.push((name, 0));
                    counts.len() - 1
                })
            });
            let sequence = place.and_then(|place| counts.get_mut(place)).map_or(1, |(_, count)| {
                *count += 1;
                *count
            });
            Some(Segment { text, delimiters: self.delimiters, sequence })
        })
    }

    /// The first segment of this name.
    #[must_use]
    pub fn segment(&self, name: &str) -> Option<Segment<'_>> {
        self.segments().find(|segment| segment.name() == name)
    }

    /// A part of a field of MSH, which is always there.
    #[must_use]
    pub fn header(&self, field: usize, component: usize) -> String {
        self.segment("MSH").map(|msh| msh.field(field).first().component(component).text()).unwrap_or_default()
    }
}

/// Names of segments that are told apart when they are counted; a message has some dozen.
const NAMES_MAX: usize = 64;

impl<'m> Segment<'m> {
    /// Three characters.
    #[must_use]
    pub fn name(&self) -> &'m str {
        self.text.get(..3).unwrap_or_default()
    }

    /// A field, from 1; empty when it is not there. Of MSH the first, which is what divides fields, is empty too.
    #[must_use]
    pub fn field(&self, number: usize) -> Part<'m> {
        let place = match (self.name(), number) {
            ("MSH", 1) => usize::MAX,
            ("MSH", number) => number.saturating_sub(1),
            (_, number) => number,
        };
        Part {
            text: self.text.split(self.delimiters.field).nth(place).unwrap_or_default(),
            delimiters: self.delimiters,
        }
    }

    /// The first component of the first repetition of a field, as text.
    #[must_use]
    pub fn text(&self, field: usize) -> String {
        self.field(field).first().component(1).text()
    }

    /// That something is wrong with one of its fields.
    #[must_use]
    pub fn flaw(&self, field: usize, code: ErrorCode, problem: &'static str) -> Flaw {
        Flaw { segment: self.name().to_owned(), sequence: self.sequence, field: Some(field), code, problem }
    }

    /// That something is wrong with the segment.
    #[must_use]
    pub fn misplaced(&self, problem: &'static str) -> Flaw {
        let code = ErrorCode::SegmentSequence;
        Flaw { segment: self.name().to_owned(), sequence: self.sequence, field: None, code, problem }
    }
}

impl<'m> Part<'m> {
    /// Whether nothing is there. `""` deletes in HL7, and is nothing too.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty() || self.text == "\"\""
    }

    /// The repetitions of a field.
    pub fn repetitions(self) -> impl Iterator<Item = Part<'m>> {
        self.text.split(self.delimiters.repetition).map(move |text| Part { text, ..self })
    }

    /// The first repetition of a field.
    #[must_use]
    pub fn first(self) -> Self {
        self.nth(self.delimiters.repetition, 1)
    }

    /// A component, from 1; empty when it is not there.
    #[must_use]
    pub fn component(self, number: usize) -> Self {
        self.nth(self.delimiters.component, number)
    }

    /// A subcomponent, from 1.
    #[must_use]
    pub fn subcomponent(self, number: usize) -> Self {
        self.nth(self.delimiters.subcomponent, number)
    }

    fn nth(self, divider: char, number: usize) -> Self {
        Self { text: self.text.split(divider).nth(number.saturating_sub(1)).unwrap_or_default(), ..self }
    }

    /// As somebody meant it: escapes are taken back, and outer spaces away.
    #[must_use]
    pub fn text(self) -> String {
        if self.is_empty() { String::new() } else { self.delimiters.unescape(self.text).trim().to_owned() }
    }
}

impl Delimiters {
    /// Those that everybody uses, and we write.
    pub const USUAL: Self = Self { field: '|', component: '^', repetition: '~', escape: '\\', subcomponent: '&' };

    /// From the first bytes of a message, which are ASCII in every character set.
    fn read(bytes: &[u8]) -> Result<Self, Flaw> {
        let Some(rest) = bytes.strip_prefix(b"MSH") else {
            return Err(whole(ErrorCode::SegmentSequence, "it does not begin with MSH"));
        };
        let found = rest.split_first_chunk::<5>().map(|(five, rest)| (five.map(char::from), rest));
        let Some(([field, component, repetition, escape, subcomponent], rest)) = found else {
            return Err(of_msh(2, ErrorCode::RequiredField, "has not the four characters that divide fields"));
        };
        let all = [field, component, repetition, escape, subcomponent];
        let plain = all.iter().all(|c| c.is_ascii_punctuation() && *c != '"');
        let differ = all.iter().enumerate().all(|(at, c)| !all.iter().skip(at + 1).any(|other| other == c));
        // HL7 2.7 has a fifth, for what was cut.
        let ended = [rest.first(), rest.get(1)].into_iter().flatten().any(|b| char::from(*b) == field);
        match plain && differ && ended {
            true => Ok(Self { field, component, repetition, escape, subcomponent }),
            false => Err(of_msh(2, ErrorCode::DataType, "has not the four different characters that divide fields")),
        }
    }

    fn unescape(self, text: &str) -> String {
        if !text.contains(self.escape) {
            return text.to_owned();
        }
        let mut plain = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(self.escape) {
            plain.push_str(before);
            let Some((sequence, behind)) = after.split_once(self.escape) else {
                // One that does not end is none.
                plain.push(self.escape);
                rest = after;
                continue;
            };
            match sequence {
                "F" => plain.push(self.field),
                "S" => plain.push(self.component),
                "R" => plain.push(self.repetition),
                "E" => plain.push(self.escape),
                "T" => plain.push(self.subcomponent),
                // Highlighting.
                "H" | "N" => {}
                ".br" | ".BR" => plain.push('\n'),
                _ => match sequence.strip_prefix('X').map(hexadecimal) {
                    Some(Some(text)) => plain.push_str(&text),
                    // What cannot be told is shown as that.
                    _ => plain.push(char::REPLACEMENT_CHARACTER),
                },
            }
            rest = behind;
        }
        plain.push_str(rest);
        plain
    }
}

/// The text of an escape in hexadecimal.
fn hexadecimal(digits: &str) -> Option<String> {
    let pairs = digits.as_bytes().as_chunks::<2>();
    if !pairs.1.is_empty() || pairs.0.is_empty() {
        return None;
    }
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.0.iter().map(byte).collect();
    Some(String::from_utf8_lossy(&bytes?).into_owned())
}

/// MSH-18 of a message that is not decoded yet.
fn charsets(bytes: &[u8]) -> Vec<String> {
    let header = bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
    let (field, repetition) = (header.get(3).copied().unwrap_or(b'|'), header.get(5).copied().unwrap_or(b'~'));
    let named = header.split(|b| *b == field).nth(17).unwrap_or_default();
    named.split(|b| *b == repetition).take(8).map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect()
}

fn is_segment(line: &str, field: char) -> bool {
    let name = line.as_bytes().split_first_chunk::<3>();
    let named = name.is_some_and(|([first, second, third], _)| {
        first.is_ascii_uppercase() && [second, third].iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    });
    named && line.get(3..).is_some_and(|rest| rest.is_empty() || rest.starts_with(field))
}

fn whole(code: ErrorCode, problem: &'static str) -> Flaw {
    Flaw { segment: String::new(), sequence: 1, field: None, code, problem }
}

pub(super) fn of_msh(field: usize, code: ErrorCode, problem: &'static str) -> Flaw {
    Flaw { segment: "MSH".into(), sequence: 1, field: Some(field), code, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "MSH|^~\\&|RIS|HOSP|GANTRY||20240301101500||ORM^O01|42|P|2.3\rPID|1||P1^^^A~P2^^^B&1.2&ISO\r\n\
                         ORC|NW|4711^RIS||||^^^^^S\rOBR|1|4711^RIS||CT^Head \\T\\ neck\\F\\x||||\rOBR|2\r";

    fn parse(text: &str) -> Result<Message, Flaw> {
        Message::parse(text.as_bytes(), 10)
    }

    #[test]
    fn every_part_is_found_by_its_number() {
        let message = parse(ORDER).expect("a message");
        assert_eq!(message.segments().map(|s| s.name()).collect::<String>(), "MSHPIDORCOBROBR");
        assert_eq!((message.header(3, 1), message.header(9, 2)), ("RIS".into(), "O01".into()));
        assert!(message.segment("MSH").expect("there").field(1).is_empty());
        let pid = message.segment("PID").expect("there");
        let ids: Vec<_> = pid.field(3).repetitions().map(|id| id.component(1).text()).collect();
        assert_eq!(ids, ["P1", "P2"]);
        let issuer = pid.field(3).repetitions().nth(1).expect("there").component(4);
        assert_eq!((issuer.subcomponent(1).text(), issuer.subcomponent(2).text()), ("B".into(), "1.2".into()));
        let obr = message.segment("OBR").expect("there");
        assert_eq!(obr.field(4).component(2).text(), "Head & neck|x");
        assert!(obr.field(99).is_empty() && obr.field(4).component(9).is_empty());
        let second = message.segments().last().expect("there");
        assert_eq!(second.flaw(3, ErrorCode::RequiredField, "is empty").to_string(), "OBR-3 (segment 2) is empty");
    }

    #[test]
    fn escapes_are_taken_back() {
        let told = |text: &str| Delimiters::USUAL.unescape(text);
        assert_eq!(told("a\\F\\\\S\\\\R\\\\E\\\\T\\b"), "a|^~\\&b");
        assert_eq!(told("\\X4D\\\\.br\\\\H\\x\\N\\"), "M\nx");
        assert_eq!(told("\\XC3BC\\"), "ü");
        assert_eq!(told("\\Q\\ \\X4\\ \\Xzz\\"), "\u{FFFD} \u{FFFD} \u{FFFD}");
        assert_eq!(told("C:\\temp"), "C:\\temp");
    }

    #[test]
    fn what_is_no_message_is_refused_by_segment_and_field() {
        for (text, says) in [
            ("", "it does not begin with MSH"),
            ("PID|1\r", "it does not begin with MSH"),
            ("MSH|^~", "MSH-2 (segment 1) has not the four"),
            ("MSH||||||\r", "MSH-2 (segment 1) has not the four different"),
            ("MSH|^^\\&|\r", "MSH-2 (segment 1) has not the four different"),
            ("MSHabcde|\r", "MSH-2 (segment 1) has not the four different"),
            ("MSH|^~\\&|a\rMueller\r", "a line that does not begin with the name of a segment"),
            ("MSH|^~\\&|a\rPI|1\r", "a line that does not begin"),
            (&"MSH|^~\\&|a\r".repeat(11), "more segments than hl7.segments_max"),
        ] {
            let said = parse(text).map(|_| ()).expect_err(text).to_string();
            assert!(said.starts_with(says), "{text}: {said}");
            assert!(!said.contains("Mueller"));
        }
        let wrong = [
            &b"MSH|^~\\&||||||||||||||||UNICODE UTF-8\rPID|||\xFF\r"[..],
            b"MSH|^~\\&||||||||||||||||BIG-5\rPID|||\xFF",
        ];
        for bytes in wrong {
            let said = Message::parse(bytes, 10).map(|_| ()).expect_err("refused").to_string();
            assert!(said.starts_with("MSH-18 (segment 1) "), "{said}");
        }
    }
}
