"""The speed benchmark on tiny volumes and frames: its tables and its file."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import speed
from _measure import count_flops
from benchmark_scripts import run_script

from ag_networks.registry import create_network

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "speed.py"


def kept(folder: Path) -> dict[str, Any]:
    """The rows that the benchmark keeps, by size and pass."""
    return json.loads((folder / "times.json").read_text())["sizes"]


@pytest.mark.slow
def test_it_prints_a_table_and_keeps_the_times(tmp_path: Path) -> None:
    options = ["--sizes", "32x32x32", "--networks", "attention_unet", "unet", "--repeats", "3"]
    command = [sys.executable, str(SCRIPT), *options, "--json", str(tmp_path / "times.json")]
    printed, sizes = subprocess.run(command, capture_output=True, text=True, check=True).stdout, kept(tmp_path)
    assert "| attention_unet | 6,407,018 |" in printed
    assert "| unet | 5,888,004 |" in printed
    rows = sizes["32x32x32"]
    assert set(rows) == {"forward", "training step"}
    gated, plain = rows["forward"]["attention_unet"], rows["forward"]["unet"]
    assert len(gated["seconds"]) == len(plain["seconds"]) == 3
    assert plain["ratio"] == [1.0, 1.0, 1.0]
    assert 1.0 < gated["flops"] / plain["flops"] < 1.05, "the gates are a few per cent of the operations"
    assert rows["training step"]["unet"]["flops"] > 2.5 * plain["flops"]


def test_classification_networks_see_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the processes for the memory of each network take seconds to start; the slow test has them
    monkeypatch.setattr(speed, "ProcessPoolExecutor", lambda count, mp_context: ThreadPoolExecutor(count))
    names = ["attention_sononet_8", "sononet_8", "unet"]
    options = ["--sizes", "32x48", "--batches", "3", "--networks", *names, "--repeats", "3"]
    printed, sizes = run_script("speed", *options, "--json", tmp_path / "times.json"), kept(tmp_path)
    assert "### 32x48, batch 3, training step" in printed
    assert "| attention_sononet_8 | 177,068 |" in printed
    rows = sizes["32x48, batch 3"]
    assert set(rows["forward"]) == set(rows["training step"]) == set(names[:-1])  # no network for volumes
    gated, plain = (rows["forward"][name] for name in names[:-1])
    assert plain["ratio"] == [1.0, 1.0, 1.0]
    assert 1.0 < gated["flops"] / plain["flops"] < 1.06
    single = count_flops(create_network("sononet_8"), (32, 48), training=False)
    assert plain["flops"] == 3 * single
