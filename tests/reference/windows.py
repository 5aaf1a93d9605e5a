"""Reference vectors for runtime/src/volumes/patches.rs: what MONAI's sliding_window_inference makes of the same input.

    python tests/reference/windows.py

writes runtime/src/volumes/reference/windows.json, which is committed and says which MONAI and torch made it; neither is among
the peers (torch is large), so any versions do. The network is arithmetic that depends on where in a window a voxel lies, so that
blending cannot go unnoticed.
"""

import json
import platform
from pathlib import Path

import monai
import numpy as np
import torch
from monai.inferers import sliding_window_inference

OUT = Path(__file__).parents[2] / "runtime/src/volumes/reference/windows.json"


def network(x):
    """Two channels: the sum of the inputs and the place in the window, and their product with the row."""
    _, _, d, h, w = x.shape
    place = torch.arange(d * h * w, dtype=torch.float32).reshape(1, 1, d, h, w) / 8
    row = torch.arange(h, dtype=torch.float32).reshape(1, 1, 1, h, 1)
    total = x.sum(dim=1, keepdim=True)
    return torch.cat([total + place, total * row], dim=1)


def main():
    rng = np.random.default_rng(20240301)
    cases = []
    for size, channels, window, overlap, mode, fill, batch in [
        ((9, 11, 10), 1, (4, 5, 6), 0.25, "gaussian", 0.0, 1),
        ((9, 11, 10), 2, (4, 4, 4), 0.5, "gaussian", 0.0, 3),
        ((5, 9, 4), 1, (8, 5, 7), 0.5, "gaussian", -3.0, 2),
        ((7, 6, 8), 1, (3, 5, 4), 0.6, "constant", 0.0, 4),
        ((4, 4, 4), 1, (4, 4, 4), 0.25, "gaussian", 0.0, 1),
    ]:
        volumes = np.round(rng.normal(size=(channels, *size)) * 10, 2).astype(np.float32)
        result = sliding_window_inference(
            torch.from_numpy(volumes[None]), window, batch, network, overlap, mode=mode, sigma_scale=0.125, cval=fill
        )
        cases.append(
            {
                "size": list(size[::-1]),
                "volumes": [[float(str(v)) for v in volume.ravel()] for volume in volumes],
                "window": list(window[::-1]),
                "overlap": overlap,
                "blend": mode,
                "fill": fill,
                "items": batch,
                "result": [float(f"{v:.6g}") for v in result.numpy().ravel()],
            }
        )
    made_with = {
        "script": "tests/reference/windows.py",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "monai": monai.__version__,
    }
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    OUT.write_text(f'{{\n"made_with":{json.dumps(made_with)},\n"cases":[\n{lines}\n]\n}}\n')
    print(f"{OUT}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
