"""Networks built on attention gates."""

from ag_networks.nets.attention_unet import AttentionGatedUNet

__all__ = ["AttentionGatedUNet"]
