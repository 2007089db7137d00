"""Scores of a classifier against ten-line references, MONAI and known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import ConfusionMatrixMetric

from ag_networks.metrics import expected_calibration_error, score_classification
from ag_networks.metrics.confusion import confusion_scores, draw_groups

NAMES = ["a", "b", "c", "d"]


def drawn(images: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that are right more often than not, with ties, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images)
    scores = rng.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    p = np.round(p, 1) + 1e-9
    return p / p.sum(axis=1, keepdims=True), labels


def reference(p: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Per-class scores by counting."""
    chosen = p.argmax(axis=1)
    result: dict[str, list[float]] = {"precision": [], "recall": [], "f1": [], "auroc": []}
    for c in range(p.shape[1]):
        hits = sum((chosen == c) & (y == c))
        precision, recall = hits / max(sum(chosen == c), 1), hits / sum(y == c)
        pairs = p[y == c, c][:, None] - p[y != c, c][None]
        result["precision"].append(precision)
        result["recall"].append(recall)
        result["f1"].append(2 * precision * recall / (precision + recall) if hits else 0.0)
        result["auroc"].append(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    return {name: np.array(values) for name, values in result.items()}


def kappa(y: np.ndarray, chosen: np.ndarray) -> float:
    """Quadratic kappa as one minus the squared distance of pairs over that of all pairings."""
    return 1 - ((y - chosen) ** 2).mean() / ((y[:, None] - chosen[None]) ** 2).mean()


def test_all_scores_against_counting() -> None:
    p, y = drawn()
    scores, expected = score_classification(p, y, NAMES, ordered=True, resamples=0), reference(p, y)
    for name, values in expected.items():
        assert [getattr(part, name) for part in scores.classes.values()] == pytest.approx(values), name
        assert getattr(scores, f"macro_{name}") == pytest.approx(values.mean()), name
    assert scores.accuracy == pytest.approx((p.argmax(axis=1) == y).mean())
    assert scores.quadratic_kappa == pytest.approx(kappa(y, p.argmax(axis=1)))
    assert [part.support for part in scores.classes.values()] == np.bincount(y).tolist()
    assert scores.confusion.sum(axis=1).tolist() == np.bincount(y).tolist()
    assert scores.confusion[1, 2] == ((y == 1) & (p.argmax(axis=1) == 2)).sum()
    assert (scores.images, scores.subjects, scores.absent, scores.intervals) == (200, 200, (), {})


def test_per_class_scores_agree_with_monai() -> None:
    p, y = drawn()
    scores = score_classification(p, y, NAMES, resamples=0)
    metric = ConfusionMatrixMetric(metric_name=("precision", "sensitivity", "f1 score"), reduction="sum_batch")
    onehot = torch.nn.functional.one_hot
    metric(onehot(torch.from_numpy(p.argmax(axis=1)), 4), onehot(torch.from_numpy(y), 4))
    for name, values in zip(("precision", "recall", "f1"), metric.aggregate(), strict=True):
        assert [getattr(part, name) for part in scores.classes.values()] == pytest.approx(values.tolist()), name


def test_a_class_without_images_is_named_and_in_no_mean() -> None:
    p = [[0.9, 0.1, 0.0], [0.2, 0.0, 0.8], [0.1, 0.9, 0.0]]  # the second is wrongly given the absent class
    scores = score_classification(p, [0, 0, 1], ["a", "b", "absent"], resamples=0)
    assert scores.absent == ("absent",)
    absent = scores.classes["absent"]
    assert (absent.support, absent.predicted) == (0, 1)
    assert all(math.isnan(getattr(absent, name)) for name in ("precision", "recall", "f1", "auroc"))
    assert scores.macro_recall == pytest.approx((0.5 + 1) / 2)
    assert scores.macro_precision == 1
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert scores.macro_auroc == pytest.approx(1.0)
    assert math.isnan(scores.quadratic_kappa)  # nobody said that the classes are ordered


def test_a_class_that_is_never_predicted_has_no_precision_and_counts() -> None:
    scores = score_classification([[0.9, 0.1], [0.8, 0.2]], [0, 1], ["a", "b"], resamples=0)
    assert (scores.classes["b"].precision, scores.classes["b"].recall, scores.classes["b"].f1) == (0, 0, 0)
    assert scores.macro_f1 == pytest.approx((2 / 3) / 2)


def test_one_label_only_has_no_auroc() -> None:
    scores = score_classification([[0.9, 0.1], [0.8, 0.2]], [0, 0], ["a", "b"], ordered=True, resamples=0)
    assert math.isnan(scores.macro_auroc)
    assert (scores.accuracy, scores.quadratic_kappa) == (1, 1)


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "expected"),
    [
        ([0.95, 0.95, 0.55, 0.55], [1, 1, 1, 0], 10, 0.05),
        ([0.95, 0.55], [0, 1], 10, (0.95 + 0.45) / 2),
        ([0.95, 0.55], [0, 1], 1, 0.25),  # one bin: mean confidence 0.75, accuracy 0.5
        ([1.0, 1.0], [1, 1], 15, 0.0),
    ],
    ids=["two bins", "both wrong way round", "one bin", "sure and right"],
)
def test_calibration_error(confidence: list[float], correct: list[int], bins: int, expected: float) -> None:
    assert expected_calibration_error(confidence, correct, bins=bins) == pytest.approx(expected, abs=1e-6)


def test_calibration_error_uses_the_probability_of_the_choice() -> None:
    scores = score_classification([[0.9, 0.1], [0.3, 0.7]], [0, 0], ["a", "b"], resamples=0)
    assert scores.ece == pytest.approx((0.1 + 0.7) / 2, abs=1e-6)


def test_intervals_are_those_of_a_plain_bootstrap_over_subjects() -> None:
    p, y = drawn(120)
    subjects = [f"s{number // 6}" for number in range(120)]  # 20 subjects of 6 images
    scores = score_classification(p, y, NAMES, subjects=subjects, ordered=True, resamples=4000)
    right, rng = (p.argmax(axis=1) == y).reshape(20, 6), np.random.default_rng(1)
    plain = [right[rng.integers(0, 20, 20)].mean() for _ in range(4000)]
    assert scores.intervals["accuracy"] == pytest.approx(np.percentile(plain, [2.5, 97.5]), abs=0.015)
    graded = []
    for _ in range(1000):
        images = (6 * rng.integers(0, 20, 20)[:, None] + np.arange(6)).ravel()
        graded.append(kappa(y[images], p[images].argmax(axis=1)))
    assert scores.intervals["quadratic_kappa"] == pytest.approx(np.percentile(graded, [2.5, 97.5]), abs=0.03)
    assert scores.subjects == 20
    assert scores.intervals["macro_f1"][0] < scores.macro_f1 < scores.intervals["macro_f1"][1]


def test_subjects_with_equal_images_widen_the_interval() -> None:
    p = np.repeat([[0.9, 0.1], [0.1, 0.9]], [60, 60], axis=0)[np.arange(120) % 120]
    labels = np.repeat([0, 0, 1, 0], 30)
    widths = []
    for subjects in (None, [str(number // 30) for number in range(120)], [""] * 120):
        low, high = score_classification(p, labels, ["a", "b"], subjects=subjects).intervals["accuracy"]
        widths.append(high - low)
    assert widths[1] > 3 * widths[0]
    assert widths[2] == widths[0]  # an image whose subject is unknown is by itself


def test_draws_keep_the_number_of_groups_and_the_seed() -> None:
    groups = np.random.default_rng(0).integers(0, 5, (7, 2, 2))
    groups[:, 0, 0] = 1
    drawn_sums = draw_groups(groups, resamples=250, seed=3)
    assert drawn_sums.shape == (250, 2, 2)
    assert (drawn_sums[:, 0, 0] == 7).all()
    np.testing.assert_allclose(drawn_sums.mean(axis=0), groups.sum(axis=0), rtol=0.1)
    np.testing.assert_array_equal(drawn_sums, draw_groups(groups, resamples=250, seed=3))


def test_many_matrices_at_once_are_each_by_itself() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (5, 3, 3))
    together = confusion_scores(counts)
    for number, matrix in enumerate(counts):
        for name, values in confusion_scores(matrix).items():
            np.testing.assert_allclose(values, together[name][number], err_msg=name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.5, 0.5]], [0], ["a"]), "distinct names of two or more"),
        (([[0.5, 0.5]], [0], ["a", "a"]), "distinct names"),
        ((np.empty((0, 2)), [], ["a", "b"]), "with an image or more"),
        (([0.5, 0.5], [0, 1], ["a", "b"]), r"shape \(images, 2\)"),
        (([[0.5, 0.5]], [0, 1], ["a", "b"]), "each of 1 images"),
        (([[0.5, 0.5]], [2], ["a", "b"]), "class indices from 0 to 1, got 2"),
        (([[0.5, 0.5]], [-1], ["a", "b"]), "got -1"),
        (([[0.5, 0.5]], [0.5], ["a", "b"]), "got 0.5"),
        (([[0.5, 0.5], [3.0, 1.0]], [0, 0], ["a", "b"]), "of image 1 are none: they sum to 4"),
        (([[np.nan, 0.5]], [0], ["a", "b"]), "of image 0 are none"),
        (([[1.5, -0.5]], [0], ["a", "b"]), "of image 0 are none"),
    ],
    ids=range(11),
)
def test_what_cannot_be_scored_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_classification(*arguments)


def test_subjects_must_fit() -> None:
    with pytest.raises(ValueError, match="one subject for each of 2"):
        score_classification([[1, 0], [1, 0]], [0, 1], ["a", "b"], subjects=["x"])
