"""A global map as a picture, and over every picture where cropping, mirroring and resizing have put it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Flipd, LoadImaged, Resized, SpatialCropd
from PIL import Image

from ag_networks.blocks import GlobalSpatialAttention
from ag_networks.data import PictureReader
from ag_networks.visualize import GlobalMapWriter, global_map, save_attention_map
from ag_networks.visualize.frame_figure import FrameMaps

pytestmark = pytest.mark.usefixtures("_coarse_pictures")

GRID = (8, 12)
NAMES = {"0": "healthy", "1": "glaucoma"}


def picture(folder: Path, name: str = "a.png", *, flip: bool = False) -> dict[str, Any]:
    """Write a picture of 60 x 80, and return it as the network sees it: rows 10 to 50, columns 20 to 80, at 8 x 12."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    chain = [
        LoadImaged("image", reader=PictureReader, channels=3),
        SpatialCropd("image", roi_start=(10, 20), roi_end=(50, 80)),
        *([Flipd("image", 1)] if flip else []),
        Resized("image", GRID, mode="area"),
    ]
    return {"case": str(Path(name).with_suffix("")), "image": Compose(chain)({"image": str(path)})["image"]}


def attention(values: torch.Tensor) -> GlobalSpatialAttention:
    made = GlobalSpatialAttention(tuple(values.shape))
    made.map.copy_(values)
    return made


def left_side() -> torch.Tensor:
    """0.75 in the left third, 0.25 elsewhere."""
    values = torch.full(GRID, 0.25)
    values[:, :4] = 0.75
    return values


def engine(items: list[dict[str, Any]], scores: list[list[float]]) -> Any:
    output = [{"image": item["image"], "pred": torch.tensor(row)} for item, row in zip(items, scores, strict=True)]
    return SimpleNamespace(state=SimpleNamespace(batch=items, output=output))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, FrameMaps, dict[str, Any]]]:
    """Return the figures that would be written."""
    figures: list[tuple[Path, FrameMaps, dict[str, Any]]] = []

    def keep(path: Path, rows: list[FrameMaps], **options: Any) -> None:
        (row,) = rows
        figures.append((path, row, options))

    monkeypatch.setattr(global_map, "save_frame_figure", keep)
    return figures


def test_dark_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[Any] = []
    save = global_map.save_page
    monkeypatch.setattr(global_map, "save_page", lambda page, path: (pages.append(page), save(page, path)))
    values = left_side()
    save_attention_map(tmp_path / "out" / "map.png", values, title="weights")
    (text,) = pages[0].texts
    assert text.get_text() == f"weights: 0.250 to 0.750, mean {values.mean():.3f}"
    np.testing.assert_array_equal(pages[0].axes[0].images[0].get_array(), values)
    page = np.asarray(Image.open(tmp_path / "out" / "map.png").convert("L")).astype(int)
    row = page[page.shape[0] * 2 // 3, : int(page.shape[1] * 0.78)]
    inside = row[12:-12]  # within the frame of the axes
    assert inside[: len(inside) // 4].max() < 30
    assert inside[len(inside) // 2 :].min() > 225
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["map.png"]


@pytest.mark.parametrize(
    "values", [torch.ones(4, 6), torch.zeros(1, 1), torch.rand(30, 7)], ids=["ones", "one", "tall"]
)
def test_any_map_is_drawn(values: torch.Tensor, tmp_path: Path) -> None:
    save_attention_map(tmp_path / "map.png", values)
    assert Image.open(tmp_path / "map.png").format == "PNG"


@pytest.mark.parametrize("shape", [(1, 4, 4), (4,), (0, 4)], ids=str)
def test_another_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a map \(H, W\), got shape \("):
        save_attention_map(tmp_path / "map.png", torch.zeros(shape))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("flip", "columns"), [(False, (20, 40)), (True, (60, 80))], ids=["left eye", "right eye"])
def test_the_map_lies_on_the_picture_where_the_network_saw_it(
    flip: bool, columns: tuple[int, int], tmp_path: Path, drawn: list[Any]
) -> None:
    writer = GlobalMapWriter(tmp_path / "out", NAMES, attention(left_side()))
    writer(engine([picture(tmp_path, flip=flip)], [[0.0, 1.0]]))
    ((path, row, options),) = drawn
    assert path == tmp_path / "out" / "a_attention.png"
    np.testing.assert_array_equal(row.image, np.asarray(Image.open(tmp_path / "a.png")))
    (seen,) = row.maps.values()
    assert np.asarray(seen).shape == (60, 80)
    assert not np.asarray(seen)[:10].any()
    assert not np.asarray(seen)[50:].any()
    assert not np.asarray(seen)[:, :20].any()
    bright = np.asarray(seen) > 0.5
    assert bright[10:50, columns[0] + 3 : columns[1] - 3].all()
    bright[:, columns[0] - 3 : columns[1] + 3] = False
    assert not bright.any()
    assert options["title"] == "a"
    assert "the same for every image" in options["note"]


@pytest.mark.parametrize(
    ("softmax", "scores", "label"),
    [(True, [0.0, 2.0], "glaucoma 0.88"), (False, [0.6, 0.4], "healthy 0.60")],
    ids=["logits", "probabilities"],
)
@pytest.mark.parametrize("names", [NAMES, {0: "healthy", 1: "glaucoma"}, list(NAMES.values())], ids=type)
def test_the_row_says_what_was_predicted(
    names: Any, softmax: bool, scores: list[float], label: str, tmp_path: Path, drawn: list[Any]
) -> None:
    writer = GlobalMapWriter(tmp_path, names, attention(left_side()), softmax=softmax)
    writer(engine([picture(tmp_path)], [scores]))
    assert drawn[0][1].label == label


def test_the_map_itself_is_written_once(tmp_path: Path, drawn: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Path] = []
    save = save_attention_map
    monkeypatch.setattr(global_map, "save_attention_map", lambda path, values: (saved.append(path), save(path, values)))
    values = torch.rand(GRID)
    writer = GlobalMapWriter(tmp_path / "out", NAMES, attention(values))
    items = [picture(tmp_path, name) for name in ("a.png", "sub/b.png", "sub/c.png")]
    writer(engine(items[:2], [[0.0, 1.0], [1.0, 0.0]]))
    writer(engine(items[2:], [[0.0, 1.0]]))
    assert saved == [tmp_path / "out" / "attention_map.png"]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "attention_map.npy"), values.numpy())
    names = [figure[0].relative_to(tmp_path / "out").as_posix() for figure in drawn]
    assert names == ["a_attention.png", "sub/b_attention.png", "sub/c_attention.png"]
    assert all(figure[0].parent.is_dir() for figure in drawn)


@pytest.mark.parametrize("values", [left_side(), torch.ones(GRID)], ids=["a map", "ones"])
def test_the_figure_is_a_file(values: torch.Tensor, tmp_path: Path) -> None:
    GlobalMapWriter(tmp_path / "out", NAMES, attention(values))(engine([picture(tmp_path)], [[0.0, 1.0]]))
    assert Image.open(tmp_path / "out" / "a_attention.png").size[0] > 100
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_attention.png",
        "attention_map.npy",
        "attention_map.png",
    ]
