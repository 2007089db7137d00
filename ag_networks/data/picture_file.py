"""The pixels of one PNG, JPEG, BMP or TIFF file, scaled to 0..255."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ag_networks.data.cases import CaseError

__all__ = ["Pixels", "deep_to_bytes", "read_picture_file"]

MAX_PIXELS = 100_000_000
BIT_DEPTHS = (8, 10, 12, 14, 16)
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
ORIENTATION = 0x0112
EXPECTED = "expected a PNG, JPEG, BMP or TIFF picture"


class Pixels(NamedTuple):
    """A picture as read: `values` is float32 in 0..255, (H, W) or (H, W, 3), with warnings about how it was read."""

    values: np.ndarray
    warnings: list[str]


def read_picture_file(path: Path, page: int | None = None) -> Pixels:
    """Read a picture upright, with its palette expanded and its transparent parts black.

    Args:
        path: the file; its kind is told by its content.
        page: of a TIFF of several pages, counted from 0.

    Raises:
        CaseError: if the file is missing, empty, cut short, no picture, larger than 100 megapixels, or has several
            pages and none is asked for.
    """
    if not path.is_file():
        raise CaseError(f"{path.name}: no such file; {EXPECTED}")
    if not path.stat().st_size:
        raise CaseError(f"{path.name}: the file is empty; {EXPECTED}")
    try:
        with Image.open(path) as image:
            _choose_page(image, page, path.name)
            if image.width * image.height > MAX_PIXELS:
                raise CaseError(f"{path.name}: {image.width} x {image.height} pixels; expected at most 100 megapixels")
            turned = image.getexif().get(ORIENTATION, 1) != 1
            image.load()
            pixels = _pixels(ImageOps.exif_transpose(image))
    except (CaseError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise CaseError(f"{path.name}: not a picture, or its header is damaged; {EXPECTED}") from error
    except PermissionError as error:
        raise CaseError(f"{path.name}: no permission to read the file; {EXPECTED}") from error
    except Image.DecompressionBombError as error:
        raise CaseError(f"{path.name}: too many pixels; expected at most 100 megapixels") from error
    except Exception as error:  # Pillow's errors for broken files have no common base class
        raise CaseError(f"{path.name}: the file is cut short or damaged; {EXPECTED}") from error
    return Pixels(pixels.values, pixels.warnings + (["turned upright by its EXIF tag"] if turned else []))


def deep_to_bytes(values: np.ndarray) -> Pixels:
    """Scale values that are not 8-bit to 0..255.

    Whole numbers are divided by the full range of the smallest usual depth (8, 10, 12, 14 or 16 bits) that holds the
    largest of them: cameras and scanners store 10 and 12 bits in files of 16. Fractions up to 1 are multiplied by 255,
    others up to 255 are kept. What fits none of these, negative values for instance, is stretched from minimum to
    maximum, with a warning.

    Example:
        >>> deep_to_bytes(np.array([[0, 4095]], np.uint16))
        Pixels(values=array([[  0., 255.]], dtype=float32), warnings=['12-bit picture'])
    """
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("values that are no numbers")
    exact = values.astype(np.float64)
    if low >= 0 and high < 1 << BIT_DEPTHS[-1]:
        if values.dtype.kind != "f":
            bits = next(bits for bits in BIT_DEPTHS if high < 1 << bits)
            return Pixels((exact * (255 / (2**bits - 1))).astype(np.float32), [f"{bits}-bit picture"])
        if high <= 255:
            return Pixels((exact * (255 if high <= 1 else 1)).astype(np.float32), ["picture of fractions"])
    stretched = (exact - low) * (255 / (high - low or 1.0))
    return Pixels(stretched.astype(np.float32), [f"values from {low:g} to {high:g}, stretched to 0..255"])


def _choose_page(image: Image.Image, page: int | None, name: str) -> None:
    count = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if page is None and count > 1:
        raise CaseError(f"{name}: {count} pages, a clip or a 3D volume; expected one picture, or a page as {name}#0000")
    if page is not None and page >= count:
        raise CaseError(f"{name}: no page {page}, counted from 0; the file has {count}")
    if page:
        image.seek(page)


def _pixels(image: Image.Image) -> Pixels:
    if image.mode in DEEP_MODES:
        return deep_to_bytes(np.asarray(image))
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")
        return Pixels(np.asarray(picture, dtype=np.float32), [])
    return Pixels(np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"), dtype=np.float32), [])
