"""Known answers of what is measured, and a warning for what lies outside, inside not."""

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import NormalizeIntensityd, ScaleIntensityRange, ScaleIntensityRanged

from ag_networks.metrics import FACTS, Plausibility, measure_image, measure_organ

WINDOW = (0.0, 255.0)
SCALE = ScaleIntensityRanged("image", 0.0, 255.0, -1.0, 1.0, clip=True)
NAMES = {"0": "background", "1": "pancreas", "2": "spleen"}
SPACING = (2.0, 3.0, 5.0)


def body() -> np.ndarray:
    """Return a box of 30 x 20 x 10 voxels of 100 HU, the first 6 along x 240 HU, in 40 x 32 x 10 of air."""
    hu = np.zeros((40, 32, 10), np.float32)
    hu[5:35, 6:26] = 100
    hu[5:11, 6:26] = 240
    return hu


def organ() -> np.ndarray:
    """Return a block of 10 x 4 x 4 voxels, and a smaller one beside it."""
    mask = np.zeros((40, 32, 10), bool)
    mask[15:25, 17:21, 3:7] = True
    mask[30:32, 8:12, 3:7] = True
    return mask


def test_an_image_of_known_size() -> None:
    facts = measure_image(body(), SPACING, window=WINDOW)
    assert facts == pytest.approx(
        {
            "view_height_mm": 50,
            "body_width_mm": 60,
            "body_depth_mm": 60,
            "soft_share": 1,
            "void_share": 0,
            "bright_hu": 100,
            "bone_share": 0.2,
        }
    )


def test_lone_voxels_are_no_body() -> None:
    hu = body()
    hu[0, 0, 0] = hu[39, 31, 9] = 50
    facts = measure_image(hu, SPACING, window=WINDOW)
    assert (facts["body_width_mm"], facts["body_depth_mm"]) == (60, 60)


def test_what_is_clipped_is_bone_but_not_soft() -> None:
    hu = body()
    hu[5:11] = np.where(hu[5:11] > 0, 255, 0)
    facts = measure_image(hu, SPACING, window=WINDOW)
    assert facts["soft_share"] == 1
    assert facts["body_width_mm"] == 48
    assert facts["bone_share"] == pytest.approx(0.2)


def test_the_spine_does_not_count_as_bright() -> None:
    hu = body()
    hu[5:11] = 100
    hu[18:23, 6:12] = 180  # at the back
    assert measure_image(hu, SPACING, window=WINDOW)["bright_hu"] == 100
    hu[16:26, 20:26] = 180
    assert 100 < measure_image(hu, SPACING, window=WINDOW)["bright_hu"] <= 180


def test_lungs_are_large_spaces_without_tissue() -> None:
    chest = np.full((80, 60, 20), 50, np.float32)
    chest[8:36, 10:50] = chest[44:72, 10:50] = 0  # 28 x 40 voxels of 4 mm
    facts = measure_image(chest, (4.0, 4.0, 4.0), window=WINDOW)
    assert 0.3 < facts["void_share"] < 0.6
    fat = np.where(np.indices(chest.shape).sum(axis=0) % 5 == 0, 50, 0).astype(np.float32)
    assert measure_image(fat, (4.0, 4.0, 4.0), window=WINDOW)["void_share"] == 0


def test_an_image_without_tissue_is_measured_too() -> None:
    assert measure_image(np.zeros((4, 4, 4)), SPACING, window=WINDOW) == {"view_height_mm": 20, "soft_share": 0}


def test_an_organ_of_known_size() -> None:
    facts = measure_organ(organ(), body(), SPACING, window=WINDOW)
    assert facts == pytest.approx(
        {
            "volume_ml": 160 * 30 / 1000,
            "width_mm": 20,
            "depth_mm": 12,
            "height_mm": 20,
            "main_share": 160 / 192,
            "edge_mm": 15,  # three slices of 5 mm above and below
            "organ_hu": 100,
            "from_right": (35 - 19.5) / 30,
            "from_front": (26 - 18.5) / 20,
        }
    )


def test_the_whole_of_it() -> None:
    facts = measure_organ(organ(), body(), SPACING, window=WINDOW, whole=True)
    assert facts["volume_ml"] == pytest.approx(192 * 30 / 1000)
    assert facts["width_mm"] == 34
    assert facts["main_share"] == pytest.approx(160 / 192)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [0, -1])
def test_an_organ_at_the_border_of_the_scan(axis: int, side: int) -> None:
    mask = organ()
    index = [slice(15, 25), slice(17, 21), slice(3, 7)]
    index[axis] = slice(None, 18) if side == 0 else slice(4 if axis == 2 else 18, None)
    mask[tuple(index)] = True
    assert measure_organ(mask, body(), SPACING, window=WINDOW)["edge_mm"] == 0


def check(ranges: Any, **facts: float) -> list[str]:
    return Plausibility(ranges, class_names=NAMES, intensity=SCALE).warnings({"image": facts, "pancreas": facts})


BOUNDS = [
    ({"volume_ml": [10, 20]}, 10, None),
    ({"volume_ml": [10, 20]}, 20, None),
    ({"volume_ml": [10, 20]}, 9.9, "volume 9.9 ml, expected 10 to 20: a part of it missed?"),
    ({"volume_ml": [10, 20]}, 20.5, "volume 20.5 ml, expected 10 to 20: other organs included?"),
    ({"volume_ml": [10, None]}, 1e6, None),
    ({"volume_ml": [10, 2000]}, 2345.6, "volume 2346 ml, expected 10 to 2000: other organs included?"),
    ({"volume_ml": [None, 20]}, 0, None),
    ({"volume_ml": [10, None]}, 5, "volume 5 ml, expected at least 10: a part of it missed?"),
    ({"volume_ml": [None, 20]}, 25, "volume 25 ml, expected at most 20: other organs included?"),
]


@pytest.mark.parametrize(("ranges", "value", "message"), BOUNDS, ids=str)
def test_warnings_at_the_bounds(ranges: dict[str, list[float]], value: float, message: str | None) -> None:
    assert check({"pancreas": ranges}, volume_ml=value) == ([f"pancreas: {message}"] if message else [])


def test_what_was_not_measured_is_no_reason_to_warn() -> None:
    assert check({"pancreas": {"confidence": [0.9, None]}, "spleen": {"volume_ml": [1, 2]}}) == []


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_can_be_warned_of_in_one_line(name: str) -> None:
    (line,) = check({"image": {name: [1, 2]}}, **{name: 0.5})
    assert "\n" not in line
    assert f"{FACTS[name].text} 0.5" in line
    assert "1 to 2" in line


def test_facts_come_from_the_scaled_image_and_its_affine() -> None:
    scaled = SCALE({"image": torch.from_numpy(body())[None]})["image"]
    image = MetaTensor(torch.as_tensor(scaled), affine=torch.diag(torch.tensor([*SPACING, 1.0])), meta={})
    labels = torch.from_numpy(organ()[None].astype(np.uint8))
    judge = Plausibility({"pancreas": {"confidence": [0.9, None]}}, class_names=NAMES, intensity=SCALE)
    facts, warnings = judge(image, labels, confidence=[0.7, float("nan")])
    assert facts["image"] == pytest.approx(measure_image(body(), SPACING, window=WINDOW), rel=1e-5)
    expected = measure_organ(organ(), body(), SPACING, window=WINDOW)
    assert facts["pancreas"] == pytest.approx({**expected, "confidence": 0.7}, rel=1e-5)
    assert facts.keys() == {"image", "pancreas"}  # there is no spleen
    assert warnings == ["pancreas: mean probability inside 0.7, expected at least 0.9: the network is unsure"]


def test_another_window_is_undone() -> None:
    scale = ScaleIntensityRange(-100.0, 300.0, 0.0, 1.0, clip=True)
    judge = Plausibility({"image": {"bright_hu": [0, 1]}}, class_names=NAMES, intensity=scale)
    image = scale(torch.from_numpy(body())[None] - 50)
    facts = judge.measure(image, torch.zeros(1, 40, 32, 10), spacing=SPACING)
    hu = np.clip(body() - 50, -100, 300)
    assert facts["image"] == pytest.approx(measure_image(hu, SPACING, window=(-100, 300)), rel=1e-4)


def test_without_ranges_nothing_is_done() -> None:
    judge = Plausibility(None, class_names=NAMES, intensity=NormalizeIntensityd("image"))
    assert judge(None, None) == ({}, [])


BAD = [
    ({"liver": {}}, SCALE, "expected ranges for 'image' or a class"),
    ({"image": {"volume": [1, 2]}}, SCALE, "got volume"),
    ({"image": {"bright_hu": [1]}}, SCALE, "expected a range"),
    ({"image": {"bright_hu": [1, 2]}}, NormalizeIntensityd("image"), "got NormalizeIntensityd: set them to null"),
]


@pytest.mark.parametrize(("ranges", "intensity", "message"), BAD, ids=[case[2] for case in BAD])
def test_bad_ranges_are_refused(ranges: Any, intensity: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plausibility(ranges, class_names=NAMES, intensity=intensity)
