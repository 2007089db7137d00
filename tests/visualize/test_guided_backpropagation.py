"""Guided back-propagation against a network written for it, and boxes of both ways on the real network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from ag_networks.metrics import score_localization
from ag_networks.nets import AttentionGatedSonoNet
from ag_networks.transforms import LocateObject
from ag_networks.visualize import guided_backpropagation, locate_by_guided_backpropagation


class GuidedReLU(torch.autograd.Function):
    """ReLU whose gradient passes where both input and gradient are positive."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return gradient * (gradient > 0) * (x > 0)


def small(inplace: bool) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.ReLU(inplace), nn.Conv2d(4, 4, 3), nn.ReLU(inplace)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("class_index", [None, 0, 2])
def test_it_is_guided(inplace: bool, class_index: int | None) -> None:
    network, image = small(inplace), torch.randn(1, 2, 12, 10)
    x = image.clone().requires_grad_()
    h = GuidedReLU.apply(network[2](GuidedReLU.apply(network[0](x))))
    scores = network[6](h.mean(dim=(2, 3)))[0]
    scores[int(scores.argmax()) if class_index is None else class_index].backward()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = guided_backpropagation(network, image, class_index=class_index)
    torch.testing.assert_close(found, x.grad[0].abs().amax(dim=0))
    assert [type(layer) for layer in network][1] is nn.ReLU
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    plain = image.clone().requires_grad_()
    network(plain)[0].max().backward()
    assert not torch.allclose(found, plain.grad[0].abs().amax(dim=0))


def test_gradients_of_the_network_are_left_alone() -> None:
    network = small(True)
    guided_backpropagation(network, torch.randn(1, 2, 12, 10))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_what_cannot_be_guided_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has no ReLU"):
        guided_backpropagation(nn.Linear(2, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="evaluation mode"):
        guided_backpropagation(small(True).train(), torch.zeros(1, 2, 12, 10))
    with pytest.raises(ValueError, match="one image, got 2"):
        guided_backpropagation(small(True), torch.zeros(2, 2, 12, 10))


@pytest.fixture(scope="module")
def spot_finder() -> AttentionGatedSonoNet:
    """Return a network trained in seconds to tell a bright disc, a striped one, and none apart."""
    torch.manual_seed(0)
    network = AttentionGatedSonoNet(2, 1, 3, filters=4, convolutions=(1, 1, 1, 1, 1)).train()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(60):
        images, labels, _ = frames(12, seed=step)
        losses = [nn.functional.cross_entropy(scores, labels) for scores in network(images)]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    return network.eval()


def frames(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, int, int, int]]]:
    """Return frames (count, 1, 96, 128), labels and the boxes of their discs."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:96, :128]
    images, labels, boxes = [], [], []
    for number in range(count):
        row, column, radius = rng.integers(26, 70), rng.integers(26, 102), rng.integers(14, 22)
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        texture = [np.ones_like(rows), (rows // 3) % 2 * 2, np.zeros_like(rows)][number % 3]
        images.append(disc * texture * 2 + rng.normal(0, 0.3, rows.shape))
        labels.append(number % 3)
        boxes.append((row - radius, column - radius, row + radius + 1, column + radius + 1))
    array = np.array(images, np.float32)[:, None]
    return torch.from_numpy(array), torch.tensor(labels), boxes


def test_both_ways_find_known_objects(spot_finder: AttentionGatedSonoNet) -> None:
    images, labels, boxes = frames(24, seed=1000)
    found: list[tuple[str, tuple[int, ...] | None, tuple[int, ...]]] = []
    with torch.inference_mode():
        scores, coefficients, activation = spot_finder.with_maps(images)
    assert (scores.argmax(dim=1) == labels).float().mean() > 0.9
    for index in [i for i in range(24) if labels[i] != 2]:
        maps = [alpha[index, 0].numpy() for alpha in coefficients]
        maps.append(activation[index, int(scores[index].argmax())].numpy())
        found.append(("maps", LocateObject()(maps, images.shape[2:]).box, boxes[index]))
        image = MetaTensor(images[index : index + 1])
        found.append(("gradient", locate_by_guided_backpropagation(spot_finder, image).box, boxes[index]))
    scores_by_way = score_localization(found)
    assert scores_by_way["maps"].correct > 0.8
    assert scores_by_way["gradient"].correct > 0.8
