"""DICOM series in: the volume, its place in space, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from monai.data import ITKReader, PydicomReader
from pydicom.dataset import Dataset

from ag_networks.data import CaseError
from ag_networks.data.dicom_series import read_dicom_series

WriteSeries = Callable[..., Path]
TILT = float(np.radians(15))
# Image planes tilted about x, slices shifted along z: the third axis is not their normal.
TILTED = {
    "ImageOrientationPatient": [1, 0, 0, 0, round(np.cos(TILT), 10), round(np.sin(TILT), 10)],
    "positions": np.array([[-7.5, -9.25, -30.0 + 3 * k] for k in range(12)]),
}
ORIENTATIONS = {
    "axial": [1, 0, 0, 0, 1, 0],
    "feet first": [-1, 0, 0, 0, 1, 0],
    "prone": [-1, 0, 0, 0, -1, 0],
    "coronal": [1, 0, 0, 0, 0, -1],
    "oblique": [0.96, 0, 0.28, 0.0784, 0.96, -0.2688],
}


def gaps(*changes: tuple[int, float], n: int = 12, along: int = 2) -> np.ndarray:
    """Return positions 3 mm apart in z, where from slice k on all are moved by some mm along an axis."""
    positions = np.array([[0.0, 0.0, 3.0 * k] for k in range(n)])
    for k, shift in changes:
        positions[k:, along] += shift
    return positions


def of_slice(number: int, **elements: Any) -> Callable[[int, Dataset], None]:
    """Return a change of one slice; None deletes the element."""

    def change(k: int, slice_: Dataset) -> None:
        for keyword, value in elements.items():
            if k == number and value is None:
                delattr(slice_, keyword)
            elif k == number:
                setattr(slice_, keyword, value)

    return change


@pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_volume_and_affine_equal_those_of_itk(
    orientation: list[float], tmp_path: Path, hu: np.ndarray, write_series: WriteSeries
) -> None:
    normal = np.cross(orientation[:3], orientation[3:])
    positions = np.array([-7.5, -9.25, -30]) + np.outer(np.arange(12) * 3, normal)
    # Written in another order than they lie, under names without order or extension.
    order = np.random.default_rng(1).permutation(12)
    folder = write_series(
        tmp_path / "s", hu[:, :, order], positions=positions[order], ImageOrientationPatient=orientation, name="IM{k}"
    )
    volume = read_dicom_series(folder)
    reader = ITKReader()
    array, meta = reader.get_data(reader.read(str(folder)))
    np.testing.assert_array_equal(volume.array, hu)
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, meta["affine"], atol=1e-4)
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    assert volume.warnings == []


@pytest.mark.parametrize(
    ("orientation", "direction"),
    [([1, 0, 0, 0, 1, 0], [-1, -1, 1]), ([-1, 0, 0, 0, 1, 0], [1, -1, -1])],
    ids=["head first", "feet first"],
)
def test_the_affine_is_right_anterior_superior(
    orientation: list[float], direction: list[int], tmp_path: Path, hu: np.ndarray, write_series: WriteSeries
) -> None:
    affine = read_dicom_series(write_series(tmp_path / "s", hu, ImageOrientationPatient=orientation)).affine
    np.testing.assert_allclose(np.diag(affine)[:3], np.multiply(direction, [0.9, 0.8, 3]), atol=1e-9)


def test_a_tilted_gantry_is_in_the_affine_as_in_pydicom_reader(
    tmp_path: Path, hu: np.ndarray, write_series: WriteSeries
) -> None:
    folder = write_series(tmp_path / "s", hu, **TILTED)
    volume = read_dicom_series(folder)
    reader = PydicomReader()
    array, meta = reader.get_data(reader.read(str(folder)))
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(volume.affine, meta["affine"], atol=1e-6)
    # ImagePositionPatient of the last slice, by definition of the standard.
    last = volume.affine @ [0, 0, 11, 1]
    np.testing.assert_allclose(last[:3], [7.5, 9.25, 3.0], atol=1e-6)


def test_slope_and_intercept_may_differ_by_slice(tmp_path: Path, hu: np.ndarray, write_series: WriteSeries) -> None:
    folder = write_series(tmp_path / "s", hu, change=of_slice(4, RescaleSlope=0.5, RescaleIntercept=100))
    expected = hu.astype(np.float32)
    expected[:, :, 4] = (expected[:, :, 4] + 1024) * 0.5 + 100
    np.testing.assert_allclose(read_dicom_series(folder).array, expected, atol=1e-3)


ACCEPTED = [
    ({"positions": gaps((6, 0.02))}, []),
    ({"positions": gaps((6, 0.1))}, ["slice positions deviate from even spacing by up to 0.05 mm"]),
    ({"positions": np.round(gaps() * 0.21, 1)}, ["slice positions deviate from even spacing by up to 0.06 mm"]),
    (
        {"change": of_slice(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesNumber=1)},
        ["ignored files that are no CT slices: 1 x localizer"],
    ),
    ({"change": of_slice(0, SeriesNumber=1)}, ["ignored other CT series: number 1 with 1 slices"]),
    ({"change": of_slice(11, Modality="SR")}, ["ignored files that are no CT slices: 1 x modality SR"]),
    (
        {"change": of_slice(11, ImagePositionPatient=None)},
        ["ignored files that are no CT slices: 1 x without ImagePositionPatient"],
    ),
    ({"SeriesInstanceUID": "", "SeriesNumber": None, "SOPClassUID": ""}, []),
]
ACCEPTED_IDS = ["jitter-1%", "jitter", "rounded", "localizer", "scout", "report", "unplaced", "deidentified"]


@pytest.mark.parametrize(("options", "warnings"), ACCEPTED, ids=ACCEPTED_IDS)
def test_small_faults_are_warned_of(
    options: dict[str, Any], warnings: list[str], tmp_path: Path, hu: np.ndarray, write_series: WriteSeries
) -> None:
    volume = read_dicom_series(write_series(tmp_path / "s", hu, **options))
    assert volume.warnings == warnings
    left_out = 12 - volume.array.shape[2]
    first = 1 if left_out and "without" not in warnings[0] and "SR" not in warnings[0] else 0
    np.testing.assert_array_equal(volume.array, hu[:, :, first : first + 12 - left_out])


REFUSED = [
    ({"positions": gaps((6, 3.0))}, "1 slices missing (a gap of 6.0 mm where 3.0 mm is usual)"),
    ({"positions": gaps((3, 6.0), (9, 3.0))}, "3 slices missing (a gap of 9.0 mm where 3.0 mm is usual)"),
    ({"positions": gaps((6, 1.0))}, "uneven slices, 3.00 to 4.00 mm apart, 0.45 mm off an even grid"),
    ({"positions": gaps((11, 40.0))}, "uneven slices, 3.00 to 43.00 mm apart"),
    ({"positions": gaps((6, 4.0), along=0)}, "uneven slices, 3.00 to 3.00 mm apart"),
    ({"positions": gaps((6, -3.0))}, "1 of 12 slices lie at the position of another (copies, or several phases)"),
    ({"positions": np.repeat(gaps(n=6), 2, axis=0)}, "6 of 12 slices lie at the position of another"),
    ({"change": of_slice(3, Rows=9, PixelData=bytes(360))}, "slices of different size (11 of 20x18, 1 of 20x9)"),
    ({"change": of_slice(3, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])}, "1 of 12 slices have another orientation"),
    ({"change": of_slice(3, PixelSpacing=[0.4, 0.4])}, "1 of 12 slices have another pixel spacing"),
    ({"ImageOrientationPatient": [1, 0, 0, 0.6, 0.8, 0]}, "image axes are not perpendicular unit vectors"),
    ({"Modality": "MR"}, "no CT slices in this folder (12 x modality MR)"),
    ({"Modality": "PT", "change": of_slice(0, Modality="CT", ImageType="LOCALIZER")}, "(1 x localizer, 11 x modality"),
    ({"NumberOfFrames": 4}, "(12 x multi-frame, which is not supported)"),
    ({"SamplesPerPixel": 3}, "(12 x color picture)"),
    ({"ImageOrientationPatient": ""}, "(12 x without ImageOrientationPatient)"),
    ({"PixelSpacing": None}, "(12 x without PixelSpacing)"),
    (
        {"change": lambda k, item: setattr(item, "SeriesNumber", 2 + k // 6)},
        "2 CT series in one folder (number 2 with 6 slices, number 3 with 6 slices)",
    ),
    (
        {"change": lambda k, item: setattr(item, "SeriesInstanceUID", f"1.{k // 2}")},
        "6 CT series in one folder (number 3 with 2 slices, ",
    ),
    ({"change": of_slice(3, PixelData=bytes(100))}, "1 of 12 files are damaged or no DICOM"),
    ({"Modality": ""}, "12 of 12 files are damaged or no DICOM"),
]


@pytest.mark.parametrize(("options", "found"), REFUSED, ids=[found[:50] for _, found in REFUSED])
def test_a_series_that_is_no_even_stack_of_ct_is_refused(
    options: dict[str, Any], found: str, tmp_path: Path, hu: np.ndarray, write_series: WriteSeries
) -> None:
    with pytest.raises(CaseError) as refusal:
        read_dicom_series(write_series(tmp_path / "scan", hu, **options))
    message = str(refusal.value)
    assert message.startswith("scan: ")
    assert found in message
    assert message.endswith("; expected one series of evenly spaced CT slices of one size and orientation")
    assert not any(secret in message for secret in (str(tmp_path), "Secret", "SECRET", "2020", "\n"))


def test_one_slice_is_refused(tmp_path: Path, hu: np.ndarray, write_series: WriteSeries) -> None:
    with pytest.raises(CaseError, match=r"^scan: one slice; expected"):
        read_dicom_series(write_series(tmp_path / "scan", hu[:, :, :1]))


def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path, hu: np.ndarray, write_series: WriteSeries) -> None:
    folder = write_series(tmp_path / "scan", hu)
    (folder / "005.dcm").write_bytes(b"no DICOM at all" * 20)
    with pytest.raises(CaseError, match=r"^scan: 1 of 12 files are damaged or no DICOM; expected"):
        read_dicom_series(folder)


@pytest.mark.parametrize("keep", [0.9, 0.3, 0.05], ids=["in pixels", "in header", "in preamble"])
def test_a_cut_file_is_refused(keep: float, tmp_path: Path, hu: np.ndarray, write_series: WriteSeries) -> None:
    folder = write_series(tmp_path / "scan", hu)
    content = (folder / "011.dcm").read_bytes()
    (folder / "011.dcm").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CaseError, match=r"^scan: 1 of 12 files are damaged or no DICOM; expected one series"):
        read_dicom_series(folder)


@pytest.mark.data
def test_a_cut_compressed_file_is_refused(tmp_path: Path, data_root: Path) -> None:
    for file in sorted((data_root / "pancreas_ct" / "volumes" / "abdomen_ct_dicom_series").iterdir()):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / file.name).write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(CaseError, match=r"the pixels of slice \d+ of 20 cannot be decoded \(damaged or cut file\)"):
        read_dicom_series(tmp_path)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(CaseError, match="no DICOM files in this folder"):
        read_dicom_series(tmp_path)


def test_other_files_and_hidden_ones_do_not_disturb(tmp_path: Path, hu: np.ndarray, write_series: WriteSeries) -> None:
    folder = write_series(tmp_path / "s", hu)
    (folder / "notes.txt").write_text("hello")
    (folder / "._000.dcm").write_bytes(b"\0\5\x16\7")
    (folder / "sub").mkdir()
    volume = read_dicom_series(folder)
    assert volume.array.shape == (20, 18, 12)
    assert volume.warnings == []


def test_the_patient_is_never_read(
    tmp_path: Path, hu: np.ndarray, write_series: WriteSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Dataset] = []
    dcmread = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **kwargs: seen.append(dcmread(*args, **kwargs)) or seen[-1])
    read_dicom_series(write_series(tmp_path / "s", hu))
    assert len(seen) == 12
    assert not any("PatientName" in item or "StudyDate" in item for item in seen)


@pytest.mark.data
def test_a_real_compressed_series_lies_on_the_grid_of_its_label(data_root: Path) -> None:
    volumes = data_root / "pancreas_ct" / "volumes"
    volume = read_dicom_series(volumes / "abdomen_ct_dicom_series")
    label = nibabel.load(volumes / "abdomen_ct_dicom_series_machine_label.nii.gz")
    flips = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(volume.affine), nibabel.io_orientation(label.affine)
    )
    affine = volume.affine @ nibabel.orientations.inv_ornt_aff(flips, volume.array.shape)
    assert nibabel.orientations.apply_orientation(volume.array, flips).shape == label.shape
    np.testing.assert_allclose(affine, label.affine, atol=1e-3)
    assert volume.warnings == []
    assert volume.array.min() == -1024
    # The labelled organ is soft tissue: a wrong flip would put it into air, fat or bone.
    inside = nibabel.orientations.apply_orientation(volume.array, flips)[np.asarray(label.dataobj) > 0]
    assert 0 < np.median(inside) < 150
