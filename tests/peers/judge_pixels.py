"""Judges decoded pixels by pydicom with pylibjpeg's decoders and CharLS.

    judge_pixels.py EXPECTED_JSON

EXPECTED_JSON is a list of files:

    {"name": "pydicom/test_files/CT_small.dcm", "path": "/...", "frames": [1, 2],   counted from 1
     "grey": true,         f32 through the modality LUT; false: red, green and blue, a byte each
     "raw": "0.raw",       the frames, one after another
     "most": 0}            how far a value may be off; 0 is exactly equal, but for the rounding of f32

Files that pydicom does not decode are counted and not judged. Passes with status 0; otherwise prints each file that
differs and ends with status 1.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

PLUGINS = ("pylibjpeg", "pyjpegls", "pydicom", "pillow")


def main():
    warnings.simplefilter("ignore")
    files = json.loads(pathlib.Path(sys.argv[1]).read_text())
    faults, judged, alone = [], 0, []
    for file in files:
        try:
            wanted = list(reference(file))
        except Exception as error:  # Whatever it is: this one is not judged by it.
            alone.append(f"{file['name']}: {str(error).splitlines()[-1][:200]}")
            continue
        judged += 1
        raw = np.fromfile(file["raw"], "<f4" if file["grey"] else "u1")
        wanted = np.concatenate([frame.reshape(-1) for frame in wanted])
        if wanted.size != raw.size:
            faults.append(f"{file['name']}: {raw.size} values, not {wanted.size}")
            continue
        off = np.abs(raw.astype("f8") - wanted)
        # A value of f32 has 24 bits, and is the sum of a product and an intercept.
        most = np.maximum((np.abs(wanted) + np.abs(wanted).max()) * 2.0**-23 if file["grey"] else 0, file["most"])
        if (off > most).any():
            faults.append(f"{file['name']}: {(off > most).mean():.2%} of the values differ, by {off.max():g} at most")
        elif file["most"] and off.max() < file["most"]:
            print(f"{file['name']}: differs by {off.max():g} and may by {file['most']:g}")
    for line in alone:
        print(f"not judged: {line}")
    for fault in faults:
        print(fault)
    print(f"{judged} of {len(files)} files judged, {len(faults)} differ")
    # So many were judged when this was written: fewer would say less.
    sys.exit(bool(faults) or judged < 100)


def reference(file):
    ds = pydicom.dcmread(file["path"])
    options = {"raw": True} if file["grey"] else {}
    for number in file["frames"]:
        frame = None
        for plugin in PLUGINS:
            try:
                frame = pixel_array(ds, index=number - 1, decoding_plugin=plugin, **options)
                break
            except Exception as error:
                last = error
        if frame is None:
            try:
                frame = pixel_array(ds, index=number - 1, **options)
            except Exception:
                raise last
        yield grey(ds, frame, number) if file["grey"] else colour(ds, frame)


def grey(ds, frame, number):
    if "ModalityLUTSequence" in ds:
        return apply_modality_lut(frame, ds).astype("f8")
    source = ds
    for group in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        items = ds.get(group) or []
        item = items[0 if group.startswith("Shared") else number - 1] if items else None
        if item is not None and "PixelValueTransformationSequence" in item:
            source = item.PixelValueTransformationSequence[0]
    if ds.get("Modality") == "RTDOSE":
        return frame.astype("f8") * float(ds.DoseGridScaling)
    slope, intercept = source.get("RescaleSlope"), source.get("RescaleIntercept")
    if slope is None:
        return frame.astype("f8")
    return frame.astype("f8") * float(slope) + float(intercept)


def colour(ds, frame):
    """Red, green and blue of 8 bits, of what may have more."""
    bits = ds.BitsStored
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        bits = ds.RedPaletteColorLookupTableDescriptor[2]
        frame = apply_color_lut(frame, ds)[..., :3]
    return (frame.astype("i8") >> max(0, bits - 8)).astype("f8")


main()
