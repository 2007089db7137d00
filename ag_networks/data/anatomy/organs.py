"""The solid organs of the abdominal phantom: pancreas, liver, spleen, kidneys, and their neighbors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ag_networks.data.anatomy.paint import Lumen, Part
from ag_networks.data.anatomy.shapes import Array, Both, Ellipsoid, Grown, Joined, Tube, Without, curve, volume_ml
from ag_networks.data.anatomy.torso import Torso

__all__ = ["KIDNEYS", "LIVER", "PANCREAS", "SPLEEN", "Pancreas", "kidneys", "liver", "spleen"]

PANCREAS, SPLEEN, KIDNEYS, LIVER = 1, 2, 3, 4

# Columns: x, y, z, radius in millimeters, from the lower head to the tail, for a tail at the height of the neck.
_PANCREAS = np.array(
    [
        [31.0, 60.0, -40.0, 8.0],
        [29.0, 61.0, -22.0, 14.0],
        [23.0, 66.0, -7.0, 12.0],
        [10.0, 73.0, 2.0, 8.5],
        [-12.0, 75.0, 6.0, 8.5],
        [-36.0, 65.0, 9.0, 9.5],
        [-57.0, 50.0, 9.0, 9.0],
        [-76.0, 37.0, 8.0, 7.0],
    ]
)
_RISE = np.array([0.0, 0.0, 0.0, 0.0, 0.15, 0.5, 0.85, 1.0])


@dataclass(frozen=True)
class Pancreas:
    """Course and thickness of a pancreas; vessels and duodenum follow it.

    Args:
        path: x, y, z and radius per point in millimeters, from the head to the tail.
        uncinate: the same for the hook below the superior mesenteric vein.
        tall: craniocaudal extent over anteroposterior thickness.
        lobes: amplitude of the surface's lobulation in millimeters.
        fat: how fatty the clefts between the lobes are, 0 to 1.
        gap: thickness of the fat that sets it off its neighbors in millimeters.
    """

    path: Array
    uncinate: Array
    tall: float
    lobes: float
    fat: float
    gap: float

    @classmethod
    def draw(cls, rng: np.random.Generator, *, forward: float, scale: float) -> Pancreas:
        """Draw a pancreas of about 48 to 125 ml, in a body enlarged by `scale` and before vessels cut into it."""
        knots = _PANCREAS.copy()
        knots[:, 1] += forward
        knots[:, :3] += rng.normal(0, 4, 3) + rng.normal(0, 2.5, (len(knots), 3))
        knots[:, 2] += _RISE * rng.uniform(-14, 42)
        knots[:, 0] *= rng.uniform(0.9, 1.12)
        knots[:, 3] *= rng.normal(1, 0.09, len(knots)).clip(0.8, 1.25)
        hook = np.array([knots[1], knots[1] + [-9, -6, -9, -4], knots[1] + [-21, -9, -13, -7]])
        tall = rng.uniform(1.15, 1.6)
        target = np.clip(75 * np.exp(rng.normal(0, 0.3)), 48, 125) / scale**3
        width = np.sqrt(target / (volume_ml(_tube(curve(knots), tall)) + 0.5 * volume_ml(_tube(curve(hook), tall))))
        knots[:, 3] *= width
        hook[:, 3] *= width
        fat = rng.choice([0.05, 0.25, 0.6], p=[0.5, 0.35, 0.15]) * rng.uniform(0.5, 1.2)
        return cls(curve(knots), curve(hook), tall, rng.uniform(1.2, 3.0), fat, rng.uniform(0, 3.0))

    def parts(self, hu: dict[str, float]) -> list[Part]:
        """Return the fat around the gland and the gland."""
        shape = Joined(_tube(self.path, self.tall), _tube(self.uncinate, self.tall))
        gland = Part(shape, hu["pancreas"], PANCREAS, texture=7.0, lobes=self.lobes, fat=self.fat)
        return [Part(Grown(shape, self.gap), hu["fat"], lobes=self.lobes), gland]

    def behind(self, fraction: float, depth: float) -> Array:
        """Return a point behind the gland: `fraction` of the way from head to tail, `depth` radii back."""
        at = self.path[round(fraction * (len(self.path) - 1))]
        return at[:3] - [0.0, depth * at[3], 0.0]


def liver(rng: np.random.Generator, torso: Torso, hu: dict[str, float]) -> list[Part]:
    """Return the liver with its fissure and the gallbladder; vessels follow later."""
    room = Both(Grown(torso.room, -3.5), Grown(torso.below, -1.0))
    reach, low = rng.uniform(-1, 1), rng.normal(0, 12)
    bulk = np.array([68 + rng.normal(0, 4), 92, 92 - low / 2])
    right = Ellipsoid(np.array([84.0, 48, 14 + low / 2]), bulk, _turn(y=0.22))
    left = Ellipsoid(np.array([16 - 18 * reach, 104, 50]), np.array([78 + 18 * reach, 46, 36]), _turn(y=-0.18, z=-0.15))
    caudate = Ellipsoid(np.array([22.0, 48, 44]), np.array([22.0, 22, 26]))
    hilum = Ellipsoid(np.array([28.0, 64, 16]), np.array([34.0, 13, 20]), _turn(x=0.5, z=0.3))
    fissure = Ellipsoid(np.array([20.0, 118, 28]), np.array([rng.uniform(0.5, 4), 34, 24]), _turn(z=-0.2))
    shape = Without(Without(Joined(Joined(right, left, 30.0), caudate, 12.0), hilum), fissure)
    parts = [Part(Both(shape, room), hu["liver"], LIVER, texture=5.0, lobes=0.6)]
    if rng.random() < 0.8:
        size = rng.uniform(0.7, 1.2)
        knots = np.array([[66.0, 104, -34, 11], [62, 96, -22, 13], [54, 84, -6, 8], [46, 76, 4, 4]])
        path = curve(knots * [1, 1, 1, size] + np.append(rng.normal(0, 4, 3), 0))
        bile = Lumen(wall=1.8, hu=rng.uniform(2, 18))
        parts.append(Part(Tube(path[:, :3], path[:, 3]), hu["gut"], lumen=bile))
    return parts


def spleen(rng: np.random.Generator, torso: Torso, hu: dict[str, float]) -> list[Part]:
    """Return the spleen, a crescent under the left dome."""
    room = Both(Grown(torso.room, -4.5), Grown(torso.below, -1.5))
    size, at = rng.uniform(0.85, 1.25), np.array([-torso.width + 32, 18.0, 24]) + rng.normal(0, 4, 3)
    bulk = Ellipsoid(at, size * np.array([40.0, 50, 54]), _turn(x=0.35, z=0.25))
    hollow = Ellipsoid(at + [54.0, 26, -6], np.array([32.0, 44, 56]))
    shape = Both(Without(bulk, hollow), room)
    mottled = 14.0 if hu["artery"] > 200 else 4.0
    return [Part(shape, hu["spleen"], SPLEEN, texture=mottled, lobes=0.8)]


def kidneys(rng: np.random.Generator, torso: Torso, hu: dict[str, float]) -> list[Part]:
    """Return both kidneys with fat around and within, and the adrenal glands above."""
    parts = []
    for side, height in ((-1.0, -20.0), (1.0, -30.0)):
        at = np.array([side * 62, 10 + 0.3 * torso.spine_y(height), height]) + rng.normal(0, 4, 3)
        semi = np.array([25.0, 28, 53]) * rng.uniform(0.87, 1.12) * rng.normal(1, 0.04, 3)
        body = Ellipsoid(at, semi, _turn(x=0.25, y=0.25 * side))
        sinus = Ellipsoid(at + [-side * 17, 8, 0], semi * [0.6, 0.34, 0.45])
        pelvis = Ellipsoid(at + [-side * 20, 10, -4], np.array([14.0, 6, 10]))
        cortex = (hu["cortex_kidney"], 5.0)
        parts += [
            Part(Grown(body, rng.uniform(3, 9)), hu["fat"]),
            Part(Without(body, sinus), hu["kidney"], KIDNEYS, texture=5.0, lobes=0.9, rim=cortex),
            Part(pelvis, rng.uniform(0, 20)),
        ]
        gland = np.array([[22.0, 22, 24, 2], [30, 27, 20, 3.5], [38, 20, 12, 2]]) * [side, 1, 1, 1]
        parts.append(Part(_tube(curve(gland), 1.8), 0.8 * hu["pancreas"]))
    return parts


def _tube(path: Array, tall: float) -> Tube:
    return Tube(path[:, :3], path[:, 3], (1.0, 1.0, tall))


def _turn(*, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Array:
    """Rotation matrix from angles in radians about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
