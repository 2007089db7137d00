"""The baselines on pixels: what they find on pictures that two pixels decide, and what they refuse."""

import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from _linear import BASELINES, Baseline, logistic_regression, support_vector_machine
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

EVERY = pytest.mark.parametrize("fit", BASELINES.values(), ids=BASELINES)


def pictures(n: int, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Noise, in which one pixel for each class is bright; the classes are 0, 1, ..."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    images = rng.normal(size=(n, 2, 4, 4)).astype(np.float32)
    images[np.arange(n), 1, labels, 2] += 6
    return images, labels


@EVERY
def test_a_bright_pixel_is_found(fit: Baseline) -> None:
    images, labels = pictures(90, seed=0)
    test_images, expected = pictures(60, seed=1)
    rows = fit(images, labels, test_images)
    assert rows.shape == (60, 3)
    np.testing.assert_allclose(rows.sum(1), 1)
    assert (rows.argmax(1) == expected).mean() > 0.9
    np.testing.assert_array_equal(fit(images, labels, test_images), rows)


@EVERY
def test_a_class_without_pictures_keeps_its_column(fit: Baseline) -> None:
    images, labels = pictures(60, seed=0, classes=2)
    rows = fit(images, 2 * labels, images)
    assert rows.shape == (60, 3)
    assert (rows[:, 1] == 0).all()
    assert (rows.argmax(1) == 2 * labels).mean() > 0.9


def test_probabilities_follow_the_penalty() -> None:
    images, labels = pictures(60, seed=0)
    weak, strong = (logistic_regression(images, labels, images, constants=[c]) for c in (1.0, 1e-6))
    np.testing.assert_allclose(strong, 1 / 3, atol=1e-2)
    assert weak.max(1).mean() > 0.9


@pytest.mark.parametrize("size", [2, 12], ids=["fewer numbers than pictures", "more"])
def test_it_is_the_model_of_the_pixels(size: int) -> None:
    rng = np.random.default_rng(0)
    images, test_images = (rng.normal(size=(n, 2, size, size)) for n in (60, 40))
    labels = (images.mean((1, 2, 3)) > 0).astype(int) + (images[:, 0].mean((1, 2)) > 0)
    pixels, test_pixels = images.reshape(60, -1), test_images.reshape(40, -1)
    linear = LogisticRegression(C=0.01, max_iter=1000, tol=1e-8).fit(pixels, labels)
    rows = logistic_regression(images, labels, test_images, constants=[0.01])
    np.testing.assert_allclose(rows, linear.predict_proba(test_pixels), atol=1e-3)
    machine = SVC(C=10.0).fit(pixels, labels)
    rows = support_vector_machine(images, labels, test_images, constants=[10.0], widths=[1.0])
    np.testing.assert_array_equal(rows.argmax(1), machine.predict(test_pixels))


def test_constants_are_chosen_on_the_training_part() -> None:
    images, labels = pictures(60, seed=0)
    chosen = support_vector_machine(images, labels, images, constants=[1e-6, 10.0], widths=[1.0])
    np.testing.assert_array_equal(
        chosen, support_vector_machine(images, labels, images, constants=[10.0], widths=[1.0])
    )
    poor = support_vector_machine(images, labels, images, constants=[10.0], widths=[1e6])  # every picture for itself
    test_images, expected = pictures(30, seed=1)
    assert (poor.argmax(1) == labels).mean() == 1
    rows = support_vector_machine(images, labels, test_images, constants=[10.0], widths=[1.0, 1e6])
    assert (rows.argmax(1) == expected).mean() > 0.8


@EVERY
def test_one_class_and_unlike_pictures_are_refused(fit: Baseline) -> None:
    images, labels = pictures(20, seed=0)
    with pytest.raises(ValueError, match=r"one class only: 1\.$"):
        fit(images, np.ones_like(labels), images)
    with pytest.raises(ValueError, match=r"^19 labels and test pictures of \(2, 4, 4\) do not fit 20 training"):
        fit(images, labels[:-1], images)
    with pytest.raises(ValueError, match=r"test pictures of \(2, 4, 3\) do not fit"):
        fit(images, labels, images[..., :3])


@EVERY
def test_a_missing_library_is_named(fit: Baseline, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("linear_model", "svm", "model_selection"):
        monkeypatch.setitem(sys.modules, f"sklearn.{name}", None)
    images, labels = pictures(20, seed=0)
    with pytest.raises(ImportError, match="need scikit-learn"):
        fit(images, labels, images)
