"""A part of a datalist is checked before it is used."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from ag_networks.data import CaseError, read_class_names, read_datalist_part

A, B = {"image": "a.png", "label": 0, "subject": "P1"}, {"image": "sub/b.png", "label": 2, "subject": "P2"}


def write(folder: Path, content: Any) -> Path:
    path = folder / "list.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_paths_start_from_the_dataset_and_nothing_else_changes(tmp_path: Path) -> None:
    (tmp_path / "P1").mkdir()  # named as the subject
    path = write(tmp_path, {"training": [A, B], "validation": [], "name": "any"})
    items = read_datalist_part(path, "training", tmp_path, classes=3)
    assert items == [{**A, "image": str(tmp_path / "a.png")}, {**B, "image": str(tmp_path / "sub/b.png")}]


def test_an_absent_class_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    read_datalist_part(write(tmp_path, {"test": [A, B]}), "test", tmp_path, classes=4)
    assert [record.getMessage() for record in caplog.records] == ["no picture of class 1, 3 under 'test'"]


BAD = [
    pytest.param("{", "no list of pictures under 'training'; expected", id="no JSON"),
    pytest.param([A], "no list of pictures under 'training'", id="a list"),
    pytest.param({"validation": [A]}, "no list of pictures under 'training'", id="another part"),
    pytest.param({"training": ["a.png"]}, "no list of pictures under 'training'", id="names only"),
    pytest.param({"training": []}, "no picture under 'training'", id="empty"),
    pytest.param({"training": [{**A, "label": 14}]}, "a.png: label 14 is no class; expected 0 to 13", id="label"),
    pytest.param({"training": [{**A, "label": "Femur"}]}, "a.png: label 'Femur' is no class", id="name of a class"),
    pytest.param({"training": [{**A, "label": True}]}, "a.png: label True is no class", id="no number"),
    pytest.param({"training": [A], "test": [{**B, "subject": "P1"}]}, "subject P1 is in training and test", id="split"),
    pytest.param({"training": [A], "test": [{**A, "subject": "P9"}]}, "image a.png is in training and", id="twice"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_a_bad_datalist_is_one_line(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CaseError) as refusal:
        read_datalist_part(write(tmp_path, content), "training", tmp_path, classes=14)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_a_missing_datalist_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"^datalist 'none.json': No such file or directory; expected"):
        read_datalist_part(tmp_path / "none.json", "training", tmp_path, classes=2)


def test_class_names_come_in_the_order_of_their_indices(tmp_path: Path) -> None:
    names = {str(i): f"class {i}" for i in (3, 11, 0, 2, 10, 1, 4, 5, 6, 7, 8, 9)}
    path = write(tmp_path, {"training": [A], "class_names": names})
    assert list(read_class_names(path).items()) == [(str(i), f"class {i}") for i in range(12)]
    assert len(read_datalist_part(path, "training", tmp_path, classes=12)) == 1, "the names are no part"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        [A],
        {"training": [A]},
        {"class_names": {}},
        {"class_names": ["healthy", "glaucoma"]},
        {"class_names": {"1": "healthy", "2": "glaucoma"}},
        {"class_names": 2},
    ],
    ids=["no JSON", "a list", "no names", "empty", "names without indices", "not from 0", "a number"],
)
def test_a_datalist_without_class_names_is_one_line(content: Any, tmp_path: Path) -> None:
    with pytest.raises(
        CaseError, match=r"^datalist 'list.json': names no classes; expected one that make_datalist has"
    ):
        read_class_names(write(tmp_path, content))


def test_class_names_of_a_missing_datalist(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"^datalist 'none.json': No such file or directory; expected"):
        read_class_names(tmp_path / "none.json")
