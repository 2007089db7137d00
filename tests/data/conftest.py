"""Small scans for the tests of the input side."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

Change = Callable[[int, pydicom.Dataset], None]


@pytest.fixture
def hu() -> np.ndarray:
    """Return 20 x 18 x 12 values in HU."""
    return np.random.default_rng(0).integers(-1000, 1000, (20, 18, 12)).astype(np.int16)


@pytest.fixture
def write_series() -> Callable[..., Path]:
    """Return the function that writes a volume (axes x, y, z) as DICOM slices."""
    return _write_series


def _write_series(
    folder: Path,
    volume: np.ndarray,
    *,
    change: Change | None = None,
    positions: np.ndarray | None = None,
    name: str = "{k:03d}.dcm",
    **elements: Any,
) -> Path:
    """Write 3 mm slices of 0.8 x 0.9 mm pixels (row spacing first); `elements` override what all slices hold."""
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid()
    for k in range(volume.shape[2]):
        slice_ = _slice(volume[:, :, k].T)
        slice_.SeriesInstanceUID = series
        slice_.InstanceNumber = k + 1
        slice_.ImagePositionPatient = list(
            map(float, [-7.5, -9.25, -30 + 3 * k] if positions is None else positions[k])
        )
        slice_.update(_dataset(elements))
        if change:
            change(k, slice_)
        slice_.save_as(folder / name.format(k=k), enforce_file_format=True)
    return folder


def _dataset(elements: dict[str, Any]) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def _slice(values: np.ndarray) -> pydicom.Dataset:
    slice_ = _dataset(
        {
            "SOPClassUID": CTImageStorage,
            "SOPInstanceUID": generate_uid(),
            "PatientName": "Secret^Name",
            "PatientID": "SECRET1",
            "StudyDate": "20200102",
            "SeriesDate": "20200102",
            "Modality": "CT",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "SeriesNumber": 3,
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [0.8, 0.9],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": values.shape[0],
            "Columns": values.shape[1],
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 0,
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            "PixelData": (values.astype(np.int32) + 1024).astype("<u2").tobytes(),
        }
    )
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.file_meta.MediaStorageSOPClassUID = CTImageStorage
    slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
    slice_.preamble = b"\0" * 128
    return slice_
