"""What pancreas_gates.py trains and measures: slices, networks, one recipe, scores, and where gates look."""

import csv
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import set_track_meta
from monai.losses import DiceCELoss
from monai.networks.nets import AttentionUnet
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandCropByLabelClassesd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from PIL import Image
from torch import nn

from ag_networks.metrics import CaseScores, attention_focus, score_case
from ag_networks.nets import AttentionGatedUNet
from ag_networks.visualize import capture_attention

__all__ = ["NETWORKS", "STEPS_SEEN", "Slices", "gate_focus", "read_subjects", "score", "train"]

CHANNELS = (16, 32, 64, 128, 256)
WIDER = (19, 38, 76, 152, 304)  # the plain network with more parameters than the gated ones
CROP, BATCH, LEARNING_RATE = 128, 8, 0.002
PIXEL_MM, SLICE_MM = 1.6, 1.0  # assumed: not recorded in the exported slices
STEPS_SEEN = (0, 50, 100, 200)
SLICES_SEEN = 3  # of every subject left out, for the focus of the gates

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: AttentionGatedUNet(2, 1, 2, channels=CHANNELS, gates=0),
    "unet_wider": lambda: AttentionGatedUNet(2, 1, 2, channels=WIDER, gates=0),
    "attention_unet_1_gate": lambda: AttentionGatedUNet(2, 1, 2, channels=CHANNELS, gates=1),
    "attention_unet_2_gates": lambda: AttentionGatedUNet(2, 1, 2, channels=CHANNELS, gates=2),
    "monai_attention_unet": lambda: AttentionUnet(2, 1, 2, channels=CHANNELS, strides=(2, 2, 2, 2)),
}


@dataclass(frozen=True)
class Slices:
    """The annotated slices of a subject: image (n, h, w) in [-1, 1], label (n, h, w), their numbers, ascending."""

    image: np.ndarray
    label: np.ndarray
    numbers: list[int]


def read_subjects(folder: Path) -> dict[str, Slices]:
    """Read ``slices.csv`` and its pictures (grey value = HU clipped to 0 to 255)."""
    rows = defaultdict(list)
    with (folder / "slices.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            rows[row["subject"]].append(row)
    subjects = {}
    for subject, listed in rows.items():
        listed.sort(key=lambda row: int(row["slice_number"]))
        image = np.stack([np.asarray(Image.open(folder / row["image"]).convert("L"), np.float32) for row in listed])
        label = np.stack([np.asarray(Image.open(folder / row["label"]).convert("L")) > 0 for row in listed])
        subjects[subject] = Slices(image / 127.5 - 1, label, [int(row["slice_number"]) for row in listed])
    return subjects


def train(
    network: nn.Module, subjects: list[Slices], *, steps: int, seed: int, watch: Callable[[int], None]
) -> None:
    """Dice and cross-entropy, AdamW, one cycle, in bfloat16; the same crops in the same order for every network."""
    items = [
        {"image": torch.from_numpy(s.image[i, None]), "label": torch.from_numpy(s.label[i, None].astype(np.uint8))}
        for s in subjects
        for i in range(len(s.numbers))
    ]
    crop = _crop_and_augment(seed)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    loss = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True)
    watch(0)
    for step in range(1, steps + 1):
        network.train()
        chosen = [crop(items[i]) for i in rng.choice(len(items), BATCH, replace=len(items) < BATCH)]
        image, label = (torch.stack([item[key] for item in chosen]) for key in ("image", "label"))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = network(image)
        optimizer.zero_grad()
        loss(scores.float(), label).backward()
        optimizer.step()
        schedule.step()
        watch(step)


def score(network: nn.Module, subject: Slices) -> CaseScores:
    """Scores on the annotated slices at their places along the body, nothing in between."""
    prediction = np.concatenate([_predict(network, image) for image in subject.image])
    first = subject.numbers[0]
    shape = (subject.numbers[-1] - first + 1, *subject.label.shape[1:])
    volumes = [np.zeros(shape, bool) for _ in range(3)]
    for number, predicted, label in zip(subject.numbers, prediction, subject.label, strict=True):
        for volume, plane in zip(volumes, (predicted, label, np.ones_like(label)), strict=True):
            volume[number - first] = plane
    return score_case(volumes[0], volumes[1], valid=volumes[2], spacing=(SLICE_MM, PIXEL_MM, PIXEL_MM))


def gate_focus(network: nn.Module, subjects: list[Slices]) -> dict[str, float]:
    """Share over chance of every gate's coefficients, mean over some slices; empty without gates."""
    values: dict[str, list[float]] = defaultdict(list)
    try:
        with capture_attention(network, on_input_grid=True) as attention:
            for subject in subjects:
                for i in np.linspace(0, len(subject.numbers) - 1, SLICES_SEEN).round().astype(int):
                    _predict(network, subject.image[i])
                    for name, alpha in attention.items():
                        for k, channel in enumerate(alpha[0].float().numpy()):
                            focus = attention_focus(channel, subject.label[i], spacing=(PIXEL_MM, PIXEL_MM))
                            values[f"{name}.{k}"].append(focus.gain)
    except ValueError:  # a network without gates
        return {}
    return {name: round(float(np.mean(gains)), 4) for name, gains in values.items()}


def _predict(network: nn.Module, image: np.ndarray) -> np.ndarray:
    network.eval()
    with torch.inference_mode():
        return network(torch.from_numpy(image[None, None])).argmax(1).bool().numpy()


def _crop_and_augment(seed: int) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    set_track_meta(False)
    keys = ("image", "label")
    crop = RandCropByLabelClassesd(keys, "label", (CROP, CROP), ratios=[1, 2], num_classes=2, num_samples=1)
    augment = Compose(
        [
            RandAffined(
                keys,
                prob=0.9,
                rotate_range=0.3,
                scale_range=(0.2, 0.2),
                shear_range=(0.1, 0.1),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            RandGaussianNoised("image", prob=0.3, std=0.15),
            RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
            RandScaleIntensityd("image", prob=0.3, factors=0.15),
            RandShiftIntensityd("image", prob=0.3, offsets=0.15),
        ]
    )
    crop.set_random_state(seed)
    augment.set_random_state(seed)
    return lambda item: augment(crop(item)[0])
