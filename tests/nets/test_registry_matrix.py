"""Every registered network, small, through one matrix: a new network adds its tests by being registered."""

import copy
import io
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_helpers import as_if_trained, gradients, relative_error
from torch import nn

from ag_networks.registry import create_network, list_networks

# What makes the networks small, and a legal and an odd input size; the first pattern that fits a name counts.
CLASSES = 4
SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "*unet*": ({"channels": (4, 7, 10), "gate_options": {"inter_channels": 5}}, (16, 12, 8), (17, 11, 9)),
    "*sononet*": ({"filters": 3, "out_channels": CLASSES}, (48, 32, 32), (49, 33, 34)),
    "learn_to_pay*": (
        {"spatial_size": 32, "channels": (3, 4, 5, 6), "in_channels": 1, "out_channels": CLASSES},
        (32, 32, 32),
        (65, 33, 34),
    ),
    "residual_attention*": (
        {"attention_modules": (1, 0, 2), "channels": (16, 20, 24, 24), "in_channels": 1, "out_channels": CLASSES},
        (96, 96, 32),
        (65, 33, 34),
    ),
}
# the export is slow: one network of a kind without gates and one with them
ONNX = ("unet", "attention_unet", "sononet_8", "attention_sononet_8")
# a score's constant does not change coefficients that are normalized over the grid, nor does the global feature of
# LearnToPayAttentionVGG, which is added at every position
WITHOUT_GRADIENT = {
    "attention_sononet*": ("gates.0.psi.bias", "gates.1.psi.bias"),
    "learn_to_pay*": (
        *("dense.weight", "dense.bias"),
        *(f"last.{i}.{part}" for i in (0, 2) for part in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")),
    ),
}


def build(name: str, dims: int) -> nn.Module:
    """The network, small, as if trained, in evaluation."""
    overrides = next((small for pattern, (small, *_) in SMALL.items() if fnmatch(name, pattern)), None)
    assert overrides is not None, f"say in SMALL how {name} is made small"
    network = as_if_trained(create_network(name, spatial_dims=dims, **overrides), torch.float32)
    if name.startswith("residual_attention"):
        settle(network, image(name, dims))
    return network.eval()


def settle(network: nn.Module, x: torch.Tensor) -> None:
    """Give the batch norms the statistics of these images: without, the maps of a deep network grow and grow."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.momentum = None  # the mean of all batches so far
    with torch.no_grad():
        network.train()(x)


def sizes(name: str, dims: int) -> Iterator[tuple[int, ...]]:
    yield from (size[:dims] for size in next(s for pattern, (_, *s) in SMALL.items() if fnmatch(name, pattern)))


def image(name: str, dims: int, odd: bool = False) -> torch.Tensor:
    return torch.randn(2, 1, *list(sizes(name, dims))[odd])


def is_classifier(name: str) -> bool:
    return "unet" not in name


def tolerance(name: str) -> float:
    """Of float32 results; tens of norms after each other make more of a rounding error."""
    return 1e-3 if name.startswith("residual_attention") else 1e-5


def as_tuple(outputs: Any) -> tuple[torch.Tensor, ...]:
    return (outputs,) if torch.is_tensor(outputs) else tuple(outputs)


def error(actual: Any, expected: Any) -> float:
    """The largest relative error; in training some networks have several outputs."""
    return max(relative_error(a, e) for a, e in zip(as_tuple(actual), as_tuple(expected), strict=True))


def different_networks() -> list[str]:
    """One of the networks that differ in their numbers of channels alone."""
    return list({tuple(build(name, 2).state_dict()): name for name in reversed(list_networks())}.values())


CASES = pytest.mark.parametrize(
    ("name", "dims"), [pytest.param(n, d, id=f"{n} {d}d") for n in list_networks() for d in (2, 3)]
)
DIFFERENT = pytest.mark.parametrize(
    ("name", "dims"), [pytest.param(n, d, id=f"{n} {d}d") for n in different_networks() for d in (2, 3)]
)


@CASES
def test_it_computes_scores_of_every_position_or_image(name: str, dims: int) -> None:
    network = build(name, dims)
    for odd in (False, True):
        x = image(name, dims, odd)
        y = network(x)
        assert y.shape == (2, CLASSES, *(() if is_classifier(name) else x.shape[2:]))
        assert y.isfinite().all()
        assert torch.equal(network(x), y)
        assert y.std() > 1e-3


@CASES
def test_a_sample_does_not_depend_on_the_others(name: str, dims: int) -> None:
    network, x = build(name, dims), image(name, dims)
    assert relative_error(network(x[:1]), network(x)[:1]) < tolerance(name)


@CASES
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_gradient_reaches_every_parameter_and_the_input(name: str, dims: int, training: bool) -> None:
    network, x = build(name, dims).train(training), image(name, dims, odd=True)[:1].requires_grad_()
    dead = next((keys for pattern, keys in WITHOUT_GRADIENT.items() if fnmatch(name, pattern)), ())
    alive = [(key, parameter) for key, parameter in network.named_parameters() if key not in dead]
    names, parameters = zip(("input", x), *alive, strict=True)
    for parameter, gradient in zip(names, gradients(as_tuple(network(x)), parameters), strict=True):
        assert gradient.isfinite().all(), parameter
        assert gradient.abs().max() > 0, parameter


@CASES
def test_a_checkpoint_restores_it(name: str, dims: int) -> None:
    network, x = build(name, dims), image(name, dims)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    restored = build(name, dims)
    assert not torch.equal(restored(x), network(x))
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(restored(x), network(x))


@CASES
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_memory_layout_of_the_input_does_not_matter(name: str, dims: int, training: bool) -> None:
    network, x = build(name, dims).train(training), image(name, dims)
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    x = x.expand(-1, 3, *[-1] * dims)[:, 1:2]  # no layout's own strides
    expected = copy.deepcopy(network)(x.contiguous())
    for strided in (x, x.contiguous(memory_format=layout)):
        assert error(copy.deepcopy(network)(strided), expected) < tolerance(name)
    assert error(network.to(memory_format=layout)(x), expected) < tolerance(name)


@DIFFERENT
def test_torchscript_computes_the_same(name: str, dims: int) -> None:
    network = build(name, dims)
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    scripted = torch.jit.load(file)
    for odd in (False, True):
        x = image(name, dims, odd)[: 2 - odd]  # sizes are not frozen
        assert relative_error(scripted(x), network(x)) < tolerance(name)


@DIFFERENT
def test_torch_export_computes_the_same(name: str, dims: int) -> None:
    network, x = build(name, dims), image(name, dims, odd=True)
    exported = torch.export.export(network, (x,)).module()
    assert relative_error(exported(x), network(x)) < tolerance(name)


@pytest.mark.parametrize(("name", "dims"), [pytest.param(n, d, id=f"{n} {d}d") for n in ONNX for d in (2, 3)])
def test_onnx_computes_the_same(name: str, dims: int, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network, x = build(name, dims), image(name, dims, odd=True)
    program = torch.onnx.export(network, (x,), dynamo=True, verbose=False)
    assert program is not None
    program.save(tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert relative_error(torch.from_numpy(np.asarray(actual)), network(x).detach()) < tolerance(name)
