"""The speed benchmark on tiny volumes: its table and its file."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "speed.py"


def test_it_prints_a_table_and_keeps_the_times(tmp_path: Path) -> None:
    options = ["--sizes", "32x32x32", "--repeats", "3", "--networks", "attention_unet", "unet"]
    command = [sys.executable, str(SCRIPT), *options, "--json", str(tmp_path / "times.json")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| attention_unet | 6,407,018 |" in printed
    assert "| unet | 5,888,004 |" in printed
    rows = json.loads((tmp_path / "times.json").read_text())["sizes"]["32x32x32"]
    assert set(rows) == {"forward", "training step"}
    gated, plain = rows["forward"]["attention_unet"], rows["forward"]["unet"]
    assert len(gated["seconds"]) == len(plain["seconds"]) == 3
    assert plain["ratio"] == [1.0, 1.0, 1.0]
    assert 1.0 < gated["flops"] / plain["flops"] < 1.05, "the gates are a few per cent of the operations"
    assert rows["training step"]["unet"]["flops"] > 2.5 * plain["flops"]
