//! Images become series, and series volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::frames;
use super::header::{self, Object, Source};
use super::split::{self, Part};
use super::stack::{self, Placed, Slice, Stack};
use super::{Instance, ReadError, ReadOptions, Series, Unstated, VolumeLayout};

/// The images among `objects`. What else there is (SR, SEG, presentation states, …) is left out with a warning.
pub(super) fn images(objects: Vec<Object>, warnings: &mut Vec<String>) -> Result<Vec<Object>, ReadError> {
    let count = objects.len();
    let (images, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(|o| o.slices.is_some());
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
    leave_out_copies(&mut group, &uid, options, warnings);
    let images = group.iter_mut().map(|object| object.slices.take()).collect();
    let (instances, volumes, refused) = match layout(&group, images, options) {
        Ok((instances, volumes)) => (instances, volumes, None),
        Err(reason) => (group.iter().map(|o| instance(o, 1, None)).collect(), Vec::new(), Some(Arc::new(reason))),
    };
    for degrees in volumes.iter().filter_map(|volume| volume.tilt.as_ref()).map(|tilt| tilt.degrees) {
        warnings.push(format!(
            "series {uid}: the slices are stacked {degrees:.1} degrees off their normal (gantry tilt); each was moved in its \
             plane by linear interpolation, and around it is the darkest value"
        ));
    }
    if instances.iter().any(|instance| instance.unplaced) {
        warnings.push(format!(
            "series {uid}: its images have no place in the patient; each is a volume of its own, in its own plane"
        ));
    }
    if volumes.iter().any(|volume| volume.unstated.pixels) {
        warnings.push(format!(
            "series {uid}: nothing says how large its pixels are; 1 mm stands for that, and no length, area or volume can be \
             measured"
        ));
    }
    if let Some(told) = split::told(&volumes) {
        warnings.push(format!("series {uid}: {} volumes, told apart by {told}", volumes.len()));
    }
    let first = instances.first().and_then(|first: &Instance| {
        let object = group.iter().find(|object| object.path == first.path)?;
        Some((object, first.frame))
    });
    let Some((first, frame)) = first else { return Err(ReadError::NoImages { objects: 0 }) };
    let mut dataset = header::dataset(&first.path, &first.source, options)?;
    if let Some(number) = frame {
        frames::alone(&mut dataset, number);
    }
    repair(&mut dataset, first);
    let modality = first.modality.clone();
    Ok(Series { uid, modality, header: dataset, instances, volumes, refused })
}

/// Leaves out files that are others over again, byte by byte.
fn leave_out_copies(group: &mut Vec<Object>, uid: &str, options: &ReadOptions, warnings: &mut Vec<String>) {
    let mut known: BTreeMap<String, (PathBuf, Source)> = BTreeMap::new();
    let mut copies = BTreeSet::new();
    for object in group.iter() {
        let Some((path, source)) = known.get(&object.instance) else {
            known.insert(object.instance.clone(), (object.path.clone(), object.source.clone()));
            continue;
        };
        // Those that differ are told of where volumes are made.
        let same = *source == object.source && !options.strict;
        if same && super::same_data_set(path, &object.path).unwrap_or(false) {
            copies.insert(object.path.clone());
        }
    }
    if !copies.is_empty() {
        warnings.push(format!("series {uid}: {} files that are copies of others were left out", copies.len()));
        group.retain(|object| !copies.contains(&object.path));
    }
}

/// The slices of each object.
type Images = Vec<Option<Result<Vec<Slice>, ReadError>>>;

/// The images of a series along its volumes, and the volumes.
fn layout(
    group: &[Object],
    images: Images,
    options: &ReadOptions,
) -> Result<(Vec<Instance>, Vec<VolumeLayout>), ReadError> {
    let mut by_uid: BTreeMap<&str, &Path> = BTreeMap::new();
    let mut slices: Vec<(&Object, Slice, u32)> = Vec::with_capacity(group.len());
    for (object, image) in group.iter().zip(images) {
        let of_object = image.ok_or_else(|| ReadError::unavailable(&object.path, "an object without pixels"))??;
        let frames = u32::try_from(of_object.len()).unwrap_or(u32::MAX);
        slices.extend(of_object.into_iter().map(|slice| (object, slice, frames)));
    }
    let unplaced_first = slices.first().is_some_and(|(_, first, _)| first.unplaced);
    for object in group {
        if let Some(before) = by_uid.insert(&object.instance, &object.path) {
            let files = [before, &object.path];
            return Err(ReadError::apart("two files have one SOP Instance UID", files, "; remove the copy"));
        }
        if object.frame_of_reference != group[0].frame_of_reference && !unplaced_first {
            let files = [group[0].path.as_path(), &object.path];
            return Err(ReadError::apart("the slices differ in FrameOfReferenceUID (0020,0052)", files, ""));
        }
    }
    let placed: Vec<Placed<'_>> = slices.iter().map(|(object, slice, _)| (object.path.as_path(), slice)).collect();
    let Some((path, first)) = placed.first() else { return Err(ReadError::NoVolume("no slices".into())) };
    if let Some((other, _)) = placed.iter().find(|(_, slice)| slice.unplaced != first.unplaced) {
        let problem = "one image has a place in the patient (ImagePositionPatient (0020,0032)), and one has none";
        return Err(ReadError::apart(problem, [path, other], ""));
    }
    let parts = if first.unplaced { unplaced(&slices, &placed)? } else { split::volumes(&placed)? };
    let (mut instances, mut volumes) = (Vec::with_capacity(slices.len()), Vec::new());
    for Part { stack, told_by } in parts {
        if let Some(tilt) = stack.tilt.as_ref().filter(|_| options.strict) {
            return Err(ReadError::NoVolume(format!(
                "the slices are stacked {:.1} degrees off their normal (gantry tilt), and strict reading moves none; \
                 resample the series, or read without strict",
                tilt.degrees
            )));
        }
        let first = instances.len();
        let Stack { geometry, order, tilt } = stack;
        let alone = order.len() == 1;
        let unstated = Unstated {
            pixels: order.iter().any(|i| !slices[*i].1.measured),
            slices: alone && order.iter().all(|i| slices[*i].1.thickness.is_none()),
        };
        for i in order {
            let (object, slice, frames) = &slices[i];
            instances.push(instance(object, *frames, Some(slice)));
        }
        volumes.push(VolumeLayout { geometry, slices: (first..instances.len()).collect(), unstated, tilt, told_by });
    }
    Ok((instances, volumes))
}

/// One volume for each image that has no place, in order of Instance Number.
fn unplaced(slices: &[(&Object, Slice, u32)], placed: &[Placed<'_>]) -> Result<Vec<Part>, ReadError> {
    let mut order: Vec<usize> = (0..slices.len()).collect();
    let number = |i: &usize| slices[*i].0.instance_number.unwrap_or(f64::INFINITY);
    let name = |i: &usize| (placed[*i].0, placed[*i].1.frame);
    order.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| name(a).cmp(&name(b))));
    order.into_iter().map(|i| Ok(Part { stack: stack::stack(placed, &[i])?, told_by: Vec::new() })).collect()
}

fn instance(object: &Object, frames: u32, slice: Option<&Slice>) -> Instance {
    Instance {
        path: object.path.clone(),
        sop_class_uid: object.class.clone(),
        sop_instance_uid: object.instance.clone(),
        transfer_syntax_uid: object.transfer_syntax.clone(),
        frame: slice.and_then(|slice| slice.frame),
        frames,
        position: slice.filter(|slice| !slice.unplaced).map(|slice| slice.position),
        unplaced: slice.is_some_and(|slice| slice.unplaced),
        voi: slice.map(|slice| slice.voi).unwrap_or_default(),
        source: object.source.clone(),
        pixels: slice.map(|slice| slice.pixels.clone()),
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
