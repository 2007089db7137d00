"""Per-case tables of segmentation scores in which failures count."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from ag_networks.atomic import atomic_path
from ag_networks.metrics.segmentation import SCORE_NAMES, CaseScores

__all__ = ["CaseRow", "CaseTable", "ClassSummary"]

_TITLES = {"dsc": "DSC", "precision": "Precision", "recall": "Recall", "s2s_mm": "S2S (mm)", "hd95_mm": "HD95 (mm)"}
_COLUMNS = ("case", "class", *(field.name for field in fields(CaseScores)))


@dataclass(frozen=True)
class CaseRow:
    """Scores of one class in one case."""

    case: str
    class_name: str
    scores: CaseScores


@dataclass(frozen=True)
class ClassSummary:
    """Mean and sample standard deviation of every score over the cases of one class.

    Args:
        cases: number of cases, failures included.
        failures: number of cases that failed.
        mean: mean by score name.
        std: sample standard deviation (divisor n - 1) by score name; ``nan`` for a single case.
    """

    cases: int
    failures: int
    mean: dict[str, float]
    std: dict[str, float]

    def format(self, score: str) -> str:
        """Return a score as the papers print it, ``0.831 ± 0.038``; without spread for a single case."""
        mean, std = self.mean[score], self.std[score]
        if math.isnan(mean):
            return "unknown"
        return f"{mean:.3f}" if math.isnan(std) else f"{mean:.3f} ± {std:.3f}"


class CaseTable:
    """Collect the scores of cases, one row for each case and class, and sum them up.

    A failed case takes part in every mean with its worst scores (see :func:`~ag_networks.metrics.score_case`). A case
    that could not be read at all (:meth:`add_failure`) has no image diagonal; its distances are taken as the largest
    ones of its class in this table, so that a failure never improves a mean.

    Example:
        >>> import numpy as np
        >>> from ag_networks.metrics import score_case
        >>> mask = np.zeros((6, 6, 6), bool)
        >>> mask[2:4, 2:4, 2:4] = True
        >>> table = CaseTable()
        >>> table.add("case_1", "pancreas", score_case(mask, mask, spacing=(1, 1, 1)))
        >>> table.add_failure("case_2", "pancreas", "truncated file")
        >>> table.summary()["pancreas"].format("dsc")
        '0.500 ± 0.707'
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], CaseRow] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> tuple[CaseRow, ...]:
        """The rows in the order in which they came."""
        return tuple(self._rows.values())

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order in which they first came."""
        return tuple(dict.fromkeys(row.class_name for row in self.rows))

    @property
    def tolerance_mm(self) -> float:
        """The tolerance of NSD that all rows share; ``nan`` as long as no row knows one."""
        return next((t for row in self.rows if not math.isnan(t := row.scores.tolerance_mm)), math.nan)

    def add(self, case: str, class_name: str, scores: CaseScores) -> None:
        """Add one row.

        Raises:
            ValueError: if this case and class are there already, or NSD has another tolerance than in the other rows.
        """
        if (case, class_name) in self._rows:
            raise ValueError(f"case {case!r} already has a row for class {class_name!r}")
        present, new = self.tolerance_mm, scores.tolerance_mm
        if not (math.isnan(present) or math.isnan(new) or present == new):
            raise ValueError(f"case {case!r}: NSD at {new:g} mm does not go with NSD at {present:g} mm in one table")
        self._rows[case, class_name] = CaseRow(case, class_name, scores)

    def add_failure(self, case: str, class_name: str, reason: str) -> None:
        """Add a row for a case that could not be scored, such as an unreadable file.

        The reason enters the written table, so it must not hold a path or a patient's data.
        """
        overlap = {"dsc": 0.0, "precision": 0.0, "recall": 0.0, "nsd": 0.0}
        unknown = dict.fromkeys(("s2s_mm", "hd95_mm", "prediction_ml", "reference_ml", "tolerance_mm"), math.nan)
        self.add(case, class_name, CaseScores(**overlap, **unknown, failed=True, reason=reason))

    def column(self, score: str, class_name: str) -> dict[str, float]:
        """Return one score of one class by case name, as it enters the means.

        Raises:
            ValueError: if the score or the class does not exist.
        """
        if score not in SCORE_NAMES:
            raise ValueError(f"unknown score {score!r}, expected one of {', '.join(SCORE_NAMES)}")
        if class_name not in self.class_names:
            raise ValueError(f"no rows for class {class_name!r}, the table has {', '.join(self.class_names) or 'none'}")
        values = {row.case: getattr(row.scores, score) for row in self.rows if row.class_name == class_name}
        largest = max((value for value in values.values() if not math.isnan(value)), default=math.nan)
        return {case: largest if math.isnan(value) else value for case, value in values.items()}

    def summary(self) -> dict[str, ClassSummary]:
        """Return mean and sample standard deviation of all scores, and the number of failures, by class."""
        return {name: self._summarize(name) for name in self.class_names}

    def format_markdown(self) -> str:
        """Return the summary as a Markdown table, one line per class, in the papers' form mean ± std."""
        tolerance = "" if math.isnan(self.tolerance_mm) else f" ({self.tolerance_mm:g} mm)"
        titles = {**_TITLES, "nsd": f"NSD{tolerance}"}
        lines = [
            ["Class", "Cases", "Failures", *(titles[score] for score in SCORE_NAMES)],
            ["---"] * (3 + len(SCORE_NAMES)),
            *(
                [name, str(part.cases), str(part.failures), *(part.format(score) for score in SCORE_NAMES)]
                for name, part in self.summary().items()
            ),
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write all rows; :meth:`read_csv` reads them back without loss."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({"case": row.case, "class": row.class_name, **row.scores.as_dict()} for row in self.rows)
        with atomic_path(path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")

    def write_json(self, path: str | os.PathLike[str]) -> None:
        """Write the summary by class; a number that does not exist is ``null``."""
        content = {
            "standard_deviation": "sample (n - 1)",
            "nsd_tolerance_mm": _or_none(self.tolerance_mm),
            "classes": {name: _without_nan(part) for name, part in self.summary().items()},
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read_csv(cls, path: str | os.PathLike[str]) -> CaseTable:
        """Read a table that :meth:`write_csv` wrote.

        Raises:
            ValueError: if a column is missing or a value cannot be read; it names the file and the line.
        """
        table, file = cls(), Path(path)
        try:
            text = file.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file.name} is not a per-case table: it is not a text file") from error
        reader = csv.DictReader(io.StringIO(text, newline=""))
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{file.name} is not a per-case table: column {', '.join(missing)} is missing")
        for record in reader:
            try:
                table.add(record["case"], record["class"], _parse(record))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{file.name}, line {reader.line_num}: {error}") from error
        return table

    def _summarize(self, class_name: str) -> ClassSummary:
        columns = {score: np.array(list(self.column(score, class_name).values())) for score in SCORE_NAMES}
        failures = [row.scores.failed for row in self.rows if row.class_name == class_name]
        single = len(failures) == 1
        return ClassSummary(
            cases=len(failures),
            failures=sum(failures),
            mean={score: float(values.mean()) for score, values in columns.items()},
            std={score: math.nan if single else float(values.std(ddof=1)) for score, values in columns.items()},
        )


def _parse(record: dict[str, str]) -> CaseScores:
    flags = {"True": True, "False": False}
    if record["failed"] not in flags:
        raise ValueError(f"column failed holds {record['failed']!r}, expected True or False")
    numbers = {name: float(record[name]) for name in _COLUMNS[2:] if name not in ("failed", "reason")}
    return CaseScores(**numbers, failed=flags[record["failed"]], reason=record["reason"])


def _without_nan(summary: ClassSummary) -> dict[str, object]:
    content = asdict(summary)
    for part in ("mean", "std"):
        content[part] = {score: _or_none(value) for score, value in content[part].items()}
    return content


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
