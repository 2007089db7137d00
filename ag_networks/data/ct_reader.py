"""MONAI image reader that takes a NIfTI file or a folder of DICOM slices, and checks the grid it finds."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data.image_reader import ImageReader
from monai.data.utils import affine_to_spacing
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from ag_networks.data.cases import CaseError, is_nifti_file
from ag_networks.data.dicom_series import Volume, read_dicom_series

__all__ = ["CTReader"]

SPACING_RANGE_MM = (0.05, 50.0)
THICK_MM = 5.0
FEW_SLICES = 8
OBLIQUE_DEGREES = 5.0
SHEAR_DEGREES = 0.1
EXPECTED = "expected a 3D NIfTI image (.nii, .nii.gz) or a folder of CT slices in DICOM"

PathLike = str | os.PathLike[str]


class CTReader(ImageReader):
    """Read a NIfTI file or a DICOM series folder as one float32 volume with its affine in RAS mm.

    For `LoadImaged(reader="ag_networks.data.CTReader")`. Arrays and affines equal those of MONAI's `NibabelReader` and
    `ITKReader`; the metadata holds the affine, the shape and `"ct_warnings"` (one string, warnings joined by `"; "`,
    empty if there are none), and nothing else of the file's header, which may name the patient.
    Values are not judged here, so the same reader loads label maps; see `ag_networks.transforms.CheckCTd`.

    Oblique, flipped and sheared grids (gantry tilt) are read as they are: MONAI's `Spacing` and `Orientation` honour
    the whole affine.

    Raises:
        CaseError: from `get_data`, if the file cannot be read, is not 3D, has complex or color values, fewer than two
            slices or a grid that makes no sense; for a folder see `read_dicom_series`.

    Example:
        >>> import nibabel, numpy, tempfile
        >>> from monai.transforms import LoadImage
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     image = nibabel.Nifti1Image(numpy.zeros((8, 9, 10), "int16"), numpy.diag([1.0, 1.0, 6.0, 1.0]))
        ...     nibabel.save(image, f"{folder}/thick.nii.gz")
        ...     LoadImage(reader="ag_networks.data.CTReader")(f"{folder}/thick.nii.gz").meta["ct_warnings"]
        'slices are 6.0 mm apart'
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether all names are folders or NIfTI files; called only where MONAI chooses the reader."""
        return all(os.path.isdir(name) or is_nifti_file(name) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[Path]:
        """Return the paths and open nothing.

        When `read` fails, `LoadImage` tries MONAI's own readers, and one of them may return a wrong volume (the first
        of several series, say). What fails in `get_data` fails.
        """
        return [Path(name) for name in ensure_tuple(data)]

    def get_data(self, img: list[Path]) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the volume and its metadata."""
        if len(img) != 1:
            raise CaseError(f"{len(img)} files for one image; {EXPECTED}")
        path = img[0]
        name = Path(os.path.abspath(path)).name
        volume = read_dicom_series(path) if path.is_dir() else _read_nifti(path, name)
        warnings = [*volume.warnings, *_check_grid(volume.array.shape, volume.affine, name)]
        return volume.array, {
            MetaKeys.AFFINE: volume.affine,
            MetaKeys.ORIGINAL_AFFINE: volume.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.asarray(volume.array.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
            MetaKeys.SPACE: SpaceKeys.RAS,
            "ct_warnings": "; ".join(warnings),
        }


def _read_nifti(path: Path, name: str) -> Volume:
    if not path.is_file():
        raise CaseError(f"{name}: no such file; {EXPECTED}")
    if not is_nifti_file(path):
        raise CaseError(f"{name}: not a NIfTI file; {EXPECTED}")
    if not path.stat().st_size:
        raise CaseError(f"{name}: the file is empty; {EXPECTED}")
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            image = _open_nifti(file, name)
            shape = _shape_in_space(image, name)
            affine, warnings = _affine(image, name)
            array = _float32(image).reshape(shape)
            # The checksum of gzip is verified at its end only; nibabel stops before.
            while file.read(1 << 20):
                pass
    except (CaseError, MemoryError):
        raise
    except Exception as error:  # nibabel's errors for broken files have no common base class
        raise CaseError(f"{name}: {_what_is_wrong(path, error)}; {EXPECTED}") from error
    if image.ndim > 3:
        warnings.append(f"squeezed a {image.ndim}D image of shape {_times(image.shape)}")
    return Volume(array, affine, warnings)


def _open_nifti(file: io.IOBase, name: str) -> nibabel.Nifti1Image:
    head = file.read(nibabel.Nifti2Header.sizeof_hdr)
    file.seek(0)
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        if kind.header_class.may_contain_header(head):
            return kind.from_stream(file)
    raise CaseError(f"{name}: no NIfTI header in the file; {EXPECTED}")


def _shape_in_space(image: nibabel.Nifti1Image, name: str) -> tuple[int, ...]:
    if image.get_data_dtype().kind not in "iuf":
        raise CaseError(f"{name}: values of type {image.header['datatype']} (complex or color); {EXPECTED}")
    shape = image.shape
    if len(shape) < 3 or any(size > 1 for size in shape[3:]):
        raise CaseError(f"{name}: {len(shape)}D image of shape {_times(shape)}; {EXPECTED}")
    return tuple(shape[:3])


def _affine(image: nibabel.Nifti1Image, name: str) -> tuple[np.ndarray, list[str]]:
    """Return the affine, of the sform if there is one, and warnings where the header is in doubt."""
    qform, code = image.get_qform(coded=True)
    warnings = []
    affine = np.array(image.affine, dtype=np.float64)
    if not code and not image.header["sform_code"]:
        warnings.append("no orientation in the header (sform and qform codes are 0): left and right may be swapped")
    if code and not _is_invertible(affine):
        affine = np.array(qform, dtype=np.float64)
        warnings.append("the sform is zero or singular: the qform is used")
    if not _is_invertible(affine):
        raise CaseError(f"{name}: the affine is zero, singular or not a number; {EXPECTED}")
    # MONAI's NibabelReader would take even a qform with code 0 here, and lose the orientation.
    if not np.allclose(image.header.get_zooms()[:3], affine_to_spacing(affine), rtol=1e-2):
        warnings.append("voxel size and affine of the header differ: the affine is used")
    return affine, warnings


def _is_invertible(affine: np.ndarray) -> bool:
    """Whether a voxel is a solid: its volume is not nothing beside that of a box with the same edges."""
    edges = np.prod(np.linalg.norm(affine[:3, :3], axis=0))
    return bool(np.isfinite(affine).all() and edges > 0 and abs(np.linalg.det(affine[:3, :3])) > 0.1 * edges)


def _float32(image: nibabel.Nifti1Image) -> np.ndarray:
    """Apply slope and intercept in float32 and in C order: nibabel alone would make float64 copies."""
    stored: Any = image.dataobj
    array = np.empty(image.shape, dtype=np.float32)
    array[...] = stored.get_unscaled()
    if stored.slope != 1:
        array *= stored.slope
    if stored.inter != 0:
        array += stored.inter
    return array


def _what_is_wrong(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "no permission to read the file"
    with path.open("rb") as file:
        head = file.read(512)
    if path.suffix.lower() == ".gz" and head[:2] != b"\x1f\x8b":
        return "not gzip data" + (" but text" if head.isascii() and b"\0" not in head else "")
    if isinstance(error, (EOFError, OSError, zlib.error)) or "mmap length" in str(error):
        return "the file is cut short or damaged"
    return f"not a readable NIfTI file ({type(error).__name__})"


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _check_grid(shape: tuple[int, ...], affine: np.ndarray, name: str) -> list[str]:
    """Refuse grids that cannot be a CT in millimetres and return warnings about unusual ones."""
    spacing = affine_to_spacing(affine)
    shown = " x ".join(f"{value:.3g}" for value in spacing)
    if min(spacing) < SPACING_RANGE_MM[0] or max(spacing) > SPACING_RANGE_MM[1]:
        raise CaseError(f"{name}: voxels of {shown} mm (are the units millimetres?); {EXPECTED}")
    if min(shape) < 2:
        raise CaseError(f"{name}: one slice (shape {_times(shape)}); {EXPECTED}")
    warnings = []
    if min(shape) < FEW_SLICES:
        warnings.append(f"only {min(shape)} slices")
    if max(spacing) > THICK_MM:
        warnings.append(f"slices are {max(spacing):.1f} mm apart")
    return warnings + _check_axes(affine[:3, :3] / spacing)


def _check_axes(axes: np.ndarray) -> list[str]:
    """Warn of shear (gantry tilt) or else of obliqueness; `axes` has unit columns."""
    cosines = np.abs(axes.T @ axes)[np.triu_indices(3, k=1)]
    shear = float(np.degrees(np.arcsin(min(1.0, cosines.max()))))
    if shear > SHEAR_DEGREES:
        return [f"slices are sheared by {shear:.1f} degrees (gantry tilt)"]
    oblique = float(np.degrees(np.arccos(min(1.0, np.abs(axes).max(axis=0).min()))))
    return [f"the grid is oblique by {oblique:.1f} degrees"] if oblique > OBLIQUE_DEGREES else []
