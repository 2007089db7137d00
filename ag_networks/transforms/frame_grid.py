"""From the network's grid back to the pixels of the frame."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import ArrayLike, NDArray

from ag_networks.transforms.locate import resize_map

__all__ = ["BoxOnFramed", "box_on_frame", "map_on_frame"]


def box_on_frame(box: Sequence[float], affine: ArrayLike) -> tuple[float, float, float, float]:
    """Return where a box of the network's input lies on the frame, in pixels.

    Args:
        box: (top, left, bottom, right), edges, the last two behind the last pixel.
        affine: (3, 3), from pixels of the input to pixels of the frame, as MONAI's crops and resizes keep it in a
            ``MetaTensor`` whose frame was read with the identity. A mirrored input (a flipped right eye) gives a box
            too. The inverse affine brings a box of the frame to the input.

    Raises:
        ValueError: if the affine turns, after which a box is no box.

    Example:
        >>> box_on_frame((0, 0, 4, 4), [[2, 0, 10.5], [0, 2, 20.5], [0, 0, 1]])  # half the size, cropped at (10, 20)
        (10.0, 20.0, 18.0, 28.0)
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if not np.allclose(matrix[:2, :2], np.diag(np.diag(matrix)[:2])) or (np.diag(matrix) == 0).any():
        raise ValueError(f"expected a crop, a resize and a mirror at most, got the affine {matrix.tolist()}")
    edges = np.array([[box[0], box[2]], [box[1], box[3]]])
    # Pixels are counted at their centers, and edges lie half a pixel before.
    corners = np.sort(matrix[:2, :2] @ (edges - 0.5) + matrix[:2, 2:] + 0.5, axis=1)
    return float(corners[0, 0]), float(corners[1, 0]), float(corners[0, 1]), float(corners[1, 1])


def map_on_frame(
    values: ArrayLike, affine: ArrayLike, grid: Sequence[int], shape: Sequence[int]
) -> NDArray[np.float32]:
    """Return a map on the pixels of the frame, 0 outside of what the network saw.

    Args:
        values: (h, w), of any size, over the whole input.
        affine: as in :func:`box_on_frame`.
        grid: (H, W) of the network's input.
        shape: (H, W) of the frame.

    Example:
        >>> map_on_frame([[1.0]], [[1, 0, 1], [0, 1, 1], [0, 0, 1]], (2, 2), (4, 4)).sum(axis=0).tolist()
        [0.0, 2.0, 2.0, 0.0]
    """
    top, left, bottom, right = (round(edge) for edge in box_on_frame((0, 0, *grid), affine))
    mirrored = tuple(axis for axis in (0, 1) if np.asarray(affine)[axis, axis] < 0)
    seen = np.flip(resize_map(values, (max(bottom - top, 1), max(right - left, 1))), mirrored)
    frame = np.zeros(tuple(shape), dtype=np.float32)
    rows, columns = (slice(max(low, 0), high) for low, high in ((top, bottom), (left, right)))
    target = frame[rows, columns]
    target[:] = seen[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
    return frame


class BoxOnFramed(MapTransform):
    """Bring a box of :class:`~ag_networks.transforms.LocateObjectd` to whole pixels of the frame, within the frame.

    Args:
        keys: the boxes; ``nan`` (no box) stays.
        image_key: the network's input, a ``MetaTensor`` that was read as a frame and then cropped and resized.
        allow_missing_keys: as in MONAI.
    """

    def __init__(self, keys: KeysCollection, *, image_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the boxes on the frame."""
        d = dict(data)
        image: MetaTensor = d[self.image_key]
        height, width = (int(n) for n in image.meta["spatial_shape"])
        for key in self.key_iterator(d):
            if not bool(torch.isnan(d[key]).any()):
                box = torch.tensor(box_on_frame(d[key].tolist(), image.affine)).round()
                d[key] = torch.minimum(box.clamp(min=0), torch.tensor([height, width] * 2, dtype=box.dtype))
        return d
