"""Drawn frames and weights for the tests of the fetal plane bundle; a plugin as `tiny_fixtures` is."""

from pathlib import Path

import pytest
import torch
from network_helpers import as_if_trained
from tiny_planes import draw_dataset, tiny_network


@pytest.fixture(scope="session")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset folder: frames of three planes, two of each to train on, and their datalist."""
    return draw_dataset(tmp_path_factory.mktemp("planes"))


@pytest.fixture(scope="session")
def plane_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of the tiny network with random numbers, none of which is without effect."""
    generator = torch.random.get_rng_state()
    torch.manual_seed(1)
    network = as_if_trained(tiny_network(), torch.float32)
    with torch.no_grad():
        scores = network(torch.randn(4, 1, 56, 72))
        network.joint.weight /= scores.std()  # else every prediction is sure
    path = tmp_path_factory.mktemp("plane_weights") / "tiny.pt"
    torch.save(network.state_dict(), path)
    torch.random.set_rng_state(generator)
    return path
