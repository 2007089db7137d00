"""Scans that are no abdomen in the portal-venous phase, drawn with a few ellipses, in HU on a grid in RAS."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from ag_networks.data import Phantom, make_phantom

__all__ = ["DRAWN", "chest", "head", "thick_slices", "water_cylinder"]

AIR, LUNG, FAT, WATER, BRAIN, MUSCLE, BLOOD, BONE = -1000, -820, -100, 0, 35, 55, 45, 400
NOISE_HU = 12.0

Volume = NDArray[np.float32]


def chest(spacing: float = 2.0) -> Phantom:
    """Two lungs around a heart, ribs and a spine, 200 mm high; nothing below the diaphragm."""
    volume, (x, y, z) = _empty((340, 230, 200), spacing)
    volume[_ellipse(x, y, 165, 110)] = FAT
    volume[_ellipse(x, y, 150, 95)] = MUSCLE
    ring = _ellipse(x, y, 146, 92) & ~_ellipse(x, y, 139, 85)
    volume[ring & (np.abs(z % 28 - 14) < 5)] = BONE
    for side in (-1, 1):
        volume[_ellipse(x - 70 * side, y - 5, 58, 72)] = LUNG
    volume[_ellipse(x + 15, y - 25, 52, 38)] = BLOOD
    volume[_ellipse(x, y + 65, 19, 17)] = BONE
    return _scan(volume, spacing)


def head(spacing: float = 2.0) -> Phantom:
    """Skull and brain, 150 mm high."""
    volume, (x, y, z) = _empty((200, 230, 150), spacing)
    scale = np.sqrt(np.clip(1 - (np.maximum(z - 60, 0) / 95) ** 2, 0.05, 1))
    volume[_ellipse(x, y, 78 * scale, 98 * scale)] = MUSCLE
    volume[_ellipse(x, y, 74 * scale, 94 * scale)] = BONE
    volume[_ellipse(x, y, 67 * scale, 87 * scale)] = BRAIN
    volume[_ellipse(np.abs(x) - 10, y, 5, 22) & (np.abs(z - 60) < 18)] = WATER + 8
    return _scan(volume, spacing)


def water_cylinder(spacing: float = 2.0) -> Phantom:
    """The 200 mm cylinder of a scanner's quality control, 120 mm long."""
    volume, (x, y, _) = _empty((240, 240, 120), spacing)
    volume[_ellipse(x, y, 104, 104)] = 120  # acrylic
    volume[_ellipse(x, y, 100, 100)] = WATER
    return _scan(volume, spacing)


def thick_slices(phantom: Phantom, factor: int) -> Phantom:
    """Average every so many slices of a scan into one."""
    count = phantom.image.shape[2] // factor * factor
    image = phantom.image[:, :, :count].astype(np.float32)
    image = image.reshape(*image.shape[:2], -1, factor).mean(axis=3)
    affine = phantom.affine @ np.diag([1, 1, factor, 1])
    affine[:3, 3] += phantom.affine[:3, 2] * (factor - 1) / 2
    spacing = (phantom.spacing[0], phantom.spacing[1], phantom.spacing[2] * factor)
    label = phantom.label[:, :, factor // 2 : count : factor]
    return Phantom(np.rint(image).astype(np.int16), label, affine, spacing, phantom.seed)


DRAWN: dict[str, Callable[[], Phantom]] = {
    "generated abdomen": lambda: make_phantom(4, spacing=(2, 2, 2)),
    "the same, slices of 8 mm": lambda: thick_slices(make_phantom(4, spacing=(2, 2, 2)), 4),
    "the same, turned by 180 degrees": lambda: _turned(make_phantom(4, spacing=(2, 2, 2))),
    "chest, drawn": chest,
    "head, drawn": head,
    "water cylinder, drawn": water_cylinder,
}


def _turned(phantom: Phantom) -> Phantom:
    """Exchange front and back, left and right under the same affine."""
    image, label = phantom.image[::-1, ::-1], phantom.label[::-1, ::-1]
    return Phantom(image.copy(), label.copy(), phantom.affine, phantom.spacing, phantom.seed)


def _empty(size_mm: tuple[int, int, int], spacing: float) -> tuple[Volume, list[Volume]]:
    """Air, and the coordinates in mm: x and y from the middle, z from the foot end."""
    shape = [round(size / spacing) for size in size_mm]
    x, y, z = np.meshgrid(*[(np.arange(n, dtype=np.float32) + 0.5) * spacing for n in shape], indexing="ij")
    return np.full(shape, AIR, np.float32), [x - size_mm[0] / 2, y - size_mm[1] / 2, z]


def _ellipse(x: Volume, y: Volume, a: float | Volume, b: float | Volume) -> NDArray[np.bool_]:
    return (x / a) ** 2 + (y / b) ** 2 < 1


def _scan(volume: Volume, spacing: float) -> Phantom:
    """Blur and noise of a scanner."""
    for axis in (0, 1):
        volume = gaussian_filter1d(volume, 0.7 / spacing, axis=axis)
    volume = volume + np.random.default_rng(0).normal(0, NOISE_HU, volume.shape)
    image = np.clip(np.rint(volume), -1024, 3071).astype(np.int16)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    return Phantom(image, np.zeros(image.shape, np.uint8), affine, (spacing,) * 3, 0)
