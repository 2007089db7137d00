"""A picture of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ag_networks.visualize.canvas import blank_page, save_page

__all__ = ["save_confusion_matrix"]

CELL = 0.42  # inches
MARGIN = 1.9


def save_confusion_matrix(path: str | Path, confusion: ArrayLike, class_names: Sequence[str]) -> None:
    """Write a PNG: labels in rows, predictions in columns, shaded by the share of the row, with the number of images.

    Args:
        path: the PNG file; it appears whole or not at all.
        confusion: number of images, (label, prediction).
        class_names: name of every class.

    Raises:
        ValueError: if the matrix does not fit the classes.
        ImportError: if matplotlib is not installed; it says what to install.
    """
    counts = np.asarray(confusion)
    classes = len(class_names)
    if counts.shape != (classes, classes):
        raise ValueError(f"expected a confusion matrix of {classes} x {classes} classes, got shape {counts.shape}")
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = MARGIN + CELL * classes
    figure = blank_page(size + 0.3, size)
    axes = figure.add_axes((1.6 / (size + 0.3), 0.3 / size, CELL * classes / (size + 0.3), CELL * classes / size))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(classes), class_names, rotation=60, ha="left")
    axes.set_yticks(range(classes), class_names)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=8)
    axes.set_ylabel("label")
    axes.set_xlabel("prediction")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{int(count)}", ha="center", va="center", color=color, fontsize=7)
    save_page(figure, path)
