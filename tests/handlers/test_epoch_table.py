"""epochs.csv has a row for every validated epoch, of this training and of the one that it goes on with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import ValidationHandler

from ag_networks.handlers import EpochTable, read_epochs

SCORES = ("accuracy", "macro_f1")


def run(folder: Path, scores: list[dict[str, float]], *, start: int = 0, interval: int = 1) -> None:
    """Train for as many epochs as there are scores; the evaluator reports them in turn."""
    loader = DataLoader(Dataset([{"image": torch.zeros(1, 2, 2), "label": 0}]))
    evaluator = SupervisedEvaluator(torch.device("cpu"), loader, torch.nn.Identity())
    trainer = Engine(lambda engine, batch: None)

    @evaluator.on(Events.COMPLETED)
    def report(engine: Engine) -> None:
        engine.state.metrics = scores[engine.state.epoch - 1]

    @trainer.on(Events.STARTED)
    def resume(engine: Engine) -> None:
        engine.state.epoch = start
        engine.state.iteration = start

    ValidationHandler(interval=interval, validator=evaluator).attach(trainer)
    EpochTable(folder, evaluator, SCORES).attach(trainer)
    trainer.run([0], max_epochs=len(scores))


def test_a_row_for_every_epoch(tmp_path: Path) -> None:
    run(tmp_path / "out", [{"accuracy": 0.5, "other": 1.0}, {"accuracy": 2 / 3, "macro_f1": 0.25}])
    text = (tmp_path / "out" / "epochs.csv").read_text()
    assert text == "epoch,accuracy,macro_f1\n1,0.500000,\n2,0.666667,0.250000\n"
    assert read_epochs(tmp_path / "out" / "epochs.csv", "accuracy") == {1: 0.5, 2: 0.666667}
    assert read_epochs(tmp_path / "out" / "epochs.csv", "macro_f1") == {2: 0.25}
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_epochs_that_are_not_validated_have_none(tmp_path: Path) -> None:
    run(tmp_path, [{"accuracy": i / 10} for i in range(1, 7)], interval=3)
    assert read_epochs(tmp_path / "epochs.csv", "accuracy") == {3: 0.3, 6: 0.6}


def test_a_resumed_training_goes_on_with_the_table_as_it_was(tmp_path: Path) -> None:
    run(tmp_path, [{"accuracy": i / 10} for i in range(1, 5)])
    run(tmp_path, [{"accuracy": i / 100} for i in range(1, 6)], start=2)
    assert read_epochs(tmp_path / "epochs.csv", "accuracy") == {1: 0.1, 2: 0.2, 3: 0.03, 4: 0.04, 5: 0.05}


def test_without_scores_there_is_no_table(tmp_path: Path) -> None:
    run(tmp_path, [{"loss": 1.0}])
    assert not list(tmp_path.iterdir())


def test_one_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    run(tmp_path, [{"accuracy": 1.0}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [None, "epoch,macro_f1\n1,0.5\n", "epoch,accuracy\none,0.5\n", "epoch,accuracy\n1,good\n"],
    ids=["missing", "another score", "no number of an epoch", "no number"],
)
def test_another_file_is_one_line(content: Any, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "epochs.csv").write_text(content)
    with pytest.raises(ValueError, match=r"^epochs\.csv: no column accuracy by epoch; expected what a training has"):
        read_epochs(tmp_path / "epochs.csv", "accuracy")
