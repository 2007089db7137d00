"""Scans unlike the training data: each is told by the right warning, a generated abdomen by none."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from _unlike import chest, head, thick_slices, water_cylinder
from monai.transforms import ScaleIntensityRange
from tiny_pancreas import BUNDLE, TINY

from ag_networks.data import Phantom, make_phantom
from ag_networks.metrics import Plausibility

pytest_plugins = ["tiny_fixtures"]

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NORMAL = (0, 1, 4, 5)
WITHOUT_CONTRAST = (3, 11, 12)


def warnings(scan: Phantom) -> list[str]:
    """Return what the bundle's own ranges say of a scan and of its true mask."""
    config = json.loads((BUNDLE / "configs" / "inference.json").read_text())
    intensity = {key: value for key, value in config["intensity"].items() if key not in ("_target_", "keys")}
    scale = ScaleIntensityRange(**intensity)
    judge = Plausibility(config["expected_ranges"], class_names={"1": "pancreas"}, intensity=scale)
    image = scale(torch.from_numpy(scan.image[None]).float())
    label = torch.from_numpy((scan.label[None] == 1).astype("uint8"))
    return judge.warnings(judge.measure(image, label, spacing=scan.spacing))


@pytest.mark.parametrize("seed", NORMAL)
def test_a_normal_scan_gets_none(seed: int) -> None:
    assert warnings(make_phantom(seed, spacing=(4, 4, 4))) == []


@pytest.mark.parametrize("seed", WITHOUT_CONTRAST)
def test_no_contrast_agent(seed: int) -> None:
    first = warnings(make_phantom(seed, spacing=(4, 4, 4)))[0]
    assert first.startswith("image: brightest tenth of the soft tissue")
    assert first.endswith("no contrast agent?")


def test_thick_slices_alone_are_left_to_the_reader() -> None:
    scan = make_phantom(4, spacing=(4, 4, 4))
    thick = thick_slices(scan, 2)
    assert thick.image.shape[2] == scan.image.shape[2] // 2
    assert thick.spacing == (4, 4, 8)
    assert warnings(thick) == []


@pytest.mark.parametrize(
    ("draw", "message"),
    [(chest, "lungs"), (head, "a head"), (water_cylinder, "not a body?")],
    ids=["chest", "head", "water"],
)
def test_another_kind_of_scan(draw: Callable[[float], Phantom], message: str) -> None:
    assert any(message in line for line in warnings(draw(4.0)))


def test_a_body_turned_under_its_header() -> None:
    scan = make_phantom(4, spacing=(4, 4, 4))
    turned = Phantom(scan.image[::-1, ::-1].copy(), scan.label[::-1, ::-1].copy(), scan.affine, scan.spacing, 4)
    assert any("too far back" in line for line in warnings(turned))


def test_half_a_pancreas_and_a_false_one() -> None:
    scan = make_phantom(4, spacing=(4, 4, 4))
    label = scan.label.copy()
    label[:, :, : label.shape[2] // 2] = 0
    label[5:15, 30:38, 40:46] = 1
    found = warnings(Phantom(scan.image, label, scan.affine, scan.spacing, 4))
    assert any("in several places" in line for line in found)


def test_the_script_prints_the_table(weights: Path, tmp_path: Path) -> None:
    only = ["generated abdomen", "water cylinder, drawn"]
    overrides = {key: value for key, value in TINY.items() if key != "bundle_root"}
    command = [sys.executable, str(BENCHMARKS / "pancreas_unlike.py"), "--checkpoint", str(weights), "--only", *only]
    command += ["--overrides", json.dumps(overrides), "--output", str(tmp_path / "out")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == ["input", *only]
    assert "no bone: not a body?" in rows[2]
