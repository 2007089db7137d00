"""Guided back-propagation: the saliency map that attention maps replace."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from monai.networks.utils import replace_modules_temp
from monai.visualize.gradient_based import _GradReLU
from torch import nn

from ag_networks.transforms import LocateObject, Location

__all__ = ["guided_backpropagation", "locate_by_guided_backpropagation"]

# On the frame's grid; as wide as the default blur of the attention maps together is there.
SIGMA = 8.0


def guided_backpropagation(network: nn.Module, image: torch.Tensor, *, class_index: int | None = None) -> torch.Tensor:
    """Return the saliency of every pixel for a class: the size of the guided gradient of its score.

    At every ReLU only positive gradients of active units pass (Springenberg et al. 2015, arXiv 1412.6806). It is what
    the SonoNet authors localize with, and the baseline of the boxes from attention maps. MONAI's
    ``GuidedBackpropGrad`` finds ReLUs by the letters "relu" in their names and would leave ours untouched; here they
    are found by their type, in-place ones included. Those inside an attention gate that are no modules pass gradients
    as usual. The network is as before afterwards.

    Args:
        network: a classifier (1, channels, *spatial) -> (1, classes), in evaluation mode.
        image: (1, channels, *spatial).
        class_index: whose score; ``None``: of the prediction.

    Returns:
        (*spatial), not negative; the largest value over the channels.

    Raises:
        ValueError: if the network has no ReLU, is in training mode, or the batch is not of one image.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> tuple(guided_backpropagation(network.eval(), torch.rand(1, 1, 8, 6)).shape)
        (8, 6)
    """
    names = [name for name, module in network.named_modules() if isinstance(module, nn.ReLU)]
    if not names:
        raise ValueError(f"{type(network).__name__} has no ReLU, which guided back-propagation works at")
    if network.training:
        raise ValueError("the network must be in evaluation mode: call eval() first")
    if image.shape[0] != 1:
        raise ValueError(f"expected a batch of one image, got {image.shape[0]}")
    # a plain tensor: the gradients of a MetaTensor cost more
    pixels = torch.as_tensor(image).detach().as_subclass(torch.Tensor).clone().requires_grad_()
    with ExitStack() as replaced, torch.enable_grad():
        for name in names:
            replaced.enter_context(replace_modules_temp(network, name, _GradReLU(), match_device=False))
        scores = network(pixels)[0]
        (gradient,) = torch.autograd.grad(scores[scores.argmax() if class_index is None else class_index], pixels)
    return gradient[0].abs().amax(dim=0)


def locate_by_guided_backpropagation(
    network: nn.Module,
    image: torch.Tensor,
    *,
    class_index: int | None = None,
    sigma: float = SIGMA,
    threshold: float = 0.5,
) -> Location:
    """Find a box from the saliency, by the steps of :class:`~ag_networks.transforms.LocateObject` at this one scale.

    Args:
        network, image, class_index: as :func:`guided_backpropagation`; the image is 2D.
        sigma: of the Gaussian, in pixels of the image.
        threshold: as ``LocateObject``.

    Raises:
        ValueError: as :func:`guided_backpropagation`.
    """
    saliency = guided_backpropagation(network, image, class_index=class_index)
    return LocateObject(sigma=sigma, threshold=threshold)([saliency.cpu().numpy()], saliency.shape)
