"""Normalizations of attention scores: closed forms, invariants, and maps that leave nothing to divide by."""

import pytest
import torch
from network_helpers import relative_error

from ag_networks.blocks import NORMALIZATIONS, AttentionNormalization

EVERY = pytest.mark.parametrize("name", NORMALIZATIONS)
E = 2.718281828459045

KNOWN = {
    "sigmoid": ([-1.0, 0.0, 1.0], [1 / (1 + E), 0.5, E / (1 + E)]),
    "softmax": ([0.0, 1.0, 1.0], [1 / (1 + 2 * E), E / (1 + 2 * E), E / (1 + 2 * E)]),
    "shifted_sum": ([-1.0, 0.0, 2.0], [0.0, 0.25, 0.75]),
    "sum": ([-1.0, 2.0, 4.0], [-0.2, 0.4, 0.8]),
    "range": ([-1.0, 0.0, 3.0], [0.0, 0.25, 1.0]),
}


@EVERY
def test_it_is_the_formula(name: str) -> None:
    score, expected = (torch.tensor(values, dtype=torch.float64).view(1, 1, 3, 1) for values in KNOWN[name])
    torch.testing.assert_close(AttentionNormalization(name)(score), expected)


@EVERY
@pytest.mark.parametrize("grid", [(4, 3), (4, 3, 2), (1, 1)], ids=["2d", "3d", "one position"])
def test_every_map_is_normalized_by_itself(name: str, grid: tuple[int, ...]) -> None:
    score = torch.rand(3, 2, *grid, dtype=torch.float64) + torch.arange(6).view(3, 2, *[1] * len(grid))
    together = AttentionNormalization(name)(score)
    for i in range(3):
        for j in range(2):
            alone = AttentionNormalization(name)(score[i : i + 1, j : j + 1])
            torch.testing.assert_close(together[i : i + 1, j : j + 1], alone)


@EVERY
def test_the_memory_layout_of_the_scores_does_not_matter(name: str) -> None:
    score = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    strided = score.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(AttentionNormalization(name)(strided), AttentionNormalization(name)(score))


@pytest.mark.parametrize("name", ["softmax", "shifted_sum", "sum"])
def test_a_map_sums_to_one(name: str) -> None:
    alpha = AttentionNormalization(name)(torch.rand(2, 1, 6, 5, 4, dtype=torch.float64))
    torch.testing.assert_close(alpha.sum(dim=(2, 3, 4)), torch.ones(2, 1, dtype=torch.float64))


@EVERY
@pytest.mark.parametrize("value", [0.0, 1.0, -7.5], ids=["zero", "one", "negative"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_constant_map_gives_a_constant_coefficient_and_gradient(name: str, value: float, dtype: torch.dtype) -> None:
    score = torch.full((1, 1, 4, 3, 2), value, dtype=dtype, requires_grad=True)
    alpha = AttentionNormalization(name)(score)
    expected = {"sigmoid": torch.tensor(value, dtype=torch.float64).sigmoid().item(), "range": 1.0}.get(name, 1 / 24)
    torch.testing.assert_close(alpha, torch.full_like(alpha, expected))
    (alpha * torch.rand_like(alpha)).sum().backward()
    assert score.grad is not None
    assert score.grad.isfinite().all()


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_holds_on_a_large_grid(name: str, dtype: torch.dtype) -> None:
    score = (100 * torch.rand(1, 1, 64, 64)).to(dtype)  # the sum is beyond the largest float16
    exact = AttentionNormalization(name)(score.double())
    assert relative_error(AttentionNormalization(name)(score).double(), exact) < 0.01


@EVERY
def test_gradients_are_those_of_the_formula(name: str) -> None:
    score = torch.rand(2, 1, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(AttentionNormalization(name), (score,))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="one of sigmoid, softmax, shifted_sum, sum, range, got 'mean_flow'"):
        AttentionNormalization("mean_flow")


def test_the_printed_network_names_it() -> None:
    assert "AttentionNormalization(softmax)" in repr(AttentionNormalization("softmax"))
