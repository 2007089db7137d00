"""Training set of the pancreas bundle: volumes from slices, from label maps and whole ones, and phantoms."""

import argparse
import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from tqdm import tqdm

from ag_networks.atomic import atomic_path
from ag_networks.data import (
    LabelledCT,
    SparseVolume,
    make_ct_from_label_map,
    make_phantom,
    make_sparse_volume,
    write_nifti,
)

__all__ = ["main", "prepare"]

PIXEL_MM = 1.6  # of the exported slices; their exact spacing is not recorded
VALIDATION_EVERY = 6  # every sixth subject validates


def main() -> None:
    """Command line of :func:`prepare`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--source", type=Path, help="folder with slices/slices.csv, volumes/, label_maps/ (omit: phantoms only)"
    )
    parser.add_argument("--output", type=Path, required=True, help="dataset folder to write")
    parser.add_argument("--phantoms", type=int, default=24, help="how many phantoms (default: %(default)s)")
    parser.add_argument(
        "--drawn", type=int, default=24, help="how many volumes drawn from the label maps (default: %(default)s)"
    )
    arguments = parser.parse_args()
    try:
        prepare(arguments.source, arguments.output, phantoms=arguments.phantoms, drawn=arguments.drawn)
    except (ValueError, OSError) as error:
        parser.exit(2, f"error: {error}\n")


def prepare(source: Path | None, output: Path, *, phantoms: int, drawn: int) -> None:
    """Write ``images/``, ``labels/`` and ``datalist.json`` into `output`; labels: 0, 1 pancreas, 255 unlabelled.

    Every sixth subject of the slices, every whole volume of somebody else, and every twelfth phantom validate. The
    parts ``training_slices`` and ``validation_slices`` hold the subjects of the slices alone.

    Raises:
        ValueError: if `source` lacks ``slices/slices.csv``.
    """
    datalist: dict[str, list[dict[str, str]]] = {
        part: [] for part in ("training", "validation", "training_slices", "validation_slices")
    }

    def add(name: str, part: str) -> None:
        datalist[part].append({"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"})

    for folder in ("images", "labels"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    if source is not None:
        subjects = _subjects(source / "slices" / "slices.csv")
        parts = {}
        for i, (subject, rows) in enumerate(tqdm(sorted(subjects.items()), desc="sparse volumes")):
            _write_subject(source / "slices", rows, output, subject)
            parts[subject] = "validation" if i % VALIDATION_EVERY == VALIDATION_EVERY - 1 else "training"
            add(subject, parts[subject])
            add(subject, f"{parts[subject]}_slices")
        for name in _write_volumes(source / "volumes", output):
            # a volume of a subject goes where the subject's slices went
            add(name, next((part for subject, part in parts.items() if name.startswith(subject)), "validation"))
        for name in _draw_volumes(source / "label_maps", output, drawn):
            add(name, "training")
    for seed in tqdm(range(phantoms), desc="phantoms"):
        rng = np.random.default_rng(seed)
        name = f"phantom_{seed:03d}"
        spacing = (2.0, 2.0, float(rng.choice([2.0, 2.5, 3.0])))
        phantom = make_phantom(seed, spacing=spacing)
        phantom.label[phantom.label > 1] = 0
        write_nifti(phantom, output, name)
        add(name, "validation" if seed % 12 == 11 else "training")
    with atomic_path(output / "datalist.json") as path:
        path.write_text(json.dumps(datalist, indent=4) + "\n")


def _subjects(table: Path) -> dict[str, list[dict[str, str]]]:
    if not table.is_file():
        raise ValueError(f"{table.name} was not found in the folder 'slices' of the source.")
    subjects = defaultdict(list)
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            subjects[row["subject"]].append(row)
    return subjects


def _write_subject(folder: Path, rows: list[dict[str, str]], output: Path, name: str) -> None:
    volume = make_sparse_volume(
        [np.asarray(Image.open(folder / row["image"]).convert("L"), np.float32) for row in rows],
        [(np.asarray(Image.open(folder / row["label"]).convert("L")) > 0).astype(np.uint8) for row in rows],
        [int(row["slice_number"]) for row in rows],
        margins=[int(row["valid_margin"]) for row in rows],
        pixel_mm=PIXEL_MM,
    )
    _save(volume, output, name)


def _write_volumes(folder: Path, output: Path) -> list[str]:
    """Copy the whole volumes, with every label but the pancreas as background."""
    names = []
    for image in sorted(folder.glob("*_image.nii.gz")):
        name = image.name.removesuffix("_image.nii.gz")
        label = nib.Nifti1Image.from_filename(image.with_name(f"{name}_label.nii.gz"))
        mask = (np.asanyarray(label.dataobj) == 1).astype(np.uint8)
        shutil.copyfile(image, output / "images" / f"{name}.nii.gz")
        with atomic_path(output / "labels" / f"{name}.nii.gz") as path:
            nib.save(nib.Nifti1Image(mask, label.affine), path)
        names.append(name)
    return names


def _draw_volumes(folder: Path, output: Path, count: int) -> list[str]:
    """Draw `count` volumes from the label maps in turn."""
    maps = sorted(folder.glob("*_labelmap.nii.gz"))
    structures = json.loads((folder / "classes.json").read_text()) if maps else {}
    names = []
    for seed in tqdm(range(count if maps else 0), desc="volumes from label maps"):
        path = maps[seed % len(maps)]
        label_map = nib.as_closest_canonical(nib.Nifti1Image.from_filename(path))
        volume = make_ct_from_label_map(
            np.asanyarray(label_map.dataobj),
            {int(label): name for label, name in structures.items()},
            map_mm=float(label_map.header.get_zooms()[0]),
            seed=seed,
        )
        name = f"drawn_{seed:03d}_{path.name.removesuffix('_labelmap.nii.gz')}"
        _save(volume, output, name)
        names.append(name)
    return names


def _save(volume: SparseVolume | LabelledCT, output: Path, name: str) -> None:
    for kind, data in (("images", volume.image), ("labels", volume.label)):
        with atomic_path(output / kind / f"{name}.nii.gz") as path:
            nib.save(nib.Nifti1Image(data, volume.affine), path)


if __name__ == "__main__":
    main()
