"""Which values are HU, which labels fit."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage

from ag_networks.transforms import CheckCT, CheckCTd, CheckLabel, CheckLabeld

EXPECTED = "; expected CT values in Hounsfield units (air -1000, water 0)"


def body(background: float = -1000.0, tissue: float = 50.0, noise: float = 20.0) -> torch.Tensor:
    """Return a block of soft tissue, a third of it fat and some bone, in air."""
    image = torch.full((1, 24, 24, 12), background)
    image[:, 4:20, 4:20] = tissue
    image[:, 4:20, 4:9] = tissue - 150
    image[:, 10:12, 10:12] = tissue + 700
    return image + noise * torch.randn(image.shape)


def with_values(image: torch.Tensor, value: float, count: int) -> torch.Tensor:
    image = image.clone()
    image.view(-1)[:count] = value
    return image


ACCEPTED = {
    "HU": (body(), ""),
    "no air": (body()[:, 6:18, 6:18], ""),
    "circular field padded with -3024": (with_values(body(), -3024, 2000), ""),
    "metal": (with_values(body(), 30000, 200), ""),
    "clipped to [-160, 240]": (body().clip(-160, 240), ""),
    "clipped to [0, 3000]": (body().clip(0, 3000), ""),
    "clipped to [0, 255]": (body().clip(0, 255), "values from 0 to 255: an 8-bit or windowed image, read as HU"),
    "noise": (torch.rand(1, 24, 24, 12) * 2000 - 1000, ""),
    "much bone": (with_values(body(), 900, 100), ""),
    "integers": (body().round().to(torch.int16), ""),
    "NaN": (with_values(body(), np.nan, 7), "set 7 values that were NaN or infinite to -1024 HU"),
    "infinite": (with_values(body(), -np.inf, 2), "set 2 values that were NaN or infinite to -1024 HU"),
    "no tissue": (body(tissue=600), "0.0% of the voxels lie between -200 and 200: hardly a CT of soft tissue in HU"),
    "intercept twice": (
        body() - 1024,
        "0.0% of the voxels lie between -200 and 200: hardly a CT of soft tissue in HU",
    ),
}


@pytest.mark.parametrize(("image", "warning"), ACCEPTED.values(), ids=ACCEPTED)
def test_plausible_values_pass(image: torch.Tensor, warning: str) -> None:
    checked = CheckCT()(image, "case")
    assert checked.meta["ct_warnings"] == warning
    assert checked.dtype == image.dtype
    finite = torch.isfinite(image)
    assert torch.equal(checked.as_tensor()[finite], image[finite])
    assert bool((checked.as_tensor()[~finite] == -1024).all())


REAL = {
    "PANCREAS_0006_block_image.nii.gz": "",
    "s0009_image.nii.gz": "",
    "abdomen_ct_dicom_series": "",
    "s0009_label.nii.gz": "an image normalized or a label map",
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_images_pass_and_the_same_without_intercept_or_scaled_do_not(name: str, data_root: Path) -> None:
    image = LoadImage(reader="ag_networks.data.CTReader")(data_root / "pancreas_ct" / "volumes" / name)
    if REAL[name]:
        with pytest.raises(ValueError, match=REAL[name]):
            CheckCT()(image)
        return
    assert CheckCT()(image).meta["ct_warnings"] == ""
    with pytest.raises(ValueError, match="the intercept of -1024 is missing"):
        CheckCT()(image + 1024)
    with pytest.raises(ValueError, match="an image normalized"):
        CheckCT()(scaled(image))


def scaled(image: torch.Tensor) -> torch.Tensor:
    return (image - image.min()) / (image.max() - image.min())


REFUSED = {
    "zeros": (torch.zeros(1, 8, 8, 8), "every value is 0"),
    "constant": (torch.full((1, 8, 8, 8), -1024.0), "every value is -1024"),
    "all NaN": (torch.full((1, 8, 8, 8), torch.nan), "100% of the values are NaN or infinite"),
    "mostly NaN": (with_values(body(), torch.nan, 5000), "72% of the values are NaN or infinite"),
    "to [0, 1]": (scaled(body()), "values from 0 to 1, an image normalized or a label map"),
    "to [-1, 1]": (scaled(body()) * 2 - 1, "values from -1 to 1, an image normalized or a label map"),
    "unit variance": (((body() - body().mean()) / body().std()).clip(-4, 4), ", an image normalized or a label map"),
    "labels": (torch.randint(0, 5, (1, 8, 8, 8)), "values from 0 to 4, an image normalized or a label map"),
    "unsigned": (
        (body() + 1024).clip(0, 4095).round(),
        "with soft tissue near 1024: the intercept of -1024 is missing",
    ),
    "unsigned, padded with -2000": (
        with_values(body() + 1024, -2000, 2000),
        "with soft tissue near 1024: the intercept of -1024 is missing",
    ),
}


@pytest.mark.parametrize(("image", "found"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_other_values_are_refused_in_one_line(image: torch.Tensor, found: str, kind: str) -> None:
    with pytest.raises(ValueError, match=r"^case: ") as refusal:
        CheckCT()(image if kind == "tensor" else image.numpy(), "case")
    assert found in str(refusal.value)
    assert str(refusal.value).endswith(EXPECTED)
    assert "\n" not in str(refusal.value)


def test_warnings_of_the_reader_are_kept_and_all_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    image = MetaTensor(body().clip(0, 255), meta={"ct_warnings": "slices are 10.0 mm apart; only 7 slices"})
    expected = [
        "slices are 10.0 mm apart",
        "only 7 slices",
        "values from 0 to 255: an 8-bit or windowed image, read as HU",
    ]
    with caplog.at_level(logging.WARNING):
        done = CheckCTd("image")({"image": image, "case": "case_7"})
    assert caplog.messages == [f"case_7: {warning}" for warning in expected]
    assert done["image"].meta["ct_warnings"] == "; ".join(expected)
    assert CheckCT()(done["image"]).meta["ct_warnings"] == "; ".join(expected)


def test_without_a_case_the_file_gives_the_name() -> None:
    image = MetaTensor(torch.zeros(1, 4, 4, 4), meta={"filename_or_obj": "some/folder/scan.nii.gz"})
    with pytest.raises(ValueError, match=r"^scan\.nii\.gz: every value is 0"):
        CheckCTd("image")({"image": image})
    with pytest.raises(ValueError, match=r"^image: every value is 0"):
        CheckCT()(torch.zeros(1, 4, 4, 4))


def test_missing_images_pass_only_if_allowed() -> None:
    assert CheckCTd("image", allow_missing_keys=True)({"case": "x"}) == {"case": "x"}
    with pytest.raises(KeyError):
        CheckCTd("image")({"case": "x"})


AFFINE = torch.diag(torch.tensor([0.8, 0.8, 3.0, 1.0], dtype=torch.float64))


def pair(**label: Any) -> dict[str, Any]:
    """Return an image, and a label that differs as said."""
    values = label.get("values", (torch.arange(6 * 5 * 4) % 3).reshape(1, 6, 5, 4))
    return {
        "image": MetaTensor(torch.randn(1, 6, 5, 4), affine=AFFINE),
        "label": MetaTensor(values, affine=AFFINE + label.get("shift", 0)),
        "case": "case_1",
    }


def moved(mm: float, axis: int = 0) -> torch.Tensor:
    shift = torch.zeros(4, 4, dtype=torch.float64)
    shift[axis, 3] = mm
    return shift


def test_a_label_that_fits_passes_unchanged() -> None:
    data = pair(shift=moved(0.05))
    done = CheckLabeld("label", image_key="image", values=[0, 1, 2])(data)
    assert done["label"] is data["label"]


BAD_LABELS = {
    "smaller": (pair(values=torch.zeros(1, 6, 5, 3)), "the label is 6x5x3; expected 6x5x4, as the image"),
    "transposed": (pair(values=torch.zeros(1, 5, 6, 4)), "the label is 5x6x4; expected 6x5x4, as the image"),
    "shifted": (pair(shift=moved(3.0)), "the label lies up to 3.0 mm beside the image; expected the image's grid"),
    "scaled": (pair(shift=0.2 * torch.diag(torch.tensor([0.0, 1, 0, 0]))), "the label lies up to 0.8 mm beside the"),
    "unknown": (pair(values=torch.full((1, 6, 5, 4), 4)), "holds 4 in 120 voxels; expected only the values 0, 1, 2"),
    "fractional": (pair(values=torch.full((1, 6, 5, 4), 0.5)), "the label holds 0.5 in 120 voxels; expected only"),
    "many": (pair(values=torch.arange(120).reshape(1, 6, 5, 4)), "the label holds 3, 4, 5, 6, 7 in 117 voxels"),
    "NaN": (pair(values=torch.full((1, 6, 5, 4), torch.nan)), "the label holds nan"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "found"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_a_label_that_does_not_fit_is_refused_in_one_line(data: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=r"^case_1: ") as refusal:
        CheckLabeld("label", image_key="image", values=[0, 1, 2])(data)
    assert found in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_arrays_without_affine_are_compared_by_shape_and_values() -> None:
    label = np.ones((1, 4, 4, 4))
    assert CheckLabel([0, 1])(label, np.zeros((1, 4, 4, 4))) is label
    with pytest.raises(ValueError, match=r"^image: the label is 4x4x4; expected 4x4x5"):
        CheckLabel([0, 1])(label, np.zeros((1, 4, 4, 5)))


def test_one_chain_serves_cases_with_and_without_label() -> None:
    check = Compose(
        [
            CheckCTd(["image"], allow_missing_keys=True),
            CheckLabeld(["label"], image_key="image", values=[0, 1, 2], allow_missing_keys=True),
        ]
    )
    data = pair()
    data["image"] = MetaTensor(torch.linspace(-1000, 1000, 120).reshape(1, 6, 5, 4), affine=AFFINE)
    assert set(check(data)) == {"image", "label", "case"}
    data.pop("label")
    assert set(check(data)) == {"image", "case"}
