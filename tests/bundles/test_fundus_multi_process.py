"""Training and evaluation of the fundus bundle by two processes, without a GPU."""

import csv
from pathlib import Path

import torch
from tiny_bundle import last
from tiny_fundus import run_in_two, train

pytest_plugins = ["tiny_fixtures", "tiny_fundus_fixtures"]


def test_two_processes_learn_one_map_and_score_each_picture_once(
    photographs: Path, fundus_weights: Path, tmp_path: Path
) -> None:
    data = {"dataset_dir": str(photographs), "datalist_file": str(photographs / "datalist.json")}
    run_in_two("train", "multi_gpu_train", cwd=tmp_path, output_dir="out", max_epochs=3, map_learning_rate=0.01, **data)
    state = last(tmp_path / "out")
    assert (state["epoch"], state["iteration"]) == (3, 3)  # six pictures, three for each process
    assert state["network"].keys() == torch.load(fundus_weights, weights_only=True).keys()
    assert float(state["network"]["attention.map"].std()) > 0  # it has been learnt, and frozen after an epoch
    scored = {**data, "checkpoint": str(fundus_weights)}
    run_in_two("train", "evaluate", "multi_gpu_evaluate", cwd=tmp_path, output_dir="two", **scored)
    train(photographs, tmp_path / "one", "evaluate", checkpoint=str(fundus_weights))
    tables = []
    for folder in ("one", "two"):
        with (tmp_path / folder / "results.csv").open(newline="") as file:
            tables.append({row["image"]: row["prediction"] for row in csv.DictReader(file)})
    assert len(tables[0]) == 3
    assert tables[0] == tables[1]
