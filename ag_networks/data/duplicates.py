"""Pictures that are in a dataset more than once, found by their decoded pixels."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ag_networks.data.cases import CaseError
from ag_networks.data.picture_reader import PictureReader

__all__ = ["Copies", "find_duplicates", "leave_out_duplicates"]

Parts = Mapping[str, Sequence[dict[str, Any]]]


class Copies(NamedTuple):
    """Pictures with the same pixels, as (part, picture, label) in the order of the parts."""

    members: tuple[tuple[str, str, int], ...]

    @property
    def across_parts(self) -> bool:
        """Whether they are in different parts."""
        return len({part for part, _, _ in self.members}) > 1

    @property
    def conflicting(self) -> bool:
        """Whether their labels differ."""
        return len({label for _, _, label in self.members}) > 1

    def __str__(self) -> str:
        shown = " = ".join(f"{part} {image} (label {label})" for part, image, label in self.members)
        return shown + (", across parts" if self.across_parts else "") + (", labels differ" * self.conflicting)


def find_duplicates(
    parts: Parts, dataset_dir: str | os.PathLike[str], *, progress: bool = False
) -> tuple[list[Copies], dict[str, str]]:
    """Find pictures with the same pixels within and across the parts of a dataset.

    Compared is what a network sees, as read by `PictureReader` and rounded to 8 bits: copies in another lossless format
    or with other metadata are found, resized or compressed ones are not.

    Args:
        parts: the pictures of each part by its name, as in a datalist.
        dataset_dir: where the paths start.
        progress: show a bar.

    Returns:
        The groups of copies, and for pictures that cannot be read the reason by their path.
    """
    reader = PictureReader()
    groups: dict[bytes, list[tuple[str, str, int]]] = defaultdict(list)
    unreadable = {}
    every = [(name, item) for name, items in parts.items() for item in items]
    for name, item in tqdm(every, desc="comparing pictures", disable=not progress):
        try:
            array = reader.get_data([str(Path(dataset_dir) / item["image"])])[0]
        except CaseError as error:
            unreadable[str(item["image"])] = str(error)
            continue
        pixels = np.rint(array).astype(np.uint8)
        content = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        groups[content].append((name, str(item["image"]), item["label"]))
    return [Copies(tuple(members)) for members in groups.values() if len(members) > 1], unreadable


def leave_out_duplicates(parts: Parts, duplicates: Sequence[Copies]) -> dict[str, list[dict[str, Any]]]:
    """Return the parts with one picture of each group of copies, none where their labels differ.

    The one that stays is in the last part of the group (of training, validation and test the test part), so that what a
    dataset's makers set apart for testing stays whole. Where labels differ, nobody knows which is right.

    Example:
        >>> parts = {"training": [{"image": "a", "label": 0}], "test": [{"image": "b", "label": 0}]}
        >>> leave_out_duplicates(parts, [Copies((("training", "a", 0), ("test", "b", 0)))])
        {'training': [], 'test': [{'image': 'b', 'label': 0}]}
    """
    dropped = set()
    for copies in duplicates:
        last = copies.members[-1][0]
        kept = next(member for member in copies.members if member[0] == last)
        dropped |= {member[:2] for member in copies.members if copies.conflicting or member != kept}
    return {name: [item for item in items if (name, item["image"]) not in dropped] for name, items in parts.items()}
