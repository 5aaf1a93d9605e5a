"""Judges boxes and the image library in an SR by other people's software: dciodvfy, PixelMed, highdicom, pydicom, dcmqi.

    judge_regions.py SR SEG|- SOURCE_FOLDER EXPECTED_JSON [--pixelmed]

EXPECTED_JSON says which boxes the module stated, in voxels of the source:

    [{"start": [1, 9, 0], "size": [6, 2, 4], "label": "DENSE", "probability": 0.9}]

One of a single slice must be a planar group (TID 1410), one of several a volumetric one (TID 1411). Positions are
computed here from the headers of the source alone. `-` stands for no SEG; PixelMed's validator, which takes seconds, judges
with `--pixelmed` alone. Passes with status 0; otherwise prints each fault and ends with status 1.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import highdicom
import numpy as np
import pydicom

from judge_seg import BIN, TOLERANCE_MM, image_of, slices
from judge_shown import point
from judge_sr import by_pixelmed, conforms, evidence


def main():
    arguments = [a for a in sys.argv[1:] if a != "--pixelmed"]
    sr, seg, source_path, expected_path = arguments
    expected = json.loads(pathlib.Path(expected_path).read_text())
    source = slices(pathlib.Path(source_path))
    report = pydicom.dcmread(sr)
    faults = conforms(sr) + evidence(report, seg) + (by_pixelmed(sr, True) if "--pixelmed" in sys.argv else [])
    faults += by_highdicom(sr, source, expected) + library(report, source) + by_dcmqi(sr)
    for fault in faults:
        print(fault)
    print("not as expected" if faults else f"{len(expected)} boxes and {len(source)} images as expected")
    sys.exit(bool(faults))


def by_highdicom(path, source, expected):
    content = highdicom.sr.srread(path).content
    planar = content.get_planar_roi_measurement_groups()
    volumetric = [g for g in content.get_volumetric_roi_measurement_groups() if g.referenced_segment is None]
    found = [(g, [g.roi]) for g in planar] + [(g, g.roi) for g in volumetric]
    place = {s[0]: z for z, s in enumerate(source)}
    faults = []
    flat = [b for b in expected if b["size"][2] == 1]
    if (len(planar), len(volumetric)) != (len(flat), len(expected) - len(flat)):
        return [f"highdicom: {len(planar)} planar and {len(volumetric)} volumetric groups of {len(expected)} boxes"]
    # Boxes of one slice come first here, and in their own order.
    ordered = flat + [b for b in expected if b["size"][2] > 1]
    for i, (box, (group, regions)) in enumerate(zip(ordered, found, strict=True)):
        start, size = np.array(box["start"]), np.array(box["size"])
        wanted = list(range(start[2], start[2] + size[2]))
        on = [place.get(image_of(r.ContentSequence[0].ReferencedSOPSequence[0])) for r in regions]
        if on != wanted:
            faults.append(f"highdicom: box {i} lies on slices {on}, not {wanted}")
            continue
        for z, region in zip(on, regions):
            # The first pixel reaches from 0 to 1, so its centre lies at 0.5.
            corners = np.array(region.value)[:4]
            middle = point(source, *(corners.mean(axis=0) - 0.5), z)
            moved = np.linalg.norm(middle - point(source, *(start + (size - 1) / 2)[:2], z))
            if moved > TOLERANCE_MM or list(np.ptp(corners, axis=0)) != list(size[:2]):
                faults.append(f"highdicom: box {i} on slice {z} lies {moved:.3f} mm from where it was, or is another")
        numbers = [(m.name.meaning, m.value) for m in group.get_measurements()]
        if len(numbers) != 1 or numbers[0][0] != "Probability" or abs(numbers[0][1] - box["probability"]) > 1e-6:
            faults.append(f"highdicom: box {i} says {numbers}")
        if group.finding_type.value != box["label"]:
            faults.append(f"highdicom: box {i} is of {group.finding_type}")
    return faults


def library(report, source):
    """Each source image once, with where it lies."""
    root = next(c for c in report.ContentSequence if name(c) == "Image Library")
    faults, seen = [], []
    for group in root.ContentSequence:
        images = [c for c in group.ContentSequence if c.ValueType == "IMAGE"]
        common = {name(c): number(c) for c in group.ContentSequence if c.ValueType == "NUM"}
        cosines = [common.get(f"Image Orientation (Patient) {d} {a}") for d in ("Row", "Column") for a in "XYZ"]
        for image in images:
            uid = image_of(image.ReferencedSOPSequence[0])
            at = {name(c): number(c) for c in image.get("ContentSequence", [])}
            seen.append(uid)
            stated = next((s for s in source if s[0] == uid), None)
            if stated is None:
                faults.append("the library has an image that is none of the source")
                continue
            _, position, along_row, along_column, (row_spacing, column_spacing) = stated
            told = [at.get(f"Image Position (Patient) {a}") for a in "XYZ"]
            told += cosines + [common.get("Vertical Pixel Spacing"), common.get("Horizontal Pixel Spacing")]
            wanted = [*position, *along_row, *along_column, row_spacing, column_spacing]
            if None in told or not np.allclose(told, wanted, atol=1e-4):
                faults.append(f"the library says {told} of an image that says {wanted}")
    return faults if sorted(seen) == sorted(s[0] for s in source) else [*faults, "the library has other images"]


def name(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""


def number(item):
    return float(item.MeasuredValueSequence[0].NumericValue)


def by_dcmqi(path):
    """It knows no regions of coordinates; it must not stumble over them."""
    with tempfile.TemporaryDirectory() as folder:
        tool = [BIN / "tid1500reader", "--inputDICOM", path, "--outputMetadata", f"{folder}/sr.json"]
        run = subprocess.run(tool, capture_output=True, text=True)
    return [f"dcmqi: tid1500reader ended with {run.returncode}: {run.stderr[-400:]}"] if run.returncode else []


if __name__ == "__main__":
    main()
