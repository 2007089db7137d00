"""The pixels of one DICOM picture, or of one frame of a DICOM clip, as they are meant to be seen, scaled to 0..255."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from monai.utils import optional_import
from pydicom.uid import UID, EnhancedUSVolumeStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ag_networks.data.cases import CaseError
from ag_networks.data.picture_file import MAX_PIXELS, Pixels, deep_to_bytes

__all__ = ["count_dicom_frames", "read_dicom_picture"]

pixels, has_pixels = optional_import("pydicom.pixels")  # pydicom 3; where MONAI Label is installed, it is 2

LUTS = [
    f"{color}PaletteColorLookupTable{what}" for color in ("Red", "Green", "Blue") for what in ("Descriptor", "Data")
]
# Only these are parsed: no element that may hold something about the patient is ever in memory.
TAGS = [
    "SOPClassUID",
    "Modality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    *LUTS,
    *(f"Segmented{name}" for name in LUTS if name.endswith("Data")),
]
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
VOLUME_MODALITIES = ("CT", "MR", "PT", "NM", "OPT")
EXPECTED = "expected a DICOM picture or clip"


def read_dicom_picture(path: Path, frame: int | None = None) -> Pixels:
    """Read a picture, or the frame of a clip, decoding no other frame.

    Grey values pass the modality transform and the (first) window or lookup table of the file; without one, the range
    of the stored bits becomes 0..255, in a picture by itself that of the bits in use. MONOCHROME1 is inverted, so that
    high is bright. Palettes are expanded, and YBR colors become RGB.

    Args:
        path: the file.
        frame: counted from 0; needed for a clip.

    Raises:
        CaseError: if the file is missing, damaged, no DICOM, without pixels, a 3D volume or compressed in a way that no
            installed decoder reads, if the frame does not exist or cannot be decoded, or where pydicom is older than 3.
    """
    name = path.name
    header, syntax = _read_header(path)
    frames = int(header.get("NumberOfFrames") or 1)
    if not has_pixels:
        raise CaseError(f"{name}: a DICOM picture needs pydicom 3, found pydicom {pydicom.__version__}")
    _check(header, frames, name)
    if frame is None and frames > 1:
        raise CaseError(f"{name}: a clip of {frames} frames; expected one picture, or a frame as {name}#0000")
    if frame is not None and frame >= frames:
        raise CaseError(f"{name}: no frame {frame}, counted from 0; the clip has {frames}")
    _check_decoder(syntax, name)
    what = "the pixels" if frame is None else f"frame {frame}"
    try:
        with _without_tracebacks():
            values = pixels.pixel_array(path, index=frame or 0, transfer_syntax_uid=syntax)
        return _as_seen(values, header, alone=frames == 1)
    except MemoryError:
        raise
    except Exception as error:  # the decoders' errors for broken data have no common base class
        raise CaseError(f"{name}: {what} cannot be decoded (damaged or cut file); {EXPECTED}") from error


def count_dicom_frames(path: Path) -> int:
    """Count the frames of a clip, 1 for a picture and for a 3D volume, whose slices are no frames.

    Raises:
        CaseError: if the header cannot be read.
    """
    header, _ = _read_header(path)
    frames = int(header.get("NumberOfFrames") or 1)
    return 1 if _is_volume(header, frames) else frames


def _is_volume(header: pydicom.Dataset, frames: int) -> bool:
    volume = header.get("Modality") in VOLUME_MODALITIES or header.get("SOPClassUID") == EnhancedUSVolumeStorage
    return frames > 1 and volume


def _read_header(path: Path) -> tuple[pydicom.Dataset, UID]:
    if not path.is_file():
        raise CaseError(f"{path.name}: no such file; {EXPECTED}")
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
        if "file_meta" in header.__dict__ and "TransferSyntaxUID" in header.file_meta:
            return header, header.file_meta.TransferSyntaxUID
        return header, ImplicitVRLittleEndian if header.original_encoding[0] else ExplicitVRLittleEndian
    except PermissionError as error:
        raise CaseError(f"{path.name}: no permission to read the file; {EXPECTED}") from error
    except Exception as error:  # pydicom's errors for broken files have no common base class
        raise CaseError(f"{path.name}: damaged, or no DICOM file; {EXPECTED}") from error


def _check(header: pydicom.Dataset, frames: int, name: str) -> None:
    if not header.get("SOPClassUID") and not header.get("Rows"):
        raise CaseError(f"{name}: damaged, or no DICOM file; {EXPECTED}")
    modality = str(header.get("Modality") or "unknown")
    if not header.get("Rows") or not header.get("Columns"):
        raise CaseError(f"{name}: no pixels in the file (modality {modality}); {EXPECTED}")
    if header.Rows * header.Columns > MAX_PIXELS:
        raise CaseError(f"{name}: {header.Columns} x {header.Rows} pixels; expected at most 100 megapixels")
    if _is_volume(header, frames):
        raise CaseError(f"{name}: a 3D volume of {frames} slices (modality {modality}); {EXPECTED}")
    photometric = header.get("PhotometricInterpretation")
    if photometric not in (*GREY, *COLOR, "PALETTE COLOR"):
        raise CaseError(f"{name}: pixels of the kind {photometric}; expected {', '.join(GREY + COLOR)}, PALETTE COLOR")


def _check_decoder(syntax: UID, name: str) -> None:
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        available = pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        raise CaseError(f"{name}: compressed as {syntax.name}; expected pictures, or a clip exported as MP4") from None
    if not available:
        found = f"compressed as {syntax.name}, which no installed decoder reads"
        remedy = "the extra 'dicom' brings JPEG 2000 and JPEG-LS, pip install pylibjpeg-libjpeg the other kinds of JPEG"
        raise CaseError(f"{name}: {found}; {remedy}")


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keep pydicom from logging the traceback of every decoder that fails: our message says what is wrong."""
    log = logging.getLogger("pydicom.pixels.decoders.base")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _as_seen(values: np.ndarray, header: pydicom.Dataset, *, alone: bool) -> Pixels:
    if header.PhotometricInterpretation == "PALETTE COLOR":
        values = pixels.apply_color_lut(values, header)[..., :3]
        return Pixels(values.astype(np.float32) * np.float32(255 / np.iinfo(values.dtype).max), [])
    if header.PhotometricInterpretation in GREY:
        grey = _grey(values, header, alone=alone)
        if header.PhotometricInterpretation == "MONOCHROME2":
            return grey
        return Pixels(255 - grey.values, [*grey.warnings, "stored inverted (MONOCHROME1)"])
    if header.BitsStored == 8:
        return Pixels(values.astype(np.float32), [])
    return Pixels(values.astype(np.float32) * np.float32(255 / (2**header.BitsStored - 1)), [])


def _grey(values: np.ndarray, header: pydicom.Dataset, *, alone: bool) -> Pixels:
    width = np.atleast_1d(header.get("WindowWidth") or 0)[0]
    low, high = _range(header)
    warnings = [f"{header.BitsStored}-bit picture"] if header.BitsStored > 8 else []
    if header.get("VOILUTSequence"):
        top = 2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
        values = pixels.apply_voi(pixels.apply_modality_lut(values, header), header) / top
    elif width >= 1 and header.get("WindowCenter") is not None:
        # A window's result rises with its input, whichever way the range of the output lies.
        values = (pixels.apply_windowing(pixels.apply_modality_lut(values, header), header) - low) / (high - low)
    elif alone and header.BitsStored > 8 and (low, high) == (0, 2**header.BitsStored - 1):
        return deep_to_bytes(values)
    else:
        values = (pixels.apply_modality_lut(values, header) - min(low, high)) / abs(high - low)
    return Pixels((values.clip(0, 1) * 255).astype(np.float32), warnings)


def _range(header: pydicom.Dataset) -> tuple[float, float]:
    """Return what the lowest and the highest stored value become by the modality transform."""
    if header.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(header.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    signed = int(header.get("PixelRepresentation") or 0)
    ends: Any = np.array([0, 2**header.BitsStored - 1]) - signed * 2 ** (header.BitsStored - 1)
    if header.get("RescaleSlope") is not None and header.get("RescaleIntercept") is not None:
        ends = ends * float(header.RescaleSlope) + float(header.RescaleIntercept)
    return float(ends[0]), float(ends[1])
