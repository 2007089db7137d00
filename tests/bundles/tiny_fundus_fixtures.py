"""Drawn photographs and weights for the tests of the fundus bundle; a plugin as `tiny_fixtures` is."""

from pathlib import Path

import pytest
import torch
from network_helpers import as_if_trained
from tiny_fundus import SIZE, draw_dataset, tiny_network


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset folder: photographs of three grades, two of each to train on, and their datalist."""
    return draw_dataset(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def fundus_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of the tiny network with random numbers, none of which is without effect."""
    generator = torch.random.get_rng_state()
    torch.manual_seed(1)
    network = as_if_trained(tiny_network(), torch.float32)
    with torch.no_grad():
        network.attention.map.copy_(torch.rand(1, 1, *SIZE))
        scores = network(torch.randn(4, 3, *SIZE))
        network.backbone.fc.weight /= scores.std()  # else every prediction is sure
    path = tmp_path_factory.mktemp("fundus_weights") / "tiny.pt"
    torch.save(network.state_dict(), path)
    torch.random.set_rng_state(generator)
    return path
