//! What others tell a node: orders (ORM^O01, OMI^O23), and patients that were merged (ADT^A40).
//!
//! ```text
//! MSH [PID] { ORC [TQ1] OBR [IPC] [ZDS] }    one Order for each OBR, or for an ORC without one
//! MSH { PID MRG }                            one Merge for each MRG
//! ```
//!
//! An order is wanted for three things: which study it is about (accession number or Study Instance UID, and whose: PID-3 and
//! beside it PID-2 and PID-4), how urgent it is, and why it was made.

use std::collections::BTreeMap;

use super::message::{ErrorCode, Flaw, Message, Part, Segment, of_msh};
use crate::findings::Urgency;

/// Characters of an identifier; of a text for people.
const IDENTIFIER_MAX_CHARS: usize = 250;
const TEXT_MAX_CHARS: usize = 1024;
/// Identifiers of one patient that are kept, of PID-3 and of the fields beside it.
const PATIENT_IDS_MAX: usize = 8;

/// How a site's orders are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Where the accession number stands: the first of these with a value.
    pub accession_fields: Vec<Place>,
    /// Codes of priorities, in capitals, and where they put a study.
    pub priorities: BTreeMap<String, Urgency>,
}

/// A component of a field: `OBR-18`, `ORC-3.1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    segment: String,
    field: usize,
    component: usize,
}

impl Place {
    /// From `SEGMENT-FIELD` or `SEGMENT-FIELD.COMPONENT`; of the first repetition.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (segment, rest) = text.split_once('-')?;
        let (field, component) = rest.split_once('.').unwrap_or((rest, "1"));
        let number = |text: &str| {
            let plain = text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<usize>().ok().filter(|n| plain && *n > 0)
        };
        let named = segment.len() == 3 && segment.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        named.then_some(Self { segment: segment.to_owned(), field: number(field)?, component: number(component)? })
    }
}

/// What a message says. Holds what identifies patients: no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum Inbound {
    /// Orders, as many as there are.
    Orders(Vec<Order>),
    /// Patients of whom one identity was merged into another.
    Merges(Vec<Merge>),
}

/// A Patient ID, and who issued it or nothing.
pub type PatientId = (String, String);

/// One order. Holds what identifies a patient: no `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// Placer Order Number (ORC-2 or OBR-2), with its namespace behind `^`; or empty.
    pub placer: String,
    /// Filler Order Number (ORC-3 or OBR-3), in that way.
    pub filler: String,
    /// Accession Number; or empty.
    pub accession_number: String,
    /// Study Instance UID (IPC-3 or ZDS-1); or empty.
    pub study_instance_uid: String,
    /// As stated: TQ1-9, ORC-7.6, OBR-27.6 or OBR-5, the first with a value.
    pub stated_priority: String,
    /// Where that puts the study.
    pub priority: Urgency,
    /// OBR-31 or ORC-16.
    pub reason: String,
    /// ORC-1 says that it is not to be carried out.
    pub cancelled: bool,
    /// Identifiers of the patient (PID-3).
    pub patients: Vec<PatientId>,
    /// Those beside them: an MRN in the external (PID-2) or alternate (PID-4) ID. Whose they are is often not said, so they can tell
    /// that it is the same patient, and never that it is another.
    pub other_ids: Vec<PatientId>,
}

/// One identity of a patient that is another's now. No `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Merge {
    /// Patient ID and its issuer that hold (PID-3).
    pub surviving: PatientId,
    /// Those that do not any more (MRG-1).
    pub prior: PatientId,
}

/// Reads a message that was parsed.
///
/// # Errors
/// By segment and field: what is missing, or is not taken here.
pub fn read(message: &Message, rules: &Rules) -> Result<Inbound, Flaw> {
    if !message.header(12, 1).starts_with("2") {
        return Err(of_msh(12, ErrorCode::UnsupportedVersion, "is no version 2"));
    }
    if !["P", ""].contains(&message.header(11, 1).as_str()) {
        return Err(of_msh(
            11,
            ErrorCode::UnsupportedProcessing,
            "is not P: orders for training and debugging are not taken",
        ));
    }
    if message.header(10, 1).is_empty() {
        return Err(of_msh(10, ErrorCode::RequiredField, "is empty"));
    }
    match (message.header(9, 1).as_str(), message.header(9, 2).as_str()) {
        ("ORM", "O01") | ("OMI", "O23") => orders(message, rules).map(Inbound::Orders),
        ("ADT", "A40") => merges(message).map(Inbound::Merges),
        ("ORM" | "OMI" | "ADT", _) => {
            Err(of_msh(9, ErrorCode::UnsupportedEvent, "is none of ORM^O01, OMI^O23 and ADT^A40"))
        }
        _ => Err(of_msh(9, ErrorCode::UnsupportedMessage, "is none of ORM^O01, OMI^O23 and ADT^A40")),
    }
}

/// The segments of one order.
#[derive(Default, Clone)]
struct Group<'m> {
    segments: Vec<Segment<'m>>,
}

impl<'m> Group<'m> {
    fn has(&self, name: &str) -> bool {
        self.segment(name).is_some()
    }

    fn segment(&self, name: &str) -> Option<Segment<'m>> {
        // The last: in a group with several OBR, each is an order of its own.
        self.segments.iter().rev().find(|segment| segment.name() == name).copied()
    }

    fn text(&self, name: &str, field: usize, component: usize) -> String {
        let part = self.segment(name).map(|segment| segment.field(field).first().component(component).text());
        part.unwrap_or_default()
    }
}

fn orders(message: &Message, rules: &Rules) -> Result<Vec<Order>, Flaw> {
    let (mut read, mut group) = (Vec::new(), None::<Group<'_>>);
    let (mut patients, mut other_ids) = (Vec::new(), Vec::new());
    for segment in message.segments() {
        match (segment.name(), &mut group) {
            ("PID", None) => {
                patients = identities(&segment, 3).take(PATIENT_IDS_MAX).collect();
                other_ids =
                    identities(&segment, 2).take(1).chain(identities(&segment, 4)).take(PATIENT_IDS_MAX).collect();
            }
            ("ORC", _) => {
                let begun = Group { segments: vec![segment] };
                read.extend(group.replace(begun).map(|whole| order(&whole, rules)).transpose()?);
            }
            ("OBR", Some(open)) => {
                if open.has("OBR") {
                    read.push(order(open, rules)?);
                    // What comes before the first OBR holds for all of them.
                    open.segments.retain(|segment| matches!(segment.name(), "ORC" | "TQ1"));
                }
                open.segments.push(segment);
            }
            ("OBR", None) => return Err(segment.misplaced("comes before any ORC")),
            ("TQ1" | "IPC" | "ZDS", Some(open)) => open.segments.push(segment),
            // Sites put accession numbers into segments of their own.
            (name, Some(open)) if rules.accession_fields.iter().any(|place| place.segment == name) => {
                open.segments.push(segment);
            }
            _ => {}
        }
    }
    read.extend(group.map(|whole| order(&whole, rules)).transpose()?);
    match read.is_empty() {
        true => {
            let code = ErrorCode::SegmentSequence;
            Err(Flaw { segment: "ORC".into(), sequence: 1, field: None, code, problem: "is missing" })
        }
        false => {
            let of = |order| Order { patients: patients.clone(), other_ids: other_ids.clone(), ..order };
            Ok(read.into_iter().map(of).collect())
        }
    }
}

fn order(group: &Group<'_>, rules: &Rules) -> Result<Order, Flaw> {
    let Some(orc) = group.segment("ORC") else { return Ok(Order::default()) };
    let control = orc.text(1);
    if control.is_empty() {
        return Err(orc.flaw(1, ErrorCode::RequiredField, "is empty"));
    }
    let entity = |own: usize| {
        let of = |name: &str| {
            let (id, namespace) = (group.text(name, own, 1), group.text(name, own, 2));
            if id.is_empty() || namespace.is_empty() { id } else { format!("{id}^{namespace}") }
        };
        let stated = of("ORC");
        if stated.is_empty() { of("OBR") } else { stated }
    };
    let accession = rules.accession_fields.iter().map(|p| identifier(&group.text(&p.segment, p.field, p.component)));
    let accession_number = accession.clone().find(|text| !text.is_empty()).unwrap_or_default();
    let uid = [group.text("IPC", 3, 1), group.text("ZDS", 1, 1)].into_iter().find(|uid| !uid.is_empty());
    let study_instance_uid = uid.unwrap_or_default();
    if !is_uid(&study_instance_uid) {
        let (segment, field) =
            group.segment("IPC").filter(|ipc| !ipc.field(3).is_empty()).map_or(("ZDS", 1), |_| ("IPC", 3));
        let segment = group.segment(segment).unwrap_or(orc);
        return Err(segment.flaw(field, ErrorCode::DataType, "is no Study Instance UID"));
    }
    let (placer, filler) = (identifier(&entity(2)), identifier(&entity(3)));
    if accession_number.is_empty() && study_instance_uid.is_empty() && placer.is_empty() {
        return Err(orc.flaw(2, ErrorCode::RequiredField, "is empty, and so is every place of an accession number"));
    }
    let stated = [("TQ1", 9, 1), ("ORC", 7, 6), ("OBR", 27, 6), ("OBR", 5, 1)];
    let stated =
        stated.into_iter().map(|(name, field, part)| group.text(name, field, part)).find(|text| !text.is_empty());
    let stated_priority = identifier(&stated.unwrap_or_default());
    let priority = rules.priorities.get(&stated_priority.to_ascii_uppercase()).copied().unwrap_or_default();
    let reasons = [("OBR", 31, 2), ("OBR", 31, 1), ("ORC", 16, 2), ("ORC", 16, 1)];
    let reason =
        reasons.into_iter().map(|(name, field, part)| group.text(name, field, part)).find(|text| !text.is_empty());
    Ok(Order {
        placer,
        filler,
        accession_number,
        study_instance_uid,
        stated_priority,
        priority,
        reason: cut(&reason.unwrap_or_default(), TEXT_MAX_CHARS),
        cancelled: matches!(control.as_str(), "CA" | "OC" | "CR" | "DC" | "OD" | "DR"),
        ..Order::default()
    })
}

fn merges(message: &Message) -> Result<Vec<Merge>, Flaw> {
    let (mut read, mut patient) = (Vec::new(), None::<Segment<'_>>);
    for segment in message.segments() {
        match segment.name() {
            "PID" => patient = Some(segment),
            "MRG" => {
                let pid = patient.take().ok_or_else(|| segment.misplaced("comes without a PID before it"))?;
                let empty = |of: &Segment<'_>, field| of.flaw(field, ErrorCode::RequiredField, "has no identifier");
                let surviving = identities(&pid, 3).next().ok_or_else(|| empty(&pid, 3))?;
                let prior = identities(&segment, 1).next().ok_or_else(|| empty(&segment, 1))?;
                read.push(Merge { surviving, prior });
            }
            _ => {}
        }
    }
    match read.is_empty() {
        true => {
            let code = ErrorCode::SegmentSequence;
            Err(Flaw { segment: "MRG".into(), sequence: 1, field: None, code, problem: "is missing" })
        }
        false => Ok(read),
    }
}

/// The identifiers of a list, and who issued each.
fn identities<'m>(segment: &Segment<'m>, field: usize) -> impl Iterator<Item = PatientId> + use<'m> {
    let read =
        |id: Part<'_>| (identifier(&id.component(1).text()), identifier(&id.component(4).subcomponent(1).text()));
    segment.field(field).repetitions().map(read).filter(|(id, _)| !id.is_empty())
}

fn identifier(text: &str) -> String {
    cut(text, IDENTIFIER_MAX_CHARS)
}

/// Without what is no text, and no longer than this.
fn cut(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect::<String>().trim().to_owned()
}

/// Of digits and dots, or nothing at all.
fn is_uid(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn rules() -> Rules {
        let places = ["IPC-1", "OBR-18", "ORC-3"].map(|text| Place::parse(text).expect("a place"));
        let priorities = [("S", Urgency::Urgent), ("A", Urgency::Prompt), ("R", Urgency::Routine)];
        Rules {
            accession_fields: places.to_vec(),
            priorities: priorities.map(|(code, urgency)| (code.to_owned(), urgency)).into(),
        }
    }

    fn inbound(kind: &str, rest: &str) -> Result<Inbound, Flaw> {
        let text = format!("MSH|^~\\&|RIS|HOSP|||20240301||{kind}|42|P|2.5.1\r{rest}");
        read(&Message::parse(text.as_bytes(), 100)?, &rules())
    }

    fn orders(kind: &str, rest: &str) -> Vec<Order> {
        match inbound(kind, rest) {
            Ok(Inbound::Orders(orders)) => orders,
            Ok(Inbound::Merges(_)) => panic!("merges"),
            Err(flaw) => panic!("{flaw}"),
        }
    }

    #[test]
    fn priority_and_reason_are_found_where_versions_have_them() {
        let reason = "||||^Suspected \\T\\ acute";
        for (orm, priority) in [
            ("ORC|NW|4711^RIS|ACC1||||^^^^^S\rOBR|1||||", Urgency::Urgent),
            ("ORC|NW|4711^RIS|ACC1\rTQ1|1||||||||A^ASAP^HL70485\rOBR|1||||", Urgency::Prompt),
            ("ORC|NW|4711^RIS|ACC1\rOBR|1||||s", Urgency::Urgent),
            ("ORC|NW|4711^RIS|ACC1\rOBR|1||||X", Urgency::Routine),
        ] {
            let obr_31 = "|".repeat(31 - 5 - 4) + reason;
            let [order] =
                orders("ORM^O01", &format!("PID|1||P1\r{orm}{obr_31}\r")).try_into().unwrap_or_else(|_| panic!("one"));
            assert_eq!(order.priority, priority, "{orm}");
            assert_eq!((order.placer.as_str(), order.accession_number.as_str()), ("4711^RIS", "ACC1"));
            assert_eq!(order.reason, "Suspected & acute", "{orm}");
        }
    }

    #[test]
    fn an_imaging_order_names_its_studies() {
        let rest = "PID|1||7^^^NATION&1.2&ISO~~P1\rORC|NW|1|F1\rTQ1|1||||||||S\rOBR|1\rIPC|ACC1^RIS|RP1|1.2.3|SPS1\rORC|CA|2|F2\rOBR|2\r\
                    IPC|ACC2|RP2|1.2.4|SPS2\r";
        let [first, second] = orders("OMI^O23^OMI_O23", rest).try_into().unwrap_or_else(|_| panic!("two"));
        assert_eq!((first.accession_number.as_str(), first.study_instance_uid.as_str()), ("ACC1", "1.2.3"));
        assert_eq!((first.priority, first.cancelled), (Urgency::Urgent, false));
        let patients = [("7", "NATION"), ("P1", "")].map(|(id, issuer)| (id.to_owned(), issuer.to_owned()));
        assert!(first.patients == patients && second.patients == patients, "one PID is about all of them");
        assert_eq!(
            (second.accession_number.as_str(), second.priority, second.cancelled),
            ("ACC2", Urgency::Routine, true)
        );
    }

    #[test]
    fn an_mrn_is_found_beside_pid_3_too() {
        let [order] = orders("ORM^O01", "PID|1|M1|HIS9^^^HIS|M2^^^MPI~M3\rORC|NW|1|ACC1\rOBR|1\r")
            .try_into()
            .unwrap_or_else(|_| panic!("one"));
        let own = |id: &str, issuer: &str| (id.to_owned(), issuer.to_owned());
        assert!(order.patients == [own("HIS9", "HIS")]);
        assert!(order.other_ids == [own("M1", ""), own("M2", "MPI"), own("M3", "")]);
        let many = "X~".repeat(99);
        let many = orders("ORM^O01", &format!("PID|1|M1|{many}|{many}\rORC|NW|1|ACC1\rOBR|1\r"));
        assert_eq!((many[0].patients.len(), many[0].other_ids.len()), (PATIENT_IDS_MAX, PATIENT_IDS_MAX));
    }

    #[test]
    fn each_obr_of_an_orc_is_an_order() {
        let rest = "PID|1||P1\rORC|NW|1\rTQ1|1||||||||S\rOBR|1|||||||||||||||||ACC1\rOBR|2|||||||||||||||||ACC2\r";
        let orders = orders("ORM^O01", rest);
        let told: Vec<_> = orders.iter().map(|o| (o.accession_number.as_str(), o.priority)).collect();
        assert_eq!(told, [("ACC1", Urgency::Urgent), ("ACC2", Urgency::Urgent)]);
    }

    #[test]
    fn a_merge_names_both_identities() {
        let rest = "EVN|A40\rPID|1||NEW^^^HOSP&1.2&ISO~X\rMRG|OLD^^^HOSP\rPID|2||N2\rMRG|O2\r";
        let Ok(Inbound::Merges(merges)) = inbound("ADT^A40^ADT_A39", rest) else { panic!("merges") };
        let own = |id: &str, issuer: &str| (id.to_owned(), issuer.to_owned());
        assert!(
            merges
                == [
                    Merge { surviving: own("NEW", "HOSP"), prior: own("OLD", "HOSP") },
                    Merge { surviving: own("N2", ""), prior: own("O2", "") },
                ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_segment_and_field_and_without_the_patient() {
        for (kind, rest, says) in [
            ("ORU^R01", "PID|1||Secret\r", "MSH-9 (segment 1) is none of"),
            ("ADT^A08", "PID|1||Secret\r", "MSH-9 (segment 1) is none of"),
            ("ORM^O01", "PID|1||Secret\r", "ORC (segment 1) is missing"),
            ("ORM^O01", "PID|1||Secret\rOBR|1\r", "OBR (segment 1) comes before any ORC"),
            ("ORM^O01", "PID|1||Secret\rORC|NW\rOBR|1||\r", "ORC-2 (segment 1) is empty, and so is"),
            ("ORM^O01", "PID|1||Secret\rORC||1\rOBR|1||\r", "ORC-1 (segment 1) is empty"),
            (
                "OMI^O23",
                "PID|1||Secret\rORC|NW|1\rOBR|1\rIPC|A|B|Secret\r",
                "IPC-3 (segment 1) is no Study Instance UID",
            ),
            ("OMI^O23", "PID|1||Secret\rORC|NW|1\rOBR|1\rZDS|../x\r", "ZDS-1 (segment 1) is no Study Instance UID"),
            ("ADT^A40", "PID|1||Secret\r", "MRG (segment 1) is missing"),
            ("ADT^A40", "MRG|Secret\r", "MRG (segment 1) comes without a PID"),
            ("ADT^A40", "PID|1||\rMRG|Secret\r", "PID-3 (segment 1) has no identifier"),
            ("ADT^A40", "PID|1||Secret\rMRG|^^^X\r", "MRG-1 (segment 1) has no identifier"),
        ] {
            let said = inbound(kind, rest).map(|_| ()).expect_err(rest).to_string();
            assert!(said.starts_with(says) && !said.contains("Secret"), "{rest}: {said}");
        }
        let head = |text: &str| read(&Message::parse(text.as_bytes(), 9).expect("a message"), &rules()).map(|_| ());
        let code = |text: &str| head(text).expect_err(text).code;
        assert_eq!(code("MSH|^~\\&|||||||ORM^O01|1|P|3.0\r"), ErrorCode::UnsupportedVersion);
        assert_eq!(code("MSH|^~\\&|||||||ORM^O01|1|T|2.3\r"), ErrorCode::UnsupportedProcessing);
        assert_eq!(code("MSH|^~\\&|||||||ORM^O01||P|2.3\r"), ErrorCode::RequiredField);
    }

    #[test]
    fn places_are_read() {
        let place = |segment: &str, field, component| Some(Place { segment: segment.into(), field, component });
        assert_eq!(Place::parse("OBR-18"), place("OBR", 18, 1));
        assert_eq!(Place::parse("ZDS-1.2"), place("ZDS", 1, 2));
        for wrong in ["", "OBR", "OBR-", "OBR-0", "OBR-1.", "OBR-1.0", "obr-1", "OBRX-1", "OBR-+1", "OBR-1234"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }
}
