"""Attention coefficients as further output channels."""

import torch
from torch import nn

from ag_networks.visualize.capture import capture_attention

__all__ = ["WithAttention"]


class WithAttention(nn.Module):
    """A network that returns its class scores and, as further channels, the coefficients of its gates.

    A sliding window then stitches the maps as it stitches the scores. :attr:`names` tells the further channels apart.

    Args:
        network: a network with attention gates that returns one tensor.

    Shape:
        x (N, C, *spatial) -> (N, classes + coefficients, *spatial).

    Raises:
        ValueError: when it runs, if the network has no gate.

    Example:
        >>> from ag_networks.nets import AttentionGatedUNet
        >>> network = WithAttention(AttentionGatedUNet(2, 1, 2, channels=(4, 8, 16))).eval()
        >>> network(torch.zeros(1, 1, 16, 16)).shape, network.names
        (torch.Size([1, 4, 16, 16]), ['level1_1', 'level1_2'])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.names: list[str] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores and coefficients on the grid of `x`."""
        with capture_attention(self.network, on_input_grid=True) as attention:
            scores = self.network(x)
        self.names = [
            f"{name.removeprefix('decoder.').removesuffix('.gate')}_{i}".replace(".", "_")
            for name, maps in attention.items()
            for i in range(1, maps.shape[1] + 1)
        ]
        return torch.cat([scores, *attention.values()], dim=1)
