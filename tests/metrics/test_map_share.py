"""The share of a map in boxes, on maps whose share is known."""

import numpy as np
import pytest

from ag_networks.metrics import attention_focus, map_share


def test_a_constant_map_is_at_chance() -> None:
    focus = map_share(np.full((20, 10), 0.3), [(2.3, 1.0, 7.9, 4.5)])
    assert focus.chance == pytest.approx(5.6 * 3.5 / 200)
    assert focus.gain == pytest.approx(1.0)
    assert focus.contrast == pytest.approx(0.0)


def test_boxes_of_whole_pixels_agree_with_the_focus_on_a_mask() -> None:
    values = np.random.default_rng(0).random((20, 10))
    mask = np.zeros((20, 10), bool)
    mask[3:9, 2:5] = mask[7:12, 4:8] = True
    expected = attention_focus(values, mask, spacing=(1, 1), dilation_mm=0)
    result = map_share(values, [(3, 2, 9, 5), (7, 4, 12, 8)])
    assert result.share == pytest.approx(expected.share)
    assert result.chance == pytest.approx(expected.chance)
    assert result.contrast == pytest.approx(expected.contrast)


def test_a_box_within_a_pixel_has_the_weight_of_its_area() -> None:
    focus = map_share([[2.0, 1.0], [1.0, 0.0]], [(0.25, 0.25, 0.75, 0.5)])
    assert focus.share == pytest.approx(0.125 * 2 / 4)
    assert focus.chance == pytest.approx(0.125 / 4)


def test_what_lies_outside_of_the_map_is_cut() -> None:
    assert map_share(np.ones((4, 4)), [(-5, -5, 2, 9)]).chance == pytest.approx(0.5)


def test_pixels_that_are_not_valid_take_no_part() -> None:
    values = np.array([[1.0, 3.0, 9.0], [1.0, 1.0, 9.0]])
    valid = np.array([[True, True, False], [True, True, False]])
    focus = map_share(values, [(0, 1, 1, 3)], valid=valid)
    assert focus.share == pytest.approx(3 / 6)
    assert focus.chance == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("values", "boxes", "message"),
    [
        (np.ones(4), [(0, 0, 1, 1)], "expected a 2D map"),
        (np.ones((2, 2)), [], "and boxes, got"),
        (np.ones((2, 2)), [(5, 5, 6, 6)], "cover a part of the map"),
        (np.ones((2, 2)), [(0, 0, 2, 2)], "cover a part of the map"),
        (np.zeros((2, 2)), [(0, 0, 1, 1)], "weights above zero"),
        (-np.ones((2, 2)), [(0, 0, 1, 1)], "weights above zero"),
    ],
    ids=["1D", "no boxes", "outside", "everything", "all zero", "negative"],
)
def test_what_has_no_share_is_refused(values: np.ndarray, boxes: list[tuple[float, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        map_share(values, boxes)
