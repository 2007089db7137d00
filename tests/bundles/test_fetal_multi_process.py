"""Training and evaluation of the fetal plane bundle by two processes, without a GPU."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tiny_pancreas import last
from tiny_planes import BUNDLE, TINY_TRAINING, train

pytest_plugins = ["tiny_fixtures", "tiny_plane_fixtures"]

LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]


def run_in_two(*names: str, cwd: Path, **overrides: Any) -> None:
    """Run the documented command; the overlays choose the device by the process."""
    files = str([str(BUNDLE / "configs" / f"{name}.json") for name in names])
    command = [sys.executable, *LAUNCHER, "monai.bundle", "run", "--config_file", files]
    settings = {key: value for key, value in TINY_TRAINING.items() if key != "device"}
    for key, value in {**settings, **overrides}.items():
        command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert run.returncode == 0, run.stderr[-3000:]


def test_two_processes_train_one_network_and_score_each_frame_once(
    planes: Path, plane_weights: Path, tmp_path: Path
) -> None:
    data = {"dataset_dir": str(planes), "datalist_file": str(planes / "datalist.json")}
    start = {**data, "pretrained": str(plane_weights), "max_epochs": 1}
    run_in_two("train", "finetune", "multi_gpu_train", cwd=tmp_path, output_dir="out", **start)
    state = last(tmp_path / "out")
    assert (state["epoch"], state["iteration"]) == (1, 1)  # six frames, three for each process
    shipped = torch.load(plane_weights, weights_only=True)
    assert state["network"].keys() == shipped.keys()
    key = "features.stages.0.0.norm.num_batches_tracked"
    assert int(state["network"][key]) == int(shipped[key]) + 1  # it has been trained
    scored = {**data, "checkpoint": str(plane_weights)}
    run_in_two("train", "evaluate", "multi_gpu_evaluate", cwd=tmp_path, output_dir="two", **scored)
    train(planes, tmp_path / "one", "evaluate", checkpoint=str(plane_weights))
    tables = []
    for folder in ("one", "two"):
        with (tmp_path / folder / "results.csv").open(newline="") as file:
            tables.append({row["image"]: row["prediction"] for row in csv.DictReader(file)})
    assert len(tables[0]) == 3
    assert tables[0] == tables[1]
