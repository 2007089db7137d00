"""Attention U-Net and the U-Net that it is compared with."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv, Pool
from torch import nn

from ag_networks.blocks import AttentionGate, ConvBlock, GatingSignal, MultiAttentionGate, UpBlock
from ag_networks.blocks.convolution import convolve, fast_layout, per_axis, resize

__all__ = ["AttentionGatedUNet"]


class AttentionGatedUNet(nn.Module):
    r"""U-Net whose skip connections, all but the finest, are gated by coarser features.

    Source: Oktay, Schlemper et al., *Attention U-Net: learning where to look for the pancreas*, MIDL 2018, and
    Schlemper, Oktay et al., Medical Image Analysis 53 (2019), sections 2.2 and 2.3. With ``gates=0`` it is the
    baseline U-Net of these papers. Defaults give the published pair with four outputs: 6.40 M parameters, and 5.88 M
    without gates. How we differ from the released code: the coarsest activation map itself gates the deepest skip,
    as the text says and the published parameter count implies (the code has one more convolution: ``gating_channels``);
    gates start open (``gate_options={"init": "released"}`` for the code's way); any input size works.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of input channels.
        out_channels: number of classes; the output holds logits.
        channels: channels of every level, finest first; at least two levels.
        kernel_size: of the convolutions, odd: one number, one per axis, or one of these for every level, finest
            first.
        strides: of the pooling between levels: one number, one per axis, or one of these for every step down, finest
            first. Anisotropic scans are pooled along their coarse axis later than along the others.
        gates: sub-gates per gated skip; 0 for the plain U-Net.
        gating_channels: None for the coarsest activation map itself as gating signal, or the channels of a
            :class:`~ag_networks.blocks.GatingSignal` between the two.
        gating_source: ``"decoder"`` (each skip is gated by the next coarser decoder level) or ``"bottleneck"`` (all
            by the coarsest level).
        fuse_gates: whether the gates of a skip end in a fusing convolution; needed for more than one.
        gate_options: further keyword arguments of the gates: ``inter_channels`` (default: as many as the skip has),
            ``sub_sample_factor`` (default: the stride below the skip), ``normalization``, ``act``, ``init``.
        deep_supervision: ``"fused"`` (published: class scores of all decoder levels, up-sampled and fused by a 1x1
            convolution into one output), ``"list"`` (in training, the scores of every level, finest first, as
            ``monai.losses.DeepSupervisionLoss`` takes them; in evaluation the finest alone) or None.
        norm, act: names or ``(name, kwargs)`` of MONAI's factories.
        dropout: probability of channel dropout within each level.
        align_corners: convention of all linear resamplings (the released code was written for True).

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels, *spatial). Any spatial size: the input is zero-padded at its
        end to the next multiple of the product of all strides and the output is cropped.

    Raises:
        ValueError: for fewer than two levels, kernels or strides for another number of levels, an unknown
            ``deep_supervision`` or ``gating_source``, a negative number of gates, or several gates that are not
            fused; in ``forward`` for an input of other dimensions.

    Example:
        >>> network = AttentionGatedUNet(2, 1, 3, channels=(4, 8, 16)).eval()
        >>> network(torch.zeros(1, 1, 30, 21)).shape
        torch.Size([1, 3, 30, 21])
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        kernel_size: int | Sequence[int | Sequence[int]] = 3,
        strides: int | Sequence[int | Sequence[int]] = 2,
        gates: int = 2,
        gating_channels: int | None = None,
        gating_source: str = "decoder",
        fuse_gates: bool = True,
        gate_options: Mapping[str, Any] | None = None,
        deep_supervision: str | None = "fused",
        norm: str | tuple | None = "batch",
        act: str | tuple = ("relu", {"inplace": True}),
        dropout: float = 0.0,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        _validate(channels, gates, fuse_gates, gating_source, deep_supervision)
        kernels = _per_level(kernel_size, len(channels), spatial_dims, "kernel_size")
        steps = _per_level(strides, len(channels) - 1, spatial_dims, "strides")
        layers: dict[str, Any] = {"norm": norm, "act": act, "dropout": dropout}
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.legal_multiple = tuple(math.prod(axis) for axis in zip(*steps, strict=True))
        self.gating_from_decoder = gating_source == "decoder"
        self.deep_supervision = deep_supervision or "none"
        self.align_corners = align_corners

        widths = [in_channels, *channels]
        blocks = [
            ConvBlock(spatial_dims, i, o, kernel_size=k, **layers)
            for i, o, k in zip(widths, channels, kernels, strict=False)
        ]
        self.bottleneck = blocks.pop()
        self.encoder = nn.ModuleList(blocks)
        self.pools = nn.ModuleList(Pool[Pool.MAX, spatial_dims](step) for step in steps)
        self.gating = None
        gating_width = channels[-1]
        if gates and gating_channels is not None:
            self.gating = GatingSignal(spatial_dims, channels[-1], gating_channels, norm=norm, act=act)
            gating_width = gating_channels
        decoder = {}
        for level in range(len(channels) - 2, -1, -1):
            width = channels[level]
            gate = None
            if gates and level > 0:
                options = {"sub_sample_factor": steps[level], "norm": norm, "align_corners": align_corners}
                options.update(gate_options or {})
                gate = _gate(spatial_dims, width, gating_width, gates if fuse_gates else 0, options)
            layers.update(kernel_size=kernels[level], align_corners=align_corners)
            up = UpBlock(spatial_dims, width, channels[level + 1], width, **layers)
            head = None
            if level == 0 or deep_supervision is not None:
                head = Conv[Conv.CONV, spatial_dims](width, out_channels, 1)
            in_evaluation = level == 0 or deep_supervision == "fused"
            decoder[f"level{level}"] = _DecoderLevel(gate, up, head, in_evaluation)
            gating_width = width if self.gating_from_decoder else gating_width
        self.decoder: Any = nn.ModuleDict(decoder)
        self.fuse = None
        if deep_supervision == "fused":
            self.fuse = Conv[Conv.CONV, spatial_dims](len(decoder) * out_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """(N, in_channels, *spatial) -> logits (N, out_channels, *spatial), or a list of them, finest first."""
        if x.dim() != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"expected an input (N, {self.in_channels}) with {self.spatial_dims} spatial axes, got {x.shape}."
            )
        size = list(x.shape[2:])
        x = fast_layout(self.pad(x))
        skips: list[torch.Tensor] = []
        for level, pool in zip(self.encoder, self.pools):  # noqa: B905 - TorchScript knows no `strict`
            x = level(x)
            skips.append(x)
            x = pool(x)
        x = self.bottleneck(x)
        g = x if self.gating is None else self.gating(x)
        scores: list[torch.Tensor] = []
        for level in self.decoder.values():
            x = level(skips.pop(), x, g)
            if level.head is not None and (level.scores_in_evaluation or self.training):
                scores.append(level.head(x))
            if self.gating_from_decoder:
                g = x
        scores.reverse()
        if self.fuse is not None:
            return self.crop(self._fused(scores), size)
        if self.deep_supervision == "list" and self.training:
            return [self.crop(score, size) for score in scores]
        return self.crop(scores[0], size)

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """Zero-pad the end of every spatial axis to the next legal size."""
        padding: list[int] = []
        for axis in range(self.spatial_dims, 0, -1):
            padding += [0, -x.shape[axis + 1] % self.legal_multiple[axis - 1]]
        return F.pad(x, padding) if max(padding) > 0 else x

    def crop(self, x: torch.Tensor, size: list[int]) -> torch.Tensor:
        """Cut what :meth:`pad` has added, also on the grid of a coarser level (rounded up)."""
        for axis in range(self.spatial_dims):
            legal = self.legal_multiple[axis]
            padded = -(-size[axis] // legal) * legal
            x = x.narrow(axis + 2, 0, -(-size[axis] * x.shape[axis + 2] // padded))
        return x

    def _fused(self, scores: list[torch.Tensor]) -> torch.Tensor:
        """1x1 convolution of all scores, finest first; on each grid before the up-sampling, with which it commutes."""
        assert self.fuse is not None
        classes = scores[0].shape[1]
        fused = convolve(scores[0], self.fuse.weight[:, :classes], self.fuse.bias)
        for i, score in enumerate(scores[1:], 1):
            part = convolve(score, self.fuse.weight[:, i * classes : (i + 1) * classes], None)
            fused = fused.add_(resize(part.contiguous(), list(fused.shape[2:]), self.align_corners))
        return fused


class _DecoderLevel(nn.Module):
    """One decoder level: gate the skip connection if there is a gate, merge it with the up-sampled coarser level."""

    def __init__(self, gate: nn.Module | None, up: UpBlock, head: nn.Module | None, scores_in_evaluation: bool) -> None:
        super().__init__()
        self.gate = gate
        self.up = up
        self.head = head
        self.scores_in_evaluation = scores_in_evaluation

    def forward(self, skip: torch.Tensor, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        if self.gate is not None:
            skip = self.gate(skip, g)[0]
        return self.up(skip, x)


def _per_level(
    value: int | Sequence[int | Sequence[int]], levels: int, spatial_dims: int, name: str
) -> list[tuple[int, ...]]:
    """One integer per axis for every level; a sequence that holds sequences names the levels."""
    if isinstance(value, int) or all(isinstance(v, int) for v in value):
        return [per_axis(value, spatial_dims, name)] * levels  # type: ignore[arg-type]
    if len(value) != levels:
        raise ValueError(f"{name} by level must have {levels} entries for these channels, got {value}.")
    return [per_axis(v, spatial_dims, name) for v in value]


def _gate(
    spatial_dims: int, channels: int, gating_channels: int, num_gates: int, options: dict[str, Any]
) -> AttentionGate | MultiAttentionGate:
    """The gate of one skip; `num_gates` 0 stands for one gate that is not fused."""
    options = {"inter_channels": channels, **options}
    if num_gates:
        return MultiAttentionGate(spatial_dims, channels, gating_channels, num_gates=num_gates, **options)
    return AttentionGate(spatial_dims, channels, gating_channels, **options)


def _validate(
    channels: Sequence[int], gates: int, fuse_gates: bool, gating_source: str, deep_supervision: str | None
) -> None:
    if len(channels) < 2:
        raise ValueError(f"channels must name at least two levels, got {tuple(channels)}.")
    if gates < 0 or (gates > 1 and not fuse_gates):
        raise ValueError(f"gates must be 0, 1 or, if fused, more; got gates={gates}, fuse_gates={fuse_gates}.")
    if gating_source not in ("decoder", "bottleneck"):
        raise ValueError(f"gating_source must be 'decoder' or 'bottleneck', got {gating_source!r}.")
    if deep_supervision not in ("fused", "list", None):
        raise ValueError(f"deep_supervision must be 'fused', 'list' or None, got {deep_supervision!r}.")
