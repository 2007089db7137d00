"""A classifier's attention maps beside its scores."""

import torch
from torch import nn

__all__ = ["WithMaps"]


class WithMaps(nn.Module):
    """A classifier whose one pass returns the scores and, by name, the maps of where it looked.

    The names are those of the papers' figures: ``AG1``, ``AG2`` for the coefficients of the gates, from fine to coarse,
    and ``CAM`` for the class activation map, which has a channel for every class.

    Args:
        network: a network with ``with_maps``, such as :class:`ag_networks.nets.AttentionGatedSonoNet`.

    Shape:
        x (N, C, *spatial) -> ``{"scores": (N, classes), "AG1": (N, 1, *fine), ..., "CAM": (N, classes, *coarse)}``.

    Raises:
        ValueError: if the network has no ``with_maps``.

    Example:
        >>> from ag_networks.nets import AttentionGatedSonoNet
        >>> network = WithMaps(AttentionGatedSonoNet(2, 1, 14, filters=8)).eval()
        >>> {name: tuple(values.shape) for name, values in network(torch.rand(1, 1, 64, 48)).items()}
        {'scores': (1, 14), 'AG1': (1, 1, 16, 12), 'AG2': (1, 1, 8, 6), 'CAM': (1, 14, 4, 3)}
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not hasattr(network, "with_maps"):
            raise ValueError(f"{type(network).__name__} gives no maps: it has no method with_maps.")
        self.network = network

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Scores and maps, each map on its own grid."""
        scores, coefficients, activation = self.network.with_maps(x)  # type: ignore[operator]
        gates = {f"AG{i}": alpha for i, alpha in enumerate(coefficients, 1)}
        return {"scores": scores, **gates, "CAM": activation}
