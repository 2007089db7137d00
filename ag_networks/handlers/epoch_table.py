"""The scores of every epoch of a training as a table."""

import csv
from collections.abc import Sequence
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events

from ag_networks.atomic import atomic_path

__all__ = ["EpochTable", "read_epochs"]


class EpochTable:
    """Write ``epochs.csv``: a row for every validated epoch, with ``epoch`` and a column for each score.

    Handler for a trainer; put it behind the handler that validates. A training that resumes goes on with the table as
    it was after the epoch that it resumes from.

    Args:
        output_dir: where the table goes.
        evaluator: whose metrics are written; one of MONAI's, which knows the epoch that it has validated.
        scores: names of the metrics, such as ``accuracy``; one that an epoch does not have stays empty.
    """

    def __init__(self, output_dir: str | Path, evaluator: Engine, scores: Sequence[str]) -> None:
        self.path = Path(output_dir) / "epochs.csv"
        self.evaluator = evaluator
        self.scores = tuple(scores)

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Add the row of this epoch."""
        epoch = engine.state.epoch
        if self.evaluator.state.epoch != epoch:  # its scores are those of an epoch before
            return
        values = {name: self.evaluator.state.metrics[name] for name in self.scores if name in self._present()}
        if not values:
            return
        rows = {number: row for number, row in self._rows().items() if number < epoch}
        rows[epoch] = {name: f"{value:.6f}" for name, value in values.items()}
        with atomic_path(self.path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["epoch", *self.scores], lineterminator="\n")
            writer.writeheader()
            writer.writerows({"epoch": number, **row} for number, row in rows.items())

    def _present(self) -> set[str]:
        return set(self.evaluator.state.metrics)

    def _rows(self) -> dict[int, dict[str, str]]:
        if not self.path.is_file():
            return {}
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {int(row["epoch"]): {name: row.get(name, "") for name in self.scores} for row in rows}


def read_epochs(path: str | Path, score: str) -> dict[int, float]:
    """Return a score by epoch from ``epochs.csv``.

    Raises:
        ValueError: if the file is missing or has no such column.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {int(row["epoch"]): float(row[score]) for row in csv.DictReader(file) if row[score]}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path.name}: no column {score} by epoch; expected what a training has written") from error
