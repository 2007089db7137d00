"""The sector is found on generated screens, and on real frames."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Resized
from PIL import Image, ImageDraw
from scipy import ndimage

from ag_networks.transforms import FindSector, FindSectord
from ag_networks.transforms.ultrasound import find_sector

SHAPE = (600, 800)


def tissue(seed: int = 0) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2)
    return np.clip(110 + 300 * noise, 10, 255)


def fan(top: int = 80, bottom: int = 590, left: int = 60, right: int = 740) -> np.ndarray:
    """Mask of a sector with slanted sides."""
    image = Image.new("L", SHAPE[::-1])
    middle, half = (left + right) // 2, (right - left) // 5
    corners = [(middle - half, top), (middle + half, top), (right - 1, bottom - 60), (middle, bottom - 1)]
    ImageDraw.Draw(image).polygon([*corners, (left, bottom - 60)], fill=1)
    return np.asarray(image, dtype=bool)


def screen(mask: np.ndarray) -> np.ndarray:
    """A frame with a header bar, texts, a grey scale and a ruler around the sector."""
    image = Image.fromarray(np.where(mask, tissue(), 0).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 799, 40), fill=55)
    for x in range(20, 700, 160):
        draw.text((x, 12), "12.0cm / 36Hz", fill=255, font_size=18)
    draw.rectangle((6, 100, 14, 300), fill=None)
    for row in range(200):
        draw.line((6, 100 + row, 14, 100 + row), fill=255 - row)
    for y in range(60, 160, 14):
        draw.text((720, y), "Pwr 89%", fill=200, font_size=11)
    for y in range(100, 580, 40):
        draw.line((28, y, 33, y), fill=255)
    return np.asarray(image, dtype=np.float32)


@pytest.mark.parametrize(
    "edges",
    [(80, 590, 60, 740), (80, 590, 200, 600), (150, 500, 100, 500), (60, 596, 50, 700)],
    ids=["wide", "narrow", "small", "large"],
)
def test_the_box_of_a_sector_is_found(edges: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = edges
    box = find_sector(screen(fan(*edges))).box
    # the pointed lower corners are lost to the opening that removes text
    assert np.abs(np.subtract(box, (top, left, bottom, right))).max() <= 0.03 * 800
    assert abs(box[0] - top) <= 8


def test_a_linear_scan_is_found_exactly() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[120:500, 150:650] = True
    assert np.abs(np.subtract(find_sector(screen(mask)).box, (120, 150, 500, 650))).max() <= 4


def test_the_crop_has_the_aspect_and_leaves_the_top_out() -> None:
    frame = torch.from_numpy(screen(fan()))[None]
    top, left, bottom, right = find_sector(frame[0].numpy()).box
    cropped = FindSector(aspect=0.75, trim=0.1)(frame)
    height = (bottom - top) - round(0.1 * (bottom - top))
    assert cropped.shape == (1, height, round(height / 0.75))
    assert isinstance(cropped, MetaTensor)
    box = cropped.meta["sector_box"]
    assert box[0] == bottom - height
    assert box[2] == bottom
    assert abs(box[1] + box[3] - left - right) <= 1
    np.testing.assert_array_equal(cropped[0], frame[0, box[0] : box[2], box[1] : box[3]])


def test_a_narrow_sector_is_cropped_beyond_its_sides() -> None:
    frame = torch.from_numpy(screen(fan(80, 590, 300, 500)))[None]
    height, width = FindSector(trim=0.0)(frame).shape[1:]
    assert width == pytest.approx(height * 9 / 7, abs=1)
    frame = torch.from_numpy(screen(fan(80, 590, 10, 300)))[None]
    assert FindSector(trim=0.0)(frame).meta["sector_box"][1] == 0


@pytest.mark.parametrize(
    "frame",
    [
        tissue(),
        np.zeros(SHAPE),
        np.full(SHAPE, 77.0),
        np.where(fan(top=0), tissue(), 0),
        np.where(fan(top=20), tissue(), 0),
    ],
    ids=["all tissue", "black", "constant", "sector without screen", "nearly at the edge"],
)
def test_a_frame_without_screen_stays_whole(frame: np.ndarray) -> None:
    tensor = torch.from_numpy(frame.astype(np.float32))[None]
    result = FindSector()(tensor)
    np.testing.assert_array_equal(result, tensor)
    assert result.meta["sector_box"] == [0, 0, *SHAPE]


@pytest.mark.parametrize("quality", [95, 75, 50])
@pytest.mark.parametrize("scale", [1.0, 0.6, 1.7])
def test_compressed_and_resized_frames_are_cropped_alike(quality: int, scale: float) -> None:
    image = Image.fromarray(screen(fan()).astype(np.uint8))
    file = io.BytesIO()
    image.resize((round(800 * scale), round(600 * scale)), Image.Resampling.BICUBIC).save(file, "JPEG", quality=quality)
    box = find_sector(np.asarray(Image.open(file), dtype=np.float32)).box
    assert np.abs(np.divide(box, scale) - find_sector(screen(fan())).box).max() <= 0.03 * 800


def test_color_frames_are_cropped_alike() -> None:
    frame = torch.from_numpy(screen(fan()))[None]
    color = FindSector()(frame.repeat(3, 1, 1))
    assert color.shape[0] == 3
    assert color.meta["sector_box"] == FindSector()(frame).meta["sector_box"]


def test_a_box_may_be_given() -> None:
    frame = torch.from_numpy(screen(fan()))[None]
    cropped = FindSector(box=(50, 60, 250, 360))(frame)
    np.testing.assert_array_equal(cropped[0], frame[0, 50:250, 60:360])
    with pytest.raises(ValueError, match=r"a frame of 800 x 600 pixels is smaller than the box \(0, 0, 700, 100\)"):
        FindSector(box=(0, 0, 700, 100))(frame)


def test_the_mask_blanks_what_is_outside() -> None:
    mask = fan()
    frame = screen(mask)
    frame[300:340, 70:76] = 255  # a ruler within the crop
    masked = FindSector(mask=True, aspect=None, trim=0.0)(torch.from_numpy(frame)[None])
    box = masked.meta["sector_box"]
    inside = mask[box[0] : box[2], box[1] : box[3]]
    assert float(masked[0, 300 - box[0] : 340 - box[0], 70 - box[1] : 76 - box[1]].max()) == 0
    kept = (masked[0].numpy() > 0)[inside].mean()
    assert kept > 0.97
    assert (masked[0].numpy() > 0)[~ndimage.binary_dilation(inside, iterations=24)].sum() == 0


def test_the_crop_is_undone_by_invertd() -> None:
    preprocessing = Compose([FindSectord("image"), Resized("image", (56, 72))])
    item = preprocessing({"image": MetaTensor(torch.from_numpy(screen(fan()))[None])})
    top, left, bottom, right = item["image"].meta["sector_box"]
    item["map"] = item["image"] * 0 + 1
    back = Invertd("map", preprocessing, orig_keys="image", nearest_interp=True)(item)["map"]
    assert back.shape == (1, *SHAPE)
    expected = torch.zeros(SHAPE)
    expected[top:bottom, left:right] = 1
    assert torch.equal(back[0].as_tensor(), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"box": (10, 10, 5, 20)}, "box must be"),
        ({"box": (0, 0, 5)}, "box must be"),
        ({"aspect": 0}, "aspect must be positive"),
        ({"trim": 1.0}, "trim in"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FindSectord("image", **arguments)  # type: ignore[arg-type]


@pytest.mark.data
def test_real_frames_are_cropped_about_as_their_authors_did(data_root: Path) -> None:
    for path in sorted((data_root / "fetal_planes" / "sononet_examples").glob("*.png")):
        frame = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
        top, left, bottom, right = FindSector()(torch.from_numpy(frame)[None]).meta["sector_box"]
        # the authors' box is the same for all frames, also for narrow sectors: rows 115 to 734, columns 81 to 874
        assert 80 <= top <= 145
        assert bottom == 735
        assert right - left == pytest.approx((bottom - top) * 9 / 7, abs=1)
        overlap = (min(right, 874) - max(left, 81)) * (734 - max(top, 115))
        union = (right - left) * (bottom - top) + 793 * 619 - overlap
        assert overlap / union > 0.75


@pytest.mark.data
def test_real_frames_without_screen_stay_whole(data_root: Path) -> None:
    names = sorted((data_root / "fetal_planes" / "fetal_planes_db").glob("*.png"))
    cropped = []
    for path in names:
        frame = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
        box = FindSector()(torch.from_numpy(frame)[None]).meta["sector_box"]
        cropped += [path.name] if box != [0, 0, *frame.shape] else []
    assert [name for name in cropped if not name.startswith("Patient00013")] == ["Patient00899_Plane3_1_of_4.png"]
