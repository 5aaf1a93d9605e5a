//! `gantry:imaging/priors`: the patient's earlier studies, as far as they were there when the job began.

use wasmtime::component::Resource;

use super::study::SeriesHandle;
use crate::sandbox::bindings::gantry::imaging::priors;
use crate::sandbox::state::{Failure, JobState};

impl priors::Host for JobState {
    fn earlier(&mut self) -> Result<Vec<priors::Prior>, Failure> {
        self.study.asked_for_priors = true;
        let mut earlier = Vec::with_capacity(self.study.priors.len());
        for index in 0..self.study.priors.len() {
            let prior = &self.study.priors[index];
            let (id, days_before) = (self.study.pseudonym(&prior.study.uid), prior.days_before);
            let places = 0..prior.accepted.len();
            let handles = places.map(|place| self.table.push(SeriesHandle { prior: Some(index), place }));
            let series = handles.collect::<Result<Vec<Resource<SeriesHandle>>, _>>()?;
            earlier.push(priors::Prior { id, days_before, series });
        }
        Ok(earlier)
    }
}
