"""Generated data and weights for the tests of the pancreas bundle.

A plugin and no `conftest.py`: `pytest --doctest-modules` imports every file, and cannot tell modules of one name apart.
"""

from pathlib import Path

import pytest
import torch
from network_helpers import as_if_trained
from tiny_pancreas import SHAPE, SPACING_MM, tiny_network, write_datalist

from ag_networks.data import Phantom, make_phantom, write_nifti


@pytest.fixture(scope="session")
def phantoms() -> list[Phantom]:
    """Return three phantoms, whose labels hold all organs."""
    return [make_phantom(seed, spacing=SPACING_MM, shape=SHAPE) for seed in range(3)]


@pytest.fixture(scope="session")
def dataset(phantoms: list[Phantom], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a dataset folder: two cases to train on, one to validate with, and their datalist."""
    folder = tmp_path_factory.mktemp("dataset")
    names = [f"case_{phantom.seed}" for phantom in phantoms]
    for name, phantom in zip(names, phantoms, strict=True):
        write_nifti(phantom, folder, name)
    write_datalist(folder, training=names[:2], validation=names[2:])
    return folder


@pytest.fixture(scope="session")
def weights(phantoms: list[Phantom], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint of the tiny network that finds something in every phantom."""
    generator = torch.random.get_rng_state()
    torch.manual_seed(1)
    network = as_if_trained(tiny_network(), torch.float32)
    torch.random.set_rng_state(generator)
    image = torch.from_numpy(phantoms[0].image).float().clamp(0, 255)[None, None] / 127.5 - 1
    with torch.no_grad():
        background, pancreas = network(image)[0]
        network.fuse.bias[1] -= (pancreas - background).quantile(0.8)
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(network.state_dict(), path)
    return path
