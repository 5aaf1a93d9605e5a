"""Judges how files became volumes: by SimpleITK's reader and by dcm2niix, of the same files.

    judge_volumes.py FOLDER VOLUMES_JSON [--without-dcm2niix]

FOLDER holds one series. VOLUMES_JSON says what was made of it:

    [{"voxels": "0.raw",             f32, x fastest, then y, then z
      "size": [220, 160, 20], "spacing": [...], "origin": [...], "axes": [[...], [...], [...]],
      "tilted": false,               whether slices were moved to lie above one another
      "slices": [{"sop_instance_uid": "...", "frame": 3}, ...]}]      frame from 1, or null

Passes (status 0) when every voxel has the value and the place that both say. Otherwise prints each fault and ends with
status 1.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import dcm2niix
import numpy as np
import pydicom
import SimpleITK as sitk

TOLERANCE_MM = 0.01
# Of values: those of a float, and of interpolation to whole stored values.
TOLERANCE, TOLERANCE_TILTED = 1e-3, 0.51


def main():
    folder, stated = map(pathlib.Path, sys.argv[1:3])
    volumes = [read(stated.parent, volume) for volume in json.loads(stated.read_text())]
    files = {pydicom.dcmread(p, specific_tags=["SOPInstanceUID"]).SOPInstanceUID: p for p in sorted(folder.iterdir())}
    converted = [] if "--without-dcm2niix" in sys.argv else by_dcm2niix(folder)
    faults = []
    for number, volume in enumerate(volumes):
        judge = tilted if volume["tilted"] else straight
        faults += [f"volume {number}: SimpleITK: {fault}" for fault in judge(volume, files)]
        found = [(path, differ(volume, image, path.stem)) for path, image in converted]
        if converted and all(fault for _, fault in found):
            faults += [f"volume {number}: dcm2niix: {path.name}: {fault}" for path, fault in found]
    for fault in faults:
        print(fault)
    names = ", ".join(path.name for path, _ in converted) or "nothing"
    print("not as expected" if faults else f"{len(volumes)} volumes as expected; dcm2niix made {names}")
    sys.exit(bool(faults))


def read(folder, volume):
    x, y, z = volume["size"]
    volume["array"] = np.fromfile(folder / volume["voxels"], "<f4").reshape(z, y, x)
    volume["axes"] = np.array(volume["axes"]).T
    for key in ("spacing", "origin"):
        volume[key] = np.array(volume[key])
    return volume


def straight(volume, files):
    """SimpleITK's own reader of series, or of an object of several frames."""
    slices = volume["slices"]
    names = list(dict.fromkeys(str(files[s["sop_instance_uid"]]) for s in slices))
    if slices[0]["frame"] is None:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(names)
        image = reader.Execute()
        fault = where(volume, image) or values(volume, sitk.GetArrayFromImage(image))
        return [fault] if fault else []
    # It gives all frames in the order of the file, whatever they are: the volume's are taken out.
    image = sitk.ReadImage(names[0])
    frames = sitk.GetArrayFromImage(image)[[s["frame"] - 1 for s in slices]]
    return [fault for fault in [in_plane(volume, image, names[0]), values(volume, frames)] if fault]


def where(volume, image):
    direction = np.array(image.GetDirection()).reshape(3, 3)
    if list(image.GetSize()) != list(volume["size"]):
        return f"a size of {image.GetSize()}, not {volume['size']}"
    corner = np.array(volume["size"]) - 1
    for index in (np.zeros(3), *(np.eye(3) * corner), corner):
        there = np.array(image.GetOrigin()) + direction @ (np.array(image.GetSpacing()) * index)
        here = volume["origin"] + volume["axes"] @ (volume["spacing"] * index)
        if np.linalg.norm(there - here) > TOLERANCE_MM:
            return f"voxel {index} at {there}, not at {here}"
    return None


def in_plane(volume, image, name):
    """Where each frame lies, by pydicom, and what SimpleITK says of the planes."""
    d = pydicom.dcmread(name, stop_before_pixels=True)
    for z, s in enumerate(volume["slices"]):
        frame = d.PerFrameFunctionalGroupsSequence[s["frame"] - 1]
        there = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        here = volume["origin"] + volume["axes"] @ (volume["spacing"] * [0, 0, z])
        if np.linalg.norm(there - here) > TOLERANCE_MM:
            return f"slice {z} at {here}, and its frame at {there}"
    direction = np.array(image.GetDirection()).reshape(3, 3)
    if np.abs(direction[:, :2] - volume["axes"][:, :2]).max() > 1e-4:
        return f"axes of {direction}, not {volume['axes']}"
    # Where frames lie at one place twice, it says 1 mm of everything.
    spacing = np.array(image.GetSpacing())
    measures = d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    told = measures.PixelSpacing[::-1] if (spacing == 1).all() else spacing[:2]
    if np.abs(np.array(told, float) - volume["spacing"][:2]).max() > 1e-6:
        return f"a spacing of {told}, not {volume['spacing']}"
    return None


def values(volume, array, tolerance=TOLERANCE):
    if array.shape != volume["array"].shape:
        return f"an array of {array.shape}, not {volume['array'].shape}"
    wrong = np.abs(array.astype("f4") - volume["array"]) > tolerance
    if not wrong.any():
        return None
    at = tuple(np.argwhere(wrong)[0])
    return f"{wrong.sum()} values differ: at {at[::-1]} {array[at]}, not {volume['array'][at]}"


def tilted(volume, files):
    """Each slice alone, resampled by SimpleITK onto its plane of the grid."""
    faults = []
    darkest = float(volume["array"].min())
    for z, s in enumerate(volume["slices"]):
        slice = sitk.Cast(sitk.ReadImage(str(files[s["sop_instance_uid"]])), sitk.sitkFloat64)
        grid = sitk.Image([*volume["size"][:2], 1], sitk.sitkFloat64)
        grid.SetSpacing(volume["spacing"])
        grid.SetOrigin(volume["origin"] + volume["axes"] @ (volume["spacing"] * [0, 0, z]))
        grid.SetDirection(volume["axes"].ravel())
        there = sitk.GetArrayFromImage(sitk.Resample(slice, grid, sitk.Transform(), sitk.sitkLinear, darkest))[0]
        here = volume["array"][z]
        wrong = np.abs(there - here) > TOLERANCE_TILTED
        # Half a voxel at an edge is somebody's choice.
        inside = there != darkest
        if (wrong & inside).any() or wrong.mean() > 0.01:
            faults.append(f"slice {z}: {wrong.sum()} values differ, {(wrong & inside).sum()} of them inside")
        if inside.mean() < 0.5:
            faults.append(f"slice {z}: {inside.mean():.0%} of it is in the grid")
    return faults


def by_dcm2niix(folder):
    with tempfile.TemporaryDirectory() as out:
        # Losslessly scaled and as they are: nothing is cropped, nothing merged.
        call = [dcm2niix.bin, "-f", "%s_%d", "-z", "n", "-b", "n", "-m", "n", "-o", out, str(folder)]
        run = subprocess.run(call, capture_output=True, text=True)
        paths = sorted(pathlib.Path(out).glob("*.nii"))
        if not paths:
            sys.exit(f"dcm2niix made nothing of {folder}: {run.stdout[-400:]}")
        return [(path, sitk.ReadImage(str(path))) for path in paths]


def differ(volume, image, name):
    """What dcm2niix and we say otherwise, voxel by voxel: its axes may run the other way."""
    if image.GetDimension() != 3:
        return f"of {image.GetDimension()} dimensions"
    there = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    here = volume["axes"] @ np.diag(volume["spacing"])
    turn = np.linalg.solve(there, here)
    whole = np.round(turn)
    if np.abs(turn - whole).max() > 1e-3 or not (np.abs(whole).sum(0) == 1).all():
        return f"axes of {there}, not {here}"
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    axes = [int(np.abs(whole[:, i]).argmax()) for i in range(3)]
    array, back = array.transpose(axes), [whole[axis, i] < 0 for i, axis in enumerate(axes)]
    for i in np.flatnonzero(back):
        array = np.flip(array, i)
    if array.shape != tuple(volume["size"]):
        return f"a size of {array.shape}, not {volume['size']}"
    array = array.transpose(2, 1, 0)
    if "Tilt" in name:
        return moved(volume, array)
    start = np.linalg.solve(there, volume["origin"] - np.array(image.GetOrigin()))
    first = [array.shape[2 - i] - 1 - start[axis] if back[i] else start[axis] for i, axis in enumerate(axes)]
    return f"its first voxel is {first} of ours" if np.abs(first).max() > 1e-2 else values(volume, array)


def moved(volume, array):
    """The position that it gives a straightened stack is not where its slices are (it is off along the table), and
    it begins at another part of a row; that it moves each slice by as much as we do can be told."""
    best = []
    for here, there in zip(volume["array"], array):
        off = {rows: float(np.abs(np.roll(there, rows, 0) - here)[4:-4].mean()) for rows in range(-4, 5)}
        best.append(min(off, key=off.get))
        if off[best[-1]] > 0.05 * here.std():
            return f"slices that differ by {off[best[-1]]:.0f} on average"
    return None if len(set(best)) == 1 else f"slices moved by {best} rows more"


if __name__ == "__main__":
    main()
