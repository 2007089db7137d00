"""The command that turns a team's pictures into a datalist."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from picture_makers import save, speckle

from ag_networks.apps.make_datalist import class_names, main, make_datalist, write_datalist
from ag_networks.data import read_class_names, read_datalist_part


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two classes of ten subjects with two pictures each."""
    for label, name in enumerate(("Femur", "Brain (Cb.)")):
        for subject in range(10):
            for i in range(2):
                seed = 100 * label + 10 * subject + i
                save(tmp_path / "set" / name / f"P{label}{subject}" / f"{i}.png", speckle(seed=seed))
    return tmp_path / "set"


def read_parts(path: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: part for name, part in json.loads(path.read_text()).items() if name != "class_names"}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["make_datalist", *map(str, arguments)])
    main()


def test_the_datalist_has_three_parts_by_subject(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "datalist.json"
    run(monkeypatch, "--source", source, "--classes", "Femur", "Brain (Cb.)", "--output", output, "--seed", 2)
    datalist = json.loads(output.read_text())
    assert datalist.pop("class_names") == {"0": "Femur", "1": "Brain (Cb.)"}
    assert {part: len(items) for part, items in datalist.items()} == {"training": 28, "validation": 6, "test": 6}
    assert all((source / item["image"]).is_file() for items in datalist.values() for item in items)
    assert datalist["test"][0].keys() == {"image", "label", "subject"}
    subjects = [{item["subject"] for item in items} for items in datalist.values()]
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == 20
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "0 groups of equal pictures"
    assert [line.split() for line in printed[1:]] == [
        ["training", "validation", "test"],
        ["Femur", *(str(sum(item["label"] == 0 for item in items)) for items in datalist.values())],
        ["Brain", "(Cb.)", *(str(sum(item["label"] == 1 for item in items)) for items in datalist.values())],
        ["subjects", "14", "3", "3"],
    ]


def test_copies_and_unreadable_pictures_are_reported_and_left_out(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "Femur/P00/0.png").write_text("no picture")
    save(source / "Femur/P01/0.png", speckle(seed=111))  # is also Brain (Cb.)/P11/1.png
    for leave_out, count in ((False, 39), (True, 37)):
        make_datalist(source, ["Femur", "Brain (Cb.)"], tmp_path / "a.json", leave_out=leave_out)
        datalist = read_parts(tmp_path / "a.json")
        assert sum(map(len, datalist.values())) == count
        printed = capsys.readouterr().out
        assert "left out: 0.png: not a picture" in printed
        assert "1 groups of equal pictures" in printed
        assert "labels differ" in printed


def test_the_datalist_names_its_classes_for_the_training(source: Path, tmp_path: Path) -> None:
    make_datalist(source, ["Brain (Cb.)", "Femur"], tmp_path / "a.json")
    assert read_class_names(tmp_path / "a.json") == {"0": "Brain (Cb.)", "1": "Femur"}
    items = read_datalist_part(tmp_path / "a.json", "training", source, classes=2)
    assert all(Path(item["image"]).is_file() for item in items)
    assert all(("Femur" in item["image"]) == (item["label"] == 1) for item in items)


def test_without_names_only_the_parts_are_written(tmp_path: Path) -> None:
    write_datalist({"training": [{"image": "ä.png", "label": 0}]}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "training": [{"image": "ä.png", "label": 0}]
    }


def test_class_names_come_from_a_bundle(tmp_path: Path) -> None:
    metadata = tmp_path / "metadata.json"
    channels = {"1": "Femur", "0": "3VV", **{str(i): f"c{i}" for i in range(2, 12)}}
    metadata.write_text(json.dumps({"network_data_format": {"outputs": {"pred": {"channel_def": channels}}}}))
    assert class_names([str(metadata)]) == ["3VV", "Femur", *(f"c{i}" for i in range(2, 12))]
    metadata.write_text("{}")
    with pytest.raises(ValueError, match=r"^metadata\.json: cannot be read, or lists no classes; expected"):
        class_names([str(metadata)])


def test_a_mistake_is_one_line(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(monkeypatch, "--source", source, "--classes", "Femur", "Foot", "--output", tmp_path / "a.json")
    assert exit_.value.code == 2
    assert (
        capsys.readouterr().err == "error: 'set': unknown label 'Brain (Cb.)'; expected one of Femur, Foot, or 0 to 1\n"
    )
    assert not (tmp_path / "a.json").exists()


def test_a_class_that_a_part_lacks_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(8):
        save(tmp_path / "set" / "a" / f"S{i}" / "x.png", speckle(seed=i))
    save(tmp_path / "set" / "b" / "S9" / "x.png", speckle(seed=9))
    make_datalist(tmp_path / "set", ["a", "b", "c"], tmp_path / "a.json", allow_empty=True)
    assert "warning: no picture of b in validation and test" in capsys.readouterr().out


def test_a_subject_in_two_official_parts_is_refused(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / f"{i}.png", speckle(seed=i))
    rows = "".join(f"{i}.png,{i % 2},P{i // 2},{'train' if i < 3 else 'test'}\n" for i in range(4))
    (tmp_path / "t.csv").write_text("image,label,subject,split\n" + rows)
    with pytest.raises(ValueError, match="subject P1 is in training and test"):
        make_datalist(tmp_path / "t.csv", ["a", "b"], tmp_path / "a.json", validation=0)


@pytest.mark.slow
def test_it_runs_as_a_module(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ag_networks.apps.make_datalist", "--source", str(source), "--classes", "Femur"]
    result = subprocess.run(
        [*command, "Brain (Cb.)", "--output", str(tmp_path / "a.json")], capture_output=True, text=True, check=True
    )
    assert "subjects" in result.stdout
    assert list(read_parts(tmp_path / "a.json")) == ["training", "validation", "test"]
