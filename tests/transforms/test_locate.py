"""Boxes from synthetic maps whose object is known, at three scales as the network has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from ag_networks.transforms import LocateObject, LocateObjectd, mean_attention

SHAPE, GRIDS = (208, 272), ((52, 68), (26, 34), (13, 17))


def blob(grid: tuple[int, int], box: tuple[int, int, int, int], value: float = 1.0, low: float = 0.0) -> np.ndarray:
    """Return a map with a box (top, left, bottom, right in pixels of the frame) of another value."""
    values = np.full(grid, low, np.float32)
    step = SHAPE[0] // grid[0]
    values[box[0] // step : box[2] // step, box[1] // step : box[3] // step] = value
    return values


def overlap(box: tuple[int, ...], reference: tuple[int, ...]) -> float:
    one, other = (np.zeros(SHAPE, bool) for _ in range(2))
    for mask, (top, left, bottom, right) in ((one, box), (other, reference)):
        mask[top:bottom, left:right] = True
    return float((one & other).sum() / (one | other).sum())


OBJECT = (64, 96, 144, 192)
ELSEWHERE = (0, 0, 32, 32)


def test_the_object_is_boxed() -> None:
    found = LocateObject()([blob(grid, OBJECT) for grid in GRIDS], SHAPE)
    assert found.overlaps
    assert overlap(found.box, OBJECT) > 0.9
    rows, columns = np.nonzero(found.mask)
    assert found.box == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)


def test_without_blur_the_box_is_that_of_the_pixels() -> None:
    """Half way between two cells of 16 pixels the threshold is met, which is their border."""
    found = LocateObject(sigma=0)([blob(grid, OBJECT) for grid in GRIDS], SHAPE)
    assert found.box == OBJECT


def test_a_brighter_spot_at_one_scale_alone_is_passed_over() -> None:
    maps = [np.maximum(blob(grid, OBJECT), blob(grid, ELSEWHERE, 1.2) if grid == GRIDS[2] else 0) for grid in GRIDS]
    found = LocateObject()(maps, SHAPE)
    assert found.overlaps
    assert overlap(found.box, OBJECT) > 0.7
    fine = [np.maximum(blob(grid, OBJECT), blob(grid, ELSEWHERE, 1.2) if grid == GRIDS[0] else 0) for grid in GRIDS]
    assert overlap(LocateObject()(fine, SHAPE).box, OBJECT) > 0.85


@pytest.mark.parametrize(("agreement", "right"), [("every", 192), ("most", 208), ("any", 240)])
@pytest.mark.parametrize("order", [(192, 208, 240), (240, 192, 208), (208, 240, 192)], ids=str)
def test_the_box_encloses_what_as_many_components_contain_as_it_is_told(
    agreement: str, right: int, order: tuple[int, ...]
) -> None:
    maps = [blob(grid, (64, 96, 144, edge)) for grid, edge in zip(GRIDS, order, strict=True)]
    assert LocateObject(sigma=0, agreement=agreement)(maps, SHAPE).box == (64, 96, 144, right)


def test_components_without_a_common_pixel_are_boxed_where_most_agree() -> None:
    """Both fine components lie within the coarse one, but beside each other."""
    left, right = (64, 96, 144, 128), (64, 160, 144, 192)
    found = LocateObject(sigma=0)([blob(GRIDS[0], left), blob(GRIDS[1], right), blob(GRIDS[2], OBJECT)], SHAPE)
    assert found.overlaps
    assert found.box == OBJECT


def test_of_two_objects_the_stronger_one_is_boxed() -> None:
    weaker = (16, 208, 80, 256)
    maps = [np.maximum(blob(grid, OBJECT), blob(grid, weaker, 0.9)) for grid in GRIDS]
    assert overlap(LocateObject()(maps, SHAPE).box, OBJECT) > 0.85


def test_without_overlap_the_coarsest_map_decides_and_it_is_said() -> None:
    maps = [blob(GRIDS[0], ELSEWHERE), blob(GRIDS[1], (160, 224, 192, 256)), blob(GRIDS[2], OBJECT)]
    found = LocateObject(sigma=0)(maps, SHAPE)
    assert not found.overlaps
    assert found.box == OBJECT
    maps[1] = blob(GRIDS[1], OBJECT)
    two_of_three = LocateObject(sigma=0)(maps, SHAPE)
    assert not two_of_three.overlaps
    assert two_of_three.box == OBJECT


@pytest.mark.parametrize("flat", [0.0, 0.7, -2.0], ids=["zero", "constant", "against the class"])
def test_a_flat_map_takes_no_part(flat: float) -> None:
    maps = [np.full(GRIDS[0], flat, np.float32), *(blob(grid, OBJECT) for grid in GRIDS[1:])]
    found = LocateObject(sigma=0)(maps, SHAPE)
    assert found.overlaps
    assert found.box == OBJECT
    last = [blob(GRIDS[0], OBJECT), blob(GRIDS[1], OBJECT), np.full(GRIDS[2], flat, np.float32)]
    assert LocateObject(sigma=0)(last, SHAPE).box == OBJECT


def test_flat_maps_give_no_box() -> None:
    found = LocateObject()([np.ones(grid) for grid in GRIDS], SHAPE)
    assert found.box is None
    assert not found.overlaps
    assert not found.mask.any()
    assert found.attention.shape == SHAPE


def test_scale_and_offset_of_a_map_do_not_matter() -> None:
    """Coefficients of a sigmoid lie within a narrow band, those of a shifted sum are a thousandth."""
    maps = [blob(grid, OBJECT) for grid in GRIDS]
    scaled = [1e-4 * maps[0], 0.6 + 0.01 * maps[1], 30 * maps[2]]
    assert LocateObject()(scaled, SHAPE).box == LocateObject()(maps, SHAPE).box


def test_negative_activation_is_no_evidence() -> None:
    maps = [blob(grid, OBJECT) for grid in GRIDS]
    maps[2] = np.where(maps[2] > 0, 5.0, -100.0)
    assert overlap(LocateObject()(maps, SHAPE).box, OBJECT) > 0.85


def test_generated_frames_with_noise() -> None:
    """Twenty ellipses in noise: maps are what a perfect network would show, made noisy at every scale."""
    rng, overlaps = np.random.default_rng(0), []
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for _ in range(20):
        height, width = rng.integers(30, 60), rng.integers(40, 80)
        row, column = rng.integers(height + 4, SHAPE[0] - height - 4), rng.integers(width + 4, SHAPE[1] - width - 4)
        shape = ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 <= 1
        maps = []
        for grid in GRIDS:
            step = SHAPE[0] // grid[0]
            mean = shape.reshape(grid[0], step, grid[1], step).mean(axis=(1, 3))
            maps.append(mean + 0.15 * rng.random(grid))
        box = (row - height, column - width, row + height, column + width)
        overlaps.append(overlap(LocateObject()(maps, SHAPE).box, box))
    assert np.mean(overlaps) > 0.8
    assert min(overlaps) > 0.6


def test_mean_attention_is_the_mean_of_maps_of_maximum_one() -> None:
    fine, coarse = np.array([[0.0, 2.0], [1.0, 0.0]]), np.array([[5.0]])
    np.testing.assert_allclose(mean_attention([fine, coarse], (2, 2)), [[0.5, 1.0], [0.75, 0.5]])
    assert mean_attention([np.zeros((2, 2))], (2, 2)).max() == 0


def test_dictionary_form_takes_the_map_of_the_prediction() -> None:
    maps = [torch.from_numpy(blob(grid, OBJECT)) for grid in GRIDS]
    activation = torch.stack([torch.from_numpy(blob(GRIDS[2], ELSEWHERE)), maps[2], torch.zeros(GRIDS[2])])
    data = {
        "image": MetaTensor(torch.zeros(1, *SHAPE)),
        "pred": MetaTensor(torch.tensor([0.1, 2.0, 0.3])),
        "alpha1": MetaTensor(maps[0][None]),
        "alpha2": maps[1][None],
        "activation": activation,
    }
    result = LocateObjectd(("alpha1", "alpha2", "activation"), sigma=0)(data)
    assert result["box"].tolist() == list(OBJECT)
    assert result["box_overlaps"] is True
    assert tuple(result["attention"].shape) == (1, *SHAPE)
    assert "box" not in data
    flat = {**data, **{key: torch.zeros(1, 4, 4) for key in ("alpha1", "alpha2", "activation")}}
    assert LocateObjectd(("alpha1", "alpha2", "activation"))(flat)["box"].isnan().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -1}, "sigma >= 0"),
        ({"threshold": 1.0}, r"threshold in \[0, 1\)"),
        ({"threshold": -0.1}, "threshold"),
        ({"agreement": "all"}, "every, most, any"),
    ],
)
def test_bad_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocateObject(**options)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], "no map"),
        ([np.zeros((1, 4, 4))], r"2D map.*\(1, 4, 4\)"),
        ([np.full((4, 4), np.nan)], "finite"),
        ([np.zeros((0, 4))], "2D map"),
    ],
    ids=["none", "3D", "nan", "empty"],
)
def test_bad_maps_are_refused(maps: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocateObject()(maps, SHAPE)
