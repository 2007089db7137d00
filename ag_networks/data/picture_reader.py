"""MONAI image reader for pictures and frames of clips: files of any usual kind become one kind of array."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.utils import MetaKeys, ensure_tuple

from ag_networks.data.cases import CaseError, is_dicom_file
from ag_networks.data.dicom_picture import read_dicom_picture
from ag_networks.data.picture_file import Pixels, read_picture_file
from ag_networks.data.pictures import is_picture_file, split_frame
from ag_networks.data.video import VideoFrames, is_video_file

__all__ = ["PictureReader"]

MIN_PIXELS = 32
SMALL_PIXELS = 100
MIN_RANGE = 3.0
COLORED = 32.0  # between the channels of a pixel
COLORED_SHARE = 0.02  # a vendor's marks and blue text cover less
BRIGHT_BORDER = 160.0
EXPECTED = "expected a picture"


class PictureReader(ImageReader):
    """Read a picture, or a frame of a clip, as float32 of shape (channels, rows, columns) in 0..255.

    For `LoadImaged(reader="ag_networks.data.PictureReader")`, on PNG, JPEG, BMP, TIFF and DICOM files, and on frames of
    DICOM clips, TIFF pages and videos, named `clip.dcm#0007` as `list_pictures` does. Pictures are upright (EXIF),
    palettes are expanded, transparency lies over black, deep values are scaled (`deep_to_bytes`), DICOM is windowed and
    MONOCHROME1 inverted (`read_dicom_picture`). A clip's other frames are not decoded; a video is decoded forward and
    stays open, so frames in order cost one decoding each.

    The metadata holds the shape and `"picture_warnings"` (one string, joined by `"; "`, empty if there are none), and
    nothing of the file's header, which may name the patient.

    Args:
        channels: 1 for grey, the mean of the channels; 3 for RGB; None for what the picture is: 1 if its channels are
            equal, else 3.

    Raises:
        ValueError: for another `channels`.
        CaseError: from `get_data`, one line that names the file, if it is missing, damaged, no picture, without pixels,
            one gray value all over (a black picture), smaller than 32 pixels, or a 3D volume.

    Example:
        >>> import tempfile
        >>> from monai.transforms import LoadImage
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.linear_gradient("L").resize((80, 40)).save(f"{folder}/a.png")
        ...     image = LoadImage(reader="ag_networks.data.PictureReader", channels=1)(f"{folder}/a.png")
        >>> tuple(image.shape), image.meta["picture_warnings"]
        ((1, 40, 80), 'small picture (80 x 40 pixels)')
    """

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        if channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1, 3 or None, got {channels}.")
        self.channels = channels
        self.video = VideoFrames()

    def verify_suffix(self, filename: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> bool:
        """Whether all names are pictures or frames; called only where MONAI chooses the reader."""
        return all(is_picture_file(split_frame(name)[0]) for name in ensure_tuple(filename))

    def read(self, data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **kwargs: Any) -> list[str]:
        """Return the names and open nothing.

        When `read` fails, `LoadImage` tries MONAI's own readers, which turn the axes and ignore windows. What fails in
        `get_data` fails.
        """
        return [os.fspath(name) for name in ensure_tuple(data)]

    def get_data(self, img: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the picture and its metadata."""
        if len(img) != 1:
            raise CaseError(f"{len(img)} files for one picture; {EXPECTED}")
        name = Path(img[0]).name
        pixels = self._read(img[0])
        array, warnings = self._in_channels(pixels.values)
        rows, columns = array.shape[1:]
        if min(rows, columns) < MIN_PIXELS:
            raise CaseError(f"{name}: {columns} x {rows} pixels; expected at least {MIN_PIXELS} x {MIN_PIXELS}")
        if np.ptp(array, axis=(1, 2)).max() < MIN_RANGE:
            value = float(array.max())
            found = "a black picture" if value < MIN_RANGE else f"every pixel has about the value {value:.0f} of 255"
            raise CaseError(f"{name}: {found}; {EXPECTED} that shows something")
        warnings = [*pixels.warnings, *warnings, *_doubts(array)]
        return array, {
            MetaKeys.AFFINE: np.eye(3),
            MetaKeys.ORIGINAL_AFFINE: np.eye(3),
            MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape[1:]),
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
            "picture_warnings": "; ".join(warnings),
        }

    def _read(self, name: str) -> Pixels:
        path, frame = (name, None) if os.path.exists(name) else split_frame(name)
        if is_video_file(path):
            return Pixels(self.video(path, frame or 0).astype(np.float32), [])
        if is_dicom_file(path):
            return read_dicom_picture(Path(path), frame)
        return read_picture_file(Path(path), frame)

    def _in_channels(self, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Return the array with the channels asked for, first, and warnings where that changes the picture."""
        planes = [values] if values.ndim == 2 else list(np.moveaxis(values, 2, 0))
        if all(np.array_equal(planes[0], other) for other in planes[1:]):
            array = np.ascontiguousarray(planes[0])[None]
            if self.channels != 3:
                return array, []
            return np.repeat(array, 3, axis=0), ["grey picture, as three equal channels"]
        if self.channels != 1:
            return np.stack(planes), []
        red, green, blue = planes  # plane by plane: reductions over a short axis are slow
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        share = float((spread > COLORED).mean())
        warnings = [f"color picture, read as grey ({share:.0%} of its pixels are colored)"]
        return ((red + green + blue) / np.float32(3))[None], warnings if share > COLORED_SHARE else []


def _doubts(array: np.ndarray) -> list[str]:
    """Return warnings about what can be read and is unusual for a picture from a scanner or a camera."""
    rows, columns = array.shape[1:]
    warnings = []
    if min(rows, columns) < SMALL_PIXELS:
        warnings.append(f"small picture ({columns} x {rows} pixels)")
    border = np.concatenate([array[:, [0, -1]].ravel(), array[:, :, [0, -1]].ravel()])
    if np.median(border) > BRIGHT_BORDER:
        warnings.append("bright border: inverted, a photo, or a document?")
    return warnings
