"""Training that can be killed: checkpoints of whole epochs, and randomness that depends on the epoch alone."""

import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import Evaluator
from monai.transforms import Randomizable

from ag_networks.atomic import atomic_path

__all__ = ["ResumableTraining"]

_logger = logging.getLogger(__name__)


class ResumableTraining:
    """Save the state of a training after every epoch, and take up where a killed one stopped.

    A run that was killed and started again ends with the same weights as one that was not, on a CPU bit for bit:
    every random number of an epoch is drawn from generators that are seeded with the run's seed and the number of the
    epoch, in this process and, through MONAI's worker initialization, in the workers of its data loader. The best
    network (by the evaluator's key metric) is kept beside the last state; both files appear whole or not at all.

    Put it last among the trainer's handlers: what stands before it (validation, learning rate) is then part of the
    epoch that it saves. MONAI's ``CheckpointSaver`` keeps neither generators nor, across a restart, the best value,
    and writes in place.

    Args:
        folder: where ``last.pt`` (everything), and ``model.pt`` (the best network's state dict, on the CPU) go.
        network: the network, or its ``DistributedDataParallel`` wrapper.
        objects: what else has a state dict: optimizer, learning rate schedule.
        dataset: the training dataset, whose random transforms are seeded.
        seed: the run's seed.
        evaluator: the evaluator whose key metric decides which network is best; without one, or if no epoch was
            validated, the last is best.

    Raises:
        ValueError: when training starts, if ``last.pt`` is damaged or does not fit network and objects.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        network: torch.nn.Module,
        objects: Mapping[str, Any],
        dataset: Dataset,
        seed: int = 0,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.network = network
        self.objects = dict(objects)
        self.dataset = dataset
        self.seed = seed
        self.evaluator = evaluator

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        scaler = getattr(engine, "scaler", None)  # of MONAI's trainer when it runs in mixed precision
        if scaler is not None:
            self.objects["scaler"] = scaler
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_STARTED, self.seed_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def load(self, engine: Engine) -> None:
        """Take up a run whose last state lies in the folder."""
        path = self.folder / "last.pt"
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=idist.device(), weights_only=True)
            _unwrapped(self.network).load_state_dict(state["network"])
            for name, item in self.objects.items():
                item.load_state_dict(state[name])
        except Exception as error:  # what torch raises for damaged files has no common base class
            raise ValueError(
                f"{path.name} in the checkpoint folder is damaged or that of another training: remove it to start "
                f"anew, or give another folder ({' '.join(str(error).split())[-120:]})"
            ) from error
        if self.evaluator is not None:
            self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = state["best"]
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["iteration"]
        _logger.info("resumed after epoch %d of %s", engine.state.epoch, engine.state.max_epochs)
        if engine.state.epoch >= (engine.state.max_epochs or 0):
            _logger.warning("this training is finished: raise max_epochs, or remove %s to start anew", path.name)

    def seed_epoch(self, engine: Engine) -> None:
        """Seed all generators with the run's seed and the epoch's number."""
        sequence = np.random.SeedSequence([self.seed, engine.state.epoch, idist.get_rank()])
        seed = int(sequence.generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        transform = getattr(self.dataset, "transform", None)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed)

    def save(self, engine: Engine) -> None:
        """Save the state of this epoch, and the network alone if it is the best so far."""
        if idist.get_rank() != 0:
            return
        network = {key: value.cpu() for key, value in _unwrapped(self.network).state_dict().items()}
        never_judged = engine.state.epoch == engine.state.max_epochs and not (self.folder / "model.pt").is_file()
        if never_judged or self._improved(engine):
            with atomic_path(self.folder / "model.pt") as path:
                torch.save(network, path)
        state = {name: item.state_dict() for name, item in self.objects.items()}
        best = None
        if self.evaluator is not None:
            best = (float(self.evaluator.state.best_metric), self.evaluator.state.best_metric_epoch)
        state.update(network=network, best=best, epoch=engine.state.epoch, iteration=engine.state.iteration)
        with atomic_path(self.folder / "last.pt") as path:
            torch.save(state, path)

    def _improved(self, engine: Engine) -> bool:
        return self.evaluator is None or self.evaluator.state.best_metric_epoch == engine.state.epoch


def _unwrapped(network: torch.nn.Module) -> torch.nn.Module:
    return getattr(network, "module", network)
