"""Convolution, normalization and activation, with the batch norm folded into the convolution in evaluation."""

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_act_layer, get_dropout_layer, get_norm_layer
from torch import nn

__all__ = ["ConvBlock", "ConvNormAct", "UpBlock", "UpConvNormAct", "convolve", "fast_layout", "per_axis", "resize"]


class _FoldingConvolution(nn.Module):
    """Convolution, normalization and activation of :class:`ConvNormAct` and :class:`UpConvNormAct`."""

    folds: Final[bool]  # true if `norm` is a batch norm whose evaluation form is a fixed affine map

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        norm: str | tuple | None = "batch",
        act: str | tuple | None = ("relu", {"inplace": True}),
        bias: bool = True,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        kernel = per_axis(kernel_size, spatial_dims, "kernel_size")
        if any(k % 2 == 0 for k in kernel):
            raise ValueError(f"kernel_size must be odd on every axis, got {kernel}.")
        padding = tuple(k // 2 for k in kernel)
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel, padding=padding, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight)  # as the released code of the papers does
        # Any: mypy types the attributes of a module as Tensor or Module
        self.norm: Any = nn.Identity() if norm is None else get_norm_layer(norm, spatial_dims, out_channels)
        self.act = nn.Identity() if act is None else get_act_layer(act)
        self.folds = isinstance(self.norm, nn.modules.batchnorm._BatchNorm) and self.norm.track_running_stats

    def folded(self) -> bool:
        """Whether the norm is folded now: it decides itself, as it may be frozen while the rest is trained."""
        return self.folds and not self.norm.training

    def weight_and_bias(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias of the convolution, with the batch norm in them if it is in evaluation mode."""
        if self.folded():
            mean, variance = self.norm.running_mean, self.norm.running_var
            assert mean is not None and variance is not None  # noqa: PT018 - one statement narrows both types
            scale = torch.rsqrt(variance + self.norm.eps)
            shift = -mean * scale
            if self.norm.affine:
                scale = scale * self.norm.weight
                shift = shift * self.norm.weight + self.norm.bias
            bias = self.conv.bias
            shift = shift if bias is None else shift + bias * scale
            return self.conv.weight * scale.view([-1] + [1] * (self.conv.weight.dim() - 1)), shift
        return self.conv.weight, self.conv.bias

    def finish(self, y: torch.Tensor) -> torch.Tensor:
        """What follows the convolution: the normalization (unless folded) and the activation."""
        if self.folded():
            return self.act(y)
        return self.act(self.norm(y))


class ConvNormAct(_FoldingConvolution):
    r"""Convolution ("same" padding), normalization, activation.

    .. math:: y = \sigma(\mathrm{norm}(W * x + b))

    In evaluation a batch norm is folded into :math:`W` and :math:`b`, so that no second pass over the feature map
    is made; the parameters and the state dict stay those of the two separate layers.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: odd, one number or one per axis.
        norm: name or ``(name, kwargs)`` of MONAI's normalization factory; None for none.
        act: name or ``(name, kwargs)`` of MONAI's activation factory; None for none.
        bias: whether the convolution has the bias :math:`b`; before a batch norm it does nothing.

    Shape:
        input (N, in_channels, *spatial), output (N, out_channels, *spatial).

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, or a kernel size is even.

    Example:
        >>> ConvNormAct(2, 1, 4)(torch.zeros(1, 1, 8, 6)).shape
        torch.Size([1, 4, 8, 6])
    """

    unrolled_axis: Final[int]  # from the end; 0 for none

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        norm: str | tuple | None = "batch",
        act: str | tuple | None = ("relu", {"inplace": True}),
        bias: bool = True,
    ) -> None:
        super().__init__(
            spatial_dims, in_channels, out_channels, kernel_size=kernel_size, norm=norm, act=act, bias=bias
        )
        wide = [axis for axis in range(-spatial_dims, 0) if self.conv.kernel_size[axis] == 3]
        self.unrolled_axis = wide[-1] if wide and in_channels == 1 else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *spatial) -> (N, out_channels, *spatial)."""
        weight, bias = self.weight_and_bias()
        return self.finish(self._unrolled(x, weight, bias) if self.unrolled_axis else convolve(x, weight, bias))

    def _unrolled(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The same convolution with the three taps of one axis as channels.

        A one-channel convolution leaves the vector units idle: this form is 2 to 4 times as fast on a CPU.
        """
        axis, size = self.unrolled_axis, x.shape[self.unrolled_axis]
        padded = F.pad(x, [0, 0] * (-axis - 1) + [1, 1])
        taps = torch.cat([padded.narrow(axis, i, size) for i in range(3)], dim=1)
        return convolve(fast_layout(taps), weight.transpose(1, axis), bias)


class UpConvNormAct(_FoldingConvolution):
    """:class:`ConvNormAct` of a skip connection and an up-sampled coarser map, without concatenating them.

    A convolution of a concatenation is the sum of two convolutions; forming the sum needs less memory and time than
    forming the concatenation. The weight is that of the concatenation ``[skip, up-sampled]``.

    Args:
        spatial_dims: 2 or 3.
        skip_channels: channels of the skip connection.
        in_channels: channels of the coarser map.
        out_channels: number of output channels.
        kernel_size, norm, act: as in :class:`ConvNormAct`.
        align_corners: convention of the linear up-sampling; the original code was written when it meant True and
            means False on every later PyTorch.

    Shape:
        skip (N, skip_channels, *fine), x (N, in_channels, *coarse), output (N, out_channels, *fine).
    """

    def __init__(
        self,
        spatial_dims: int,
        skip_channels: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        norm: str | tuple | None = "batch",
        act: str | tuple | None = ("relu", {"inplace": True}),
        align_corners: bool = False,
    ) -> None:
        super().__init__(
            spatial_dims, skip_channels + in_channels, out_channels, kernel_size=kernel_size, norm=norm, act=act
        )
        self.skip_channels = skip_channels
        self.align_corners = align_corners

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *coarse), (N, skip_channels, *fine) -> (N, out_channels, *fine)."""
        weight, bias = self.weight_and_bias()
        # the up-sampled map has no name, so that it is freed before the second convolution is made
        y = convolve(resize(x, list(skip.shape[2:]), self.align_corners), weight[:, self.skip_channels :], bias)
        return self.finish(y.add_(convolve(skip, weight[:, : self.skip_channels], None)))


class ConvBlock(nn.Module):
    """Two 3x3(x3) convolutions with normalization and activation: one level of the U-Nets.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size, norm, act: as in :class:`ConvNormAct`.
        dropout: probability of channel dropout between the two convolutions.

    Shape:
        input (N, in_channels, *spatial), output (N, out_channels, *spatial).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        norm: str | tuple | None = "batch",
        act: str | tuple | None = ("relu", {"inplace": True}),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(spatial_dims, in_channels, out_channels, kernel_size=kernel_size, norm=norm, act=act)
        self.dropout = get_dropout_layer(dropout, dropout_dim=spatial_dims) if dropout else nn.Identity()
        self.conv2 = ConvNormAct(spatial_dims, out_channels, out_channels, kernel_size=kernel_size, norm=norm, act=act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *spatial) -> (N, out_channels, *spatial)."""
        return self.conv2(self.dropout(self.conv1(x)))


class UpBlock(nn.Module):
    """:class:`ConvBlock` on a skip connection and the up-sampled coarser map: one decoder level of the U-Nets.

    Args:
        spatial_dims: 2 or 3.
        skip_channels: channels of the skip connection.
        in_channels: channels of the coarser map.
        out_channels: number of output channels.
        kernel_size, norm, act, dropout: as in :class:`ConvBlock`.
        align_corners: as in :class:`UpConvNormAct`.

    Shape:
        skip (N, skip_channels, *fine), x (N, in_channels, *coarse), output (N, out_channels, *fine).
    """

    def __init__(
        self,
        spatial_dims: int,
        skip_channels: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int | Sequence[int] = 3,
        norm: str | tuple | None = "batch",
        act: str | tuple | None = ("relu", {"inplace": True}),
        dropout: float = 0.0,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = UpConvNormAct(
            spatial_dims,
            skip_channels,
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            norm=norm,
            act=act,
            align_corners=align_corners,
        )
        self.dropout = get_dropout_layer(dropout, dropout_dim=spatial_dims) if dropout else nn.Identity()
        self.conv2 = ConvNormAct(spatial_dims, out_channels, out_channels, kernel_size=kernel_size, norm=norm, act=act)

    def forward(self, skip: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """(N, skip_channels, *fine), (N, in_channels, *coarse) -> (N, out_channels, *fine)."""
        return self.conv2(self.dropout(self.conv1(x, skip)))


def per_axis(value: int | Sequence[int], spatial_dims: int, name: str) -> tuple[int, ...]:
    """One integer per spatial axis from one number or a sequence.

    Raises:
        ValueError: if the sequence has another length, or a value is below 1.
    """
    values = (value,) * spatial_dims if isinstance(value, int) else tuple(value)
    if len(values) != spatial_dims or any(v < 1 for v in values):
        raise ValueError(f"{name} must be one positive integer or {spatial_dims} of them, got {value}.")
    return values


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Stride-1 convolution in 2D or 3D, zero-padded to the size of `x`."""
    weight = weight.contiguous()  # the weight may be a view, whose gradient PyTorch's own 2D convolution refuses
    if weight.dim() == 4:
        return F.conv2d(x, weight, bias, padding=[weight.shape[2] // 2, weight.shape[3] // 2])
    if max(weight.shape[2:]) > 1:
        x = fast_layout(x)  # small maps come out of PyTorch's own 3D convolution, which drops the layout
    return F.conv3d(x, weight, bias, padding=[weight.shape[2] // 2, weight.shape[3] // 2, weight.shape[4] // 2])


def fast_layout(x: torch.Tensor) -> torch.Tensor:
    """`x` in the memory layout in which its device convolves fastest.

    On a CPU that is channels-last (1.3 to 1.6 times as fast in oneDNN); elsewhere the caller's layout is kept, so
    that ``network.to(memory_format=...)`` decides.
    """
    if x.device.type != "cpu":
        return x
    return x.contiguous(memory_format=torch.channels_last_3d if x.dim() == 5 else torch.channels_last)


def resize(x: torch.Tensor, size: list[int], align_corners: bool) -> torch.Tensor:
    """Bilinear or trilinear resampling to a spatial size; nothing is done if `x` has it already."""
    if list(x.shape[2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="trilinear" if x.dim() == 5 else "bilinear", align_corners=align_corners)
