"""Volumes from axial slices of which only some are annotated."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = ["UNLABELLED", "SparseVolume", "make_sparse_volume"]

UNLABELLED = 255  # label of the voxels between annotated slices


@dataclass(frozen=True)
class SparseVolume:
    """A volume on a regular grid (x, y, z), its label map and its affine (mm, RAS)."""

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray


def make_sparse_volume(
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    numbers: Sequence[int],
    *,
    margins: Sequence[int],
    pixel_mm: float,
    slice_mm: float = 1.0,
    thickness: int = 2,
) -> SparseVolume:
    """Place axial slices at their numbers, interpolate between them, and label only where a slice exists.

    Args:
        images: slices as displayed: (rows, columns), the first row anterior, the first column the patient's right.
        labels: their label maps.
        numbers: position of each slice, rising toward the feet; any order.
        margins: for each slice, how many pixels at every border hold no image.
        pixel_mm: size of a pixel.
        slice_mm: distance between consecutive numbers.
        thickness: how many planes a label fills, so that no annotated slice falls between the planes of a coarser
            grid (2 planes of 1 mm for a grid of 2 mm).

    Returns:
        image float32 -> int16, label uint8 with :data:`UNLABELLED` elsewhere.

    Raises:
        ValueError: if there are fewer than two slices, a number twice, or slices of different sizes.
    """
    if len(set(numbers)) != len(numbers) or len(numbers) < 2:
        raise ValueError(f"expected at least two slices with different numbers, got {sorted(numbers)}.")
    if len({a.shape for a in (*images, *labels)}) != 1:
        raise ValueError(f"slices and labels must share one size, got {sorted({a.shape for a in (*images, *labels)})}.")
    order = np.argsort(numbers)
    first, last = numbers[order[0]], numbers[order[-1]]
    shape = (last - first + 1, *images[0].shape)
    image = np.zeros(shape, np.float32)
    label = np.full(shape, UNLABELLED, np.uint8)
    for a, b in pairwise(order):
        start, stop = numbers[a] - first, numbers[b] - first
        for z in range(start, stop + 1):
            image[z] = _between(images[a], images[b], margins[a], margins[b], (z - start) / (stop - start))
    for i in order:
        z = numbers[i] - first
        label[z : z + thickness] = labels[i]  # a following annotated slice overwrites its own plane
    # (z, row, column) -> (x, y, z) with axes toward left, posterior and feet
    affine = np.diag([-pixel_mm, -pixel_mm, -slice_mm, 1.0])
    return SparseVolume(np.rint(image).astype(np.int16).transpose(2, 1, 0), label.transpose(2, 1, 0), affine)


def _between(a: np.ndarray, b: np.ndarray, margin_a: int, margin_b: int, t: float) -> np.ndarray:
    """Linear interpolation of two slices; where only one holds an image, that one alone."""
    weight_a, weight_b = (1 - t) * _inside(a.shape, margin_a), t * _inside(b.shape, margin_b)
    total = weight_a + weight_b
    return np.where(total > 0, (weight_a * a + weight_b * b) / np.maximum(total, 1e-6), 0.0)


def _inside(shape: tuple[int, ...], margin: int) -> np.ndarray:
    inside = np.zeros(shape, np.float32)
    inside[margin : shape[0] - margin, margin : shape[1] - margin] = 1.0
    return inside
