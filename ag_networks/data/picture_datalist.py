"""Labelled pictures from a folder per class or a table, checked."""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ag_networks.data.cases import CaseError
from ag_networks.data.folders import shown
from ag_networks.data.pictures import count_frames, frame_name, is_picture_file, list_pictures, split_frame

__all__ = ["PARTS", "read_picture_datalist"]

PARTS = {"train": "training", "training": "training", "val": "validation", "validation": "validation", "test": "test"}
COLUMNS = ("image", "label")
SHOWN = 3
EXPECTED = "expected a folder with one subfolder per class, or a table (.csv) with the columns image, label, subject"

logger = logging.getLogger(__name__)


def read_picture_datalist(
    source: str | os.PathLike[str],
    *,
    class_names: Sequence[str],
    dataset_dir: str | os.PathLike[str] | None = None,
    allow_empty: bool = False,
) -> list[dict[str, Any]]:
    """Read labelled pictures as `{"image": path, "label": index, "subject": name}`, paths relative to the dataset.

    A folder has one subfolder per class, named as the class. Pictures may lie deeper: the first folder below the class
    is their subject. A table is a CSV file (comma or semicolon) with the columns `image` (a path), `label` (a class
    name or its index) and, if known, `subject` and `split` (train, val or test), which comes as `"split"`
    (`"training"`, `"validation"`, `"test"`) in the items. In both, a clip stands for all its frames.

    A picture without a subject is its own subject (a frame: its clip), and a warning in the log says how many they are.

    Args:
        source: the folder or table.
        class_names: the classes in order; a label becomes its index.
        dataset_dir: where the paths of a table start and what the result's are relative to; by default the folder, or
            the folder of the table.
        allow_empty: take classes without pictures.

    Raises:
        CaseError: for labels that are no class, classes without pictures, pictures that are missing or no pictures,
            rows that name a picture twice, unknown columns or splits, and an empty or missing source.
    """
    source = Path(source).expanduser()
    if not source.exists():
        raise CaseError(f"{shown(source)}: no such file or folder; {EXPECTED}")
    names = _ClassNames(class_names)
    root = Path(dataset_dir).expanduser() if dataset_dir is not None else (source if source.is_dir() else source.parent)
    items = _read_folder(source, root, names) if source.is_dir() else _read_table(source, root, names)
    counts = Counter(item["label"] for item in items)
    empty = [name for index, name in enumerate(class_names) if not counts[index]]
    if empty and not allow_empty:
        found = f"no picture of {_some(empty, len(class_names))}"
        raise CaseError(f"{shown(source)}: {found}; expected pictures of every class, or allow_empty")
    return _with_subjects(items, source)


class _ClassNames:
    """Labels as people write them -> index."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.names = list(class_names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"class_names must be different names, at least one, got {self.names}.")
        self.index = {name: index for index, name in enumerate(self.names)}

    def __call__(self, label: str) -> int | None:
        """Return the index of a name, or of an index written as text; None if it is neither."""
        if label in self.index:
            return self.index[label]
        return int(label) if label.isdecimal() and int(label) < len(self.names) else None

    def refuse(self, unknown: Iterable[str], source: Path) -> None:
        """Refuse labels that are no class, naming them and the classes."""
        labels = sorted(set(unknown))
        if labels:
            found = f"unknown labels {_some(labels)}" if len(labels) > 1 else f"unknown label {labels[0]!r}"
            known = ", ".join(self.names)
            raise CaseError(f"{shown(source)}: {found}; expected one of {known}, or 0 to {len(self.names) - 1}")


def _read_folder(source: Path, root: Path, names: _ClassNames) -> list[dict[str, Any]]:
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise CaseError(f"{shown(source)}: no subfolder in it; {EXPECTED}")
    names.refuse((folder.name for folder in folders if names(folder.name) is None), source)
    items = []
    for folder in folders:
        for picture in _pictures(folder):
            below = Path(split_frame(picture["case"])[0]).parts
            subject = below[0] if len(below) > 1 else ""
            image = Path(os.path.relpath(picture["image"], root)).as_posix()
            items.append({"image": image, "label": names(folder.name), "subject": subject})
    return items


def _pictures(folder: Path) -> list[dict[str, Any]]:
    try:
        return list_pictures(folder)
    except CaseError:  # none in it: the class is empty
        return []


def _read_table(source: Path, root: Path, names: _ClassNames) -> list[dict[str, Any]]:
    rows = _rows(source)
    names.refuse((row["label"] for row in rows if names(row["label"]) is None), source)
    twice = [image for image, count in Counter(row["image"] for row in rows).items() if count > 1]
    if twice:
        raise CaseError(f"{shown(source)}: {_some(twice)} named in several rows; expected one row per picture")
    missing = [row["image"] for row in rows if not _is_there(root, row["image"])]
    if missing:
        found = f"{len(missing)} of {len(rows)} pictures are missing or no pictures: {_some(missing)}"
        raise CaseError(f"{shown(source)}: {found}; expected paths from the folder {shown(root)}")
    items = []
    for row in rows:
        common = {"label": names(row["label"]), "subject": row.get("subject", "")}
        if row.get("split"):
            if row["split"].lower() not in PARTS:
                raise CaseError(f"{shown(source)}: unknown split {row['split']!r}; expected train, val or test")
            common["split"] = PARTS[row["split"].lower()]
        path = root / row["image"]
        frames = count_frames(path) if path.exists() else None
        images = [row["image"]] if frames is None else [frame_name(row["image"], frame) for frame in range(frames)]
        items += [{"image": image, **common} for image in images]
    return items


def _rows(source: Path) -> list[dict[str, str]]:
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"{shown(source)}: cannot be read as text; {EXPECTED}") from error
    lines = text.splitlines()
    delimiter = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    rows = [
        {key.strip(): (value or "").strip() for key, value in row.items() if key is not None}
        for row in csv.DictReader(lines, delimiter=delimiter)
    ]
    if not rows:
        raise CaseError(f"{shown(source)}: no rows in it; {EXPECTED}")
    lacking = [column for column in COLUMNS if column not in rows[0]]
    if lacking:
        raise CaseError(f"{shown(source)}: no column {' or '.join(lacking)}, found {', '.join(rows[0])}; {EXPECTED}")
    return rows


def _is_there(root: Path, image: str) -> bool:
    path = root / image
    if not path.is_file():
        path = root / split_frame(image)[0]
    return bool(image) and path.is_file() and is_picture_file(path)


def _with_subjects(items: list[dict[str, Any]], source: Path) -> list[dict[str, Any]]:
    unknown = 0
    for item in items:
        if not item["subject"]:
            item["subject"] = split_frame(item["image"])[0]
            unknown += 1
    if unknown:
        logger.warning(
            "%s: %d of %d pictures have no subject; each is taken as its own. Pictures of one person may then come "
            "into two parts",
            shown(source),
            unknown,
            len(items),
        )
    return items


def _some(names: Sequence[str], total: int | None = None) -> str:
    """Name a few of many."""
    listed = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return f"{listed} ({len(names)} of {total} classes)" if total else listed
