"""The bundle through the code of MONAI Label: inference, options, training and a server; see `make test-label`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
from label_server import copy_bundle, get, label_server

from ag_networks.data import make_phantom, write_nifti

pytestmark = pytest.mark.label

NAME = "pancreas_ct_segmentation"
BUNDLE = Path(__file__).parents[2] / "bundles" / NAME
GRID = {"spacing": (3, 3, 4), "shape": (60, 56, 40)}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a copy of the bundle."""
    return copy_bundle(BUNDLE, tmp_path)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small phantom."""
    return write_nifti(make_phantom(5, **GRID), tmp_path_factory.mktemp("scan"), "case_0")[0]


@pytest.fixture(scope="module")
def turned(case: Path) -> Path:
    """Return the same phantom with its axes in another order and direction."""
    image = nib.load(case)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("PSL"))
    path = case.with_name("case_1.nii.gz")
    nib.save(image.as_reoriented(turn), path)
    return path


@pytest.mark.parametrize("name", ["case", "turned"])
def test_mask_is_that_of_the_bundle(name: str, bundle: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """MONAI Label calls every transform by itself, and adds `image_path`, on which `Spacingd` stumbles."""
    path = request.getfixturevalue(name)
    file, answer = _infer_task(bundle)({"image": str(path), "device": "cpu"})
    mask, image = nib.load(file), nib.load(path)
    assert file.endswith(".nii.gz")
    assert answer["label_names"] == {"pancreas": 1}
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-3)
    assert mask.get_data_dtype() == np.uint8
    expected = _mask_of_bundle(bundle, path, tmp_path / "out")
    assert set(np.unique(expected)) == {0, 1}, "a mask of one value proves nothing: take another phantom"
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)


def test_the_detour_around_image_path_is_still_needed(bundle: Path, case: Path) -> None:
    """Without its two first steps the preprocessing fails in MONAI Label; if this test fails, they can go."""
    _edit(bundle / "configs/inference.json", lambda config: config["preprocessing"]["transforms"].__delitem__(slice(2)))
    with pytest.raises(AttributeError, match="'str' object has no attribute 'update'"):
        _infer_task(bundle)({"image": str(case), "device": "cpu"})


@pytest.mark.parametrize("wanted", [True, False])
def test_option_largest_component(wanted: bool, bundle: Path) -> None:
    task = _infer_task(bundle)
    assert task.info()["config"]["largest_component"] is True
    request = {"device": "cpu", "largest_component": wanted}
    task.pre_transforms(request)  # there MONAI Label hands the options of a request to the config
    names = [type(transform).__name__ for transform in task.post_transforms(request)]
    assert ("LargestComponentd" in names) is wanted


def test_training_leaves_the_weights_alone(bundle: Path, tmp_path: Path) -> None:
    from monailabel.datastore.local import LocalDatastore
    from monailabel.tasks.train.bundle import BundleTrainTask

    _edit(bundle / "configs/train.json", lambda config: config.update(roi_size=[32, 32, 32], val_interval=3))
    weights = (bundle / "models/model.pt").read_bytes()
    studies = _labelled_studies(tmp_path / "studies", count=3)
    task = BundleTrainTask(str(bundle), {})
    # Six epochs, so that the attention figures, drawn after 3 and 6, are drawn and continued.
    request = {"model": NAME, "device": "cpu", "max_epochs": 6, "val_split": 0.34, "multi_gpu": False}
    task(request, LocalDatastore(str(studies)))
    assert [path.name for path in (bundle / "models").iterdir() if path.suffix == ".pt"] == ["model.pt"]
    assert (bundle / "models/model.pt").read_bytes() == weights
    trained = bundle / "eval/checkpoints/model.pt"
    assert trained.is_file()
    assert trained.read_bytes() != weights
    shutil.copy(trained, bundle / "models/model.pt")
    assert _infer_task(bundle)({"image": str(studies / "case_0.nii.gz"), "device": "cpu"})[0]


def test_server(case: Path, tmp_path: Path, server: str) -> None:
    info = json.loads(get(f"{server}/info/"))
    assert info["labels"] == ["pancreas"]
    assert info["models"][NAME]["type"] == "segmentation"
    assert info["models"][NAME]["dimension"] == 3
    assert list(info["trainers"]) == [NAME]
    answer = tmp_path / "answer.nii.gz"
    answer.write_bytes(get(f"{server}/infer/{NAME}?image=case_0&output=image", {"params": '{"device": "cpu"}'}))
    mask, image = nib.load(answer), nib.load(case)
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-3)
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}


@pytest.fixture
def server(case: Path, tmp_path: Path) -> Iterator[str]:
    """Start a server with a copy of the bundle and one scan, and return its address."""
    studies = tmp_path / "studies"
    studies.mkdir()
    shutil.copy(case, studies)
    with label_server([BUNDLE], studies, tmp_path) as address:
        yield address


def _infer_task(bundle: Path) -> Any:
    from monailabel.tasks.infer.bundle import BundleInferTask

    task = BundleInferTask(str(bundle), {})
    assert task.is_valid()
    return task


def _mask_of_bundle(bundle: Path, case: Path, output: Path) -> np.ndarray:
    config = str(bundle / "configs/inference.json")
    folders = {"bundle_root": str(bundle), "dataset_dir": str(case), "output_dir": str(output)}
    monai.bundle.run(config_file=config, device="cpu", **folders)
    (mask,) = output.rglob("*.nii.gz")
    return np.asarray(nib.load(mask).dataobj)


def _edit(path: Path, change: Any) -> None:
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def _labelled_studies(folder: Path, count: int) -> Path:
    """Lay out phantoms as MONAI Label keeps scans and the labels that a person has submitted."""
    labels = folder / "labels/final"
    labels.mkdir(parents=True)
    for seed in range(count):
        image, label = write_nifti(make_phantom(seed, **GRID), folder / "made", f"case_{seed}")
        image.rename(folder / image.name)
        organs = nib.load(label)
        pancreas = (np.asarray(organs.dataobj) == 1).astype(np.uint8)
        nib.save(nib.Nifti1Image(pancreas, organs.affine), labels / label.name)
    return folder
