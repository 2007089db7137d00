"""A picture made of panels that share one scale: slices of CT in gray, heat on top of them, contours."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ag_networks.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

__all__ = [
    "LINES",
    "PLANES",
    "SIDES_NOTE",
    "Sheet",
    "cut",
    "heat_limits",
    "mark_sides",
    "outline",
    "pixel_mm",
    "readable",
    "shown",
    "value_range",
    "widest_slice",
]

Array = NDArray[Any]

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
LINES: dict[str, dict[str, Any]] = {
    "reference": {"color": "#2ee6d6", "linewidth": 1.3, "linestyle": "dashed"},
    "prediction": {"color": "#ff9f1c", "linewidth": 1.3, "linestyle": "solid"},
}
SIDES_NOTE = "Radiological display: the patient's right is on the left."
_SIDES = {"sagittal": ("A", "P"), "coronal": ("R", "L"), "axial": ("R", "L")}
_BACKGROUND = "#111111"
_GAP, _LEFT, _RIGHT, _TOP, _BOTTOM = 0.08, 0.35, 0.15, 0.72, 0.15  # inches
_BAR_HEIGHT, _BAR_DROP, _BAR_ROOM = 0.1, 0.2, 0.4
_LINE, _CHARACTER, _LEGEND_ROOM = 0.16, 0.062, 0.35
_DPI = 110


def cut(volume: Array, plane: str, index: int) -> Array:
    """Cut one plane out of a volume in RAS order, as radiologists look at it.

    Rows run downward: toward the back (axial) or the feet. Columns run from the patient's right to the left, in the
    sagittal plane from front to back.

    Example:
        >>> volume = np.arange(24).reshape(2, 3, 4)
        >>> int(cut(volume, "axial", 0)[0, 0]), int(volume[1, 2, 0])  # right and front
        (20, 20)
    """
    return np.take(volume, index, axis=PLANES[plane]).T[::-1, ::-1]


def pixel_mm(spacing: Sequence[float], plane: str) -> tuple[float, float]:
    """Width and height in millimeters of a pixel of a plane; `spacing` is that of the volume, in RAS order."""
    width, height = (float(step) for axis, step in enumerate(spacing) if axis != PLANES[plane])
    return width, height


class Sheet:
    """A dark page with panels in rows and columns, drawn without a display and written in one go.

    Args:
        widths, heights: size of the columns and of the rows in millimeters of the patient.
        inches: width of the widest column.
        title: printed at the top.
        note: printed at the bottom, in as many lines as it takes.
        bars: whether there will be color scales below the columns.
        legend: names and line styles to explain between the panels and the note.

    Raises:
        ImportError: if matplotlib is not installed; it says what to install.
    """

    def __init__(
        self,
        widths: Sequence[float],
        heights: Sequence[float],
        *,
        inches: float,
        title: str,
        note: str,
        bars: bool = False,
        legend: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        canvas, figure = _matplotlib()
        scale = inches / max(widths)
        self._widths, self._heights = [w * scale for w in widths], [h * scale for h in heights]
        self.width = _LEFT + sum(self._widths) + _GAP * (len(widths) - 1) + _RIGHT
        lines = textwrap.wrap(note, int((self.width - 2 * _RIGHT) / _CHARACTER))
        legend_at = _BOTTOM + _LINE * len(lines)
        self._bottom = legend_at + (_LEGEND_ROOM if legend else 0.1) + (_BAR_ROOM if bars else 0.0)
        self.height = self._bottom + sum(self._heights) + _GAP * (len(heights) - 1) + _TOP
        self.figure = figure(figsize=(self.width, self.height), dpi=_DPI, facecolor=_BACKGROUND)
        canvas(self.figure)
        self._write(_LEFT, self.height - 0.12, title, va="top", fontsize=12)
        self._write(_LEFT, _BOTTOM, "\n".join(lines), va="bottom", fontsize=8, color="#bbbbbb", linespacing=1.3)
        self._explain(legend or {}, legend_at)

    def panel(self, row: int, column: int, image: Array, mm: tuple[float, float], *, window: Sequence[float]) -> Axes:
        """Add a slice in gray; `mm` is the width and height of its pixels, `window` what black and white stand for."""
        left, bottom, width, height = self._box(row, column)
        axes = self.figure.add_axes(self._relative(left, bottom, width, height), facecolor="black")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], extent=_extent(image, mm))
        axes.autoscale(False)
        return axes

    def heat(self, axes: Axes, values: Array, mm: tuple[float, float], *, limits: Sequence[float]) -> Any:
        """Lay a translucent map over a panel: nothing at the lower limit, bright at the upper one."""
        low, high = limits
        extent = _extent(values, mm)
        return axes.imshow(values, cmap=_heat_colors(), vmin=low, vmax=high, extent=extent, interpolation="bilinear")

    def bar(self, column: int, mappable: Any, label: str) -> None:
        """Add the color scale of a map below a column."""
        left, bottom, width, _ = self._box(len(self._heights) - 1, column)
        box = self._relative(left + 0.15 * width, bottom - _BAR_DROP, 0.7 * width, _BAR_HEIGHT)
        axes = self.figure.add_axes(box, facecolor="#555555")
        bar = self.figure.colorbar(mappable, cax=axes, orientation="horizontal")
        bar.set_ticks(limits := list(mappable.get_clim()), labels=[shown(limit) for limit in limits])
        bar.ax.tick_params(labelsize=8, colors="white", length=0)
        bar.ax.set_xlabel(label, fontsize=8, color="white", labelpad=-9)

    def heading(self, column: int, text: str) -> None:
        """Write above a column."""
        left, bottom, width, height = self._box(0, column)
        self._write(left + width / 2, bottom + height + 0.1, text, ha="center", va="bottom", fontsize=10)

    def row_label(self, row: int, text: str) -> None:
        """Write at the left of a row, upward."""
        left, bottom, _, height = self._box(row, 0)
        self._write(left - 0.17, bottom + height / 2, text, ha="center", va="center", rotation=90, fontsize=9)

    def save(self, path: str | Path) -> None:
        """Write the page as PNG, whole or not at all."""
        with atomic_path(path) as temporary:
            self.figure.savefig(temporary, format="png", facecolor=_BACKGROUND, metadata={"Software": None})

    def _write(self, left: float, bottom: float, text: str, **style: Any) -> None:
        """Write in white at a place in inches."""
        self.figure.text(left / self.width, bottom / self.height, text, **{"color": "white", **style})

    def _explain(self, legend: Mapping[str, Mapping[str, Any]], bottom: float) -> None:
        from matplotlib.lines import Line2D

        self.figure.legend(
            handles=[Line2D([], [], label=name, **style) for name, style in legend.items()],
            loc="lower left",
            bbox_to_anchor=((_LEFT - 0.1) / self.width, bottom / self.height),
            ncols=max(1, len(legend)),
            frameon=False,
            labelcolor="white",
            fontsize=9,
        )

    def _box(self, row: int, column: int) -> tuple[float, float, float, float]:
        left = _LEFT + sum(self._widths[:column]) + _GAP * column
        below = self._heights[row + 1 :]
        return left, self._bottom + sum(below) + _GAP * len(below), self._widths[column], self._heights[row]

    def _relative(self, left: float, bottom: float, width: float, height: float) -> tuple[float, float, float, float]:
        return left / self.width, bottom / self.height, width / self.width, height / self.height


def mark_sides(axes: Axes, plane: str) -> None:
    """Write at the edges of a panel which sides of the patient they are."""
    for text, at, anchor in zip(_SIDES[plane], (0.02, 0.98), ("left", "right"), strict=True):
        axes.text(at, 0.5, text, transform=axes.transAxes, ha=anchor, va="center", color="white", fontsize=9)


def outline(axes: Axes, mask: Array, mm: tuple[float, float], **style: Any) -> None:
    """Draw the contour of a mask in the style of a line; where the mask touches the edge it is closed there."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(np.float32), 1)
    x, y = (mm[axis] * (np.arange(-1, mask.shape[1 - axis] + 1) + 0.5) for axis in (0, 1))
    styles = {f"{name}s": value for name, value in style.items() if name != "alpha"}
    axes.contour(x, y, padded, levels=[0.5], alpha=style.get("alpha"), **styles)


def widest_slice(plane: str, shape: Sequence[int], *masks: Array) -> int:
    """Index of the slice with the largest area of the first mask that has any; else of the middle of the volume."""
    axis = PLANES[plane]
    for mask in masks:
        if mask.any():
            return int(mask.sum(axis=tuple(other for other in range(3) if other != axis)).argmax())
    return shape[axis] // 2


def value_range(arrays: Iterable[Array]) -> tuple[float, float]:
    """Smallest and largest value of several arrays."""
    arrays = list(arrays)
    return min(float(array.min()) for array in arrays), max(float(array.max()) for array in arrays)


def heat_limits(arrays: Iterable[Array]) -> tuple[float, float]:
    """Limits for :meth:`Sheet.heat`, wide enough that a nearly constant map does not pass for a pattern.

    Example:
        >>> heat_limits([np.array([0.2, 0.9])]), heat_limits([np.array([0.5, 0.501])])
        ((0.2, 0.9), (0.5, 0.55))
    """
    low, high = value_range(arrays)
    return low, max(high, low + 0.1 * abs(low), low + 1e-6)


def readable(level: str) -> str:
    """Name a level of gates for people.

    Example:
        >>> readable("level3")
        'attention, level 3'
    """
    return "attention, " + re.sub(r"(?<=[a-z])(?=\d)|_", " ", level)


def shown(coefficient: float) -> str:
    """Write a coefficient for people.

    Example:
        >>> shown(0.98765), shown(1.2e-16), shown(0.00031)
        ('0.988', '0', '0.00031')
    """
    return f"{coefficient:.3g}" if abs(coefficient) > 1e-5 else "0"


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "ag-networks[plot]"') from error
    return FigureCanvasAgg, Figure


def _extent(image: Array, mm: tuple[float, float]) -> tuple[float, float, float, float]:
    return 0.0, image.shape[1] * mm[0], image.shape[0] * mm[1], 0.0


def _heat_colors() -> Colormap:
    """Colors whose opacity grows with the value, so that the image shows through where there is little attention."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    colors = colormaps["inferno"](np.linspace(0.15, 1, 256))
    colors[:, 3] = np.linspace(0, 0.7, 256)
    return ListedColormap(colors)
