#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train, measure and export the `head-ct-triage` demonstration network; write phantoms as DICOM.

A small 3-D encoder/decoder gives each voxel of a head CT a score for lying in something denser than brain that should
not be there. It has only ever seen the phantoms of phantom.py, and is measured on phantoms of other seeds. The result
shows how a triage module is built; it is not a medical device.

Preprocessing (identical in src/lib.rs):
  1. orient the volume to LPS, array order [z][y][x];
  2. resample to 2 x 2 mm in plane and 4 mm along z: linear, point sampled, outer faces kept;
  3. to 128 x 128 pixels, around the box that holds the bone: crop what is larger, pad with air what is smaller;
  4. window: centre 40 HU, width 160 HU, scaled to 0..1;
  5. slabs of 16 planes, each 8 after the one before, the last at the end.
Afterwards the scores of slabs that overlap are averaged, those in the middle of a slab counting more; the score of the
study is the mean of its 8 highest voxels.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from pathlib import Path

import numpy as np

from phantom import Case, render

# ------------------------------------------------------------------- contract ---

SPACING_MM = (4.0, 2.0, 2.0)  # z, y, x
SIDE = 128
SLAB, STRIDE = 16, 8
WINDOW_CENTRE, WINDOW_WIDTH = 40.0, 160.0
AIR_HU, BONE_HU = -1024.0, 300.0
HOTTEST = 8

# Seeds of phantoms: no two sets share one.
SEEDS = {"train": 100_000, "validation": 200_000, "held_out": 300_000, "held_out_hard": 400_000}
CHANNELS = (16, 32)
CROP = 64
BATCH = 8
LEARNING_RATE = 8e-3

EPILOG = """\
examples:
  python -m pip install -r requirements.txt
  python train.py                                  # trains, measures, writes models/triage.onnx and metrics.json
  python train.py measure                          # measures the model that is there again; needs no torch
  python train.py phantom OUT --lesion --seed 7    # a head CT with a lesion, as DICOM slices
  python train.py phantom OUT --none --seed 7
"""


def parse_args() -> argparse.Namespace:
    here = Path(__file__).resolve().parent
    p = argparse.ArgumentParser(
        description="Train, measure and export the head-ct-triage demonstration network, or write a phantom.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=here, metavar="DIR",
                   help="where models/triage.onnx and metrics.json go (default: beside this script)")
    p.add_argument("--steps", type=int, default=600, help="optimiser steps (default: %(default)s)")
    p.add_argument("--phantoms", type=int, default=180, help="phantoms to train on (default: %(default)s)")
    p.add_argument("--test", type=int, default=80, help="phantoms in each held-out set (default: %(default)s)")
    p.add_argument("--seed", type=int, default=20, help="random seed (default: %(default)s)")
    p.add_argument("--threads", type=int, default=1, help="CPU cores to use (default: %(default)s)")
    commands = p.add_subparsers(dest="command")
    commands.add_parser("measure", help="measure models/triage.onnx again and write that into metrics.json")
    q = commands.add_parser("phantom", help="write one phantom as DICOM slices")
    q.add_argument("folder", type=Path, metavar="OUT")
    which = q.add_mutually_exclusive_group(required=True)
    which.add_argument("--lesion", action="store_true", help="with a lesion")
    which.add_argument("--none", action="store_true", help="without")
    q.add_argument("--hard", action="store_true", help="from the harder set: small, faint, noisy")
    q.add_argument("--seed", type=int, default=1, help="which phantom (default: %(default)s)")
    q.add_argument("--pixel-mm", type=float, default=0.9, help="pixel spacing (default: %(default)s)")
    return p.parse_args()


# -------------------------------------------------------------- preprocessing ---

def resample(volume, old, new=SPACING_MM):
    """[z][y][x] from spacing `old` to `new` as the host does: linear at voxel centres, outer faces kept, edges held."""
    out = volume.astype(np.float32)
    for axis, (a, b) in enumerate(zip(old, new)):
        n = out.shape[axis]
        count = max(1, int(np.floor(n * a / b + 0.5)))
        at = np.clip((np.arange(count) + 0.5) * b / a - 0.5, 0, n - 1)
        low = np.minimum(np.floor(at).astype(int), max(n - 2, 0))
        shape = [-1 if i == axis else 1 for i in range(3)]
        t = (at - low).astype(np.float32).reshape(shape)
        out = np.take(out, low, axis) * (1 - t) + np.take(out, np.minimum(low + 1, n - 1), axis) * t
    return out


def to_side(volume, middle, axis, fill, size=SIDE):
    """One axis cropped to `size` around `middle`, or padded centred to it, the odd voxel behind."""
    n = volume.shape[axis]
    if n > size:
        start = min(max(middle - size // 2, 0), n - size)
        return np.take(volume, np.arange(start, start + size), axis)
    pads = [(0, 0)] * 3
    pads[axis] = ((size - n) // 2, size - n - (size - n) // 2)
    return np.pad(volume, pads, constant_values=fill)


def to_network(hu, spacing, *more):
    """HU on the source grid to 0..1 on that of the network; `more` volumes, 0 outside, alongside."""
    small = resample(hu, spacing)
    bone = small > BONE_HU
    others = [(resample(volume, spacing), 0.0) for volume in more]
    out = []
    for volume, fill in [(small, AIR_HU), *others]:
        for axis in (1, 2):
            along = np.nonzero(bone.any(axis=tuple(i for i in range(3) if i != axis)))[0]
            volume = to_side(volume, (int(along[0]) + int(along[-1]) + 1) // 2, axis, fill)
        if len(volume) < SLAB:
            volume = to_side(volume, 0, 0, fill, SLAB)
        out.append(volume)
    out[0] = np.clip((out[0] - (WINDOW_CENTRE - WINDOW_WIDTH / 2)) / WINDOW_WIDTH, 0, 1)
    return out if more else out[0]


def slab_starts(planes):
    """First planes of the slabs that cover a volume of at least SLAB planes."""
    return [*range(0, planes - SLAB, STRIDE), planes - SLAB]


SLAB_WEIGHTS = np.minimum(np.arange(SLAB) + 1, SLAB - np.arange(SLAB)).astype(np.float32)


def heat_of(run, volume):
    """Scores of a whole volume from `run`, which takes [n, 1, SLAB, SIDE, SIDE]."""
    total = np.zeros_like(volume)
    weight = np.zeros(len(volume), np.float32)
    for start in slab_starts(len(volume)):
        scores = run(volume[None, None, start:start + SLAB].astype(np.float32))[0, 0]
        total[start:start + SLAB] += scores * SLAB_WEIGHTS[:, None, None]
        weight[start:start + SLAB] += SLAB_WEIGHTS
    return total / weight[:, None, None]


def study_score(heat):
    return float(np.sort(heat, axis=None)[-HOTTEST:].mean())


# ------------------------------------------------------------------- phantoms ---

def pixel_of(seed):
    """Pixel spacing of phantoms for training and measurement: coarse, as their next step is 2 mm."""
    return float(np.random.default_rng([seed, 22]).uniform(1.4, 2.0))


def training_set(count):
    """Phantoms on the network's grid, two of three with a lesion, half of them hard."""
    kept, begun = [], time.perf_counter()
    for i in range(count):
        seed = SEEDS["train"] + i
        hu, share, spacing = render(Case(seed, i % 3 != 2, (i // 3) % 2 == 1), pixel_of(seed))
        image, target = to_network(hu, spacing, share)
        kept.append((image.astype(np.float16), target.astype(np.float16)))
        if (i + 1) % 50 == 0:
            print(f"phantom {i + 1:4d}  {time.perf_counter() - begun:6.1f} s", flush=True)
    return kept


def crops(rng, phantoms):
    """Batches without end: half of the crops of a phantom with a lesion lie around one of its voxels."""
    where = [np.argwhere(target > 0.5) for _, target in phantoms]
    reach = CROP // 2
    while True:
        images, targets = [], []
        for _ in range(BATCH):
            i = rng.integers(len(phantoms))
            image, target = phantoms[i]
            if len(where[i]) and rng.random() < 0.6:
                at = where[i][rng.integers(len(where[i]))] + rng.integers(-reach // 2, reach // 2 + 1, 3) // (2, 1, 1)
            else:
                at = rng.integers(0, image.shape)
            z, y, x = (int(np.clip(a - s // 2, 0, n - s)) for a, s, n in zip(at, (SLAB, CROP, CROP), image.shape))
            cut = (slice(z, z + SLAB), slice(y, y + CROP), slice(x, x + CROP))
            image, target = image[cut].astype(np.float32), target[cut].astype(np.float32)
            if rng.random() < 0.5:
                image, target = image[:, :, ::-1], target[:, :, ::-1]
            # Another scanner: other calibration, more noise. What is outside of the window stays so.
            inside = (image > 0) & (image < 1)
            image = image * rng.uniform(0.95, 1.05) + rng.uniform(-4, 4) / WINDOW_WIDTH * inside
            image = image + inside * rng.normal(0, rng.uniform(0, 3) / WINDOW_WIDTH, image.shape)
            images.append(np.clip(image, 0, 1))
            targets.append(target)
        yield np.stack(images)[:, None].astype(np.float32), np.stack(targets)[:, None]


# ------------------------------------------------------------------- training ---

def network():
    import torch
    from torch import nn

    a, b = CHANNELS

    class Net(nn.Module):
        """Half resolution in plane, then half in all; the last layer goes back to full size.

        Each layer but the last is normalised over the batch, which `folded` makes part of its weights.
        """

        def __init__(self):
            super().__init__()
            self.stem = nn.Conv3d(1, a, (3, 4, 4), stride=(1, 2, 2), padding=1)
            self.enc = nn.Conv3d(a, a, 3, padding=1)
            self.down = nn.Conv3d(a, b, 2, stride=2)
            self.mid1 = nn.Conv3d(b, b, 3, padding=1)
            self.mid2 = nn.Conv3d(b, b, 3, padding=2, dilation=2)
            self.mid3 = nn.Conv3d(b, b, 3, padding=1)
            self.up = nn.ConvTranspose3d(b, a, 2, stride=2)
            self.dec = nn.Conv3d(a, a, 3, padding=1)
            self.head = nn.ConvTranspose3d(a, 1, (1, 2, 2), stride=(1, 2, 2))
            self.norms = nn.ModuleDict({
                name: nn.BatchNorm3d(layer.out_channels)
                for name, layer in self.named_children() if name != "head"})
            nn.init.constant_(self.head.bias, -3.0)  # most voxels are none

        def apply_layer(self, name, x):
            return self.norms[name](getattr(self, name)(x))

        def logits(self, x):
            layer, relu = self.apply_layer, torch.relu
            fine = relu(layer("enc", relu(layer("stem", x))))
            v = relu(layer("mid1", relu(layer("down", fine))))
            v = relu(v + layer("mid2", v))
            v = relu(v + layer("mid3", v))
            return self.head(relu(layer("dec", relu(layer("up", v) + fine))))

        def forward(self, x):
            return torch.sigmoid(self.logits(x))

    return Net()


def train(args, phantoms):
    import torch
    from torch.nn import functional as F

    torch.manual_seed(args.seed)
    net = network()
    optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=args.steps, pct_start=0.15)
    begun, losses = time.perf_counter(), []
    for step, (x, y) in zip(range(1, args.steps + 1), crops(np.random.default_rng(args.seed), phantoms)):
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        z = net.logits(x)
        p = torch.sigmoid(z)
        overlap = 1 - (2 * (p * y).sum() + 20) / (p.sum() + y.sum() + 20)
        loss = 5 * F.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor(3.0)) + overlap
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 40 == 0:
            print(f"step {step:5d}  loss {np.mean(losses[-40:]):.4f}  {time.perf_counter() - begun:6.1f} s", flush=True)
    return net.eval(), float(np.mean(losses[-40:]))


# --------------------------------------------------------------------- export ---

def folded(net, name):
    """Weight and bias of a layer with its normalisation in them."""
    layer = getattr(net, name)
    weight, bias = layer.weight.detach().numpy().astype(np.float64), layer.bias.detach().numpy().astype(np.float64)
    if name in net.norms:
        norm = net.norms[name]
        gain, shift, mean, variance = (
            t.detach().numpy().astype(np.float64)
            for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
        gain = gain / np.sqrt(variance + norm.eps)
        # Output channels come second in a transposed convolution.
        shape = [1, -1, 1, 1, 1] if type(layer).__name__.startswith("ConvTranspose") else [-1, 1, 1, 1, 1]
        weight, bias = weight * gain.reshape(shape), (bias - mean) * gain + shift
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}


def export(net, path: Path):
    """Writes the network with plain operators. The batch is free, so that a host may split it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors = [], []

    def apply(operator, x, out, **attributes):
        nodes.append(helper.make_node(operator, x if isinstance(x, list) else [x], [out], name=out, **attributes))
        return out

    def layer(name, x):
        module = getattr(net, name)
        for part, value in folded(net, name).items():
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{name}.{part}"))
        up = type(module).__name__.startswith("ConvTranspose")
        return apply("ConvTranspose" if up else "Conv", [x, f"{name}.weight", f"{name}.bias"], name,
                     kernel_shape=list(module.kernel_size), strides=list(module.stride),
                     pads=2 * list(module.padding), dilations=list(module.dilation))

    def relu(x):
        return apply("Relu", x, f"{x}.relu")

    fine = relu(layer("enc", relu(layer("stem", "ct"))))
    v = relu(layer("mid1", relu(layer("down", fine))))
    v = relu(apply("Add", [v, layer("mid2", v)], "sum2"))
    v = relu(apply("Add", [v, layer("mid3", v)], "sum3"))
    v = relu(apply("Add", [layer("up", v), fine], "skip"))
    apply("Sigmoid", layer("head", relu(layer("dec", v))), "heat")

    value, shape = helper.make_tensor_value_info, ["n", 1, SLAB, SIDE, SIDE]
    graph = helper.make_graph(nodes, "head-ct-triage", [value("ct", TensorProto.FLOAT, shape)],
                              [value("heat", TensorProto.FLOAT, shape)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                              producer_name="gantry head-ct-triage train.py")
    model.ir_version = 8
    helper.set_model_props(model, {
        "spacing_mm": str(SPACING_MM), "window_centre_hu": str(WINDOW_CENTRE), "window_width_hu": str(WINDOW_WIDTH),
        "licence": "Apache-2.0", "intended_use": "demonstration trained on phantoms, not for clinical use"})
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def open_session(path: Path, threads: int):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_against_torch(session, net):
    """Largest difference between the exported network and the one that was trained, on a batch of two slabs."""
    import torch

    seed = SEEDS["validation"]
    volume = to_network(*(lambda hu, _, spacing: (hu, spacing))(*render(Case(seed, True), pixel_of(seed))))
    x = np.stack([volume[:SLAB], volume[-SLAB:]])[:, None].astype(np.float32)
    with torch.no_grad():
        ours = net(torch.from_numpy(x)).numpy()
    return float(np.abs(ours - session.run(None, {"ct": x})[0]).max())


# ---------------------------------------------------------------- measurement ---

def measure_set(session, first_seed, count, hard):
    """Scores of phantoms, every other one with a lesion: [(lesion or None, mL, score, Dice at 0.5)]."""
    rows = []
    for i in range(count):
        seed = first_seed + i
        case = Case(seed, i % 2 == 0, hard if hard is not None else i % 4 >= 2)
        hu, share, spacing = render(case, pixel_of(seed))
        volume, target = to_network(hu, spacing, share)
        heat = heat_of(lambda x: session.run(None, {"ct": x})[0], volume)
        found, truth = heat >= 0.5, target >= 0.5
        dice = 2 * (found & truth).sum() / (found.sum() + truth.sum()) if truth.any() else None
        ml = float(share.sum() * np.prod(spacing) / 1000)
        rows.append((case.lesion["kind"] if case.lesion else None, ml, study_score(heat), dice))
    return rows


def auc(positive, negative):
    """Chance that a phantom with a lesion scores higher than one without; a tie counts half."""
    p, n = np.array(positive)[:, None], np.array(negative)[None, :]
    return float((p > n).mean() + 0.5 * (p == n).mean())


def auc_interval(positive, negative):
    """95 % confidence interval of the area: DeLong, DeLong and Clarke-Pearson, Biometrics 1988."""
    p, n = np.array(positive)[:, None], np.array(negative)[None, :]
    wins = (p > n) + 0.5 * (p == n)
    error = np.sqrt(wins.mean(1).var(ddof=1) / len(positive) + wins.mean(0).var(ddof=1) / len(negative))
    return [round(float(np.clip(wins.mean() + sign * 1.959964 * error, 0, 1)), 3) for sign in (-1, 1)]


def roc(positive, negative):
    """Corners of the curve, from nothing found to everything: [lowest score that counts, sensitivity, specificity]."""
    positive, negative = np.array(positive), np.array(negative)
    cuts = np.unique([*positive, *negative])[::-1]
    points = [(round(float(c), 6), round(float((positive >= c).mean()), 4), round(float((negative < c).mean()), 4))
              for c in cuts]
    points.insert(0, (None, 0.0, 1.0))
    turns = [b for a, b, c in zip(points, points[1:], points[2:])
             if not (a[1] == b[1] == c[1] or a[2] == b[2] == c[2])]
    return [list(point) for point in (points[0], *turns, points[-1])]


def wilson(hits, of):
    """95 % confidence interval of a proportion."""
    if of == 0:
        return None
    z, p = 1.959964, hits / of
    middle, half = p + z * z / (2 * of), z * np.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return [round(float((middle + sign * half) / (1 + z * z / of)), 3) for sign in (-1, 1)]


def choose_threshold(rows):
    """The middle of the widest gap among the cuts that tell the two groups apart best (Youden)."""
    scores = np.unique([0.0, *(r[2] for r in rows), 1.0])
    cuts = (scores[1:] + scores[:-1]) / 2
    positive, negative = (np.array([r[2] for r in rows if bool(r[0]) is kind]) for kind in (True, False))
    youden = np.array([(positive >= c).mean() + (negative < c).mean() for c in cuts])
    best = [i for i in range(len(cuts)) if youden[i] >= youden.max() - 1e-9]
    return round(float(cuts[max(best, key=lambda i: scores[i + 1] - scores[i])]), 2)


def report(rows, threshold):
    positive, negative = [r for r in rows if r[0]], [r for r in rows if not r[0]]
    hits = sum(r[2] >= threshold for r in positive)
    quiet = sum(r[2] < threshold for r in negative)
    kinds = sorted({r[0] for r in positive})
    brier = np.mean([(r[2] - bool(r[0])) ** 2 for r in rows])
    volumes = [r[1] for r in positive]
    scores = [r[2] for r in positive], [r[2] for r in negative]
    return {
        "with_lesion": len(positive), "without": len(negative),
        "roc_auc": round(auc(*scores), 4), "roc_auc_95ci": auc_interval(*scores),
        "sensitivity": round(hits / len(positive), 4), "sensitivity_95ci": wilson(hits, len(positive)),
        "specificity": round(quiet / len(negative), 4), "specificity_95ci": wilson(quiet, len(negative)),
        "sensitivity_by_kind": {k: f"{sum(r[2] >= threshold for r in positive if r[0] == k)}/{sum(r[0] == k for r in positive)}"
                                for k in kinds},
        "missed_ml": sorted(round(r[1], 2) for r in positive if r[2] < threshold),
        "lesion_ml_median": round(float(np.median(volumes)), 2),
        "lesion_ml_range": [round(min(volumes), 2), round(max(volumes), 2)],
        "dice_at_half_median": round(float(np.median([r[3] for r in positive if r[3] is not None])), 3),
        "brier_of_score": round(float(brier), 4),
        "roc_threshold_sensitivity_specificity": roc(*scores),
    }


def measure(session, count):
    """The threshold, chosen on the validation set and nowhere else, and what each set gives at it."""
    # Half of them hard.
    rows = {"validation": measure_set(session, SEEDS["validation"], count // 2, None)}
    threshold = choose_threshold(rows["validation"])
    print(f"threshold {threshold}", flush=True)
    for name in ("held_out", "held_out_hard"):
        rows[name] = measure_set(session, SEEDS[name], count, name.endswith("hard"))
    return threshold, {name: report(of, threshold) for name, of in rows.items()}


def write_metrics(path: Path, metrics):
    """Lists of numbers on one line each."""
    text = json.dumps(metrics, indent=2)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"), text)
    path.write_text(text + "\n")
    for name in ("validation", "held_out", "held_out_hard"):
        said = {k: v for k, v in metrics[name].items() if not k.startswith("roc_threshold")}
        print(name, json.dumps(said, indent=2))
    print("wrote", path)


def measure_again(out: Path, count, threads) -> int:
    """Measures the model that is there, and puts that into the metrics of its training."""
    model, path = out / "models" / "triage.onnx", out / "metrics.json"
    metrics = json.loads(path.read_text())
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    if digest != metrics["onnx_sha256"]:
        print(f"error: {path} is of another model than {model}, of SHA-256 {digest}", file=sys.stderr)
        return 1
    threshold, sets = measure(open_session(model, threads), count)
    if threshold != metrics["threshold"]:
        print(f"error: the threshold would be {threshold} now, and is {metrics['threshold']}", file=sys.stderr)
        return 1
    metrics.update(sets)
    write_metrics(path, metrics)
    return 0


def milliseconds_per_slab(session, n=8):
    x = np.random.default_rng(0).random((1, 1, SLAB, SIDE, SIDE), np.float32)
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        session.run(None, {"ct": x})
        times.append(time.perf_counter() - begun)
    return round(float(np.median(times)) * 1e3, 1)


# --------------------------------------------------------------------- DICOM ---

def write_phantom(folder: Path, seed, lesion, hard, pixel_mm):
    """A phantom as CT slices. Everything in them is made up, and says so."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    case = Case(seed, lesion, hard)
    hu, share, (dz, dy, dx) = render(case, pixel_mm)
    name = f"PHANTOM-{seed}-{'HARD-' if hard else ''}{'LESION' if lesion else 'NONE'}"

    def uid(what):
        return generate_uid(prefix="2.25.", entropy_srcs=[name, str(pixel_mm), what])[:64]

    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = hu.shape[1:]
    for k, plane in enumerate(hu):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid(f"slice {k}")
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{k:03d}.dcm"
        ds = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uid("study"), uid("series"), uid("frame")
        ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = name, "Phantom^Head", "", ""
        ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "20240101", "120000", "1", "", ""
        ds.Modality, ds.Manufacturer, ds.BodyPartExamined = "CT", "Gantry phantom", "HEAD"
        ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        ds.SeriesDescription, ds.SeriesNumber, ds.InstanceNumber = "Synthetic head, no patient", 1, k + 1
        ds.PositionReferenceIndicator, ds.PatientPosition, ds.KVP, ds.AcquisitionNumber = "", "HFS", 120, 1
        ds.ImagePositionPatient = [round(-(columns - 1) / 2 * dx, 4), round(-(rows - 1) / 2 * dy, 4), round(k * dz, 4)]
        ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [dy, dx]
        ds.SliceThickness, ds.SpacingBetweenSlices = case.thickness, dz
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = rows, columns, 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
        ds.WindowCenter, ds.WindowWidth = 40, 80
        ds.PixelData = np.clip(np.rint(plane) + 1024, 0, 4095).astype("<u2").tobytes()
        ds.save_as(path, enforce_file_format=True)
    kind = f"{case.lesion['kind']} lesion of {share.sum() * dx * dy * dz / 1000:.1f} mL" if lesion else "no lesion"
    print(f"{folder}: {len(hu)} slices of {rows} x {columns}, {kind}")


# ----------------------------------------------------------------------- main ---

def main(args) -> int:
    if args.command == "phantom":
        write_phantom(args.folder, args.seed, args.lesion, args.hard, args.pixel_mm)
        return 0
    if args.command == "measure":
        return measure_again(args.out, args.test, args.threads)
    import onnx
    import onnxruntime
    import torch

    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    phantoms = training_set(args.phantoms)
    net, loss = train(args, phantoms)
    trained = time.process_time()
    del phantoms

    path = args.out / "models" / "triage.onnx"
    export(net, path)
    session = open_session(path, args.threads)
    difference = check_against_torch(session, net)
    if difference > 1e-4:
        print(f"error: ONNX Runtime and torch differ by {difference}", file=sys.stderr)
        return 1
    threshold, sets = measure(session, args.test)
    metrics = {
        "model": "head-ct-triage",
        "onnx_sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "onnx_bytes": path.stat().st_size,
        "parameters": int(sum(np.prod(t.dims) for t in onnx.load(path).graph.initializer)),
        "seed": args.seed, "steps": args.steps, "batch": BATCH, "final_training_loss": round(loss, 4),
        "training_phantoms": args.phantoms, "phantom_seeds": SEEDS,
        "cpu_seconds": {"phantoms_and_training": round(trained), "all": round(time.process_time())},
        "preprocessing": {
            "orientation": "LPS", "spacing_mm_zyx": list(SPACING_MM), "side": SIDE, "slab": SLAB, "stride": STRIDE,
            "window_centre_hu": WINDOW_CENTRE, "window_width_hu": WINDOW_WIDTH, "bone_hu": BONE_HU,
            "pad_hu": AIR_HU, "hottest_voxels": HOTTEST},
        "threshold": threshold,
        "note": "All numbers are from phantoms of phantom.py, of seeds that were not trained on. The threshold comes from "
                "the validation set. They say nothing about patients.",
        **sets,
        "onnx_vs_torch_max_abs_difference": difference,
        "onnxruntime_ms_per_slab": {"threads": args.threads, "median": milliseconds_per_slab(session)},
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__,
                     "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    write_metrics(args.out / "metrics.json", metrics)
    return 0


if __name__ == "__main__":
    sys.exit(main(parse_args()))
