"""Walking through a user's folder, and naming it in messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["shown", "walk_visible"]


def walk_visible(root: Path, skipped: Path | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield the visible folders from `root` down with their visible files, in a stable order.

    Links are followed and each real folder comes once, so that a loop ends. `skipped` (results inside the input) and
    what lies below it never come.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.png", "a.png", ".hidden"):
        ...         Path(folder, name).touch()
        ...     [files for _, files in walk_visible(Path(folder))]
        [['a.png', 'b.png']]
    """
    seen = {os.path.realpath(skipped)} if skipped is not None else set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(folder), sorted(name for name in files if not name.startswith("."))


def shown(path: Path) -> str:
    """Name a path for the user: as given where relative, otherwise without its parents.

    Example:
        >>> shown(Path("scans/first")), shown(Path("first").absolute())
        ("'scans/first'", "'first'")
    """
    return repr(path.name if path.is_absolute() and path.name else str(path))
