"""How much of what attention gates let pass lies at an organ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt

__all__ = ["AttentionFocus", "attention_focus"]


@dataclass(frozen=True)
class AttentionFocus:
    """Where the mass of one coefficient map lies.

    Args:
        share: share of the map's mass inside the dilated organ, in [0, 1].
        chance: share of the positions that lie there: the `share` of a constant map.
        contrast: mean coefficient inside the dilated organ minus mean coefficient outside, in [-1, 1].
    """

    share: float
    chance: float
    contrast: float

    @property
    def gain(self) -> float:
        """`share` over `chance`: 1 for a map that looks everywhere alike."""
        return self.share / self.chance


def attention_focus(
    coefficients: ArrayLike,
    organ: ArrayLike,
    *,
    spacing: Sequence[float],
    dilation_mm: float = 10.0,
    valid: ArrayLike | None = None,
) -> AttentionFocus:
    r"""Share of the coefficients' mass inside the dilated organ, :math:`\sum_{i \in D} \alpha_i / \sum_i \alpha_i`.

    Source: the numbers behind the figure of attention over training epochs of Oktay, Schlemper et al., *Attention
    U-Net*, MIDL 2018 (figure 3 there shows pictures only). The share of a constant map is the share of the positions,
    so a share means nothing without `chance`.

    Args:
        coefficients: a map on the grid of `organ`, not negative.
        organ: booleans, 2D or 3D.
        spacing: size of a voxel in millimeters along each axis.
        dilation_mm: positions this near to the organ count as inside.
        valid: booleans; positions elsewhere are unknown and take no part.

    Raises:
        ValueError: if shapes differ, the organ is empty, or the coefficients are negative or all zero.
    """
    alpha, mask = np.asarray(coefficients, np.float64), np.asarray(organ, bool)
    if alpha.shape != mask.shape or mask.ndim not in (2, 3) or len(spacing) != mask.ndim:
        raise ValueError(
            f"expected a map and an organ of one 2D or 3D shape and a spacing for it, got {alpha.shape}, {mask.shape}, "
            f"{tuple(spacing)}."
        )
    known = np.ones(mask.shape, bool) if valid is None else np.asarray(valid, bool)
    inside = _dilated(mask & known, spacing, dilation_mm) & known
    outside = known & ~inside
    mass = float(alpha[known].sum())
    if not inside.any() or not outside.any() or mass <= 0 or alpha.min() < 0:
        raise ValueError("expected an organ that fills a part of the map, and coefficients above zero.")
    return AttentionFocus(
        share=float(alpha[inside].sum()) / mass,
        chance=int(inside.sum()) / int(known.sum()),
        contrast=float(alpha[inside].mean() - alpha[outside].mean()),
    )


def _dilated(mask: NDArray[np.bool_], spacing: Sequence[float], distance_mm: float) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    near: NDArray[np.bool_] = distance_transform_edt(~mask, sampling=spacing) <= distance_mm
    return near
