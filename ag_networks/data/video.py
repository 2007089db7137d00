"""Frames of a video file, decoded forward with one decoder that stays open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import optional_import

from ag_networks.data.cases import CaseError

__all__ = ["VIDEO_SUFFIXES", "VideoFrames", "count_video_frames", "is_video_file"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv")
# Without it ffmpeg repeats or drops frames to reach a constant rate, and counting and reading would differ.
EVERY_FRAME_ONCE = ["-fps_mode", "passthrough"]
EXPECTED = f"expected a video file ({', '.join(VIDEO_SUFFIXES)})"


class VideoFrames:
    """Random access to the frames of video files, fast where frames are asked for in order.

    The decoder stays open behind the last frame. An earlier frame, or another file, opens it anew and decodes forward:
    exact for every codec, where seeking by time is not. Objects pickle and copy without their decoder, and a forked
    worker process opens its own.

    Needs ffmpeg, which the extra `video` (`imageio[ffmpeg]`) brings.

    Raises:
        CaseError: from calls, one line that names the file, if the extra is missing, the file is no video or damaged,
            or the frame does not exist.
    """

    _opened: tuple[str, int] | None  # path and process
    _frames: Iterator[np.ndarray]
    _next: int

    def __init__(self) -> None:
        self._forget()

    def __call__(self, path: str | os.PathLike[str], frame: int) -> np.ndarray:
        """Return a frame, counted from 0, as RGB of shape (H, W, 3), uint8."""
        path = Path(path)
        if self._opened != (str(path), os.getpid()) or frame < self._next:
            self._forget()
            self._frames = _decode(path)
            self._opened = (str(path), os.getpid())
        for values in self._frames:
            self._next += 1
            if self._next == frame + 1:
                return values
        count = self._next
        self._forget()
        raise CaseError(f"{path.name}: frame {frame} cannot be decoded; the video has {count} readable frames")

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._forget()

    def _forget(self) -> None:
        self._opened = None
        self._frames = iter(())
        self._next = 0


def is_video_file(path: str | os.PathLike[str]) -> bool:
    """Whether the file's name ends as that of a video."""
    return os.fspath(path).lower().endswith(VIDEO_SUFFIXES)


def count_video_frames(path: str | os.PathLike[str]) -> int:
    """Count the frames that can be decoded, which takes one pass through the video.

    Raises:
        CaseError: if the extra `video` is missing, or the file is no video.
    """
    return sum(1 for _ in _decode(Path(path), channels=1))


def _decode(path: Path, channels: int = 3) -> Iterator[np.ndarray]:
    """Yield the frames, RGB or (1 channel, which is faster) grey; what is wrong behind the first frame ends them."""
    ffmpeg, found = optional_import("imageio_ffmpeg")
    if not found:
        raise CaseError(f"{path.name}: reading videos needs the extra 'video': pip install 'ag-networks[video]'")
    if not path.is_file():
        raise CaseError(f"{path.name}: no such file; {EXPECTED}")
    pixels = "rgb24" if channels == 3 else "gray"
    frames = ffmpeg.read_frames(
        str(path), pix_fmt=pixels, bits_per_pixel=8 * channels, output_params=list(EVERY_FRAME_ONCE)
    )
    try:
        columns, rows = next(frames)["size"]
    except Exception as error:  # imageio-ffmpeg fails in different ways on what ffmpeg cannot open
        raise CaseError(f"{path.name}: cannot be opened (damaged, cut short, or no video); {EXPECTED}") from error
    try:
        for values in frames:
            yield np.frombuffer(values, dtype=np.uint8).reshape(rows, columns, channels)
    except RuntimeError:  # the last frame is cut short
        return
