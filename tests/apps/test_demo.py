"""The demo: what it refuses, how it scores and draws, and (slow) all of it with the real bundle."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ag_networks.apps import demo
from ag_networks.data import make_phantom

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def _small_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make scans that take no time."""
    monkeypatch.setattr(demo, "SPACING_MM", (8.0, 8.0, 8.0))
    monkeypatch.setattr(demo, "SHAPE", (44, 40, 24))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a folder that looks like a bundle."""
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "inference.json").write_text("{}")
    return tmp_path / "bundle"


class Inference:
    """Stands in for the process that runs the bundle: the right masks, one voxel to the side."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_options: Any) -> subprocess.CompletedProcess:
        """Write results as the bundle does: for the DICOM series on its own grid, which runs the other way."""
        self.commands.append(command)
        options = dict(zip(command[4::2], command[5::2], strict=True))
        cases = sorted((Path(options["--dataset_dir"]) / "images").iterdir())
        for path in cases:
            name = path.name.removesuffix(".nii.gz")
            seed = int(re.findall(r"\d+", name)[0])
            phantom = make_phantom(seed, spacing=demo.SPACING_MM, shape=demo.SHAPE)
            mask = np.roll(phantom.label == 1, 1, axis=0).astype(np.uint8)
            self.write(Path(options["--output_dir"]) / name, mask, phantom.affine, flipped=path.is_dir())
        return subprocess.CompletedProcess(command, 0)

    def write(self, folder: Path, mask: np.ndarray, affine: np.ndarray, *, flipped: bool) -> None:
        """Write the mask, one attention map and the record of a case."""
        folder.mkdir(parents=True, exist_ok=True)
        name = folder.name
        for suffix, array in (("", mask), ("_attention_level1_1", mask.astype(np.float32))):
            image = nib.Nifti1Image(array, affine)
            if flipped:
                turn = nib.orientations.axcodes2ornt("LPS")
                image = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(affine), turn))
            nib.save(image, folder / f"{name}{suffix}.nii.gz")
        record = {
            "case": name,
            "classes": {"pancreas": {"label": 1, "voxels": int(mask.sum()), "volume_ml": float(mask.sum()) * 0.512}},
            "input": {"size": list(mask.shape), "spacing_mm": [8.0, 8.0, 8.0], "orientation": "RAS"},
            "seconds": 1.0,
            "warnings": ["slices are 8.0 mm apart"],
            "settings": {"attention": True},
            "versions": {"monai": "1.6.1"},
        }
        (folder / f"{name}.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --output"),
        (["--output", "out", "--sed", "3", "--x"], "unrecognized arguments: --sed 3 --x"),
        (["--output", "out", "--seed", "-1"], "argument --seed: must not be negative, got -1"),
        (["--output", "out", "--seed", "one"], "argument --seed: invalid int value: 'one'"),
        (["--output", "out", "more"], "unrecognized arguments: more"),
    ],
    ids=["no output", "misspelt option", "negative seed", "seed in words", "one word too many"],
)
def test_wrong_options_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        demo.main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_bundle_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as exit_:
        demo.main(["--output", str(tmp_path / "out"), "--bundle_root", "no/such/bundle"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: bundle_root no/such/bundle: no configs/inference.json there")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_bundle_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = ROOT / "bundles" / "pancreas_ct_segmentation"
    monkeypatch.chdir(tmp_path)
    assert demo._find_bundle(None).resolve() == shipped
    local = tmp_path / demo.BUNDLE / "configs"
    local.mkdir(parents=True)
    (local / "inference.json").touch()
    assert demo._find_bundle(None) == demo.BUNDLE
    monkeypatch.chdir(ROOT)
    assert demo._find_bundle(None) == demo.BUNDLE


def test_options_are_read_without_torch() -> None:
    code = "import sys, ag_networks.apps.demo; print(*{'torch', 'monai', 'matplotlib'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


@pytest.mark.usefixtures("_small_scans")
def test_scores_pictures_and_page(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inference = Inference()
    monkeypatch.setattr(demo.subprocess, "run", inference)
    output = tmp_path / "out"
    demo.main(["--output", str(output), "--bundle_root", str(bundle), "--seed", "7"])
    (command,) = inference.commands
    assert command[1:4] == ["-m", "monai.bundle", "run"]
    assert command[command.index("--save_attention") + 1] == "true"
    printed = capsys.readouterr().out
    for name in ("phantom_7", "phantom_8_dicom"):
        seed = int(re.findall(r"\d+", name)[0])
        label = make_phantom(seed, spacing=demo.SPACING_MM, shape=demo.SHAPE).label == 1
        moved = np.roll(label, 1, axis=0)
        dsc = 2 * (label & moved).sum() / (label.sum() + moved.sum())
        assert f"{name}: pancreas DSC {dsc:.3f}, {moved.sum() * 0.512:.1f} ml" in printed
        assert (output / "results" / name / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert str(tmp_path) not in page
    assert re.search(r"==> making two CT scans \(seeds 7 and 8\)\n +\d+\.\d s\n", printed)
    assert str(output / "report.html") in printed


@pytest.mark.usefixtures("_small_scans")
def test_scans_of_another_version_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo._make_scans(tmp_path, 7)
    first = {path.name for path in (tmp_path / "images" / "phantom_8_dicom").iterdir()}
    monkeypatch.setattr(demo, "SHAPE", (44, 40, 10))
    demo._make_scans(tmp_path, 7)
    second = {path.name for path in (tmp_path / "images" / "phantom_8_dicom").iterdir()}
    assert len(first) == 24
    assert len(second) == 10
    assert not first & second
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["phantom_7.nii.gz", "phantom_8_dicom"]


@pytest.mark.usefixtures("_small_scans")
def test_a_failed_inference_is_an_error(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.subprocess, "run", lambda command, **_options: subprocess.CompletedProcess(command, 3))
    with pytest.raises(SystemExit, match=r"error: the bundle's inference failed \(exit code 3\)"):
        demo.main(["--output", str(tmp_path / "out"), "--bundle_root", str(bundle)])


def test_an_output_that_is_a_file_is_one_line(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SHAPE", (4, 4, 4))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(SystemExit, match="error: cannot write the results: Not a directory"):
        demo.main(["--output", str(tmp_path / "out"), "--bundle_root", str(bundle)])


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ag_networks.apps.demo", "--output", "out", "--seed", "1000"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"pancreas DSC [01]\.\d{3}", result.stdout)) == 2
    for name in ("phantom_1000", "phantom_1001_dicom"):
        folder = tmp_path / "out" / "results" / name
        assert {f"{name}.nii.gz", f"{name}.json", f"{name}.png"} <= {path.name for path in folder.iterdir()}
        assert len(list(folder.glob(f"{name}_attention_level*.nii.gz"))) == 6
        assert str(tmp_path) not in (folder / f"{name}.json").read_text()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert str(tmp_path) not in page
    shutil.rmtree(tmp_path / "out")
