"""What several tests of networks share: a network as if trained, and the error that the references are held to."""

from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def as_if_trained(module: Module, dtype: torch.dtype = torch.float64) -> Module:
    """Give every parameter and buffer a random value, so that each of them matters in the result."""
    for name, tensor in module.to(dtype).state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.is_floating_point():
            fan_in = tensor[0].numel() if tensor.dim() > 1 else 1
            tensor.normal_().mul_((2.0 / fan_in) ** 0.5)
    return module


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return max|a - b| / max|b|; infinite where the shapes differ or something is not a number."""
    if actual.shape != expected.shape or not actual.isfinite().all():
        return float("inf")
    actual, expected = actual.detach(), expected.detach().to(actual)
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def gradients(
    outputs: tuple[torch.Tensor, ...], inputs: tuple[torch.Tensor, ...], seed: int = 1
) -> tuple[torch.Tensor, ...]:
    """Gradients of a random projection of the outputs with respect to the inputs."""
    generator = torch.Generator().manual_seed(seed)
    parts = [(y * torch.rand(y.shape, generator=generator).to(y)).sum() for y in outputs]
    return torch.autograd.grad(torch.stack(parts).sum(), inputs)
