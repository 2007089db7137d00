"""What clips show: their places kept beside broken frames, best frames known in advance."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_runs import AsLogits, make_evaluator, picture

from ag_networks.handlers import ClipWriter

NAMES = ["brain", "femur", "other"]
ORDER = [0, 0, 1, 1, 1, 2, 2]  # the class that each frame shows


def frame(clip: str, number: int, shown: int, strength: float = 3.0) -> dict[str, Any]:
    logits = [0.0, 0.0, 0.0]
    logits[shown] = strength
    return picture(f"{clip}#{number:04d}", logits)


def run(folder: Path, data: list[dict[str, Any]], **options: Any) -> None:
    writer = ClipWriter(folder, NAMES, **{"window": 3, **options})
    make_evaluator(data, [writer], batch_size=2, network=AsLogits(3)).run()


def read(folder: Path, clip: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    with (folder / f"{clip}_frames.csv").open(newline="") as file:
        return list(csv.DictReader(file)), json.loads((folder / f"{clip}.json").read_text())


def test_a_clip_is_a_table_and_its_best_frames(tmp_path: Path) -> None:
    data = [frame("sub/a.mp4", number, shown) for number, shown in enumerate(ORDER)]
    run(tmp_path, [picture("single.png", [1.0, 0, 0]), *data], fps=10, left_out=["other"], settings={"weights": "x"})
    rows, report = read(tmp_path, "sub/a.mp4")
    alone = [f"{name} (frame)" for name in NAMES]
    assert list(rows[0]) == ["frame", "seconds", "prediction", "probability", *NAMES, *alone]
    assert [row["prediction"] for row in rows] == [NAMES[shown] for shown in ORDER]
    high = np.exp(3) / (np.exp(3) + 2)
    low = 1 / (np.exp(3) + 2)
    assert float(rows[2]["femur (frame)"]) == pytest.approx(high, abs=1e-6)
    assert float(rows[2]["femur"]) == pytest.approx((low + 2 * high) / 3, abs=1e-6)
    assert rows[3]["seconds"] == "0.300"
    assert set(report["best_frames"]) == {"brain", "femur"}
    assert report["best_frames"]["femur"] == {
        "frame": 3,
        "seconds": 0.3,
        "probability": pytest.approx(high),
        "single_probability": pytest.approx(high),
    }
    assert report["best_frames"]["brain"]["frame"] == 0
    assert [(s["class_name"], s["first"], s["last"]) for s in report["segments"]] == [
        ("brain", 0, 1), ("femur", 2, 4), ("other", 5, 6)
    ]  # fmt: skip
    assert (report["clip"], report["frames"], report["fps"], report["failures"]) == ("sub/a.mp4", 7, 10, [])
    assert report["settings"] == {"weights": "x", "window": 3, "threshold": 0.5, "left_out": ["other"]}
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == [
        "sub/a.mp4.json", "sub/a.mp4_frames.csv"
    ]  # fmt: skip


def test_a_broken_frame_leaves_a_gap_and_shifts_nothing(tmp_path: Path) -> None:
    # of the two frames beside each other at the edge of a gap, the surer one counts
    data = [frame("a", number, shown, 4.0 if number in (2, 4) else 3.0) for number, shown in enumerate(ORDER)]
    for number in (3, 6):
        data[number] = {"case": f"a#{number:04d}", "failure": f"a#{number:04d}: cut short"}
    with pytest.raises(SystemExit, match="2 of 7"):
        run(tmp_path, data)
    rows, report = read(tmp_path, "a")
    assert [row["frame"] for row in rows] == [str(number) for number in range(7)]
    assert rows[3] == {"frame": "3", **dict.fromkeys(list(rows[0])[1:], "")}
    assert [row["prediction"] for row in rows] == ["brain", "brain", "femur", "", "femur", "femur", ""]
    assert report["frames"] == 7
    assert report["failures"] == [{"frame": 3, "reason": "cut short"}, {"frame": 6, "reason": "cut short"}]
    assert [(s["class_name"], s["first"], s["last"]) for s in report["segments"]][1:3] == [
        ("femur", 2, 2), ("femur", 4, 5)
    ]  # fmt: skip


def test_clips_are_apart_and_drawn_with_their_best_frames(tmp_path: Path) -> None:
    calls: list[Any] = []

    def draw(path: Path, probabilities: Any, names: Any, **options: Any) -> None:
        calls.append((path.name, probabilities.shape, options))

    data = [frame("a", number, 0) for number in range(3)] + [frame("b", number, 1) for number in range(5)]
    run(tmp_path, data, draw=draw)
    assert [(name, shape) for name, shape, _ in calls] == [("a_timeline.png", (3, 3)), ("b_timeline.png", (5, 3))]
    options = calls[1][2]
    assert options["best_frames"] == {"femur": 0}
    thumbnail = options["thumbnails"][0]
    assert (thumbnail.shape, thumbnail.dtype) == ((8, 8), np.uint8)
    assert thumbnail[0, 1] == thumbnail.max() == 255  # the logit of the second class
    assert (options["fps"], options["title"]) == (None, "b")
    assert "seconds" not in read(tmp_path, "a")[0][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 4}, "odd number"), ({"fps": 0}, "positive number of frames per second, got 0")],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ClipWriter(tmp_path, NAMES, **options)
