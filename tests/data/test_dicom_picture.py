"""DICOM pictures and clips come as they are meant to be seen."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from picture_makers import dicom, save_dicom, speckle
from pydicom.pixels import convert_color_space
from pydicom.uid import (
    MPEG4HP41,
    EnhancedUSVolumeStorage,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ag_networks.data import CaseError
from ag_networks.data.dicom_picture import count_dicom_frames, read_dicom_picture

GREY = speckle()
RGB = np.stack([GREY, np.roll(GREY, 7), np.roll(GREY, 13)], axis=2)
DEEP = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
CLIP = np.stack([speckle(seed=seed) for seed in range(4)])


@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "RGB"])
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=str)
def test_pixels_come_as_stored(pixels: np.ndarray, syntax: Any, tmp_path: Path) -> None:
    if syntax == JPEG2000Lossless:
        pytest.importorskip("openjpeg")
    if syntax == JPEGLSLossless:
        pytest.importorskip("jpeg_ls")
    values, warnings = read_dicom_picture(save_dicom(tmp_path / "a.dcm", pixels, syntax=syntax))
    np.testing.assert_array_equal(values, pixels)
    assert warnings == []


@pytest.mark.parametrize("frame", range(4))
@pytest.mark.parametrize("syntax", [None, RLELossless], ids=str)
def test_a_frame_of_a_clip(frame: int, syntax: Any, tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "a.dcm", CLIP, frames=4, syntax=syntax)
    np.testing.assert_array_equal(read_dicom_picture(path, frame).values, CLIP[frame])
    assert count_dicom_frames(path) == 4


def test_only_the_frame_asked_for_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.pixels.decoders import rle

    path = save_dicom(tmp_path / "a.dcm", CLIP, frames=4, syntax=RLELossless)
    decoded = []
    original = rle._rle_decode_frame
    monkeypatch.setattr(rle, "_rle_decode_frame", lambda *args, **kw: decoded.append(1) or original(*args, **kw))
    read_dicom_picture(path, 2)
    assert len(decoded) == 1


def test_ybr_becomes_rgb(tmp_path: Path) -> None:
    ybr = convert_color_space(RGB, "RGB", "YBR_FULL")
    path = save_dicom(tmp_path / "a.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    assert np.abs(read_dicom_picture(path).values - RGB).max() <= 2


def test_jpeg_comes_in_true_colors(tmp_path: Path) -> None:
    import io

    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    smooth = np.zeros((64, 64, 3), np.uint8)
    smooth[..., 0] = np.linspace(0, 255, 64)
    smooth[..., 2] = np.linspace(255, 0, 64)[:, None]
    stream = io.BytesIO()
    Image.fromarray(smooth).save(stream, "JPEG", quality=95, subsampling=0)
    dataset = dicom(smooth, PhotometricInterpretation="YBR_FULL_422")
    dataset.PixelData = encapsulate([stream.getvalue()])
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.abs(read_dicom_picture(tmp_path / "a.dcm").values - smooth).max() < 12


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_expanded(bits: int, tmp_path: Path) -> None:
    tables = np.random.default_rng(0).integers(0, 2**bits, (3, 256)).astype(f"<u{bits // 8}")
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        elements[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{color}PaletteColorLookupTableData"] = table.tobytes()
    values, _ = read_dicom_picture(save_dicom(tmp_path / "a.dcm", GREY, **elements))
    np.testing.assert_allclose(values, tables[:, GREY].transpose(1, 2, 0) / (2**bits - 1) * 255, rtol=1e-5)


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    values, warnings = read_dicom_picture(save_dicom(tmp_path / "a.dcm", GREY, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(values, 255 - GREY.astype(float), atol=1e-4)
    assert warnings == ["stored inverted (MONOCHROME1)"]


def window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, written down again."""
    return np.clip(((values - (center - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)


DEEP12 = {"BitsStored": 12, "HighBit": 11}


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({}, DEEP / 4095 * 255),
        (DEEP12, DEEP / 4095 * 255),
        ({"WindowCenter": 1000, "WindowWidth": 500, **DEEP12}, window(DEEP, 1000, 500)),
        ({"WindowCenter": [1000, 9], "WindowWidth": [500, 9], **DEEP12}, window(DEEP, 1000, 500)),
        ({"WindowCenter": 1000, "WindowWidth": 0, **DEEP12}, DEEP / 4095 * 255),
        (
            {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 100, "WindowWidth": 400, **DEEP12},
            window(DEEP * 2.0 - 1000, 100, 400),
        ),
        (
            {"RescaleSlope": -1, "RescaleIntercept": 0, "WindowCenter": -1000, "WindowWidth": 400, **DEEP12},
            window(-1.0 * DEEP, -1000, 400),
        ),
        ({"RescaleSlope": 2, "RescaleIntercept": -1000, **DEEP12}, DEEP / 4095 * 255),
        ({"RescaleSlope": -1, "RescaleIntercept": 0, **DEEP12}, 255 - DEEP / 4095 * 255),
        ({"PhotometricInterpretation": "MONOCHROME1", **DEEP12}, 255 - DEEP / 4095 * 255),
    ],
    ids=["16", "12", "window", "windows", "no window", "rescale+window", "negative+window", "rescale", "negative", "1"],
)
def test_deep_values_are_windowed_or_scaled(elements: dict[str, Any], expected: np.ndarray, tmp_path: Path) -> None:
    values, _ = read_dicom_picture(save_dicom(tmp_path / "a.dcm", DEEP, **elements))
    np.testing.assert_allclose(values, expected, atol=2e-3)


def test_signed_values_start_at_the_lowest(tmp_path: Path) -> None:
    signed = (DEEP.astype(np.int32) - 2000).astype(np.int16)
    values, _ = read_dicom_picture(save_dicom(tmp_path / "a.dcm", signed, PixelRepresentation=1))
    np.testing.assert_allclose(values, (signed + 32768.0) / 65535 * 255, atol=1e-3)


def test_a_lookup_table_comes_before_a_window(tmp_path: Path) -> None:
    table = pydicom.Dataset()
    table.LUTDescriptor = [256, 0, 10]
    table.LUTData = np.arange(1023, 1023 - 4 * 256, -4).astype("<u2").tobytes()
    values, _ = read_dicom_picture(
        save_dicom(tmp_path / "a.dcm", GREY, VOILUTSequence=[table], WindowCenter=10, WindowWidth=5)
    )
    np.testing.assert_allclose(values, (1023 - 4.0 * GREY) / 1023 * 255, atol=1e-3)


def test_frames_of_a_deep_clip_are_scaled_alike(tmp_path: Path) -> None:
    clip = np.stack([DEEP // 100, DEEP])
    path = save_dicom(tmp_path / "a.dcm", clip, frames=2)
    np.testing.assert_allclose(read_dicom_picture(path, 0).values, DEEP // 100 / 65535 * 255, atol=1e-3)


def test_a_file_without_preamble_is_read(tmp_path: Path) -> None:
    dataset = dicom(GREY)
    del dataset.file_meta
    pydicom.dcmwrite(tmp_path / "a", dataset, implicit_vr=True, little_endian=True, enforce_file_format=False)
    np.testing.assert_array_equal(read_dicom_picture(tmp_path / "a").values, GREY)


def _without_pixels(path: Path) -> None:
    dataset = dicom(GREY)
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(dataset, keyword)
    dataset.save_as(path, enforce_file_format=True)


def _as(syntax: Any) -> Any:
    def write(path: Path) -> None:
        from pydicom.encaps import encapsulate

        dataset = dicom(GREY)
        dataset.PixelData = encapsulate([b"abcd"])
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, enforce_file_format=True)

    return write


def _cut(path: Path) -> None:
    path.write_bytes(save_dicom(path, GREY).read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "damaged, or no DICOM file"),
        (lambda path: path.write_text("no DICOM at all" * 20), "damaged, or no DICOM file"),
        (_cut, "the pixels cannot be decoded (damaged or cut file)"),
        (_without_pixels, "no pixels in the file (modality US)"),
        (_as(MPEG4HP41), "compressed as MPEG-4"),
        (_as(JPEGLosslessSV1), "which no installed decoder reads; the extra 'dicom' brings"),
        (_as(RLELossless), "the pixels cannot be decoded"),
        (lambda path: save_dicom(path, CLIP, frames=4), "a clip of 4 frames; expected one picture, or a frame as"),
        (lambda path: save_dicom(path, CLIP, frames=4, Modality="CT"), "a 3D volume of 4 slices (modality CT)"),
        (lambda path: save_dicom(path, CLIP, frames=4, SOPClassUID=EnhancedUSVolumeStorage), "a 3D volume of 4 slices"),
        (lambda path: save_dicom(path, GREY, PhotometricInterpretation="HSV"), "pixels of the kind HSV"),
        (lambda path: save_dicom(path, GREY, Rows=20000, Columns=20000), "20000 x 20000 pixels; expected at most"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_file_is_one_line(write: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.dcm"
    write(path)
    if "no installed decoder" in message:  # wherever the tests run
        monkeypatch.setattr(type(pydicom.pixels.get_decoder(JPEGLosslessSV1)), "is_available", False)
    with pytest.raises(CaseError) as refusal:
        read_dicom_picture(path)
    assert str(refusal.value).startswith("a.dcm: ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("syntax", [None, RLELossless], ids=str)
def test_an_older_pydicom_is_told(syntax: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_dicom(tmp_path / "a.dcm", GREY, syntax=syntax)
    monkeypatch.setattr("ag_networks.data.dicom_picture.has_pixels", False)
    monkeypatch.setattr("ag_networks.data.dicom_picture.pixels", None)
    with pytest.raises(CaseError, match=r"^a\.dcm: a DICOM picture needs pydicom 3, found pydicom \d"):
        read_dicom_picture(path)


def test_a_broken_frame_leaves_the_others(tmp_path: Path) -> None:
    dataset = dicom(CLIP, frames=4)
    dataset.compress(RLELossless)
    from pydicom.encaps import encapsulate, generate_frames

    frames = list(generate_frames(dataset.PixelData, number_of_frames=4))
    dataset.PixelData = encapsulate([*frames[:2], b"\xff" * 80, frames[3]])
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    for frame in (0, 1, 3):
        np.testing.assert_array_equal(read_dicom_picture(tmp_path / "a.dcm", frame).values, CLIP[frame])
    with pytest.raises(CaseError, match=r"a\.dcm: frame 2 cannot be decoded"):
        read_dicom_picture(tmp_path / "a.dcm", 2)
    with pytest.raises(CaseError, match=r"a\.dcm: no frame 4, counted from 0; the clip has 4"):
        read_dicom_picture(tmp_path / "a.dcm", 4)


def test_a_cut_clip_keeps_its_first_frames(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "a.dcm", CLIP, frames=4)
    path.write_bytes(path.read_bytes()[: -CLIP[0].size - 10])
    np.testing.assert_array_equal(read_dicom_picture(path, 0).values, CLIP[0])
    with pytest.raises(CaseError, match="frame 3 cannot be decoded"):
        read_dicom_picture(path, 3)
