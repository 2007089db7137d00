"""What a global attention map is learnt from: the pixel CNN of the paper, and its baseline of free pixel weights."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight, conv3d_weight

__all__ = ["PixelCNN", "PixelChunks", "PixelWeights"]


@runtime_checkable
class PixelChunks(Protocol):
    """Pixel features that are too many for memory; :class:`ag_networks.data.PixelStack` is one."""

    @property
    def channels(self) -> int:
        """Number of all channels."""

    @property
    def spatial_size(self) -> Sequence[int]:
        """Size of every channel."""

    def chunks(self) -> Iterable[torch.Tensor]:
        """Yield them in order, some channels at a time, each (n, *spatial_size) float."""


class PixelCNN(nn.Module):
    r"""The importance of every pixel, from the intensities that all training images have there:

    .. math:: M(P) = \sigma(w_2 * \max(0, W_1 * P + b_1) + b_2)

    with K filters of 3 x 3 in :math:`W_1` and one of 1 x 1 in :math:`w_2`: :math:`K(9NC + 1) + (K + 1)` parameters for
    N images of C channels in 2D.

    Source: Xu et al., arXiv 2007.15897, section 3.2 and figure 3. The text leaves open what is chosen here:

    - The activation between the convolutions is ReLU: without one, the two would be one and K would mean nothing.
    - The last one is a sigmoid: "a binary classifier" whose output is "from zero to one".
    - P holds training images only; anything else would leak the test set.
    - P and the network see the same normalized images; raw 0..255 would saturate the sigmoid.
    - No normalization layer: the paper's count of parameters has none.

    Args:
        pixels: (NC, H, W) or (NC, D, H, W), floating point: the images with channels and images in one axis. Not in the
            state dict. Or an object that yields them in chunks: the same map up to rounding, and memory for one chunk.
        hidden_channels: K; the paper tries 32 to 256.
        kernel_size: of the first convolution, odd.
        pace: how many times as far a step of Adam on the first filters moves the map, which starts as it would without:
            the pixels are multiplied with it and the filters divided. For features that stand for more of them, see
            :func:`ag_networks.data.projection_pace`; the paper's form has 1.

    Shape:
        nothing -> (1, 1, *spatial), each in (0, 1).

    Raises:
        ValueError: for pixels of another shape or type, NaN or infinity among them, no hidden channel, an even kernel,
            or a pace that is not positive, or not 1 for pixels in chunks; and from a call if the chunks have another
            number of channels than they say.

    Example:
        >>> source = PixelCNN(torch.randn(5 * 3, 8, 8), hidden_channels=4)  # 5 color images
        >>> source().shape, sum(p.numel() for p in source.parameters()) == 4 * (9 * 5 * 3 + 1) + (4 + 1)
        (torch.Size([1, 1, 8, 8]), True)
    """

    def __init__(
        self,
        pixels: torch.Tensor | PixelChunks,
        *,
        hidden_channels: int = 128,
        kernel_size: int = 3,
        pace: float = 1.0,
    ) -> None:
        super().__init__()
        channels, spatial_dims = _layout(pixels)
        if hidden_channels < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"expected at least one hidden channel and an odd kernel, got {hidden_channels} and {kernel_size}."
            )
        if not 0 < pace < float("inf") or (pace != 1 and not isinstance(pixels, torch.Tensor)):
            raise ValueError(f"expected a positive pace, and 1 for pixels in chunks, got {pace}.")
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.conv1 = convolution(channels, hidden_channels, kernel_size, padding=kernel_size // 2)
        self.conv2 = convolution(hidden_channels, 1, 1)
        self.stack: Any = None if isinstance(pixels, torch.Tensor) else pixels
        features = None
        if isinstance(pixels, torch.Tensor):
            features = pixels.detach().as_subclass(torch.Tensor)[None].to(self.conv1.weight)
        if features is not None and pace != 1:
            features = features * pace
            with torch.no_grad():
                self.conv1.weight /= pace
        self.register_buffer("pixels", features, persistent=False)

    def forward(self) -> torch.Tensor:
        """Return the map."""
        if self.stack is None:
            hidden = self.conv1(self.pixels)
        else:
            hidden = _ChunkedConvolution.apply(self.conv1.weight, self.conv1.bias, self.stack)
        return self.conv2(hidden.relu()).sigmoid()


class PixelWeights(nn.Module):
    """A free weight for every pixel, ones at first: the baseline "with L1" of the paper (section 4.3).

    The paper's penalty on the weights is their mean; it tries coefficients from 1 to 100,000. They are not squashed.

    Example:
        >>> PixelWeights((4, 6))().shape
        torch.Size([1, 1, 4, 6])
    """

    def __init__(self, spatial_size: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, *spatial_size))

    def forward(self) -> torch.Tensor:
        """Return the weights."""
        return self.weight


def _layout(pixels: torch.Tensor | PixelChunks) -> tuple[int, int]:
    """Number of channels, and of spatial dimensions."""
    if isinstance(pixels, torch.Tensor):
        if pixels.dim() not in (3, 4) or not pixels.numel() or not pixels.is_floating_point():
            raise ValueError(
                f"pixels must be (NC, H, W) or (NC, D, H, W), float, got {list(pixels.shape)}, {pixels.dtype}."
            )
        if not pixels.isfinite().all():
            raise ValueError("pixels must be finite, got NaN or infinity among them.")
        return pixels.shape[0], pixels.dim() - 1
    if not isinstance(pixels, PixelChunks):
        raise ValueError(f"pixels must be a tensor, or yield chunks as PixelStack does, got {type(pixels).__name__}.")
    return pixels.channels, len(pixels.spatial_size)


class _ChunkedConvolution(torch.autograd.Function):
    """A "same" convolution over more channels than memory holds: sums over chunks, both ways."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, bias: torch.Tensor, stack: PixelChunks) -> torch.Tensor:
        ctx.stack, ctx.shape = stack, weight.shape
        ctx.dtype = weight.dtype
        convolve = functional.conv2d if weight.dim() == 4 else functional.conv3d
        padding, done = weight.shape[-1] // 2, 0
        total = bias.view(1, -1, *[1] * (weight.dim() - 2))
        for chunk in stack.chunks():
            part = weight[:, done : done + len(chunk)]
            done += len(chunk)
            if done > weight.shape[1]:
                break
            total = total + convolve(chunk[None].to(weight), part, padding=padding)
        if done != weight.shape[1]:
            raise ValueError(f"expected chunks of {weight.shape[1]} channels in all, got {done} or more.")
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        of_weight = conv2d_weight if len(ctx.shape) == 4 else conv3d_weight
        filters, _, *kernel = ctx.shape
        parts = [
            of_weight(chunk[None].to(gradient), [filters, len(chunk), *kernel], gradient, padding=kernel[-1] // 2)
            for chunk in ctx.stack.chunks()
        ]
        dims = [0, *range(2, gradient.dim())]
        return torch.cat(parts, dim=1).to(ctx.dtype), gradient.sum(dims).to(ctx.dtype), None
