"""Networks built on attention gates."""

from ag_networks.nets.attention_unet import AttentionGatedUNet
from ag_networks.nets.inflate import inflate
from ag_networks.nets.select_classes import select_classes

__all__ = ["AttentionGatedUNet", "inflate", "select_classes"]
