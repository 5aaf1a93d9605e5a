#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the `mammo-density` demonstration network and export it to ONNX.

A small fully convolutional network says of each pixel of a mammogram, tile by
tile at full resolution, how probably it shows dense tissue.  It is trained on
phantoms that this script computes, never on a patient's images: a breast of
fat with clouds of dense tissue in it, as 1/f noise.  The result shows how a
module works through an image that is larger than what its network takes; it
is not a medical device.

Preprocessing (identical in the module that runs the network):
  1. bright is dense (MONOCHROME1 is turned);
  2. 0 is the 2nd percentile of the breast and 1 its 99.5th, clipped to 0..1;
     what is around the breast is darker and so 0;
  3. tiles of 512 x 512 pixels, as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path


def parse_args() -> argparse.Namespace:
    here = Path(__file__).resolve().parent
    p = argparse.ArgumentParser(description="Train, evaluate and export the mammo-density demonstration network.")
    p.add_argument("--out", type=Path, default=here, metavar="DIR",
                   help="where models/density.onnx and metrics.json go (default: beside this script)")
    p.add_argument("--steps", type=int, default=300, help="optimiser steps (default: %(default)s)")
    p.add_argument("--seed", type=int, default=11, help="random seed (default: %(default)s)")
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
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from scipy import ndimage as ndi  # noqa: E402

# ---------------------------------------------------------------- contract ---

TILE = 512
PERCENTILES = (2.0, 99.5)
# (name, channels in, channels out, kernel, stride, dilation)
LAYERS = (
    ("down4", 1, 8, 5, 4, 1), ("down8", 8, 12, 3, 2, 1),
    ("mid1", 12, 12, 3, 1, 1), ("mid2", 12, 12, 3, 1, 2), ("mid3", 12, 12, 3, 1, 4), ("head", 12, 1, 1, 1, 1),
)
SCALE = 8

# ---------------------------------------------------------------- phantoms ---


def clouds(rng, side, power):
    """Noise whose amplitude falls with a power of the frequency, mean 0, deviation 1."""
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    k[0, 0] = 1.0
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) / k**power, s=(side, side))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def phantom(rng, side=TILE * 2):
    """A breast against the left edge: image 0..1 as the module scales it, dense or not, breast or not."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    width, height, middle = rng.uniform(0.45, 0.95), rng.uniform(0.3, 0.5), rng.uniform(0.4, 0.6)
    edge = 1 + 0.03 * clouds(rng, side, 2.0)
    breast = (x / width) ** 2 + ((y - middle) / height) ** 2 < edge**2
    depth = ndi.distance_transform_edt(breast).astype(np.float32) / side
    # Dense tissue lies behind the nipple more often than under the skin.
    tissue = clouds(rng, side, rng.uniform(1.3, 1.9)) + 2.5 * np.minimum(depth / 0.15, 1.0)
    wanted = rng.uniform(0.02, 0.8)
    inside = tissue[breast]
    dense = breast & (tissue > np.quantile(inside, 1 - wanted))
    soft = ndi.gaussian_filter(dense.astype(np.float32), rng.uniform(1, 4))
    # Compressed, the breast has one thickness but for its rim.
    thick = np.minimum(depth / rng.uniform(0.02, 0.08), 1.0) ** 0.5
    fat, gain = rng.uniform(0.3, 0.5), rng.uniform(0.2, 0.5)
    image = thick * (fat + gain * soft + rng.uniform(0.02, 0.06) * clouds(rng, side, rng.uniform(1.0, 1.5)))
    if rng.random() < 0.5:
        # The pectoral muscle: bright, in an upper corner, and no dense tissue of the breast.
        muscle = (x / rng.uniform(0.1, 0.3) + y / rng.uniform(0.3, 0.6) < 1) & breast
        image = np.where(muscle, fat + gain + 0.02 * clouds(rng, side, 1.2), image)
        dense = dense & ~muscle
    image = image + rng.uniform(0.005, 0.03) * rng.normal(size=image.shape)
    low, high = np.percentile(image[breast], PERCENTILES)
    # Around the breast is air, which scaling makes 0; noise of the detector may show.
    image = np.where(breast, image, rng.uniform(0, 0.3) * image)
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32), dense, breast


def tiles(rng, count):
    images, labels = [], []
    while len(images) < count:
        image, dense, _ = phantom(rng)
        for _ in range(4):
            i, j = rng.integers(0, image.shape[0] - TILE + 1, 2)
            turn = rng.integers(0, 4)
            cut = np.s_[i:i + TILE, j:j + TILE]
            part = dense[cut].reshape(TILE // SCALE, SCALE, TILE // SCALE, SCALE).mean((1, 3))
            images.append(np.rot90(image[cut], turn))
            labels.append(np.rot90(part, turn))
    return np.stack(images)[..., None], np.stack(labels).astype(np.float32)


# ---------------------------------------------------------------- network ----


def initial_parameters(seed):
    rng = np.random.default_rng(seed)
    make = lambda i, o, k: {"w": rng.normal(0, np.sqrt(2 / (k * k * i)), (k, k, i, o)), "b": np.zeros(o)}  # noqa: E731
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), {n: make(i, o, k) for n, i, o, k, _, _ in LAYERS})


def padding(kernel, stride, dilation):
    before = dilation * (kernel // 2) if stride == 1 else (kernel - stride) // 2 + (kernel - stride) % 2
    return before, dilation * (kernel - 1) + 1 - stride - before if stride > 1 else before


def forward(params, x):
    """Logits of each 8 x 8 pixels."""
    for name, _, _, kernel, stride, dilation in LAYERS:
        x = jax.lax.conv_general_dilated(
            x, params[name]["w"], (stride,) * 2, (padding(kernel, stride, dilation),) * 2,
            rhs_dilation=(dilation,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")) + params[name]["b"]
        x = x if name == "head" else jax.nn.relu(x)
    return x[..., 0]


def loss_fn(params, x, y):
    logits = forward(params, x)
    return (jnp.maximum(logits, 0) - logits * y + jnp.log1p(jnp.exp(-jnp.abs(logits)))).mean()


@jax.jit
def train_step(params, moments, step, rate, x, y):
    loss, grads = jax.value_and_grad(loss_fn)(params, x, y)
    first, second = moments
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
    second = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g * g, second, grads)
    update = lambda p, m, v: p - rate * (m / (1 - 0.9**step)) / (jnp.sqrt(v / (1 - 0.99**step)) + 1e-7)  # noqa: E731
    return jax.tree.map(update, params, first, second), (first, second), loss


def train(seed, steps):
    params = initial_parameters(seed)
    moments = (jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params))
    rng, began, recent = np.random.default_rng(seed), time.monotonic(), []
    for step in range(1, steps + 1):
        x, y = tiles(rng, 4)
        rate = 0.005 * min(1.0, step / 30) * (0.5 * (1 + np.cos(np.pi * step / (steps + 1))))
        params, moments, loss = train_step(params, moments, step, rate, x, y)
        recent = [*recent[-49:], float(loss)]
        if step % 100 == 0:
            print(f"step {step}/{steps} loss {np.mean(recent):.4f} {time.monotonic() - began:.0f} s", flush=True)
    return params, time.monotonic() - began, float(np.mean(recent))


def export(params, path: Path):
    """As a network of volumes of one slice: [1, 1, 1, y, x] to probabilities of the same size."""
    nodes, tensors, x = [], [], "mg"

    def tensor(name, value):
        tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    for name, _, _, kernel, stride, dilation in LAYERS:
        w = np.asarray(params[name]["w"], np.float32).transpose(3, 2, 0, 1)[:, :, None]
        before, after = padding(kernel, stride, dilation)
        nodes.append(helper.make_node(
            "Conv", [x, tensor(f"{name}.w", w), tensor(f"{name}.b", np.asarray(params[name]["b"], np.float32))], [name],
            name=name, kernel_shape=[1, kernel, kernel], strides=[1, stride, stride], dilations=[1, dilation, dilation],
            pads=[0, before, before, 0, after, after]))
        x = name
        if name != "head":
            nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], name=f"{name}.relu"))
            x = f"{name}.relu"
    # A transposed convolution with ones makes each 8 x 8 pixels of one value.
    nodes.append(helper.make_node(
        "ConvTranspose", ["head", tensor("up.w", np.ones((1, 1, 1, SCALE, SCALE), np.float32))], ["up"], name="up",
        kernel_shape=[1, SCALE, SCALE], strides=[1, SCALE, SCALE]))
    nodes.append(helper.make_node("Sigmoid", ["up"], ["dense"], name="dense"))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "mammo-density",
        [value("mg", TensorProto.FLOAT, [1, 1, 1, "h", "w"])], [value("dense", TensorProto.FLOAT, [1, 1, 1, "h", "w"])],
        tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                              producer_name="gantry mammo-density train.py")
    model.ir_version = 8
    helper.set_model_props(model, {"licence": "Apache-2.0", "intended_use": "demonstration only, not for clinical use"})
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


# -------------------------------------------------------------- evaluation ---


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def evaluate(session, seed, count=40):
    """Density of whole phantoms that were never seen: percent of the breast's area, found and true."""
    rng, found, true = np.random.default_rng(seed), [], []
    for _ in range(count):
        image, dense, breast = phantom(rng)
        probability = session.run(None, {"mg": image[None, None, None]})[0][0, 0, 0]
        found.append(100 * ((probability >= 0.5) & breast).sum() / breast.sum())
        true.append(100 * dense.sum() / breast.sum())
    found, true = np.array(found), np.array(true)
    return {"phantoms": count, "correlation": round(float(np.corrcoef(found, true)[0, 1]), 3),
            "mean_absolute_error_percent": round(float(np.abs(found - true).mean()), 1),
            "largest_error_percent": round(float(np.abs(found - true).max()), 1)}


def main(args) -> int:
    params, seconds, loss = train(args.seed, args.steps)
    path = args.out / "models" / "density.onnx"
    export(params, path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    image, _, _ = phantom(np.random.default_rng(1))
    by_jax = jax.nn.sigmoid(forward(params, image[None, ..., None]))[0]
    by_ort = session.run(None, {"mg": image[None, None, None]})[0][0, 0, 0, ::SCALE, ::SCALE]
    difference = float(np.abs(by_jax - by_ort).max())
    if difference > 1e-3:
        print(f"error: ONNX Runtime and JAX differ by {difference}", file=sys.stderr)
        return 1
    metrics = {
        "model": "mammo-density", "onnx_sha256": sha256(path), "onnx_bytes": path.stat().st_size,
        "parameters": int(sum(np.prod(t.dims) for t in onnx.load(path).graph.initializer)),
        "seed": args.seed, "steps": args.steps, "training_seconds": round(seconds, 1), "final_training_loss": round(loss, 4),
        "trained_on": "phantoms only", "held_out_phantoms": evaluate(session, args.seed + 1000),
        "onnx_vs_jax_max_abs_difference": difference,
        "versions": {"python": sys.version.split()[0], "jax": jax.__version__, "numpy": np.__version__,
                     "onnx": onnx.__version__, "onnxruntime": ort.__version__},
    }
    (args.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(json.dumps(metrics, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(ARGS))
