"""Pictures of the attention coefficients while a network learns, as in the paper's figure."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset, MetaTensor
from monai.networks.utils import eval_mode
from monai.transforms import SpatialCrop
from monai.transforms.utils import correct_crop_centers
from numpy.typing import NDArray

from ag_networks.atomic import atomic_path
from ag_networks.visualize.capture import capture_attention
from ag_networks.visualize.sheet import (
    LINES,
    SIDES_NOTE,
    Sheet,
    cut,
    heat_limits,
    mark_sides,
    outline,
    pixel_mm,
    readable,
    shown,
    value_range,
    widest_slice,
)

__all__ = ["AttentionFigures"]

_logger = logging.getLogger(__name__)

Array = NDArray[Any]
Planes = dict[str, Array]  # plane -> pixels
History = dict[int, dict[str, Planes]]  # epoch -> level of gates -> coefficients

ORDER = ("axial", "coronal", "sagittal")
STRIP_ORDER = ("axial", "sagittal")
HEAT_NOTE = "Heat: attention coefficients, mean of the gates of a level."


class AttentionFigures:
    """Draw where the gates look after some epochs of a training, always on the same crop of the same volume.

    Source: Oktay, Schlemper et al. (MIDL 2018), the figure of attention coefficients at epochs 3, 6, 10, 60 and 150.
    After each of the epochs it writes ``attention_epoch_0003.png`` (the image and each level of gates in three planes)
    and ``attention_epochs.png`` (all epochs so far, side by side). The shown slices are kept in
    ``attention_epochs.npz``, so that a resumed training goes on with the same strip.

    Handler for a trainer. It leaves the training as it is: the network runs in evaluation mode without gradients, no
    random number is drawn, and in distributed training only the first process works. Where there is nothing to draw
    (a network without gates) or to draw with (matplotlib is not installed), one line in the log says so.

    Args:
        dataset: 3D cases with ``"image"``, of which the first is shown; without random transforms. If it has a
            ``"label"`` too, the crop lies around label 1 and its outline is drawn; otherwise at the volume's center.
        network: the network in training, or its ``DistributedDataParallel`` wrapper.
        output_dir: where the pictures go.
        roi_size: size of the crop in voxels.
        epochs: after which epochs to draw.
    """

    def __init__(
        self,
        dataset: Dataset,
        network: torch.nn.Module,
        output_dir: str | Path,
        roi_size: Sequence[int],
        epochs: Sequence[int] = (3, 6, 10, 60, 150),
    ) -> None:
        self.dataset = dataset
        self.network = getattr(network, "module", network)
        self.output_dir = Path(output_dir)
        self.roi_size = tuple(roi_size)
        self.epochs = frozenset(epochs)
        self._view: _View | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        if idist.get_rank() != 0:
            return
        try:
            Sheet([1], [1], inches=1, title="", note="")
            with capture_attention(self.network):
                pass
        except (ImportError, ValueError) as error:
            _logger.warning("no attention figures: %s", error)
            return
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Draw, if this epoch is one of those."""
        if engine.state.epoch in self.epochs:
            self.draw(engine.state.epoch)

    def draw(self, epoch: int) -> None:
        """Run the network on the crop and write the picture of this epoch and the strip of all."""
        if self._view is None:
            self._view = _first_view(self.dataset, self.roi_size)
        levels = self._levels(self._view)
        _draw_epoch(self.output_dir / f"attention_epoch_{epoch:04d}.png", self._view, levels, epoch)
        kept = self.output_dir / "attention_epochs.npz"
        earlier = _load_history(kept, self._view.image)
        history = {e: of_epoch for e, of_epoch in earlier.items() if e < epoch and of_epoch.keys() == levels.keys()}
        history[epoch] = levels
        _save_history(kept, self._view.image, history)
        _draw_strip(kept.with_suffix(".png"), self._view, history)

    def _levels(self, view: _View) -> dict[str, Planes]:
        device = next(self.network.parameters()).device
        with eval_mode(self.network), capture_attention(self.network, on_input_grid=True) as attention:
            self.network(view.crop[None].to(device))
        return {
            name.removeprefix("decoder.").removesuffix(".gate"): view.cut(alpha[0].float().mean(dim=0).cpu().numpy())
            for name, alpha in attention.items()
        }


@dataclass(frozen=True)
class _View:
    """What is shown of a volume: a crop of it, and one slice of the crop in each plane.

    Args:
        crop: the network's input (1, x, y, z).
        orientation: how to turn the axes of the crop to RAS, in nibabel's terms.
        spacing: of the turned crop, in millimeters.
        slices: index of the shown slice by plane.
        image: the shown slices.
        label: where label 1 is on them; empty if there is no label.
    """

    crop: torch.Tensor
    orientation: Array
    spacing: tuple[float, ...]
    slices: dict[str, int]
    image: Planes
    label: Planes

    def cut(self, volume: Array) -> Planes:
        """Cut the shown slices out of a volume on the grid of the crop."""
        return _cut(nib.apply_orientation(volume, self.orientation), self.slices)

    def mm(self, plane: str) -> tuple[float, float]:
        return pixel_mm(self.spacing, plane)

    def size(self, plane: str) -> tuple[float, float]:
        """Width and height in millimeters."""
        (width, height), (rows, columns) = self.mm(plane), self.image[plane].shape
        return columns * width, rows * height


def _cut(upright: Array, slices: Mapping[str, int]) -> Planes:
    return {plane: np.ascontiguousarray(cut(upright, plane, index)) for plane, index in slices.items()}


def _first_view(dataset: Dataset, roi_size: Sequence[int]) -> _View:
    """View of the first case of a dataset."""
    case = dataset[0]
    image, label = MetaTensor(case["image"]), case.get("label")
    mask = None if label is None else np.asarray(label.cpu())[0] == 1
    crop = SpatialCrop(roi_center=_center(image.shape[1:], roi_size, mask), roi_size=roi_size)
    cropped = crop(image.as_tensor().cpu())

    affine = np.asarray(image.affine, dtype=float)
    orientation = nib.io_orientation(affine)
    spacing = np.empty(3)
    spacing[orientation[:, 0].astype(int)] = nib.affines.voxel_sizes(affine)
    upright = nib.apply_orientation(np.asarray(cropped[0]), orientation)
    masks = [] if mask is None else [nib.apply_orientation(np.asarray(crop(mask[None]))[0], orientation)]
    slices = {plane: widest_slice(plane, upright.shape, *masks) for plane in ORDER}
    outlines = _cut(masks[0], slices) if masks else {}
    return _View(
        torch.as_tensor(cropped), orientation, tuple(spacing.tolist()), slices, _cut(upright, slices), outlines
    )


def _center(shape: Sequence[int], roi_size: Sequence[int], mask: Array | None) -> list[int]:
    """Center of the crop: of the mask if it has any, else of the volume, as far as the crop stays inside."""
    center = [size // 2 for size in shape]
    if mask is not None and mask.any():
        center = [int(axis.min() + axis.max() + 1) // 2 for axis in np.nonzero(mask)]
    return list(correct_crop_centers(center, roi_size, shape, allow_smaller=True))


def _load_history(path: Path, image: Planes) -> History:
    """Slices of earlier epochs, if they show the same image."""
    history: History = {}
    if not path.is_file():
        return history
    with np.load(path) as file:
        if not all(np.array_equal(file[f"image/{plane}"], pixels) for plane, pixels in image.items()):
            return history
        for key in file.files:
            if not key.startswith("image/"):
                epoch, level, plane = key.split("/")
                history.setdefault(int(epoch), {}).setdefault(level, {})[plane] = file[key]
    return history


def _save_history(path: Path, image: Planes, history: History) -> None:
    arrays: dict[str, Any] = {f"image/{plane}": pixels for plane, pixels in image.items()}
    for epoch, levels in history.items():
        for level, planes in levels.items():
            arrays.update({f"{epoch:04d}/{level}/{plane}": pixels for plane, pixels in planes.items()})
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _draw_epoch(path: Path, view: _View, levels: Mapping[str, Planes], epoch: int) -> None:
    """Planes in rows; the image and the levels in columns."""
    sheet = Sheet(
        [max(view.size(plane)[0] for plane in ORDER)] * (1 + len(levels)),
        [view.size(plane)[1] for plane in ORDER],
        inches=2.8,
        title=f"Attention after epoch {epoch}",
        note=f"{SIDES_NOTE} {HEAT_NOTE} Every level has a scale of its own.",
        bars=True,
        legend=_legend(view),
    )
    for column, heading in enumerate(["input", *map(readable, levels)]):
        sheet.heading(column, heading)
    for row, plane in enumerate(ORDER):
        sheet.row_label(row, plane)
        _draw_panel(sheet, row, 0, view, plane)
        for column, planes in enumerate(levels.values(), start=1):
            heat = _draw_panel(sheet, row, column, view, plane, planes[plane], heat_limits(planes.values()))
            if row == 0:
                sheet.bar(column, heat, "coefficient")
    sheet.save(path)


def _draw_strip(path: Path, view: _View, history: History) -> None:
    """Levels and planes in rows; the image and the epochs in columns."""
    rows = [(level, plane) for level in next(iter(history.values())) for plane in STRIP_ORDER]
    sheet = Sheet(
        [max(view.size(plane)[0] for plane in STRIP_ORDER)] * (1 + len(history)),
        [view.size(plane)[1] for _, plane in rows],
        inches=2.0,
        title="Attention during training",
        note=f"{SIDES_NOTE} {HEAT_NOTE} One scale for all epochs, from clear to bright as given beside it.",
        legend=_legend(view),
    )
    for column, heading in enumerate(["input", *(f"epoch {epoch}" for epoch in history)]):
        sheet.heading(column, heading)
    for row, (level, plane) in enumerate(rows):
        limits = heat_limits(pixels for levels in history.values() for pixels in levels[level].values())
        low, high = map(shown, limits)
        sheet.row_label(row, f"{readable(level).removeprefix('attention, ')}, {plane}\n{low} to {high}")
        _draw_panel(sheet, row, 0, view, plane)
        for column, levels in enumerate(history.values(), start=1):
            _draw_panel(sheet, row, column, view, plane, levels[level][plane], limits)
    sheet.save(path)


def _legend(view: _View) -> dict[str, dict[str, Any]]:
    return {"label 1": LINES["reference"]} if view.label else {}


def _draw_panel(
    sheet: Sheet,
    row: int,
    column: int,
    view: _View,
    plane: str,
    heat: Array | None = None,
    limits: Sequence[float] = (),
) -> Any:
    axes = sheet.panel(row, column, view.image[plane], view.mm(plane), window=value_range(view.image.values()))
    mark_sides(axes, plane)
    drawn = None if heat is None else sheet.heat(axes, heat, view.mm(plane), limits=limits)
    if view.label:
        outline(axes, view.label[plane], view.mm(plane), alpha=0.8, **LINES["reference"])
    return drawn
