"""Copies of pictures are found by their pixels, and left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_makers import save, save_dicom, speckle

from ag_networks.data import Copies, find_duplicates, leave_out_duplicates

A, B, C, D = (speckle(seed=seed) for seed in range(4))


def part(**labels: int) -> list[dict[str, Any]]:
    return [{"image": name.replace("_", "."), "label": label, "subject": name} for name, label in labels.items()]


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    """Copies within training (same label), across parts (same label) and across parts (other label)."""
    save(tmp_path / "a.png", A)
    save(tmp_path / "a2.bmp", np.stack([A] * 3, axis=2))
    save(tmp_path / "b.png", B)
    save_dicom(tmp_path / "b2.dcm", B)
    save(tmp_path / "c.png", C)
    save(tmp_path / "c2.tif", C)
    save(tmp_path / "d.png", D)
    save(tmp_path / "turned.png", np.ascontiguousarray(D.T))
    return {
        "training": part(a_png=0, a2_bmp=0, b_png=1, c_png=0, d_png=0),
        "test": part(b2_dcm=1, c2_tif=1, turned_png=1),
    }


def test_copies_are_found_within_and_across_parts(parts: dict[str, list[dict[str, Any]]], tmp_path: Path) -> None:
    found, unreadable = find_duplicates(parts, tmp_path)
    assert {copies.members for copies in found} == {
        (("training", "a.png", 0), ("training", "a2.bmp", 0)),
        (("training", "b.png", 1), ("test", "b2.dcm", 1)),
        (("training", "c.png", 0), ("test", "c2.tif", 1)),
    }
    assert unreadable == {}
    assert [(copies.across_parts, copies.conflicting) for copies in found] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    assert str(found[2]) == "training c.png (label 0) = test c2.tif (label 1), across parts, labels differ"


def test_leaving_out_keeps_one_and_none_where_labels_differ(
    parts: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    left = leave_out_duplicates(parts, find_duplicates(parts, tmp_path)[0])
    names = {name: [item["image"] for item in items] for name, items in left.items()}
    assert names == {"training": ["a.png", "d.png"], "test": ["b2.dcm", "turned.png"]}
    assert find_duplicates(left, tmp_path) == ([], {})
    assert len(parts["training"]) == 5, "the argument is not changed"


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    found, unreadable = find_duplicates({"training": part(a_png=0)}, tmp_path)
    assert found == []
    assert list(unreadable) == ["a.png"]
    assert unreadable["a.png"].startswith("a.png: not a picture")


def test_three_copies_are_one_group() -> None:
    copies = Copies((("training", "a", 0), ("validation", "b", 0), ("validation", "c", 0)))
    parts = {"training": part(a=0), "validation": part(b=0, c=0), "test": part(d=0)}
    left = leave_out_duplicates(parts, [copies])
    assert [[item["image"] for item in items] for items in left.values()] == [[], ["b"], ["d"]]
