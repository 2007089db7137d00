"""Bring fundus photographs of any camera into one frame: the round field of view, with the optic disc on one side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, get_track_meta
from monai.transforms import Crop, Cropd, Flip, Flipd
from monai.utils import TraceKeys, convert_to_numpy, convert_to_tensor
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["FlipRightEye", "FlipRightEyed", "FundusCrop", "FundusCropd", "OpticDisc", "find_field", "find_optic_disc"]

SEARCHED = 360  # the longer side of what is searched for the field, in pixels
FIELD = 0.15  # of the way from the black around to the field's brightness: what is brighter belongs to the field
NO_BLACK = 0.4  # of the field's brightness: where even the darkest pixels are brighter, there is no black around
SPECK = 0.02  # of the longer side: what is thinner is text or a mark of the camera
NOTCH = 0.05  # of the field's height or width: rows and columns with less of it hold a mark at its edge

DIAMETER = 200  # the field at which the disc is searched, in pixels
RIM = 0.03  # of the field: its edge, where brightness jumps
AROUND, SPREAD = 0.12, 0.25  # of the field: scales of the uneven light and of the uneven contrast that are taken away
DISC = (0.04, 0.08)  # of the field: inside and around a disc, which is 0.1 to 0.13 wide at 50 degrees
VESSEL = 0.045  # of the field: vessels are thinner
VESSELS = (0.07, 0.04)  # of the field, up and across: where the vessels of a disc are
FOVEA, TO_FOVEA = 0.05, 0.3  # of the field: size of the dark fovea, and how far from the disc it lies
# Of the clues of _disc_clues in this order; fitted as logits of the disc's place on IDRiD's training part.
WEIGHTS = (3.2, 1.7, 2.3, -1.0, 0.7)
NOTHING = 19.0  # the logit of no disc at all, between those of photographs and of photographs less their disc

MIN_CONFIDENCE = 0.2
NO_DISC = "optic disc not found with confidence: not mirrored"

Gray = NDArray[Any]  # (H, W) or (C, H, W), float


class OpticDisc(NamedTuple):
    """Center of the optic disc in pixels, its side of the field ("left", "right"), and how sure the side is (0..1)."""

    row: float
    column: float
    side: str
    confidence: float


class FundusCrop(Crop):
    """Crop a fundus photograph to its field of view; a picture without black around stays as it is.

    The paper drops the columns before 260 and behind 3685 of IDRiD's 4288 (Xu et al., supplement, 1.1), so that the
    round field, cut above and below by the camera, fills the width. Here the field is found by its brightness: what is
    brighter than 15 % of the way from the black around it to its own brightness, without specks (text), and without
    marks at its edge.

    Shape:
        (C, H, W) in 0..255 -> (C, h, w). The box, (top, left, bottom, right), stands in the metadata as
        ``"fundus_box"``; the affine follows, and MONAI's ``Invertd`` brings maps back to the picture.

    Args:
        aspect: height by width that the crop has at most, centered on the field: 0.83 cuts the round field of other
            cameras above and below as IDRiD's camera does. None keeps the field's height.
        columns: (first, last) as share of the width, instead of a search: ``(260 / 4288, 3686 / 4288)`` is the paper's
            crop. Rows stay.

    Raises:
        ValueError: if `aspect` is not positive or `columns` are no two shares in order.

    Example:
        >>> photograph = torch.zeros(3, 80, 160)
        >>> photograph[:, :, 40:120] = 90
        >>> crop = FundusCrop()(photograph)
        >>> crop.shape, crop.meta["fundus_box"]
        (torch.Size([3, 80, 80]), [0, 40, 80, 120])
    """

    def __init__(self, *, aspect: float | None = None, columns: Sequence[float] | None = None) -> None:
        super().__init__()
        if aspect is not None and aspect <= 0:
            raise ValueError(f"aspect must be positive, got {aspect}.")
        if columns is not None and not (len(columns) == 2 and 0 <= columns[0] < columns[1] <= 1):
            raise ValueError(f"columns must be (first, last) as shares of the width, got {tuple(columns)}.")
        self.aspect = aspect
        self.columns = columns

    def __call__(self, img: torch.Tensor, lazy: bool | None = None) -> torch.Tensor:  # type: ignore[override]
        """Return the crop."""
        height, width = img.shape[1:]
        if self.columns is not None:
            box = (0, round(self.columns[0] * width), height, round(self.columns[1] * width))
        else:
            box = find_field(convert_to_numpy(img))
        if self.aspect is not None:
            excess = max(0, box[2] - box[0] - round(self.aspect * (box[3] - box[1])))
            box = (box[0] + excess // 2, box[1], box[2] - (excess + 1) // 2, box[3])
        cropped = super().__call__(img, (slice(box[0], box[2]), slice(box[1], box[3])), lazy=False)
        if isinstance(cropped, MetaTensor):
            cropped.meta["fundus_box"] = list(box)
        return cropped


class FundusCropd(Cropd):
    """Dictionary version of :class:`FundusCrop`; every picture is searched by itself."""

    def __init__(
        self,
        keys: KeysCollection,
        *,
        aspect: float | None = None,
        columns: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, FundusCrop(aspect=aspect, columns=columns), allow_missing_keys)


class FlipRightEye(Flip):
    """Mirror a fundus photograph whose optic disc lies on the wrong side, so that all discs lie on one side.

    In an upright, macula-centered photograph the disc of a right eye lies right, of a left eye left. The paper flips
    the right eyes (Xu et al., supplement, 1.1), by a list; here the disc is found (:func:`find_optic_disc`).

    All 516 photographs of IDRiD come out as in the paper's list (the finder was fitted on the 413 for training), and so
    do those tried at half and a quarter of their brightness, gray, blurred, compressed, resized or cut; where glare
    saturates the red, a quarter is not sure. A crop without any disc is not always noticed: a third of them pass.

    Where the disc is not found with confidence, the picture stays as it is, and a line in the metadata under
    ``"picture_warnings"``, behind those of :class:`ag_networks.data.PictureReader`, says so.

    Shape:
        (C, H, W) in 0..255 -> the same. ``"flipped"`` in the metadata tells what was done; the affine follows, and
        MONAI's ``Invertd`` mirrors maps back.

    Args:
        disc_side: where the disc shall lie, "left" or "right". The paper's side is the left.
        min_confidence: below, the picture stays as it is.

    Raises:
        ValueError: for another `disc_side`, or a `min_confidence` outside of [0, 1].
    """

    def __init__(self, *, disc_side: str = "left", min_confidence: float = MIN_CONFIDENCE) -> None:
        super().__init__(spatial_axis=1)
        if disc_side not in ("left", "right"):
            raise ValueError(f"disc_side must be 'left' or 'right', got {disc_side!r}.")
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence must be in [0, 1], got {min_confidence}.")
        self.disc_side = disc_side
        self.min_confidence = min_confidence

    def __call__(self, img: torch.Tensor, lazy: bool | None = None) -> torch.Tensor:
        """Return the picture, mirrored if its disc lies on the other side."""
        img = convert_to_tensor(img, track_meta=get_track_meta())
        disc = find_optic_disc(convert_to_numpy(img))
        sure = disc.confidence >= self.min_confidence
        flipped = sure and disc.side != self.disc_side
        if flipped:
            img = super().__call__(img, lazy=False)
        elif isinstance(img, MetaTensor):
            img = img.clone()  # what is noted below must not reach the caller's picture
            self.push_transform(img, extra_info={"axes": None})
        if isinstance(img, MetaTensor):
            img.meta["flipped"] = flipped
            if not sure:
                earlier = img.meta.get("picture_warnings", "")
                img.meta["picture_warnings"] = "; ".join(text for text in (earlier, NO_DISC) if text)
        return img

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """Mirror back what was mirrored."""
        info = self.pop_transform(data)[TraceKeys.EXTRA_INFO]
        return Flip(spatial_axis=1)(data) if info["axes"] is not None else data


class FlipRightEyed(Flipd):
    """Dictionary version of :class:`FlipRightEye`; every picture is searched by itself."""

    def __init__(
        self,
        keys: KeysCollection,
        *,
        disc_side: str = "left",
        min_confidence: float = MIN_CONFIDENCE,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, spatial_axis=1, allow_missing_keys=allow_missing_keys)
        self.flipper = FlipRightEye(disc_side=disc_side, min_confidence=min_confidence)


def find_field(values: NDArray[Any]) -> tuple[int, int, int, int]:
    """Find the field of view; the whole picture if it has no black around.

    Args:
        values: (C, H, W) in 0..255.

    Returns:
        (top, left, bottom, right) in pixels, its ends excluded.
    """
    shape = values.shape[1:]
    step = max(1, round(max(shape) / SEARCHED))
    sampled = values[:, ::step, ::step].max(axis=0)
    height, width = sampled.shape
    dark = np.percentile(sampled, 2)
    light = np.median(sampled[height // 4 : -(height // 4), width // 4 : -(width // 4)])
    if dark > NO_BLACK * light:
        return 0, 0, *shape
    margin = max(3, round(SPECK * max(height, width)) | 1)
    bright = sampled > dark + max(6.0, FIELD * (light - dark))
    bright = ndimage.binary_closing(np.pad(bright, margin), iterations=2)[margin:-margin, margin:-margin]
    bright = ndimage.grey_opening(np.pad(bright, margin, mode="edge"), margin)[margin:-margin, margin:-margin]
    parts, count = ndimage.label(bright)
    if not count:
        return 0, 0, *shape
    field = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    edges = []
    for counts in (field.sum(axis=1), field.sum(axis=0)):
        inside = np.flatnonzero(counts > NOTCH * counts.max())
        edges.append((int(inside[0]) * step, (int(inside[-1]) + 1) * step))
    (top, bottom), (left, right) = edges
    return top, left, min(bottom, shape[0]), min(right, shape[1])


def find_optic_disc(image: NDArray[Any]) -> OpticDisc:
    """Find the optic disc of a fundus photograph, cropped or not.

    Each place in the field has five clues: a spot of the disc's size in red and one in green (exudates are bright in
    green mostly), how many upright and how many level vessels there are, and the dark fovea at its distance. Their
    weighted sums are logits; the disc is at the largest, and the side is as sure as their softmax says.

    Args:
        image: (C, H, W) in 0..255; red, green, blue, or gray.
    """
    top, left, bottom, right = find_field(image)
    shrunk, step = _shrink(image[:2, top:bottom, left:right])
    field = _field_without_rim(shrunk)
    if not field.any():
        return OpticDisc((top + bottom) / 2, (left + right) / 2, "left", 0.0)
    clues = _disc_clues(shrunk, field)
    logits = np.where(field, sum(w * _standardize(c, field) for w, c in zip(WEIGHTS, clues, strict=True)), -np.inf)
    row, column = np.unravel_index(np.argmax(logits), logits.shape)
    largest = max(float(logits[row, column]), NOTHING)
    odds = np.exp(logits - largest).sum(axis=0)
    in_left_half = np.arange(len(odds)) + 0.5 < len(odds) / 2
    on_left, on_right = float(odds[in_left_half].sum()), float(odds[~in_left_half].sum())
    confidence = abs(on_left - on_right) / (on_left + on_right + np.exp(NOTHING - largest))
    side = "left" if on_left > on_right else "right"
    return OpticDisc(
        top + (float(row) + 0.5) * step - 0.5, left + (float(column) + 0.5) * step - 0.5, side, float(confidence)
    )


def _shrink(values: NDArray[Any]) -> tuple[Gray, int]:
    """Shrink to about `DIAMETER` pixels; every other of the pixels is skipped where there are many."""
    step = max(1, round(max(values.shape[1:]) / DIAMETER))
    skipped = max(1, step // 2)
    size = step // skipped
    values = values[:, ::skipped, ::skipped]
    rows, columns = (n // size for n in values.shape[1:])
    blocks = values[:, : rows * size, : columns * size].reshape(len(values), rows, size, columns, size)
    return blocks.mean(axis=(2, 4), dtype=np.float32), skipped * size


def _field_without_rim(values: Gray) -> NDArray[np.bool_]:
    brightest = values.max(axis=0)
    field = brightest > min(20.0, 0.3 * float(np.median(brightest)))
    width = max(1, int(RIM * max(brightest.shape)))
    return np.asarray(ndimage.binary_erosion(field, iterations=width, border_value=1))


def _disc_clues(values: Gray, field: NDArray[np.bool_]) -> list[Gray]:
    """Return the clues (see find_optic_disc)."""
    size = max(values.shape[1:])
    weight = field.astype(np.float32)
    red, green = values[0], values[-1]
    spots = []
    for channel in (red, green):
        even = _even_out(channel, weight, size)
        spots.append(_blur(even, DISC[0] * size) - _blur(even, DISC[1] * size))
    filled = np.where(field, green, _local_mean(green, weight, 0.05 * size))
    length = int(VESSEL * size) | 1
    vessels = []
    for shape in ((1, length), (length, 1)):
        dark = (ndimage.grey_closing(filled, size=shape) - filled) * weight
        dark = np.minimum(dark / (dark[field].std() + 0.5), 4)
        vessels.append(_blur(dark, VESSELS[0] * size, VESSELS[1] * size))
    return [*spots, *vessels, _toward_fovea(filled, weight, size)]


def _even_out(channel: Gray, weight: Gray, size: int) -> Gray:
    """Take the uneven light and contrast away; 0 outside of the field."""
    detail = (channel - _local_mean(channel, weight, AROUND * size)) * weight
    spread = np.sqrt(_local_mean(detail**2, weight, SPREAD * size) + 4)
    return np.clip(detail / spread, -3, 3) * weight


def _toward_fovea(green: Gray, weight: Gray, size: int) -> Gray:
    """How dark it is at the fovea's distance, toward the middle of the picture."""
    detail = (green - _local_mean(green, weight, 0.2 * size)) * weight
    spread = np.sqrt(_local_mean(detail**2, weight, 0.3 * size) + 4)
    dark = _blur(-np.clip(detail / spread, -2, 2) * weight, FOVEA * size)
    dark = ndimage.maximum_filter(dark, size=(int(0.08 * size) | 1, int(0.1 * size) | 1))
    width, shift = dark.shape[1], int(TO_FOVEA * size)
    wide = np.pad(dark, ((0, 0), (shift, shift)))
    in_left_half = np.arange(width) + 0.5 < width / 2
    return np.where(in_left_half, wide[:, 2 * shift :], wide[:, :width])


def _blur(values: Gray, sigma: float, sigma_across: float | None = None) -> Gray:
    """Gaussian filter over zeros, as three boxes: whatever their width, they take a tenth of the time."""
    widths = [max(1, round(np.sqrt(4 * s**2 + 1))) | 1 for s in (sigma, sigma_across or sigma)]
    for _ in range(3):
        values = ndimage.uniform_filter(values, widths, mode="constant")
    return values


def _local_mean(values: Gray, weight: Gray, sigma: float) -> Gray:
    return _blur(values * weight, sigma) / np.maximum(_blur(weight, sigma), 1e-3)


def _standardize(values: Gray, field: NDArray[np.bool_]) -> Gray:
    inside = values[field]
    return (values - inside.mean()) / (inside.std() + 1e-6)
