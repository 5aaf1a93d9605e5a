//! Copies of real images that a node takes: test material comes with its UIDs taken out, and with no count.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dicom_core::VR;
use dicom_dictionary_std::tags;
use gantry::config::Limits;
use gantry::study::{self, ReadOptions};

/// What was written.
#[derive(Debug)]
pub struct Completed {
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: String,
    /// How many series.
    pub series: usize,
    /// The copies, in the order of the study's instances.
    pub files: Vec<PathBuf>,
}

/// Writes copies of one study's files into a folder. UIDs that are empty become those that `gantry run` derives for the
/// same files, so that they are always the same; and each copy says how many instances there are, which lets the study
/// close on evidence. All else, the pixels too, stays as it was.
pub fn complete(study: &[PathBuf], to: &Path) -> Result<Completed> {
    let study = study::read(study, &ReadOptions::new(&Limits::default(), false))?;
    std::fs::create_dir_all(to).with_context(|| format!("{} cannot be made", to.display()))?;
    let all: usize = study.series.iter().map(|series| series.instances.len()).sum();
    let mut files = Vec::new();
    for series in &study.series {
        for instance in &series.instances {
            let mut object = dicom_object::open_file(&instance.path)?;
            let class = object.meta().media_storage_sop_class_uid.trim_end_matches('\0').to_owned();
            for (tag, vr, value) in [
                (tags::SOP_CLASS_UID, VR::UI, class),
                (tags::SOP_INSTANCE_UID, VR::UI, instance.sop_instance_uid.clone()),
                (tags::STUDY_INSTANCE_UID, VR::UI, study.uid.clone()),
                (tags::SERIES_INSTANCE_UID, VR::UI, series.uid.clone()),
                (tags::NUMBER_OF_STUDY_RELATED_SERIES, VR::IS, study.series.len().to_string()),
                (tags::NUMBER_OF_STUDY_RELATED_INSTANCES, VR::IS, all.to_string()),
                (tags::NUMBER_OF_SERIES_RELATED_INSTANCES, VR::IS, series.instances.len().to_string()),
            ] {
                object.put_str(tag, vr, value);
            }
            let file = to.join(format!("{:05}.dcm", files.len() + 1));
            object.write_to_file(&file).with_context(|| format!("{} cannot be written", file.display()))?;
            files.push(file);
        }
    }
    Ok(Completed { study_instance_uid: study.uid, series: study.series.len(), files })
}
