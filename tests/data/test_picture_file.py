"""Picture files of every kind become the same values."""

from pathlib import Path

import numpy as np
import pytest
from picture_makers import save, speckle
from PIL import Image

from ag_networks.data import CaseError
from ag_networks.data.picture_file import deep_to_bytes, read_picture_file

GREY = speckle()
RGB = np.stack([GREY, np.roll(GREY, 7), np.roll(GREY, 13)], axis=2)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "RGB"])
def test_lossless_files_give_their_values(suffix: str, array: np.ndarray, tmp_path: Path) -> None:
    values, warnings = read_picture_file(save(tmp_path / f"a{suffix}", array))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, array)
    assert warnings == []


def test_jpeg_gives_about_its_values(tmp_path: Path) -> None:
    smooth = np.asarray(Image.linear_gradient("L"))
    values, _ = read_picture_file(save(tmp_path / "a.jpg", smooth, quality=95))
    assert np.abs(values - smooth).max() < 5


def test_the_content_tells_the_kind(tmp_path: Path) -> None:
    save(tmp_path / "a.png", GREY).rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_picture_file(tmp_path / "a.jpg").values, GREY)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_pictures_come_upright(orientation: int, tmp_path: Path) -> None:
    stored = {
        1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1], 5: GREY.T, 6: np.rot90(GREY),
        7: GREY[::-1, ::-1].T, 8: np.rot90(GREY, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    values, warnings = read_picture_file(save(tmp_path / "a.png", np.ascontiguousarray(stored), exif=exif))
    np.testing.assert_array_equal(values, GREY)
    assert warnings == ([] if orientation == 1 else ["turned upright by its EXIF tag"])


def test_a_palette_is_expanded(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).quantize(16).save(path)
    with Image.open(path) as image:
        assert image.mode == "P"
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_picture_file(path).values, expected)


@pytest.mark.parametrize(("alpha", "factor"), [(255, 1.0), (0, 0.0), (51, 0.2)])
@pytest.mark.parametrize("grey", [True, False], ids=["LA", "RGBA"])
def test_what_is_transparent_lies_over_black(alpha: int, factor: float, grey: bool, tmp_path: Path) -> None:
    picture = np.dstack([GREY if grey else RGB, np.full(GREY.shape, alpha, np.uint8)])
    values, _ = read_picture_file(save(tmp_path / "a.png", picture))
    np.testing.assert_allclose(values, factor * (np.repeat(GREY[..., None], 3, 2) if grey else RGB), atol=1)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    values, _ = read_picture_file(save(tmp_path / "a.png", GREY > 100))
    np.testing.assert_array_equal(values, np.where(GREY > 100, 255, 0))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("top", "bits"), [(65535, 16), (16384, 16), (16383, 14), (4095, 12), (1023, 10), (255, 8)])
def test_deep_files_are_scaled_by_the_bits_in_use(top: int, bits: int, suffix: str, tmp_path: Path) -> None:
    deep = np.linspace(0, top, 40 * 40).reshape(40, 40).round().astype(np.uint16)
    values, warnings = read_picture_file(save(tmp_path / f"a{suffix}", deep))
    np.testing.assert_allclose(values, deep / (2**bits - 1) * 255, rtol=1e-6)
    assert warnings == [f"{bits}-bit picture"]


@pytest.mark.parametrize(
    ("values", "expected", "warning"),
    [
        (np.array([0.0, 0.5, 1.0], np.float32), [0, 127.5, 255], "fractions"),
        (np.array([0.0, 12.5, 200.0], np.float32), [0, 12.5, 200], "fractions"),
        (np.array([-10.0, 0.0, 10.0], np.float32), [0, 127.5, 255], "from -10 to 10, stretched"),
        (np.array([0, 2**20], np.int32), [0, 255], "stretched"),
        (np.array([5.5, 5.5]) - 10, [0, 0], "stretched"),
    ],
)
def test_other_ranges_have_a_rule(values: np.ndarray, expected: list[float], warning: str) -> None:
    pixels = deep_to_bytes(values)
    np.testing.assert_allclose(pixels.values, expected)
    assert warning in pixels.warnings[0]


def test_a_page_is_read_by_its_number(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((40, 40), value, np.uint8)) for value in (10, 20)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert [read_picture_file(tmp_path / "a.tif", page).values[0, 0] for page in (1, 0)] == [20, 10]
    with pytest.raises(CaseError, match=r"a\.tif: 2 pages, a clip or a 3D volume; expected one picture"):
        read_picture_file(tmp_path / "a.tif")
    with pytest.raises(CaseError, match=r"a\.tif: no page 2, counted from 0; the file has 2"):
        read_picture_file(tmp_path / "a.tif", 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b"just a text that is no picture" * 9, "not a picture, or its header is damaged"),
        ("cut", "the file is cut short or damaged"),
        ("header", "damaged"),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_a_bad_file_is_one_line(content: bytes | str | None, message: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if isinstance(content, str):
        whole = save(path, speckle(200, 300)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content == "cut" else whole[:12])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(CaseError) as refusal:
        read_picture_file(path)
    assert str(refusal.value).startswith(f"a{suffix}: ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (12000, 9000)).save(tmp_path / "a.png")
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(CaseError, match="12000 x 9000 pixels; expected"):
        read_picture_file(tmp_path / "a.png")
    Image.new("1", (20000, 10000)).save(tmp_path / "b.png")
    with pytest.raises(CaseError, match="too many pixels; expected at most 100 megapixels"):
        read_picture_file(tmp_path / "b.png")
