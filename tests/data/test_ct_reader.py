"""The reader: what MONAI's readers give where those are right, one line where the file is wrong."""

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, NibabelReader
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImage,
    LoadImaged,
    Orientationd,
    Spacingd,
)

from ag_networks.data import CaseError, CTReader

WriteSeries = Callable[..., Path]
EXPECTED = "; expected a 3D NIfTI image (.nii, .nii.gz) or a folder of CT slices in DICOM"
AFFINE = np.array([[-0.8, 0, 0, 7], [0, 0.9, 0, -8], [0, 0, 3, 30], [0, 0, 0, 1]])


def rotation(degrees: float) -> np.ndarray:
    """Return a rotation about x."""
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    reader = CTReader()
    return reader.get_data(reader.read(path))


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = AFFINE, **header: Any) -> Path:
    image = nibabel.Nifti1Image(array, affine)
    for field, value in header.items():
        image.header[field] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "uint16", "int32", "float32", "float64", ">i2"])
@pytest.mark.parametrize("scaling", [None, (1.0, -1024.0), (0.5, 3.25)], ids=["unscaled", "intercept", "slope"])
def test_values_and_affine_equal_those_of_nibabel_reader(
    name: str, dtype: str, scaling: tuple[float, float] | None, tmp_path: Path, hu: np.ndarray
) -> None:
    header = nibabel.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    image = nibabel.Nifti1Image(np.abs(hu).astype(dtype), rotation(2) @ AFFINE, header)
    image.set_data_dtype(dtype)
    if scaling:
        image.header.set_slope_inter(*scaling)
    nibabel.save(image, tmp_path / name)
    array, meta = read(tmp_path / name)
    reader = NibabelReader()
    expected, expected_meta = reader.get_data(reader.read(tmp_path / name))
    np.testing.assert_allclose(array, expected, atol=1e-3)
    np.testing.assert_array_equal(meta["affine"], expected_meta["affine"])
    assert array.dtype == np.float32
    assert array.flags.c_contiguous
    assert meta["ct_warnings"] == ""


def test_nifti_2_is_read(tmp_path: Path, hu: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti2Image(hu, AFFINE), tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(read(tmp_path / "two.nii.gz")[0], hu)


def test_nothing_of_the_header_but_the_grid_is_kept(tmp_path: Path, hu: np.ndarray, write_series: WriteSeries) -> None:
    save(tmp_path / "a.nii", hu, descrip=b"Secret^Name", intent_name=b"SECRET1", aux_file=b"20200102")
    for path in (tmp_path / "a.nii", write_series(tmp_path / "series", hu)):
        meta = read(path)[1]
        assert set(meta) == {
            "affine",
            "original_affine",
            "spatial_shape",
            "original_channel_dim",
            "space",
            "ct_warnings",
        }


def test_a_nifti_file_and_the_same_series_are_one_case_of_a_loader(
    tmp_path: Path, hu: np.ndarray, write_series: WriteSeries
) -> None:
    series = write_series(tmp_path / "series", hu)
    save(
        tmp_path / "a.nii.gz",
        hu[:, ::-1],
        read(series)[1]["affine"] @ [[1, 0, 0, 0], [0, -1, 0, 17], [0, 0, 1, 0], [0, 0, 0, 1]],
    )
    to_ras = Orientationd(["image"], axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))
    load = Compose([LoadImaged(["image"], reader="ag_networks.data.CTReader"), EnsureChannelFirstd(["image"]), to_ras])
    cases = [{"image": str(path)} for path in (tmp_path / "a.nii.gz", series)]
    (batch,) = DataLoader(Dataset(cases, load), batch_size=2)
    assert batch["image"].shape == (2, 1, 20, 18, 12)
    assert torch.equal(batch["image"][0], batch["image"][1])
    assert torch.allclose(batch["image"].affine[0], batch["image"].affine[1], atol=1e-5)
    assert batch["image"].meta["ct_warnings"] == ["", ""]


def test_left_and_right_stay_where_they_are(tmp_path: Path, hu: np.ndarray) -> None:
    right_to_left = hu[::-1]
    affine = AFFINE @ np.array([[-1, 0, 0, 19], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    paths = [save(tmp_path / "stored.nii", hu), save(tmp_path / "flipped.nii", right_to_left, affine)]
    load = Compose(
        [
            LoadImaged("image", reader="ag_networks.data.CTReader", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        ]
    )
    one, two = (load({"image": path})["image"] for path in paths)
    assert torch.equal(one, two)
    assert torch.allclose(one.affine, two.affine)
    assert torch.equal(one[0], torch.from_numpy(right_to_left.astype("float32")))


BAD_FILES: list[tuple[str, bytes | np.ndarray, str]] = [
    ("empty.nii.gz", b"", "the file is empty"),
    ("empty.nii", b"", "the file is empty"),
    ("text.nii.gz", b"Patient: Secret Name\n" * 40, "not gzip data but text"),
    ("text.nii", b"Patient: Secret Name\n" * 40, "no NIfTI header in the file"),
    ("binary.nii.gz", bytes(range(256)) * 3, "not gzip data"),
    ("zipped_text.nii.gz", gzip.compress(b"hello world " * 200), "no NIfTI header in the file"),
    ("zeros.nii", bytes(2000), "no NIfTI header in the file"),
    ("scan.nrrd", b"NRRD0004", "not a NIfTI file"),
    ("plane.nii.gz", np.ones((20, 18), "int16"), "2D image of shape 20x18"),
    ("slice.nii.gz", np.ones((20, 18, 1), "int16"), "one slice (shape 20x18x1)"),
    ("sagittal.nii.gz", np.ones((1, 20, 18), "int16"), "one slice (shape 1x20x18)"),
    ("phases.nii.gz", np.ones((20, 18, 12, 3), "int16"), "4D image of shape 20x18x12x3"),
    ("vectors.nii.gz", np.ones((20, 18, 12, 1, 3), "float32"), "5D image of shape 20x18x12x1x3"),
    ("complex.nii.gz", np.ones((20, 18, 12), "complex64"), "values of type 32 (complex or color)"),
    (
        "color.nii.gz",
        np.zeros((20, 18, 12), [("R", "u1"), ("G", "u1"), ("B", "u1")]),
        "values of type 128 (complex or color)",
    ),
]


@pytest.mark.parametrize(("name", "content", "found"), BAD_FILES, ids=[name for name, _, _ in BAD_FILES])
def test_a_bad_file_is_refused_in_one_line(name: str, content: bytes | np.ndarray, found: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save(path, content)
    with pytest.raises(CaseError) as refusal:
        read(path)
    assert str(refusal.value) == f"{name}: {found}{EXPECTED}"


@pytest.mark.parametrize("name", ["cut.nii.gz", "cut.nii"])
@pytest.mark.parametrize("keep", [0.9, 0.5, 0.01])
def test_a_cut_file_is_refused(name: str, keep: float, tmp_path: Path, hu: np.ndarray) -> None:
    content = save(tmp_path / name, hu).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CaseError) as refusal:
        read(tmp_path / name)
    assert str(refusal.value).startswith(f"{name}: ")
    assert "the file is cut short or damaged" in str(refusal.value) or keep == 0.01


def test_a_damaged_gzip_is_refused(tmp_path: Path, hu: np.ndarray) -> None:
    content = bytearray(save(tmp_path / "x.nii.gz", hu).read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    (tmp_path / "x.nii.gz").write_bytes(content)
    with pytest.raises(CaseError, match=r"^x\.nii\.gz: the file is cut short or damaged; expected"):
        read(tmp_path / "x.nii.gz")


@pytest.mark.parametrize(
    ("sform", "message"),
    [
        (np.zeros((4, 4)), "the affine is zero, singular or not a number"),
        (np.full((4, 4), np.nan), "the affine is zero, singular or not a number"),
        (
            np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "the affine is zero, singular or not a number",
        ),
        (np.diag([8e-4, 8e-4, 1e-3, 1]), "voxels of 0.0008 x 0.0008 x 0.001 mm (are the units millimetres?)"),
        (np.diag([800.0, 800, 1000, 1]), "voxels of 800 x 800 x 1e+03 mm (are the units millimetres?)"),
    ],
    ids=["zero", "nan", "singular", "meters", "microns"],
)
def test_a_grid_without_sense_is_refused(sform: np.ndarray, message: str, tmp_path: Path, hu: np.ndarray) -> None:
    image = nibabel.Nifti1Image(hu, None)
    for row, field in zip(sform, ("srow_x", "srow_y", "srow_z"), strict=False):
        image.header[field] = row
    image.header["sform_code"] = 1
    (tmp_path / "x.nii").write_bytes(image.header.binaryblock + bytes(4) + hu.tobytes(order="F"))
    with pytest.raises(CaseError) as refusal:
        read(tmp_path / "x.nii")
    assert str(refusal.value) == f"x.nii: {message}" + EXPECTED


def test_a_zero_sform_beside_a_good_qform_is_replaced(tmp_path: Path, hu: np.ndarray) -> None:
    image = nibabel.Nifti1Image(hu, AFFINE)
    image.set_qform(AFFINE, code=1)
    for field in ("srow_x", "srow_y", "srow_z"):
        image.header[field] = 0
    (tmp_path / "x.nii").write_bytes(image.header.binaryblock + bytes(4) + hu.tobytes(order="F"))
    _, meta = read(tmp_path / "x.nii")
    np.testing.assert_allclose(meta["affine"], AFFINE, atol=1e-5)
    assert meta["ct_warnings"] == "the sform is zero or singular: the qform is used"


def test_a_voxel_size_that_differs_from_the_sform_is_warned_of(tmp_path: Path, hu: np.ndarray) -> None:
    save(tmp_path / "x.nii", hu, rotation(90) @ AFFINE, pixdim=[1, 1, 1, 1, 1, 1, 1, 1])
    _, meta = read(tmp_path / "x.nii")
    np.testing.assert_allclose(meta["affine"], rotation(90) @ AFFINE, atol=1e-5)
    assert meta["ct_warnings"] == "voxel size and affine of the header differ: the affine is used"


UNUSUAL = [
    (np.diag([1.0, 1, 10, 1]), (20, 18, 12), "slices are 10.0 mm apart"),
    (np.diag([1.0, 1, 5, 1]), (20, 18, 12), ""),
    (np.eye(4), (20, 18, 7), "only 7 slices"),
    (rotation(4) @ AFFINE, (20, 18, 12), ""),
    (rotation(12) @ AFFINE, (20, 18, 12), "the grid is oblique by 12.0 degrees"),
    (np.array([[1, 0, 0, 0], [0, 1, 0.5, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), (20, 18, 12), "sheared by 26.6 degrees"),
    (np.diag([1.0, 1, 6, 1]), (20, 18, 2, 1), "squeezed a 4D image of shape 20x18x2x1; only 2 slices; slices are 6.0"),
]


@pytest.mark.parametrize(
    ("affine", "shape", "warning"), UNUSUAL, ids=[f"{w[:30]}{k}" for k, (_, _, w) in enumerate(UNUSUAL)]
)
def test_an_unusual_grid_is_read_with_a_warning(
    affine: np.ndarray, shape: tuple[int, ...], warning: str, tmp_path: Path
) -> None:
    array, meta = read(save(tmp_path / "x.nii.gz", np.ones(shape, "int16"), affine))
    assert array.shape == tuple(meta["spatial_shape"]) == shape[:3]
    assert warning in meta["ct_warnings"]
    assert bool(warning) == bool(meta["ct_warnings"])


def test_a_header_without_orientation_is_read_with_a_warning(tmp_path: Path, hu: np.ndarray) -> None:
    _, meta = read(save(tmp_path / "x.nii", hu, None))
    assert meta["ct_warnings"].startswith("no orientation in the header (sform and qform codes are 0)")


def test_no_other_reader_takes_over_what_this_one_refuses(
    tmp_path: Path, hu: np.ndarray, write_series: WriteSeries
) -> None:
    """MONAI's ITKReader would return the first of two series without a word."""
    write_series(tmp_path / "two", hu)
    write_series(tmp_path / "two", hu, name="other{k}.dcm")
    with pytest.raises(CaseError, match="2 CT series in one folder"):
        LoadImage(reader="ag_networks.data.CTReader")(tmp_path / "two")
    with pytest.raises(CaseError, match="2 files for one image"):
        LoadImage(reader="ag_networks.data.CTReader")([tmp_path / "a.nii", tmp_path / "b.nii"])


def test_a_missing_file_is_refused_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(CaseError) as refusal:
        LoadImage(reader="ag_networks.data.CTReader")(tmp_path / "absent.nii.gz")
    assert str(refusal.value) == "absent.nii.gz: no such file" + EXPECTED


def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, hu: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gzip, "open", refuse)  # the superuser, who may run the tests, may read everything
    with pytest.raises(CaseError, match=r"^x\.nii\.gz: no permission to read the file; expected"):
        read(save(tmp_path / "x.nii", hu).rename(tmp_path / "x.nii.gz"))


def test_the_reader_can_be_pickled_and_chosen_by_name(tmp_path: Path) -> None:
    reader = pickle.loads(pickle.dumps(CTReader()))
    assert reader.verify_suffix(tmp_path)
    assert reader.verify_suffix(["a.nii", "b.NII.GZ"])
    assert not reader.verify_suffix("a.nrrd")


def field(points: np.ndarray) -> np.ndarray:
    """Return a smooth function of the position in mm."""
    x, y, z = points[:3]
    return 300 * np.sin(x / 15) + 200 * np.cos(y / 12) + 100 * np.sin(z / 14)


def grid(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the positions of the voxels in mm, as homogeneous coordinates by voxels."""
    index = np.indices(shape).reshape(3, -1)
    return affine @ np.vstack([index, np.ones(index.shape[1])])


GRIDS = {
    "oblique": rotation(20) @ AFFINE,
    "flipped": AFFINE,
    "tilted gantry": AFFINE @ np.array([[1, 0, 0, 0], [0, 1, 0.9, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("affine", GRIDS.values(), ids=GRIDS)
def test_resampling_honors_the_whole_affine_there_and_back(affine: np.ndarray, tmp_path: Path) -> None:
    """So oblique and sheared grids need no refusal: each voxel gets the value of its place in the patient."""
    shape = (40, 36, 16)
    path = save(tmp_path / "x.nii", field(grid(affine, shape)).reshape(shape).astype("float32"), affine)
    load = LoadImaged("image", reader="ag_networks.data.CTReader", ensure_channel_first=True)
    resample = Compose(
        [
            Orientationd("image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd("image", pixdim=(1.0, 1.0, 2.0), mode="bilinear", padding_mode="zeros"),
        ]
    )
    loaded = load({"image": path})
    done = resample(dict(loaded))
    image = done["image"]
    expected = field(grid(image.affine.numpy(), image.shape[1:])).reshape(image.shape[1:])
    # Where the scan covers the new grid with a margin of two voxels:
    index = np.linalg.inv(affine) @ grid(image.affine.numpy(), image.shape[1:])
    inside = ((index[:3].T > 2) & (np.array(shape) - 3 > index[:3].T)).all(axis=1).reshape(image.shape[1:])
    assert inside.mean() > 0.25
    assert np.abs(image[0].numpy() - expected)[inside].max() < 15  # of a range of 1200, for linear interpolation
    done["back"] = MetaTensor(image.clone(), meta=image.meta)
    back = Invertd("back", resample, orig_keys="image", nearest_interp=False)(done)["back"]
    assert back.shape == loaded["image"].shape
    np.testing.assert_allclose(back.affine, affine, atol=1e-4)
    error = np.abs(back[0].numpy() - loaded["image"][0].numpy())[8:-8, 8:-8, 4:-4]
    assert np.median(error) < 10


@pytest.mark.data
@pytest.mark.parametrize("name", ["PANCREAS_0006_block_image", "s0009_image", "s0009_label"])
def test_real_files_equal_those_of_nibabel_reader(name: str, data_root: Path) -> None:
    path = data_root / "pancreas_ct" / "volumes" / f"{name}.nii.gz"
    array, meta = read(path)
    reader = NibabelReader()
    expected, expected_meta = reader.get_data(reader.read(path))
    np.testing.assert_array_equal(array, expected.astype("float32"))
    np.testing.assert_array_equal(meta["affine"], expected_meta["affine"])
