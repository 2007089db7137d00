"""Networks built on attention gates."""

from ag_networks.nets.attention_sononet import AGGREGATIONS, AttentionGatedSonoNet
from ag_networks.nets.attention_unet import AttentionGatedUNet
from ag_networks.nets.inflate import inflate
from ag_networks.nets.select_classes import select_classes
from ag_networks.nets.sononet import SonoNet

__all__ = ["AGGREGATIONS", "AttentionGatedSonoNet", "AttentionGatedUNet", "SonoNet", "inflate", "select_classes"]
