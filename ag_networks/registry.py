"""Registry of networks: names, presets, and their registration with MONAI."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NetworkSpec", "create_network", "list_networks", "register_network", "register_with_monai"]

ATTENTION_UNET = "ag_networks.nets.AttentionGatedUNet"
SONONET = "ag_networks.nets.SonoNet"
ATTENTION_SONONET = "ag_networks.nets.AttentionGatedSonoNet"
PAY_ATTENTION = "ag_networks.nets.LearnToPayAttentionVGG"
RESIDUAL_ATTENTION = "ag_networks.nets.ResidualAttentionNetwork"
CT: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "out_channels": 4}
ULTRASOUND: dict[str, Any] = {"spatial_dims": 2, "in_channels": 1, "out_channels": 14}
FUNDUS: dict[str, Any] = {"spatial_dims": 2, "in_channels": 3, "out_channels": 5}


@dataclass(frozen=True)
class NetworkSpec:
    """A registered network: what builds it, with which arguments, and what it is."""

    name: str
    target: str | Callable[..., Any]
    kwargs: dict[str, Any] = field(default_factory=dict)
    description: str = ""

    def build(self, **overrides: Any) -> "nn.Module":
        """Construct the network; `overrides` replace the registered arguments."""
        target = self.target
        if isinstance(target, str):
            module, name = target.rsplit(".", 1)
            target = getattr(importlib.import_module(module), name)
        return target(**{**self.kwargs, **overrides})


# The presets of the papers; their counts hold for the four outputs of the CT-150 experiment, for 14 fetal planes, and
# for five grades of retinopathy.
_PUBLISHED = (
    NetworkSpec("attention_unet", ATTENTION_UNET, CT, "Attention U-Net of the papers, two gates per skip: 6.40 M"),
    NetworkSpec("unet", ATTENTION_UNET, {**CT, "gates": 0}, "baseline U-Net of the papers: 5.88 M"),
    NetworkSpec(
        "unet_6m44",
        ATTENTION_UNET,
        {**CT, "gates": 0, "channels": (16, 33, 67, 134, 268)},
        "wider U-Net of the ablation (MedIA 2019, table 2): 6.44 M",
    ),
    NetworkSpec(
        "unet_10m40",
        ATTENTION_UNET,
        {**CT, "gates": 0, "channels": (21, 42, 85, 170, 341)},
        "widest U-Net of the ablation (MedIA 2019, table 2): 10.40 M",
    ),
    NetworkSpec(
        "attention_unet_released",
        ATTENTION_UNET,
        {**CT, "gating_channels": 256, "gate_options": {"init": "released"}},
        "Attention U-Net of the released code, with its gating convolution and initialization: 6.47 M",
    ),
    NetworkSpec(
        "attention_unet_single_gate",
        ATTENTION_UNET,
        {**CT, "gates": 1, "gating_channels": 256, "gate_options": {"init": "released"}},
        "the released code's variant with one gate per skip: 6.21 M",
    ),
    *(
        NetworkSpec(
            f"sononet_{filters}",
            SONONET,
            {**ULTRASOUND, "filters": filters},
            f"SonoNet in the layout of the papers' tables, {filters} initial filters: {count}",
        )
        for filters, count in ((8, "0.16 M"), (16, "0.65 M"), (32, "2.58 M"), (64, "10.32 M"))
    ),
    *(
        NetworkSpec(
            f"attention_sononet_{filters}",
            ATTENTION_SONONET,
            {**ULTRASOUND, "filters": filters},
            f"AG-SonoNet of the papers, {filters} initial filters, mean of the scales' predictions: {count}",
        )
        for filters, count in ((8, "0.18 M"), (16, "0.70 M"), (32, "2.79 M"))
    ),
    NetworkSpec(
        "learn_to_pay_attention_vgg",
        PAY_ATTENTION,
        {**FUNDUS, "spatial_size": 224},
        "VGG-like network with attention at its last three levels (VGG-att3), for 224x224 pixels: 32.43 M",
    ),
    *(
        NetworkSpec(
            f"residual_attention_{depth}",
            RESIDUAL_ATTENTION,
            {**FUNDUS, "attention_modules": modules},
            f"residual attention network, Attention-{depth}: {count}",
        )
        for depth, modules, count in ((56, (1, 1, 1), "29.77 M"), (92, (1, 2, 3), "50.43 M"))
    ),
)
_REGISTRY: dict[str, NetworkSpec] = {spec.name: spec for spec in _PUBLISHED}


def list_networks(pattern: str = "*") -> list[str]:
    """Names of the registered networks, sorted; ``pattern`` may hold wildcards. Imports neither torch nor MONAI.

    Example:
        >>> list_networks("unet*")
        ['unet', 'unet_10m40', 'unet_6m44']
    """
    return sorted(name for name in _REGISTRY if fnmatch(name, pattern))


def create_network(name: str, **overrides: Any) -> "nn.Module":
    """Build a registered network.

    Args:
        name: one of :func:`list_networks`.
        overrides: constructor arguments that replace the preset's, for example ``spatial_dims=2``.

    Raises:
        ValueError: for an unknown name, naming the known ones.

    Example:
        >>> sum(p.numel() for p in create_network("attention_unet").parameters())
        6407018
    """
    if name not in _REGISTRY:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(list_networks())}.")
    return _REGISTRY[name].build(**overrides)


def register_network(builder: Callable[..., Any]) -> Callable[..., Any]:
    """Register a function that builds a network under the function's name (a decorator).

    Raises:
        ValueError: if the name is taken.
    """
    name = builder.__name__
    if name in _REGISTRY:
        raise ValueError(f"a network named {name!r} is registered already.")
    _REGISTRY[name] = NetworkSpec(name, builder, description=(builder.__doc__ or "").partition("\n")[0])
    return builder


def register_with_monai() -> None:
    """Make our networks known to MONAI, as ``monai.networks.nets.X`` and as short ``_target_`` names in configs.

    MONAI has no registry of networks: its attribute and the list of packages in which its ``ComponentLocator`` looks
    for short names are extended, for the whole process. A name that MONAI has itself is left alone. Calling it again
    changes nothing. Bundles do not need it: they name classes by their full dotted path.
    """
    import monai.networks.nets
    from monai.bundle.config_item import ComponentLocator

    ours = importlib.import_module("ag_networks.nets")
    for name in ours.__all__:
        if isinstance(getattr(ours, name), type) and not hasattr(monai.networks.nets, name):
            setattr(monai.networks.nets, name, getattr(ours, name))
    start: str | tuple[str, ...] = ComponentLocator.MOD_START
    starts = (start,) if isinstance(start, str) else start
    if "ag_networks.nets" not in starts:
        # `str.startswith`, which reads it, takes a tuple as well
        ComponentLocator.MOD_START = (*starts, "ag_networks.nets")  # type: ignore[assignment]
