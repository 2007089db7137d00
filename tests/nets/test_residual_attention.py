"""ResidualAttentionNetwork: counts, the module written as a recursion, masks, sizes, refusals."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from network_helpers import as_if_trained
from torch import nn

from ag_networks.nets import ResidualAttentionNetwork
from ag_networks.nets.residual_attention import PreActivationUnit, ResidualAttentionModule

CHANNELS = (8, 8, 12, 16)
DIMS = pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])


def small(dims: int = 2, modules: tuple[int, ...] = (1, 1, 1)) -> ResidualAttentionNetwork:
    return as_if_trained(ResidualAttentionNetwork(dims, 2, 4, attention_modules=modules, channels=CHANNELS)).eval()


# of the implementation that is compared with, whose tests hold these counts for ImageNet's 1000 classes
@pytest.mark.parametrize(
    ("modules", "parameters"),
    [((1, 1, 1), 31_810_728), ((1, 2, 3), 52_466_344), ((2, 3, 4), 65_294_504), ((5, 6, 7), 103_778_984)],
    ids=["56", "92", "128", "236"],
)
def test_parameters_are_as_published(modules: tuple[int, ...], parameters: int) -> None:
    with torch.device("meta"):
        network = ResidualAttentionNetwork(2, 3, 1000, attention_modules=modules)
    assert sum(p.numel() for p in network.parameters()) == parameters


def norm_relu(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    state = norm.state_dict()
    return F.relu(F.batch_norm(x, *(state[k] for k in ("running_mean", "running_var", "weight", "bias"))))


def conv(layer: Any, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
    return (F.conv2d, F.conv3d)[x.dim() - 4](x, layer.weight, stride=stride, padding=layer.weight.shape[-1] // 2)


def unit(module: Any, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
    """A residual unit, one layer after the other."""
    body = module.body
    activated = norm_relu(module.norm_act[0], x)
    y = norm_relu(body[1], conv(body[0], activated))
    y = norm_relu(body[4], conv(body[3], y, stride))
    y = conv(body[6], y)
    return y + (x if module.shortcut is None else conv(module.shortcut, activated, stride))


def hourglass(module: Any, x: torch.Tensor, trunk: torch.Tensor, level: int = 0) -> torch.Tensor:
    """The mask before its last convolutions, as a recursion over the levels."""
    depth, pool = len(module.down), (F.max_pool2d, F.max_pool3d)[x.dim() - 4]
    y = unit(module.down[level], pool(x, 3, 2, 1))
    if level + 1 < depth:
        y = hourglass(module, y, trunk, level + 1)
    mode = ("bilinear", "trilinear")[x.dim() - 4]
    y = F.interpolate(unit(module.up[depth - 1 - level], y), size=x.shape[2:], mode=mode, align_corners=True)
    return y + (x + unit(module.skips[level - 1], x) if level else trunk)


def attention(module: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = unit(module.first, x)
    trunk = unit(module.trunk[1], unit(module.trunk[0], x))
    mask = conv(module.mask[2], norm_relu(module.mask[0], hourglass(module, x, trunk)))
    mask = torch.sigmoid(conv(module.mask[5], norm_relu(module.mask[3], mask)))
    return unit(module.last, trunk + mask * trunk), mask


def plain(network: Any, x: torch.Tensor) -> torch.Tensor:
    pool = (F.max_pool2d, F.max_pool3d)[x.dim() - 4]
    x = pool(norm_relu(network.stem[1], conv(network.stem[0], x, 2)), 3, 2, 1)
    for i, stage in enumerate(network.stages):
        x = unit(stage.unit, x, 2 if i else 1)
        for module in stage.attention:
            assert len(module.down) == 3 - i
            x, _ = attention(module, x)
    x = unit(network.last[2], unit(network.last[1], unit(network.last[0], x, 2)))
    return network.classifier(norm_relu(network.last[3], x).flatten(2).mean(2))


@DIMS
@pytest.mark.parametrize("modules", [(1, 1, 1), (0, 2, 1)])
def test_it_equals_its_layers(dims: int, modules: tuple[int, ...]) -> None:
    network = small(dims, modules)
    x = torch.randn(2, 2, *(65, 48, 33)[:dims], dtype=torch.float64)
    torch.testing.assert_close(network(x), plain(network, x))


@DIMS
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_mask_is_shown_as_its_mean_over_the_channels(dims: int, depth: int) -> None:
    module = as_if_trained(ResidualAttentionModule(dims, 8, depth)).eval()
    x = torch.randn(2, 8, *(9, 6, 7)[:dims], dtype=torch.float64)
    expected, mask = attention(module, x)
    y, shown = module(x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(shown, mask.mean(1, keepdim=True))
    assert 0 < shown.min() < shown.max() < 1


@pytest.mark.parametrize(("bias", "factor"), [(-1e4, 1.0), (0.0, 1.5), (1e4, 2.0)], ids=["closed", "half", "open"])
def test_a_mask_lets_the_features_pass_once_to_twice(bias: float, factor: float) -> None:
    module: Any = as_if_trained(ResidualAttentionModule(2, 8, 2)).eval()
    with torch.no_grad():  # every mask's value is that of the sigmoid at `bias`
        module.mask[5].weight.fill_(bias / 8)
        module.mask[3].weight.zero_()
        module.mask[3].bias.fill_(1.0)
    x = torch.randn(1, 8, 12, 12, dtype=torch.float64)
    trunk = unit(module.trunk[1], unit(module.trunk[0], unit(module.first, x)))
    torch.testing.assert_close(module(x)[0], unit(module.last, factor * trunk))


@DIMS
@pytest.mark.parametrize(("channels", "stride", "shortcut"), [((8, 8), 1, False), ((4, 8), 1, True), ((8, 8), 2, True)])
def test_a_unit_has_a_shortcut_where_its_shape_changes(
    dims: int, channels: tuple[int, int], stride: int, shortcut: bool
) -> None:
    module = as_if_trained(PreActivationUnit(dims, *channels, stride=stride)).eval()
    assert (module.shortcut is not None) == shortcut
    x = torch.randn(2, channels[0], *(7, 6, 5)[:dims], dtype=torch.float64)
    y = module(x)
    assert y.shape[2:] == tuple(-(-n // stride) for n in x.shape[2:])
    torch.testing.assert_close(y, unit(module, x, stride))


@pytest.mark.parametrize("shape", [(32, 32), (33, 97), (112, 64)])
def test_any_size_is_classified(shape: tuple[int, int]) -> None:
    y = small()(torch.randn(1, 2, *shape, dtype=torch.float64))
    assert y.shape == (1, 4)
    assert y.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention_modules": (1, 1)}, r"attention_modules must be three numbers from 0 on, got \(1, 1\)"),
        ({"attention_modules": (1, 1, -1)}, "attention_modules must be three numbers from 0 on"),
        ({"channels": (8, 8, 8)}, r"channels must be four multiples of four, got \(8, 8, 8\)"),
        ({"channels": (8, 8, 8, 10)}, "channels must be four multiples of four"),
        ({"channels": (0, 8, 8, 8)}, "channels must be four multiples of four"),
    ],
    ids=["two", "negative", "three", "ten", "none"],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualAttentionNetwork(2, 3, 5, **options)


def test_a_small_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 32 pixels along every axis, got .*31"):
        small()(torch.zeros(1, 2, 31, 64, dtype=torch.float64))
