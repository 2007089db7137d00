"""Scores of classifiers as the Markdown tables of the papers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ag_networks.metrics.classification import ClassifierScores

__all__ = ["format_classes", "format_overall"]

NOTABLE = 0.02
_OVERALL = {
    "macro_f1": "F1",
    "macro_precision": "Precision",
    "macro_recall": "Recall",
    "macro_auroc": "AUROC",
    "ece": "ECE",
    "quadratic_kappa": "Kappa",
}
_PER_CLASS = {"precision": "Precision", "recall": "Recall", "f1": "F1", "auroc": "AUROC"}


def format_overall(scores: Mapping[str, ClassifierScores]) -> str:
    """Return the papers' first table, a row for each method: accuracy, then macro F1, precision and recall, then ours.

    Intervals are shown in brackets, kappa only where a method has one. Classes without an image are named below.

    Args:
        scores: scores by the name of the method.
    """
    columns = [name for name in _OVERALL if any(not math.isnan(getattr(part, name)) for part in scores.values())]
    lines = [["Method", "Images", "Accuracy", *(_OVERALL[name] for name in columns)]]
    for method, part in scores.items():
        numbers = [_with_interval(part, name) for name in ("accuracy", *columns)]
        lines.append([method, str(part.images), *numbers])
    notes = [
        f"\n{method}: no image of {', '.join(part.absent)}; the means leave these classes out."
        for method, part in scores.items()
        if part.absent
    ]
    return "\n".join([_table(lines), *notes])


def format_classes(scores: ClassifierScores, baseline: ClassifierScores | None = None) -> str:
    """Return the papers' second table, a row for each class; with the difference from a baseline in brackets.

    A difference above 0.02 is bold, as in the papers. A class without an image has dashes.

    Args:
        scores: scores of the method.
        baseline: scores of another method on the same classes.

    Raises:
        ValueError: if the baseline has other classes.
    """
    if baseline is not None and list(baseline.classes) != list(scores.classes):
        raise ValueError("the two methods have different classes, so their classes cannot be compared")
    lines = [["Class", "Images", *_PER_CLASS.values()]]
    for name, part in scores.classes.items():
        cells = []
        for score in _PER_CLASS:
            value = getattr(part, score)
            before = getattr(baseline.classes[name], score) if baseline is not None else math.nan
            cells.append(_number(value) + _difference(value - before))
        lines.append([name, str(part.support), *cells])
    return _table(lines)


def _with_interval(scores: ClassifierScores, name: str) -> str:
    text = _number(getattr(scores, name))
    if name in scores.intervals:
        low, high = scores.intervals[name]
        text += f" ({low:.3f} to {high:.3f})"
    return text


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"  # noqa: RUF001 - the dash of an empty cell


def _difference(value: float) -> str:
    if math.isnan(value):
        return ""
    text = f"{value:+.3f}"
    return f" (**{text}**)" if value > NOTABLE else f" ({text})"


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])
