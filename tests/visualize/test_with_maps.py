"""Scores and maps come from one pass, under the papers' names."""

import pytest
import torch
from torch import nn

from ag_networks.nets import AttentionGatedSonoNet, SonoNet
from ag_networks.visualize import WithMaps


@pytest.mark.parametrize("aggregation", ["mean", "fine_tune"])
def test_scores_are_those_of_the_network(aggregation: str) -> None:
    network = AttentionGatedSonoNet(2, 1, 5, filters=4, aggregation=aggregation).eval()
    x = torch.rand(2, 1, 64, 48)
    with torch.no_grad():
        result, scores = WithMaps(network).eval()(x), network(x)
        _, coefficients, activation = network.with_maps(x)
    assert list(result) == ["scores", "AG1", "AG2", "CAM"]
    torch.testing.assert_close(result["scores"], scores)
    torch.testing.assert_close([result["AG1"], result["AG2"]], coefficients)
    torch.testing.assert_close(result["CAM"], activation)


def test_the_features_are_computed_once() -> None:
    network = AttentionGatedSonoNet(2, 1, 5, filters=4).eval()
    passes: list[int] = []
    network.features.register_forward_hook(lambda *_: passes.append(1))
    WithMaps(network)(torch.rand(1, 1, 32, 32))
    assert len(passes) == 1


def test_a_network_without_gates_has_its_activation_map() -> None:
    assert list(WithMaps(SonoNet(2, 1, 5, filters=4)).eval()(torch.rand(1, 1, 32, 32))) == ["scores", "CAM"]


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear gives no maps"):
        WithMaps(nn.Linear(2, 2))
