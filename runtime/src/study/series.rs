//! Images become series, and series volumes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::header::{self, Object};
use super::stack::{self, Slice};
use super::{Instance, ReadError, ReadOptions, Series, VolumeLayout};

/// The images among `objects`. What else there is (SR, SEG, presentation states, …) is left out with a warning.
pub(super) fn images(objects: Vec<Object>, warnings: &mut Vec<String>) -> Result<Vec<Object>, ReadError> {
    let count = objects.len();
    let (images, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(|o| o.slice.is_some());
    let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
    for object in &others {
        let name = if object.modality.is_empty() { "unknown" } else { &object.modality };
        *left_out.entry(name).or_default() += 1;
    }
    for (name, files) in left_out {
        warnings.push(format!("{files} DICOM objects that are no images were left out (modality {name})"));
    }
    if images.is_empty() { Err(ReadError::NoImages { objects: count }) } else { Ok(images) }
}

/// All series of the study, in order of acquisition. At least one gives a volume.
pub(super) fn assemble(
    images: Vec<Object>,
    options: &ReadOptions,
    warnings: &mut Vec<String>,
) -> Result<Vec<Series>, ReadError> {
    let mut groups: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    for image in images {
        groups.entry(image.series.clone()).or_default().push(image);
    }
    let mut groups: Vec<Vec<Object>> = groups.into_values().collect();
    // Stable, and the map was in order of UID.
    groups.sort_by(|a, b| acquired(a).0.total_cmp(&acquired(b).0).then_with(|| acquired(a).1.cmp(acquired(b).1)));
    let mut series = Vec::with_capacity(groups.len());
    for group in groups {
        series.push(one(group, options, warnings)?);
    }
    let refused = |s: &Series| {
        let reason = s.refused.clone()?;
        Some(ReadError::Series { uid: s.uid.clone(), reason })
    };
    let reasons: Vec<ReadError> = series.iter().filter_map(refused).collect();
    if reasons.len() == series.len() {
        let mut reasons = reasons;
        return Err(match (reasons.pop(), reasons.is_empty()) {
            (Some(only), true) => only,
            (last, _) => ReadError::NoSeries(reasons.into_iter().chain(last).collect()),
        });
    }
    // Warnings go into the record, and paths do not.
    let instances: BTreeMap<&Path, &str> =
        series.iter().flat_map(|s| &s.instances).map(|i| (i.path.as_path(), i.sop_instance_uid.as_str())).collect();
    let name = |path: &Path| instances.get(path).map_or("one of its files".into(), |uid| format!("instance {uid}"));
    warnings.extend(reasons.iter().map(|reason| format!("no volume: {}", reason.for_record(&name))));
    Ok(series)
}

/// Series Number (none comes last) and Series Time.
fn acquired(group: &[Object]) -> (f64, &str) {
    group.first().map_or((f64::INFINITY, ""), |o| (o.series_number.unwrap_or(f64::INFINITY), &o.series_time))
}

/// One series of the images that share its UID.
fn one(mut group: Vec<Object>, options: &ReadOptions, warnings: &mut Vec<String>) -> Result<Series, ReadError> {
    let localizers = group.iter().filter(|o| o.localizer).count();
    let uid = group.first().map(|o| o.series.clone()).unwrap_or_default();
    if localizers > 0 && localizers < group.len() {
        warnings.push(format!("series {uid}: {localizers} localizers among its images were left out"));
        group.retain(|o| !o.localizer);
    }
    if group.iter().any(|o| o.not_hounsfield) {
        warnings.push(format!("series {uid}: RescaleType (0028,1054) is not HU; values are not Hounsfield units"));
    }
    let (slices, layouts): (Vec<Option<Slice>>, _) = match layouts(&mut group) {
        Ok((layouts, slices)) => (slices.into_iter().map(Some).collect(), Ok(layouts)),
        Err(reason) => (vec![None; group.len()], Err(reason)),
    };
    let Some(first) = group.first() else { return Err(ReadError::NoImages { objects: 0 }) };
    let mut dataset = header::dataset(&first.path, &first.source, options)?;
    repair(&mut dataset, first);
    let modality = first.modality.clone();
    let instances: Vec<Instance> =
        group.into_iter().zip(slices).map(|(object, slice)| instance(object, slice)).collect();
    if instances.iter().any(|instance| instance.unplaced) {
        warnings.push(format!(
            "series {uid}: its images have no place in the patient; each is a volume of its own, in its own plane"
        ));
    }
    let (volumes, refused) = match layouts {
        Ok(layouts) => (layouts, None),
        Err(reason) => (vec![], Some(Arc::new(reason))),
    };
    Ok(Series { uid, modality, header: dataset, instances, volumes, refused })
}

/// Sorts a series along its volume and gives the volume and its slices; leaves the order when there is none. Images that
/// have no place are a volume each.
fn layouts(group: &mut Vec<Object>) -> Result<(Vec<VolumeLayout>, Vec<Slice>), ReadError> {
    let mut slices = Vec::with_capacity(group.len());
    for object in group.iter_mut() {
        match object.slice.take() {
            Some(Ok(slice)) => slices.push(slice),
            Some(Err(reason)) => return Err(reason),
            None => return Err(ReadError::unavailable(&object.path, "an object without pixels")),
        }
    }
    let mut by_uid: BTreeMap<&str, &Path> = BTreeMap::new();
    for object in group.iter() {
        if let Some(before) = by_uid.insert(&object.instance, &object.path) {
            let files = [before, &object.path];
            return Err(ReadError::apart("two files have one SOP Instance UID", files, "; remove the copy"));
        }
        if object.frame_of_reference != group[0].frame_of_reference && !slices[0].unplaced {
            let files = [group[0].path.as_path(), &object.path];
            return Err(ReadError::apart("the slices differ in FrameOfReferenceUID (0020,0052)", files, ""));
        }
    }
    let placed: Vec<(&Path, &Slice)> = group.iter().map(|o| o.path.as_path()).zip(&slices).collect();
    if let Some(i) = slices.iter().position(|slice| slice.unplaced != slices[0].unplaced) {
        let problem = "one image has a place in the patient (ImagePositionPatient (0020,0032)), and one has none";
        return Err(ReadError::apart(problem, [placed[0].0, placed[i].0], ""));
    }
    if slices.iter().all(|slice| slice.unplaced) {
        return unplaced(group, slices);
    }
    let (geometry, order) = stack::stack(&placed)?;
    let mut both: Vec<Option<(Object, Slice)>> = group.drain(..).zip(slices).map(Some).collect();
    let mut sorted = Vec::with_capacity(order.len());
    for i in order {
        let (object, slice) = both[i].take().expect("an order has each index once");
        group.push(object);
        sorted.push(slice);
    }
    Ok((vec![VolumeLayout { geometry, slices: (0..group.len()).collect() }], sorted))
}

/// One volume for each image, in order of Instance Number.
fn unplaced(group: &mut Vec<Object>, slices: Vec<Slice>) -> Result<(Vec<VolumeLayout>, Vec<Slice>), ReadError> {
    let mut both: Vec<(Object, Slice)> = group.drain(..).zip(slices).collect();
    let number = |(object, _): &(Object, Slice)| object.instance_number.unwrap_or(f64::INFINITY);
    both.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.0.path.cmp(&b.0.path)));
    let grids: Vec<_> = both
        .iter()
        .map(|(object, slice)| stack::stack(&[(object.path.as_path(), slice)]).map(|(geometry, _)| geometry))
        .collect();
    let (objects, slices): (Vec<_>, Vec<_>) = both.into_iter().unzip();
    *group = objects;
    let layout = |(i, geometry)| Ok(VolumeLayout { geometry: geometry?, slices: vec![i] });
    Ok((grids.into_iter().enumerate().map(layout).collect::<Result<_, ReadError>>()?, slices))
}

fn instance(object: Object, slice: Option<Slice>) -> Instance {
    Instance {
        path: object.path,
        sop_class_uid: object.class,
        sop_instance_uid: object.instance,
        transfer_syntax_uid: object.transfer_syntax,
        position: slice.as_ref().filter(|slice| !slice.unplaced).map(|slice| slice.position),
        unplaced: slice.as_ref().is_some_and(|slice| slice.unplaced),
        voi: slice.as_ref().map(|slice| slice.voi).unwrap_or_default(),
        source: object.source,
        pixels: slice.map(|slice| slice.pixels),
    }
}

/// Puts the UIDs that were repaired, and the modality that was checked, into the data set.
fn repair(dataset: &mut InMemDicomObject, object: &Object) {
    for (tag, uid) in [
        (tags::SOP_CLASS_UID, &object.class),
        (tags::SOP_INSTANCE_UID, &object.instance),
        (tags::STUDY_INSTANCE_UID, &object.study),
        (tags::SERIES_INSTANCE_UID, &object.series),
    ] {
        if super::attributes::text(dataset, tag).as_deref() != Some(uid) {
            dataset.put_str(tag, VR::UI, uid);
        }
    }
    // What is no code reaches nobody, a guest with a grant included.
    if super::attributes::text(dataset, tags::MODALITY).is_some_and(|text| text != object.modality) {
        dataset.put_str(tags::MODALITY, VR::CS, &object.modality);
    }
}
