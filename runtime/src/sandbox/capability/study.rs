//! `gantry:imaging/study`: the input, read-only and pseudonymous; series of earlier studies are looked at the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::component::Resource;

use crate::geometry::Geometry;
use crate::memory::{Budget, Charge};
use crate::sandbox::Prior;
use crate::sandbox::bindings::gantry::imaging::{study, types};
use crate::sandbox::grants::Grants;
use crate::sandbox::state::{Failure, JobState};
use crate::study::{ReadError, ReadOptions, Said, Series, Study, VolumeHeader};
use crate::volumes::{StudyVolume, Volume};

/// What attributes of volumes say is kept for the next question up to this; more is read again.
const ATTRIBUTES_KEPT_MAX_BYTES: usize = 1 << 20;
/// The last header that was read for that is kept up to this, since many volumes may be frames of one file.
const HEADER_KEPT_MAX_BYTES: u64 = 64 << 20;

/// A guest's handle of a series: its place among the accepted ones of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesHandle {
    /// Which earlier study, from 0 for the latest; none for the one that the job is about.
    pub(super) prior: Option<usize>,
    /// Which of its accepted series.
    pub(super) place: usize,
}

/// What of a study, and of earlier ones, one module may see.
pub(crate) struct StudyView {
    study: Arc<Study>,
    accepted: Vec<usize>,
    pub(super) priors: Vec<Prior>,
    /// Whether the module asked for earlier studies.
    pub(super) asked_for_priors: bool,
    attributes: BTreeSet<String>,
    /// Those of them that the guest asked for.
    attributes_read: BTreeSet<String>,
    pseudonym_key: [u8; 32],
    read: ReadOptions,
    budget: Budget,
    decoded: BTreeMap<(SeriesHandle, u32), Volume>,
    /// What was granted of each volume that was asked about.
    of_volumes: BTreeMap<(SeriesHandle, u32), Said>,
    /// Of the last file that was read for that, where there is room for it.
    header: Option<(VolumeHeader, Charge)>,
    digests: BTreeMap<String, [u8; 32]>,
    decoding: Duration,
    /// What of earlier studies could not be given.
    warnings: Vec<String>,
    /// Why a volume could not be given, if one could not.
    pub(in crate::sandbox) failed: Option<ReadError>,
}

/// What the record of a job says about its input.
#[derive(Debug, Clone, Default)]
pub struct InputRecord {
    /// SHA-256 of each file that was decoded, by SOP Instance UID.
    pub digests: BTreeMap<String, [u8; 32]>,
    /// What the guest knows each accepted series as, by Series Instance UID; and each earlier study that it was told of, by
    /// Study Instance UID.
    pub pseudonyms: BTreeMap<String, String>,
    /// The earlier studies that the module was told of: none when it did not ask.
    pub priors: Vec<Prior>,
    /// What of them could not be decoded; no patient data.
    pub warnings: Vec<String>,
    /// Time spent reading and decoding pixels.
    pub decoding: Duration,
    /// Attributes of those granted that the module asked for, by keyword.
    pub attributes_read: BTreeSet<String>,
    /// Volumes of the study itself that it was given: index into [`Study::series`], and which volume of it. Each is there once.
    pub volumes_read: Vec<StudyVolume>,
}

impl StudyView {
    pub(crate) fn new(
        study: Arc<Study>,
        accepted: Vec<usize>,
        priors: Vec<Prior>,
        grants: &Grants,
        pseudonym_key: [u8; 32],
        read: ReadOptions,
        budget: Budget,
    ) -> Self {
        Self {
            study,
            accepted,
            priors,
            asked_for_priors: false,
            attributes: grants.attributes.clone(),
            attributes_read: BTreeSet::new(),
            pseudonym_key,
            read,
            budget,
            decoded: BTreeMap::new(),
            of_volumes: BTreeMap::new(),
            header: None,
            digests: BTreeMap::new(),
            decoding: Duration::ZERO,
            warnings: Vec::new(),
            failed: None,
        }
    }

    pub(crate) fn record(self) -> InputRecord {
        let priors: &[Prior] = if self.asked_for_priors { &self.priors } else { &[] };
        let earlier = priors.iter().flat_map(|prior| {
            std::iter::once(&prior.study.uid).chain(prior.accepted.iter().map(|&index| &prior.study.series[index].uid))
        });
        let uids = self.accepted.iter().map(|&index| &self.study.series[index].uid).chain(earlier);
        let pseudonyms = uids.map(|uid| (uid.clone(), self.pseudonym(uid))).collect();
        let priors = priors.to_vec();
        let volumes_read = self.decoded.keys().filter_map(|(handle, index)| self.source(*handle, *index)).collect();
        let Self { digests, warnings, decoding, attributes_read, .. } = self;
        InputRecord { digests, pseudonyms, priors, warnings, decoding, attributes_read, volumes_read }
    }

    fn series(&self, handle: SeriesHandle) -> &Series {
        match handle.prior {
            None => &self.study.series[self.accepted[handle.place]],
            Some(prior) => {
                let Prior { study, accepted, .. } = &self.priors[prior];
                &study.series[accepted[handle.place]]
            }
        }
    }

    /// What a volume of the study itself is known as; one of an earlier study is none that findings could refer to.
    fn source(&self, handle: SeriesHandle, index: u32) -> Option<StudyVolume> {
        handle.prior.is_none().then(|| (self.accepted[handle.place], index as usize))
    }

    /// A keyed hash of the UID: the same at this site, meaningless elsewhere.
    pub(super) fn pseudonym(&self, uid: &str) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(&self.pseudonym_key).expect("HMAC takes a key of any length");
        let tag = mac.chain_update(uid.as_bytes()).finalize().into_bytes();
        crate::hex(&tag[..16])
    }

    fn geometry(&self, handle: SeriesHandle, index: u32) -> Result<&Geometry, Failure> {
        let volumes = &self.series(handle).volumes;
        volumes.get(index as usize).map(|v| &v.geometry).ok_or_else(|| no_volume(index, volumes.len()))
    }

    /// What only the granted may ask.
    fn granted(&self, keyword: &str) -> Result<(), Failure> {
        if self.attributes.contains(keyword) {
            return Ok(());
        }
        let shown: String = keyword.chars().take(64).collect();
        Err(Failure::Denied(format!(
            "the attribute `{shown}` was not granted: the manifest must list it under needs.attributes and the \
             operator must allow it (--grant attribute:{shown})"
        )))
    }

    fn volume_attribute(&mut self, handle: SeriesHandle, index: u32, keyword: &str) -> Result<Option<String>, Failure> {
        self.granted(keyword)?;
        self.geometry(handle, index)?;
        if !self.of_volumes.contains_key(&(handle, index)) {
            match self.said(handle, index as usize) {
                Ok(found) => {
                    let held = self.of_volumes.values().flat_map(BTreeMap::values).map(String::len).sum::<usize>();
                    if held > ATTRIBUTES_KEPT_MAX_BYTES {
                        self.of_volumes.clear();
                    }
                    let found =
                        found.into_iter().filter_map(|(volume, said)| Some((u32::try_from(volume).ok()?, said)));
                    self.of_volumes.extend(found.map(|(volume, said)| ((handle, volume), said)));
                }
                Err(error) => return Err(self.remember(handle, error)),
            }
        }
        Ok(self.of_volumes.get(&(handle, index)).and_then(|said| said.get(keyword).cloned()))
    }

    /// What was granted of a volume, and of others in its file, by the header that is kept, or by that of its file.
    fn said(&mut self, handle: SeriesHandle, index: usize) -> Result<Vec<(usize, Said)>, ReadError> {
        let kept = self.header.take().filter(|(header, _)| self.series(handle).is_header_of(index, header));
        let (header, charge) = match kept {
            Some((header, charge)) => (header, Some(charge)),
            None => {
                let header = self.series(handle).volume_header(index, &self.read)?;
                let bytes = Some(header.bytes()).filter(|bytes| *bytes <= HEADER_KEPT_MAX_BYTES);
                let charge = bytes.and_then(|bytes| self.budget.charge(bytes).ok());
                (header, charge)
            }
        };
        let said = self.series(handle).volume_attributes(index, &self.attributes, &header);
        self.header = charge.map(|charge| (header, charge));
        Ok(said)
    }

    fn volume(&mut self, handle: SeriesHandle, index: u32) -> Result<Volume, Failure> {
        if let Some(volume) = self.decoded.get(&(handle, index)) {
            return Ok(volume.clone());
        }
        self.geometry(handle, index)?;
        let started = Instant::now();
        let series = self.series(handle);
        let decoded = match series.decode(index as usize, &self.budget, &self.read) {
            Ok(decoded) => decoded,
            Err(error) => return Err(self.remember(handle, error)),
        };
        let slices = series.volumes[index as usize].slices.iter();
        let names = slices.map(|slice| series.instances[*slice].sop_instance_uid.clone());
        let digests: Vec<_> = names.zip(decoded.digests).collect();
        self.digests.extend(digests);
        self.decoding += started.elapsed();
        let volume = match self.source(handle, index) {
            Some(source) => decoded.volume.with_source(source),
            None => decoded.volume,
        };
        self.decoded.insert((handle, index), volume.clone());
        Ok(volume)
    }
}

impl StudyView {
    /// Keeps the reason for the operator. It names files and UIDs, so the guest gets only its kind. The job fails with one of
    /// its own study; without an earlier one it may go on.
    fn remember(&mut self, handle: SeriesHandle, error: ReadError) -> Failure {
        let for_guest = match &error {
            ReadError::OverBudget(e) => e.clone().into(),
            e if e.is_limit() => Failure::Limit("volume_max_mib", "the volume passes a limit of the site".into()),
            _ => Failure::Unavailable("the volume cannot be decoded; the operator's error says why".into()),
        };
        if handle.prior.is_none() {
            self.failed.get_or_insert(error);
        } else {
            let why = error.for_record(&|_| "one of its files".into()).to_string();
            self.warnings.push(format!("an earlier study could not be decoded: {why}"));
        }
        for_guest
    }
}

fn no_volume(index: u32, have: usize) -> Failure {
    Failure::Invalid(format!("there is no volume {index}: the series has {have}"))
}

impl study::Host for JobState {
    fn accepted(&mut self) -> wasmtime::Result<Vec<Resource<SeriesHandle>>> {
        let places = 0..self.study.accepted.len();
        let handles = places.map(|place| self.table.push(SeriesHandle { prior: None, place }));
        match handles.collect::<Result<Vec<_>, _>>() {
            Ok(handles) => Ok(handles),
            Err(_) => {
                Err(self.limit_trap("handles_max", "the guest holds as many handles as handles_max allows".into()))
            }
        }
    }
}

impl study::HostSeries for JobState {
    fn id(&mut self, this: Resource<SeriesHandle>) -> wasmtime::Result<String> {
        let handle = *self.table.get(&this)?;
        Ok(self.study.pseudonym(&self.study.series(handle).uid))
    }

    fn modality(&mut self, this: Resource<SeriesHandle>) -> wasmtime::Result<String> {
        let handle = *self.table.get(&this)?;
        Ok(self.study.series(handle).modality.clone())
    }

    fn attribute(&mut self, this: Resource<SeriesHandle>, keyword: String) -> Result<Option<String>, Failure> {
        let handle = *self.table.get(&this)?;
        self.study.granted(&keyword)?;
        let value = self.study.series(handle).attribute(&keyword);
        self.study.attributes_read.insert(keyword);
        Ok(value)
    }

    fn volume_attribute(
        &mut self,
        this: Resource<SeriesHandle>,
        index: u32,
        keyword: String,
    ) -> Result<Option<String>, Failure> {
        let handle = *self.table.get(&this)?;
        let value = self.study.volume_attribute(handle, index, &keyword)?;
        self.study.attributes_read.insert(keyword);
        Ok(value)
    }

    fn volumes(&mut self, this: Resource<SeriesHandle>) -> wasmtime::Result<u32> {
        let handle = *self.table.get(&this)?;
        Ok(u32::try_from(self.study.series(handle).volumes.len()).unwrap_or(u32::MAX))
    }

    fn geometry(&mut self, this: Resource<SeriesHandle>, index: u32) -> Result<types::Geometry, Failure> {
        let handle = *self.table.get(&this)?;
        Ok(self.study.geometry(handle, index)?.into())
    }

    fn volume(&mut self, this: Resource<SeriesHandle>, index: u32) -> Result<Resource<Volume>, Failure> {
        let handle = *self.table.get(&this)?;
        let volume = self.study.volume(handle, index)?;
        self.push(volume)
    }

    fn suv_factor(&mut self, this: Resource<SeriesHandle>) -> Result<f64, Failure> {
        let handle = *self.table.get(&this)?;
        if !self.study.attributes.contains("PatientWeight") {
            return Err(Failure::Denied(
                "the factor follows from PatientWeight, which was not granted: the manifest must list it under \
                 needs.attributes and the operator must allow it (--grant attribute:PatientWeight)"
                    .into(),
            ));
        }
        self.study.attributes_read.insert("PatientWeight".into());
        let factor = self.study.series(handle).suv_factor();
        factor.map_err(|why| Failure::Unavailable(format!("there is no SUV: {why}")))
    }

    fn drop(&mut self, this: Resource<SeriesHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::tests::two_echoes;

    #[test]
    fn a_header_is_kept_for_other_volumes_of_its_file_where_there_is_room() {
        for (mib, again) in [(64, true), (0, false)] {
            let (folder, study) = two_echoes();
            let grants = Grants { attributes: BTreeSet::from(["EchoTime".to_owned()]), ..Grants::default() };
            let (read, budget) = (ReadOptions::default(), Budget::mib(mib));
            let mut view = StudyView::new(Arc::new(study), vec![0], Vec::new(), &grants, [0; 32], read, budget.clone());
            let series = SeriesHandle { prior: None, place: 0 };
            let said = view.volume_attribute(series, 0, "EchoTime").expect("its file is there");
            assert_eq!(said.as_deref(), Some("4.6"));
            assert_eq!(budget.used() > 0, again, "what is kept is charged");
            // As when there was more than is kept of what volumes say, and nothing to read any more.
            view.of_volumes.clear();
            drop(folder);
            let said = view.volume_attribute(series, 1, "EchoTime");
            assert_eq!(said.ok().flatten().as_deref(), again.then_some("9.2"));
        }
    }
}
