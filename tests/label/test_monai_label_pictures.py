"""The bundles that classify pictures, in MONAI Label: inference and a server; see `make test-label`."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
from label_server import copy_bundle, get, label_server
from picture_makers import save
from tiny_bundle import BUNDLES, class_names, predictions
from tiny_fundus import draw_photograph
from tiny_planes import draw_frame

from ag_networks.data import CaseError

pytestmark = pytest.mark.label

FUNDUS, PLANES = "fundus_retinopathy_classification", "fetal_plane_classification"
CPU = {"params": '{"device": "cpu"}'}
# Of each bundle two pictures of other kinds, shapes and answers.
PICTURES = {
    "fundus_right.png": (FUNDUS, draw_photograph(4, seed=1, right_eye=True)),
    "fundus_left.jpg": (FUNDUS, draw_photograph(0, seed=2, rows=300, columns=320)),
    "frame_disk.tif": (PLANES, draw_frame("Abdominal", seed=3, rows=240, columns=320)),
    "frame_bar.jpg": (PLANES, draw_frame("Femur", seed=4, rows=200, columns=300)),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of the pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, (_, values) in PICTURES.items():
        save(folder / name, values)
    return folder


@pytest.mark.parametrize(("picture", "name"), [(picture, name) for picture, (name, _) in PICTURES.items()])
def test_answer_is_that_of_the_bundle(picture: str, name: str, pictures: Path, tmp_path: Path) -> None:
    bundle = copy_bundle(BUNDLES / name, tmp_path)
    file, answer = _infer_task(bundle)({"image": str(pictures / picture), "device": "cpu"})
    assert file is None
    _assert_same(answer, _answer_of_bundle(bundle, pictures / picture, tmp_path / "out"))


@pytest.mark.parametrize("name", [FUNDUS, PLANES])
def test_task_describes_the_bundle(name: str, tmp_path: Path) -> None:
    info = _infer_task(copy_bundle(BUNDLES / name, tmp_path)).info()
    assert (info["type"], info["dimension"]) == ("classification", 2)
    assert info["config"]["model_filename"] == ["model.pt"]
    assert info["labels"] == {label.lower(): index for index, label in enumerate(class_names(BUNDLES / name))}


@pytest.mark.parametrize("name", [FUNDUS, PLANES])
def test_what_is_no_picture_is_refused(name: str, tmp_path: Path) -> None:
    black = save(tmp_path / "black.png", np.zeros((200, 200), np.uint8))
    with pytest.raises(RuntimeError, match="LoadImaged") as caught:
        _infer_task(copy_bundle(BUNDLES / name, tmp_path))({"image": str(black), "device": "cpu"})
    assert isinstance(caught.value.__cause__, CaseError)
    assert str(caught.value.__cause__).startswith("black.png: a black picture")


def test_server(pictures: Path, tmp_path: Path, server: str) -> None:
    info = json.loads(get(f"{server}/info/"))
    assert {name: model["type"] for name, model in info["models"].items()} == dict.fromkeys(
        (FUNDUS, PLANES), "classification"
    )
    assert info["trainers"] == {}
    for picture in ("fundus_right.png", "frame_bar.jpg"):
        name = PICTURES[picture][0]
        image = Path(picture).stem
        answer = json.loads(get(f"{server}/infer/{name}?image={image}&output=json", CPU))
        _assert_same(answer, _answer_of_bundle(BUNDLES / name, pictures / picture, tmp_path / image))
    with pytest.raises(urllib.error.HTTPError, match="500"):
        get(f"{server}/infer/{PLANES}?image=black&output=json", CPU)


@pytest.fixture
def server(pictures: Path, tmp_path: Path) -> Iterator[str]:
    """Start a server with copies of the bundles and the pictures, one of which is black."""
    studies = tmp_path / "studies"
    for name, (_, values) in PICTURES.items():
        save(studies / name, values)
    save(studies / "black.png", np.zeros((200, 200), np.uint8))
    bundles = [BUNDLES / FUNDUS, BUNDLES / PLANES]
    with label_server(bundles, studies, tmp_path, "--conf", "skip_trainers", "true") as address:
        yield address


def _infer_task(bundle: Path) -> Any:
    from monailabel.tasks.infer.bundle import BundleInferTask

    task = BundleInferTask(str(bundle), {})
    assert task.is_valid()
    return task


def _answer_of_bundle(bundle: Path, picture: Path, output: Path) -> dict[str, str]:
    """Return the row of predictions.csv that `monai.bundle run` writes about a picture."""
    folders = {"bundle_root": str(bundle), "dataset_dir": str(picture), "output_dir": str(output)}
    monai.bundle.run(config_file=str(bundle / "configs/inference.json"), device="cpu", **folders)
    (row,) = predictions(output).values()
    assert row.pop("image") == picture.name
    return row


def _assert_same(answer: dict[str, Any], expected: dict[str, str]) -> None:
    """MONAI Label writes the names of classes in lower case; the numbers of the table have six digits."""
    prediction, probability = expected.pop("prediction"), float(expected.pop("probability"))
    found = answer["prediction"]
    best = max(found, key=lambda item: item["score"])
    assert best["label"] == prediction.lower()
    assert best["score"] == pytest.approx(probability, abs=2e-6)
    assert [item["idx"] for item in found] == list(range(len(expected)))
    scores = {item["label"]: item["score"] for item in found}
    assert scores == pytest.approx({name.lower(): float(value) for name, value in expected.items()}, abs=2e-6)
    assert probability > 1.5 / len(expected), "nearly even probabilities prove nothing: take another picture"
