"""Does to a volume what Gantry does to it, with scipy and with SimpleITK on two threads.

    bench_volumes.py VOLUME SLICES ROWS COLUMNS THREADS

Reads 16-bit voxels, prints a line, and then answers each line of standard input, the name of an operation, with a line of JSON:
the seconds that each library took, null where it has no such operation. Results are dropped; that they are the same is judged by
the reference vectors in runtime/src/volumes/reference. Exit status 3 when a package is missing.
"""

import json
import sys
import time

try:
    import numpy as np
    import scipy
    import scipy.ndimage as ndi
    import SimpleITK as sitk
except ImportError as error:
    print(f"{error.name} is not installed in {sys.executable}", file=sys.stderr)
    sys.exit(3)

# x, y, z; as in tests/bench/volumes.rs.
SPACING = (0.8, 0.8, 1.5)
SIGMA = 1.5
BALL = 5.0
TURN = 0.2


def ball(radius):
    reach = [int(radius / s) for s in SPACING[::-1]]
    grid = np.meshgrid(*[np.arange(-r, r + 1) * s for r, s in zip(reach, SPACING[::-1])], indexing="ij")
    return sum(g**2 for g in grid) <= radius**2


def slope(volume, axis, output, mode, cval):
    return ndi.correlate1d(volume, np.array([-0.5, 0, 0.5]) / SPACING[2 - axis], axis, output, mode)


def near(mask, radius):
    """Voxels within `radius` mm of a mask, by distances: many times as fast as by a structure of that size."""
    return ndi.distance_transform_edt(~mask, sampling=SPACING[::-1]) <= radius


def closed(mask, radius):
    return ~near(~near(mask, radius), radius)


def near_itk(mask, radius):
    return sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True) <= radius


def body(volume):
    opened = near(~near(~(volume >= -400), 3.0), 3.0)
    regions, _ = ndi.label(opened)
    largest = regions == np.bincount(regions.ravel())[1:].argmax() + 1
    return np.array([ndi.binary_fill_holes(s) for s in largest])


def body_itk(image):
    above = image >= -400
    opened = near_itk(sitk.Not(near_itk(sitk.Not(above), 3.0)), 3.0)
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(opened)) == 1
    slices = [sitk.BinaryFillhole(largest[:, :, z]) for z in range(largest.GetSize()[2])]
    return sitk.JoinSeries(slices)


def equalised(volume):
    counts, edges = np.histogram(volume, 256)
    return np.interp(volume, (edges[:-1] + edges[1:]) / 2, counts.cumsum() / counts.sum())


def normalised(volume):
    low, high = np.percentile(volume, [0.5, 99.5])
    return np.clip((volume - low) / (high - low), 0, 1)


def isotropic(image, how):
    spacing = [1.5] * 3
    size = [round(n * s / 1.5) for n, s in zip(image.GetSize(), SPACING)]
    first = [(1.5 / s - 1) / 2 for s in SPACING]
    origin = image.TransformContinuousIndexToPhysicalPoint(first)
    return sitk.Resample(image, size, sitk.Transform(), how, origin, spacing, image.GetDirection())


def zoomed(volume, order):
    scale = [1.5 / s for s in SPACING[::-1]]
    size = [round(n / f) for n, f in zip(volume.shape, scale)]
    return ndi.affine_transform(volume, scale, [(f - 1) / 2 for f in scale], size, order=order, mode="mirror")


def turned_itk(image, how):
    turn = sitk.Euler3DTransform()
    turn.SetCenter(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    turn.SetRotation(0, 0, TURN)
    return sitk.Resample(image, image, turn, how)


def turned(volume, order):
    s, c = np.sin(TURN), np.cos(TURN)
    matrix = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    middle = (np.array(volume.shape) - 1) / 2
    return ndi.affine_transform(volume, matrix, middle - matrix @ middle, order=order, mode="constant")


def operations(volume, image):
    """For each operation, what scipy (or numpy) does, and SimpleITK."""
    mask, mask_itk = volume >= 200, image >= 200
    sigma = [SIGMA / s for s in SPACING[::-1]]
    # SimpleITK's kernel ends where this much of the Gaussian is left; scipy's at four standard deviations.
    direct = dict(variance=[SIGMA**2] * 3, maximumError=0.0001, maximumKernelWidth=64, useImageSpacing=True)
    itk = sitk
    return {
        "gaussian": (lambda: ndi.gaussian_filter(volume, sigma, mode="nearest"), lambda: itk.DiscreteGaussian(image, **direct)),
        "gradient": (lambda: ndi.generic_gradient_magnitude(volume, slope, mode="nearest"), lambda: itk.GradientMagnitude(image)),
        "median 3": (lambda: ndi.median_filter(volume, 3, mode="nearest"), lambda: itk.Median(image, [1] * 3)),
        "median 5": (lambda: ndi.median_filter(volume, 5, mode="nearest"), lambda: itk.Median(image, [2] * 3)),
        "dilate": (lambda: near(mask, BALL), lambda: near_itk(mask_itk, BALL)),
        "close": (lambda: closed(mask, BALL), lambda: itk.Not(near_itk(itk.Not(near_itk(mask_itk, BALL)), BALL))),
        "project": (lambda: volume.max(axis=0), lambda: itk.MaximumProjection(image, 2)),
        "slab": (lambda: ndi.maximum_filter1d(volume, 10, axis=0, mode="nearest"), None),
        "slab mean": (lambda: ndi.uniform_filter1d(volume, 10, axis=0, mode="nearest"), None),
        "percentiles": (lambda: np.percentile(volume, [0.5, 50, 99.5]), None),
        "normalise": (lambda: normalised(volume), None),
        "equalise": (lambda: equalised(volume), None),
        "linear": (lambda: zoomed(volume, 1), lambda: isotropic(image, sitk.sitkLinear)),
        "cubic": (lambda: zoomed(volume, 3), lambda: isotropic(image, sitk.sitkBSpline)),
        "turned linear": (lambda: turned(volume, 1), lambda: turned_itk(image, sitk.sitkLinear)),
        "turned cubic": (lambda: turned(volume, 3), lambda: turned_itk(image, sitk.sitkBSpline)),
        "z-score": (lambda: (volume - volume.mean()) / volume.std(), lambda: itk.Normalize(image)),
        "components": (lambda: ndi.label(mask), lambda: itk.ConnectedComponent(mask_itk)),
        "body": (lambda: body(volume), lambda: body_itk(image)),
    }


def main(path, slices, rows, columns, threads):
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    volume = np.fromfile(path, np.int16).reshape(slices, rows, columns).astype(np.float32)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(SPACING)
    known = operations(volume, image)
    versions = f"numpy {np.__version__}, scipy {scipy.__version__}, SimpleITK {sitk.Version_VersionString()}"
    print(json.dumps({"packages": versions}), flush=True)
    for line in sys.stdin:
        told = {}
        for name, work in zip(["scipy", "SimpleITK"], known[line.strip()]):
            begun = time.perf_counter()
            made = work() if work else None
            told[name] = time.perf_counter() - begun if work else None
            del made
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
