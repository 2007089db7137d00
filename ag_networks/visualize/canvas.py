"""A matplotlib page that needs no display, and its PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ag_networks.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["blank_page", "save_page"]


def blank_page(width: float, height: float, *, dpi: int = 110) -> Figure:
    """Return a white page, sizes in inches.

    Raises:
        ImportError: if matplotlib is not installed; it says what to install.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('pictures need matplotlib: pip install "ag-networks[plot]"') from error
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_page(figure: Figure, path: str | Path) -> None:
    """Write a page as PNG, whole or not at all; the same page gives the same bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
