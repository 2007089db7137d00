"""The frames of a distillation: labels, split by subject, what stays out."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from ag_networks.apps.prepare_fetal_distillation import COARSE_LABELS, prepare, validating_subjects


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), 9).save(path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    rows = [("examples/femur.png", "FEMUR", "", "SonoNet examples")]
    rows += [(f"db/{i}.png", "fetal_femur" if i % 2 else "other", f"P{i // 2}", "FETAL_PLANES_DB") for i in range(12)]
    rows += [(f"hc/{i}.jpg", "fetal_brain", f"H{i}", "HC18 (training)") for i in range(16)]
    for name, *_ in rows:
        write(folder / name)
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "subject", "source"), *rows])
    for i in range(9):
        write(tmp_path / "others" / f"{i}.png")
    return folder


def test_frames_are_copied_labelled_and_split_by_subject(source: Path, tmp_path: Path) -> None:
    prepare(source, [tmp_path / "others"], tmp_path / "out", other_count=4)
    datalist = json.loads((tmp_path / "out" / "datalist.json").read_text())
    labels = {part: sorted(COARSE_LABELS[item["label"]] for item in items) for part, items in datalist.items()}
    assert labels["validation"] == [
        "fetal_femur", "fetal_femur", "head_circumference", "head_circumference", "no_ultrasound", "other", "other"
    ]  # fmt: skip
    assert len(labels["training"]) == 12 + 16 + 4 - 7
    subjects = [{item["subject"] for item in items} for items in datalist.values()]
    assert not subjects[0] & subjects[1]
    names = [item["image"] for items in datalist.values() for item in items]
    assert len(set(names)) == len(names)
    assert all((tmp_path / "out" / name).is_file() for name in names)
    assert not any("femur.png" in name for name in names), "the example frames are a test"


def test_the_validating_subjects_can_be_told_afterwards(source: Path) -> None:
    with (source / "labels.csv").open() as file:
        held_out = validating_subjects(list(csv.DictReader(file)))
    assert {subject for origin, subject in held_out if origin == "FETAL_PLANES_DB"} == {"P2", "P5"}
    assert len([subject for origin, subject in held_out if origin == "HC18"]) == 2


def test_an_unknown_label_is_refused(source: Path, tmp_path: Path) -> None:
    with (source / "labels.csv").open("a") as file:
        file.write("db/0.png,carotid,P9,FETAL_PLANES_DB\n")
    with pytest.raises(ValueError, match=r"db/0\.png: label 'carotid'"):
        prepare(source, [], tmp_path / "out", other_count=1)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels\.csv was not found"):
        prepare(tmp_path, [], tmp_path / "out", other_count=1)
