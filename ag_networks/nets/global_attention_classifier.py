"""A classifier behind a global spatial attention map."""

from collections.abc import Sequence

import torch
from torch import nn

from ag_networks.blocks import GlobalSpatialAttention

__all__ = ["GlobalAttentionClassifier"]


class GlobalAttentionClassifier(nn.Module):
    r"""Any classifier that sees its images through one map, learnt with it: :math:`F(x_i \cdot M; \theta_F)`.

    Source: Xu et al., arXiv 2007.15897, equation 1 and figure 2. How the map is learnt and frozen:
    :class:`~ag_networks.blocks.GlobalSpatialAttention`. Until it is given a source, the map is one everywhere and the
    network is its backbone.

    Args:
        backbone: any network that takes (N, C, *spatial_size), such as one of
            :func:`ag_networks.nets.create_backbone`.
        spatial_size: size of the images, (H, W) or (D, H, W).

    Shape:
        (N, C, *spatial_size) -> whatever the backbone makes of it, usually (N, classes) scores before the softmax.

    Raises:
        ValueError: for a size that is none, and from calls for images of another size.

    Example:
        >>> from monai.networks.nets import DenseNet
        >>> network = GlobalAttentionClassifier(DenseNet(2, 3, 5, 8, 4, (2, 2)), (32, 32))
        >>> network(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 5])
    """

    def __init__(self, backbone: nn.Module, spatial_size: Sequence[int]) -> None:
        super().__init__()
        self.attention = GlobalSpatialAttention(spatial_size)
        self.backbone = backbone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial_size) -> the backbone's output."""
        return self.backbone(self.attention(x))
