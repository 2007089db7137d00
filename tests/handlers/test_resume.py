"""A training that is killed and started again ends as one that was not."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandShiftIntensity
from tiny_bundle import states_equal
from torch import nn

from ag_networks.handlers import ResumableTraining


class Training:
    """Three batches an epoch of a linear model, with every source of randomness in use."""

    def __init__(
        self, folder: Path, *, wrap: bool = False, best: list[float] | None = None, features: int = 2, **options: Any
    ) -> None:
        torch.manual_seed(0)
        self.network = nn.Linear(features, 1)
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        data = [torch.full((1, features), float(i)) for i in range(6)]
        dataset = Dataset(data, Compose([RandShiftIntensity(1.0, prob=0.7)]))
        loader = DataLoader(dataset, batch_size=2, shuffle=True)
        self.evaluator = SimpleNamespace(state=SimpleNamespace(best_metric=-1, best_metric_epoch=-1))
        self.drawn: list[tuple[float, ...]] = []

        def step(engine: Engine, batch: torch.Tensor) -> None:
            self.drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
            optimizer.zero_grad()
            (self.network(batch.as_subclass(torch.Tensor)) - sum(self.drawn[-1])).square().mean().backward()
            optimizer.step()
            schedule.step()

        def validate(engine: Engine) -> None:
            value = (best or [0.1] * 99)[engine.state.epoch - 1]
            if value > self.evaluator.state.best_metric:
                self.evaluator.state = SimpleNamespace(best_metric=value, best_metric_epoch=engine.state.epoch)

        self.engine, self.loader = Engine(step), loader
        self.engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
        module: nn.Module = nn.DataParallel(self.network) if wrap else self.network
        options = {"evaluator": self.evaluator, "objects": {"optimizer": optimizer, "schedule": schedule}, **options}
        self.handler = ResumableTraining(folder, network=module, dataset=dataset, **options)
        self.handler.attach(self.engine)

    def run(self, epochs: int = 4, stop_at: int | None = None) -> "Training":
        if stop_at:

            def stop(engine: Engine) -> None:
                raise InterruptedError

            self.engine.add_event_handler(Events.ITERATION_COMPLETED(once=stop_at), stop)
            with pytest.raises(InterruptedError):
                self.engine.run(self.loader, max_epochs=epochs)
        else:
            self.engine.run(self.loader, max_epochs=epochs)
        return self


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.pt", weights_only=True)


@pytest.mark.parametrize("stop_at", [4, 5, 9, 12], ids=lambda at: f"iteration {at} of 12")
def test_resumed_equals_unbroken(stop_at: int, tmp_path: Path) -> None:
    whole = Training(tmp_path / "whole").run()
    killed = Training(tmp_path / "killed").run(stop_at=stop_at)
    epochs = (stop_at - 1) // 3  # whole ones
    assert last(tmp_path / "killed")["epoch"] == epochs
    resumed = Training(tmp_path / "killed").run()
    assert states_equal(last(tmp_path / "whole"), last(tmp_path / "killed"))
    assert killed.drawn[: 3 * epochs] + resumed.drawn == whole.drawn
    assert len(set(whole.drawn)) == 12


def test_a_run_killed_in_its_first_epoch_starts_anew(tmp_path: Path) -> None:
    Training(tmp_path).run(stop_at=2)
    assert not (tmp_path / "last.pt").exists()
    assert Training(tmp_path).run().drawn == Training(tmp_path / "whole").run().drawn


def test_a_finished_run_does_nothing_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Training(tmp_path).run()
    before = last(tmp_path)
    assert "finished" not in caplog.text
    assert Training(tmp_path).run().drawn == []
    assert states_equal(last(tmp_path), before)
    assert "this training is finished: raise max_epochs, or remove last.pt to start anew" in caplog.text


@pytest.mark.parametrize(
    ("best", "kept"), [([0.5, 0.2, 0.4, 0.1], 1), ([0.1, 0.7, 0.3, 0.7], 2), ([0.1, 0.2, 0.3, 0.4], 4)], ids=str
)
@pytest.mark.parametrize("stop_at", [None, 8])
def test_the_best_network_is_kept(stop_at: int | None, best: list[float], kept: int, tmp_path: Path) -> None:
    states = {}
    training = Training(tmp_path, best=best)
    training.engine.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda engine: states.update(
            {engine.state.epoch: {k: v.clone() for k, v in training.network.state_dict().items()}}
        ),
    )
    training.run(stop_at=stop_at)
    if stop_at:  # the best value survives the restart
        again = Training(tmp_path, best=best)
        again.engine.add_event_handler(
            Events.EPOCH_COMPLETED,
            lambda engine: states.update(
                {engine.state.epoch: {k: v.clone() for k, v in again.network.state_dict().items()}}
            ),
        )
        again.run()
    assert last(tmp_path)["best"] == (max(best), kept)
    assert states_equal(torch.load(tmp_path / "model.pt", weights_only=True), states[kept])


def test_without_evaluator_the_last_network_is_the_best(tmp_path: Path) -> None:
    training = Training(tmp_path, evaluator=None).run()
    assert last(tmp_path)["best"] is None
    assert states_equal(torch.load(tmp_path / "model.pt", weights_only=True), dict(training.network.state_dict()))
    Training(tmp_path, evaluator=None).run(epochs=5)
    assert last(tmp_path)["epoch"] == 5


def test_before_the_first_validation_there_is_no_best(tmp_path: Path) -> None:
    never = [-2.0] * 4
    Training(tmp_path, best=never).run(stop_at=8)
    assert not (tmp_path / "model.pt").exists()
    training = Training(tmp_path, best=never).run()  # the last of a run that was never validated is better than none
    assert states_equal(torch.load(tmp_path / "model.pt", weights_only=True), dict(training.network.state_dict()))
    assert last(tmp_path)["best"] == (-1.0, -1)


def test_a_validated_network_replaces_one_that_was_not(tmp_path: Path) -> None:
    values = [-2.0, -2.0, 0.3, 0.1]
    Training(tmp_path, best=values).run(epochs=2)
    first = torch.load(tmp_path / "model.pt", weights_only=True)
    Training(tmp_path, best=values).run(epochs=4)
    assert last(tmp_path)["best"] == (0.3, 3)
    assert not states_equal(torch.load(tmp_path / "model.pt", weights_only=True), first)


def test_a_wrapped_network_is_saved_as_itself(tmp_path: Path) -> None:
    training = Training(tmp_path, wrap=True).run()
    assert set(last(tmp_path)["network"]) == {"weight", "bias"}
    resumed = Training(tmp_path).run()
    assert states_equal(dict(resumed.network.state_dict()), dict(training.network.state_dict()))


def test_the_scaler_of_mixed_precision_belongs_to_the_state(tmp_path: Path) -> None:
    training = Training(tmp_path / "run")
    training.engine.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    training.handler.attach(training.engine)
    training.run(epochs=1)
    assert last(tmp_path / "run")["scaler"]["scale"] == 64.0


def test_seeds_depend_on_run_epoch_and_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(seed: int, epoch: int, rank: int) -> tuple[float, ...]:
        monkeypatch.setattr(idist, "get_rank", lambda: rank)
        training = Training(tmp_path, seed=seed)
        training.handler.seed_epoch(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))
        augmented = training.handler.dataset[3]
        return random.random(), float(np.random.rand()), float(torch.rand(())), float(augmented.ravel()[0])

    assert drawn(0, 1, 0) == drawn(0, 1, 0)
    others = [drawn(0, 1, 0), drawn(1, 1, 0), drawn(0, 2, 0), drawn(0, 1, 1), drawn(1, 0, 0)]
    assert len(set(others)) == len(others)


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    Training(tmp_path).run(epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_earlier_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Training(tmp_path).run(epochs=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(state: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        Training(tmp_path).run(epochs=2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def _text(folder: Path) -> None:
    (folder / "last.pt").write_text("text")


def _empty(folder: Path) -> None:
    (folder / "last.pt").touch()


def _cut(folder: Path) -> None:
    Training(folder).run(epochs=1)
    content = (folder / "last.pt").read_bytes()
    (folder / "last.pt").write_bytes(content[: len(content) // 2])


def _other_network(folder: Path) -> None:
    Training(folder, features=3).run(epochs=1)


def _other_objects(folder: Path) -> None:
    Training(folder, objects={}).run(epochs=1)


def _weights(folder: Path) -> None:
    torch.save(nn.Linear(2, 1).state_dict(), folder / "last.pt")


BAD = [_text, _empty, _cut, _other_network, _other_objects, _weights]


@pytest.mark.parametrize("write", BAD, ids=lambda write: write.__name__)
def test_a_state_that_does_not_fit_is_refused(write: Any, tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match=r"^last.pt in the checkpoint folder is damaged or that of another training"):
        Training(tmp_path).run()
