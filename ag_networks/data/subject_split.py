"""Parts of a dataset that share no subject, and their check."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ag_networks.data.cases import CaseError

__all__ = ["check_split", "divide", "split_by_subject"]

Item = dict[str, Any]


def divide(
    items: Sequence[Item], *, validation: float = 0.15, test: float = 0.15, seed: int = 0
) -> dict[str, list[Item]]:
    """Divide labelled pictures into training, validation and test part by subject, and check the result.

    Where the items have a `"split"` (a set's official one), it holds; if it has no validation part, that is taken from
    the training part.

    Args:
        items: as `read_picture_datalist` gives them.
        validation: share of the pictures; of those for training where the split is given.
        test: share of the pictures, ignored where the split is given.
        seed: as in `split_by_subject`.

    Returns:
        The parts of a datalist by name; their items have no `"split"`.

    Raises:
        ValueError: if the shares leave nothing for training.
        CaseError: if only some items have a split, or if it divides a subject.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ValueError(f"validation {validation:g} and test {test:g} are no shares that leave something for training")
    given = sum("split" in item for item in items)
    if 0 < given < len(items):
        raise CaseError(
            f"{len(items) - given} of {len(items)} pictures have no split; expected one for all or for none"
        )
    parts: dict[str, list[Item]] = {name: [] for name in ("training", "validation", "test")}
    if given:
        for item in items:
            parts[item["split"]].append({key: value for key, value in item.items() if key != "split"})
        if not parts["validation"]:
            parts["training"], parts["validation"] = split_by_subject(
                parts["training"], [1 - validation, validation], seed=seed
            )
    else:
        divided = split_by_subject(items, [1 - validation - test, validation, test], seed=seed)
        parts = dict(zip(parts, divided, strict=True))
    check_split(parts)
    return parts


def split_by_subject(items: Sequence[Item], fractions: Sequence[float], *, seed: int = 0) -> list[list[Item]]:
    """Divide labelled pictures into parts, never those of one subject, with the classes as alike as that allows.

    Iterative stratification (Sechidis et al. 2011, doi 10.1007/978-3-642-23808-6_10) of whole subjects: again and again
    the class with the fewest pictures left takes its subjects, those with the most pictures first, and gives each to
    the part that lacks most of this class. Equal fractions make folds: `split_by_subject(items, [1] * 5)`.

    Args:
        items: dictionaries with `"label"` and `"subject"`.
        fractions: the wanted sizes of the parts, in any unit.
        seed: another seed gives another division.

    Returns:
        A list of items per fraction, each in the order of `items`. With few subjects a part may be empty.

    Raises:
        ValueError: if `fractions` are no sizes.

    Example:
        >>> items = [{"label": i % 2, "subject": f"P{i // 4}"} for i in range(40)]
        >>> [len(part) for part in split_by_subject(items, [0.8, 0.2])]
        [32, 8]
    """
    wanted = np.asarray(fractions, dtype=float)
    if wanted.ndim != 1 or not len(wanted) or (wanted < 0).any() or not wanted.sum() > 0:
        raise ValueError(f"fractions must be sizes of parts, not negative and not all 0, got {list(fractions)}.")
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for item in items:
        counts[item["subject"]][item["label"]] += 1
    part_of = _assign(counts, wanted / wanted.sum(), np.random.default_rng(seed))
    return [[item for item in items if part_of[item["subject"]] == part] for part in range(len(wanted))]


def check_split(parts: Mapping[str, Sequence[Item]]) -> None:
    """Refuse a division that has a subject or a picture in two parts.

    Args:
        parts: the pictures of each part by its name, as in a datalist.

    Raises:
        CaseError: one line that names the subjects and the parts.

    Example:
        >>> check_split({"training": [{"image": "a", "subject": "P1"}], "test": [{"image": "b", "subject": "P1"}]})
        Traceback (most recent call last):
            ...
        ag_networks.data.cases.CaseError: subject P1 is in training and test (1 subject in all); expected every ...
    """
    for key in ("subject", "image"):
        seen: dict[str, list[str]] = defaultdict(list)
        for name, items in parts.items():
            for value in dict.fromkeys(str(item[key]) for item in items if item.get(key)):
                seen[value].append(name)
        divided = {value: names for value, names in seen.items() if len(names) > 1}
        if divided:
            value, names = next(iter(divided.items()))
            found = f"{key} {value} is in {' and '.join(names)} ({len(divided)} {key}{'s' * (len(divided) > 1)} in all)"
            raise CaseError(f"{found}; expected every {key} in one part only")


def _assign(counts: Mapping[str, Counter[int]], fractions: np.ndarray, rng: np.random.Generator) -> dict[str, int]:
    left = list(counts)
    rng.shuffle(left)
    totals = sum(counts.values(), Counter())
    lacking = {label: fractions * total for label, total in totals.items()}
    part_of: dict[str, int] = {}
    while left:
        remaining = sum((counts[subject] for subject in left), Counter())
        rarest = min(remaining, key=lambda label: (remaining[label], label))
        takers = sorted((s for s in left if counts[s][rarest]), key=lambda subject: -sum(counts[subject].values()))
        for subject in takers:
            everything = np.sum(list(lacking.values()), axis=0)
            part = max(range(len(fractions)), key=lambda p: (lacking[rarest][p], everything[p]))
            part_of[subject] = part
            for label, count in counts[subject].items():
                lacking[label][part] -= count
        left = [subject for subject in left if subject not in part_of]
    return part_of
