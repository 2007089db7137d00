"""Are the pancreas bundle's probabilities what they promise? Tables, and a reliability diagram.

    python benchmarks/pancreas_calibration.py --dataset_dir my_data --figure reliability.png

The network runs as evaluate.json has it over the cases of the datalist's part; voxels without annotation do not count.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _calibration import Reliability, draw_reliability, near_organ, pool, reliability
from monai.bundle import ConfigWorkflow

from ag_networks.handlers import load_weights
from ag_networks.metrics import score_case

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "pancreas_ct_segmentation"
NEAR_MM = 10.0


class Case(NamedTuple):
    """What was measured on one case."""

    name: str
    dsc: float
    confidence: float
    everywhere: Reliability
    near: Reliability


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables and save the diagram."""
    options = _parse(arguments)
    logging.getLogger("monai.bundle").setLevel(logging.ERROR)  # its handler writes between the tables
    cases = []
    for case in measure(options):
        print(f"==> {case.name}", file=sys.stderr, flush=True)
        cases.append(case)
    everywhere, near = pool(case.everywhere for case in cases), pool(case.near for case in cases)
    print(case_table(cases, everywhere, near))
    print(bin_table(near))
    if options.figure:
        draw_reliability({f"within {NEAR_MM:.0f} mm": near, "all annotated voxels": everywhere}, options.figure)


def measure(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases of the part in the order of the datalist."""
    workflow = _workflow(options)
    parser = workflow.parser
    network, device = parser.get_parsed_content("network").eval(), parser.get_parsed_content("device")
    load_weights(parser.get_parsed_content("network_def"), parser.get_parsed_content("checkpoint"), device=device)
    inferer, ignored = parser.get_parsed_content("inferer"), parser.get_parsed_content("ignore_label")
    items = parser.get_parsed_content("validate#dataset")
    for index in range(len(items)):
        item = items[index]
        with torch.inference_mode():
            logits = inferer(item["image"].as_tensor()[None].to(device), network)[0].float().cpu()
        name = Path(str(item["image"].meta["filename_or_obj"])).name.removesuffix(".nii.gz")
        spacing = tuple(float(step) for step in item["image"].pixdim)
        yield judge(name, logits, item["label"].as_tensor()[0], spacing, ignored)


def judge(name: str, logits: torch.Tensor, label: torch.Tensor, spacing: tuple[float, ...], ignored: int) -> Case:
    """Measure one case: logits (2, x, y, z), label (x, y, z)."""
    probability, found = logits.softmax(dim=0)[1], logits.argmax(dim=0) == 1
    annotated, organ = label != ignored, label == 1
    near = torch.from_numpy(near_organ(((organ | found) & annotated).numpy(), spacing, NEAR_MM)) & annotated
    scores = score_case(found.numpy(), organ.numpy(), spacing=spacing, valid=annotated.numpy())
    inside = probability[found & annotated]
    return Case(
        name,
        scores.dsc,
        float(inside.mean()) if inside.numel() else float("nan"),
        reliability(probability[annotated], organ[annotated]),
        reliability(probability[near], organ[near]),
    )


def case_table(cases: Sequence[Case], everywhere: Reliability, near: Reliability) -> str:
    """One row a case, and one of all voxels together."""
    lines = [
        f"| case | DSC | mean probability inside | ECE, all annotated voxels | ECE within {NEAR_MM:.0f} mm |",
        "|---|---|---|---|---|",
        *(
            f"| {c.name} | {c.dsc:.3f} | {c.confidence:.3f} | {c.everywhere.ece:.4f} | {c.near.ece:.3f} |"
            for c in cases
        ),
    ]
    dsc, confidence = (np.array([getattr(case, field) for case in cases]) for field in ("dsc", "confidence"))
    mean = f"{np.mean(dsc):.3f} | {np.nanmean(confidence):.3f}"
    return "\n".join([*lines, f"| all | {mean} | {everywhere.ece:.4f} | {near.ece:.3f} |", ""])


def bin_table(curve: Reliability) -> str:
    """One row a bin of the probability."""
    edges = np.linspace(0, 1, len(curve.count) + 1)
    lines = [
        f"| probability | voxels within {NEAR_MM:.0f} mm | mean probability | share of pancreas |",
        "|---|---|---|---|",
    ]
    for low, high, count, promised, kept in zip(edges, edges[1:], *curve, strict=False):
        shown = f"{promised / count:.3f} | {kept / count:.3f}" if count else "- | -"
        lines.append(f"| {low:.1f} to {high:.1f} | {count:.0f} | {shown} |")
    return "\n".join([*lines, "", f"ECE {curve.ece:.3f}, with every bin alike {curve.ace:.3f}"])


def _workflow(options: argparse.Namespace) -> ConfigWorkflow:
    datalist = options.datalist_file or options.dataset_dir / "datalist.json"
    overrides: dict[str, Any] = {
        "bundle_root": str(BUNDLE),
        "dataset_dir": str(options.dataset_dir),
        "datalist_file": str(datalist),
        "validate#dataset#data": "$handlers.or_exit(monai.data.load_decathlon_datalist, @datalist_file, True, "
        f"'{options.part}', @dataset_dir)",
        **json.loads(options.overrides),
    }
    if options.checkpoint:
        overrides["checkpoint"] = str(options.checkpoint)
    files = [str(BUNDLE / "configs" / f"{name}.json") for name in ("train", "evaluate")]
    workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **overrides)
    workflow.initialize()
    return workflow


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, required=True, help="what the paths of the datalist start from")
    parser.add_argument("--datalist_file", type=Path, help="default: datalist.json in the dataset")
    parser.add_argument("--part", default="validation", help="list of the datalist (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="weights (default: those of the bundle)")
    parser.add_argument("--figure", type=Path, help="PNG to write")
    parser.add_argument("--overrides", default="{}", help="further keys of the configs, as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
