"""The cost of a network with a global attention map."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["MapPenaltyLoss"]


class MapPenaltyLoss(nn.Module):
    r"""A classification loss plus the L1 norm of the network's map: :math:`\mathcal{L} + \lambda |M|`.

    Once the map is frozen, its norm is a constant and does not count.

    Source: Xu et al., arXiv 2007.15897, equation 1.

    Args:
        loss: called with predictions and labels.
        attention: the network's :class:`~ag_networks.blocks.GlobalSpatialAttention`.
        weight: :math:`\lambda`, at least 0; the paper tries 0.0001 to 0.1, and 1 to 100,000 for free pixel weights.
        reduction: ``"mean"`` over the pixels, or ``"sum"``: see
            :meth:`~ag_networks.blocks.GlobalSpatialAttention.penalty`.

    Raises:
        ValueError: for a negative weight, another reduction, or a network instead of its attention.

    Example:
        >>> from ag_networks.blocks import GlobalSpatialAttention, PixelWeights
        >>> attention = GlobalSpatialAttention((2, 2))
        >>> attention.learn(PixelWeights((2, 2)))
        >>> loss = MapPenaltyLoss(nn.MSELoss(), attention, weight=10.0)
        >>> images = attention(torch.zeros(1, 1, 2, 2))
        >>> loss(images, torch.zeros(1, 1, 2, 2)).item()  # the weights are ones
        10.0
    """

    def __init__(self, loss: nn.Module, attention: nn.Module, *, weight: float = 0.01, reduction: str = "mean") -> None:
        super().__init__()
        if not 0 <= weight < float("inf") or reduction not in ("mean", "sum"):
            raise ValueError(f"expected a weight from 0 and reduction mean or sum, got {weight} and {reduction!r}.")
        penalty: Any = getattr(attention, "penalty", None)
        if not callable(penalty):
            raise ValueError(f"expected a GlobalSpatialAttention, got a {type(attention).__name__}.")
        self.loss = loss
        # not a submodule: moving the loss must not move the network
        self.penalty: Callable[[str], torch.Tensor] = penalty
        self.weight = weight
        self.reduction = reduction

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the cost of a batch."""
        return self.loss(prediction, target) + self.weight * self.penalty(self.reduction)
