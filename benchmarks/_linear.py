"""The paper's baselines without a network: logistic regression and a support vector machine on the pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from monai.utils import optional_import

__all__ = ["BASELINES", "logistic_regression", "support_vector_machine"]

Baseline = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
CONSTANTS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # inverse penalties of the logistic regression
MARGINS = (0.1, 1.0, 10.0, 100.0)
WIDTHS = (0.1, 1.0, 10.0)  # of the Gaussian kernel: multiples of 1 / (numbers per picture x their variance)
FOLDS = 5


def logistic_regression(
    images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, *, constants: Sequence[float] = CONSTANTS
) -> np.ndarray:
    """Probabilities of a logistic regression on the pixels; its penalty is chosen on folds of the training part.

    A model of one class against the others is not meant: the classes share one softmax. Source: Xu et al., arXiv
    2007.15897, sections 4.3 and 4.4, who give no ranges.

    Args:
        images: of the training part, standardized: (N, C, H, W).
        labels: classes, integers from 0: (N,).
        test_images: as `images`.
        constants: what the grid search tries.

    Returns:
        (N of the test part, classes), every row summing to one; a class that has no training picture has zeros.

    Raises:
        ImportError: without scikit-learn.
        ValueError: if the training part has one class only, or pictures and labels do not fit each other.
    """
    model = _sklearn("linear_model").LogisticRegression(max_iter=1000, random_state=0)
    return _searched(model, {"C": list(constants)}, images, labels, test_images)


def support_vector_machine(
    images: np.ndarray,
    labels: np.ndarray,
    test_images: np.ndarray,
    *,
    constants: Sequence[float] = MARGINS,
    widths: Sequence[float] = WIDTHS,
) -> np.ndarray:
    """The classes that a support vector machine with a Gaussian kernel finds; constants chosen as above.

    It gives classes, not probabilities: a row holds one at the class and zeros elsewhere.

    Args:
        images, labels, test_images, constants: as in :func:`logistic_regression`.
        widths: of the kernel, as multiples of scikit-learn's own choice (``gamma="scale"``).

    Returns, Raises: as :func:`logistic_regression`.
    """
    scale = 1 / max(images[0].size * images.var(), np.finfo(np.float64).tiny)
    grid = {"C": list(constants), "gamma": [float(width * scale) for width in widths]}
    return _searched(_sklearn("svm").SVC(kernel="rbf"), grid, images, labels, test_images)


BASELINES: dict[str, Baseline] = {"logistic_regression": logistic_regression, "svm": support_vector_machine}


def _searched(model: Any, grid: dict, images: np.ndarray, labels: np.ndarray, test_images: np.ndarray) -> np.ndarray:
    """Rows of probabilities, or of the found class, for the test part, after a grid search on the training part."""
    counts = np.bincount(labels)
    if len(images) != len(labels) or images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"{len(labels)} labels and test pictures of {test_images.shape[1:]} do not fit {len(images)} training "
            f"pictures of {images.shape[1:]}."
        )
    if (counts > 0).sum() < 2:
        raise ValueError(f"the training pictures have one class only: {labels[0]}.")
    train, test = _coordinates(images.reshape(len(images), -1), test_images.reshape(len(test_images), -1))
    selection = _sklearn("model_selection")
    folds = selection.StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    search = selection.GridSearchCV(model, grid, cv=folds, scoring="accuracy")
    search.fit(train, labels)
    rows = np.zeros((len(test), len(counts)))
    if hasattr(search, "predict_proba"):
        rows[:, search.classes_] = search.predict_proba(test)
    else:
        rows[np.arange(len(test)), search.predict(test)] = 1
    return rows


def _coordinates(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both parts in the span of the training pictures, and as a last number the distance from it.

    All distances between training and other pictures stay, and the weights of a penalized linear model lie in the span:
    both models are exactly those of the pixels, with as many numbers per picture as there are training pictures.
    """
    train, test = train.astype(np.float64), test.astype(np.float64)
    basis, coordinates = np.linalg.qr(train.T)
    inside = test @ basis
    outside = np.sqrt(np.maximum((test**2).sum(1) - (inside**2).sum(1), 0))
    return np.pad(coordinates.T, ((0, 0), (0, 1))), np.column_stack([inside, outside])


def _sklearn(module: str) -> Any:
    found, available = optional_import(f"sklearn.{module}")
    if not available:
        raise ImportError("the baselines on pixels need scikit-learn: pip install ag-networks[bench].")
    return found
