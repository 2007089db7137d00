"""Inference of the fetal plane bundle on pictures and clips as clinics have them, good and bad."""

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_makers import dicom, save, save_dicom, save_video
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import RLELossless
from tiny_bundle import files_of, predictions, report
from tiny_planes import (
    NAMES,
    TINY,
    draw_frame,
    infer,
    run_command,
    start_weights,
    workflow,
)

from ag_networks.nets import SonoNet
from ag_networks.transforms import box_on_frame

pytest_plugins = ["tiny_fixtures", "tiny_plane_fixtures"]

GREY = draw_frame("Femur", seed=1)
RGB = np.stack([GREY] * 3, axis=-1)


def labelled_screen() -> np.ndarray:
    """Return the frame with a colored mark, as vendors print them."""
    screen = RGB.copy()
    screen[2:10, 2:40] = (0, 90, 255)
    return screen


def write_pictures(folder: Path) -> None:
    """Write the same frame in every usual form, and others that are unlike it."""
    save(folder / "grey.png", GREY)
    save(folder / "three_channels.png", RGB)
    save(folder / "screen.png", labelled_screen())
    Image.fromarray(GREY).convert("P").save(folder / "palette.png")
    save(folder / "deep.png", GREY.astype(np.uint16) * 257)
    save(folder / "page.tif", GREY)
    save_dicom(folder / "still.dcm", GREY)
    save_dicom(folder / "inverted.dcm", 255 - GREY, PhotometricInterpretation="MONOCHROME1")
    save(folder / "sub/below.png", GREY)
    save(folder / "inverted.png", 255 - GREY)
    save(folder / "rotated.png", np.rot90(GREY))
    save(folder / "tiny.png", draw_frame("Femur", seed=1, rows=36, columns=48))
    save(folder / "huge.png", draw_frame("Femur", seed=1, rows=1500, columns=2000))
    random = np.random.default_rng(0)
    save(folder / "photo.jpg", np.kron(random.integers(60, 250, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8))
    save(folder / "xray.png", (130 + 60 * np.sin(np.mgrid[:96, :128][1] / 9)).astype(np.uint8))


SAME = ["three_channels.png", "screen.png", "palette.png", "deep.png", "page.tif", "still.dcm", "inverted.dcm"]
WARNINGS = {
    "grey.png": [],
    "three_channels.png": [],
    "screen.png": ["color picture, read as grey"],
    "palette.png": [],
    "deep.png": ["16-bit picture"],
    "inverted.dcm": ["stored inverted"],
    "inverted.png": ["bright border: inverted", "mean gray value", "no black around a sector"],
    "rotated.png": ["no ultrasound, or rotated?"],
    "tiny.png": ["small picture"],
    "huge.png": [],
    "photo.jpg": ["color picture", "mean gray value", "no black around a sector"],
    "xray.png": ["mean gray value", "no black around a sector"],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


@pytest.fixture(scope="module")
def results(pictures: Path, plane_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("results")
    infer(pictures, output, plane_weights, least_probability=0.0)
    return output


def test_every_picture_has_a_row_with_all_classes(pictures: Path, results: Path) -> None:
    rows = predictions(results)
    assert sorted(rows) == files_of(pictures)
    assert files_of(results) == ["predictions.csv", "predictions.json"]
    for row in rows.values():
        assert list(row) == ["image", "prediction", "probability", *NAMES]
        probabilities = [float(row[name]) for name in NAMES]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert row["prediction"] == NAMES[int(np.argmax(probabilities))]
        assert float(row["probability"]) == max(probabilities)
    assert len({row["probability"] for row in rows.values()}) > 5  # it does look at them


@pytest.mark.parametrize("name", [*SAME, "sub/below.png"])
def test_the_form_of_the_file_does_not_matter(name: str, results: Path) -> None:
    rows = predictions(results)
    tolerance = 0.02 if name == "screen.png" else 1e-5
    for plane in NAMES:
        assert float(rows[name][plane]) == pytest.approx(float(rows["grey.png"][plane]), abs=tolerance)


@pytest.mark.parametrize("name", WARNINGS)
def test_unlike_pictures_get_a_warning(name: str, results: Path) -> None:
    (picture,) = (item for item in report(results)["images"] if item["image"] == name)
    found = [text for text in picture["warnings"] if "small picture" not in text or name == "tiny.png"]
    assert len(found) >= len(WARNINGS[name])
    assert [part for part in WARNINGS[name] if not any(part in text for text in found)] == []
    if not WARNINGS[name]:
        assert found == []


def test_an_unsure_prediction_gets_a_warning(pictures: Path, plane_weights: Path, tmp_path: Path) -> None:
    infer(pictures / "grey.png", tmp_path, plane_weights, least_probability=1.1, expected_ranges=None)
    (picture,) = report(tmp_path)["images"]
    assert [text for text in picture["warnings"] if text.startswith("unsure: probability")]
    assert "mean gray value" not in str(picture["warnings"])


def test_the_report_says_what_made_it(results: Path, plane_weights: Path) -> None:
    content = report(results)
    assert content["complete"] is True
    assert content["classes"] == NAMES
    assert content["failures"] == []
    assert content["settings"].keys() == {"weights", "image_size", "sector_box", "attention"}
    assert {"python", "ag-networks", "torch", "monai", "pydicom"} <= content["versions"].keys()
    assert "box" not in content["images"][0]


def screen(picture: np.ndarray) -> np.ndarray:
    """Return a vendor's screen around a frame: a header above, room at the sides."""
    whole = np.zeros((picture.shape[0] + 60, picture.shape[1] + 80), np.uint8)
    whole[8:14, 20:90:3] = 240
    whole[40:-20, 40:-40] = picture
    return whole


def test_maps_and_boxes_lie_on_the_frame(results: Path, plane_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "sub/below.png", GREY)
    framed = screen(draw_frame("Abdominal", seed=5, rows=240, columns=320))
    save(folder / "framed.png", framed)
    infer(folder, tmp_path / "out", plane_weights, save_attention="true")
    names = ["framed.png", "sub/below.png"]
    written = [f"{name}_attention{suffix}" for name in names for suffix in (".npz", ".png")]
    assert files_of(tmp_path / "out") == sorted([*written, "predictions.csv", "predictions.json"])
    rows = predictions(tmp_path / "out")
    for plane in NAMES:  # one forward pass gives both, and the maps change nothing
        assert float(rows["sub/below.png"][plane]) == pytest.approx(
            float(predictions(results)["grey.png"][plane]), abs=1e-5
        )
    for item, shape in zip(report(tmp_path / "out")["images"], (framed.shape, GREY.shape), strict=True):
        top, left, bottom, right = item["box"]
        assert 0 <= top < bottom <= shape[0]
        assert 0 <= left < right <= shape[1]
        with np.load(tmp_path / "out" / f"{item['image']}_attention.npz") as maps:
            assert sorted(maps) == ["AG-all", "AG1", "AG2", "CAM"]
            assert {values.shape for values in maps.values()} == {shape}
            assert [int(maps[name].max()) for name in ("AG1", "AG2")] == [255, 255]
            if item["image"] == "framed.png":  # what the network did not see
                assert not maps["AG-all"][:40].any()
                assert maps["AG-all"][60:-30, 140:-140].any()


def test_a_given_box_is_where_the_maps_are(plane_weights: Path, tmp_path: Path) -> None:
    save(tmp_path / "in/frame.png", draw_frame("Femur", seed=3, rows=120, columns=160))
    box = [20, 30, 100, 130]
    made = infer(tmp_path / "in", tmp_path / "out", plane_weights, save_attention=True, sector_box=box)
    with np.load(tmp_path / "out/frame.png_attention.npz") as maps:
        seen = maps["AG1"] > 0
        assert not seen[:20].any()
        assert not seen[100:].any()
        assert not seen[:, :30].any()
        assert not seen[:, 130:].any()
        assert seen[20:100, 30:130].mean() > 0.9
    found = report(tmp_path / "out")["images"][0]["box"]
    assert found[0] >= 20
    assert found[1] >= 30
    assert found[2] <= 100
    assert found[3] <= 130
    assert report(tmp_path / "out")["settings"]["sector_box"] == box
    image = made.dataset[0]["image"]
    assert box_on_frame((0, 0, *image.shape[1:]), image.affine) == pytest.approx(box, abs=1e-3)


@pytest.fixture(scope="module")
def clip() -> list[np.ndarray]:
    """Return frames that show one plane, nothing, and another plane."""
    order = ["Abdominal"] * 4 + ["Non-standard"] * 3 + ["Femur"] * 5
    return [draw_frame(plane, seed=i) for i, plane in enumerate(order)]


def frames_of(output: Path, clip: str) -> list[dict[str, str]]:
    with (output / f"{clip}_frames.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_clip_is_told_over_time(clip: list[np.ndarray], plane_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save_dicom(folder / "cine.dcm", np.stack(clip), frames=len(clip))
    Image.fromarray(clip[0]).save(
        folder / "cine.tif", save_all=True, append_images=[Image.fromarray(frame) for frame in clip[1:]]
    )
    save(folder / "still.png", clip[0])
    infer(folder, tmp_path / "out", plane_weights, frames="true", window=3, fps=10)
    singles = [f"cine.dcm#{i:04d}" for i in range(len(clip))]
    rows = predictions(tmp_path / "out")
    assert [name for name in rows if name.startswith("cine.dcm")] == singles
    for plane in NAMES:
        assert float(rows["cine.dcm#0000"][plane]) == pytest.approx(float(rows["still.png"][plane]), abs=1e-5)
    for suffix in ("dcm", "tif"):
        frames = frames_of(tmp_path / "out", f"cine.{suffix}")
        alone = np.array([[float(row[f"{name} (frame)"]) for name in NAMES] for row in frames])
        smooth = np.array([[float(row[name]) for name in NAMES] for row in frames])
        np.testing.assert_allclose(
            alone, [[float(rows[name][plane]) for plane in NAMES] for name in singles], atol=2e-6
        )
        np.testing.assert_allclose(smooth[5], alone[4:7].mean(axis=0), atol=2e-6)
        assert [row["seconds"] for row in frames[:2]] == ["0.000", "0.100"]
        summary = json.loads((tmp_path / "out" / f"cine.{suffix}.json").read_text(encoding="utf-8"))
        assert summary["best_frames"]
        assert "Non-standard" not in summary["best_frames"]
        for plane, best in summary["best_frames"].items():
            assert smooth[best["frame"], NAMES.index(plane)] == pytest.approx(smooth[:, NAMES.index(plane)].max())
        with Image.open(tmp_path / "out" / f"cine.{suffix}_timeline.png") as picture:
            assert picture.width > 500
    assert not list((tmp_path / "out").glob("still*"))


def test_a_video_is_a_clip(clip: list[np.ndarray], plane_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    (tmp_path / "in").mkdir()
    save_video(tmp_path / "in/cine.mkv", clip)
    infer(tmp_path / "in/cine.mkv", tmp_path / "out", plane_weights, frames=True)
    assert [int(row["frame"]) for row in frames_of(tmp_path / "out", "cine.mkv")] == list(range(len(clip)))


def break_frame(path: Path, clip: list[np.ndarray], broken: int) -> None:
    """Write a compressed clip of which one frame cannot be decoded."""
    dataset = dicom(np.stack(clip), frames=len(clip))
    dataset.compress(RLELossless)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=len(clip)))
    frames[broken] = b"\x01" * 64
    dataset.PixelData = encapsulate(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write_bad(folder: Path, clip: list[np.ndarray]) -> dict[str, str]:
    """Write what goes wrong, and good pictures beside it; return what is said of each bad one."""
    save(folder / "good.png", GREY)
    whole = save(folder / "zz_good.png", draw_frame("Abdominal", seed=2)).read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")
    (folder / "empty.jpg").touch()
    (folder / "empty_clip.dcm").touch()
    save(folder / "black.png", np.zeros((96, 128), np.uint8))
    save(folder / "flat.png", np.full((96, 128), 77, np.uint8))
    save(folder / "dot.png", np.arange(100, dtype=np.uint8).reshape(10, 10))
    break_frame(folder / "broken.dcm", clip, broken=5)
    (folder / "notes.txt").write_text("ignored")
    return {
        "cut.png": "the file is cut short or damaged",
        "text.png": "not a picture, or its header is damaged",
        "empty.jpg": "the file is empty",
        "empty_clip.dcm": "damaged, or no DICOM file",
        "black.png": "a black picture",
        "flat.png": "every pixel has about the value 77",
        "dot.png": "10 x 10 pixels; expected at least 32 x 32",
        "broken.dcm#0005": "frame 5 cannot be decoded",
    }


def test_bad_pictures_get_a_line_each_and_the_good_ones_are_done(
    clip: list[np.ndarray], plane_weights: Path, tmp_path: Path
) -> None:
    expected = write_bad(tmp_path / "in", clip)
    options = {**TINY, "dataset_dir": "in", "output_dir": "out", "checkpoint": str(plane_weights), "frames": "true"}
    run = run_command("inference", cwd=tmp_path, **options)
    lines = (run.stdout + run.stderr).splitlines()
    assert run.returncode == 1, run.stderr[-2000:]
    assert "Traceback" not in run.stdout + run.stderr
    for case, reason in expected.items():
        errors = [
            line for line in lines if " - ERROR - " in line and re.search(rf" {case}: .*{re.escape(reason)}", line)
        ]
        assert len(errors) == 1, f"{case}: {reason}\n" + "\n".join(line for line in lines if case in line)
        assert str(tmp_path) not in errors[0]
    good = ["good.png", "zz_good.png", *(f"broken.dcm#{i:04d}" for i in range(len(clip)) if i != 5)]
    assert sorted(predictions(tmp_path / "out")) == sorted(good)
    assert {item["image"] for item in report(tmp_path / "out")["failures"]} == set(expected)
    assert lines[-1].startswith(f"error: {len(expected)} of {len(expected) + len(good)} cases failed: ")
    frames = frames_of(tmp_path / "out", "broken.dcm")
    assert [row["frame"] for row in frames if not row["prediction"]] == ["5"]
    assert len(frames) == len(clip)
    assert "Secret" not in (tmp_path / "out/predictions.json").read_text(encoding="utf-8") + run.stdout + run.stderr


NOTHING_TO_READ = [
    pytest.param("nowhere", "no such file or folder", id="missing"),
    pytest.param("empty", "no picture in it", id="empty"),
    pytest.param("a_file.txt", "not a picture", id="not an image"),
]


@pytest.mark.parametrize(("name", "message"), NOTHING_TO_READ)
def test_a_dataset_without_pictures_is_one_line(name: str, message: str, plane_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a_file.txt").write_text("text")
    with pytest.raises(SystemExit, match=rf"^error: dataset_dir '{name}': {message}[^\n]*$"):
        infer(tmp_path / name, tmp_path / "out", plane_weights)


def _missing(path: Path) -> None:
    """No file."""


def _text(path: Path) -> None:
    path.write_text("not a checkpoint")


def _of_fewer_classes(path: Path) -> None:
    start_weights(path, out_channels=6)


def _of_another_aggregation(path: Path) -> None:
    start_weights(path, aggregation="mean")


BAD_WEIGHTS = [
    (_missing, r"checkpoint weights.pt was not found in the folder '"),
    (_text, r"checkpoint weights.pt is corrupt or none"),
    (
        _of_fewer_classes,
        r"checkpoint weights.pt belongs to another network: 0 parameters are missing, 0 unknown and \d+",
    ),
    (_of_another_aggregation, r"checkpoint weights.pt belongs to another network: 2 parameters are missing"),
]


@pytest.mark.parametrize(("write", "message"), BAD_WEIGHTS, ids=[write.__name__ for write, _ in BAD_WEIGHTS])
def test_a_bad_checkpoint_is_one_line(
    write: Callable[[Path], None], message: str, pictures: Path, tmp_path: Path
) -> None:
    write(tmp_path / "weights.pt")
    with pytest.raises(SystemExit, match=rf"^error: {message}[^\n]*$"):
        infer(pictures / "grey.png", tmp_path / "out", tmp_path / "weights.pt")
    assert files_of(tmp_path / "out") == []


def test_pictures_without_matplotlib_are_refused_before_the_work(
    pictures: Path, plane_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit, match=r"^error: pictures need matplotlib: pip install"):
        infer(pictures / "grey.png", tmp_path, plane_weights, frames=True)
    infer(pictures / "grey.png", tmp_path, plane_weights)  # which draws nothing
    assert len(predictions(tmp_path)) == 1


def test_batches_and_workers_change_nothing(pictures: Path, results: Path, plane_weights: Path, tmp_path: Path) -> None:
    infer(pictures, tmp_path, plane_weights, batch_size=3, num_workers=2)
    for name, row in predictions(tmp_path).items():
        for plane in NAMES:
            assert float(row[plane]) == pytest.approx(float(predictions(results)[name][plane]), abs=1e-5)


def test_other_classes_are_named_by_their_overlay(pictures: Path, tmp_path: Path) -> None:
    weights = start_weights(tmp_path / "six.pt", out_channels=6)
    infer(pictures / "grey.png", tmp_path / "out", weights, "fetal_planes_db", frames=True)
    classes = ["Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax", "Maternal cervix", "Other"]
    assert report(tmp_path / "out")["classes"] == classes


def test_a_network_without_gates_has_its_activation_map(pictures: Path, tmp_path: Path) -> None:
    network = SonoNet(2, 1, 14, filters=4)
    torch.save(network.state_dict(), tmp_path / "sononet.pt")
    definition = {"_target_": "ag_networks.nets.SonoNet", "spatial_dims": 2, "in_channels": 1, "out_channels": 14}
    overrides = {key: value for key, value in TINY.items() if not key.startswith("network_def")}
    made = workflow(
        "inference",
        **{**overrides, "network_def": {**definition, "filters": 4}, "save_attention": True},
        dataset_dir=str(pictures / "grey.png"),
        output_dir=str(tmp_path / "out"),
        checkpoint=str(tmp_path / "sononet.pt"),
    )
    made.run()
    with np.load(tmp_path / "out/grey.png_attention.npz") as maps:
        assert sorted(maps) == ["AG-all", "CAM"]


@pytest.mark.data
def test_the_shipped_model_names_the_example_frames(data_root: Path, tmp_path: Path) -> None:
    """The 13 frames of the SonoNet authors, none of which it was trained on."""
    overrides = {key: value for key, value in TINY.items() if key in ("bundle_root", "device")}
    folder = data_root / "fetal_planes/sononet_examples"
    made = workflow("inference", **overrides, dataset_dir=str(folder), output_dir=str(tmp_path))
    made.run()
    simple = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in NAMES}
    simple |= {"spinecoronal": "Spine (cor.)", "spinesagittal": "Spine (sag.)"}
    expected = {path.name: simple[re.sub(r"[^a-z0-9]", "", path.stem.lower())] for path in folder.iterdir()}
    rows = predictions(tmp_path)
    assert len(rows) == 13
    assert {name: row["prediction"] for name, row in rows.items()} == expected
