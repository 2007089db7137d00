"""Boxes: overlap by counting pixels, and the papers' three numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ag_networks.metrics import box_overlap, format_localization, score_localization

WHOLE = (0, 0, 10, 10)


def pixels(box: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((30, 30), bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    return mask


@pytest.mark.parametrize(
    "box",
    [(0, 0, 10, 10), (0, 0, 10, 5), (3, 4, 20, 25), (10, 10, 20, 20), (2, 2, 4, 4)],
    ids=["same", "half", "corner", "touching", "inside"],
)
def test_overlap_is_that_of_the_pixels(box: tuple[int, int, int, int]) -> None:
    one, other = pixels(box), pixels(WHOLE)
    assert box_overlap(box, WHOLE) == pytest.approx((one & other).sum() / (one | other).sum())
    assert box_overlap(WHOLE, box) == box_overlap(box, WHOLE)


def test_the_papers_numbers() -> None:
    femur = [(0, 0, 10, 3), (0, 0, 10, 4), (0, 0, 10, 1), None]  # IoU 0.3, 0.4, 0.1, no box
    brain = [(0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 5, 2)]  # IoU 1, 0.5 (not above), 0.1
    boxes = [("femur", box, WHOLE) for box in femur] + [("brain", box, WHOLE) for box in brain]
    scores = score_localization(boxes)
    assert list(scores) == ["femur", "brain"]
    iou = [0.3, 0.4, 0.1, 0.0]
    part = scores["femur"]
    assert (part.images, part.missing, part.correct) == (4, 1, 0)
    assert (part.iou_mean, part.iou_std) == pytest.approx((np.mean(iou), np.std(iou, ddof=1)))
    assert part.relative == 0.5  # 0.3 and 0.4 are above 0.2
    assert scores["brain"].correct == pytest.approx(1 / 3)
    assert scores["brain"].relative == pytest.approx(1 / 3)
    lines = format_localization(scores).splitlines()
    assert lines[0] == "| Class | Images | No box | IoU mean (std) | Correct | Relative |"
    assert lines[2] == "| femur | 4 | 1 | 0.20 (0.18) | 0.00 | 0.50 |"


def test_one_image_has_no_spread_and_no_box_at_all_is_never_right() -> None:
    part = score_localization([("femur", None, WHOLE)])["femur"]
    assert math.isnan(part.iou_std)
    assert (part.iou_mean, part.correct, part.relative, part.missing) == (0, 0, 0, 1)
    assert "| 0.00 | 0.00 | 0.00 |" in format_localization({"femur": part})


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (5, 0, 3, 5), (0, 0, 5), (math.nan, 0, 5, 5)])
def test_what_is_no_box_is_refused(box: tuple) -> None:
    with pytest.raises(ValueError, match="with an area"):
        box_overlap(box, WHOLE)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="no box to score"):
        score_localization([])
