"""How much of a weight map lies in annotated boxes, against chance."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ag_networks.metrics.attention_focus import AttentionFocus

__all__ = ["map_share"]


def map_share(values: ArrayLike, boxes: Sequence[Sequence[float]], *, valid: ArrayLike | None = None) -> AttentionFocus:
    r"""Share of a map's sum inside boxes, :math:`\sum_i c_i w_i / \sum_i w_i`, with the share of the area they cover.

    :math:`c_i` is how much of pixel i lies in a box, so that boxes smaller than a pixel count too; pixels in several
    boxes count once. ``gain``, share over chance, is 1 for a map that is the same everywhere.

    Args:
        values: a map (H, W), not negative.
        boxes: (top, left, bottom, right) on the map's grid, edges, the last two behind the last pixel; what lies
            outside is cut. `ag_networks.transforms.box_on_frame` with the inverse affine of the network's input brings
            boxes of a photograph there.
        valid: booleans (H, W); pixels elsewhere take no part, such as the black around the field of a fundus
            photograph, which a map can leave out without looking at anything.

    Raises:
        ValueError: if the map is not 2D, negative or zero, or if the boxes cover nothing of it or all of it.

    Example:
        >>> map_share([[3.0, 1.0], [1.0, 1.0]], [(0, 0, 1, 1)])
        AttentionFocus(share=0.5, chance=0.25, contrast=2.0)
    """
    weights = np.asarray(values, np.float64)
    known = np.ones(weights.shape, bool) if valid is None else np.asarray(valid, bool)
    if weights.ndim != 2 or known.shape != weights.shape or not len(boxes):
        raise ValueError(
            f"expected a 2D map, a mask of its shape and boxes, got {weights.shape}, {known.shape}, {len(boxes)}."
        )
    covered = np.max([_coverage(box, weights.shape) for box in boxes], axis=0)[known]
    weights = weights[known]
    inside, mass = float(covered.sum()), float(weights.sum())
    outside = covered.size - inside
    if inside <= 0 or outside <= 0 or mass <= 0 or weights.min() < 0:
        raise ValueError("expected boxes that cover a part of the map, and weights above zero.")
    within = float((covered * weights).sum())
    return AttentionFocus(
        share=within / mass, chance=inside / covered.size, contrast=within / inside - (mass - within) / outside
    )


def _coverage(box: Sequence[float], shape: tuple[int, ...]) -> np.ndarray:
    """How much of each pixel lies in the box."""
    rows, columns = (
        np.clip(np.minimum(high, np.arange(n) + 1) - np.maximum(low, np.arange(n)), 0, None)
        for low, high, n in zip(box[:2], box[2:], shape, strict=True)
    )
    return np.outer(rows, columns)
