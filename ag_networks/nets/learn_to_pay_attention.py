"""VGG-like classifier with attention at its last three levels ("learn to pay attention")."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Pool
from torch import nn

from ag_networks.blocks import ConvNormAct
from ag_networks.blocks.convolution import fast_layout, per_axis

__all__ = ["CompatibilityPooling", "LearnToPayAttentionVGG"]

CONVOLUTIONS = (2, 2, 3, 3, 3)  # of the blocks; a sixth has two, each pooled
LEVELS = 3
SMALLEST = 32  # pixels along every axis that leave one after the five poolings


class CompatibilityPooling(nn.Module):
    r"""Weighted mean of local features, by their compatibility with a global one.

    .. math:: c_i = \langle u, l_i + g \rangle, \qquad v = \sum_i \mathrm{softmax}(c)_i \, l_i

    :math:`\langle u, g \rangle` is the same at every position, so that the softmax takes it out again: with this
    compatibility, as published, g changes neither the coefficients nor v, and what computes g learns nothing.

    Source: Jetley et al., *Learn to pay attention*, ICLR 2018, section 3 ("parametrised compatibility").

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the local and of the global features.

    Shape:
        local features (N, C, *spatial), global feature (N, C, 1, ...) -> vectors (N, C), coefficients (N, 1, *spatial),
        which sum to one.
    """

    gives_coefficients = True

    def __init__(self, spatial_dims: int, in_channels: int) -> None:
        super().__init__()
        self.u = Conv[Conv.CONV, spatial_dims](in_channels, 1, 1, bias=False)

    def forward(self, x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors (N, C), and the coefficients (N, 1, *spatial) that made them."""
        coefficients = self.u(x + g).flatten(2).softmax(dim=2)
        vectors = torch.bmm(x.flatten(2), coefficients.transpose(1, 2)).squeeze(2)
        return vectors, coefficients.view([x.shape[0], 1] + list(x.shape[2:]))


class LearnToPayAttentionVGG(nn.Module):
    """VGG-like classifier of three vectors, each an attention-weighted mean of one level's features.

    Blocks of 2, 2, 3, 3, 3 and 2 convolutions. The first three work at full resolution; max pooling follows the third,
    the fourth and the fifth, whose pooled maps are the local features, and each convolution of the sixth. A convolution
    over the whole of what is left makes the global feature g. Linear layer on the three vectors.

    Sources: Jetley et al., *Learn to pay attention*, ICLR 2018, VGG-att3; the layout is that of the port in PyTorch
    which Xu et al., arXiv 2007.15897, compare with (github.com/SaoYan/LearnToPayAttention, attention after the
    poolings): 19,993,764 parameters for 32 pixels and 100 classes, 32,427,587 for 224 pixels and 3 classes. Its
    attention does not depend on g: :class:`CompatibilityPooling`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of input channels.
        out_channels: number of classes; the output holds logits.
        spatial_size: size of the images, one number or one per axis, at least 32: the last convolution is as large as
            a 32nd of it, rounded down.
        channels: of the blocks, the last number for the fourth to the sixth.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels). Other sizes than ``spatial_size``, from 32 on along every axis,
        are averaged to the grid of the last convolution.

    Raises:
        ValueError: if ``spatial_size`` is below 32, or ``channels`` not four positive numbers; in ``forward`` for an
            input smaller than 32 along an axis.

    Example:
        >>> network = LearnToPayAttentionVGG(2, 3, 5, spatial_size=64, channels=(4, 4, 8, 8)).eval()
        >>> network(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 5])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        spatial_size: int | Sequence[int],
        channels: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        size = per_axis(spatial_size, spatial_dims, "spatial_size")
        if min(size) < SMALLEST:
            raise ValueError(f"spatial_size must be at least {SMALLEST} along every axis, got {size}.")
        if len(channels) != 4 or min(channels) < 1:
            raise ValueError(f"channels must be four positive numbers, got {tuple(channels)}.")
        self.smallest = SMALLEST
        grid = tuple(n // SMALLEST for n in size)
        width = channels[-1]
        self.pool = Pool[Pool.MAX, spatial_dims](2)
        widths = pairwise([in_channels, *channels, width])
        self.blocks = nn.ModuleList(
            nn.Sequential(*_convolutions(spatial_dims, i, o, count))
            for (i, o), count in zip(widths, CONVOLUTIONS, strict=True)
        )
        last = _convolutions(spatial_dims, width, width, 2)
        self.last = nn.Sequential(last[0], self.pool, last[1], self.pool)
        self.to_grid = Pool[Pool.ADAPTIVEAVG, spatial_dims](grid)
        self.dense = Conv[Conv.CONV, spatial_dims](width, width, grid)
        self.projector = Conv[Conv.CONV, spatial_dims](channels[2], width, 1, bias=False)
        self.attention = nn.ModuleList(CompatibilityPooling(spatial_dims, width) for _ in range(LEVELS))
        self.classifier = nn.Linear(LEVELS * width, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *spatial) -> logits (N, out_channels)."""
        if min(x.shape[2:]) < self.smallest:
            raise ValueError(f"expected at least {self.smallest} pixels along every axis, got {x.shape}.")
        x = fast_layout(x)
        maps: list[torch.Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i > 1:  # from here on every level is pooled and attended to
                x = self.pool(x)
                maps.append(x)
        g = self.dense(self.to_grid(self.last(x)))  # (N, width, 1, ...)
        maps[0] = self.projector(maps[0])
        vectors: list[torch.Tensor] = []
        for i, attention in enumerate(self.attention):
            vectors.append(attention(maps[i], g)[0])
        return self.classifier(torch.cat(vectors, dim=1))


def _convolutions(spatial_dims: int, in_channels: int, out_channels: int, count: int) -> list[ConvNormAct]:
    widths = pairwise([in_channels] + [out_channels] * count)
    return [ConvNormAct(spatial_dims, i, o) for i, o in widths]
