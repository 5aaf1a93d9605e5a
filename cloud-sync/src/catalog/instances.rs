//! Study, series and instance rows, from the headers of released instances.

use std::collections::{BTreeMap, BTreeSet};

use dicom_dictionary_std::tags;

use super::rows::{Cell, Row, Rows};
use super::tables::Table;
use crate::batch::{Digest, Kind};
use crate::deid::Header;

/// Rows in the making. Series and studies are in the order in which they came.
pub(super) struct Instances {
    profile: String,
    studies: Vec<Study>,
    series: Vec<Series>,
    /// By UIDs, as `series` is: a study has thousands of instances.
    places: BTreeMap<(Option<String>, Option<String>, &'static str), usize>,
    instances: Vec<Row>,
}

struct Study {
    uid: Option<String>,
    row: Row,
    modalities: BTreeSet<String>,
    body_parts: BTreeSet<String>,
    series: BTreeSet<Option<String>>,
    instances: i64,
    bytes: u64,
}

struct Series {
    row: Row,
    instances: i64,
    bytes: u64,
}

impl Instances {
    pub(super) fn new(profile: &str) -> Self {
        Self {
            profile: profile.to_owned(),
            studies: Vec::new(),
            series: Vec::new(),
            places: BTreeMap::new(),
            instances: Vec::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.instances.len() + self.series.len() + self.studies.len()
    }

    pub(super) fn add(&mut self, kind: Kind, module: Option<Digest>, sha256: Digest, content: &[u8]) {
        let kind = if kind == Kind::Instance { "acquired" } else { "derived" };
        let bytes = content.len() as u64;
        let row = Header::read(content, |header| {
            let uid = |tag| header.text(tag);
            let (study, series) = (uid(tags::STUDY_INSTANCE_UID), uid(tags::SERIES_INSTANCE_UID));
            if kind == "acquired" {
                self.study(study.clone(), series.clone(), header, bytes);
            }
            self.series(study, series, kind, header, bytes);
            instance(header)
        });
        // What cannot be read is there all the same, by its digest.
        let mut row = row.unwrap_or_else(|| Row::of(Table::Instance));
        for (column, value) in [
            ("kind", kind.into()),
            ("module_sha256", module.into()),
            ("object_sha256", sha256.into()),
            ("bytes", Cell::from(bytes)),
        ] {
            row.set(Table::Instance, column, value);
        }
        self.instances.push(row);
    }

    fn study(&mut self, uid: Option<String>, series: Option<String>, header: &Header<'_>, bytes: u64) {
        const HERE: Table = Table::Study;
        let place = self.studies.iter().position(|study| study.uid == uid).unwrap_or_else(|| {
            let mut row = Row::of(HERE);
            row.set(HERE, "profile", self.profile.as_str());
            row.set(HERE, "study_instance_uid", uid.as_deref());
            let (modalities, body_parts, series) = Default::default();
            self.studies.push(Study { uid, row, modalities, body_parts, series, instances: 0, bytes: 0 });
            self.studies.len() - 1
        });
        let study = &mut self.studies[place];
        for (column, tag) in [
            ("patient", tags::PATIENT_ID),
            ("study_description", tags::STUDY_DESCRIPTION),
            ("patient_sex", tags::PATIENT_SEX),
            ("manufacturer", tags::MANUFACTURER),
        ] {
            study.row.fill(HERE, column, || header.text(tag).as_deref().into());
        }
        study.row.fill(HERE, "study_date", || header.date(tags::STUDY_DATE).as_deref().into());
        study.row.fill(HERE, "patient_age_years", || header.years(tags::PATIENT_AGE).into());
        study.row.fill(HERE, "patient_size_m", || header.number(tags::PATIENT_SIZE).into());
        study.row.fill(HERE, "patient_weight_kg", || header.number(tags::PATIENT_WEIGHT).into());
        study.modalities.extend(header.text(tags::MODALITY));
        study.body_parts.extend(header.text(tags::BODY_PART_EXAMINED));
        study.series.insert(series);
        study.instances += 1;
        study.bytes += bytes;
    }

    fn series(
        &mut self,
        study: Option<String>,
        uid: Option<String>,
        kind: &'static str,
        header: &Header<'_>,
        bytes: u64,
    ) {
        const HERE: Table = Table::Series;
        let (all, key) = (&mut self.series, (study, uid, kind));
        let place = match self.places.get(&key) {
            Some(&place) => place,
            None => {
                let mut row = Row::of(HERE);
                row.set(HERE, "study_instance_uid", key.0.as_deref());
                row.set(HERE, "series_instance_uid", key.1.as_deref());
                row.set(HERE, "kind", kind);
                all.push(Series { row, instances: 0, bytes: 0 });
                self.places.insert(key, all.len() - 1);
                all.len() - 1
            }
        };
        let series = &mut all[place];
        for (column, tag) in [
            ("modality", tags::MODALITY),
            ("series_description", tags::SERIES_DESCRIPTION),
            ("protocol_name", tags::PROTOCOL_NAME),
            ("body_part", tags::BODY_PART_EXAMINED),
            ("laterality", tags::LATERALITY),
            ("manufacturer", tags::MANUFACTURER),
            ("manufacturer_model", tags::MANUFACTURER_MODEL_NAME),
            ("convolution_kernel", tags::CONVOLUTION_KERNEL),
        ] {
            series.row.fill(HERE, column, || header.text(tag).as_deref().into());
        }
        for (column, tag) in [
            ("kvp_kv", tags::KVP),
            ("magnetic_field_strength_t", tags::MAGNETIC_FIELD_STRENGTH),
            ("slice_thickness_mm", tags::SLICE_THICKNESS),
        ] {
            series.row.fill(HERE, column, || header.number(tag).into());
        }
        series.row.fill(HERE, "series_number", || header.whole(tags::SERIES_NUMBER).into());
        series.row.fill(HERE, "series_date", || header.date(tags::SERIES_DATE).as_deref().into());
        series.row.fill(HERE, "row_spacing_mm", || header.nth(tags::PIXEL_SPACING, 0).into());
        series.row.fill(HERE, "column_spacing_mm", || header.nth(tags::PIXEL_SPACING, 1).into());
        series.instances += 1;
        series.bytes += bytes;
    }

    pub(super) fn finish(self, rows: &mut Rows) {
        rows.instance = self.instances;
        rows.series.extend(self.series.into_iter().map(|mut series| {
            series.row.set(Table::Series, "instances", series.instances);
            series.row.set(Table::Series, "bytes", series.bytes);
            series.row
        }));
        rows.study.extend(self.studies.into_iter().map(|mut study| {
            let joined = |all: BTreeSet<String>| all.into_iter().collect::<Vec<_>>().join("\\");
            study.row.set(Table::Study, "modalities", joined(study.modalities).as_str());
            study.row.set(Table::Study, "body_parts", joined(study.body_parts).as_str());
            study.row.set(Table::Study, "series", study.series.len() as u64);
            study.row.set(Table::Study, "instances", study.instances);
            study.row.set(Table::Study, "bytes", study.bytes);
            study.row
        }));
    }
}

fn instance(header: &Header<'_>) -> Row {
    const HERE: Table = Table::Instance;
    let mut row = Row::of(HERE);
    for (column, tag) in [
        ("study_instance_uid", tags::STUDY_INSTANCE_UID),
        ("series_instance_uid", tags::SERIES_INSTANCE_UID),
        ("sop_instance_uid", tags::SOP_INSTANCE_UID),
        ("sop_class_uid", tags::SOP_CLASS_UID),
        ("transfer_syntax_uid", tags::TRANSFER_SYNTAX_UID),
        ("photometric_interpretation", tags::PHOTOMETRIC_INTERPRETATION),
        ("burned_in_annotation", tags::BURNED_IN_ANNOTATION),
        ("recognizable_visual_features", tags::RECOGNIZABLE_VISUAL_FEATURES),
    ] {
        row.set(HERE, column, header.text(tag).as_deref());
    }
    for (column, tag) in [
        ("instance_number", tags::INSTANCE_NUMBER),
        ("rows", tags::ROWS),
        ("columns", tags::COLUMNS),
        ("frames", tags::NUMBER_OF_FRAMES),
        ("bits_stored", tags::BITS_STORED),
    ] {
        row.set(HERE, column, header.whole(tag));
    }
    for (column, place) in [("position_x_mm", 0), ("position_y_mm", 1), ("position_z_mm", 2)] {
        row.set(HERE, column, header.nth(tags::IMAGE_POSITION_PATIENT, place));
    }
    row
}
