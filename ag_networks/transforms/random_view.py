"""Random views of a batch, drawn behind a global attention map."""

from collections.abc import Sequence
from math import inf, pi
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

__all__ = ["RandomView"]


class RandomView:
    """Turn, zoom, shift, mirror and recolor every image of a batch at random, each in its own way.

    A global attention map belongs to the pixels of the images as they were taken: random geometry before the map would
    break that, and what the map is learnt from. :meth:`attach` puts the views behind the map, at the entrance of the
    network's backbone, in training mode only. Numbers come from torch's generator, on the images' device.

    MONAI's random transforms work on one image at a time, before the network.

    Args:
        rotate: largest angle, in degrees.
        zoom: largest change of the field of view, 0.1 for 0.9 to 1.1 times the image.
        shift: largest shift, as a share of the size.
        flips: image axes to mirror with probability 0.5, of 0 (rows) and 1 (columns).
        contrast: largest change of the contrast, 0.2 for 0.8 to 1.2.
        brightness: largest shift of the values of each channel, in the images' units.
        fill: value of each channel outside the image, or one for all; 0 without.

    Shape:
        (N, C, H, W), floating point -> the same.

    Raises:
        ValueError: for negative amounts, a zoom or contrast of 1 or more, or other axes; and from a call for other
            shapes, integers, or another number of channels than `fill` has.

    Example:
        >>> view = RandomView(rotate=180, flips=[0])
        >>> view(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(
        self,
        *,
        rotate: float = 0.0,
        zoom: float = 0.0,
        shift: float = 0.0,
        flips: Sequence[int] = (),
        contrast: float = 0.0,
        brightness: float = 0.0,
        fill: Sequence[float] = (),
    ) -> None:
        amounts = {"rotate": rotate, "zoom": zoom, "shift": shift, "contrast": contrast, "brightness": brightness}
        in_range = all(0 <= amount < inf for amount in amounts.values()) and max(zoom, contrast) < 1
        if not in_range or not set(flips) <= {0, 1}:
            raise ValueError(
                f"expected amounts from 0, zoom and contrast below 1, axes 0 and 1, got {amounts}, {flips}."
            )
        self.rotate, self.zoom, self.shift = rotate, zoom, shift
        self.flips = sorted(set(flips))
        self.contrast, self.brightness = contrast, brightness
        self.fill = tuple(fill)

    def attach(self, module: nn.Module) -> RemovableHandle:
        """Show a module views of its input instead of the input, while it is in training mode.

        Returns the handle whose ``remove()`` detaches them again; TorchScript refuses a module with views.
        """
        return module.register_forward_pre_hook(self._before)

    def _before(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        return (self(inputs[0]), *inputs[1:]) if module.training else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return views of the images."""
        if x.dim() != 4 or not x.is_floating_point() or len(self.fill) not in (0, 1, x.shape[1]):
            raise ValueError(
                f"expected float images (N, C, H, W), with a fill of none, one or C values, got {list(x.shape)}, "
                f"{x.dtype}, {self.fill}."
            )
        if self.rotate or self.zoom or self.shift or self.flips:
            x = self._moved(x)
        if self.contrast:
            x = x * (1 + self.contrast * _signed(x, 1))
        if self.brightness:
            x = x + self.brightness * _signed(x, x.shape[1])
        return x

    def _moved(self, x: torch.Tensor) -> torch.Tensor:
        fill = x.new_tensor(self.fill or [0.0]).view(1, -1, 1, 1)
        exact = torch.promote_types(x.dtype, torch.float32)
        views = functional.grid_sample((x - fill).to(exact), self._grid(x).to(exact), align_corners=False)
        return views.to(x.dtype) + fill

    def _grid(self, x: torch.Tensor) -> torch.Tensor:
        """Where to sample, (N, H, W, 2)."""
        # affine_grid would multiply matrices: in bfloat16 under autocast, which is up to a pixel off
        rows, columns = ((2 * torch.arange(n, device=x.device) + 1) / n - 1 for n in x.shape[2:])
        affines = self._affines(x)[..., None, None]
        grid = affines[:, :, 0] * columns + affines[:, :, 1] * rows[:, None] + affines[:, :, 2]
        return grid.movedim(1, 3)

    def _affines(self, x: torch.Tensor) -> torch.Tensor:
        angle = _signed(x, 1)[:, 0, 0, 0].float() * (self.rotate * pi / 180)
        size = 1 + self.zoom * _signed(x, 1)[:, 0, 0, 0].float()
        shift = self.shift * 2 * _signed(x, 2)[:, :, 0, 0].float()
        sign = torch.ones(2, len(x), device=x.device)
        for axis in self.flips:
            sign[axis] -= 2.0 * (torch.rand(len(x), device=x.device) < 0.5)
        cos, sin, aspect = angle.cos() * size, angle.sin() * size, x.shape[2] / x.shape[3]
        rows = [
            torch.stack([cos * sign[1], -sin * aspect * sign[0], shift[:, 0]], dim=1),
            torch.stack([sin / aspect * sign[1], cos * sign[0], shift[:, 1]], dim=1),
        ]
        return torch.stack(rows, dim=1)


def _signed(x: torch.Tensor, channels: int) -> torch.Tensor:
    """(N, channels, 1, 1) in -1..1."""
    return torch.rand(len(x), channels, 1, 1, device=x.device, dtype=x.dtype) * 2 - 1
