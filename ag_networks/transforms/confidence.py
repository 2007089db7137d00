"""How sure the network is of what it predicts."""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

__all__ = ["MeanConfidence", "MeanConfidenced"]


class MeanConfidence(Transform):
    """Mean softmax probability of every foreground class over the voxels where it has the highest logit.

    NaN for a class that has it nowhere. The background, nearly all of a volume, would be sure of itself in any case.

    Shape:
        logits (classes, *spatial), background first -> list of `classes - 1` numbers.

    Example:
        >>> MeanConfidence()(torch.tensor([[9.0, 0.0, 0.0], [0.0, 0.0, 20.0], [0.0, -1.0, 0.0]]))
        [1.0, nan]
    """

    def __call__(self, logits: torch.Tensor) -> list[float]:
        """Return the means of the labels 1, 2, ...."""
        values = convert_to_tensor(logits, track_meta=False)
        highest = values.argmax(dim=0)
        return [
            float(values[:, highest == label].float().softmax(dim=0)[label].mean())
            for label in range(1, values.shape[0])
        ]


class MeanConfidenced(MapTransform):
    """Dictionary form of :class:`MeanConfidence`, to be placed before the argmax is taken.

    Args:
        keys: the logits; they stay as they are.
        name: key of the list of means.
        allow_missing_keys: let items without logits pass.
    """

    def __init__(self, keys: KeysCollection, name: str = "confidence", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.name = name
        self.transform = MeanConfidence()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the means."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[self.name] = self.transform(d[key])
        return d
