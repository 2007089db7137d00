"""Residual attention network: a residual network whose units weigh their own features."""

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import nn

from ag_networks.blocks.convolution import fast_layout, resize

__all__ = ["PreActivationUnit", "ResidualAttentionModule", "ResidualAttentionNetwork"]

STAGES = 4
SMALLEST = 32  # pixels along every axis that leave one in the last stage
TRUNK_UNITS = 2  # t in the paper; before, after and at every level of the mask there is one unit (p = r = 1)
LAST_UNITS = 3  # of the stage without attention


class PreActivationUnit(nn.Module):
    """Pre-activation bottleneck: 1x1, 3x3 and 1x1 convolution, each after norm and activation, and the input.

    Where channels or stride change, the input goes through a 1x1 convolution after the first norm and activation.

    Source: He et al., *Identity mappings in deep residual networks*, ECCV 2016.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels in.
        out_channels: channels out, four times those of the bottleneck.
        stride: of the 3x3 convolution.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial / stride, rounded up).
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        conv, width = Conv[Conv.CONV, spatial_dims], out_channels // 4
        self.norm_act = _norm_act(spatial_dims, in_channels)
        self.body = nn.Sequential(
            conv(in_channels, width, 1, bias=False),
            *_norm_act(spatial_dims, width),
            conv(width, width, 3, stride=stride, padding=1, bias=False),
            *_norm_act(spatial_dims, width),
            conv(width, out_channels, 1, bias=False),
        )
        self.shortcut: Any = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = conv(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *spatial) -> (N, out_channels, *spatial / stride)."""
        activated = self.norm_act(x)
        return self.body(activated) + (x if self.shortcut is None else self.shortcut(activated))


class ResidualAttentionModule(nn.Module):
    r"""Features weighted by a mask of their own, which an hourglass computes from the same input.

    .. math:: y = (1 + M(x)) \cdot T(x), \qquad M(x) \in (0, 1)

    T are two residual units. M is pooled and convolved ``depth`` times, resampled linearly as often, with a skip
    connection at every level (T at the finest), then two 1x1 convolutions and a sigmoid. One unit comes before both,
    one after them.

    Source: Wang et al., *Residual attention network for image classification*, CVPR 2017, equation 3 and figure 2
    ("mixed attention": a value for every channel and position). The skips are those of the authors' released network.

    Args:
        spatial_dims: 2 or 3.
        channels: C of the features; they stay.
        depth: poolings of the hourglass.

    Shape:
        (N, C, *spatial) -> (N, C, *spatial), and the mask's mean over the channels (N, 1, *spatial).
    """

    gives_coefficients = True

    def __init__(self, spatial_dims: int, channels: int, depth: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.first, self.last = (PreActivationUnit(spatial_dims, channels, channels) for _ in range(2))
        self.trunk = nn.Sequential(*(PreActivationUnit(spatial_dims, channels, channels) for _ in range(TRUNK_UNITS)))
        self.pool = Pool[Pool.MAX, spatial_dims](3, stride=2, padding=1)
        self.down, self.up, self.skips = (
            nn.ModuleList(PreActivationUnit(spatial_dims, channels, channels) for _ in range(count))
            for count in (depth, depth, depth - 1)
        )
        self.mask = nn.Sequential(
            *_norm_act(spatial_dims, channels),
            conv(channels, channels, 1, bias=False),
            *_norm_act(spatial_dims, channels),
            conv(channels, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weighted features (N, C, *spatial), and the mask's mean over the channels (N, 1, *spatial)."""
        x = self.first(x)
        trunk = self.trunk(x)
        mask = self.mask(self._hourglass(x, trunk))
        return self.last((1 + mask) * trunk), mask.mean(dim=1, keepdim=True)

    def _hourglass(self, x: torch.Tensor, trunk: torch.Tensor) -> torch.Tensor:
        maps: list[torch.Tensor] = []
        for down in self.down:
            x = down(self.pool(x))
            maps.append(x)
        skips = [trunk]
        for i, skip in enumerate(self.skips):
            skips.append(maps[i] + skip(maps[i]))
        for i, up in enumerate(self.up):  # from coarse to fine
            skip_map = skips[len(skips) - 1 - i]
            x = resize(up(x), list(skip_map.shape[2:]), True) + skip_map
        return x


class ResidualAttentionNetwork(nn.Module):
    """Residual network with attention modules in its first three stages: Attention-56, Attention-92 and deeper ones.

    A 7x7 convolution of stride 2 and a pooling; three stages of one residual unit and ``attention_modules`` attention
    modules, whose hourglasses pool 3, 2 and 1 times; a stage of three residual units; norm, activation, mean, linear
    layer. The second to the fourth stage begin with a stride of 2.

    Source: Wang et al., *Residual attention network for image classification*, CVPR 2017, table 2; in the layout of the
    implementation which Xu et al., arXiv 2007.15897, compare with (github.com/osmr/imgclsmob): 31,810,728 parameters
    for Attention-56 and 52,466,344 for Attention-92, with 1000 classes (the paper: 31.9 M and 51.3 M). It resamples
    with aligned corners, and so do we.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of input channels.
        out_channels: number of classes; the output holds logits.
        attention_modules: of the first three stages; (1, 1, 1) is Attention-56, (1, 2, 3) Attention-92, which the
            comparison uses.
        channels: of the four stages, multiples of four; the first convolution has a quarter of the first number.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels). Any spatial size from 32 along every axis; in training more
        than one image or a size above 32, for the batch norms.

    Raises:
        ValueError: if ``attention_modules`` is not three numbers from 0, or ``channels`` not four multiples of four; in
            ``forward`` for an input smaller than 32 along an axis.

    Example:
        >>> network = ResidualAttentionNetwork(2, 3, 5, attention_modules=(1, 1, 1), channels=(8, 8, 16, 16)).eval()
        >>> network(torch.zeros(1, 3, 65, 48)).shape
        torch.Size([1, 5])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        attention_modules: Sequence[int] = (1, 2, 3),
        channels: Sequence[int] = (256, 512, 1024, 2048),
    ) -> None:
        super().__init__()
        if len(attention_modules) != STAGES - 1 or min(attention_modules) < 0:
            raise ValueError(f"attention_modules must be three numbers from 0 on, got {tuple(attention_modules)}.")
        if len(channels) != STAGES or any(c < 4 or c % 4 for c in channels):
            raise ValueError(f"channels must be four multiples of four, got {tuple(channels)}.")
        self.smallest = SMALLEST
        width = channels[0] // 4
        self.stem = nn.Sequential(
            Conv[Conv.CONV, spatial_dims](in_channels, width, 7, stride=2, padding=3, bias=False),
            *_norm_act(spatial_dims, width),
            Pool[Pool.MAX, spatial_dims](3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList()
        for i, (count, out) in enumerate(zip(attention_modules, channels, strict=False)):
            self.stages.append(
                _Stage(spatial_dims, width, out, modules=count, depth=STAGES - 1 - i, stride=min(i, 1) + 1)
            )
            width = out
        self.last = nn.Sequential(
            PreActivationUnit(spatial_dims, width, channels[-1], stride=2),
            *(PreActivationUnit(spatial_dims, channels[-1], channels[-1]) for _ in range(LAST_UNITS - 1)),
            *_norm_act(spatial_dims, channels[-1]),
        )
        self.classifier = nn.Linear(channels[-1], out_channels)
        for module in self.modules():
            if isinstance(module, Conv[Conv.CONV, spatial_dims]):
                nn.init.kaiming_uniform_(module.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *spatial) -> logits (N, out_channels)."""
        if min(x.shape[2:]) < self.smallest:
            raise ValueError(f"expected at least {self.smallest} pixels along every axis, got {x.shape}.")
        x = self.stem(fast_layout(x))
        for stage in self.stages:
            x = stage(x)
        return self.classifier(self.last(x).flatten(2).mean(dim=2))


class _Stage(nn.Module):
    """A residual unit, which sets channels and size, and attention modules."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, *, modules: int, depth: int, stride: int
    ) -> None:
        super().__init__()
        self.unit = PreActivationUnit(spatial_dims, in_channels, out_channels, stride=stride)
        self.attention = nn.ModuleList(
            ResidualAttentionModule(spatial_dims, out_channels, depth) for _ in range(modules)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.unit(x)
        for attention in self.attention:
            x = attention(x)[0]
        return x


def _norm_act(spatial_dims: int, channels: int) -> nn.Sequential:
    return nn.Sequential(Norm[Norm.BATCH, spatial_dims](channels), nn.ReLU(inplace=True))
