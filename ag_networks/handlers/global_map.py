"""A global attention map in a bundle's training: what it is learnt from, from when to when."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn

from ag_networks.blocks import GlobalSpatialAttention, PixelCNN, PixelWeights
from ag_networks.data import PROJECTIONS, CaseError, PixelStack, project_pixels, projection_pace

__all__ = ["MAP_SOURCES", "GlobalMapSchedule", "map_source"]

MAP_SOURCES = ("pixel_cnn", "pixel_weights", "none")
FEATURES = ("all", *PROJECTIONS)
ADAM_COPIES = 4  # of every parameter: itself, its gradient, two moments
STEP_COPIES = 3  # measured: a convolution, and its gradient, rearrange the images that they see
GIB = 2.0**30

_logger = logging.getLogger(__name__)


def map_source(
    kind: str,
    dataset: Sequence[Any],
    spatial_size: Sequence[int],
    *,
    hidden_channels: int = 128,
    features: str = "all",
    components: int = 64,
    file: str | Path | None = None,
    memory_limit: float = 8.0,
) -> nn.Module:
    """Make what a global attention map is learnt from.

    Args:
        kind: ``"pixel_cnn"``, the paper's; ``"pixel_weights"``, its L1 baseline; ``"none"``: the map stays 1.
        dataset: the training images after their preprocessing, without anything random.
        spatial_size: their size.
        hidden_channels: K of the pixel CNN.
        features: what it sees of a pixel: ``"all"`` intensities of the set (the paper's), or ``"principal"`` or
            ``"random"`` projections of them, whose cost per step does not grow with the set and which learn at
            about the same pace.
        components: how many projections; fewer if the set has fewer channels.
        file: where to put a memory map of the set, instead of memory; the map is the same up to rounding.
        memory_limit: in GiB, what all this may need.

    Raises:
        ValueError: for an unknown kind or features, and if the limit is too small: it says what is needed for what.
    """
    if kind not in MAP_SOURCES or features not in FEATURES:
        raise ValueError(
            f"attention must be one of {', '.join(MAP_SOURCES)} and pixel_features one of {', '.join(FEATURES)}, "
            f"got {kind!r} and {features!r}."
        )
    if kind == "none":
        return nn.ParameterList()
    if kind == "pixel_weights":
        return PixelWeights(spatial_size)
    if len(dataset) == 0:
        raise CaseError("no image to learn an attention map from")
    _check_memory(dataset, spatial_size, hidden_channels, features, components, file, memory_limit)
    stack = PixelStack.of(dataset, file=file)
    if features != "all":
        most = min(components, stack.channels, math.prod(spatial_size))
        projected = project_pixels(stack, most, method=features)
        return PixelCNN(projected, hidden_channels=hidden_channels, pace=projection_pace(stack, projected))
    return PixelCNN(stack.tensor() if file is None else stack, hidden_channels=hidden_channels)


class GlobalMapSchedule:
    """Learn a network's map up to an epoch, then freeze it.

    Handler for a trainer; put it before what validates and saves. The source's parameters are the optimizer's and the
    checkpoint's business: a resumed training goes on with the same map.

    Source: Xu et al., arXiv 2007.15897, algorithm 1.

    Args:
        attention: the network's attention.
        source: what :func:`map_source` has made.
        cutoff_epoch: E, the last epoch in which the map is learnt; None for all. The paper has 60 of 250.
        draw: called with a path and the map (H, W) at the end of the training, such as
            ``ag_networks.visualize.save_attention_map``.
        output_dir: where the picture ``attention_map.png`` goes.

    Raises:
        ValueError: for a cut-off before the first epoch.
    """

    def __init__(
        self,
        attention: GlobalSpatialAttention,
        source: nn.Module,
        *,
        cutoff_epoch: int | None = 60,
        draw: Callable[[Path, torch.Tensor], None] | None = None,
        output_dir: str | Path = ".",
    ) -> None:
        if cutoff_epoch is not None and cutoff_epoch < 1:
            raise ValueError(f"cutoff_epoch must be 1 or more, or None, got {cutoff_epoch}.")
        self.attention = attention
        self.source = source
        self.cutoff_epoch = cutoff_epoch
        self.draw = draw
        self.output_dir = Path(output_dir)

    def attach(self, engine: Engine) -> None:
        """Attach to the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._maybe_freeze)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, _engine: Engine) -> None:
        if any(True for _ in self.source.parameters()):
            self.attention.learn(self.source)

    def _maybe_freeze(self, engine: Engine) -> None:
        if self.cutoff_epoch is not None and engine.state.epoch > self.cutoff_epoch and not self.attention.frozen:
            self.attention.freeze()
            _logger.info("attention map frozen after epoch %d: %s", engine.state.epoch - 1, self._range())

    def _finish(self, _engine: Engine) -> None:
        self.attention.refresh()
        _logger.info("attention map: %s", self._range())
        if self.draw is not None and idist.get_rank() == 0:
            self.draw(self.output_dir / "attention_map.png", self.attention.map[0, 0].cpu())

    def _range(self) -> str:
        values = self.attention.map
        return f"{values.min():.3f} to {values.max():.3f}, mean {values.mean():.3f}"


def _check_memory(
    dataset: Sequence[Any],
    spatial_size: Sequence[int],
    hidden_channels: int,
    features: str,
    components: int,
    file: str | Path | None,
    limit: float,
) -> None:
    """Refuse what would not fit, before hours of waiting for it."""
    image = dataset[0]["image"]
    channels, pixels = len(dataset) * image.shape[0], math.prod(spatial_size)
    width = channels if features == "all" else min(components, channels)
    images = 0.0 if file is not None else channels * pixels * 4 / GIB
    images *= STEP_COPIES if features == "all" else 1
    filters = width * hidden_channels * 9 * 4 * ADAM_COPIES / GIB
    if images + filters <= limit:
        return
    ways = ["raise memory_limit"]
    if file is None:
        ways.append("name a pixel_file, which keeps the images on disk")
    if features == "all":
        ways.append("take pixel_features principal or random, whose filters do not grow with the set")
    raise CaseError(
        f"learning the attention map from {features} intensities of {len(dataset):,} images needs about "
        f"{images + filters:.1f} GiB ({'a step over the ' if features == 'all' and file is None else ''}images "
        f"{images:.1f}, filters {filters:.1f}; a third if all are grey); memory_limit is {limit:g}: "
        f"{', or '.join(ways)}"
    )
