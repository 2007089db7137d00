"""Files as the public sets have them, generated, and fetched from a local server."""

import functools
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import nibabel as nib
import numpy as np
import pytest

from ag_networks.data import CaseError, Phantom, make_phantom, write_dicom_series
from ag_networks.data.public_pancreas import (
    PublicCase,
    fit_label,
    list_decathlon,
    list_tcia,
    read_public_case,
)

NAMES = [f"pancreas_{number:03d}" for number in (1, 4, 5)]


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(0, spacing=(5, 5, 5))


@pytest.fixture(scope="module")
def small() -> Phantom:
    return make_phantom(1, spacing=(12, 12, 12), shape=(32, 28, 20))


def tumor_label(phantom: Phantom) -> np.ndarray:
    """Return pancreas 1 and, in its upper half, tumor 2."""
    label = (phantom.label == 1).astype(np.uint8)
    middle = int(np.median(np.nonzero(label)[2]))
    label[:, :, middle:] *= 2
    return label


def decathlon(folder: Path, phantom: Phantom) -> Path:
    """Write the folder of a task with three cases and return it."""
    root = folder / "Task07_Pancreas"
    for kind, array in (("imagesTr", phantom.image), ("labelsTr", tumor_label(phantom))):
        (root / kind).mkdir(parents=True)
        for name in NAMES:
            nib.save(nib.Nifti1Image(array, phantom.affine), root / kind / f"{name}.nii.gz")
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in NAMES[::-1]]
    properties = dict.fromkeys(("name", "description", "reference", "licence", "tensorImageSize"), "")
    properties |= {"modality": {"0": "CT"}, "labels": {"0": "background"}, "numTraining": 3, "numTest": 0, "test": []}
    (root / "dataset.json").write_text(json.dumps({**properties, "training": listed}))
    return root


class QuietFiles(SimpleHTTPRequestHandler):
    """Files of a folder, without a log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[str]:
    """Serve the folder `served` and yield its address."""
    (tmp_path / "served").mkdir()
    yield from _serve(functools.partial(QuietFiles, directory=str(tmp_path / "served")))


def _serve(handler: object) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_decathlon_is_downloaded_from_a_mirror(serve: str, small: Phantom, tmp_path: Path) -> None:
    archive = tmp_path / "served" / "Task07.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(decathlon(tmp_path / "made", small), "Task07_Pancreas")
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    root = tmp_path / "root"
    cases = list_decathlon(root, download=True, url=f"{serve}Task07.tar", md5=md5)
    assert [case.name for case in cases] == NAMES
    assert [case.patient for case in cases] == NAMES
    assert cases[1].image.is_relative_to(root)
    assert cases[1].label.read_bytes() == (tmp_path / "made/Task07_Pancreas/labelsTr/pancreas_004.nii.gz").read_bytes()
    archive.unlink()  # what is there is not fetched again
    assert list_decathlon(root) == cases
    assert list_decathlon(root, download=True, md5=md5) == cases


def test_another_archive_than_expected_is_refused(serve: str, small: Phantom, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "served" / "Task07.tar", "w") as tar:
        tar.add(decathlon(tmp_path / "made", small), "Task07_Pancreas")
    with pytest.raises(CaseError, match=r"^Task07_Pancreas.tar: not the expected file"):
        list_decathlon(tmp_path / "root", download=True, url=f"{serve}Task07.tar")
    assert not (tmp_path / "root" / "Task07_Pancreas").exists()


def test_a_missing_decathlon_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"^Task07_Pancreas: no such folder in .*--download$"):
        list_decathlon(tmp_path)


def series_and_labels(root: Path, phantoms: dict[int, Phantom], *, flip: bool = True) -> None:
    """Write the files as NBIA's tools do; labels as stored in the set, rows from front to back, no orientation."""
    for number, phantom in phantoms.items():
        patient = f"PANCREAS_{number:04d}"
        write_dicom_series(phantom, root / "Pancreas-CT" / patient / "11-24-2015-NA" / "Pancreas-23138")
        stored = (phantom.label == 1).astype(np.uint8)[::-1, :: 1 if flip else -1]
        folder = root / "TCIA_pancreas_labels-02-05-2017"
        folder.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(stored, np.eye(4)), folder / f"label{number:04d}.nii.gz")


def test_tcia_files_are_found_and_repeated_patients_known(small: Phantom, tmp_path: Path) -> None:
    series_and_labels(tmp_path, {1: small, 2: small, 25: small, 70: small, 71: small})
    (tmp_path / "TCIA_pancreas_labels-02-05-2017" / "label0071.nii.gz").unlink()
    cases = list_tcia(tmp_path)
    assert {case.name: case.patient for case in cases} == {
        "PANCREAS_0001": "PANCREAS_0001",
        "PANCREAS_0002": "PANCREAS_0002",
        "PANCREAS_0025": "PANCREAS_0002",
        "PANCREAS_0070": "PANCREAS_0002",
    }


def test_a_folder_without_pairs_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"0 patients with DICOM series and 0 labels, none in common; expected"):
        list_tcia(tmp_path)


def test_tcia_is_downloaded_from_a_service(small: Phantom, tmp_path: Path) -> None:
    made = tmp_path / "made"
    series_and_labels(made, {1: small, 3: small})

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, query = urlparse(self.path).path, parse_qs(urlparse(self.path).query)
            if path == "/v1/getSeries":
                assert query == {"Collection": ["Pancreas-CT"], "Modality": ["CT"]}
                listed = [{"SeriesInstanceUID": f"1.2.{n}", "PatientID": f"PANCREAS_{n:04d}"} for n in (1, 3)]
                body = json.dumps(listed).encode()
            elif path == "/v1/getImage":
                number = int(query["SeriesInstanceUID"][0].rpartition(".")[2])
                body = zipped(made / "Pancreas-CT" / f"PANCREAS_{number:04d}", "*.dcm")
            else:
                body = zipped(made / "TCIA_pancreas_labels-02-05-2017", "*.nii.gz")
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = _serve(Service)
    url = next(server)
    try:
        with pytest.raises(CaseError, match="--labels_url"):
            list_tcia(tmp_path / "root", download=True, url=f"{url}v1/")
        cases = list_tcia(tmp_path / "root", download=True, url=f"{url}v1/", labels_url=f"{url}labels.zip")
    finally:
        next(server, None)
    assert [case.name for case in cases] == ["PANCREAS_0001", "PANCREAS_0003"]
    assert len(list(cases[0].image.glob("*.dcm"))) == small.image.shape[2]
    assert list_tcia(tmp_path / "root") == cases


def zipped(folder: Path, pattern: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in folder.rglob(pattern):
            archive.write(path, path.name)
    return content.getvalue()


def test_a_right_decathlon_case_keeps_its_header(phantom: Phantom, tmp_path: Path) -> None:
    root = decathlon(tmp_path, phantom)
    case = list_decathlon(root.parent)[0]
    image, label, faults = read_public_case(case)
    assert faults == []
    np.testing.assert_array_equal(np.asarray(image.dataobj), phantom.image)
    np.testing.assert_array_equal(np.asarray(label.dataobj), phantom.label == 1)  # the tumor is pancreas
    np.testing.assert_allclose(image.affine, phantom.affine)
    np.testing.assert_allclose(label.affine, phantom.affine)


def test_a_turned_decathlon_case_is_turned_back(phantom: Phantom, tmp_path: Path) -> None:
    turned = Phantom(
        phantom.image[::-1, ::-1].copy(), phantom.label[::-1, ::-1].copy(), phantom.affine, phantom.spacing, 0
    )
    image, label, faults = read_public_case(list_decathlon(decathlon(tmp_path, turned).parent)[0])
    assert faults == ["turned about the body's axis: the header was corrected"]
    for volume, expected in ((image, phantom.image), (label, phantom.label == 1)):
        canonical = nib.as_closest_canonical(volume)
        np.testing.assert_array_equal(np.asarray(canonical.dataobj), expected)
        np.testing.assert_allclose(canonical.header.get_zooms(), phantom.spacing)


def test_a_mirrored_case_is_doubtful(phantom: Phantom, tmp_path: Path) -> None:
    mirrored = Phantom(phantom.image[::-1].copy(), phantom.label[::-1].copy(), phantom.affine, phantom.spacing, 0)
    _, _, faults = read_public_case(list_decathlon(decathlon(tmp_path, mirrored).parent)[0])
    assert faults == ["mirrored: the liver lies on the left (doubtful)"]


@pytest.mark.parametrize("flip", [True, False], ids=["rows as DICOM", "rows reversed"])
def test_a_tcia_label_is_laid_on_the_organ(flip: bool, phantom: Phantom, tmp_path: Path) -> None:
    series_and_labels(tmp_path, {7: phantom}, flip=flip)
    image, label, faults = read_public_case(list_tcia(tmp_path)[0])
    assert faults == []
    for volume, expected in ((image, phantom.image), (label, phantom.label == 1)):
        canonical = nib.as_closest_canonical(volume)
        np.testing.assert_array_equal(np.asarray(canonical.dataobj), expected)
    np.testing.assert_allclose(label.affine, image.affine)


def test_labels_that_do_not_fit_are_refused(phantom: Phantom) -> None:
    hu, label = phantom.image.astype(np.float32), (phantom.label == 1).astype(np.uint8)
    with pytest.raises(CaseError, match=r"^a: the label is .*x10; expected .*, as the image$"):
        fit_label(label[:, :, :10], hu, "a")
    with pytest.raises(CaseError, match=r"^a: the label is empty"):
        fit_label(label * 0, hu, "a")
    with pytest.raises(CaseError, match=r"^a: only \d+% of the label lies on soft tissue"):
        fit_label((hu < -900).astype(np.uint8), hu, "a")


def test_a_label_that_is_its_own_mirror_image_is_doubtful() -> None:
    hu = np.full((6, 6, 6), 50, np.float32)
    label = np.zeros((6, 6, 6), np.uint8)
    label[2:4, 1:5, 1:5] = 1
    assert fit_label(label, hu, "a")[1] == ["which way the label lies is not clear (doubtful)"]


def test_a_damaged_label_is_one_line(phantom: Phantom, tmp_path: Path) -> None:
    root = decathlon(tmp_path, phantom)
    (root / "labelsTr" / "pancreas_001.nii.gz").write_text("no NIfTI")
    case = list_decathlon(tmp_path)[0]
    assert isinstance(case, PublicCase)
    with pytest.raises(CaseError, match=r"^pancreas_001: pancreas_001.nii.gz cannot be read \(\w+\); expected NIfTI$"):
        read_public_case(case)
