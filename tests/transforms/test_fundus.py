"""The field and the disc are found on drawn photographs, and on real ones."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImage, Resized
from PIL import Image, ImageDraw
from scipy import ndimage

from ag_networks.transforms import FlipRightEye, FlipRightEyed, FundusCrop, FundusCropd, find_field, find_optic_disc

SHAPE = (300, 450)
RADIUS = 175


def photograph(
    disc: tuple[int, int] | None = (140, 115),
    *,
    shape: tuple[int, int] = SHAPE,
    radius: int = RADIUS,
    vessels: bool = True,
    light: float = 1.0,
) -> np.ndarray:
    """A field on black, with a fovea in its middle and a disc that vessels leave; (3, H, W), float32."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    rows -= shape[0] / 2
    columns -= shape[1] / 2
    field = np.hypot(rows, columns) < radius
    picture = np.array([170.0, 90.0, 35.0])[:, None, None] * (1.0 - 0.3 * np.hypot(rows, columns) / radius)
    picture *= 1 - 0.3 * np.exp(-(rows**2 + columns**2) / (2 * (0.08 * radius) ** 2))
    if disc is not None:
        row, column = disc[0] - shape[0] / 2, disc[1] - shape[1] / 2
        away = np.hypot(rows - row, columns - column)
        picture += np.array([60.0, 70.0, 40.0])[:, None, None] * (away < 0.115 * radius)
        for side in (-1, 1) if vessels else ():
            arc = row + side * 0.9 * np.sqrt(np.abs(columns - column) * radius)
            picture *= 1 - 0.4 * np.exp(-(((rows - arc) / (0.02 * radius)) ** 2))
    picture += np.random.default_rng(0).normal(0, 2, picture.shape)
    return (np.clip(picture * light, 0, 255) * field + 4).astype(np.float32)


def expected_box(shape: tuple[int, int] = SHAPE, radius: int = RADIUS) -> tuple[int, int, int, int]:
    top, left = (max(0, n // 2 - radius) for n in shape)
    return top, left, shape[0] - top, shape[1] - left


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.float32).transpose(2, 0, 1)


def with_marks(picture: np.ndarray) -> np.ndarray:
    """A caption in the black, and a mark at the edge of the field."""
    image = Image.fromarray(picture.transpose(1, 2, 0).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.text((2, 2), "OD 50\n2009", fill=(255, 255, 255), font_size=11)
    draw.rectangle((398, 90, 407, 96), fill=(160, 90, 30))
    return np.asarray(image, dtype=np.float32).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (photograph(), expected_box()),
        (photograph(light=0.25), expected_box()),
        (compressed(photograph(), 40), expected_box()),
        (photograph(radius=120), expected_box(radius=120)),
        (photograph(shape=(500, 500)), expected_box((500, 500))),
        (with_marks(photograph()), expected_box()),
        (ndimage.gaussian_filter(photograph(), (0, 3, 3)), expected_box()),
        (photograph().mean(axis=0, keepdims=True), expected_box()),
        (np.clip(photograph() + np.random.default_rng(1).normal(0, 4, (3, *SHAPE)), 0, 255), expected_box()),
    ],
    ids=["cut", "dark", "jpeg", "round", "square", "marks", "blurred", "grey", "noise"],
)
def test_the_field_is_found(picture: np.ndarray, expected: tuple[int, ...]) -> None:
    assert np.abs(np.subtract(find_field(picture), expected)).max() <= 6


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_the_field_does_not_depend_on_the_size(scale: float) -> None:
    picture = ndimage.zoom(photograph(), (1, scale, scale), order=1)
    assert np.abs(np.divide(find_field(picture), scale) - expected_box()).max() <= 6


@pytest.mark.parametrize(
    "picture",
    [
        photograph()[:, 60:-60, 120:-120],
        np.zeros((3, *SHAPE), np.float32),
        np.full((3, *SHAPE), 90, np.float32),
        photograph()[:, :40, :40],
    ],
    ids=["within the field", "black", "one color", "a corner"],
)
def test_a_picture_without_a_field_stays_whole(picture: np.ndarray) -> None:
    tensor = torch.from_numpy(np.ascontiguousarray(picture))
    result = FundusCrop()(tensor)
    assert result.meta["fundus_box"] == [0, 0, *picture.shape[1:]]
    assert torch.equal(result.as_tensor(), tensor)


def test_a_cropped_picture_is_not_cropped_again() -> None:
    once = FundusCrop()(torch.from_numpy(photograph()))
    assert np.abs(np.subtract(find_field(once.numpy()), (0, 0, *once.shape[1:]))).max() <= 3


def test_an_aspect_cuts_round_fields_above_and_below() -> None:
    crop = FundusCrop(aspect=0.8)(torch.from_numpy(photograph(shape=(500, 500))))
    assert crop.shape[1] == round(0.8 * crop.shape[2])
    top, _, bottom, _ = crop.meta["fundus_box"]
    assert abs(top + bottom - 500) <= 6
    already = FundusCrop(aspect=1.0)(torch.from_numpy(photograph()))
    assert already.shape[1] == SHAPE[0]


def test_the_columns_of_the_paper_are_restored() -> None:
    crop = FundusCrop(columns=(260 / 4288, 3686 / 4288))(torch.zeros(3, 2848, 4288))
    assert crop.shape == (3, 2848, 3426)
    assert crop.meta["fundus_box"] == [0, 260, 2848, 3686]


@pytest.mark.parametrize("light", [1.0, 0.3])
@pytest.mark.parametrize("vessels", [True, False], ids=["vessels", "no vessels"])
@pytest.mark.parametrize("column", [115, 335])
@pytest.mark.parametrize("row", [110, 150, 190])
def test_the_disc_is_found(row: int, column: int, vessels: bool, light: float) -> None:
    disc = find_optic_disc(photograph((row, column), vessels=vessels, light=light))
    assert (disc.row, disc.column) == pytest.approx((row, column), abs=10)
    assert disc.side == ("left" if column < SHAPE[1] / 2 else "right")
    assert disc.confidence > 0.9


def test_a_spot_of_the_disc_s_size_that_is_bright_in_green_only_is_no_disc() -> None:
    picture = photograph((150, 115))
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    picture[1] += 70 * (np.hypot(rows - 130, columns - 330) < 20)
    assert find_optic_disc(picture).side == "left"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("column", [115, 335])
def test_all_discs_come_to_one_side(column: int, side: str) -> None:
    picture = torch.from_numpy(photograph((140, column)))
    result = FlipRightEye(disc_side=side)(picture)
    flipped = (column < SHAPE[1] / 2) != (side == "left")
    assert result.meta["flipped"] is flipped
    assert result.meta.get("picture_warnings", "") == ""
    assert torch.equal(result.as_tensor(), picture.flip(2) if flipped else picture)
    assert find_optic_disc(result.numpy()).side == side


def test_without_a_disc_the_picture_stays_and_a_warning_follows_the_earlier_ones() -> None:
    picture = MetaTensor(torch.from_numpy(photograph(None)), meta={"picture_warnings": "small picture"})
    result = FlipRightEye()(picture)
    assert torch.equal(result.as_tensor(), picture.as_tensor())
    assert result.meta["flipped"] is False
    assert result.meta["picture_warnings"] == "small picture; optic disc not found with confidence: not mirrored"
    assert picture.meta["picture_warnings"] == "small picture"
    assert "flipped" not in picture.meta


@pytest.mark.parametrize("picture", [np.zeros((3, 40, 60)), np.full((1, 33, 32), 80.0)], ids=["black", "small, even"])
def test_an_empty_picture_has_no_disc(picture: np.ndarray) -> None:
    assert FlipRightEye()(torch.from_numpy(picture.astype(np.float32))).meta["picture_warnings"]


@pytest.mark.parametrize("column", [115, 335])
def test_maps_are_brought_back_to_the_picture(column: int) -> None:
    chain = Compose([FundusCropd("image"), FlipRightEyed("image"), Resized("image", (64, 64), mode="area")])
    item = chain({"image": MetaTensor(torch.from_numpy(photograph((150, column))), affine=torch.eye(3))})
    image = item["image"]
    top, left, bottom, right = image.meta["fundus_box"]
    item["map"] = image * 0
    item["map"][..., :16] = 1
    back = Invertd("map", chain, orig_keys="image", nearest_interp=True)(item)["map"]
    assert back.shape == (3, *SHAPE)
    quarter = round((right - left) / 4)
    inside = slice(left, left + quarter) if column == 115 else slice(right - quarter, right)
    expected = torch.zeros(SHAPE)
    expected[top:bottom, inside] = 1
    assert float((back[0] != expected).float().mean()) < 0.01
    corner = image.affine.numpy() @ [0, 0, 1]
    assert corner[:2] == pytest.approx([top, left if column == 115 else right], abs=4)


@pytest.mark.parametrize(
    ("transform", "arguments", "message"),
    [
        (FundusCropd, {"aspect": 0}, "aspect must be positive"),
        (FundusCropd, {"columns": (0.5, 0.2)}, "columns must be"),
        (FundusCropd, {"columns": (0.1, 0.5, 0.9)}, "columns must be"),
        (FlipRightEyed, {"disc_side": "nasal"}, "disc_side must be 'left' or 'right', got 'nasal'"),
        (FlipRightEyed, {"min_confidence": 2}, "min_confidence must be"),
    ],
)
def test_wrong_arguments_are_refused(transform: type, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transform("image", **arguments)


@pytest.mark.data
def test_real_discs_are_found_where_they_were_annotated(data_root: Path) -> None:
    folder = data_root / "fundus_idrid"
    with (folder / "lesion_boxes.csv").open(newline="") as file:
        boxes = {row["image"]: row for row in csv.DictReader(file) if row["structure"] == "optic_disc"}
    load = LoadImage(reader="ag_networks.data.PictureReader", channels=3)
    names = sorted(name for name in boxes if name.startswith("test/"))[::4]
    for name in names:
        picture = load(str(folder / name))
        top, left, bottom, right = find_field(picture.numpy())
        assert (top, bottom) == (0, 712)
        assert abs(left - 69) <= 9
        assert abs(right - 922) <= 9
        disc, box = find_optic_disc(picture.numpy()), boxes[name]
        away = disc.row / 712 - float(box["centre_y"]), disc.column / 1072 - float(box["centre_x"])
        assert abs(away[0]) <= float(box["height"]) / 2, name
        assert abs(away[1]) <= float(box["width"]) / 2, name
        assert disc.confidence >= 0.2
