"""A network that starts from the weights of a related one, for the bundles' configs."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from ag_networks.handlers.checkpoint import read_state_dict

__all__ = ["warm_start"]

_logger = logging.getLogger(__name__)
SHOWN = 6  # names in the log line


def warm_start(
    network: torch.nn.Module,
    source: str | Path | Mapping[str, torch.Tensor],
    *,
    device: torch.device | str = "cpu",
    at_least: float = 0.1,
) -> None:
    """Take from other weights what a network has under the same name and in the same shape; leave the rest as it is.

    A layer of which one parameter has another shape is left whole: its bias means nothing without its weight.

    The papers train AG-SonoNet so: from a partly trained SonoNet, and ``aggregation="fine_tune"`` from ``"mean"`` or
    ``"deep_supervision"``; our networks name what they share alike. What was taken and what was left is logged in one
    line: layers of the network that start anew, and layers of the source that it does not have.

    Source: Schlemper, Oktay et al., *Attention-gated networks for improving ultrasound scan plane detection*, MIDL
    2018, section 3.

    Args:
        network: the network, which is changed in place.
        source: a checkpoint file, or a state dict.
        device: where to read a file to.
        at_least: the share of the network's numbers that the source must have.

    Raises:
        ValueError: if the file is missing or no checkpoint, or too little of it fits. The network is then as before.

    Example:
        >>> from ag_networks.nets import AttentionGatedSonoNet, SonoNet
        >>> trained, network = SonoNet(2, 1, 14, filters=8), AttentionGatedSonoNet(2, 1, 14, filters=8)
        >>> warm_start(network, trained.state_dict())
        >>> bool((network.features.stages[0][0].conv.weight == trained.features.stages[0][0].conv.weight).all())
        True
    """
    name = "the given weights" if isinstance(source, Mapping) else f"checkpoint {Path(source).name}"
    state = source if isinstance(source, Mapping) else read_state_dict(source, device=device)
    own = network.state_dict()
    unlike = {_layer(key) for key in own.keys() & state.keys() if own[key].shape != state[key].shape}
    taken = {key: value for key, value in state.items() if key in own and _layer(key) not in unlike}
    share = _numbers(own[key] for key in taken) / max(_numbers(own.values()), 1)
    if share < at_least:
        raise ValueError(
            f"{name} cannot be a warm start: of the network's numbers {share:.0%} are there by name and shape, "
            f"expected at least {at_least:.0%}{_difference(own, state)}."
        )
    network.load_state_dict({**own, **taken})
    _logger.info(
        "warm start from %s: %.0f %% of the network's numbers taken; started anew: %s; not used: %s",
        name,
        100 * share,
        _layers(own.keys() - taken.keys()),
        _layers(state.keys() - taken.keys()),
    )


def _numbers(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _layer(key: str) -> str:
    return key.rpartition(".")[0] or key


def _layers(keys: Iterable[str]) -> str:
    """The layers that the parameters belong to, sorted; the first ones by name."""
    layers = sorted({_layer(key) for key in keys})
    shown = ", ".join(layers[:SHOWN]) or "none"
    return shown if len(layers) <= SHOWN else f"{shown} and {len(layers) - SHOWN} more"


def _difference(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> str:
    """An example of a parameter that both have, in different shapes."""
    for key in own:
        if key in state and own[key].shape != state[key].shape:
            return f" ({key} is {tuple(state[key].shape)} there and {tuple(own[key].shape)} here)"
    return ""
