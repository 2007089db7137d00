"""Segmentation scores of one case in millimetres: overlap, surface distances, volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial import KDTree

__all__ = ["SCORE_NAMES", "CaseScores", "score_case"]

SCORE_NAMES = ("dsc", "precision", "recall", "s2s_mm", "nsd", "hd95_mm")

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CaseScores:
    """Scores of one class in one case; :func:`score_case` makes it.

    Args:
        dsc: Dice similarity coefficient, in [0, 1].
        precision: share of the predicted voxels that are right, in [0, 1].
        recall: share of the reference voxels that were found, in [0, 1].
        s2s_mm: mean symmetric surface distance in millimetres.
        nsd: normalized surface Dice at ``tolerance_mm``, in [0, 1].
        hd95_mm: 95th percentile Hausdorff distance in millimetres.
        prediction_ml: predicted volume in millilitres (``nan`` for a 2D case).
        reference_ml: reference volume in millilitres (``nan`` for a 2D case).
        tolerance_mm: tolerance of ``nsd`` in millimetres.
        failed: whether the case counts as a failure; its scores are then the worst possible ones.
        reason: why it failed; empty otherwise.
    """

    dsc: float
    precision: float
    recall: float
    s2s_mm: float
    nsd: float
    hd95_mm: float
    prediction_ml: float
    reference_ml: float
    tolerance_mm: float
    failed: bool = False
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in order, as plain Python values."""
        return asdict(self)


def score_case(
    prediction: ArrayLike,
    reference: ArrayLike,
    *,
    spacing: Sequence[float],
    label: int = 1,
    tolerance_mm: float = 2.0,
    valid: ArrayLike | None = None,
) -> CaseScores:
    r"""Score one class of one case against its reference, on the voxel grid that both share.

    With :math:`P` and :math:`R` the predicted and the reference voxels, DSC is
    :math:`2|P \cap R| / (|P| + |R|)`, precision :math:`|P \cap R| / |P|`, recall :math:`|P \cap R| / |R|`.

    The surface of a mask is the set of its voxels with a face neighbor outside the mask; beyond the image is outside.
    A surface distance runs from the center of a surface voxel to the nearest surface voxel of the other mask,
    in millimetres. S2S is the mean of these distances over the voxels of both surfaces together, NSD the share of them
    within ``tolerance_mm``, HD95 the larger one of the two directed 95th percentiles. They agree with MONAI's
    ``compute_average_surface_distance(symmetric=True)``, ``compute_surface_dice`` and ``compute_hausdorff_distance``
    when those are given the spacing.

    "S2S" is the papers' word for a distance between surfaces in 3D, and that is what is computed here. The original
    code's function of that name measures a distance between contours slice by slice; its numbers differ.

    A failure counts as a failure, not as missing:

    - Exactly one of the two masks is empty: ``failed``; DSC, precision, recall and NSD are 0 and the distances are
      the diagonal of the image in millimetres, which no real distance reaches.
    - Both are empty: a correct answer; DSC, precision, recall and NSD are 1 and the distances 0.

    With ``valid``, voxels elsewhere are unknown and take no part: all scores, volumes and emptiness are those of the
    known voxels. A surface is then the border between known foreground and known background, so on sparsely annotated
    slices it is their contours, and the planes between them (or beyond the image) never pass for a surface.

    Args:
        prediction: booleans or labels, 2D or 3D, without channel dimension.
        reference: booleans or labels of the same shape.
        spacing: voxel size in millimetres along each array axis.
        label: the label to score in arrays that are not boolean.
        tolerance_mm: tolerance of NSD in millimetres. The default of 2 mm is one voxel of the papers' grid.
        valid: booleans of the same shape, true where the reference is known. ``None``: known everywhere.

    Raises:
        ValueError: if shapes differ, an array is not 2D or 3D, an array holds fractions or NaN (probabilities, logits),
            the spacing does not fit, the tolerance is negative, or no voxel is known.

    Example:
        >>> import numpy as np
        >>> reference = np.zeros((8, 8, 8), bool)
        >>> reference[2:5, 2:5, 2:5] = True
        >>> scores = score_case(np.roll(reference, 1, axis=2), reference, spacing=(1.0, 1.0, 3.0))
        >>> round(scores.dsc, 3), round(scores.reference_ml, 3), scores.hd95_mm
        (0.667, 0.081, 3.0)
    """
    predicted, expected = _as_mask(prediction, label, "prediction"), _as_mask(reference, label, "reference")
    known = None if valid is None else np.asarray(valid, dtype=bool)
    _check(predicted, expected, known, spacing, tolerance_mm)
    if known is not None:
        predicted, expected = predicted & known, expected & known

    volume_ml = math.prod(spacing) / 1000 if predicted.ndim == 3 else math.nan
    n_predicted, n_expected = int(predicted.sum()), int(expected.sum())
    shared: dict[str, Any] = {
        "prediction_ml": n_predicted * volume_ml,
        "reference_ml": n_expected * volume_ml,
        "tolerance_mm": float(tolerance_mm),
    }
    if not n_predicted and not n_expected:
        return CaseScores(dsc=1.0, precision=1.0, recall=1.0, s2s_mm=0.0, nsd=1.0, hd95_mm=0.0, **shared)
    if not n_predicted or not n_expected:
        diagonal = math.hypot(*(size * step for size, step in zip(predicted.shape, spacing, strict=True)))
        worst = {"dsc": 0.0, "precision": 0.0, "recall": 0.0, "s2s_mm": diagonal, "nsd": 0.0, "hd95_mm": diagonal}
        reason = "empty prediction" if n_expected else "prediction although the reference is empty"
        return CaseScores(**worst, **shared, failed=True, reason=reason)

    hits = int((predicted & expected).sum())
    forward, backward = _surface_distances(predicted, expected, known, spacing)
    distances = np.concatenate([forward, backward])
    return CaseScores(
        dsc=2 * hits / (n_predicted + n_expected),
        precision=hits / n_predicted,
        recall=hits / n_expected,
        s2s_mm=float(distances.mean()),
        # A distance of exactly the tolerance must count although products of the spacing are rounded.
        nsd=float((distances <= tolerance_mm + 1e-6).mean()),
        hd95_mm=float(max(np.percentile(forward, 95), np.percentile(backward, 95))),
        **shared,
    )


def _as_mask(array: ArrayLike, label: int, name: str) -> Mask:
    values = np.asarray(array)
    if values.dtype == bool:
        return values
    if np.issubdtype(values.dtype, np.floating) and not np.array_equal(values, np.rint(values)):
        raise ValueError(
            f"the {name} must hold labels (whole numbers) or booleans, but it holds fractions or NaN: "
            "take the argmax or a threshold of probabilities first"
        )
    return np.asarray(values == label)


def _check(predicted: Mask, expected: Mask, known: Mask | None, spacing: Sequence[float], tolerance_mm: float) -> None:
    shape = expected.shape
    if predicted.shape != shape:
        raise ValueError(f"the prediction has shape {predicted.shape}, but the reference has shape {shape}")
    if known is not None and known.shape != shape:
        raise ValueError(f"the valid mask has shape {known.shape}, but the reference has shape {shape}")
    if len(shape) not in (2, 3):
        raise ValueError(f"expected 2D or 3D arrays without channel dimension, got shape {shape}")
    if len(spacing) != len(shape) or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"expected {len(shape)} positive spacings in mm, one per axis, got {tuple(spacing)}")
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise ValueError(f"expected a tolerance in mm that is not negative, got {tolerance_mm}")
    if known is not None and not known.any():
        raise ValueError("the valid mask is false everywhere: there is nothing to score")


def _surface_distances(
    predicted: Mask, expected: Mask, known: Mask | None, spacing: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distances from the predicted to the expected surface and back.

    Nearest-neighbor trees of the surface voxels are several times faster than distance transforms of the volume, and
    do not slow down when a false positive far away widens the bounding box.
    """
    box = _bounding_box(predicted | expected)
    cropped = None if known is None else known[box]
    here, there = (
        np.argwhere(_surface(mask[box], cropped)) * np.asarray(spacing, float) for mask in (predicted, expected)
    )
    return KDTree(there).query(here)[0], KDTree(here).query(there)[0]


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Return the box of the mask with a margin of one voxel, so that neighbors just outside can be seen."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(int(used[0]) - 1, 0), int(used[-1]) + 2))
    return tuple(box)


def _surface(mask: Mask, known: Mask | None) -> Mask:
    if known is not None:
        surface = mask & ~binary_erosion(mask | ~known, border_value=1)
        if surface.any():
            return surface
        # The mask fills all that is known: only where the known part ends can its surface be.
    return np.asarray(mask & ~binary_erosion(mask))
