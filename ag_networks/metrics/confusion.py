"""Confusion matrices, the scores that follow from them, and their bootstrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_confusion", "confusion_matrices", "confusion_scores", "draw_groups"]

LEVEL = 0.95
CHUNK = 100  # draws at a time: thousands of draws of thousands of subjects would not fit into memory


def confusion_matrices(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], groups: NDArray[np.int64], *, classes: int
) -> NDArray[np.int64]:
    """Count (label, prediction) for every group of images.

    Args:
        labels, predictions: class index of every image.
        groups: number of every image's group, from 0 on, such as its subject.
        classes: number of classes.

    Returns:
        counts (groups, classes, classes); rows are labels, columns predictions.
    """
    counts = np.zeros((int(groups.max()) + 1, classes, classes), dtype=np.int64)
    np.add.at(counts, (groups, labels, predictions), 1)
    return counts


def confusion_scores(confusion: NDArray[np.generic]) -> dict[str, NDArray[np.float64]]:
    r"""Return the scores of one or many confusion matrices.

    ``quadratic_kappa`` is :math:`1 - \sum w_{ij} O_{ij} / \sum w_{ij} E_{ij}` with :math:`w_{ij} = (i - j)^2` and E the
    counts expected from the margins (Cohen 1968). Where all labels and all predictions are one and the same class, the
    quotient is 0/0 and kappa is taken as 1. Absent classes are treated as in ``score_classification``.

    Args:
        confusion: (..., classes, classes), rows are labels.

    Returns:
        ``precision``, ``recall`` and ``f1`` (..., classes), ``nan`` for absent classes; ``accuracy``,
        ``macro_precision``, ``macro_recall``, ``macro_f1`` and ``quadratic_kappa`` (...).

    Example:
        >>> float(confusion_scores(np.array([[2, 1], [0, 3]]))["accuracy"].round(3))
        0.833
    """
    counts = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, predicted, total = counts.sum(axis=-1), counts.sum(axis=-2), counts.sum(axis=(-2, -1))
    present = support > 0
    scores = {
        "precision": np.where(present, hits / np.maximum(predicted, 1), np.nan),
        "recall": np.where(present, hits / np.maximum(support, 1), np.nan),
        "f1": np.where(present, 2 * hits / np.maximum(support + predicted, 1), np.nan),
    }
    macro = {f"macro_{name}": np.nansum(values, axis=-1) / present.sum(axis=-1) for name, values in scores.items()}
    grade = np.arange(counts.shape[-1])
    weights = (grade[:, None] - grade[None, :]) ** 2
    observed = (weights * counts).sum(axis=(-2, -1))
    expected = (weights * support[..., :, None] * predicted[..., None, :]).sum(axis=(-2, -1)) / total
    kappa = 1 - observed / np.where(expected > 0, expected, 1)
    return {**scores, **macro, "accuracy": hits.sum(axis=-1) / total, "quadratic_kappa": kappa}


def bootstrap_confusion(
    by_group: NDArray[np.int64], names: Sequence[str], *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Return the 95 % percentile interval of scores when groups are drawn with replacement.

    A class of which a draw has no image is left out of the means of that draw.

    Args:
        by_group: counts (groups, classes, classes) of :func:`confusion_matrices`.
        names: which of the scores of :func:`confusion_scores`.
        resamples: number of draws.
        seed: of the draws.
    """
    drawn = confusion_scores(draw_groups(by_group, resamples=resamples, seed=seed))
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    return {name: tuple(np.percentile(drawn[name], tails).tolist()) for name in names}


def draw_groups(by_group: NDArray[np.int64], *, resamples: int, seed: int) -> NDArray[np.float64]:
    """Add up the counts of as many groups as there are, drawn with replacement, again and again.

    Args:
        by_group: counts (groups, ...).
        resamples: number of draws.
        seed: of the draws; the same seed draws the same groups.

    Returns:
        counts (resamples, ...).
    """
    # Groups with equal counts are drawn together, which is the same and takes far fewer numbers.
    kinds, times = np.unique(by_group.reshape(len(by_group), -1), axis=0, return_counts=True)
    rng, values = np.random.default_rng(seed), kinds.astype(np.float64)
    sizes = [min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK)]
    sums = [rng.multinomial(len(by_group), times / len(by_group), size=size) @ values for size in sizes]
    return np.concatenate(sums).reshape(resamples, *by_group.shape[1:])
