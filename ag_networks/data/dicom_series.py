"""One CT volume in Hounsfield units from a folder of DICOM slices, or a clear refusal."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import itk
import numpy as np
import pydicom
from monai.data.utils import orientation_ras_lps

from ag_networks.data.cases import CaseError, is_dicom_file

__all__ = ["Volume", "read_dicom_series"]

# Only these are parsed: no element that may hold something about the patient is ever in memory.
TAGS = [
    "Modality",
    "ImageType",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
    "SamplesPerPixel",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
]
MIN_SLICES_OF_A_STACK = 3  # a scout has one slice, or two
COPY_MM = 1e-3  # closer slices are copies of one position
SILENT_JITTER = 0.01  # of the spacing
ALLOWED_JITTER = 0.05  # of the spacing
ALLOWED_JITTER_MM = 0.1  # positions are often rounded to 0.1 mm
EXPECTED = "expected one series of evenly spaced CT slices of one size and orientation"


class Volume(NamedTuple):
    """A volume as read: `array` is float32 with axes (x, y, z) as stored, `affine` maps its indices to RAS mm."""

    array: np.ndarray
    affine: np.ndarray
    warnings: list[str]


@dataclass(frozen=True)
class _Slice:
    """What a slice's header says about its place; `problem` tells why a file is no CT slice, empty if it is one."""

    path: Path
    modality: str
    problem: str
    series: tuple[str, str] = ("", "")
    shape: tuple[int, int] = (0, 0)
    orientation: tuple[float, ...] = ()
    position: tuple[float, ...] = ()
    spacing: tuple[float, ...] = ()


def read_dicom_series(folder: str | os.PathLike[str]) -> Volume:
    """Read the CT series of a folder (not of its subfolders) as HU, slices sorted along their normal.

    Files are recognized by content. The third column of the affine is the real step from slice to slice, so a gantry
    tilt becomes a shear of the affine. Localizers, files of other modalities and series of fewer than three slices
    beside the one stack are left out with a warning; positions that deviate a little from even spacing (at most 5 % of
    it, or 0.1 mm) give a warning too.

    Raises:
        CaseError: no CT, several series, missing, doubled or unevenly spaced slices, slices of different size,
            spacing or orientation, fewer than two slices, files that cannot be read.
    """
    folder = Path(folder)
    name = Path(os.path.abspath(folder)).name
    slices, warnings = _choose_series(_read_headers(folder, name), name)
    _check_alike(slices, name)
    slices, affine, jitter = _place(slices, name)
    return Volume(_read_pixels(slices, name), affine, warnings + jitter)


def _read_headers(folder: Path, name: str) -> list[_Slice]:
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    paths = [path for path in paths if is_dicom_file(path)]
    if not paths:
        raise CaseError(f"{name}: no DICOM files in this folder; {EXPECTED}")
    slices = [_read_header(path) for path in paths]
    unreadable = sum(not item.modality for item in slices)
    if unreadable:
        raise CaseError(f"{name}: {unreadable} of {len(paths)} files are damaged or no DICOM; {EXPECTED}")
    return slices


def _read_header(path: Path) -> _Slice:
    try:
        with path.open("rb") as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
            rest = path.stat().st_size - file.tell()
        modality = "" if _is_cut(header, rest) else str(header.get("Modality") or "")
        problem = _problem(header)
    except Exception:  # pydicom's errors for broken files have no common base class
        return _Slice(path, "", "unreadable")
    if problem:
        return _Slice(path, modality, problem)
    return _Slice(
        path=path,
        modality=modality,
        problem="",
        series=(str(header.get("SeriesInstanceUID") or ""), str(header.get("SeriesNumber") or "")),
        shape=(int(header.Columns), int(header.Rows)),
        orientation=tuple(map(float, header.ImageOrientationPatient)),
        position=tuple(map(float, header.ImagePositionPatient)),
        spacing=tuple(map(float, header.PixelSpacing)),
    )


def _is_cut(header: pydicom.Dataset, rest: int) -> bool:
    """Whether a CT file has fewer bytes behind its header than its pixels take: ITK would return arbitrary values."""
    syntax = header.file_meta.get("TransferSyntaxUID", pydicom.uid.ImplicitVRLittleEndian)
    if header.get("Modality") != "CT" or syntax.is_deflated:
        return False
    size = header.get("Rows", 0) * header.get("Columns", 0) * (header.get("BitsAllocated") or 16) // 8
    return rest < (8 if syntax.is_compressed else 8 + size)


def _problem(header: pydicom.Dataset) -> str:
    if header.get("Modality") != "CT":
        return f"modality {header.get('Modality')}"
    if "LOCALIZER" in (header.get("ImageType") or ()):
        return "localizer"
    if int(header.get("NumberOfFrames") or 1) > 1:
        return "multi-frame, which is not supported"
    if int(header.get("SamplesPerPixel") or 1) > 1:
        return "color picture"
    sizes = {"Rows": 0, "Columns": 0, "ImageOrientationPatient": 6, "ImagePositionPatient": 3, "PixelSpacing": 2}
    missing = [tag for tag, size in sizes.items() if not header.get(tag) or (size and len(header[tag].value) != size)]
    return f"without {missing[0]}" if missing else ""


def _choose_series(slices: list[_Slice], name: str) -> tuple[list[_Slice], list[str]]:
    """Return the slices of the only stack of CT slices and warnings about what else lies in the folder."""
    series: dict[tuple[str, str], list[_Slice]] = defaultdict(list)
    for item in slices:
        if not item.problem:
            series[item.series].append(item)
    others = Counter(item.problem for item in slices if item.problem)
    found = ", ".join(f"{count} x {problem}" for problem, count in sorted(others.items()))
    if not series:
        raise CaseError(f"{name}: no CT slices in this folder ({found}); {EXPECTED}")
    warnings = [f"ignored files that are no CT slices: {found}"] if others else []
    if len(series) == 1:
        return next(iter(series.values())), warnings
    stacks = [stack for stack in series.values() if len(stack) >= MIN_SLICES_OF_A_STACK]
    if len(stacks) != 1:
        raise CaseError(f"{name}: {len(series)} CT series in one folder ({_describe(series)}); {EXPECTED}")
    rest = {key: stack for key, stack in series.items() if stack is not stacks[0]}
    return stacks[0], [*warnings, f"ignored other CT series: {_describe(rest)}"]


def _describe(series: dict[tuple[str, str], list[_Slice]]) -> str:
    numbers = sorted((number, len(stack)) for (_, number), stack in series.items())
    return ", ".join(f"number {number or 'unknown'} with {count} slices" for number, count in numbers)


def _check_alike(slices: list[_Slice], name: str) -> None:
    if len(slices) < 2:
        raise CaseError(f"{name}: one slice; {EXPECTED}")
    shapes = Counter(item.shape for item in slices)
    if len(shapes) > 1:
        found = ", ".join(f"{count} of {size[0]}x{size[1]}" for size, count in shapes.most_common(3))
        raise CaseError(f"{name}: slices of different size ({found}); {EXPECTED}")
    for what, values in (
        ("orientation", np.array([item.orientation for item in slices])),
        ("pixel spacing", np.array([item.spacing for item in slices])),
    ):
        different = int((np.abs(values - np.median(values, axis=0)) > 1e-3).any(axis=1).sum())
        if different:
            raise CaseError(f"{name}: {different} of {len(slices)} slices have another {what}; {EXPECTED}")
    row, column = np.reshape(slices[0].orientation, (2, 3))
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=1e-2):
        raise CaseError(f"{name}: image axes are not perpendicular unit vectors; {EXPECTED}")


def _place(slices: Sequence[_Slice], name: str) -> tuple[list[_Slice], np.ndarray, list[str]]:
    """Sort the slices along their normal and return them with the RAS affine and warnings about the spacing."""
    row, column = np.reshape(slices[0].orientation, (2, 3))
    normal = np.cross(row, column)
    ordered = sorted(slices, key=lambda item: float(normal @ item.position))
    positions = np.array([item.position for item in ordered])
    step, warnings = _even_step(positions, normal, name)
    lps = np.eye(4)
    between_rows, between_columns = ordered[0].spacing
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = row * between_columns, column * between_rows, step
    lps[:3, 3] = positions[0]
    return ordered, orientation_ras_lps(lps), warnings


def _even_step(positions: np.ndarray, normal: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """Return the vector from slice to slice; refuse where no single one fits all positions."""
    gaps = np.diff(positions @ normal)
    copies = int((gaps < COPY_MM).sum())
    if copies:
        found = f"{copies} of {len(positions)} slices lie at the position of another (copies, or several phases)"
        raise CaseError(f"{name}: {found}; {EXPECTED}")
    usual = float(np.median(gaps))
    step = (positions[-1] - positions[0]) / len(gaps)
    even = positions[0] + np.arange(len(positions))[:, None] * step
    deviation = float(np.linalg.norm(positions - even, axis=1).max())
    if deviation <= SILENT_JITTER * usual:
        return step, []
    if deviation <= max(ALLOWED_JITTER * usual, ALLOWED_JITTER_MM):
        return step, [f"slice positions deviate from even spacing by up to {deviation:.2f} mm"]
    steps = gaps / usual
    missing = int((np.round(steps) - 1).clip(0).sum())
    if missing and np.abs(steps - np.round(steps)).max() <= ALLOWED_JITTER:
        found = f"{missing} slices missing (a gap of {gaps.max():.1f} mm where {usual:.1f} mm is usual)"
        raise CaseError(f"{name}: {found}; {EXPECTED}")
    found = f"uneven slices, {gaps.min():.2f} to {gaps.max():.2f} mm apart, {deviation:.2f} mm off an even grid"
    raise CaseError(f"{name}: {found}; {EXPECTED}")


def _read_pixels(slices: Sequence[_Slice], name: str) -> np.ndarray:
    """Decode slice by slice into the one float32 volume: the whole is never held twice."""
    image_type = itk.Image[itk.F, 3]
    volume = np.empty((*slices[0].shape, len(slices)), dtype=np.float32)
    for index, item in enumerate(slices):
        # Given the reader of DICOM, ITK does not guess by the file's name.
        reader = itk.ImageFileReader[image_type].New(FileName=str(item.path), ImageIO=itk.GDCMImageIO.New())
        try:
            reader.Update()
        except RuntimeError as error:
            found = f"the pixels of slice {index + 1} of {len(slices)} cannot be decoded (damaged or cut file)"
            raise CaseError(f"{name}: {found}; {EXPECTED}") from error
        volume[:, :, index] = itk.array_view_from_image(reader.GetOutput())[0].T
    return volume
