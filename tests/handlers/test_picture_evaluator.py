"""Several pictures at a time; one bad picture does not stop the others."""

import logging
from typing import Any

import pytest
from monai.engines.utils import IterationEvents
from picture_runs import AsLogits, make_evaluator, picture

from ag_networks.handlers import PictureEvaluator, RunEvents

BAD = {"case": "bad", "failure": "bad: cut short"}


class Seen:
    """Handler that notes the cases, and fails or stops at those it is told."""

    def __init__(self, **at: BaseException) -> None:
        self.at = at
        self.cases: list[str] = []
        self.ended = 0

    def attach(self, engine: PictureEvaluator) -> None:
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)
        engine.add_event_handler(RunEvents.ENDED, self._end)

    def __call__(self, engine: PictureEvaluator) -> None:
        names = [item["case"] for item in engine.state.batch]
        for name in names:
            if name in self.at:
                raise self.at[name]
        assert len(engine.state.output) == len(names)
        self.cases += names

    def _end(self, _engine: PictureEvaluator) -> None:
        self.ended += 1


def pictures(*names: str, **options: Any) -> list[dict[str, Any]]:
    return [picture(name, [1.0, 0.0], **options) for name in names]


def test_pictures_go_through_the_network_together() -> None:
    network, seen = AsLogits(), Seen()
    evaluator = make_evaluator(pictures(*"abcdefg"), [seen], batch_size=3, network=network)
    evaluator.run()
    assert network.batches == [3, 3, 1]
    assert seen.cases == list("abcdefg")
    assert (evaluator.done, evaluator.failures, seen.ended) == (7, {}, 1)


def test_failed_and_odd_pictures_split_a_batch_in_order(caplog: pytest.LogCaptureFixture) -> None:
    data = [*pictures("a", "b"), BAD, *pictures("c"), *pictures("d", size=10), *pictures("e")]
    network, seen = AsLogits(), Seen()
    evaluator = make_evaluator(data, [seen], batch_size=6, network=network)
    with pytest.raises(SystemExit, match="1 of 6 cases failed: bad"):
        evaluator.run()
    assert network.batches == [2, 1, 1, 1]
    assert seen.cases == ["a", "b", "c", "d", "e"]
    assert evaluator.failures == {"bad": "cut short"}
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == ["bad: cut short"]


def test_of_a_batch_that_fails_only_the_one_to_blame_fails() -> None:
    seen = Seen(b=KeyError("x"))
    evaluator = make_evaluator(pictures("a", "b", "c"), [seen])
    with pytest.raises(SystemExit, match="1 of 3"):
        evaluator.run()
    assert seen.cases == ["a", "c"]
    assert evaluator.failures == {"b": "unexpected: KeyError: 'x'"}
    assert evaluator.done == 2


def test_a_batch_too_large_for_the_memory_is_done_one_by_one() -> None:
    network, seen = AsLogits(refuse=2), Seen()
    evaluator = make_evaluator(pictures("a", "b", "c"), [seen], network=network)
    evaluator.run()
    assert network.batches == [1, 1, 1]
    assert seen.cases == ["a", "b", "c"]


def test_the_end_is_told_however_it_comes() -> None:
    stopped = Seen(b=KeyboardInterrupt())
    evaluator = make_evaluator(pictures("a", "b"), [stopped], batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        evaluator.run()
    assert (stopped.cases, stopped.ended) == (["a"], 1)
    empty = Seen()
    make_evaluator([], [empty]).run()
    assert empty.ended == 1
