"""The cost is the wrapped loss and the map's L1 norm, while the map is learnt."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from ag_networks.blocks import GlobalSpatialAttention, PixelCNN, PixelWeights
from ag_networks.losses import MapPenaltyLoss

SIZE = (3, 4)


def learning(source: nn.Module | None = None) -> GlobalSpatialAttention:
    attention = GlobalSpatialAttention(SIZE)
    attention.learn(source or PixelCNN(torch.randn(6, *SIZE), hidden_channels=4))
    return attention


@pytest.mark.parametrize("weight", [0.0, 0.01, 3])
@pytest.mark.parametrize(("reduction", "count"), [("mean", 1), ("sum", 12)])
def test_it_is_equation_1(weight: float, reduction: str, count: int) -> None:
    source = PixelCNN(torch.randn(6, *SIZE), hidden_channels=4)
    attention = learning(source)
    loss = MapPenaltyLoss(nn.CrossEntropyLoss(), attention, weight=weight, reduction=reduction)
    labels = torch.tensor([0, 2])
    x = torch.randn(2, 3, *SIZE)
    cost = loss(attention(x).mean((2, 3)), labels)
    probabilities = (x * source()).mean((2, 3)).softmax(1)
    expected = -(probabilities[0, 0].log() + probabilities[1, 2].log()) / 2 + weight * count * source().mean()
    torch.testing.assert_close(cost, expected)
    parameters = tuple(source.parameters())
    torch.testing.assert_close(torch.autograd.grad(cost, parameters), torch.autograd.grad(expected, parameters))


def test_negative_weights_of_pixels_cost_as_positive_ones() -> None:
    source = PixelWeights(SIZE)
    with torch.no_grad():
        source.weight.fill_(-2)
    attention = learning(source)
    loss = MapPenaltyLoss(nn.MSELoss(), attention, weight=5.0)
    zeros = attention(torch.zeros(1, 1, *SIZE))
    cost = loss(zeros, zeros.detach())
    assert cost.item() == 10
    cost.backward()
    torch.testing.assert_close(source.weight.grad, torch.full((1, 1, *SIZE), -5 / 12))


@pytest.mark.parametrize("learnt", [True, False], ids=["frozen after learning", "never learnt"])
def test_a_constant_map_costs_nothing(learnt: bool) -> None:
    attention = learning() if learnt else GlobalSpatialAttention(SIZE)
    x = torch.randn(1, 1, *SIZE)
    attention(x)
    attention.freeze()
    loss = MapPenaltyLoss(nn.MSELoss(), attention, weight=100.0)
    assert loss(attention(x), torch.zeros_like(x)) == (attention.map * x).square().mean()


def test_it_neither_owns_nor_moves_the_network() -> None:
    attention = learning()
    loss = MapPenaltyLoss(nn.CrossEntropyLoss(weight=torch.ones(3)), attention)
    assert not list(loss.parameters())
    assert list(loss.state_dict()) == ["loss.weight"]
    loss.double()
    assert attention.map.dtype == torch.float32
    network, twin = copy.deepcopy((attention, loss))
    network(torch.ones(1, 1, *SIZE))
    assert twin.penalty("mean") > 0, "a copy of both belongs together"
    assert loss.penalty("mean") == 0


@pytest.mark.parametrize(
    "options",
    [{"weight": -0.1}, {"weight": float("nan")}, {"weight": float("inf")}, {"reduction": "none"}],
    ids=str,
)
def test_other_weights_and_reductions_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a weight from 0 and reduction mean or sum"):
        MapPenaltyLoss(nn.MSELoss(), GlobalSpatialAttention(SIZE), **options)


def test_a_network_instead_of_its_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a GlobalSpatialAttention, got a Sequential"):
        MapPenaltyLoss(nn.MSELoss(), nn.Sequential(GlobalSpatialAttention(SIZE)))
