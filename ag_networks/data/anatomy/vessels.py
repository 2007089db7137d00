"""The vessels of the abdominal phantom."""

from __future__ import annotations

import numpy as np

from ag_networks.data.anatomy.organs import LIVER, Pancreas
from ag_networks.data.anatomy.paint import Part
from ag_networks.data.anatomy.shapes import Array, Tube, curve
from ag_networks.data.anatomy.torso import Torso

__all__ = ["hepatic_vessels", "mesentery", "vessels"]


def vessels(rng: np.random.Generator, torso: Torso, hu: dict[str, float], pancreas: Pancreas) -> list[Part]:
    """Return aorta, vena cava and their branches, and the portal system behind the pancreas."""
    artery, vein = hu["artery"], hu["vein"]
    aorta, cava = _trunk(torso, -7, rng.uniform(8, 12), 260), _trunk(torso, 21, rng.uniform(8.5, 12), 30)
    cava = np.vstack([cava, [[20.0, 40, 52, 12], [18, 46, 76, 12], [10, 50, 110, 13]]])
    neck = pancreas.behind(0.42, 1.0) - [0, 4.5, 0]
    root = aorta[np.abs(aorta[:, 2]).argmin(), :3] + [1, 8, 0]
    lower = [-3.0, neck[1] + 6, -60]
    portal = [lower + np.array([12.0, 0, -40]), lower + np.array([12.0, -2, 0]), neck + [1, 0, -14], neck]
    portal = [*portal, neck + [12, -2, 14], [34.0, 62, 26], [48.0, 62, 36]]
    behind = [pancreas.behind(f, 0.95) + [0, -2, up] for f, up in ((0.5, 0), (0.62, 2), (0.75, 3), (0.88, 3), (1, 4))]
    splenic = [neck + [-1, 0, 1], *behind, behind[-1] + [-14, -4, 6]]
    branch = [root + [-1, 0, 12], root + [-2, 12, 13], *(p + [0, 0, 9] for p in (*behind[2:], splenic[-1]))]
    sma = [root, root + [2, 10, -10], neck + [-13, 0, -24], lower, lower + np.array([2.0, 4, -60])]
    left_renal = [[-50.0, 14, -20], [-26.0, 30, -18], root + [-2, 3, -16], [18.0, root[1] - 9, -18]]
    right_renal = [[48.0, 10, -30], [22.0, 24, -26]]
    return [
        Part(_tube(np.array(sma), 7.0), hu["fat"]),
        *(_pipe(np.array(p), r, vein) for p, r in ((left_renal, 4.0), (right_renal, 4.0))),
        Part(Tube(cava[:, :3], cava[:, 3], (1.1, 0.85, 1.0)), vein, texture=8.0),
        Part(Tube(aorta[:, :3], aorta[:, 3]), artery, rim=(rng.choice([0.0, 0.0, 60.0]), 1.0)),
        *(_pipe(np.array(p), r, vein) for p, r in ((portal, rng.uniform(5, 7)), (splenic, rng.uniform(3, 4.5)))),
        *(_pipe(np.array(p), r, artery) for p, r in ((branch, rng.uniform(1.8, 2.8)), (sma, rng.uniform(3, 4)))),
    ]


def hepatic_vessels(rng: np.random.Generator, hu: dict[str, float]) -> list[Part]:
    """Return hepatic veins and portal branches, which keep the liver's label."""
    parts = []
    for start, ends in (
        ([16.0, 48, 76], [[110.0, 40, 10], [70, 105, 10], [0, 115, 45], [60, 40, 40]]),
        ([46.0, 62, 36], [[115.0, 70, -10], [100, 25, 0], [88, 80, 50], [-20, 110, 45]]),
    ):
        for end in ends:
            tip = np.array(end) + rng.normal(0, 8, 3)
            middle = (np.array(start) + tip) / 2 + rng.normal(0, 8, 3)
            path = curve(np.array([[*start, 4.5], [*middle, 3.2], [*tip, 1.2]]), step=10.0)
            blood = 0.75 * hu["vein"] + 0.25 * hu["liver"]
            parts.append(Part(Tube(path[:, :3], path[:, 3]), blood, LIVER, within=LIVER))
    return parts


def mesentery(rng: np.random.Generator, hu: dict[str, float], *, forward: float) -> list[Part]:
    """Return small vessels in the fat between the loops."""
    parts = []
    for _ in range(14):
        end = rng.uniform((-80, 75, -160), (70, 125, -20)) + [0, forward, 0]
        middle = (end + [2, 70 + forward, -50]) / 2 + rng.normal(0, 7, 3)
        parts.append(_pipe(np.array([[2, 70 + forward, -50], middle, end]), rng.uniform(1.3, 2.4), hu["vein"]))
    return parts


def _trunk(torso: Torso, x: float, radius: float, top: float) -> Array:
    heights = np.append(np.arange(-105.0, min(top, 90), 15), top)
    return np.array([[x, torso.spine_y(z) + 18 + radius, z, radius] for z in heights])


def _tube(points: Array, radius: float) -> Tube:
    path = curve(points)
    return Tube(path, np.full(len(path), radius))


def _pipe(points: Array, radius: float, hu: float) -> Part:
    return Part(_tube(points, radius), hu)
