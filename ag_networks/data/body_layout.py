"""Does a CT lie as its header says? Spine behind, liver on the right, lungs on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["BodyLayout", "judge_layout"]

GRID_MM = 4.0
TISSUE_HU = (20.0, 180.0)
BONE_HU = 200.0
AIR_HU = -400.0
LIVER_BOX_MM = 28.0  # a cube of nothing but soft tissue: in the upper abdomen, mostly liver
LIVER_SHARE = 0.97
MIDLINE = (0.35, 0.65)  # of the body's width
CLEAR, CLEAR_ALONE, CLEAR_AIR = 0.05, 0.125, 0.2


class BodyLayout(NamedTuple):
    """Evidence in shares of the body: positive where the header is right, near 0 where the image does not tell.

    Args:
        front_back: how far bone of the midline lies behind the middle of the soft tissue.
        left_right: how far massive soft tissue lies to the right of the body's middle.
        head_foot: how much more air there is inside the upper quarter than inside the lower one.
    """

    front_back: float
    left_right: float
    head_foot: float

    @property
    def turned(self) -> bool:
        """Whether front and back as well as left and right are exchanged: an LPS image with a header of RAS."""
        both = self.front_back < 0 and self.left_right < 0
        return both and self.front_back + self.left_right < -2 * CLEAR

    @property
    def warnings(self) -> list[str]:
        """One line for each contradiction with the header."""
        if self.turned:
            lines = ["turned about the body's axis: the spine lies in front and the liver on the left"]
        else:
            lines = ["mirrored: the spine lies in front"] if self.front_back < -CLEAR_ALONE else []
            lines += ["mirrored: the liver lies on the left"] if self.left_right < -CLEAR_ALONE else []
        return lines + (["upside down: lungs or air below"] if self.head_foot < -CLEAR_AIR else [])


def judge_layout(hu: NDArray[np.number], spacing: Sequence[float]) -> BodyLayout:
    """Look where the bones of the midline, the massive soft tissue and the air of a trunk are.

    An affine that is wrong cannot be found out from the affine. Three simple marks in the image tell of the usual
    faults, such as the images of the Medical Segmentation Decathlon that are LPS under a header that says RAS. The
    marks are those of an abdomen; contrast agent in the gut, scoliosis, or organs on the other side fool them.

    Args:
        hu: image (x, y, z) in HU, brought to RAS by its header: indices grow to the right, front and head.
        spacing: in mm.

    Example:
        >>> from ag_networks.data import make_phantom
        >>> phantom = make_phantom(4, spacing=(5, 5, 5))
        >>> judge_layout(phantom.image, phantom.spacing).warnings
        []
        >>> judge_layout(phantom.image[::-1, ::-1], phantom.spacing).turned
        True
    """
    steps = [max(1, round(GRID_MM / step)) for step in spacing]
    coarse = np.asarray(hu[:: steps[0], :: steps[1], :: steps[2]], dtype=np.float32)
    size = [step * mm for step, mm in zip(steps, spacing, strict=True)]
    tissue = (coarse > TISSUE_HU[0]) & (coarse < TISSUE_HU[1])
    if not tissue.any():
        return BodyLayout(0.0, 0.0, 0.0)
    (left, right), (back, front) = _span(tissue, 0), _span(tissue, 1)
    middle = coarse[left + round(MIDLINE[0] * (right - left)) : left + round(MIDLINE[1] * (right - left)), back:front]
    inside = coarse[left:right, back:front]
    return BodyLayout(
        front_back=_bone_behind(middle),
        left_right=_liver_right(inside, size),
        head_foot=_air_on_top(inside),
    )


def _span(mask: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """First index and one behind the last, of all but half a per cent at both ends."""
    profile = mask.sum(axis=tuple(other for other in range(3) if other != axis)).cumsum()
    low, high = (int(np.searchsorted(profile, q * profile[-1])) for q in (0.005, 0.995))
    return low, high + 1


def _bone_behind(middle: NDArray[np.float32]) -> float:
    """The spine is where bone persists from slice to slice; contrast agent in the gut does not."""
    weight = ((middle > BONE_HU).mean(axis=2) ** 3).sum(axis=0)
    tissue = ((middle > TISSUE_HU[0]) & (middle < TISSUE_HU[1])).sum(axis=(0, 2))
    if not weight.sum() or not tissue.sum():
        return 0.0
    place = np.arange(len(weight)) / len(weight)
    return float(np.average(place, weights=tissue) - np.average(place, weights=weight))


def _liver_right(inside: NDArray[np.float32], size: Sequence[float]) -> float:
    soft = ((inside > TISSUE_HU[0]) & (inside < TISSUE_HU[1])).astype(np.float32)
    soft[:, : inside.shape[1] // 4] = 0  # the muscles of the back are the same on both sides
    box = [max(1, round(LIVER_BOX_MM / step)) for step in size[:2]]
    weight = (ndimage.uniform_filter(soft, (*box, 1)) > LIVER_SHARE).sum(axis=(1, 2))
    if not weight.sum():
        return 0.0
    return float(np.average((np.arange(len(weight)) + 0.5) / len(weight), weights=weight) - 0.5)


def _air_on_top(inside: NDArray[np.float32]) -> float:
    air = (inside < AIR_HU).mean(axis=(0, 1))
    quarter = max(1, len(air) // 4)
    return float(air[-quarter:].mean() - air[:quarter].mean())
