"""AG-SonoNet: SonoNet with attention pooling of its finer feature maps."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ag_networks.blocks import AttentionPooling
from ag_networks.blocks.convolution import convolve
from ag_networks.nets.sononet import SonoNetFeatures, adaptation_layers, sononet_channels

__all__ = ["AGGREGATIONS", "AttentionGatedSonoNet"]

AGGREGATIONS = ("mean", "max", "concat", "deep_supervision", "fine_tune")
SCALES = 3


class AttentionGatedSonoNet(nn.Module):
    r"""SonoNet that classifies at three scales: two pooled by attention gates, the coarsest by its mean.

    .. math::
        v_s = \sum_i \alpha_i^s x_i^s \; (s = 1, 2), \qquad v_3 = \frac{1}{n} \sum_i x_i^3

    x\ :sup:`1` and x\ :sup:`2` are the maps of the third and fourth stage before their pooling ("layers 11 and 14"),
    gated by x\ :sup:`3`, the last map, on its own grid. Adaptation layers there are none, unless asked for.

    ===================== =============================================== ====================== ======================
    ``aggregation``       scores in evaluation                            output in training     name in the released
                                                                                                 code
    ===================== =============================================== ====================== ======================
    ``mean``              log of the mean of the three softmaxes          [p1, p2, p3]           mean
    ``max``               log of the largest of the three softmaxes       [p1, p2, p3]           mean
    ``concat``            one linear layer on [v1, v2, v3]                scores                 concat (broken there)
    ``deep_supervision``  the same                                        [scores, p1, p2, p3]   deep_sup
    ``fine_tune``         one linear layer on the logits [p1, p2, p3]     scores                 ft
    ===================== =============================================== ====================== ======================

    p\ :sub:`s` are the logits of scale s, a linear layer on v\ :sub:`s`. In evaluation the output is always one
    tensor whose softmax is the prediction (for ``max`` the softmax divides the largest probabilities by their sum).
    In training the lists are meant for a (weighted) sum of losses: weights 1, 1, 1 for ``mean`` and 1, 0.1, 0.1, 0.1
    for ``deep_supervision`` in the released configurations.

    Source: Schlemper, Oktay et al., *Attention-gated networks for improving ultrasound scan plane detection*, MIDL
    2018, and Medical Image Analysis 53 (2019), section 2.4. ``mean`` is their AG-Sononet (0.18, 0.70 and 2.79 M
    parameters for 8, 16 and 32 filters and 14 classes), the last two are AG-Sononet-DS and -FT; MIDL describes -FT as
    the released code computes it, the later text describes ``concat``. How we differ: the layer of ``fine_tune``
    starts as the mean of the three logits, so that a warm start goes on from where the other network was; and a
    constant score map gives uniform coefficients where the released code divides zero by zero.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of input channels.
        out_channels: number of classes.
        filters, convolutions, bias, norm, act: as in :class:`~ag_networks.nets.SonoNet`.
        aggregation: how the scales are combined, see above.
        adaptation: whether the coarsest scale classifies through SonoNet's adaptation layers in place of a linear
            layer, p\ :sub:`3` being SonoNet's logits, and the layer of ``fine_tune`` starts with p\ :sub:`3` alone:
            a warm start from SonoNet then begins with its very predictions. Not in the papers.
        inter_channels: of both gates. Defaults to 8F.
        normalization: of the coefficients, one of ``ag_networks.blocks.NORMALIZATIONS``.
        align_corners: convention of the linear resampling in the gates (the released code was written for True).

    Shape:
        (N, in_channels, *spatial) -> (N, out_channels), or in training a list of these, see above. Any spatial size
        from 16 on along every axis.

    Raises:
        ValueError: for an unknown ``aggregation`` or ``normalization``, for adaptation layers with ``concat``, and as
            :class:`~ag_networks.nets.SonoNet`.

    Example:
        >>> network = AttentionGatedSonoNet(2, 1, 14, filters=8).eval()
        >>> scores, coefficients, activation = network.with_maps(torch.rand(1, 1, 64, 48))
        >>> tuple(scores.shape), [tuple(c.shape) for c in coefficients], tuple(activation.shape)
        ((1, 14), [(1, 1, 16, 12), (1, 1, 8, 6)], (1, 14, 4, 3))
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
        aggregation: str = "mean",
        adaptation: bool = False,
        inter_channels: int | None = None,
        normalization: str = "shifted_sum",
        norm: str | tuple | None = "batch",
        act: str | tuple = ("relu", {"inplace": True}),
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}.")
        if adaptation and aggregation == "concat":
            raise ValueError("aggregation 'concat' classifies all scales together: it has no place for adaptation.")
        self.aggregation = aggregation
        self.features = SonoNetFeatures(
            spatial_dims, in_channels, filters=filters, convolutions=convolutions, bias=bias, norm=norm, act=act
        )
        widths = sononet_channels(filters)[-SCALES:]
        inter = widths[-1] if inter_channels is None else inter_channels
        # Any: mypy types the attributes of a module as Tensor or Module
        self.gates: Any = nn.ModuleList(
            AttentionPooling(
                spatial_dims, width, widths[-1], inter, normalization=normalization, align_corners=align_corners
            )
            for width in widths[:-1]
        )
        scales = () if aggregation == "concat" else widths[: SCALES - adaptation]
        self.classifiers: Any = nn.ModuleList(nn.Linear(width, out_channels) for width in scales)
        self.adaptation: Any = None
        if adaptation:
            self.adaptation = adaptation_layers(spatial_dims, filters, out_channels, act=act, norm=norm, bias=bias)
        self.joint: Any = None
        if aggregation in ("concat", "deep_supervision"):
            self.joint = nn.Linear(sum(widths), out_channels)
        elif aggregation == "fine_tune":
            self.joint = _combination([0.0, 0.0, 1.0] if adaptation else [1 / SCALES] * SCALES, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """(N, in_channels, *spatial) -> scores (N, out_channels), or in training a list of logits."""
        maps = self.features(x)
        vectors, _ = self._pooled(maps)
        logits = self._logits(vectors, maps[2])
        if self.training and self.aggregation in ("mean", "max", "deep_supervision"):
            return logits if self.joint is None else [self.joint(torch.cat(vectors, dim=1))] + logits
        return self._scores(vectors, logits)

    @torch.jit.export
    def with_maps(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Scores, attention coefficients of both gates and the class activation map, all from one pass.

        The class activation map is the classifier of the coarsest scale applied at every position of the last map
        instead of to its mean. Its mean over the grid is therefore what that scale contributes: p3 (``mean``, ``max``,
        ``deep_supervision``), the part of the scores that comes from p3 (``fine_tune``) or from v3 (``concat``, which
        has one bias for all scales: it is left out).

        Returns:
            scores (N, out_channels) as in evaluation; coefficients [(N, 1, *spatial/4), (N, 1, *spatial/8)]; class
            activation map (N, out_channels, *spatial/16).
        """
        maps = self.features(x)
        vectors, coefficients = self._pooled(maps)
        return self._scores(vectors, self._logits(vectors, maps[2])), coefficients, self._activation(maps[2])

    def _pooled(self, maps: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Vectors (N, channels) of the three scales, and the coefficients of the gated ones."""
        g = maps[2]
        vectors: list[torch.Tensor] = []
        coefficients: list[torch.Tensor] = []
        for i, gate in enumerate(self.gates):
            pooled, alpha = gate(maps[i], g)
            vectors.append(pooled)
            coefficients.append(alpha)
        vectors.append(g.flatten(2).mean(dim=2))
        return vectors, coefficients

    def _logits(self, vectors: list[torch.Tensor], coarsest: torch.Tensor) -> list[torch.Tensor]:
        """Logits of every scale; none for ``concat``."""
        logits: list[torch.Tensor] = []
        for i, classifier in enumerate(self.classifiers):
            logits.append(classifier(vectors[i]))
        if self.adaptation is not None:
            logits.append(self.adaptation(coarsest).flatten(2).mean(dim=2))
        return logits

    def _scores(self, vectors: list[torch.Tensor], logits: list[torch.Tensor]) -> torch.Tensor:
        """Scores (N, out_channels) whose softmax is the prediction."""
        if self.joint is None:
            log_probabilities = F.log_softmax(torch.stack(logits), dim=2)
            if self.aggregation == "max":
                return log_probabilities.amax(dim=0)
            return log_probabilities.logsumexp(dim=0) - math.log(len(vectors))
        return self.joint(torch.cat(logits if self.aggregation == "fine_tune" else vectors, dim=1))

    def _activation(self, coarsest: torch.Tensor) -> torch.Tensor:
        """The classifier of the coarsest scale at every position of its map."""
        joint = torch.zeros([0])
        if self.joint is not None:
            joint = self.joint.weight
        if self.aggregation == "concat":
            return _at_every_position(coarsest, joint[:, -coarsest.shape[1] :], None)
        if self.adaptation is not None:
            maps = self.adaptation(coarsest)
        else:
            weight = bias = torch.zeros([0])
            for classifier in self.classifiers:  # the last one stays
                weight, bias = classifier.weight, classifier.bias
            maps = _at_every_position(coarsest, weight, bias)
        if self.aggregation == "fine_tune":
            return _at_every_position(maps, joint[:, -maps.shape[1] :], None)
        return maps


def _at_every_position(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A linear layer on the channels."""
    return convolve(x, weight.view(list(weight.shape) + [1] * (x.dim() - 2)), bias)


def _combination(weights: Sequence[float], classes: int) -> nn.Linear:
    """Linear layer on concatenated logits that starts as their weighted sum."""
    layer = nn.Linear(len(weights) * classes, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([weight * torch.eye(classes) for weight in weights], dim=1))
        layer.bias.zero_()
    return layer
