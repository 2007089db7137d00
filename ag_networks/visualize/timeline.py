"""A picture of what a clip shows over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ag_networks.visualize.canvas import blank_page, save_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_timeline"]

WIDTH, PLOT, THUMBNAIL = 11.0, 3.2, 1.35  # inches
LEFT, RIGHT, TOP, BOTTOM, LEGEND = 0.7, 2.0, 0.45, 0.55, 0.05
PER_ROW = 6
SHOWN = 0.1  # classes that stay below are not drawn


def save_timeline(
    path: str | Path,
    probabilities: ArrayLike,
    class_names: Sequence[str],
    *,
    best_frames: Mapping[str, int] | None = None,
    thumbnails: Mapping[int, ArrayLike] | None = None,
    fps: float | None = None,
    title: str = "",
) -> None:
    """Write a PNG: the probability of every class over time, best frames marked, and these frames above.

    Missing frames are gaps in the lines. Classes that never reach 0.1 are left out.

    Args:
        path: the PNG file; it appears whole or not at all.
        probabilities: (frames, classes), smoothed or not; a row of ``nan`` is a missing frame.
        class_names: name of every class.
        best_frames: number of the best frame by class name.
        thumbnails: small gray pictures (H, W) by frame number.
        fps: frames per second; with it the axis is in seconds.
        title: printed at the top; it must not tell who the patient is.

    Raises:
        ValueError: if shapes do not fit, or a best frame lies outside the clip.
        ImportError: if matplotlib is not installed; it says what to install.
    """
    p = np.asarray(probabilities, dtype=float)
    best, pictures = dict(best_frames or {}), dict(thumbnails or {})
    if p.ndim != 2 or p.shape[1] != len(class_names) or not len(p):
        raise ValueError(f"expected probabilities of shape (frames, {len(class_names)}), got {p.shape}")
    if outside := [name for name, frame in best.items() if not 0 <= frame < len(p)]:
        raise ValueError(f"the best frame of {outside[0]} lies outside the clip of {len(p)} frames")
    rows = -(-sum(frame in pictures for frame in best.values()) // PER_ROW)
    height = TOP + rows * (THUMBNAIL + 0.35) + PLOT + BOTTOM
    figure = blank_page(WIDTH, height)
    figure.text(LEFT / WIDTH, 1 - 0.15 / height, title, va="top", fontsize=11)
    axes = figure.add_axes((LEFT / WIDTH, BOTTOM / height, 1 - (LEFT + RIGHT) / WIDTH, PLOT / height))
    colors = _colors(class_names)
    time = np.arange(len(p)) / (fps or 1)
    _draw_lines(axes, time, p, class_names, colors, best)
    axes.set_xlabel("frame" if fps is None else "seconds")
    framed = [(name, frame) for name, frame in sorted(best.items(), key=lambda item: item[1]) if frame in pictures]
    for place, (name, frame) in enumerate(framed):
        row, column = divmod(place, PER_ROW)
        step = (WIDTH - LEFT - 0.2) / PER_ROW
        bottom = height - TOP - (row + 1) * (THUMBNAIL + 0.35) + 0.1
        box = ((LEFT + column * step) / WIDTH, bottom / height, 0.92 * step / WIDTH, THUMBNAIL / height)
        when = f"frame {frame}" if fps is None else f"{frame / fps:.2f} s"
        index = list(class_names).index(name)
        _draw_picture(
            figure.add_axes(box), np.asarray(pictures[frame]), f"{name}, {when}, {p[frame, index]:.2f}", colors[name]
        )
    save_page(figure, path)


def _draw_lines(
    axes: Axes,
    time: NDArray[np.floating[Any]],
    p: NDArray[np.floating[Any]],
    class_names: Sequence[str],
    colors: Mapping[str, Any],
    best: Mapping[str, int],
) -> None:
    largest = np.nanmax(np.where(np.isnan(p), -1, p), axis=0)
    # A frame between two gaps is no line: the dot keeps it visible.
    marker: dict[str, Any] = {"marker": "o", "markersize": 2.0}
    for index, name in enumerate(class_names):
        if largest[index] >= SHOWN or name in best:
            axes.plot(time, p[:, index], color=colors[name], linewidth=1.4, label=name, **marker)
    for name, frame in best.items():
        value = p[frame, list(class_names).index(name)]
        axes.plot(time[frame], value, marker="v", markersize=9, color=colors[name], markeredgecolor="black")
    for frame in np.flatnonzero(np.isnan(p).all(axis=1)).tolist():
        half = (time[1] - time[0]) / 2 if len(time) > 1 else 0.5
        axes.axvspan(time[frame] - half, time[frame] + half, color="#dddddd", linewidth=0)
    axes.set_ylim(0, 1.06)
    axes.set_xlim(time[0], max(time[-1], time[0] + 1e-3))
    axes.set_ylabel("probability")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=8, frameon=False)


def _draw_picture(axes: Axes, picture: NDArray[Any], heading: str, color: Any) -> None:
    axes.imshow(picture, cmap="gray", aspect="equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(heading, fontsize=7.5, pad=3)
    for spine in axes.spines.values():
        spine.set_color(color)
        spine.set_linewidth(2)


def _colors(class_names: Sequence[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    return {name: colormaps["tab20"](index % 20) for index, name in enumerate(class_names)}
