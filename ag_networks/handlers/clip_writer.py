"""What the clips of a run show: probabilities over time, and the best frame of every class."""

import csv
import io
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from numpy.typing import NDArray

from ag_networks.atomic import atomic_path
from ag_networks.data.pictures import split_frame
from ag_networks.handlers.class_names import names_in_order
from ag_networks.handlers.picture_evaluator import PictureEvaluator, RunEvents
from ag_networks.handlers.prediction_writer import probabilities_of, versions_in_use
from ag_networks.metrics import find_best_frames, find_segments, smooth_frames

__all__ = ["ClipWriter"]

THUMBNAIL = 128  # pixels of the longer side; all frames of a clip are kept until its best ones are known


class ClipWriter:
    """Write ``<clip>_frames.csv``, ``<clip>.json`` and, if told how to draw, ``<clip>_timeline.png`` for every clip.

    Handler for :class:`~ag_networks.handlers.PictureEvaluator` that runs over the frames of clips as
    :func:`ag_networks.data.list_pictures` names them (``clip.mp4#0007``); single pictures are left alone. The CSV has a
    row for each frame of the clip: ``frame`` (from 0), ``seconds`` if the rate is known, ``prediction`` and
    ``probability`` after smoothing, then for every class its smoothed probability, by name, and that of the frame
    alone, as ``<class> (frame)``. A frame that could not be read has its row, with empty cells, so that the others keep
    their place. The JSON holds the best frame of every class that is shown, the segments, the frames that failed with
    the reason, settings and versions.

    Args:
        output_dir: where the files go; a clip in a subfolder of the input has its files in the same subfolder.
        class_names: name of every class, or names by index as ``channel_def`` in ``metadata.json`` has them.
        window: frames that are averaged, odd.
        threshold: smoothed probability from which on a class is shown although another one wins.
        left_out: classes without a best frame, such as the one that says "none of the others".
        fps: frames per second of the clips; ``None``: unknown.
        settings: recorded in the JSON.
        softmax: whether ``"pred"`` still needs one.
        draw: draws the timeline, called as :func:`ag_networks.visualize.save_timeline`.

    Raises:
        ValueError: on construction if the window is even, the rate is not positive or class names are unusable.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str] | Mapping[str, str] | Mapping[int, str],
        *,
        window: int = 5,
        threshold: float = 0.5,
        left_out: Collection[str] = (),
        fps: float | None = None,
        settings: Mapping[str, Any] | None = None,
        softmax: bool = True,
        draw: Callable[..., None] | None = None,
    ) -> None:
        smooth_frames(np.empty((0, 2)), window=window)  # says now what is wrong with it
        if fps is not None and not fps > 0:
            raise ValueError(f"expected a positive number of frames per second, got {fps}")
        self.output_dir = Path(output_dir)
        self.class_names = names_in_order(class_names)
        self.window, self.threshold, self.left_out, self.fps = window, threshold, tuple(left_out), fps
        self.settings = dict(settings or {})
        self.softmax = softmax
        self.draw = draw
        self._start()

    def attach(self, engine: PictureEvaluator) -> None:
        """Attach to the evaluator, behind its postprocessing."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)
        engine.add_event_handler(RunEvents.ENDED, self._finish)

    def __call__(self, engine: PictureEvaluator) -> None:
        """Take the predictions of the current frames; a clip is written when the next one begins."""
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            clip, frame = split_frame(item["case"])
            if frame is None:
                continue
            if clip not in self._clips:
                self._finish(engine)
            probabilities = probabilities_of(output["pred"], len(self.class_names), softmax=self.softmax)
            thumbnail = _thumbnail(output["image"]) if self.draw is not None else None
            self._clips.setdefault(clip, {})[frame] = (probabilities, thumbnail)

    def _start(self, _engine: Engine | None = None) -> None:
        self._clips: dict[str, dict[int, tuple[list[float], Any]]] = {}

    def _finish(self, engine: PictureEvaluator) -> None:
        for clip, frames in self._clips.items():
            self._write(clip, frames, _failures(engine.failures, clip))
        self._clips = {}

    def _write(self, clip: str, frames: Mapping[int, tuple[list[float], Any]], failures: Mapping[int, str]) -> None:
        single = np.full((max([*frames, *failures]) + 1, len(self.class_names)), np.nan)
        for frame, (probabilities, _) in frames.items():
            single[frame] = probabilities
        smoothed = smooth_frames(single, window=self.window)
        options: dict[str, Any] = {"threshold": self.threshold, "left_out": self.left_out}
        best = find_best_frames(smoothed, self.class_names, probabilities=single, **options)
        report = {
            "clip": clip,
            "frames": len(single),
            "fps": self.fps,
            "best_frames": {
                name: {key: value for key, value in self._timed(asdict(found)).items() if key != "class_name"}
                for name, found in best.items()
            },
            "segments": [asdict(segment) for segment in find_segments(smoothed, self.class_names)],
            "failures": [{"frame": frame, "reason": reason} for frame, reason in sorted(failures.items())],
            "settings": {**self.settings, "window": self.window, **options},
            "versions": versions_in_use(),
        }
        with atomic_path(self.output_dir / f"{clip}_frames.csv") as path:
            path.write_text(self._table(single, smoothed), encoding="utf-8")
        if self.draw is not None:
            self.draw(
                self.output_dir / f"{clip}_timeline.png",
                smoothed,
                self.class_names,
                best_frames={name: found.frame for name, found in best.items()},
                thumbnails={found.frame: frames[found.frame][1] for found in best.values()},
                fps=self.fps,
                title=clip,
            )
        with atomic_path(self.output_dir / f"{clip}.json") as path:
            path.write_text(json.dumps(report, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")

    def _timed(self, found: dict[str, Any]) -> dict[str, Any]:
        return found if self.fps is None else {**found, "seconds": round(found["frame"] / self.fps, 3)}

    def _table(self, single: NDArray[np.float64], smoothed: NDArray[np.float64]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        time = [] if self.fps is None else ["seconds"]
        alone = [f"{name} (frame)" for name in self.class_names]
        writer.writerow(["frame", *time, "prediction", "probability", *self.class_names, *alone])
        for frame, (mean, raw) in enumerate(zip(smoothed, single, strict=True)):
            when = [] if self.fps is None else [f"{frame / self.fps:.3f}"]
            if np.isnan(raw).all():
                cells = [""] * (2 + 2 * len(raw))
            else:
                cells = [self.class_names[int(mean.argmax())], *(f"{value:.6f}" for value in (mean.max(), *mean, *raw))]
            writer.writerow([frame, *when, *cells])
        return text.getvalue()


def _failures(failures: Mapping[str, str], clip: str) -> dict[int, str]:
    frames = ((split_frame(case), reason) for case, reason in failures.items())
    return {frame: reason for (name, frame), reason in frames if name == clip and frame is not None}


def _thumbnail(image: torch.Tensor) -> NDArray[np.uint8]:
    """Return a small gray picture (H, W) of an image (channels, H, W), between its darkest and its brightest value."""
    values = torch.as_tensor(image).detach().float().cpu().as_subclass(torch.Tensor).mean(dim=0)[None, None]
    scale = min(1.0, THUMBNAIL / max(values.shape[2:]))
    small = F.interpolate(values, scale_factor=scale, mode="area") if scale < 1 else values
    low, high = small.amin(), small.amax()
    return (255 * (small - low) / (high - low).clamp(min=1e-6))[0, 0].round().to(torch.uint8).numpy()
