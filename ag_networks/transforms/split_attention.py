"""Take attention maps out of the channels of a prediction."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

__all__ = ["SplitAttentiond"]


class SplitAttentiond(MapTransform):
    """Keep the first channels, the class scores, under the key, and put the others under ``"attention"``.

    The other half of :class:`ag_networks.visualize.WithAttention`, whose maps pass through a sliding window as
    channels. Without further channels nothing happens.

    Args:
        keys: the prediction.
        num_classes: how many channels are class scores.
    """

    def __init__(self, keys: KeysCollection, num_classes: int) -> None:
        super().__init__(keys)
        self.num_classes = num_classes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the channels apart."""
        d = dict(data)
        for key in self.key_iterator(d):
            if d[key].shape[0] > self.num_classes:
                d["attention"] = d[key][self.num_classes :]
                d[key] = d[key][: self.num_classes]
        return d
