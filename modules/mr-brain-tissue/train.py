#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the `mr-brain-tissue` demonstration network and export it to ONNX.

A small 3-D network of dilated convolutions (after MeshNet: A. Fedorov et al.,
2017) labels each voxel of a T1-weighted head MR as background, grey matter or
white matter, for a whole volume of 256 x 256 x 256 voxels at once.  All data
come from one Python package, `nilearn` 0.12.1, which carries the MNI152
template (ICBM 2009a) with its tissue maps.  The result shows how a
memory-bound module is built; it is not a medical device.

Preprocessing (identical in the module that runs the network):
  1. orient the volume to LPS, array order [z][y][x];
  2. resample to 1 mm, linear, point sampled;
  3. 0 is the 1st percentile of the volume, 1 the 99.5th; clipped to 0..1;
  4. centre-crop or pad with 0 to 256 x 256 x 256.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

EPILOG = """\
example:
  pip download --no-deps nilearn==0.12.1
  python -m pip install -r requirements.txt
  python train.py --data nilearn-0.12.1-py3-none-any.whl
"""


def parse_args() -> argparse.Namespace:
    here = Path(__file__).resolve().parent
    p = argparse.ArgumentParser(
        description="Train, evaluate and export the mr-brain-tissue demonstration network.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--data", type=Path, required=True, metavar="WHEEL", help="the nilearn 0.12.1 wheel")
    p.add_argument("--out", type=Path, default=here, metavar="DIR",
                   help="where models/tissue.onnx and metrics.json go (default: beside this script)")
    p.add_argument("--compare", type=Path, metavar="ONNX",
                   help="another network for the same volume, such as brainchop's, to compare labels with")
    p.add_argument("--steps", type=int, default=300, help="optimiser steps (default: %(default)s)")
    p.add_argument("--seed", type=int, default=7, help="random seed (default: %(default)s)")
    p.add_argument("--threads", type=int, default=2, help="CPU cores to use (default: %(default)s)")
    return p.parse_args()


# The thread pools of XLA and of ONNX Runtime are sized from the cores this
# process may run on, so the limit has to be in place before they are imported.
ARGS = parse_args() if __name__ == "__main__" else None
if ARGS is not None and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[: ARGS.threads])

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from scipy import ndimage as ndi  # noqa: E402

# ---------------------------------------------------------------- contract ---

LABELS = ("background", "grey matter", "white matter")
SIDE = 256
PERCENTILES = (1.0, 99.5)
CHANNELS = 5
DILATIONS = (1, 2, 4, 8, 16, 8, 4, 2, 1)

# ------------------------------------------------------------------- data ----

MAPS = {name: f"nilearn/datasets/data/mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz" for name in ("t1", "gm", "wm")}
PATCH = 48


def load(wheel: Path) -> dict[str, np.ndarray]:
    """The template and its tissue maps in LPS, [z][y][x], 0..1."""
    maps = {}
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        for name, path in MAPS.items():
            file = Path(archive.extract(path, folder))
            image = sitk.DICOMOrient(sitk.ReadImage(str(file)), "LPS")
            maps[name] = sitk.GetArrayFromImage(image).astype(np.float32) / 255.0
    return maps


def scaled(volume: np.ndarray) -> np.ndarray:
    low, high = np.percentile(volume, PERCENTILES)
    return np.clip((volume - low) / (high - low), 0.0, 1.0).astype(np.float32)


def to_cube(volume: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Centre-cropped or padded; of an odd difference the larger part is behind."""
    out = np.zeros((side,) * 3, volume.dtype)
    source, target = [], []
    for size in volume.shape:
        if size <= side:
            start = (side - size) // 2
            source.append(slice(0, size))
            target.append(slice(start, start + size))
        else:
            start = (size - side) // 2
            source.append(slice(start, start + side))
            target.append(slice(0, side))
    out[tuple(target)] = volume[tuple(source)]
    return out


def truth(maps) -> np.ndarray:
    """0, 1 grey, 2 white: what is more than half, and of two the larger."""
    rest = np.clip(1.0 - maps["gm"] - maps["wm"], 0.0, 1.0)
    return np.argmax(np.stack([rest, maps["gm"], maps["wm"]]), axis=0).astype(np.int8)


class Template:
    def __init__(self, maps):
        self.t1 = maps["t1"]
        self.grey, self.white = maps["gm"], maps["wm"]
        self.labels = truth(maps)
        brain = ndi.binary_closing(self.t1 > 0.05, iterations=2)
        self.voxels = np.argwhere(self.labels > 0)
        # How far outside of the brain a voxel lies, mm: where a skull and a scalp are drawn.
        self.outside = ndi.distance_transform_edt(~brain).astype(np.float32)


def smooth_noise(rng, shape, coarse):
    small = rng.normal(size=(coarse,) * 3).astype(np.float32)
    return ndi.zoom(small, [n / coarse for n in shape], order=1)


def draw_sample(rng, template: Template, half: slice) -> tuple[np.ndarray, np.ndarray]:
    """A patch of the template, deformed, with other contrast, a scalp, a bias field and noise; and its labels.

    `half` is the range of x that may be trained on: the other half of the head is held out."""
    shape = (PATCH,) * 3
    if rng.random() < 0.85:
        centre = template.voxels[rng.integers(len(template.voxels))].astype(float)
    else:
        centre = np.array([rng.uniform(-8, n + 8) for n in template.t1.shape])
    centre[2] = np.clip(centre[2], half.start + PATCH / 2, half.stop - PATCH / 2)
    angle, scale = rng.normal(0, 0.12, 3), rng.uniform(0.85, 1.18, 3)
    grid = np.stack(np.meshgrid(*[np.arange(PATCH) - (PATCH - 1) / 2] * 3, indexing="ij")).astype(np.float32)
    turn = np.eye(3)
    for axis, a in enumerate(angle):
        i, j = [k for k in range(3) if k != axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(a)
        step[i, j], step[j, i] = -np.sin(a), np.sin(a)
        turn = turn @ step
    at = np.einsum("ij,jzyx->izyx", turn * scale, grid) + np.asarray(centre)[:, None, None, None]
    at += np.stack([smooth_noise(rng, shape, 5) for _ in range(3)]) * rng.uniform(0, 2.5)
    # Never a voxel of the other half.
    at[2] = np.clip(at[2], half.start, half.stop - 1)
    take = lambda volume, order, fill=0.0: ndi.map_coordinates(volume, at, order=order, mode="constant", cval=fill)  # noqa: E731
    image = take(template.t1, 1)
    grey, white, outside = take(template.grey, 1), take(template.white, 1), take(template.outside, 1, 60.0)
    labels = take(template.labels, 0)
    # Tissue contrast of another scanner: each tissue is moved by an amount of its own.
    image = image + grey * rng.normal(0, 0.03) + white * rng.normal(0, 0.03)
    if rng.random() < 0.6:
        gap, thick = rng.uniform(3, 10), rng.uniform(3, 9)
        scalp = ((outside > gap) & (outside < gap + thick)).astype(np.float32)
        texture = rng.uniform(0.4, 1.0) + 0.25 * smooth_noise(rng, shape, 12)
        image = np.where(scalp > 0, np.clip(texture, 0, 1.2), image)
        deep = outside >= gap + thick
        # Neck and face below, air elsewhere.
        image = np.where(deep, np.clip(rng.uniform(-0.6, 0.5) + 0.3 * smooth_noise(rng, shape, 8), 0, 1), image)
    image = image * np.exp(0.06 * smooth_noise(rng, shape, 3))
    image = np.sign(image) * np.abs(image) ** np.exp(rng.normal(0, 0.05))
    if rng.random() < 0.5:
        image = ndi.gaussian_filter(image, rng.uniform(0.2, 0.8))
    image = image * rng.uniform(0.93, 1.07) + rng.normal(0, rng.uniform(0, 0.03), shape)
    return np.clip(image, 0, 1).astype(np.float32), labels.astype(np.int8)


# ---------------------------------------------------------------- network ----


# Without a part of the slope below 0, channels of so small a network die.
SLOPE = 0.1


def initial_parameters(seed):
    """Each layer hands on what it gets, beside a little noise; the first cuts grey values at different heights. So the
    last layer tells grey values apart from the first step on, and what is around a voxel is learnt beside that."""
    rng = np.random.default_rng(seed)
    params = []
    for n in range(len(DILATIONS)):
        before = 1 if n == 0 else CHANNELS
        w = rng.normal(0, 0.02, (27, before, CHANNELS))
        w[13] += np.ones((1, CHANNELS)) if n == 0 else np.eye(CHANNELS)
        b = -np.linspace(0, 0.8, CHANNELS) if n == 0 else np.zeros(CHANNELS)
        params.append({"w": w, "b": b})
    params.append({"w": rng.normal(0, 0.1, (1, CHANNELS, len(LABELS))), "b": np.zeros(len(LABELS))})
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def convolve(x, w, dilation):
    """x [n, z, y, x, c] with zeros around; as a sum of shifted matrix products, which XLA does well on a CPU."""
    if w.shape[0] == 1:
        return x @ w[0]
    pad = jnp.pad(x, ((0, 0), *((dilation, dilation),) * 3, (0, 0)))
    n, d, h, wd, _ = x.shape
    total = 0.0
    for index in range(27):
        i, j, k = (index // 9) * dilation, (index // 3 % 3) * dilation, (index % 3) * dilation
        total = total + pad[:, i:i + d, j:j + h, k:k + wd] @ w[index]
    return total


def forward(params, x):
    for layer, dilation in zip(params, (*DILATIONS, 1)):
        x = convolve(x, layer["w"], dilation) + layer["b"]
        x = x if layer is params[-1] else jax.nn.leaky_relu(x, SLOPE)
    return x


def loss_fn(params, x, y):
    logits = forward(params, x)
    log_p = jax.nn.log_softmax(logits)
    one_hot = jax.nn.one_hot(y, len(LABELS))
    cross = -(one_hot * log_p).sum(-1).mean()
    p = jnp.exp(log_p)
    overlap = (p * one_hot).sum((0, 1, 2, 3))[1:]
    whole = (p + one_hot).sum((0, 1, 2, 3))[1:]
    return cross + 0.5 * (1 - (2 * overlap + 1) / (whole + 1)).mean()


@jax.jit
def train_step(params, moments, step, rate, x, y):
    loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
    first, second = moments
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
    second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, second, grads)
    update = lambda p, m, v: p - rate * (m / (1 - 0.9**step)) / (jnp.sqrt(v / (1 - 0.99**step)) + 1e-7)  # noqa: E731
    params = jax.tree.map(update, params, first, second)
    return params, (first, second), loss


def train(seed, steps, template, half):
    params = initial_parameters(seed)
    moments = (jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))
    rng = np.random.default_rng(seed)
    began, recent = time.monotonic(), []
    for step in range(1, steps + 1):
        image, labels = draw_sample(rng, template, half)
        rate = 0.006 * min(1.0, step / 30) * (0.5 * (1 + np.cos(np.pi * step / (steps + 1))))
        params, moments, loss = train_step(
            params, moments, step, rate, image[None, ..., None], labels[None].astype(np.int32))
        recent = [*recent[-49:], float(loss)]
        if step % 50 == 0:
            print(f"step {step}/{steps} loss {np.mean(recent):.4f} {time.monotonic() - began:.0f} s", flush=True)
    return params, time.monotonic() - began, float(np.mean(recent))


def export(params, path: Path):
    nodes, tensors, x = [], [], "mr"
    for n, (layer, dilation) in enumerate(zip(params, (*DILATIONS, 1))):
        last = n == len(params) - 1
        w, b = np.asarray(layer["w"]), np.asarray(layer["b"])
        # [out, in, 3, 3, 3], or 1 of each.
        w = w.transpose(2, 1, 0).reshape(w.shape[2], w.shape[1], *(round(w.shape[0] ** (1 / 3)),) * 3)
        for name, value in ((f"w{n}", w), (f"b{n}", b)):
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        k, out = w.shape[-1], "logits" if last else f"conv{n}"
        nodes.append(helper.make_node("Conv", [x, f"w{n}", f"b{n}"], [out], name=out, kernel_shape=[k] * 3,
                                      strides=[1] * 3, dilations=[dilation] * 3, pads=[dilation * (k // 2)] * 6))
        if not last:
            nodes.append(helper.make_node("LeakyRelu", [out], [f"relu{n}"], name=f"relu{n}", alpha=SLOPE))
            x = f"relu{n}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "mr-brain-tissue",
        [value("mr", TensorProto.FLOAT, [1, 1, "d", "h", "w"])],
        [value("logits", TensorProto.FLOAT, [1, len(LABELS), "d", "h", "w"])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                              producer_name="gantry mr-brain-tissue train.py")
    model.ir_version = 8
    helper.set_model_props(model, {
        "labels": ",".join(LABELS), "spacing_mm": "1.0", "percentiles": ",".join(map(str, PERCENTILES)),
        "licence": "Apache-2.0", "intended_use": "demonstration only, not for clinical use"})
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


# -------------------------------------------------------------- evaluation ---


def open_session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def dice(found, reference, where) -> dict[str, float]:
    out = {}
    for label in (1, 2):
        a, b = found[where] == label, reference[where] == label
        out[LABELS[label]] = round(float(2 * (a & b).sum() / max(1, a.sum() + b.sum())), 3)
    return out


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(args) -> int:
    if not zipfile.is_zipfile(args.data):
        print(f"error: {args.data} is not the nilearn wheel", file=sys.stderr)
        return 2
    maps = load(args.data)
    template = Template(maps)
    middle = template.t1.shape[2] // 2
    # x grows to the patient's left in LPS: trained on the right half, tested on the left.
    half = slice(0, middle)
    params, seconds, loss = train(args.seed, args.steps, template, half)
    path = args.out / "models" / "tissue.onnx"
    export(params, path)

    session = open_session(path, args.threads)
    whole, reference = to_cube(scaled(maps["t1"])), to_cube(template.labels)
    began = time.monotonic()
    found = session.run(None, {"mr": whole[None, None]})[0][0].argmax(0)
    seconds_whole = time.monotonic() - began
    offset = (SIDE - template.t1.shape[2]) // 2
    trained, held_out = np.s_[:, :, :offset + middle], np.s_[:, :, offset + middle:]
    patch = whole[96:160, 96:160, 96:160]
    by_jax = np.asarray(forward(params, jnp.asarray(patch[None, ..., None])))[0]
    by_ort = session.run(None, {"mr": patch[None, None]})[0][0].transpose(1, 2, 3, 0)
    difference = float(np.abs(by_jax - by_ort).max())
    if difference > 1e-2 * max(1.0, float(np.abs(by_jax).max())):
        print(f"error: ONNX Runtime and JAX differ by {difference}", file=sys.stderr)
        return 1
    metrics = {
        "model": "mr-brain-tissue", "labels": list(LABELS),
        "onnx_sha256": sha256(path), "onnx_bytes": path.stat().st_size,
        "parameters": int(sum(np.prod(t.dims) for t in onnx.load(path).graph.initializer)),
        "seed": args.seed, "steps": args.steps, "patch": PATCH,
        "training_seconds": round(seconds, 1), "final_training_loss": round(loss, 4),
        "preprocessing": {"orientation": "LPS", "spacing_mm": 1.0, "percentiles": list(PERCENTILES), "size": [SIDE] * 3},
        "split": "trained on the right half of the head, tested on the left half of the same symmetric template",
        "dice_trained_half": dice(found, reference, trained), "dice_held_out_half": dice(found, reference, held_out),
        "millilitres": {LABELS[n]: round(float((found == n).sum()) / 1000, 1) for n in (1, 2)},
        "reference_millilitres": {LABELS[n]: round(float((reference == n).sum()) / 1000, 1) for n in (1, 2)},
        "onnx_vs_jax_max_abs_difference": difference,
        "onnxruntime_seconds_256_cubed": {"threads": args.threads, "seconds": round(seconds_whole, 1)},
        "data_sha256": sha256(args.data),
        "versions": {"python": sys.version.split()[0], "jax": jax.__version__, "numpy": np.__version__,
                     "onnx": onnx.__version__, "onnxruntime": ort.__version__, "SimpleITK": sitk.__version__},
    }
    if args.compare:
        other = open_session(args.compare, args.threads).run(None, {"x": whole[None, None]})[0].reshape((SIDE,) * 3)
        metrics["compared"] = {"file": args.compare.name, "sha256": sha256(args.compare)}
        for one in (1, 2):
            overlap = [float(((other == one) & (reference == label)).sum()) for label in (1, 2)]
            metrics["compared"][f"label {one} lies in"] = LABELS[1 + int(np.argmax(overlap))]
        metrics["compared"]["dice_as_numbered_white_1_grey_2"] = dice(np.choose(other, [0, 2, 1]), reference, np.s_[:])
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(json.dumps(metrics, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(ARGS))
