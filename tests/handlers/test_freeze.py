"""Frozen parts do not change in training; the others do."""

import pytest
import torch

from ag_networks.handlers import freeze
from ag_networks.nets import SonoNet


def test_a_training_step_changes_only_what_is_not_frozen() -> None:
    network = SonoNet(2, 1, 3, filters=2)
    freeze(network, ["features"])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.1)
    network.train()(torch.randn(2, 1, 32, 32)).square().sum().backward()
    optimizer.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert {key.split(".")[0] for key in changed} == {"adaptation"}
    assert any("running_mean" in key for key in changed)


def test_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no part 'gates' to freeze; it has features, adaptation"):
        freeze(SonoNet(2, 1, 3, filters=2), ["gates"])
