"""Judges a SEG by other people's software: dciodvfy, highdicom, pydicom and dcmqi.

    judge_seg.py SEG SOURCE_FOLDER EXPECTED_JSON

EXPECTED_JSON says what the module produced, on the grid of the source:

    {"voxels": "labels.raw",        raw labels beside it, x fastest, slices ascending along the normal
     "type": "uint8",               or uint16, little-endian
     "size": [512, 512, 20],        x, y, z
     "segments": [{"value": 1, "number": 1, "name": "liver"}]}   those that the SEG must hold, and no others

Passes (status 0) when every mask is the expected one voxel by voxel and lies where the source says. Positions are
computed here from the headers of the source alone. Otherwise prints each fault and ends with status 1.
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

TOLERANCE_MM = 0.01
BIN = pathlib.Path(sys.executable).parent


def main():
    seg_path, source_path, expected_path = map(pathlib.Path, sys.argv[1:])
    expected = json.loads(expected_path.read_text())
    x, y, z = expected["size"]
    raw = np.fromfile(expected_path.parent / expected["voxels"], np.dtype(expected["type"]).newbyteorder("<"))
    labels = raw.reshape(z, y, x)
    source = slices(source_path)
    faults = conforms(seg_path)
    if len(source) != z:
        faults.append(f"the source has {len(source)} slices, the labels have {z}")
    else:
        faults += segments(seg_path, expected["segments"])
        faults += by_highdicom(seg_path, source, labels, expected["segments"])
        faults += by_pydicom(seg_path, source, labels, expected["segments"])
        faults += by_dcmqi(seg_path, source, labels, expected["segments"])
    for fault in faults:
        print(fault)
    print("not as expected" if faults else f"{len(expected['segments'])} segments as expected")
    sys.exit(bool(faults))


def slices(folder):
    """(image, position, row direction, column direction, spacing) of each, ascending along the normal.

    An image is called by its SOP Instance UID, a frame of one by that, `#` and its number.
    """
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        d = pydicom.dcmread(path, stop_before_pixels=True)
        uid = str(d.get("SOPInstanceUID") or d.file_meta.MediaStorageSOPInstanceUID)
        if "PerFrameFunctionalGroupsSequence" not in d:
            found.append(slice_of(uid, d.ImagePositionPatient, d.ImageOrientationPatient, d.PixelSpacing))
            continue
        shared = d.SharedFunctionalGroupsSequence[0]
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        spacing = shared.PixelMeasuresSequence[0].PixelSpacing
        for number, frame in enumerate(d.PerFrameFunctionalGroupsSequence, 1):
            position = frame.PlanePositionSequence[0].ImagePositionPatient
            found.append(slice_of(f"{uid}#{number}", position, orientation, spacing))
    return sorted(found, key=lambda s: np.dot(np.cross(s[2], s[3]), s[1]))


def slice_of(image, position, orientation, spacing):
    orientation = np.array(orientation, float)
    return image, np.array(position, float), orientation[:3], orientation[3:], [float(s) for s in spacing]


def image_of(item):
    """The one image that an item refers to, as `slices` calls it; nothing where it refers to several."""
    images = images_of(item)
    return images[0] if len(images) == 1 else None


def images_of(item):
    numbers = item.get("ReferencedFrameNumber")
    if numbers is None:
        return [str(item.ReferencedSOPInstanceUID)]
    numbers = numbers if isinstance(numbers, pydicom.multival.MultiValue) else [numbers]
    return [f"{item.ReferencedSOPInstanceUID}#{number}" for number in numbers]


def centre(mask, source):
    """Mean of the voxel centres of a mask in the patient coordinate system, mm."""
    total, count = np.zeros(3), 0
    for plane, (_, position, along_row, along_column, (row_spacing, column_spacing)) in zip(mask, source):
        rows, columns = np.nonzero(plane)
        total += len(rows) * position
        total += columns.sum() * column_spacing * along_row + rows.sum() * row_spacing * along_column
        count += len(rows)
    return total / count


def conforms(path):
    run = subprocess.run([BIN / "dciodvfy", path], capture_output=True, text=True, errors="replace")
    return [f"dciodvfy: {line}" for line in (run.stderr + run.stdout).splitlines() if line.startswith(("Error", "Abort"))]


def segments(path, expected):
    held = [(int(s.SegmentNumber), str(s.SegmentLabel)) for s in pydicom.dcmread(path).SegmentSequence]
    wanted = [(s["number"], s["name"]) for s in expected]
    return [] if held == wanted else [f"the SEG holds {held}, not {wanted}"]


def by_highdicom(path, source, labels, expected):
    seg = highdicom.seg.segread(path)
    numbers = [s["number"] for s in expected]
    pixels = pixels_of(seg, source, segment_numbers=numbers)
    wrong = {s["name"]: int((pixels[..., i] != (labels == s["value"])).sum()) for i, s in enumerate(expected)}
    faults = [f"highdicom: {n} voxels of {name} differ" for name, n in wrong.items() if n]
    # And without the references to the source: the volume that it builds from the SEG alone.
    volume = seg.get_volume(segment_numbers=numbers, combine_segments=False)
    for i, s in enumerate(expected):
        index = np.argwhere(volume.array[..., i])
        point = volume.map_indices_to_reference(index.mean(axis=0, keepdims=True))[0]
        moved = np.linalg.norm(point - centre(labels == s["value"], source))
        if moved > TOLERANCE_MM:
            faults.append(f"highdicom: {s['name']} lies {moved:.3f} mm from where it was")
    return faults


def pixels_of(seg, source, **options):
    """What highdicom finds for each image of the source, by the references to it."""
    images = [image.split("#") for image, *_ in source]
    if len(images[0]) == 1:
        return seg.get_pixels_by_source_instance(
            [uid for uid, in images], assert_missing_frames_are_empty=True, **options
        )
    numbers = [int(number) for _, number in images]
    return seg.get_pixels_by_source_frame(images[0][0], numbers, assert_missing_frames_are_empty=True, **options)


def by_pydicom(path, source, labels, expected):
    """Each frame by its own position, without the reference to its source."""
    seg = pydicom.dcmread(path)
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    masks = {s["number"]: np.zeros(labels.shape, bool) for s in expected}
    faults = []
    for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        distance = [np.linalg.norm(position - s[1]) for s in source]
        z = int(np.argmin(distance))
        if distance[z] > TOLERANCE_MM:
            faults.append(f"pydicom: a frame lies {distance[z]:.3f} mm from the closest slice")
            continue
        if image_of(group.DerivationImageSequence[0].SourceImageSequence[0]) != source[z][0]:
            faults.append(f"pydicom: the frame at slice {z} refers to another slice")
        if not frame.any():
            faults.append(f"pydicom: an empty frame at slice {z}")
        masks[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)][z] |= frame.astype(bool)
    for s in expected:
        wrong = int((masks[s["number"]] != (labels == s["value"])).sum())
        if wrong:
            faults.append(f"pydicom: {wrong} voxels of {s['name']} differ")
    return faults


def by_dcmqi(path, source, labels, expected):
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        tool = [BIN / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-p", "s", "-t", "nrrd"]
        run = subprocess.run(tool, capture_output=True, text=True)
        if run.returncode:
            return [f"dcmqi: segimage2itkimage ended with {run.returncode}: {(run.stderr or run.stdout)[-400:]}"]
        for s in expected:
            image = sitk.ReadImage(f"{folder}/s-{s['number']}.nrrd")
            mask = sitk.GetArrayFromImage(image) != 0
            wanted = labels == s["value"]
            if mask.sum() != wanted.sum():
                faults.append(f"dcmqi: {s['name']} has {mask.sum()} voxels, not {wanted.sum()}")
                continue
            index = [float(a.mean()) for a in np.nonzero(mask)[::-1]]
            point = np.array(image.TransformContinuousIndexToPhysicalPoint(index))
            moved = np.linalg.norm(point - centre(wanted, source))
            if moved > TOLERANCE_MM:
                faults.append(f"dcmqi: {s['name']} lies {moved:.3f} mm from where it was")
    return faults


if __name__ == "__main__":
    main()
