"""Labelled pictures from folders and tables, and what is refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
from picture_makers import save_dicom, speckle

from ag_networks.data import CaseError, read_picture_datalist

CLASSES = ["Brain (Cb.)", "Femur", "3VV"]


def touch(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root: Path, text: str, *files: str) -> Path:
    touch(root, *files)
    (root / "labels.csv").write_text(text, encoding="utf-8")
    return root / "labels.csv"


def test_a_folder_per_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(
        tmp_path / "set", "3VV/a.png", "Brain (Cb.)/P1/x.png", "Brain (Cb.)/P1/deep/y.png", "Femur/b.jpg", "notes.txt"
    )
    items = read_picture_datalist(tmp_path / "set", class_names=CLASSES)
    assert items == [
        {"image": "3VV/a.png", "label": 2, "subject": "3VV/a.png"},
        {"image": "Brain (Cb.)/P1/x.png", "label": 0, "subject": "P1"},
        {"image": "Brain (Cb.)/P1/deep/y.png", "label": 0, "subject": "P1"},
        {"image": "Femur/b.jpg", "label": 1, "subject": "Femur/b.jpg"},
    ]
    assert caplog.messages == [
        "'set': 2 of 4 pictures have no subject; each is taken as its own. Pictures of one person may then come into "
        "two parts"
    ]


def test_folders_may_be_named_by_index_and_paths_start_where_wanted(tmp_path: Path) -> None:
    touch(tmp_path / "set", "0/a.png", "1/b.png", "2/c.png")
    items = read_picture_datalist(tmp_path / "set", class_names=CLASSES, dataset_dir=tmp_path)
    assert [(item["image"], item["label"]) for item in items] == [
        ("set/0/a.png", 0),
        ("set/1/b.png", 1),
        ("set/2/c.png", 2),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "image,label,subject\na.png,Femur,P1\nsub/b.png,0,P2\nc.png,3VV,P2\n",
        "\ufeffimage; label ;subject;more\na.png;Femur;P1;x\nsub/b.png;Brain (Cb.);P2;\nc.png;2;P2\n",
        "subject,label,image\n P1 , Femur , a.png \nP2,0,sub/b.png\nP2,2,c.png\n",
    ],
    ids=["plain", "excel", "blanks"],
)
def test_a_table(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = table(tmp_path, text, "a.png", "sub/b.png", "c.png")
    assert read_picture_datalist(source, class_names=CLASSES) == [
        {"image": "a.png", "label": 1, "subject": "P1"},
        {"image": "sub/b.png", "label": 0, "subject": "P2"},
        {"image": "c.png", "label": 2, "subject": "P2"},
    ]
    assert caplog.messages == []


def test_a_name_that_is_a_number_is_a_name(tmp_path: Path) -> None:
    source = table(tmp_path, "image,label\na.png,1\nb.png,0\n", "a.png", "b.png")
    items = read_picture_datalist(source, class_names=["1", "0"])
    assert [item["label"] for item in items] == [0, 1]


def test_a_table_may_bring_the_split(tmp_path: Path) -> None:
    source = table(tmp_path, "image,label,split\na.png,0,train\nb.png,1,Test\nc.png,2,val\n", "a.png", "b.png", "c.png")
    items = read_picture_datalist(source, class_names=CLASSES)
    assert [item["split"] for item in items] == ["training", "test", "validation"]


def test_a_clip_stands_for_its_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_dicom(tmp_path / "set/Femur/clip.dcm", np.stack([speckle(), speckle(seed=1)]), frames=2)
    touch(tmp_path / "set", "3VV/a.png")
    frames = ["Femur/clip.dcm#0000", "Femur/clip.dcm#0001"]
    items = read_picture_datalist(tmp_path / "set", class_names=["3VV", "Femur"])
    assert [(item["image"], item["subject"]) for item in items[1:]] == [(name, "Femur/clip.dcm") for name in frames]
    source = table(tmp_path / "set", "image,label,subject\nFemur/clip.dcm,0,P1\n3VV/a.png,1,\n")
    assert [item["image"] for item in read_picture_datalist(source, class_names=["a", "b"])] == [*frames, "3VV/a.png"]
    source = table(tmp_path / "set", "image,label,subject\nFemur/clip.dcm#0001,0,P1\n")
    (item,) = read_picture_datalist(source, class_names=["a"])
    assert item == {"image": frames[1], "label": 0, "subject": "P1"}
    assert len(caplog.records) == 2, "both where a subject is missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,Foot\nb.png,Hand\n", "unknown labels Foot, Hand; expected one of Brain (Cb.), Femur"),
        ("image,label\na.png,femur\n", "unknown label 'femur'; expected one of"),
        ("image,label\na.png,3\n", "unknown label '3'; expected one of"),
        ("image,label\na.png,-1\n", "unknown label '-1'"),
        ("image,label\na.png,\n", "unknown label ''"),
        ("image,label\na.png,0\nb.png,1\na.png,2\n", "a.png named in several rows; expected one row per picture"),
        ("image,label\na.png,0\nz.png,1\n", "1 of 2 pictures are missing or no pictures: z.png; expected paths from"),
        ("image,label\na.png,0\nlabels.csv,1\n", "1 of 2 pictures are missing or no pictures: labels.csv"),
        ("image,label\na.png,0\n,1\n", "1 of 2 pictures are missing"),
        ("image,label\na.png,0\nb.png,1\n", "no picture of 3VV (1 of 3 classes); expected pictures of every class"),
        ("image,label,split\na.png,0,holdout\n", "unknown split 'holdout'; expected train, val or test"),
        ("file,label\na.png,0\n", "no column image, found file, label; expected"),
        ("image,label\n", "no rows in it"),
        ("", "no rows in it"),
    ],
)  # fmt: skip
def test_a_bad_table_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    source = table(tmp_path, text, "a.png", "b.png")
    with pytest.raises(CaseError) as refusal:
        read_picture_datalist(source, class_names=CLASSES)
    assert str(refusal.value).startswith("'labels.csv': ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["Foot/a.png", "Femur/a.png"], "unknown label 'Foot'; expected one of Brain (Cb.), Femur, 3VV"),
        (["Femur/a.png", "3VV/a.txt"], "no picture of Brain (Cb.), 3VV (2 of 3 classes)"),
        (["a.png"], "no subfolder in it; expected a folder with one subfolder per class"),
    ],
)
def test_a_bad_folder_is_one_line(files: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(CaseError) as refusal:
        read_picture_datalist(touch(tmp_path / "set", *files), class_names=CLASSES)
    assert message in str(refusal.value)


def test_what_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="'none': no such file or folder; expected a folder with one"):
        read_picture_datalist(tmp_path / "none", class_names=CLASSES)
    with pytest.raises(ValueError, match="class_names must be different names"):
        read_picture_datalist(touch(tmp_path, "a/a.png"), class_names=["a", "a"])
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(CaseError, match=r"'b\.csv': cannot be read as text"):
        read_picture_datalist(tmp_path / "b.csv", class_names=CLASSES)


def test_empty_classes_can_be_allowed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        items = read_picture_datalist(touch(tmp_path, "Femur/P1/a.png"), class_names=CLASSES, allow_empty=True)
    assert items == [{"image": "Femur/P1/a.png", "label": 1, "subject": "P1"}]
    assert caplog.messages == []
