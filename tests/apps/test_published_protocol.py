"""The paper's way to report accuracy: which epochs count, which commands run, and what is printed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ag_networks.apps import published_protocol
from ag_networks.apps.published_protocol import best_epochs, main, measure_at

CURVES: dict[str, list[float]] = {
    "fold0": [0.2, 0.6, 0.5, 0.4],
    "fold1": [0.2, 0.4, 0.9, 0.4],
    "published": [0.1, 0.5, 0.7, 0.9],
}


@pytest.mark.parametrize(
    ("curves", "count", "expected"),
    [
        ([{1: 0.1, 2: 0.3, 3: 0.2}], 2, [2, 3]),
        ([{1: 0.5, 2: 0.7, 3: 0.6}, {1: 0.5, 2: 0.5, 3: 0.7}], 2, [3, 2]),
        ([{3: 0.5, 1: 0.5, 2: 0.5}], 2, [1, 2]),
        ([{1: 0.9, 2: 0.1}, {2: 0.1, 3: 0.9}], 5, [2]),
    ],
    ids=["one fold", "mean of folds", "earlier of equals", "common ones"],
)
def test_best_epochs(curves: list[dict[int, float]], count: int, expected: list[int]) -> None:
    assert best_epochs(curves, count) == expected


def test_folds_without_a_common_epoch_are_refused() -> None:
    with pytest.raises(ValueError, match="no epoch in common; expected trainings of the same length"):
        best_epochs([{1: 0.5}, {2: 0.5}], 1)


def test_measure_at() -> None:
    assert measure_at({1: 0.1, 2: 0.2, 3: 0.3}, [3, 1]) == [0.3, 0.1]
    with pytest.raises(ValueError, match="on the whole part has no epoch 4; expected one as long as the folds'"):
        measure_at({1: 0.1}, [1, 4])


Command = Callable[..., tuple[list[list[str]], str, str]]


@pytest.fixture
def protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return the command, whose trainings only write a table of epochs; its calls, output and errors."""
    calls: list[list[str]] = []

    def call(
        *options: str, curves: dict[str, list[float]] = CURVES, fail: str = "", lists: tuple[str, ...] = tuple(CURVES)
    ) -> tuple[list[list[str]], str, str]:
        def pretend(command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            given = dict(zip(command[4::2], command[5::2], strict=False))
            name = Path(given["--datalist_file"]).stem
            folder = Path(given["--output_dir"])
            folder.mkdir(parents=True)
            if name in curves:
                rows = "".join(f"{epoch},{value}\n" for epoch, value in enumerate(curves[name], start=1))
                (folder / "epochs.csv").write_text("epoch,accuracy\n" + rows)
            return subprocess.CompletedProcess(command, 3 if name == fail else 0)

        folds = tmp_path / "folds"
        folds.mkdir()
        for name in lists:
            (folds / f"{name}.json").write_text("{}")
        own = [
            "--bundle",
            "the/bundle",
            "--dataset-dir",
            "data",
            "--folds",
            str(folds),
            "--output",
            str(tmp_path / "o"),
        ]
        monkeypatch.setattr(published_protocol.subprocess, "run", pretend)
        monkeypatch.setattr(sys, "argv", ["published_protocol", *own, *options])
        main()
        captured = capsys.readouterr()
        return calls, captured.out, captured.err

    return call


def test_folds_then_the_whole_part_then_the_numbers(protocol: Command, tmp_path: Path) -> None:
    calls, printed, _ = protocol("--epochs", "2", "--", "--backbone", "resnet152", "--seed", "1")
    assert [Path(call[call.index("--datalist_file") + 1]).stem for call in calls] == ["fold0", "fold1", "published"]
    configs = [str(Path("the/bundle/configs", f"{name}.json")) for name in ("train", "published")]
    assert calls[0] == [
        *[sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs), "--bundle_root"],
        *[str(Path("the/bundle")), "--dataset_dir", "data", "--datalist_file", str(tmp_path / "folds" / "fold0.json")],
        *["--output_dir", str(tmp_path / "o" / "fold0"), "--backbone", "resnet152", "--seed", "1"],
    ]
    # means of the folds: 0.2, 0.5, 0.7, 0.4; the whole part has 0.5 and 0.7 in epochs 2 and 3
    assert printed.splitlines()[:3] == ["==> fold0", "==> fold1", "==> published"]
    assert "epochs with the highest mean accuracy of 2 folds: 2, 3" in printed
    assert "in these 2 epochs of one training: 0.6000 ± 0.1414" in printed


def test_one_epoch_has_no_deviation_and_other_overlays_are_taken(protocol: Command) -> None:
    calls, printed, _ = protocol("--overlays", "published", "macular_edema", "--epochs", "1")
    assert calls[0][5].endswith("macular_edema.json']")
    assert "in these 1 epochs of one training: 0.7000 ± 0.0000" in printed


@pytest.mark.parametrize(
    ("options", "arguments", "code", "message"),
    [
        (
            {"lists": ("fold0", "published")},
            (),
            2,
            "error: folds: expected fold*.json, at least two, and published.json",
        ),
        ({"lists": ("fold0", "fold1")}, (), 2, "error: folds: expected fold*.json, at least two, and published.json"),
        ({"fail": "fold1"}, (), 3, "error: the training on fold1.json ended with exit code 3"),
        ({"curves": {"fold0": [0.1]}}, (), 2, "error: epochs.csv: no column accuracy by epoch"),
        (
            {"curves": {**CURVES, "published": [0.1, 0.2]}},
            (),
            2,
            "error: the training on the whole part has no epoch 3",
        ),
        ({}, ("--epochs", "0"), 2, "--epochs must be 1 or more, got 0"),
    ],
    ids=["one fold", "no whole part", "a training fails", "no table", "a shorter training", "no epoch"],
)
def test_mistakes_are_one_line(
    options: dict[str, Any],
    arguments: tuple[str, ...],
    code: int,
    message: str,
    protocol: Command,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        protocol(*arguments, **options)
    assert exit_.value.code == code
    *_, last = capsys.readouterr().err.splitlines()
    assert message in last
