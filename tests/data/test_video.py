"""Frames of videos, in any order."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from picture_makers import save_video, speckle

from ag_networks.data import CaseError, video
from ag_networks.data.video import VideoFrames, count_video_frames

pytest.importorskip("imageio_ffmpeg")
FRAMES = [speckle(seed=seed) for seed in range(6)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_video(tmp_path_factory.mktemp("video") / "a.mkv", FRAMES)


@pytest.mark.parametrize("order", [range(6), [5, 0, 3, 3, 2], [1]], ids=str)
def test_frames_are_exact_in_any_order(order: list[int], clip: Path) -> None:
    frames = VideoFrames()
    for index in order:
        np.testing.assert_array_equal(frames(clip, index), np.repeat(FRAMES[index][..., None], 3, axis=2))


def test_one_decoder_serves_frames_in_order(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = video._decode
    monkeypatch.setattr(video, "_decode", lambda path: opened.append(path) or original(path))
    frames = VideoFrames()
    for index in range(6):
        frames(clip, index)
    assert len(opened) == 1
    frames(clip, 2)
    assert len(opened) == 2


def test_another_file_is_another_clip(clip: Path, tmp_path: Path) -> None:
    other = save_video(tmp_path / "b.mkv", FRAMES[::-1])
    frames = VideoFrames()
    np.testing.assert_array_equal(frames(clip, 0)[..., 0], FRAMES[0])
    np.testing.assert_array_equal(frames(other, 1)[..., 0], FRAMES[4])


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda frames: pickle.loads(pickle.dumps(frames))])
def test_copies_have_their_own_decoder(twin: object, clip: Path) -> None:
    frames = VideoFrames()
    frames(clip, 0)
    np.testing.assert_array_equal(twin(frames)(clip, 0)[..., 0], FRAMES[0])  # type: ignore[operator]
    np.testing.assert_array_equal(frames(clip, 1)[..., 0], FRAMES[1])


def test_a_process_opens_its_own(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = VideoFrames()
    frames(clip, 0)
    parents = frames._frames
    monkeypatch.setattr("os.getpid", lambda: -1)
    np.testing.assert_array_equal(frames(clip, 1)[..., 0], FRAMES[1])
    assert frames._frames is not parents


def test_the_count_is_what_can_be_read(clip: Path) -> None:
    assert count_video_frames(clip) == 6


def test_what_is_no_frame_is_one_line(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"a\.mkv: frame 6 cannot be decoded; the video has 6 readable frames"):
        VideoFrames()(clip, 6)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(CaseError, match=r"text\.mp4: cannot be opened"):
        VideoFrames()(tmp_path / "text.mp4", 0)
    with pytest.raises(CaseError, match=r"none\.mp4: no such file"):
        count_video_frames(tmp_path / "none.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(CaseError, match=r"empty\.mp4: cannot be opened"):
        count_video_frames(tmp_path / "empty.mp4")


def test_a_cut_video_keeps_its_first_frames(clip: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert 0 < count_video_frames(cut) < 6
    np.testing.assert_array_equal(VideoFrames()(cut, 0)[..., 0], FRAMES[0])


def test_without_the_extra_the_message_names_it(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "optional_import", lambda name: (None, False))
    with pytest.raises(CaseError, match=r"a\.mkv: reading videos needs the extra 'video'"):
        VideoFrames()(clip, 0)
