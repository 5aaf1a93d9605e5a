//! The study that a module is given.

use crate::error::Error;
use crate::sys;
use crate::types::Geometry;
use crate::volumes::Volume;

/// One study as the module may see it: read-only and pseudonymous. There is one a job.
#[derive(Debug)]
pub struct Study {
    series: Vec<Series>,
}

/// A series that the module's manifest accepts.
#[derive(Debug)]
pub struct Series(sys::study::Series);

impl Study {
    /// Asks the host for the series of this job.
    pub(crate) fn of_this_job() -> Self {
        Self { series: sys::study::accepted().into_iter().map(Series).collect() }
    }

    /// Series that the manifest accepts, in order of Series Number, then Series Time. Never empty.
    #[must_use]
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// The first series of a modality (0008,0060), such as `CT`; an error when there is none.
    pub fn first(&self, modality: &str) -> Result<&Series, Error> {
        let found = self.series.iter().find(|series| series.modality() == modality);
        found.ok_or_else(|| Error::new(format_args!("the study has no {modality} series that the manifest accepts")))
    }

    /// The same patient's earlier studies with a series that the manifest accepts, the latest first; none where there are
    /// none, where the archive could not give them in time, and under `gantry run` without `--prior`.
    ///
    /// A module that calls this imports `gantry:imaging/priors`: its manifest lists that under `needs.interfaces`, and the
    /// operator grants it, or the module does not start. Fails with `limit` (handles).
    pub fn earlier(&self) -> Result<Vec<Prior>, Error> {
        Ok(sys::priors::earlier()?.into_iter().map(Prior::new).collect())
    }
}

/// An earlier study of the same patient: see [`Study::earlier`].
#[derive(Debug)]
pub struct Prior {
    id: String,
    days_before: u32,
    series: Vec<Series>,
}

impl Prior {
    fn new(prior: sys::priors::Prior) -> Self {
        let series = prior.series.into_iter().map(Series).collect();
        Self { id: prior.id, days_before: prior.days_before, series }
    }

    /// A pseudonym: the same for the same study at the same site, meaningless elsewhere.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Days from its Study Date to that of the study that the module was given; 0 on the same day.
    #[must_use]
    pub fn days_before(&self) -> u32 {
        self.days_before
    }

    /// Its series that the manifest accepts, in order of Series Number, then Series Time. Never empty. A segmentation
    /// belongs to the study that the module was given: one on the grid of these is refused.
    #[must_use]
    pub fn series(&self) -> &[Series] {
        &self.series
    }
}

impl Series {
    /// A pseudonym: the same for the same series at the same site, meaningless elsewhere.
    #[must_use]
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// Modality (0008,0060): `CT`, `MR`, `DX`, …
    #[must_use]
    pub fn modality(&self) -> String {
        self.0.modality()
    }

    /// The value of an attribute of the first instance by keyword (PS3.6), several values joined with `\`; `None`
    /// when it is absent or empty. Fails with `denied` unless the manifest asks for the attribute and the operator
    /// granted it.
    pub fn attribute(&self, keyword: &str) -> Result<Option<String>, Error> {
        Ok(self.0.attribute(keyword)?)
    }

    /// The value of an attribute of the first slice of one volume, counted from 0, such as `EchoTime` or
    /// `DiffusionBValue`: what tells it from the other volumes of its series. Fails as [`attribute`](Self::attribute)
    /// does, and with `invalid` when there is no such volume.
    pub fn volume_attribute(&self, index: u32, keyword: &str) -> Result<Option<String>, Error> {
        Ok(self.0.volume_attribute(index, keyword)?)
    }

    /// Number of volumes, at least 1: more for echoes, b-values or time points.
    #[must_use]
    pub fn volumes(&self) -> u32 {
        self.0.volumes()
    }

    /// The grid of one volume, counted from 0, without decoding it. Fails with `invalid` when there is no such volume.
    pub fn geometry(&self, index: u32) -> Result<Geometry, Error> {
        Ok(self.0.geometry(index)?)
    }

    /// The voxels of one volume, counted from 0: Hounsfield units for CT, the stored quantity otherwise. They stay on
    /// the host.
    ///
    /// Fails with `invalid` (no such volume), `unavailable` (cannot be decoded) or `limit` (host memory).
    pub fn volume(&self, index: u32) -> Result<Volume, Error> {
        Ok(Volume(self.0.volume(index)?))
    }

    /// Of a PET, what the voxels of its volumes are multiplied by ([`Volume::affine`]) to become standardized uptake values
    /// by body weight, g/mL.
    ///
    /// Fails with `denied` unless the manifest asks for `PatientWeight` and the operator granted it, and with `unavailable`
    /// where it cannot be computed.
    pub fn suv_factor(&self) -> Result<f64, Error> {
        Ok(self.0.suv_factor()?)
    }
}
