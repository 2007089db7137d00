"""Normalizations of attention scores over a grid."""

import torch
from torch import nn

__all__ = ["NORMALIZATIONS", "AttentionNormalization"]

NORMALIZATIONS = ("sigmoid", "softmax", "shifted_sum", "sum", "range")


class AttentionNormalization(nn.Module):
    r"""Turn a score map q of n positions into attention coefficients :math:`\alpha`.

    ============== ==================================== ================ ======================
    name           :math:`\alpha_i`                     sum of a map     name in the released code
    ============== ==================================== ================ ======================
    ``sigmoid``     1 / (1 + exp(-q_i))                 free             concatenation_sigmoid
    ``softmax``     exp(q_i) / sum exp(q)               1                concatenation_softmax
    ``shifted_sum`` (q_i - min q) / sum(q - min q)      1                concatenation_mean_flow
    ``sum``         q_i / sum q                         1, signs free    concatenation_mean
    ``range``       (q_i - min q) / (max q - min q)     free             concatenation_range_normalise
    ============== ==================================== ================ ======================

    Sources: sigmoid and softmax, Schlemper, Oktay et al. (2019), section 2.2; shifted sum, there in section 2.4 (the
    default of AG-SonoNet). The released code gives NaN on a constant map for ``shifted_sum`` and ``range``; here the
    first is uniform (1 / n) and the second is 1, the limits that pass all positions alike.

    Args:
        name: one of the names above.

    Shape:
        (N, C, *spatial) -> the same; every channel of every sample is normalized by itself.

    Raises:
        ValueError: for another name.

    Example:
        >>> AttentionNormalization("shifted_sum")(torch.tensor([[[[1.0, 2.0, 4.0]]]]))
        tensor([[[[0.0000, 0.2500, 0.7500]]]])
    """

    def __init__(self, name: str = "sigmoid") -> None:
        super().__init__()
        if name not in NORMALIZATIONS:
            raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {name!r}.")
        self.name = name

    def forward(self, score: torch.Tensor) -> torch.Tensor:
        """Coefficients on the grid of the scores."""
        if self.name == "sigmoid":
            return torch.sigmoid(score)
        q = score.flatten(2)
        if q.dtype == torch.float16 or q.dtype == torch.bfloat16:
            q = q.float()  # a sum over a large grid leaves the range of half precision
        if self.name == "softmax":
            alpha = torch.softmax(q, dim=2)
        elif self.name == "sum":
            alpha = _divide(q, q.sum(dim=2, keepdim=True), 1.0 / q.shape[2])
        else:
            alpha = _from_zero(q, 8 * _epsilon(score.dtype))
            if self.name == "shifted_sum":
                alpha = _divide(alpha, alpha.sum(dim=2, keepdim=True), 1.0 / q.shape[2])
            else:
                alpha = _divide(alpha, alpha.amax(dim=2, keepdim=True), 1.0)
        return alpha.to(score.dtype).view_as(score)

    def extra_repr(self) -> str:
        """The name, for the printed network."""
        return self.name


def _from_zero(q: torch.Tensor, rounding: float) -> torch.Tensor:
    """`q - min q`; exactly zero where the map is constant up to the rounding of the convolutions that made it."""
    shifted = q - q.amin(dim=2, keepdim=True)
    flat = shifted.amax(dim=2, keepdim=True) <= rounding * q.abs().amax(dim=2, keepdim=True)
    return shifted.masked_fill(flat, 0.0)


def _divide(shifted: torch.Tensor, total: torch.Tensor, constant: float) -> torch.Tensor:
    """`shifted / total`, and `constant` where the total is zero, that is for a constant map."""
    flat = total == 0
    return (shifted / total.masked_fill(flat, 1.0)).masked_fill(flat, constant)


def _epsilon(dtype: torch.dtype) -> float:
    """``torch.finfo(dtype).eps``, which TorchScript does not know."""
    if dtype == torch.float64:
        return 2.0**-52
    if dtype == torch.float32:
        return 2.0**-23
    return 2.0**-10 if dtype == torch.float16 else 2.0**-7
