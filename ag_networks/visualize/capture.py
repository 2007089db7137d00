"""Attention coefficients of a network, while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets.attentionunet import AttentionBlock
from torch import nn

from ag_networks.blocks import AttentionGate, MultiAttentionGate

__all__ = ["capture_attention"]


@contextmanager
def capture_attention(network: nn.Module, *, on_input_grid: bool = False) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the coefficients of every attention gate of a network during its forward passes.

    Works for every network that holds our gates, for MONAI's ``AttentionUnet``, and for modules that return (features,
    coefficients) and say so by an attribute ``gives_coefficients = True``. Gates are named by their place in
    the network (``decoder.level3.gate``); a gate of m sub-gates yields m channels. The hooks live only inside the
    ``with`` block: outside it nothing is computed, copied or kept. After several forward passes the last one counts.

    Args:
        network: the network, not yet scripted or compiled.
        on_input_grid: resample the coefficients linearly to the grid of the network's input (padding, where the
            network pads, is cut off).

    Yields:
        a dictionary that fills as the network runs: gate name -> coefficients (N, m, *spatial), detached.

    Raises:
        ValueError: if the network has no attention gate.

    Example:
        >>> from ag_networks.nets import AttentionGatedUNet
        >>> network = AttentionGatedUNet(2, 1, 2, channels=(4, 8, 16)).eval()
        >>> with capture_attention(network, on_input_grid=True) as attention:
        ...     _ = network(torch.zeros(1, 1, 32, 24))
        >>> {name: tuple(alpha.shape) for name, alpha in attention.items()}
        {'decoder.level1.gate': (1, 2, 32, 24)}
    """
    attention: dict[str, torch.Tensor] = {}
    shape: list[torch.Size] = []

    def keep(name: str, alpha: torch.Tensor) -> None:
        alpha = alpha.detach()
        attention[name] = _to_input_grid(network, alpha, shape[-1]) if on_input_grid else alpha

    def hook(name: str) -> torch.utils.hooks.RemovableHandle:
        module = network.get_submodule(name)
        if isinstance(module, AttentionBlock):  # MONAI's gate: its coefficients are what psi returns
            return module.psi.register_forward_hook(lambda _m, _i, alpha: keep(name, alpha))
        return module.register_forward_hook(lambda _m, _i, output: keep(name, output[1]))

    names = list(_gate_names(network))
    if not names:
        raise ValueError(f"{type(network).__name__} has no attention gate to capture.")
    handles = [
        network.register_forward_pre_hook(
            lambda _m, inputs, named: shape.append((inputs or tuple(named.values()))[0].shape[2:]), with_kwargs=True
        )
    ]
    handles += [hook(name) for name in names]
    try:
        yield attention
    finally:
        for handle in handles:
            handle.remove()


def _gate_names(network: nn.Module) -> Iterator[str]:
    """Names of the gates, without those inside a gate of several."""
    inside: tuple[str, ...] = ()
    for name, module in network.named_modules():
        if inside and name.startswith(inside):
            continue
        gate = isinstance(module, (AttentionGate, MultiAttentionGate, AttentionBlock))
        if gate or getattr(module, "gives_coefficients", False):
            inside = (*inside, f"{name}." if name else "")
            yield name


def _to_input_grid(network: nn.Module, alpha: torch.Tensor, size: torch.Size) -> torch.Tensor:
    multiple: Any = next(
        (m.legal_multiple for m in network.modules() if hasattr(m, "legal_multiple")), (1,) * len(size)
    )
    padded = [-(-n // m) * m for n, m in zip(size, multiple, strict=True)]
    mode = "trilinear" if len(size) == 3 else "bilinear"
    alpha = F.interpolate(alpha, size=padded, mode=mode, align_corners=False)
    for axis, n in enumerate(size, 2):
        alpha = alpha.narrow(axis, 0, n)
    return alpha
