"""Attention on the image grid, as arrays and as pictures."""

from ag_networks.visualize.capture import capture_attention

__all__ = ["capture_attention"]
