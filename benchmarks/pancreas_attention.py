"""Where the gates of the pancreas bundle look, and whether the network needs them to.

    python benchmarks/pancreas_attention.py measure --data DATA --results docs/results/pancreas_attention
    python benchmarks/pancreas_attention.py tables --results docs/results/pancreas_attention

DATA is a prepared training set; its validation cases are used. Two questions:

1. Which share of every gate's coefficients lies within 10 mm of the pancreas, before training and after it?
2. What becomes of the DSC when the coefficients lose their place: every map replaced by its mean ("flat"), mirrored
   left to right ("mirrored"), or by one ("open")? If later layers alone carried the localization, nothing would.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from tqdm import tqdm

from ag_networks.atomic import atomic_path
from ag_networks.blocks import AttentionGate
from ag_networks.handlers import load_weights
from ag_networks.metrics import attention_focus, compare_paired, score_case
from ag_networks.visualize import WithAttention

BUNDLE = Path(__file__).parents[1] / "bundles" / "pancreas_ct_segmentation"
UNLABELLED = 255
CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as trained": lambda alpha: alpha,
    "flat": lambda alpha: alpha.mean(dim=(2, 3, 4), keepdim=True).expand_as(alpha),
    "mirrored": lambda alpha: alpha.flip(2),
    "open": torch.ones_like,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("measure", "tables"))
    parser.add_argument("--data", type=Path, help="folder with datalist.json (measure)")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "measure":
        if arguments.data is None:
            parser.error("measure needs --data")
        measure(arguments.bundle, arguments.data, arguments.results)
    else:
        print(tables(arguments.results))


def measure(bundle: Path, data: Path, results: Path) -> None:
    """Write ``dsc.csv`` and ``focus.csv``."""
    parser = _bundle(bundle, data)
    dataset, inferer = parser.get_parsed_content("validate#dataset"), parser.get_parsed_content("inferer")
    network = parser.get_parsed_content("network_def").eval()
    scores, shares = [], []
    for item in tqdm(dataset, desc="before training"):
        shares += _shares("before", network, inferer, item)
    load_weights(network, bundle / "models" / "model.pt")
    for item in tqdm(dataset, desc="after training"):
        shares += _shares("after", network, inferer, item)
        for name, change in CHANGES.items():
            with changed_coefficients(network, change), torch.inference_mode():
                prediction = inferer(item["image"][None].as_tensor(), network).argmax(1)[0].numpy()
            label = np.asarray(item["label"][0])
            dsc = score_case(prediction == 1, label == 1, spacing=_spacing(item), valid=label != UNLABELLED).dsc
            scores.append({"case": _case(item), "coefficients": name, "dsc": round(dsc, 5)})
    for name, rows in (("dsc", scores), ("focus", shares)):
        _write(results / f"{name}.csv", rows)


@contextmanager
def changed_coefficients(
    network: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Let every gate of the network use changed coefficients."""
    gates: list[Any] = [module for module in network.modules() if isinstance(module, AttentionGate)]
    for gate in gates:
        gate.coefficients = lambda x, g, own=gate.coefficients: change(own(x, g))
    try:
        yield
    finally:
        for gate in gates:
            del gate.coefficients


def tables(results: Path) -> str:
    """Both tables, in Markdown, from the saved rows alone."""
    columns: dict[str, dict[str, float]] = defaultdict(dict)
    for row in _read(results / "dsc.csv"):
        columns[row["coefficients"]][row["case"]] = float(row["dsc"])
    trained = columns["as trained"]
    lines = ["| coefficients | cases | DSC | difference | 95 % interval | p (Wilcoxon) |", "|---|---|---|---|---|---|"]
    for name, column in columns.items():
        values = list(column.values())
        mean = f"| {name} | {len(values)} | {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f} |"
        if column is trained:
            lines.append(f"{mean} | | |")
            continue
        result = compare_paired(column, trained)
        interval = f"{result.ci_low:+.3f} to {result.ci_high:+.3f}"
        lines.append(f"{mean} {result.difference:+.3f} | {interval} | {result.p_value:.3f} |")
    gains: dict[str, dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in _read(results / "focus.csv"):
        gains[row["gate"]][row["training"]].append(row)
    lines += ["", "| gate | share before | share after | chance | after / chance | contrast after |"]
    lines += ["|---|---|---|---|---|---|"]
    for gate, parts in sorted(gains.items()):
        before, (share, chance, contrast) = _means(parts["before"])[0], _means(parts["after"])
        gain = share / chance
        lines.append(f"| {gate} | {before:.3f} | {share:.3f} | {chance:.3f} | {gain:.2f} | {contrast:+.2f} |")
    return "\n".join(lines)


def _means(rows: list[dict[str, str]]) -> list[float]:
    return [float(np.mean([float(row[key]) for row in rows])) for key in ("share", "chance", "contrast")]


def _shares(training: str, network: torch.nn.Module, inferer: Any, item: dict[str, Any]) -> list[dict[str, Any]]:
    """Focus of every coefficient map on one case."""
    wrapped = WithAttention(network)
    with torch.inference_mode():
        output = inferer(item["image"][None].as_tensor(), wrapped)[0]
    maps = output[-len(wrapped.names) :].float().numpy()
    label = np.asarray(item["label"][0])
    rows = []
    for name, alpha in zip(wrapped.names, maps, strict=True):
        focus = attention_focus(alpha.clip(0), label == 1, spacing=_spacing(item), valid=label != UNLABELLED)
        values = {key: round(getattr(focus, key), 5) for key in ("share", "chance", "contrast")}
        rows.append({"training": training, "case": _case(item), "gate": name, **values})
    return rows


def _bundle(bundle: Path, data: Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_meta(str(bundle / "configs" / "metadata.json"))
    parser.read_config([str(bundle / "configs" / name) for name in ("train.json", "evaluate.json")])
    parser.update(
        {
            "bundle_root": str(bundle),
            "dataset_dir": str(data),
            "datalist_file": str(data / "datalist.json"),
            "device": "$torch.device('cpu')",
        }
    )
    return parser


def _case(item: dict[str, Any]) -> str:
    return Path(item["image"].meta["filename_or_obj"]).name.removesuffix(".nii.gz")


def _spacing(item: dict[str, Any]) -> tuple[float, ...]:
    return tuple(float(step) for step in item["image"].pixdim)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
