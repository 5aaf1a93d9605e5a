//! The study that is measured: a real CT, repeated until it is as long as one of the whole trunk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, OpenFileOptions};
use gantry::memory::Budget;
use gantry::study::{ReadOptions, Series};
use gantry_tests::repository;

/// What stored values are offset by: HU -1024 is 0.
const INTERCEPT: f32 = -1024.0;

/// The study of `slices` slices under `folder`, made where it is missing.
///
/// The headers are those of the real slices; positions and UIDs are new, and pixel data are not compressed.
pub(crate) fn repeated(folder: &Path, slices: usize) -> Result<PathBuf> {
    let study = folder.join(format!("ct-{slices}"));
    if study.is_dir() {
        return Ok(study);
    }
    let assets = std::env::var_os("GANTRY_ASSETS").map_or_else(|| repository().join(".cache/assets"), PathBuf::from);
    let real = assets.join("totalsegmentator/example_ct_dicom");
    ensure!(real.is_dir(), "{} is missing: run `cargo xtask assets`", real.display());
    eprintln!("making a CT of {slices} slices in {}", study.display());
    std::fs::create_dir_all(folder)?;
    // It is there whole or not at all.
    let partial = tempfile::Builder::new().prefix(".ct-").tempdir_in(folder)?;
    write(&real, partial.path(), slices)?;
    std::fs::rename(partial.path(), &study)?;
    let _ = partial.keep();
    Ok(study)
}

fn write(real: &Path, folder: &Path, slices: usize) -> Result<()> {
    let options = ReadOptions::default();
    let study = gantry::study::read(&[real.to_path_buf()], &options)?;
    let series = study.series.iter().find(|s| s.modality == "CT").context("the sample has no CT series")?;
    let volume = series.decode(0, &Budget::unlimited(), &options)?.volume;
    let grid = volume.geometry().clone();
    let [columns, rows, depth] = grid.size();
    let mut values = vec![0.0; columns * rows];
    for i in 0..slices {
        volume.slice(i % depth, &mut values)?;
        let stored: Vec<u16> = values.iter().map(|hu| (hu - INTERCEPT).clamp(0.0, 4095.0) as u16).collect();
        let position = grid.to_patient([0.0, 0.0, i as f64]);
        slice(series, i, depth, position, stored, &folder.join(format!("{i:04}.dcm")))?;
    }
    Ok(())
}

fn slice(series: &Series, i: usize, depth: usize, position: [f64; 3], stored: Vec<u16>, to: &Path) -> Result<()> {
    let layout = series.volumes.first().context("the sample is no volume")?;
    let instance = &series.instances[layout.slices[i % depth]];
    let mut object = OpenFileOptions::new().read_until(tags::PIXEL_DATA).open_file(&instance.path)?.into_inner();
    let sop = format!("2.25.7{i:06}");
    let position = position.map(|p| format!("{p}")).join("\\");
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE.to_owned()),
        (tags::SOP_INSTANCE_UID, VR::UI, sop),
        (tags::STUDY_INSTANCE_UID, VR::UI, "2.25.71".into()),
        (tags::SERIES_INSTANCE_UID, VR::UI, "2.25.72".into()),
        (tags::INSTANCE_NUMBER, VR::IS, format!("{}", i + 1)),
        (tags::IMAGE_POSITION_PATIENT, VR::DS, position),
        (tags::RESCALE_INTERCEPT, VR::DS, format!("{INTERCEPT}")),
        (tags::RESCALE_SLOPE, VR::DS, "1".into()),
    ] {
        object.put_str(tag, vr, value);
    }
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(stored.into())));
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    object.with_meta(meta)?.write_to_file(to)?;
    Ok(())
}
