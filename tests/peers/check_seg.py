"""Reads a SEG with highdicom and compares it, voxel by voxel and in patient coordinates, with what was stated.

    check_seg.py SEG.dcm SOURCE_DIR LABELS.raw Z,Y,X [VALUES]

LABELS.raw holds the labels that the module stated: u8, x fastest, then y, then z, slice 0 where the grid begins.
VALUES are the labels of the segments in order of Segment Number (default 1,2,3,...).
Prints JSON; exit status 1 with the reason on standard error when something differs.
"""

import json
import pathlib
import sys

import highdicom
import numpy as np
import pydicom

TOLERANCE_MM = 1e-3


def fail(reason):
    print(f"check_seg: {reason}", file=sys.stderr)
    sys.exit(1)


def expect(holds, reason):
    if not holds:
        fail(reason)


def source_slices(folder):
    """Headers of the source by SOP Instance UID. Where the data set has none, that of the file meta counts."""
    slices = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        if not path.is_file():
            continue
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            continue
        uid = header.get("SOPInstanceUID") or header.file_meta.MediaStorageSOPInstanceUID
        slices[str(uid)] = header
    return slices


def along_normal(headers):
    """UIDs in order along row x column."""
    first = next(iter(headers.values()))
    orientation = np.array(first.ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    return sorted(headers, key=lambda uid: float(np.dot(normal, np.array(headers[uid].ImagePositionPatient, float))))


def main(seg_path, source_dir, labels_path, shape, values=None):
    shape = tuple(int(n) for n in shape.split(","))
    labels = np.fromfile(labels_path, np.uint8)
    expect(labels.size == np.prod(shape), f"{labels.size} labels for a shape of {shape}")
    labels = labels.reshape(shape)

    seg = highdicom.seg.segread(seg_path)
    values = [int(v) for v in values.split(",")] if values else list(range(1, seg.number_of_segments + 1))
    expect(len(values) == seg.number_of_segments, f"{seg.number_of_segments} segments, and {len(values)} values")
    expect(list(seg.segment_numbers) == list(range(1, len(values) + 1)), "segment numbers are not 1 to n")
    expect((seg.Rows, seg.Columns) == shape[1:], f"frames of {seg.Rows} x {seg.Columns}, stated {shape[1:]}")

    headers = source_slices(source_dir)
    order = along_normal(headers)
    expect(len(order) == shape[0], f"{len(order)} source slices, stated {shape[0]}")

    masks = seg.get_pixels_by_source_instance(
        order, ignore_spatial_locations=True, assert_missing_frames_are_empty=True, combine_segments=False
    )
    report = {"frames": int(seg.NumberOfFrames), "segments": []}
    for number, value in enumerate(values, 1):
        mask, stated = masks[..., number - 1].astype(bool), labels == value
        wrong = int((mask != stated).sum())
        expect(wrong == 0, f"segment {number}: {wrong} voxels differ from label {value}")
        description = seg.get_segment_description(number)
        report["segments"].append(
            {
                "number": number,
                "label": description.segment_label,
                "type": description.segmented_property_type.value,
                "voxels": int(mask.sum()),
                "centroid_mm": centroid(stated, [headers[uid] for uid in order]),
            }
        )

    # Each frame lies where its source slice lies.
    orientation = np.array(headers[order[0]].ImageOrientationPatient, float)
    shared = seg.SharedFunctionalGroupsSequence[0]
    written = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    expect(np.abs(written - orientation).max() <= 1e-4, "the orientation is not that of the source")
    spacing = np.array(headers[order[0]].PixelSpacing, float)
    measures = shared.PixelMeasuresSequence[0]
    expect(np.abs(np.array(measures.PixelSpacing, float) - spacing).max() <= 1e-6, "the pixel spacing differs")
    for i, frame in enumerate(seg.PerFrameFunctionalGroupsSequence, 1):
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        there = np.array(headers[image.ReferencedSOPInstanceUID].ImagePositionPatient, float)
        here = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        distance = float(np.abs(here - there).max())
        expect(distance <= TOLERANCE_MM, f"frame {i} lies {distance} mm from its source slice")

    # And independent of references: the volume that highdicom builds has the voxels at their patient coordinates.
    volume = seg.get_volume(combine_segments=False)
    for number, segment in enumerate(report["segments"], 1):
        index = np.argwhere(volume.array[..., number - 1])
        there = volume.map_indices_to_reference(index.mean(axis=0, keepdims=True))[0]
        distance = float(np.abs(there - segment["centroid_mm"]).max())
        expect(distance <= 0.01, f"segment {number}: its centroid lies {distance} mm from where it was stated")
    print(json.dumps(report, indent=1))


def centroid(mask, headers):
    """Patient coordinates, mm, of the centre of the voxels, from the source headers alone."""
    z, y, x = (axis.astype(float) for axis in np.nonzero(mask))
    positions = np.array([h.ImagePositionPatient for h in headers], float)
    orientation = np.array(headers[0].ImageOrientationPatient, float)
    row_spacing, column_spacing = (float(s) for s in headers[0].PixelSpacing)
    point = positions[z.astype(int)].mean(axis=0)
    point += orientation[:3] * column_spacing * x.mean() + orientation[3:] * row_spacing * y.mean()
    return [round(float(c), 6) for c in point]


if __name__ == "__main__":
    if len(sys.argv) not in (5, 6):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
