"""CaseScoresMetric inside MONAI's evaluator, alone and in two processes."""

from __future__ import annotations

import json
import logging
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
from monai.handlers import from_engine
from monai.transforms import AsDiscreted, CopyItemsd
from torch.utils.data import DistributedSampler

from ag_networks.handlers import CaseScoresMetric
from ag_networks.metrics import CaseTable, score_case

SHAPE, SPACING = (10, 9, 8), (0.8, 0.8, 3.0)
# An affine with a flip and a rotation: the spacing is in the lengths of its columns, not in its diagonal.
AFFINE = np.array([[0.0, -0.8, 0, 5], [0.8, 0, 0, 7], [0, 0, -3.0, 9], [0, 0, 0, 1]])
CHANNEL_DEF = {"0": "background", "1": "pancreas", "2": "liver"}


def boxes(shift: int) -> np.ndarray:
    """Return a label map with one box for each of two classes, shifted along the last axis."""
    labels = np.zeros(SHAPE, np.float32)
    labels[1:4, 2:6, 1 + shift : 4 + shift] = 1
    labels[5:9, 2:6, 1 + shift : 4 + shift] = 2
    return labels


def item(path: str, shift: int) -> dict[str, MetaTensor]:
    """Return a case whose image is its own prediction."""
    image = MetaTensor(boxes(shift)[None], affine=AFFINE, meta={"filename_or_obj": path})
    label = MetaTensor(boxes(0)[None], affine=AFFINE, meta={"filename_or_obj": "labels/other_name.nii.gz"})
    return {"image": image, "label": label}


def cases() -> list[dict[str, MetaTensor]]:
    return [item(f"images/case_{shift}.nii.gz", shift) for shift in range(3)]


def expected_dsc(shift: int) -> float:
    return (3 - shift) / 3


class ToLogits(torch.nn.Module):
    """Turn the label map that serves as image into logits of three classes."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([-((image - index) ** 2) for index in range(3)], dim=1)


def evaluate(metric: CaseScoresMetric, data: list[Any], **options: Any) -> SupervisedEvaluator:
    loader = DataLoader(Dataset(data), batch_size=2, sampler=options.pop("sampler", None))
    options = {"network": torch.nn.Identity(), **options}
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=loader, key_val_metric={"val_mean_dice": metric}, **options
    )
    evaluator.run()
    return evaluator


def test_scores_in_millimetres_of_every_case(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metric = CaseScoresMetric(["pancreas", "liver"], output_dir=tmp_path / "eval")
    with caplog.at_level(logging.INFO):
        evaluator = evaluate(metric, cases())

    assert evaluator.state.metrics["val_mean_dice"] == pytest.approx((1 + 2 / 3 + 1 / 3) / 3)
    assert evaluator.state.best_metric == evaluator.state.metrics["val_mean_dice"]
    assert [(row.case, row.class_name) for row in metric.table.rows] == [
        (f"case_{shift}", name) for shift in range(3) for name in ("pancreas", "liver")
    ]
    for label, name in ((1, "pancreas"), (2, "liver")):
        direct = [score_case(boxes(shift), boxes(0), spacing=SPACING, label=label) for shift in range(3)]
        assert [row.scores for row in metric.table.rows if row.class_name == name] == direct
        mean = np.mean([scores.s2s_mm for scores in direct])
        assert evaluator.state.metrics[f"{name}_s2s_mm"] == pytest.approx(mean)
    assert max(row.scores.hd95_mm for row in metric.table.rows) == pytest.approx(2 * 3.0)
    assert "| pancreas | 3 | 0 | 0.667 ± 0.333 |" in caplog.text

    assert CaseTable.read_csv(tmp_path / "eval/metrics_per_case.csv").rows == metric.table.rows
    summary = json.loads((tmp_path / "eval/metrics_summary.json").read_text())
    assert summary["classes"]["liver"]["mean"]["dsc"] == pytest.approx(2 / 3)
    assert sorted(file.name for file in (tmp_path / "eval").iterdir()) == [
        "metrics_per_case.csv",
        "metrics_summary.json",
    ]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"argmax": True}, id="label map"),
        pytest.param({"argmax": True, "to_onehot": 3}, id="one-hot"),
    ],
)
def test_network_output_after_postprocessing(options: dict[str, Any]) -> None:
    postprocessing = AsDiscreted(keys="pred", **options)
    plain, processed = CaseScoresMetric(CHANNEL_DEF), CaseScoresMetric(CHANNEL_DEF)
    evaluate(plain, cases())
    evaluate(processed, cases(), network=ToLogits(), postprocessing=postprocessing)
    assert processed.table.rows == plain.table.rows


def test_serves_as_key_metric_of_a_bundle_config() -> None:
    config = {
        "channel_def": CHANNEL_DEF,
        "key_metric": {
            "val_mean_dice": {
                "_target_": "ag_networks.handlers.CaseScoresMetric",
                "class_names": "@channel_def",
            }
        },
    }
    metric = ConfigParser(config).get_parsed_content("key_metric")["val_mean_dice"]
    assert evaluate(metric, cases()).state.metrics["val_mean_dice"] == pytest.approx(2 / 3)


def test_a_failed_case_lowers_the_metric() -> None:
    data = cases()
    data[2]["image"] = data[2]["image"] * 0
    metric = CaseScoresMetric(CHANNEL_DEF)
    assert evaluate(metric, data).state.metrics["val_mean_dice"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    diagonal = math.hypot(*(size * step for size, step in zip(SHAPE, SPACING, strict=True)))
    assert metric.table.column("s2s_mm", "liver")["case_2"] == pytest.approx(diagonal)
    assert metric.table.summary()["liver"].failures == 1


def test_an_epoch_starts_afresh() -> None:
    metric = CaseScoresMetric(CHANNEL_DEF)
    evaluator = evaluate(metric, cases())
    evaluator.run()
    assert len(metric.table) == 6


def test_valid_voxels_only() -> None:
    known = np.zeros(SHAPE, bool)
    known[:, :, 3:5] = True
    data = [{**case, "valid": torch.as_tensor(known)[None]} for case in cases()]
    metric = CaseScoresMetric(["pancreas"], output_transform=from_engine(["pred", "label", "known"]))
    evaluate(metric, data, postprocessing=CopyItemsd(keys="valid", names="known"))
    direct = [score_case(boxes(shift), boxes(0), spacing=SPACING, valid=known) for shift in range(3)]
    assert [row.scores for row in metric.table.rows] == direct


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        pytest.param(["x/case_1.nii.gz", "x/case_2.nii"], ["case_1", "case_2"], id="extensions go"),
        pytest.param(["s1/ct.nii.gz", "s2/ct.nii.gz"], ["s1/ct", "s2/ct"], id="same name, other folder"),
        pytest.param(["/a/s/b/ct.mha", "/a/t/b/ct.mha"], ["s/b/ct", "t/b/ct"], id="two folders up"),
        pytest.param(["/a/1.2.840.1/", "/a/1.2.840.2"], ["1.2.840.1", "1.2.840.2"], id="series folders"),
        pytest.param(["a/ct.nii", "a/ct.nii.gz"], ["ct.nii", "ct.nii.gz"], id="only the extension differs"),
        pytest.param(["ct.nii", "b/ct.nii"], ["ct.nii", "b/ct"], id="one without folder"),
        pytest.param(["c:\\s1\\ct.nii.gz", "c:\\s2\\mr.nii.gz"], ["ct", "mr"], id="backslashes"),
        pytest.param([None, None], ["case_0_0", "case_0_1"], id="in memory"),
    ],
)
def test_case_names(paths: list[str | None], names: list[str]) -> None:
    metric = CaseScoresMetric(["pancreas"])
    for path in paths:
        meta = {} if path is None else {"filename_or_obj": path}
        tensor = MetaTensor(boxes(0)[None], affine=AFFINE, meta=meta)
        metric.update(([tensor], [tensor]))
    metric.compute()
    assert sorted(row.case for row in metric.table.rows) == sorted(names)


def test_the_name_of_the_label_serves_where_the_prediction_has_none() -> None:
    metric = CaseScoresMetric(["pancreas"])
    label = item("images/case.nii.gz", 0)["label"]
    metric.update(([label.as_tensor()], [label]))
    metric.compute()
    assert metric.table.rows[0].case == "other_name"


def tensor(array: np.ndarray, *, plain: bool = False) -> torch.Tensor:
    return torch.as_tensor(array) if plain else MetaTensor(array, affine=AFFINE, meta={"filename_or_obj": "f/c_1.nii"})


@pytest.mark.parametrize(
    ("prediction", "label", "message"),
    [
        pytest.param(
            tensor(boxes(0)[None], plain=True), tensor(boxes(0)[None], plain=True), "spacing in mm is", id="no spacing"
        ),
        pytest.param(tensor(boxes(0)[None, 1:]), tensor(boxes(0)[None]), "case c_1: .*shape", id="shapes"),
        pytest.param(tensor(boxes(0)[None] / 3), tensor(boxes(0)[None]), "case c_1: .*argmax", id="probabilities"),
        pytest.param(tensor(np.stack([boxes(0)] * 3)), tensor(boxes(0)[None]), "not one-hot", id="logits"),
        pytest.param(tensor(np.zeros((2, *SHAPE))), tensor(boxes(0)[None]), "2 channels, but class 2", id="few"),
    ],
)
def test_bad_output_is_refused(prediction: torch.Tensor, label: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaseScoresMetric(CHANNEL_DEF).update(([prediction], [label]))


def test_slices_of_a_case_are_refused() -> None:
    with pytest.raises(ValueError, match="case_0: met twice"):
        evaluate(CaseScoresMetric(CHANNEL_DEF), [item("images/case_0.nii.gz", 0)] * 3)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "distinct names"),
        ({"0": "background"}, "distinct names"),
        (["a", "a"], "distinct names"),
        ("pancreas", "distinct names"),
        (["background", "pancreas"], "must not hold the background"),
    ],
    ids=str,
)
def test_bad_class_names_are_refused(names: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CaseScoresMetric(names)


def run_rank(rank: int, folder: str) -> None:
    """Evaluate one half of three cases; the sampler repeats one to make the halves equal."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    output_dir = Path(folder) / f"rank_{rank}"
    metric = CaseScoresMetric(CHANNEL_DEF, output_dir=output_dir)
    data = cases()
    sampler = DistributedSampler(data, shuffle=False)  # type: ignore[arg-type, var-annotated]
    assert len(sampler) == 2
    evaluator = evaluate(metric, data, sampler=sampler)
    result = {"metric": evaluator.state.metrics["val_mean_dice"], "cases": [row.case for row in metric.table.rows]}
    (Path(folder) / f"result_{rank}.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()


def test_two_processes_count_every_case_once(tmp_path: Path) -> None:
    multiprocessing.set_forkserver_preload(["monai.engines"])  # import it once, not in each process
    torch.multiprocessing.start_processes(run_rank, args=(str(tmp_path),), nprocs=2, start_method="forkserver")
    results = [json.loads((tmp_path / f"result_{rank}.json").read_text()) for rank in (0, 1)]
    for result in results:
        assert result["cases"] == [f"case_{shift}" for shift in range(3) for _ in range(2)]
        assert result["metric"] == pytest.approx(np.mean([expected_dsc(shift) for shift in range(3)]))
    assert len(CaseTable.read_csv(tmp_path / "rank_0/metrics_per_case.csv")) == 6
    assert not (tmp_path / "rank_1").exists()
