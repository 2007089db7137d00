"""Pictures of classifiers: what is on them is read back from the figure or from the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ag_networks.visualize import FrameMaps, save_confusion_matrix, save_frame_figure, save_timeline
from ag_networks.visualize import confusion_matrix as confusion_module
from ag_networks.visualize import timeline as timeline_module

NAMES = ["brain", "femur", "other", "never"]


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the figures that are written."""
    kept: list[Any] = []
    for module in (timeline_module, confusion_module):
        save = module.save_page
        monkeypatch.setattr(module, "save_page", lambda page, path, save=save: (kept.append(page), save(page, path)))
    return kept


def clip() -> np.ndarray:
    p = np.zeros((9, 4))
    p[:4, 0], p[:4, 1], p[5:, 0], p[5:, 1] = 0.8, 0.2, 0.3, 0.7
    p[4] = np.nan
    return p


def test_timeline(tmp_path: Path, pages: list[Any]) -> None:
    thumbnails = {2: np.full((4, 6), 7, np.uint8), 7: np.full((4, 6), 9, np.uint8)}
    save_timeline(
        tmp_path / "t.png",
        clip(),
        NAMES,
        best_frames={"femur": 7, "brain": 2},
        thumbnails=thumbnails,
        fps=10,
        title="x",
    )
    axes, *pictures = pages[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert {"brain", "femur"} <= set(lines)
    assert not {"other", "never"} & set(lines)
    np.testing.assert_allclose(lines["brain"].get_xdata(), np.arange(9) / 10)
    np.testing.assert_array_equal(np.isnan(lines["brain"].get_ydata()), np.arange(9) == 4)
    markers = {float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "v"}
    assert markers == {0.2, 0.7}
    assert [axis.get_title() for axis in pictures] == ["brain, 0.20 s, 0.80", "femur, 0.70 s, 0.70"]
    assert [int(axis.images[0].get_array()[0, 0]) for axis in pictures] == [7, 9]
    assert axes.get_xlabel() == "seconds"
    (gap,) = axes.patches
    assert gap.get_x() + gap.get_width() / 2 == pytest.approx(0.4)
    assert Image.open(tmp_path / "t.png").size[0] > 1000
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("p", [np.full((3, 4), np.nan), np.full((1, 4), 0.25)], ids=["all missing", "one frame"])
def test_timeline_of_almost_nothing(p: np.ndarray, tmp_path: Path, pages: list[Any]) -> None:
    save_timeline(tmp_path / "t.png", p, NAMES)
    assert len(pages[0].axes) == 1
    assert pages[0].axes[0].get_xlabel() == "frame"


def test_timeline_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(frames, 2\)"):
        save_timeline(tmp_path / "t.png", clip(), ["a", "b"])
    with pytest.raises(ValueError, match="best frame of brain lies outside the clip of 9"):
        save_timeline(tmp_path / "t.png", clip(), NAMES, best_frames={"brain": 9})


def test_confusion_matrix(tmp_path: Path, pages: list[Any]) -> None:
    save_confusion_matrix(tmp_path / "c.png", [[8, 2], [0, 0]], ["brain", "femur"])
    (axes,) = pages[0].axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [0, 0]])
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {((0, 0), "8"), ((1, 0), "2")}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["brain", "femur"]
    assert Image.open(tmp_path / "c.png").format == "PNG"
    with pytest.raises(ValueError, match="3 x 3 classes"):
        save_confusion_matrix(tmp_path / "c.png", [[1, 0], [0, 1]], ["a", "b", "c"])


def colored(path: Path, color: str) -> np.ndarray:
    """Return where a page is red or blue, beyond what other things on it are."""
    red, green, blue = np.asarray(Image.open(path).convert("RGB")).astype(int).transpose(2, 0, 1)
    return (red > green + 120) & (red > blue + 120) if color == "red" else (blue > red + 100) & (blue > green + 40)


def test_frames_with_maps_and_boxes(tmp_path: Path) -> None:
    frame = np.full((60, 80), 50.0)
    frame[0, 0] = 255
    spot = np.zeros((15, 20))
    spot[10:, 15:] = 1
    plain = [FrameMaps(frame, {}), FrameMaps(frame.T, {})]
    boxed = [FrameMaps(frame, {}, box=(12, 16, 48, 64)), FrameMaps(frame.T, {}, reference=(8, 6, 72, 54))]
    save_frame_figure(tmp_path / "plain.png", plain)
    save_frame_figure(tmp_path / "boxed.png", boxed)
    assert not colored(tmp_path / "plain.png", "red").any()
    rows, columns = np.nonzero(colored(tmp_path / "boxed.png", "red"))
    size = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert size[0] / size[1] == pytest.approx(48 / 36, rel=0.06)
    assert size[0] == pytest.approx(2.2 * 110 * 48 / 80, rel=0.04)
    assert colored(tmp_path / "boxed.png", "blue").any()
    save_frame_figure(tmp_path / "maps.png", [FrameMaps(frame, {"AG1": spot, "AG-all": spot}), FrameMaps(frame, {})])
    one, three = Image.open(tmp_path / "plain.png").size, Image.open(tmp_path / "maps.png").size
    assert three[0] > 2.5 * one[0]


def test_a_map_lies_where_its_values_are(tmp_path: Path) -> None:
    spot = np.zeros((15, 20))
    spot[10:, 15:] = 1  # the lower right
    black = np.zeros((60, 80, 3), np.uint8)
    save_frame_figure(tmp_path / "a.png", [FrameMaps(black, {"AG1": spot})], note="")
    bright = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    width = bright.shape[1]
    heat = (bright[..., 0] > 120) & (bright[..., 2] < 100)
    columns = np.nonzero(heat[:, width // 2 :])[1]
    panel = 2.2 * 110
    assert np.ptp(columns) == pytest.approx(panel / 4, rel=0.25)
    assert columns.mean() > 0.7 * panel


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no picture"),
        ([FrameMaps(np.zeros((4, 4, 4)))], r"\(4, 4, 4\)"),
        ([FrameMaps(np.zeros((4, 4)), {"AG1": np.zeros(4)})], "map AG1 to have two axes"),
    ],
    ids=["none", "channels", "map"],
)
def test_frame_figure_refuses_what_does_not_fit(rows: list[FrameMaps], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        save_frame_figure(tmp_path / "a.png", rows)
    assert list(tmp_path.iterdir()) == []
