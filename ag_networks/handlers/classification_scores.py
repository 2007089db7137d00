"""Scores of a classifier as a metric of a MONAI engine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, cast

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.utils import ImageMetaKey

from ag_networks.handlers.class_names import names_in_order
from ag_networks.metrics import OVERALL_SCORES, PictureTable, format_classes, format_overall

__all__ = ["ClassificationScores"]

_logger = logging.getLogger(__name__)
# of which more is better
KEYS = tuple(name for name in OVERALL_SCORES if name != "ece")
# name of an image: label, probabilities, subject
Rows = dict[str, tuple[int, list[float], str]]


class ClassificationScores(Metric):
    """Collect the probabilities of an epoch and keep one of their scores as the engine's metric.

    It stands where MONAI's ``ROCAUC`` stands in a bundle (``key_metric`` or ``additional_metrics``) and scores all
    images of an epoch together (see :func:`ag_networks.metrics.score_classification`). At the end of an epoch

    - the metric's own name in ``engine.state.metrics`` gets the ``key`` score, and every score of
      ``ag_networks.metrics.OVERALL_SCORES`` stands there under its name, as does the F1 of every class that has images
      (``<class>_f1``);
    - :attr:`table` holds the :class:`~ag_networks.metrics.PictureTable`;
    - with ``output_dir``, process 0 writes ``results.csv`` (a row for each image), ``summary.json`` (with confidence
      intervals) and ``confusion_matrix.csv`` there, and ``confusion_matrix.png`` if it is told how to draw.

    Images come from the engine's output, decollated as is the default: ``"pred"`` (scores before the softmax, or a list
    of scores of which the first counts) and ``"label"`` (class index); name and subject from the batch (``"image"``'s
    path or ``"case"``, and ``"subject"``). Names of images are paths below the folder that all images share. In
    distributed evaluation the rows of all processes are collected; an image that a sampler handed to two of them counts
    once.

    Args:
        class_names: name of every class, or names by index as ``channel_def`` in ``metadata.json`` has them.
        key: the score that becomes the engine's metric.
        softmax: whether predictions still need one.
        ordered: whether the classes are grades in ascending order.
        output_dir: where to write the files; ``None`` writes none.
        draw: draws the confusion matrix: called with a path, the counts and the class names (such as
            ``ag_networks.visualize.save_confusion_matrix``).

    Raises:
        ValueError: on construction for an unknown ``key`` or unusable class names; while running if an image comes
            twice in one process, or labels or predictions do not fit the classes.

    Example:
        >>> metric = ClassificationScores(["brain", "femur"], key="accuracy")
        >>> metric.update(([{"case": "a.png"}], [{"pred": torch.tensor([2.0, 0.0]), "label": torch.tensor(0)}]))
        >>> metric.compute(), metric.table.rows[0].prediction
        (1.0, 'brain')
    """

    def __init__(
        self,
        class_names: Sequence[str] | Mapping[str, str] | Mapping[int, str],
        *,
        key: str = "macro_f1",
        softmax: bool = True,
        ordered: bool = False,
        output_dir: str | os.PathLike[str] | None = None,
        draw: Callable[..., None] | None = None,
    ) -> None:
        if key not in KEYS:
            raise ValueError(f"unknown key {key!r}, expected one of {', '.join(KEYS)}")
        if key == "quadratic_kappa" and not ordered:
            raise ValueError("the key quadratic_kappa needs classes that are ordered: set ordered=True")
        self._class_names = names_in_order(class_names)
        self._key, self._softmax, self._ordered = key, softmax, ordered
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._draw = draw
        super().__init__(skip_unrolling=True)

    def reset(self) -> None:
        """Forget all images; called when an epoch starts."""
        self._rows: Rows = {}
        self.table = PictureTable(self._class_names)

    def iteration_completed(self, engine: Engine) -> None:
        """Take the images of the iteration from the engine's batch and output."""
        self.update((engine.state.batch, engine.state.output))

    def update(self, output: Sequence[Any]) -> None:
        """Add the images of one iteration, given as (batch, output), each a list of one dictionary per image."""
        batch, results = output
        if not isinstance(batch, list) or not isinstance(results, list):
            raise ValueError("the engine must hand over images one by one: leave its argument decollate at True")
        for item, result in zip(batch, results, strict=True):
            name = _path_of(item, result) or f"image_{idist.get_rank()}_{len(self._rows)}"
            if name in self._rows:
                raise ValueError(f"image {PurePosixPath(name).name}: met twice in one epoch")
            scores = result["pred"]
            scores = torch.as_tensor(scores[0] if isinstance(scores, (list, tuple)) else scores).detach().cpu().double()
            if scores.numel() != len(self._class_names):
                raise ValueError(f"the prediction has shape {tuple(scores.shape)}, expected {len(self._class_names)}")
            probabilities = scores.flatten().softmax(dim=0) if self._softmax else scores.flatten()
            label, subject = int(torch.as_tensor(result["label"]).item()), str(item.get("subject", ""))
            if not 0 <= label < len(self._class_names):
                expected = f"expected 0 to {len(self._class_names) - 1}"
                raise ValueError(f"image {PurePosixPath(name).name}: label {label} is no class, {expected}")
            self._rows[name] = (label, probabilities.tolist(), subject)

    def compute(self) -> float:
        """Collect the images of all processes, log and write their scores, and return the key score."""
        gathered = idist.all_gather(self._rows) if idist.get_world_size() > 1 else [self._rows]
        self.table = self._merge(cast(list[Rows], gathered))
        if not len(self.table):
            raise NotComputableError("ClassificationScores must see at least one image before it can compute")
        writes = self._output_dir is not None and idist.get_rank() == 0
        self._scores = self.table.scores(ordered=self._ordered, resamples=2000 if writes else 0)
        if idist.get_rank() == 0:
            _logger.info("%s\n\n%s", format_overall({"this": self._scores}), format_classes(self._scores))
        if writes:
            self._write(cast(Path, self._output_dir))
        return float(getattr(self._scores, self._key))

    def completed(self, engine: Engine, name: str) -> None:
        """Put the key score, all scores of the set, and the F1 of every class into ``engine.state.metrics``."""
        super().completed(engine, name)
        engine.state.metrics.update({score: getattr(self._scores, score) for score in OVERALL_SCORES})
        f1 = {f"{label}_f1": part.f1 for label, part in self._scores.classes.items() if part.support}
        engine.state.metrics.update(f1)

    def _write(self, folder: Path) -> None:
        self.table.write_csv(folder / "results.csv")
        self.table.write_json(folder / "summary.json", self._scores)
        self.table.write_confusion_csv(folder / "confusion_matrix.csv")
        if self._draw is not None:
            self._draw(folder / "confusion_matrix.png", self._scores.confusion, self._class_names)

    def _merge(self, gathered: Iterable[Rows]) -> PictureTable:
        rows = {name: row for part in gathered for name, row in part.items()}
        table = PictureTable(self._class_names)
        names = _below_common_folder(sorted(rows))
        for path, name in names.items():
            label, probabilities, subject = rows[path]
            table.add(name, label=self._class_names[label], probabilities=probabilities, subject=subject)
        return table


def _path_of(item: Mapping[str, Any], result: Mapping[str, Any]) -> str | None:
    """Return what tells the image apart: its path, with forward slashes, or its name."""
    for image in (item.get("image"), result.get("image"), result.get("pred")):
        if isinstance(image, MetaTensor) and image.meta.get(ImageMetaKey.FILENAME_OR_OBJ):
            return str(PurePosixPath(str(image.meta[ImageMetaKey.FILENAME_OR_OBJ]).replace("\\", "/")))
    case = item.get("case")
    return None if case is None else str(case)


def _below_common_folder(paths: Sequence[str]) -> dict[str, str]:
    """Return by path what differs: nothing of a user's folders above the images gets into a table."""
    folders = [PurePosixPath(path).parent.parts for path in paths]
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*folders, strict=False)))
    return {path: "/".join(PurePosixPath(path).parts[shared:]) for path in paths}
