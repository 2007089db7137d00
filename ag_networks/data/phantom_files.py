"""Phantoms as files: NIfTI pairs and axial DICOM CT series."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from scipy.ndimage import affine_transform

from ag_networks.atomic import atomic_path
from ag_networks.data.phantom import Phantom

__all__ = ["write_dicom_series", "write_nifti"]

_SOP_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage}
_INTERCEPT = -1024
# Required by the standard, and empty: there is no patient and no date.
_EMPTY = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "AcquisitionNumber"),
    *("PatientBirthDate", "PatientSex", "PositionReferenceIndicator", "KVP"),
)


def write_nifti(phantom: Phantom, folder: str | Path, name: str) -> tuple[Path, Path]:
    """Write `images/<name>.nii.gz` (int16) and `labels/<name>.nii.gz` (uint8) below a folder and return both paths.

    Each file appears whole or not at all; the same phantom gives the same bytes.

    Example:
        >>> import tempfile
        >>> from ag_networks.data.phantom import make_phantom
        >>> phantom = make_phantom(0, spacing=(12, 12, 12), shape=(32, 28, 20))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     image, label = write_nifti(phantom, folder, "case_0")
        ...     image.relative_to(folder).as_posix(), label.relative_to(folder).as_posix()
        ('images/case_0.nii.gz', 'labels/case_0.nii.gz')
    """
    paths = []
    for kind, array in (("images", phantom.image), ("labels", phantom.label)):
        volume = nib.Nifti1Image(array, phantom.affine)
        volume.set_sform(phantom.affine, code="scanner")
        volume.set_qform(phantom.affine, code="scanner")
        volume.header.set_xyzt_units("mm")
        path = Path(folder) / kind / f"{name}.nii.gz"
        with atomic_path(path) as temporary:
            nib.save(volume, temporary)
        paths.append(path)
    return paths[0], paths[1]


def write_dicom_series(
    phantom: Phantom,
    folder: str | Path,
    *,
    tilt: float = 0.0,
    drop: Collection[int] = (),
    modality: str = "CT",
) -> Path:
    """Write the image as an axial DICOM series, one uncompressed file per slice, and return the folder.

    The patient is called `PHANTOM^<seed>` and there are no dates. All identifiers follow from the seed, the grid and
    the options, so that the same call gives the same bytes and several series can share one folder.

    Args:
        phantom: the case.
        folder: made if missing.
        tilt: gantry tilt in degrees: every slice is sampled in a plane turned about the patient's left-right axis while
            the table moves straight on, as a tilted scanner does (voxels outside the volume are -1024).
        drop: slice indices, counted from the feet, that are left out.
        modality: "CT", or "MR" for a series that says it is one.

    Raises:
        ValueError: for an unknown modality, a tilt of 45 degrees or more, or a slice index that does not exist.
    """
    count = phantom.image.shape[2]
    if modality not in _SOP_CLASSES:
        raise ValueError(f"modality must be one of {sorted(_SOP_CLASSES)}, got {modality!r}")
    if abs(tilt) >= 45:
        raise ValueError(f"tilt must be within 45 degrees, got {tilt}")
    if unknown := sorted(set(drop) - set(range(count))):
        raise ValueError(f"drop names slices {unknown}, but the phantom has slices 0 to {count - 1}")
    image = _tilted(phantom, tilt) if tilt else phantom.image
    grid = (*phantom.image.shape, *phantom.spacing)
    series = [str(part) for part in (phantom.seed, *grid, tilt, sorted(drop), modality)]
    for k in sorted(set(range(count)) - set(drop)):
        dataset = _slice(phantom, image[:, :, k], k, series, tilt, modality)
        path = Path(folder) / f"{dataset.SeriesInstanceUID[-8:]}_{k:04d}.dcm"
        with atomic_path(path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
    return Path(folder)


def _tilted(phantom: Phantom, tilt: float) -> NDArray[np.int16]:
    """Sample the image in planes turned about x through the middle row of each slice."""
    angle, (_, dy, dz) = np.deg2rad(tilt), phantom.spacing
    middle = (phantom.image.shape[1] - 1) / 2
    matrix = np.array([[1, 0, 0], [0, np.cos(angle), 0], [0, np.sin(angle) * dy / dz, 1]])
    offset = np.array([0.0, middle, 0.0]) - matrix @ [0.0, middle, 0.0]
    image = phantom.image.astype(np.float32)
    return np.rint(affine_transform(image, matrix, offset, order=1, cval=_INTERCEPT)).astype(np.int16)


def _slice(
    phantom: Phantom, pixels: NDArray[np.int16], k: int, series: list[str], tilt: float, modality: str
) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = _SOP_CLASSES[modality]
    dataset.SOPInstanceUID = _uid("instance", *series, str(k))
    dataset.Modality = modality
    dataset.Manufacturer = "ag_networks phantom"
    dataset.PatientName = f"PHANTOM^{phantom.seed}"
    dataset.PatientID = f"PHANTOM{phantom.seed}"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = _uid("study", str(phantom.seed))
    dataset.SeriesInstanceUID = _uid("series", *series)
    dataset.FrameOfReferenceUID = _uid("frame", str(phantom.seed))
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = k + 1
    for keyword in _EMPTY:
        setattr(dataset, keyword, "")
    _set_geometry(dataset, phantom, k, tilt)
    _set_pixels(dataset, pixels)
    return dataset


def _set_geometry(dataset: Dataset, phantom: Phantom, k: int, tilt: float) -> None:
    """Place the slice in DICOM's LPS space: columns run to the left, rows to the back."""
    (dx, dy, dz), angle = phantom.spacing, np.deg2rad(tilt)
    nx, ny, _ = phantom.image.shape
    x, y, z = (phantom.affine @ [nx - 1, ny - 1, k, 1.0])[:3]
    # The first row is the front one; a tilted slice turns about its middle row.
    half = dy * (ny - 1) / 2
    y, z = y - half + half * np.cos(angle), z + half * np.sin(angle)
    dataset.ImagePositionPatient = _decimals(-x, -y, z)
    dataset.ImageOrientationPatient = _decimals(1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    dataset.PixelSpacing = _decimals(dy, dx)
    dataset.SliceThickness, dataset.SliceLocation = _decimals(dz, z)
    dataset.GantryDetectorTilt = _decimals(tilt)[0]


def _set_pixels(dataset: Dataset, pixels: NDArray[np.int16]) -> None:
    stored = (pixels[::-1, ::-1].T.astype(np.int32) - _INTERCEPT).astype("<u2")
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = _INTERCEPT, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.PixelData = stored.tobytes()


def _decimals(*values: float) -> list[str]:
    """DICOM decimal strings: at most 16 characters, here to a ten millionth."""
    return [f"{value + 0.0:.7f}".rstrip("0").rstrip(".") for value in values]


def _uid(*sources: str) -> UID:
    return generate_uid(entropy_srcs=["ag_networks", *sources])
