"""The table of FETAL_PLANES_DB, from a small copy made here."""

from pathlib import Path

import pytest
from planes_archive import ROWS, write_archive

from ag_networks.data import BRAIN_PLANES, PLANES, CaseError, find_fetal_planes_db, read_fetal_planes_db


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "set")


def test_the_six_classes(folder: Path) -> None:
    items = read_fetal_planes_db(folder)
    assert len(items) == len(ROWS)
    assert {PLANES[item["label"]] for item in items} == set(PLANES)
    assert items[0] == {
        "image": "Images/Patient00001_Plane1_1_of_1.png",
        "label": PLANES.index("Other"),
        "subject": "FP00001",
        "split": "training",
    }
    assert {item["split"] for item in items} == {"training", "test"}
    assert all((folder / item["image"]).is_file() for item in items)


def test_the_three_brain_planes(folder: Path) -> None:
    items = read_fetal_planes_db(folder, brain_planes=True)
    assert sorted(BRAIN_PLANES[item["label"]] for item in items) == sorted(
        row[3] for row in ROWS if row[3] in BRAIN_PLANES
    )
    assert all(item["label"] in range(3) for item in items)


def test_the_set_is_found_below(folder: Path) -> None:
    assert find_fetal_planes_db(folder.parent) == folder
    with pytest.raises(CaseError, match=r"'Images': no FETAL_PLANES_DB_data\.csv in it; expected the archive"):
        find_fetal_planes_db(folder / "Images")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Fetal femur", "Foot", "unknown Plane Foot; expected Fetal abdomen"),
        ("Patient_num", "Number", "no rows, or no column Patient_num; expected"),
        (";Voluson;1", ";Voluson;2", "Train is '2' for Patient00001_Plane1_1_of_1; expected 0 or 1"),
        ("Patient00002_Plane2_1_of_1", "Patient00009_Plane2_1_of_1", "1 of 9 pictures are missing, Images/Patient0000"),
        ("Patient00002_Plane2_1_of_1", "Patient00001_Plane1_1_of_1", "Patient00001_Plane1_1_of_1.png has several rows"),
    ],
)  # fmt: skip
def test_a_bad_table_is_one_line(old: str, new: str, message: str, folder: Path) -> None:
    table = folder / "FETAL_PLANES_DB_data.csv"
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(CaseError) as refusal:
        read_fetal_planes_db(folder)
    assert message in str(refusal.value)


def test_an_unknown_brain_plane_is_refused(folder: Path) -> None:
    table = folder / "FETAL_PLANES_DB_data.csv"
    table.write_text(table.read_text().replace("Trans-thalamic", "Trans-siberian"))
    with pytest.raises(CaseError, match="unknown Brain_plane Trans-siberian; expected Trans-cerebellum"):
        read_fetal_planes_db(folder, brain_planes=True)
    table.unlink()
    with pytest.raises(CaseError, match=r"no FETAL_PLANES_DB_data\.csv in it"):
        read_fetal_planes_db(folder)
