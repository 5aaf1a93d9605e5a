"""Reference vectors for runtime/src/volumes/patches.rs: windows that a network looks at mirrored and turned.

    python tests/reference/mirrored.py

writes runtime/src/volumes/reference/mirrored.json, which is committed. MONAI has no mirroring of its own: whoever wants it hands its
`sliding_window_inference` a network that averages over what it makes of each turn, turned back. So it is done here, in numpy alone,
over windows that are laid and weighed anew; that these are MONAI's is held against windows.json, which MONAI made.
"""

import itertools
import json
import math
import platform
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[2] / "runtime/src/volumes/reference"
SIGMA_SCALE = 0.125
WEIGHT_MIN = 1e-3


def network(x):
    """As that of windows.py, of one window [k, z, y, x]."""
    place = np.arange(math.prod(x.shape[1:])).reshape(x.shape[1:]) / 8
    row = np.arange(x.shape[2]).reshape(1, -1, 1)
    total = x.sum(axis=0)
    return np.stack([total + place, total * row])


def turns(axes, quarter_turns, window):
    """Pairs of a turn and its way back, each turn once."""
    along = [axis for axis, wanted in zip((-1, -2, -3), axes) if wanted]
    flips = [some for n in range(len(along) + 1) for some in itertools.combinations(along, n)]
    seen = {}
    for quarters in range(4 if quarter_turns else 1):
        for some in flips:

            def turn(x, quarters=quarters, some=some):
                return np.rot90(np.flip(x, some), quarters, axes=(-2, -1))

            def back(x, quarters=quarters, some=some):
                return np.flip(np.rot90(x, -quarters, axes=(-2, -1)), some)

            seen.setdefault(turn(np.arange(math.prod(window)).reshape(window)).tobytes(), (turn, back))
    return list(seen.values())


def weights(window, blend):
    if blend == "constant":
        return np.ones(window)
    along = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (SIGMA_SCALE * n)) ** 2) for n in window]
    return np.maximum(np.einsum("i,j,k->ijk", *along), WEIGHT_MIN)


def starts(size, window, overlap):
    step = window if window == size else max(int(window * (1 - overlap)), 1)
    return [min(start, size - window) for start in range(0, size - window + step, step)]


def slide(volumes, window, overlap, blend, fill, ways):
    """Of volumes [k, z, y, x]."""
    size = volumes.shape[1:]
    before = [max(w - s, 0) // 2 for w, s in zip(window, size)]
    after = [max(w - s, 0) - b for w, s, b in zip(window, size, before)]
    padded = np.pad(volumes, [(0, 0), *zip(before, after)], constant_values=fill)
    weight = weights(window, blend)
    places = [starts(s, w, overlap) for s, w in zip(padded.shape[1:], window)]
    sums, total = 0, np.zeros(padded.shape[1:])
    for place in itertools.product(*places):
        part = tuple(slice(p, p + w) for p, w in zip(place, window))
        seen = padded[(slice(None), *part)]
        made = np.mean([back(network(turn(seen))) for turn, back in ways], axis=0)
        if isinstance(sums, int):
            sums = np.zeros((len(made), *padded.shape[1:]))
        sums[(slice(None), *part)] += weight * made
        total[part] += weight
    whole = tuple(slice(b, b + s) for b, s in zip(before, size))
    return (sums / total)[(slice(None), *whole)]


def agrees_with_monai():
    """How far windows as they are lie apart from MONAI's."""
    apart = 0.0
    for case in json.loads((FOLDER / "windows.json").read_text())["cases"]:
        size, window = case["size"][::-1], tuple(case["window"][::-1])
        volumes = np.array(case["volumes"]).reshape(-1, *size)
        ways = turns((False, False, False), False, window)
        made = slide(volumes, window, case["overlap"], case["blend"], case["fill"], ways)
        apart = max(apart, float(np.abs(made.ravel() - np.array(case["result"])).max()))
    return apart


def main():
    apart = agrees_with_monai()
    if apart > 2e-3:
        raise SystemExit(f"windows lie {apart} apart from MONAI's")
    rng = np.random.default_rng(20240302)
    cases = []
    for size, channels, window, overlap, blend, fill, items, axes, quarter_turns in [
        ((5, 6, 7), 1, (3, 4, 4), 0.5, "gaussian", 0.0, 1, (True, False, False), False),
        ((6, 7, 5), 2, (4, 3, 5), 0.25, "gaussian", 0.0, 2, (True, False, True), False),
        ((4, 6, 6), 1, (2, 4, 4), 0.5, "constant", 0.0, 3, (True, True, True), True),
        ((3, 4, 6), 1, (2, 5, 5), 0.6, "gaussian", -2.0, 2, (False, False, False), True),
        ((4, 5, 5), 1, (3, 4, 4), 0.25, "gaussian", 0.0, 1, (False, True, True), True),
    ]:
        volumes = np.round(rng.normal(size=(channels, *size)) * 10, 2)
        result = slide(volumes, window, overlap, blend, fill, turns(axes, quarter_turns, window))
        cases.append(
            {
                "size": list(size[::-1]),
                "volumes": [[float(v) for v in volume.ravel()] for volume in volumes],
                "window": list(window[::-1]),
                "overlap": overlap,
                "blend": blend,
                "fill": fill,
                "items": items,
                "axes": list(axes),
                "quarter_turns": quarter_turns,
                "result": [float(f"{v:.6g}") for v in result.ravel()],
            }
        )
    made_with = {
        "script": "tests/reference/mirrored.py",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    out = FOLDER / "mirrored.json"
    out.write_text(f'{{\n"made_with":{json.dumps(made_with)},\n"cases":[\n{lines}\n]\n}}\n')
    print(f"{out}: {out.stat().st_size} bytes; windows lie {apart:.1e} at most from MONAI's")


if __name__ == "__main__":
    main()
