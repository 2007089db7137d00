"""The pictures below a folder: picture files, DICOM, and the frames of clips."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image

from ag_networks.data.cases import CaseError, is_dicom_file
from ag_networks.data.dicom_picture import count_dicom_frames
from ag_networks.data.folders import shown, walk_visible
from ag_networks.data.video import VIDEO_SUFFIXES, count_video_frames, is_video_file

__all__ = ["PICTURE_SUFFIXES", "count_frames", "frame_name", "is_picture_file", "list_pictures", "split_frame"]

PAGED_SUFFIXES = (".tif", ".tiff")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", *PAGED_SUFFIXES)
FRAME = re.compile(r"#(\d{4,})$")
EXPECTED = f"expected pictures ({', '.join(PICTURE_SUFFIXES)}, DICOM) or clips (DICOM, {', '.join(VIDEO_SUFFIXES)})"

logger = logging.getLogger(__name__)


def list_pictures(
    dataset_dir: str | os.PathLike[str], *, output_dir: str | os.PathLike[str] | None = None
) -> list[dict[str, Any]]:
    """List the pictures of `dataset_dir` as `{"image": path, "frame": number, "case": name}`, in a stable order.

    A picture is a PNG, JPEG, BMP, TIFF or DICOM file, or a frame of a clip: of a multi-frame DICOM file, a TIFF of
    several pages or a video. The frames of a clip follow each other; the path and the name of a frame end in `#` and
    its number, counted from 0 (`sub/clip.dcm#0007`), which is how `PictureReader` takes it. `"frame"` is that number,
    and -1 for a picture by itself. A name is the path relative to `dataset_dir`, with its extension.

    A file whose header cannot be read, or a clip without frames, is listed as one picture, and fails as one when it is
    read. Hidden files and files of other kinds are ignored and counted in the log.

    Args:
        dataset_dir: a folder, searched with its subfolders, or one file.
        output_dir: where results are written; not searched for pictures when it lies inside `dataset_dir`.

    Raises:
        CaseError: if `dataset_dir` does not exist, holds no picture, or is also `output_dir`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "sub").mkdir()
        ...     Path(folder, "sub", "a.png").touch()
        ...     [(item["case"], item["frame"]) for item in list_pictures(folder)]
        [('sub/a.png', -1)]
    """
    root = Path(dataset_dir).expanduser()
    output = Path(output_dir).expanduser() if output_dir is not None else None
    if not root.exists():
        raise CaseError(f"dataset_dir {shown(root)}: no such file or folder; {EXPECTED}")
    if root.is_file():
        if not is_picture_file(root):
            raise CaseError(f"dataset_dir {shown(root)}: not a picture; {EXPECTED}")
        return _items(root, root.name)
    if output is not None and os.path.realpath(output) == os.path.realpath(root):
        raise CaseError(f"output_dir {shown(output)}: is also dataset_dir; expected another folder for the results")
    items: list[dict[str, Any]] = []
    others: Counter[str] = Counter()
    for folder, files in walk_visible(root, output):
        for path in (folder / file for file in files):
            if is_picture_file(path):
                items += _items(path, path.relative_to(root).as_posix())
            else:
                others[path.suffix or "no extension"] += 1
    ignored = ", ".join(f"{count} x {suffix}" for suffix, count in sorted(others.items()))
    if not items:
        raise CaseError(f"dataset_dir {shown(root)}: no picture in it, found {ignored or 'nothing'}; {EXPECTED}")
    if ignored:
        logger.info("ignored files that are no pictures: %s", ignored)
    return items


def is_picture_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of those that `list_pictures` lists: by its name, or as DICOM by its first bytes."""
    name = os.fspath(path).lower()
    return name.endswith(PICTURE_SUFFIXES) or is_video_file(name) or is_dicom_file(path)


def count_frames(path: str | os.PathLike[str]) -> int | None:
    """Count the frames of a clip; None for a single picture, a 3D volume, and a file that cannot be read.

    Only TIFF, DICOM and video files are opened, and of the first two the header only.
    """
    try:
        if is_video_file(path):
            return count_video_frames(path) or None
        if os.fspath(path).lower().endswith(PAGED_SUFFIXES):
            with Image.open(path) as image:
                count = getattr(image, "n_frames", 1)
        elif is_dicom_file(path):
            count = count_dicom_frames(Path(path))
        else:
            return None
    except Exception as error:  # it fails as one picture when it is read, with the reason
        logger.debug("%s: %s", Path(path).name, error)
        return None
    return count if count > 1 else None


def frame_name(name: str, frame: int) -> str:
    """Name a frame of a clip.

    Example:
        >>> frame_name("clip.dcm", 7)
        'clip.dcm#0007'
    """
    return f"{name}#{frame:04d}"


def split_frame(name: str | os.PathLike[str]) -> tuple[str, int | None]:
    """Take a frame's name apart; the number is None for a picture by itself.

    Example:
        >>> split_frame("clip.dcm#0007"), split_frame("a.png")
        (('clip.dcm', 7), ('a.png', None))
    """
    text = os.fspath(name)
    found = FRAME.search(text)
    return (text[: found.start()], int(found[1])) if found else (text, None)


def _items(path: Path, name: str) -> list[dict[str, Any]]:
    count = count_frames(path)
    if count is None:
        return [{"image": str(path), "frame": -1, "case": name}]
    return [
        {"image": frame_name(str(path), frame), "frame": frame, "case": frame_name(name, frame)}
        for frame in range(count)
    ]
