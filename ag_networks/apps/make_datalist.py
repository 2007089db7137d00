"""Datalist of a classification bundle from your own pictures: a folder per class, or a table."""

import argparse
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ag_networks.atomic import atomic_path
from ag_networks.data import divide, find_duplicates, leave_out_duplicates, read_picture_datalist

__all__ = ["class_names", "main", "make_datalist", "print_counts", "write_datalist"]

SHOWN = 10

Parts = Mapping[str, Sequence[dict[str, Any]]]


def main() -> None:
    """Command line of :func:`make_datalist`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--source", type=Path, required=True, help="folder with one subfolder per class, or a CSV table"
    )
    parser.add_argument(
        "--classes", nargs="+", required=True, help="names of the classes in order, or a bundle's configs/metadata.json"
    )
    parser.add_argument("--output", type=Path, required=True, help="datalist to write (.json)")
    parser.add_argument(
        "--dataset-dir", type=Path, help="folder that paths start from (default: the source, or the table's folder)"
    )
    parser.add_argument("--validation", type=float, default=0.15, help="share to validate on (default: %(default)s)")
    parser.add_argument("--test", type=float, default=0.15, help="share to test on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another number gives another split")
    parser.add_argument("--leave-out-duplicates", action="store_true", help="keep one of each group of equal pictures")
    parser.add_argument("--allow-empty-classes", action="store_true", help="take classes without pictures")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        make_datalist(
            arguments.source,
            class_names(arguments.classes),
            arguments.output,
            dataset_dir=arguments.dataset_dir,
            validation=arguments.validation,
            test=arguments.test,
            seed=arguments.seed,
            leave_out=arguments.leave_out_duplicates,
            allow_empty=arguments.allow_empty_classes,
        )
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


def make_datalist(
    source: Path,
    names: Sequence[str],
    output: Path,
    *,
    dataset_dir: Path | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    leave_out: bool = False,
    allow_empty: bool = False,
) -> None:
    """Read, divide by subject, compare all pictures, write the datalist and print what is in it.

    Pictures that cannot be read are left out, with a line for each.

    Raises:
        ValueError: what :func:`ag_networks.data.read_picture_datalist` and :func:`ag_networks.data.divide` refuse.
    """
    items = read_picture_datalist(source, class_names=names, dataset_dir=dataset_dir, allow_empty=allow_empty)
    parts = divide(items, validation=validation, test=test, seed=seed)
    root = dataset_dir or (source if source.is_dir() else source.parent)
    duplicates, unreadable = find_duplicates(parts, root, progress=True)
    for message in unreadable.values():
        print(f"left out: {message}")
    parts = {name: [item for item in part if item["image"] not in unreadable] for name, part in parts.items()}
    kept = ": one of each stays, none where labels differ" if leave_out else ""
    print(f"{len(duplicates)} groups of equal pictures{kept}")
    # the harmful ones first
    for copies in sorted(duplicates, key=lambda group: (not group.conflicting, not group.across_parts))[:SHOWN]:
        print(f"  {copies}")
    if len(duplicates) > SHOWN:
        print(f"  and {len(duplicates) - SHOWN} more")
    if leave_out:
        parts = leave_out_duplicates(parts, duplicates)
    write_datalist(parts, output, names)
    print_counts(parts, names)


def class_names(given: Sequence[str]) -> list[str]:
    """Return the names as given on a command line, or those that a bundle's ``metadata.json`` lists.

    Raises:
        ValueError: if the file is missing or lists no classes.

    Example:
        >>> class_names(["Brain (Cb.)", "Femur"])
        ['Brain (Cb.)', 'Femur']
    """
    if len(given) != 1 or not given[0].lower().endswith(".json"):
        return list(given)
    path = Path(given[0])
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))["network_data_format"]["outputs"]["pred"]["channel_def"]
        return [classes[str(index)] for index in range(len(classes))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = "cannot be read, or lists no classes"
        raise ValueError(f"{path.name}: {found}; expected a bundle's configs/metadata.json") from error


def write_datalist(parts: Parts, output: Path, names: Sequence[str] = ()) -> None:
    """Write the parts, and the names of the classes if given, as JSON, whole or not at all."""
    content: dict[str, Any] = dict(parts)
    if names:
        content["class_names"] = {str(index): name for index, name in enumerate(names)}
    with atomic_path(output) as path:
        path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def print_counts(parts: Parts, names: Sequence[str]) -> None:
    """Print how many pictures of each class and how many subjects each part has."""
    counts = {part: Counter(item["label"] for item in items) for part, items in parts.items()}
    width = max(len("subjects"), *(len(name) for name in names))
    print(" " * width, *(f"{part:>10}" for part in parts))
    for index, name in enumerate(names):
        print(f"{name:<{width}}", *(f"{counts[part][index]:>10}" for part in parts))
    print(f"{'subjects':<{width}}", *(f"{len({item['subject'] for item in items}):>10}" for items in parts.values()))
    for index, name in enumerate(names):
        lacking = [part for part in parts if parts[part] and not counts[part][index]]
        if lacking:
            print(f"warning: no picture of {name} in {' and '.join(lacking)}")


if __name__ == "__main__":
    main()
