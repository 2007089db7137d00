"""Is a picture like the ultrasound frames that a network has learnt from?"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_numpy

__all__ = ["FRAME_FACTS", "CheckFrame", "CheckFramed", "measure_frame"]

Ranges = Mapping[str, Sequence[float | None]]

STEP = 4  # every so-many-th row and column is looked at
DARK = 8.0  # the black around and in a sector


class FrameFact(NamedTuple):
    """What a measured number is called, and what it may mean when it lies below or above what is expected."""

    text: str
    if_low: str
    if_high: str


FRAME_FACTS: dict[str, FrameFact] = {
    "brightness": FrameFact("mean gray value", "almost black", "an X-ray, a photo, or inverted?"),
    "dark_share": FrameFact("share of black pixels", "no black around a sector: an X-ray, a photo?", "nearly empty"),
    "beam_detail": FrameFact("detail along the beam by detail across it", "no ultrasound, or rotated?", ""),
}


class CheckFrame(Transform):
    """Warn of pictures that are unlike ultrasound frames; the picture itself stays as it is.

    What is measured: :func:`measure_frame`. Ultrasound resolves better along its beam than across it, so that speckle
    is wide and flat: in 754 frames of FETAL_PLANES_DB, HC18 and the SonoNet authors differences between rows were 1.1
    to 2.7 times those between columns, in fundus photographs 0.8 to 1.1 times. That holds for frames with the probe at
    the top, and for resampled ones. CT comes close (1.0 to 1.4).

    Each doubt is a line in the metadata under ``"picture_warnings"``, behind those of
    :class:`ag_networks.data.PictureReader`, joined by ``"; "``. No line is no proof.

    Shape:
        (1, H, W) in 0..255 -> the same.

    Args:
        expected: ``[low, high]`` by name (:data:`FRAME_FACTS`); ``None`` leaves a side open. ``None`` for all of it
            switches the check off.

    Raises:
        ValueError: if a name is unknown or a range is not ``[low, high]``.

    Example:
        >>> picture = MetaTensor(torch.full((1, 64, 64), 200.0))
        >>> CheckFrame({"brightness": [5, 98]})(picture).meta["picture_warnings"]
        'mean gray value 200, expected 5 to 98: an X-ray, a photo, or inverted?'
    """

    def __init__(self, expected: Ranges | None) -> None:
        self.expected = dict(expected or {})
        for name, bounds in self.expected.items():
            if name not in FRAME_FACTS or len(bounds) != 2:
                known = ", ".join(FRAME_FACTS)
                raise ValueError(f"expected a range [low, high] of one of {known}, got {name}: {bounds}")

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        """Return the picture with its warnings."""
        if not self.expected or not isinstance(img, MetaTensor):
            return img
        facts = measure_frame(convert_to_numpy(img)[0])
        warnings = [img.meta.get("picture_warnings", "")]
        warnings += [_doubt(name, facts[name], *bounds) for name, bounds in self.expected.items()]
        img.meta["picture_warnings"] = "; ".join(warning for warning in warnings if warning)
        return img


class CheckFramed(MapTransform):
    """Dictionary version of :class:`CheckFrame`."""

    def __init__(self, keys: KeysCollection, expected: Ranges | None, *, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.check = CheckFrame(expected)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the dictionary with the pictures checked."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.check(d[key])
        return d


def measure_frame(values: np.ndarray) -> dict[str, float]:
    """Measure mean gray value, share of black pixels, and mean difference between rows by that between columns.

    Args:
        values: (H, W) in 0..255. Differences count where the picture is not black.
    """
    sampled = values[::STEP, ::STEP]
    along, across = _detail(values[:, ::STEP], axis=0), _detail(values[::STEP], axis=1)
    return {
        "brightness": float(sampled.mean()),
        "dark_share": float((sampled <= DARK).mean()),
        "beam_detail": along / max(across, 1e-6),
    }


def _detail(values: np.ndarray, axis: int) -> float:
    first = values[:-1] if axis == 0 else values[:, :-1]
    lit = first > DARK
    return float(np.abs(np.diff(values, axis=axis))[lit].mean()) if lit.any() else 0.0


def _doubt(name: str, value: float, low: float | None, high: float | None) -> str:
    fact = FRAME_FACTS[name]
    if (low is None or value >= low) and (high is None or value <= high):
        return ""
    hint = fact.if_low if low is not None and value < low else fact.if_high
    expected = f"at most {high:g}" if low is None else f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
    return f"{fact.text} {value:.3g}, expected {expected}" + (f": {hint}" if hint else "")
