"""Per-case segmentation scores in millimetres as a metric of a MONAI engine."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.handlers import from_engine
from monai.utils import ImageMetaKey, convert_to_numpy
from numpy.typing import NDArray

from ag_networks.metrics import SCORE_NAMES, CaseScores, CaseTable, score_case

__all__ = ["CaseScoresMetric"]

_logger = logging.getLogger(__name__)


class CaseScoresMetric(Metric):
    """Score every case of an epoch and keep the mean DSC over cases and classes as the engine's metric.

    It stands where MONAI's ``MeanDice`` stands in a bundle (``key_metric`` or ``additional_metrics``), and differs from
    MONAI's handlers in that distances are in millimetres (the spacing comes from the image's affine) and failed cases
    take part in the means (see :func:`ag_networks.metrics.score_case`). At the end of an epoch

    - the metric's own name in ``engine.state.metrics`` gets the mean DSC, and ``<class>_<score>`` the mean of every
      score of every class, such as ``pancreas_s2s_mm``;
    - :attr:`table` holds the :class:`~ag_networks.metrics.CaseTable`, which is also logged;
    - with ``output_dir``, process 0 writes ``metrics_per_case.csv`` and ``metrics_summary.json`` there.

    In distributed evaluation the rows of all processes are collected; a case that a sampler handed to two processes to
    fill the last batch counts once. Cases are told apart by the image's path, but only the file name without extension
    is kept, with as many of its folders as it takes to tell two images apart.

    Args:
        class_names: names of the labels 1, 2, ..., or names by label as ``channel_def`` in ``metadata.json`` has them
            (label 0, the background, is left out). Labels without a name count as background.
        output_transform: takes ``(prediction, label)`` or ``(prediction, label, valid)`` from the engine's output, each
            a list of channel-first tensors: label maps of one channel or one-hot; ``valid`` is as in ``score_case``.
        tolerance_mm: tolerance of NSD in millimetres.
        ignore_label: value of the voxels that are not labelled; they count as ``valid=False`` does.
        output_dir: where to write the files; ``None`` writes none.

    Raises:
        ValueError: on construction if no class is named, a name comes twice or a list names the background; while
            running, naming the case, if neither label nor prediction is a ``MetaTensor`` (its spacing is then unknown),
            their shapes differ, they hold probabilities, a one-hot tensor lacks a class, or one process meets a case
            twice in an epoch (slices or patches of a case cannot be scored one by one).

    Example:
        >>> metric = CaseScoresMetric({"0": "background", "1": "pancreas"})
        >>> mask = MetaTensor(torch.ones(1, 4, 4, 4), meta={"filename_or_obj": "folder/case_1.nii.gz"})
        >>> metric.update(([mask], [mask]))
        >>> metric.compute(), metric.table.rows[0].case
        (1.0, 'case_1')
    """

    def __init__(
        self,
        class_names: Sequence[str] | Mapping[str, str] | Mapping[int, str],
        *,
        output_transform: Callable[[Any], Any] = from_engine(["pred", "label"]),  # noqa: B008 - a pure function
        tolerance_mm: float = 2.0,
        ignore_label: int | None = None,
        output_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._classes = _names_by_label(class_names)
        self._tolerance_mm = tolerance_mm
        self._ignore_label = ignore_label
        self._output_dir = None if output_dir is None else Path(output_dir)
        # ignite would otherwise take two lists of tensors for pairs to be fed one by one, and refuse a third list.
        super().__init__(output_transform=output_transform, skip_unrolling=True)

    def reset(self) -> None:
        """Forget all cases; called when an epoch starts."""
        self._scores: dict[str, dict[str, CaseScores]] = {}
        self.table = CaseTable()

    def update(self, output: Sequence[Any]) -> None:
        """Score the cases of one iteration."""
        if len(output) not in (2, 3):
            raise ValueError(f"expected (prediction, label) or (prediction, label, valid), got {len(output)} items")
        for tensors in zip(*output, strict=True):
            path = _path_of(tensors[:2]) or f"case_{idist.get_rank()}_{len(self._scores)}"
            name = _stem(PurePosixPath(path))
            if path in self._scores:
                raise ValueError(f"case {name}: met twice in one epoch, but every item must be a whole case")
            try:
                self._scores[path] = self._score(*tensors)
            except ValueError as error:
                raise ValueError(f"case {name}: {error}") from error

    def compute(self) -> float:
        """Collect the rows of all processes, log and write the table, and return the mean DSC."""
        gathered = idist.all_gather(self._scores) if idist.get_world_size() > 1 else [self._scores]
        self.table = _merge(cast(list[dict[str, dict[str, CaseScores]]], gathered))
        if not len(self.table):
            raise NotComputableError("CaseScoresMetric must see at least one case before it can compute")
        if idist.get_rank() == 0:
            _logger.info("Scores per class, mean ± standard deviation over cases\n%s", self.table.format_markdown())
            if self._output_dir is not None:
                self.table.write_csv(self._output_dir / "metrics_per_case.csv")
                self.table.write_json(self._output_dir / "metrics_summary.json")
        return float(np.mean([part.mean["dsc"] for part in self.table.summary().values()]))

    def completed(self, engine: Engine, name: str) -> None:
        """Put the mean DSC and the mean of every score of every class into ``engine.state.metrics``."""
        super().completed(engine, name)
        for class_name, part in self.table.summary().items():
            engine.state.metrics.update({f"{class_name}_{score}": part.mean[score] for score in SCORE_NAMES})

    def _score(
        self, prediction: torch.Tensor, label: torch.Tensor, valid: torch.Tensor | None = None
    ) -> dict[str, CaseScores]:
        spacing = _spacing_of(label, prediction)
        predicted, expected = convert_to_numpy(prediction), convert_to_numpy(label)
        known = None if valid is None else convert_to_numpy(valid)[0]
        if self._ignore_label is not None:
            labelled = expected[0] != self._ignore_label
            known = labelled if known is None else known & labelled
        return {
            name: score_case(
                _mask_of(predicted, index, "prediction"),
                _mask_of(expected, index, "label"),
                spacing=spacing,
                label=index,
                tolerance_mm=self._tolerance_mm,
                valid=known,
            )
            for index, name in self._classes.items()
        }


def _names_by_label(class_names: Sequence[str] | Mapping[str, str] | Mapping[int, str]) -> dict[int, str]:
    if isinstance(class_names, Mapping):
        names = {int(index): name for index, name in class_names.items() if int(index) != 0}
    else:
        names = dict(enumerate(class_names, start=1))
    if isinstance(class_names, str) or not names or len(set(names.values())) != len(names):
        raise ValueError(f"expected distinct names of the labels 1, 2, ..., got {class_names!r}")
    if "background" in names.values():
        raise ValueError(f"a list of names starts with label 1, so it must not hold the background: {class_names!r}")
    return names


def _mask_of(tensor: NDArray[Any], index: int, name: str) -> NDArray[Any]:
    """Return what ``score_case`` takes: a channel of a one-hot tensor as booleans, or the label map."""
    channels = tensor.shape[0]
    if channels == 1:
        return tensor[0]
    if index >= channels:
        raise ValueError(f"the {name} has {channels} channels, but class {index} is asked for")
    if not ((tensor == 0) | (tensor == 1)).all():
        raise ValueError(f"the {name} has {channels} channels but is not one-hot: take the argmax first")
    return np.asarray(tensor[index] == 1)


def _spacing_of(*tensors: torch.Tensor) -> tuple[float, ...]:
    for tensor in tensors:
        if isinstance(tensor, MetaTensor):
            return tuple(float(step) for step in affine_to_spacing(tensor.affine, r=tensor.ndim - 1))
    raise ValueError("neither label nor prediction is a MetaTensor, so the spacing in mm is unknown")


def _path_of(tensors: Iterable[torch.Tensor]) -> str | None:
    """Return the path of the image behind the prediction or, failing that, of the label, with forward slashes."""
    for tensor in tensors:
        if isinstance(tensor, MetaTensor) and tensor.meta.get(ImageMetaKey.FILENAME_OR_OBJ):
            return str(PurePosixPath(str(tensor.meta[ImageMetaKey.FILENAME_OR_OBJ]).replace("\\", "/")))
    return None


def _stem(path: PurePosixPath) -> str:
    """Return the name without extension; the numbers in a folder name such as 1.2.840 are none."""
    return re.sub(r"(\.nii)?\.[a-z][a-z0-9]{0,4}$", "", path.name, flags=re.IGNORECASE)


def _merge(gathered: Iterable[Mapping[str, Mapping[str, CaseScores]]]) -> CaseTable:
    scores = {path: by_class for part in gathered for path, by_class in part.items()}
    names = _short_names(scores)
    table = CaseTable()
    for path in sorted(scores, key=lambda path: names[path]):
        for class_name, case_scores in scores[path].items():
            table.add(names[path], class_name, case_scores)
    return table


def _short_names(paths: Iterable[str]) -> dict[str, str]:
    """Return a unique name by path, the first of its candidates that no other path has."""
    candidates = {path: _candidate_names(PurePosixPath(path)) for path in paths}
    names = {path: next(own) for path, own in candidates.items()}
    while len(counts := Counter(names.values())) < len(names):
        # A path that has used up its candidates keeps the last one, which is all of it; the others go on.
        names = {path: name if counts[name] == 1 else next(candidates[path], name) for path, name in names.items()}
    return names


def _candidate_names(path: PurePosixPath) -> Iterator[str]:
    """Yield the name without and with extension, then the same led by one more folder each time."""
    for depth in range(len(path.parts)):
        folders = path.parts[-1 - depth : -1]
        yield "/".join((*folders, _stem(path)))
        yield "/".join((*folders, path.name))
