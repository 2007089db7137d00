"""From the files of a public set to a training set: split by patient, datalists, one line for a mistake."""

import itertools
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ag_networks.apps.prepare_public_pancreas import main, split_patients
from ag_networks.data import make_phantom, write_dicom_series

NUMBERS = (1, 2, 3, 4, 5, 6, 25, 70)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return eight scans of six patients, one of them with a label that does not fit."""
    folder = tmp_path_factory.mktemp("tcia")
    phantom = make_phantom(0, spacing=(8, 8, 8))
    label = (phantom.label == 1).astype(np.uint8)[::-1]
    for number in NUMBERS:
        write_dicom_series(phantom, folder / f"PANCREAS_{number:04d}" / "series")
        stored = label[:, :, :-1] if number == 6 else label
        nib.save(nib.Nifti1Image(stored, np.eye(4)), folder / f"label{number:04d}.nii.gz")
    return folder


def run(root: Path, output: Path, *options: str) -> dict[str, dict]:
    arguments = ["--set", "tcia", "--root", str(root), "--output", str(output), "--validation", "1", *options]
    main(arguments)
    fold = f"_fold{options[options.index('--fold') + 1]}" if "--fold" in options else ""
    files = {"datalist": f"datalist{fold}.json", "datalist_test": f"datalist{fold}_test.json"}
    return {name: json.loads((output / file).read_text()) for name, file in files.items()}


def names(items: list[dict[str, str]]) -> list[str]:
    assert all(item["label"] == item["image"].replace("images/", "labels/") for item in items)
    return [Path(item["image"]).name.removesuffix(".nii.gz") for item in items]


def test_datalists_and_files(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = run(root, tmp_path, "--test", "2")
    parts = {part: names(lists["datalist"][part]) for part in ("training", "validation", "test")}
    assert sorted(itertools.chain(*parts.values())) == [f"PANCREAS_{n:04d}" for n in (1, 2, 3, 4, 5)]
    assert {part: len(items) for part, items in parts.items()} == {"training": 2, "validation": 1, "test": 2}
    assert list(lists["datalist"]["left_out"]) == ["PANCREAS_0006"]
    assert names(lists["datalist_test"]["validation"]) == parts["test"]
    assert "2 training, 1 validation, 2 test ; 1 left out" in capsys.readouterr().out
    image, label = (nib.load(tmp_path / kind / "PANCREAS_0003.nii.gz") for kind in ("images", "labels"))
    assert image.get_data_dtype() == np.int16
    assert set(np.unique(np.asarray(label.dataobj))) == {0, 1}
    np.testing.assert_allclose(image.affine, label.affine)
    before = (tmp_path / "images" / "PANCREAS_0003.nii.gz").stat().st_mtime_ns
    assert run(root, tmp_path, "--test", "2") == lists  # the same again, and nothing is written twice
    assert (tmp_path / "images" / "PANCREAS_0003.nii.gz").stat().st_mtime_ns == before


def test_repeated_scans_train_with_their_patient(root: Path, tmp_path: Path) -> None:
    for fold in range(5):
        lists = run(root, tmp_path, "--fold", str(fold), "--keep_repeated")["datalist"]
        parts = [set(names(lists[part])) for part in ("training", "validation", "test")]
        same = {f"PANCREAS_{n:04d}" for n in (2, 25, 70)}
        assert sum(not same.isdisjoint(part) for part in parts) == 1


@pytest.mark.parametrize("count", [80, 82, 281])
def test_folds_cover_all_patients_once(count: int) -> None:
    patient_of = {f"case_{i:03d}": f"case_{i:03d}" for i in range(count)}
    parts = [split_patients(patient_of, test=0, fold=fold, seed=3) for fold in range(5)]
    tested = [case for part in parts for case in part["test"]]
    assert sorted(tested) == sorted(patient_of)
    for part in parts:
        assert sorted(part["training"] + part["validation"] + part["test"]) == sorted(patient_of)
        assert abs(len(part["test"]) - count / 5) < 1


def test_the_seed_decides() -> None:
    patient_of = {f"case_{i:03d}": f"case_{i:03d}" for i in range(40)}
    one, again, other = (split_patients(patient_of, test=10, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one != other


def test_patients_of_several_scans_stay_together() -> None:
    patient_of = {f"case_{i:02d}": f"patient_{i // 2:02d}" if i < 6 else f"patient_{i:02d}" for i in range(20)}
    for seed in range(10):
        for fold in (None, 0, 4):
            parts = split_patients(patient_of, test=5, fold=fold, validation=3, seed=seed)
            homes = [{patient_of[case] for case in cases} for cases in parts.values()]
            assert len(set.union(*homes)) == sum(map(len, homes))


MISTAKES = [
    (["--set", "tcia", "--root", "nothing"], "nothing: 0 patients with DICOM series and 0 labels"),
    (["--set", "decathlon", "--root", "nothing"], "Task07_Pancreas: no such folder in nothing"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=["tcia", "decathlon"])
def test_a_mistake_is_one_line(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main([*options, "--output", "out"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


def test_too_few_cases_are_one_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(root, tmp_path)
    assert "error: 5 cases make the parts {" in capsys.readouterr().err
