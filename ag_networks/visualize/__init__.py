"""Attention on the image grid, as arrays and as pictures."""

from ag_networks.visualize.attention_figures import AttentionFigures
from ag_networks.visualize.attention_writer import AttentionWriter
from ag_networks.visualize.canvas import blank_page
from ag_networks.visualize.capture import capture_attention
from ag_networks.visualize.confusion_matrix import save_confusion_matrix
from ag_networks.visualize.figure import save_case_figure
from ag_networks.visualize.frame_figure import FrameMaps, save_frame_figure
from ag_networks.visualize.global_map import GlobalMapWriter, save_attention_map
from ag_networks.visualize.guided_backpropagation import guided_backpropagation, locate_by_guided_backpropagation
from ag_networks.visualize.report import write_report
from ag_networks.visualize.timeline import save_timeline
from ag_networks.visualize.with_attention import WithAttention
from ag_networks.visualize.with_maps import WithMaps

__all__ = [
    "AttentionFigures",
    "AttentionWriter",
    "FrameMaps",
    "GlobalMapWriter",
    "WithAttention",
    "WithMaps",
    "blank_page",
    "capture_attention",
    "guided_backpropagation",
    "locate_by_guided_backpropagation",
    "save_attention_map",
    "save_case_figure",
    "save_confusion_matrix",
    "save_frame_figure",
    "save_timeline",
    "write_report",
]
