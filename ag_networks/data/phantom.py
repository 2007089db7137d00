"""Procedural abdominal CT phantoms: a seed gives a case with known organ labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from ag_networks.data.anatomy.gut import bowel, colon, duodenum, stomach
from ag_networks.data.anatomy.organs import Pancreas, kidneys, liver, spleen
from ag_networks.data.anatomy.paint import Canvas, Scene
from ag_networks.data.anatomy.shapes import Array, Field, Pose
from ag_networks.data.anatomy.torso import Torso
from ag_networks.data.anatomy.vessels import hepatic_vessels, mesentery, vessels

__all__ = ["Phantom", "make_phantom"]

_CHUNK_VOXELS = 4_000_000
_THICK_MM = 2.0
_LOWEST, _HIGHEST = -1024, 3071


@dataclass(frozen=True)
class Phantom:
    """One synthetic case; array axes are x, y, z in RAS+ order (indices grow to the patient's right, front and head).

    Args:
        image: Hounsfield units, int16.
        label: uint8: 0 background, 1 pancreas, 2 spleen, 3 kidneys, 4 liver.
        affine: 4x4 matrix from voxel indices to RAS millimeters; diagonal but for the origin.
        spacing: voxel size in millimeters.
        seed: what it was made from.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    seed: int


@dataclass(frozen=True)
class _Scan:
    """How the scanner samples the scene: grid, resolution, noise, table."""

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    center: Array
    offset: Array
    noise: float
    grain: float
    streaks: float
    table: float | None
    round_view: bool

    def axis(self, k: int, indices: NDArray[np.integer] | None = None) -> Array:
        """Return scanner coordinates of the voxel centers along axis k."""
        at = np.arange(self.shape[k]) if indices is None else indices
        return self.center[k] + self.spacing[k] * (at - (self.shape[k] - 1) / 2)


def make_phantom(
    seed: int,
    *,
    spacing: tuple[float, float, float] | None = None,
    shape: tuple[int, int, int] | None = None,
) -> Phantom:
    """Make an abdominal CT phantom: the same seed gives the same anatomy, and with the same grid the same bits.

    The anatomy is a list of implicit shapes in millimeters behind one smooth random deformation, so that spacing and
    shape change the sampling only. Contrast phase, body size, field of view, noise, table and streaks come from the
    seed. Bowel wall and collapsed loops get nearly the pancreas' Hounsfield units: place and shape tell them apart.

    Args:
        seed: not negative.
        spacing: voxel size in millimeters; drawn if None (0.6 to 1.0 in plane, slices of 0.8 to 5).
        shape: voxels along x, y, z; if None it follows from a drawn field of view, which may cut the body.

    Raises:
        ValueError: if the seed is negative, or spacing or shape is not three positive numbers.

    Example:
        >>> phantom = make_phantom(3, spacing=(6, 6, 6), shape=(64, 52, 44))
        >>> phantom.image.shape, phantom.image.dtype.name, sorted(set(phantom.label.ravel().tolist()))
        ((64, 52, 44), 'int16', [0, 1, 2, 3, 4])
    """
    _check(seed, spacing, shape)
    scene = _draw_scene(np.random.default_rng([seed, 0]))
    scan = _draw_scan(np.random.default_rng([seed, 1]), spacing, shape)
    image = np.empty(scan.shape, np.int16)
    label = np.empty(scan.shape, np.uint8)
    step = max(1, _CHUNK_VOXELS // (_slabs(scan) * scan.shape[0] * scan.shape[1]))
    for start in range(0, scan.shape[2], step):
        part = np.arange(start, min(start + step, scan.shape[2]))
        hu, label[:, :, part] = _sample(scene, scan, part)
        for k in part:
            degraded = _degrade(hu[:, :, k - start], scan, np.random.default_rng([seed, 2, int(k)]))
            image[:, :, k] = np.rint(degraded).clip(_LOWEST, _HIGHEST)
    affine = np.diag([*scan.spacing, 1.0])
    affine[:3, 3] = [round(float(scan.axis(k)[0] + scan.offset[k]), 2) for k in range(3)]
    return Phantom(image, label, affine, scan.spacing, seed)


def _check(seed: int, spacing: tuple[float, ...] | None, shape: tuple[int, ...] | None) -> None:
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    for name, values in (("spacing", spacing), ("shape", shape)):
        if values is not None and (len(values) != 3 or not all(v > 0 for v in values)):
            raise ValueError(f"{name} must be three positive numbers (x, y, z), got {values}")


def _draw_scene(rng: np.random.Generator) -> Scene:
    hu, torso, scale = _draw_tissues(rng), Torso.draw(rng), rng.uniform(0.9, 1.1)
    forward = 0.35 * (torso.depth - 93)
    pancreas = Pancreas.draw(rng, forward=forward, scale=scale)
    hepatic = liver(rng, torso, hu)
    parts = [
        *torso.walls(hu),
        *mesentery(rng, hu, forward=forward),
        *hepatic[:1],
        *hepatic_vessels(rng, hu),
        *colon(rng, torso, hu, forward=forward),
        *bowel(rng, torso, hu, forward=forward),
        *hepatic[1:],
        *spleen(rng, torso, hu),
        *torso.frame(hu),
        *kidneys(rng, torso, hu),
        *stomach(rng, torso, hu, forward=forward),
        *duodenum(rng, torso, hu, pancreas),
        *pancreas.parts(hu),
        *vessels(rng, torso, hu, pancreas),
    ]
    pose, texture, lobes = _draw_pose(rng, scale), _draw_field(rng, 32, 9.0), _draw_field(rng, 40, 7.0)
    return Scene(tuple(parts), (torso.room, torso.below), pose, texture, lobes)


def _draw_tissues(rng: np.random.Generator) -> dict[str, float]:
    """Hounsfield units per tissue: a mixture of plain, arterial and portal-venous phase."""
    plain, arterial, portal = rng.dirichlet([8, 1, 1]) if rng.random() < 0.3 else rng.dirichlet([0.3, 1.2, 4])
    table = {
        "pancreas": (42, 118, 100),
        "liver": (56, 78, 110),
        "spleen": (48, 125, 120),
        "kidney": (33, 130, 185),
        "cortex_kidney": (0, 70, 5),
        "artery": (42, 290, 150),
        "vein": (42, 95, 165),
        "muscle": (54, 58, 64),
        "fat": (-106, -104, -103),
        "marrow": (170, 180, 190),
        "cortex": (260, 260, 260),
    }
    hu = {name: float(np.dot([plain, arterial, portal], row)) for name, row in table.items()}
    jitter = {"fat": 5, "muscle": 5, "artery": 20, "vein": 15, "kidney": 15, "marrow": 40, "cortex": 60}
    hu = {name: value + rng.normal(0, jitter.get(name, 8)) * (0.5 + 0.5 * (1 - plain)) for name, value in hu.items()}
    hu["liver"] -= rng.exponential(10)
    hu["gut"] = hu["pancreas"] + rng.normal(-2, 7)
    return hu


def _draw_pose(rng: np.random.Generator, scale: float) -> Pose:
    x, y, z = rng.normal(0, (0.04, 0.04, 0.07)).clip(-0.15, 0.15)
    tilt = np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]])
    rotation, _ = np.linalg.qr(tilt)
    rotation *= np.sign(np.diag(rotation))
    warp_x, warp_y, warp_z = (_draw_field(rng, 12, 60.0, amplitude=4.0) for _ in range(3))
    knots = np.arange(24) * 30.0
    reach = 1.05 * max(float(np.abs(field((knots, knots, knots))).max()) for field in (warp_x, warp_y, warp_z)) + 1.0
    return Pose(rotation / scale, rng.normal(0, 5, 3), (warp_x, warp_y, warp_z), reach)


def _draw_field(rng: np.random.Generator, size: int, spacing: float, amplitude: float = 1.0) -> Field:
    # Cubic splines keep about a third of the standard deviation of their control values.
    control = rng.standard_normal((size, size, size), dtype=np.float32).clip(-2.5, 2.5)
    return Field(control * np.float32(3 * amplitude), spacing)


def _draw_scan(
    rng: np.random.Generator, spacing: tuple[float, float, float] | None, shape: tuple[int, int, int] | None
) -> _Scan:
    plane = round(float(rng.uniform(0.6, 1.0)), 3)
    drawn = (plane, plane, float(rng.choice([0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 5.0])))
    view = float(rng.choice([rng.uniform(360, 440), rng.uniform(300, 350), rng.uniform(190, 250)], p=[0.65, 0.25, 0.1]))
    low, high = -rng.uniform(90, 170), rng.uniform(50, 130)
    center = np.array([rng.normal(0, 12), rng.normal(45, 12), (low + high) / 2])
    size = spacing or drawn
    extent = (view, view * rng.choice([1.0, 0.8], p=[0.7, 0.3]), high - low)
    voxels = shape or tuple(max(1, round(e / s)) for e, s in zip(extent, size, strict=True))
    return _Scan(
        spacing=(float(size[0]), float(size[1]), float(size[2])),
        shape=(int(voxels[0]), int(voxels[1]), int(voxels[2])),
        center=center,
        offset=np.append(rng.uniform(-20, 20, 2), rng.uniform(-900, 300)),
        noise=rng.uniform(6, 18) * (2.5 / max(size[2], 0.8)) ** 0.35,
        grain=rng.uniform(0.15, 0.7),
        streaks=rng.choice([0.0, rng.uniform(3, 10)], p=[0.7, 0.3]),
        table=rng.uniform(-118, -100) if rng.random() < 0.75 else None,
        round_view=bool(rng.random() < 0.2),
    )


def _slabs(scan: _Scan) -> int:
    """Thick slices average three thin ones."""
    return 3 if scan.spacing[2] > _THICK_MM else 1


def _sample(scene: Scene, scan: _Scan, slices: NDArray[np.integer]) -> tuple[Array, NDArray[np.uint8]]:
    """Paint some slices; thick ones are averages over their thickness, labels are those of their middles."""
    slabs = _slabs(scan)
    heights = scan.axis(2, slices)[:, None] + scan.spacing[2] * (np.arange(slabs) - slabs // 2) / slabs
    edge = max(1.3, 1.2 * max(scan.spacing[:2]))
    canvas = Canvas(scene, (scan.axis(0), scan.axis(1), heights.ravel()), edge)
    if scan.table is not None:
        _paint_table(canvas, scan.table)
    canvas.paint()
    hu = canvas.hu.reshape(*canvas.hu.shape[:2], -1, slabs).mean(-1)
    return hu, canvas.label[:, :, slabs // 2 :: slabs]


def _paint_table(canvas: Canvas, height: float) -> None:
    """Two curved shells with foam between, below the patient and fixed to the scanner."""
    x, y = np.meshgrid(*canvas.axes[:2], indexing="ij")
    depth = height + x**2 / 700 - y
    depth[np.abs(x) > 215] = -1e3
    for low, high, hu in ((0.0, 45.0, -960.0), (0.0, 2.5, 120.0), (42.5, 45.0, 120.0)):
        cover = np.clip(0.5 + np.minimum(depth - low, high - depth) / canvas.edge, 0, 1).astype(np.float32)
        rows = cover.any(axis=0)
        canvas.hu[:, rows] += cover[:, rows, None] * (np.float32(hu) - canvas.hu[:, rows])


def _degrade(hu: Array, scan: _Scan, rng: np.random.Generator) -> Array:
    """Add correlated noise, strongest in the middle of the body, horizontal streaks and the edge of a round view."""
    x, y = np.meshgrid(scan.axis(0), scan.axis(1), indexing="ij", sparse=True)
    kernel = np.array([scan.grain, 1.0, scan.grain])
    kernel /= math.sqrt(float(kernel @ kernel))
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    for axis in (0, 1):
        noise = convolve1d(noise, kernel, axis=axis, mode="nearest")
    depth = np.exp(-((x / 150) ** 2) - ((y - 40) / 110) ** 2)
    hu = hu + noise * (scan.noise * (0.55 + 0.6 * depth)).astype(np.float32)
    if scan.streaks:
        rows = convolve1d(rng.standard_normal(hu.shape[1]), [0.3, 1.0, 0.3], mode="nearest")
        hu = hu + scan.streaks * rows * depth
    if scan.round_view:
        cx, cy = scan.center[:2]
        radius = 0.5 * max(n * s for n, s in zip(scan.shape[:2], scan.spacing[:2], strict=True))
        hu = np.where((x - cx) ** 2 + (y - cy) ** 2 > radius**2, _LOWEST, hu)
    return hu
