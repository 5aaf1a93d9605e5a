"""Reference vectors for runtime/src/volumes: what SimpleITK, scipy and numpy make of the same input.

    python tests/reference/volumes.py

writes runtime/src/volumes/reference/vectors.json, which is committed; the Rust tests need no Python. Inputs come from
fixed seeds. Values are below 256 in size, so that f32 keeps 1e-4 through an interpolation.
"""

import json
import platform
from pathlib import Path

import numpy as np
import scipy
import scipy.ndimage
import scipy.special
import SimpleITK as sitk

OUT = Path(__file__).parents[2] / "runtime/src/volumes/reference/vectors.json"
TOLERANCE = 1e-4
HOW = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor}
SAMPLED = HOW | {"cubic": sitk.sitkBSpline}


def rotation(x, y, z):
    """Direction cosines as columns, from angles in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


def image(array, spacing, origin, direction):
    made = sitk.GetImageFromArray(array)
    made.SetSpacing(spacing)
    made.SetOrigin(origin)
    made.SetDirection(np.asarray(direction, dtype=float).ravel().tolist())
    return made


def grid(img):
    direction = np.array(img.GetDirection()).reshape(3, 3)
    return {
        "size": list(img.GetSize()),
        "spacing": list(img.GetSpacing()),
        "origin": list(img.GetOrigin()),
        "axes": direction.T.tolist(),
    }


def numbers(array):
    """Shortest decimals that come back as the same f32, or whole numbers."""
    array = np.asarray(array).ravel()
    if array.dtype.kind in "iu":
        return array.tolist()
    return [float(str(v)) if np.isfinite(v) else str(v) for v in array.astype(np.float32)]


def volume(img):
    return {"grid": grid(img), "voxels": numbers(sitk.GetArrayFromImage(img))}


def like(img, array):
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(img)
    return made


def smooth(rng, shape, size):
    """Intensities that vary over a few voxels, as f32."""
    values = scipy.ndimage.gaussian_filter(rng.normal(size=shape), 0.8)
    return (values / np.abs(values).max() * size).astype(np.float32)


def blobs(rng, shape, labels, sigma):
    """Labels in connected regions of different sizes."""
    fields = np.stack([scipy.ndimage.gaussian_filter(rng.normal(size=shape), sigma) for _ in range(labels)])
    fields /= fields.std(axis=(1, 2, 3), keepdims=True)
    return np.where(fields.max(axis=0) > 1.1, fields.argmax(axis=0) + 1, 0).astype(np.uint8)


def resampled(img, spacing, how):
    size = np.floor(np.array(img.GetSize()) * img.GetSpacing() / spacing + 0.5).astype(int)
    first = (np.array(spacing) / img.GetSpacing() - 1) / 2
    origin = img.TransformContinuousIndexToPhysicalPoint(first.tolist())
    return sitk.Resample(
        img, size.tolist(), sitk.Transform(), SAMPLED[how], origin, spacing, img.GetDirection(), 0.0, img.GetPixelID()
    )


def case(name, source, ops, expected, tolerance=0.0):
    return {"name": name, "source": source, "ops": ops, "tolerance": tolerance, "expected": volume(expected)}


def resampling(sources):
    cases = []
    for name, spacing in [
        ("isotropic", [1.5, 1.5, 1.5]),
        ("finer", [0.45, 0.7, 1.1]),
        ("coarser", [1.7, 2.3, 5.2]),
        ("mixed", [0.8, 2.9, 1.3]),
        ("in plane", [2.0, 2.0, 2.5]),
    ]:
        for how in HOW:
            ops = [["resample", spacing, how]]
            expected = resampled(sources["ct"], spacing, how)
            cases.append(case(f"resample {name} {how}", "ct", ops, expected, TOLERANCE))
    for name, target in [("oblique", "oblique"), ("turned", "turned"), ("shifted", "shifted")]:
        for how in HOW:
            ops = [["resample_like", target, how, -7.5]]
            expected = sitk.Resample(sources["ct"], sources[target], sitk.Transform(), HOW[how], -7.5)
            cases.append(case(f"resample like {name} {how}", "ct", ops, expected, TOLERANCE))
    ops = [["resample_like", "ct", "nearest", 0]]
    expected = sitk.Resample(sources["labels"], sources["ct"], sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    cases.append(case("labels to another grid", "labels", ops, expected))
    # Samples in the middle between two voxels, on grids where nothing is rounded.
    cases.append(case("halves", "plain", [["resample", [2, 2, 2], "nearest"]], resampled(sources["plain"], [2, 2, 2], "nearest")))
    ops = [["resample_like", "plain reversed", "nearest", 0]]
    expected = sitk.Resample(sources["plain"], sources["plain reversed"], sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    cases.append(case("halves, reversed", "plain", ops, expected))
    return cases


def views(sources):
    ct = sources["ct"]
    cases = [
        case(f"orient {name} {code}", name, [["orient", code]], sitk.DICOMOrient(sources[name], code))
        for name in ["ct", "oblique", "turned"]
        for code in ["LPS", "RAS", "SAR", "PIL"]
    ]
    cases.append(case("crop", "ct", [["crop", [1, 2, 0], [4, 3, 5]]], ct[1:5, 2:5, 0:5]))
    size = np.array([10, 6, 8])
    more = size - ct.GetSize()
    padded = sitk.ConstantPad(ct, (more // 2).tolist(), (more - more // 2).tolist(), -100.0)
    cases.append(case("pad", "ct", [["pad", size.tolist(), -100]], padded))
    return cases


def points(sources):
    ct = sources["ct"]
    v = sitk.GetArrayFromImage(ct)
    f = np.float32
    return [
        case("clip", "ct", [["clip", -50, 80]], like(ct, np.clip(v, f(-50), f(80)))),
        case("affine", "ct", [["affine", 0.3, -12.5]], like(ct, f(0.3) * v + f(-12.5)), TOLERANCE),
        case("window", "ct", [["window", 40, 150]], like(ct, np.clip((v - f(-35)) / f(150), f(0), f(1))), 1e-6),
        case("z-score", "ct", [["z_score"]], like(ct, scipy.stats.zscore(v.astype(np.float64), axis=None).astype(f)), 1e-5),
        case("threshold", "ct", [["threshold", -20, 90]], like(ct, ((v >= -20) & (v <= 90)).astype(np.uint8))),
        case("label", "labels", [["label", 2]], sources["labels"] == 2),
        case(
            "a border is of the value at its time",
            "ct",
            [["affine", 2, 1], ["pad", [9, 8, 6], 10], ["affine", 3, 0], ["clip", -90, 90]],
            like_padded(ct, v),
            TOLERANCE,
        ),
    ]


def like_padded(ct, v):
    more = np.array([9, 8, 6]) - ct.GetSize()
    grown = sitk.ConstantPad(like(ct, 2 * v + 1), (more // 2).tolist(), (more - more // 2).tolist(), 10.0)
    return sitk.Clamp(grown * 3.0, sitk.sitkFloat32, -90, 90)


def statistics(sources):
    def of(name, array, within=None):
        kept = array[np.isfinite(array)].astype(np.float64)
        return {
            "source": name,
            "within": within,
            "minimum": float(kept.min()),
            "maximum": float(kept.max()),
            "mean": float(kept.mean()),
            "deviation": float(kept.std()),
            "count": int(kept.size),
        }

    ct, holes = (sitk.GetArrayFromImage(sources[name]) for name in ["ct", "holes"])
    return [of("ct", ct), of("ct", ct[1:4, 2:5, 0:6], [[0, 2, 1], [6, 3, 3]]), of("holes", holes)]


def components(sources):
    """Of each label by itself: scipy knows no labels, only foreground."""
    img = sources["labels"]
    array = sitk.GetArrayFromImage(img)
    found, kept = [], {1: np.zeros_like(array), 2: np.zeros_like(array)}
    for label in np.unique(array[array > 0]):
        regions, count = scipy.ndimage.label(array == label)
        of_label = []
        for number, box in enumerate(scipy.ndimage.find_objects(regions), 1):
            voxels = int((regions == number).sum())
            centre = scipy.ndimage.center_of_mass(regions == number)[::-1]
            first = int(np.flatnonzero(regions.ravel() == number)[0])
            of_label.append((voxels, first, number))
            found.append(
                {
                    "label": int(label),
                    "voxels": voxels,
                    "first": first,
                    "millilitres": voxels * float(np.prod(img.GetSpacing())) / 1000,
                    "start": [s.start for s in box[::-1]],
                    "size": [s.stop - s.start for s in box[::-1]],
                    "centroid": list(img.TransformContinuousIndexToPhysicalPoint([float(c) for c in centre])),
                }
            )
        of_label.sort(key=lambda c: (-c[0], c[1]))
        for count in kept:
            for _, _, number in of_label[:count]:
                kept[count][regions == number] = label
    found.sort(key=lambda c: (-c["voxels"], c["first"]))
    assert len({c["voxels"] for c in found}) < len(found), "a tie is part of the test"
    return {
        "source": "labels",
        "components": found,
        "keep_largest": {str(count): numbers(array) for count, array in kept.items()},
    }


def argmaxes(rng, sources):
    cases = []
    coarse = sources["coarse"]
    size = coarse.GetSize()[::-1]
    scores = np.stack([smooth(rng, size, 10.0) for _ in range(4)])
    for target in ["coarse", "fine", "fine turned", "oblique"]:
        onto = sources[target]
        index = np.stack(np.meshgrid(*[np.arange(n) for n in onto.GetSize()[::-1]], indexing="ij"))[::-1].reshape(3, -1)
        direction = np.array(onto.GetDirection()).reshape(3, 3)
        patient = direction @ (index * np.array(onto.GetSpacing())[:, None]) + np.array(onto.GetOrigin())[:, None]
        back = np.linalg.inv(np.array(coarse.GetDirection()).reshape(3, 3) * np.array(coarse.GetSpacing()))
        at = back @ (patient - np.array(coarse.GetOrigin())[:, None])
        wide = np.array(coarse.GetSize())[:, None] - 0.5
        inside = ((at >= -0.5 - 1e-6) & (at <= wide + 1e-6)).all(axis=0)
        sampled = np.stack(
            [scipy.ndimage.map_coordinates(s.astype(np.float64), at[::-1], order=1, mode="nearest") for s in scores]
        )
        first, second = np.sort(sampled, axis=0)[::-1][:2]
        assert (first - second).min() > 1e-7, "a tie would be decided by rounding"
        labels = np.where(inside, sampled.argmax(axis=0), 0).astype(np.uint8)
        cases.append({"onto": target, "labels": numbers(labels)})
    return {"like": "coarse", "shape": [1, *scores.shape], "scores": numbers(scores), "cases": cases}


def softmaxes(rng):
    t = (rng.normal(size=(2, 3, 4, 2)) * 5).astype(np.float32)
    results = [numbers(scipy.special.softmax(t.astype(np.float64), axis=axis)) for axis in range(4)]
    return {"shape": list(t.shape), "values": numbers(t), "by_axis": results}


def main():
    rng = np.random.default_rng(20240229)
    ct = image(smooth(rng, (5, 6, 7), 250.0), [0.8, 1.2, 2.5], [-31.5, 12.25, 104.0], rotation(0.1, -0.2, 0.3))
    # Not in the middle between voxels, where rounding would decide which is nearest.
    middle = ct.TransformContinuousIndexToPhysicalPoint([3.02, 2.47, 2.01])

    def around(size, spacing, direction):
        """A grid around the same place."""
        reach = np.asarray(direction) @ ((np.array(size) - 1) / 2 * spacing)
        return image(smooth(rng, size[::-1], 250.0), spacing, (np.array(middle) - reach).tolist(), direction)

    same = np.array(ct.GetDirection()).reshape(3, 3)
    holes = sitk.GetArrayFromImage(ct)
    holes[1, 2, 3], holes[0, 0, 0], holes[4, 5, 6] = np.nan, np.inf, -np.inf
    sources = {
        "ct": ct,
        "holes": like(ct, holes),
        "oblique": around([6, 7, 8], [1.1, 0.9, 1.4], rotation(0.5, 0.4, -0.9)),
        "turned": around([5, 6, 5], [2.3, 0.9, 1.1], same[:, [2, 0, 1]] * [-1, 1, -1]),
        "shifted": around([9, 6, 7], [0.9, 1.2, 2.1], same),
        "coarse": around([5, 6, 4], [1.6, 1.4, 2.5], same),
        "fine": around([13, 12, 5], [0.7, 0.65, 2.5], same),
        "fine turned": around([5, 13, 11], [2.1, 0.7, 0.65], same[:, [2, 0, 1]] * [1, -1, -1]),
    }
    sources["plain"] = image(smooth(rng, (4, 6, 8), 250.0), [1, 1, 1], [0, 0, 0], np.eye(3))
    reversed_axes = np.diag([-1, 1, -1])
    sources["plain reversed"] = image(smooth(rng, (2, 3, 4), 250.0), [2, 2, 2], [6.5, 0.5, 2.5], reversed_axes)
    labels = blobs(rng, (9, 14, 16), 3, 0.9)
    sources["labels"] = image(labels, [0.9, 0.7, 1.5], ct.GetOrigin(), ct.GetDirection())
    vectors = {
        "made_with": {
            "script": "tests/reference/volumes.py",
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "SimpleITK": sitk.Version_VersionString(),
        },
        "sources": {name: volume(img) for name, img in sources.items()},
        "cases": resampling(sources) + views(sources) + points(sources),
        "statistics": statistics(sources),
        "components": components(sources),
        "argmax": argmaxes(rng, sources),
        "softmax": softmaxes(rng),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    # One line a value keeps differences readable without making the file large.
    lines = []
    for key, value in vectors.items():
        if isinstance(value, list):
            lines.append(f"{json.dumps(key)}:[\n" + ",\n".join(compact(v) for v in value) + "\n]")
        else:
            inner = ",\n".join(f"{json.dumps(k)}:{compact(v)}" for k, v in value.items())
            lines.append(f"{json.dumps(key)}:{{\n{inner}\n}}")
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{OUT}: {OUT.stat().st_size} bytes")


def compact(value):
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    main()
