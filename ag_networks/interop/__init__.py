"""Checkpoints of other implementations, read into our networks."""

from ag_networks.interop.original import from_original
from ag_networks.interop.sononet import load_sononet

__all__ = ["from_original", "load_sononet"]
