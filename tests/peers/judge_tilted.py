"""Judges a result on a tilted stack by other people's software: dciodvfy, highdicom and pydicom.

    judge_tilted.py FOLDER SOURCE_FOLDER

The source has one piece denser than 50 HU, which is the segment and the box of the result in FOLDER. Where it lies is
computed here from the images alone. Passes with status 0; otherwise prints each fault and ends with status 1.
"""

import pathlib
import sys

import highdicom
import numpy as np
import pydicom

from judge_seg import conforms, image_of, images_of, slices
from judge_shown import point

# What is moved by parts of a pixel and cut at a threshold is not the same to the voxel.
TOLERANCE_MM = 0.5


def main():
    folder, source_path = map(pathlib.Path, sys.argv[1:])
    names = ("segmentation", "report", "presentation-state", "secondary-capture", "parametric-map", "fractional-segmentation")
    faults = [f"{name}: {fault}" for name in names for fault in conforms(folder / f"{name}.dcm")]
    source, pixels = slices(source_path), dense(source_path)
    points = [point(source, column, row, z) for z, (uid, *_) in enumerate(source) for row, column in np.argwhere(pixels[uid])]
    there = np.mean(points, axis=0)
    faults += segment(folder / "segmentation.dcm", there, len(points))
    faults += boxes(folder / "presentation-state.dcm", source, pixels, drift(source, pixels))
    faults += outlines(folder / "report.dcm", pixels, drift(source, pixels))
    for fault in faults:
        print(fault)
    print("not as expected" if faults else f"a piece of {len(points)} pixels as expected")
    sys.exit(bool(faults))


def dense(folder):
    found = (pydicom.dcmread(p) for p in folder.iterdir())
    return {d.SOPInstanceUID: d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) > 50 for d in found}


def segment(path, there, count):
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    index = np.argwhere(volume.array > 0)
    here = volume.map_indices_to_reference(index.mean(axis=0, keepdims=True))[0]
    moved = np.linalg.norm(here - there)
    faults = [f"the segment lies {moved:.2f} mm from where it is"] if moved > TOLERANCE_MM else []
    # A row of it is lost or won at each side.
    return faults if 0.7 < len(index) / count < 1.4 else [*faults, f"the segment has {len(index)} voxels, not about {count}"]


def around(corners, image, pixels, drift):
    """Whether an outline in pixels, the first of which reaches from 0 to 1, is around what is dense in an image.

    A box is one on the grid on which slices lie above one another: so it is as much larger than what is in an image, at
    both sides together, as the piece drifts there from its first image to its last.
    """
    rows, columns = np.nonzero(pixels[image])
    if not len(rows):
        return False
    wanted = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]])
    larger = (np.array([corners.min(axis=0), corners.max(axis=0)]) - wanted) * [[-1], [1]]
    return larger.min() >= -1.5 and (larger.sum(axis=0) <= drift + 3).all()


def drift(source, pixels):
    """Columns and rows by which the first pixel of an image moves along the normal, from the first dense image to the last."""
    dense = [s for s in source if pixels[s[0]].any()]
    (_, first, row, column, spacing), last = dense[0][:5], dense[-1][1]
    moved = np.array(last) - np.array(first)
    # The grid follows the first image; distances of columns lie along rows.
    return np.abs([np.dot(moved, row) / spacing[1], np.dot(moved, column) / spacing[0]])


def boxes(path, source, pixels, drifts):
    faults, seen = [], 0
    for annotation in pydicom.dcmread(path).GraphicAnnotationSequence:
        for graphic in annotation.get("GraphicObjectSequence", []):
            corners = np.array(graphic.GraphicData, float).reshape(-1, 2)
            images = [image for item in annotation.ReferencedImageSequence for image in images_of(item)]
            seen += len(images)
            faults += [f"a box is not around what is in {image}" for image in images if not around(corners, image, pixels, drifts)]
    return faults if seen == sum(p.any() for p in pixels.values()) else [*faults, f"boxes on {seen} images"]


def outlines(path, pixels, drifts):
    groups = highdicom.sr.srread(path).content.get_volumetric_roi_measurement_groups()
    regions = [region for group in groups if group.referenced_segment is None for region in group.roi]
    faults = [] if regions else ["no outlines"]
    for region in regions:
        image = image_of(region.ContentSequence[0].ReferencedSOPSequence[0])
        if not around(np.array(region.value), image, pixels, drifts):
            faults.append(f"an outline is not around what is in {image}")
    return faults


if __name__ == "__main__":
    main()
