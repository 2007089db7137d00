"""Pictures that are unlike ultrasound frames are noticed."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from ag_networks.transforms import CheckFrame, CheckFramed, measure_frame


def test_what_is_measured_is_known() -> None:
    values = np.zeros((64, 64), np.float32)
    values[:, 32:] = 100
    assert measure_frame(values)["brightness"] == 50
    assert measure_frame(values)["dark_share"] == 0.5
    y, x = np.mgrid[:64, :64]
    assert measure_frame(50 + 3.0 * y + 1.5 * x)["beam_detail"] == pytest.approx(2)
    assert measure_frame(np.zeros((64, 64)))["beam_detail"] == 0


CASES = [
    pytest.param({"brightness": [None, 40]}, "at most 40: an X-ray", id="above"),
    pytest.param({"brightness": [90, None]}, "mean gray value 51, expected at least 90: almost black", id="below"),
    pytest.param({"beam_detail": [1.1, 3]}, "expected 1.1 to 3: no ultrasound, or rotated?", id="both sides"),
    pytest.param({"brightness": [40, 60], "dark_share": [None, None]}, "", id="as expected"),
    pytest.param(None, "", id="switched off"),
]


@pytest.mark.parametrize(("expected", "line"), CASES)
def test_a_number_out_of_its_range_is_a_line(expected: Any, line: str) -> None:
    values = torch.full((1, 64, 64), 50.0)
    values[:, :, ::2] += 1
    values[:, :, 1::2] -= 1
    result = CheckFrame(expected)(MetaTensor(values, meta={"picture_warnings": "small picture"}))
    first, *others = result.meta["picture_warnings"].split("; ")
    assert first == "small picture"
    assert len(others) == bool(line)
    assert line in "".join(others)
    torch.testing.assert_close(result.as_tensor(), values)


def test_items_are_checked_by_key() -> None:
    item = CheckFramed("image", {"brightness": [10, None]})({"image": MetaTensor(torch.zeros(1, 64, 64)), "label": 3})
    assert "almost black" in item["image"].meta["picture_warnings"]
    assert item["label"] == 3


@pytest.mark.parametrize("expected", [{"colour": [0, 1]}, {"brightness": [0]}], ids=["unknown", "no range"])
def test_a_wrong_range_is_refused(expected: Any) -> None:
    with pytest.raises(ValueError, match=r"expected a range \[low, high\] of one of brightness, dark_share"):
        CheckFrame(expected)
