"""The hollow organs of the abdominal phantom: esophagus, stomach, duodenum, small bowel and colon."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ag_networks.data.anatomy.organs import Pancreas
from ag_networks.data.anatomy.paint import AIR, Lumen, Part
from ag_networks.data.anatomy.shapes import Array, Both, Grown, Tube, curve
from ag_networks.data.anatomy.torso import Torso

__all__ = ["bowel", "colon", "duodenum", "stomach"]


def stomach(rng: np.random.Generator, torso: Torso, hu: dict[str, float], *, forward: float) -> list[Part]:
    """Return esophagus and stomach: empty, or full of fluid, food or contrast, often with air in front."""
    knots = np.array(
        [
            [-56.0, 40, 66, 30],
            [-64, 60, 54, 34],
            [-68, 86, 30, 30],
            [-56, 104, 2, 22],
            [-30, 110, -18, 18],
            [-2, 106, -20, 15],
            [20, 96, -10, 10],
            [32, 90, -4, 7],
        ]
    )
    knots[:, 1] += forward
    knots[:, :3] += rng.normal(0, 4, 3) + rng.normal(0, 3, (len(knots), 3))
    knots[:, 2] += np.array([0, 0, -4, -10, -16, -12, 0, 0]) * rng.uniform(0, 2)
    filling = rng.choice(["empty", "fluid", "food", "contrast"], p=[0.25, 0.3, 0.2, 0.25])
    full = rng.uniform(0.4, 0.55) if filling == "empty" else rng.uniform(0.75, 1.05)
    knots[:, 3] *= np.linspace(max(full, 0.7), full, len(knots))
    path = curve(knots)
    low, high = {"empty": (10, 30), "fluid": (0, 30), "food": (20, 60), "contrast": (120, 350)}[filling]
    level = float(rng.uniform(85, 115)) + forward if rng.random() < 0.7 else None
    lumen = Lumen(rng.uniform(2.5, 5), rng.uniform(low, high), 25.0 if filling == "food" else 3.0, level)
    gullet = curve(np.array([[-54.0, 44, 66, 5], [-24, 38, 62, 6], [-10, 34, 90, 7], [-6, 30, 400, 8]]), step=20.0)
    room = Both(Grown(torso.room, -5.0), Grown(torso.below, -3.0))
    return [
        Part(Tube(gullet[:, :3], gullet[:, 3]), hu["gut"], lumen=Lumen(4.0, 10.0)),
        Part(Both(Tube(path[:, :3], path[:, 3]), room), hu["gut"], lobes=1.5, lumen=lumen),
    ]


def duodenum(rng: np.random.Generator, torso: Torso, hu: dict[str, float], pancreas: Pancreas) -> list[Part]:
    """Return the duodenum: around the head, then to the left between aorta and superior mesenteric artery."""
    head = pancreas.path[2, :3]
    side = head + [13 + pancreas.path[2, 3], -3, -8]
    front = torso.spine_y(-72) + 44
    knots = np.array(
        [
            [32.0, head[1] + 22, 0, 8],
            [side[0] - 2, head[1] + 12, side[2] + 22, 10],
            [side[0] + 1, side[1] - 2, side[2], 11],
            [side[0], side[1] - 6, side[2] - 30, 12],
            [side[0] - 14, side[1] - 8, -70, 11],
            [12, front, -76, 10],
            [-12, front, -72, 10],
            [-30, front + 2, -52, 10],
            [-36, front + 12, -30, 11],
        ]
    )
    knots[1:-1, :3] += rng.normal(0, 2, (len(knots) - 2, 3))
    knots[:, 3] *= rng.uniform(0.8, 1.15)
    hu_content = rng.choice([hu["gut"] - 12, 15.0, 60.0, 220.0], p=[0.35, 0.3, 0.2, 0.15])
    level = float(head[1] + 8) if rng.random() < 0.3 else None
    path = curve(knots)
    return [Part(Tube(path[:, :3], path[:, 3]), hu["gut"], lobes=1.2, lumen=Lumen(2.8, hu_content, 12.0, level))]


def bowel(rng: np.random.Generator, torso: Torso, hu: dict[str, float], *, forward: float) -> list[Part]:
    """Return loops of jejunum (upper left, beside the body of the pancreas) and of ileum (below)."""
    room = Grown(torso.room, -6.0)
    oral = rng.random() < 0.4
    parts = []
    for k in range(34):
        low, high = ((-90, 62, -48), (-34, 112, -8)) if k < 9 else ((-88, 58, -210), (76, 128, -62))
        path = _loop(rng, rng.uniform(low, high) + [0, forward, 0], rng.uniform(9, 14))
        shape = Both(Tube(path[:, :3], path[:, 3]), room)
        parts.append(Part(shape, hu["gut"], lobes=1.3, lumen=_content(rng, hu, oral)))
    return parts


def colon(rng: np.random.Generator, torso: Torso, hu: dict[str, float], *, forward: float) -> list[Part]:
    """Return the colon: up on the right, across in front, down on the left."""
    wide, sag = torso.width - 34, rng.uniform(0, 50)
    front = torso.cavity.center[1] + torso.cavity.semi[1] - 30
    knots = np.array(
        [
            [wide - 2, 40, -260, 26],
            [wide, 42, -170, 24],
            [wide - 6, 52, -112, 21],
            [wide - 26, 92, -84, 19],
            [40, front - 4, -76 - sag / 2, 18],
            [0, front, -70 - sag, 18],
            [-50, front - 6, -50 - sag / 2, 17],
            [-wide + 14, 86 + forward, -8, 17],
            [-wide + 6, 60, 12, 18],
            [-wide, 32, -40, 15],
            [-wide + 2, 28, -120, 13],
            [-wide + 10, 40, -260, 14],
        ]
    )
    knots[:, :3] += rng.normal(0, 4, (len(knots), 3))
    knots[:, 3] *= rng.uniform(0.65, 1.05) * rng.normal(1, 0.1, len(knots)).clip(0.8, 1.2)
    path = curve(knots)
    path[:, 3] *= 1 + 0.16 * np.sin(np.arange(len(path)) * rng.uniform(1.5, 1.9))
    cuts = [0, len(path) // 3, 2 * len(path) // 3, len(path) - 1]
    room = Grown(torso.room, -4.0)
    parts = []
    for start, stop in pairwise(cuts):
        piece = path[start : stop + 1]
        gas = rng.random() < 0.3
        stool = Lumen(2.0, AIR if gas else rng.uniform(-120, 40), 0.0 if gas else rng.uniform(30, 130))
        parts.append(Part(Both(Tube(piece[:, :3], piece[:, 3]), room), hu["gut"], lobes=1.5, lumen=stool))
    return parts


def _loop(rng: np.random.Generator, at: Array, radius: float) -> Array:
    """Random smooth tube of about 12 cm that curls around a point."""
    turn = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.uniform(2.5, 4.5), 6)
    plane = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [1.0, 1.0, 0.8]
    ring = rng.uniform(16, 30) * (np.cos(turn)[:, None] * plane[0] + np.sin(turn)[:, None] * plane[1])
    along = np.linspace(-14, 14, 6)[:, None] * plane[2]
    return curve(np.column_stack([at + ring + along, radius * rng.normal(1, 0.1, 6).clip(0.75, 1.2)]), step=9.0)


def _content(rng: np.random.Generator, hu: dict[str, float], oral: bool) -> Lumen:
    """Collapsed loops look like the gland; others hold fluid, oral contrast or gas."""
    kind = rng.choice(4, p=[0.4, 0.25, 0.25, 0.1])
    if kind == 3:
        return Lumen(2.0, AIR)
    bright = rng.uniform(150, 380) if oral else rng.uniform(10, 40)
    return Lumen(2.8, (hu["gut"] - rng.uniform(0, 20), rng.uniform(5, 30), bright)[kind], 14.0)
