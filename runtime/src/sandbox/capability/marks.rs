//! `gantry:imaging/marks`: where the guest looked and where something lies, kept with its findings for the output gate.

use wasmtime::component::Resource;

use crate::findings::{Heatmap, Mark};
use crate::geometry::Region;
use crate::sandbox::bindings::gantry::imaging::{marks, types};
use crate::sandbox::state::{Failure, JobState};
use crate::volumes::Volume;

impl marks::Host for JobState {
    fn heatmap(&mut self, values: Resource<Volume>, title: String) -> Result<(), Failure> {
        self.admit(1, &[&title])?;
        if self.findings.heatmap.is_some() {
            return Err(Failure::Invalid("a job states at most one heatmap, and this is the second".into()));
        }
        let values = self.table.get(&values)?.clone();
        self.findings.heatmap = Some(Heatmap { values, title });
        Ok(())
    }

    fn mark(&mut self, place: types::Region, label: types::Code, probability: f32) -> Result<(), Failure> {
        self.admit(1, &[&label.value, &label.scheme, &label.meaning])?;
        self.findings.marks.push(Mark { region: Region::from(place), label: label.into(), probability });
        Ok(())
    }
}
