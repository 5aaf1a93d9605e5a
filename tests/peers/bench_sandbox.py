"""The work of ct-organs with what people use today: pydicom, scipy, onnxruntime and highdicom.

    bench_sandbox.py STUDY MODEL.onnx OUT

Reads the study, segments liver, lungs and kidneys with the steps of modules/ct-organs, measures them, and writes a SEG
and an SR. Prints JSON: seconds in all, in the network and in each stage, and what was measured.
Exit status 3 when a package is missing.
"""

import json
import pathlib
import resource
import sys
import time

started = time.perf_counter()
try:
    import highdicom
    import numpy as np
    import onnxruntime
    import pydicom
    import scipy
    from highdicom.sr.coding import CodedConcept
    from highdicom_seg import DEVICE, segmentation
    from scipy import ndimage
except ImportError as error:
    print(f"{error.name} is not installed in {sys.executable}", file=sys.stderr)
    sys.exit(3)

SPACING_MM = 3.0
MULTIPLE = 16
AIR_HU = -1024.0
WINDOW_HU = (-300.0, 1400.0)
SLAB = 8
PARTS = 2
ORGANS = [(1, "Liver", "10200004", "Liver"), (2, "Lungs", "39607008", "Lung"), (3, "Kidneys", "64033007", "Kidney")]

stages = {}
network = 0.0


def stage(name, since):
    now = time.perf_counter()
    stages[name] = round(now - since, 3)
    return now


def read(folder):
    """Data sets in order along z, and their voxels in HU."""
    datasets = [pydicom.dcmread(path) for path in sorted(pathlib.Path(folder).iterdir())]
    datasets.sort(key=lambda d: float(d.ImagePositionPatient[2]))
    first = datasets[0]
    voxels = np.empty((len(datasets), first.Rows, first.Columns), np.float32)
    for out, dataset in zip(voxels, datasets):
        out[:] = dataset.pixel_array
        out *= float(dataset.RescaleSlope)
        out += float(dataset.RescaleIntercept)
    return datasets, voxels


def linear(plane, step, shape):
    """A plane sampled `step` pixels apart over the same field of view."""
    offset = [s / 2 - 0.5 for s in step]
    return ndimage.affine_transform(plane, step, offset, shape, order=1, mode="nearest")


def segment(voxels, spacing, model):
    """Labels on the grid of `voxels`."""
    global network
    _, height, width = voxels.shape
    new = [max(1, int(n * s / SPACING_MM + 0.5)) for n, s in zip((height, width), spacing)]
    step = [SPACING_MM / s for s in spacing]
    padded = [-(-n // MULTIPLE) * MULTIPLE for n in new]
    top, left = ((p - n) // 2 for p, n in zip(padded, new))
    back = [1 / s for s in step]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    labels = np.empty(voxels.shape, np.uint8)
    low = WINDOW_HU[0] - WINDOW_HU[1] / 2
    for first in range(0, len(voxels), SLAB):
        slab = voxels[first : first + SLAB]
        batch = np.full((len(slab), 1, *padded), AIR_HU, np.float32)
        for out, plane in zip(batch, slab):
            out[0, top : top + new[0], left : left + new[1]] = linear(plane, step, new)
        batch = np.clip((batch - low) / WINDOW_HU[1], 0, 1).astype(np.float32)
        since = time.perf_counter()
        logits = session.run(["logits"], {"ct": batch})[0]
        network += time.perf_counter() - since
        for out, scores in zip(labels[first:], logits):
            inner = scores[:, top : top + new[0], left : left + new[1]]
            out[:] = np.argmax([linear(channel, back, (height, width)) for channel in inner], axis=0)
    return labels


def largest(labels, voxel_ml):
    """Only the largest parts of each label, and the mL of each label that is there."""
    kept, measured = np.zeros_like(labels), {}
    for value, *_ in ORGANS:
        parts, count = ndimage.label(labels == value)
        if count == 0:
            continue
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        chosen = np.argsort(sizes, kind="stable")[::-1][: min(PARTS, count)]
        kept[np.isin(parts, chosen)] = value
        measured[value] = float(sizes[chosen].sum() * voxel_ml)
    return kept, measured


def write(datasets, labels, measured, out):
    """SEG and SR."""
    present = [organ for organ in ORGANS if organ[0] in measured]
    numbered = np.zeros_like(labels)
    for number, (value, *_) in enumerate(present, 1):
        numbered[labels == value] = number
    seg = segmentation(datasets, numbered, "ct-organs", [organ[1:] for organ in present])
    seg.save_as(out / "segmentation.dcm")
    groups = [
        highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=highdicom.sr.TrackingIdentifier(highdicom.UID(), name),
            referenced_segment=highdicom.sr.ReferencedSegment(
                sop_class_uid=seg.SOPClassUID,
                sop_instance_uid=seg.SOPInstanceUID,
                segment_number=number,
                source_series=highdicom.sr.SourceSeriesForSegmentation(datasets[0].SeriesInstanceUID),
            ),
            finding_type=CodedConcept(code, "SCT", meaning),
            measurements=[
                highdicom.sr.Measurement(
                    CodedConcept("118565006", "SCT", "Volume"),
                    measured[value],
                    CodedConcept("mL", "UCUM", "mL"),
                )
            ],
        )
        for number, (value, name, code, meaning) in enumerate(present, 1)
    ]
    observer = highdicom.sr.ObserverContext(
        CodedConcept("121007", "DCM", "Device"),
        highdicom.sr.DeviceObserverIdentifyingAttributes(uid=highdicom.UID()),
    )
    report = highdicom.sr.MeasurementReport(
        observation_context=highdicom.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=groups,
    )
    # A report about a segmentation refers to it and to every image.
    sr = highdicom.sr.Comprehensive3DSR(
        evidence=[*datasets, seg],
        content=report,
        series_number=101,
        series_instance_uid=highdicom.UID(),
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        **DEVICE,
    )
    sr.save_as(out / "report.dcm")


def main(study, model, out):
    since = stage("imports", started)
    datasets, voxels = read(study)
    first = datasets[0]
    spacing = [float(s) for s in first.PixelSpacing]
    dz = abs(float(datasets[1].ImagePositionPatient[2]) - float(first.ImagePositionPatient[2]))
    since = stage("read", since)
    labels = segment(voxels, spacing, model)
    stages["network"] = round(network, 3)
    since = stage("segment", since)
    stages["segment"] = round(stages["segment"] - network, 3)
    labels, measured = largest(labels, spacing[0] * spacing[1] * dz / 1000)
    since = stage("components", since)
    write(datasets, labels, measured, pathlib.Path(out))
    stage("write", since)
    packages = (pydicom, scipy, onnxruntime, highdicom)
    print(
        json.dumps(
            {
                "total": time.perf_counter() - started,
                "network": network,
                "stages": stages,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "millilitres": {name: round(measured.get(value, 0.0), 1) for value, name, *_ in ORGANS},
                "packages": ", ".join(f"{p.__name__} {p.__version__}" for p in packages),
            }
        )
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
