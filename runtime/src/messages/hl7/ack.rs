//! Acknowledgements (HL7 v2.5.1 section 2.9), those that we give and those that we get.
//!
//! In original mode there is one answer: AA, AE or AR. A sender that says something in MSH-15 or MSH-16 asks for enhanced mode: CA, CE
//! or CR for having the message, and AA, AE or AR for having done what it says. We do both in one step, since what is acknowledged
//! is in the journal.

use std::fmt;

use super::VERSION;
use super::charset::Charset;
use super::message::{ErrorCode, Flaw, Message};
use super::write::{Row, encoded, header};

/// Longest control ID of others that is repeated: 199 characters in HL7 2.7, 20 before.
const CONTROL_ID_MAX_CHARS: usize = 199;

/// Who we are, in MSH-3 and MSH-4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ourselves {
    /// Application.
    pub application: String,
    /// Facility.
    pub facility: String,
}

/// What a message asks to be told, read from its header; the least, where it cannot be read.
#[derive(Clone, Default)]
pub struct Asked {
    application: String,
    facility: String,
    control_id: String,
    processing: String,
    version: String,
    trigger: String,
    accept: Option<Condition>,
    answer: Option<Condition>,
}

/// Table 0155: when an acknowledgement is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Never,
    Error,
    Success,
}

impl Condition {
    fn of(text: &str) -> Option<Self> {
        match text {
            "AL" => Some(Self::Always),
            "NE" => Some(Self::Never),
            "ER" => Some(Self::Error),
            "SU" => Some(Self::Success),
            _ => None,
        }
    }

    fn wants(this: Option<Self>, well: bool) -> bool {
        match this {
            Some(Self::Always) => true,
            Some(Self::Error) => !well,
            Some(Self::Success) => well,
            Some(Self::Never) | None => false,
        }
    }
}

impl Asked {
    /// Of a message.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        let text = |field, component| {
            let text: String = message.header(field, component);
            text.chars().filter(|c| c.is_ascii() && !c.is_control()).take(CONTROL_ID_MAX_CHARS).collect::<String>()
        };
        Self {
            application: text(3, 1),
            facility: text(4, 1),
            control_id: text(10, 1),
            processing: text(11, 1),
            version: text(12, 1),
            trigger: text(9, 2),
            accept: Condition::of(&text(15, 1)),
            answer: Condition::of(&text(16, 1)),
        }
    }

    /// Of a message of which perhaps only the header can be read.
    #[must_use]
    pub fn of_header(bytes: &[u8]) -> Self {
        let header = bytes.split(|b| matches!(b, b'\r' | b'\n')).next().unwrap_or_default();
        Message::parse(header, 1).map(|message| Self::of(&message)).unwrap_or_default()
    }

    /// Who sent it, for the audit log: application and facility, or that it does not say.
    #[must_use]
    pub fn sender(&self) -> String {
        match self.application.is_empty() && self.facility.is_empty() {
            true => "hl7".into(),
            false => format!("{}|{}", self.application, self.facility),
        }
    }

    /// What the sender calls the message.
    #[must_use]
    pub fn control_id(&self) -> &str {
        &self.control_id
    }

    /// What is to be sent back, in order: nothing where nothing is wanted.
    #[must_use]
    pub fn answers(&self, we: &Ourselves, flaw: Option<&Flaw>, at: &str) -> Vec<Vec<u8>> {
        let code = |letter: char| match flaw {
            None => format!("{letter}A"),
            Some(flaw) if flaw.code.rejects() => format!("{letter}R"),
            Some(_) => format!("{letter}E"),
        };
        let well = flaw.is_none();
        if self.accept.is_none() && self.answer.is_none() {
            return vec![self.answer(we, &code('A'), flaw, at)];
        }
        let mut answers = Vec::new();
        if Condition::wants(self.accept, well) {
            answers.push(self.answer(we, &code('C'), flaw, at));
        }
        if Condition::wants(self.answer, well) {
            answers.push(self.answer(we, &code('A'), flaw, at));
        }
        answers
    }

    fn answer(&self, we: &Ourselves, code: &str, flaw: Option<&Flaw>, at: &str) -> Vec<u8> {
        let version = if is_version(&self.version) { self.version.as_str() } else { VERSION };
        let processing = if self.processing.is_empty() { "P" } else { self.processing.as_str() };
        let own_id = crate::outputs::uid::short(
            "acknowledgement",
            &[code.as_bytes(), self.control_id.as_bytes(), at.as_bytes()],
        );
        let head = header()
            .text(3, &we.application)
            .text(4, &we.facility)
            .text(5, &self.application)
            .text(6, &self.facility)
            .text(7, at)
            .parts(9, &["ACK", &self.trigger, if before(version, [2, 3, 1]) { "" } else { "ACK" }])
            .text(10, &own_id)
            .text(11, processing)
            .text(12, version);
        let said = flaw.map(ToString::to_string).unwrap_or_default();
        let mut rows = vec![head, Row::new("MSA").text(1, code).text(2, &self.control_id).text(3, &said)];
        rows.extend(flaw.map(|flaw| error(flaw, version, &said)));
        encoded(rows, Charset::of_study(""))
    }
}

/// ERR: since 2.5 with fields of their own, before all in one.
fn error(flaw: &Flaw, version: &str, said: &str) -> Row {
    let (number, meaning) = flaw.code.of_table();
    let (sequence, field) = (flaw.sequence.to_string(), flaw.field.map(|field| field.to_string()).unwrap_or_default());
    let place = if flaw.segment.is_empty() { [""; 3] } else { [flaw.segment.as_str(), &sequence, &field] };
    if before(version, [2, 5, 0]) {
        let [segment, sequence, field] = place;
        return Row::new("ERR").parts(1, &[segment, sequence, field, number]);
    }
    Row::new("ERR").parts(2, &place).parts(3, &[number, meaning, "HL70357"]).text(4, "E").text(8, said)
}

fn is_version(text: &str) -> bool {
    text.starts_with("2.") && text.len() <= 8 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Whether a version is an earlier one.
fn before(version: &str, other: [u32; 3]) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    [0, 1, 2].map(|_| numbers.next().unwrap_or(0)) < other
}

/// What a receiver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// MSA-1: `AA`, `AE`, `AR`, `CA`, `CE` or `CR`.
    pub code: &'static str,
    /// Numbers of table 0357 in its ERR segments.
    pub errors: Vec<String>,
}

/// What a receiver said is no answer to our message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Not HL7.
    #[error("it answers with something that is no HL7 message")]
    Malformed,
    /// HL7 without an MSA segment, or with an unknown code in it.
    #[error("it answers without a code in MSA-1 that HL7 has")]
    NoCode,
    /// About another message.
    #[error("it answers to another message than ours")]
    Other,
}

/// Segments of an answer.
const ANSWER_SEGMENTS_MAX: usize = 100;

impl Answered {
    /// Reads the answer to the message of this control ID.
    ///
    /// # Errors
    /// It is none.
    pub fn read(bytes: &[u8], control_id: &str) -> Result<Self, NoAnswer> {
        let message = Message::parse(bytes, ANSWER_SEGMENTS_MAX).map_err(|_| NoAnswer::Malformed)?;
        let msa = message.segment("MSA").ok_or(NoAnswer::NoCode)?;
        let code = msa.text(1);
        let code =
            ["AA", "AE", "AR", "CA", "CE", "CR"].into_iter().find(|known| *known == code).ok_or(NoAnswer::NoCode)?;
        if msa.text(2) != control_id {
            return Err(NoAnswer::Other);
        }
        let errors = message.segments().filter(|segment| segment.name() == "ERR").map(|err| {
            let (new, old) = (err.text(3), err.field(1).first().component(4).subcomponent(1).text());
            if new.is_empty() { old } else { new }
        });
        // Numbers only: whatever else stands there may be about the patient.
        let errors = errors.filter(|n| (1..=4).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit())).collect();
        Ok(Self { code, errors })
    }

    /// Whether the message is there.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.code.ends_with('A')
    }

    /// Whether the same message may be accepted later: the receiver rejects it for its own sake, or says that it is busy (206, 207).
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let own = |number: &String| matches!(number.as_str(), "206" | "207");
        let header = |number: &String| matches!(number.as_str(), "200" | "201" | "202" | "203");
        let errors = &self.errors;
        match self.code {
            "AR" | "CE" => !errors.iter().any(header),
            _ => !errors.is_empty() && errors.iter().all(own),
        }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)?;
        for number in self.errors.iter().take(8) {
            let known = [
                ErrorCode::SegmentSequence,
                ErrorCode::RequiredField,
                ErrorCode::DataType,
                ErrorCode::UnsupportedMessage,
                ErrorCode::UnsupportedEvent,
                ErrorCode::UnsupportedProcessing,
                ErrorCode::UnsupportedVersion,
                ErrorCode::Internal,
            ];
            let known = known.into_iter().map(ErrorCode::of_table);
            let others = [
                ("103", "Table value not found"),
                ("204", "Unknown key identifier"),
                ("205", "Duplicate key identifier"),
                ("206", "Application record locked"),
            ];
            let meaning = known.chain(others).find(|(known, _)| known == number).map_or("", |(_, meaning)| meaning);
            write!(f, ", {number} {meaning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn we() -> Ourselves {
        Ourselves { application: "GANTRY".into(), facility: "HOSP".into() }
    }

    fn asked(version: &str, accept: &str, answer: &str) -> Asked {
        let text = format!("MSH|^~\\&|RIS|SITE^1.2^ISO|GANTRY||1||ORM^O01|A1|P|{version}|||{accept}|{answer}\r");
        Asked::of(&Message::parse(text.as_bytes(), 1).expect("a message"))
    }

    fn told(asked: &Asked, flaw: Option<&Flaw>) -> Vec<String> {
        let answers = asked.answers(&we(), flaw, "20240301101500+0000");
        answers.into_iter().map(|answer| String::from_utf8(answer).expect("ASCII")).collect()
    }

    fn flaw(code: ErrorCode) -> Flaw {
        Flaw { segment: "PID".into(), sequence: 1, field: Some(3), code, problem: "is empty" }
    }

    #[test]
    fn original_mode_has_one_answer() {
        let [answer] = told(&asked("2.3", "", ""), None).try_into().expect("one");
        assert!(answer.starts_with("MSH|^~\\&|GANTRY|HOSP|RIS|SITE|20240301101500+0000||ACK^O01|"), "{answer}");
        assert!(answer.ends_with("|P|2.3\rMSA|AA|A1\r"), "{answer}");
        let [answer] = told(&asked("2.5.1", "", ""), Some(&flaw(ErrorCode::RequiredField))).try_into().expect("one");
        let ends = "|P|2.5.1\rMSA|AE|A1|PID-3 (segment 1) is empty\r\
                    ERR||PID^1^3|101^Required field missing^HL70357|E||||PID-3 (segment 1) is empty\r";
        assert!(answer.contains("ACK^O01^ACK") && answer.ends_with(ends), "{answer}");
        let [answer] = told(&asked("2.3.1", "", ""), Some(&flaw(ErrorCode::Internal))).try_into().expect("one");
        assert!(answer.ends_with("MSA|AR|A1|PID-3 (segment 1) is empty\rERR|PID^1^3^207\r"), "{answer}");
        let [answer] = told(&Asked::default(), Some(&flaw(ErrorCode::Internal))).try_into().expect("one");
        assert!(answer.contains("MSA|AR||"), "{answer}");
    }

    #[test]
    fn enhanced_mode_answers_as_it_is_asked() {
        let codes = |accept, answer, flaw: Option<&Flaw>| -> Vec<String> {
            let code =
                |text: &String| text.split("MSA|").nth(1).and_then(|rest| rest.get(..2)).unwrap_or("").to_owned();
            told(&asked("2.5.1", accept, answer), flaw).iter().map(code).collect()
        };
        let (content, head) = (flaw(ErrorCode::DataType), flaw(ErrorCode::UnsupportedMessage));
        assert_eq!(codes("AL", "NE", None), ["CA"]);
        assert_eq!(codes("AL", "AL", None), ["CA", "AA"]);
        assert_eq!(codes("ER", "ER", None), Vec::<String>::new());
        assert_eq!(codes("ER", "SU", Some(&content)), ["CE"]);
        assert_eq!(codes("AL", "AL", Some(&head)), ["CR", "AR"]);
        assert_eq!(codes("NE", "NE", Some(&head)), Vec::<String>::new());
    }

    #[test]
    fn answers_of_others_say_whether_to_try_again_and_nothing_of_the_patient() {
        let read = |msa: &str, err: &str| {
            Answered::read(format!("MSH|^~\\&|RIS\rMSA|{msa}|Mueller\r{err}\r").as_bytes(), "42")
        };
        for (msa, err, accepted, again, says) in [
            ("AA|42", "", true, false, "AA"),
            ("CA|42", "", true, false, "CA"),
            ("AE|42", "ERR||PID^1^5|103^Mueller^HL70357|E||||Mueller", false, false, "AE, 103 Table value not found"),
            ("AE|42", "ERR|||207|E", false, true, "AE, 207 Application internal error"),
            ("AE|42", "ERR|PID^1^3^Mueller", false, false, "AE"),
            ("AR|42", "", false, true, "AR"),
            ("AR|42", "ERR|||200", false, false, "AR, 200 Unsupported message type"),
            ("CE|42", "", false, true, "CE"),
            ("CR|42", "", false, false, "CR"),
        ] {
            let answered = read(msa, err).expect(msa);
            assert_eq!((answered.is_accepted(), answered.may_pass()), (accepted, again), "{msa} {err}");
            assert_eq!(answered.to_string(), says);
        }
        assert_eq!(read("AA|43", ""), Err(NoAnswer::Other));
        assert_eq!(read("OK|42", ""), Err(NoAnswer::NoCode));
        assert_eq!(Answered::read(b"HTTP/1.1 400", "42"), Err(NoAnswer::Malformed));
        assert_eq!(Answered::read(b"MSH|^~\\&|RIS\r", "42"), Err(NoAnswer::NoCode));
    }
}
