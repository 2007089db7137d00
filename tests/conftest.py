"""What every test starts from: the same random numbers, no display, and a reason where a test cannot run here."""

import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# start-up code of another environment: collected, it would put its folder on the path of every process
collect_ignore_glob = ["label/without_torchvision_ops/*"]

os.environ.setdefault("MPLBACKEND", "Agg")

# the scripts' own modules, and the tiny bundles, are imported by tests of other folders
TESTS = Path(__file__).resolve().parent
sys.path += [str(TESTS.parent / "benchmarks"), str(TESTS / "bundles")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why."""
    for item in items:
        if item.get_closest_marker("data") and not os.environ.get("AG_NETWORKS_DATA"):
            item.add_marker(pytest.mark.skip(reason="AG_NETWORKS_DATA is not set"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give every test the same random numbers, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of the real data; for tests marked `data`."""
    root = Path(os.environ["AG_NETWORKS_DATA"])
    if not root.is_dir():
        raise NotADirectoryError(f"AG_NETWORKS_DATA names no folder: {root}")
    return root
