//! `gantry:imaging/findings`: what the guest concludes, kept until the output gate judges all of it.

use wasmtime::component::Resource;

use crate::findings::{
    Classification, Code, Measurement, Probabilities, Segment, Segmentation, Triage, Unfit, Urgency,
};
use crate::sandbox::bindings::gantry::imaging::{findings, types};
use crate::sandbox::state::{Failure, JobState};
use crate::volumes::Volume;

/// Bytes of text that one finding may carry; what each field may hold is the gate's business.
const TEXT_MAX: usize = 4096;

impl JobState {
    /// Counts `more` findings against `findings_max`.
    pub(super) fn admit(&self, more: usize, texts: &[&str]) -> Result<(), Failure> {
        let max = self.limits.findings_max;
        if self.findings.count().saturating_add(more) > max {
            return Err(Failure::Limit(
                "findings_max",
                format!("the guest states more findings than findings_max = {max}"),
            ));
        }
        if texts.iter().any(|text| text.len() > TEXT_MAX) {
            return Err(Failure::Invalid(format!("a finding carries a text of more than {TEXT_MAX} bytes")));
        }
        Ok(())
    }
}

impl findings::Host for JobState {
    fn triage(
        &mut self,
        level: findings::Urgency,
        finding: types::Code,
        probability: f32,
        reason: String,
    ) -> Result<(), Failure> {
        self.admit(1, &[&finding.value, &finding.scheme, &finding.meaning, &reason])?;
        let level = match level {
            findings::Urgency::Routine => Urgency::Routine,
            findings::Urgency::Prompt => Urgency::Prompt,
            findings::Urgency::Urgent => Urgency::Urgent,
            findings::Urgency::Critical => Urgency::Critical,
        };
        self.findings.triage.push(Triage { level, finding: finding.into(), probability, reason });
        Ok(())
    }

    fn classify(&mut self, finding: types::Code, probability: f32) -> Result<(), Failure> {
        self.admit(1, &[&finding.value, &finding.scheme, &finding.meaning])?;
        self.findings.classifications.push(Classification { finding: finding.into(), probability });
        Ok(())
    }

    fn measure(
        &mut self,
        quantity: types::Code,
        value: f64,
        unit: String,
        segment: Option<u32>,
    ) -> Result<(), Failure> {
        self.admit(1, &[&quantity.value, &quantity.scheme, &quantity.meaning, &unit])?;
        self.findings.measurements.push(Measurement { quantity: quantity.into(), value, unit, segment });
        Ok(())
    }

    fn segmentation(&mut self, labels: Resource<Volume>, segments: Vec<findings::Segment>) -> Result<(), Failure> {
        self.admit(segments.len(), &[])?;
        for s in &segments {
            let texts = [
                &s.name,
                &s.category.value,
                &s.category.scheme,
                &s.category.meaning,
                &s.kind.value,
                &s.kind.scheme,
                &s.kind.meaning,
            ];
            self.admit(0, &texts.map(String::as_str))?;
        }
        if self.findings.segmentation.is_some() {
            return Err(Failure::Invalid("a job states at most one segmentation, and this is the second".into()));
        }
        let labels = self.table.get(&labels)?.clone();
        let segments = segments
            .into_iter()
            .map(|s| Segment {
                value: s.value,
                name: s.name,
                category: s.category.into(),
                kind: s.kind.into(),
                confidence: s.confidence,
            })
            .collect();
        self.findings.segmentation = Some(Segmentation { labels, segments });
        Ok(())
    }

    fn probabilities(&mut self, segment: u32, values: Resource<Volume>) -> Result<(), Failure> {
        self.admit(1, &[])?;
        if self.findings.probabilities.iter().any(|earlier| earlier.segment == segment) {
            let text = format!("probabilities of segment {segment} were stated before; state those of a segment once");
            return Err(Failure::Invalid(text));
        }
        let values = self.table.get(&values)?.clone();
        self.findings.probabilities.push(Probabilities { segment, values });
        Ok(())
    }

    fn unfit(&mut self, reason: types::Code, detail: String) -> Result<(), Failure> {
        self.admit(1, &[&reason.value, &reason.scheme, &reason.meaning, &detail])?;
        self.findings.unfit = Some(Unfit { reason: reason.into(), detail });
        Ok(())
    }
}

impl From<types::Code> for Code {
    fn from(code: types::Code) -> Self {
        Self { value: code.value, scheme: code.scheme, meaning: code.meaning }
    }
}
