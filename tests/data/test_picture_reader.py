"""The reader in MONAI's hands: channels, checks, metadata, frames, workers."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.data import DataLoader
from monai.transforms import EnsureChannelFirstd, LoadImage, LoadImaged
from picture_makers import save, save_dicom, save_video, speckle

from ag_networks.data import CaseDataset, CaseError, PictureReader, list_pictures

READER = "ag_networks.data.PictureReader"
GREY = speckle(120, 140)
RGB = np.stack([GREY, np.roll(GREY, 7), np.roll(GREY, 13)], axis=2)


def read(path: Path | str, **options: Any) -> tuple[np.ndarray, str]:
    array, meta = PictureReader(**options).get_data([str(path)])
    return array, meta["picture_warnings"]


@pytest.mark.parametrize(
    ("picture", "channels", "expected", "warning"),
    [
        (GREY, None, GREY[None], ""),
        (GREY, 1, GREY[None], ""),
        (GREY, 3, np.stack([GREY] * 3), "grey picture, as three equal channels"),
        (np.stack([GREY] * 3, 2), None, GREY[None], ""),
        (np.stack([GREY] * 3, 2), 1, GREY[None], ""),
        (RGB, None, RGB.transpose(2, 0, 1), ""),
        (RGB, 3, RGB.transpose(2, 0, 1), ""),
        (RGB, 1, RGB.mean(axis=2)[None], "color picture, read as grey (88% of its pixels are colored)"),
    ],
)
def test_channels(
    picture: np.ndarray, channels: int | None, expected: np.ndarray, warning: str, tmp_path: Path
) -> None:
    array, warnings = read(save(tmp_path / "a.png", picture), channels=channels)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array, expected, rtol=1e-6)
    assert warnings == warning


def test_a_few_colored_marks_are_no_color_picture(tmp_path: Path) -> None:
    marked = np.stack([GREY] * 3, 2)
    marked[10:14, 10:20] = (0, 255, 0)
    assert read(save(tmp_path / "a.png", marked), channels=1)[1] == ""


def test_monai_loads_with_it(tmp_path: Path) -> None:
    item = {"image": str(save(tmp_path / "a.png", RGB))}
    loaded = EnsureChannelFirstd("image")(LoadImaged("image", reader=READER, channels=1)(item))["image"]
    assert loaded.shape == (1, 120, 140)
    assert set(loaded.meta) & {"filename_or_obj", "picture_warnings"} == {"filename_or_obj", "picture_warnings"}
    assert LoadImage(reader=READER, ensure_channel_first=True)(item["image"]).shape == (3, 120, 140)


def test_nothing_of_a_header_is_kept(tmp_path: Path) -> None:
    loaded = LoadImage(reader=READER)(save_dicom(tmp_path / "a.dcm", GREY))
    assert "Secret" not in str(loaded.meta)


def test_frames_are_read_by_name(tmp_path: Path) -> None:
    clip = np.stack([speckle(seed=seed) for seed in range(3)])
    save_dicom(tmp_path / "clip.dcm", clip, frames=3)
    load = LoadImaged("image", reader=READER)
    values = [load(item)["image"] for item in list_pictures(tmp_path)]
    np.testing.assert_array_equal(np.concatenate(values), clip)


def test_frames_of_a_video_are_read_by_workers(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    clip = [speckle(seed=seed) for seed in range(4)]
    save_video(tmp_path / "clip.mkv", clip)
    dataset = CaseDataset(list_pictures(tmp_path), LoadImaged("image", reader=READER, channels=1))
    _ = dataset[0]  # a decoder is open in this process when the workers start
    loaded = [batch["image"].numpy()[0, 0] for batch in DataLoader(dataset, num_workers=2, batch_size=1)]
    np.testing.assert_array_equal(np.stack(loaded), np.stack(clip))


def test_a_file_may_be_named_like_a_frame(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GREY).rename(tmp_path / "a.png#0003")
    np.testing.assert_array_equal(read(path)[0][0], GREY)


@pytest.mark.parametrize(
    ("picture", "warning"),
    [
        (speckle(60, 80), "small picture (80 x 60 pixels)"),
        (255 - GREY, "bright border: inverted, a photo, or a document?"),
        (GREY.astype(np.uint16) * 257, "16-bit picture"),
        (GREY, ""),
    ],
    ids=["small", "inverted", "deep", "none"],
)
def test_doubts_are_warnings(picture: np.ndarray, warning: str, tmp_path: Path) -> None:
    assert read(save(tmp_path / "a.png", picture))[1] == warning


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((50, 50), np.uint8), "a.png: a black picture; expected"),
        (np.full((50, 50, 3), (9, 90, 200), np.uint8), "a.png: every pixel has about the value 200 of 255"),
        (speckle(31, 90), "a.png: 90 x 31 pixels; expected at least 32 x 32"),
    ],
)
def test_what_shows_nothing_is_refused(picture: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(CaseError) as refusal:
        read(save(tmp_path / "a.png", picture))
    assert message in str(refusal.value)


def test_one_bad_picture_leaves_the_others(tmp_path: Path) -> None:
    save(tmp_path / "good.png", GREY)
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:500])
    (tmp_path / "empty.mp4").touch()
    dataset = CaseDataset(list_pictures(tmp_path), LoadImaged("image", reader=READER))
    failures = {item["case"]: item.get("failure") for item in dataset}
    assert failures["good.png"] is None
    assert failures["cut.png"] == "cut.png: the file is cut short or damaged; expected a PNG, JPEG, BMP or TIFF picture"
    assert failures["empty.mp4"].startswith("empty.mp4: ")


def test_it_is_chosen_and_copied_as_readers_are(tmp_path: Path) -> None:
    reader = PictureReader(channels=1)
    assert reader.verify_suffix(["a.png", "clip.mp4#0004"])
    assert not reader.verify_suffix("a.nii.gz")
    assert pickle.loads(pickle.dumps(reader)).channels == 1
    with pytest.raises(ValueError, match="channels must be 1, 3 or None, got 2"):
        PictureReader(channels=2)
    with pytest.raises(CaseError, match="2 files for one picture"):
        reader.get_data(["a.png", "b.png"])


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "pattern", "channels", "count"),
    [
        ("fetal_planes/sononet_examples", "*.png", 3, 13),
        ("fetal_planes/fetal_planes_db", "*.png", 1, 83),
        ("fundus_idrid/test", "*_0[0-2]?.jpg", 3, 29),
    ],
)
def test_real_pictures_are_read_without_doubts(
    folder: str, pattern: str, channels: int, count: int, data_root: Path
) -> None:
    paths = sorted((data_root / folder).glob(pattern))
    assert len(paths) == count
    results = [read(path) for path in paths]
    assert {array.shape[0] for array, _ in results} == {channels}
    assert {warnings for _, warnings in results} == {""}
