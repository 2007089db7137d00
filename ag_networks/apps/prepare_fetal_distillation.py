"""Frames from which the fetal plane bundle's shipped network learns: public ones with coarse labels, and no fetuses."""

import argparse
import csv
import json
import shutil
from pathlib import Path

from tqdm import tqdm

from ag_networks.atomic import atomic_path

__all__ = ["COARSE_LABELS", "EXAMPLES", "main", "prepare", "validating_subjects"]

# What the public sets call a frame, in the order of the labels; the config says which planes each may be.
COARSE_LABELS = (
    "fetal_brain",
    "fetal_thorax",
    "fetal_abdomen",
    "fetal_femur",
    "maternal_cervix",
    "other",
    "head_circumference",
    "no_ultrasound",
)
EXAMPLES = "SonoNet examples"  # a test: never trained on
VALIDATION_EVERY = {"FETAL_PLANES_DB": 3, "HC18": 8, "no_ultrasound": 4}


def main() -> None:
    """Command line of :func:`prepare`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--other", type=Path, nargs="*", default=[], help="folders of pictures that show no fetus")
    parser.add_argument("--other-count", type=int, default=60, help="pictures to take of each (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="dataset folder to write")
    arguments = parser.parse_args()
    try:
        prepare(arguments.source, arguments.other, arguments.output, other_count=arguments.other_count)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


def prepare(source: Path, other: list[Path], output: Path, *, other_count: int) -> None:
    """Copy the frames below `output` and write ``datalist.json``, split by subject; the example frames stay out.

    Raises:
        ValueError: if `source` has no ``labels.csv``, or a label of it is unknown.
    """
    table = source / "labels.csv"
    if not table.is_file():
        raise ValueError(f"labels.csv was not found in the folder '{source.name}'.")
    with table.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] != EXAMPLES]
    items = [_item(row, source) for row in rows]
    for folder in other:
        pictures = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        chosen = pictures[:: max(1, len(pictures) // other_count)][:other_count]
        label = COARSE_LABELS.index("no_ultrasound")
        items += [(path, "no_ultrasound", label, f"{folder.name}/{path.parent.name}/{path.stem}") for path in chosen]
    datalist: dict[str, list[dict[str, object]]] = {"training": [], "validation": []}
    validating = _validating({(origin, subject) for _, origin, _, subject in items})
    for path, origin, label, subject in tqdm(items, desc="frames"):
        name = f"{origin.lower()}/{subject.replace('/', '_')}_{path.name}"
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, output / name)
        part = "validation" if (origin, subject) in validating else "training"
        datalist[part].append({"image": name, "label": label, "subject": subject})
    with atomic_path(output / "datalist.json") as path:
        path.write_text(json.dumps(datalist, indent=1) + "\n")


def validating_subjects(rows: list[dict[str, str]]) -> set[tuple[str, str]]:
    """Set and subject of what validates, among the rows of ``labels.csv``: every third or eighth subject."""
    return _validating({(row["source"].split()[0], row["subject"]) for row in rows if row["source"] != EXAMPLES})


def _item(row: dict[str, str], source: Path) -> tuple[Path, str, int, str]:
    """File, set, label and subject of a row."""
    origin = row["source"].split()[0]
    name = "head_circumference" if origin == "HC18" else row["label"]
    if name not in COARSE_LABELS or origin not in VALIDATION_EVERY:
        raise ValueError(f"{row['image']}: label {row['label']!r} of {row['source']!r} is unknown.")
    return source / row["image"], origin, COARSE_LABELS.index(name), row["subject"]


def _validating(subjects: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Every so-many-th subject of each set."""
    chosen: set[tuple[str, str]] = set()
    for origin, every in VALIDATION_EVERY.items():
        own = sorted(subject for subject in subjects if subject[0] == origin)
        chosen.update(own[every - 1 :: every])
    return chosen


if __name__ == "__main__":
    main()
