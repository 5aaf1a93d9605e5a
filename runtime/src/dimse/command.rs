//! Command sets (PS3.7 sections 6.3 and 9.3, annex E): flat, group 0000, implicit VR little endian.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

/// What a request asks for, and whether its field is that of a response (bit 15).
pub(crate) const C_STORE_RQ: u16 = 0x0001;
pub(crate) const C_FIND_RQ: u16 = 0x0020;
pub(crate) const C_ECHO_RQ: u16 = 0x0030;
pub(crate) const N_EVENT_REPORT_RQ: u16 = 0x0100;
pub(crate) const N_ACTION_RQ: u16 = 0x0130;
const RESPONSE: u16 = 0x8000;

/// Command Data Set Type: there is none. Everything else says there is one.
const NO_DATA_SET: u16 = 0x0101;

/// Elements of a command; the standard knows 30.
const ELEMENTS_MAX: usize = 256;

/// Error Comment is LO.
const COMMENT_MAX_CHARACTERS: usize = 64;

/// What a request came to (PS3.7 annex C, PS3.4 annexes B.2.3 and J.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Status (0000,0900).
    pub code: u16,
    /// Error Comment (0000,0902); empty with success. No patient data.
    pub comment: String,
}

impl Status {
    /// 0000.
    #[must_use]
    pub fn success() -> Self {
        Self { code: 0, comment: String::new() }
    }

    /// A failure; the comment is cut to what its value representation holds.
    #[must_use]
    pub fn failure(code: u16, comment: &str) -> Self {
        let plain = comment.chars().map(|c| if matches!(c, ' '..='~') && c != '\\' { c } else { '?' });
        Self { code, comment: plain.take(COMMENT_MAX_CHARACTERS).collect::<String>().trim().to_owned() }
    }

    /// Whether it is success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == 0
    }
}

/// A command set that is none: the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Cut, or with something after its end.
    #[error("a command set ends within an element")]
    Cut,
    /// Not group 0000, or not in order.
    #[error("a command set has an element that does not belong there")]
    Stray,
    /// Too many.
    #[error("a command set has more than {ELEMENTS_MAX} elements")]
    TooMany,
    /// What every command has is missing.
    #[error("a command set is without Command Field, Message ID or Command Data Set Type")]
    Incomplete,
}

/// A request or a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Command Field (0000,0100).
    pub field: u16,
    /// Message ID (0000,0110) of a request, Message ID Being Responded To (0000,0120) of a response.
    pub message_id: u16,
    /// Whether a data set follows.
    pub has_data_set: bool,
    /// Affected or Requested SOP Class UID, as sent; empty when missing.
    pub class: String,
    /// Affected or Requested SOP Instance UID, as sent; empty when missing.
    pub instance: String,
    /// Action Type ID (0000,1008) or Event Type ID (0000,1002).
    pub kind: Option<u16>,
    /// Status (0000,0900) of a response.
    pub status: Option<u16>,
}

impl Command {
    /// Reads a whole command set.
    ///
    /// # Errors
    /// It is none; the association cannot go on then.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unsound> {
        let elements = elements(bytes)?;
        let find = |tag: Tag| elements.iter().find(|(element, _)| *element == tag.element()).map(|(_, value)| *value);
        let number = |tag| find(tag).and_then(|value| Some(u16::from_le_bytes(value.try_into().ok()?)));
        let text = |one, other| {
            let value = find(one).or_else(|| find(other)).unwrap_or_default();
            String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned()
        };
        let field = number(tags::COMMAND_FIELD).ok_or(Unsound::Incomplete)?;
        let id = if field & RESPONSE == 0 { tags::MESSAGE_ID } else { tags::MESSAGE_ID_BEING_RESPONDED_TO };
        Ok(Self {
            field,
            message_id: number(id).ok_or(Unsound::Incomplete)?,
            has_data_set: number(tags::COMMAND_DATA_SET_TYPE).ok_or(Unsound::Incomplete)? != NO_DATA_SET,
            class: text(tags::AFFECTED_SOP_CLASS_UID, tags::REQUESTED_SOP_CLASS_UID),
            instance: text(tags::AFFECTED_SOP_INSTANCE_UID, tags::REQUESTED_SOP_INSTANCE_UID),
            kind: number(tags::ACTION_TYPE_ID).or_else(|| number(tags::EVENT_TYPE_ID)),
            status: number(tags::STATUS),
        })
    }

    /// Whether it answers something.
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.field & RESPONSE != 0
    }

    /// The response to this request. UIDs are said back as they came where they fit.
    #[must_use]
    pub fn response(&self, status: &Status) -> Vec<u8> {
        let mut set = Encoder::default();
        set.text(tags::AFFECTED_SOP_CLASS_UID, said_back(&self.class), 0);
        set.number(tags::COMMAND_FIELD, self.field | RESPONSE);
        set.number(tags::MESSAGE_ID_BEING_RESPONDED_TO, self.message_id);
        set.number(tags::COMMAND_DATA_SET_TYPE, NO_DATA_SET);
        set.number(tags::STATUS, status.code);
        set.text(tags::ERROR_COMMENT, &status.comment, b' ');
        set.text(tags::AFFECTED_SOP_INSTANCE_UID, said_back(&self.instance), 0);
        if let (N_ACTION_RQ, Some(kind)) = (self.field, self.kind) {
            set.number(tags::ACTION_TYPE_ID, kind);
        }
        set.finish()
    }

    /// A C-FIND-RQ of medium priority with an identifier (PS3.7 section 9.3.2.1).
    #[must_use]
    pub fn find(message_id: u16, class: &str) -> Vec<u8> {
        let mut set = Encoder::default();
        set.text(tags::AFFECTED_SOP_CLASS_UID, class, 0);
        set.number(tags::COMMAND_FIELD, C_FIND_RQ);
        set.number(tags::MESSAGE_ID, message_id);
        set.number(tags::PRIORITY, 0);
        set.number(tags::COMMAND_DATA_SET_TYPE, 1);
        set.finish()
    }

    /// A C-STORE-RQ of medium priority (PS3.7 section 9.3.1.1).
    #[must_use]
    pub fn store(message_id: u16, class: &str, instance: &str) -> Vec<u8> {
        let mut set = Encoder::default();
        set.text(tags::AFFECTED_SOP_CLASS_UID, class, 0);
        set.number(tags::COMMAND_FIELD, C_STORE_RQ);
        set.number(tags::MESSAGE_ID, message_id);
        set.number(tags::PRIORITY, 0);
        set.number(tags::COMMAND_DATA_SET_TYPE, 1);
        set.text(tags::AFFECTED_SOP_INSTANCE_UID, instance, 0);
        set.finish()
    }

    /// An N-ACTION-RQ with a data set (PS3.7 section 10.3.5.1).
    #[must_use]
    pub fn action(message_id: u16, class: &str, instance: &str, action_type: u16) -> Vec<u8> {
        let mut set = Encoder::default();
        set.text(tags::REQUESTED_SOP_CLASS_UID, class, 0);
        set.number(tags::COMMAND_FIELD, N_ACTION_RQ);
        set.number(tags::MESSAGE_ID, message_id);
        set.number(tags::COMMAND_DATA_SET_TYPE, 1);
        set.text(tags::REQUESTED_SOP_INSTANCE_UID, instance, 0);
        set.number(tags::ACTION_TYPE_ID, action_type);
        set.finish()
    }

    /// A C-ECHO-RQ (PS3.7 section 9.3.5.1).
    #[must_use]
    pub fn echo(message_id: u16, class: &str) -> Vec<u8> {
        let mut set = Encoder::default();
        set.text(tags::AFFECTED_SOP_CLASS_UID, class, 0);
        set.number(tags::COMMAND_FIELD, C_ECHO_RQ);
        set.number(tags::MESSAGE_ID, message_id);
        set.number(tags::COMMAND_DATA_SET_TYPE, NO_DATA_SET);
        set.finish()
    }

    /// Whether it answers a request of this field and number.
    #[must_use]
    pub fn answers(&self, field: u16, message_id: u16) -> bool {
        self.field == field | RESPONSE && self.message_id == message_id
    }

    /// An N-EVENT-REPORT-RQ with a data set (PS3.7 section 10.3.1).
    #[must_use]
    pub fn event_report(message_id: u16, class: &str, instance: &str, event_type: u16) -> Vec<u8> {
        let mut set = Encoder::default();
        set.text(tags::AFFECTED_SOP_CLASS_UID, class, 0);
        set.number(tags::COMMAND_FIELD, N_EVENT_REPORT_RQ);
        set.number(tags::MESSAGE_ID, message_id);
        set.number(tags::COMMAND_DATA_SET_TYPE, 1);
        set.text(tags::AFFECTED_SOP_INSTANCE_UID, instance, 0);
        set.number(tags::EVENT_TYPE_ID, event_type);
        set.finish()
    }
}

/// The elements by their number within group 0000. Flat: no length is trusted further than the bytes that are there.
fn elements(mut bytes: &[u8]) -> Result<Vec<(u16, &[u8])>, Unsound> {
    let mut elements: Vec<(u16, &[u8])> = Vec::new();
    while !bytes.is_empty() {
        let (header, rest) = bytes.split_first_chunk::<8>().ok_or(Unsound::Cut)?;
        let [g0, g1, e0, e1, length @ ..] = *header;
        let element = u16::from_le_bytes([e0, e1]);
        if [g0, g1] != [0, 0] || elements.last().is_some_and(|(last, _)| *last >= element) {
            return Err(Unsound::Stray);
        }
        if elements.len() == ELEMENTS_MAX {
            return Err(Unsound::TooMany);
        }
        let length = usize::try_from(u32::from_le_bytes(length)).map_err(|_| Unsound::Cut)?;
        let (value, rest) = rest.split_at_checked(length).ok_or(Unsound::Cut)?;
        elements.push((element, value));
        bytes = rest;
    }
    Ok(elements)
}

/// A UID of a request in its response; nothing where it is no text that a UID element holds.
fn said_back(uid: &str) -> &str {
    let fits = uid.len() <= 64 && uid.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if fits { uid } else { "" }
}

/// Writes elements in the order they are given, which must be ascending; empty text is left out.
#[derive(Default)]
struct Encoder(Vec<u8>);

impl Encoder {
    fn element(&mut self, tag: Tag, value: &[u8]) {
        self.0.extend(tag.group().to_le_bytes());
        self.0.extend(tag.element().to_le_bytes());
        self.0.extend(u32::try_from(value.len()).expect("values are short").to_le_bytes());
        self.0.extend(value);
    }

    fn number(&mut self, tag: Tag, number: u16) {
        self.element(tag, &number.to_le_bytes());
    }

    fn text(&mut self, tag: Tag, text: &str, padding: u8) {
        if text.is_empty() {
            return;
        }
        let mut value = text.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(padding);
        }
        self.element(tag, &value);
    }

    fn finish(self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).expect("values are short");
        let mut whole = Self::default();
        whole.element(tags::COMMAND_GROUP_LENGTH, &length.to_le_bytes());
        whole.0.extend(self.0);
        whole.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Command {
        Command {
            field: C_STORE_RQ,
            message_id: 7,
            has_data_set: false,
            class: "1.2.840.10008.5.1.4.1.1.2".into(),
            instance: "1.2.3".into(),
            kind: None,
            status: None,
        }
    }

    #[test]
    fn a_response_says_what_it_answers() {
        let status =
            Status::failure(0xA700, "the disk has less than it must have\nand \u{e9} more than 64 characters of it");
        let response = Command::parse(&store().response(&status)).expect("sound");
        assert_eq!(response, Command { field: 0x8001, status: Some(0xA700), ..store() });
        assert_eq!(status.comment, "the disk has less than it must have?and ? more than 64 character");
    }

    #[test]
    fn a_command_that_is_none_is_refused() {
        let sound = store().response(&Status::success());
        let whole = Command::parse(&sound);
        for cut in 0..sound.len() {
            // Between two elements it is another command, or lacks what every command has.
            assert_ne!(Command::parse(&sound[..cut]), whole, "{cut}");
        }
        assert_eq!(Command::parse(&[]), Err(Unsound::Incomplete));
        assert_eq!(Command::parse(&[8, 0, 0, 0, 0, 0, 0, 0]), Err(Unsound::Stray));
        let twice = [sound.clone(), sound].concat();
        assert_eq!(Command::parse(&twice), Err(Unsound::Stray));
        let mut long = Encoder::default();
        (0..300).for_each(|element| long.number(Tag(0, element), 0));
        assert_eq!(Command::parse(&long.0), Err(Unsound::TooMany));
        let mut large = Encoder::default();
        large.0.extend([0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(Command::parse(&large.0), Err(Unsound::Cut));
    }

    #[test]
    fn a_question_reads_back_as_written() {
        let question = Command::parse(&Command::find(7, "1.2.840.10008.5.1.4.1.2.2.1")).expect("sound");
        let class = "1.2.840.10008.5.1.4.1.2.2.1".into();
        let expected = Command { field: C_FIND_RQ, has_data_set: true, class, instance: String::new(), ..store() };
        assert_eq!(question, expected);
        assert!(Command::parse(&question.response(&Status::success())).expect("sound").answers(C_FIND_RQ, 7));
    }

    #[test]
    fn requests_of_ours_read_back_as_written() {
        let class: String = "1.2.840.10008.5.1.4.1.1.2".into();
        let stored = Command::parse(&Command::store(7, &class, "1.2.3")).expect("sound");
        assert_eq!(stored, Command { has_data_set: true, ..store() });
        let echo = Command::parse(&Command::echo(7, &class)).expect("sound");
        assert_eq!(echo, Command { field: C_ECHO_RQ, instance: String::new(), ..store() });
        let action = Command::parse(&Command::action(7, &class, "1.2.3", 1)).expect("sound");
        assert_eq!(action, Command { field: N_ACTION_RQ, has_data_set: true, kind: Some(1), ..store() });
    }

    #[test]
    fn what_is_no_uid_is_not_said_back() {
        let wild = Command { instance: "../../etc/x".into(), ..store() };
        assert_eq!(Command::parse(&wild.response(&Status::success())).expect("sound").instance, "");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Command::parse(&bytes);
        }
    }
}
