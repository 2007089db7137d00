"""Does a global attention map find the pixels that matter? A generated set in which they are known.

    python benchmarks/known_pixels.py make --output DIR
    python benchmarks/known_pixels.py train --dataset DIR --runs RUNS
    python benchmarks/known_pixels.py judge --dataset DIR --runs RUNS

``make`` writes a folder of pictures for each class and ``known.npy``; ``train`` does what a user would: a datalist, the
bundle's training and its evaluation for each setting, each a folder in RUNS; those that are done are not done again.
``judge`` reads the maps of the trained networks, and the evaluations, of any folders in RUNS.

Maps and accuracies are those of the last epoch (``last.pt``): with 30 pictures to validate on, the best epoch
(``model.pt``) is often one of the first that has them all right, long before the map is learnt.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.stats import mannwhitneyu

from ag_networks.atomic import atomic_path
from ag_networks.metrics import PictureTable, attention_focus

__all__ = ["CLASSES", "KnownSet", "draw_set", "judge_map", "write_set"]

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "fundus_retinopathy_classification"
CLASSES = ("left", "right")
LAMPS = 4  # along a side
TELLING = ((1, 1), (1, 2), (2, 1))  # row and column of the lamps that know the class
AGREEMENT = 0.8  # with the class, of each of them by itself
LIT, SCENE, NOISE = 24.0, 10.0, 12.0  # of 255

COMMON: dict[str, Any] = {
    "backbone": "resnet10",
    "backbone_options": {"block_inplanes": [8, 16, 32, 64]},
    "hidden_channels": 32,
    "batch_size": 16,
    "max_epochs": 30,
    "cutoff_epoch": 20,
    "penalty": 0.1,
    "map_learning_rate": 0.001,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {"attention": "none"},
    "l1": {"attention": "pixel_weights", "penalty": 1.0, "map_learning_rate": 0.01},
    "l1_strong": {"attention": "pixel_weights", "penalty": 10.0, "map_learning_rate": 0.01},
    "global": {},
    "global_principal": {"pixel_features": "principal"},
    "global_random": {"pixel_features": "random"},
    "global_penalty_0.01": {"penalty": 0.01},
    "global_penalty_0.3_rate_0.003": {"penalty": 0.3, "map_learning_rate": 0.003},
    "global_penalty_1": {"penalty": 1.0},
    "global_rate_0.0001": {"map_learning_rate": 0.0001},
    "global_rate_0.00001": {"map_learning_rate": 0.00001},
    "global_cutoff_5": {"cutoff_epoch": 5},
    "global_no_views": {"view": "$None"},
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("make", "train", "judge"))
    parser.add_argument("--output", type=Path, help="folder for the pictures (make)")
    parser.add_argument("--dataset", type=Path, help="that folder (train, judge)")
    parser.add_argument("--runs", type=Path, help="folder of the trainings (train, judge)")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--pictures", type=int, default=200, help="how many (make; default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="pixels along a side (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="another length of the trainings")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures and of the trainings")
    arguments = parser.parse_args()
    needed = ("output",) if arguments.command == "make" else ("dataset", "runs")
    for name in needed:
        if getattr(arguments, name) is None:
            parser.error(f"{arguments.command} needs --{name}")
    if arguments.command == "make":
        made = draw_set(arguments.pictures, size=arguments.size, seed=arguments.seed)
        write_set(made, arguments.output)
        print(made.describe())
    elif arguments.command == "train":
        for name in arguments.settings:
            train(arguments, name)
    else:
        print(judge(arguments.dataset, arguments.runs))


@dataclass(frozen=True)
class KnownSet:
    """Pictures (N, H, W) of bytes, their classes (N,), and which pixels tell the class (H, W)."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]
    known: NDArray[np.bool_]

    def describe(self) -> str:
        """What the brightness of the pixels over the set gives away about which of them tell the class."""
        mean, spread = (judge_map(f(self.pictures, axis=0), self.known)[1] for f in (np.mean, np.std))
        return (
            f"{len(self.pictures)} pictures, {self.known.mean():.1%} of the pixels tell the class; AUROC for these of "
            f"the mean intensity {mean:.2f}, of its deviation {spread:.2f} (0.50: they give nothing away)"
        )


def draw_set(count: int = 200, *, size: int = 64, seed: int = 0) -> KnownSet:
    """Draw pictures of one scene: a panel of 4 x 4 lamps, each bright or dark, on a texture and under noise.

    All lamps are lit in half of the pictures. Three know the class: each, by itself, is lit in 80 % of the pictures of
    one class and in 20 % of the other, so all three count; the other thirteen are lit by chance. Mean and deviation
    over the set are therefore alike at all lamps. The texture is the same in all pictures and has the same mean at
    every lamp. Whoever knows the three is right in 0.8^3 + 3 * 0.8^2 * 0.2 = 90 % of the pictures.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    lit = random.random((count, LAMPS, LAMPS)) < 0.5
    telling = np.zeros((LAMPS, LAMPS), dtype=bool)
    for row, column in TELLING:
        telling[row, column] = True
        lit[:, row, column] = (labels == 1) == (random.random(count) < AGREEMENT)
    width = size // LAMPS
    lamp = np.ones((width, width))
    scene = ndimage.gaussian_filter(random.normal(size=(LAMPS * width, LAMPS * width)), 2)
    scene -= np.kron(scene.reshape(LAMPS, width, LAMPS, width).mean(axis=(1, 3)), lamp)
    values = 128 + SCENE * scene / scene.std() + LIT * np.kron(2 * lit - 1, lamp)
    values += NOISE * random.normal(size=values.shape)
    return KnownSet(np.rint(values.clip(0, 255)).astype(np.uint8), labels, np.kron(telling, lamp) > 0)


def write_set(made: KnownSet, folder: Path) -> None:
    """Write a folder of PNG files for each class, and ``known.npy``."""
    for number, (picture, label) in enumerate(zip(made.pictures, made.labels, strict=True)):
        path = folder / CLASSES[label] / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    np.save(folder / "known.npy", made.known)


def judge_map(values: NDArray[Any], known: NDArray[np.bool_]) -> tuple[float, float]:
    """Share of a map at the known pixels over that of a constant map, and AUROC of its values as their detector.

    A negative weight, which free pixel weights may have, counts as much as a positive one. A map of zeros has no share.
    """
    weights = np.abs(values)
    inside, outside = weights[known], weights[~known]
    auroc = mannwhitneyu(inside, outside).statistic / (inside.size * outside.size)
    gain = attention_focus(weights, known, spacing=(1, 1), dilation_mm=0).gain if weights.any() else math.nan
    return gain, float(auroc)


def train(arguments: argparse.Namespace, name: str) -> None:
    """Train with a setting and evaluate on the test part, by the commands that a user has."""
    dataset, run = arguments.dataset, arguments.runs / name
    if (run / "results.csv").is_file():
        return
    datalist = dataset / "datalist.json"
    if not datalist.is_file():
        made = ["--source", dataset, "--classes", *CLASSES, "--output", datalist]
        _call("ag_networks.apps.make_datalist", *made)
    paths = {"bundle_root": BUNDLE, "dataset_dir": dataset, "datalist_file": datalist, "output_dir": run}
    given: dict[str, Any] = {
        **{key: str(path) for key, path in paths.items()},
        "image_size": [arguments.size, arguments.size],
        "seed": arguments.seed,
        **COMMON,
        **SETTINGS[name],
    }
    if arguments.epochs is not None:
        given["max_epochs"] = arguments.epochs
    print(f"==> {name}", flush=True)
    _bundle(["train", "own_pictures"], given)
    checkpoint = {"checkpoint": str(run / "checkpoints" / "last.pt"), "part": "test"}
    _bundle(["train", "own_pictures", "evaluate"], {**given, **checkpoint})
    with atomic_path(run / "setting.json") as path:
        path.write_text(json.dumps({**COMMON, **SETTINGS[name], "max_epochs": given["max_epochs"]}) + "\n")


def judge(dataset: Path, runs: Path) -> str:
    """A row for each evaluated run, in Markdown."""
    known = np.load(dataset / "known.npy")
    lines = [
        "| run | penalty | rate of the map | cut-off | map at the known pixels | elsewhere | share over chance | AUROC "
        "| test accuracy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for results in sorted(runs.glob("*/results.csv"), key=lambda path: _order(path.parent.name)):
        run = results.parent
        state = torch.load(run / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
        values = state["network"]["attention.map"][0, 0].double().numpy()
        gain, auroc = judge_map(values, known)
        cells = [f"{values[mask].mean():.3f}" for mask in (known, ~known)] + [f"{gain:.2f}", f"{auroc:.3f}"]
        accuracy = PictureTable.read_csv(results).scores().accuracy
        lines.append(f"| {run.name} | {_setting(run)} | {' | '.join(cells)} | {accuracy:.3f} |")
    return "\n".join([*lines, "", f"A map that is 1 there and 0 elsewhere has a share of {1 / known.mean():.2f}."])


def _setting(run: Path) -> str:
    path = run / "setting.json"
    setting: Mapping[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if setting.get("attention") == "none":
        setting = {}
    return " | ".join(str(setting.get(key, "-")) for key in ("penalty", "map_learning_rate", "cutoff_epoch"))


def _order(name: str) -> tuple[int, str]:
    return (list(SETTINGS).index(name) if name in SETTINGS else len(SETTINGS), name)


def _bundle(configs: Sequence[str], given: Mapping[str, Any]) -> None:
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in configs]
    options = [part for key, value in {"config_file": files, **given}.items() for part in (f"--{key}", value)]
    _call("monai.bundle", "run", *options)


def _call(module: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: {module} ended with exit code {done.returncode}:\n{(done.stderr or done.stdout)[-2000:]}")


if __name__ == "__main__":
    main()
