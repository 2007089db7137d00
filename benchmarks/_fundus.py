"""What fundus_attention.py trains and measures: IDRiD as tensors, networks, one recipe, and where the map looks."""

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import nn

from ag_networks.handlers import map_source
from ag_networks.losses import MapPenaltyLoss
from ag_networks.metrics import map_share
from ag_networks.nets import GlobalAttentionClassifier, create_backbone
from ag_networks.registry import create_network
from ag_networks.transforms import RandomView, box_on_frame

__all__ = ["CLASSES", "NETWORKS", "TASKS", "Part", "Recipe", "map_gains", "predict", "read_part", "train"]

BUNDLE = Path(__file__).parents[1] / "bundles" / "fundus_retinopathy_classification"
TASKS = {"retinopathy": "retinopathy_grade", "macular_edema": "macular_edema_risk"}
CLASSES = {"retinopathy": 5, "macular_edema": 3}
STRUCTURES = ("optic_disc", "hard_exudates", "haemorrhage")
BATCH = 32
BLACK = (-2.118, -2.036, -1.804)  # standardized
VIEW = RandomView(rotate=20, zoom=0.15, shift=0.05, flips=(0, 1), contrast=0.15, brightness=0.3, fill=BLACK)

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "resnet": lambda n: create_backbone("resnet18", n, block_inplanes=(16, 32, 64, 128)),
    "densenet": lambda n: create_backbone(
        "densenet121", n, init_features=16, growth_rate=12, block_config=(2, 4, 6, 4)
    ),
    "learn_to_pay_attention_vgg": lambda n: create_network(
        "learn_to_pay_attention_vgg", out_channels=n, spatial_size=112, channels=(16, 32, 64, 128)
    ),
    "residual_attention_92": lambda n: create_network(
        "residual_attention_92", out_channels=n, channels=(64, 128, 256, 512)
    ),
}


@dataclass(frozen=True)
class Part:
    """The pictures of a part of IDRiD: images (N, 3, size, size) standardized, labels by task, names, affines."""

    images: torch.Tensor
    labels: dict[str, torch.Tensor]
    names: list[str]
    grids: list[tuple[np.ndarray, tuple[int, int]]] = field(repr=False)


@dataclass(frozen=True)
class Recipe:
    """One training; the paper's names are K, lambda and E."""

    attention: str = "none"
    hidden_channels: int = 32
    penalty: float = 0.01
    cutoff_epoch: int | None = 20
    features: str = "all"
    epochs: int = 60
    learning_rate: float = 0.001
    map_learning_rate: float = 0.0001
    seed: int = 0


def read_part(source: Path, part: str, size: int) -> Part:
    """Read a part of the folder with ``labels.csv`` through the bundle's preprocessing."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.json"))
    parser["image_size"] = [size, size]
    parser["local_contrast"] = None  # as in the paper
    preprocessing = parser.get_parsed_content("preprocessing")
    with (source / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == part]
    items = [preprocessing({"image": str(source / row["image"])})["image"] for row in rows]
    return Part(
        images=torch.stack([item.as_tensor() for item in items]),
        labels={task: torch.tensor([int(row[column]) for row in rows]) for task, column in TASKS.items()},
        names=[row["image"] for row in rows],
        grids=[(np.asarray(item.affine), tuple(item.meta["spatial_shape"])) for item in items],
    )


def train(
    network: GlobalAttentionClassifier, part: Part, task: str, recipe: Recipe, tell: Callable[[str], Any] = print
) -> None:
    """Adam, one cosine, in bfloat16, views behind the map; nothing is chosen: the last epoch counts."""
    images, labels = part.images, part.labels[task]
    source = map_source(
        recipe.attention,
        [{"image": image} for image in images],
        images.shape[2:],
        hidden_channels=recipe.hidden_channels,
        features=recipe.features,
    )
    if recipe.attention != "none":
        network.attention.learn(source)
    VIEW.attach(network.backbone)
    groups: list[dict[str, Any]] = [
        {"params": network.parameters()},
        {"params": source.parameters(), "lr": recipe.map_learning_rate},
    ]
    optimizer = torch.optim.Adam(groups, lr=recipe.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    loss = MapPenaltyLoss(nn.CrossEntropyLoss(), network.attention, weight=recipe.penalty)
    for epoch in range(1, recipe.epochs + 1):
        if recipe.cutoff_epoch is not None and epoch == recipe.cutoff_epoch + 1:
            network.attention.freeze()
        network.train()
        for chosen in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                scores = network(images[chosen])
            cost = loss(scores.float(), labels[chosen])
            cost.backward()
            optimizer.step()
        schedule.step()
        if epoch % 20 == 0:
            tell(f"  epoch {epoch}: loss {cost.item():.3f}, map mean {network.attention.map.mean():.3f}")
    network.attention.freeze()


def predict(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Probabilities (N, classes)."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(some).softmax(1) for some in images.split(BATCH)])


def map_gains(values: np.ndarray, part: Part, source: Path) -> dict[str, float]:
    """Share of the map's weight inside the annotated boxes of a structure, over chance, by structure.

    Both shares are means over the pictures that have such boxes. "in the field": within the pixels that are no
    background in any picture, as leaving out the black corners says little. "like the mean picture": the correlation
    with it there, 0 for a map that is flat.
    """
    with (source / "lesion_boxes.csv").open(newline="") as file:
        boxes = list(csv.DictReader(file))
    grids = dict(zip(part.names, part.grids, strict=True))
    inside: dict[str, dict[str, list[tuple[float, ...]]]] = {structure: {} for structure in STRUCTURES}
    for box in boxes:
        if box["image"] in grids and box["structure"] in inside:
            on_grid = _on_grid(box, *grids[box["image"]])
            inside[box["structure"]].setdefault(box["image"], []).append(on_grid)
    spread, mean = (np.asarray(f(part.images, dim=(0, 1))) for f in (torch.std, torch.mean))
    field = spread > 0.25 * np.median(spread)
    gains = {}
    for structure, pictures in inside.items():
        for name, valid in (("", None), (" in the field", field)):
            found = [map_share(values, own, valid=valid) for own in pictures.values()]
            share, chance = (float(np.mean([getattr(one, which) for one in found])) for which in ("share", "chance"))
            gains[f"{structure}{name}"] = round(share / chance, 4)
    alike = np.corrcoef(values[field], mean[field])[0, 1] if np.ptp(values[field]) else 0.0
    return {**gains, "like the mean picture": round(float(alike), 4)}


def _on_grid(box: dict[str, str], affine: np.ndarray, shape: tuple[int, int]) -> tuple[float, ...]:
    """A box, given relative to the picture, in pixels of the network's grid."""
    row, column = float(box["centre_y"]) * shape[0], float(box["centre_x"]) * shape[1]
    height, width = float(box["height"]) * shape[0] / 2, float(box["width"]) * shape[1] / 2
    return box_on_frame((row - height, column - width, row + height, column + width), np.linalg.inv(affine))
