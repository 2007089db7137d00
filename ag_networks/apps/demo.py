"""Demo: two generated CT scans through the pancreas bundle, with a picture of each and a page that shows them."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

# torch and monai are imported by the functions that need them: a --help or a misspelt option must not wait for them.
if TYPE_CHECKING:
    from ag_networks.data import Phantom

__all__ = ["main", "run_demo"]

BUNDLE = Path("bundles/pancreas_ct_segmentation")
SPACING_MM, SHAPE = (1.5, 1.5, 3.0), (240, 240, 64)
FIRST_SEED = 1000  # the training's phantoms count from 0
NOTE = (
    "The scans are generated, one as a NIfTI file and one as a DICOM series. Nobody was scanned, and scores on "
    "phantoms say nothing about scores on patients."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of :func:`run_demo`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for scans, masks, pictures and the page")
    parser.add_argument(
        "--seed", type=int, default=FIRST_SEED, help="of the first scan; the second takes the next (%(default)s)"
    )
    parser.add_argument("--bundle_root", type=Path, help=f"folder of the bundle (default: {BUNDLE.as_posix()})")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"argument --seed: must not be negative, got {options.seed}")
    bundle = _find_bundle(options.bundle_root)
    try:
        run_demo(options.output, seed=options.seed, bundle_root=bundle)
    except (ImportError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    except OSError as error:
        raise SystemExit(f"error: cannot write the results: {error.strerror or type(error).__name__}") from error


def run_demo(output: Path, *, seed: int, bundle_root: Path) -> None:
    """Make two scans, run the bundle on them, score, draw and report; every step says how long it took.

    Args:
        output: folder for everything that is written.
        seed: of the first scan; the second takes the next.
        bundle_root: folder of a bundle whose labels are those of the phantoms.

    Raises:
        ImportError: if matplotlib is not installed.
        OSError: if something cannot be written.
        SystemExit: if the bundle's inference fails.
    """
    start = time.perf_counter()
    with _stage(f"making two CT scans (seeds {seed} and {seed + 1})"):
        phantoms = _make_scans(output / f"scans_{seed}", seed)
    with _stage("segmenting them with the bundle"):
        _run_bundle(bundle_root, output / f"scans_{seed}", output / "results")
    with _stage("scoring and drawing"):
        cases = [_judge(output / "results" / name, phantom) for name, phantom in phantoms.items()]
        _write_page(output / "report.html", cases)
    print(f"==> done in {time.perf_counter() - start:.0f} s")
    for case in cases:
        for name, dsc in case["dsc"].items():
            volume, known = case["classes"][name]["volume_ml"], case["reference_ml"][name]
            print(f"    {case['case']}: {name} DSC {dsc:.3f}, {volume:.1f} ml (reference {known:.1f} ml)")
    print(f"    masks, attention maps, pictures and JSON: {output / 'results'}")
    print(f"    open this page: {output / 'report.html'}")


def _find_bundle(given: Path | None) -> Path:
    """The bundle: the given one, or that below the current folder or beside this package."""
    places = [given] if given else [BUNDLE, Path(__file__).parents[2] / BUNDLE]
    for place in places:
        if (place / "configs" / "inference.json").is_file():
            return Path(os.path.relpath(place))
    missing = f"bundle_root {(given or BUNDLE).as_posix()}: no configs/inference.json there"
    print(f"error: {missing}; name the folder of the bundle with --bundle_root", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def _stage(what: str) -> Iterator[None]:
    print(f"==> {what}", flush=True)
    start = time.perf_counter()
    yield
    print(f"    {time.perf_counter() - start:.1f} s", flush=True)


def _make_scans(folder: Path, seed: int) -> dict[str, Phantom]:
    """Write a NIfTI file and a DICOM series below `folder`/images; return the phantoms by the name of their case."""
    from ag_networks.data import make_phantom, write_dicom_series, write_nifti

    phantoms = {
        name: make_phantom(seed + i, spacing=SPACING_MM, shape=SHAPE)
        for i, name in enumerate([f"phantom_{seed}", f"phantom_{seed + 1}_dicom"])
    }
    nifti, dicom = phantoms
    write_nifti(phantoms[nifti], folder, nifti)
    series = folder / "images" / dicom
    for slice_of_another_version in series.glob("*.dcm"):
        slice_of_another_version.unlink()
    write_dicom_series(phantoms[dicom], series)
    return phantoms


def _run_bundle(bundle_root: Path, dataset_dir: Path, output_dir: Path) -> None:
    """Run inference in a process of its own, as the bundle's documentation says; its progress goes to the terminal."""
    options = {
        "config_file": bundle_root / "configs" / "inference.json",
        "bundle_root": bundle_root,
        "dataset_dir": dataset_dir,
        "output_dir": output_dir,
        "save_attention": "true",
        "overwrite": "true",
    }
    command = [
        "-m",
        "monai.bundle",
        "run",
        *(str(word) for key, value in options.items() for word in (f"--{key}", value)),
    ]
    print(f"    {shlex.join(['python', *command])}", flush=True)
    process = subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=False)
    if process.returncode:
        raise SystemExit(
            f"error: the bundle's inference failed (exit code {process.returncode}); see its messages above"
        )


def _judge(folder: Path, phantom: Phantom) -> dict[str, Any]:
    """Score one case against its phantom, draw it, and return its record with ``dsc``, ``reference_ml``, ``figure``."""
    import nibabel as nib
    import numpy as np

    from ag_networks.metrics import score_case
    from ag_networks.visualize import save_case_figure

    name = folder.name
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    mask = nib.Nifti1Image.from_filename(folder / f"{name}.nii.gz")
    # The phantom's grid is in RAS order; the mask lies on the grid of its input, which for DICOM runs the other way.
    predicted = np.asanyarray(nib.as_closest_canonical(mask).dataobj)
    labels = {class_name: found["label"] for class_name, found in record["classes"].items()}
    scores = {
        class_name: score_case(predicted, phantom.label, spacing=phantom.spacing, label=label)
        for class_name, label in labels.items()
    }
    reference = np.isin(phantom.label, list(labels.values())).astype(np.uint8)
    prefix = f"{name}_attention_"
    maps = {
        path.name.removeprefix(prefix).removesuffix(".nii.gz"): nib.Nifti1Image.from_filename(path)
        for path in sorted(folder.glob(f"{prefix}*.nii.gz"), reverse=True)
    }
    dsc = {class_name: score.dsc for class_name, score in scores.items()}
    figure = folder / f"{name}.png"
    save_case_figure(
        figure,
        image=nib.Nifti1Image(phantom.image, phantom.affine),
        prediction=mask,
        reference=nib.Nifti1Image(reference, phantom.affine),
        attention=maps,
        title=f"{name}: " + ", ".join(f"{class_name} DSC {value:.3f}" for class_name, value in dsc.items()),
    )
    reference_ml = {class_name: score.reference_ml for class_name, score in scores.items()}
    return {**record, "dsc": dsc, "reference_ml": reference_ml, "figure": figure}


def _write_page(path: Path, cases: list[dict[str, Any]]) -> None:
    from ag_networks.visualize import write_report

    write_report(path, cases, title="Pancreas in two generated CT scans", note=NOTE)


if __name__ == "__main__":
    main()
