"""The fundus bundle at a size that tests can run: drawn photographs, a narrow network, few pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from picture_makers import save
from tiny_bundle import BUNDLES, TinyBundle, class_names

from ag_networks.nets import GlobalAttentionClassifier, create_backbone

BUNDLE = BUNDLES / "fundus_retinopathy_classification"
NAMES = class_names(BUNDLE)
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

_TINY = TinyBundle(BUNDLE, TINY, TINY_TRAINING)
workflow, training, train, infer = _TINY.workflow, _TINY.training, _TINY.train, _TINY.infer
run_command, run_in_two = _TINY.run_command, _TINY.run_in_two

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


def start_weights(path: Path, classes: int = len(NAMES)) -> Path:
    """Write a checkpoint of the tiny network with random weights."""
    torch.save(tiny_network(classes).state_dict(), path)
    return path
