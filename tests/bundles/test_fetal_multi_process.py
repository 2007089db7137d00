"""Training and evaluation of the fetal plane bundle by two processes, without a GPU."""

import csv
from pathlib import Path

import torch
from tiny_bundle import last
from tiny_planes import run_in_two, train

pytest_plugins = ["tiny_fixtures", "tiny_plane_fixtures"]


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
