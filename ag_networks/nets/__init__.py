"""Networks built on attention gates."""

from ag_networks.nets.attention_sononet import AGGREGATIONS, AttentionGatedSonoNet
from ag_networks.nets.attention_unet import AttentionGatedUNet
from ag_networks.nets.backbones import create_backbone
from ag_networks.nets.global_attention_classifier import GlobalAttentionClassifier
from ag_networks.nets.imagenet_weights import load_imagenet_weights
from ag_networks.nets.inflate import inflate
from ag_networks.nets.learn_to_pay_attention import LearnToPayAttentionVGG
from ag_networks.nets.residual_attention import ResidualAttentionNetwork
from ag_networks.nets.select_classes import select_classes
from ag_networks.nets.sononet import SonoNet

__all__ = [
    "AGGREGATIONS",
    "AttentionGatedSonoNet",
    "AttentionGatedUNet",
    "GlobalAttentionClassifier",
    "LearnToPayAttentionVGG",
    "ResidualAttentionNetwork",
    "SonoNet",
    "create_backbone",
    "inflate",
    "load_imagenet_weights",
    "select_classes",
]
