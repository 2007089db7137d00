"""Fewer features for every pixel, so that the cost of a global attention map does not grow with the set."""

from __future__ import annotations

import torch

from ag_networks.data.pixel_stack import PixelStack

__all__ = ["PROJECTIONS", "project_pixels", "projection_pace"]

PROJECTIONS = ("principal", "random")
POWER_ITERATIONS = 2
OVERSAMPLING = 8


def project_pixels(stack: PixelStack, components: int, *, method: str = "principal", seed: int = 0) -> torch.Tensor:
    r"""Return `components` features of every pixel instead of the NC intensities of all images there.

    A projection of the channels commutes with the pixel CNN's first convolution: with :math:`P \approx U V`,
    :math:`W * P = (W U) * V`. The pixel CNN over V is therefore the paper's with filters from a smaller space, and with
    as many components as P has rank from the same. Its parameters are others, so Adam takes another way, and many times
    as long without :func:`projection_pace`. **An extension: the paper's form is the pixel CNN over all intensities.**

    - ``"principal"``: the directions of largest energy (not centered), by a randomized range finder with two power
      iterations (Halko, Martinsson, Tropp, SIAM Review 53, 2011): six passes over the set.
    - ``"random"``: Gaussian directions (Johnson and Lindenstrauss): one pass.

    Both go over the stack in chunks; memory is for one chunk, the result, and NC x components numbers. The result has
    the energy per feature that P has per channel, so the map starts as the paper's does.

    Args:
        stack: the images.
        components: how many features; more than P has channels or pixels are not to be had.
        method: one of :data:`PROJECTIONS`.
        seed: of the random directions.

    Shape:
        (components, H, W), float32.

    Raises:
        ValueError: for an unknown method, or too few or too many components.

    Example:
        >>> stack = PixelStack.of([torch.rand(3, 8, 8) for _ in range(5)])
        >>> project_pixels(stack, 4).shape
        torch.Size([4, 8, 8])
    """
    pixels = 1
    for n in stack.spatial_size:
        pixels *= n
    largest = min(stack.channels, pixels)
    if method not in PROJECTIONS or not 1 <= components <= largest:
        raise ValueError(
            f"expected one of {', '.join(PROJECTIONS)} and 1 to {largest} components, got {method!r} and {components}."
        )
    generator = torch.Generator().manual_seed(seed)
    width = components if method == "random" else min(components + OVERSAMPLING, largest)
    directions = torch.randn(stack.channels, width, generator=generator)
    if method == "random":
        features = _from_channels(stack, directions).T / stack.channels**0.5
    else:
        for _ in range(POWER_ITERATIONS):
            basis = torch.linalg.qr(_from_channels(stack, directions)).Q  # (HW, width)
            directions = torch.linalg.qr(_to_channels(stack, basis)).Q  # (NC, width)
        basis = torch.linalg.qr(_from_channels(stack, directions)).Q
        _, values, right = torch.linalg.svd(_to_channels(stack, basis), full_matrices=False)
        features = (values[:components, None] * (right @ basis.T)[:components]) * (components / stack.channels) ** 0.5
        # a resumed training must find the same features, and signs are the library's choice
        largest_at = features.abs().argmax(dim=1, keepdim=True)
        features = features * features.gather(1, largest_at).sign()
    return features.reshape(components, *stack.spatial_size).contiguous()


def projection_pace(stack: PixelStack, features: torch.Tensor) -> float:
    r"""How many times as far one step of Adam moves the pixel CNN over all intensities as the one over `features`.

    Adam moves every weight by about its rate, whatever the size of what the weight multiplies. What a step adds to a
    filter's output is therefore about the rate times the sum of magnitudes over the channels, which is large for the
    NC intensities of a set and small for a few features that stand for them. Features larger by the ratio of the
    two, behind filters smaller by it, start at the same map and learn it at the same pace.

    Args:
        stack: the images.
        features: (components, H, W), such as :func:`project_pixels` has made of them.

    Returns:
        :math:`\sum |P| / \sum |V|`, 1 where the features are all zero.

    Example:
        >>> stack = PixelStack.of([torch.rand(3, 8, 8) for _ in range(5)])
        >>> projection_pace(stack, stack.tensor()), round(projection_pace(stack, stack.tensor() / 4), 3)
        (1.0, 4.0)
    """
    total = sum(chunk.abs().sum(dtype=torch.float64).item() for chunk in stack.chunks())
    small = features.abs().sum(dtype=torch.float64).item()
    return total / small if small > 0 else 1.0


def _from_channels(stack: PixelStack, directions: torch.Tensor) -> torch.Tensor:
    r""":math:`P^T D`: (NC, d) -> (HW, d)."""
    total, done = torch.zeros(1), 0
    for chunk in stack.chunks():
        flat = chunk.flatten(1)
        total = total + flat.T @ directions[done : done + len(flat)]
        done += len(flat)
    return total


def _to_channels(stack: PixelStack, basis: torch.Tensor) -> torch.Tensor:
    r""":math:`P B`: (HW, d) -> (NC, d)."""
    return torch.cat([chunk.flatten(1) @ basis for chunk in stack.chunks()])
