"""Parts that share no subject and have the classes alike."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from ag_networks.data import CaseError, check_split, divide, split_by_subject


def items(counts: dict[str, list[int]], **common: Any) -> list[dict[str, Any]]:
    """Pictures of subjects: `counts` says how many each has of each class."""
    return [
        {"image": f"{subject}_{label}_{i}", "label": label, "subject": subject, **common}
        for subject, numbers in counts.items()
        for label, number in enumerate(numbers)
        for i in range(number)
    ]


def many(seed: int = 0) -> list[dict[str, Any]]:
    """200 subjects of 1 to 8 pictures; class 2 is rare."""
    rng = np.random.default_rng(seed)
    return items({f"S{i}": rng.multinomial(rng.integers(1, 9), [0.6, 0.35, 0.05]).tolist() for i in range(200)})


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fractions", [[0.7, 0.15, 0.15], [1, 1, 1, 1, 1], [3, 1]], ids=str)
def test_every_part_has_its_share_of_every_class(fractions: list[float], seed: int) -> None:
    pictures = many()
    parts = split_by_subject(pictures, fractions, seed=seed)
    assert sorted(item["image"] for part in parts for item in part) == sorted(item["image"] for item in pictures)
    check_split({str(i): part for i, part in enumerate(parts)})
    totals = Counter(item["label"] for item in pictures)
    for part, fraction in zip(parts, fractions, strict=True):
        counts = Counter(item["label"] for item in part)
        for label, total in totals.items():
            assert abs(counts[label] - total * fraction / sum(fractions)) <= 2.5


def test_seeds_give_other_divisions_that_repeat() -> None:
    first, again, other = (split_by_subject(many(), [0.8, 0.2], seed=seed)[1] for seed in (0, 0, 1))
    assert first == again != other


def test_the_order_of_the_pictures_is_kept() -> None:
    pictures = many()
    part = split_by_subject(pictures, [0.5, 0.5])[0]
    assert part == [item for item in pictures if item in part]


def test_one_subject_cannot_be_divided() -> None:
    assert [len(part) for part in split_by_subject(items({"A": [5, 5]}), [0.7, 0.15, 0.15])] == [10, 0, 0]


def test_a_rare_class_is_not_forgotten() -> None:
    counts = {f"S{i}": [3, 0] for i in range(30)} | {f"R{i}": [2, 1] for i in range(3)}
    parts = split_by_subject(items(counts), [1, 1, 1])
    assert [Counter(item["label"] for item in part)[1] for part in parts] == [1, 1, 1]
    assert {len(part) for part in parts} == {33}


@pytest.mark.parametrize("fractions", [[], [0, 0], [-1, 2], [[1]]], ids=str)
def test_wrong_fractions_are_refused(fractions: list[Any]) -> None:
    with pytest.raises(ValueError, match="fractions must be sizes of parts"):
        split_by_subject(many(), fractions)


def test_a_divided_subject_is_refused() -> None:
    pictures = items({"A": [2], "B": [2], "C": [2]})
    check_split({"training": pictures[:4], "test": pictures[4:]})
    with pytest.raises(CaseError, match=r"^subject B is in training and test \(1 subject in all\); expected every"):
        check_split({"training": pictures[:3], "validation": [], "test": pictures[3:]})
    with pytest.raises(CaseError, match=r"^subject A is in a and b and c \(2 subjects in all\)"):
        check_split({"a": pictures[:3], "b": pictures[:1] + pictures[2:3], "c": pictures[1:2]})
    with pytest.raises(CaseError, match=r"^image x is in a and b"):
        check_split({"a": [{"image": "x", "subject": "A"}], "b": [{"image": "x", "subject": ""}]})


def test_divide_without_a_split() -> None:
    pictures = many()
    parts = divide(pictures, validation=0.2, test=0.1, seed=3)
    assert list(parts) == ["training", "validation", "test"]
    shares = [len(part) / len(pictures) for part in parts.values()]
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.02)


def test_divide_keeps_a_given_split() -> None:
    pictures = items({f"S{i}": [4, 4] for i in range(20)}, split="training") + items({"T": [2, 2]}, split="test")
    parts = divide(pictures, validation=0.2)
    assert [len(part) for part in parts.values()] == [128, 32, 4]
    assert {item["subject"] for item in parts["test"]} == {"T"}
    assert "split" not in parts["training"][0]
    whole = divide([*pictures, *items({"V": [1, 0]}, split="validation")])
    assert [len(part) for part in whole.values()] == [160, 1, 4]


def test_what_divide_refuses() -> None:
    with pytest.raises(ValueError, match="are no shares that leave something for training"):
        divide(many(), validation=0.5, test=0.5)
    with pytest.raises(CaseError, match="2 of 4 pictures have no split; expected one for all or for none"):
        divide(items({"A": [2]}, split="test") + items({"B": [2]}))
    with pytest.raises(CaseError, match="subject A is in training and test"):
        divide(items({"A": [2]}, split="test") + items({"A": [2]}, split="training"), validation=0)
