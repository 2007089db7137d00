"""The SonoNet authors' weights: read from a file of their form, against Lasagne's formulas, and on their frames."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ag_networks.interop import load_sononet

CONVOLUTIONS = (2, 2, 3, 3, 3)
LABELS = ["3VV", "4CH", "Abdominal", "Background", "Brain (Cb.)", "Brain (Tv.)", "Femur", "Kidneys", "Lips", "LVOT"]
LABELS += ["Profile", "RVOT", "Spine (cor.)", "Spine (sag.)"]
Arrays = list[np.ndarray]


def stored(filters: int = 4, classes: int = 3, in_channels: int = 1) -> Arrays:
    """Arrays as the authors store them: kernel, beta, gamma, mean, inverse standard deviation of every layer."""
    rng = np.random.default_rng(0)
    widths = [filters * k for k, n in zip((1, 2, 4, 8, 8), CONVOLUTIONS, strict=True) for _ in range(n)]
    widths += [4 * filters, classes]
    arrays: Arrays = []
    for i, (inn, out) in enumerate(zip([in_channels, *widths], widths, strict=False)):
        kernel = 3 if i < sum(CONVOLUTIONS) else 1
        scale = (2 / (inn * kernel**2)) ** 0.5
        arrays.append(scale * rng.standard_normal((out, inn, kernel, kernel)))
        arrays += [rng.standard_normal(out), rng.standard_normal(out) + 1, rng.standard_normal(out)]
        arrays.append(rng.uniform(0.5, 20.0, out))
    return [array.astype(np.float32) for array in arrays]


def write(path: Path, arrays: Arrays) -> Path:
    np.savez(path, *arrays)
    return path


def lasagne(arrays: Arrays, x: torch.Tensor) -> torch.Tensor:
    """The authors' network, from the arrays as they are."""
    layers = [arrays[i : i + 5] for i in range(0, len(arrays), 5)]
    pooled_before = np.cumsum(CONVOLUTIONS)[:-1]
    for i, layer in enumerate(layers):
        kernel, beta, gamma, mean, inverse = (torch.from_numpy(array).double() for array in layer)
        x = F.max_pool2d(x, 2) if i in pooled_before else x
        x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
        mean, inverse, gamma, beta = (v[:, None, None] for v in (mean, inverse, gamma, beta))
        x = (x - mean) * (gamma * inverse) + beta
        x = x if i == len(layers) - 1 else x.relu()
    return x.mean((2, 3))


@pytest.mark.parametrize(("filters", "classes", "in_channels"), [(4, 3, 1), (6, 14, 3)])
def test_the_network_is_the_authors(filters: int, classes: int, in_channels: int, tmp_path: Path) -> None:
    arrays = stored(filters, classes, in_channels)
    network = load_sononet(write(tmp_path / "SonoNet.npz", arrays))
    assert not network.training
    assert len(network.state_dict()) == 15 * 6  # no biases of convolutions
    assert {m.eps for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-4}
    x = torch.randn(2, in_channels, 49, 36, dtype=torch.float64)
    torch.testing.assert_close(network.double()(x), lasagne(arrays, x), rtol=1e-4, atol=1e-4)


def without_last(arrays: Arrays) -> Arrays:
    return arrays[:-1]


def replaced(index: int, value: Callable[[np.ndarray], Any]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: [value(a) if i == index else a for i, a in enumerate(arrays)]


UNFIT = {
    "one array too few": (without_last, "it holds 74 named arrays; expected arr_0 to arr_74"),
    "another network": (lambda arrays: arrays[:12], "it holds 12 named arrays"),
    "a kernel of another size": (
        replaced(5, lambda a: np.ones((4, 4, 5, 5))),
        r"the conv.weight of layer 2 has the shape \(4, 4, 5, 5\) instead of \(4, 4, 3, 3\)",
    ),
    "a short vector": (replaced(8, lambda a: a[:-1]), r"the norm.running_mean of layer 2 has the shape \(3,\)"),
    "no kernel": (replaced(10, lambda a: a.ravel()), "not every fifth array is a 2D kernel"),
    "not a number": (replaced(6, lambda a: a * np.nan), "the norm.bias of layer 2 has values that it cannot have"),
    "no deviation": (replaced(9, lambda a: a * 1e3), "the norm.running_var of layer 2 has values"),
    "objects": (replaced(3, lambda a: np.array([None])), "damaged|no SonoNet"),
}


@pytest.mark.parametrize(("change", "message"), UNFIT.values(), ids=UNFIT)
def test_other_arrays_are_refused(change: Callable[[Arrays], Arrays], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "other.npz", change(stored()))
    with pytest.raises(ValueError, match=message) as error:
        load_sononet(path)
    assert "other.npz" in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)


def cut(path: Path, share: float) -> None:
    content = write(path, stored()).read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def spoilt(path: Path) -> None:
    content = bytearray(write(path, stored()).read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "SonoNet weights a.npz were not found in the folder '"),
    "empty": (lambda path: path.write_bytes(b""), "SonoNet weights a.npz are damaged or none"),
    "text": (lambda path: path.write_text("hello"), "SonoNet weights a.npz are damaged or none"),
    "cut": (lambda path: cut(path, 0.6), "SonoNet weights a.npz are damaged or none"),
    "cut at its end": (lambda path: cut(path, 0.999), "SonoNet weights a.npz are damaged or none"),
    "spoilt": (spoilt, "SonoNet weights a.npz are damaged or none"),
    "one array": (lambda path: np.save(path.open("wb"), np.ones(3)), "a.npz is no SonoNet .* 0 named arrays"),
    "a checkpoint": (lambda path: torch.save({"a": torch.ones(1)}, path), "a.npz is no SonoNet|are damaged"),
}


@pytest.mark.parametrize(("make", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused(make: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    make(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=message) as error:
        load_sononet(tmp_path / "a.npz")
    assert str(tmp_path) not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.data
def test_the_released_weights_name_the_authors_frames(data_root: Path) -> None:
    folder = data_root / "fetal_planes"
    network = load_sononet(folder / "sononet_weights" / "SonoNet16.npz")
    assert sum(p.numel() for p in network.parameters()) == 930_796
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if "sononet_examples" in row["image"]]
    assert len(rows) == 13
    wrong = {}
    for row in rows:
        frame = Image.open(folder / row["image"]).crop((81, 115, 874, 734)).resize((288, 224), Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.asarray(frame, dtype=np.float32)[..., :3].mean(-1))
        found = LABELS[int(network((255 * (x - x.mean()) / x.std())[None, None]).argmax())]
        plain = re.sub(r"[^A-Z0-9]+", "-", found.upper()).strip("-")  # the table says BRAIN-CB and SPINE-CORONAL
        if not row["label"].startswith(plain):
            wrong[row["image"]] = (found, row["label"])
    assert wrong == {}


@pytest.mark.data
def test_the_undocumented_network_is_refused(data_root: Path) -> None:
    with pytest.raises(ValueError, match=r"SmallNet\.npz is no SonoNet of its authors: it holds 12 named arrays"):
        load_sononet(data_root / "fetal_planes" / "sononet_weights" / "SmallNet.npz")
