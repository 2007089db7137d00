"""Building blocks: attention gates and the convolutions around them."""

from ag_networks.blocks.attention_gate import AttentionGate, MultiAttentionGate
from ag_networks.blocks.attention_pooling import AttentionPooling
from ag_networks.blocks.convolution import ConvBlock, ConvNormAct, UpBlock, UpConvNormAct
from ag_networks.blocks.gating_signal import GatingSignal
from ag_networks.blocks.global_attention import GlobalSpatialAttention
from ag_networks.blocks.normalization import NORMALIZATIONS, AttentionNormalization
from ag_networks.blocks.pixel_cnn import PixelChunks, PixelCNN, PixelWeights

__all__ = [
    "NORMALIZATIONS",
    "AttentionGate",
    "AttentionNormalization",
    "AttentionPooling",
    "ConvBlock",
    "ConvNormAct",
    "GatingSignal",
    "GlobalSpatialAttention",
    "MultiAttentionGate",
    "PixelCNN",
    "PixelChunks",
    "PixelWeights",
    "UpBlock",
    "UpConvNormAct",
]
