"""Attention gates that pool: one vector out of a feature map, for classification."""

import torch
import torch.nn.functional as F

from ag_networks.blocks.attention_gate import AttentionGate
from ag_networks.blocks.convolution import resize

__all__ = ["AttentionPooling"]

PIECE = 2**20  # numbers that are worked on at a time in evaluation on a CPU: 4 MiB stay near its cores


class AttentionPooling(AttentionGate):
    r"""Sum local features over their grid, weighted by the coefficients of an attention gate.

    .. math:: v = \sum_i \alpha_i x_i, \qquad \alpha = \sigma_2(\psi^T \sigma_1(W_x^T x + W_g^T g) + b_\psi)

    The gated features :math:`\alpha_i x_i` are never formed: the sum is a matrix product. With ``shifted_sum``,
    ``softmax`` and ``sum`` the coefficients of a map sum to one and v is a weighted mean; with ``sigmoid`` and
    ``range`` they do not, and v grows with the number of positions.

    Source: Schlemper, Oktay et al., *Attention-gated networks for improving ultrasound scan plane detection*, MIDL
    2018, and Medical Image Analysis 53 (2019), section 2.4. As in the released code ``phi`` has no bias, and a sigmoid
    gate starts with coefficients near 0.95. The others start with the released code's random weights: their
    coefficients do not change with the scale of psi, and small weights would only make the first steps large.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the local features ``x``.
        gating_channels: channels of the gating signal ``g``, usually the last feature map.
        inter_channels: channels in which the two are added. Defaults to half of ``in_channels``, at least 1.
        act, normalization, gating_bias, align_corners: as in :class:`~ag_networks.blocks.AttentionGate`; ``act`` may
            work in place.

    Shape:
        x (N, in_channels, *fine), g (N, gating_channels, *any grid) -> vectors (N, in_channels), coefficients
        (N, 1, *fine).

    Raises:
        ValueError: for an unknown ``normalization``.

    Example:
        >>> pooling = AttentionPooling(2, in_channels=8, gating_channels=16)
        >>> vectors, coefficients = pooling(torch.rand(3, 8, 12, 10), torch.rand(3, 16, 3, 2))
        >>> tuple(vectors.shape), tuple(coefficients.shape), round(coefficients[0].sum().item(), 3)
        ((3, 8), (3, 1, 12, 10), 1.0)
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        gating_channels: int,
        inter_channels: int | None = None,
        *,
        act: str | tuple | None = ("relu", {"inplace": True}),
        normalization: str = "shifted_sum",
        gating_bias: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            gating_channels,
            inter_channels,
            sub_sample_factor=1,
            act=act,
            normalization=normalization,
            output=None,
            gating_bias=gating_bias,
            init="open" if normalization == "sigmoid" else "released",
            align_corners=align_corners,
        )
        self.piece = PIECE

    def forward(self, x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features (N, in_channels), and the coefficients (N, 1, *fine) that pooled them."""
        coarse = self.phi(g)
        samples = self._samples_at_a_time(x, coarse.shape[1])
        if samples >= x.shape[0]:
            return self._pool(x, coarse)
        vectors: list[torch.Tensor] = []
        coefficients: list[torch.Tensor] = []
        for start in range(0, x.shape[0], samples):
            pooled, alpha = self._pool(x[start : start + samples], coarse[start : start + samples])
            vectors.append(pooled)
            coefficients.append(alpha)
        return torch.cat(vectors), torch.cat(coefficients)

    def coefficients(self, x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        """The coefficients alone: (N, 1, *fine)."""
        return self.normalization(self._score(x, self.phi(g)))

    def _pool(self, x: torch.Tensor, coarse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.normalization(self._score(x, coarse))
        return torch.bmm(x.flatten(2), alpha.flatten(2).transpose(1, 2)).squeeze(2), alpha

    def _score(self, x: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """Scores (N, 1, *fine) from x and the projected gating signal: products of matrices, a row for a position.

        The product with theta is added into the up-sampled gating signal, so that no third map is made.
        """
        total = resize(coarse, list(x.shape[2:]), self.align_corners).movedim(1, -1).flatten(0, -2)
        local, theta = x.movedim(1, -1).flatten(0, -2), self.theta.weight.flatten(1).t()
        # autocast, under which the two differ, does not reach what is done in place
        in_place = total.dtype == theta.dtype
        total = total.addmm_(local, theta) if in_place else torch.addmm(total, local, theta)
        score = F.linear(self.act(total), self.psi.weight.flatten(1), self.psi.bias)
        return score.view([x.shape[0], 1] + list(x.shape[2:]))

    def _samples_at_a_time(self, x: torch.Tensor, inter_channels: int) -> int:
        """How many samples to pool at a time: all, but in evaluation on a CPU so many as its cache holds."""
        split = x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.jit.is_tracing()
        if not torch.jit.is_scripting():
            split = split and not torch.compiler.is_compiling()  # a loop would fix the number of samples
        return max(self.piece // (x[0, 0].numel() * inter_channels), 1) if split else x.shape[0]
