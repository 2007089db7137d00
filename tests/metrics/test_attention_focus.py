"""The share of attention at an organ, on maps whose share is known."""

import numpy as np
import pytest

from ag_networks.metrics import attention_focus

ORGAN = np.zeros((20, 10), bool)
ORGAN[5, 5] = True


def test_a_constant_map_is_at_chance() -> None:
    focus = attention_focus(np.full(ORGAN.shape, 0.3), ORGAN, spacing=(1.0, 1.0), dilation_mm=1.0)
    assert focus.chance == pytest.approx(5 / 200)
    assert focus.share == pytest.approx(focus.chance)
    assert focus.gain == pytest.approx(1.0)
    assert focus.contrast == pytest.approx(0.0)


def test_the_share_is_that_of_the_mass_inside_the_dilated_organ() -> None:
    alpha = np.full(ORGAN.shape, 0.1)
    alpha[5, 3:8] = 1.0  # two positions of the five lie beyond 1 mm
    focus = attention_focus(alpha, ORGAN, spacing=(1.0, 1.0), dilation_mm=1.0)
    assert focus.share == pytest.approx((3 + 2 * 0.1) / (5 + 195 * 0.1))
    assert focus.contrast == pytest.approx(3.2 / 5 - (2 + 193 * 0.1) / 195)


def test_the_dilation_is_in_millimeters() -> None:
    focus = attention_focus(np.ones(ORGAN.shape), ORGAN, spacing=(1.0, 3.0), dilation_mm=2.0)
    assert focus.chance == pytest.approx(5 / 200), "two neighbors on each side of the fine axis, none of the coarse one"


def test_unknown_positions_take_no_part() -> None:
    alpha = np.where(np.arange(20)[:, None] < 10, 0.5, 1.0) * np.ones(ORGAN.shape)
    known = np.arange(20)[:, None].repeat(10, 1) < 10
    focus = attention_focus(alpha, ORGAN, spacing=(1.0, 1.0), dilation_mm=1.0, valid=known)
    assert focus.share == focus.chance == pytest.approx(5 / 100)


@pytest.mark.parametrize(
    ("alpha", "organ", "message"),
    [
        (np.ones((3, 3)), ORGAN, "one 2D or 3D shape"),
        (np.ones(ORGAN.shape), ~np.zeros_like(ORGAN), "a part of the map"),
        (np.ones(ORGAN.shape), np.zeros_like(ORGAN), "a part of the map"),
        (np.zeros(ORGAN.shape), ORGAN, "above zero"),
        (-np.ones(ORGAN.shape), ORGAN, "above zero"),
    ],
    ids=["shapes", "everywhere", "nowhere", "no mass", "negative"],
)
def test_maps_without_an_answer_are_refused(alpha: np.ndarray, organ: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention_focus(alpha, organ, spacing=(1.0, 1.0))
