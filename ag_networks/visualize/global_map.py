"""The one map that all images of a structured set share: as a picture, and over each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from numpy.typing import ArrayLike

from ag_networks.atomic import atomic_path
from ag_networks.blocks import GlobalSpatialAttention
from ag_networks.data import PictureReader
from ag_networks.transforms import map_on_frame
from ag_networks.visualize.canvas import blank_page, save_page
from ag_networks.visualize.frame_figure import FrameMaps, save_frame_figure

__all__ = ["GlobalMapWriter", "save_attention_map"]

SIZE, BAR, TITLE = 4.0, 0.9, 0.5  # inches
NAME = "global map"
NOTE = (
    "The map is the same for every image of the set: it weighs what the classifier may see, and does not say what it "
    "saw in this one. Heat: from the map's smallest to its largest value."
)


def save_attention_map(path: str | Path, values: ArrayLike | torch.Tensor, *, title: str = "attention map") -> None:
    """Write a PNG of a map beside the scale of its values; dark is large, as in the figures of Xu et al.

    Args:
        path: the PNG file; it appears whole or not at all.
        values: (H, W).
        title: printed at the top.

    Raises:
        ValueError: if the map has not two axes.
        ImportError: if matplotlib is not installed; it says what to install.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_attention_map(Path(folder) / "map.png", torch.rand(20, 30))
        ...     (Path(folder) / "map.png").exists()
        True
    """
    array = np.asarray(torch.as_tensor(values).float().numpy(force=True))
    if array.ndim != 2 or not array.size:
        raise ValueError(f"expected a map (H, W), got shape {array.shape}")
    height = SIZE * array.shape[0] / array.shape[1]
    page = (SIZE + BAR, height + TITLE)
    figure = blank_page(*page)
    axes = figure.add_axes((0.1 / page[0], 0.1 / page[1], (SIZE - 0.2) / page[0], (height - 0.1) / page[1]))
    drawn = axes.imshow(array, cmap="gray_r")
    axes.set_xticks([])
    axes.set_yticks([])
    bar = figure.add_axes((SIZE / page[0], 0.1 / page[1], 0.15 / page[0], (height - 0.1) / page[1]))
    figure.colorbar(drawn, cax=bar)
    summary = f"{array.min():.3f} to {array.max():.3f}, mean {array.mean():.3f}"
    figure.text(0.1 / page[0], 1 - 0.12 / page[1], f"{title}: {summary}", va="top", fontsize=9)
    save_page(figure, path)


class GlobalMapWriter:
    """Write ``attention_map.png`` and ``.npy`` once, and ``<picture>_attention.png`` for every picture.

    Handler for :class:`ag_networks.handlers.PictureEvaluator`. The picture's figure shows it, then the map over it
    where cropping, mirroring and resizing have put it, outside of which the network saw nothing.

    Args:
        output_dir: where the files go; a picture in a subfolder of the input has its figure in the same subfolder.
        class_names: name of every class by its index, as ``channel_def`` in ``metadata.json`` has them, or a list.
        attention: the network's attention.
        softmax: whether ``"pred"`` still needs one.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str] | Mapping[str, str] | Mapping[int, str],
        attention: GlobalSpatialAttention,
        *,
        softmax: bool = True,
    ) -> None:
        self.output_dir = Path(output_dir)
        named = class_names.items() if isinstance(class_names, Mapping) else enumerate(class_names)
        self.class_names = {int(index): name for index, name in named}
        self.attention = attention
        self.softmax = softmax
        self._reader = PictureReader()
        self._written = False

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator, behind its postprocessing."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the figures of the current pictures."""
        values = self.attention.map[0, 0].detach().float().cpu().numpy()
        if not self._written:
            save_attention_map(self.output_dir / "attention_map.png", values)
            with atomic_path(self.output_dir / "attention_map.npy") as path, path.open("wb") as file:
                np.save(file, values)
            self._written = True
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            self._write(item["case"], output, values)

    def _write(self, case: str, output: Mapping[str, Any], values: np.ndarray) -> None:
        image = output["image"]
        picture = self._reader.get_data([image.meta["filename_or_obj"]])[0].astype(np.uint8)
        scores = torch.as_tensor(output["pred"]).flatten().float()
        probabilities = scores.softmax(dim=0) if self.softmax else scores
        best = int(probabilities.argmax())
        span = max(float(np.ptp(values)), float(np.finfo(np.float32).tiny))
        seen = map_on_frame((values - values.min()) / span, image.affine, image.shape[-2:], picture.shape[-2:])
        (self.output_dir / case).parent.mkdir(parents=True, exist_ok=True)
        pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        row = FrameMaps(pixels, {NAME: seen}, label=f"{self.class_names[best]} {probabilities[best]:.2f}")
        save_frame_figure(self.output_dir / f"{case}_attention.png", [row], title=case, note=NOTE, inches=3.2)
