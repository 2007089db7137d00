"""The comparison of attention maps on fundus photographs: tiny trainings on drawn ones, and their tables."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from _fundus import Part, map_gains
from benchmark_scripts import run_script
from picture_makers import save
from PIL import Image
from tiny_fundus import draw_photograph

NAMES = [f"{part}/{i}.png" for part in ("train", "test") for i in range(5)]


def run(*arguments: object) -> str:
    return run_script("fundus_attention", *arguments)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as IDRiD's, five photographs in each part; the disc is the only annotated structure."""
    folder = tmp_path_factory.mktemp("source")
    rows, boxes = [], []
    for number, name in enumerate(NAMES):
        label = number % 5
        save(folder / name, draw_photograph(2 * (label % 3), seed=number))
        row = {"image": name, "split": name.split("/")[0], "retinopathy_grade": label, "macular_edema_risk": label % 3}
        rows.append(row)
        for structure in ("optic_disc", "hard_exudates", "haemorrhage"):
            where = {"centre_x": 0.26, "centre_y": 0.5, "width": 0.1, "height": 0.14}
            boxes.append({"image": name, "structure": structure, **where})
    for file, content in (("labels.csv", rows), ("lesion_boxes.csv", boxes)):
        with (folder / file).open("w", newline="") as opened:
            writer = csv.DictWriter(opened, content[0])
            writer.writeheader()
            writer.writerows(content)
    return folder


@pytest.fixture(scope="module")
def results(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved pictures of one seed, one task and one backbone after an epoch."""
    folder = tmp_path_factory.mktemp("results")
    run("train", "--source", source, "--results", folder, "--tasks", "macular_edema", "--backbones", "resnet",
        "--seeds", 0, "--size", 32, "--epochs", 1)  # fmt: skip
    return folder


def test_every_method_is_scored_on_the_test_part(results: Path) -> None:
    methods = {path.stem: json.loads(path.with_suffix(".json").read_text()) for path in results.glob("*.csv")}
    assert sorted(methods) == [f"macular_edema_resnet_{name}_seed0" for name in ("global", "l1", "plain")]
    assert methods["macular_edema_resnet_plain_seed0"]["map"] == [1, 1, 1]
    for name, record in methods.items():
        with (results / f"{name}.csv").open() as file:
            assert [row["image"] for row in csv.DictReader(file)] == NAMES[5:]
        assert (results / f"{name}.png").is_file() is (record["method"] != "plain")


def test_a_run_that_is_there_is_not_done_again(source: Path, results: Path) -> None:
    options = ("--tasks", "macular_edema", "--backbones", "resnet", "--seeds", 0, "--size", 32, "--epochs", 1)
    assert "accuracy" not in run("train", "--source", source, "--results", results, *options)


def test_the_tables_come_from_the_saved_pictures(results: Path) -> None:
    text = run("tables", "--results", results)
    assert "| resnet | global | 1 |" in text
    assert "| resnet | global against plain |" in text
    assert "DenseNet-161 global 82.07 (2.71)" in text


def test_what_is_varied_is_compared_with_the_selecting_map(results: Path, tmp_path: Path) -> None:
    """Maps of known likeness."""
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    maps = {("selecting", 0): ramp, ("selecting", 1): ramp.T, ("penalty-1.0", 0): ramp, ("penalty-1.0", 1): 255 - ramp}
    stem = results / "macular_edema_resnet_global_seed0"
    for (name, seed), values in maps.items():
        record = json.loads(stem.with_suffix(".json").read_text())
        record["method"] = f"global-{name}"
        record["recipe"] |= {"seed": seed, "penalty": 1.0 if name != "selecting" else 0.1}
        path = tmp_path / f"macular_edema_resnet_global-{name}_seed{seed}"
        Path(f"{path}.json").write_text(json.dumps(record))
        Path(f"{path}.csv").write_bytes(stem.with_suffix(".csv").read_bytes())
        Image.fromarray(values).save(f"{path}.png")
    first, other = (line for line in run("tables", "--results", tmp_path).splitlines() if line.startswith("| penalty"))
    assert first.startswith("| penalty | 0.1 | 2 |")
    assert first.endswith(("| 1.00 | 0.00 |", "| 1.00 | -0.00 |"))
    assert other.startswith("| penalty | 1.0 | 2 |")
    assert other.endswith("| 0.50 | -1.00 |")  # with the first row's of the same seed: 1 and 0


def test_where_the_weight_is_comes_from_the_saved_maps(source: Path, results: Path, tmp_path: Path) -> None:
    name = "macular_edema_resnet_global_seed0"
    record = json.loads((results / f"{name}.json").read_text())
    (tmp_path / f"{name}.json").write_text(json.dumps(record))
    (tmp_path / f"{name}.csv").write_bytes((results / f"{name}.csv").read_bytes())
    Image.fromarray(np.full((32, 32), 200, np.uint8)).save(tmp_path / f"{name}.png")
    run("where", "--source", source, "--results", tmp_path, "--size", 32)
    gains = json.loads((tmp_path / f"{name}.json").read_text())["gains"]
    structures = ("optic_disc", "hard_exudates", "haemorrhage")
    shares = {f"{structure}{place}": 1 for structure in structures for place in ("", " in the field")}
    assert gains == {**shares, "like the mean picture": 0}
    assert "optic_disc in the field" in run("tables", "--results", tmp_path)


def test_weight_at_a_structure_is_counted_over_chance(source: Path) -> None:
    images = torch.randn(5, 3, 20, 26)
    grid = np.array([[9.0, 0, 4], [0, 10, 4.5], [0, 0, 1]])  # 180 x 260 pixels on a grid of 20 x 26
    inside = np.zeros((20, 26))
    inside[9:11, 6:7] = 1  # pixels 81 to 99 and 60 to 70: within the box
    box = (0.14 * 180 / 9) * (0.1 * 260 / 10)
    for affine, values in ((grid, inside), (grid @ [[1, 0, 0], [0, -1, 25], [0, 0, 1]], inside[:, ::-1])):
        part = Part(images, {}, NAMES[:5], [(affine, (180, 260))] * 5)
        assert map_gains(values, part, source)["optic_disc"] == pytest.approx(20 * 26 / box, rel=1e-3)
    mean = images.mean(dim=(0, 1)).numpy()
    assert map_gains(3 - mean, part, source)["like the mean picture"] == pytest.approx(-1)


def test_a_missing_source_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        run("train", "--source", tmp_path / "none", "--results", tmp_path)
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_maps_are_pictures(results: Path) -> None:
    with Image.open(results / "macular_edema_resnet_global_seed0.png") as picture:
        assert picture.size == (32, 32)
