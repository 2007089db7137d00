"""Calibration: known answers, agreement with MONAI's metric, and the script on tiny data."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from _calibration import near_organ, pool, reliability
from monai.metrics import CalibrationErrorMetric
from tiny_pancreas import TINY

pytest_plugins = ["tiny_fixtures"]

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_known_answers() -> None:
    # 4 voxels at 0.25 of which 2 are organ, 6 at 0.95 of which 3 are
    probability = torch.tensor([0.25] * 4 + [0.95] * 6)
    organ = torch.tensor([1, 1, 0, 0, 1, 1, 1, 0, 0, 0], dtype=torch.bool)
    curve = reliability(probability, organ)
    assert curve.count.tolist() == [0, 0, 4, 0, 0, 0, 0, 0, 0, 6]
    assert curve.kept[[2, 9]] == pytest.approx([2, 3])
    assert curve.promised[[2, 9]] == pytest.approx([1, 5.7])
    assert curve.ece == pytest.approx((4 * 0.25 + 6 * 0.45) / 10)
    assert curve.ace == pytest.approx((0.25 + 0.45) / 2)
    both = pool([curve, curve])
    assert both.count.sum() == 20
    assert both.ece == pytest.approx(curve.ece)


def test_agrees_with_monai() -> None:
    probability = torch.rand(1, 1, 12, 12, 12)
    organ = torch.rand(1, 1, 12, 12, 12) < probability**2
    metric = CalibrationErrorMetric(num_bins=10, calibration_reduction="expected")
    metric(probability, organ.float())
    curve = reliability(probability, organ)
    assert curve.ece == pytest.approx(float(metric.aggregate()), abs=1e-5)
    assert curve.ece > 0.1  # it is badly calibrated


def test_perfect_probabilities_have_no_error() -> None:
    probability = torch.rand(200_000)
    assert reliability(probability, torch.rand(200_000) < probability).ece < 0.01
    assert reliability(torch.empty(0), torch.empty(0)).ece == 0


def test_near_the_organ() -> None:
    organ = np.zeros((9, 9, 9), bool)
    organ[4, 4, 4] = True
    near = near_organ(organ, (2.0, 2.0, 5.0), 4.0)
    assert near.sum() == 13  # a disc of radius 2 in one slice
    assert not near_organ(organ & False, (2.0, 2.0, 5.0), 4.0).any()


def test_the_script(dataset: Path, weights: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "pancreas_calibration.py"), "--dataset_dir", str(dataset)]
    command += ["--checkpoint", str(weights), "--figure", str(tmp_path / "reliability.png"), "--part", "training"]
    overrides = {key: value for key, value in TINY.items() if key != "bundle_root"}
    command += ["--overrides", json.dumps({**overrides, "label_map": {"0": 0, "1": 1, "2": 0, "3": 0, "4": 255}})]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[1:4]] == ["| case_0", "| case_1", "| all"]
    assert 0 < float(rows[1][3]) < 1
    bins = [row for row in rows if " to " in row[0]]
    assert len(bins) == 10
    assert sum(int(row[1]) for row in bins) > 1000
    assert (tmp_path / "reliability.png").read_bytes()[:4] == b"\x89PNG"
