"""The predictions for a folder of pictures, as one table and one report."""

import csv
import io
import json
import platform
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents

from ag_networks.atomic import atomic_path
from ag_networks.handlers.class_names import names_in_order
from ag_networks.handlers.picture_evaluator import PictureEvaluator, RunEvents

__all__ = ["PredictionWriter", "probabilities_of", "versions_in_use", "warnings_of"]

PACKAGES = ("ag-networks", "monai", "torch", "numpy", "pydicom", "pillow")
SAVE_EVERY = 30.0  # seconds; what a killed run has done so far is not lost


class PredictionWriter:
    """Write ``predictions.csv`` and ``predictions.json`` about all pictures of a run.

    Handler for :class:`~ag_networks.handlers.PictureEvaluator`. The CSV has a row for each picture that was read, in
    the order of the input: ``image``, ``prediction`` (class name), ``probability``, then the probability of every
    class by name, six digits. The JSON says the same, with the warnings about a picture, the pictures that failed with
    the reason, versions, the settings, and seconds; no path, date or patient data. Where the postprocessing has located
    an object (``LocateObjectd``), its box stands there too, as (top, left, bottom, right), or ``null``.

    Both appear whole or not at all, at the end of the run, also if it was stopped; from time to time they are written
    with what is done so far. ``"complete"`` in the JSON tells whether the run came to its end.

    Args:
        output_dir: where both go.
        class_names: name of every class, or names by index as ``channel_def`` in ``metadata.json`` has them.
        settings: recorded in the JSON.
        softmax: whether ``"pred"`` still needs one.
        warnings_key: where in the image's meta data its warnings stand, parted by ``"; "``.
        least_probability: a prediction with less gets a warning.

    Raises:
        ValueError: on construction for unusable class names; while running, if a prediction has another number of
            classes (which fails that picture).
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str] | Mapping[str, str] | Mapping[int, str],
        *,
        settings: Mapping[str, Any] | None = None,
        softmax: bool = True,
        warnings_key: str = "picture_warnings",
        least_probability: float = 0.0,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.class_names = names_in_order(class_names)
        self.settings = dict(settings or {})
        self.softmax = softmax
        self.warnings_key = warnings_key
        self.least_probability = float(least_probability)
        self._start()

    def attach(self, engine: PictureEvaluator) -> None:
        """Attach to the evaluator, behind its postprocessing."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._complete)
        engine.add_event_handler(RunEvents.ENDED, self._write)

    def __call__(self, engine: PictureEvaluator) -> None:
        """Take the predictions of the current pictures."""
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            # by name: the pictures of a batch that failed come again, one by one
            self._pictures[item["case"]] = self._judge(item["case"], output)
        if time.perf_counter() - self._saved > SAVE_EVERY:
            self._write(engine)

    def _judge(self, case: str, output: Mapping[str, Any]) -> dict[str, Any]:
        probabilities = probabilities_of(output["pred"], len(self.class_names), softmax=self.softmax)
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        warnings = warnings_of(output.get("image"), self.warnings_key)
        if probabilities[best] < self.least_probability:
            expected = f"expected {self.least_probability:g} or more"
            warnings.append(f"unsure: probability {probabilities[best]:.2f}, {expected}")
        return {
            "image": case,
            "prediction": self.class_names[best],
            "probability": round(probabilities[best], 6),
            "probabilities": {n: round(p, 6) for n, p in zip(self.class_names, probabilities, strict=True)},
            "warnings": warnings,
            **_located(output),
        }

    def _start(self, _engine: Engine | None = None) -> None:
        self._pictures: dict[str, dict[str, Any]] = {}
        self._complete_run = False
        self._started = self._saved = time.perf_counter()

    def _complete(self, _engine: Engine) -> None:
        self._complete_run = True

    def _write(self, engine: PictureEvaluator) -> None:
        self._saved = time.perf_counter()
        # A handler behind this one may have failed a picture.
        pictures = [picture for case, picture in self._pictures.items() if case not in engine.failures]
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["image", "prediction", "probability", *self.class_names])
        for picture in pictures:
            numbers = [picture["probability"], *picture["probabilities"].values()]
            writer.writerow([picture["image"], picture["prediction"], *(f"{number:.6f}" for number in numbers)])
        report = {
            "complete": self._complete_run,
            "classes": self.class_names,
            "images": pictures,
            "failures": [{"image": case, "reason": reason} for case, reason in engine.failures.items()],
            "seconds": round(self._saved - self._started, 1),
            "settings": self.settings,
            "versions": versions_in_use(),
        }
        for name, text in (
            ("predictions.csv", table.getvalue()),
            ("predictions.json", json.dumps(report, indent=4, ensure_ascii=False) + "\n"),
        ):
            with atomic_path(self.output_dir / name) as path:
                path.write_text(text, encoding="utf-8")


def probabilities_of(prediction: Any, classes: int, *, softmax: bool) -> list[float]:
    """Return the probability of every class from a prediction of any shape with one number for each.

    Raises:
        ValueError: if there are more or fewer numbers, or one is not finite.
    """
    scores = torch.as_tensor(prediction).detach().flatten().double().cpu()
    if len(scores) != classes:
        raise ValueError(f"the network gives {len(scores)} classes, but {classes} are named")
    if not bool(scores.isfinite().all()):
        raise ValueError("the network's scores are not finite numbers")
    return (scores.softmax(dim=0) if softmax else scores).tolist()


def warnings_of(image: Any, key: str) -> list[str]:
    """Return the warnings that reading and preprocessing have left with an image."""
    text = str(image.meta.get(key, "")) if isinstance(image, MetaTensor) else ""
    return [warning for warning in text.split("; ") if warning]


def _located(output: Mapping[str, Any]) -> dict[str, Any]:
    if "box" not in output:
        return {}
    edges = torch.as_tensor(output["box"])
    box = None if bool(edges.isnan().any()) else [round(float(edge)) for edge in edges]
    return {"box": box, "box_at_every_scale": bool(output["box_overlaps"])}


def versions_in_use() -> dict[str, str]:
    """Return the versions of Python and of the packages that make a prediction."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
