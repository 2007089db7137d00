"""Attention-gated networks for medical imaging, as MONAI network classes and bundles.

The public names are found on first use, so that importing the package imports neither torch nor monai.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULE_OF = {
    "AttentionGate": "ag_networks.blocks",
    "AttentionGatedSonoNet": "ag_networks.nets",
    "AttentionGatedUNet": "ag_networks.nets",
    "AttentionPooling": "ag_networks.blocks",
    "GatingSignal": "ag_networks.blocks",
    "MultiAttentionGate": "ag_networks.blocks",
    "SonoNet": "ag_networks.nets",
    "create_network": "ag_networks.registry",
    "list_networks": "ag_networks.registry",
    "register_network": "ag_networks.registry",
    "register_with_monai": "ag_networks.registry",
}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # the next use is a plain lookup
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
