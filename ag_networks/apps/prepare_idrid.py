"""Datalists of the public fundus set IDRiD: retinopathy grade and risk of macular edema, on the official split."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ag_networks.apps.make_datalist import print_counts, write_datalist
from ag_networks.data import (
    EDEMA_RISKS,
    RETINOPATHY_GRADES,
    Copies,
    check_split,
    find_duplicates,
    leave_out_duplicates,
    read_idrid,
    split_by_subject,
)

__all__ = ["main", "prepare"]

Items = list[dict[str, Any]]

# Pictures of a person seem to stand together in the set's numbering: the picture most like another one is one of its
# next two neighbors nine times as often as chance has it.
NEIGHBORS = 10


class Task(NamedTuple):
    """What is graded: its column, the names of its classes, and its datalist."""

    column: str
    names: tuple[str, ...]
    file: str


TASKS = (
    Task("retinopathy_grade", RETINOPATHY_GRADES, "datalist.json"),
    Task("macular_edema_risk", EDEMA_RISKS, "datalist_macular_edema.json"),
)


def main() -> None:
    """Command line of :func:`prepare`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the unpacked archive, or a folder with labels.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder for the datalists")
    parser.add_argument(
        "--validation", type=float, default=0.2, help="share of the training part to validate on (default: %(default)s)"
    )
    parser.add_argument("--folds", type=int, default=0, help="datalists of so many folds too, and the published one")
    parser.add_argument("--seed", type=int, default=0, help="another number gives another division")
    parser.add_argument("--leave-out-duplicates", action="store_true", help="keep one of each group of equal pictures")
    arguments = parser.parse_args()
    try:
        prepare(
            arguments.source,
            arguments.output,
            validation=arguments.validation,
            folds=arguments.folds,
            seed=arguments.seed,
            leave_out=arguments.leave_out_duplicates,
        )
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


def prepare(
    source: Path,
    output: Path,
    *,
    validation: float = 0.2,
    folds: int = 0,
    seed: int = 0,
    leave_out: bool = False,
) -> None:
    """Write the datalists of both tasks, with the same pictures in the same parts, and print what is in them.

    The test part is the official one. The validation part comes from the official training part, with the classes of
    both tasks as alike as can be. Persons are not known, but neighbors in the numbering resemble each other: ten in a
    row are one subject, and equal pictures are in the same. With pictures divided one by one, validation promises more
    than the test part holds. Paths start at `source`, which is the ``dataset_dir`` for the bundle.

    Folds are ``folds/fold0.json`` and so on, each with a fold of the training part for validation; beside them
    ``published.json`` trains on the whole training part and validates on the official test part (Xu et al., section
    4.3). For macular edema they are in ``folds_macular_edema``.

    Raises:
        ValueError: what :func:`ag_networks.data.read_idrid` refuses, shares that leave nothing, or a single fold.
    """
    if not 0 <= validation < 1 or folds < 0 or folds == 1:
        raise ValueError(
            f"expected a share to validate on below 1 and at least 2 folds, got {validation:g} and {folds}"
        )
    parts = _without_copies(_joint_labels(read_idrid(source)), source, leave_out=leave_out)
    fractions = [1 - validation, validation]
    training, validating = split_by_subject(parts["training"], fractions, seed=seed)
    _write({"training": training, "validation": validating, "test": parts["test"]}, output)
    folded = split_by_subject(parts["training"], [1] * folds, seed=seed) if folds else []
    for task in TASKS:
        folder = output / f"folds{task.file.removeprefix('datalist').removesuffix('.json')}"
        for index, fold in enumerate(folded):
            rest = [item for other in folded if other is not fold for item in other]
            lists = {"training": rest, "validation": fold, "test": parts["test"]}
            write_datalist(_for_task(lists, task), folder / f"fold{index}.json", task.names)
        if folded:
            lists = {"training": parts["training"], "validation": parts["test"]}
            write_datalist(_for_task(lists, task), folder / "published.json", task.names)
    print(f"dataset_dir: {source}\ndatalists: {output}")


def _joint_labels(items: Items) -> dict[str, Items]:
    """Return the official parts; what is divided and compared by label is divided and compared by both labels."""
    parts: dict[str, Items] = {"training": [], "test": []}
    for item in items:
        part = parts[item["split"]]
        first = len(part) // NEIGHBORS * NEIGHBORS + 1
        label = item["retinopathy_grade"] * len(EDEMA_RISKS) + item["macular_edema_risk"]
        kept = {key: value for key, value in item.items() if key != "split"}
        part.append({**kept, "label": label, "subject": f"{item['split']} {first} to {first + NEIGHBORS - 1}"})
    return parts


def _without_copies(parts: Mapping[str, Items], source: Path, *, leave_out: bool) -> dict[str, Items]:
    duplicates, unreadable = find_duplicates(parts, source, progress=True)
    for message in unreadable.values():
        print(f"left out: {message}")
    readable = {name: [item for item in items if item["image"] not in unreadable] for name, items in parts.items()}
    print(f"{len(duplicates)} groups of equal pictures" + ("; all stay" if duplicates and not leave_out else ""))
    # the harmful ones first
    for copies in sorted(duplicates, key=lambda group: (not group.conflicting, not group.across_parts)):
        print(f"  {_named(copies)}")
    if leave_out:
        readable = leave_out_duplicates(readable, duplicates)
        left = sum(len(items) for items in parts.values()) - sum(len(items) for items in readable.values())
        print(f"{left} pictures left out: one of each group stays, none where labels differ")
    own = {(part, item["image"]): item["subject"] for part, items in parts.items() for item in items}
    subjects = {
        (part, image): own[part, next(first for other, first, _ in copies.members if other == part)]
        for copies in duplicates
        for part, image, _ in copies.members
    }
    for part, items in readable.items():
        for item in items:
            item["subject"] = subjects.get((part, item["image"]), item["subject"])
    return readable


def _named(copies: Copies) -> str:
    shown = []
    for part, image, label in copies.members:
        grade, risk = divmod(label, len(EDEMA_RISKS))
        shown.append(f"{part} {Path(image).stem} (grade {grade}, edema risk {risk})")
    return " = ".join(shown) + ", across parts" * copies.across_parts + ", labels differ" * copies.conflicting


def _write(parts: Mapping[str, Items], output: Path) -> None:
    check_split(parts)
    for task in TASKS:
        lists = _for_task(parts, task)
        write_datalist(lists, output / task.file, task.names)
        print(f"\n{task.file}")
        print_counts(lists, task.names)


def _for_task(parts: Mapping[str, Sequence[dict[str, Any]]], task: Task) -> dict[str, Items]:
    return {
        name: [{"image": item["image"], "label": item[task.column], "subject": item["subject"]} for item in items]
        for name, items in parts.items()
    }


if __name__ == "__main__":
    main()
