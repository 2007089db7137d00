"""The comparison of networks: two tiny trainings on slices made here, and their tables."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from benchmark_scripts import run_script
from PIL import Image


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved cases of two networks after two steps on one fold of ten subjects."""
    folder = tmp_path_factory.mktemp("source")
    slices = folder / "slices"
    rng = np.random.default_rng(0)
    rows = []
    for subject in "ABCDEFGHIJ":
        (slices / subject).mkdir(parents=True)
        for number in (3, 7):
            label = np.zeros((144, 136), bool)
            label[60:80, 50:80] = True
            image = (rng.uniform(40, 90, label.shape) + 60 * label).astype(np.uint8)
            Image.fromarray(image).save(slices / subject / f"{number}_image.png")
            Image.fromarray(label).save(slices / subject / f"{number}_label.png")
            row = {"subject": subject, "slice_number": number}
            rows.append(row | {kind: f"{subject}/{number}_{kind}.png" for kind in ("image", "label")})
    with (slices / "slices.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    results = folder / "results"
    run("train", "--source", folder, "--results", results, "--networks", "unet", "attention_unet_1_gate",
        "--folds", 1, "--subsets", "all", "--steps", 2)  # fmt: skip
    return results


def run(*arguments: object) -> str:
    return run_script("pancreas_gates", *arguments)


def test_the_subjects_of_the_fold_are_scored(results: Path) -> None:
    names = {path.name for path in results.iterdir()}
    runs = ("unet_all_fold1_seed0", "attention_unet_1_gate_all_fold1_seed0")
    assert {f"{name}.{kind}" for name in runs for kind in ("csv", "json")} == names
    with (results / "unet_all_fold1_seed0.csv").open() as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["B", "G"]
    record = json.loads((results / "attention_unet_1_gate_all_fold1_seed0.json").read_text())
    assert record["training_subjects"] == 8
    assert set(record["focus"]) == {"0", "2"}
    assert all(abs(gain - 1) < 0.2 for gain in record["focus"]["0"].values()), "open gates look everywhere alike"


def test_tables_come_from_the_saved_cases(results: Path) -> None:
    path = results / "unet_all_fold1_seed0.csv"
    with path.open() as file:
        dsc = [float(row["dsc"]) for row in csv.DictReader(file)]
    table = run("tables", "--results", results)
    assert f"| unet | 1,965,770 | - | 2 | {np.mean(dsc):.3f} ± {np.std(dsc, ddof=1):.3f} |" in table
    assert "decoder.level3.gate.0" in table


def test_a_finished_run_is_not_done_again(results: Path) -> None:
    path = results / "unet_all_fold1_seed0.csv"
    before = path.stat().st_mtime_ns
    output = run("train", "--source", results.parent, "--results", results, "--networks", "unet", "--folds", 1,
                 "--subsets", "all", "--steps", 2)  # fmt: skip
    assert output == ""
    assert path.stat().st_mtime_ns == before
