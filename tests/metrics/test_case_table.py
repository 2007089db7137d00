"""Per-case tables: means with failures, the papers' form, files read back."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from ag_networks.metrics import SCORE_NAMES, CaseScores, CaseTable, score_case


def scores(dsc: float = 0.5, *, distance: float = 2.0, tolerance: float = 2.0) -> CaseScores:
    return CaseScores(
        dsc=dsc,
        precision=0.25,
        recall=1 / 3,
        s2s_mm=distance,
        nsd=0.9,
        hd95_mm=2 * distance,
        prediction_ml=81.0,
        reference_ml=80.1,
        tolerance_mm=tolerance,
    )


def table_of(*values: float, class_name: str = "pancreas") -> CaseTable:
    table = CaseTable()
    for number, value in enumerate(values):
        table.add(f"case_{number}", class_name, scores(value, distance=10 * value))
    return table


def test_summary_is_mean_and_sample_standard_deviation() -> None:
    values = [0.8, 0.9, 0.7, 0.85]
    part = table_of(*values).summary()["pancreas"]
    assert part.mean["dsc"] == pytest.approx(statistics.mean(values))
    assert part.std["dsc"] == pytest.approx(statistics.stdev(values))
    assert (part.cases, part.failures) == (4, 0)


def test_papers_form() -> None:
    part = table_of(0.793, 0.831, 0.869).summary()["pancreas"]
    assert part.format("dsc") == "0.831 ± 0.038"
    assert table_of(0.831).summary()["pancreas"].format("dsc") == "0.831"


def test_a_failure_takes_part_in_every_mean() -> None:
    table = table_of(0.8, 0.6)
    before = table.summary()["pancreas"]
    table.add("empty", "pancreas", score_case(np.zeros((10, 10, 10)), np.ones((10, 10, 10)), spacing=(1, 1, 1)))
    after = table.summary()["pancreas"]
    assert (after.cases, after.failures) == (3, 1)
    assert after.mean["dsc"] == pytest.approx(1.4 / 3)
    assert after.mean["s2s_mm"] == pytest.approx((8 + 6 + math.sqrt(300)) / 3)
    assert all(after.mean[name] < before.mean[name] for name in ("dsc", "precision", "recall", "nsd"))


def test_an_unreadable_case_never_improves_a_mean() -> None:
    table = table_of(0.8, 0.6, 0.7)
    before = table.summary()["pancreas"]
    table.add_failure("broken", "pancreas", "truncated file")
    after = table.summary()["pancreas"]
    assert table.column("s2s_mm", "pancreas")["broken"] == pytest.approx(8)
    assert (after.cases, after.failures) == (4, 1)
    assert after.mean["dsc"] == pytest.approx(2.1 / 4)
    assert after.mean["s2s_mm"] > before.mean["s2s_mm"]
    assert after.mean["hd95_mm"] > before.mean["hd95_mm"]


def test_only_unreadable_cases_have_no_distance() -> None:
    table = CaseTable()
    table.add_failure("broken", "pancreas", "truncated file")
    part = table.summary()["pancreas"]
    assert (part.format("dsc"), part.format("s2s_mm")) == ("0.000", "unknown")


def test_markdown_has_a_line_for_each_class() -> None:
    table = table_of(0.793, 0.831, 0.869)
    table.add("case_0", "liver", scores(0.95))
    lines = table.format_markdown().splitlines()
    assert lines[0] == "| Class | Cases | Failures | DSC | Precision | Recall | S2S (mm) | NSD (2 mm) | HD95 (mm) |"
    assert lines[2].startswith("| pancreas | 3 | 0 | 0.831 ± 0.038 | 0.250 ± 0.000 |")
    assert lines[3].startswith("| liver | 1 | 0 | 0.950 | 0.250 |")
    assert {line.count("|") for line in lines} == {10}


def test_csv_round_trip_is_exact(tmp_path: Path) -> None:
    table = table_of(0.1 + 0.2, 1 / 3)
    table.add('with, comma and "quote"', "left kidney", scores())
    table.add_failure("broken", "pancreas", "truncated file")
    table.write_csv(tmp_path / "new" / "cases.csv")
    again = CaseTable.read_csv(tmp_path / "new" / "cases.csv")
    assert repr(again.rows) == repr(table.rows)
    assert repr(again.summary()) == repr(table.summary())


def test_json_is_valid_without_nan(tmp_path: Path) -> None:
    table = table_of(0.8)
    table.write_json(tmp_path / "summary.json")
    text = (tmp_path / "summary.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content["nsd_tolerance_mm"] == 2.0
    assert content["classes"]["pancreas"]["mean"]["dsc"] == 0.8
    assert content["classes"]["pancreas"]["std"] == dict.fromkeys(SCORE_NAMES)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, path = table_of(0.8), tmp_path / "cases.csv"
    table.write_csv(path)
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    table.add("another", "pancreas", scores())
    with pytest.raises(OSError, match="No space left"):
        table.write_csv(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["cases.csv"]


def test_rows_that_do_not_fit_are_refused() -> None:
    table = table_of(0.8)
    with pytest.raises(ValueError, match="already has a row"):
        table.add("case_0", "pancreas", scores())
    with pytest.raises(ValueError, match="5 mm does not go with NSD at 2 mm"):
        table.add("case_9", "pancreas", scores(tolerance=5.0))
    assert len(table) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("dice", "pancreas"), "unknown score 'dice', expected one of dsc"), (("dsc", "liver"), "table has pancreas")],
    ids=["score", "class"],
)
def test_unknown_columns_are_refused(arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table_of(0.8).column(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda text: text.replace(b"dsc", b"dice", 1), "cases.csv is not.*column dsc is", id="column"),
        pytest.param(lambda text: text.replace(b"0.8", b"high", 1), "cases.csv, line 2: .*'high'", id="number"),
        pytest.param(lambda text: text.replace(b"False", b"no", 1), "cases.csv, line 2: .*'no'", id="flag"),
        pytest.param(lambda text: text + text.splitlines()[1] + b"\n", "line 3: .*already has", id="twice"),
        pytest.param(lambda text: text[:-20], "cases.csv, line 2", id="truncated"),
        pytest.param(lambda _: b"\x1f\x8b\x08\x00", "cases.csv is not.*text", id="binary"),
        pytest.param(lambda _: b"", "cases.csv is not.*column case", id="empty"),
    ],
)
def test_a_damaged_csv_is_refused(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "cases.csv"
    table_of(0.8).write_csv(path)
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        CaseTable.read_csv(path)
