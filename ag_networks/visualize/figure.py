"""One picture of one case: contours on the CT, and where the attention gates look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ag_networks.visualize.sheet import (
    LINES,
    PLANES,
    SIDES_NOTE,
    Sheet,
    cut,
    heat_limits,
    mark_sides,
    outline,
    pixel_mm,
    readable,
    widest_slice,
)

__all__ = ["save_case_figure"]

Array = NDArray[Any]

HU_WINDOW = (-160.0, 240.0)
ROWS = ("axial", "coronal")
HEAT_NOTE = "Heat: attention coefficients, mean of the gates of a level; every level has a scale of its own."


def save_case_figure(
    path: str | Path,
    *,
    image: nib.Nifti1Image,
    prediction: nib.Nifti1Image,
    reference: nib.Nifti1Image | None = None,
    attention: Mapping[str, nib.Nifti1Image] | None = None,
    title: str = "",
) -> None:
    """Write a PNG with an axial and a coronal slice: the CT with contours, then one heat map for each level of gates.

    The slices are those with the largest area of the reference, or, where there is none, of the prediction; where both
    are empty, the middle ones. Volumes may have any orientation, but must share one grid once they are reoriented.

    Args:
        path: the PNG file; it appears whole or not at all.
        image: CT in HU, shown from -160 to 240 HU, or within the range of its values where that is narrower.
        prediction: label map; everything above 0 is outlined.
        reference: label map to compare with.
        attention: maps by name. Maps whose names differ only in a final number (``level3_1``, ``level3_2``) are the
            gates of one level; their mean is shown.
        title: printed above the panels; it must not tell who the patient is.

    Raises:
        ValueError: if a volume is not 3D or lies on another grid than the image.
        ImportError: if matplotlib is not installed; it says what to install.
    """
    canonical = _canonical("image", image)
    spacing = canonical.header.get_zooms()[:3]
    ct = np.asanyarray(canonical.dataobj)
    masks = {
        name: np.asanyarray(_on_grid(name, volume, canonical).dataobj) > 0
        for name, volume in (("reference", reference), ("prediction", prediction))
        if volume is not None
    }
    slices = {plane: widest_slice(plane, ct.shape, *masks.values()) for plane in ROWS}
    levels = _levels(attention or {}, canonical, slices)

    sheet = _sheet(ct, spacing, masks, title, list(levels))
    for row, plane in enumerate(ROWS):
        mm, index = pixel_mm(spacing, plane), slices[plane]
        sheet.row_label(row, f"{plane}, slice {index + 1} of {ct.shape[PLANES[plane]]}")
        for column, maps in enumerate([None, *levels.values()]):
            axes = sheet.panel(row, column, cut(ct, plane, index), mm, window=_window(ct))
            mark_sides(axes, plane)
            if maps is not None:
                heat = sheet.heat(axes, maps[plane], mm, limits=heat_limits(maps.values()))
                if row == 0:
                    sheet.bar(column, heat, "coefficient")
            for name, mask in reversed(masks.items()):  # the dashed line on top
                outline(axes, cut(mask, plane, index), mm, alpha=0.6 if maps else 1.0, **LINES[name])
    sheet.save(path)


def _sheet(ct: Array, spacing: Sequence[float], masks: Mapping[str, Array], title: str, levels: list[str]) -> Sheet:
    width = ct.shape[0] * float(spacing[0])
    low, high = _window(ct)
    sheet = Sheet(
        [width] * (1 + len(levels)),
        [ct.shape[1] * float(spacing[1]), ct.shape[2] * float(spacing[2])],
        inches=3.8,
        title=title,
        note=f"{SIDES_NOTE} {HEAT_NOTE}" if levels else SIDES_NOTE,
        bars=bool(levels),
        legend={name if mask.any() else f"{name} (empty)": LINES[name] for name, mask in masks.items()},
    )
    for column, heading in enumerate([f"CT, {low:g} to {high:g} HU", *map(readable, levels)]):
        sheet.heading(column, heading)
    return sheet


def _canonical(name: str, volume: nib.Nifti1Image) -> nib.Nifti1Image:
    if volume.ndim != 3:
        raise ValueError(f"the {name} has shape {volume.shape}, expected a 3D volume")
    return nib.as_closest_canonical(volume)


def _on_grid(name: str, volume: nib.Nifti1Image, image: nib.Nifti1Image) -> nib.Nifti1Image:
    volume = _canonical(name, volume)
    if volume.shape != image.shape or not np.allclose(volume.affine, image.affine, atol=1e-2):
        raise ValueError(
            f"the {name} ({'x'.join(map(str, volume.shape))} voxels) does not lie on the grid of the image "
            f"({'x'.join(map(str, image.shape))} voxels)"
        )
    return volume


def _levels(
    attention: Mapping[str, nib.Nifti1Image], image: nib.Nifti1Image, slices: Mapping[str, int]
) -> dict[str, dict[str, Array]]:
    """Mean coefficients by level and plane; one map is in memory at a time."""
    gates: dict[str, list[dict[str, Array]]] = {}
    for name, volume in attention.items():
        values = volume.get_fdata(dtype=np.float32, caching="unchanged")
        on_grid = _on_grid(f"attention map {name}", nib.Nifti1Image(values, volume.affine), image)
        planes = {plane: cut(np.asarray(on_grid.dataobj), plane, index).copy() for plane, index in slices.items()}
        gates.setdefault(re.sub(r"_\d+$", "", name), []).append(planes)
    return {
        level: {plane: np.mean([maps[plane] for maps in of_level], axis=0) for plane in slices}
        for level, of_level in gates.items()
    }


def _window(ct: Array) -> tuple[float, float]:
    low, high = max(HU_WINDOW[0], float(np.nanmin(ct))), min(HU_WINDOW[1], float(np.nanmax(ct)))
    return (low, high) if low < high else HU_WINDOW
