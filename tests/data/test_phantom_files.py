"""Phantoms as files: NIfTI and DICOM hold the same image on the same grid, and bad series show in their headers."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from monai.transforms import LoadImage, Orientation

from ag_networks.data.phantom import Phantom, make_phantom
from ag_networks.data.phantom_files import write_dicom_series, write_nifti

SPACING, SHAPE = (7.0, 8.0, 6.5), (50, 36, 30)


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    """Return a small phantom with three different spacings and sizes."""
    return make_phantom(11, spacing=SPACING, shape=SHAPE)


def read(path: Path, reader: str) -> tuple[np.ndarray, np.ndarray]:
    """Return array and affine in RAS+ order."""
    image = LoadImage(reader=reader, ensure_channel_first=True)(path)
    image = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(image)
    return image[0].numpy(), image.affine.numpy()


def headers(folder: Path) -> list[pydicom.Dataset]:
    """Return the slices from the feet up."""
    return sorted((pydicom.dcmread(path) for path in folder.glob("*.dcm")), key=lambda d: d.ImagePositionPatient[2])


def test_nifti_gives_back_the_phantom(phantom: Phantom, tmp_path: Path) -> None:
    image_path, label_path = write_nifti(phantom, tmp_path, "case")
    assert (image_path, label_path) == (tmp_path / "images/case.nii.gz", tmp_path / "labels/case.nii.gz")
    for path, array in ((image_path, phantom.image), (label_path, phantom.label)):
        volume = nib.load(path)
        assert volume.get_data_dtype() == array.dtype
        np.testing.assert_array_equal(np.asanyarray(volume.dataobj), array)
        np.testing.assert_allclose(volume.affine, phantom.affine, atol=1e-4)
        np.testing.assert_allclose(volume.get_qform(), phantom.affine, atol=1e-4)
        assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
        assert volume.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("reader", ["ITKReader", "PydicomReader", "ag_networks.data.CTReader"])
def test_dicom_and_nifti_hold_the_same_image(reader: str, phantom: Phantom, tmp_path: Path) -> None:
    nifti, _ = write_nifti(phantom, tmp_path, "case")
    expected, affine = read(nifti, "NibabelReader")
    array, found = read(write_dicom_series(phantom, tmp_path / "series"), reader)
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(array, phantom.image)
    np.testing.assert_allclose(found, affine, atol=1e-3)


def test_the_same_phantom_gives_the_same_bytes(phantom: Phantom, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_nifti(phantom, tmp_path / name, "case")
        write_dicom_series(phantom, tmp_path / name / "series")
    files = [sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("one", "two")]
    assert len(files[0]) == SHAPE[2] + 2
    for first, second in zip(*files, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_the_header_is_that_of_an_anonymous_axial_ct(phantom: Phantom, tmp_path: Path) -> None:
    slices = headers(write_dicom_series(phantom, tmp_path))
    first = slices[0]
    assert first.SOPClassUID == first.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
    assert first.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert (first.Modality, str(first.PatientName)) == ("CT", "PHANTOM^11")
    assert first.StudyDate == first.PatientBirthDate == ""
    assert list(first.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    assert list(first.PixelSpacing) == [SPACING[1], SPACING[0]]
    assert (first.Rows, first.Columns, first.SliceThickness) == (SHAPE[1], SHAPE[0], SPACING[2])
    assert (first.RescaleSlope, first.RescaleIntercept, first.GantryDetectorTilt) == (1, -1024, 0)
    assert len({s.SOPInstanceUID for s in slices}) == SHAPE[2]
    assert len({(s.StudyInstanceUID, s.SeriesInstanceUID, s.FrameOfReferenceUID) for s in slices}) == 1
    heights = [float(s.ImagePositionPatient[2]) for s in slices]
    np.testing.assert_allclose(np.diff(heights), SPACING[2], atol=1e-6)


def test_two_series_share_a_folder_and_a_study(phantom: Phantom, tmp_path: Path) -> None:
    write_dicom_series(phantom, tmp_path)
    write_dicom_series(phantom, tmp_path, tilt=5)
    slices = headers(tmp_path)
    assert len(slices) == 2 * SHAPE[2]
    assert len({s.SeriesInstanceUID for s in slices}) == 2
    assert len({s.StudyInstanceUID for s in slices}) == 1


def test_dropped_slices_leave_a_gap(phantom: Phantom, tmp_path: Path) -> None:
    slices = headers(write_dicom_series(phantom, tmp_path, drop=[4, 5, 20]))
    assert [s.InstanceNumber - 1 for s in slices] == [k for k in range(SHAPE[2]) if k not in (4, 5, 20)]
    gaps = np.diff([float(s.ImagePositionPatient[2]) for s in slices]) / SPACING[2]
    assert sorted(np.rint(gaps).astype(int).tolist())[-2:] == [2, 3]


def test_another_modality_is_declared(phantom: Phantom, tmp_path: Path) -> None:
    first = headers(write_dicom_series(phantom, tmp_path, modality="MR"))[0]
    assert (first.Modality, first.SOPClassUID) == ("MR", pydicom.uid.MRImageStorage)


@pytest.mark.parametrize("tilt", [12.0, -20.0])
def test_a_tilted_gantry_shows_in_the_header_and_in_the_geometry(tilt: float, phantom: Phantom, tmp_path: Path) -> None:
    slices = headers(write_dicom_series(phantom, tmp_path, tilt=tilt))
    across, down = np.array(slices[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    positions = np.array([s.ImagePositionPatient for s in slices], dtype=float)
    table = positions[1] - positions[0]
    assert slices[0].GantryDetectorTilt == tilt
    np.testing.assert_allclose(table, [0, 0, SPACING[2]], atol=1e-5)
    angle = np.rad2deg(np.arccos(np.cross(across, down) @ table / np.linalg.norm(table)))
    assert angle == pytest.approx(abs(tilt), abs=1e-3)


@pytest.mark.parametrize("tilt", [0.0, 12.0, -20.0])
def test_pixels_lie_where_the_header_puts_them(tilt: float, phantom: Phantom, tmp_path: Path) -> None:
    """On a linear ramp every stored value tells the place it was sampled at."""
    i, j, k = np.indices(SHAPE)
    ramp = replace(phantom, image=(20 * i + 30 * j + 25 * k - 1000).astype(np.int16))
    for s in headers(write_dicom_series(ramp, tmp_path, tilt=tilt)):
        across, down = np.array(s.ImageOrientationPatient, dtype=float).reshape(2, 3)
        rows, columns = np.indices((s.Rows, s.Columns))[:, :, :, None]
        places = rows * down * s.PixelSpacing[0] + columns * across * s.PixelSpacing[1]
        places = (places + np.array(s.ImagePositionPatient, dtype=float)) * [-1, -1, 1]
        indices = (places - phantom.affine[:3, 3]) / SPACING
        values = s.pixel_array + float(s.RescaleIntercept)
        held = (indices[..., 2] >= 0) & (indices[..., 2] <= SHAPE[2] - 1)
        np.testing.assert_allclose(values[held], (indices @ [20, 30, 25] - 1000)[held], atol=0.51)
        assert (values[~held] == -1024).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "US"}, r"modality must be one of \['CT', 'MR'\], got 'US'"),
        ({"tilt": 60}, "tilt must be within 45 degrees, got 60"),
        ({"drop": [3, 30]}, r"slices \[30\], but the phantom has slices 0 to 29"),
    ],
    ids=["modality", "tilt", "drop"],
)
def test_bad_arguments_are_named_before_anything_is_written(
    arguments: dict, message: str, phantom: Phantom, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_dicom_series(phantom, tmp_path / "series", **arguments)
    assert not (tmp_path / "series").exists()


def test_a_failed_write_leaves_no_half_file(phantom: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(volume: nib.Nifti1Image, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_nifti(phantom, tmp_path, "case")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
