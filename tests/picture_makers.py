"""What tests of the classification data share: ultrasound-like pictures, DICOM pictures and clips, videos."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, UltrasoundMultiFrameImageStorage, generate_uid


def speckle(rows: int = 48, columns: int = 64, seed: int = 0) -> np.ndarray:
    """Return a grey picture with a dark border, uint8."""
    picture = np.zeros((rows, columns), np.uint8)
    picture[4:-4, 4:-4] = np.random.default_rng(seed).integers(20, 220, (rows - 8, columns - 8))
    return picture


def save(path: Path, array: np.ndarray, **options: Any) -> Path:
    """Write a picture file; its kind follows from the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def dicom(pixels: np.ndarray, *, frames: int = 1, **elements: Any) -> Dataset:
    """Return an ultrasound picture or clip; `elements` override what follows from the pixels."""
    color = pixels.ndim - (frames > 1) == 3
    shape = pixels.shape[1:] if frames > 1 else pixels.shape
    dataset = Dataset()
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage if frames > 1 else UltrasoundImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.PatientName = "Secret^Name"
    dataset.Modality = "US"
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.SamplesPerPixel = 3 if color else 1
    dataset.PhotometricInterpretation = "RGB" if color else "MONOCHROME2"
    if color:
        dataset.PlanarConfiguration = 0
    if frames > 1:
        dataset.NumberOfFrames = frames
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def save_dicom(path: Path, pixels: np.ndarray, *, frames: int = 1, syntax: Any = None, **elements: Any) -> Path:
    """Write a DICOM picture or clip, compressed if a transfer syntax is given."""
    dataset = dicom(pixels, frames=frames, **elements)
    if syntax is not None:
        dataset.compress(syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_video(path: Path, frames: list[np.ndarray]) -> Path:
    """Write grey frames as a video without loss."""
    import imageio_ffmpeg

    rows, columns = frames[0].shape
    writer = imageio_ffmpeg.write_frames(
        str(path), (columns, rows), pix_fmt_in="gray", pix_fmt_out="gray", codec="ffv1", macro_block_size=1
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
    return path
