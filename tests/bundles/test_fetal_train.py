"""Training, evaluation, warm start and fine-tuning of the fetal plane bundle by its configs alone."""

import csv
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from picture_makers import save
from planes_archive import write_archive
from tiny_bundle import last, predictions, states_equal
from tiny_planes import (
    BUNDLE,
    NAMES,
    SHAPES,
    draw_frame,
    infer,
    start_weights,
    tiny_network,
    train,
    training,
)

from ag_networks.apps.prepare_fetal_planes import prepare
from ag_networks.nets import SonoNet

pytest_plugins = ["tiny_fixtures", "tiny_plane_fixtures"]


@pytest.fixture(scope="module")
def trained(planes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of three epochs, with one validation after each."""
    output = tmp_path_factory.mktemp("trained")
    train(planes, output, max_epochs=3)
    return output


def at_start(workflow: Any) -> dict[str, torch.Tensor]:
    """Return a dictionary that gets the network's state when training begins."""
    start: dict[str, torch.Tensor] = {}

    def keep(engine: Engine) -> None:
        start.update({key: value.clone() for key, value in engine.network.state_dict().items()})

    workflow.trainer.add_event_handler(Events.STARTED, keep)
    return start


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_training_leaves_the_last_state_and_the_best_network(trained: Path) -> None:
    state = last(trained)
    assert (state["epoch"], state["iteration"]) == (3, 6)  # six frames, four at a time
    best = torch.load(trained / "checkpoints/model.pt", weights_only=True)
    assert best.keys() == tiny_network().state_dict().keys()
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["last.pt", "model.pt"]


def test_a_killed_training_ends_as_one_that_was_not(planes: Path, trained: Path, tmp_path: Path) -> None:
    class KilledError(BaseException):
        """Stands for the end of the process."""

    def stop(engine: Engine) -> None:
        raise KilledError

    made = training(planes, tmp_path, max_epochs=3)
    made.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), stop)
    with pytest.raises(KilledError):
        made.run()
    assert last(tmp_path)["epoch"] == 1
    torch.rand(7)
    train(planes, tmp_path, max_epochs=3)
    assert states_equal(last(tmp_path), last(trained))


def test_what_is_trained_is_learnt(tmp_path: Path) -> None:
    """Three drawn planes that differ by a shape; frames that were not trained on."""
    parts: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for index, plane in enumerate(SHAPES):
        for i in range(12):
            save(tmp_path / f"images/{plane}_{i}.png", draw_frame(plane, seed=50 * index + i))
            part = "validation" if i > 8 else "training"
            parts[part].append({"image": f"images/{plane}_{i}.png", "label": index, "subject": f"{plane}_{i}"})
    (tmp_path / "datalist.json").write_text(json.dumps(parts))
    names = ["disk", "nothing", "bar"]
    own = {"class_names": names, "network_def#out_channels": 3, "background_share": 1, "no_best_frame": []}
    overrides = {**own, "max_epochs": 12, "batch_size": 9, "learning_rate": 0.02}
    train(tmp_path, tmp_path / "out", val_interval=12, **overrides)
    weights = tmp_path / "out/checkpoints/model.pt"
    train(tmp_path, tmp_path / "scores", "evaluate", checkpoint=str(weights), **own)
    summary = json.loads((tmp_path / "scores/summary.json").read_text())
    assert summary["accuracy"] >= 8 / 9
    own.pop("background_share")
    infer(tmp_path / "images", tmp_path / "predicted", weights, **own)
    rows = predictions(tmp_path / "predicted")
    for row in results(tmp_path / "scores"):  # evaluation and inference agree
        assert rows[Path(row["image"]).name]["prediction"] == row["prediction"]
        assert float(rows[Path(row["image"]).name]["probability"]) == pytest.approx(float(row["probability"]), abs=1e-4)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_evaluation_writes_the_tables(part: str, planes: Path, plane_weights: Path, tmp_path: Path) -> None:
    made = train(planes, tmp_path, "evaluate", checkpoint=str(plane_weights), part=part)
    files = {"results.csv", "summary.json", "confusion_matrix.csv", "confusion_matrix.png"}
    assert {path.name for path in tmp_path.iterdir()} == files
    expected = {Path(item["image"]).name for item in json.loads((planes / "datalist.json").read_text())[part]}
    assert {row["image"] for row in results(tmp_path)} == expected
    assert {row["subject"] for row in results(tmp_path)} == {Path(name).stem for name in expected}
    metrics = made.evaluator.state.metrics
    assert {"val_macro_f1", "accuracy", "macro_precision", "macro_recall", "macro_auroc", "ece"} <= metrics.keys()


def test_a_checkpoint_of_other_classes_is_one_line(planes: Path, tmp_path: Path) -> None:
    weights = start_weights(tmp_path / "six.pt", out_channels=6)
    message = r"^error: checkpoint six.pt belongs to another network: 0 parameters are missing, 0 unknown and [^\n]*$"
    with pytest.raises(SystemExit, match=message):
        train(planes, tmp_path / "out", "evaluate", checkpoint=str(weights))


def write_list(folder: Path, **parts: list[dict[str, Any]]) -> str:
    path = folder / "own.json"
    path.write_text(json.dumps(parts))
    return str(path)


FRAME = {"image": "images/Femur_0.png", "label": 6, "subject": "A"}
OTHER = {"image": "images/Femur_1.png", "label": 6, "subject": "B"}
BAD_LISTS = [
    pytest.param({**OTHER, "subject": "A"}, "subject A is in training and validation", id="one patient in two parts"),
    pytest.param({**OTHER, "label": 14}, "Femur_1.png: label 14 is no class; expected 0 to 13", id="unknown label"),
    pytest.param({**OTHER, "image": "images/none.png"}, "none.png: no such file", id="missing picture"),
    pytest.param({**OTHER, "image": "images/cut.png"}, "cut.png: the file is cut short or damaged", id="cut picture"),
]


@pytest.mark.parametrize(("other", "message"), BAD_LISTS)
def test_a_bad_datalist_ends_the_run_with_one_line(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    whole = save(tmp_path / "images/Femur_0.png", draw_frame("Femur", seed=0)).read_bytes()
    (tmp_path / "images/Femur_1.png").write_bytes(whole)
    (tmp_path / "images/cut.png").write_bytes(whole[: len(whole) // 2])
    datalist = write_list(tmp_path, training=[FRAME], validation=[other])
    with pytest.raises(SystemExit, match=rf"^error: [^\n]*{message}[^\n]*$"):
        train(tmp_path, tmp_path / "out", datalist_file=datalist)


def test_a_class_without_samples_is_said_and_no_obstacle(
    planes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    train(planes, tmp_path, max_epochs=1)
    assert "no picture of class 0, 1, 4, 5, 7, 8, 9, 10, 11, 12, 13 under 'training'" in caplog.text


def test_the_background_is_drawn_as_often_as_all_planes_together(planes: Path, tmp_path: Path) -> None:
    made = training(planes, tmp_path, **{"train#sampler#num_samples": 4000})
    labels = [item["label"] for item in made.parser.get_parsed_content("train#data")]
    drawn = Counter(labels[index] for index in made.parser.get_parsed_content("train#sampler"))
    assert drawn[NAMES.index("Non-standard")] / 4000 == pytest.approx(13 / 15, abs=0.03)  # two planes are there


def test_the_published_protocol_is_that_of_the_papers(planes: Path, tmp_path: Path) -> None:
    published = json.loads((BUNDLE / "configs/published.json").read_text())
    assert [published[key] for key in ("max_epochs", "batch_size", "crop_size")] == [300, 64, [208, 272]]
    parser = training(planes, tmp_path, "published").parser
    optimizer = parser.get_parsed_content("optimizer")
    group = optimizer.param_groups[0]
    assert type(optimizer) is torch.optim.SGD
    assert [group[key] for key in ("momentum", "nesterov", "weight_decay")] == [0.9, True, 1e-4]
    schedule = parser.get_parsed_content("lr_schedule")
    rates = []
    for _ in range(300):
        rates.append(group["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.01] * 5 + [0.1] * 95 + [0.01] * 100 + [0.001] * 100)


def test_the_published_protocol_sees_the_center_whitened(planes: Path, tmp_path: Path) -> None:
    made = training(planes, tmp_path, "published", image_size=[224, 288])
    image = made.parser.get_parsed_content("validate#dataset")[0]["image"]
    assert tuple(image.shape) == (1, 208, 272)
    assert float(image.mean()) == pytest.approx(0, abs=1e-4)
    assert float(image.std()) == pytest.approx(1, abs=1e-3)
    assert image.affine[:2, 2].tolist() == pytest.approx([8 * 96 / 224, 8 * 128 / 288], abs=0.3)
    drawn = made.parser.get_parsed_content("train#dataset")[0]["image"]
    assert tuple(drawn.shape) == (1, 208, 272)


def test_the_published_protocol_trains_and_resumes(planes: Path, tmp_path: Path) -> None:
    small = {"crop_size": [48, 64]}
    train(planes, tmp_path, "published", max_epochs=1, **small)
    made = training(planes, tmp_path, "published", max_epochs=7, **small)
    rates: list[float] = []
    made.trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda engine: rates.append(engine.optimizer.param_groups[0]["lr"])
    )
    made.run()
    assert rates == pytest.approx([0.01] * 4 + [0.1] * 2)
    state = last(tmp_path)
    assert state["epoch"] == 7
    assert state["network"]["features.stages.0.2.conv.bias"].shape == (4,)
    assert "adaptation.0.conv.weight" not in state["network"]


def test_the_papers_warm_starts(planes: Path, tmp_path: Path) -> None:
    """SonoNet, AG-SonoNet from it, and the fine-tuned aggregation from that: the documented commands, one by one."""
    small = {"crop_size": [48, 64], "max_epochs": 1}
    train(planes, tmp_path / "sononet", "published", "sononet", **small)
    sononet = torch.load(tmp_path / "sononet/checkpoints/model.pt", weights_only=True)
    assert sononet.keys() == SonoNet(2, 1, 14, filters=4).state_dict().keys()
    made = training(
        planes,
        tmp_path / "mean",
        *("published", "warm_start"),
        pretrained=str(tmp_path / "sononet/checkpoints/model.pt"),
        **small,
    )
    start = at_start(made)
    made.run()
    trunk = [key for key in sononet if key.startswith("features.")]
    assert len(trunk) > 50
    assert all(torch.equal(start[key], sononet[key]) for key in trunk)
    mean = torch.load(tmp_path / "mean/checkpoints/model.pt", weights_only=True)
    assert "gates.0.theta.weight" in mean
    assert "joint.weight" not in mean
    made = training(
        planes,
        tmp_path / "fine",
        *("published", "warm_start"),
        pretrained=str(tmp_path / "mean/checkpoints/model.pt"),
        **{**small, "network_def#aggregation": "fine_tune"},
    )
    start = at_start(made)
    made.run()
    assert all(torch.equal(start[key], value) for key, value in mean.items())
    assert start.keys() - mean.keys() == {"joint.weight", "joint.bias"}


def test_deep_supervision_weighs_its_losses(planes: Path, tmp_path: Path) -> None:
    overrides = {"network_def#aggregation": "deep_supervision", "loss#weights": [1, 0.1, 0.1, 0.1]}
    train(planes, tmp_path, "published", crop_size=[48, 64], max_epochs=1, **overrides)
    assert last(tmp_path)["network"]["joint.weight"].shape == (14, 20 * 4)


def test_fine_tuning_for_own_classes_keeps_what_fits(planes: Path, plane_weights: Path, tmp_path: Path) -> None:
    items = json.loads((planes / "datalist.json").read_text())
    own = sorted({item["label"] for part in items.values() for item in part})
    for part in items.values():
        for item in part:
            item["label"] = own.index(item["label"])
    (tmp_path / "datalist.json").write_text(json.dumps(items))
    classes = [NAMES[label] for label in own]
    made = training(
        planes,
        tmp_path / "out",
        "finetune",
        pretrained=str(plane_weights),
        datalist_file=str(tmp_path / "datalist.json"),
        class_names=classes,
        max_epochs=1,
        **{"network_def#out_channels": 3, "background": 1, "background_share": 2},
    )
    start = at_start(made)
    made.run()
    shipped = torch.load(plane_weights, weights_only=True)
    assert all(
        torch.equal(start[key], value) for key, value in shipped.items() if key.startswith(("features", "gates"))
    )
    assert start["joint.weight"].shape == (3, 9)
    assert last(tmp_path / "out")["epoch"] == 1


def test_a_warm_start_from_something_else_is_refused(planes: Path, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(3, 3).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(SystemExit, match=r"^error: checkpoint linear.pt cannot be a warm start: [^\n]*$"):
        train(planes, tmp_path / "out", "warm_start", pretrained=str(tmp_path / "linear.pt"))


@pytest.mark.parametrize(
    ("overlay", "brain", "classes"), [("fetal_planes_db", False, 6), ("fetal_brain_planes", True, 3)]
)
def test_the_public_set_trains_by_one_overlay(overlay: str, brain: bool, classes: int, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive")
    datalist = prepare(archive, brain_planes=brain, validation=0.4)
    parts = json.loads(datalist.read_text())
    if brain:  # the copy has no brain plane of a test patient, and few at all
        parts["validation"] = parts["validation"] or [{**parts["training"].pop(), "subject": "FP99999"}]
        datalist.write_text(json.dumps(parts))
    overrides = {"datalist_file": str(datalist), "max_epochs": 1}
    train(archive, tmp_path / "out", overlay, **overrides)
    best = tmp_path / "out/checkpoints/model.pt"
    assert torch.load(best, weights_only=True)["joint.weight"].shape == (classes, 3 * classes)
    if not brain:
        overrides |= {"checkpoint": str(best), "part": "test"}
        train(archive, tmp_path / "scores", overlay, "evaluate", **overrides)
        assert len(results(tmp_path / "scores")) == len(parts["test"]) == 4


def test_fine_tuning_on_the_public_set(plane_weights: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive")
    datalist = prepare(archive, validation=0.4)
    overrides = {"datalist_file": str(datalist), "max_epochs": 1, "pretrained": str(plane_weights)}
    made = training(archive, tmp_path / "out", "finetune", "fetal_planes_db", **overrides)
    start = at_start(made)
    made.run()
    key = "features.stages.0.0.conv.weight"
    assert torch.equal(start[key], torch.load(plane_weights, weights_only=True)[key])
    assert start["joint.weight"].shape == (6, 18)


def test_distillation_trains_the_gates_alone(planes: Path, tmp_path: Path) -> None:
    teacher = SonoNet(2, 1, 14, filters=4, convolutions=(2, 2, 3, 3, 3), bias=False, norm=("batch", {"eps": 1e-4}))
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    small = {"teacher_def#filters": 4, "steps_per_epoch": 2, "max_epochs": 1}
    made = training(planes, tmp_path / "out", "distill", teacher_weights=str(tmp_path / "teacher.pt"), **small)
    start = at_start(made)
    made.run()
    student = last(tmp_path / "out")["network"]
    assert all(torch.equal(student[key], value) for key, value in teacher.state_dict().items())
    changed = {key.split(".")[0] for key in student if not torch.equal(student[key], start[key])}
    assert changed == {"gates", "classifiers"}
    assert last(tmp_path / "out")["iteration"] == 2
