"""Weights into networks, for the bundles' configs."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from ag_networks.handlers.checkpoint import read_state_dict
from ag_networks.handlers.user_input import switch
from ag_networks.nets import inflate, load_imagenet_weights, select_classes

__all__ = ["file_digest", "load_imagenet", "load_weights"]

_logger = logging.getLogger(__name__)


def load_weights(
    network: torch.nn.Module,
    path: str | Path,
    *,
    device: torch.device | str = "cpu",
    classes: Sequence[int] | None = None,
    from_slices: bool = False,
) -> None:
    """Load a checkpoint into a network; every parameter must be there and fit.

    Args:
        network: the network, which is changed in place.
        path: a state dict, alone or under the key ``model`` or ``network``.
        device: where to read it to.
        classes: the outputs of the checkpoint that the network has, where the checkpoint has more
            (:func:`ag_networks.nets.select_classes`).
        from_slices: whether the checkpoint is that of the same network in 2D (:func:`ag_networks.nets.inflate`).

    Raises:
        ValueError: if the file is missing, no checkpoint, or that of another network.
    """
    path = Path(path)
    state = read_state_dict(path, device=device)
    own = network.state_dict()
    if classes is not None and _classes(state) not in (None, _classes(own)):
        state = select_classes(state, classes)
    if from_slices:
        state = inflate(state, own)
    missing, extra = own.keys() - state.keys(), state.keys() - own.keys()
    shapes = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or extra or shapes:
        example = sorted([*shapes, *missing, *extra])[0]
        raise ValueError(
            f"checkpoint {path.name} belongs to another network: {len(missing)} parameters are missing, {len(extra)} "
            f"unknown and {len(shapes)} of another shape, for example {example}."
        )
    network.load_state_dict(state)
    _logger.info("weights %s, sha256 %s", path.name, file_digest(path))


def load_imagenet(network: torch.nn.Module, name: str, weights: bool | str | Path) -> None:
    """Start a backbone from ImageNet weights, if asked to.

    Args:
        network: what :func:`ag_networks.nets.create_backbone` has made; changed in place.
        name: its name.
        weights: true to download them, false for none, or the path of a file that was downloaded before.

    Raises:
        ValueError: if they are not to be had, or those of another network.
    """
    if isinstance(weights, (str, Path)) and str(weights).lower() not in ("true", "false"):
        load_imagenet_weights(network, name, weights)
    elif switch(weights):
        load_imagenet_weights(network, name)


def file_digest(path: str | Path) -> str:
    """First 16 digits of a file's SHA-256, or ``missing``."""
    path = Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "missing"


def _classes(state: dict[str, torch.Tensor]) -> int | None:
    return next((value.shape[0] for key, value in state.items() if key.endswith("level0.head.weight")), None)
