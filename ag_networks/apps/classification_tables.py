"""Print the papers' tables from saved tables of labelled images (results.csv), and compare the methods in pairs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

# monai is imported by the functions that need it: a --help or a misspelt option must not wait for it.
if TYPE_CHECKING:
    from ag_networks.metrics import PictureTable

__all__ = ["main", "tables"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`tables`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="results.csv of each method; the first one is the baseline")
    parser.add_argument("--ordered", action="store_true", help="the classes are grades in ascending order: add kappa")
    options = parser.parse_args(arguments)
    from ag_networks.metrics import PictureTable

    try:
        methods = dict(zip(_names(options.files), map(PictureTable.read_csv, options.files), strict=True))
        print(tables(methods, ordered=options.ordered))
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    except OSError as error:
        name = Path(error.filename or "file").name
        raise SystemExit(f"error: {name}: {error.strerror or type(error).__name__}") from error


def tables(methods: dict[str, PictureTable], *, ordered: bool = False) -> str:
    """Return the overall table, a table of classes for each method, and each method's comparison with the first.

    Args:
        methods: results by the name of the method; the first is the baseline.
        ordered: whether the classes are grades in ascending order.

    Raises:
        ValueError: if a table is empty.
    """
    return "\n\n".join(_parts(methods, ordered))


def _parts(methods: dict[str, PictureTable], ordered: bool) -> Iterator[str]:
    from ag_networks.metrics import compare_classifiers, format_classes, format_overall

    scores = {name: table.scores(ordered=ordered) for name, table in methods.items()}
    yield format_overall(scores)
    first, *others = methods
    yield f"{first}\n\n{format_classes(scores[first])}"
    for name in others:
        same_classes = methods[name].class_names == methods[first].class_names
        against = f"{name} (in brackets: difference from {first})" if same_classes else name
        yield f"{against}\n\n{format_classes(scores[name], scores[first] if same_classes else None)}"
        if {row.image for row in methods[name].rows} & {row.image for row in methods[first].rows} and same_classes:
            yield f"{name} against {first}: {compare_classifiers(methods[name], methods[first]).format()}"


def _names(files: Sequence[Path]) -> list[str]:
    """Name the methods by their files or, where all files have one name, by as much of their paths as differs."""
    parts = [file.with_suffix("").parts for file in files]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"{files[0].name} is given twice")
