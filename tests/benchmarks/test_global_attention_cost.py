"""The cost of a global map: formulas against the modules, limits, and the script on tiny sets."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import global_attention_cost
import pytest
import torch
from global_attention_cost import Case, main, predict, tables
from torch.utils.flop_counter import FlopCounterMode

from ag_networks.blocks import PixelCNN

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "global_attention_cost.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


@pytest.mark.parametrize(
    ("images", "hidden", "parameters"), [(413, 32, 356_897), (413, 128, 1_427_585), (5000, 128, 17_280_257)]
)
def test_parameters_are_the_papers(images: int, hidden: int, parameters: int) -> None:
    assert Case("memory", images, hidden, 224).parameters == Case("file", images, hidden, 224).parameters == parameters


def test_what_does_not_grow_with_the_set() -> None:
    few, many = (Case("principal", images, 32, 224) for images in (413, 100_000))
    assert few.parameters == many.parameters == 32 * (9 * 64 + 1) + 33
    assert few.flop == many.flop
    assert many.projection_flop / few.projection_flop == pytest.approx(100_000 / 413)
    assert Case("file", 413, 32, 224).expected_bytes < Case("memory", 413, 32, 224).expected_bytes


@pytest.mark.parametrize("form", ["memory", "principal"])
def test_formulas_against_the_module(form: str) -> None:
    case = Case(form, 40, 5, 12)
    source = PixelCNN(torch.zeros(case.width, 12, 12), hidden_channels=5)
    with FlopCounterMode(display=False) as counter:
        source().sum().backward()
    assert sum(p.numel() for p in source.parameters()) == case.parameters
    assert source.pixels.nbytes == case.features_bytes  # type: ignore[union-attr]
    assert counter.get_total_flops() == pytest.approx(case.flop, rel=0.02)  # the counter leaves out the bias


def test_idrid_as_in_the_notes() -> None:
    case = Case("memory", 413, 128, 224)
    assert case.flop / 2e9 == pytest.approx(143.3, abs=0.1)
    assert 4 * case.file_bytes == 413 * 3 * 224 * 224 * 4
    assert case.adam_bytes == 2 * 4 * 1_427_585


def test_predictions_scale_from_the_largest_measured_set() -> None:
    rows = [
        {"form": "file", "images": 10, "hidden": 4, "size": 8, "seconds": 9.0, "projection_seconds": 0.0},
        {"form": "file", "images": 100, "hidden": 4, "size": 8, "seconds": 2.0, "projection_seconds": 0.0},
        {"form": "random", "images": 100, "hidden": 4, "size": 8, "seconds": 1.0, "projection_seconds": 3.0},
    ]
    assert predict(Case("file", 1000, 4, 8), rows) == (pytest.approx(20, rel=0.01), 0)
    assert predict(Case("random", 1000, 4, 8), rows) == pytest.approx((1, 30))
    assert predict(Case("file", 1000, 5, 8), rows) is None
    far = {"form": "file", "images": 1000, "hidden": 4, "size": 8}
    table = tables([*rows, far])
    (line,) = (line for line in table.splitlines() if line.startswith("| 1,000 |"))
    assert re.search(r"\| 20 \* \| - \| [\d.]+ MiB \* \|$", line)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every form of two tiny sets, and one that is over the limit of memory."""
    path = tmp_path_factory.mktemp("cost") / "cost.json"
    done = run("measure", "--results", path, "--images", 70, 8, 3000, "--hidden", 3, "--size", 24, "--gib", 0.004)
    assert done.returncode == 0, done.stderr
    return path


def test_every_form_is_measured_within_the_limits(results: Path) -> None:
    rows = {(row["form"], row["images"]): row for row in json.loads(results.read_text())}
    assert len(rows) == 12
    measured = {key for key, row in rows.items() if "seconds" in row}
    assert measured == {(form, n) for form in ("memory", "file", "principal", "random") for n in (8, 70)}
    assert all(0 < rows[key]["seconds"] < 60 for key in measured)
    assert all((rows[key]["projection_seconds"] > 0) == (key[0] in ("principal", "random")) for key in measured)


def test_tables_come_from_the_file_alone(results: Path) -> None:
    table = tables(json.loads(results.read_text()))
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert [line[0].strip("| ") for line in lines[1:]] == ["8"] * 4 + ["70"] * 4 + ["3,000"] * 4
    assert all(line[7].endswith("*") == (line[0] == "| 3,000") for line in lines[1:])
    assert [line[1] for line in lines[1:5]] == [
        "exact, in memory",
        "exact, chunks of a file",
        "principal components",
        "random projections",
    ]


def test_what_is_measured_is_not_measured_again(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = results.read_text()
    options = ["--results", results, "--images", 8, 70, "--hidden", 3, "--size", 24]
    monkeypatch.setattr(sys, "argv", ["cost", "measure", *map(str, options)])
    monkeypatch.setattr(global_attention_cost, "measure", None)
    main()
    assert results.read_text() == before
    assert capsys.readouterr().out.rstrip("\n") == tables(json.loads(before))


@pytest.mark.slow
def test_memory_is_that_of_the_images(tmp_path: Path) -> None:
    path = tmp_path / "cost.json"
    done = run("measure", "--results", path, "--images", 200, "--hidden", 4, "--size", 224, "--forms", "memory", "file")
    assert done.returncode == 0, done.stderr
    memory, file = (row["peak_bytes"] for row in json.loads(path.read_text()))
    images = 200 * 3 * 224 * 224 * 4
    assert images < memory < 4 * images
    assert file < 0.75 * memory
