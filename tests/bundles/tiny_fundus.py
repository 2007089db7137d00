"""The fundus bundle at a size that tests can run: drawn photographs, a narrow network, few pixels."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import tiny_pancreas
import torch
from monai.bundle import ConfigWorkflow
from picture_makers import save

from ag_networks.nets import GlobalAttentionClassifier, create_backbone

BUNDLE = tiny_pancreas.BUNDLE.parent / "fundus_retinopathy_classification"
NAMES = list(
    json.loads((BUNDLE / "configs/metadata.json").read_text(encoding="utf-8"))["network_data_format"]["outputs"][
        "pred"
    ]["channel_def"].values()
)
SIZE = [32, 32]
OPTIONS = {"block_inplanes": [4, 8, 8, 8], "layers": [1, 1, 1, 1]}
TINY = {
    "bundle_root": str(BUNDLE),
    "device": "$torch.device('cpu')",
    "backbone": "resnet18",
    "backbone_options": OPTIONS,
    "image_size": SIZE,
    "imagenet": False,
}
TINY_TRAINING = {**TINY, "batch_size": 4, "max_epochs": 2, "hidden_channels": 3, "cutoff_epoch": 1}
# grades that are drawn, and how many spots make them
SPOTS = {0: 0, 2: 8, 4: 30}


def draw_photograph(
    grade: int, seed: int, *, right_eye: bool = False, rows: int = 180, columns: int = 260
) -> np.ndarray:
    """Return (rows, columns, 3): a round field on black, a bright disc on its left, vessels from it, dark spots."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns]
    row, column, radius = rows / 2, columns / 2, 0.56 * rows
    field = np.hypot(y - row, x - column) < radius
    light = 1.0 - 0.3 * np.hypot(y - row, x - column) / radius
    red, green, blue = 180 * light, 90 * light, 40 * light
    disc = (row + random.uniform(-4, 4), column - 0.62 * radius)
    glow = np.exp(-((np.hypot(y - disc[0], x - disc[1]) / (0.11 * radius)) ** 4))
    vessels = np.zeros((rows, columns))
    for side in (-1, 1):
        arc = disc[0] + side * 0.45 * radius * np.sqrt(np.clip((x - disc[1]) / radius, 0, None))
        vessels += np.exp(-(((y - arc) / 2.0) ** 2)) * (x > disc[1])
    spots = np.zeros((rows, columns))
    for _ in range(SPOTS[grade]):
        spot = row + random.uniform(-0.6, 0.6) * radius, column + random.uniform(-0.2, 0.6) * radius
        spots += np.exp(-((np.hypot(y - spot[0], x - spot[1]) / 5.0) ** 2))
    dark = 1 - 0.35 * np.clip(vessels, 0, 1) - 0.6 * np.clip(spots, 0, 1)
    picture = np.stack([red * dark + 60 * glow, green * dark + 120 * glow, blue * dark + 60 * glow], axis=-1)
    picture = (picture + random.normal(0, 2, picture.shape)).clip(0, 255) * field[..., None]
    return (picture[:, ::-1] if right_eye else picture).astype(np.uint8)


def draw_dataset(folder: Path, *, each: int = 4) -> Path:
    """Write photographs of every drawn grade, the last of each to validate and test with, and their datalist."""
    parts: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
    for grade in SPOTS:
        for i in range(each):
            name = f"images/grade{grade}_{i}.png"
            save(folder / name, draw_photograph(grade, seed=100 * grade + i, right_eye=i % 2 == 1))
            part = {each - 1: "validation", each - 2: "test"}.get(i, "training")
            parts[part].append({"image": name, "label": grade, "subject": f"{grade}_{i}"})
    (folder / "datalist.json").write_text(json.dumps(parts))
    return folder


def tiny_network(classes: int = len(NAMES)) -> GlobalAttentionClassifier:
    """Return the network that the overrides of `TINY` describe, with random weights."""
    return GlobalAttentionClassifier(create_backbone("resnet18", classes, **OPTIONS), SIZE).eval()


def workflow(*names: str, **overrides: Any) -> ConfigWorkflow:
    """Return the initialized workflow of merged configs; `monai.bundle run` does the same."""
    kind = "infer" if names[0] == "inference" else "train"
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in names]
    made = ConfigWorkflow(files, workflow_type=kind, logging_file=False, **overrides)
    made.initialize()
    return made


def training(dataset: Path, output: Path, *names: str, **overrides: Any) -> ConfigWorkflow:
    """Return the initialized workflow of train.json and overlays, at test size."""
    paths = {"dataset_dir": dataset, "datalist_file": dataset / "datalist.json", "output_dir": output}
    paths = {key: str(path) for key, path in paths.items()}
    return workflow("train", *names, **{**TINY_TRAINING, **paths, **overrides})


def train(dataset: Path, output: Path, *names: str, **overrides: Any) -> ConfigWorkflow:
    """Run it."""
    made = training(dataset, output, *names, **overrides)
    made.run()
    made.finalize()
    return made


def infer(dataset: Path, output: Path, weights: Path, *names: str, **overrides: Any) -> ConfigWorkflow:
    """Run the inference at test size."""
    paths = {"dataset_dir": str(dataset), "output_dir": str(output), "checkpoint": str(weights)}
    made = workflow("inference", *names, **{**TINY, **paths, **overrides})
    made.run()
    made.finalize()
    return made


def predictions(output: Path) -> dict[str, dict[str, str]]:
    """Return the rows of predictions.csv by image."""
    with (output / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def report(output: Path) -> dict[str, Any]:
    """Return predictions.json."""
    return json.loads((output / "predictions.json").read_text(encoding="utf-8"))


def start_weights(path: Path, classes: int = len(NAMES)) -> Path:
    """Write a checkpoint of the tiny network with random weights."""
    torch.save(tiny_network(classes).state_dict(), path)
    return path
