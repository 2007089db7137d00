"""Paired comparison of two classifiers on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from ag_networks.metrics.classification import group_of_images
from ag_networks.metrics.confusion import confusion_matrices, confusion_scores, draw_groups
from ag_networks.metrics.picture_table import PictureTable

__all__ = ["PairedClassification", "compare_classifiers"]


@dataclass(frozen=True, kw_only=True)
class PairedClassification:
    """Result of comparing a candidate with a baseline, image by image.

    Args:
        images: number of images that both have.
        left_out: number of images that only one of them has.
        only_candidate: number of images that the candidate alone has right.
        only_baseline: number of images that the baseline alone has right.
        p_value: exact two-sided McNemar test of these two numbers; it takes images as independent.
        accuracy_difference: accuracy of the candidate minus that of the baseline.
        accuracy_interval: its 95 % confidence interval, from a bootstrap over subjects.
        f1_difference, f1_interval: the same of macro F1.
    """

    images: int
    left_out: int
    only_candidate: int
    only_baseline: int
    p_value: float
    accuracy_difference: float
    accuracy_interval: tuple[float, float]
    f1_difference: float
    f1_interval: tuple[float, float]

    def format(self) -> str:
        """Return the comparison in two lines of text."""
        low, high = self.accuracy_interval
        f1_low, f1_high = self.f1_interval
        return (
            f"{self.images} images in common ({self.left_out} left out): {self.only_candidate} right here alone, "
            f"{self.only_baseline} right there alone, McNemar p = {self.p_value:.3g}\n"
            f"accuracy {self.accuracy_difference:+.3f} ({low:+.3f} to {high:+.3f}), "
            f"F1 {self.f1_difference:+.3f} ({f1_low:+.3f} to {f1_high:+.3f})"
        )


def compare_classifiers(
    candidate: PictureTable, baseline: PictureTable, *, resamples: int = 2000, seed: int = 0
) -> PairedClassification:
    """Compare two tables on the images that both have; the order of the rows does not matter.

    The intervals are percentiles of a bootstrap that draws whole subjects and keeps the pairs together. Where images
    of a subject resemble each other they, and not McNemar's p, tell how sure the difference is.

    Args:
        candidate: its results.
        baseline: the results to compare with.
        resamples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Raises:
        ValueError: if the classes differ, no image is in both, or an image has two labels.

    Example:
        >>> one, other = PictureTable(["brain", "femur"]), PictureTable(["brain", "femur"])
        >>> for image, right in (("a", 0.9), ("b", 0.8), ("c", 0.7)):
        ...     one.add(image, label="brain", probabilities=[right, 1 - right])
        ...     other.add(image, label="brain", probabilities=[1 - right, right])
        >>> compare_classifiers(one, other).p_value, compare_classifiers(one, other).accuracy_difference
        (0.25, 1.0)
    """
    if candidate.class_names != baseline.class_names:
        raise ValueError("the two tables have different classes")
    others = {row.image: row for row in baseline.rows}
    pairs = [(row, others[row.image]) for row in candidate.rows if row.image in others]
    if not pairs:
        raise ValueError("the two tables have no image in common")
    if changed := [one.image for one, other in pairs if one.label != other.label]:
        raise ValueError(f"image {changed[0]} has another label in each of the two tables")
    index = {name: number for number, name in enumerate(candidate.class_names)}
    labels = np.array([index[one.label] for one, _ in pairs])
    chosen = [np.array([index[row.prediction] for row in rows]) for rows in zip(*pairs, strict=True)]
    groups = group_of_images([one.subject or other.subject for one, other in pairs], len(pairs))
    both = np.stack([confusion_matrices(labels, each, groups, classes=len(index)) for each in chosen], axis=1)
    found, drawn = (
        {name: values[..., 0] - values[..., 1] for name, values in scores.items() if name in ("accuracy", "macro_f1")}
        for scores in (
            confusion_scores(both.sum(axis=0)),
            confusion_scores(draw_groups(both, resamples=resamples, seed=seed)),
        )
    )
    limits = {name: tuple(np.percentile(values, [2.5, 97.5]).tolist()) for name, values in drawn.items()}
    only = [int(((one == labels) & (other != labels)).sum()) for one, other in (chosen, chosen[::-1])]
    return PairedClassification(
        images=len(pairs),
        left_out=len(candidate) + len(baseline) - 2 * len(pairs),
        only_candidate=only[0],
        only_baseline=only[1],
        p_value=float(binomtest(only[0], sum(only)).pvalue) if sum(only) else 1.0,
        accuracy_difference=float(found["accuracy"]),
        accuracy_interval=limits["accuracy"],
        f1_difference=float(found["macro_f1"]),
        f1_interval=limits["macro_f1"],
    )
