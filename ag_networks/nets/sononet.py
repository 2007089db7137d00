"""SonoNet, the classifier of fetal standard planes, and the feature extractor that it shares with AG-SonoNet."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.layers.factories import Pool
from torch import nn

from ag_networks.blocks import ConvNormAct
from ag_networks.blocks.convolution import fast_layout

__all__ = ["SonoNet", "SonoNetFeatures", "adaptation_layers", "sononet_channels"]

STAGES = 5
SMALLEST = 2 ** (STAGES - 1)  # pixels along every axis that leave one after the four poolings


class SonoNet(nn.Module):
    r"""VGG-like classifier whose class scores are averages of class maps.

    Five stages of 3x3 convolutions with F, 2F, 4F, 8F and 8F filters, max pooling between them; then two 1x1
    convolutions (8F -> 4F with norm and activation, 4F -> classes with norm alone) make a map of every class, and its
    mean over the grid is the class's logit.

    Sources: Baumgartner et al., *SonoNet: real-time detection and localisation of fetal standard scan planes in
    freehand ultrasound*, IEEE TMI 36 (2017), with ``convolutions=(2, 2, 3, 3, 3), bias=False``; and Schlemper, Oktay
    et al., MIDL 2018 and Medical Image Analysis 53 (2019), whose tables use the default (3, 3, 3, 2, 2) with biases:
    0.16, 0.65 and 2.58 M parameters for 8, 16 and 32 filters and 14 classes.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of input channels.
        out_channels: number of classes; the output holds logits.
        filters: F, filters of the first stage.
        convolutions: convolutions of each of the five stages.
        bias: whether the convolutions have biases.
        norm, act: names or ``(name, kwargs)`` of MONAI's factories. The SonoNet authors' batch norm is
            ``("batch", {"eps": 1e-4})``.

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels). Any spatial size from 16 on along every axis.

    Raises:
        ValueError: if ``convolutions`` is not five positive numbers, or ``filters`` is below 1; in ``forward`` for an
            input of other dimensions or smaller than 16 along an axis.

    Example:
        >>> SonoNet(2, 1, 14, filters=8).eval()(torch.zeros(2, 1, 49, 37)).shape
        torch.Size([2, 14])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        filters: int = 16,
        convolutions: Sequence[int] = (3, 3, 3, 2, 2),
        bias: bool = True,
        norm: str | tuple | None = "batch",
        act: str | tuple = ("relu", {"inplace": True}),
    ) -> None:
        super().__init__()
        layers: dict[str, Any] = {"norm": norm, "bias": bias}
        self.features = SonoNetFeatures(
            spatial_dims, in_channels, filters=filters, convolutions=convolutions, act=act, **layers
        )
        self.adaptation = adaptation_layers(spatial_dims, filters, out_channels, act=act, **layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *spatial) -> logits (N, out_channels)."""
        return self.adaptation(self.features(x)[2]).flatten(2).mean(dim=2)

    @torch.jit.export
    def with_maps(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Logits, no attention coefficients, and the class maps (N, out_channels, *coarsest) that they average.

        The same three as :meth:`ag_networks.nets.AttentionGatedSonoNet.with_maps` returns.
        """
        maps = self.adaptation(self.features(x)[2])
        coefficients: list[torch.Tensor] = []
        return maps.flatten(2).mean(dim=2), coefficients, maps


class SonoNetFeatures(nn.Module):
    """The five convolutional stages of SonoNet; their parameters have the same names in every network with them.

    Args:
        spatial_dims, in_channels, filters, convolutions, bias, norm, act: as in :class:`SonoNet`.

    Shape:
        (N, in_channels, *spatial) -> the maps of the last three stages, each before its pooling: (N, 4F, *spatial/4),
        (N, 8F, *spatial/8), (N, 8F, *spatial/16); odd sizes are rounded down.

    Raises:
        ValueError: as :class:`SonoNet`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        filters: int,
        convolutions: Sequence[int],
        bias: bool,
        norm: str | tuple | None,
        act: str | tuple,
    ) -> None:
        super().__init__()
        if len(convolutions) != STAGES or any(n < 1 for n in convolutions):
            raise ValueError(f"convolutions must be five positive numbers, got {tuple(convolutions)}.")
        if filters < 1:
            raise ValueError(f"filters must be at least 1, got {filters}.")
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.smallest = SMALLEST
        self.pool = Pool[Pool.MAX, spatial_dims](2)
        stages = []
        width = in_channels
        for channels, count in zip(sononet_channels(filters), convolutions, strict=True):
            widths = [width] + [channels] * count
            stages.append(
                nn.Sequential(
                    *(ConvNormAct(spatial_dims, i, o, norm=norm, act=act, bias=bias) for i, o in pairwise(widths))
                )
            )
            width = channels
        self.stages = nn.ModuleList(stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(N, in_channels, *spatial) -> feature maps of the third, fourth and fifth stage."""
        if x.dim() != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"expected an input (N, {self.in_channels}) with {self.spatial_dims} spatial axes, got {x.shape}."
            )
        if min(x.shape[2:]) < self.smallest:
            raise ValueError(f"expected at least {self.smallest} pixels along every axis, got {x.shape}.")
        x = fast_layout(x)
        maps: list[torch.Tensor] = []
        for i, stage in enumerate(self.stages):
            x = stage(x if i == 0 else self.pool(x))
            if i > 1:
                maps.append(x)
        return maps


def adaptation_layers(
    spatial_dims: int, filters: int, out_channels: int, *, act: str | tuple, **layers: Any
) -> nn.Sequential:
    """The 1x1 convolutions that make a map of every class from the last feature map."""
    width = sononet_channels(filters)[-1]
    return nn.Sequential(
        ConvNormAct(spatial_dims, width, width // 2, kernel_size=1, act=act, **layers),
        ConvNormAct(spatial_dims, width // 2, out_channels, kernel_size=1, act=None, **layers),
    )


def sononet_channels(filters: int) -> tuple[int, ...]:
    """Filters of the five stages.

    Example:
        >>> sononet_channels(16)
        (16, 32, 64, 128, 128)
    """
    return (filters, 2 * filters, 4 * filters, 8 * filters, 8 * filters)
