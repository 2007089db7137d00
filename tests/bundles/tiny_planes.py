"""The fetal plane bundle at a size that tests can run: drawn ultrasound frames, a narrow network, few pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from picture_makers import save
from scipy import ndimage
from tiny_bundle import BUNDLES, TinyBundle, class_names

from ag_networks.nets import AttentionGatedSonoNet

BUNDLE = BUNDLES / "fetal_plane_classification"
NAMES = class_names(BUNDLE)
FILTERS = 4
TINY = {
    "bundle_root": str(BUNDLE),
    "device": "$torch.device('cpu')",
    "network_def#filters": FILTERS,
    "image_size": [56, 72],
}
TINY_TRAINING = {**TINY, "batch_size": 4, "max_epochs": 2}

_TINY = TinyBundle(BUNDLE, TINY, TINY_TRAINING)
workflow, training, train, infer = _TINY.workflow, _TINY.training, _TINY.train, _TINY.infer
run_command, run_in_two = _TINY.run_command, _TINY.run_in_two

# the planes that are drawn, and what makes them
SHAPES = {"Abdominal": "disk", "Non-standard": "nothing", "Femur": "bar"}


def draw_frame(plane: str, seed: int, rows: int = 96, columns: int = 128) -> np.ndarray:
    """Return a frame: a sector on black from the upper edge, speckle finer along the beam, and the plane's shape."""
    random = np.random.default_rng(seed)
    speckle = ndimage.gaussian_filter(random.normal(size=(rows, columns)), (0.5, 1.2))
    y, x = np.mgrid[:rows, :columns] / rows
    row, column = random.uniform(0.4, 0.6), random.uniform(0.45, 0.55) * columns / rows
    shape = {
        "disk": np.hypot(y - row, x - column) < 0.22,
        "bar": (np.abs(y - row) < 0.05) & (np.abs(x - column) < 0.3),
        "nothing": np.zeros((rows, columns), dtype=bool),
    }[SHAPES[plane]]
    values = (45 + 60 * speckle).clip(10) + 110 * shape
    sector = np.abs(x - columns / rows / 2) < 0.2 + 0.55 * y
    return np.where(sector, values, 0).clip(0, 255).astype(np.uint8)


def draw_dataset(folder: Path, *, each: int = 4) -> Path:
    """Write frames of every drawn plane, the last of each to validate and test with, and their datalist."""
    parts: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
    for plane in SHAPES:
        for i in range(each):
            name = f"images/{plane}_{i}.png"
            save(folder / name, draw_frame(plane, seed=100 * NAMES.index(plane) + i))
            part = {each - 1: "validation", each - 2: "test"}.get(i, "training")
            parts[part].append({"image": name, "label": NAMES.index(plane), "subject": f"{plane}_{i}"})
    (folder / "datalist.json").write_text(json.dumps(parts))
    return folder


def tiny_network(**options: Any) -> AttentionGatedSonoNet:
    """Return the network that the overrides of `TINY` describe, with random weights."""
    content = json.loads((BUNDLE / "configs/train.json").read_text(encoding="utf-8"))["network_def"]
    options = {key: value for key, value in {**content, "filters": FILTERS, **options}.items() if key != "_target_"}
    return AttentionGatedSonoNet(**options).eval()


def start_weights(path: Path, **options: Any) -> Path:
    """Write a checkpoint of the tiny network with random weights."""
    torch.save(tiny_network(**options).state_dict(), path)
    return path
