"""Find the ultrasound sector in a frame that has a vendor's screen around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Crop, Cropd
from monai.utils import convert_to_numpy
from scipy import ndimage

__all__ = ["FindSector", "FindSectord", "Sector", "find_sector"]

COARSE_ROWS = 360  # frames are searched at about this height
DARK = 4.0  # the black around a sector, with the noise of JPEG
SATURATED = 250.0
RUN = 0.012  # of the width: equal pixels in a row for so long are drawn, tissue is never that even
BRIDGE = 0.4  # of the width: text that interrupts a drawn bar, with the noise of JPEG around it
THIN = 0.05  # of the height: what is thinner is text, a ruler, a grey scale, a calliper
SMALL_PART = 0.1  # of the largest part of the sector: smaller ones are not part of it
NO_SCREEN = 0.05  # of the height: a sector that starts so near to the top has no screen around it


class Sector(NamedTuple):
    """Where the sector lies: `box` is (top, left, bottom, right) in pixels, its ends excluded."""

    box: tuple[int, int, int, int]
    region: np.ndarray


class FindSector(Crop):
    """Crop a frame to its ultrasound sector; a frame that is all sector stays as it is.

    A vendor's screen is recognized by the header above the sector: where the sector starts at the upper edge (within
    5 % of the height) nothing is cropped. Else the crop goes from the top of the sector, less `trim`, to its bottom,
    and is as wide as `aspect` asks for, centered on the sector, so that a resize to the network's input keeps the
    aspect. The corners of the sector, mostly black, are cut; where it is narrow, the crop reaches beyond it.

    How the sector is found: bars and boxes, whose pixels are equal along a row, are taken away with the text on them; a
    coarse median and an opening remove text, rulers, the grey scale and callipers; the largest part of what is brighter
    than black, with the parts at least a tenth of its size, is the sector. A photo or a chest X-ray is one sector.

    The defaults were chosen on 13 frames of one vendor, those of the SonoNet authors (975 x 735 pixels), whose fixed
    box is rows 115 to 734 and columns 81 to 874. SonoNet-16 names all 13 with either crop (mean probability 0.95 with
    ours, 0.93 with the fixed box) and 11 of them uncropped; with the sector's bounding box, stretched, 11. Frames of
    FETAL_PLANES_DB and HC18 stay whole but for a few; stretched to the network's input they are named as well as padded
    to its aspect, or better.

    Shape:
        (C, H, W) in 0..255 -> (C, h, w). The box stands in the metadata as ``"sector_box"``, to bring maps back to the
        frame, and the crop can be inverted by MONAI's ``Invertd``.

    Args:
        aspect: height by width of the crop; None for the bounding box of the sector.
        trim: the share of the sector's height to leave out at its top (skin and probe).
        mask: set what lies outside the sector to 0 (text and rulers within the crop).
        box: (top, left, bottom, right) in pixels, instead of a search: a vendor's fixed layout.

    Raises:
        ValueError: if `box` is no box, or from calls, if the frame is smaller than `box`.

    Example:
        >>> frame = torch.zeros(1, 100, 120)
        >>> frame[:, 30:90, 20:100] = torch.rand(60, 80) * 100 + 100
        >>> FindSector(aspect=None, trim=0.0)(frame).shape
        torch.Size([1, 60, 80])
    """

    def __init__(
        self,
        *,
        aspect: float | None = 7 / 9,
        trim: float = 0.06,
        mask: bool = False,
        box: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if box is not None and not (len(box) == 4 and 0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise ValueError(f"box must be (top, left, bottom, right) in pixels, got {tuple(box)}.")
        if (aspect is not None and aspect <= 0) or not 0 <= trim < 1:
            raise ValueError(f"aspect must be positive and trim in [0, 1), got {aspect} and {trim}.")
        self.aspect = aspect
        self.trim = trim
        self.mask = mask
        self.box = tuple(map(int, box)) if box is not None else None

    def __call__(self, img: torch.Tensor, lazy: bool | None = None) -> torch.Tensor:  # type: ignore[override]
        """Return the crop."""
        height, width = img.shape[1:]
        if self.box is not None:
            if self.box[2] > height or self.box[3] > width:
                raise ValueError(f"a frame of {width} x {height} pixels is smaller than the box {self.box}")
            box = self.box
        else:
            sector = find_sector(convert_to_numpy(img).mean(axis=0))
            box = self._crop_of(sector.box, height, width)
            if self.mask:
                img = img * torch.as_tensor(sector.region, device=img.device)
        cropped = super().__call__(img, (slice(box[0], box[2]), slice(box[1], box[3])), lazy=False)
        if isinstance(cropped, MetaTensor):
            cropped.meta["sector_box"] = list(box)
        return cropped

    def _crop_of(self, sector: tuple[int, ...], height: int, width: int) -> tuple[int, ...]:
        top, left, bottom, right = sector
        if top <= NO_SCREEN * height:
            return 0, 0, height, width
        top += round(self.trim * (bottom - top))
        if self.aspect is not None:
            wanted = min(width, round((bottom - top) / self.aspect))
            left = min(max((left + right - wanted) // 2, 0), width - wanted)
            right = left + wanted
        return top, left, bottom, right


class FindSectord(Cropd):
    """Dictionary version of :class:`FindSector`; every picture is searched by itself."""

    def __init__(
        self,
        keys: KeysCollection,
        *,
        aspect: float | None = 7 / 9,
        trim: float = 0.06,
        mask: bool = False,
        box: Sequence[int] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, FindSector(aspect=aspect, trim=trim, mask=mask, box=box), allow_missing_keys)


def find_sector(values: np.ndarray) -> Sector:
    """Find the sector in a grey frame; the whole frame if there is nothing brighter than black.

    Args:
        values: (H, W) in 0..255.
    """
    height, width = values.shape
    step = max(1, round(height / COARSE_ROWS))
    sampled = values[::step, ::step]
    drawn = _drawn(sampled)
    # That most of 5 x 5 are bright says the same as their median, and is found faster.
    bright = (_halve(np.where(drawn, 0, sampled)) > DARK).astype(np.float32)
    bright = (ndimage.uniform_filter(bright, 5) > 0.5) & (_halve(drawn.astype(np.float32)) < 0.25)
    bright = ndimage.binary_closing(np.pad(bright, 4), iterations=2)[4:-4, 4:-4]
    thin = max(3, round(THIN * min(bright.shape)) | 1)
    core = ndimage.grey_opening(np.pad(bright, thin, mode="edge"), thin)[thin:-thin, thin:-thin]
    parts, count = ndimage.label(core)
    if not count:
        return Sector((0, 0, height, width), np.ones((height, width), dtype=bool))
    sizes = np.bincount(parts.ravel())[1:]
    sector = np.isin(parts, 1 + np.flatnonzero(sizes >= SMALL_PART * sizes.max()))
    # The opening has rounded the corners off.
    sector = ndimage.binary_dilation(sector, np.ones((3, 3)), iterations=2, mask=bright)
    scale = 2 * step
    rows, columns = (np.flatnonzero(sector.any(axis=axis)) for axis in (1, 0))
    box = (rows[0] * scale, columns[0] * scale, (rows[-1] + 1) * scale, (columns[-1] + 1) * scale)
    region = ndimage.binary_fill_holes(ndimage.binary_dilation(sector, np.ones((3, 3))))
    region = region.repeat(scale, axis=0).repeat(scale, axis=1)
    region = np.pad(region, ((0, scale * 2), (0, scale * 2)), mode="edge")[:height, :width]
    return Sector((int(box[0]), int(box[1]), min(height, int(box[2])), min(width, int(box[3]))), region)


def _drawn(values: np.ndarray) -> np.ndarray:
    """Mark the flat bars and boxes of a screen, with the text on them."""
    width = values.shape[1]
    even = np.zeros(values.shape, dtype=np.uint8)
    grey = (values[:, 1:] > DARK) & (values[:, 1:] < SATURATED)
    even[:, 1:] = (np.abs(np.diff(values, axis=1)) <= 0.5) & grey
    run, bridge = max(4, round(RUN * width)), max(4, round(BRIDGE * width))
    runs = ndimage.maximum_filter1d(ndimage.minimum_filter1d(even, run, axis=1), run, axis=1, origin=-1 + run % 2)
    wide = np.pad(runs, ((0, 0), (bridge, bridge)))
    closed = ndimage.minimum_filter1d(ndimage.maximum_filter1d(wide, bridge, axis=1), bridge, axis=1)
    return closed[:, bridge:-bridge] > 0


def _halve(values: np.ndarray) -> np.ndarray:
    """Average over blocks of 2 x 2 pixels; a last odd row or column is left out."""
    rows, columns = values.shape[0] // 2, values.shape[1] // 2
    upper, lower = values[0 : rows * 2 : 2], values[1 : rows * 2 : 2]
    summed = (upper + lower)[:, : columns * 2]
    return (summed[:, ::2] + summed[:, 1::2]) / 4
