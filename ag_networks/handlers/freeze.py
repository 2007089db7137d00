"""Parts of a network that a training leaves as they are."""

from collections.abc import Sequence
from types import MethodType

from torch import nn

__all__ = ["freeze"]


def freeze(network: nn.Module, parts: Sequence[str]) -> None:
    """Keep parts of a network as they are, whatever mode the network is put in later.

    Their parameters get no gradient, and they stay in evaluation mode: batch norms use the statistics they have and do
    not change them, which ``monai.networks.utils.freeze_layers`` leaves open.

    Args:
        network: the network, which is changed in place.
        parts: names of submodules, such as ``features``; none freezes nothing.

    Raises:
        ValueError: if the network has no part of such a name.

    Example:
        >>> from ag_networks.nets import SonoNet
        >>> network = SonoNet(2, 1, 14, filters=8)
        >>> freeze(network, ["features"])
        >>> network.train().features.training, network.adaptation.training
        (False, True)
    """
    named = dict(network.named_modules())
    for name in parts:
        if name not in named or not name:
            known = ", ".join(part for part, _ in network.named_children())
            raise ValueError(f"the network has no part {name!r} to freeze; it has {known}.")
        part = named[name]
        part.requires_grad_(False).eval()
        part.train = MethodType(_stay, part)


def _stay(part: nn.Module, mode: bool = True) -> nn.Module:
    return part
