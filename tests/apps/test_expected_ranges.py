"""Ranges measured on generated cases, whole and sparse."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ag_networks.apps.expected_ranges import main, suggest_ranges
from ag_networks.data import make_phantom, write_nifti

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "pancreas_ct_segmentation"


def test_a_tenth_of_the_span_and_no_less_than_half() -> None:
    measured = [{"image": {"bright_hu": 100.0}, "pancreas": {"main_share": 0.9}}, {"image": {"bright_hu": 150.0}}]
    measured += [{"image": {"bright_hu": 5.0}, "pancreas": {"main_share": 1.0}}]
    assert suggest_ranges(measured) == {"image": {"bright_hu": [2.5, 164.0]}, "pancreas": {"main_share": [0.89, 1.0]}}


def test_cases_of_a_datalist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    phantom = make_phantom(1, spacing=(6, 6, 6))
    write_nifti(phantom, tmp_path, "whole")
    sparse = np.full_like(phantom.label, 255)
    sparse[:, :, ::4] = phantom.label[:, :, ::4]
    write_nifti(phantom, tmp_path, "sparse")
    nib.save(nib.Nifti1Image(sparse, phantom.affine), tmp_path / "labels" / "sparse.nii.gz")
    names = ("whole", "sparse")
    items = [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in names]
    (tmp_path / "datalist.json").write_text(json.dumps({"mine": items}))
    main(["--bundle", str(BUNDLE), "--dataset_dir", str(tmp_path), "--part", "mine"])
    captured = capsys.readouterr()
    ranges = json.loads(captured.out)
    where = np.nonzero(phantom.label == 1)
    width = 6 * np.ptp(where[0]) + 6
    low, high = ranges["pancreas"]["width_mm"]
    assert low == pytest.approx(width, abs=20)  # of the slices that are left, the width is nearly that of all
    assert high == pytest.approx(width, abs=10)
    low, high = ranges["image"]["view_height_mm"]
    assert low == high == pytest.approx(6 * phantom.image.shape[2], abs=6)
    assert "sparse.nii.gz: {" in captured.err


def test_a_missing_datalist_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--bundle", str(BUNDLE), "--dataset_dir", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
