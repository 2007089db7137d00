"""A table of labelled images with the probabilities that a classifier gave them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ag_networks.atomic import atomic_path
from ag_networks.metrics.classification import OVERALL_SCORES, ClassifierScores, score_classification

__all__ = ["PictureRow", "PictureTable"]

_COLUMNS = ("image", "subject", "label", "prediction", "probability")


@dataclass(frozen=True)
class PictureRow:
    """One image: its name, subject (empty if unknown), label, prediction, and probability by class."""

    image: str
    subject: str
    label: str
    prediction: str
    probabilities: tuple[float, ...]


class PictureTable:
    """Collect labelled images, one row each, score them, and write and read them as CSV.

    Probabilities are kept to nine significant digits, which tell all numbers of single precision apart, so that a table
    read back gives the same scores to the last digit.

    Args:
        class_names: name of every class, in the order of the probabilities.

    Raises:
        ValueError: if names repeat, one is that of another column, or there are fewer than two.

    Example:
        >>> table = PictureTable(["brain", "femur"])
        >>> table.add("a.png", label="brain", probabilities=[0.9, 0.1])
        >>> table.add("b.png", label="brain", probabilities=[0.3, 0.7], subject="7")
        >>> table.scores().accuracy, table.rows[1].prediction
        (0.5, 'femur')
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        if isinstance(class_names, str) or len(self.class_names) < 2 or len(set(class_names)) != len(self.class_names):
            raise ValueError(f"expected the distinct names of two or more classes, got {class_names!r}")
        if taken := set(self.class_names) & set(_COLUMNS):
            raise ValueError(f"no class can be named {', '.join(sorted(taken))}: the table has a column of that name")
        self._rows: dict[str, PictureRow] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> tuple[PictureRow, ...]:
        """The rows in the order in which they came."""
        return tuple(self._rows.values())

    def add(self, image: str, *, label: str, probabilities: Sequence[float], subject: str = "") -> None:
        """Add an image; the prediction is the most probable class, the first of equals.

        Raises:
            ValueError: if the image is there already, the label is no class, or the number of probabilities is wrong.
        """
        if image in self._rows:
            raise ValueError(f"image {image} comes twice")
        if label not in self.class_names:
            raise ValueError(f"image {image} has label {label!r}, expected one of {', '.join(self.class_names)}")
        if len(probabilities) != len(self.class_names):
            raise ValueError(
                f"image {image} has {len(probabilities)} probabilities, expected {len(self.class_names)}, one per class"
            )
        prediction = self.class_names[int(np.argmax(probabilities))]
        kept = tuple(float(f"{float(value):.9g}") for value in probabilities)
        self._rows[image] = PictureRow(image, str(subject), label, prediction, kept)

    def scores(
        self, *, ordered: bool = False, bins: int = 15, resamples: int = 2000, seed: int = 0
    ) -> ClassifierScores:
        """Score the table; arguments as in :func:`~ag_networks.metrics.score_classification`.

        Raises:
            ValueError: as that function.
        """
        index = {name: number for number, name in enumerate(self.class_names)}
        return score_classification(
            np.array([row.probabilities for row in self.rows]).reshape(-1, len(self.class_names)),
            [index[row.label] for row in self.rows],
            self.class_names,
            predictions=[index[row.prediction] for row in self.rows],
            subjects=[row.subject for row in self.rows],
            ordered=ordered,
            bins=bins,
            resamples=resamples,
            seed=seed,
        )

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write ``image, subject, label, prediction, probability`` and the probability of every class, by name."""
        lines = [
            [row.image, row.subject, row.label, row.prediction, max(row.probabilities), *row.probabilities]
            for row in self.rows
        ]
        _write_lines(path, [[*_COLUMNS, *self.class_names], *lines])

    def write_confusion_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the numbers of images, a row for each label and a column for each prediction."""
        counts = self.scores(resamples=0).confusion.tolist()
        lines = [[name, *row] for name, row in zip(self.class_names, counts, strict=True)]
        _write_lines(path, [["label \\ prediction", *self.class_names], *lines])

    def write_json(self, path: str | os.PathLike[str], scores: ClassifierScores) -> None:
        """Write scores of this table; a score that does not exist is ``null``."""
        content = {
            "images": scores.images,
            "subjects": scores.subjects,
            **{name: _or_none(getattr(scores, name)) for name in OVERALL_SCORES},
            "intervals_95": {name: list(limits) for name, limits in scores.intervals.items()},
            "absent_classes": list(scores.absent),
            "classes": {
                name: {score: _or_none(value) for score, value in asdict(part).items()}
                for name, part in scores.classes.items()
            },
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read_csv(cls, path: str | os.PathLike[str]) -> PictureTable:
        """Read a table that :meth:`write_csv` wrote, also after somebody has sorted it or left rows out.

        Raises:
            ValueError: if a column is missing or a value cannot be read; it names the file and the line.
        """
        file = Path(path)
        try:
            text = file.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file.name} is not a table of images: it is not a text file") from error
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = list(reader.fieldnames or ())
        if missing := [name for name in _COLUMNS if name not in columns]:
            raise ValueError(f"{file.name} is not a table of labelled images: column {', '.join(missing)} is missing")
        try:
            table = cls([name for name in columns if name not in _COLUMNS])
        except ValueError as error:
            raise ValueError(f"{file.name}: {error}") from error
        for record in reader:
            try:
                table._add_record(record)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{file.name}, line {reader.line_num}: {error}") from error
        return table

    def _add_record(self, record: dict[str, str]) -> None:
        probabilities = [float(record[name]) for name in self.class_names]
        self.add(record["image"], label=record["label"], probabilities=probabilities, subject=record["subject"])
        stated, found = record["prediction"], self._rows[record["image"]].prediction
        if stated != found:
            raise ValueError(f"the prediction is {stated!r}, but the most probable class is {found!r}")


def _write_lines(path: str | os.PathLike[str], lines: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
