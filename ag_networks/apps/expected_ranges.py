"""What to expect of an image and of an organ, measured on annotated cases: for a bundle's `expected_ranges`."""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.data import load_decathlon_datalist
from tqdm import tqdm

from ag_networks.metrics import Plausibility

__all__ = ["main", "measure_cases", "suggest_ranges"]

MARGIN = 0.1  # of the span of the cases, added on both sides: a few dozen cases do not show the extremes
UPPER_BOUNDS = {
    "soft_share": 1.0,
    "void_share": 1.0,
    "bone_share": 1.0,
    "main_share": 1.0,
    "from_right": 1.0,
    "from_front": 1.0,
}

Facts = Mapping[str, Mapping[str, float]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the ranges as JSON, and what was measured to the standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle, whose train.json prepares")
    parser.add_argument("--dataset_dir", type=Path, required=True, help="what the paths of the datalist start from")
    parser.add_argument("--datalist_file", type=Path, help="default: datalist.json in the dataset")
    parser.add_argument("--part", default="training", help="list of the datalist (default: %(default)s)")
    options = parser.parse_args(arguments)
    datalist = options.datalist_file or options.dataset_dir / "datalist.json"
    try:
        items = load_decathlon_datalist(datalist, True, options.part, options.dataset_dir)
        measured = {Path(item["image"]).name: facts for item, facts in measure_cases(options.bundle, items)}
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")
    for case, facts in measured.items():
        sys.stderr.write(f"{case}: {json.dumps(_rounded(facts))}\n")
    print(json.dumps(suggest_ranges(list(measured.values())), indent=4))


def measure_cases(bundle: Path, items: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Facts]]:
    """Yield each item of a datalist with the facts of its image and of its annotated organs.

    The items pass the `preprocessing` of the bundle's train.json. Where only some slices are annotated, volume, extents
    and parts of an organ are those of these slices: such facts need fully annotated cases.
    """
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "train.json")
    parser.read_meta(bundle / "configs" / "metadata.json")
    preprocessing = parser.get_parsed_content("preprocessing")
    check = Plausibility(
        None,
        class_names=parser.get_parsed_content("class_names"),
        intensity=parser.get_parsed_content("intensity"),
    )
    for item in tqdm(items, desc="cases"):
        data = preprocessing(dict(item))
        spacing = [float(step) for step in data["image"].pixdim]
        sparse = bool((data["label"] == parser["ignore_label"]).any())
        yield item, check.measure(data["image"], data["label"], spacing=spacing, whole=sparse)


def suggest_ranges(measured: Sequence[Facts]) -> dict[str, dict[str, list[float]]]:
    """Return `[low, high]` of every fact: smallest and largest of the cases, and a tenth of their span beyond.

    Nothing falls below half of the smallest: what is small in all cases shall not be allowed to vanish.

    Example:
        >>> suggest_ranges([{"image": {"bright_hu": 80.0}}, {"image": {"bright_hu": 100.0}}])
        {'image': {'bright_hu': [78.0, 102.0]}}
    """
    values: dict[str, dict[str, list[float]]] = {}
    for facts in measured:
        for part, own in facts.items():
            for name, value in own.items():
                values.setdefault(part, {}).setdefault(name, []).append(value)
    return {part: {name: _range(name, found) for name, found in own.items()} for part, own in values.items()}


def _range(name: str, values: Sequence[float]) -> list[float]:
    margin = MARGIN * (max(values) - min(values))
    low = max(min(values) - margin, min(values) / 2)
    high = min(max(values) + margin, UPPER_BOUNDS.get(name, math.inf))
    return [float(f"{low:.3g}"), float(f"{high:.3g}")]


def _rounded(facts: Facts) -> dict[str, dict[str, float]]:
    return {part: {name: float(f"{value:.3g}") for name, value in own.items()} for part, own in facts.items()}


if __name__ == "__main__":
    main()
