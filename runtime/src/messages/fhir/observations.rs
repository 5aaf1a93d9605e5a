//! What a module stated, as Observations: segments with what was measured in them, numbers, findings, boxes, triage.

use serde_json::{Value, json};

use super::codes::{DCM, concept, known, probability, quantity, text};
use super::object;
use super::resources::{Entry, References};
use crate::findings::{Code, Measurement};
use crate::messages::told::Told;
use crate::outputs::OutputKind;
use crate::outputs::result::StatedSegment;

/// Each under an identifier that follows from what it is about, so that the same statement of a later run takes its place.
pub(super) fn all(told: &Told, refer: &References) -> Vec<Entry> {
    let findings = &told.findings;
    let mut made = Made { told, refer, entries: Vec::new(), counts: Vec::new() };
    for triage in &findings.triage {
        let level = json!({ "code": known("http://snomed.info/sct", "260870009", "Priority"), "valueString": triage.level.name() });
        let more = json!({ "component": [probability(triage.probability), level], "note": [{ "text": text(&triage.reason) }] });
        made.finding("triage", &triage.finding, more);
    }
    for classification in &findings.classifications {
        made.finding(
            "classification",
            &classification.finding,
            json!({ "component": [probability(classification.probability)] }),
        );
    }
    for segment in &findings.segments {
        let of_segment = made.segment(segment);
        for measurement in findings.measurements.iter().filter(|m| m.segment == Some(segment.value)) {
            made.measurement(measurement, Some((segment, &of_segment)));
        }
    }
    let has_segment = |value| findings.segments.iter().any(|segment| Some(segment.value) == value);
    for measurement in findings.measurements.iter().filter(|m| !has_segment(m.segment)) {
        made.measurement(measurement, None);
    }
    for mark in &findings.marks {
        let more = json!({ "component": [probability(mark.probability)], "note": [{ "text": mark.place() }] });
        made.finding("mark", &mark.label, more);
    }
    if let Some(heatmap) = &findings.heatmap {
        let fields = json!({
            "code": known(DCM, "121106", "Comment"),
            "valueString": format!("Heatmap: {}", text(&heatmap.title)),
        });
        made.add(&["heatmap"], fields, json!({}));
    }
    if let Some(unfit) = &findings.unfit {
        made.finding("unfit", &unfit.reason, json!({ "note": [{ "text": text(&unfit.detail) }] }));
    }
    made.entries
}

struct Made<'t> {
    told: &'t Told,
    refer: &'t References,
    entries: Vec<Entry>,
    /// How often each kind of statement about each code was made.
    counts: Vec<(String, u32)>,
}

impl Made<'_> {
    fn finding(&mut self, kind: &str, finding: &Code, more: Value) {
        let fields = json!({ "code": known(DCM, "121071", "Finding"), "valueCodeableConcept": concept(finding) });
        self.add(&[kind, &finding.scheme, &finding.value], fields, more);
    }

    /// Says where the Observation is found, for the measurements in it.
    fn segment(&mut self, segment: &StatedSegment) -> String {
        let volume = json!({
            "code": known("http://snomed.info/sct", "118565006", "Volume"),
            "valueQuantity": quantity(segment.millilitres, "mL"),
        });
        let components = [Some(volume), self.roi(segment), segment.confidence.map(probability)];
        let fields = json!({ "code": known(DCM, "121071", "Finding"), "valueCodeableConcept": concept(&segment.kind) });
        let more = json!({
            "component": components.into_iter().flatten().collect::<Vec<_>>(),
            "note": [{ "text": text(&segment.name) }],
            "derivedFrom": self.derived(),
        });
        // By value: two segments of one kind are two things.
        let value = segment.value.to_string();
        self.add(&["segment", &segment.kind.scheme, &segment.kind.value, &value], fields, more)
    }

    fn measurement(&mut self, measurement: &Measurement, of: Option<(&StatedSegment, &String)>) {
        let fields = json!({
            "code": concept(&measurement.quantity),
            "valueQuantity": quantity(measurement.value, &measurement.unit),
        });
        let more = match of {
            Some((segment, url)) => json!({
                "bodySite": concept(&segment.kind),
                "component": self.roi(segment).into_iter().collect::<Vec<_>>(),
                "derivedFrom": [{ "reference": url }],
            }),
            None => json!({ "derivedFrom": self.derived() }),
        };
        let segment = measurement.segment.map(|value| value.to_string()).unwrap_or_default();
        let code = &measurement.quantity;
        self.add(&["measurement", &code.scheme, &code.value, &segment], fields, more);
    }

    /// Where the region lies: the segmentation's SOP instance and the segment's number in it.
    fn roi(&self, segment: &StatedSegment) -> Option<Value> {
        let number = segment.number?;
        let seg = self.told.outputs.iter().find(|output| output.kind == OutputKind::Segmentation)?;
        let instance = seg.sop_instance_uid.as_ref()?;
        let code = known(DCM, "121191", "Referenced Segment");
        Some(json!({ "code": code, "valueString": format!("urn:oid:{instance}#{number}") }))
    }

    fn derived(&self) -> Value {
        json!(self.refer.imaging_study.iter().collect::<Vec<_>>())
    }

    fn add(&mut self, what: &[&str], fields: Value, more: Value) -> String {
        let name = what.join("\u{1F}");
        let place = match self.counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.counts.push((name, 1));
                1
            }
        };
        let place = place.to_string();
        let parts: Vec<&str> = what.iter().copied().chain([place.as_str()]).collect();
        let refer = self.refer;
        let mut resource = object(json!({
            "resourceType": "Observation",
            "identifier": [refer.identifier(self.told, "fhir-observation", &parts)],
            "basedOn": refer.based_on,
            "status": "preliminary",
            "category": [known("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging")],
            "code": fields["code"],
            "subject": refer.subject,
            "effectiveDateTime": refer.effective,
            "issued": refer.issued,
            "valueQuantity": fields["valueQuantity"],
            "valueCodeableConcept": fields["valueCodeableConcept"],
            "valueString": fields["valueString"],
            "bodySite": more["bodySite"],
            "note": more["note"],
            "device": { "reference": refer.device },
            "derivedFrom": more["derivedFrom"],
            "component": more["component"],
        }));
        // Of a finding without a region of its own, what it was found in.
        if let Value::Object(fields) = &mut resource
            && !fields.contains_key("derivedFrom")
            && let Some(study) = &refer.imaging_study
        {
            fields.insert("derivedFrom".into(), json!([study]));
        }
        let entry = Entry::update(self.told, "fhir-observation", &parts, resource);
        let url = entry.url();
        self.entries.push(entry);
        url
    }
}
