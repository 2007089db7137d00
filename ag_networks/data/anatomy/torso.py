"""The trunk of the abdominal phantom: skin, fat, muscles, ribs, spine, lungs and heart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ag_networks.data.anatomy.paint import Part
from ag_networks.data.anatomy.shapes import (
    Array,
    Both,
    Bounds,
    Ellipsoid,
    Grown,
    Oval,
    Points,
    Shared,
    Tube,
    Without,
    curve,
)

__all__ = ["Dome", "Torso"]

_TOP, _BOTTOM = 400.0, -400.0
_STRAIGHT = (-220.0, 60.0)


@dataclass(frozen=True)
class Dome:
    """Space below the diaphragm: paraboloids given as rows of `(x, y, top, width, depth)`."""

    domes: tuple[tuple[float, float, float, float, float], ...]

    def bounds(self) -> Bounds:
        top = max(dome[2] for dome in self.domes)
        return np.full(3, -np.inf), np.array([np.inf, np.inf, top])

    def distance(self, points: Points) -> Array:
        x, y, z = points.coordinates
        height = np.full(z.shape, -1e3, np.float32)
        for cx, cy, top, width, depth in self.domes:
            u, v = (x - np.float32(cx)) * np.float32(1 / width), (y - np.float32(cy)) * np.float32(1 / depth)
            np.maximum(height, np.float32(top) - 80 * (u * u + v * v), out=height)
        return np.float32(0.75) * (z - height)


@dataclass(frozen=True)
class Torso:
    """Measures of a trunk in millimeters; the origin is the center of the first lumbar vertebral body.

    Args:
        width: half the width of the abdominal cavity.
        depth: half its depth.
        wall: thickness of the muscles of the wall.
        fat: thickness of the fat under the skin: sides, front, back.
        slope: how much further forward the spine lies per millimeter downward.
        dome: the diaphragm.
    """

    width: float
    depth: float
    wall: float
    fat: tuple[float, float, float]
    slope: float
    dome: Dome

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Torso:
        """Draw the measures; stout trunks have wide cavities and much fat."""
        stout = rng.beta(1.6, 2.2)
        fat = (4 + 34 * stout * rng.uniform(0.5, 1), 5 + 45 * stout * rng.uniform(0.4, 1), 8 + 22 * stout)
        lift = rng.uniform(-12, 14)
        domes = (
            (68.0, 62.0, 92 + lift, 72.0, 92.0),
            (-70.0, 58.0, 80 + lift + rng.uniform(-8, 8), 70.0, 88.0),
            (0.0, 88.0, 68 + lift, 75.0, 85.0),
        )
        width, depth = 126 + 20 * stout + rng.uniform(-6, 6), 84 + 18 * stout + rng.uniform(-5, 5)
        return cls(width, depth, rng.uniform(7, 13), fat, rng.uniform(0.08, 0.22), Dome(domes))

    @property
    def cavity(self) -> Oval:
        """Inside of the abdominal and chest wall."""
        return Oval(np.array([0.0, self.depth - 38]), np.array([self.width, self.depth]))

    @property
    def room(self) -> Shared:
        """The cavity as a shape that bounds the organs."""
        return Shared(self.cavity, "cavity")

    @property
    def below(self) -> Shared:
        """Everything below the diaphragm."""
        return Shared(self.dome, "dome")

    def spine_y(self, z: float) -> float:
        """Return the anterior position of the vertebral bodies' centers at height z."""
        return float(_spine_y(self.slope, z))

    def walls(self, hu: dict[str, float]) -> list[Part]:
        """Return skin, fat, wall muscles, lungs and heart in painting order; the gut follows on top."""
        wall = Oval(self.cavity.center - [0.0, 3.0], self.cavity.semi + [self.wall, 0.6 * self.wall + 6])
        side, front, back = self.fat
        skin = Oval(wall.center + [0.0, (front - back) / 2], wall.semi + [side, (front + back) / 2])
        lungs = Without(Grown(self.room, -2.0), self.below)
        return [
            Part(skin, hu["fat"], texture=6.0, rim=(130.0, 1.5)),
            Part(wall, hu["muscle"], texture=10.0, lobes=0.4, fat=0.1),
            Part(self.room, hu["fat"], texture=8.0),
            Part(lungs, -840.0, texture=25.0, lobes=0.0, fat=-0.25),
            *self._chest(hu),
            Part(_Ribs(self), hu["marrow"], rim=(hu["cortex"], 1.2)),
        ]

    def frame(self, hu: dict[str, float]) -> list[Part]:
        """Return the deep muscles and the spine, which are painted after the gut."""
        return [*self._muscles(hu), *self._bones(hu)]

    def _chest(self, hu: dict[str, float]) -> list[Part]:
        heart = Ellipsoid(np.array([-22.0, self.depth + 8, 128.0]), np.array([62.0, 50.0, 52.0]))
        fat = Tube(np.array([[-2.0, 38, 20], [-4.0, 36, 100], [-4.0, 36, _TOP]]), np.full(3, 27.0))
        chest = Without(Grown(self.room, -4.0), Grown(self.below, -2.0))
        return [
            Part(Both(fat, chest), hu["fat"]),
            Part(Both(Grown(heart, 6.0), chest), hu["fat"]),
            Part(Both(heart, chest), 0.5 * (hu["artery"] + hu["muscle"]), texture=12.0, rim=(-15.0, 8.0)),
        ]

    def _muscles(self, hu: dict[str, float]) -> list[Part]:
        parts = []
        for side in (-1.0, 1.0):
            psoas = [[20, 0, 0, 6], [27, 2, -35, 12], [36, 4, -85, 19], [48, 14, -150, 24], [58, 30, -230, 24]]
            quadratus = [[52, -20, 20, 7], [62, -22, -40, 12], [72, -22, -110, 15], [84, -20, -190, 18]]
            crus = [[10, 24, -40, 3], [12, 24, -5, 5], [14, 24, 30, 5], [16, 22, 62, 4]]
            deep = [[8, -26, _BOTTOM, 20], [8, -26, _TOP, 20]]
            outer = [[46, -38, _BOTTOM, 19], [46, -38, -20, 18], [38, -38, 80, 15], [36, -38, _TOP, 14]]
            inner = [[20, -38, _BOTTOM, 17], [20, -38, _TOP, 16]]
            grained = ((psoas, 0.05), (quadratus, 0.08), (crus, 0.0), (deep, 0.1), (outer, 0.12), (inner, 0.22))
            for knots, grain in grained:
                table = np.array(knots, dtype=float) * [side, 1, 1, 1]
                table[:, 1] += [self.spine_y(z) for z in table[:, 2]]
                path = curve(table, step=30.0)
                shape = Tube(path[:, :3], path[:, 3], (1.15, 0.9, 1.0))
                septum = (hu["fat"] - hu["muscle"], 0.7)
                parts.append(Part(shape, hu["muscle"], texture=6.0, lobes=1.5, fat=grain, rim=septum))
        return parts

    def _bones(self, hu: dict[str, float]) -> list[Part]:
        canal = np.array([[0.0, self.spine_y(z) - 24.0, z] for z in (_BOTTOM, *_STRAIGHT, _TOP)])
        column = _Vertebrae(self.slope)
        return [
            Part(_Discs(self.slope), 85.0, rim=(40.0, 2.0)),
            Part(column, hu["marrow"], texture=22.0, rim=(hu["cortex"], 1.4)),
            Part(Tube(canal, np.full(4, 8.5)), 25.0),
        ]


@dataclass(frozen=True)
class _Ribs:
    """Ribs 12 upward, on the wall of the cavity: each descends from the spine toward the front."""

    torso: Torso
    pitch: float = 29.0
    drop: float = 150.0

    def bounds(self) -> Bounds:
        lo, hi = Grown(self.torso.cavity, 14.0).bounds()
        return np.array([lo[0], lo[1], -70.0]), hi

    def distance(self, points: Points) -> Array:
        x, y, z = points.coordinates
        cavity = self.torso.cavity
        a, b = cavity.semi
        u, v = x * np.float32(1 / a), (y - np.float32(cavity.center[1])) * np.float32(1 / b)
        # 0 at the spine, 1 at the sternum.
        around = np.float32(0.5) + np.float32(0.5) * v / np.sqrt(u * u + v * v + np.float32(1e-6))
        height = (z + np.float32(self.drop) * around - 32) * np.float32(1 / self.pitch)
        rank = np.maximum(np.rint(height), 0)
        ends = np.minimum(np.float32(0.12) + np.float32(0.22) * rank, np.float32(0.8))
        radial = (self.torso.room.distance(points) - 5) * np.float32(1 / 3.6)
        along = (height - rank) * np.float32(self.pitch / 7.0)
        profile = (np.sqrt(radial * radial + along * along) - 1) * 4
        return np.maximum(profile, (around - ends) * 150)


@dataclass(frozen=True)
class _Discs:
    """The spinal column without gaps; the vertebrae are painted into it."""

    slope: float

    def bounds(self) -> Bounds:
        return np.array([-24.0, -32.0, _BOTTOM]), np.array([24.0, 70.0, _TOP])

    def distance(self, points: Points) -> Array:
        x, y, z = points.coordinates
        u, v = x * np.float32(1 / 23), (y - _spine_y(self.slope, z)) * np.float32(1 / 16)
        return (np.sqrt(u * u + v * v) - 1) * 18


@dataclass(frozen=True)
class _Vertebrae:
    """Vertebral bodies, arches and processes, one every `pitch` millimeters."""

    slope: float
    pitch: float = 33.0

    def bounds(self) -> Bounds:
        return np.array([-42.0, -76.0, _BOTTOM]), np.array([42.0, 70.0, _TOP])

    def distance(self, points: Points) -> Array:
        x, y, z = points.coordinates
        x, y = np.abs(x), y - _spine_y(self.slope, z)
        z = z - np.float32(self.pitch) * np.rint(z * np.float32(1 / self.pitch))
        waist = np.float32(0.9) + np.float32(0.1) * np.abs(z) * np.float32(1 / 13)
        body = np.maximum((np.hypot(x * np.float32(1 / 22), y * np.float32(1 / 16)) - waist) * 18, np.abs(z) - 13)
        ring = np.abs(np.hypot(x * np.float32(0.8), y + 24) - 12) - np.float32(2.8)
        ring = np.maximum(ring, np.abs(z + 2) - 10)
        spinous = _capsule(x, y + 45, z + 8, (3.2, 14, 9))
        transverse = _capsule(x - 26, y + 25, z - 2, (14, 4.5, 5.5))
        facets = _capsule(x - 17, y + 31, z + 12, (7, 6, 10))
        return np.minimum.reduce([body, ring, spinous, transverse, facets])


def _spine_y(slope: float, z: Array | float) -> Array:
    """The lumbar spine leans forward downward; the chest's part is upright."""
    return np.float32(-slope) * np.clip(z, *_STRAIGHT, dtype=np.float32)


def _capsule(x: Array, y: Array, z: Array, semi: tuple[float, float, float]) -> Array:
    a, b, c = (np.float32(1 / s) for s in semi)
    return (np.sqrt((x * a) ** 2 + (y * b) ** 2 + (z * c) ** 2) - 1) * np.float32(min(semi))
