"""The picture of a case: right side left, the right slices, the right values, and one line for what cannot be drawn."""

import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ag_networks.visualize import figure, save_case_figure
from ag_networks.visualize.sheet import Sheet, cut, pixel_mm, widest_slice

pytestmark = pytest.mark.usefixtures("_coarse_pictures")

SHAPE = (20, 16, 12)
AFFINE = np.diag([1.0, 2.0, 4.0, 1.0])


@pytest.fixture
def volumes() -> dict[str, nib.Nifti1Image]:
    """Return a CT with a prediction and a reference, in RAS order."""
    ct = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)
    prediction, reference = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    prediction[4:9, 5:9, 3:6] = 1
    reference[5:9, 5:9, 3:7] = 2
    arrays = {"image": ct, "prediction": prediction, "reference": reference}
    return {name: nib.Nifti1Image(array, AFFINE) for name, array in arrays.items()}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what is drawn: the page, and the values and limits of the heat maps."""
    record: dict[str, Any] = {"heat": []}
    save, heat = Sheet.save, Sheet.heat

    def save_and_keep(sheet: Sheet, path: Path) -> None:
        record["sheet"] = sheet
        save(sheet, path)

    def heat_and_keep(sheet: Sheet, axes: Any, values: np.ndarray, *arguments: Any, **options: Any) -> Any:
        record["heat"].append((values, options["limits"]))
        return heat(sheet, axes, values, *arguments, **options)

    monkeypatch.setattr(Sheet, "save", save_and_keep)
    monkeypatch.setattr(Sheet, "heat", heat_and_keep)
    return record


def reoriented(volume: nib.Nifti1Image, axcodes: str) -> nib.Nifti1Image:
    """Store a volume with other axes, at the same place."""
    target = nib.orientations.axcodes2ornt(axcodes)
    return volume.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(volume.affine), target))


def texts(sheet: Sheet) -> list[str]:
    """Return all that is written on a page outside its panels."""
    return [text.get_text() for text in sheet.figure.texts]


@pytest.mark.parametrize(
    ("plane", "top_left"),
    [("axial", (19, 15, 4)), ("coronal", (19, 5, 11)), ("sagittal", (6, 15, 11))],
    ids=["axial: right, front", "coronal: right, head", "sagittal: front, head"],
)
def test_a_slice_lies_as_radiologists_look_at_it(plane: str, top_left: tuple[int, int, int]) -> None:
    volume = np.zeros(SHAPE)
    volume[top_left] = 1
    index = {"axial": 4, "coronal": 5, "sagittal": 6}[plane]
    shown = cut(volume, plane, index)
    assert np.argwhere(shown).tolist() == [[0, 0]]
    width, height = pixel_mm((1, 2, 4), plane)
    assert shown.shape[1] * width in (20, 32)
    assert shown.shape[0] * height in (32, 48)


def test_a_millimeter_is_as_long_in_every_panel() -> None:
    sheet = Sheet([20, 20], [32, 48], inches=2, title="", note="")
    for row, plane in enumerate(["axial", "coronal"]):
        axes = sheet.panel(row, 0, cut(np.zeros(SHAPE), plane, 0), pixel_mm((1, 2, 4), plane), window=(0, 1))
        box = axes.get_position()
        inches = box.width * sheet.width, box.height * sheet.height
        millimeters = abs(np.diff(axes.get_xlim())[0]), abs(np.diff(axes.get_ylim())[0])
        assert np.allclose(np.divide(inches, millimeters), 0.1)


@pytest.mark.parametrize("axcodes", ["LPS", "PIR"])
def test_the_picture_does_not_depend_on_how_volumes_are_stored(
    axcodes: str, volumes: dict[str, nib.Nifti1Image], tmp_path: Path
) -> None:
    gate = nib.Nifti1Image(np.random.default_rng(1).random(SHAPE, np.float32), AFFINE)
    save_case_figure(tmp_path / "a.png", **volumes, attention={"level1_1": gate}, title="case")
    stored = {name: reoriented(volume, axcodes) for name, volume in volumes.items()}
    save_case_figure(tmp_path / "b.png", **stored, attention={"level1_1": reoriented(gate, axcodes)}, title="case")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_level_is_the_mean_of_its_gates(
    volumes: dict[str, nib.Nifti1Image], drawn: dict[str, Any], tmp_path: Path
) -> None:
    maps = np.random.default_rng(1).random((3, *SHAPE), np.float32)
    names = ["level2_1", "level2_2", "level1_1"]
    attention = {name: nib.Nifti1Image(values, AFFINE) for name, values in zip(names, maps, strict=True)}
    save_case_figure(tmp_path / "a.png", **volumes, attention=attention, title="case 7")
    # the reference is as wide in the slices 3 to 6: the first is shown
    expected = [cut(values, "axial", 3) for values in (maps[:2].mean(axis=0), maps[2])]
    for (values, limits), level in zip(drawn["heat"][:2], expected, strict=True):
        assert np.allclose(values, level)
        assert limits[0] <= level.min() < level.max() <= limits[1]
    written = texts(drawn["sheet"])
    assert {"case 7", "CT, -160 to 240 HU", "attention, level 2", "attention, level 1"} <= set(written)
    assert {"axial, slice 4 of 12", "coronal, slice 6 of 16"} <= set(written)
    assert any("patient's right is on the left" in text for text in written)
    assert [text.get_text() for text in drawn["sheet"].figure.legends[0].get_texts()] == ["reference", "prediction"]


def test_an_empty_prediction_says_so(
    volumes: dict[str, nib.Nifti1Image], drawn: dict[str, Any], tmp_path: Path
) -> None:
    empty = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE)
    save_case_figure(tmp_path / "a.png", image=volumes["image"], prediction=empty)
    assert [text.get_text() for text in drawn["sheet"].figure.legends[0].get_texts()] == ["prediction (empty)"]
    assert "axial, slice 7 of 12" in texts(drawn["sheet"])
    assert not any("Heat" in text for text in texts(drawn["sheet"]))


@pytest.mark.parametrize(
    ("low", "high", "heading"),
    [(-1000, 1000, "CT, -160 to 240 HU"), (0, 255, "CT, 0 to 240 HU"), (-5, 90, "CT, -5 to 90 HU")],
    ids=["whole range", "clipped file", "narrow"],
)
def test_the_window_is_within_the_range_of_the_data(
    low: int, high: int, heading: str, volumes: dict[str, nib.Nifti1Image], drawn: dict[str, Any], tmp_path: Path
) -> None:
    ct = np.linspace(low, high, int(np.prod(SHAPE))).reshape(SHAPE).astype(np.int16)
    volumes["image"] = nib.Nifti1Image(ct, AFFINE)
    save_case_figure(tmp_path / "a.png", **volumes)
    assert heading in texts(drawn["sheet"])


def test_the_slice_is_the_widest_one_of_the_first_mask_that_has_any() -> None:
    empty, small, large = (np.zeros(SHAPE, bool) for _ in range(3))
    small[2, 3, 4] = True
    large[:, :, 9] = large[1, 1, 3] = True
    assert widest_slice("axial", SHAPE, empty, large, small) == 9
    assert widest_slice("coronal", SHAPE, small, large) == 3
    assert widest_slice("sagittal", SHAPE, empty) == 10


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "prediction",
            np.zeros((20, 16, 11), np.uint8),
            r"the prediction \(20x16x11 voxels\) does not lie on the grid",
        ),
        ("reference", np.zeros((12, 20, 16), np.uint8), r"the reference \(12x20x16 voxels\) does not lie on the grid"),
        ("image", np.zeros((20, 16, 12, 2), np.int16), r"the image has shape \(20, 16, 12, 2\), expected a 3D volume"),
        ("attention", np.zeros((4, 4, 4), np.float32), r"the attention map level1_1 \(4x4x4 voxels\) does not lie"),
    ],
    ids=["slice missing", "axes swapped", "4D", "coarse map"],
)
def test_what_does_not_fit_is_refused(
    name: str, array: np.ndarray, message: str, volumes: dict[str, nib.Nifti1Image], tmp_path: Path
) -> None:
    bad = nib.Nifti1Image(array, AFFINE)
    arguments: dict[str, Any] = {**volumes, name: {"level1_1": bad} if name == "attention" else bad}
    with pytest.raises(ValueError, match=message):
        save_case_figure(tmp_path / "a.png", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_shifted_mask_is_refused(volumes: dict[str, nib.Nifti1Image], tmp_path: Path) -> None:
    shifted = AFFINE.copy()
    shifted[0, 3] = 1.0
    volumes["prediction"] = nib.Nifti1Image(np.asarray(volumes["prediction"].dataobj), shifted)
    with pytest.raises(ValueError, match="does not lie on the grid of the image"):
        save_case_figure(tmp_path / "a.png", **volumes)


def test_without_matplotlib_the_error_says_what_to_install(
    volumes: dict[str, nib.Nifti1Image], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "ag-networks\[plot\]"'):
        save_case_figure(tmp_path / "a.png", **volumes)


def test_a_full_disk_leaves_the_old_picture(
    volumes: dict[str, nib.Nifti1Image], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from matplotlib.figure import Figure

    def half_written(_figure: Figure, path: Path, **_options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "a.png").write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", half_written)
    with pytest.raises(OSError, match="disk full"):
        save_case_figure(tmp_path / "a.png", **volumes)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_constant_map_and_a_mask_without_background_are_drawn(
    volumes: dict[str, nib.Nifti1Image], drawn: dict[str, Any], tmp_path: Path
) -> None:
    full = nib.Nifti1Image(np.ones(SHAPE, np.uint8), AFFINE)
    flat = nib.Nifti1Image(np.full(SHAPE, 0.5, np.float32), AFFINE)
    save_case_figure(tmp_path / "a.png", image=volumes["image"], prediction=full, attention={"level1": flat})
    assert drawn["heat"][0][1] == pytest.approx((0.5, 0.55))
    assert figure.HU_WINDOW == (-160, 240)
