"""Convolution blocks: the folded, the unrolled and the split forms equal the plain layers."""

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from network_helpers import as_if_trained, gradients
from torch import nn

from ag_networks.blocks import ConvBlock, ConvNormAct, GatingSignal, UpBlock, UpConvNormAct
from ag_networks.blocks.convolution import fast_layout, per_axis, resize

DIMS = pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
MODE = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
GRID = (5, 7, 6)


def plain(block: Any, y: torch.Tensor) -> torch.Tensor:
    """Convolution, normalization and activation of a block, one layer after the other."""
    conv = F.conv3d if y.dim() == 5 else F.conv2d
    padding = [k // 2 for k in block.conv.kernel_size]
    return block.act(block.norm(conv(y, block.conv.weight, block.conv.bias, padding=padding)))


LAYERS: dict[str, dict[str, Any]] = {
    "default": {},
    "1x1": {"kernel_size": 1},
    "5x5": {"kernel_size": 5},
    "no activation": {"act": None},
    "leaky": {"act": ("leakyrelu", {"negative_slope": 0.3})},
    "no norm": {"norm": None},
    "no bias": {"bias": False},
    "neither": {"bias": False, "norm": None},
    "instance norm": {"norm": "instance"},
    "group norm": {"norm": ("group", {"num_groups": 2})},
    "batch norm without parameters": {"norm": ("batch", {"affine": False})},
    "batch norm with a large eps": {"norm": ("batch", {"eps": 0.5})},
    "batch norm of the batch only": {"norm": ("batch", {"track_running_stats": False})},
}


@DIMS
@MODE
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("in_channels", [1, 3], ids=["one channel", "three channels"])
def test_it_equals_the_three_layers(dims: int, training: bool, layers: dict[str, Any], in_channels: int) -> None:
    block = as_if_trained(ConvNormAct(dims, in_channels, 4, **layers)).train(training)
    reference = copy.deepcopy(block)
    x = torch.randn(2, in_channels, *GRID[:dims], dtype=torch.float64, requires_grad=True)
    y, expected = block(x), plain(reference, x)
    torch.testing.assert_close(y, expected)
    ours = gradients((y,), (x, *block.parameters()))
    torch.testing.assert_close(ours, gradients((expected,), (x, *reference.parameters())))
    torch.testing.assert_close(dict(block.named_buffers()), dict(reference.named_buffers()))


def test_a_convolution_without_bias_has_no_such_parameter() -> None:
    assert [name for name, _ in ConvNormAct(2, 1, 4, bias=False).named_parameters()] == [
        *("conv.weight", "norm.weight", "norm.bias")
    ]


@MODE
@pytest.mark.parametrize("kernel", [(3, 3, 1), (1, 3, 3), (1, 1, 3), (3, 1, 5)], ids=str)
def test_a_one_channel_convolution_has_any_kernel(training: bool, kernel: tuple[int, ...]) -> None:
    block = as_if_trained(ConvNormAct(3, 1, 4, kernel_size=kernel)).train(training)
    x = torch.randn(2, 1, *GRID, dtype=torch.float64)
    torch.testing.assert_close(block(x), plain(copy.deepcopy(block), x))


@DIMS
@MODE
@pytest.mark.parametrize("align_corners", [False, True], ids=["centers", "corners"])
@pytest.mark.parametrize("layers", [{}, {"norm": "instance"}, {"kernel_size": 1, "norm": None}], ids=str)
def test_merging_equals_the_layers_on_the_concatenation(
    dims: int, training: bool, align_corners: bool, layers: dict[str, Any]
) -> None:
    block = as_if_trained(UpConvNormAct(dims, 3, 2, 4, align_corners=align_corners, **layers)).train(training)
    x = torch.randn(2, 2, *[n // 2 for n in GRID[:dims]], dtype=torch.float64, requires_grad=True)
    skip = torch.randn(2, 3, *GRID[:dims], dtype=torch.float64, requires_grad=True)
    reference = copy.deepcopy(block)
    mode = "trilinear" if dims == 3 else "bilinear"
    up = F.interpolate(x, GRID[:dims], mode=mode, align_corners=align_corners)
    expected = plain(reference, torch.cat([skip, up], dim=1))
    y = block(x, skip)
    torch.testing.assert_close(y, expected)
    ours = gradients((y,), (x, skip, *block.parameters()))
    torch.testing.assert_close(ours, gradients((expected,), (x, skip, *reference.parameters())))


@MODE
def test_blocks_are_two_layers(training: bool) -> None:
    block, up = as_if_trained(ConvBlock(2, 2, 3)), as_if_trained(UpBlock(2, 3, 4, 5, align_corners=True))
    x, coarse = torch.randn(2, 2, 6, 8, dtype=torch.float64), torch.randn(2, 4, 3, 4, dtype=torch.float64)
    skip = block.train(training)(x)
    torch.testing.assert_close(skip, plain(block.conv2, plain(block.conv1, x)))
    fine = F.interpolate(coarse, (6, 8), mode="bilinear", align_corners=True)
    expected = plain(up.train(training).conv2, plain(up.conv1, torch.cat([skip, fine], dim=1)))
    torch.testing.assert_close(up(skip, coarse), expected)


@DIMS
def test_a_gating_signal_is_a_1x1_layer(dims: int) -> None:
    signal = as_if_trained(GatingSignal(dims, 6, 4)).eval()
    assert tuple(signal.conv.weight.shape) == (4, 6, *[1] * dims)
    x = torch.randn(2, 6, *GRID[:dims], dtype=torch.float64)
    torch.testing.assert_close(signal(x), plain(signal, x))


@DIMS
@pytest.mark.parametrize(
    "make", [ConvBlock, lambda *a, **k: UpBlock(a[0], 2, *a[1:], **k)], ids=["ConvBlock", "UpBlock"]
)
def test_dropout_acts_in_training_only(dims: int, make: Callable[..., nn.Module]) -> None:
    block = make(dims, 2, 8, dropout=0.5)
    x = torch.rand(2, 2, *[4] * dims)
    inputs = (x,) if isinstance(block, ConvBlock) else (x, x)
    dropped = [(block.dropout(torch.ones(1, 64, *[2] * dims)) == 0).flatten(2) for _ in range(2)]
    assert dropped[0].any()
    assert not dropped[0].all()
    assert torch.equal(dropped[0].any(dim=2), dropped[0].all(dim=2))  # whole channels
    assert not torch.equal(block(*inputs), block(*inputs))
    block.eval()
    torch.testing.assert_close(block(*inputs), block(*inputs), rtol=0, atol=0)


def test_evaluation_does_not_change_the_parameters() -> None:
    block = as_if_trained(ConvNormAct(2, 3, 4))
    before = copy.deepcopy(block.state_dict())
    block.eval()(torch.randn(1, 3, 4, 4, dtype=torch.float64))
    torch.testing.assert_close(dict(block.state_dict()), dict(before), rtol=0, atol=0)
    assert list(before) == [
        *("conv.weight", "conv.bias", "norm.weight", "norm.bias"),
        *("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"),
    ]


def test_a_batch_norm_that_is_frozen_or_thawed_alone_counts() -> None:
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    for block_trains, norm_trains in itertools.product([True, False], repeat=2):
        block = as_if_trained(ConvNormAct(2, 3, 4)).train(block_trains)
        block.norm.train(norm_trains)
        torch.testing.assert_close(block(x), plain(copy.deepcopy(block), x))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_a_convolution_without_bias_folds(bias: bool) -> None:
    block = as_if_trained(ConvNormAct(2, 3, 4)).eval()
    if not bias:
        block.conv.bias = None
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x), plain(block, x))


def test_convolutions_start_as_in_the_released_code() -> None:
    weight = ConvNormAct(3, 8, 64).conv.weight
    assert weight.std().item() == pytest.approx((2 / (8 * 27)) ** 0.5, rel=0.05)  # kaiming normal, fan in
    assert ConvNormAct(3, 8, 64).conv.bias.abs().min() > 0  # PyTorch's own


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"kernel_size": 2}, r"kernel_size must be odd on every axis, got \(2, 2\)"),
        ({"kernel_size": (3, 4)}, r"kernel_size must be odd on every axis, got \(3, 4\)"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size must be one positive integer or 2 of them, got \(3, 3, 3\)"),
        ({"kernel_size": 0}, "kernel_size must be one positive integer or 2 of them, got 0"),
    ],
)
@pytest.mark.parametrize("block", [ConvNormAct, ConvBlock])
def test_bad_arguments_are_refused(block: Callable[..., nn.Module], kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **kwargs})


@pytest.mark.parametrize(("value", "expected"), [(2, (2, 2, 2)), ((1, 2, 3), (1, 2, 3)), ([1, 1, 2], (1, 1, 2))])
def test_one_number_stands_for_every_axis(value: int | Sequence[int], expected: tuple[int, ...]) -> None:
    assert per_axis(value, 3, "strides") == expected


def test_resampling_to_the_same_size_does_nothing() -> None:
    x = torch.rand(1, 2, 4, 5)
    assert resize(x, [4, 5], True) is x


@DIMS
def test_the_layout_on_a_cpu_is_channels_last(dims: int) -> None:
    x = torch.rand(1, 3, *GRID[:dims])
    y = fast_layout(x)
    assert torch.equal(x, y)
    assert y.stride(1) == 1
