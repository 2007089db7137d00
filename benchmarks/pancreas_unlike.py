"""What the pancreas bundle says about scans unlike those that it has learnt from: prints a table.

Run ``python benchmarks/pancreas_unlike.py``. Some inputs are drawn; with ``--source``, the folder that the training set
is made from, the real scans in its ``volumes/`` take part too, among them one without contrast agent.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _unlike import DRAWN
from monai.bundle import ConfigWorkflow

from ag_networks.data import Phantom, write_nifti

BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "pancreas_ct_segmentation"
REAL = {"s0009": "real, no contrast agent, narrow view", "PANCREAS_0006_block": "real, 53 slices, -160 to 240 HU"}
SERIES = ("abdomen_ct_dicom_series", "real, DICOM series of 20 slices")
TOP_MM = 90.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the inputs, run the bundle's inference on them, and print what it reports."""
    options = _parse(arguments)
    logging.getLogger("monai.bundle").setLevel(logging.ERROR)  # its handler writes between the tables
    with tempfile.TemporaryDirectory() as folder:
        scans, output = Path(folder, "scans"), options.output or Path(folder, "results")
        titles = write_inputs(scans, options.source, options.only)
        infer(scans, output, options.checkpoint, json.loads(options.overrides))
        reports = {case: json.loads((output / case / f"{case}.json").read_text()) for case in titles}
    print("| input | pancreas, ml | mean probability | warnings |\n|---|---|---|---|")
    for case, title in titles.items():
        print(row(title, reports[case]), flush=True)


def write_inputs(folder: Path, source: Path | None, only: Sequence[str] | None = None) -> dict[str, str]:
    """Write the scans as cases and return their titles by case."""
    titles = {}
    for number, (title, draw) in enumerate(DRAWN.items()):
        if only is None or title in only:
            case = f"drawn_{number}"
            _write(draw, folder, case)
            titles[case] = title
    if source is not None:
        for name, title in REAL.items():
            (folder / f"{name}.nii.gz").symlink_to((source / "volumes" / f"{name}_image.nii.gz").resolve())
            titles[name] = title
        (folder / SERIES[0]).symlink_to((source / "volumes" / SERIES[0]).resolve(), target_is_directory=True)
        titles[SERIES[0]] = SERIES[1]
        _write_top(source / "volumes" / "s0009_image.nii.gz", folder / "s0009_top.nii.gz")
        titles["s0009_top"] = f"real, the upper {TOP_MM:.0f} mm of the scan without contrast agent"
    return titles


def infer(scans: Path, output: Path, checkpoint: Path | None, overrides: dict[str, Any]) -> None:
    """Run the bundle as ``monai.bundle run`` does."""
    paths = {"bundle_root": str(BUNDLE), "dataset_dir": str(scans), "output_dir": str(output)}
    if checkpoint is not None:
        paths["checkpoint"] = str(checkpoint)
    workflow = ConfigWorkflow(
        str(BUNDLE / "configs" / "inference.json"), workflow_type="infer", logging_file=False, **{**paths, **overrides}
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def row(title: str, report: dict[str, Any]) -> str:
    """One line of the table."""
    confidence = report["measured"].get("pancreas", {}).get("confidence")
    shown = "-" if confidence is None else f"{confidence:.2f}"
    warnings = "; ".join(report["warnings"]) or "none"
    return f"| {title} | {report['classes']['pancreas']['volume_ml']:.1f} | {shown} | {warnings} |"


def _write(draw: Callable[[], Phantom], folder: Path, case: str) -> None:
    print(f"==> drawing {case}", file=sys.stderr, flush=True)
    image, _ = write_nifti(draw(), folder / "made", case)
    image.rename(folder / f"{case}.nii.gz")
    for path in sorted((folder / "made").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (folder / "made").rmdir()


def _write_top(image: Path, path: Path) -> None:
    scan = nib.as_closest_canonical(nib.Nifti1Image.from_filename(image))
    count = round(TOP_MM / scan.header.get_zooms()[2])
    top = scan.slicer[:, :, -count:]
    nib.save(nib.Nifti1Image(np.asarray(top.dataobj), top.affine), path)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder with volumes/ (omit: drawn scans only)")
    parser.add_argument("--checkpoint", type=Path, help="weights (default: those of the bundle)")
    parser.add_argument("--output", type=Path, help="folder for masks and reports (default: they are not kept)")
    parser.add_argument("--only", nargs="+", choices=DRAWN, help="which of the drawn scans (default: all)")
    parser.add_argument("--overrides", default="{}", help="further keys of inference.json, as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
