"""Inference over many pictures, several at a time, in which one bad picture does not stop the others."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from ignite.engine import EventEnum
from monai.data import list_data_collate
from monai.engines import SupervisedEvaluator
from monai.inferers import Inferer

from ag_networks.handlers.case_evaluator import CaseEvaluator

__all__ = ["PictureEvaluator", "RunEvents"]


class RunEvents(EventEnum):
    """``ENDED``: a run is over, however it ended: done, failed, or stopped by the user."""

    ENDED = "run_ended"


class PictureEvaluator(CaseEvaluator):
    """A :class:`CaseEvaluator` that takes several cases at a time, and says when it is over.

    The data loader must hand over lists of items (``collate_fn=list``) of :class:`ag_networks.data.CaseDataset`.
    Consecutive items of equal shape go through the network together. Those that could not be read are reported; where
    a batch fails (memory), its items are tried one by one, so that only those fail that must. Handlers of
    ``IterationEvents.MODEL_COMPLETED`` may therefore see a case twice.

    Arguments are those of ``SupervisedEvaluator``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Handlers attach to the event while MONAI's engine is still being made.
        super().__init__(*args, **{**kwargs, "event_names": [*(kwargs.get("event_names") or []), RunEvents]})
        self.inferer = _WithoutMeta(self.inferer)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as in MONAI's class
        """Do all cases; nothing to do is no error.

        Raises:
            SystemExit: after the last case, if any has failed.
        """
        try:
            super().run(global_epoch)
        finally:
            self.fire_event(RunEvents.ENDED)

    def _iteration(self, engine: SupervisedEvaluator, batchdata: Any) -> dict:
        for group in _groups(batchdata):
            self._together(engine, group)
        return {}

    def _together(self, engine: SupervisedEvaluator, items: list[dict[str, Any]]) -> None:
        # Handlers look for the items in the engine's state, where the loader's batch stands.
        engine.state.batch = batch = list_data_collate(items)
        if len(items) == 1:
            super()._iteration(engine, batch)
            return
        try:
            SupervisedEvaluator._iteration(self, engine, batch)
        except Exception:  # whatever it is, it shows again with the item to blame
            for item in items:
                self._together(engine, [item])
        else:
            self.done += len(items)


class _WithoutMeta(Inferer):
    """An inferer whose network sees plain tensors: a MetaTensor's bookkeeping in every layer costs up to a tenth."""

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.inferer(inputs.as_subclass(torch.Tensor), *args, **kwargs)


def _groups(items: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split into runs of equal shape, in order; a failure is a run of its own."""
    for failed, run in groupby(items, key=lambda item: "failure" in item):
        if failed:
            yield from ([item] for item in run)
        else:
            yield from (list(group) for _, group in groupby(run, key=lambda item: tuple(item["image"].shape)))
