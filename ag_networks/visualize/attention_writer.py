"""Where a classifier looked, for every picture of a run: a figure and the maps themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from numpy.typing import NDArray

from ag_networks.atomic import atomic_path
from ag_networks.data import PictureReader
from ag_networks.transforms import map_on_frame
from ag_networks.visualize.frame_figure import FrameMaps, save_frame_figure

__all__ = ["AttentionWriter"]

MEAN = "AG-all"


class AttentionWriter:
    """Write ``<picture>_attention.png`` and ``<picture>_attention.npz`` for every picture.

    Handler for :class:`ag_networks.handlers.PictureEvaluator` whose postprocessing has the maps of
    :class:`~ag_networks.visualize.WithMaps` and the results of ``LocateObjectd``. The PNG shows the picture with the
    box, then each map and their mean (AG-all) over it. The NPZ holds the same maps by name on the picture's own pixels,
    ``uint8``, each scaled to a largest value of 255 (AG-all is the mean of these), negative values and what the network
    did not see 0. The picture is read once more, as the network has its sector only.

    Args:
        output_dir: where the files go; a picture in a subfolder of the input has its files in the same subfolder.
        class_names: name of every class by its index, as ``channel_def`` in ``metadata.json`` has them, or a list.
        maps: keys of the maps from fine to coarse, those of the prediction's class where they have a channel for each.
            What is not there is left out.
        softmax: whether ``"pred"`` still needs one.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str] | Mapping[str, str] | Mapping[int, str],
        *,
        maps: Sequence[str] = ("AG1", "AG2", "CAM"),
        softmax: bool = True,
    ) -> None:
        self.output_dir = Path(output_dir)
        named = class_names.items() if isinstance(class_names, Mapping) else enumerate(class_names)
        self.class_names = {int(index): name for index, name in named}
        self.maps = tuple(maps)
        self.softmax = softmax
        self._reader = PictureReader()

    def attach(self, engine: Engine) -> None:
        """Attach to the evaluator, behind its postprocessing."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the maps of the current pictures."""
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            self._write(item["case"], output)

    def _write(self, case: str, output: Mapping[str, Any]) -> None:
        image = output["image"]
        picture = self._reader.get_data([image.meta["filename_or_obj"]])[0].astype(np.uint8)
        scores = torch.as_tensor(output["pred"]).flatten().float()
        best = int(scores.argmax())
        maps = {
            name: map_on_frame(values, image.affine, image.shape[-2:], picture.shape[-2:])
            for name, values in self._scaled(output, best).items()
        }
        box = None if bool(torch.isnan(output["box"]).any()) else output["box"].tolist()
        probability = float((scores.softmax(dim=0) if self.softmax else scores)[best])
        label = f"{self.class_names[best]} {probability:.2f}"
        pixels = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        (self.output_dir / case).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.output_dir / f"{case}_attention.npz") as path, path.open("wb") as file:
            small: Any = {name: np.rint(255 * values).astype(np.uint8) for name, values in maps.items()}
            np.savez_compressed(file, **small)
        save_frame_figure(
            self.output_dir / f"{case}_attention.png", [FrameMaps(pixels, maps, label=label, box=box)], title=case
        )

    def _scaled(self, output: Mapping[str, Any], best: int) -> dict[str, NDArray[np.float32]]:
        scaled = {}
        for name in self.maps:
            if name in output:
                values = torch.as_tensor(output[name]).float().cpu().numpy()
                positive = np.maximum(values[best if len(values) > 1 else 0], 0)
                scaled[name] = positive / max(float(positive.max()), float(np.finfo(np.float32).tiny))
        return {**scaled, MEAN: torch.as_tensor(output["attention"])[0].cpu().numpy()}
