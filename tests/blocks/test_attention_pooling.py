"""Attention pooling equals the gate that it is, and the sum of its gated features."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from network_helpers import as_if_trained, gradients, relative_error

from ag_networks.blocks import NORMALIZATIONS, AttentionGate, AttentionPooling

DIMS = pytest.mark.parametrize("dims", [2, 3], ids=["2d", "3d"])
MODES = pytest.mark.parametrize("normalization", NORMALIZATIONS)
FINE, COARSE = (8, 9, 6), (4, 3, 2)
Tensors = tuple[torch.Tensor, ...]


def inputs(dims: int, samples: int = 2, dtype: torch.dtype = torch.float64) -> Tensors:
    x, g = torch.randn(samples, 4, *FINE[:dims], dtype=dtype), torch.randn(samples, 7, *COARSE[:dims], dtype=dtype)
    return x.requires_grad_(), g.requires_grad_()


def gate_and_sum(pooling: AttentionPooling, x: torch.Tensor, g: torch.Tensor, **options: Any) -> Tensors:
    """The published gate with the same parameters, then the sum of its gated features."""
    gate = AttentionGate(
        x.dim() - 2, 4, 7, 5, sub_sample_factor=1, output=None, normalization=pooling.normalization.name, **options
    ).to(x.dtype)
    gate.load_state_dict(pooling.state_dict())
    features, alpha = gate(x, g)
    return features.flatten(2).sum(2), alpha


@DIMS
@MODES
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"align_corners": True},
        {"act": None},
        {"act": ("leakyrelu", {"negative_slope": 0.3})},
        {"gating_bias": True},
    ],
    ids=str,
)
def test_it_is_the_sum_of_the_gated_features(dims: int, normalization: str, options: dict[str, Any]) -> None:
    options = {"gating_bias": False, **options}
    pooling = as_if_trained(AttentionPooling(dims, 4, 7, 5, normalization=normalization, **options))
    x, g = inputs(dims)
    outputs, expected = pooling(x, g), gate_and_sum(pooling, x, g, **options)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(gradients(outputs, (x, g)), gradients(expected, (x, g)))
    torch.testing.assert_close(pooling.coefficients(x, g), expected[1])


@DIMS
def test_the_gating_signal_may_have_the_fine_grid_and_any_layout(dims: int) -> None:
    pooling = as_if_trained(AttentionPooling(dims, 4, 7, 5))
    x = inputs(dims)[0]
    g = torch.randn(2, 7, *FINE[:dims], dtype=torch.float64)
    before = g.clone()
    expected = gate_and_sum(pooling, x, g, gating_bias=False)
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    for strided in (x, x.contiguous(memory_format=layout), x.transpose(-1, -2).contiguous().transpose(-1, -2)):
        torch.testing.assert_close(pooling(strided, g), expected)
    assert torch.equal(g, before)


@DIMS
@pytest.mark.parametrize("samples", [1, 2, 5], ids=str)
@pytest.mark.parametrize("scripted", [False, True], ids=["eager", "scripted"])
def test_samples_pooled_in_pieces_are_pooled_the_same(dims: int, samples: int, scripted: bool) -> None:
    pooling = as_if_trained(AttentionPooling(dims, 4, 7, 5)).eval()
    x, g = inputs(dims, samples)
    expected = pooling(x, g)
    pooling.piece = 2 * 5 * x[0, 0].numel()  # two samples
    piecewise: Any = torch.jit.script(pooling) if scripted else pooling
    with torch.no_grad():
        assert pooling._samples_at_a_time(x, 5) == 2
        torch.testing.assert_close(piecewise(x, g), expected)
    assert pooling._samples_at_a_time(x, 5) == samples  # not where gradients are wanted


def test_gated_features_are_not_formed() -> None:
    pooling = AttentionPooling(2, 64, 8, 2)
    x, g = torch.rand(2, 64, 32, 32).contiguous(memory_format=torch.channels_last), torch.rand(2, 8, 8, 8)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        pooling(x, g)
    taken = sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages())
    assert taken < x.numel() * x.element_size()


@MODES
def test_a_constant_map_is_pooled_evenly(normalization: str) -> None:
    pooling = AttentionPooling(2, 4, 7, normalization=normalization)
    with torch.no_grad():
        pooling.psi.weight.zero_()
        pooling.psi.bias.fill_(1.0)
    x, g = inputs(2, dtype=torch.float32)
    n = x[0, 0].numel()
    total = {"sigmoid": n * torch.sigmoid(torch.tensor(1.0)).item(), "range": float(n)}.get(normalization, 1.0)
    vectors, alpha = pooling(x, g)
    torch.testing.assert_close(vectors, x.mean((2, 3)) * total, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alpha.sum((2, 3)), torch.full((2, 1), total), rtol=1e-4, atol=1e-5)


def test_a_position_that_stands_out_is_what_is_pooled() -> None:
    pooling = AttentionPooling(2, 1, 1, 1, normalization="softmax")
    with torch.no_grad():
        for name, value in {"theta": 1.0, "phi": 0.0, "psi": 50.0}.items():
            getattr(pooling, name).weight.fill_(value)
    x = torch.zeros(1, 1, 6, 5)
    x[0, 0, 4, 2] = 3.0
    vectors, alpha = pooling(x, torch.rand(1, 1, 3, 2))
    assert vectors.item() == pytest.approx(3.0)
    assert divmod(int(alpha.flatten().argmax()), 5) == (4, 2)


def test_a_sigmoid_pooling_starts_open_and_the_others_with_weights_of_full_size() -> None:
    x, g = inputs(2, dtype=torch.float32)
    alpha = AttentionPooling(2, 4, 7, normalization="sigmoid")(x, g)[1]
    assert alpha.mean().item() == pytest.approx(0.95, abs=0.01)
    sizes = torch.stack([AttentionPooling(2, 64, 7).psi.weight.std() for _ in range(10)])
    assert sizes.mean().item() == pytest.approx((2 / 32) ** 0.5, rel=0.15)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_autocast_computes_about_the_same(training: bool) -> None:
    pooling = as_if_trained(AttentionPooling(2, 4, 7, 5), torch.float32).train(training)
    x, g = inputs(2, dtype=torch.float32)
    expected = pooling(x, g)[0]
    reference = copy.deepcopy(pooling)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors, alpha = pooling(F.relu(x), F.relu(g))
        again = reference(F.relu(x), F.relu(g))[0]
    assert torch.equal(vectors, again)
    assert vectors.dtype == torch.bfloat16
    assert relative_error(vectors.float(), pooling(F.relu(x), F.relu(g))[0]) < 0.05
    assert expected.dtype == torch.float32
    assert alpha.isfinite().all()
