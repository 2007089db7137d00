"""Accuracy as Xu et al. report it: epochs chosen by cross-validation on the training part, measured on the test part.

Trains a bundle once on every fold and once on the whole training part, in processes of their own, and prints the mean
and the standard deviation of the test accuracy over the epochs in which the folds were best. Every training resumes
where it was stopped; options behind ``--`` go to ``monai.bundle run``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

__all__ = ["best_epochs", "main", "measure_at"]

WHOLE = "published"
SCORE = "accuracy"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--overlays", nargs="*", default=["published"], help="configs over train (default: published)")
    parser.add_argument("--dataset-dir", type=Path, required=True, help="folder that the datalists' paths start from")
    parser.add_argument("--folds", type=Path, required=True, help="folder of the datalists of prepare_idrid --folds")
    parser.add_argument("--output", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--epochs", type=int, default=30, help="how many epochs to measure in (default: %(default)s)")
    own, passed = _divided(sys.argv[1:])
    arguments = parser.parse_args(own)
    if arguments.epochs < 1:
        parser.error(f"--epochs must be 1 or more, got {arguments.epochs}")
    folds = sorted(arguments.folds.glob("fold*.json"))
    whole = arguments.folds / f"{WHOLE}.json"
    if len(folds) < 2 or not whole.is_file():
        parser.exit(2, f"error: {arguments.folds.name}: expected fold*.json, at least two, and {whole.name}\n")
    for datalist in (*folds, whole):
        command = _command(arguments, datalist, passed)
        print(f"==> {datalist.stem}", flush=True)
        if code := subprocess.run(command, check=False).returncode:
            parser.exit(code, f"error: the training on {datalist.name} ended with exit code {code}\n")
    from ag_networks.handlers import read_epochs

    try:
        curves = [read_epochs(arguments.output / datalist.stem / "epochs.csv", SCORE) for datalist in folds]
        chosen = best_epochs(curves, arguments.epochs)
        measured = measure_at(read_epochs(arguments.output / WHOLE / "epochs.csv", SCORE), chosen)
    except ValueError as error:
        parser.exit(2, f"error: {error}\n")
    spread = stdev(measured) if len(measured) > 1 else 0.0
    print(f"epochs with the highest mean accuracy of {len(folds)} folds: {', '.join(map(str, sorted(chosen)))}")
    print(
        f"accuracy on the test part in these {len(chosen)} epochs of one training: {mean(measured):.4f} ± {spread:.4f}"
    )
    print("The deviation is over epochs of one run, as in the paper, and not over runs.")


def best_epochs(curves: Sequence[Mapping[int, float]], count: int) -> list[int]:
    """Return the epochs in which the mean of the curves is highest, the earlier one of equals first.

    Source: Xu et al., arXiv 2007.15897, section 4.6: "we performed five-fold cross validation on the training
    instances only, and obtained the 30 epochs which were associated with the highest accuracy".

    Args:
        curves: score by epoch, of every fold.
        count: how many; all if there are fewer.

    Raises:
        ValueError: if the curves have no epoch in common.

    Example:
        >>> best_epochs([{1: 0.5, 2: 0.7, 3: 0.6}, {1: 0.5, 2: 0.5, 3: 0.7}], 2)
        [3, 2]
    """
    common = set.intersection(*(set(curve) for curve in curves))
    if not common:
        raise ValueError("the folds have no epoch in common; expected trainings of the same length")
    return sorted(common, key=lambda epoch: (-mean(curve[epoch] for curve in curves), epoch))[:count]


def measure_at(curve: Mapping[int, float], epochs: Sequence[int]) -> list[float]:
    """Return a curve's values at these epochs.

    Raises:
        ValueError: if one is missing.

    Example:
        >>> measure_at({1: 0.5, 2: 0.7}, [2])
        [0.7]
    """
    if missing := [epoch for epoch in epochs if epoch not in curve]:
        raise ValueError(
            f"the training on the whole part has no epoch {missing[0]}; expected one as long as the folds'"
        )
    return [curve[epoch] for epoch in epochs]


def _command(arguments: argparse.Namespace, datalist: Path, passed: Sequence[str]) -> list[str]:
    configs = [str(arguments.bundle / "configs" / f"{name}.json") for name in ("train", *arguments.overlays)]
    options = {
        "config_file": str(configs),
        "bundle_root": str(arguments.bundle),
        "dataset_dir": str(arguments.dataset_dir),
        "datalist_file": str(datalist),
        "output_dir": str(arguments.output / datalist.stem),
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "monai.bundle", "run", *given, *passed]


def _divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is ours, and what stands behind ``--``."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:cut]), list(arguments[cut + 1 :])


if __name__ == "__main__":
    main()
