"""Attention gates: known answers, a functional restatement, the folded form, dtypes and export."""

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from network_helpers import as_if_trained, gradients, relative_error
from torch import nn

from ag_networks.blocks import NORMALIZATIONS, AttentionGate, MultiAttentionGate

DIMS = pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
CORNERS = pytest.mark.parametrize("align_corners", [False, True], ids=["centers", "corners"])
EVERY_NORMALIZATION = pytest.mark.parametrize("normalization", NORMALIZATIONS)
C, CG, CI = 4, 6, 3
FINE = (7, 6, 5)  # odd and even; half of it is (3, 3, 2)
GATING_GRIDS = {"coarser": (2, 2, 2), "equal": (3, 3, 2), "finer": (9, 5, 7)}


def normalized(name: str, score: torch.Tensor) -> torch.Tensor:
    """The published normalizations of a map without constant ones."""
    q = score.reshape(*score.shape[:2], -1)
    shifted = q - q.min(dim=2, keepdim=True).values
    alpha = {
        "sigmoid": lambda: 1 / (1 + (-q).exp()),
        "softmax": lambda: q.exp() / q.exp().sum(dim=2, keepdim=True),
        "shifted_sum": lambda: shifted / shifted.sum(dim=2, keepdim=True),
        "sum": lambda: q / q.sum(dim=2, keepdim=True),
        "range": lambda: shifted / shifted.max(dim=2, keepdim=True).values,
    }[name]()
    return alpha.reshape(score.shape)


def reference(gate: Any, x: torch.Tensor, g: torch.Tensor, align_corners: bool = False) -> tuple[torch.Tensor, ...]:
    """The gate as published, in plain functions."""
    conv, mode = (F.conv3d, "trilinear") if x.dim() == 5 else (F.conv2d, "bilinear")
    local = conv(x, gate.theta.weight, stride=gate.theta.weight.shape[2:])
    signal = F.interpolate(
        conv(g, gate.phi.weight, gate.phi.bias), local.shape[2:], mode=mode, align_corners=align_corners
    )
    score = conv((local + signal).relu(), gate.psi.weight, gate.psi.bias)
    alpha = F.interpolate(
        normalized(gate.normalization.name, score), x.shape[2:], mode=mode, align_corners=align_corners
    )
    return layers(gate.W, alpha * x), alpha


def fused_reference(multi: Any, x: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The gates one by one, concatenated and fused."""
    features, coefficients = zip(*(reference(gate, x, g) for gate in multi.gates), strict=True)
    return layers(multi.fuse, torch.cat(features, dim=1)), torch.cat(coefficients, dim=1)


def layers(block: Any, x: torch.Tensor) -> torch.Tensor:
    """Layers of a ConvNormAct, none of them folded."""
    if isinstance(block, nn.Identity):
        return x
    return block.act(block.norm(block.conv(x)))


def inputs(dims: int, gating_grid: Sequence[int] = (3, 3, 2), dtype: torch.dtype = torch.float64) -> Any:
    """Skip features and a gating signal."""
    shapes = (2, C, *FINE[:dims]), (2, CG, *gating_grid[:dims])
    return tuple(torch.randn(shape).to(dtype).requires_grad_() for shape in shapes)


@DIMS
@CORNERS
@EVERY_NORMALIZATION
@pytest.mark.parametrize("factor", [1, 2, (2, 1, 3)], ids=["factor 1", "factor 2", "factor per axis"])
def test_it_equals_the_published_gate(
    dims: int, align_corners: bool, normalization: str, factor: int | tuple[int, ...]
) -> None:
    factor = factor if isinstance(factor, int) else factor[:dims]
    gate = AttentionGate(
        dims, C, CG, CI, sub_sample_factor=factor, normalization=normalization, align_corners=align_corners
    )
    gate = as_if_trained(gate)
    with torch.no_grad():  # scores far from a division by zero
        gate.psi.bias.fill_(3.0)
    for grid, training in itertools.product(GATING_GRIDS.values(), [True, False]):
        ours, theirs = gate.train(training), copy.deepcopy(gate)
        x, g = inputs(dims, grid)
        actual, expected = ours(x, g), reference(theirs, x, g, align_corners)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(
            gradients(actual, (x, g, *ours.parameters())),
            gradients(expected, (x, g, *theirs.parameters())),
            atol=1e-9,
            rtol=1e-6,
        )


@DIMS
@pytest.mark.parametrize("num_gates", [1, 2, 3])
@pytest.mark.parametrize(
    "norm",
    ["batch", None, "instance", ("batch", {"affine": False}), ("batch", {"eps": 0.5})],
    ids=["batch norm", "no norm", "instance norm", "batch norm without parameters", "batch norm with a large eps"],
)
def test_several_gates_equal_their_parts(dims: int, num_gates: int, norm: str | tuple | None) -> None:
    gate = as_if_trained(MultiAttentionGate(dims, C, CG, CI, num_gates=num_gates, norm=norm))
    for training in (True, False):
        ours, theirs = gate.train(training), copy.deepcopy(gate)
        x, g = inputs(dims)
        actual, expected = ours(x, g), fused_reference(theirs, x, g)
        assert actual[1].shape == (2, num_gates, *FINE[:dims])
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(
            gradients(actual, (x, g, *ours.parameters())), gradients(expected, (x, g, *theirs.parameters()))
        )


@pytest.mark.parametrize("part", ["fuse", "gates.1.W", ""], ids=["fusing norm", "norm of one gate", "all norms"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_batch_norm_that_is_frozen_or_thawed_alone_counts(part: str, training: bool) -> None:
    gate = as_if_trained(MultiAttentionGate(2, C, CG, CI)).train(training)
    for module in gate.get_submodule(part).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(not training)
    x, g = inputs(2)
    expected = fused_reference(copy.deepcopy(gate), x, g)
    torch.testing.assert_close(gate(x, g), expected)


@pytest.mark.parametrize("differentiable", ["nothing", "x", "g", "parameters"])
def test_the_folded_form_does_not_write_into_what_a_gradient_needs(differentiable: str) -> None:
    gate = as_if_trained(MultiAttentionGate(2, C, CG, CI)).eval().requires_grad_(differentiable == "parameters")
    x, g = (t.detach().requires_grad_(name == differentiable) for t, name in zip(inputs(2), "xg", strict=True))
    kept = x.detach().clone(), g.detach().clone()
    actual, expected = gate(x, g), fused_reference(gate, x, g)
    torch.testing.assert_close(actual, expected)
    assert torch.equal(x, kept[0])
    assert torch.equal(g, kept[1])
    wanted = {"nothing": (), "x": (x,), "g": (g,), "parameters": tuple(gate.parameters())}[differentiable]
    if wanted:
        torch.testing.assert_close(gradients(actual, wanted), gradients(expected, wanted))


@pytest.mark.parametrize("make", [AttentionGate, MultiAttentionGate])
def test_options_reach_every_gate(make: Callable[..., Any]) -> None:
    options = {"sub_sample_factor": (1, 2), "act": "elu", "normalization": "softmax", "norm": "instance"}
    multi = make(2, C, CG, CI, align_corners=True, **options)
    for gate in getattr(multi, "gates", [multi]):
        assert gate.theta.weight.shape == (CI, C, 1, 2)
        assert isinstance(gate.act, nn.ELU)
        assert gate.normalization.name == "softmax"
        assert gate.align_corners
        assert isinstance(gate.W.norm, nn.InstanceNorm2d)
    assert make(2, C, CG, act=None)(*inputs(2, dtype=torch.float32))[0].shape == (2, C, *FINE[:2])


@DIMS
@pytest.mark.parametrize(("bias", "factor"), [(-1e4, 0.0), (1e4, 1.0)], ids=["closed", "open"])
def test_a_closed_gate_passes_nothing_and_an_open_one_everything(dims: int, bias: float, factor: float) -> None:
    gate = as_if_trained(AttentionGate(dims, C, CG)).eval()
    with torch.no_grad():
        gate.psi.bias.fill_(bias)
    x, g = inputs(dims)
    features, alpha = gate(x, g)
    torch.testing.assert_close(features, gate.W(x * factor))
    torch.testing.assert_close(alpha, torch.full_like(alpha, factor))


@DIMS
@pytest.mark.parametrize("normalization", ["sigmoid", "softmax"])
def test_coefficients_lie_between_zero_and_one(dims: int, normalization: str) -> None:
    alpha = as_if_trained(AttentionGate(dims, C, CG, normalization=normalization))(*inputs(dims))[1]
    assert alpha.min() > 0
    assert alpha.max() < 1
    assert alpha.std() > 0.001


@EVERY_NORMALIZATION
def test_two_dimensions_are_three_with_one_slice(normalization: str) -> None:
    flat = as_if_trained(AttentionGate(2, C, CG, normalization=normalization)).eval()
    deep = AttentionGate(3, C, CG, sub_sample_factor=(2, 2, 1), normalization=normalization).double().eval()
    deep.load_state_dict({k: v[..., None] if v.dim() == 4 else v for k, v in flat.state_dict().items()})
    x, g = inputs(2)
    actual, expected = deep(x[..., None], g[..., None]), flat(x, g)
    torch.testing.assert_close(tuple(y[..., 0] for y in actual), expected)


@DIMS
@EVERY_NORMALIZATION
@pytest.mark.parametrize("init", ["open", "released"])
@pytest.mark.parametrize("value", [0.0, 0.37], ids=["blank", "gray"])
def test_a_constant_image_is_attended_to_alike_everywhere(
    dims: int, normalization: str, init: str, value: float
) -> None:
    gate = AttentionGate(dims, 16, 32, normalization=normalization, init=init)
    x = torch.full((1, 16, *(17, 15, 9)[:dims]), value, requires_grad=True)
    g = torch.full((1, 32, *(7, 9, 5)[:dims]), value, requires_grad=True)
    outputs = gate(x, g)
    for tensor in (*outputs, *gradients(outputs, (x, g, *gate.parameters()))):
        assert tensor.isfinite().all()
    # the scores differ by rounding, depending on where the vector units end
    assert relative_error(outputs[1], outputs[1].mean().expand_as(outputs[1])) < 1e-5


@DIMS
@pytest.mark.parametrize("make", [AttentionGate, MultiAttentionGate])
@pytest.mark.parametrize("seed", range(3))
def test_a_sigmoid_gate_starts_open(dims: int, make: Callable[..., nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    gate = make(dims, 16, 32)
    grid = (16, 12, 8)[:dims]
    x, g = torch.randn(2, 16, *grid), torch.randn(2, 32, *[n // 2 for n in grid])
    outputs = gate(x, g)
    assert outputs[1].mean().item() == pytest.approx(0.95, abs=0.005)
    assert outputs[1].min() > 0.93
    assert outputs[1].max() < 0.97
    for gradient in gradients(outputs, tuple(gate.parameters())):  # nothing starts dead
        assert gradient.abs().max() > 0


@DIMS
def test_the_released_gate_starts_anywhere(dims: int) -> None:
    means, weights = [], []
    for seed in range(4):
        torch.manual_seed(seed)
        gate = AttentionGate(dims, 64, 32, init="released")
        alpha = gate(torch.randn(1, 64, *[8] * dims), torch.randn(1, 32, *[4] * dims))[1]
        means.append(alpha.mean().item())
        weights.append(gate.W.norm.weight)
        assert alpha.std() > 0.05
        assert gate.psi.bias.abs().item() < 1 / 32**0.5  # PyTorch's own
    assert max(means) - min(means) > 0.05
    assert max(means) < 0.9
    assert torch.cat(weights).std().item() == pytest.approx(0.02, rel=0.3)
    assert torch.equal(AttentionGate(dims, 64, 32).W.norm.weight, torch.ones(64))


@DIMS
@pytest.mark.parametrize("init", ["open", "released"])
def test_convolutions_start_with_kaiming_normal_weights(dims: int, init: str) -> None:
    gate = AttentionGate(dims, 64, 96, 128, init=init)
    for conv, shrunk in [(gate.theta, 1), (gate.phi, 1), (gate.W.conv, 1), (gate.psi, 0.01 if init == "open" else 1)]:
        expected = shrunk * math.sqrt(2 / conv.weight[0].numel())
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.2)


@DIMS
def test_only_the_sigmoid_is_opened_by_its_bias(dims: int) -> None:
    torch.manual_seed(0)
    biases = [AttentionGate(dims, C, CG, normalization=name).psi.bias.item() for name in NORMALIZATIONS]
    assert biases[0] == pytest.approx(math.log(0.95 / 0.05))
    assert max(map(abs, biases[1:])) <= 1 / math.sqrt(C // 2)


@pytest.mark.parametrize(
    ("dims", "c", "cg", "ci", "factor"),
    [(2, 8, 16, 8, (2, 2)), (2, 8, 16, 4, (1, 1)), (3, 8, 16, 8, (2, 2, 2)), (3, 6, 5, 7, (2, 2, 1))],
    ids=str,
)
def test_it_has_the_published_number_of_parameters(
    dims: int, c: int, cg: int, ci: int, factor: tuple[int, ...]
) -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    one = c * ci * math.prod(factor) + (cg * ci + ci) + (ci + 1) + (c**2 + c) + 2 * c
    assert count(AttentionGate(dims, c, cg, ci, sub_sample_factor=factor)) == one
    for m in (1, 2):
        multi = MultiAttentionGate(dims, c, cg, ci, sub_sample_factor=factor, num_gates=m)
        assert count(multi) == m * one + (m * c**2 + c) + 2 * c


@pytest.mark.parametrize(
    ("kwargs", "absent"),
    [
        ({"output": None}, {"W.conv.weight", "W.conv.bias", "W.norm.weight", "W.norm.bias"}),
        ({"output": "conv"}, {"W.norm.weight", "W.norm.bias"}),
        ({"gating_bias": False}, {"phi.bias"}),
    ],
    ids=str,
)
def test_parts_that_a_gate_may_lack(kwargs: dict[str, Any], absent: set[str]) -> None:
    full, gate = AttentionGate(2, C, CG), as_if_trained(AttentionGate(2, C, CG, **kwargs))
    assert dict(full.named_parameters()).keys() - dict(gate.named_parameters()).keys() == absent
    x, g = inputs(2)
    torch.testing.assert_close(gate(x, g), reference(gate, x, g))


@pytest.mark.parametrize(("channels", "inter"), [(8, 4), (5, 2), (1, 1)])
def test_inter_channels_default_to_half(channels: int, inter: int) -> None:
    assert AttentionGate(2, channels, 3).psi.weight.shape[1] == inter


@DIMS
@pytest.mark.parametrize("make", [AttentionGate, MultiAttentionGate])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_every_floating_dtype_works(dims: int, make: Callable[..., nn.Module], training: bool) -> None:
    gate = as_if_trained(make(dims, C, CG), torch.float64).train(training)
    x, g = inputs(dims)
    for dtype, tolerance in [(torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 0.01)]:
        # what the rounding of weights and inputs alone changes is not the question
        rounded = copy.deepcopy(gate).to(dtype)
        actual = rounded(x.detach().to(dtype), g.detach().to(dtype))
        expected = copy.deepcopy(rounded).double()(x.to(dtype).double(), g.to(dtype).double())
        for ours, exact in zip(actual, expected, strict=True):
            assert ours.dtype == dtype
            assert relative_error(ours.double(), exact) < tolerance


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_it_works_under_autocast(training: bool) -> None:
    gate = as_if_trained(MultiAttentionGate(3, C, CG), torch.float32).train(training)
    x, g = inputs(3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = copy.deepcopy(gate)(x, g)
    for actual, exact in zip(outputs, gate(x, g), strict=True):
        assert relative_error(actual.float(), exact) < 0.05
    assert all(gradient.isfinite().all() for gradient in gradients(outputs, (x, g)))


EXPORTED = {
    f"{make.__name__} {dims}d {name}": (make, dims, name)
    for make, dims, name in [
        *((AttentionGate, 3, name) for name in NORMALIZATIONS),
        (AttentionGate, 2, "sigmoid"),
        (MultiAttentionGate, 2, "shifted_sum"),
        (MultiAttentionGate, 3, "sigmoid"),
    ]
}


@pytest.mark.parametrize(("make", "dims", "normalization"), EXPORTED.values(), ids=EXPORTED)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_torchscript_computes_the_same(
    make: Callable[..., nn.Module], dims: int, normalization: str, training: bool
) -> None:
    gate = as_if_trained(make(dims, C, CG, normalization=normalization), torch.float32).train(training)
    x, g = (t.detach() for t in inputs(dims, dtype=torch.float32))
    scripted = torch.jit.script(copy.deepcopy(gate))
    torch.testing.assert_close(scripted(x, g), gate(x, g), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "dims", "normalization"),
    [(AttentionGate, 2, "shifted_sum"), (MultiAttentionGate, 3, "sigmoid")],
    ids=["AttentionGate", "MultiAttentionGate"],
)
def test_torch_export_computes_the_same(make: Callable[..., nn.Module], dims: int, normalization: str) -> None:
    gate = as_if_trained(make(dims, C, CG, normalization=normalization), torch.float32).eval()
    x, g = (t.detach() for t in inputs(dims, dtype=torch.float32))
    exported = torch.export.export(gate, (x, g)).module()
    torch.testing.assert_close(exported(x, g), gate(x, g), rtol=1e-5, atol=1e-6)


BAD = [
    ({"normalization": "mean_flow"}, "normalization must be one of sigmoid, .*, got 'mean_flow'"),
    ({"init": "closed"}, "init must be 'open' or 'released', got 'closed'"),
    ({"sub_sample_factor": 0}, "sub_sample_factor must be one positive integer or 3 of them, got 0"),
    ({"sub_sample_factor": (2, 2)}, r"sub_sample_factor must be one positive integer or 3 of them, got \(2, 2\)"),
]
BAD_ONE = [({"output": "norm"}, "output must be 'conv_norm', 'conv' or None, got 'norm'")]
BAD_MULTI = [({"num_gates": 0}, "num_gates must be at least 1, got 0")]


@pytest.mark.parametrize(
    ("make", "kwargs", "message"),
    [(AttentionGate, *bad) for bad in BAD + BAD_ONE] + [(MultiAttentionGate, *bad) for bad in BAD + BAD_MULTI],
)
def test_bad_arguments_are_refused(make: Callable[..., nn.Module], kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(3, C, CG, **kwargs)
