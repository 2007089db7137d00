"""Boxes from attention maps, without boxes to learn from and without back-propagation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects, gaussian_filter, label

__all__ = ["LocateObject", "LocateObjectd", "Location", "mean_attention", "resize_map"]

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
AGREEMENTS = ("every", "most", "any")
FLAT = 1e-6  # a map whose values differ by less, relative to the largest, says nothing about a place


@dataclass(frozen=True)
class Location:
    """Where the network looked.

    Args:
        box: (top, left, bottom, right), edges in pixels of the frame, the last two behind the last pixel; ``None`` if
            all maps are flat.
        overlaps: whether one component overlaps at every scale; otherwise the box is the fallback's.
        mask: (H, W), what the box encloses.
        attention: (H, W), the mean of the maps, each scaled to a largest value of 1 (the papers' AG-all).
    """

    box: tuple[int, int, int, int] | None
    overlaps: bool
    mask: Mask
    attention: Map


class LocateObject:
    r"""Find the box around the object that a classifier has recognized, by the papers' five steps.

    1. Blur every map with a Gaussian, on its own grid.
    2. Threshold: keep what exceeds ``threshold`` between the smallest and the largest value of the blurred map.
    3. Label the connected components on the frame's grid, diagonal neighbors included.
    4. Take the component of the last (coarsest) map that overlaps with a component at each other scale, and at each of
       these the component that overlaps with it most. Of several the one with the largest sum of AG-all wins.
    5. The box encloses what the selected components have in common, or what ``agreement`` says.

    Source: Schlemper, Oktay et al., MIDL 2018, and Medical Image Analysis 53 (2019), appendices. Blur, threshold,
    connectivity, what of the components the box encloses, and the case without overlap are not stated there, and no
    code was released: the defaults are ours. On generated frames with known boxes the common part gave far better boxes
    than all parts together, which coarse cells make too large; a network whose fine maps show only a detail of its
    objects may need ``"most"``. If nothing overlaps at all scales, the component of the last map wins that overlaps at
    most scales, then by its sum, the box is made of it and what it overlaps with, and ``overlaps`` is false. A flat map
    tells no place and takes no part; if all are flat there is no box.

    Args:
        sigma: of the Gaussian, in cells of the map's own grid (for the network's maps 4, 8 and 16 pixels).
        threshold: between 0 (keep all) and 1 (keep nothing but the maximum).
        agreement: how many of the selected components must contain a pixel that the box encloses: ``"every"``,
            ``"most"`` (more than half) or ``"any"``. Where fewer have a pixel in common, as many as have.

    Raises:
        ValueError: on construction for a negative sigma, a threshold outside [0, 1) or another agreement; from calls,
            if there is no map, or a map is not 2D or not finite.

    Example:
        >>> fine, coarse = np.zeros((16, 16)), np.zeros((4, 4))
        >>> fine[4:8, 8:12] = coarse[1, 2] = 1
        >>> LocateObject(sigma=0, threshold=0.5)([fine, coarse], (16, 16)).box
        (4, 8, 8, 12)
    """

    def __init__(self, *, sigma: float = 1.0, threshold: float = 0.5, agreement: str = "every") -> None:
        if agreement not in AGREEMENTS:
            raise ValueError(f"agreement must be one of {', '.join(AGREEMENTS)}, got {agreement!r}")
        if sigma < 0 or not 0 <= threshold < 1:
            raise ValueError(f"expected sigma >= 0 and threshold in [0, 1), got {sigma} and {threshold}")
        self.sigma = sigma
        self.threshold = threshold
        self.agreement = agreement

    def __call__(self, maps: Sequence[ArrayLike], shape: Sequence[int]) -> Location:
        """Find the object.

        Args:
            maps: one for each scale, (h, w) each, from fine to coarse: attention coefficients, then the class
                activation map. What is negative there speaks against the class and counts as 0.
            shape: (H, W) of the frame.
        """
        values = [_positive(each) for each in maps]
        if not values:
            raise ValueError("there is no map to find a box in")
        attention = mean_attention(values, shape)
        scales = [label(mask, structure=np.ones((3, 3)))[0] for mask in self._masks(values, shape)]
        if not scales:
            return Location(None, False, np.zeros(attention.shape, dtype=bool), attention)
        chosen, count = _select(scales, attention, self.agreement)
        (rows, columns), *_ = find_objects(chosen.astype(np.int8))
        box = (rows.start, columns.start, rows.stop, columns.stop)
        return Location(box, count == len(scales), chosen, attention)

    def _masks(self, maps: Sequence[Map], shape: Sequence[int]) -> list[Mask]:
        """Steps 1 and 2, for the maps that are not flat."""
        masks = []
        for each in maps:
            if each.max() - each.min() <= FLAT * abs(each.max()):
                continue
            blurred = gaussian_filter(each, self.sigma, mode="nearest")
            low, high = float(blurred.min()), float(blurred.max())
            masks.append(resize_map(blurred, shape) >= low + self.threshold * (high - low))
        return [mask for mask in masks if mask.any()]


class LocateObjectd(MapTransform):
    """Dictionary form of :class:`LocateObject`, for what a network with maps has put out.

    Adds ``"box"`` (a tensor of four numbers, ``nan`` where there is none), ``"box_overlaps"`` and ``"attention"``
    (1, H, W), on the grid of the image that went into the network.

    Args:
        keys: the maps from fine to coarse, channel-first: of one channel, or of one for each class, of which that of
            the prediction counts.
        pred_key: the class scores.
        image_key: the image, for the size of the frame.
        sigma, threshold, agreement: as in :class:`LocateObject`.
        allow_missing_keys: as in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        pred_key: str = "pred",
        image_key: str = "image",
        sigma: float = 1.0,
        threshold: float = 0.5,
        agreement: str = "every",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.pred_key = pred_key
        self.image_key = image_key
        self.locate = LocateObject(sigma=sigma, threshold=threshold, agreement=agreement)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Locate the object of the predicted class."""
        d = dict(data)
        best = int(torch.as_tensor(d[self.pred_key]).flatten().argmax())
        maps = [d[key] for key in self.key_iterator(d)]
        found = self.locate([each[best if each.shape[0] > 1 else 0] for each in maps], d[self.image_key].shape[-2:])
        d["box"] = torch.tensor([torch.nan] * 4 if found.box is None else found.box, dtype=torch.float32)
        d["box_overlaps"] = found.overlaps
        d["attention"] = torch.from_numpy(found.attention)[None]
        return d


def mean_attention(maps: Sequence[ArrayLike], shape: Sequence[int]) -> Map:
    """Return the papers' AG-all: the mean of maps of any size, each scaled to a largest value of 1, on one grid.

    Example:
        >>> mean_attention([[[2.0, 0.0]], [[0.0, 8.0]]], (1, 2)).tolist()
        [[0.5, 0.5]]
    """
    values = [_positive(each) for each in maps]
    tiny = float(np.finfo(np.float32).tiny)
    scaled = [resize_map(each / max(float(each.max()), tiny), shape) for each in values]
    return np.asarray(np.mean(scaled, axis=0), dtype=np.float32)


def resize_map(values: ArrayLike, shape: Sequence[int]) -> Map:
    """Resample a map (h, w) linearly to another grid of the same field of view."""
    tensor = torch.from_numpy(np.array(values, dtype=np.float32))[None, None]
    resized = F.interpolate(tensor, size=[int(n) for n in shape], mode="bilinear", align_corners=False)
    return np.asarray(resized[0, 0].numpy())


def _positive(values: ArrayLike) -> Map:
    array = np.asarray(convert_to_numpy(values), dtype=np.float32)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"expected a 2D map of finite numbers, got one of shape {array.shape}")
    return np.maximum(array, 0)


def _select(scales: Sequence[NDArray[np.integer[Any]]], attention: Map, agreement: str) -> tuple[Mask, int]:
    """Step 4: what the selected components of labelled scales share, and at how many scales there is one."""
    *finer, coarsest = scales
    best: tuple[tuple[int, float], Mask] | None = None
    for component in range(1, int(coarsest.max()) + 1):
        core = coarsest == component
        parts = [core]
        for components in finer:
            overlap = np.bincount(components[core], minlength=2)
            if overlap[1:].any():
                parts.append(components == 1 + int(overlap[1:].argmax()))
        votes = np.sum(parts, axis=0)
        needed = {"every": len(parts), "most": len(parts) // 2 + 1, "any": 1}[agreement]
        chosen = votes >= min(needed, int(votes.max()))
        rank = (len(parts), float(attention[chosen].sum()))
        if best is None or rank > best[0]:
            best = rank, chosen
    assert best is not None  # every scale has a component
    return best[1], best[0][0]
