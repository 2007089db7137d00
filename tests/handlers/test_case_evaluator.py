"""One case that fails does not stop the others."""

import errno
import logging
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset
from monai.engines.utils import IterationEvents
from monai.transforms import Compose

from ag_networks.handlers import CaseEvaluator

LINES: dict[str, tuple[BaseException, str]] = {
    "memory": (MemoryError("8 GB"), "not enough memory for this volume"),
    "gpu": (torch.OutOfMemoryError("CUDA out of memory"), "not enough memory for this volume"),
    "allocator": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        "not enough memory for this volume",
    ),
    "disk": (
        OSError(errno.ENOSPC, "No space left on device", "folder/x.nii"),
        "could not write the result: No space left on device",
    ),
    "strange": (KeyError("x\ny"), r"unexpected: KeyError: 'x\ny'"),
    "long": (IndexError("word\n" * 1000), "unexpected: IndexError: " + "word " * 40),
}


def evaluate(cases: list[dict[str, Any]], fail: Any = None, **options: Any) -> CaseEvaluator:
    return CaseEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases), batch_size=1),
        network=torch.nn.Identity(),
        **options,
    )


def case(name: str) -> dict[str, Any]:
    return {"case": name, "image": torch.zeros(1, 4, 4)}


def test_every_case_is_done(caplog: pytest.LogCaptureFixture) -> None:
    seen = []
    evaluator = evaluate([case("a"), case("b")])
    evaluator.add_event_handler(
        IterationEvents.MODEL_COMPLETED, lambda engine: seen.append((engine.state.batch[0]["case"], engine.seconds))
    )
    with caplog.at_level(logging.INFO):
        evaluator.run()
    assert [name for name, _ in seen] == ["a", "b"]
    assert all(0 <= seconds < 60 for _, seconds in seen)
    assert (evaluator.done, evaluator.failures) == (2, {})
    assert "2 cases done, 0 failed" in caplog.text


def test_nothing_to_do_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        evaluate([]).run()
    assert "nothing to do" in caplog.text


def test_a_case_that_was_not_read_is_reported_and_the_next_done(caplog: pytest.LogCaptureFixture) -> None:
    bad = [{"case": "a", "failure": "a.nii: cut short"}, {"case": "c", "failure": "c: zeros"}]
    evaluator = evaluate([bad[0], case("b"), bad[1]])
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit, match=r"^error: 2 of 3 cases failed: a, c$"):
        evaluator.run()
    assert evaluator.failures == {"a": "a.nii: cut short", "c": "zeros"}
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["a: a.nii: cut short", "c: zeros"]  # a line for each, once
    assert "1 cases done, 2 failed" in caplog.text


@pytest.mark.parametrize("within", ["handler", "postprocessing"])
@pytest.mark.parametrize("name", LINES)
def test_what_fails_in_a_case_is_one_line(name: str, within: str, caplog: pytest.LogCaptureFixture) -> None:
    error, line = LINES[name]
    count = 0

    def fail(data: Any) -> Any:
        nonlocal count
        count += 1
        if count == 1:
            raise error
        return data

    if within == "handler":
        evaluator = evaluate([case("a"), case("b")])
        evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, lambda engine: fail(engine))
    else:
        evaluator = evaluate([case("a"), case("b")], postprocessing=Compose([fail]))
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit, match=r"^error: 1 of 2 cases failed: a$"):
        evaluator.run()
    assert evaluator.failures == {"a": line}
    assert evaluator.done == 1
    assert "Traceback" not in caplog.text
    assert "folder" not in caplog.text


def test_a_second_run_counts_anew() -> None:
    evaluator = evaluate([case("a"), {"case": "b", "failure": "bad"}])
    for _ in range(2):
        with pytest.raises(SystemExit, match="1 of 2 cases"):
            evaluator.run()
    assert evaluator.done == 1


def test_an_interrupt_ends_the_run() -> None:
    evaluator = evaluate([case("a"), case("b")])

    def stop(engine: Engine) -> None:
        raise KeyboardInterrupt

    evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, stop)
    with pytest.raises(KeyboardInterrupt):
        evaluator.run()
    assert evaluator.done == 0
