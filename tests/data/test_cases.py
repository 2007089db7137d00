"""Which cases a folder holds, what they are called, which are finished."""

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ag_networks.data import CaseError, list_cases
from ag_networks.data.cases import is_dicom_file


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((b"\0" * 128 + b"DICM") if "slice" in name else b"")
    return root


def names(cases: list[dict[str, str]]) -> list[str]:
    return [case["case"] for case in cases]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["b.nii.gz", "a.nii"], ["a", "b"]),
        (["A.NII.GZ", "a b.c.nii.gz"], ["A", "a b.c"]),
        (["one/scan.nii.gz", "two/scan.nii.gz"], ["one_scan", "two_scan"]),
        (["one/slice1", "one/slice2.dcm", "two/CT/slice.ima"], ["one", "two_CT"]),
        (["series/slice.1.2", "flat.nii", "deep/er/x.nii.gz"], ["flat", "deep_er_x", "series"]),
        (["both/slice1", "both/extra.nii.gz"], ["both", "both_extra"]),
        (["a.nii", "a.nii.gz", "a/slice1", "b.nii"], ["a_nii", "a_nii_gz", "b", "a_dicom"]),
        (["images/a.nii.gz", "labels/a.nii.gz", "x.nii.gz"], ["a"]),
        (["imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTs/b.nii.gz"], ["a"]),
        (["images/a.nii.gz", "masks/a.nii.gz"], ["images_a", "masks_a"]),
        ([".hidden.nii.gz", "._a.nii.gz", ".cache/b.nii.gz", "c.nii.gz"], ["c"]),
        (["a.nii.gz", "datalist.json", "notes.txt", "t.csv", "README", "DICOMDIR"], ["a"]),
        (["broken.dcm", "x/a.nii"], ["ROOT", "x_a"]),
        (["slice1", "slice2"], ["ROOT"]),
    ],
    ids=lambda value: ",".join(value),
)
def test_a_folder_gives_its_cases(files: list[str], expected: list[str], tmp_path: Path) -> None:
    root = touch(tmp_path / "ROOT", *files)
    cases = list_cases(root)
    assert names(cases) == expected
    assert all(set(case) == {"image", "case"} and Path(case["image"]).exists() for case in cases)
    assert not any(key.startswith(("image_", "label_")) for case in cases for key in case)


def test_one_file_is_a_case(tmp_path: Path) -> None:
    file = touch(tmp_path, "scan.nii.gz") / "scan.nii.gz"
    assert list_cases(str(file)) == [{"image": str(file), "case": "scan"}]


def test_the_working_directory_is_named_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path / "series", "slice1"))
    assert names(list_cases(".")) == ["series"]


def test_a_dicom_case_is_not_named_by_the_patient(
    tmp_path: Path, hu: np.ndarray, write_series: Callable[..., Path]
) -> None:
    write_series(tmp_path / "in" / "scan7", hu[:, :, :2], name="{k}")
    assert names(list_cases(tmp_path / "in")) == ["scan7"]


@pytest.mark.parametrize(
    ("files", "target", "message"),
    [
        ([], "ROOT/absent", "'absent': no such file or folder; expected NIfTI files (.nii, .nii.gz) or folders of"),
        (["x/y.txt"], "ROOT/x", "'x': no case in it, found 1 x .txt; expected NIfTI"),
        ([".hidden.nii"], "ROOT", "'ROOT': no case in it, found nothing; expected NIfTI"),
        (["a.json", "b.json", "c"], "ROOT", "found 2 x .json, 1 x no extension; expected"),
        (["a.png"], "ROOT/a.png", "'a.png': not a NIfTI file; expected"),
        (["slice1.dcm"], "ROOT/slice1.dcm", "'slice1.dcm': one DICOM file; give the folder of its series; expected"),
        (["a/b.nii", "a_b.nii"], "ROOT", "'ROOT': several cases would be named a_b_nii; expected unique names"),
        (["images/.x", "labels/a.nii"], "ROOT", "'images': no case in it"),
    ],
)
def test_a_folder_without_cases_is_refused(files: list[str], target: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "ROOT").mkdir()
    touch(tmp_path / "ROOT", *files)
    with pytest.raises(CaseError) as refusal:
        list_cases(tmp_path / target)
    assert message in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_ignored_is_counted_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "images/a.nii.gz", "images/a.json", "images/b.json", "labels/a.nii.gz")
    with caplog.at_level(logging.INFO):
        list_cases(tmp_path)
    assert caplog.messages == [
        "reading the cases of images/ only; labels/ holds labels",
        "ignored files that are neither NIfTI nor DICOM: 2 x .json",
    ]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.nii.gz", "in/b.nii.gz")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert names(list_cases(tmp_path / "in")) == ["b", "linked_a"]


def test_results_inside_the_input_are_no_cases(tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "eval/a/a_mask.nii.gz")
    assert names(list_cases(tmp_path, output_dir=tmp_path / "eval")) == ["a"]


@pytest.mark.parametrize("output", ["", "sub/.."])
def test_results_beside_the_input_are_refused(output: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.nii.gz", "sub/b.nii.gz")
    with pytest.raises(CaseError, match="is also dataset_dir; expected another folder"):
        list_cases(tmp_path, output_dir=tmp_path / output)


@pytest.mark.parametrize(
    ("record", "settings", "finished"),
    [
        ({"settings": {"size": [1, 2], "filter": True}}, {"size": (1, 2), "filter": True}, True),
        ({"settings": {"filter": True}}, {"filter": False}, False),
        ({"settings": {"filter": True}}, None, True),
        ({"volume_ml": 1.0}, {"filter": True}, False),
        ({"volume_ml": 1.0}, None, True),
        ([], None, False),
        ("{cut", None, False),
        (None, None, False),
    ],
)
def test_a_case_is_finished_when_its_record_has_the_settings(
    record: Any, settings: dict[str, Any] | None, finished: bool, tmp_path: Path
) -> None:
    touch(tmp_path, "in/a.nii.gz", "in/b.nii.gz", "out/a/a_mask.nii.gz", "out/b/b_mask.nii.gz")
    if record is not None:
        (tmp_path / "out/a/a.json").write_text(record if isinstance(record, str) else json.dumps(record))
    left = list_cases(tmp_path / "in", output_dir=tmp_path / "out", settings=settings)
    assert names(left) == (["b"] if finished else ["a", "b"])


def test_finished_cases_are_logged_and_can_be_redone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, *[f"in/{name}.nii" for name in "abc"], "out/a/x", "out/c/x", "out/b/x")
    for name in "ac":
        (tmp_path / f"out/{name}/{name}.json").write_text('{"settings": {}}')
    arguments = {"output_dir": tmp_path / "out", "settings": {}}
    with caplog.at_level(logging.INFO):
        assert names(list_cases(tmp_path / "in", **arguments)) == ["b"]
    assert caplog.messages == ["2 of 3 cases are finished; overwrite=true redoes them"]
    assert names(list_cases(tmp_path / "in", **arguments, overwrite=True)) == ["a", "b", "c"]
    (tmp_path / "out/b/b.json").write_text('{"settings": {}}')
    assert list_cases(tmp_path / "in", **arguments) == []


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("x", b"\0" * 128 + b"DICM", True),
        ("no_preamble", b"\x08\x00\x16\x00" + b"\0" * 200, True),
        ("empty.dcm", b"", True),
        ("DICOMDIR", b"\0" * 128 + b"DICM", False),
        ("short", b"\x08\x00", False),
        ("x.gz", gzip.compress(b"x" * 500), False),
        ("x.txt", b"word " * 100, False),
    ],
)
def test_dicom_is_recognized_by_content(name: str, content: bytes, expected: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert is_dicom_file(tmp_path / name) is expected
