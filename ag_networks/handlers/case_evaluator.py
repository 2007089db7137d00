"""Inference over a folder of cases in which one bad case does not stop the others."""

import logging
import time
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

__all__ = ["CaseEvaluator"]

_logger = logging.getLogger(__name__)


class CaseEvaluator(SupervisedEvaluator):
    """MONAI's ``SupervisedEvaluator``, one case at a time: a case that fails is reported, and the next one is done.

    Takes the items of :class:`ag_networks.data.CaseDataset` in batches of one, which hand over a case that could not
    be read as ``{"case": name, "failure": line}``. What fails later (memory, a full disk) is caught here. Arguments
    are those of ``SupervisedEvaluator``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.failures: dict[str, str] = {}
        self.done = 0
        self.add_event_handler(Events.GET_BATCH_STARTED, self._start_clock)

    @property
    def seconds(self) -> float:
        """Seconds since the current case was asked for."""
        return time.perf_counter() - self._started

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as in MONAI's class
        """Do all cases; nothing to do is no error.

        Raises:
            SystemExit: after the last case, if any has failed.
        """
        self.failures, self.done = {}, 0
        if len(self.data_loader) == 0:  # type: ignore[arg-type]
            _logger.info("nothing to do")
            return
        super().run(global_epoch)
        _logger.info("%d cases done, %d failed", self.done, len(self.failures))
        if self.failures:
            count = self.done + len(self.failures)
            raise SystemExit(f"error: {len(self.failures)} of {count} cases failed: {', '.join(self.failures)}")

    def _start_clock(self, _engine: Engine) -> None:
        self._started = time.perf_counter()

    def _iteration(self, engine: SupervisedEvaluator, batchdata: dict[str, Any]) -> dict:
        case = batchdata["case"][0]
        if "failure" in batchdata:
            self._fail(case, batchdata["failure"][0])
            return {}
        try:
            output = super()._iteration(engine, batchdata)
        except Exception as error:  # whatever is wrong with this case, the others are still done
            _logger.debug("%s: failed", case, exc_info=True)
            self._fail(case, _explain(error))
        else:
            self.done += 1
            return output
        return {}

    def _fail(self, case: str, reason: str) -> None:
        self.failures[case] = reason = reason.removeprefix(f"{case}: ")
        _logger.error("%s: %s", case, reason)


def _explain(error: BaseException) -> str:
    while error.__cause__ is not None:  # MONAI wraps what a transform raises
        error = error.__cause__
    # of a processor's memory, torch complains by a RuntimeError
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
        return "not enough memory for this volume"
    if isinstance(error, OSError):
        return f"could not write the result: {error.strerror or type(error).__name__}"
    return f"unexpected: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
