"""Global spatial attention: one weight map that all images of a structured set share."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["GlobalSpatialAttention"]


class GlobalSpatialAttention(nn.Module):
    r"""Multiply every image with one map: :math:`\hat{x}_i = x_i \cdot M`.

    The map comes from a source while it is learnt, and is a constant afterwards:

    - :meth:`learn` gives it a source, such as the paper's pixel CNN (:class:`~ag_networks.blocks.PixelCNN`), whose
      output is the map of every training step, with gradients;
    - :meth:`freeze`, at the paper's cut-off epoch, keeps the last map and lets the source go.

    Only the map is in the state dict. The source and the training images that it sees are not: inference needs neither.
    In evaluation mode, and whenever the state dict is asked for, the map is that of the source's present parameters.

    Source: Xu et al., *A novel global spatial attention mechanism in convolutional neural network for medical image
    classification*, arXiv 2007.15897, section 3. The paper leaves open what is chosen here:

    - The map multiplies images that are normalized already, so that a weight of 0 means "the mean color" and not black.
    - The source's parameters belong to the training, not to the network: give them to the optimizer as well.
    - Freezing stops everything about the map: its source gets no gradient, no weight decay and no momentum.

    Args:
        spatial_size: size of the images, (H, W) or (D, H, W).

    Shape:
        (N, C, *spatial_size) -> the same. The map is (1, 1, *spatial_size), ones at first.

    Raises:
        ValueError: for a size that is none, a source that gives no map of the size, and from calls for images of
            another size or of integers, which are not normalized.

    Example:
        >>> attention = GlobalSpatialAttention((4, 6))
        >>> bool((attention(torch.full((2, 3, 4, 6), 5.0)) == 5).all())
        True
    """

    __jit_unused_properties__ = ("frozen",)  # TorchScript would compile it, and it knows no source
    map: torch.Tensor

    def __init__(self, spatial_size: Sequence[int]) -> None:
        super().__init__()
        if not isinstance(spatial_size, Iterable) or len(spatial_size) not in (2, 3) or min(spatial_size) < 1:
            raise ValueError(f"spatial_size must be (H, W) or (D, H, W), all positive, got {spatial_size}.")
        self.spatial_size = [int(n) for n in spatial_size]
        self.register_buffer("map", torch.ones(1, 1, *self.spatial_size))
        self._source: Any = None
        self._learning: Any = None  # the map of the last step, with its gradient
        self._seen: Any = ()  # versions of the source's parameters that `map` was made from
        self.register_state_dict_pre_hook(_refresh)

    def learn(self, source: nn.Module) -> None:
        """Take the map from `source()` from now on.

        In several processes, give it as ``DistributedDataParallel(source, broadcast_buffers=False)``: the network's own
        wrapper does not see its parameters, and each process would learn a map of its own.

        Raises:
            ValueError: if what it gives is not (1, 1, *spatial_size).
        """
        with torch.no_grad():
            shape = tuple(source().shape)
        if shape != tuple(self.map.shape):
            raise ValueError(f"expected a source of a map of shape {tuple(self.map.shape)}, got one of {shape}.")
        # not a submodule: it is neither in the state dict nor in what a script of the network holds
        object.__setattr__(self, "_source", source)
        self._learning = None
        self.refresh()

    @property
    def frozen(self) -> bool:
        """Whether the map is a constant."""
        return self._source is None

    def freeze(self) -> None:
        """Keep the map as it is; its source learns no more."""
        if self._source is None:
            return
        self.refresh()
        for parameter in self._source.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None  # an optimizer leaves it alone, with its momentum and decay
        object.__setattr__(self, "_source", None)
        self._learning = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the map up to its source."""
        if self._source is not None:
            # a distributed wrapper would talk to the other processes, which may not be here
            self.map.copy_(getattr(self._source, "module", self._source)())
            self._seen = self._versions()

    def train(self, mode: bool = True) -> "GlobalSpatialAttention":
        """Set the mode; evaluation uses the map of this moment for all images."""
        # engines ask for evaluation before every batch; a map over many images is not made anew for each
        if not mode and self._source is not None and self._seen != self._versions():
            self.refresh()
        return super().train(mode)

    def penalty(self, reduction: str = "mean") -> torch.Tensor:
        """Return the L1 norm of the map of the last training step (equation 1 without its coefficient), 0 once frozen.

        Args:
            reduction: ``"mean"`` over the pixels, so that a coefficient means the same at every size, or ``"sum"``. The
                equation reads as a sum; with one, the paper's largest coefficient (0.1) would cost 2,500 at M = 0.5
                and its remark that 10 is too large would be an understatement.

        Raises:
            ValueError: for another reduction.
        """
        if reduction not in ("mean", "sum"):
            raise ValueError(f"expected a reduction of mean or sum, got {reduction!r}.")
        if self._learning is None:
            return self.map.new_zeros(())
        size = self._learning.abs()
        return size.sum() if reduction == "sum" else size.mean()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh the images."""
        if list(x.shape[2:]) != self.spatial_size:
            raise ValueError(f"expected images of {self.spatial_size} pixels, as the map has, got {list(x.shape)}.")
        if not x.is_floating_point():
            raise ValueError("expected normalized images in floating point, got integers.")
        if torch.jit.is_scripting():
            return x * self.map
        else:
            return x * self._present_map()

    def _present_map(self) -> torch.Tensor:
        if self._source is None or not self.training:
            return self.map
        self._seen = ()  # a step changes the source, also where it does not count as a version
        # the source may have stayed on another device, or in another precision, than the network
        # past the module, which would take a source's parameter for its own
        object.__setattr__(self, "_learning", self._source().to(self.map))
        return self._learning

    def _versions(self) -> tuple[int, ...]:
        return tuple(parameter._version for parameter in self._source.parameters())

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the map with a gradient, which cannot be copied, and the versions, which a copy counts anew."""
        return {**self.__dict__, "_learning": None, "_seen": ()}


def _refresh(module: nn.Module, _prefix: str, _keep_vars: bool) -> None:
    if isinstance(module, GlobalSpatialAttention):
        module.refresh()
