"""ClassificationScores inside MONAI's evaluator, alone and in two processes."""

from __future__ import annotations

import json
import math
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from torch.utils.data import DistributedSampler

from ag_networks.handlers import ClassificationScores
from ag_networks.metrics import PictureTable

NAMES = {"0": "brain", "1": "femur", "2": "other"}


class AsLogits(torch.nn.Module):
    """The image's three pixels are the logits."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.flatten(1)


def item(name: str, logits: list[float], label: int, **more: Any) -> dict[str, Any]:
    image = MetaTensor(torch.tensor(logits).view(1, 1, 3), meta={"filename_or_obj": f"some/where/{name}"})
    return {"image": image, "label": label, **more}


def items() -> list[dict[str, Any]]:
    return [
        item("a/1.png", [2.0, 0.0, 0.0], 0, subject="s1"),
        item("a/2.png", [0.0, 1.0, 0.0], 0, subject="s1"),
        item("b/1.png", [0.0, 3.0, 0.0], 1, subject="s2"),
    ]


def evaluate(metric: ClassificationScores, data: list[Any], **options: Any) -> SupervisedEvaluator:
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=2, sampler=options.pop("sampler", None)),
        network=AsLogits(),
        key_val_metric={"val_f1": metric},
        **options,
    )
    evaluator.run()
    return evaluator


def test_an_epoch_is_scored_and_written(tmp_path: Path) -> None:
    drawn: list[Any] = []
    metric = ClassificationScores(NAMES, output_dir=tmp_path / "eval", draw=lambda *arguments: drawn.append(arguments))
    evaluator = evaluate(metric, items())
    metrics = evaluator.state.metrics
    assert metrics["val_f1"] == pytest.approx(2 / 3)  # both classes with images have F1 2/3; the third has none
    assert evaluator.state.best_metric == metrics["val_f1"]
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["femur_f1"] == pytest.approx(2 / 3)
    assert "other_f1" not in metrics
    assert math.isnan(metrics["quadratic_kappa"])
    table = PictureTable.read_csv(tmp_path / "eval" / "results.csv")
    assert table.rows == metric.table.rows
    assert [(row.image, row.subject, row.label, row.prediction) for row in table.rows] == [
        ("a/1.png", "s1", "brain", "brain"),
        ("a/2.png", "s1", "brain", "femur"),
        ("b/1.png", "s2", "femur", "femur"),
    ]
    expected = np.exp([2.0, 0, 0]) / np.exp([2.0, 0, 0]).sum()
    assert table.rows[0].probabilities == pytest.approx(expected)
    summary = json.loads((tmp_path / "eval" / "summary.json").read_text())
    assert summary["subjects"] == 2
    assert summary["macro_f1"] == pytest.approx(2 / 3)
    assert set(summary["intervals_95"]) == {"accuracy", "macro_f1"}
    assert (tmp_path / "eval" / "confusion_matrix.csv").read_text().splitlines()[1] == "brain,1,1,0"
    ((path, counts, names),) = drawn
    assert path == tmp_path / "eval" / "confusion_matrix.png"
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert names == ["brain", "femur", "other"]


def test_epochs_do_not_mix_and_other_keys() -> None:
    metric = ClassificationScores(["brain", "femur", "other"], key="accuracy")
    evaluator = evaluate(metric, items())
    evaluator.run()
    assert len(metric.table) == 3
    assert evaluator.state.metrics["val_f1"] == pytest.approx(2 / 3)
    kappa = ClassificationScores(NAMES, key="quadratic_kappa", ordered=True)
    assert evaluate(kappa, items()).state.metrics["val_f1"] == pytest.approx(1 - (1 / 3) / (5 / 9))


def test_probabilities_and_lists_of_scores_are_taken_as_they_are() -> None:
    metric = ClassificationScores(["brain", "femur"], softmax=False)
    scores = [torch.tensor([0.3, 0.7]), torch.tensor([9.0, 9.0])]
    metric.update(([{"case": "x"}], [{"pred": scores, "label": torch.tensor(1)}]))
    assert metric.compute() == 1
    assert metric.table.rows[0].probabilities == pytest.approx((0.3, 0.7))


def test_images_without_any_name_count_each() -> None:
    metric = ClassificationScores(["brain", "femur"])
    for _ in range(2):
        metric.update(([{}, {}], [{"pred": torch.tensor([1.0, 0.0]), "label": 0}] * 2))
    metric.compute()
    assert len(metric.table) == 4


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (([{"case": "f/x.png"}], [{"pred": torch.zeros(3), "label": 0}]), r"shape \(3,\), expected 2"),
        (
            ([{"case": "f/x.png"}], [{"pred": torch.zeros(2), "label": 2}]),
            "x.png: label 2 is no class, expected 0 to 1",
        ),
        (([{"case": "f/x.png"}], [{"pred": torch.zeros(2), "label": -1}]), "label -1"),
        (([{"case": "f/x.png"}] * 2, [{"pred": torch.zeros(2), "label": 0}] * 2), "x.png: met twice"),
        (({"case": ["x"]}, {"pred": torch.zeros(1, 2)}), "decollate"),
    ],
    ids=["classes", "label", "negative label", "twice", "not decollated"],
)
def test_what_does_not_fit_is_refused(output: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassificationScores(["brain", "femur"]).update(output)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["a", "b"],), {"key": "f1"}, "unknown key 'f1'"),
        ((["a", "b"],), {"key": "ece"}, "unknown key 'ece'"),
        ((["a", "b"],), {"key": "quadratic_kappa"}, "ordered=True"),
        (({"1": "a", "2": "b"},), {}, "classes 0 to 1"),
        (("ab",), {}, "the text 'ab'"),
        ((["a", "a"],), {}, "distinct"),
    ],
    ids=["key", "less is better", "kappa", "indices", "text", "repeated"],
)
def test_bad_arguments_are_refused(arguments: tuple, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassificationScores(*arguments, **options)


def test_it_can_be_made_from_a_config() -> None:
    config = {
        "imports": ["$import ag_networks.visualize as visualize"],
        "names": {"0": "a", "1": "b"},
        "metric": {
            "_target_": "ag_networks.handlers.ClassificationScores",
            "class_names": "@names",
            "draw": "$visualize.save_confusion_matrix",
        },
    }
    assert isinstance(ConfigParser(config).get_parsed_content("metric"), ClassificationScores)


def run_rank(rank: int, folder: str) -> None:
    """Evaluate as one of two processes."""
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    data = items()  # three images for two processes: the sampler hands one to both
    sampler = DistributedSampler(Dataset(data), num_replicas=2, rank=rank, shuffle=False)
    metric = ClassificationScores(NAMES, output_dir=folder)
    evaluator = evaluate(metric, data, sampler=sampler)
    Path(folder, f"{rank}.json").write_text(json.dumps([evaluator.state.metrics["val_f1"], len(metric.table)]))
    torch.distributed.destroy_process_group()


def test_processes_share_their_images(tmp_path: Path) -> None:
    multiprocessing.set_forkserver_preload(["monai.engines"])  # import it once, not in each process
    torch.multiprocessing.start_processes(run_rank, args=(str(tmp_path),), nprocs=2, start_method="forkserver")
    for rank in range(2):
        f1, count = json.loads((tmp_path / f"{rank}.json").read_text())
        assert (f1, count) == (pytest.approx(2 / 3), 3)
    assert len(PictureTable.read_csv(tmp_path / "results.csv")) == 3
