"""Is a predicted organ plausible, and is the image like those that the network has learnt from?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from monai.data.utils import affine_to_spacing
from monai.transforms import ScaleIntensityRange, ScaleIntensityRanged
from monai.utils import convert_to_numpy
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["FACTS", "Plausibility", "measure_image", "measure_organ"]

Ranges = Mapping[str, Mapping[str, Sequence[float | None]]]

DENSE = 0.75  # of the window: bone, metal and contrast agent in the gut lie above
BRIGHT_QUANTILE, FRONT = 0.9, 0.6  # of the soft tissue in the front of the body, where there is no spine
VOID_MM, VOID_GRID_MM, VOID_TISSUE, VOID_LEVEL = (40.0, 40.0, 12.0), 4.0, 0.05, 0.08
BODY_QUANTILES = (0.005, 0.995)  # of the soft tissue along each axis: the table and lone noisy voxels stay outside


class Fact(NamedTuple):
    """What a measured number is called, and what it may mean when it lies below or above what is expected."""

    text: str
    unit: str = ""
    if_low: str = ""
    if_high: str = ""


FACTS: dict[str, Fact] = {
    "view_height_mm": Fact("the scan is high", "mm", "too short to hold the organ?"),
    "body_width_mm": Fact("the body is wide", "mm", "a head, a limb, a child or a narrow field of view?"),
    "body_depth_mm": Fact("the body is deep", "mm", "a head, a limb, a child or a narrow field of view?"),
    "soft_share": Fact(
        "share of soft tissue in the body", "", "chest, or a lot of fat?", "no fat and no gas: not a body?"
    ),
    "void_share": Fact("share of large spaces without tissue in the body", "", "", "lungs, water or a lot of fat?"),
    "bright_hu": Fact("brightest tenth of the soft tissue", "HU", "no contrast agent?", "another contrast phase?"),
    "bone_share": Fact(
        "share of bone, metal and contrast agent in the tissue", "", "no bone: not a body?", "a head or limbs?"
    ),
    "volume_ml": Fact("volume", "ml", "a part of it missed?", "other organs included?"),
    "width_mm": Fact("width, left to right", "mm", "a part of it missed?", "other organs included?"),
    "depth_mm": Fact("depth, front to back", "mm", "a part of it missed?", "other organs included?"),
    "height_mm": Fact("height, foot to head", "mm", "a part of it missed?", "other organs included?"),
    "main_share": Fact("share of the prediction in its largest part", "", "in several places"),
    "edge_mm": Fact("distance to the edge of the scan", "mm", "cut off by it?"),
    "from_right": Fact("place across the body (0 right, 1 left)", "", "too far right", "too far left"),
    "from_front": Fact("place along its depth (0 front, 1 back)", "", "too far in front", "too far back"),
    "organ_hu": Fact("mean of the image inside", "HU", "no contrast agent, or fat and gut?", "vessels or bone?"),
    "confidence": Fact("mean probability inside", "", "the network is unsure"),
}


class Plausibility:
    """Compare numbers measured on image and prediction with expected ranges; one line for each that lies outside.

    What is measured: :data:`FACTS`; see :func:`measure_image` and :func:`measure_organ`. A warning is no proof that a
    mask is wrong, and no warning none that it is right.

    Args:
        ranges: ``{"image": {fact: [low, high]}, class name: {fact: [low, high]}}``; ``None`` leaves a side open. Facts
            without range are measured only. ``None`` for all of it switches the checks off.
        class_names: names of the labels, as ``channel_def`` in ``metadata.json`` has them.
        intensity: the transform that scaled the image; its input is taken for HU.

    Raises:
        ValueError: if `ranges` names an unknown class or fact or a range is not ``[low, high]``, or if `intensity` is
            not a ``ScaleIntensityRange``, which alone says what a value was in HU.

    Example:
        >>> import torch
        >>> from monai.transforms import ScaleIntensityRange
        >>> ranges = {"pancreas": {"volume_ml": [15, 250], "edge_mm": [2, None]}}
        >>> check = Plausibility(ranges, class_names={"1": "pancreas"}, intensity=ScaleIntensityRange(0, 255, -1, 1))
        >>> mask = torch.zeros(1, 20, 20, 20)
        >>> mask[:, 5:15, 5:15, 5:15] = 1
        >>> check.warnings(check.measure(torch.zeros(1, 20, 20, 20), mask, spacing=(2, 2, 2)))
        ['pancreas: volume 8 ml, expected 15 to 250: a part of it missed?']
    """

    def __init__(
        self,
        ranges: Ranges | None,
        *,
        class_names: Mapping[str, str],
        intensity: ScaleIntensityRange | ScaleIntensityRanged,
    ) -> None:
        self.class_names = {int(label): name for label, name in class_names.items() if int(label) > 0}
        self.ranges = {part: dict(own) for part, own in (ranges or {}).items()}
        self._scaler: Any = getattr(intensity, "scaler", intensity)
        if self.ranges:
            self._validate()

    def __call__(
        self, image: Any, prediction: Any, *, confidence: Sequence[float] = ()
    ) -> tuple[dict[str, dict[str, float]], list[str]]:
        """Return what was measured, and the warnings; nothing where the checks are switched off.

        Args:
            image: the network's input (1, x, y, z), scaled by `intensity`, axes in RAS; its affine gives the spacing.
            prediction: label map of the same shape, before parts of it are removed.
            confidence: mean probability of the labels 1, 2, ..., if known.
        """
        if not self.ranges:
            return {}, []
        spacing = [float(step) for step in affine_to_spacing(image.affine)]
        facts = self.measure(image, prediction, spacing=spacing, confidence=confidence)
        return facts, self.warnings(facts)

    def measure(
        self,
        image: Any,
        prediction: Any,
        *,
        spacing: Sequence[float],
        confidence: Sequence[float] = (),
        whole: bool = False,
    ) -> dict[str, dict[str, float]]:
        """Return the facts of the image and of every class that was found; shapes as above, spacing in mm.

        `whole` measures all of a class, and not its largest part: for annotations of single slices.
        """
        scaler = self._scaler
        window = (float(scaler.a_min), float(scaler.a_max))
        step = np.float32((window[1] - window[0]) / (scaler.b_max - scaler.b_min))
        hu = (convert_to_numpy(image)[0] - np.float32(scaler.b_min)) * step + np.float32(window[0])
        labels = convert_to_numpy(prediction)[0]
        facts = {"image": measure_image(hu, spacing, window=window)}
        for label, name in self.class_names.items():
            mask = labels == label
            if mask.any():
                facts[name] = measure_organ(mask, hu, spacing, window=window, whole=whole)
                if len(confidence) >= label:
                    facts[name]["confidence"] = float(confidence[label - 1])
        return facts

    def warnings(self, facts: Mapping[str, Mapping[str, float]]) -> list[str]:
        """Return one line for each fact outside its range."""
        return [line for part, own in self.ranges.items() for line in _outside(part, own, facts.get(part, {}))]

    def _validate(self) -> None:
        for part, own in self.ranges.items():
            if part != "image" and part not in self.class_names.values():
                raise ValueError(f"expected ranges for 'image' or a class ({self.class_names}), got {part!r}")
            for name, bounds in own.items():
                if name not in FACTS or len(bounds) != 2:
                    raise ValueError(f"expected a range [low, high] of one of {', '.join(FACTS)}, got {name}: {bounds}")
        if not isinstance(self._scaler, ScaleIntensityRange):
            found = type(self._scaler).__name__
            raise ValueError(
                f"expected_ranges are for images scaled by ScaleIntensityRange, got {found}: set them to null"
            )


def measure_image(hu: NDArray[Any], spacing: Sequence[float], *, window: tuple[float, float]) -> dict[str, float]:
    """Measure what tells one kind of scan from another, on an image (x, y, z) in RAS, clipped to a window in HU.

    Soft tissue is what lies strictly within the window; the body is the box that holds 99 % of it along each axis.
    Lungs and fat are both at the lower end of a window: lungs are told by blocks of 40 x 40 x 12 mm without tissue.
    """
    soft = (hu > window[0]) & (hu < window[1])
    height = float(hu.shape[2] * spacing[2])
    if not soft.any():
        return {"view_height_mm": height, "soft_share": 0.0}
    box = _body_box(soft)
    (left, right), (back, front), _ = box
    dense = window[0] + DENSE * (window[1] - window[0])
    inside = tuple(slice(low, high) for low, high in box)
    facts = {
        "view_height_mm": height,
        "body_width_mm": float((right - left) * spacing[0]),
        "body_depth_mm": float((front - back) * spacing[1]),
        "soft_share": float(soft[inside].mean()),
        "void_share": _void_share(hu[inside], spacing, window),
        "bone_share": float(np.count_nonzero(hu > dense) / np.count_nonzero(hu > window[0])),
    }
    belly = hu[left:right, front - math.ceil(FRONT * (front - back)) : front]
    belly = belly[(belly > window[0]) & (belly < dense)]
    if belly.size:
        facts["bright_hu"] = float(np.quantile(belly, BRIGHT_QUANTILE))
    return facts


def measure_organ(
    mask: NDArray[np.bool_],
    hu: NDArray[Any],
    spacing: Sequence[float],
    *,
    window: tuple[float, float],
    whole: bool = False,
) -> dict[str, float]:
    """Measure the largest connected part of a mask (x, y, z) in RAS that is not empty, or the `whole` of it."""
    (around,) = ndimage.find_objects(mask.astype(np.uint8))
    parts, _ = ndimage.label(mask[around])
    sizes = np.bincount(parts.ravel())[1:]
    organ = mask[around] if whole else parts == 1 + int(sizes.argmax())
    (within,) = ndimage.find_objects(organ.astype(np.uint8))
    start = np.array([outer.start + inner.start for outer, inner in zip(around, within, strict=True)])
    extent = np.array([inner.stop - inner.start for inner in within])
    edge = np.minimum(start, np.array(mask.shape) - start - extent) * spacing
    size = extent * spacing
    facts = {
        "volume_ml": float(organ.sum() * np.prod(spacing) / 1000),
        "width_mm": float(size[0]),
        "depth_mm": float(size[1]),
        "height_mm": float(size[2]),
        "main_share": float(sizes.max() / sizes.sum()),
        "edge_mm": float(edge.min()),
        "organ_hu": float(hu[around][organ].mean(dtype=np.float64)),
    }
    soft = (hu > window[0]) & (hu < window[1])
    if soft.any():
        center = np.array([item.start for item in around]) + np.array(ndimage.center_of_mass(organ))
        (left, right), (back, front), _ = _body_box(soft)
        facts["from_right"] = float((right - center[0]) / max(right - left, 1))
        facts["from_front"] = float((front - center[1]) / max(front - back, 1))
    return facts


def _void_share(body: NDArray[Any], spacing: Sequence[float], window: tuple[float, float]) -> float:
    """Share of the elliptic core of the body that lies in the middle of a block without tissue."""
    steps = [max(1, round(VOID_GRID_MM / step)) for step in spacing]
    coarse = body[:: steps[0], :: steps[1], :: steps[2]]
    tissue = (coarse > window[0] + VOID_LEVEL * (window[1] - window[0])).astype(np.float32)
    block = [max(1, round(mm / (n * step))) for mm, n, step in zip(VOID_MM, steps, spacing, strict=True)]
    void = ndimage.uniform_filter(tissue, block) < VOID_TISSUE
    x, y = (np.linspace(-1, 1, n) for n in coarse.shape[:2])
    core = x[:, None] ** 2 + y[None] ** 2 < 0.6  # the corners of the box are air
    return float(void[core].mean()) if core.any() else 0.0


def _body_box(soft: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return, along each axis, the first index and the one behind the last."""
    box = []
    for axis in range(3):
        profile = soft.sum(axis=tuple(other for other in range(3) if other != axis)).cumsum()
        low, high = (int(np.searchsorted(profile, q * profile[-1])) for q in BODY_QUANTILES)
        box.append((low, high + 1))
    return box


def _outside(part: str, ranges: Mapping[str, Sequence[float | None]], facts: Mapping[str, float]) -> Iterator[str]:
    for name, (low, high) in ranges.items():
        value = facts.get(name, math.nan)
        fact = FACTS[name]
        below, above = low is not None and value < low, high is not None and value > high
        if below or above:
            hint = fact.if_low if below else fact.if_high
            shown = " ".join([fact.text, _shown_number(value), fact.unit]).strip()
            yield f"{part}: {shown}, expected {_shown(low, high)}" + (f": {hint}" if hint else "")


def _shown(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at most {_shown_number(high)}" if low is None else f"at least {_shown_number(low)}"
    return f"{_shown_number(low)} to {_shown_number(high)}"


def _shown_number(value: float | None) -> str:
    """Three digits, and no powers of ten."""
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
