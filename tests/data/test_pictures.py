"""Which pictures a folder holds, what they and the frames of clips are called."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_makers import save, save_dicom, save_video, speckle
from PIL import Image
from pydicom.uid import EnhancedUSVolumeStorage

from ag_networks.data import CaseError, list_pictures, split_frame
from ag_networks.data.folders import shown, walk_visible

FRAMES = np.stack([speckle(seed=seed) for seed in range(3)])


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["case"] for item in items]


def touch(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["b.png", "a.JPG", "c.jpeg", "d.bmp"], ["a.JPG", "b.png", "c.jpeg", "d.bmp"]),
        (["sub/a.png", "a.png", "sub/deep er/b.png"], ["a.png", "sub/a.png", "sub/deep er/b.png"]),
        (["a.png", "a.jpg"], ["a.jpg", "a.png"]),
        ([".hidden.png", ".cache/b.png", "c.png"], ["c.png"]),
        (["empty.dcm", "empty.tif", "empty.mp4"], ["empty.dcm", "empty.mp4", "empty.tif"]),
        (["a.png", "labels.csv", "a.nii.gz", "DICOMDIR"], ["a.png"]),
    ],
    ids=lambda value: ",".join(value),
)
def test_a_folder_gives_its_pictures(files: list[str], expected: list[str], tmp_path: Path) -> None:
    items = list_pictures(touch(tmp_path, *files))
    assert names(items) == expected
    assert all(item["image"] == str(tmp_path / item["case"]) and item["frame"] == -1 for item in items)


def test_the_frames_of_clips_follow_each_other(tmp_path: Path) -> None:
    save_dicom(tmp_path / "sub" / "clip", FRAMES, frames=3)
    save_dicom(tmp_path / "still.dcm", FRAMES[0])
    pages = [Image.fromarray(frame) for frame in FRAMES[:2]]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    items = list_pictures(tmp_path)
    assert names(items) == [
        "pages.tif#0000", "pages.tif#0001", "still.dcm", "sub/clip#0000", "sub/clip#0001", "sub/clip#0002",
    ]  # fmt: skip
    assert [item["frame"] for item in items] == [0, 1, -1, 0, 1, 2]
    assert split_frame(items[-1]["image"]) == (str(tmp_path / "sub" / "clip"), 2)


def test_a_video_is_a_clip(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    save_video(tmp_path / "a.mkv", list(FRAMES))
    assert names(list_pictures(tmp_path)) == ["a.mkv#0000", "a.mkv#0001", "a.mkv#0002"]
    assert names(list_pictures(tmp_path / "a.mkv")) == ["a.mkv#0000", "a.mkv#0001", "a.mkv#0002"]


def test_a_clip_that_cannot_be_opened_is_one_picture(tmp_path: Path) -> None:
    (tmp_path / "cut.dcm").write_bytes(save_dicom(tmp_path / "whole.dcm", FRAMES, frames=3).read_bytes()[:200])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "text.tif").write_text("no picture")
    assert names(list_pictures(tmp_path))[:2] == ["cut.dcm", "text.mp4"]
    assert "text.tif" in names(list_pictures(tmp_path))


def test_a_volume_is_one_picture(tmp_path: Path) -> None:
    save_dicom(tmp_path / "volume.dcm", FRAMES, frames=3, SOPClassUID=EnhancedUSVolumeStorage)
    assert names(list_pictures(tmp_path)) == ["volume.dcm"]


def test_one_file_is_a_list(tmp_path: Path) -> None:
    path = save(tmp_path / "a b.png", speckle())
    assert list_pictures(str(path)) == [{"image": str(path), "frame": -1, "case": "a b.png"}]


@pytest.mark.parametrize(
    ("files", "target", "message"),
    [
        ([], "ROOT/absent", "'absent': no such file or folder; expected pictures (.png"),
        (["a.txt", "b.txt", "c"], "ROOT", "'ROOT': no picture in it, found 2 x .txt, 1 x no extension; expected"),
        ([".a.png"], "ROOT", "'ROOT': no picture in it, found nothing; expected"),
        (["a.nii.gz"], "ROOT/a.nii.gz", "'a.nii.gz': not a picture; expected"),
    ],
)
def test_a_folder_without_pictures_is_refused(files: list[str], target: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "ROOT").mkdir()
    touch(tmp_path / "ROOT", *files)
    with pytest.raises(CaseError) as refusal:
        list_pictures(tmp_path / target)
    assert message in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_results_are_no_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "eval/a_attention.png")
    assert names(list_pictures(tmp_path, output_dir=tmp_path / "eval")) == ["a.png"]
    with pytest.raises(CaseError, match="is also dataset_dir"):
        list_pictures(tmp_path, output_dir=tmp_path / "eval" / "..")


def test_what_is_ignored_is_counted_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        list_pictures(touch(tmp_path, "a.png", "b.txt", "c.txt"))
    assert caplog.messages == ["ignored files that are no pictures: 2 x .txt"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png", "in/b.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert [files for _, files in walk_visible(tmp_path / "in")] == [["b.png"], ["a.png"]]
    assert names(list_pictures(tmp_path / "in")) == ["b.png", "linked/a.png"]


def test_folders_are_shown_without_their_parents(tmp_path: Path) -> None:
    assert (shown(tmp_path), shown(Path("a/b")), shown(Path("/"))) == (repr(tmp_path.name), "'a/b'", "'/'")
