"""Datalists of a small IDRiD: parts, copies, folds and both tasks."""

import csv
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_makers import save

from ag_networks.apps.prepare_idrid import main, prepare
from ag_networks.data import read_datalist_part

TRAINING, TEST = 100, 20


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures, with copies: training 1 = 95 (same labels), 2 = 96 (other labels), 3 = test 1 (other labels)."""
    root = tmp_path_factory.mktemp("idrid")
    rows = []
    for split, count in (("train", TRAINING), ("test", TEST)):
        for number in range(1, count + 1):
            seed = {("train", 95): 1, ("train", 96): 2, ("test", 1): 3}.get((split, number), number)
            seed += 1000 * (split == "test" and number != 1)
            pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3))
            save(root / split / f"IDRiD_{number:03d}.png", pixels.astype(np.uint8))
            grade, risk = seed % 5, seed % 3
            if (split, number) in (("train", 96), ("test", 1)):
                grade = (grade + 1) % 5
            rows.append((f"{split}/IDRiD_{number:03d}.png", split, grade, risk))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "split", "retinopathy_grade", "macular_edema_risk"), *rows])
    return root


def read(path: Path) -> dict[str, list[dict[str, Any]]]:
    content = json.loads(path.read_text())
    return {part: content[part] for part in ("training", "validation", "test") if part in content}


def images(items: list[dict[str, Any]]) -> list[str]:
    return [item["image"] for item in items]


def test_both_tasks_have_the_same_pictures_in_the_official_parts(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path)
    grades, risks = read(tmp_path / "datalist.json"), read(tmp_path / "datalist_macular_edema.json")
    assert {part: images(items) for part, items in grades.items()} == {
        part: images(items) for part, items in risks.items()
    }
    assert sorted(images(grades["test"])) == [f"test/IDRiD_{n:03d}.png" for n in range(1, TEST + 1)]
    assert len(grades["training"]) + len(grades["validation"]) == TRAINING
    assert 10 <= len(grades["validation"]) <= 30
    assert {item["label"] for item in grades["training"]} == set(range(5))
    assert {item["label"] for item in risks["validation"]} == set(range(3))
    with (source / "labels.csv").open(newline="") as file:
        labels = {
            row["image"]: (int(row["retinopathy_grade"]), int(row["macular_edema_risk"]))
            for row in csv.DictReader(file)
        }
    for part, items in grades.items():
        for grade, risk in zip(items, risks[part], strict=True):
            assert (grade["label"], risk["label"]) == labels[grade["image"]]
    names = json.loads((tmp_path / "datalist_macular_edema.json").read_text())["class_names"]
    assert names["2"] == "exudates near the macula"


def test_no_subject_and_no_copy_is_divided(source: Path, tmp_path: Path) -> None:
    for seed in range(4):
        prepare(source, tmp_path, seed=seed)
        parts = read(tmp_path / "datalist.json")
        subjects = {name: {item["subject"] for item in items} for name, items in parts.items()}
        assert not subjects["training"] & subjects["validation"]
        assert not (subjects["training"] | subjects["validation"]) & subjects["test"]
        of = {item["image"]: item["subject"] for items in parts.values() for item in items}
        assert of["train/IDRiD_001.png"] == of["train/IDRiD_095.png"]
        assert of["train/IDRiD_002.png"] == of["train/IDRiD_096.png"]


def test_copies_are_shown_the_harmful_ones_first_and_stay(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(source, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("3 groups of equal pictures; all stay")
    first, second, third = lines[start + 1 : start + 4]
    assert first.strip() == (
        "training IDRiD_003 (grade 3, edema risk 0) = test IDRiD_001 (grade 4, edema risk 0), across parts, "
        "labels differ"
    )
    assert second.strip().startswith("training IDRiD_002 (grade 2")
    assert second.endswith(", labels differ")
    assert third.strip() == "training IDRiD_001 (grade 1, edema risk 1) = training IDRiD_095 (grade 1, edema risk 1)"


def test_copies_can_be_left_out_of_both_tasks(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(source, tmp_path, leave_out=True)
    assert "5 pictures left out: one of each group stays, none where labels differ" in capsys.readouterr().out
    for name in ("datalist.json", "datalist_macular_edema.json"):
        parts = read(tmp_path / name)
        kept = {image for items in parts.values() for image in images(items)}
        gone = {"train/IDRiD_095.png", "train/IDRiD_002.png", "train/IDRiD_096.png", "train/IDRiD_003.png"}
        assert not kept & (gone | {"test/IDRiD_001.png"})
        assert len(kept) == TRAINING + TEST - 5


def test_folds_divide_the_training_part(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path, folds=5)
    for folder in (tmp_path / "folds", tmp_path / "folds_macular_edema"):
        folds = [read(folder / f"fold{n}.json") for n in range(5)]
        counted = Counter(image for fold in folds for image in images(fold["validation"]))
        assert len(counted) == TRAINING
        assert set(counted.values()) == {1}
        for fold in folds:
            assert len(fold["training"]) + len(fold["validation"]) == TRAINING
            assert not {i["subject"] for i in fold["training"]} & {i["subject"] for i in fold["validation"]}
            assert len(fold["test"]) == TEST
        published = read(folder / "published.json")
        assert sorted(images(published["training"])) == sorted(counted)
        assert images(published["validation"]) == images(folds[0]["test"])
        for file in folder.glob("*.json"):  # as a training reads it
            assert read_datalist_part(file, "validation", source, classes=5)


def test_the_seed_decides(source: Path, tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        prepare(source, tmp_path / folder, seed=seed)
    a, b, c = (read(tmp_path / folder / "datalist.json") for folder in "abc")
    assert a == b
    assert images(a["validation"]) != images(c["validation"])


def test_an_unreadable_picture_is_left_out(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    for name in ("train/IDRiD_001.png", "train/IDRiD_002.png", "train/IDRiD_004.png", "test/IDRiD_002.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((source / name).read_bytes())
    (root / "train/IDRiD_004.png").write_bytes(b"no picture")
    lines = (source / "labels.csv").read_text().splitlines()
    kept = [line for line in lines if "split" in line or (root / line.split(",")[0]).is_file()]
    (root / "labels.csv").write_text("\n".join(kept))
    prepare(root, tmp_path / "out", validation=0)
    assert "left out: IDRiD_004.png: " in capsys.readouterr().out
    assert images(read(tmp_path / "out" / "datalist.json")["training"]) == [
        "train/IDRiD_001.png",
        "train/IDRiD_002.png",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--folds", "1"], "error: expected a share to validate on below 1 and at least 2 folds, got 0.2 and 1"),
        (["--validation", "1"], "error: expected a share to validate on below 1"),
        (["--source", "nowhere"], "error: 'nowhere': no table of labels in it; expected IDRiD's disease grading"),
    ],
)
def test_mistakes_are_one_line(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prepare_idrid", "--source", str(source), "--output", str(tmp_path), *options])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
