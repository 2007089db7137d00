"""IDRiD as its archive holds it, and as a folder with one table."""

import csv
from pathlib import Path

import pytest

from ag_networks.data import CaseError, read_idrid

LABELS = {"training": [(3, 2), (0, 0), (2, 1)], "test": [(4, 2), (1, 0)]}
FOLDERS = {"training": "1. Original Images/a. Training Set", "test": "1. Original Images/b. Testing Set"}
TABLES = {
    "training": "2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv",
    "test": "2. Groundtruths/b. IDRiD_Disease Grading_Testing Labels.csv",
}


def archive(root: Path, labels: dict[str, list[tuple[object, object]]] = LABELS) -> Path:
    """Write what the official archive holds; the training table has empty columns, as the original."""
    for part, rows in labels.items():
        empty = ",,,,,,,,," if part == "training" else ""
        lines = [f"Image name,Retinopathy grade,Risk of macular edema {empty}"]
        for number, (grade, risk) in enumerate(rows, start=1):
            picture = root / FOLDERS[part] / f"IDRiD_{number:03d}.jpg"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.touch()
            lines.append(f"IDRiD_{number:03d},{grade},{risk}{empty}")
        table = root / TABLES[part]
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("\r\n".join([*lines, f",,{empty}", ""]), encoding="utf-8")
    return root


def own_table(root: Path, rows: list[tuple[str, str, object, object]]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, *_ in rows:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "split", "retinopathy_grade", "macular_edema_risk"), *rows])
    return root


def test_the_archive_is_read_wherever_it_was_unpacked(tmp_path: Path) -> None:
    archive(tmp_path / "downloads" / "B. Disease Grading")
    items = read_idrid(tmp_path)
    assert len(items) == 5
    assert items[0] == {
        "image": "downloads/B. Disease Grading/1. Original Images/a. Training Set/IDRiD_001.jpg",
        "split": "training",
        "retinopathy_grade": 3,
        "macular_edema_risk": 2,
    }
    assert items[3]["image"].endswith("b. Testing Set/IDRiD_001.jpg"), "names repeat in the parts"
    assert [item["split"] for item in items] == ["training"] * 3 + ["test"] * 2
    assert [(item["retinopathy_grade"], item["macular_edema_risk"]) for item in items[3:]] == LABELS["test"]
    assert all((tmp_path / item["image"]).is_file() for item in items)


def test_a_folder_with_one_table_is_read(tmp_path: Path) -> None:
    rows = [("train/a.jpg", "train", 0, 0), ("test/a.jpg", "test", 4, 2), ("train/b.jpg", "Training", 2, 1)]
    items = read_idrid(own_table(tmp_path / "set", rows))
    assert [(item["image"], item["split"]) for item in items] == [
        ("train/a.jpg", "training"),
        ("test/a.jpg", "test"),
        ("train/b.jpg", "training"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("train/x.jpg", "train", 5, 0), r"labels.csv: retinopathy grade '5' for x.jpg; expected 0 to 4"),
        (("train/x.jpg", "train", 0, 3), r"labels.csv: risk of macular edema '3' for x.jpg; expected 0 to 2"),
        (("train/x.jpg", "train", "", 1), r"labels.csv: no retinopathy grade for x.jpg; expected 0 to 4"),
        (("train/x.jpg", "train", -1, 1), r"retinopathy grade '-1' for x.jpg"),
        (("train/x.jpg", "val", 1, 1), r"unknown split 'val' for train/x.jpg; expected train or test"),
        (("train/a.jpg", "train", 1, 1), r"a.jpg: named in several rows of its part"),
    ],
    ids=["grade", "risk", "empty", "negative", "split", "twice"],
)
def test_wrong_rows_are_named(tmp_path: Path, row: tuple[str, str, object, object], message: str) -> None:
    own_table(tmp_path, [("train/a.jpg", "train", 0, 0), row])
    with pytest.raises(CaseError, match=message):
        read_idrid(tmp_path)


def test_missing_pictures_are_counted(tmp_path: Path) -> None:
    (archive(tmp_path) / FOLDERS["test"] / "IDRiD_002.jpg").unlink()
    with pytest.raises(
        CaseError, match=r"1 of 5 pictures are missing, 1. Original Images/b. Testing Set/IDRiD_002.jpg"
    ):
        read_idrid(tmp_path)


def test_a_lacking_column_is_named(tmp_path: Path) -> None:
    table = archive(tmp_path) / TABLES["training"]
    table.write_text(table.read_text().replace("Retinopathy grade", "Grade"))
    with pytest.raises(CaseError, match=r"Training Labels\.csv: no rows, or no column retinopathy grade"):
        read_idrid(tmp_path)


@pytest.mark.parametrize("lacking", ["everything", "a table"])
def test_another_folder_is_refused(tmp_path: Path, lacking: str) -> None:
    if lacking == "a table":
        (archive(tmp_path) / TABLES["test"]).unlink()
    with pytest.raises(CaseError, match=r"no table of labels in it; expected IDRiD's disease grading, unpacked"):
        read_idrid(tmp_path)
