"""Checks of loaded CT images and their labels: are these Hounsfield units, does the label fit?"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_tensor

__all__ = ["CheckCT", "CheckCTd", "CheckLabel", "CheckLabeld"]

AIR_HU = -1024.0
MIN_RANGE_HU = 20.0
SOFT_TISSUE_HU = (-200.0, 200.0)
UNSIGNED_TISSUE = (824.0, 1224.0)  # the same, where -1024 was never added; in HU, rare dense bone
UNSIGNED_BELOW = (424.0, 824.0)  # between lung and fat in unsigned values, thus rare; in HU, less rare bone
UNSIGNED_MIN_SHARE = 0.05
MIN_SHARE_OF_TISSUE = 0.01
MAX_SHARE_NOT_FINITE = 0.5
SAMPLES = 1_000_000
SAME_GRID_VOXELS = 0.1
EXPECTED_CT = "expected CT values in Hounsfield units (air -1000, water 0)"

logger = logging.getLogger(__name__)


class CheckCT(Transform):
    """Refuse images whose values cannot be Hounsfield units; warn of doubtful ones.

    To be placed behind the loader, before anything is resampled or scaled. Decided by statistics, thus for CT that
    shows soft tissue: constant images, images normalized to a range under 20 (to [0, 1] or to unit variance, label
    maps) and images whose soft tissue lies near 1024 (the intercept of -1024 is missing) are refused. Values that are
    not finite are set to -1024 (air), with a warning.

    The warnings of the reader (`"ct_warnings"` in the metadata) and of this check go to the log under the name of the
    case, and into the metadata of the result, joined by `"; "`.

    Shape: any; dtype and shape are kept.

    Raises:
        ValueError: one line with the name, what was found and what was expected.

    Example:
        >>> import torch
        >>> CheckCT()(torch.linspace(0, 1, 64), "scan")
        Traceback (most recent call last):
            ...
        ValueError: scan: values from 0 to 1, an image normalized or a label map; expected CT values in Hounsfield ...
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]  # noqa: RUF012

    def __call__(self, img: NdarrayOrTensor, name: str | None = None) -> torch.Tensor:
        """Return the image as tensor, finite, with the warnings in its metadata.

        Args:
            img: the image as loaded.
            name: what messages call it; by default the name of the file it was loaded from.
        """
        tensor = convert_to_tensor(img, track_meta=True)
        name = name or _name(tensor)
        tensor, warnings = _replace_not_finite(tensor, name)
        warnings += _check_values(tensor.as_tensor(), name)
        earlier = [text for text in str(tensor.meta.get("ct_warnings", "")).split("; ") if text]
        warnings = list(dict.fromkeys([*earlier, *warnings]))
        for warning in warnings:
            logger.warning("%s: %s", name, warning)
        tensor.meta["ct_warnings"] = "; ".join(warnings)
        return tensor


class CheckCTd(MapTransform):
    """Dictionary version of `CheckCT`; the name in messages is the item's `"case"`, if it has one."""

    backend = CheckCT.backend

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.check = CheckCT()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check the images."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.check(d[key], d.get("case"))
        return d


class CheckLabel(Transform):
    """Refuse a label map that does not lie on the image's grid or holds unknown values.

    To be placed where image and label have the same orientation (behind `Orientation`), before anything is resampled.
    The affines are compared at the corners of the volume, to a tenth of a voxel.

    Shape: label and image alike, channel first.

    Args:
        values: the values that a label map may hold, background included.

    Raises:
        ValueError: one line with the name, what was found and what was expected.

    Example:
        >>> import torch
        >>> CheckLabel(values=[0, 1])(torch.full((1, 4, 4, 4), 7), torch.zeros(1, 4, 4, 4), "case_1")
        Traceback (most recent call last):
            ...
        ValueError: case_1: the label holds 7 in 64 voxels; expected only the values 0, 1
    """

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]  # noqa: RUF012

    def __init__(self, values: Sequence[int]) -> None:
        self.values = tuple(values)

    def __call__(  # type: ignore[override]
        self, label: NdarrayOrTensor, image: NdarrayOrTensor, name: str | None = None
    ) -> NdarrayOrTensor:
        """Return the label as it came."""
        name = name or _name(label)
        if tuple(label.shape) != tuple(image.shape):
            raise ValueError(f"{name}: the label is {_sizes(label)}; expected {_sizes(image)}, as the image")
        if isinstance(label, MetaTensor) and isinstance(image, MetaTensor):
            _check_same_place(label, image, name)
        values = convert_to_tensor(label, track_meta=False)
        unknown = torch.ones(values.shape, dtype=torch.bool, device=values.device)
        for value in self.values:
            unknown &= values != value
        if unknown.any():
            found = ", ".join(f"{value:g}" for value in torch.unique(values[unknown])[:5].tolist())
            expected = f"expected only the values {', '.join(map(str, self.values))}"
            raise ValueError(f"{name}: the label holds {found} in {int(unknown.sum())} voxels; {expected}")
        return label


class CheckLabeld(MapTransform):
    """Dictionary version of `CheckLabel`; without a label in the item, nothing is checked if missing keys are allowed.

    Args:
        keys: the label maps.
        image_key: the image whose grid they must share.
        values: the values that they may hold, background included.
        allow_missing_keys: let items without label pass.
    """

    backend = CheckLabel.backend

    def __init__(
        self, keys: KeysCollection, image_key: str, values: Sequence[int], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.check = CheckLabel(values)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check the label maps."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.check(d[key], d[self.image_key], d.get("case"))
        return d


def _name(img: NdarrayOrTensor) -> str:
    path = img.meta.get("filename_or_obj") if isinstance(img, MetaTensor) else None
    return Path(str(path)).name if path else "image"


def _replace_not_finite(tensor: MetaTensor, name: str) -> tuple[MetaTensor, list[str]]:
    # Minimum and maximum are NaN or infinite if any value is; they cost no mask of the volume's size.
    if all(torch.isfinite(value) for value in torch.aminmax(tensor.as_tensor())):
        return tensor, []
    finite = torch.isfinite(tensor.as_tensor())
    share = 1.0 - float(finite.sum()) / finite.numel()
    if share > MAX_SHARE_NOT_FINITE:
        raise ValueError(f"{name}: {share:.0%} of the values are NaN or infinite; {EXPECTED_CT}")
    count = int((~finite).sum())
    return (
        torch.nan_to_num(tensor, nan=AIR_HU, posinf=AIR_HU, neginf=AIR_HU),  # type: ignore[return-value]
        [f"set {count} values that were NaN or infinite to {AIR_HU:.0f} HU"],
    )


def _check_values(values: torch.Tensor, name: str) -> list[str]:
    low, high = (float(value) for value in torch.aminmax(values))
    if low == high:
        raise ValueError(f"{name}: every value is {low:g}; {EXPECTED_CT}")
    if high - low < MIN_RANGE_HU:
        found = f"values from {low:g} to {high:g}, an image normalized or a label map"
        raise ValueError(f"{name}: {found}; {EXPECTED_CT}")
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.numel() // SAMPLES)]
    if _share(sample, UNSIGNED_TISSUE) > max(UNSIGNED_MIN_SHARE, 2 * _share(sample, UNSIGNED_BELOW)):
        found = f"values from {low:g} to {high:g} with soft tissue near 1024: the intercept of -1024 is missing"
        raise ValueError(f"{name}: {found}; {EXPECTED_CT}")
    if low >= 0 and high <= 255:
        return [f"values from {low:g} to {high:g}: an 8-bit or windowed image, read as HU"]
    tissue = _share(sample, SOFT_TISSUE_HU)
    if tissue < MIN_SHARE_OF_TISSUE:
        return [f"{tissue:.1%} of the voxels lie between -200 and 200: hardly a CT of soft tissue in HU"]
    return []


def _share(values: torch.Tensor, bounds: tuple[float, float]) -> float:
    return float(((values >= bounds[0]) & (values <= bounds[1])).float().mean())


def _check_same_place(label: MetaTensor, image: MetaTensor, name: str) -> None:
    shape = np.array(image.shape[1:])
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape], indexing="ij")).reshape(len(shape), -1)
    corners = np.vstack([corners, np.ones(corners.shape[1])])
    shift = np.asarray(label.affine - image.affine, dtype=float) @ corners
    distance = float(np.linalg.norm(shift[:-1], axis=0).max())
    if distance > SAME_GRID_VOXELS * float(min(image.pixdim)):
        raise ValueError(f"{name}: the label lies up to {distance:.1f} mm beside the image; expected the image's grid")


def _sizes(img: NdarrayOrTensor) -> str:
    return "x".join(map(str, img.shape[1:]))
