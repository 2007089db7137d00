"""Additive grid attention gates."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_act_layer
from torch import nn

from ag_networks.blocks.convolution import ConvNormAct, convolve, per_axis, resize
from ag_networks.blocks.normalization import AttentionNormalization

__all__ = ["AttentionGate", "MultiAttentionGate"]

OPEN = 0.95  # coefficient at which a sigmoid gate starts: it passes the features of all positions


class AttentionGate(nn.Module):
    r"""Scale skip features by coefficients computed from them and a coarser gating signal.

    .. math::
        q = \psi^T \sigma_1(W_x^T x + W_g^T g + b_{xg}) + b_\psi, \qquad
        \alpha = \sigma_2(q), \qquad \hat x = W(\alpha \odot x)

    Grids: :math:`W_x` (``theta``) is a convolution with kernel and stride ``sub_sample_factor``, so that the sum is
    formed on a coarse grid; :math:`W_g` (``phi``) is a 1x1 convolution on the grid of ``g``, resampled linearly to
    that coarse grid; :math:`\alpha` is normalized on the coarse grid, then resampled linearly to the grid of ``x``.

    Source: Schlemper, Oktay et al., *Attention gated networks: learning to leverage salient regions in medical
    images*, Medical Image Analysis 53 (2019), equations 1 and 2. How we differ from the released code: with
    ``init="open"`` a sigmoid gate starts with coefficients near 0.95 everywhere, as the papers' text says (the
    released segmentation gate starts at 0.3 to 0.9, depending on the seed: ``init="released"``); a constant score
    map gives a constant coefficient where the released code divides zero by zero; and a 2D gate accepts every
    sub-sampling factor, where the released one fails with its own default.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the skip features ``x``.
        gating_channels: channels of the gating signal ``g``.
        inter_channels: channels in which the two are added. Defaults to half of ``in_channels``, at least 1.
        sub_sample_factor: 1 or 2 (or more), one number or one per axis.
        act: :math:`\sigma_1`, a name or ``(name, kwargs)`` of MONAI's activation factory; None for none.
        normalization: :math:`\sigma_2`, one of ``ag_networks.blocks.NORMALIZATIONS``.
        output: the transform :math:`W`: ``"conv_norm"`` (1x1 convolution and normalization, as published for
            segmentation), ``"conv"``, or None (as published for classification).
        norm: normalization of the output transform.
        gating_bias: whether ``phi`` has the bias :math:`b_{xg}` (the released classification gate has none).
        init: ``"open"`` or ``"released"``.
        align_corners: convention of both linear resamplings.

    Shape:
        x (N, in_channels, *fine), g (N, gating_channels, *any grid) -> features like x, coefficients (N, 1, *fine).

    Raises:
        ValueError: for an unknown ``normalization``, ``output`` or ``init``, or a bad ``sub_sample_factor``.

    Example:
        >>> gate = AttentionGate(3, in_channels=8, gating_channels=16)
        >>> features, coefficients = gate(torch.rand(1, 8, 12, 10, 8), torch.rand(1, 16, 6, 5, 4))
        >>> tuple(features.shape), tuple(coefficients.shape)
        ((1, 8, 12, 10, 8), (1, 1, 12, 10, 8))
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        gating_channels: int,
        inter_channels: int | None = None,
        *,
        sub_sample_factor: int | Sequence[int] = 2,
        act: str | tuple | None = "relu",
        normalization: str = "sigmoid",
        output: str | None = "conv_norm",
        norm: str | tuple | None = "batch",
        gating_bias: bool = True,
        init: str = "open",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if output not in ("conv_norm", "conv", None):
            raise ValueError(f"output must be 'conv_norm', 'conv' or None, got {output!r}.")
        inter = max(in_channels // 2, 1) if inter_channels is None else inter_channels
        factor = per_axis(sub_sample_factor, spatial_dims, "sub_sample_factor")
        conv = Conv[Conv.CONV, spatial_dims]
        self.theta = conv(in_channels, inter, factor, stride=factor, bias=False)
        self.phi = conv(gating_channels, inter, 1, bias=gating_bias)
        self.psi = conv(inter, 1, 1)
        self.act = nn.Identity() if act is None else get_act_layer(act)
        self.normalization = AttentionNormalization(normalization)
        self.W: Any = nn.Identity()
        if output is not None:
            output_norm = norm if output == "conv_norm" else None
            self.W = ConvNormAct(spatial_dims, in_channels, in_channels, kernel_size=1, norm=output_norm, act=None)
        self.align_corners = align_corners
        init_gate(self, init, open_bias=normalization == "sigmoid")

    def forward(self, x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gated features and the coefficients that gated them, both on the grid of ``x``."""
        alpha = self.coefficients(x, g)
        return self.W(x * alpha), alpha

    def coefficients(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """The coefficients alone: (N, 1, *fine)."""
        local = self.theta(x)
        score = self.psi(self.act(local + resize(self.phi(g), list(local.shape[2:]), self.align_corners)))
        return resize(self.normalization(score), list(x.shape[2:]), self.align_corners)


class MultiAttentionGate(nn.Module):
    r"""Several attention gates on the same features, fused: each may attend to other structures.

    .. math:: \hat x = \sigma(\mathrm{norm}(F\,[\hat x_{(1)}, \dots, \hat x_{(m)}] + b))

    Source: Schlemper, Oktay et al. (2019), section 2.2.1, "multi-dimensional attention coefficients"; the published
    Attention U-Net uses m = 2. In evaluation the output transforms of the gates, their batch norms and the fusing
    convolution are all linear and are multiplied into one 1x1 convolution per gate, with the same result.

    Args:
        spatial_dims, in_channels, gating_channels, inter_channels: as in :class:`AttentionGate`.
        num_gates: m, at least 1.
        norm: normalization of the output transforms and of the fusing convolution.
        sub_sample_factor, act, normalization, init, align_corners: as in :class:`AttentionGate`.

    Shape:
        x (N, in_channels, *fine), g (N, gating_channels, *any grid) -> features like x,
        coefficients (N, num_gates, *fine).

    Raises:
        ValueError: if ``num_gates`` is below 1, and as :class:`AttentionGate`.

    Example:
        >>> gate = MultiAttentionGate(2, in_channels=8, gating_channels=16, num_gates=3)
        >>> gate(torch.rand(1, 8, 12, 10), torch.rand(1, 16, 6, 5))[1].shape
        torch.Size([1, 3, 12, 10])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        gating_channels: int,
        inter_channels: int | None = None,
        *,
        num_gates: int = 2,
        sub_sample_factor: int | Sequence[int] = 2,
        act: str | tuple | None = "relu",
        normalization: str = "sigmoid",
        norm: str | tuple | None = "batch",
        init: str = "open",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if num_gates < 1:
            raise ValueError(f"num_gates must be at least 1, got {num_gates}.")
        self.gates: Any = nn.ModuleList(
            AttentionGate(
                spatial_dims,
                in_channels,
                gating_channels,
                inter_channels,
                sub_sample_factor=sub_sample_factor,
                act=act,
                normalization=normalization,
                norm=norm,
                init=init,
                align_corners=align_corners,
            )
            for _ in range(num_gates)
        )
        self.fuse = ConvNormAct(spatial_dims, num_gates * in_channels, in_channels, kernel_size=1, norm=norm)
        self.in_channels = in_channels

    def forward(self, x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fused features and all coefficients, both on the grid of ``x``."""
        linear = self.fuse.folded()
        for gate in self.gates:
            linear = linear and gate.W.folded()
        if linear:
            return self._folded(x, g)
        features: list[torch.Tensor] = []
        coefficients: list[torch.Tensor] = []
        for gate in self.gates:
            gated, alpha = gate(x, g)
            features.append(gated)
            coefficients.append(alpha)
        return self.fuse(torch.cat(features, dim=1)), torch.cat(coefficients, dim=1)

    def _folded(self, x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """F W (alpha x) = alpha (F W) x for each gate: one convolution, then one scaling in place."""
        fuse, bias = self.fuse.weight_and_bias()
        assert bias is not None
        y = torch.zeros([1])
        coefficients: list[torch.Tensor] = []
        for i, gate in enumerate(self.gates):
            alpha = gate.coefficients(x, g)
            coefficients.append(alpha)
            weight, shift = gate.W.weight_and_bias()
            part = fuse[:, i * self.in_channels : (i + 1) * self.in_channels].flatten(1)
            bias = bias if shift is None else bias + part @ shift
            scaled = convolve(x, (part @ weight.flatten(1)).view_as(weight), None)
            scaled = scaled * alpha if scaled.requires_grad else scaled.mul_(alpha)
            y = scaled if i == 0 else y.add_(scaled)
        y = y.add_(bias.view([1, -1] + [1] * (x.dim() - 2)))
        return self.fuse.act(y), torch.cat(coefficients, dim=1)


def init_gate(gate: AttentionGate, init: str, *, open_bias: bool) -> None:
    """Initialize a gate: convolutions as the released code does; if "open", psi so that all positions pass."""
    if init not in ("open", "released"):
        raise ValueError(f"init must be 'open' or 'released', got {init!r}.")
    for module in gate.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and init == "released":
            nn.init.normal_(module.weight, 1.0, 0.02)
    if init == "open":
        with torch.no_grad():
            gate.psi.weight.mul_(0.01)  # small, not zero: theta and phi shall learn from the first step on
        if open_bias:
            nn.init.constant_(gate.psi.bias, math.log(OPEN / (1 - OPEN)))
