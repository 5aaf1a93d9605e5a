//! ORU^R01: a result as an observation report (HL7 v2.5.1 section 7.3.1), preliminary. And ORM^O01, where its triage is to move the
//! study up in somebody else's worklist.
//!
//! ```text
//! MSH · PID · ORC · OBR (P) · TQ1 of a triage · OBX…: UIDs, triage, classifications, segments, measurements, boxes, unfit
//! ```
//!
//! Codes are those that the module stated, with the scheme's name in table 0396, units are UCUM. Whatever belongs to one finding
//! shares a sub-ID (OBX-4). Every text passes through [`super::escaped`].

use super::charset::Charset;
use super::write::{Row, components, encoded, header};
use super::{VERSION, ack::Ourselves};
use crate::findings::{Code, Urgency};
use crate::messages::told::{Subject, Told, clock, day};
use crate::outputs::uid;

/// Who speaks to whom, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// MSH-3 and MSH-4.
    pub from: Ourselves,
    /// MSH-5 and MSH-6.
    pub to: Ourselves,
    /// In which character set, by its name in MSH-18; that of the study when not set.
    pub charset: Option<Charset>,
    /// MSH-15 and MSH-16 ask for a commit acknowledgement, and for one of the application.
    pub enhanced: bool,
}

/// A message, and by what the receiver names it in its answer.
#[derive(Clone)]
pub struct Sendable {
    /// As it goes onto the line, without blocks.
    pub bytes: Vec<u8>,
    /// MSH-10: the same whenever the same result is sent.
    pub control_id: String,
}

/// The message about a result. The same result gives the same bytes, so that one that comes twice can be told.
#[must_use]
pub fn message(told: &Told, subject: &Subject, envelope: &Envelope, result_sha256: &[u8; 32]) -> Sendable {
    let control_id =
        uid::short("oru", &[result_sha256, envelope.to.application.as_bytes(), envelope.to.facility.as_bytes()]);
    let made = stamp(&told.date, &told.time).map(|at| at + "+0000").unwrap_or_default();
    let head = head(envelope, &made, &["ORU", "R01", "ORU_R01"], &control_id);
    let mut rows = vec![head, patient(subject), order(subject), request(told, subject, &made)];
    let highest = told.findings.triage.iter().map(|triage| triage.level).max().unwrap_or_default();
    if highest > Urgency::Routine {
        rows.push(Row::new("TQ1").text(1, "1").parts(9, priority(highest)));
    }
    rows.extend(observations(told, &made));
    let charset = envelope.charset.clone().unwrap_or_else(|| Charset::of_study(&subject.character_set));
    Sendable { bytes: encoded(rows, charset), control_id }
}

/// What tells the placer of the study's order that it is more urgent than it was: nothing where no triage is above routine, or
/// nobody ordered the study.
#[must_use]
pub fn order_update(told: &Told, subject: &Subject, envelope: &Envelope, result_sha256: &[u8; 32]) -> Option<Sendable> {
    let triage = told.findings.triage.iter().max_by_key(|triage| triage.level)?;
    if triage.level == Urgency::Routine
        || (subject.placer_order_number.is_empty() && subject.accession_number.is_empty())
    {
        return None;
    }
    let control_id =
        uid::short("orm", &[result_sha256, envelope.to.application.as_bytes(), envelope.to.facility.as_bytes()]);
    let made = stamp(&told.date, &told.time).map(|at| at + "+0000").unwrap_or_default();
    let [code, _, _] = priority(triage.level);
    // Timing: the sixth component is the priority. TQ1 is no part of ORM.
    let timing = ["", "", "", "", "", code];
    let rows = vec![
        head(envelope, &made, &["ORM", "O01", "ORM_O01"], &control_id),
        patient(subject),
        // Changed, and nobody had asked for it.
        order(subject).text(1, "XX").text(5, "").parts(7, &timing).text(9, &made).parts(16, &coded(&triage.finding)),
        request(told, subject, &made).text(22, "").text(25, "").parts(27, &timing),
    ];
    let charset = envelope.charset.clone().unwrap_or_else(|| Charset::of_study(&subject.character_set));
    Some(Sendable { bytes: encoded(rows, charset), control_id })
}

fn head(envelope: &Envelope, made: &str, kind: &[&str], control_id: &str) -> Row {
    let (accept, answer) = if envelope.enhanced { ("AL", "AL") } else { ("", "") };
    header()
        .text(3, &envelope.from.application)
        .text(4, &envelope.from.facility)
        .text(5, &envelope.to.application)
        .text(6, &envelope.to.facility)
        .text(7, made)
        .parts(9, kind)
        .text(10, control_id)
        .text(11, "P")
        .text(12, VERSION)
        .text(15, accept)
        .text(16, answer)
}

fn patient(subject: &Subject) -> Row {
    let patient = &subject.patient;
    let sex = match patient.sex.as_str() {
        known @ ("M" | "F" | "O") => known,
        _ => "U",
    };
    Row::new("PID")
        .text(1, "1")
        .parts(3, &[&patient.id, "", "", &patient.issuer, "PI"])
        .repeated(5, &names(&patient.name))
        .text(7, &day(&patient.birth_date).unwrap_or_default().replace('-', ""))
        .text(8, sex)
}

/// A name of DICOM, up to three ways of writing it (PS3.5 section 6.2, VR PN), as repetitions of XPN.
fn names(name: &str) -> Vec<String> {
    let ways = name.split('=').zip(["A", "I", "P"]).filter(|(way, _)| !way.trim_matches([' ', '^']).is_empty());
    let several = name.contains('=');
    let written = ways.map(|(way, code)| {
        let mut parts = way.split('^').map(str::trim);
        let [family, given, middle, prefix, suffix] = [(); 5].map(|()| parts.next().unwrap_or_default());
        components(&[family, given, middle, suffix, prefix, "", "L", if several { code } else { "" }])
    });
    let written: Vec<String> = written.take(3).collect();
    // PID-5 is required: a name that nobody knows is an empty one of kind U.
    if written.is_empty() { vec!["^^^^^^U".into()] } else { written }
}

fn entity(text: &str) -> [&str; 2] {
    let (id, namespace) = text.split_once('^').unwrap_or((text, ""));
    [id, namespace]
}

fn order(subject: &Subject) -> Row {
    Row::new("ORC")
        .text(1, "RE")
        .parts(2, &entity(&subject.placer_order_number))
        .text(3, &subject.accession_number)
        .text(5, "IP")
}

fn request(told: &Told, subject: &Subject, made: &str) -> Row {
    let observed = stamp(&subject.study_date, &subject.study_time);
    let observed = observed.or_else(|| day(&subject.study_date).map(|day| day.replace('-', ""))).unwrap_or_default();
    Row::new("OBR")
        .text(1, "1")
        .parts(2, &entity(&subject.placer_order_number))
        // Of a report about a study the filler's number is the study's.
        .text(
            3,
            if subject.accession_number.is_empty() { told.study_instance_uid() } else { &subject.accession_number },
        )
        .parts(4, &["18748-4", "Diagnostic imaging study", "LN", "", &subject.study_description])
        .text(7, &observed)
        .text(18, &subject.accession_number)
        .text(22, made)
        .text(24, "RAD")
        .text(25, "P")
}

/// One OBX after the other, numbered.
struct Observations<'t> {
    told: &'t Told,
    made: &'t str,
    rows: Vec<Row>,
}

const FINDING: [&str; 3] = ["121071", "Finding", "DCM"];
const COMMENT: [&str; 3] = ["121106", "Comment", "DCM"];

impl Observations<'_> {
    fn add(&mut self, kind: &str, concept: &[&str], group: &str) -> Row {
        let module = &self.told.module;
        let method = format!("{} {}", module.title, module.version);
        Row::new("OBX")
            .text(1, &(self.rows.len() + 1).to_string())
            .text(2, kind)
            .parts(3, concept)
            .text(4, group)
            .text(11, "P")
            .text(14, self.made)
            .parts(17, &["", &method])
            .parts(18, &[&module.identity_sha256, &module.vendor])
    }

    fn text(&mut self, concept: &[&str], group: &str, text: &str) {
        let row = self.add("TX", concept, group).text(5, text);
        self.rows.push(row);
    }

    fn uid(&mut self, concept: &[&str], group: &str, uid: &str) {
        let row = self.add("ST", concept, group).text(5, uid);
        self.rows.push(row);
    }

    fn finding(&mut self, group: &str, finding: &Code, probability: Option<f32>, level: Urgency) {
        let row = self.add("CE", &FINDING, group).parts(5, &coded(finding));
        let row = row.text(8, abnormal(level)).text(9, &probability.map(|p| format!("{p:.3}")).unwrap_or_default());
        self.rows.push(row);
    }

    fn number(&mut self, quantity: &[&str], group: &str, value: f64, unit: &str) {
        // UCUM's units are their own names.
        let row = self.add("NM", quantity, group).text(5, &value.to_string()).parts(6, &[unit, unit, "UCUM"]);
        self.rows.push(row);
    }
}

fn observations(told: &Told, made: &str) -> Vec<Row> {
    let mut all = Observations { told, made, rows: Vec::new() };
    let findings = &told.findings;
    all.uid(&["110180", "Study Instance UID", "DCM"], "", told.study_instance_uid());
    for (index, output) in (1..).zip(told.outputs.iter().filter(|output| output.sop_instance_uid.is_some())) {
        let group = format!("1.{index}");
        let text = |uid: &Option<String>| uid.clone().unwrap_or_default();
        all.uid(&["112002", "Series Instance UID", "DCM"], &group, &text(&output.series_instance_uid));
        all.uid(&["110181", "SOP Class UID", "DCM"], &group, &text(&output.sop_class_uid));
        all.uid(&["SOPInstanceUID", "SOP Instance UID", "L"], &group, &text(&output.sop_instance_uid));
    }
    let mut group = 1_usize;
    let mut next = || {
        group += 1;
        group.to_string()
    };
    for triage in &findings.triage {
        let group = next();
        all.finding(&group, &triage.finding, Some(triage.probability), triage.level);
        all.text(&COMMENT, &group, &triage.reason);
    }
    for classification in &findings.classifications {
        all.finding(&next(), &classification.finding, Some(classification.probability), Urgency::Routine);
    }
    for segment in &findings.segments {
        let group = next();
        all.finding(&group, &segment.kind, segment.confidence, Urgency::Routine);
        if let Some(number) = segment.number {
            all.uid(&["121191", "Referenced Segment", "DCM"], &group, &number.to_string());
        }
        all.number(&["118565006", "Volume", "SCT"], &group, segment.millilitres, "mL");
        for measurement in findings.measurements.iter().filter(|m| m.segment == Some(segment.value)) {
            all.number(&coded(&measurement.quantity), &group, measurement.value, &measurement.unit);
        }
    }
    let of_segments = |value| findings.segments.iter().any(|segment| Some(segment.value) == value);
    for measurement in findings.measurements.iter().filter(|m| !of_segments(m.segment)) {
        all.number(&coded(&measurement.quantity), &next(), measurement.value, &measurement.unit);
    }
    for mark in &findings.marks {
        let group = next();
        all.finding(&group, &mark.label, Some(mark.probability), Urgency::Routine);
        all.text(&COMMENT, &group, &mark.place());
    }
    if let Some(heatmap) = &findings.heatmap {
        all.text(&COMMENT, &next(), &format!("Heatmap: {}", heatmap.title));
    }
    if let Some(unfit) = &findings.unfit {
        let group = next();
        all.finding(&group, &unfit.reason, None, Urgency::Routine);
        all.text(&COMMENT, &group, &format!("The images were not fit for this algorithm: {}", unfit.detail));
    }
    all.text(&COMMENT, "", remark(told));
    all.rows
}

/// What a person must know who reads any of it.
pub(in crate::messages) fn remark(told: &Told) -> &'static str {
    match told.module.demonstration {
        true => "Made by an algorithm that is a demonstration, not for clinical use; no person has confirmed it.",
        false => "Made by an algorithm; no person has confirmed it.",
    }
}

/// Identifier, text and coding system of CWE.
fn coded(code: &Code) -> [&str; 3] {
    [&code.value, &code.meaning, &code.scheme]
}

/// Table 0078.
fn abnormal(level: Urgency) -> &'static str {
    match level {
        Urgency::Routine => "",
        Urgency::Prompt | Urgency::Urgent => "A",
        Urgency::Critical => "AA",
    }
}

/// Table 0485.
fn priority(level: Urgency) -> &'static [&'static str; 3] {
    match level {
        Urgency::Routine => &["R", "Routine", "HL70485"],
        Urgency::Prompt => &["A", "ASAP", "HL70485"],
        Urgency::Urgent | Urgency::Critical => &["S", "Stat", "HL70485"],
    }
}

/// A date and a time of DICOM as those of HL7.
fn stamp(date: &str, time: &str) -> Option<String> {
    Some(format!("{}{}", day(date)?.replace('-', ""), clock(time)?.replace(':', "")))
}
