# SPDX-License-Identifier: Apache-2.0
"""Head phantoms for `head-ct-triage`: made-up skulls, brains and lesions, rendered as CT.

    Case(seed, lesion or none, hard or not) ──render──▶ Hounsfield units, and each voxel's share of lesion

Everything is a formula in millimetres, so that one case can be rendered on any grid: a formula gives a signed distance
(negative inside), `inside` turns it into a share between 0 and 1 over the width of the scanner's blur, and a tissue is
painted over what lies there with that share. A slice is the mean of several thin ones across its thickness, which gives
partial volume along z as a scanner has it.

The frame of the head has its origin in the middle of the brain: x to the patient's left, y to posterior, z to the vertex.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

LESIONS = ("parenchymal", "subdural", "epidural", "intraventricular")
BLUR_MM = 1.2  # over which an edge goes from one tissue to the other
SKIN_TO_AIR_HU = -1000.0


# ------------------------------------------------------------------- formulas ---

def inside(distance, width=BLUR_MM):
    """Share of a voxel at this signed distance that lies inside."""
    return np.clip(0.5 - distance / width, 0.0, 1.0)


def paint(hu, share, value):
    """`value` over what is there."""
    hu += share * (value - hu)


class Wave:
    """A smooth random field, about -1 to 1: a sum of plane waves no shorter than `shortest` mm."""

    def __init__(self, rng, shortest, longest, waves=5):
        direction = rng.normal(size=(waves, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        length = np.exp(rng.uniform(np.log(shortest), np.log(longest), waves))
        self.k = (direction * (2 * np.pi / length)[:, None]).astype(np.float32)
        self.phase = rng.uniform(0, 2 * np.pi, waves).astype(np.float32)

    def __call__(self, x, y, z):
        total = 0.0
        for k, phase in zip(self.k, self.phase):
            total = total + np.sin(k[0] * x + k[1] * y + k[2] * z + phase)
        return total * np.float32(1.2 / len(self.phase))


def rotation(degrees):
    """Turned about x (pitch), then y (roll), then z (yaw)."""
    (a, b, c) = np.radians(degrees)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


@dataclass
class Ellipsoid:
    """A ball with three radii, turned; its surface may be uneven by `rough` mm."""

    centre: tuple
    radii: tuple
    turn: np.ndarray = field(default_factory=lambda: np.eye(3, dtype=np.float32))
    surface: Wave | None = None
    rough: float = 0.0

    def distance(self, x, y, z):
        p = [x - np.float32(self.centre[0]), y - np.float32(self.centre[1]), z - np.float32(self.centre[2])]
        u, v, w = (self.turn[0, i] * p[0] + self.turn[1, i] * p[1] + self.turn[2, i] * p[2] for i in range(3))
        a, b, c = (np.float32(r) for r in self.radii)
        # Distance to the surface to first order: exact on it, which is where it matters.
        f = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
        g = np.sqrt((u / a ** 2) ** 2 + (v / b ** 2) ** 2 + (w / c ** 2) ** 2)
        distance = f * (f - 1) / np.maximum(g, 1e-6)
        return distance + self.rough * self.surface(x, y, z) if self.surface else distance

    def near(self, low, high):
        """Whether it can reach into a box: most shapes are small, most slices far away."""
        reach = max(self.radii) + self.rough + 2 * BLUR_MM
        return all(l - reach < c < h + reach for l, c, h in zip(low, self.centre, high))


@dataclass
class Shape:
    """Something small and what it is made of."""

    body: Ellipsoid
    hu: float


# -------------------------------------------------------------------- anatomy ---

class Case:
    """One patient who does not exist, and one scan of them: all that chance decides, drawn once.

    `hard` draws small or faint lesions, more noise and tilt, streaks, and more of what only looks like a lesion.
    """

    def __init__(self, seed, lesion, hard=False):
        self.seed, self.hard = seed, hard
        self.rng = rng = np.random.default_rng([seed, int(hard), 20])
        u = rng.uniform
        # The head.
        self.radii = (u(66, 80), u(82, 100), u(78, 92))
        self.below = u(1.25, 1.6)             # it reaches further down than up
        self.scalp, self.skull = u(3, 7), u(4.5, 8.5)
        self.csf = np.exp(u(np.log(0.8), np.log(4.5)))
        self.ventricle = u(0.7, 1.5)
        self.hu = {
            "scalp": u(-40, 45), "bone": u(900, 1500), "diploe": u(350, 800), "csf": u(3, 11), "white": u(26, 31),
            "grey": u(35, 40), "falx": u(42, 62), "sinus": u(48, 68), "muscle": u(40, 60),
        }
        self.falx_mm = u(0.8, 2.2)
        self.uneven = Wave(rng, 30, 90)
        self.sulci = Wave(rng, 9, 22, waves=7)
        self.cortex = Wave(rng, 14, 40)
        self.texture = Wave(rng, 5, 30, waves=6)
        self.spaces = self._spaces()
        self.sinuses = self._sinuses()
        self.calcified = self._calcified()
        self.bones = self._bones()
        # The scan.
        tilt = 1.6 if hard else 1.0
        self.turn = rotation(rng.normal(0, (8 * tilt, 4 * tilt, 5 * tilt)))
        self.shift = np.array([u(-12, 12), u(-12, 12), 0], np.float32)
        self.thickness = float(rng.choice([1.25, 2.0, 2.5, 3.0, 4.0, 5.0]))
        self.increment = self.thickness
        # Thin slices are noisier, though less than the square root says: they are reconstructed for it.
        self.noise = u(4.5, 7.5) if hard else u(2, 5) * (3 / self.thickness) ** 0.25
        self.streaks = u(4, 14) if hard or rng.random() < 0.3 else 0.0
        self.cupping = u(-2, 5)
        self.headrest = rng.random() < 0.8
        self.lesion = self._lesion() if lesion else None

    def _jitter(self, *centre, by=2.0):
        return tuple(c + self.rng.normal(0, by) for c in centre)

    def _spaces(self):
        """Ventricles and cisterns: (shape, whether it is a ventricle in which blood can lie)."""
        k, u, found = self.ventricle, self.rng.uniform, []
        for side in (-1, 1):
            s = k * u(0.85, 1.15)
            # `rotation` turns about z, so that frontal horns meet and occipital ones part.
            lean = rotation((0, 0, side * -12))
            found += [
                Ellipsoid(self._jitter(side * 11 * k, -2, 16), (5.5 * s, 30, 7 * s), lean),
                Ellipsoid(self._jitter(side * 11, -30, 8), (4.5 * s, 10, 9 * s), rotation((0, 0, side * 15))),
                Ellipsoid(self._jitter(side * 24, 36, 4), (6 * s, 15 * s, 8 * s), lean),
                Ellipsoid(self._jitter(side * 30, -2, -18), (3.5 * s, 12, 3.5 * s), lean),
            ]
        found += [Ellipsoid(self._jitter(0, 2, 0, by=1), (1.8 * k, 13, 9)), Ellipsoid(self._jitter(0, 42, -30), (6 * k, 4 * k, 8))]
        blood = len(found)
        found += [Ellipsoid(self._jitter(0, -12, -20), (12, 8, 5)), Ellipsoid(self._jitter(0, 24, -10), (9, 4, 5))]
        for side in (-1, 1):
            found.append(Ellipsoid(self._jitter(side * 46, -8, 2), (9, 17, u(1.5, 3.5)), rotation((25, side * 15, 0))))
        return [(shape, at < blood) for at, shape in enumerate(found)]

    def _sinuses(self):
        """Blood in veins: as dense as a fresh bleed, and not one."""
        back, hu, u = self.radii[1] - self.scalp - self.skull - 4, self.hu["sinus"], self.rng.uniform
        found = [Shape(Ellipsoid((u(-2, 2), back * 0.92, 25), (u(3, 5), u(3, 5), 32), rotation((20, 0, 0))), hu)]
        for side in (-1, 1):
            along = rotation((0, 0, side * 30))
            found.append(Shape(Ellipsoid(self._jitter(side * 32, back * 0.72, -24), (26, u(2.5, 4.5), u(3, 5)), along), hu))
        found.append(Shape(Ellipsoid(self._jitter(0, -22, -19, by=1.5), (10, 1.8, 1.8)), self.hu["grey"] + u(4, 12)))
        return found

    def _calcified(self):
        """Chalk: denser than blood at full size, and like it where a slice cuts it in part."""
        rng, found = self.rng, []
        often = 1.5 if self.hard else 1.0

        def add(chance, centre, low, high):
            if rng.random() < chance * often:
                radii = rng.uniform(low, high) * rng.uniform(0.7, 1.3, 3)
                found.append(Shape(Ellipsoid(self._jitter(*centre), tuple(radii)), rng.uniform(110, 320)))

        add(0.5, (0, 28, 2), 1.2, 3)
        if rng.random() < 0.45 * often:
            for side in (-1, 1):
                add(0.6, (side * 24, 34, 4), 1.5, 4)
        if rng.random() < 0.2 * often:
            for side in (-1, 1):
                add(0.6, (side * 20, -6, 2), 1.5, 3.5)
        if rng.random() < 0.25 * often:
            found.append(Shape(Ellipsoid(self._jitter(0, -45, 45, by=1), (1.5, rng.uniform(3, 10), rng.uniform(3, 8))), 220))
        return found

    def _bones(self):
        u = self.rng.uniform
        found = [Shape(Ellipsoid(self._jitter(s * 38, 8, -38), (24, 9, 9), rotation((0, 0, s * -35))), 1200) for s in (-1, 1)]
        air = [Shape(Ellipsoid(self._jitter(*at), r), -900.0) for at, r in [
            ((0, -62, -40), (14, 12, 14)), ((0, -24, -44), (11, 10, 8)), ((48, 22, -48), (8, 10, 9)), ((-48, 22, -48), (8, 10, 9))]]
        fat = [Shape(Ellipsoid(self._jitter(s * 32, -64, -34), (17, 20, 17)), u(-90, -60)) for s in (-1, 1)]
        eyes = [Shape(Ellipsoid(self._jitter(s * 32, -72, -34, by=1), (11.5, 11.5, 11.5)), u(5, 20)) for s in (-1, 1)]
        return fat + eyes + air + found

    # ---------------------------------------------------------------- lesions ---

    def _lesion(self):
        rng, u = self.rng, self.rng.uniform
        kind = str(rng.choice(LESIONS, p=[0.45, 0.25, 0.15, 0.15]))
        hu = u(50, 60) if self.hard else u(56, 86)
        extra = {}
        if kind == "parenchymal":
            size = np.exp(u(np.log(3), np.log(6))) if self.hard else np.exp(u(np.log(5), np.log(24)))
            radii = size * rng.uniform(0.75, 1.3, 3)
            limit = np.array(self.radii) - self.scalp - self.skull - 4 - radii.max()
            while True:
                at = rng.uniform(-1, 1, 3) * limit
                if np.sum((at / limit) ** 2) < 1 and at[2] > -12 + 0.3 * size and abs(at[0]) > 4:
                    break
            surface = Wave(rng, max(6, size), max(12, 3 * size))
            body = Ellipsoid(tuple(at), tuple(radii), rotation(u(-40, 40, 3)), surface, 0.12 * size)
            extra = {"body": body, "oedema": u(1, 7) if rng.random() < 0.7 else 0.0}
        elif kind in ("subdural", "epidural"):
            elevation, side = u(-0.1, 0.9), rng.choice([-1, 1])
            bearing = u(-0.9, 0.9)
            direction = np.array([side * np.cos(bearing), np.sin(bearing), np.tan(elevation)])
            deep = {("subdural", False): (5, 16), ("subdural", True): (3.0, 5), ("epidural", False): (9, 28), ("epidural", True): (4, 7)}
            wide = (0.7, 1.3) if kind == "subdural" else (0.3, 0.5)
            depth, angle = u(*deep[kind, self.hard]), u(*wide)
            extra = {"direction": direction / np.linalg.norm(direction), "depth": depth, "angle": angle}
        else:
            # Blood sinks to the back of the ventricles, up to a level.
            extra = {"level": u(36, 44) if self.hard else u(8, 36), "sides": [(-1,), (1,), (-1, 1)][rng.integers(3)]}
        return {"kind": kind, "hu": hu, **extra}

    def _lesion_distance(self, x, y, z, depth):
        """Signed distance to the lesion; `depth` is how far below the skull's inner table."""
        lesion = self.lesion
        if lesion["kind"] == "parenchymal":
            return lesion["body"].distance(x, y, z)
        if lesion["kind"] == "intraventricular":
            wanted = [s for s, blood in self.spaces if blood and (np.sign(s.centre[0]) in lesion["sides"] or abs(s.centre[0]) < 6)]
            body = np.minimum.reduce([s.distance(x, y, z) for s in wanted])
            return np.maximum(body, np.float32(lesion["level"]) - y)
        radius = np.sqrt(x * x + y * y + z * z) + np.float32(1e-3)
        d = lesion["direction"]
        angle = np.arccos(np.clip((x * d[0] + y * d[1] + z * d[2]) / radius, -1, 1)) / np.float32(lesion["angle"])
        thick = np.float32(lesion["depth"]) * np.clip(1 - angle * angle, 0, 1)
        # Where it has run out, the surface of the brain is not on its edge.
        distance = np.maximum(depth - thick, -depth) + 2 * np.clip(1 - thick, 0, 1)
        # The falx holds it on its side.
        return np.maximum(distance, 2 - x * np.float32(np.sign(d[0])))

    # ----------------------------------------------------------------- tissue ---

    def tissue(self, x, y, z):
        """Hounsfield units and the lesion's share at points of the head's frame."""
        hu = np.full(x.shape, SKIN_TO_AIR_HU, np.float32)
        low, high = [float(axis.min()) for axis in (x, y, z)], [float(axis.max()) for axis in (x, y, z)]
        a, b, c = self.radii
        down = np.where(z < 0, np.float32(self.below), np.float32(1))
        radius = np.sqrt(x * x + y * y + z * z) + np.float32(1e-3)
        # Narrower in front, as seen from above.
        q = np.sqrt((x / (a * (1 + 0.0012 * y))) ** 2 + (y / b) ** 2 + (z / (c * down)) ** 2) + np.float32(1e-3)
        outer = radius * (1 - 1 / q)
        uneven = self.uneven(x, y, z)
        table = outer + self.scalp
        inner = table + self.skull * (1 + 0.18 * uneven)
        paint(hu, inside(outer), self.hu["scalp"])
        paint(hu, inside(table), self.hu["bone"])
        paint(hu, inside(np.abs(table + 0.5 * self.skull) - 0.22 * self.skull), self.hu["diploe"])
        # The floor of the skull falls in steps from front to back; below it there is no brain.
        floor = -16 - 0.5 * np.clip(y + 40, 0, 30) - 0.75 * np.clip(y - 5, 0, 30) + 3 * uneven
        above = floor - z
        paint(hu, inside(inner), np.float32(self.hu["muscle"]) + 10 * self.cortex(x, y, z))
        for shape in self.bones:
            if shape.body.near(low, high):
                paint(hu, inside(np.maximum(shape.body.distance(x, y, z), inner)), shape.hu)
        paint(hu, inside(np.maximum(inner, np.abs(above) - 2.0)), 0.8 * self.hu["bone"])
        cavity = np.maximum(inner, above + 2)
        room = inside(cavity)
        lesion = np.zeros_like(hu)
        if not room.any():
            return hu, lesion
        paint(hu, room, self.hu["csf"])
        self._brain(hu, x, y, z, cavity, low, high)
        for shape in self.sinuses + self.calcified:
            if shape.body.near(low, high):
                paint(hu, inside(np.maximum(shape.body.distance(x, y, z), cavity)), shape.hu)
        if self.lesion:
            distance = np.maximum(self._lesion_distance(x, y, z, -inner), cavity)
            if self.lesion.get("oedema"):
                paint(hu, 0.8 * inside(np.maximum(distance - self.lesion["oedema"], cavity + self.csf), 4.0), 21.0)
            lesion = inside(distance)
            paint(hu, lesion, np.float32(self.lesion["hu"]) + 4 * self.texture(x, y, z))
        return hu, lesion

    def _brain(self, hu, x, y, z, cavity, low, high):
        sulci = self.sulci(x, y, z)
        brain = cavity + self.csf * (1 + 0.4 * sulci) + (2 + 5 * self.csf) * np.clip(sulci - 0.25, 0, 1)
        # Between the halves a gap with the falx in it, and the tentorium over the hind brain.
        middle = np.abs(x - 1.5 * np.sin(y / np.float32(40)))
        cleft = (z > 18) | (y < -38) | ((y > 48) & (z > -5))
        split = np.where(cleft, 0.35 * self.csf + 0.4 - middle, np.float32(-99))
        brain = np.maximum(brain, split)
        paint(hu, inside(brain), self.hu["grey"] + 1.5 * self.texture(x, y, z))
        deep = np.maximum(brain + 5 + 3 * self.cortex(x, y, z), -18 - z)
        core = Ellipsoid((0, 2, 4), (27, 24, 14)).distance(x, y, z)  # grey kernels
        white = np.maximum(deep, np.where(np.abs(np.abs(x) - 17) < 8, -core - 3, np.float32(-99)))
        paint(hu, inside(white, 3.0), self.hu["white"] + self.texture(x, y, z))
        for shape, _ in self.spaces:
            if shape.near(low, high):
                paint(hu, inside(np.maximum(shape.distance(x, y, z), cavity)), self.hu["csf"])
        paint(hu, inside(np.maximum(middle - self.falx_mm / 2, cavity)) * cleft, self.hu["falx"])
        tent = np.abs(z + 12 + 0.35 * np.abs(x) - 0.25 * np.clip(y - 20, 0, 99)) - self.falx_mm / 2
        paint(hu, inside(np.maximum(tent, np.maximum(cavity, 22 - y))), self.hu["falx"])


# ------------------------------------------------------------------- scanning ---

def render(case: Case, pixel_mm: float, field_mm: float = 240.0):
    """Scans a case: (HU [z][y][x], the lesion's share likewise, (z, y, x) spacing in mm), axes to left, posterior, head."""
    rng = np.random.default_rng([case.seed, int(case.hard), 21])
    n = int(round(field_mm / pixel_mm))
    first = -52 + rng.uniform(-10, 6)
    last = case.radii[2] + rng.uniform(0, 10)
    heights = np.arange(first, last, case.increment)
    across = ((np.arange(n) - (n - 1) / 2) * pixel_mm).astype(np.float32)
    thin = max(1, int(round(case.thickness / 1.5)))
    offsets = ((np.arange(thin) + 0.5) / thin - 0.5) * case.thickness
    slices, shares = [], []
    for height in heights:
        z, y, x = np.meshgrid((height + offsets).astype(np.float32), across, across, indexing="ij")
        px, py, pz = x - case.shift[0], y - case.shift[1], z
        t = case.turn
        hu, share = case.tissue(*(t[0, i] * px + t[1, i] * py + t[2, i] * pz for i in range(3)))
        slices.append(_acquired(case, rng, hu.mean(0), across, height, pixel_mm))
        shares.append(share.mean(0))
    return np.stack(slices), np.stack(shares), (case.increment, pixel_mm, pixel_mm)


def _acquired(case, rng, plane, across, height, pixel_mm):
    """One slice as the scanner gives it: headrest, cupping, streaks between dense bone, noise."""
    y, x = across[:, None], across[None, :]
    if case.headrest:
        rest = np.abs(np.hypot(x, y + 40) - (case.radii[1] + 57 + case.shift[1])) - 2
        share = inside(rest) * (y > 55) * (plane < -900)
        plane = plane + share * 850
    soft = (plane > -200) & (plane < 200)
    plane = plane + soft * case.cupping * ((x * x + y * y) / 70 ** 2 - 0.5)
    if case.streaks:
        where = np.exp(-((height + 32) / 14) ** 2)  # level of the petrous bones
        bands = np.sin(y / rng.uniform(2.5, 6) + 0.08 * x * rng.uniform(-1, 1) + rng.uniform(0, 6))
        plane = plane + soft * where * case.streaks * bands * np.exp(-(x / 45) ** 2)
    white = rng.normal(0, 1, plane.shape).astype(np.float32)
    # The kernel of the reconstruction ties neighbouring pixels together, over about a millimetre.
    reach = max(0.0, 1.0 - pixel_mm / 2)
    for axis in (0, 1):
        white = white + reach * 0.5 * (np.roll(white, 1, axis) + np.roll(white, -1, axis))
    sigma = case.noise * (1.0 if pixel_mm < 1.5 else 0.85)
    return np.maximum(plane + sigma * white / white.std(), -1024).astype(np.float32)
