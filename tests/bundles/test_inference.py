"""Inference of the pancreas bundle on files as hospitals have them, good and bad."""

import errno
import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from tiny_pancreas import BUNDLE, TINY, infer, run_command, tiny_network

from ag_networks.data import Phantom, make_phantom, write_dicom_series

pytest_plugins = ["tiny_fixtures"]

PATIENT = {
    "PatientName": "Doe^Jane",
    "PatientID": "ID-4711",
    "PatientBirthDate": "19630405",
    "StudyDate": "20200102",
    "SeriesDate": "20200102",
    "AccessionNumber": "ACC-0815",
    "InstitutionName": "Mercy Hospital",
}
GATES = ("level1_1", "level1_2")  # two sub-gates at the one gated level of the tiny network


def save(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def load(path: Path) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_filename(path)


def mask_of(output: Path, case: str) -> nib.Nifti1Image:
    return load(output / case / f"{case}.nii.gz")


def report_of(output: Path, case: str) -> dict[str, Any]:
    return json.loads((output / case / f"{case}.json").read_text(encoding="utf-8"))


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def name_patient(folder: Path) -> None:
    """Write a patient's data into every slice."""
    for path in folder.iterdir():
        slice_ = pydicom.dcmread(path)
        for keyword, value in PATIENT.items():
            setattr(slice_, keyword, value)
        slice_.save_as(path)


def turned(affine: np.ndarray, degrees: float) -> np.ndarray:
    """Return the affine of a grid that is turned about the axis from foot to head."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return turn @ affine


@pytest.fixture(scope="module")
def scans(phantoms: list[Phantom], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of one phantom in many forms, and of others that are unusual but right."""
    folder = tmp_path_factory.mktemp("scans")
    phantom = phantoms[0]
    plain = nib.Nifti1Image(phantom.image, phantom.affine)
    save(phantom.image, phantom.affine, folder / "plain.nii.gz")
    for name, axes in (("flipped", "LAS"), ("permuted", "IPR")):
        form = nib.orientations.ornt_transform(
            nib.io_orientation(plain.affine), nib.orientations.axcodes2ornt(tuple(axes))
        )
        image = plain.as_reoriented(form)
        save(np.asarray(image.dataobj), image.affine, folder / f"{name}.nii")
    save(phantom.image.astype(np.float32), turned(phantom.affine, 20.0), folder / "oblique.nii.gz")
    save(phantom.image, phantom.affine @ np.diag([1, 1, 1.25, 1]), folder / "thick.nii.gz")
    spotted = phantom.image.astype(np.float32)
    spotted[:2, :2, 0] = np.nan
    save(spotted, phantom.affine, folder / "spotted.nii.gz")
    name_patient(write_dicom_series(phantom, folder / "series"))
    write_dicom_series(phantom, folder / "tilted", tilt=10.0)
    return folder


@pytest.fixture(scope="module")
def results(scans: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("results")
    infer(scans, output, weights)
    return output


CASES = ["plain", "flipped", "permuted", "oblique", "thick", "spotted", "series", "tilted"]


@pytest.mark.parametrize("case", CASES)
def test_the_mask_lies_on_the_grid_of_the_scan(case: str, scans: Path, results: Path, phantoms: list[Phantom]) -> None:
    mask = mask_of(results, case)
    values = np.asarray(mask.dataobj)
    assert mask.get_data_dtype() == np.uint8
    assert set(np.unique(values)) == {0, 1}
    if (scans / case).is_dir():
        assert values.shape == phantoms[0].image.shape
        assert nib.aff2axcodes(mask.affine) == ("L", "P", "S")
        return
    scan = load(next(scans.glob(f"{case}.nii*")))
    assert values.shape == scan.shape
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-3)
    np.testing.assert_allclose(mask.get_qform(), scan.affine, atol=1e-3)


@pytest.mark.parametrize("case", ["flipped", "permuted", "series"])
def test_the_form_of_the_file_does_not_matter(case: str, results: Path) -> None:
    plain, other = mask_of(results, "plain"), nib.as_closest_canonical(mask_of(results, case))
    np.testing.assert_array_equal(np.asarray(plain.dataobj), np.asarray(other.dataobj))
    if case != "series":  # its origin is rounded to what DICOM holds
        np.testing.assert_allclose(plain.affine, other.affine, atol=1e-3)


WARNINGS = {
    "plain": [],
    "oblique": ["oblique by 20.0 degrees"],
    "thick": ["slices are 10.0 mm apart"],
    "spotted": ["set 4 values that were NaN or infinite"],
    "tilted": ["sheared by 10.0 degrees"],
}


@pytest.mark.parametrize("case", WARNINGS)
def test_the_report_says_what_was_found(case: str, results: Path, weights: Path) -> None:
    report, mask = report_of(results, case), mask_of(results, case)
    voxels = int((np.asarray(mask.dataobj) == 1).sum())
    ml = voxels * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    assert report["case"] == case
    assert report["classes"] == {"pancreas": {"label": 1, "voxels": voxels, "volume_ml": pytest.approx(ml, abs=0.01)}}
    assert report["input"]["size"] == list(mask.shape)
    assert report["input"]["spacing_mm"] == pytest.approx(nib.affines.voxel_sizes(mask.affine), abs=1e-3)
    assert report["input"]["orientation"] == "".join(nib.aff2axcodes(mask.affine))
    assert report["seconds"] >= 0
    assert {"python", "ag-networks", "monai", "torch", "numpy"} <= report["versions"].keys()
    assert report["settings"].keys() == {"weights", "spacing_mm", "largest_component", "attention"}
    # the tiny network is not trained: what is said of its masks is said elsewhere
    found = [text for text in report["warnings"] if "slices are 8.0 mm apart" not in text]
    found = [text for text in found if not text.startswith(("image: ", "pancreas: "))]
    assert len(found) == len(WARNINGS[case])
    for text, part in zip(found, WARNINGS[case], strict=True):
        assert part in text


def test_implausible_results_get_warnings(scans: Path, results: Path, weights: Path, tmp_path: Path) -> None:
    report = report_of(results, "plain")
    measured = report["measured"]["pancreas"]
    # one part is left in the mask, which is all that was measured
    assert measured["volume_ml"] == pytest.approx(report["classes"]["pancreas"]["volume_ml"], rel=0.05)
    assert measured["main_share"] < 1
    assert 0.5 < measured["confidence"] < 1
    assert any(text.startswith("pancreas: volume") for text in report["warnings"])
    ranges = {"pancreas": {"volume_ml": [None, 1e6]}, "image": {"view_height_mm": [1000, None]}}
    infer(scans / "plain.nii.gz", tmp_path / "own", weights, expected_ranges=ranges)
    own = report_of(tmp_path / "own", "plain")
    assert own["measured"]["pancreas"] == measured
    assert [text for text in own["warnings"] if text.startswith(("image: ", "pancreas: "))] == [
        "image: the scan is high 192 mm, expected at least 1000: too short to hold the organ?"
    ]
    infer(scans / "plain.nii.gz", tmp_path / "none", weights, expected_ranges=None)
    assert report_of(tmp_path / "none", "plain")["measured"] == {}


def test_only_one_component_is_left_unless_switched_off(
    scans: Path, results: Path, weights: Path, tmp_path: Path
) -> None:
    infer(scans / "plain.nii.gz", tmp_path, weights, largest_component="false")
    filtered, whole = (np.asarray(mask_of(folder, "plain").dataobj) for folder in (results, tmp_path))
    assert filtered.sum() < whole.sum()
    assert (whole[filtered == 1] == 1).all()
    assert report_of(tmp_path, "plain")["settings"]["largest_component"] is False


def test_attention_maps_lie_on_the_grid_of_the_scan(scans: Path, results: Path, weights: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    shutil.copy(scans / "permuted.nii", chosen)
    shutil.copytree(scans / "series", chosen / "series")
    infer(chosen, tmp_path / "out", weights, save_attention="true")
    for case in ("permuted", "series"):
        mask = mask_of(tmp_path / "out", case)
        np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(mask_of(results, case).dataobj))
        maps = [f"{case}_attention_{gate}.nii.gz" for gate in GATES]
        assert files_of(tmp_path / "out" / case) == sorted([f"{case}.json", f"{case}.nii.gz", *maps])
        for name in maps:
            attention = load(tmp_path / "out" / case / name)
            values = attention.get_fdata()
            assert values.shape == mask.shape
            np.testing.assert_allclose(attention.affine, mask.affine)
            assert values.min() >= 0
            assert 0.01 < np.ptp(values) <= 1
            assert attention.get_data_dtype() == np.uint8
        assert report_of(tmp_path / "out", case)["settings"]["attention"] is True
    # the same patient in two forms
    one, other = (load(tmp_path / "out" / c / f"{c}_attention_{GATES[0]}.nii.gz") for c in ("permuted", "series"))
    one, other = (nib.as_closest_canonical(image).get_fdata() for image in (one, other))
    np.testing.assert_allclose(one, other, atol=2 / 255)


def test_a_rerun_does_only_what_is_left(
    scans: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder, output = tmp_path / "in", tmp_path / "in" / "out"  # results within the dataset are no cases
    folder.mkdir()
    shutil.copy(scans / "plain.nii.gz", folder)

    def written(**overrides: Any) -> int:
        infer(folder, output, weights, **overrides)
        return (output / "plain/plain.nii.gz").stat().st_mtime_ns

    first = written()
    assert written() == first
    assert "1 of 1 cases are finished" in caplog.text
    assert "nothing to do" in caplog.text
    assert written(overwrite="false") == first
    again = written(overwrite="true")
    assert again > first
    other = written(largest_component=False)
    assert other > again
    shutil.copy(scans / "thick.nii.gz", folder)
    assert written(largest_component=False) == other
    assert report_of(output, "thick")["case"] == "thick"
    (output / "plain/plain.json").write_text("{")  # as if killed while writing
    assert written(largest_component=False) > other


def test_workers_change_nothing(scans: Path, results: Path, weights: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for name in ("plain.nii.gz", "oblique.nii.gz"):
        shutil.copy(scans / name, chosen)
    (chosen / "text.nii.gz").write_text("no image")
    with pytest.raises(SystemExit, match=r"error: 1 of 3 cases failed: text$"):
        infer(chosen, tmp_path / "out", weights, num_workers=2)
    for case in ("plain", "oblique"):
        np.testing.assert_array_equal(
            np.asarray(mask_of(tmp_path / "out", case).dataobj), np.asarray(mask_of(results, case).dataobj)
        )


def test_no_patient_path_or_date_is_kept(
    scans: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="ag_networks")
    infer(scans / "series", tmp_path, weights, save_attention=True)
    text = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("ag_networks"))
    for path in tmp_path.rglob("*"):
        if path.suffix == ".json":
            text += path.read_text(encoding="utf-8")
        elif path.is_file():
            image = load(path)
            text += str(image.header) + str(image.extra) + str([item.get_content() for item in image.header.extensions])
            assert path.read_bytes()[4:8] == b"\0\0\0\0"  # gzip would keep the time
    assert [value for value in PATIENT.values() if value in text] == []
    assert str(tmp_path) not in text
    assert str(scans) not in text


def bad_folder(folder: Path, phantoms: list[Phantom]) -> dict[str, str]:
    """Fill a folder with what goes wrong, and with two good cases; return what is said of each bad one."""
    hu, affine = phantoms[0].image, phantoms[0].affine
    small = make_phantom(5, spacing=(16, 16, 16), shape=(12, 12, 8))
    save(hu, affine, folder / "good_file.nii.gz")
    whole = (folder / "good_file.nii.gz").read_bytes()
    name_patient(write_dicom_series(phantoms[1], folder / "good_series"))
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "text.nii.gz").write_text("this is no image")
    (folder / "empty.nii.gz").touch()
    save(np.stack([hu, hu], axis=-1), affine, folder / "four_d.nii.gz")
    save(hu[:, :, 0], affine, folder / "two_d.nii.gz")
    save(hu[:, :, :1], affine, folder / "one_plane.nii.gz")
    save(hu * 0, affine, folder / "zeros.nii.gz")
    save(np.full(hu.shape, np.nan, np.float32), affine, folder / "nan.nii.gz")
    save(hu + 1024, affine, folder / "unsigned.nii.gz")
    save(hu / np.float32(1000), affine, folder / "normalized.nii.gz")
    save(hu, affine @ np.diag([1e-3, 1e-3, 1e-3, 1]), folder / "meters.nii.gz")
    write_dicom_series(small, folder / "mr", modality="MR")
    write_dicom_series(small, folder / "gap", drop=[3])
    write_dicom_series(small, folder / "mixed")
    for path in write_dicom_series(
        make_phantom(6, spacing=(16, 16, 16), shape=(12, 12, 8)), folder / "other"
    ).iterdir():
        path.rename(folder / "mixed" / f"other_{path.name}")
    (folder / "other").rmdir()
    write_dicom_series(small, folder / "one_slice", drop=range(1, 8))
    (folder / "notes.txt").write_text("not an image, and ignored")
    return {
        "cut": "cut short or damaged",
        "text": "not gzip data but text",
        "empty": "the file is empty",
        "four_d": "4D image",
        "two_d": "2D image",
        "one_plane": "one slice",
        "zeros": "every value is 0",
        "nan": "100% of the values are NaN or infinite",
        "unsigned": "the intercept of -1024 is missing",
        "normalized": "normalized",
        "meters": "are the units millimetres?",
        "mr": "modality MR",
        "gap": "1 slices missing",
        "mixed": "2 CT series in one folder",
        "one_slice": "one slice",
    }


def test_bad_cases_get_a_line_each_and_the_good_ones_are_done(
    phantoms: list[Phantom], weights: Path, tmp_path: Path
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    expected = bad_folder(folder, phantoms)
    paths = {"dataset_dir": str(folder), "output_dir": str(output), "checkpoint": str(weights)}
    run = run_command("inference", cwd=tmp_path, **{**TINY, **paths})
    lines = (run.stdout + run.stderr).splitlines()
    assert run.returncode == 1, run.stderr[-2000:]
    assert "Traceback" not in run.stdout + run.stderr
    for case, reason in expected.items():
        errors = [
            line for line in lines if " - ERROR - " in line and re.search(rf" {case}: .*{re.escape(reason)}", line)
        ]
        assert len(errors) == 1, f"{case}: {reason}\n" + "\n".join(line for line in lines if case in line)
        assert str(folder) not in errors[0]
        assert not (output / case).exists()
    assert lines[-1].startswith(f"error: {len(expected)} of {len(expected) + 2} cases failed: ")
    good = ("good_file", "good_series")
    assert files_of(output) == sorted(f"{case}/{case}{suffix}" for case in good for suffix in (".json", ".nii.gz"))
    log = "\n".join(lines) + "".join(path.read_text(encoding="utf-8") for path in output.rglob("*.json"))
    assert [value for value in PATIENT.values() if value in log] == []


def test_the_documented_command_runs_the_shipped_model(phantoms: list[Phantom], tmp_path: Path) -> None:
    scan = make_phantom(4, spacing=(4, 4, 4), shape=(24, 24, 16))  # one window
    save(scan.image, scan.affine, tmp_path / "in/scan.nii.gz")
    run = run_command("inference", cwd=tmp_path, bundle_root=str(BUNDLE), dataset_dir="in", output_dir="out")
    assert run.returncode == 0, run.stderr[-2000:]
    assert files_of(tmp_path / "out") == ["scan/scan.json", "scan/scan.nii.gz"]
    assert mask_of(tmp_path / "out", "scan").shape == scan.image.shape
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


NOTHING_TO_READ = [
    pytest.param("nowhere", "no such file or folder", id="missing"),
    pytest.param("empty", "no case in it", id="empty"),
    pytest.param("a_file.txt", "not a NIfTI file", id="not an image"),
]


@pytest.mark.parametrize(("name", "message"), NOTHING_TO_READ)
def test_a_dataset_without_cases_is_one_line(name: str, message: str, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_file.txt").write_text("text")
    with pytest.raises(SystemExit, match=rf"^error: dataset_dir '{name}': {message}[^\n]*$"):
        infer(tmp_path / name, tmp_path / "out", weights)
    assert files_of(tmp_path) == ["a_file.txt"]


def _missing(path: Path, weights: Path) -> None:
    """No file."""


def _text(path: Path, weights: Path) -> None:
    path.write_text("not a checkpoint")


def _cut(path: Path, weights: Path) -> None:
    path.write_bytes(weights.read_bytes()[:5000])


def _of_another_network(path: Path, weights: Path) -> None:
    torch.save(torch.nn.Conv3d(1, 2, 3).state_dict(), path)


def _of_more_classes(path: Path, weights: Path) -> None:
    torch.save(tiny_network(out_channels=5).state_dict(), path)


BAD_WEIGHTS = [
    (_missing, r"checkpoint weights.pt was not found in the folder '"),
    (_text, r"checkpoint weights.pt is corrupt or none"),
    (_cut, r"checkpoint weights.pt is corrupt or none"),
    (_of_another_network, r"checkpoint weights.pt belongs to another network: \d+ parameters are missing, 2 unknown"),
    (_of_more_classes, r"checkpoint weights.pt belongs to another network: 0 parameters are missing"),
]


@pytest.mark.parametrize(("write", "message"), BAD_WEIGHTS, ids=[write.__name__ for write, _ in BAD_WEIGHTS])
def test_a_bad_checkpoint_is_one_line(
    write: Callable[[Path, Path], None], message: str, scans: Path, weights: Path, tmp_path: Path
) -> None:
    write(tmp_path / "weights.pt", weights)
    with pytest.raises(SystemExit, match=rf"^error: {message}[^\n]*$"):
        infer(scans / "plain.nii.gz", tmp_path / "out", tmp_path / "weights.pt")
    assert files_of(tmp_path / "out") == []


def test_an_output_folder_that_cannot_be_written_is_known_before_the_work(
    scans: Path, weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(SystemExit, match=r"^error: output folder 'out': cannot be written to \(File exists\)[^\n]*$"):
        infer(scans / "plain.nii.gz", tmp_path / "out", weights)
    assert files_of(tmp_path) == ["out"]


@pytest.mark.parametrize("full", ["plain/plain.nii.gz", "plain/plain_attention_level1_2.nii.gz"])
def test_a_full_disk_fails_the_case_and_leaves_no_half_file(
    full: str, scans: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = nib.save

    def save_until_full(image: Any, path: Path) -> None:
        if str(path).endswith(Path(full).name):
            Path(path).write_bytes(b"half a file")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written(image, path)

    monkeypatch.setattr(nib, "save", save_until_full)
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for name in ("plain.nii.gz", "thick.nii.gz"):
        shutil.copy(scans / name, chosen)
    output = tmp_path / "out"
    with pytest.raises(SystemExit, match=r"^error: 1 of 2 cases failed: plain$"):
        infer(chosen, output, weights, save_attention=True)
    left = files_of(output)
    assert full not in left
    assert "plain/plain.json" not in left  # so the case is not finished
    assert [name for name in left if Path(name).name.startswith(".")] == []
    assert "thick/thick.json" in left
    monkeypatch.undo()
    infer(chosen, output, weights, save_attention=True)
    assert {full, "plain/plain.json"} <= set(files_of(output))


def test_a_switch_that_is_none_is_refused(scans: Path, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: a switch is set to 'maybe'; expected true or false$"):
        infer(scans / "plain.nii.gz", tmp_path, weights, save_attention="maybe")


@pytest.mark.gpu
def test_the_gpu_finds_what_the_processor_finds(scans: Path, results: Path, weights: Path, tmp_path: Path) -> None:
    infer(scans / "plain.nii.gz", tmp_path, weights, device="$torch.device('cuda')", amp=False)
    masks = [np.asarray(mask_of(folder, "plain").dataobj) for folder in (results, tmp_path)]
    assert (masks[0] != masks[1]).mean() < 0.01
