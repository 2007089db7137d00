"""Files of one case: on the grid of its input, whole or not at all."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureTyped, Orientationd, ScaleIntensityRange, Spacingd

from ag_networks.handlers import CaseWriter
from ag_networks.metrics import Plausibility

# 3 x 2 x 1.5 mm, first axis toward the left, turned by 30 degrees about the last
C, S = np.cos(np.pi / 6), np.sin(np.pi / 6)
AFFINE = np.array([[-3 * C, -2 * S, 0, 40], [-3 * S, 2 * C, 0, -20], [0, 0, 1.5, 7], [0, 0, 0, 1.0]])
SHAPE = (14, 16, 18)
NONE = Compose([EnsureTyped("image")])
NAMES = {"0": "background", "1": "pancreas", "2": "spleen"}


def mask() -> MetaTensor:
    values = np.zeros((1, *SHAPE), np.uint8)
    values[0, 2:5, 3:6, 4:6] = 1
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(AFFINE))


def write(writer: CaseWriter, **output: Any) -> None:
    output = {"pred": mask(), "image": MetaTensor(torch.zeros(1, 2, 2, 2)), **output}
    state = SimpleNamespace(batch=[{"case": "case_1"}], output=[output])
    writer(SimpleNamespace(state=state, seconds=1.26))


def test_mask_and_report(tmp_path: Path) -> None:
    writer = CaseWriter(tmp_path, class_names=NAMES, preprocessing=NONE, settings={"weights": "abc"})
    image = MetaTensor(torch.zeros(1, 2, 2, 2), meta={"ct_warnings": "one thing; another"})
    write(writer, image=image)
    stored = nib.load(tmp_path / "case_1/case_1.nii.gz")
    np.testing.assert_array_equal(np.asarray(stored.dataobj), np.asarray(mask())[0])
    assert stored.get_data_dtype() == np.uint8
    np.testing.assert_allclose(stored.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(stored.get_qform(), AFFINE, atol=1e-5)
    assert (int(stored.header["sform_code"]), int(stored.header["qform_code"])) == (1, 1)
    assert stored.header.get_xyzt_units()[0] == "mm"
    report = json.loads((tmp_path / "case_1/case_1.json").read_text())
    versions = report.pop("versions")
    assert report == {
        "case": "case_1",
        "classes": {
            "pancreas": {"label": 1, "voxels": 18, "volume_ml": 0.16},  # 18 x 9 mm3
            "spleen": {"label": 2, "voxels": 0, "volume_ml": 0.0},
        },
        "input": {"size": list(SHAPE), "spacing_mm": [3.0, 2.0, 1.5], "orientation": "LAS"},
        "seconds": 1.3,
        "measured": {},
        "warnings": ["one thing", "another", "no spleen was found"],
        "settings": {"weights": "abc"},
    }
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert sorted(path.name for path in (tmp_path / "case_1").iterdir()) == ["case_1.json", "case_1.nii.gz"]


def test_implausible_results_are_measured_and_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ranges = {"image": {"view_height_mm": [50, None]}, "pancreas": {"volume_ml": [15, 250], "confidence": [0.8, None]}}
    plausibility = Plausibility(ranges, class_names=NAMES, intensity=ScaleIntensityRange(0, 255, -1, 1))
    writer = CaseWriter(tmp_path, class_names=NAMES, preprocessing=NONE, plausibility=plausibility)
    image = MetaTensor(torch.full((1, 10, 10, 10), -0.2), affine=torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])))
    whole = torch.zeros(1, 10, 10, 10)
    whole[:, 2:6, 2:6, 2:6] = 1
    write(writer, image=image, whole_pred=whole, confidence=[0.5, float("nan")])
    report = json.loads((tmp_path / "case_1/case_1.json").read_text())
    assert report["warnings"] == [
        "image: the scan is high 20 mm, expected at least 50: too short to hold the organ?",
        "pancreas: volume 0.512 ml, expected 15 to 250: a part of it missed?",
        "pancreas: mean probability inside 0.5, expected at least 0.8: the network is unsure",
        "no spleen was found",
    ]
    assert report["measured"].keys() == {"image", "pancreas"}
    assert report["measured"]["pancreas"]["organ_hu"] == pytest.approx(102)
    assert [f"case_1: {line}" for line in report["warnings"]] == [record.getMessage() for record in caplog.records]


def test_attention_comes_back_to_the_grid_of_the_input(tmp_path: Path) -> None:
    """A map that is linear in millimetres stays so, whatever the grids."""
    preprocessing = Compose(
        [
            Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd("image", pixdim=(2.0, 2.0, 2.0)),
        ]
    )
    image = preprocessing({"image": MetaTensor(torch.zeros(1, *SHAPE), affine=torch.from_numpy(AFFINE))})["image"]
    ramps = torch.stack([ramp(image.affine, image.shape[1:], axis) for axis in (0, 2)])
    writer = CaseWriter(
        tmp_path, class_names=NAMES, preprocessing=preprocessing, network=SimpleNamespace(names=["x", "z"])
    )
    write(writer, image=image, attention=MetaTensor(ramps, meta=image.meta))
    for name, axis in (("x", 0), ("z", 2)):
        stored = nib.load(tmp_path / f"case_1/case_1_attention_{name}.nii.gz")
        np.testing.assert_allclose(stored.affine, AFFINE, atol=1e-5)
        inner = (slice(2, -2),) * 3
        expected = ramp(torch.from_numpy(AFFINE), SHAPE, axis).numpy()
        np.testing.assert_allclose(stored.get_fdata()[inner], expected[inner], atol=0.003)
        assert stored.get_data_dtype() == np.uint8


def ramp(affine: torch.Tensor, shape: Any, axis: int) -> torch.Tensor:
    """Return the coordinate of every voxel along an axis of space, -100 to 100 mm as 0 to 1."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in shape], indexing="ij"), dim=-1)
    world = grid @ affine[:3, :3].to(grid).T + affine[:3, 3].to(grid)
    return (world[..., axis] / 200 + 0.5).float()


def test_maps_lie_within_0_and_1_in_steps_of_a_255th(tmp_path: Path) -> None:
    writer = CaseWriter(tmp_path, class_names=NAMES, preprocessing=NONE, network=SimpleNamespace(names=["a"]))
    values = torch.linspace(-0.5, 1.5, 8).view(1, 2, 2, 2)
    write(writer, attention=MetaTensor(values))
    stored = nib.load(tmp_path / "case_1/case_1_attention_a.nii.gz").get_fdata()
    np.testing.assert_allclose(stored, values[0].clamp(0, 1).numpy(), atol=0.5 / 255 + 1e-6)


def test_attention_without_a_network_that_names_it_is_left_out(tmp_path: Path) -> None:
    write(CaseWriter(tmp_path, class_names=NAMES, preprocessing=NONE), attention=MetaTensor(torch.ones(1, 2, 2, 2)))
    assert len(list((tmp_path / "case_1").iterdir())) == 2


def test_names_that_do_not_fit_the_maps_are_an_error(tmp_path: Path) -> None:
    network = SimpleNamespace(names=["a", "b"])
    writer = CaseWriter(tmp_path, class_names=NAMES, preprocessing=NONE, network=network)
    with pytest.raises(ValueError, match="zip"):
        write(writer, attention=MetaTensor(torch.ones(1, 2, 2, 2)))
    assert not (tmp_path / "case_1/case_1.json").exists()


def test_the_same_results_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(CaseWriter(tmp_path / name, class_names=NAMES, preprocessing=NONE))
    first, second = ((tmp_path / name / "case_1/case_1.nii.gz").read_bytes() for name in ("a", "b"))
    assert first == second
