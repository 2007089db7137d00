"""Tables of fundus_attention.py from the saved pictures."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ag_networks.metrics import PictureTable, compare_classifiers

__all__ = ["tables"]

# Xu et al., table 2: accuracy (standard deviation over 30 epochs of one run), ImageNet weights, 224 x 224
PAPER = {
    "retinopathy": {
        "LR": "39.81",
        "SVM": "45.63",
        "VGG-att3": "47.25 (4.45)",
        "ResAttNet-92": "41.81 (5.07)",
        "ResNet-152 plain": "56.78 (4.98)",
        "ResNet-152 L1": "60.91 (2.31)",
        "ResNet-152 global": "66.17 (2.16)",
        "DenseNet-161 plain": "59.84 (3.80)",
        "DenseNet-161 L1": "60.58 (1.80)",
        "DenseNet-161 global": "62.88 (4.40)",
    },
    "macular_edema": {
        "LR": "66.99",
        "SVM": "64.08",
        "VGG-att3": "78.86 (2.10)",
        "ResAttNet-92": "67.15 (3.98)",
        "ResNet-152 plain": "79.06 (1.97)",
        "ResNet-152 L1": "79.54 (1.39)",
        "ResNet-152 global": "82.13 (0.70)",
        "DenseNet-161 plain": "80.12 (1.27)",
        "DenseNet-161 L1": "81.07 (2.56)",
        "DenseNet-161 global": "82.07 (2.71)",
    },
}
# the test picture that is also in the training part, with another label
COPY = "test/IDRiD_064.jpg"
FIRST_ROW = "global-selecting"  # what everything varied is compared with
SCORES = ("accuracy", "quadratic_kappa", "macro_f1", "macro_auroc")
Runs = dict[str, dict[str, dict[str, dict[int, Path]]]]  # task, backbone, method, seed


def tables(results: Path) -> str:
    """All tables, in Markdown."""
    runs: Runs = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    records = {}
    for path in sorted(results.glob("*.json")):
        record = json.loads(path.read_text())
        csv = path.with_suffix(".csv")
        records[csv] = record
        runs[record["task"]][record["backbone"]][record["method"]][record["recipe"]["seed"]] = csv
    lines: list[str] = []
    for task, backbones in runs.items():
        lines += [f"### {task.replace('_', ' ').capitalize()}", "", *_methods(backbones, records), ""]
        lines += [*_comparisons(backbones), "", *_paper(task), "", *_varied(backbones, records), ""]
    return "\n".join([*lines, *_where(records)])


def _methods(backbones: dict[str, dict[str, dict[int, Path]]], records: dict[Path, Any]) -> list[str]:
    lines = [
        f"| network | method | seeds | {' | '.join(SCORES)} | accuracy without the copy | seconds |",
        "|---|---|---|" + "---|" * len(SCORES) + "---|---|",
    ]
    for backbone, methods in backbones.items():
        for method, seeds in methods.items():
            if "-" not in method:
                seconds = np.mean([records[path]["seconds"] for path in seeds.values()])
                cells = " | ".join(_mean(seeds.values(), score) for score in SCORES)
                without = _mean(seeds.values(), "accuracy", left_out=COPY)
                lines.append(f"| {backbone} | {method} | {len(seeds)} | {cells} | {without} | {seconds:.0f} |")
    return lines


def _mean(paths: Iterable[Path], score: str, *, left_out: str = "") -> str:
    values = [getattr(_read(path, left_out).scores(ordered=True), score) for path in paths]
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _read(path: Path, left_out: str = "") -> PictureTable:
    whole = PictureTable.read_csv(path)
    table = PictureTable(whole.class_names)
    for row in whole.rows:
        if row.image != left_out:
            table.add(row.image, label=row.label, probabilities=row.probabilities)
    return table


def _comparisons(backbones: dict[str, dict[str, dict[int, Path]]]) -> list[str]:
    """Each method against another, probabilities averaged over the seeds, picture by picture."""
    lines = [
        "| network | compared | right alone | McNemar p | accuracy, 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for backbone, methods in backbones.items():
        for candidate, baseline in (("global", "plain"), ("global", "l1"), ("l1", "plain")):
            if candidate in methods and baseline in methods:
                common = methods[candidate].keys() & methods[baseline].keys()
                one, other = (
                    _averaged({seed: methods[name][seed] for seed in sorted(common)}) for name in (candidate, baseline)
                )
                result = compare_classifiers(one, other)
                low, high = result.accuracy_interval
                lines.append(
                    f"| {backbone} | {candidate} against {baseline} | {result.only_candidate} : {result.only_baseline} "
                    f"| {result.p_value:.2f} | {result.accuracy_difference:+.3f} [{low:+.3f}, {high:+.3f}] |"
                )
    return lines if len(lines) > 2 else []


def _averaged(seeds: dict[int, Path]) -> PictureTable:
    read = [PictureTable.read_csv(path) for path in seeds.values()]
    table = PictureTable(read[0].class_names)
    for rows in zip(*(one.rows for one in read), strict=True):
        mean = np.mean([row.probabilities for row in rows], axis=0)
        table.add(rows[0].image, label=rows[0].label, probabilities=(mean / mean.sum()).tolist())
    return table


def _paper(task: str) -> list[str]:
    return [
        "The paper (accuracy in %, ImageNet weights, 224 x 224, 250 epochs): "
        + "; ".join(f"{name} {value}" for name, value in PAPER[task].items())
        + "."
    ]


def _varied(backbones: dict[str, dict[str, dict[int, Path]]], records: dict[Path, Any]) -> list[str]:
    lines = [
        "| varied | value | seeds | accuracy | quadratic_kappa | map: smallest, mean, largest "
        "| correlation with the first row's | between seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for methods in backbones.values():
        groups: dict[str, dict[str, dict[int, Path]]] = defaultdict(dict)
        for name, seeds in methods.items():
            if name.startswith("global-") and name != FIRST_ROW:
                _, group, value = name.split("-", 2)
                groups[group][value] = seeds
        own = methods.get(FIRST_ROW, {})
        for group, entries in sorted(groups.items()):
            if own:
                value = str(records[next(iter(own.values()))]["recipe"][group])
                lines.append(_variant(group, value, own, own, records))
            lines += [
                _variant(group, value, seeds, own, records)
                for value, seeds in sorted(entries.items(), key=lambda entry: _number(entry[0]))
            ]
    return lines if len(lines) > 2 else []


def _variant(group: str, value: str, seeds: dict[int, Path], own: dict[int, Path], records: dict[Path, Any]) -> str:
    shown = ", ".join(f"{v:.3f}" for v in np.mean([records[path]["map"] for path in seeds.values()], axis=0))
    scores = f"{_mean(seeds.values(), 'accuracy')} | {_mean(seeds.values(), 'quadratic_kappa')}"
    alike = [np.corrcoef(_map(path), _map(own[seed]))[0, 1] for seed, path in seeds.items() if seed in own]
    likeness = f"{np.mean(alike):.2f}" if alike else "-"
    return f"| {group} | {value} | {len(seeds)} | {scores} | {shown} | {likeness} | {_between(seeds.values())} |"


def _between(paths: Iterable[Path]) -> str:
    """Mean correlation of the maps of several seeds."""
    maps = [_map(path) for path in sorted(paths)]
    return f"{np.mean(np.corrcoef(maps)[np.triu_indices(len(maps), 1)]):.2f}" if len(maps) > 1 else "-"


def _map(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path.with_suffix(".png")), dtype=float).ravel()


def _number(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return 0.0, value


def _where(records: dict[Path, Any]) -> list[str]:
    """Weight of the maps at annotated structures over chance, and how alike maps of several seeds are."""
    groups: dict[tuple[str, str, str], list[Path]] = defaultdict(list)
    for path, record in records.items():
        if record.get("gains"):
            groups[record["task"], record["backbone"], record["method"]].append(path)
    if not groups:
        return []
    names = list(next(iter(records[paths[0]]["gains"] for paths in groups.values())))
    lines = ["### Where the map's weight is: share inside annotated boxes, over chance", ""]
    lines += [f"| task | network | method | {' | '.join(names)} | correlation between seeds |"]
    lines += ["|---|---|---|" + "---|" * (len(names) + 1)]
    for (task, backbone, method), paths in groups.items():
        gains = " | ".join(f"{np.mean([records[path]['gains'][name] for path in paths]):.2f}" for name in names)
        lines.append(f"| {task} | {backbone} | {method} | {gains} | {_between(paths)} |")
    return lines
