"""Attention on the image grid, as arrays and as pictures."""

from ag_networks.visualize.attention_figures import AttentionFigures
from ag_networks.visualize.capture import capture_attention
from ag_networks.visualize.figure import save_case_figure
from ag_networks.visualize.report import write_report
from ag_networks.visualize.with_attention import WithAttention

__all__ = ["AttentionFigures", "WithAttention", "capture_attention", "save_case_figure", "write_report"]
