"""Writes a SEG with highdicom, as often as it is told to.

    bench_seg.py STUDY

Reads the headers of the study, prints a line, and then does what each line of standard input says:

    labels LABELS OUT     the SEG of these labels (one byte a voxel, slices ascending) to memory, and to OUT
    masks LABELS OUT      the same, where a mask of each organ is given instead
    compare LABELS SEG…   whether highdicom finds just these labels in each of these

with tabs between. The answer is a line of JSON: seconds that writing took, or what was found. The imports are over by then.
Exit status 3 when a package is missing.
"""

import io
import json
import pathlib
import sys
import time

try:
    import highdicom
    import numpy as np
    import pydicom
    from highdicom_seg import segmentation
except ImportError as error:
    print(f"{error.name} is not installed in {sys.executable}", file=sys.stderr)
    sys.exit(3)

ORGANS = [("Liver", "10200004", "Liver"), ("Spleen", "78961009", "Spleen"), ("Stomach", "69695003", "Stomach")]


def read(folder):
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(pathlib.Path(folder).iterdir())]
    return sorted(datasets, key=lambda d: float(d.ImagePositionPatient[2]))


def labels_of(path, datasets):
    first = datasets[0]
    return np.fromfile(path, np.uint8).reshape(len(datasets), first.Rows, first.Columns)


def write(datasets, array, out):
    begun = time.perf_counter()
    seg = segmentation(datasets, array, "bench", ORGANS)
    made = time.perf_counter()
    seg.save_as(io.BytesIO())
    in_memory = time.perf_counter()
    seg.save_as(out)
    in_file = time.perf_counter()
    return {"memory": in_memory - begun, "file": made - begun + in_file - in_memory, "made": made - begun}


def compare(datasets, labels, path):
    seg = highdicom.seg.segread(path)
    uids = [d.SOPInstanceUID for d in datasets]
    found = seg.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True, dtype=np.uint8
    )
    return {"frames": int(seg.NumberOfFrames), "equal": bool(np.array_equal(found, labels))}


def main(study):
    datasets = read(study)
    versions = ", ".join(f"{p.__name__} {p.__version__}" for p in (highdicom, pydicom, np))
    print(json.dumps({"packages": versions}), flush=True)
    for line in sys.stdin:
        what, labels, *paths = line.rstrip("\n").split("\t")
        labels = labels_of(labels, datasets)
        if what == "labels":
            told = write(datasets, labels, paths[0])
        elif what == "masks":
            masks = np.stack([labels == number for number in range(1, len(ORGANS) + 1)], axis=-1)
            told = write(datasets, masks, paths[0])
        else:
            told = [compare(datasets, labels, path) for path in paths]
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
