"""Inference of the fundus bundle on photographs as clinics have them, good and bad."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_makers import save, save_dicom
from PIL import Image
from tiny_bundle import files_of, predictions, report
from tiny_fundus import NAMES, SIZE, TINY, draw_photograph, infer, run_command, workflow

pytest_plugins = ["tiny_fixtures", "tiny_fundus_fixtures"]

LEFT = draw_photograph(4, seed=1)
OTHER_EYE = LEFT[:, ::-1]


def with_more_black(picture: np.ndarray) -> np.ndarray:
    """Return the photograph of a camera with a wider sensor: more black at the sides."""
    return np.pad(picture, ((0, 0), (30, 70), (0, 0)))


def write_pictures(folder: Path) -> None:
    """Write the same photograph in every usual form, and others that are unlike it."""
    save(folder / "left.png", LEFT)
    save(folder / "right.png", OTHER_EYE)
    save(folder / "wide.png", with_more_black(LEFT))
    save(folder / "page.tif", LEFT)
    save_dicom(folder / "still.dcm", LEFT)
    save(folder / "sub/below.png", LEFT)
    save(folder / "compressed.jpg", LEFT, quality=95)
    save(folder / "huge.png", np.kron(LEFT, np.ones((6, 6, 1), np.uint8)))
    save(folder / "grey.png", LEFT[..., 1])
    save(folder / "no_disc.png", (np.random.default_rng(0).random((180, 260, 3)) * 90 + 60).astype(np.uint8))


SAME = {"right.png": 1e-3, "wide.png": 0.02, "page.tif": 1e-5, "still.dcm": 1e-5, "sub/below.png": 1e-5}
SAME |= {"compressed.jpg": 0.02, "huge.png": 0.03}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


@pytest.fixture(scope="module")
def results(pictures: Path, fundus_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("results")
    infer(pictures, output, fundus_weights, least_probability=0.0)
    return output


def warnings_of(output: Path, name: str) -> str:
    return "; ".join(next(item["warnings"] for item in report(output)["images"] if item["image"] == name))


def test_every_picture_has_a_row_with_all_grades(pictures: Path, results: Path) -> None:
    rows = predictions(results)
    assert sorted(rows) == files_of(pictures)
    assert files_of(results) == ["predictions.csv", "predictions.json"]
    for row in rows.values():
        assert list(row) == ["image", "prediction", "probability", *NAMES]
        probabilities = [float(row[name]) for name in NAMES]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert row["prediction"] == NAMES[int(np.argmax(probabilities))]


@pytest.mark.parametrize("name", SAME)
def test_neither_the_eye_nor_the_camera_s_frame_nor_the_file_matters(name: str, results: Path) -> None:
    rows = predictions(results)
    for grade in NAMES:
        assert float(rows[name][grade]) == pytest.approx(float(rows["left.png"][grade]), abs=SAME[name])


def test_without_mirroring_and_cropping_they_do_matter(
    pictures: Path, results: Path, fundus_weights: Path, tmp_path: Path
) -> None:
    infer(pictures, tmp_path, fundus_weights, find_field=False, flip_right_eyes="false")
    for name in ("right.png", "wide.png"):
        with_both, without = (
            max(abs(float(rows[name][grade]) - float(rows["left.png"][grade])) for grade in NAMES)
            for rows in (predictions(results), predictions(tmp_path))
        )
        assert without > 2 * with_both


def test_unlike_pictures_get_a_warning(results: Path) -> None:
    assert "grey picture, as three equal channels" in warnings_of(results, "grey.png")
    assert "disc" in warnings_of(results, "no_disc.png")
    assert warnings_of(results, "left.png") == warnings_of(results, "right.png") == ""


def test_the_report_says_what_made_it(results: Path) -> None:
    content = report(results)
    assert content["complete"] is True
    names = {"weights", "backbone", "image_size", "find_field", "flip_right_eyes", "local_contrast"}
    assert content["settings"].keys() == names


def test_local_contrast_lifts_small_spots_and_keeps_the_light(tmp_path: Path) -> None:
    y, x = np.mgrid[:192, :192]
    light = 100 + 0.3 * x
    spot = 8 * np.exp(-((y - 96) ** 2 + (x - 120) ** 2) / (2 * 2.0**2))
    depth, far = {}, {}
    for contrast in (None, 4.0):
        seen = []
        for name, values in (("plain", light), ("spot", light - spot)):
            save(tmp_path / f"{name}.png", np.repeat(np.rint(values)[..., None], 3, axis=2).astype(np.uint8))
            own = {"find_field": False, "flip_right_eyes": False, "image_size": [192, 192]}
            made = workflow("inference", **{**TINY, **own, "local_contrast": contrast})
            loaded = made.parser.get_parsed_content("preprocessing")({"image": str(tmp_path / f"{name}.png")})
            seen.append(loaded["image"])
        depth[contrast] = float((seen[0] - seen[1])[1, 94:99, 118:123].mean())
        far[contrast] = float(seen[0][1, 60:132, 60:132].mean())
    assert 3 < depth[4.0] / depth[None] < 5, "a spot of 2 pixels, against surroundings of 6"
    assert far[4.0] == pytest.approx(far[None], abs=0.02)


def test_the_map_is_written_once_and_over_every_picture(fundus_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "right.png", OTHER_EYE)
    save(folder / "sub/left.png", LEFT)
    infer(folder, tmp_path / "out", fundus_weights, save_attention="true")
    assert files_of(tmp_path / "out") == sorted(
        ["attention_map.npy", "attention_map.png", "predictions.csv", "predictions.json"]
        + ["right.png_attention.png", "sub/left.png_attention.png"]
    )
    values = np.load(tmp_path / "out/attention_map.npy")
    expected = torch.load(fundus_weights, weights_only=True)["attention.map"]
    assert values.shape == tuple(SIZE)
    assert np.array_equal(values, expected[0, 0].numpy())
    right, left = (
        Image.open(tmp_path / "out" / name) for name in ("right.png_attention.png", "sub/left.png_attention.png")
    )
    assert right.size == left.size
    assert not np.array_equal(np.asarray(right), np.asarray(left))


def write_bad(folder: Path) -> dict[str, str]:
    """Write what goes wrong, and good pictures beside it; return what is said of each bad one."""
    save(folder / "good.png", LEFT)
    whole = save(folder / "zz_good.png", draw_photograph(0, seed=2)).read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")
    save(folder / "black.png", np.zeros((96, 128, 3), np.uint8))
    save(folder / "dot.png", np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    return {
        "cut.png": "the file is cut short or damaged",
        "text.png": "not a picture, or its header is damaged",
        "black.png": "a black picture",
        "dot.png": "10 x 10 pixels; expected at least 32 x 32",
    }


def test_bad_pictures_get_a_line_each_and_the_good_ones_are_done(fundus_weights: Path, tmp_path: Path) -> None:
    expected = write_bad(tmp_path / "in")
    options = {**TINY, "dataset_dir": "in", "output_dir": "out", "checkpoint": str(fundus_weights)}
    run = run_command("inference", cwd=tmp_path, **options)
    lines = (run.stdout + run.stderr).splitlines()
    assert run.returncode == 1, run.stderr[-2000:]
    assert "Traceback" not in run.stdout + run.stderr
    for case, reason in expected.items():
        errors = [line for line in lines if re.search(rf" - ERROR - .*{case}: .*{re.escape(reason)}", line)]
        assert len(errors) == 1, f"{case}: {reason}\n" + "\n".join(line for line in lines if case in line)
        assert str(tmp_path) not in errors[0]
    assert sorted(predictions(tmp_path / "out")) == ["good.png", "zz_good.png"]
    assert {item["image"] for item in report(tmp_path / "out")["failures"]} == set(expected)
    assert lines[-1].startswith(f"error: {len(expected)} of {len(expected) + 2} cases failed: ")
