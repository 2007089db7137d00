"""Spacing-aware scores of cases, tables of them, and their paired comparison."""

from ag_networks.metrics.attention_focus import AttentionFocus, attention_focus
from ag_networks.metrics.case_table import CaseRow, CaseTable, ClassSummary
from ag_networks.metrics.classification import (
    OVERALL_SCORES,
    ClassifierScores,
    ClassScores,
    expected_calibration_error,
    score_classification,
)
from ag_networks.metrics.classification_report import format_classes, format_overall
from ag_networks.metrics.clip import BestFrame, Segment, find_best_frames, find_segments, smooth_frames
from ag_networks.metrics.localization import (
    Box,
    LocalizationScores,
    box_overlap,
    format_localization,
    score_localization,
)
from ag_networks.metrics.map_share import map_share
from ag_networks.metrics.paired_classification import PairedClassification, compare_classifiers
from ag_networks.metrics.picture_table import PictureRow, PictureTable
from ag_networks.metrics.plausibility import FACTS, Plausibility, measure_image, measure_organ
from ag_networks.metrics.segmentation import SCORE_NAMES, CaseScores, score_case
from ag_networks.metrics.significance import PairedComparison, compare_paired, compare_with_baseline

__all__ = [
    "FACTS",
    "OVERALL_SCORES",
    "SCORE_NAMES",
    "AttentionFocus",
    "BestFrame",
    "Box",
    "CaseRow",
    "CaseScores",
    "CaseTable",
    "ClassScores",
    "ClassSummary",
    "ClassifierScores",
    "LocalizationScores",
    "PairedClassification",
    "PairedComparison",
    "PictureRow",
    "PictureTable",
    "Plausibility",
    "Segment",
    "attention_focus",
    "box_overlap",
    "compare_classifiers",
    "compare_paired",
    "compare_with_baseline",
    "expected_calibration_error",
    "find_best_frames",
    "find_segments",
    "format_classes",
    "format_localization",
    "format_overall",
    "map_share",
    "measure_image",
    "measure_organ",
    "score_case",
    "score_classification",
    "score_localization",
    "smooth_frames",
]
