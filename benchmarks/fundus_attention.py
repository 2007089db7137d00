"""Does a global attention map help? Small trainings on IDRiD with and without one, and tables from the saved pictures.

    python benchmarks/fundus_attention.py train --source DIR --results docs/results/fundus_attention
    python benchmarks/fundus_attention.py vary --source DIR --results docs/results/fundus_attention
    python benchmarks/fundus_attention.py linear --source DIR --results docs/results/fundus_attention
    python benchmarks/fundus_attention.py where --source DIR --results docs/results/fundus_attention
    python benchmarks/fundus_attention.py tables --results docs/results/fundus_attention

DIR holds ``labels.csv`` and the pictures of IDRiD's disease grading, as ``prepare_idrid`` reads them. Every run trains
on the official training part and is one table of the official test part's pictures; nothing is chosen on either. Runs
whose file exists are not done again.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from _fundus import CLASSES, NETWORKS, TASKS, Part, Recipe, map_gains, predict, read_part, train
from PIL import Image

from ag_networks.atomic import atomic_path
from ag_networks.metrics import PictureTable
from ag_networks.nets import GlobalAttentionClassifier

METHODS = {
    "plain": Recipe(penalty=0.0),
    "l1": Recipe(attention="pixel_weights", penalty=100.0, cutoff_epoch=None, map_learning_rate=0.001),
    "global": Recipe(attention="pixel_cnn"),
}
BACKBONES = ("resnet", "densenet")
LOCAL = ("learn_to_pay_attention_vgg", "residual_attention_92")
# one at a time, the others as in SELECTING: a penalty under which the map selects, and a rate at which its course does
# not hang on the seed; at METHODS["global"]'s it does
SELECTING = Recipe(attention="pixel_cnn", penalty=0.1, map_learning_rate=1e-5)
VARIED = {
    "selecting": {},
    **{f"features-{form}": {"features": form} for form in ("principal", "random")},
    **{f"penalty-{weight}": {"penalty": weight} for weight in (0.001, 0.01, 0.03, 1.0)},
    **{f"cutoff_epoch-{epoch}": {"cutoff_epoch": epoch} for epoch in (5, 40, 60)},
    **{f"hidden_channels-{k}": {"hidden_channels": k} for k in (8, 128)},
    **{f"map_learning_rate-{rate:g}": {"map_learning_rate": rate} for rate in (1e-6, 1e-4)},
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("train", "vary", "local", "linear", "where", "tables"))
    parser.add_argument("--source", type=Path, help="folder with labels.csv")
    parser.add_argument("--results", type=Path, required=True, help="folder of the saved pictures")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=112, help="pixels along a side (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=60, help="length of every training (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.command == "tables":
        from _fundus_tables import tables

        print(tables(arguments.results))
        return
    if arguments.source is None:
        parser.error(f"{arguments.command} needs --source")
    try:
        training, test = (read_part(arguments.source, part, arguments.size) for part in ("train", "test"))
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    arguments.results.mkdir(parents=True, exist_ok=True)
    if arguments.command in ("linear", "where"):
        {"linear": linear, "where": where}[arguments.command](arguments, training, test)
        return
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for backbone, method, recipe in _runs(arguments):
                run(arguments, training, test, task, backbone, method, replace(recipe, seed=seed))


def _runs(arguments: argparse.Namespace) -> list[tuple[str, str, Recipe]]:
    length = {"epochs": arguments.epochs}
    if arguments.command == "local":
        return [(name, "plain", replace(METHODS["plain"], **length)) for name in LOCAL]
    if arguments.command == "train":
        return [
            (backbone, method, replace(recipe, **length))
            for backbone in arguments.backbones
            for method, recipe in METHODS.items()
        ]
    return [
        (arguments.backbones[0], f"global-{name}", replace(SELECTING, **length, **change))
        for name, change in VARIED.items()
    ]


def run(
    arguments: argparse.Namespace, training: Part, test: Part, task: str, backbone: str, method: str, recipe: Recipe
) -> None:
    """Train once, save the test part's probabilities, the map, and where its weight is."""
    path = arguments.results / f"{task}_{backbone}_{method}_seed{recipe.seed}.csv"
    if path.is_file():
        return
    torch.manual_seed(recipe.seed)
    network = GlobalAttentionClassifier(NETWORKS[backbone](CLASSES[task]), training.images.shape[2:])
    started = time.perf_counter()
    train(network, training, task, recipe)
    values = network.attention.map[0, 0]
    record = {
        "task": task,
        "backbone": backbone,
        "method": method,
        "recipe": asdict(recipe),
        "size": arguments.size,
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds": round(time.perf_counter() - started),
        "map": [round(float(v), 4) for v in (values.min(), values.mean(), values.max())],
    }
    if recipe.attention != "none":
        with atomic_path(path.with_suffix(".png")) as temporary:
            Image.fromarray(np.rint(255 * values.clamp(0, 1).numpy()).astype(np.uint8)).save(temporary, format="PNG")
    _save(path, record, predict(network, test.images), test, task)


def linear(arguments: argparse.Namespace, training: Part, test: Part) -> None:
    """Logistic regression and SVM on the pixels, their constants found on folds of the training part."""
    from _linear import BASELINES

    for task in arguments.tasks:
        for name, fit in BASELINES.items():
            path = arguments.results / f"{task}_pixels_{name}_seed0.csv"
            if not path.is_file():
                started = time.perf_counter()
                probabilities = fit(training.images.numpy(), training.labels[task].numpy(), test.images.numpy())
                seconds = round(time.perf_counter() - started)
                record = {"task": task, "backbone": "pixels", "method": name, "recipe": {"seed": 0}, "seconds": seconds}
                _save(path, {**record, "size": arguments.size}, torch.as_tensor(probabilities), test, task)


def where(arguments: argparse.Namespace, training: Part, _: Part) -> None:
    """Record for every map how much of its weight is at annotated structures of the training part."""
    for picture in sorted(arguments.results.glob("*.png")):
        path = picture.with_suffix(".json")
        record = json.loads(path.read_text())
        record["gains"] = map_gains(np.asarray(Image.open(picture), dtype=float), training, arguments.source)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")


def _save(path: Path, record: dict, probabilities: torch.Tensor, test: Part, task: str) -> None:
    table = PictureTable([str(grade) for grade in range(CLASSES[task])])
    for name, label, row in zip(test.names, test.labels[task].tolist(), probabilities.double(), strict=True):
        table.add(name, label=str(label), probabilities=(row / row.sum()).tolist())
    with atomic_path(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    table.write_csv(path)
    print(f"{path.stem}: accuracy {table.scores(ordered=True).accuracy:.3f}, {record['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
