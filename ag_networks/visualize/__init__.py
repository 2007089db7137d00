"""Attention on the image grid, as arrays and as pictures."""

from ag_networks.visualize.capture import capture_attention
from ag_networks.visualize.with_attention import WithAttention

__all__ = ["WithAttention", "capture_attention"]
