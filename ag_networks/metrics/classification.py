"""Scores of a classifier from its probabilities for labelled images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import calibration_binning, compute_roc_auc
from numpy.typing import ArrayLike, NDArray

from ag_networks.metrics.confusion import bootstrap_confusion, confusion_matrices, confusion_scores

__all__ = [
    "OVERALL_SCORES",
    "ClassScores",
    "ClassifierScores",
    "expected_calibration_error",
    "score_classification",
]

OVERALL_SCORES = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "macro_auroc", "ece", "quadratic_kappa")
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Scores of one class against all others.

    Args:
        support: number of images with this label.
        predicted: number of images that were given this class.
        precision: share of the predicted images that are right.
        recall: share of the images with this label that were found.
        f1: harmonic mean of both.
        auroc: area under the ROC curve of the class's probability, one against the rest.
    """

    support: int
    predicted: int
    precision: float
    recall: float
    f1: float
    auroc: float


@dataclass(frozen=True, kw_only=True)
class ClassifierScores:
    """Scores of a set of images; ``nan`` is a score that does not exist.

    Args:
        images: number of images.
        subjects: number of subjects they come from; an image without subject counts as one.
        accuracy: share of the images that are right.
        macro_precision, macro_recall, macro_f1, macro_auroc: means over the classes that have images.
        ece: expected calibration error of the prediction's probability.
        quadratic_kappa: Cohen's kappa with quadratic weights; ``nan`` unless the classes are ordered.
        intervals: 95 % confidence interval by name of the score; empty without resampling.
        classes: scores by class name, absent classes included.
        confusion: number of images, (label, prediction).
        absent: names of the classes without an image, which no mean includes.
    """

    images: int
    subjects: int
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    macro_auroc: float
    ece: float
    quadratic_kappa: float
    intervals: dict[str, tuple[float, float]]
    classes: dict[str, ClassScores]
    confusion: NDArray[np.int64]
    absent: tuple[str, ...]


def score_classification(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    *,
    predictions: ArrayLike | None = None,
    subjects: Sequence[str] | None = None,
    ordered: bool = False,
    bins: int = 15,
    resamples: int = 2000,
    seed: int = 0,
) -> ClassifierScores:
    """Score the probabilities of images against their labels.

    Means over classes are macro means, as in the papers' tables: every class counts the same. What does not exist is
    said, never dropped:

    - A class without an image in this set has no recall, F1 and AUROC. It is listed in ``absent`` and no mean includes
      it; images wrongly given this class still lower the recall of their own class and the accuracy.
    - A class that is never predicted has precision 0 and F1 0, not an undefined precision.
    - AUROC does not exist (``nan``, also for the mean) when all images have one label.

    F1 of the set is the mean of the classes' F1, not the F1 of mean precision and recall. Confidence intervals (of
    ``accuracy``, ``macro_f1`` and, for ordered classes, ``quadratic_kappa``) are percentiles of a bootstrap that draws
    whole subjects, as images of one subject resemble each other.

    Args:
        probabilities: (images, classes), every row sums to 1.
        labels: class index of every image.
        class_names: name of every class.
        predictions: class index chosen for every image, by default the most probable one (the first of equals).
        subjects: subject of every image; empty text where it is unknown. ``None``: all unknown.
        ordered: whether the classes are grades in ascending order, for ``quadratic_kappa``.
        bins: number of bins of the calibration error.
        resamples: number of bootstrap samples; 0 leaves the intervals out.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if there is no image, shapes do not fit, probabilities are none, or a label has no class.

    Example:
        >>> scores = score_classification([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], [0, 0, 1], ["brain", "femur"])
        >>> round(scores.accuracy, 3), round(scores.macro_f1, 3), scores.classes["femur"].precision
        (0.667, 0.667, 0.5)
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    chosen = p.argmax(axis=1) if predictions is None and p.ndim == 2 else np.asarray(predictions)
    _check(p, y, chosen, class_names, subjects)
    y, chosen = y.astype(np.int64), chosen.astype(np.int64)
    groups = group_of_images(subjects, len(y))
    by_group = confusion_matrices(y, chosen, groups, classes=len(class_names))
    scores = confusion_scores(confusion := by_group.sum(axis=0))
    names = ("accuracy", "macro_f1", "quadratic_kappa") if ordered else ("accuracy", "macro_f1")
    support = confusion.sum(axis=1)
    auroc = [_auroc(p[:, index], y == index) for index in range(len(class_names))]
    return ClassifierScores(
        images=len(y),
        subjects=len(by_group),
        **{name: float(scores[name]) for name in ("accuracy", "macro_precision", "macro_recall", "macro_f1")},
        macro_auroc=float(np.mean([auroc[index] for index in np.flatnonzero(support)])),
        ece=expected_calibration_error(p[np.arange(len(y)), chosen], chosen == y, bins=bins),
        quadratic_kappa=float(scores["quadratic_kappa"]) if ordered else math.nan,
        intervals=bootstrap_confusion(by_group, names, resamples=resamples, seed=seed) if resamples else {},
        classes={
            name: ClassScores(
                support=int(support[index]),
                predicted=int(confusion[:, index].sum()),
                **{score: float(scores[score][index]) for score in ("precision", "recall", "f1")},
                auroc=auroc[index],
            )
            for index, name in enumerate(class_names)
        },
        confusion=confusion,
        absent=tuple(name for name, count in zip(class_names, support, strict=True) if not count),
    )


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> float:
    r"""Mean distance between how sure a classifier is and how often it is right.

    :math:`\sum_b n_b / n \; |\mathrm{accuracy}_b - \mathrm{confidence}_b|` over equally wide bins of the prediction's
    probability (Guo et al., *On calibration of modern neural networks*, ICML 2017).

    Args:
        confidence: probability of the chosen class, of every image.
        correct: whether that class is right.
        bins: number of bins between 0 and 1; a value on a border belongs to the lower bin.

    Example:
        >>> round(expected_calibration_error([0.9, 0.9, 0.9, 0.9], [True, True, True, False]), 2)
        0.15
    """
    sure = torch.as_tensor(np.asarray(confidence, dtype=np.float32)).view(1, 1, -1)
    right = torch.as_tensor(np.asarray(correct, dtype=np.float32)).view(1, 1, -1)
    mean_sure, mean_right, counts = calibration_binning(sure, right, num_bins=bins)
    used = counts > 0
    return float(((mean_sure - mean_right).abs() * counts)[used].sum() / counts.sum())


def group_of_images(subjects: Sequence[str] | None, images: int) -> NDArray[np.int64]:
    """Return the number of every image's subject; an image without one is a subject of its own.

    Example:
        >>> group_of_images(["b", "", "b", ""], 4).tolist()
        [0, 1, 0, 2]
    """
    keys = [subject or index for index, subject in enumerate(subjects if subjects is not None else [""] * images)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _auroc(probability: NDArray[np.float64], is_class: NDArray[np.bool_]) -> float:
    if is_class.all() or not is_class.any():
        return math.nan
    return float(compute_roc_auc(torch.from_numpy(probability), torch.from_numpy(is_class.astype(np.int64))))  # type: ignore[arg-type]


def _check(
    p: NDArray[np.float64],
    y: NDArray[np.generic],
    chosen: NDArray[np.generic],
    class_names: Sequence[str],
    subjects: Sequence[str] | None,
) -> None:
    classes = len(class_names)
    if isinstance(class_names, str) or classes < 2 or len(set(class_names)) != classes:
        raise ValueError(f"expected the distinct names of two or more classes, got {class_names!r}")
    if p.ndim != 2 or p.shape[1] != classes or not len(p):
        raise ValueError(f"expected probabilities of shape (images, {classes}) with an image or more, got {p.shape}")
    for name, values in (("labels", y), ("predictions", chosen)):
        if values.shape != (len(p),):
            raise ValueError(f"expected one of the {name} for each of {len(p)} images, got shape {values.shape}")
        wrong = [value for value in values.tolist() if value not in range(classes)]
        if wrong:
            raise ValueError(f"the {name} must be class indices from 0 to {classes - 1}, got {wrong[0]!r}")
    if subjects is not None and len(subjects) != len(p):
        raise ValueError(f"expected one subject for each of {len(p)} images, got {len(subjects)}")
    with np.errstate(invalid="ignore"):
        bad = ~((p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1) <= SUM_TOLERANCE))
    if bad.any():
        row = p[bad.argmax()]
        raise ValueError(
            f"the probabilities of image {int(bad.argmax())} are none: they sum to {row.sum():.4g}, the smallest is "
            f"{row.min():.4g}; apply a softmax first"
        )
