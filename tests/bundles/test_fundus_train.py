"""Training, evaluation and fine-tuning of the fundus bundle by its configs alone, on its tasks and on other sets."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from picture_makers import save
from tiny_bundle import last, predictions, states_equal
from tiny_fundus import (
    BUNDLE,
    NAMES,
    OPTIONS,
    SIZE,
    draw_photograph,
    infer,
    start_weights,
    tiny_network,
    train,
    training,
)

from ag_networks.apps.make_datalist import make_datalist

pytest_plugins = ["tiny_fixtures", "tiny_fundus_fixtures"]


@pytest.fixture(scope="module")
def trained(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of four epochs, in two of which the map is learnt."""
    output = tmp_path_factory.mktemp("trained")
    train(photographs, output, max_epochs=4, cutoff_epoch=2)
    return output


def maps_by_epoch(workflow: Any) -> list[torch.Tensor]:
    """Return a list that gets the map at the end of every epoch."""
    seen: list[torch.Tensor] = []

    def keep(engine: Engine) -> None:
        seen.append(engine.network.state_dict()["attention.map"].clone())

    workflow.trainer.add_event_handler(Events.EPOCH_COMPLETED, keep)
    return seen


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_training_leaves_weights_without_training_images(trained: Path) -> None:
    state = last(trained)
    assert (state["epoch"], state["iteration"]) == (4, 8)  # six pictures, four at a time
    best = torch.load(trained / "checkpoints/model.pt", weights_only=True)
    assert best.keys() == tiny_network().state_dict().keys()
    assert best["attention.map"].shape == (1, 1, *SIZE)
    assert state["map_source"]["conv1.weight"].shape == (3, 6 * 3, 3, 3)  # six color pictures
    assert "pixels" not in state["map_source"]
    assert [row["epoch"] for row in table(trained / "epochs.csv")] == ["1", "2", "3", "4"]
    assert (trained / "attention_map.png").is_file()


@pytest.mark.parametrize("kill_after", [3, 7], ids=["while the map is learnt", "after it is frozen"])
def test_a_killed_training_ends_as_one_that_was_not(
    kill_after: int, photographs: Path, trained: Path, tmp_path: Path
) -> None:
    class KilledError(BaseException):
        """Stands for the end of the process."""

    def stop(engine: Engine) -> None:
        raise KilledError

    made = training(photographs, tmp_path, max_epochs=4, cutoff_epoch=2)
    made.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=kill_after), stop)
    with pytest.raises(KilledError):
        made.run()
    assert last(tmp_path)["epoch"] == kill_after // 2
    torch.rand(7)
    train(photographs, tmp_path, max_epochs=4, cutoff_epoch=2)
    assert states_equal(last(tmp_path), last(trained))
    assert (tmp_path / "epochs.csv").read_bytes() == (trained / "epochs.csv").read_bytes()


def test_the_map_is_learnt_until_the_cut_off_and_no_longer(photographs: Path, tmp_path: Path) -> None:
    made = training(photographs, tmp_path, max_epochs=4, cutoff_epoch=2, map_learning_rate=0.01)
    maps = maps_by_epoch(made)
    made.run()
    assert not torch.equal(maps[0], maps[1])
    assert torch.equal(maps[1], maps[2])
    assert torch.equal(maps[2], maps[3])
    assert 0 < float(maps[0].min()) < float(maps[0].max()) < 1


@pytest.mark.parametrize(
    ("overrides", "learnt"),
    [
        pytest.param({"attention": "none"}, False, id="the plain network"),
        pytest.param({"attention": "pixel_weights", "cutoff_epoch": None}, True, id="free pixel weights with L1"),
        pytest.param({"pixel_features": "principal", "components": 4}, True, id="principal components"),
        pytest.param({"pixel_features": "random", "components": 4}, True, id="random projections"),
    ],
)
def test_the_papers_baselines_and_the_cheaper_forms_run_by_name(
    overrides: dict[str, Any], learnt: bool, photographs: Path, tmp_path: Path
) -> None:
    train(photographs, tmp_path, max_epochs=1, map_learning_rate=0.01, **overrides)
    values = last(tmp_path)["network"]["attention.map"]
    assert bool((values == 1).all()) is not learnt


def test_a_map_learnt_from_a_file_is_the_same(photographs: Path, trained: Path, tmp_path: Path) -> None:
    train(photographs, tmp_path, max_epochs=4, cutoff_epoch=2, pixel_file=str(tmp_path / "pixels.npy"))
    values, expected = (last(folder)["network"]["attention.map"] for folder in (tmp_path, trained))
    assert float((values - expected).abs().max()) < 2e-3
    assert (tmp_path / "pixels.npy").stat().st_size < 6 * 3 * 32 * 32 + 1000  # a byte per number


def test_a_set_too_large_for_memory_is_told_the_ways(photographs: Path, tmp_path: Path) -> None:
    message = (
        r"^error: learning the attention map from all intensities of 6 images needs about [^\n]* principal or random"
    )
    with pytest.raises(SystemExit, match=message):
        train(photographs, tmp_path, memory_limit=0.00001)


def test_what_is_trained_is_learnt(tmp_path: Path) -> None:
    """Drawn photographs with few and many spots; others than those trained on; both eyes."""
    parts: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for label, grade in enumerate((0, 4)):
        for i in range(40):
            name = f"images/{grade}_{i}.png"
            save(tmp_path / name, draw_photograph(grade, seed=50 * label + i, right_eye=i % 2 == 0))
            parts["validation" if i > 35 else "training"].append({"image": name, "label": label, "subject": name})
    (tmp_path / "datalist.json").write_text(json.dumps(parts))
    own = {"class_names": ["clear", "spotted"], "classes": 2, "image_size": [48, 48]}
    # views that tell the light of a photograph apart from its spots take more pictures than these
    views = {"view#brightness": 0.1, "view#contrast": 0.1}
    length = {"max_epochs": 10, "cutoff_epoch": 4, "batch_size": 8, "learning_rate": 0.003}
    train(tmp_path, tmp_path / "out", **length, **views, **own)
    weights = tmp_path / "out/checkpoints/model.pt"
    train(tmp_path, tmp_path / "scores", "evaluate", checkpoint=str(weights), **own)
    summary = json.loads((tmp_path / "scores/summary.json").read_text())
    assert summary["accuracy"] >= 7 / 8
    infer(tmp_path / "images", tmp_path / "predicted", weights, **own)
    rows = predictions(tmp_path / "predicted")
    for row in table(tmp_path / "scores/results.csv"):  # evaluation and inference agree
        assert rows[Path(row["image"]).name]["prediction"] == row["prediction"]
        assert float(rows[Path(row["image"]).name]["probability"]) == pytest.approx(float(row["probability"]), abs=1e-4)


def test_evaluation_writes_the_tables_of_grades(photographs: Path, fundus_weights: Path, tmp_path: Path) -> None:
    train(photographs, tmp_path, "evaluate", checkpoint=str(fundus_weights), part="test")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("results.csv", "summary.json", "confusion_matrix.csv", "confusion_matrix.png")
    }
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {"accuracy", "quadratic_kappa", "macro_f1", "macro_auroc"} <= summary.keys()
    assert len(table(tmp_path / "results.csv")) == 3


def test_one_overlay_switches_the_task(photographs: Path, tmp_path: Path) -> None:
    items = json.loads((photographs / "datalist.json").read_text())
    for part in items.values():
        for item in part:
            item["label"] //= 2
    datalist = tmp_path / "edema.json"
    datalist.write_text(json.dumps(items))
    train(photographs, tmp_path / "out", "macular_edema", datalist_file=str(datalist), max_epochs=1)
    weights = tmp_path / "out/checkpoints/model.pt"
    assert torch.load(weights, weights_only=True)["backbone.fc.weight"].shape[0] == 3
    scores = {"datalist_file": str(datalist), "checkpoint": str(weights)}
    train(photographs, tmp_path / "scores", "macular_edema", "evaluate", **scores)
    infer(photographs / "images", tmp_path / "inferred", weights, "macular_edema")
    names = list(json.loads((BUNDLE / "configs/macular_edema.json").read_text())["class_names"].values())
    assert list(next(iter(predictions(tmp_path / "inferred").values())))[3:] == names


def test_both_tasks_have_the_same_pictures_in_the_same_parts() -> None:
    lists = [
        json.loads((BUNDLE / f"configs/{name}.json").read_text()) for name in ("datalist", "datalist_macular_edema")
    ]
    pictures = [
        {part: [item["image"] for item in lists[i][part]] for part in ("training", "validation", "test")}
        for i in (0, 1)
    ]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]["test"]) in (102, 103)
    assert {item["label"] for item in lists[0]["training"]} == set(range(5))
    assert {item["label"] for item in lists[1]["training"]} == set(range(3))


def test_another_structured_set_needs_two_commands(tmp_path: Path) -> None:
    """Grey pictures in a folder per class, no fundus in sight: a datalist, a training, its evaluation and inference."""
    random = np.random.default_rng(0)
    for label, name in enumerate(("healthy", "ill")):
        for i in range(24):
            picture = random.normal(120, 10, (60, 60))
            picture[20:40, 20:40] += 60 * label
            save(tmp_path / "set" / name / f"{i}.png", picture.clip(0, 255).astype(np.uint8))
    datalist = tmp_path / "set/datalist.json"
    make_datalist(tmp_path / "set", ["healthy", "ill"], datalist, validation=0.2, test=0.2)
    common = {"datalist_file": str(datalist), "image_size": [32, 32]}
    # the classes differ in brightness, which the default views change
    length = {"max_epochs": 12, "cutoff_epoch": 4, "learning_rate": 0.005, "view": None}
    train(tmp_path / "set", tmp_path / "out", "own_pictures", **length, **common)
    weights = tmp_path / "out/checkpoints/model.pt"
    shape = last(tmp_path / "out")["map_source"]["conv1.weight"].shape
    assert shape[1] == len(json.loads(datalist.read_text())["training"])  # a grey picture counts with one channel
    scores = {**common, "checkpoint": str(weights), "part": "test"}
    train(tmp_path / "set", tmp_path / "scores", "own_pictures", "evaluate", **scores)
    assert json.loads((tmp_path / "scores/summary.json").read_text())["accuracy"] == 1
    infer(tmp_path / "set/ill", tmp_path / "inferred", weights, "own_pictures", **common)
    rows = predictions(tmp_path / "inferred").values()
    assert {row["prediction"] for row in rows} == {"ill"}


def test_the_published_protocol_is_that_of_the_paper(photographs: Path, tmp_path: Path) -> None:
    published = json.loads((BUNDLE / "configs/published.json").read_text())
    assert published["backbone"] == "densenet161"
    assert published["imagenet"] is True
    small = {"hidden_channels": 3, "max_epochs": 250, "cutoff_epoch": 60, "batch_size": 32}
    made = training(photographs, tmp_path, "published", **small)
    parser = made.parser
    parser.get_parsed_content("network")
    optimizer, schedule = parser.get_parsed_content("optimizer"), parser.get_parsed_content("lr_schedule")
    assert type(optimizer) is torch.optim.Adam
    rates = []
    for _ in range(3):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    assert rates == [[1e-4, 1e-4]] * 3
    network = parser.get_parsed_content("network_def")
    assert not network.backbone._forward_pre_hooks  # no views
    image = parser.get_parsed_content("validate#dataset")[0]["image"]
    assert image.meta["fundus_box"][1::2] == [round(260 / 4288 * 260), round(3686 / 4288 * 260)]


def test_the_published_protocol_takes_imagenet_weights_from_a_file(photographs: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    from ag_networks.nets import create_backbone

    given = create_backbone("resnet18", 1000, **OPTIONS).state_dict()
    torch.save(given, tmp_path / "imagenet.pth")
    start: dict[str, torch.Tensor] = {}
    made = training(photographs, tmp_path / "out", imagenet=str(tmp_path / "imagenet.pth"), max_epochs=1)
    made.trainer.add_event_handler(
        Events.STARTED, lambda engine: start.update({k: v.clone() for k, v in engine.network.state_dict().items()})
    )
    made.run()
    assert torch.equal(start["backbone.layer1.0.conv1.weight"], given["layer1.0.conv1.weight"])
    assert start["backbone.fc.weight"].shape[0] == len(NAMES)


def test_fine_tuning_starts_from_weights_and_their_map(photographs: Path, fundus_weights: Path, tmp_path: Path) -> None:
    start: dict[str, torch.Tensor] = {}
    made = training(photographs, tmp_path, "finetune", pretrained=str(fundus_weights), attention="none", max_epochs=1)
    made.trainer.add_event_handler(
        Events.STARTED, lambda engine: start.update({k: v.clone() for k, v in engine.network.state_dict().items()})
    )
    made.run()
    shipped = torch.load(fundus_weights, weights_only=True)
    assert all(torch.equal(start[key], value) for key, value in shipped.items())
    assert torch.equal(last(tmp_path)["network"]["attention.map"], shipped["attention.map"])


BAD = [
    pytest.param(
        {"backbone": "resnet19", "backbone_options": {}}, "unknown backbone|torchvision", id="unknown backbone"
    ),
    pytest.param({"attention": "magic"}, "attention must be one of", id="unknown attention"),
    pytest.param({"imagenet": "nowhere.pth"}, "nowhere.pth was not found", id="missing weights"),
    pytest.param({"cutoff_epoch": 0}, "cutoff_epoch must be 1 or more", id="cut-off before the start"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD)
def test_a_wrong_option_is_one_line(overrides: dict[str, Any], message: str, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises((SystemExit, RuntimeError), match=message):
        train(photographs, tmp_path, **overrides)


def test_weights_of_another_size_or_task_are_one_line(photographs: Path, fundus_weights: Path, tmp_path: Path) -> None:
    message = r"^error: checkpoint tiny.pt belongs to another network: [^\n]*attention.map[^\n]*$"
    with pytest.raises(SystemExit, match=message):
        infer(photographs / "images", tmp_path, fundus_weights, image_size=[48, 48])
    other = start_weights(tmp_path / "three.pt", classes=3)
    with pytest.raises(SystemExit, match=r"^error: checkpoint three.pt belongs to another network"):
        infer(photographs / "images", tmp_path, other)
