"""How well boxes agree with reference boxes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from monai.data.box_utils import box_iou

__all__ = ["Box", "LocalizationScores", "box_overlap", "format_localization", "score_localization"]

Box = tuple[float, float, float, float]
CORRECT = 0.5


@dataclass(frozen=True, kw_only=True)
class LocalizationScores:
    """Agreement of the boxes of one class.

    Args:
        images: number of images with a reference box.
        missing: number of these for which no box was found; their IoU is 0.
        iou_mean: mean IoU.
        iou_std: sample standard deviation (divisor n - 1); ``nan`` for a single image.
        correct: share of the images with IoU > 0.5.
        relative: share of the images with IoU > 0.5 times the best IoU of the class.
    """

    images: int
    missing: int
    iou_mean: float
    iou_std: float
    correct: float
    relative: float


def box_overlap(box: Sequence[float], reference: Sequence[float]) -> float:
    """Return the intersection over union of two boxes (top, left, bottom, right), edges in pixels.

    A box around rows 2 to 4 and columns 1 to 3 is (2, 1, 5, 4): the lower and the right edge lie behind the last pixel.

    Raises:
        ValueError: if a box has no four numbers or no area.

    Example:
        >>> round(box_overlap((0, 0, 10, 10), (0, 5, 10, 15)), 3)
        0.333
    """
    for each in (box, reference):
        if len(each) != 4 or not (each[0] < each[2] and each[1] < each[3]):
            raise ValueError(f"expected a box (top, left, bottom, right) with an area, got {tuple(each)}")
    first, second = (np.asarray([each], dtype=np.float64) for each in (box, reference))
    return float(np.asarray(box_iou(first, second))[0, 0])


def score_localization(
    boxes: Iterable[tuple[str, Sequence[float] | None, Sequence[float]]],
) -> dict[str, LocalizationScores]:
    r"""Score boxes by class, as in the papers' table of weakly supervised localization.

    *Correct* is IoU > 0.5. *Relative* is IoU > 0.5 :math:`\cdot` max IoU of the class, as maps outline what tells a
    class from others and not the whole object, so that the best reachable IoU is below 1 (Schlemper et al., MIDL 2018,
    appendix; there over 50 images per class). An image without a box has IoU 0 and is neither.

    Args:
        boxes: class, box found (``None``: none) and reference box of every image.

    Raises:
        ValueError: if there is no image, or a box is none.

    Example:
        >>> scores = score_localization([("femur", (0, 0, 4, 4), (0, 0, 4, 4)), ("femur", None, (0, 0, 4, 4))])
        >>> scores["femur"].iou_mean, scores["femur"].correct, scores["femur"].missing
        (0.5, 0.5, 1)
    """
    overlaps: dict[str, list[float]] = {}
    missing: dict[str, int] = {}
    for name, box, reference in boxes:
        overlaps.setdefault(name, []).append(0.0 if box is None else box_overlap(box, reference))
        missing[name] = missing.get(name, 0) + (box is None)
    if not overlaps:
        raise ValueError("there is no box to score")
    return {name: _summarize(np.array(values), missing[name]) for name, values in overlaps.items()}


def format_localization(scores: Mapping[str, LocalizationScores]) -> str:
    """Return the papers' third table in Markdown: mean (std) of the IoU, correct and relative correctness, by class."""
    lines = [["Class", "Images", "No box", "IoU mean (std)", "Correct", "Relative"], ["---"] * 6]
    for name, part in scores.items():
        spread = "" if math.isnan(part.iou_std) else f" ({part.iou_std:.2f})"
        shares = [f"{part.correct:.2f}", f"{part.relative:.2f}"]
        lines.append([name, str(part.images), str(part.missing), f"{part.iou_mean:.2f}{spread}", *shares])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _summarize(iou: np.ndarray, missing: int) -> LocalizationScores:
    return LocalizationScores(
        images=len(iou),
        missing=missing,
        iou_mean=float(iou.mean()),
        iou_std=float(iou.std(ddof=1)) if len(iou) > 1 else math.nan,
        correct=float((iou > CORRECT).mean()),
        relative=float((iou > CORRECT * iou.max()).mean()),
    )
