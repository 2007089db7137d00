"""The public CT sets with a labelled pancreas: where their files are, and pairs of image and label that fit."""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import nibabel as nib
import numpy as np
from monai.apps import DecathlonDataset
from monai.apps.tcia import BASE_URL
from monai.apps.utils import HashCheckError, download_url, extractall
from numpy.typing import NDArray

from ag_networks.data.body_layout import judge_layout
from ag_networks.data.cases import CaseError, is_dicom_file
from ag_networks.data.dicom_series import read_dicom_series

__all__ = ["DOUBTFUL", "PublicCase", "fit_label", "list_decathlon", "list_tcia", "read_public_case"]

TASK = "Task07_Pancreas"
COLLECTION = "Pancreas-CT"
REPEATED = {25: 2, 70: 2}  # the scan of patient 2 again, cut a little differently; not in the release of 2020
SOFT_HU = (-50.0, 250.0)
CLIP_HU = (-200.0, 300.0)
SPREAD_HU = 100.0  # a spread of this size counts as much as a label that lies outside soft tissue altogether
CLEAR_FIT, MIN_SOFT = 0.02, 0.8
DOUBTFUL = "(doubtful)"  # what follows a fault that was not mended
TURN = np.diag([-1.0, -1.0, 1.0, 1.0])

logger = logging.getLogger(__name__)


class PublicCase(NamedTuple):
    """One labelled scan: files as they were downloaded. Cases of one `patient` belong into one part of a split."""

    name: str
    patient: str
    image: Path
    label: Path


def list_decathlon(
    root: str | Path, *, download: bool = False, url: str | None = None, md5: str | None = None
) -> list[PublicCase]:
    """List the labelled cases of Medical Segmentation Decathlon, Task07, as MONAI's ``DecathlonDataset`` does.

    Args:
        root: folder with ``Task07_Pancreas/`` or ``Task07_Pancreas.tar``, or where to download to (11 GB).
        download: fetch and unpack what is not there.
        url: of the archive, where it is not the one that MONAI knows.
        md5: of the archive, likewise.

    Raises:
        CaseError: if the set is not there, or the archive is not the one that was expected.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)

    try:
        if download:
            _fetch(
                url or DecathlonDataset.resource[TASK], root / f"{TASK}.tar", root, md5 or DecathlonDataset.md5[TASK]
            )
        dataset = DecathlonDataset(root, TASK, "training", val_frac=0.0, cache_num=0, progress=False)
    except HashCheckError as error:
        raise CaseError(f"{TASK}.tar: not the expected file (MD5 differs); download it again, or give --md5") from error
    except RuntimeError as error:
        raise CaseError(f"{TASK}: no such folder in {root.name}; expected the set in --root, or --download") from error
    items: list[dict[str, Any]] = sorted(dataset.data, key=lambda item: str(item["image"]))
    names = [Path(item["image"]).name.removesuffix(".nii.gz") for item in items]
    return [
        PublicCase(name, name, Path(item["image"]), Path(item["label"]))
        for name, item in zip(names, items, strict=True)
    ]


def list_tcia(
    root: str | Path, *, download: bool = False, url: str | None = None, labels_url: str | None = None
) -> list[PublicCase]:
    """List the scans of NIH Pancreas-CT for which both series and label are there.

    Layout of the files, as NBIA's tools write it: folders of DICOM series below one called ``PANCREAS_0001``, and
    ``label0001.nii.gz`` anywhere. Numbers 25 and 70 are scans of patient 2 again.

    MONAI's ``TciaDataset`` downloads by way of DICOM segmentations, which this collection has not; the same service is
    asked here, with MONAI's functions for what is downloaded.

    Args:
        root: folder of the files, or where to download to (10 GB).
        download: fetch what is not there.
        url: of the service, where it is not that of TCIA.
        labels_url: of the zip file of labels, which the service does not have.

    Raises:
        CaseError: if no scan with a label is there, or labels shall be downloaded from nowhere.
    """
    root = Path(root)
    if download:
        _download_tcia(root, url or BASE_URL, labels_url)
    labels = {int(match[1]): path for path, match in _named(root, r"label(\d{4})\.nii(\.gz)?$")}
    series: dict[int, list[Path]] = defaultdict(list)
    for folder in sorted({path.parent for path in root.rglob("*") if path.is_file() and is_dicom_file(path)}):
        if match := re.search(r"PANCREAS_(\d{4})", folder.as_posix()):
            series[int(match[1])].append(folder)
    numbers = sorted(labels.keys() & series.keys())
    if not numbers:
        found = f"{len(series)} patients with DICOM series and {len(labels)} labels, none in common"
        raise CaseError(
            f"{root.name}: {found}; expected PANCREAS_0001/.../*.dcm and label0001.nii.gz below this folder"
        )
    for number in numbers:
        if len(series[number]) > 1:
            logger.warning("PANCREAS_%04d: %d series, the first is taken", number, len(series[number]))
    for number in sorted(labels.keys() ^ series.keys()):
        logger.warning("PANCREAS_%04d: left out, %s", number, "no label" if number in series else "no DICOM series")
    return [
        PublicCase(f"PANCREAS_{n:04d}", f"PANCREAS_{REPEATED.get(n, n):04d}", series[n][0], labels[n]) for n in numbers
    ]


def read_public_case(case: PublicCase) -> tuple[nib.Nifti1Image, nib.Nifti1Image, list[str]]:
    """Return image (HU) and label (1 pancreas with its tumors) on one grid, and what was wrong with them.

    A NIfTI image that shows the patient turned about the body's axis, as those of the Decathlon do, gets an affine that
    says so, together with its label. Other contradictions between image and header are named, not mended. Labels of a
    DICOM series are placed by :func:`fit_label`.

    Raises:
        CaseError: if a file cannot be read, or image and label do not fit.
    """
    if case.image.is_dir():
        volume = read_dicom_series(case.image)
        hu, affine = volume.array, volume.affine  # of the scanner, and not of a converter
        label, faults = fit_label(_stored(case.label, case.name), hu, case.name)
        faults = [*volume.warnings, *faults]
    else:
        hu, label = _stored(case.image, case.name).astype(np.float32), _stored(case.label, case.name)
        if label.shape != hu.shape:
            raise CaseError(f"{case.name}: the label is {_size(label)}; expected {_size(hu)}, as the image")
        affine, faults = _right_affine(hu, np.array(nib.Nifti1Image.from_filename(case.image).affine))
    image = nib.Nifti1Image(np.rint(hu).astype(np.int16), affine)
    return image, nib.Nifti1Image((label > 0).astype(np.uint8), affine), faults


def fit_label(label: NDArray[Any], hu: NDArray[Any], name: str) -> tuple[NDArray[Any], list[str]]:
    """Turn a label, whose header is of no use, so that it lies on the organ, and warn where that is not clear.

    Of the four ways that differ by reversed rows and reversed slices, the one is taken where the label covers soft
    tissue of one kind: highest share of voxels between -50 and 250 HU less the spread in units of 100 HU. It was the
    right one in all of 49 subjects of NIH Pancreas-CT of which single slices were at hand.

    Raises:
        CaseError: if sizes differ, the label is empty, or less than 80 % of it would lie on soft tissue.
    """
    if label.shape != hu.shape:
        raise CaseError(f"{name}: the label is {_size(label)}; expected {_size(hu)}, as the image")
    if not (label > 0).any():
        raise CaseError(f"{name}: the label is empty; expected a pancreas")
    ways = {(y, z): label[:, ::y, ::z] for y in (1, -1) for z in (1, -1)}
    scores = {way: _fit(turned > 0, hu) for way, turned in ways.items()}
    best, second = sorted(scores, key=lambda way: -scores[way][0])[:2]
    if scores[best][1] < MIN_SOFT:
        found = f"only {scores[best][1]:.0%} of the label lies on soft tissue, whichever way it is turned"
        raise CaseError(f"{name}: {found}; expected the label of this series")
    unclear = scores[best][0] - scores[second][0] < CLEAR_FIT
    return ways[best], [f"which way the label lies is not clear {DOUBTFUL}"] if unclear else []


def _fit(mask: NDArray[np.bool_], hu: NDArray[Any]) -> tuple[float, float]:
    inside = hu[mask].clip(*CLIP_HU)
    soft = float(((inside > SOFT_HU[0]) & (inside < SOFT_HU[1])).mean())
    return soft - float(inside.std()) / SPREAD_HU, soft


def _right_affine(hu: NDArray[Any], affine: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    """Return the affine, turned if the image says so, and what is wrong."""
    canonical = nib.as_closest_canonical(nib.Nifti1Image(hu, affine))
    layout = judge_layout(np.asarray(canonical.dataobj), canonical.header.get_zooms()[:3])
    if layout.turned:
        return TURN @ affine, ["turned about the body's axis: the header was corrected"]
    return affine, [f"{line} {DOUBTFUL}" for line in layout.warnings]


def _size(array: NDArray[Any]) -> str:
    return "x".join(map(str, array.shape))


def _stored(path: Path, name: str) -> NDArray[Any]:
    try:
        return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)
    except Exception as error:  # nibabel's errors for broken files have no common base class
        raise CaseError(f"{name}: {path.name} cannot be read ({type(error).__name__}); expected NIfTI") from error


def _named(root: Path, pattern: str) -> Iterator[tuple[Path, re.Match[str]]]:
    search: Callable[[str], re.Match[str] | None] = re.compile(pattern).match
    for path in sorted(root.rglob("*.nii*")):
        if match := search(path.name):
            yield path, match


def _download_tcia(root: Path, url: str, labels_url: str | None) -> None:
    """Fetch one zip a series, then the labels; what is there is not fetched again."""
    with urlopen(f"{url}getSeries?Collection={COLLECTION}&Modality=CT") as answer:
        found = json.load(answer)
    for series in found:
        uid, patient = series["SeriesInstanceUID"], series["PatientID"]
        archive, folder = root / "downloads" / f"{uid}.zip", root / COLLECTION / patient / uid
        _fetch(f"{url}getImage?SeriesInstanceUID={uid}", archive, folder)
    if labels_url is not None:
        _fetch(labels_url, root / "downloads" / "labels.zip", root / "labels")
    elif not any(_named(root, r"label(\d{4})\.nii(\.gz)?$")):
        raise CaseError(f"{root.name}: no labels; expected them in this folder, or --labels_url of their zip file")


def _fetch(url: str, archive: Path, folder: Path, md5: str | None = None) -> None:
    """MONAI's `download_and_extract` in its two steps: the one call needs `requests`, which nothing else here does."""
    download_url(url, archive, hash_val=md5, hash_type="md5", progress=False)
    extractall(archive, folder, has_base=md5 is not None)
