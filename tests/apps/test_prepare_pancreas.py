"""The training set of the pancreas bundle, from a small folder of slices made here."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from ag_networks.apps.prepare_pancreas import VALIDATION_EVERY, prepare
from ag_networks.data import UNLABELLED

SUBJECTS = [f"SUBJECT_{i:02d}" for i in range(VALIDATION_EVERY)]
NUMBERS = (10, 14)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two slices a subject; the second is a crop with a margin of 2 pixels."""
    folder = tmp_path / "source" / "slices"
    rows = []
    for subject in SUBJECTS:
        (folder / subject).mkdir(parents=True)
        for number, grey, margin in zip(NUMBERS, (100, 200), (0, 2), strict=True):
            image = np.zeros((12, 16), np.uint8)
            image[margin : 12 - margin, margin : 16 - margin] = grey
            label = np.zeros((12, 16), bool)
            label[3, 4] = True  # anterior half, patient's right half
            Image.fromarray(image).save(folder / subject / f"{number}_image.png")
            Image.fromarray(label).save(folder / subject / f"{number}_label.png")
            row = {"subject": subject, "slice_number": number, "valid_margin": margin}
            row |= {kind: f"{subject}/{number}_{kind}.png" for kind in ("image", "label")}
            rows.append(row)
    with (folder / "slices.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    volumes = tmp_path / "source" / "volumes"
    volumes.mkdir()
    organs = np.arange(5, dtype=np.uint8).repeat(8).reshape(5, 2, 4)
    nib.save(nib.Nifti1Image(organs.astype(np.int16), np.eye(4)), volumes / "scan_image.nii.gz")
    nib.save(nib.Nifti1Image(organs, np.eye(4)), volumes / "scan_label.nii.gz")
    maps = tmp_path / "source" / "label_maps"
    maps.mkdir()
    (maps / "classes.json").write_text('{"50": "pancreas", "44": "liver"}')
    structures = np.zeros((24, 20, 18), np.uint8)
    structures[4:12, 4:14, 3:15], structures[13:19, 6:12, 5:13] = 44, 50
    nib.save(nib.Nifti1Image(structures, np.diag([3.0, 3.0, 3.0, 1.0])), maps / "a_labelmap.nii.gz")
    return tmp_path / "source"


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array and affine in canonical orientation (R, A, S)."""
    volume = nib.as_closest_canonical(nib.Nifti1Image.from_filename(path))
    return np.asarray(volume.dataobj), volume.affine


def test_slices_become_sparse_volumes_on_the_right_grid(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", phantoms=0, drawn=2)
    image, affine = read(tmp_path / "out" / "images" / f"{SUBJECTS[0]}.nii.gz")
    label, _ = read(tmp_path / "out" / "labels" / f"{SUBJECTS[0]}.nii.gz")
    assert np.allclose(np.diag(affine), [1.6, 1.6, 1.0, 1.0])
    assert image.shape == label.shape == (16, 12, 5)
    # slice numbers rise toward the feet, so the first slice is the highest; between them linear interpolation
    assert image[8, 6, ::-1].tolist() == [100, 125, 150, 175, 200]
    assert image[0, 0, ::-1].tolist() == [100, 100, 100, 100, 0], "where one slice holds no image the other counts"
    assert (label[..., ::-1] == UNLABELLED).all(axis=(0, 1)).tolist() == [False, False, True, True, False]
    x, y, z = np.argwhere(label == 1).T
    assert (x > 8).all(), "the first column is the patient's right"
    assert (y > 6).all(), "the first row is anterior"
    assert len(z) == 3, "two planes of the first slice, the last plane of the volume for the second"


def test_datalist_splits_by_subject_and_keeps_one_organ(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", phantoms=0, drawn=2)
    datalist = json.loads((tmp_path / "out" / "datalist.json").read_text())
    names = {part: [Path(case["image"]).name for case in cases] for part, cases in datalist.items()}
    assert names["validation"] == [f"{SUBJECTS[-1]}.nii.gz", "scan.nii.gz"]
    assert names["validation_slices"] == [f"{SUBJECTS[-1]}.nii.gz"]
    assert names["training_slices"] == [f"{name}.nii.gz" for name in SUBJECTS[:-1]]
    assert names["training"] == [*names["training_slices"], "drawn_000_a.nii.gz", "drawn_001_a.nii.gz"]
    label, _ = read(tmp_path / "out" / "labels" / "scan.nii.gz")
    assert label[:, 0, 0].tolist() == [0, 1, 0, 0, 0]
    assert all((tmp_path / "out" / case[key]).is_file() for part in datalist.values() for case in part for key in case)


def test_a_folder_without_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"slices\.csv was not found"):
        prepare(tmp_path, tmp_path / "out", phantoms=0, drawn=2)


def test_volumes_are_drawn_from_the_label_maps(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", phantoms=0, drawn=2)
    first, second = (read(tmp_path / "out" / "labels" / f"drawn_{i:03d}_a.nii.gz")[0] for i in range(2))
    assert set(np.unique(first)) == set(np.unique(second)) == {0, 1}
    assert first.shape != second.shape or (first != second).any()
