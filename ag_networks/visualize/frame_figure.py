"""A figure of pictures with the maps and boxes that a network gave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ag_networks.visualize.sheet import Sheet, heat_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FrameMaps", "save_frame_figure"]

BOX = {"edgecolor": "#ff2b2b", "linewidth": 1.6}
REFERENCE = {"edgecolor": "#3d8bff", "linewidth": 1.6, "linestyle": "dashed"}
WIDTH = 100.0  # every picture is as wide as every other on the page, whatever its pixels
NOTE = "Heat: every map has a scale of its own, from its smallest to its largest value."


@dataclass(frozen=True)
class FrameMaps:
    """One row of the figure.

    Args:
        image: the picture, gray (H, W) or colored (H, W, 3), the latter as bytes or between 0 and 1.
        maps: maps (h, w) of any size that cover the picture, by the name of their column.
        label: written beside the row, such as the prediction with its probability.
        box: (top, left, bottom, right) in pixels of the picture, drawn in red.
        reference: a box to compare with, dashed in blue.
    """

    image: ArrayLike
    maps: Mapping[str, ArrayLike] = field(default_factory=dict)
    label: str = ""
    box: Sequence[float] | None = None
    reference: Sequence[float] | None = None


def save_frame_figure(
    path: str | Path, rows: Sequence[FrameMaps], *, title: str = "", note: str = NOTE, inches: float = 2.2
) -> None:
    """Write a PNG with a row for each picture: the picture with its box, then each of its maps over it.

    Columns are the names of all maps, in the order in which they first come; the papers' figures have AG1, AG2, AG3
    (the class activation map) and AG-all. A row without a map of that name has no panel there.

    Args:
        path: the PNG file; it appears whole or not at all.
        rows: the pictures.
        title: printed at the top; it must not tell who the patient is.
        note: printed at the bottom.
        inches: width of a column.

    Raises:
        ValueError: if there is no picture, or a picture or map has the wrong number of axes.
        ImportError: if matplotlib is not installed; it says what to install.

    Example:
        >>> import tempfile
        >>> row = FrameMaps(np.zeros((30, 40)), {"AG1": np.eye(10)}, label="Femur 0.98", box=(5, 5, 20, 30))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_frame_figure(Path(folder) / "frames.png", [row])
        ...     (Path(folder) / "frames.png").exists()
        True
    """
    if not rows:
        raise ValueError("there is no picture to draw")
    images = [_picture(row.image) for row in rows]
    columns = list(dict.fromkeys(name for row in rows for name in row.maps))
    heights = [WIDTH * image.shape[0] / image.shape[1] for image in images]
    sheet = Sheet([WIDTH] * (1 + len(columns)), heights, inches=inches, title=title, note=note)
    for column, heading in enumerate(["image", *columns]):
        sheet.heading(column, heading)
    for number, (row, image) in enumerate(zip(rows, images, strict=True)):
        sheet.row_label(number, row.label)
        for column, name in enumerate([None, *columns]):
            if name is None or name in row.maps:
                axes = _panel(sheet, number, column, image)
                if name is not None:
                    values = _map(row.maps[name], name)
                    sheet.heat(axes, values, _pixel(values, heights[number]), limits=heat_limits([values]))
                _draw_boxes(axes, row, image)
    sheet.save(path)


def _panel(sheet: Sheet, row: int, column: int, image: NDArray[Any]) -> Axes:
    window = (float(image.min()), max(float(image.max()), float(image.min()) + 1e-6))
    return sheet.panel(row, column, image, _pixel(image, WIDTH * image.shape[0] / image.shape[1]), window=window)


def _pixel(values: NDArray[Any], height: float) -> tuple[float, float]:
    """Width and height of a pixel, so that the array fills the panel."""
    return WIDTH / values.shape[1], height / values.shape[0]


def _draw_boxes(axes: Axes, row: FrameMaps, image: NDArray[Any]) -> None:
    from matplotlib.patches import Rectangle

    scale = WIDTH / image.shape[1]
    for box, style in ((row.reference, REFERENCE), (row.box, BOX)):
        if box is not None:
            top, left, bottom, right = (float(edge) * scale for edge in box)
            axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **style))  # type: ignore[arg-type]


def _picture(image: ArrayLike) -> NDArray[Any]:
    array = np.asarray(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        raise ValueError(f"expected a picture (H, W) or (H, W, 3), got shape {array.shape}")
    return array


def _map(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values, dtype=np.float32)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"expected map {name} to have two axes, got shape {array.shape}")
    return array
