"""Attention on the image grid, as arrays and as pictures."""

from ag_networks.visualize.attention_figures import AttentionFigures
from ag_networks.visualize.capture import capture_attention
from ag_networks.visualize.confusion_matrix import save_confusion_matrix
from ag_networks.visualize.figure import save_case_figure
from ag_networks.visualize.frame_figure import FrameMaps, save_frame_figure
from ag_networks.visualize.guided_backpropagation import guided_backpropagation, locate_by_guided_backpropagation
from ag_networks.visualize.report import write_report
from ag_networks.visualize.timeline import save_timeline
from ag_networks.visualize.with_attention import WithAttention

__all__ = [
    "AttentionFigures",
    "FrameMaps",
    "WithAttention",
    "capture_attention",
    "guided_backpropagation",
    "locate_by_guided_backpropagation",
    "save_case_figure",
    "save_confusion_matrix",
    "save_frame_figure",
    "save_timeline",
    "write_report",
]
