"""Judges what shows where something lies by other people's software: dciodvfy, highdicom, pydicom and dcmqi.

    judge_shown.py FOLDER SOURCE_FOLDER EXPECTED_JSON

FOLDER holds `parametric-map.dcm`, `fractional-segmentation.dcm`, `presentation-state.dcm` and `secondary-capture.dcm`, and
SEG and SR beside them. EXPECTED_JSON says what the module stated, on the grid of the source:

    {"values": "heat.raw",          raw f32 beside it, little-endian, x fastest, slices ascending along the normal: the
                                    heat, and the probabilities of the one segment
     "size": [16, 16, 10],          x, y, z
     "marks": [{"start": [1, 9, 0], "size": [6, 2, 4], "label": "Dense piece", "probability": 0.9}],
     "hottest": 3}                  the slice that the capture is of

Positions are computed here from the headers of the source alone. Passes with status 0; otherwise prints each fault and
ends with status 1.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk

from judge_seg import BIN, TOLERANCE_MM, conforms, image_of, images_of, pixels_of, slices


def main():
    folder, source_path, expected_path = map(pathlib.Path, sys.argv[1:])
    expected = json.loads(expected_path.read_text())
    x, y, z = expected["size"]
    values = np.fromfile(expected_path.parent / expected["values"], "<f4").reshape(z, y, x)
    source = slices(source_path)
    names = ("parametric-map", "presentation-state", "secondary-capture", "segmentation", "report", "fractional-segmentation")
    objects = [folder / f"{name}.dcm" for name in names]
    faults = [f"{path.stem}: {fault}" for path in objects for fault in conforms(path) + belongs(path, source_path)]
    if len(source) != z:
        faults.append(f"the source has {len(source)} slices, the values have {z}")
    else:
        faults += map_by_highdicom(objects[0], source, values)
        faults += map_by_pydicom(objects[0], source, values)
        faults += map_by_dcmqi(objects[0], source, values)
        faults += likely_by_highdicom(objects[5], source, values)
        faults += likely_by_pydicom(objects[5], source, values)
        faults += likely_by_dcmqi(objects[5], source, values)
        faults += boxes(objects[1], source, expected["marks"])
        faults += capture(objects[2], source, expected)
    for fault in faults:
        print(fault)
    print("not as expected" if faults else f"a map of {z} slices, {len(expected['marks'])} boxes and a capture as expected")
    sys.exit(bool(faults))


def belongs(path, source_path):
    """Patient and study are those of the source, and the series is not."""
    ours = pydicom.dcmread(path, stop_before_pixels=True)
    theirs = pydicom.dcmread(next(p for p in source_path.rglob("*") if p.is_file()), stop_before_pixels=True)
    same = ["PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "AccessionNumber", "StudyID"]
    faults = [f"{name} differs" for name in same if str(ours.get(name, "")) != str(theirs.get(name, ""))]
    return faults + (["it is in the series of the source"] if ours.SeriesInstanceUID == theirs.SeriesInstanceUID else [])


def point(source, column, row, z):
    """Patient coordinates of a place in a slice; whole numbers are the centres of pixels."""
    _, position, along_row, along_column, (row_spacing, column_spacing) = source[z]
    return position + column * column_spacing * along_row + row * row_spacing * along_column


def centre(values, source):
    """Mean of the voxel centres, each as heavy as its value, mm."""
    total, weight = np.zeros(3), 0.0
    for z, plane in enumerate(values.astype(float)):
        rows, columns = np.indices(plane.shape)
        corner = point(source, 0, 0, z)
        across, down = point(source, 1, 0, z) - corner, point(source, 0, 1, z) - corner
        total += plane.sum() * corner + (plane * columns).sum() * across + (plane * rows).sum() * down
        weight += plane.sum()
    return total / weight


def map_by_highdicom(path, source, values):
    volume = highdicom.imread(path).get_volume()
    if sorted(volume.array.shape) != sorted(values.shape):
        return [f"highdicom: a volume of {volume.array.shape}, not {values.shape}"]
    weights = volume.array.astype(float)
    index = np.array([(weights * axis).sum() / weights.sum() for axis in np.indices(weights.shape)])
    found = volume.map_indices_to_reference(index[np.newaxis])[0]
    moved = np.linalg.norm(found - centre(values, source))
    return [f"highdicom: the heat lies {moved:.3f} mm from where it was"] if moved > TOLERANCE_MM else []


def map_by_pydicom(path, source, values):
    """Each frame by its own position, and each value as it was."""
    data = pydicom.dcmread(path)
    frames, faults, seen = data.pixel_array.reshape(-1, data.Rows, data.Columns), [], set()
    for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        distance = [np.linalg.norm(position - s[1]) for s in source]
        z = int(np.argmin(distance))
        seen.add(z)
        if distance[z] > TOLERANCE_MM:
            faults.append(f"pydicom: a frame lies {distance[z]:.3f} mm from the closest slice")
        elif not np.array_equal(frame, values[z]):
            faults.append(f"pydicom: the values of slice {z} differ")
        elif image_of(group.DerivationImageSequence[0].SourceImageSequence[0]) != source[z][0]:
            faults.append(f"pydicom: the frame at slice {z} refers to another slice")
    return faults if len(seen) == len(values) else [*faults, f"pydicom: frames of {len(seen)} slices"]


def map_by_dcmqi(path, source, values):
    with tempfile.TemporaryDirectory() as folder:
        # It crashes on a map without Frame Anatomy, which the standard leaves to whoever knows it: a copy gets one.
        data, anatomy, region = pydicom.dcmread(path), pydicom.Dataset(), pydicom.Dataset()
        region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "69536005", "SCT", "Head"
        anatomy.FrameLaterality, anatomy.AnatomicRegionSequence = "U", [region]
        data.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
        copy = pathlib.Path(folder) / "copy.dcm"
        data.save_as(copy)
        tool = [BIN / "paramap2itkimage", "--inputDICOM", copy, "--outputDirectory", folder, "-t", "nrrd"]
        run = subprocess.run(tool, capture_output=True, text=True)
        if run.returncode:
            return [f"dcmqi: paramap2itkimage ended with {run.returncode}: {(run.stderr or run.stdout)[-400:]}"]
        image = sitk.ReadImage(next(str(p) for p in pathlib.Path(folder).glob("*.nrrd")))
    weights = sitk.GetArrayFromImage(image).astype(float)
    index = [float((weights * axis).sum() / weights.sum()) for axis in np.indices(weights.shape)[::-1]]
    found = np.array(image.TransformContinuousIndexToPhysicalPoint(index))
    moved = np.linalg.norm(found - centre(values, source))
    return [f"dcmqi: the heat lies {moved:.3f} mm from where it was"] if moved > TOLERANCE_MM else []


# Probabilities are stored in steps of 1/255.
HALF_STEP = 0.5 / 255 + 1e-6


def likely_by_highdicom(path, source, values):
    """Each voxel by the source that its frame names, and where the volume that it builds from the SEG alone lies."""
    seg = highdicom.seg.segread(path)
    if seg.segmentation_type != highdicom.seg.SegmentationTypeValues.FRACTIONAL:
        return [f"highdicom: a segmentation of type {seg.segmentation_type}"]
    options = {"segment_numbers": [1], "rescale_fractional": True}
    pixels = pixels_of(seg, source, **options)
    worst = float(np.abs(pixels[..., 0] - values).max())
    faults = [f"highdicom: a probability is off by {worst:.4f}"] if worst > HALF_STEP else []
    volume = seg.get_volume(combine_segments=False, **options)
    weights = volume.array[..., 0].astype(float)
    index = np.array([(weights * axis).sum() / weights.sum() for axis in np.indices(weights.shape)])
    found = volume.map_indices_to_reference(index[np.newaxis])[0]
    moved = np.linalg.norm(found - centre(np.round(values * 255) / 255, source))
    return [*faults, f"highdicom: the probabilities lie {moved:.3f} mm from where they were"] if moved > TOLERANCE_MM else faults


def likely_by_pydicom(path, source, values):
    """Each frame by its own position, none of them empty."""
    data = pydicom.dcmread(path)
    stated = (data.SegmentationType, data.SegmentationFractionalType, data.MaximumFractionalValue, data.BitsAllocated)
    if stated != ("FRACTIONAL", "PROBABILITY", 255, 8):
        return [f"pydicom: a segmentation of {stated}"]
    found, faults = np.zeros(values.shape), []
    frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    for frame, group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        distance = [np.linalg.norm(position - s[1]) for s in source]
        z = int(np.argmin(distance))
        if distance[z] > TOLERANCE_MM or not frame.any():
            faults.append(f"pydicom: a frame lies {distance[z]:.3f} mm from the closest slice, or is empty")
        if image_of(group.DerivationImageSequence[0].SourceImageSequence[0]) != source[z][0]:
            faults.append(f"pydicom: the frame at slice {z} refers to another slice")
        found[z] += frame / 255
    worst = float(np.abs(found - values).max())
    return [*faults, f"pydicom: a probability is off by {worst:.4f}"] if worst > HALF_STEP else faults


def likely_by_dcmqi(path, source, values):
    with tempfile.TemporaryDirectory() as folder:
        tool = [BIN / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-p", "s", "-t", "nrrd"]
        run = subprocess.run(tool, capture_output=True, text=True)
        if run.returncode:
            return [f"dcmqi: segimage2itkimage ended with {run.returncode}: {(run.stderr or run.stdout)[-400:]}"]
        image = sitk.ReadImage(f"{folder}/s-1.nrrd")
    weights = sitk.GetArrayFromImage(image).astype(float)
    index = [float((weights * axis).sum() / weights.sum()) for axis in np.indices(weights.shape)[::-1]]
    found = np.array(image.TransformContinuousIndexToPhysicalPoint(index))
    moved = np.linalg.norm(found - centre(np.round(values * 255) / 255, source))
    return [f"dcmqi: the probabilities lie {moved:.3f} mm from where they were"] if moved > TOLERANCE_MM else []


def boxes(path, source, expected):
    """Each box around its voxels, on its slices alone, with its label."""
    state = pydicom.dcmread(path)
    place = {s[0]: z for z, s in enumerate(source)}
    named = {i for s in state.ReferencedSeriesSequence for r in s.ReferencedImageSequence for i in images_of(r)}
    found = []
    for item in state.GraphicAnnotationSequence:
        for graphic in item.get("GraphicObjectSequence", []):
            points = np.array(graphic.GraphicData, float).reshape(-1, 2)
            images = [image for r in item.ReferencedImageSequence for image in images_of(r)]
            on = sorted(place[image] for image in images)
            if not named.issuperset(images):
                return ["a box lies on an image that the presentation state does not refer to"]
            # The first pixel reaches from 0 to 1, so its centre lies at 0.5.
            middle = points[:4].mean(axis=0) - 0.5
            ends = [point(source, *middle, z) for z in (on[0], on[-1])]
            found.append((on, np.ptp(points, axis=0), sum(ends) / 2, item.TextObjectSequence[0].UnformattedTextValue))
    if len(found) != len(expected):
        return [f"{len(found)} boxes, not {len(expected)}"]
    faults = []
    for i, (mark, (on, size, centre_of, words)) in enumerate(zip(expected, found)):
        start, count = np.array(mark["start"]), np.array(mark["size"])
        first, last = start[2], start[2] + count[2] - 1
        x, y, _ = start + (count - 1) / 2
        wanted = (point(source, x, y, first) + point(source, x, y, last)) / 2
        moved = np.linalg.norm(centre_of - wanted)
        if moved > TOLERANCE_MM:
            faults.append(f"box {i} lies {moved:.3f} mm from where it was")
        if on != list(range(first, last + 1)) or list(size) != list(count[:2]):
            faults.append(f"box {i} is {size} on slices {on}, not {count[:2]} on {first} to {last}")
        if words != f"{mark['label']} {mark['probability']:.2f}":
            faults.append(f"box {i} says {words!r}")
    notes = [t.UnformattedTextValue for i in state.GraphicAnnotationSequence for t in i.TextObjectSequence]
    return faults if any("not for clinical use" in note for note in notes) else [*faults, "no note says what it is worth"]


def capture(path, source, expected):
    data = pydicom.dcmread(path)
    faults = []
    if image_of(data.SourceImageSequence[0]) != source[expected["hottest"]][0]:
        faults.append("the capture is of another slice")
    if data.pixel_array.shape != (data.Rows, data.Columns, 3) or data.BurnedInAnnotation != "YES":
        faults.append("the capture is no colour image that says that it is annotated")
    _, _, along_row, along_column, _ = source[0]
    for axis, letters in zip((along_row, along_column), data.PatientOrientation):
        # The letter of the largest part of each direction: + is left, posterior and head.
        main = int(np.argmax(np.abs(axis)))
        wanted = ("LR", "PA", "HF")[main][0 if axis[main] > 0 else 1]
        if letters[0] != wanted:
            faults.append(f"the capture calls a side {letters}, which is {wanted}")
    return faults


if __name__ == "__main__":
    main()
