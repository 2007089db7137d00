"""The set whose informative pixels are known: it is fair, and a learnt map finds them."""

import json
import math
from pathlib import Path
from typing import Any

import known_pixels
import numpy as np
import pytest
import torch
from benchmark_scripts import run_script
from known_pixels import CLASSES, KnownSet, draw_set, judge, judge_map
from PIL import Image
from torch import nn

from ag_networks.data import read_class_names
from ag_networks.handlers import map_source
from ag_networks.losses import MapPenaltyLoss
from ag_networks.metrics import PictureTable
from ag_networks.nets import GlobalAttentionClassifier

STEPS, BATCH = 150, 24


@pytest.fixture(scope="module")
def made() -> KnownSet:
    """Return 160 pictures of 32 x 32."""
    return draw_set(160, size=32, seed=2)


def learn(made: KnownSet, labels: np.ndarray, kind: str = "pixel_cnn", **options: Any) -> float:
    """AUROC of the map that a short training of a small network learns."""
    torch.manual_seed(2)
    images = torch.from_numpy(made.pictures[:, None]).float().sub(128).div(40)
    targets = torch.from_numpy(labels)
    backbone = nn.Sequential(
        *[nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU()],
        *[nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()],
        *[nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)],
    )
    network = GlobalAttentionClassifier(backbone, images.shape[2:])
    dataset = [{"image": image} for image in images]
    source = map_source(kind, dataset, images.shape[2:], hidden_channels=16, components=32, **options)
    network.attention.learn(source)
    groups = [{"params": network.parameters()}, {"params": source.parameters(), "lr": 0.003}]
    optimizer = torch.optim.Adam(groups, lr=0.005)
    loss = MapPenaltyLoss(nn.CrossEntropyLoss(), network.attention, weight=0.05)
    for _ in range(STEPS):
        some = torch.randint(len(images), (BATCH,))
        optimizer.zero_grad()
        loss(network(images[some]), targets[some]).backward()
        optimizer.step()
    network.attention.freeze()
    return judge_map(network.attention.map[0, 0].double().numpy(), made.known)[1]


@pytest.mark.parametrize("features", ["all", "principal", "random"])
def test_the_map_finds_the_pixels_that_tell_the_class(features: str, made: KnownSet) -> None:
    assert learn(made, made.labels, features=features) > 0.9


def test_it_does_not_find_them_where_they_tell_nothing(made: KnownSet) -> None:
    shuffled = np.random.default_rng(2).permutation(made.labels)
    assert learn(made, shuffled) < 0.8


def test_nothing_but_the_class_gives_the_pixels_away() -> None:
    made = draw_set(2000, size=32)
    values, known = made.pictures.astype(float), made.known
    assert known.mean() == 3 / 16
    assert np.bincount(made.labels).tolist() == [1000, 1000]
    for statistic in (values.mean(axis=0), values.std(axis=0)):
        assert statistic[known].mean() == pytest.approx(statistic[~known].mean(), rel=0.02)
        assert judge_map(statistic, known)[1] == pytest.approx(0.5, abs=0.1)
    # the correlation of each pixel with the class does
    centered = (values - values.mean(axis=0)) / values.std(axis=0)
    correlation = np.abs(np.tensordot(2.0 * made.labels - 1, centered, 1) / len(values))
    assert judge_map(correlation, known) == (pytest.approx(5.33, abs=0.8), 1.0)


def test_three_lamps_are_right_in_nine_of_ten_pictures() -> None:
    made = draw_set(4000, size=16)
    lamps = made.pictures.astype(float).reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4))
    telling = made.known[::4, ::4]
    votes = (lamps > 128)[:, telling].sum(axis=1)
    assert ((votes > 1) == made.labels).mean() == pytest.approx(0.896, abs=0.02)
    for row, column in np.argwhere(~telling):
        assert ((lamps[:, row, column] > 128) == made.labels).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("values", "share", "auroc"),
    [
        ([[1, 0], [0, 0]], 4.0, 1.0),
        ([[1, 1], [1, 1]], 1.0, 0.5),
        ([[1, 2], [3, 4]], 0.4, 0.0),
        ([[3, 3], [1, 1]], 1.5, 5 / 6),
        ([[-4, 2], [1, 1]], 2.0, 1.0),
        ([[0, 0], [0, 0]], math.nan, 0.5),
    ],
    ids=["found", "constant", "missed", "tie", "negative", "zeros"],
)
def test_known_answers(values: list[list[float]], share: float, auroc: float) -> None:
    known = np.array([[True, False], [False, False]])
    assert judge_map(np.array(values, dtype=float), known) == pytest.approx((share, auroc), nan_ok=True)


def run(*arguments: object) -> str:
    return run_script("known_pixels", *arguments)


def test_make_writes_a_folder_for_each_class(tmp_path: Path) -> None:
    printed = run("make", "--output", tmp_path / "set", "--pictures", 6, "--size", 32)
    made = draw_set(6, size=32)
    for label, name in enumerate(CLASSES):
        paths = sorted((tmp_path / "set" / name).iterdir())
        assert len(paths) == 3
        np.testing.assert_array_equal([np.asarray(Image.open(path)) for path in paths], made.pictures[label::2])
    np.testing.assert_array_equal(np.load(tmp_path / "set" / "known.npy"), made.known)
    assert printed.startswith("6 pictures, 18.8% of the pixels tell the class; AUROC for these of")


def test_train_calls_what_a_user_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(known_pixels, "_call", lambda module, *given: calls.append((module, list(map(str, given)))))
    runs = tmp_path / "runs"
    (runs / "none").mkdir(parents=True)
    (runs / "none" / "results.csv").write_text("")  # done
    settings = ("--settings", "none", "global_penalty_1", "--epochs", 3)
    run("train", "--dataset", tmp_path, "--runs", runs, *settings)
    assert [module for module, _ in calls] == ["ag_networks.apps.make_datalist", "monai.bundle", "monai.bundle"]
    training, evaluation = (dict(zip(given[1::2], given[2::2], strict=True)) for _, given in calls[1:])
    configs = ["train.json", "own_pictures.json", "evaluate.json"]
    assert [name for name in configs if name in evaluation["--config_file"]] == configs
    assert "evaluate" not in training["--config_file"]
    assert training["--penalty"] == "1.0"
    assert training["--max_epochs"] == "3"
    assert training["--output_dir"] == evaluation["--output_dir"] == str(runs / "global_penalty_1")
    assert evaluation["--checkpoint"] == str(runs / "global_penalty_1" / "checkpoints" / "last.pt")
    assert evaluation["--part"] == "test"
    setting = json.loads((runs / "global_penalty_1" / "setting.json").read_text())
    assert (setting["penalty"], setting["max_epochs"]) == (1.0, 3)


def test_judge_reads_maps_and_results(tmp_path: Path) -> None:
    known = np.zeros((4, 4), bool)
    known[:2, :2] = True
    np.save(tmp_path / "known.npy", known)
    for name, values in (("other", torch.ones(4, 4)), ("global", torch.from_numpy(0.2 + 0.6 * known))):
        (tmp_path / "runs" / name / "checkpoints").mkdir(parents=True)
        state = {"network": {"attention.map": values[None, None].float()}, "epoch": 3}
        torch.save(state, tmp_path / "runs" / name / "checkpoints" / "last.pt")
        table = PictureTable(CLASSES)
        for i in range(4):
            table.add(f"{i}.png", label=CLASSES[i % 2], probabilities=[0.9, 0.1])
        table.write_csv(tmp_path / "runs" / name / "results.csv")
    (tmp_path / "runs" / "global" / "setting.json").write_text(
        '{"penalty": 0.1, "map_learning_rate": 0.001, "cutoff_epoch": 20}'
    )
    lines = judge(tmp_path, tmp_path / "runs").splitlines()
    assert lines[2:4] == [
        "| global | 0.1 | 0.001 | 20 | 0.800 | 0.200 | 2.29 | 1.000 | 0.500 |",
        "| other | - | - | - | 1.000 | 1.000 | 1.00 | 0.500 | 0.500 |",
    ]
    assert lines[-1].endswith("has a share of 4.00.")


@pytest.mark.slow
def test_the_whole_way(tmp_path: Path) -> None:
    made, runs = tmp_path / "set", tmp_path / "runs"
    run("make", "--output", made, "--pictures", 40, "--size", 32)
    options = ("--dataset", made, "--runs", runs, "--size", 32)
    run("train", *options, "--epochs", 2, "--settings", "global_principal")
    assert read_class_names(made / "datalist.json") == {"0": "left", "1": "right"}
    (line,) = (line for line in run("judge", *options).splitlines() if line.startswith("| global_principal |"))
    assert 0 < float(line.split(" | ")[6]) < 5.4
