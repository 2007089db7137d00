"""One bad case gives one line and leaves the others alone."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from monai.data import DataLoader
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Spacingd

from ag_networks.data import CaseDataset, CaseError, list_cases
from ag_networks.transforms import CheckCTd

WriteSeries = Callable[..., Path]


def chain() -> Compose:
    return Compose(
        [
            LoadImaged("image", reader="ag_networks.data.CTReader"),
            EnsureChannelFirstd("image"),
            CheckCTd("image"),
            Spacingd("image", pixdim=(2, 2, 2)),
        ]
    )


def fail(error: Exception) -> Callable[[Any], Any]:
    def transform(data: Any) -> Any:
        raise error

    return transform


def case(**more: str) -> dict[str, str]:
    return {"image": "folder with spaces/x.nii", "case": "x", **more}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_good_cases_of_a_folder_are_done(
    workers: int, tmp_path: Path, hu: np.ndarray, write_series: WriteSeries
) -> None:
    nibabel.save(nibabel.Nifti1Image(hu, np.eye(4)), tmp_path / "good.nii.gz")
    nibabel.save(nibabel.Nifti1Image(hu * 0, np.eye(4)), tmp_path / "zeros.nii.gz")
    (tmp_path / "text.nii.gz").write_text("Secret Name")
    write_series(tmp_path / "series", hu)
    write_series(tmp_path / "mixed", hu, Modality="MR")
    loader = DataLoader(CaseDataset(list_cases(tmp_path), chain()), batch_size=1, num_workers=workers)
    results = {batch["case"][0]: batch for batch in loader}
    assert set(results) == {"good", "zeros", "text", "series", "mixed"}
    failures = {name: batch["failure"][0] for name, batch in results.items() if "failure" in batch}
    assert failures == {
        "zeros": "zeros: every value is 0; expected CT values in Hounsfield units (air -1000, water 0)",
        "text": "text.nii.gz: not gzip data but text; "
        "expected a 3D NIfTI image (.nii, .nii.gz) or a folder of CT slices in DICOM",
        "mixed": "mixed: no CT slices in this folder (12 x modality MR); "
        "expected one series of evenly spaced CT slices of one size and orientation",
    }
    assert set(results["zeros"]) == {"case", "failure"}
    assert results["good"]["image"].shape[:2] == results["series"]["image"].shape[:2] == (1, 1)


SECRET_FOLDER = "/" + "srv/hospital/John Doe"
FAILURES = [
    (CaseError("x.nii: bad; expected good"), "x.nii: bad; expected good"),
    (MemoryError("Unable to allocate 3 GiB"), "unexpected: MemoryError: Unable to allocate 3 GiB"),
    (KeyError("image"), "unexpected: KeyError: 'image'"),
    (ValueError("two\nlines  of text"), "unexpected: ValueError: two lines of text"),
    (OSError(f"cannot open '{SECRET_FOLDER}/x.nii'"), "unexpected: OSError: cannot open 'x.nii'"),
    (OSError("C:\\Users\\me\\scan.nii: gone"), "unexpected: OSError: scan.nii: gone"),
    (OSError(f"{SECRET_FOLDER.split()[0]}/a/b.nii, 1/2 mm"), "unexpected: OSError: b.nii, 1/2 mm"),
]


@pytest.mark.parametrize(("error", "failure"), FAILURES, ids=[type(error).__name__ for error, _ in FAILURES])
def test_a_failure_is_one_line_without_folders(error: Exception, failure: str) -> None:
    dataset = CaseDataset([case(image=f"{SECRET_FOLDER}/x.nii")], Compose([fail(error)]))
    assert dataset[0] == {"case": "x", "failure": failure}


def test_the_first_clear_message_of_a_chain_counts() -> None:
    def transform(data: Any) -> Any:
        try:
            raise EOFError("deep")
        except EOFError as error:
            raise CaseError("x: cut") from error

    assert CaseDataset([case()], transform)[0]["failure"] == "x: cut"


def test_a_long_message_is_cut() -> None:
    assert len(CaseDataset([case()], fail(RuntimeError("word " * 1000)))[0]["failure"]) < 400


def test_the_traceback_is_in_the_log_for_debugging_only(caplog: pytest.LogCaptureFixture) -> None:
    dataset = CaseDataset([case()], fail(RuntimeError("strange")))
    with caplog.at_level(logging.INFO):
        assert "strange" in dataset[0]["failure"]
    assert caplog.records == []
    with caplog.at_level(logging.DEBUG):
        assert "strange" in dataset[0]["failure"]
    assert caplog.records[0].levelno == logging.DEBUG
    assert "Traceback" in caplog.text


def test_an_interrupt_is_not_a_failure() -> None:
    def transform(data: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _ = CaseDataset([case()], transform)[0]


def test_a_slice_of_the_dataset_survives_too() -> None:
    dataset = CaseDataset([case(), case(case="y")], fail(CaseError("bad")))
    assert [item["case"] for item in dataset[:2]] == ["x", "y"]  # type: ignore[attr-defined]
