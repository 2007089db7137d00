"""The public set FETAL_PLANES_DB: its table and pictures as a datalist by patient."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ag_networks.data.cases import CaseError
from ag_networks.data.folders import shown, walk_visible

__all__ = ["ARCHIVE_URL", "BRAIN_PLANES", "PLANES", "find_fetal_planes_db", "read_fetal_planes_db"]

ARCHIVE_URL = "https://zenodo.org/records/3904280/files/FETAL_PLANES_ZENODO.zip"
TABLE = "FETAL_PLANES_DB_data.csv"
PLANES = ("Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax", "Maternal cervix", "Other")
BRAIN_PLANES = ("Trans-cerebellum", "Trans-thalamic", "Trans-ventricular")
NO_BRAIN_PLANE = ("Not A Brain", "Other")
COLUMNS = ("Image_name", "Patient_num", "Plane", "Brain_plane", "Train")
EXPECTED = f"expected the archive of FETAL_PLANES_DB, unpacked: {TABLE} and the folder Images"


def find_fetal_planes_db(folder: str | os.PathLike[str]) -> Path:
    """Return the folder at or below `folder` that holds the set's table.

    Raises:
        CaseError: if there is none.
    """
    root = Path(folder).expanduser()
    for path, files in walk_visible(root):
        if TABLE in files:
            return path
    raise CaseError(f"{shown(root)}: no {TABLE} in it; {EXPECTED}")


def read_fetal_planes_db(folder: str | os.PathLike[str], *, brain_planes: bool = False) -> list[dict[str, Any]]:
    """Read the table as `{"image": path, "label": index, "subject": patient, "split": part}`.

    Burgos-Artizzu et al. 2020 (doi 10.1038/s41598-020-67076-5): 12,400 pictures of 1,792 patients, CC BY 4.0. `"split"`
    is `"training"` or `"test"`, the set's own column `Train`; paths are relative to `folder`.

    Args:
        folder: holds the table and the folder `Images`.
        brain_planes: only the pictures with one of the three `BRAIN_PLANES`, labelled with these; else all, with the
            six `PLANES`.

    Raises:
        CaseError: if the table, a column or pictures are missing, or a class is unknown.
    """
    root = Path(folder).expanduser()
    rows = _rows(root / TABLE)
    column, names = ("Brain_plane", BRAIN_PLANES) if brain_planes else ("Plane", PLANES)
    known = (*names, *NO_BRAIN_PLANE) if brain_planes else names
    unknown = sorted({row[column] for row in rows} - set(known))
    if unknown:
        raise CaseError(f"{TABLE}: unknown {column} {', '.join(unknown)}; expected {', '.join(known)}")
    items = []
    for row in rows:
        if row["Train"] not in ("0", "1"):
            raise CaseError(f"{TABLE}: Train is {row['Train']!r} for {row['Image_name']}; expected 0 or 1")
        if row[column] not in names:
            continue
        image = f"Images/{row['Image_name'].removesuffix('.png')}.png"
        items.append(
            {
                "image": image,
                "label": names.index(row[column]),
                "subject": f"FP{int(row['Patient_num']):05d}",
                "split": "training" if row["Train"] == "1" else "test",
            }
        )
    _check_pictures(items, root)
    return items


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        raise CaseError(f"{shown(table.parent)}: no {TABLE} in it; {EXPECTED}")
    with table.open(newline="", encoding="utf-8-sig") as file:
        # The original has a blank behind the last column's name.
        rows = [
            {key.strip(): (value or "").strip() for key, value in row.items() if key is not None}
            for row in csv.DictReader(file, delimiter=";")
        ]
    lacking = [column for column in COLUMNS if not rows or column not in rows[0]]
    if lacking:
        raise CaseError(f"{TABLE}: no rows, or no column {', '.join(lacking)}; {EXPECTED}")
    return rows


def _check_pictures(items: list[dict[str, Any]], root: Path) -> None:
    twice = [image for image, count in Counter(item["image"] for item in items).items() if count > 1]
    if twice:
        raise CaseError(f"{TABLE}: {twice[0]} has several rows; expected one row per picture")
    missing = [item["image"] for item in items if not (root / item["image"]).is_file()]
    if missing:
        found = f"{len(missing)} of {len(items)} pictures are missing, {missing[0]} first"
        raise CaseError(f"{shown(root)}: {found}; {EXPECTED}")
