"""Keep the largest connected part of every class."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type, convert_to_numpy
from scipy import ndimage

__all__ = ["LargestComponent", "LargestComponentd"]


class LargestComponent(Transform):
    """Keep the largest face-connected component of every foreground label; ties go to the first in the array.

    MONAI's ``KeepLargestConnectedComponent`` does the same with scikit-image, which the package does not require, and
    changes its input.

    Shape:
        label map (1, *spatial) -> the same.

    Example:
        >>> LargestComponent()(torch.tensor([[[1, 1, 0, 1, 0, 2]]]))
        tensor([[[1, 1, 0, 0, 0, 2]]])
    """

    def __call__(self, label: torch.Tensor) -> torch.Tensor:
        """Return a filtered copy."""
        array = np.array(convert_to_numpy(label)[0])
        for value in np.unique(array):
            if value != 0:
                components, count = ndimage.label(array == value)
                if count > 1:
                    sizes = np.bincount(components.ravel())[1:]
                    array[(components > 0) & (components != 1 + int(sizes.argmax()))] = 0
        return convert_to_dst_type(array[None], label)[0]


class LargestComponentd(MapTransform):
    """Dictionary form of :class:`LargestComponent`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = LargestComponent()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with filtered label maps."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d
