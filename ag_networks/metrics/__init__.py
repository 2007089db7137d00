"""Spacing-aware scores of cases, tables of them, and their paired comparison."""

from ag_networks.metrics.case_table import CaseRow, CaseTable, ClassSummary
from ag_networks.metrics.segmentation import SCORE_NAMES, CaseScores, score_case
from ag_networks.metrics.significance import PairedComparison, compare_paired, compare_with_baseline

__all__ = [
    "SCORE_NAMES",
    "CaseRow",
    "CaseScores",
    "CaseTable",
    "ClassSummary",
    "PairedComparison",
    "compare_paired",
    "compare_with_baseline",
    "score_case",
]
