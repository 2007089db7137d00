"""Training and evaluation of the pancreas bundle by two processes, without a GPU."""

import csv
from pathlib import Path

import pytest
import torch
from tiny_bundle import last
from tiny_pancreas import run_in_two, tiny_network, train, write_datalist

pytest_plugins = ["tiny_fixtures"]


@pytest.mark.parametrize("names", [["train", "finetune", "multi_gpu_train"]], ids="+".join)
def test_two_processes_train_one_network(names: list[str], dataset: Path, tmp_path: Path) -> None:
    start = tiny_network()
    torch.save(start.state_dict(), tmp_path / "start.pt")
    datalist = write_datalist(tmp_path, training=["case_0", "case_1"], validation=["case_2", "case_0"])
    paths = {"dataset_dir": str(dataset), "datalist_file": str(datalist), "output_dir": "out", "pretrained": "start.pt"}
    run_in_two(*names, cwd=tmp_path, **paths, max_epochs=1)
    state = last(tmp_path / "out")
    assert (state["epoch"], state["iteration"]) == (1, 1)  # two cases, one for each process
    assert set(state["network"]) == set(start.state_dict())
    assert int(state["network"]["bottleneck.conv1.norm.num_batches_tracked"]) == 1  # it has been trained
    for key, value in start.named_parameters():  # one step away from where they started
        torch.testing.assert_close(state["network"][key], value.detach(), rtol=0, atol=1e-3)
    assert 0 <= state["best"][0] <= 1
    assert sorted(path.name for path in (tmp_path / "out/checkpoints").iterdir()) == ["last.pt", "model.pt"]


def test_two_processes_score_each_case_once(dataset: Path, weights: Path, tmp_path: Path) -> None:
    names = ["case_0", "case_1", "case_2"]  # an odd number
    datalist = write_datalist(tmp_path, training=names[:1], validation=names)
    paths = {"dataset_dir": str(dataset), "datalist_file": str(datalist), "checkpoint": str(weights)}
    run_in_two("train", "evaluate", "multi_gpu_evaluate", cwd=tmp_path, output_dir="two", **paths, cache_rate=0.0)
    train(dataset, tmp_path / "one", "evaluate", **paths, cache_rate=0.0)
    tables = []
    for folder in ("one", "two"):
        with (tmp_path / folder / "metrics_per_case.csv").open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    assert [row["case"] for row in tables[0]] == names
    assert tables[0] == tables[1]
