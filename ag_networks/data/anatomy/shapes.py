"""Implicit shapes in millimeters, and the warped points on which they are evaluated."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.sparse import csr_array

__all__ = [
    "Both",
    "Box",
    "Ellipsoid",
    "Field",
    "Grown",
    "Joined",
    "Oval",
    "Points",
    "Pose",
    "Shape",
    "Shared",
    "Tube",
    "Without",
    "curve",
    "volume_ml",
]

Array = NDArray[np.floating]
Box = tuple[slice, slice, slice]
Bounds = tuple[Array, Array]

_EVERYWHERE: Bounds = (np.full(3, -np.inf), np.full(3, np.inf))


@dataclass(frozen=True)
class Field:
    """Smooth random field: cubic B-splines on a periodic cubic lattice of control values.

    Args:
        control: control values, shape (n, n, n).
        spacing: distance of the control points in millimeters; the field repeats after `n * spacing`.
    """

    control: Array
    spacing: float

    def __call__(self, axes: tuple[Array, Array, Array]) -> Array:
        """Return the field on the grid spanned by three coordinate axes in millimeters, shape (len(x), len(y), len(z)).

        Sparse products keep the order of every sum fixed, so that the result does not depend on the number of threads.
        """
        wx, wy, wz = (self._weights(axis) for axis in axes)
        n = len(self.control)
        zs = (self.control.reshape(n * n, n) @ wz.T).reshape(n, n, -1)
        ys = (wy @ zs.transpose(1, 0, 2).reshape(n, -1)).reshape(len(axes[1]), n, -1)
        return (wx @ ys.transpose(1, 0, 2).reshape(n, -1)).reshape(len(axes[0]), len(axes[1]), -1)

    def _weights(self, axis: Array) -> csr_array:
        cell, t = np.divmod(axis / self.spacing, 1.0)
        basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
        columns = (cell[:, None].astype(np.int64) + np.arange(-1, 3)) % len(self.control)
        rows = np.repeat(np.arange(len(axis)), 4)
        shape = (len(axis), len(self.control))
        return csr_array((basis.astype(self.control.dtype).ravel(), (rows, columns.ravel())), shape=shape)


@dataclass(frozen=True)
class Pose:
    """Map from scanner to body coordinates, `body = matrix @ scan + shift + warp(scan)`, with `|warp| <= reach`."""

    matrix: Array
    shift: Array
    warp: tuple[Field, Field, Field]
    reach: float

    @cached_property
    def inverse(self) -> Array:
        """Inverse of the matrix: from body to scanner directions."""
        return np.linalg.inv(self.matrix)

    def box(self, axes: tuple[Array, Array, Array], bounds: Bounds) -> Box:
        """Return the grid box that surely contains the body-coordinate bounds."""
        lo, hi = (np.clip(b, -1e4, 1e4) for b in bounds)
        center = self.inverse @ ((lo + hi) / 2 - self.shift)
        half = np.abs(self.inverse) @ ((hi - lo) / 2 + self.reach)
        edges = [np.searchsorted(a, (c - h, c + h)) for a, c, h in zip(axes, center, half, strict=True)]
        return slice(*map(int, edges[0])), slice(*map(int, edges[1])), slice(*map(int, edges[2]))

    def scan_height(self, y: float) -> float:
        """Return about which scanner y a body y on the body's axis has, the warp ignored."""
        return float((self.inverse @ (np.array([0.0, y, 0.0]) - self.shift))[1])


@dataclass(frozen=True)
class Points:
    """Body coordinates (x right, y anterior, z superior, in millimeters) of every point of a scanner grid.

    Args:
        axes: scanner coordinates along the grid's axes.
        pose: how scanner and body coordinates belong together.
        coordinates: body x, y and z at every point.
        known: distances that were computed before, by the name of their `Shared` shape.
    """

    axes: tuple[Array, Array, Array]
    pose: Pose
    coordinates: tuple[Array, Array, Array]
    known: dict[str, Array] = field(default_factory=dict)

    @classmethod
    def on_grid(cls, axes: tuple[Array, Array, Array], pose: Pose) -> Points:
        """Evaluate the pose on the grid spanned by the scanner axes."""
        x, y, z = (a.astype(np.float32) for a in np.meshgrid(*axes, indexing="ij", sparse=True))
        rows = zip(pose.matrix.astype(np.float32), pose.shift.astype(np.float32), pose.warp, strict=True)
        bx, by, bz = (warp(axes) + (m[0] * x + (m[1] * y + (m[2] * z + shift))) for m, shift, warp in rows)
        return cls(axes, pose, (bx, by, bz))

    def box(self, bounds: Bounds) -> Box:
        """Return the box of these points that surely contains the body-coordinate bounds."""
        return self.pose.box(self.axes, bounds)

    def __getitem__(self, box: Box) -> Points:
        x, y, z = self.coordinates
        a, b, c = (axis[part] for axis, part in zip(self.axes, box, strict=True))
        known = {name: distance[box] for name, distance in self.known.items()}
        return Points((a, b, c), self.pose, (x[box], y[box], z[box]), known)


class Shape(Protocol):
    """Region of space: approximate signed distance in millimeters, negative inside."""

    def bounds(self) -> Bounds:
        """Return the lowest and highest corner of a box around the region."""

    def distance(self, points: Points) -> Array:
        """Return the signed distance at the points; near the surface it is true to first order."""


@dataclass(frozen=True)
class Ellipsoid:
    """Ellipsoid with semi-axes `semi`; the rows of `axes` are its unit axes (default: the body's)."""

    center: Array
    semi: Array
    axes: Array | None = None

    def bounds(self) -> Bounds:
        half = self.semi if self.axes is None else np.linalg.norm(self.axes.T * self.semi, axis=1)
        return self.center - half, self.center + half

    def distance(self, points: Points) -> Array:
        offsets = [p - np.float32(c) for p, c in zip(points.coordinates, self.center, strict=True)]
        if self.axes is not None:
            x, y, z = offsets
            offsets = [float(a[0]) * x + float(a[1]) * y + float(a[2]) * z for a in self.axes]
        u, v, w = (p / np.float32(s) for p, s in zip(offsets, self.semi, strict=True))
        a, b, c = (np.float32(1 / s) for s in self.semi)
        radius = np.sqrt(u * u + v * v + w * w)
        slope = np.sqrt((u * a) ** 2 + (v * b) ** 2 + (w * c) ** 2)
        return radius * (radius - 1) / np.maximum(slope, np.float32(1e-6))


@dataclass(frozen=True)
class Oval:
    """Endless cylinder along z with a rounded-box cross-section: `u^2 + v^2 - corner u^2 v^2 = 1`."""

    center: Array
    semi: Array
    corner: float = 0.3

    def bounds(self) -> Bounds:
        lo, hi = _EVERYWHERE[0].copy(), _EVERYWHERE[1].copy()
        lo[:2], hi[:2] = self.center - self.semi, self.center + self.semi
        return lo, hi

    def distance(self, points: Points) -> Array:
        x, y, _ = points.coordinates
        a, b, corner = (np.float32(1 / self.semi[0]), np.float32(1 / self.semi[1]), np.float32(self.corner))
        # Clipping keeps the quartic growing outside; its zero set lies within |u|, |v| <= 1.
        u2 = np.minimum(((x - np.float32(self.center[0])) * a) ** 2, np.float32(9))
        v2 = np.minimum(((y - np.float32(self.center[1])) * b) ** 2, np.float32(9))
        along_x, along_y = 1 - corner * np.minimum(v2, 1), 1 - corner * np.minimum(u2, 1)
        radius = np.sqrt(u2 * along_x + v2)
        slope = np.sqrt(u2 * (a * along_x) ** 2 + v2 * (b * along_y) ** 2)
        return radius * (radius - 1) / np.maximum(slope, np.float32(1e-6))


@dataclass(frozen=True)
class Tube:
    """Tube around a polyline with a radius per vertex; `flat` stretches it: 1.4 in z makes it 1.4 times taller."""

    vertices: Array
    radii: Array
    flat: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def bounds(self) -> Bounds:
        reach = self.radii[:, None] * np.asarray(self.flat)
        return (self.vertices - reach).min(0), (self.vertices + reach).max(0)

    def distance(self, points: Points) -> Array:
        best = np.full(points.coordinates[0].shape, 1e3, np.float32)
        margin = 3.0
        for k in range(len(self.vertices) - 1):
            piece = Tube(self.vertices[k : k + 2], self.radii[k : k + 2] + margin, self.flat)
            box = points.box(piece.bounds())
            if best[box].size:
                np.minimum(best[box], self._piece(points[box], k), out=best[box])
        return best

    def _piece(self, points: Points, k: int) -> Array:
        flat = np.asarray(self.flat)
        start, end = (self.vertices[k : k + 2] / flat).astype(np.float32)
        along = end - start
        x, y, z = (p * np.float32(1 / f) - s for p, f, s in zip(points.coordinates, flat, start, strict=True))
        scale = along / max(float(along @ along), 1e-6)
        t = np.clip(x * scale[0] + y * scale[1] + z * scale[2], 0, 1)
        x, y, z = x - t * along[0], y - t * along[1], z - t * along[2]
        first, last = (np.float32(r) for r in self.radii[k : k + 2])
        return np.sqrt(x * x + y * y + z * z) - (first + (last - first) * t)


@dataclass(frozen=True)
class Shared:
    """A shape that bounds many others: its distance is kept with the points once it is known for the whole grid."""

    shape: Shape
    name: str

    def bounds(self) -> Bounds:
        return self.shape.bounds()

    def distance(self, points: Points) -> Array:
        if self.name not in points.known:
            points.known[self.name] = self.shape.distance(points)
        return points.known[self.name].copy()


@dataclass(frozen=True)
class Grown:
    """A shape grown outward by `by` millimeters (inward if negative)."""

    shape: Shape
    by: float

    def bounds(self) -> Bounds:
        lo, hi = self.shape.bounds()
        return lo - self.by, hi + self.by

    def distance(self, points: Points) -> Array:
        return self.shape.distance(points) - np.float32(self.by)


@dataclass(frozen=True)
class Both:
    """Intersection of two shapes."""

    first: Shape
    second: Shape

    def bounds(self) -> Bounds:
        (a, b), (c, d) = self.first.bounds(), self.second.bounds()
        return np.maximum(a, c), np.minimum(b, d)

    def distance(self, points: Points) -> Array:
        return np.maximum(self.first.distance(points), self.second.distance(points))


@dataclass(frozen=True)
class Without:
    """The first shape less the second."""

    first: Shape
    second: Shape

    def bounds(self) -> Bounds:
        return self.first.bounds()

    def distance(self, points: Points) -> Array:
        return np.maximum(self.first.distance(points), -self.second.distance(points))


@dataclass(frozen=True)
class Joined:
    """Union of two shapes with a rounded seam of `blend` millimeters (polynomial smooth minimum)."""

    first: Shape
    second: Shape
    blend: float = 8.0

    def bounds(self) -> Bounds:
        (a, b), (c, d) = self.first.bounds(), self.second.bounds()
        return np.minimum(a, c) - self.blend / 4, np.maximum(b, d) + self.blend / 4

    def distance(self, points: Points) -> Array:
        one, two = self.first.distance(points), self.second.distance(points)
        overlap = np.maximum(np.float32(self.blend) - np.abs(one - two), 0)
        return np.minimum(one, two) - overlap**2 / np.float32(4 * self.blend)


def curve(knots: Array, *, step: float = 8.0) -> Array:
    """Return points about `step` millimeters apart on a smooth curve through the knots.

    Args:
        knots: shape (n, k); the first three columns are coordinates in millimeters, further columns (a radius) follow.
        step: distance of the returned points along the chords.

    Example:
        >>> curve(np.array([[0, 0, 0, 5], [16, 0, 0, 7], [32, 0, 0, 5]]), step=8).shape
        (5, 4)
    """
    knots = np.asarray(knots, dtype=float)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots[:, :3], axis=0), axis=1))])
    count = max(2, round(length[-1] / step) + 1)
    return PchipInterpolator(length, knots)(np.linspace(0, length[-1], count))


def volume_ml(tube: Tube) -> float:
    """Return the volume of a tube in milliliters as a chain of cones and two half spheres, bends ignored."""
    flat = np.asarray(tube.flat)
    steps = np.linalg.norm(np.diff(tube.vertices / flat, axis=0), axis=1)
    a, b = tube.radii[:-1], tube.radii[1:]
    cones = np.pi / 3 * steps @ (a * a + a * b + b * b)
    caps = 2 / 3 * np.pi * (tube.radii[0] ** 3 + tube.radii[-1] ** 3)
    return float((cones + caps) * flat.prod() / 1000)
