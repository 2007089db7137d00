"""SonoNet: counts, layout, sizes, class maps, and the layers written out one after the other."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from network_helpers import as_if_trained
from torch import nn

from ag_networks.nets import SonoNet
from ag_networks.nets.sononet import sononet_channels

DIMS = pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
AUTHORS = (2, 2, 3, 3, 3)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("filters", "convolutions", "bias", "parameters"),
    [
        (8, (3, 3, 3, 2, 2), True, 162_954),
        (16, (3, 3, 3, 2, 2), True, 647_914),
        (32, (3, 3, 3, 2, 2), True, 2_583_978),
        (64, (3, 3, 3, 2, 2), True, 10_320_682),
        (8, AUTHORS, True, 234_114),
        (16, AUTHORS, True, 931_930),
        (32, AUTHORS, True, 3_718_794),
        (64, AUTHORS, True, 14_857_450),
        (16, AUTHORS, False, 930_796),
        (32, AUTHORS, False, 3_716_540),
        (64, AUTHORS, False, 14_852_956),
    ],
)
def test_parameters_are_as_published(filters: int, convolutions: Sequence[int], bias: bool, parameters: int) -> None:
    with torch.device("meta"):
        network = SonoNet(2, 1, 14, filters=filters, convolutions=convolutions, bias=bias)
    assert count(network) == parameters


def layer(state: dict[str, torch.Tensor], name: str, x: torch.Tensor, eps: float, relu: bool = True) -> torch.Tensor:
    weight, conv = state[f"{name}.conv.weight"], (F.conv2d, F.conv3d)[x.dim() - 4]
    x = conv(x, weight, state.get(f"{name}.conv.bias"), padding=weight.shape[-1] // 2)
    if f"{name}.norm.weight" in state:
        parts = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x, *(state[f"{name}.norm.{part}"] for part in parts), eps=eps)
    return F.relu(x) if relu else x


def plain(state: dict[str, torch.Tensor], x: torch.Tensor, convolutions: Sequence[int], eps: float) -> torch.Tensor:
    """The class maps, one layer after the other."""
    for i, n in enumerate(convolutions):
        if i:
            x = (F.max_pool2d, F.max_pool3d)[x.dim() - 4](x, 2)
        for j in range(n):
            x = layer(state, f"features.stages.{i}.{j}", x, eps)
    return layer(state, "adaptation.1", layer(state, "adaptation.0", x, eps), eps, relu=False)


@DIMS
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"convolutions": AUTHORS, "bias": False, "norm": ("batch", {"eps": 0.25})},
        {"convolutions": (1, 1, 2, 1, 4), "norm": None},
    ],
    ids=["default", "authors", "no norm"],
)
def test_it_equals_its_layers(dims: int, options: dict[str, Any]) -> None:
    network = as_if_trained(SonoNet(dims, 2, 5, filters=4, **options)).eval()
    x = torch.randn(2, 2, *(49, 37, 33)[:dims], dtype=torch.float64)
    eps = 0.25 if "bias" in options else 1e-5
    maps = plain(network.state_dict(), x, options.get("convolutions", (3, 3, 3, 2, 2)), eps)
    torch.testing.assert_close(network(x), maps.flatten(2).mean(2))
    scores, coefficients, shown = network.with_maps(x)
    torch.testing.assert_close((scores, shown), (network(x), maps))
    assert coefficients == []
    assert shown.shape == (2, 5, *(3, 2, 2)[:dims])


@DIMS
def test_every_size_from_16_on_works_and_smaller_ones_are_refused(dims: int) -> None:
    network = SonoNet(dims, 1, 3, filters=2).eval()
    assert [network(torch.rand(1, 1, *[n] * dims)).shape for n in (16, 17, 31)] == [(1, 3)] * 3
    with pytest.raises(ValueError, match=r"at least 16 pixels along every axis, got .*15"):
        network(torch.rand(1, 1, *[40] * (dims - 1), 15))


@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (1, 1, 32, 32, 32), (1, 32, 32)], ids=str)
def test_another_input_is_refused(shape: Sequence[int]) -> None:
    with pytest.raises(ValueError, match=r"expected an input \(N, 1\) with 2 spatial axes"):
        SonoNet(2, 1, 3, filters=2)(torch.rand(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convolutions": (3, 3, 3, 2)}, r"five positive numbers, got \(3, 3, 3, 2\)"),
        ({"convolutions": (3, 3, 0, 2, 2)}, r"five positive numbers, got \(3, 3, 0, 2, 2\)"),
        ({"filters": 0}, "filters must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SonoNet(2, 1, 14, **options)


def test_channels_double_three_times() -> None:
    assert sononet_channels(8) == (8, 16, 32, 64, 64)


def test_it_learns_to_tell_two_patterns_apart() -> None:
    network = SonoNet(2, 1, 2, filters=4)
    stripes = (torch.arange(32) % 4 < 2).float().expand(32, 32)
    x = torch.stack([stripes, stripes.T] * 4)[:, None] + 0.3 * torch.randn(8, 1, 32, 32)
    labels = torch.tensor([0, 1] * 4)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(12):
        optimizer.zero_grad()
        F.cross_entropy(network(x), labels).backward()
        optimizer.step()
    assert torch.equal(network(x).argmax(1), labels)


def test_a_scripted_network_gives_its_maps() -> None:
    network = as_if_trained(SonoNet(2, 1, 3, filters=2), torch.float32).eval()
    scripted: Any = torch.jit.script(network)
    x = torch.rand(1, 1, 33, 40)
    torch.testing.assert_close(scripted.with_maps(x), network.with_maps(x))
