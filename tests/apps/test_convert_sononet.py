"""Released SonoNet weights, made up here, become a checkpoint for whitened frames."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from ag_networks.apps.convert_sononet import convert
from ag_networks.handlers import load_weights
from ag_networks.interop import load_sononet
from ag_networks.nets import SonoNet


def released(path: Path) -> Path:
    """A file like the authors' with four filters and three classes."""
    rng = np.random.default_rng(0)
    widths = [1, 4, 4, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32, 32]
    shapes = [(o, i, 3, 3) for i, o in pairwise(widths)] + [(16, 32, 1, 1), (3, 16, 1, 1)]
    arrays = []
    for shape in shapes:
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        arrays.append(rng.normal(0, scale, shape))
        arrays += [rng.normal(0, 0.1, shape[0]), rng.uniform(0.5, 1.5, shape[0]), rng.normal(0, 0.1, shape[0])]
        arrays.append(rng.uniform(0.5, 1.5, shape[0]))
    np.savez(path, *[array.astype(np.float32) for array in arrays])
    return path


def test_whitened_frames_get_the_authors_predictions(tmp_path: Path) -> None:
    source = released(tmp_path / "SonoNet4.npz")
    convert(source, tmp_path / "sononet.pt")
    network = SonoNet(
        2, 1, 3, filters=4, convolutions=(2, 2, 3, 3, 3), bias=False, norm=("batch", {"eps": 1e-4})
    ).eval()
    load_weights(network, tmp_path / "sononet.pt")
    frame = torch.randn(2, 1, 48, 64)
    expected = load_sononet(source)(255 * frame)
    assert torch.allclose(network(frame), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(load_sononet(source)(frame), expected, rtol=1e-2)


def test_a_file_that_is_none_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "SonoNet16.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"SonoNet16\.npz"):
        convert(tmp_path / "SonoNet16.npz", tmp_path / "out.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["SonoNet16.npz"]
