"""Reference vectors for runtime/src/volumes/filters: what SimpleITK, scipy and numpy make of the same input.

    python tests/reference/filters.py

writes runtime/src/volumes/reference/filters.json, which is committed; the Rust tests need no Python. Inputs come from
fixed seeds. What is no function of a library is built of its parts here, step by step.
"""

import json
import platform
from pathlib import Path

import numpy as np
import scipy
import scipy.ndimage as ndi
import SimpleITK as sitk
from volumes import blobs, case, compact, image, like, numbers, resampled, rotation, smooth, volume

OUT = Path(__file__).parents[2] / "runtime/src/volumes/reference/filters.json"


def ball(radius, spacing):
    """The voxels within `radius` mm of the one in the middle; z, y, x."""
    reach = [int(radius / s) for s in spacing[::-1]]
    grid = np.meshgrid(*[np.arange(-r, r + 1) * s for r, s in zip(reach, spacing[::-1])], indexing="ij")
    return sum(g**2 for g in grid) <= (radius * (1 + 1e-6)) ** 2


def eroded(mask, structure):
    return ndi.binary_erosion(mask, structure, border_value=1)


def morphology(mask, operation, radius, spacing):
    structure = ball(radius, spacing)
    if operation == "dilate":
        # Also by way of distances, which must be the same.
        distances = ndi.distance_transform_edt(~mask, sampling=spacing[::-1])
        grown = ndi.binary_dilation(mask, structure)
        assert (grown == (distances <= radius * (1 + 1e-6))).all()
        return grown
    if operation == "erode":
        return eroded(mask, structure)
    if operation == "open":
        return ndi.binary_dilation(eroded(mask, structure), structure)
    margin = [(n // 2, n // 2) if size > 1 else (0, 0) for n, size in zip(structure.shape, mask.shape)]
    grown = np.pad(mask, margin, mode="edge")
    closed = eroded(ndi.binary_dilation(grown, structure), structure)
    return closed[tuple(slice(a, n - b) for (a, b), n in zip(margin, closed.shape))]


def smoothing(sources):
    ct = sources["ct"]
    v, spacing = sitk.GetArrayFromImage(ct), np.array(ct.GetSpacing())
    cases = []
    for sigma in [[1.0, 1.0, 1.0], [0.5, 2.0, 4.0], [0.0, 1.5, 0.0], [6.0, 0.0, 9.0]]:
        expected = ndi.gaussian_filter(v, (np.array(sigma) / spacing)[::-1], mode="nearest", truncate=4.0)
        cases.append(case(f"gaussian {sigma}", "ct", [["gaussian", sigma]], like(ct, expected), 1e-3))
    cases.append(case("gradient", "ct", [["gradient_magnitude"]], sitk.GradientMagnitude(ct), 1e-3))
    cases.append(case("gradient, turned", "turned", [["gradient_magnitude"]], sitk.GradientMagnitude(sources["turned"]), 1e-3))
    for radius in [[1, 1, 1], [1, 1, 0], [2, 1, 1], [2, 2, 2], [0, 3, 0], [4, 3, 2]]:
        expected = sitk.Median(ct, radius)
        by_scipy = ndi.median_filter(v, [2 * r + 1 for r in radius[::-1]], mode="nearest")
        assert (sitk.GetArrayFromImage(expected) == by_scipy).all()
        cases.append(case(f"median {radius}", "ct", [["median", radius]], expected))
    return cases


def morphologies(sources):
    cases = []
    for name, radii in [("mask", [0.5, 0.9, 1.5, 2.1, 3.2]), ("image mask", [0.9, 1.8, 2.6])]:
        mask = sources[name]
        array, spacing = sitk.GetArrayFromImage(mask) > 0, mask.GetSpacing()
        for operation in ["dilate", "erode", "open", "close"]:
            for radius in radii:
                expected = morphology(array, operation, radius, spacing).astype(np.uint8)
                ops = [["morphology", operation, radius]]
                cases.append(case(f"{operation} {name} {radius} mm", name, ops, like(mask, expected)))
    return cases


def projections(sources):
    ct = sources["ct"]
    v = sitk.GetArrayFromImage(ct)
    cases = []
    itk = {"maximum": sitk.MaximumProjection, "minimum": sitk.MinimumProjection, "mean": sitk.MeanProjection}
    for axis in range(3):
        for how, project in itk.items():
            cases.append(case(f"{how} along {axis}", "ct", [["project", axis, how]], projected(project(ct, axis), ct, axis), 1e-4))
    of = {"maximum": np.max, "minimum": np.min, "mean": lambda a, axis: a.astype(np.float64).mean(axis)}
    for how, reduce in of.items():
        for slices in [1, 2, 3, 4, 9]:
            before, behind = (slices - 1) // 2, slices // 2
            rows = [reduce(v[max(z - before, 0) : z + behind + 1], axis=0) for z in range(len(v))]
            cases.append(case(f"{how} of {slices} slices", "ct", [["slab", how, slices]], like(ct, np.array(rows, np.float32)), 1e-4))
    return cases


def projected(made, ct, axis):
    """ITK leaves the one slice where the first was; ours lies in the middle of all that it is of."""
    middle = [0.0, 0.0, 0.0]
    middle[axis] = (ct.GetSize()[axis] - 1) / 2
    made.SetOrigin(ct.TransformContinuousIndexToPhysicalPoint(middle))
    spacing = list(ct.GetSpacing())
    spacing[axis] *= ct.GetSize()[axis]
    made.SetSpacing(spacing)
    made.SetDirection(ct.GetDirection())
    return made


def histograms(sources):
    ct = sources["ct"]
    v = sitk.GetArrayFromImage(ct)
    at = [0, 0.5, 1, 10, 25, 50, 66.6, 90, 99.5, 100]
    holes = sitk.GetArrayFromImage(sources["holes"])
    percentiles = [
        {"source": name, "at": at, "values": np.percentile(kept.astype(np.float64), at).tolist()}
        for name, kept in [("ct", v), ("holes", holes[np.isfinite(holes)])]
    ]
    low, high = np.percentile(v.astype(np.float64), [2, 98])
    expected = np.clip((v - low) / (high - low), 0, 1).astype(np.float32)
    cases = [case("normalise", "ct", [["normalise", 2, 98]], like(ct, expected), 1e-5)]
    for bins in [4, 64, 256]:
        counts, edges = np.histogram(v.astype(np.float64), bins)
        parts = counts.cumsum() / counts.sum()
        expected = np.interp(v.astype(np.float64).ravel(), (edges[:-1] + edges[1:]) / 2, parts).reshape(v.shape)
        cases.append(case(f"equalise {bins}", "ct", [["equalise", bins]], like(ct, expected.astype(np.float32)), 1e-5))
    return cases, percentiles, {"source": "ct", "threshold": otsu(v)}


def otsu(v):
    counts, edges = np.histogram(v.astype(np.float64), 256)
    middles = (edges[:-1] + edges[1:]) / 2
    below, above = counts.cumsum(), counts[::-1].cumsum()[::-1]
    mean_below = (counts * middles).cumsum() / np.maximum(below, 1)
    mean_above = (counts * middles)[::-1].cumsum()[::-1] / np.maximum(above, 1)
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(middles[:-1][between.argmax()])


def cubics(sources):
    ct = sources["ct"]
    cases = []
    for name, spacing in [("isotropic", [1.5, 1.5, 1.5]), ("finer", [0.45, 0.7, 1.1]), ("coarser", [1.7, 2.3, 5.2])]:
        made = resampled(ct, spacing, "cubic")
        cases.append(case(f"cubic {name}", "ct", [["resample_cubic", spacing]], made, 2e-3))
    for target in ["oblique", "turned", "shifted"]:
        made = sitk.Resample(ct, sources[target], sitk.Transform(), sitk.sitkBSpline, -7.5)
        cases.append(case(f"cubic onto {target}", "ct", [["onto", target, "cubic", -7.5]], made, 2e-3))
    made = sitk.Resample(ct, sources["oblique"], sitk.Transform(), sitk.sitkLinear, -7.5)
    cases.append(case("linear onto oblique", "ct", [["onto", "oblique", "linear", -7.5]], made, 1e-4))
    return cases


def masks(rng):
    """A body of two parts with holes on a table, and a breast with a mark beside it."""
    z, y, x = np.meshgrid(np.arange(3), np.arange(40), np.arange(48), indexing="ij")
    body = np.full(z.shape, -1000.0)
    body[((x - 22) / 16) ** 2 + ((y - 18) / 12) ** 2 < 1] = 40
    body[((x - 15) / 4) ** 2 + ((y - 17) / 5) ** 2 < 1] = -850
    body[(y >= 33) & (y < 35)] = 60
    body[(y >= 31) & (y < 33) & (x == 22)] = 60
    body = image(np.round(body + rng.normal(size=body.shape) * 8).astype(np.int16), [1.5, 1.5, 4.0], [0, 0, 0], np.eye(3))
    above = sitk.GetArrayFromImage(body) >= -400
    opened = morphology(above, "open", 3.0, body.GetSpacing())
    filled = np.array([ndi.binary_fill_holes(s) for s in largest(opened)])
    assert filled.sum() > 1000 and not filled[:, 34].any() and filled[:, 17, 15].all()

    y, x = np.meshgrid(np.arange(60), np.arange(50), indexing="ij")
    depth = 1 - ((x / 32) ** 2 + ((y - 30) / 26) ** 2)
    breast = np.where(depth > 0, 300 + 900 * np.sqrt(np.maximum(depth, 0)), 20.0)
    breast[4:9, 40:46] = 1500
    breast = np.round(breast + rng.normal(size=breast.shape) * 6).astype(np.int16)[None]
    breast = image(breast, [0.7, 0.7, 1.0], [0, 0, 0], np.eye(3))
    v = sitk.GetArrayFromImage(breast)
    low = np.percentile(v.astype(np.float64), 1)
    opened = morphology(v >= low + (otsu(v) - low) / 2, "open", 1.0, breast.GetSpacing())
    found = np.array([ndi.binary_fill_holes(s) for s in largest(opened)])
    assert not found[0, 4:9, 40:46].any() and found[0, 30, :30].all()
    return {"body": body, "breast": breast}, [
        case("body", "body", [["body_mask", -400]], like(body, filled.astype(np.uint8))),
        case("breast", "breast", [["breast_mask"]], like(breast, found.astype(np.uint8))),
    ]


def largest(mask):
    regions, _ = ndi.label(mask)
    return regions == np.bincount(regions.ravel())[1:].argmax() + 1


def main():
    rng = np.random.default_rng(20240302)
    ct = image(smooth(rng, (6, 7, 9), 250.0), [0.8, 1.2, 2.5], [-31.5, 12.25, 104.0], rotation(0.1, -0.2, 0.3))
    middle = ct.TransformContinuousIndexToPhysicalPoint([4.02, 3.47, 2.51])

    def around(size, spacing, direction):
        reach = np.asarray(direction) @ ((np.array(size) - 1) / 2 * spacing)
        return image(smooth(rng, size[::-1], 250.0), spacing, (np.array(middle) - reach).tolist(), direction)

    same = np.array(ct.GetDirection()).reshape(3, 3)
    holes = sitk.GetArrayFromImage(ct)
    holes[1, 2, 3], holes[0, 0, 0], holes[4, 5, 6] = np.nan, np.inf, -np.inf
    found, of_masks = masks(rng)
    sources = {
        "ct": ct,
        "holes": like(ct, holes),
        "oblique": around([6, 7, 8], [1.1, 0.9, 1.4], rotation(0.5, 0.4, -0.9)),
        "turned": around([5, 6, 5], [2.3, 0.9, 1.1], same[:, [2, 0, 1]] * [-1, 1, -1]),
        "shifted": around([9, 6, 7], [0.9, 1.2, 2.1], same),
        "mask": image((blobs(rng, (7, 11, 67), 3, 0.9) > 0).astype(np.uint8), [0.9, 0.7, 1.5], [0, 0, 0], np.eye(3)),
        "image mask": image((blobs(rng, (1, 20, 66), 2, 1.2) > 0).astype(np.uint8), [0.6, 0.9, 1.0], [0, 0, 0], np.eye(3)),
        **found,
    }
    of_histograms, percentiles, threshold = histograms(sources)
    cases = smoothing(sources) + morphologies(sources) + projections(sources) + of_histograms + cubics(sources) + of_masks
    vectors = {
        "made_with": {
            "script": "tests/reference/filters.py",
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "SimpleITK": sitk.Version_VersionString(),
        },
        "sources": {name: volume(img) for name, img in sources.items()},
        "cases": cases,
        "percentiles": percentiles,
        "otsu": [threshold],
    }
    lines = []
    for key, value in vectors.items():
        if isinstance(value, list):
            lines.append(f"{json.dumps(key)}:[\n" + ",\n".join(shorter(v) for v in value) + "\n]")
        else:
            inner = ",\n".join(f"{json.dumps(k)}:{shorter(v)}" for k, v in value.items())
            lines.append(f"{json.dumps(key)}:{{\n{inner}\n}}")
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{OUT}: {OUT.stat().st_size} bytes")


def shorter(value):
    """Masks as text: four voxels a hexadecimal digit, the first of them highest."""
    for holder in [value, value.get("expected", {})] if isinstance(value, dict) else []:
        voxels = holder.get("voxels")
        if voxels and all(v in (0, 1) and isinstance(v, int) for v in voxels):
            holder["voxels"] = np.packbits(np.array(voxels, np.uint8)).tobytes().hex()
    return compact(value)


if __name__ == "__main__":
    main()
