"""Checkpoints of other implementations, read into our networks."""

from ag_networks.interop.original import from_original

__all__ = ["from_original"]
