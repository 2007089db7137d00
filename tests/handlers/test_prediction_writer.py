"""predictions.csv and predictions.json, whole or not at all, whatever happens on the way."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines.utils import IterationEvents
from picture_runs import make_evaluator, picture

from ag_networks.handlers import PredictionWriter, prediction_writer

NAMES = {"0": "Brain (Cb.)", "1": "Femur"}
BAD = {"case": "sub/bad.png", "failure": "bad.png: cut short"}


def read(folder: Path) -> tuple[list[dict[str, str]], dict[str, Any]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file)), json.loads((folder / "predictions.json").read_text())


def softmax(*logits: float) -> list[float]:
    return [math.exp(value) / sum(map(math.exp, logits)) for value in logits]


def test_rows_in_order_and_failures_apart(tmp_path: Path) -> None:
    data = [
        picture("b.png", [0.0, 2.0], warnings="gray; inverted"),
        BAD,
        picture("a.png", [1.0, 0.5]),
        picture("c.png", [0.0, 0.0], size=10),
    ]
    writer = PredictionWriter(tmp_path / "eval", NAMES, settings={"weights": "abc"})
    with pytest.raises(SystemExit, match="1 of 4"):
        make_evaluator(data, [writer]).run()
    rows, report = read(tmp_path / "eval")
    assert list(rows[0]) == ["image", "prediction", "probability", "Brain (Cb.)", "Femur"]
    assert [row["image"] for row in rows] == ["b.png", "a.png", "c.png"]
    expected = softmax(0, 2)
    assert rows[0]["prediction"] == "Femur"
    assert rows[0]["probability"] == rows[0]["Femur"] == f"{expected[1]:.6f}"
    assert rows[0]["Brain (Cb.)"] == f"{expected[0]:.6f}"
    assert (rows[2]["prediction"], rows[2]["probability"]) == ("Brain (Cb.)", "0.500000")
    versions, seconds = report.pop("versions"), report.pop("seconds")
    assert {"python", "torch", "monai", "ag-networks"} <= set(versions)
    assert 0 <= seconds < 60
    first = report["images"][0]
    assert first["warnings"] == ["gray", "inverted"]
    assert first["probabilities"] == {"Brain (Cb.)": round(expected[0], 6), "Femur": round(expected[1], 6)}
    assert [image["image"] for image in report.pop("images")] == ["b.png", "a.png", "c.png"]
    assert report == {
        "complete": True,
        "classes": ["Brain (Cb.)", "Femur"],
        "failures": [{"image": "sub/bad.png", "reason": "bad.png: cut short"}],
        "settings": {"weights": "abc"},
    }
    assert len(list((tmp_path / "eval").iterdir())) == 2


class Stop:
    """Handler that raises at a case."""

    def __init__(self, case: str, error: BaseException) -> None:
        self.case, self.error = case, error

    def attach(self, engine: Any) -> None:
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        if any(item["case"] == self.case for item in engine.state.batch):
            raise self.error


def test_what_was_done_is_written_when_the_user_stops(tmp_path: Path) -> None:
    data = [picture(name, [0.0, 1.0]) for name in ("a", "b", "c")]
    handlers = [Stop("b", KeyboardInterrupt()), PredictionWriter(tmp_path, NAMES)]
    with pytest.raises(KeyboardInterrupt):
        make_evaluator(data, handlers, batch_size=1).run()
    rows, report = read(tmp_path)
    assert [row["image"] for row in rows] == ["a"]
    assert not report["complete"]


def test_a_picture_that_fails_behind_the_writer_is_no_row(tmp_path: Path) -> None:
    data = [picture(name, [0.0, 1.0]) for name in ("a", "b", "c")]
    handlers = [PredictionWriter(tmp_path, NAMES), Stop("b", KeyError("x"))]
    with pytest.raises(SystemExit):
        make_evaluator(data, handlers).run()
    rows, report = read(tmp_path)
    assert [row["image"] for row in rows] == ["a", "c"]
    assert [failure["image"] for failure in report["failures"]] == ["b"]


def test_a_long_run_is_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_writer, "SAVE_EVERY", 0.0)
    seen: list[Any] = []

    class Look(Stop):
        def __call__(self, engine: Any) -> None:
            rows, report = read(tmp_path)
            seen.append((len(rows), report["complete"]))

    data = [picture(name, [0.0, 1.0]) for name in ("a", "b", "c")]
    make_evaluator(data, [PredictionWriter(tmp_path, NAMES), Look("", KeyError())], batch_size=1).run()
    assert seen == [(1, False), (2, False), (3, False)]
    assert read(tmp_path)[1]["complete"]


def test_a_second_run_starts_anew_and_no_picture_is_a_table_without_rows(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, NAMES)
    make_evaluator([picture("a", [0.0, 1.0])], [writer]).run()
    make_evaluator([picture("b", [0.0, 1.0])], [writer]).run()
    assert [row["image"] for row in read(tmp_path)[0]] == ["b"]
    make_evaluator([], [PredictionWriter(tmp_path, NAMES)]).run()
    assert read(tmp_path)[0] == []


def test_probabilities_are_taken_as_they_are(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, ["a", "b"], softmax=False)
    make_evaluator([picture("x", [0.3, 0.7])], [writer]).run()
    assert read(tmp_path)[0][0]["probability"] == "0.700000"


@pytest.mark.parametrize(
    ("logits", "names", "message"),
    [([0.0, 1.0], ["a", "b", "c"], "gives 2 classes, but 3"), ([0.0, torch.inf], ["a", "b"], "not finite")],
    ids=["classes", "infinite"],
)
def test_a_prediction_that_is_none_fails_the_picture(
    logits: list[float], names: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        make_evaluator([picture("x", logits)], [PredictionWriter(tmp_path, names)]).run()
    assert message in read(tmp_path)[1]["failures"][0]["reason"]


def test_an_unwritable_folder_leaves_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "eval").write_text("a file, not a folder")
    with pytest.raises(FileExistsError):
        make_evaluator([picture("x", [0.0, 1.0])], [PredictionWriter(tmp_path / "eval", NAMES)]).run()
