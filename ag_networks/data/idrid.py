"""The public set IDRiD (disease grading): its tables and fundus photographs as labelled pictures."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ag_networks.data.cases import CaseError
from ag_networks.data.folders import shown, walk_visible

__all__ = ["EDEMA_RISKS", "RETINOPATHY_GRADES", "read_idrid"]

RETINOPATHY_GRADES = ("no retinopathy", "mild", "moderate", "severe", "proliferative")
EDEMA_RISKS = ("no hard exudates", "exudates away from the macula", "exudates near the macula")

TABLE = "labels.csv"
ARCHIVE_TABLES = {
    "training": "a. IDRiD_Disease Grading_Training Labels.csv",
    "test": "b. IDRiD_Disease Grading_Testing Labels.csv",
}
ARCHIVE_FOLDERS = {
    "training": Path("1. Original Images", "a. Training Set"),
    "test": Path("1. Original Images", "b. Testing Set"),
}
PARTS = {"train": "training", "training": "training", "test": "test", "testing": "test"}
EXPECTED = (
    f"expected IDRiD's disease grading, unpacked ('{ARCHIVE_FOLDERS['training'].parts[0]}' and the two tables of "
)
EXPECTED += f"labels), or a folder with {TABLE} (image, split, retinopathy_grade, macular_edema_risk)"

Row = tuple[str, str, Path, str, str]  # table, split, picture, grade, risk


def read_idrid(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read IDRiD as `{"image": path, "split": part, "retinopathy_grade": 0..4, "macular_edema_risk": 0..2}`.

    Porwal et al. 2018 (doi 10.3390/data3030025): 516 photographs, CC BY 4.0. Read is the official archive, wherever
    below `folder` it was unpacked, or a folder with `labels.csv`. `"split"` is the set's own, "training" or "test".
    Names repeat in the two parts, so that only the path tells pictures apart; paths are relative to `folder`, with
    slashes. The order is that of the tables.

    Raises:
        CaseError: one line, if tables, columns or pictures are missing, a picture has two rows, or a label or a split
            is none.
    """
    root = Path(folder).expanduser()
    rows = _rows(root)
    twice = [picture for picture, count in Counter(row[2] for row in rows).items() if count > 1]
    if twice:
        raise CaseError(f"{twice[0].name}: named in several rows of its part; expected one row per picture")
    missing = [picture for _, _, picture, _, _ in rows if not picture.is_file()]
    if missing:
        found = f"{len(missing)} of {len(rows)} pictures are missing, {missing[0].relative_to(root).as_posix()} first"
        raise CaseError(f"{shown(root)}: {found}; {EXPECTED}")
    return [
        {
            "image": picture.relative_to(root).as_posix(),
            "split": split,
            "retinopathy_grade": _label(grade, RETINOPATHY_GRADES, "retinopathy grade", picture, table),
            "macular_edema_risk": _label(risk, EDEMA_RISKS, "risk of macular edema", picture, table),
        }
        for table, split, picture, grade, risk in rows
    ]


def _rows(root: Path) -> list[Row]:
    for path, files in walk_visible(root):
        if TABLE in files:
            return _own_rows(path)
        if set(ARCHIVE_TABLES.values()) <= set(files):
            return _archive_rows(path)
    raise CaseError(f"{shown(root)}: no table of labels in it; {EXPECTED}")


def _own_rows(folder: Path) -> list[Row]:
    rows = []
    for row in _read(folder / TABLE, ("image", "split", "retinopathy_grade", "macular_edema_risk")):
        split = PARTS.get(row["split"].lower())
        if split is None:
            raise CaseError(f"{TABLE}: unknown split {row['split']!r} for {row['image']}; expected train or test")
        rows.append((TABLE, split, folder / row["image"], row["retinopathy_grade"], row["macular_edema_risk"]))
    return rows


def _archive_rows(tables: Path) -> list[Row]:
    rows = []
    for split, table in ARCHIVE_TABLES.items():
        pictures = tables.parent / ARCHIVE_FOLDERS[split]
        rows += [
            (
                table,
                split,
                pictures / f"{row['image name']}.jpg",
                row["retinopathy grade"],
                row["risk of macular edema"],
            )
            for row in _read(tables / table, ("image name", "retinopathy grade", "risk of macular edema"))
        ]
    return rows


def _read(table: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a table; the official ones have blanks behind names and many empty columns and rows."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = [
                {key.strip().lower(): (value or "").strip() for key, value in row.items() if key and key.strip()}
                for row in csv.DictReader(file)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CaseError(f"{table.name}: cannot be read as a table; {EXPECTED}") from error
    lacking = [column for column in columns if not rows or column not in rows[0]]
    if lacking:
        raise CaseError(f"{table.name}: no rows, or no column {', '.join(lacking)}; {EXPECTED}")
    return [row for row in rows if any(row[column] for column in columns)]


def _label(text: str, names: tuple[str, ...], what: str, picture: Path, table: str) -> int:
    if not text.isdecimal() or int(text) >= len(names):
        found = f"no {what}" if not text else f"{what} {text!r}"
        raise CaseError(f"{table}: {found} for {picture.name}; expected 0 to {len(names) - 1}")
    return int(text)
