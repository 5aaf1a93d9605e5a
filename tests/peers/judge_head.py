"""Judges a SEG of white and grey matter by ONNX Runtime in Python, which labels the same head with the same network.

    judge_head.py SEG NETWORK MAPS_FOLDER

NETWORK takes `x`, float32 [1, 1, z, y, x] from 0 to 1, and gives labels, [1, z, y, x]: 1 white matter, 2 grey matter.
MAPS_FOLDER has the MNI152 template, which the SEG is of, and its maps of tissues, as nilearn carries them.

Passes (status 0) when each segment has a Dice of at least 0.99 with the labels of Python, and with the maps that which
the model card of mr-brain-tissue states of this network. Positions are those that the SEG's frames state themselves.
"""

import pathlib
import sys

import numpy as np
import onnxruntime
import pydicom
import SimpleITK as sitk

SIDE = 256
PERCENTILES = (1.0, 99.5)
# Name of the segment: label, map, and the Dice of the network's labels with that map.
TISSUES = {"White matter": (1, "wm", 0.719), "Grey matter": (2, "gm", 0.751)}
DICE_MIN = 0.99
MAP_TOLERANCE = 0.005


def main():
    seg, network, folder = map(pathlib.Path, sys.argv[1:])
    template = upright(folder, "t1")
    labels = labelled(network, sitk.GetArrayFromImage(template).astype(np.float32))
    tissues = np.stack([sitk.GetArrayFromImage(upright(folder, name)) / 255.0 for name in ("wm", "gm")])
    # What is more than half of a voxel, and of two the larger.
    rest = np.clip(1.0 - tissues.sum(axis=0), 0.0, 1.0)
    truth = np.argmax(np.stack([rest, *tissues]), axis=0)
    masks = masks_of(pydicom.dcmread(seg), template)
    faults = []
    if sorted(masks) != sorted(TISSUES):
        faults.append(f"the SEG holds {sorted(masks)}")
    for name, (label, _, stated) in TISSUES.items():
        mask = masks.get(name, np.zeros(labels.shape, bool))
        same, of_map = dice(mask, labels == label), dice(mask, truth == label)
        print(f"{name}: Dice {same:.5f} with Python, {of_map:.3f} with the map")
        if same < DICE_MIN:
            faults.append(f"{name}: {same:.4f} is less than {DICE_MIN}")
        if abs(of_map - stated) > MAP_TOLERANCE:
            faults.append(f"{name}: {of_map:.4f} with the map, not {stated}")
    for fault in faults:
        print(fault)
    sys.exit(bool(faults))


def upright(folder, name):
    image = sitk.ReadImage(str(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"))
    return sitk.DICOMOrient(image, "LPS")


def labelled(network, volume):
    """What the network makes of a volume [z, y, x] in the middle of its cube."""
    low, high = np.percentile(volume, PERCENTILES)
    start = [(SIDE - size) // 2 for size in volume.shape]
    inside = tuple(slice(first, first + size) for first, size in zip(start, volume.shape))
    cube = np.zeros((SIDE,) * 3, np.float32)
    cube[inside] = np.clip((volume - low) / (high - low), 0.0, 1.0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": cube[None, None]})[0][0][inside]


def masks_of(seg, grid):
    """The mask of each segment on a grid, by name: each pixel of a frame where the frame says that it lies."""
    names = {int(s.SegmentNumber): str(s.SegmentLabel) for s in seg.SegmentSequence}
    masks = {name: np.zeros(grid.GetSize()[::-1], bool) for name in names.values()}
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows_mm, columns_mm = (float(s) for s in shared.PixelMeasuresSequence[0].PixelSpacing)
    along_row, along_column = orientation[:3] * columns_mm, orientation[3:] * rows_mm
    frames = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        first = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(frame)
        points = first + np.outer(columns, along_row) + np.outer(rows, along_column)
        x, y, z = np.rint((points - grid.GetOrigin()) / grid.GetSpacing()).astype(int).T
        masks[names[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]][z, y, x] = True
    return masks


def dice(a, b):
    return 2.0 * (a & b).sum() / (a.sum() + b.sum())


if __name__ == "__main__":
    main()
