"""Tables of images: written and read without loss, printed as in the papers, compared in pairs."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ag_networks.metrics import PictureTable, compare_classifiers, format_classes, format_overall

NAMES = ["Brain (Cb.)", "Femur, left", "Non-standard"]


def table(right: list[bool], *, subjects: bool = False, start: int = 0) -> PictureTable:
    """Return a table of images of alternating labels, right or wrong as told."""
    result, rng = PictureTable(NAMES), np.random.default_rng(start)
    for number, is_right in enumerate(right, start=start):
        scores = rng.random(3).astype(np.float32)
        scores[number % 3 if is_right else (number + 1) % 3] += 1
        p = scores / scores.sum()
        subject = str(number // 2) if subjects else ""
        result.add(f"f/{number:03d}.png", label=NAMES[number % 3], probabilities=p.tolist(), subject=subject)
    return result


def test_csv_comes_back_without_loss(tmp_path: Path) -> None:
    first = table([True, False, True, True, False, True, True], subjects=True)
    first.write_csv(tmp_path / "new" / "results.csv")
    again = PictureTable.read_csv(tmp_path / "new" / "results.csv")
    assert again.rows == first.rows
    assert again.class_names == first.class_names
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["results.csv"]
    with (tmp_path / "new" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "subject", "label", "prediction", "probability", *NAMES]
    assert rows[1]["prediction"] == NAMES[2]
    assert float(rows[1]["probability"]) == max(float(rows[1][name]) for name in NAMES)
    single = np.float32(0.1234567890123)
    kept = PictureTable(["a", "b"])
    kept.add("x", label="a", probabilities=[float(single), float(1 - single)])
    assert np.float32(kept.rows[0].probabilities[0]) == single


def test_rows_may_be_sorted_and_left_out(tmp_path: Path) -> None:
    table([True, False, True]).write_csv(tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join([lines[0], lines[3], lines[1]]) + "\n")
    assert [row.image for row in PictureTable.read_csv(tmp_path / "a.csv").rows] == ["f/002.png", "f/000.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("label", "lable"), "a.csv is not a table of labelled images: column label is missing"),
        (('Brain (Cb.),"Femur', 'Brian,"Femur'), "a.csv, line 2: image f/000.png has label 'Brain"),
        (("f/001.png", "f/000.png"), "a.csv, line 3: image f/000.png comes twice"),
        (("f/000.png,,Brain (Cb.),Brain (Cb.)", "f/000.png,,Brain (Cb.),Non-standard"), "line 2: the prediction is"),
        (("Non-standard\n", "image\n"), "a.csv"),
    ],
    ids=["column", "class", "twice", "prediction", "names"],
)
def test_a_broken_table_is_named_with_its_line(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    table([True, True, True]).write_csv(tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text()
    changed = text.replace(*change, 1)
    assert changed != text
    (tmp_path / "a.csv").write_text(changed)
    with pytest.raises(ValueError, match=re.escape(message)):
        PictureTable.read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("number", "message"), [("x", "could not convert"), ("", "could not convert"), ("nan", "line 2")]
)
def test_a_number_that_is_none_is_refused(number: str, message: str, tmp_path: Path) -> None:
    table([True, True]).write_csv(tmp_path / "a.csv")
    header, first, *others = (tmp_path / "a.csv").read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join([header, f"{first.rpartition(',')[0]},{number}", *others]))
    with pytest.raises(ValueError, match=message):
        PictureTable.read_csv(tmp_path / "a.csv").scores()


def test_a_picture_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match="not a text file"):
        PictureTable.read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["image", "label", "probability"])
def test_a_class_cannot_have_the_name_of_a_column(name: str) -> None:
    with pytest.raises(ValueError, match=f"no class can be named {name}"):
        PictureTable([name, "b"])


def test_summary_and_confusion(tmp_path: Path) -> None:
    result = PictureTable(["a", "b", "never"])
    result.add("1", label="a", probabilities=[0.8, 0.2, 0], subject="s")
    result.add("2", label="b", probabilities=[0.8, 0.2, 0], subject="s")
    scores = result.scores(resamples=100)
    result.write_json(tmp_path / "s.json", scores)
    result.write_confusion_csv(tmp_path / "c.csv")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["images"], summary["subjects"], summary["accuracy"]) == (2, 1, 0.5)
    assert summary["quadratic_kappa"] is None
    assert summary["intervals_95"]["accuracy"] == [0.5, 0.5]  # one subject
    assert summary["absent_classes"] == ["never"]
    assert summary["classes"]["never"]["recall"] is None
    assert summary["classes"]["b"] == {
        "support": 1, "predicted": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0, "auroc": 0.5
    }  # fmt: skip
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines == ["label \\ prediction,a,b,never", "a,1,0,0", "b,1,0,0", "never,0,0,0"]


def test_the_overall_table_is_that_of_the_papers() -> None:
    result = PictureTable(["a", "b", "never"])
    result.add("1", label="a", probabilities=[0.8, 0.2, 0])
    result.add("2", label="b", probabilities=[0.8, 0.2, 0])
    lines = format_overall({"one": result.scores(resamples=0), "two": result.scores(resamples=0)}).splitlines()
    assert lines[0] == "| Method | Images | Accuracy | F1 | Precision | Recall | AUROC | ECE |"
    assert lines[2] == "| one | 2 | 0.500 | 0.333 | 0.250 | 0.500 | 0.500 | 0.300 |"
    assert "one: no image of never; the means leave these classes out." in lines
    with_intervals = format_overall({"one": result.scores(resamples=50, ordered=True)})
    assert "| 0.500 (0.000 to 1.000) |" in with_intervals
    assert "| Kappa |" in with_intervals


def test_the_table_of_classes_shows_differences_and_bold() -> None:
    before, after = PictureTable(["a", "b"]), PictureTable(["a", "b"])
    for number, (wrong, label) in enumerate([(0.6, "a"), (0.4, "b"), (0.4, "b"), (0.4, "a")]):
        before.add(str(number), label=label, probabilities=[wrong, 1 - wrong])
        good = 0.9 if label == "a" else 0.1
        after.add(str(number), label=label, probabilities=[good, 1 - good])
    one, two = before.scores(resamples=0), after.scores(resamples=0)
    lines = format_classes(two, one).splitlines()
    assert lines[0] == "| Class | Images | Precision | Recall | F1 | AUROC |"
    assert lines[2] == "| a | 2 | 1.000 (+0.000) | 1.000 (**+0.500**) | 1.000 (**+0.333**) | 1.000 (**+0.250**) |"
    assert "(-0.500)" in format_classes(one, two)
    assert format_classes(two).splitlines()[3] == "| b | 2 | 1.000 | 1.000 | 1.000 | 1.000 |"


def test_paired_comparison_has_the_exact_mcnemar_test() -> None:
    candidate = table([True] * 9 + [False] + [True] * 4, subjects=True)
    baseline = table([False] * 8 + [True] * 6, subjects=True)
    result = compare_classifiers(candidate, baseline, resamples=500)
    assert (result.images, result.left_out, result.only_candidate, result.only_baseline) == (14, 0, 8, 1)
    assert result.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert result.accuracy_difference == pytest.approx(7 / 14)
    low, high = result.accuracy_interval
    assert 0 <= low < 0.4 < 0.6 < high <= 1
    one, other = candidate.scores(resamples=0), baseline.scores(resamples=0)
    assert result.f1_difference == pytest.approx(one.macro_f1 - other.macro_f1)
    back = compare_classifiers(baseline, candidate, resamples=500)
    assert (back.only_candidate, back.accuracy_difference) == (1, -result.accuracy_difference)
    assert back.accuracy_interval == pytest.approx((-high, -low), abs=0.06)
    assert "McNemar p = 0.0391" in result.format()


def test_equal_tables_do_not_differ() -> None:
    result = compare_classifiers(table([True, False, True]), table([True, False, True]), resamples=50)
    assert (result.p_value, result.accuracy_interval, result.f1_interval) == (1, (0, 0), (0, 0))


def test_images_in_one_table_only_are_left_out_and_counted() -> None:
    result = compare_classifiers(table([True] * 5), table([True] * 4, start=2), resamples=50)
    assert (result.images, result.left_out) == (3, 3)


def test_tables_that_do_not_go_together_are_refused() -> None:
    other = PictureTable(["a", "b"])
    with pytest.raises(ValueError, match="different classes"):
        compare_classifiers(table([True]), other)
    with pytest.raises(ValueError, match="no image in common"):
        compare_classifiers(table([True]), table([True], start=5))
    relabelled = PictureTable(NAMES)
    relabelled.add("f/000.png", label=NAMES[2], probabilities=[0, 0, 1])
    with pytest.raises(ValueError, match=r"image f/000.png has another label"):
        compare_classifiers(table([True]), relabelled)
